"""What will a run take?  Memory, disk and seconds, from its job alone: no voxel is read and nothing is timed.

The rates were measured on two cores of a server (AMD EPYC with AVX-512), on files that the system held in memory and a
virtual disk.  Another machine is faster or slower in all of them alike: an estimate is for that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from conv3dt.disk import DiskUse, disk_use
from conv3dt.engine.choose import BUS, FLOPS, GPU_FLOPS, GPU_START, LIBRARIES, VOXELS
from conv3dt.engine.separable import PASSES, factors, is_worth_it
from conv3dt.geometry import Box
from conv3dt.io.volume import PIPE, VolumeInfo
from conv3dt.job import Job
from conv3dt.layer.activation import activation_parts
from conv3dt.packing import packed_share
from conv3dt.plan import buffers, row_length

START = 0.08
"""Seconds to compile the loops."""

EACH = 0.0003
"""Seconds that a region takes whatever its size."""

READ = 0.5e-9
"""Seconds of one thread for each byte that is read, and for each that it becomes."""

UNPACK = 2.5e-9
"""The same for each byte that is unpacked."""

PACK_EMPTY, PACK_FULL = 0.7e-9, 12e-9
"""The same for each byte that is packed: what there is always, and what there is at most."""

TURN, SCATTER = 1.0e-9, 3.5e-9
"""The same for each byte that a file wants in another order, the other way round; and not by rows at all."""

DISK, PIPED = 1.4e-9, 0.3e-9
"""Seconds for each byte until it is safe on the disk, and for each that is sent."""

BOXES = 2.0e-9
"""The same as `DISK` for boxes of voxels, which are many short pieces of a file."""

FUNCTION = 10e-9
"""Seconds of one thread for an exponential and what is made of it."""

CHEAP = ("linear", "relu", "relu6", "leaky_relu", "prelu", "thresholded_relu", "hard_sigmoid", "softsign")
"""Activations that take no longer than the voxel itself."""

PROGRAM_BYTES = 48 * 2**20
"""Memory of the command itself: the interpreter, NumPy and those who read headers."""

STREAM_BYTES, HDF5_BYTES = 14 * 2**20, 10 * 2**20
"""Memory for the blocks and threads of a gzip stream, and for what the HDF5 library keeps."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is expected to take.

    Attributes:
        memory_bytes: of the whole process at its peak, if it does nothing else.
        growth_bytes: by which this process will grow, as far as its libraries are in memory already.
        disk: what is written where.
        seconds: until the output has its name, as the report counts them: without the 0.2 s in which the interpreter
            starts.
        doubts: what may go wrong, as far as that was looked at (`fits.foresee`).
    """

    memory_bytes: int
    growth_bytes: int
    disk: DiskUse
    seconds: float
    doubts: tuple[str, ...] = ()


def estimate(job: Job) -> Estimate:
    """Return what a job is expected to take.

    On the machine of the rates, seconds are right to a factor of two, memory to a quarter or 40 MB, and the bytes of an
    output that is not packed to the 16 KB that HDF5 adds.  Not counted: what ``rescale``, ``self_check`` and
    ``sidecar`` do before and after, and the memory of an accelerator.
    """
    disk, library = disk_use(job), LIBRARIES[job.choice.engine][1]
    work = 3 * job.layer.kernel.nbytes + _regions_bytes(job) + _formats_bytes(job)
    return Estimate(PROGRAM_BYTES + library + work, job.choice.library_bytes + work, disk, _seconds(job, disk))


def _regions_bytes(job: Job) -> int:
    """Memory of the regions in flight; the first are the largest."""
    region, many = next(job.plan.regions()), job.plan.count * job.plan.batch
    compute = job.storage.compute_dtype.itemsize
    source = prod(region.source.shape[:2]) * row_length(region.source.shape[2], compute) * compute
    stored = prod(region.read.shape) * job.source.dtype.itemsize
    output = _output_bytes(job, region.target)
    scratch = job.choice.scratch(compute, "linear" if job.layer.argmax else job.layer.config.activation)
    held = min(buffers(job.choice.in_flight), many)
    return (
        job.channels * (held * source + (1 + job.source.is_stream) * stored)
        + held * output
        + prod(region.target.shape) * job.filters * scratch // 2
    )


def _formats_bytes(job: Job) -> int:
    """Memory of the formats: streams, libraries, chunks on their way in and out."""
    source, target, threads = job.source, job.target, job.choice.threads
    total = STREAM_BYTES * ((source.is_stream and source.compressed) + (target.is_stream and target.compressed))
    if "hdf5" in (source.format, target.format):
        total += HDF5_BYTES
    if source.format == "hdf5" and source.compressed:
        from conv3dt.io.hdf5_unpack import unpacking_bytes

        total += min(unpacking_bytes(source, threads), source.nbytes)
    if target.format == "hdf5" and target.compressed:
        packed = packed_share(job) * _output_bytes(job, next(job.plan.regions()).target)
        total += 3 * threads * _chunk_bytes(target) + round(packed)
    return total


def _output_bytes(job: Job, box: Box) -> int:
    return prod(box.shape) * job.filters * job.target.dtype.itemsize


def _chunk_bytes(info: VolumeInfo) -> int:
    chunk: tuple[int, ...] = info.layout.get("chunks", (0,))
    return prod(chunk) * info.dtype.itemsize


def _seconds(job: Job, disk: DiskUse) -> float:
    """What goes on side by side takes as long as the longest of it, and the first and last steps of the others.

    No less than all of it takes of the threads, either: those who pack are not there to compute.
    """
    threads, many = job.choice.threads, job.plan.count * job.plan.batch
    before, read, unpack = _reading(job, disk)
    turn, pack, put, after = _writing(job, disk)
    compute, device = (_compute(job), 0.0) if job.choice.engine == "direct" else (0.0, _on_device(job))
    stages = (read, unpack, compute / threads, device, turn + pack / threads + put)
    busy = (read + unpack + compute + turn + pack) / threads
    ends = (sum(stages) - max(stages)) / many
    start = START if job.choice.engine == "direct" else GPU_START
    return start + before + max(*stages, busy) + ends + after + EACH * many


def _reading(job: Job, disk: DiskUse) -> tuple[float, float, float]:
    """Seconds before the first region, to read the regions, and to unpack them."""
    read = READ * (job.source.nbytes + prod(job.source.shape) * job.storage.compute_dtype.itemsize)
    unpack = UNPACK * job.source.nbytes if job.source.compressed else 0.0
    if disk.unpacked_bytes:  # all of it, into a passing file
        return unpack + READ * disk.unpacked_bytes, read, 0.0
    return 0.0, read, unpack


def _writing(job: Job, disk: DiskUse) -> tuple[float, float, float, float]:
    """Seconds to bring regions into another order, of one thread to pack them, to write them, and behind the last."""
    target = job.target
    put = (PIPED if target.path == PIPE else DISK) * min(disk.file_bytes, target.nbytes)
    turn, pack = _turn(job) * target.nbytes, _pack(job) * target.nbytes
    if disk.passing_bytes >= target.nbytes:  # boxes wait, and are packed in the end
        return turn, 0.0, BOXES * disk.passing_bytes, pack / job.choice.threads + put
    if disk.passing_bytes:  # packed chunks wait; they are brought into order by those who pack them
        return 0.0, turn + pack, put, put
    if target.fortran and not job.plan.in_slabs:
        return turn, pack, BOXES * target.nbytes, 0.0
    return turn, pack, put, 0.0


def _compute(job: Job) -> float:
    """Seconds of one thread: for arithmetic or for filling the memory, whichever is longer, and for activations."""
    axes, layer, compute = job.walked.config.axes, job.walked, job.storage.compute_dtype
    values = _values(job)
    taps = prod(axis.kernel / axis.stride for axis in axes)
    if layer.channels == layer.filters == 1 and not layer.argmax and is_worth_it(axes):
        if factors(layer.kernel[..., 0, 0], compute) is not None:
            taps = PASSES + sum(axis.kernel / axis.stride for axis in axes)
    seconds = max(2 * values * layer.channels * taps / FLOPS, values / VOXELS) * compute.itemsize / 4
    if layer.argmax or activation_parts(layer.config.activation)[0] in CHEAP:
        return seconds
    return seconds + FUNCTION * values


def _values(job: Job) -> int:
    """Values that are computed."""
    return job.plan.batch * prod(job.target.space) * (job.channels if job.layer.per_channel else job.layer.filters)


def _on_device(job: Job) -> float:
    """Seconds of all accelerators together, for what comes over the bus or for arithmetic (not measured)."""
    values, axes = _values(job), job.walked.config.axes
    moved = prod(job.source.shape) * job.storage.compute_dtype.itemsize + job.target.nbytes
    products = values * job.walked.channels * prod(axis.kernel / axis.stride for axis in axes)
    return max(moved / BUS, products / GPU_FLOPS) / len(job.choice.devices)


def _pack(job: Job) -> float:
    """Seconds of one thread for each byte of the output: what packs to nothing, or not at all, is soon done."""
    if not job.target.compressed:
        return 0.0
    share = packed_share(job)
    return PACK_EMPTY + PACK_FULL * share * (1 - share)


def _turn(job: Job) -> float:
    """The same, where the order of a file is not that of the memory."""
    target = job.target
    if target.format != "hdf5":
        return 0.0
    if target.spatial[-1] != len(target.shape) - 1:
        return SCATTER
    return TURN if job.backwards else 0.0
