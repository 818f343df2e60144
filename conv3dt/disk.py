"""How many bytes does a run put on which disk?  Exact where nothing is packed; else a guess and a bound."""

from __future__ import annotations

import os
from dataclasses import dataclass
from glob import escape, glob
from math import ceil, prod
from pathlib import Path
from tempfile import gettempdir

from conv3dt import paths
from conv3dt.io.volume import PIPE, VolumeInfo
from conv3dt.job import Job
from conv3dt.packing import packed_share
from conv3dt.pending import MOST_NAME, PREFIX

GZIP_LEAST = 1032
"""No byte of a gzip stream gives more bytes when it is unpacked: deflate's longest copy takes two bits."""


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What a run puts on the disk.

    Attributes:
        folder: of the output; of passing files where that is a pipe.
        file_bytes: of the output when it is whole, as expected.
        packed: whether ``file_bytes`` is a guess, because the output is packed.
        passing_bytes: beside the output until it is whole, as expected: what has to wait for its turn in the file.
        least_bytes: of the output and what is beside it; no run can do with less.
        temporary: the folder of passing files.
        unpacked_bytes: there until the run ends: a stream that is met in boxes.
    """

    folder: Path
    file_bytes: int
    packed: bool
    passing_bytes: int
    least_bytes: int
    temporary: Path
    unpacked_bytes: int


def disk_use(job: Job) -> DiskUse:
    """Return what a job puts on the disk; the sizes of its input and output files are looked at, no voxel is read."""
    target, temporary = job.target, Path(gettempdir())
    in_order = job.plan.in_slabs and job.source.in_file_order and target.in_file_order
    unpacked = job.source.nbytes if job.source.is_stream and not in_order else 0
    gathered = target.nbytes if target.is_stream and not in_order else 0
    if target.path == PIPE:
        return DiskUse(temporary, 0, False, gathered, gathered, temporary, unpacked)
    folder, beside = Path(paths.split(target.path)[0]).resolve().parent, _beside(target)
    if not target.compressed:
        file = beside + _whole(target)
        return DiskUse(folder, file, False, gathered, file + gathered, temporary, unpacked)
    expected, least = round(target.nbytes * packed_share(job)), _least(target)
    if target.format == "hdf5":
        passing = _spooled(job, expected)
        return DiskUse(folder, beside + expected, True, passing, beside + 2 * least, temporary, unpacked)
    return DiskUse(folder, beside + expected, True, gathered, least + gathered, temporary, unpacked)


def _beside(target: VolumeInfo) -> int:
    """Bytes of the output file that are no voxels of this run."""
    if target.format == "hdf5":
        return _kept(target.path)
    from conv3dt.io.nifti_header import serialised

    return len(serialised(target.header))


def _kept(path: str) -> int:
    """Bytes of an HDF5 file that is there already which its new version holds too."""
    from conv3dt.io import hdf5_target

    file, name = hdf5_target.split(path)
    if not os.path.isfile(file) or hdf5_target.holds_only(Path(file), name):
        return 0
    import h5py

    with h5py.File(file, "r", locking=False) as opened:
        replaced = opened.get(name)
        size = int(replaced.id.get_storage_size()) if isinstance(replaced, h5py.Dataset) else 0
    return os.path.getsize(file) - size


def _whole(target: VolumeInfo) -> int:
    """Bytes of all voxels, unpacked; chunks reach beyond the end of an axis."""
    chunk = _chunk(target)
    return target.dtype.itemsize * prod(ceil(n / size) * size for n, size in zip(target.shape, chunk, strict=True))


def _least(target: VolumeInfo) -> int:
    """Bytes below which no packed voxels can be."""
    by_gzip = target.format != "hdf5" or target.layout.get("compression") == "gzip"
    return target.nbytes // GZIP_LEAST if by_gzip else 0  # other filters have other limits


def _spooled(job: Job, packed: int) -> int:
    """Bytes of the chunks that wait: packed, unless they come in pieces or HDF5 has to pack them."""
    target = job.target
    turned = job.plan.tile[::-1] if job.backwards else job.plan.tile
    tile = dict(zip(target.spatial, turned, strict=True))
    in_pieces = (
        tile.get(axis, n if axis == target.channel else 1) % size and tile.get(axis, 1) < n
        for axis, (n, size) in enumerate(zip(target.shape, _chunk(target), strict=True))
    )
    return _whole(target) if target.layout.get("compression") != "gzip" or any(in_pieces) else packed


def _chunk(target: VolumeInfo) -> tuple[int, ...]:
    chunk: tuple[int, ...] = target.layout.get("chunks", (1,) * len(target.shape))
    return chunk


def left_behind(path: str) -> int:
    """Return the bytes that a killed run for an output left beside it, which the next one uses or sweeps away."""
    target = Path(paths.split(path)[0]).resolve()
    end = os.fsencode(target.name)[-MOST_NAME:].decode(errors="ignore")
    return sum(_blocks(name) for name in glob(f"{escape(str(target.parent / (PREFIX + end)))}*"))


def _blocks(path: str) -> int:
    """The bytes that a file takes; none if it is gone, for a run beside this one may be done with it."""
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0
