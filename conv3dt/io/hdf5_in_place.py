"""How are voxels that no filter packs written?  HDF5 makes room for all of them and is done; they go there directly.

A chunk that reaches beyond the end of an axis holds zeros there.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from conv3dt.errors import OutputError
from conv3dt.io.flat import FlatArray
from conv3dt.io.hdf5_chunks import ChunkGrid
from conv3dt.io.hdf5_places import ChunkPlaces
from conv3dt.io.hdf5_target import Storage, Target
from conv3dt.io.volume import Index
from conv3dt.unbroken import unbroken


def can_be(storage: Storage) -> bool:
    """Whether HDF5 can say where the voxels of such a dataset lie.

    Of chunks, versions before 1.12.3 tell it of one in the time that all take, and those before 1.14.4 count from
    behind a block that lies before the file proper.
    """
    if storage.grid is None:
        return not storage.filtered
    return not (storage.filtered or storage.shifted) and hasattr(h5py.h5d.DatasetID, "chunk_iter")


class InPlace:
    """The voxels of a dataset, where they lie in the passing file."""

    def __init__(self, target: Target, *, going_on: bool) -> None:
        """Make room, or find it again.

        Raises:
            OutputError: the dataset cannot be created, or not be found again.
        """
        before = 0 if target.kept is None else target.kept.stat().st_size
        if not going_on:
            with target.created(early=True):
                pass
        self._file = target.work.open("r+b", buffering=0)
        try:
            if not going_on:
                _reserve(self._file.fileno(), target)
            self._voxels = self._found(target)
            if isinstance(self._voxels, ChunkPlaces) and not going_on:
                self._voxels.clear_ends(before)
        except BaseException:
            self._file.close()
            raise

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        self._voxels.write(index, block)

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what was written."""
        os.fsync(self._file.fileno())
        return {}

    def finish(self) -> None:
        """Let go of the file; it is as it has to be."""
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _found(self, target: Target) -> ChunkPlaces | FlatArray:
        with h5py.File(target.work, "r", locking=False) as file:
            dataset, info = file[target.name], target.info
            grid = ChunkGrid.of(dataset)
            if grid is None:
                return FlatArray(self._file.fileno(), dataset.id.get_offset(), info.shape, info.dtype)
            return ChunkPlaces(self._file.fileno(), grid, _offsets(dataset, grid))


def _offsets(dataset: Any, grid: ChunkGrid) -> NDArray[np.int64]:
    found = np.full(grid.counts, -1, np.int64)

    def note(chunk: Any) -> None:
        found[grid.place(chunk.chunk_offset)] = chunk.byte_offset

    with unbroken():
        dataset.id.chunk_iter(note)
    assert found.min() >= 0
    return found


def _reserve(descriptor: int, target: Target) -> None:
    """Take all the disk that the file will need now rather than fail half-way."""
    found = os.fstat(descriptor)
    free = shutil.disk_usage(target.work.parent).free
    try:
        if free < found.st_size - 512 * found.st_blocks:
            raise OSError
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, found.st_size)
    except OSError:
        raise OutputError(
            f"output {target.path}: needs {found.st_size} bytes and cannot have them ({free} bytes are free); "
            "make room or choose another disk"
        ) from None
