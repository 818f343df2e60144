"""How fast is conv3dt beside its peers?

``python -m tests.benchmarks [PARTS] [--quick] [--json FILE] [--plot FILE.png]``; the parts, one a file, are engine,
command, batch, memory, scaling, logits, hdf5, startup and gpu (left out where there is none).

Every row is a ratio between two things measured in turn in the same run, because machines differ and drift; absolute
figures are printed to make sense of the ratios.  Rows run in processes of their own, warmed up, and the median counts.
Files lie in the temporary folder, on a disk at rest before each run; ``TMPDIR=/dev/shm`` takes the disk out of it.

What was tried for the CPU's loops and lost (k4 s2, float32, on Zen 5 with AVX-512; "fill" is the rate at which memory
is filled; ratios are in turn, in one run):

* numba on Python text, its loops vectorised by LLVM: 0.5-0.8 of fill for few taps, but a block of sums cannot be held
  in registers: 15-40 GFLOP/s a thread for several channels and many taps, where explicit vectors reach 100-200;
  importing it took 0.35 s and compiling 1-2 s, where LLVM by itself takes 0.03 s;
* torch on channels-last tensors for many channels: 2.5-3.3 times its default layout, where the loops have 4-10;
* weights in named scalars before the row (numba): spilled; broadcast where they are used they cost nothing;
* no prefetching: 0.55-0.7 of fill; 1 kB ahead 0.65-0.75; 4 kB ahead 0.75-0.9; more is no better;
* each shifted neighbour loaded by itself: 1.4 times as long in the cache, since most such loads straddle two lines;
  and sources whose rows do not begin on a line: 1.1-1.35 times;
* the end of a row by single vectors: 1.2-1.5 times as long for widths such as 85 or 127; now by half blocks that begin
  again in what was done;
* eight vectors side by side in place of four: no difference; shuffling three phases as one wide vector: half as fast;
* stores past the cache: rows of most widths do not begin where such stores must;
* three passes of an outer product over whole planes, called from Python one by one: 0.3 of fill for k8 s2; in bands of
  rows within one function 0.4-0.5; bands of 16 or 256 kB: a tenth slower;
* counting clipped values vector by vector: int16 took 1.2-1.6 times as long as float32; now only where there are any.

Limits that no loop can pass: 60 times torch for k4 s2 would be 1.3-1.5 times the rate of filling memory (torch takes
90-160 ms where filling takes 2-2.7); six times torch for 64 -> 32 channels would be more than the processor's peak of
470 GFLOP/s, of which the loops reach 340-430 when nothing else runs.

What was tried elsewhere and lost:

* for argmax, best value and label in memory rather than in registers (numba): 10 times as long where LLVM makes a jump
  of each choice;
* shuffled HDF5 chunks packed in one go by isal: 6 % larger than zlib's level 4; with a code for each byte plane 2 %.
"""
