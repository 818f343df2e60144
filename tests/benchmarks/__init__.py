"""How fast is conv3dt beside its peers?

``python -m tests.benchmarks [PARTS] [--quick] [--json FILE] [--plot FILE.png]``; the parts, one a file, are engine,
command, batch, memory, scaling, logits, hdf5 and startup.

Every row is a ratio between two things measured in turn in the same run, because machines differ and drift; absolute
figures are printed to make sense of the ratios.  Rows run in processes of their own, warmed up, and the median counts.
Files lie in the temporary folder, on a disk at rest before each run; ``TMPDIR=/dev/shm`` takes the disk out of it.

What was tried for the direct engine's loops and lost (k4 s2, float32, ratio to the rate at which memory is filled):

* taps as closure constants with padded phases (every phase as many taps as the longest): as fast for k = 2 s, but a NaN
  spreads one voxel too far in uneven kernels, and a zero is multiplied;
* weights loaded into named scalars before the row: 0.5-0.6; LLVM keeps them for the scalar remainder of the row, so the
  vector loop spills; written in place as ``weights[...]`` they are broadcast once a row: 0.65-0.75;
* a compiled function a row: 0.45; numba counts references to each array on every call;
* rows of one phase together (weights stay in registers): faster in cache (24 against 22 GB/s), slower in memory, since
  every other row is skipped: k3 s2 0.70 against 0.88;
* fused multiply-add: no difference; the loops wait for memory;
* for argmax, best value and label written as they are chosen: 10x slower, LLVM makes a jump of each choice; reading
  both before writing either keeps it from that.  ``noalias`` on all arrays brings the jumps back;
* shuffled HDF5 chunks packed in one go by isal: 6 % larger than zlib's level 4; with a code for each byte plane 2 %.
"""
