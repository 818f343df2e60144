"""How are voxels written that only HDF5 can pack?  They wait unpacked, and go to it chunk by chunk at the end.

The file is filled in the order of chunks: its bytes do not depend on the order in which voxels came.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from conv3dt.io.hdf5_chunks import ChunkGrid
from conv3dt.io.hdf5_spool import Spool
from conv3dt.io.hdf5_target import Target
from conv3dt.io.volume import Index
from conv3dt.unbroken import unbroken


class Filtered:
    """The voxels of a dataset, on their way into the passing file."""

    def __init__(self, target: Target, grid: ChunkGrid, spool: Path, resume: dict[str, Any] | None) -> None:
        """Begin, or go on from a checkpoint.

        Args:
            target: the dataset; grid: how it is cut up.
            spool: the passing file of the chunks that wait.
            resume: what the checkpoint returned.

        Raises:
            OSError: what the checkpoint stands on is not there.
        """
        self._target, self._grid = target, grid
        self._spool = Spool(spool, grid, resume)

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Keep a box."""
        self._spool.put(index, block)

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what was written."""
        return self._spool.checkpoint()

    def finish(self) -> None:
        """Put all chunks into the file."""
        with self._target.created(early=False) as (dataset, written):
            for part in self._grid.parts(tuple(slice(0, n) for n in self._grid.shape)):
                voxels = self._spool.voxels(self._grid.place(part.offset))[part.inside]
                with unbroken():
                    dataset[part.block] = voxels
                written.check()
        self.close()

    def close(self) -> None:
        """Let go of what waits; the passing file stays."""
        self._spool.close()
