"""How do voxels come into an HDF5 file?  At once where they belong, or packed, when it is the turn of their chunk.

The file depends on the header, the voxels, and what else the file held before: not on the order or the size of
regions, on threads, or on how often the run was killed and gone on with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from math import ceil, prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from conv3dt.errors import OutputError
from conv3dt.io import hdf5_in_place
from conv3dt.io.hdf5_file import reason
from conv3dt.io.hdf5_filtered import Filtered
from conv3dt.io.hdf5_in_place import InPlace
from conv3dt.io.hdf5_packed import COPIES, Packed
from conv3dt.io.hdf5_target import Target
from conv3dt.io.volume import FileSink, Index, VolumeInfo
from conv3dt.pending import PendingFile, writing

FILTERS = ("compression", "shuffle", "fletcher32", "scaleoffset")
NOTED_BYTES = 14
"""What is known of each chunk: where it lies, how long it is packed, in which file, and whether that is on a list."""


class Hdf5Sink(FileSink):
    """A new dataset: any box at any time.  Whatever else an existing file holds is kept."""

    sequential = False

    def __init__(
        self,
        path: str,
        info: VolumeInfo,
        *,
        pending: PendingFile,
        threads: int = 1,
        resume: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset, or go on from a checkpoint.

        Args:
            path: ``file.h5:/dataset``.
            info: what is to be written.
            pending: of `hdf5_target.begin`; an empty file, unless there is something to go on from.
            threads: for packing.
            resume: what the checkpoint of a sink with the same path and info returned.

        Raises:
            OutputError: it cannot be created, or what the checkpoint stands on is gone.
        """
        self._path, self._pending = path, pending
        self._original = _identity(pending.path)
        with writing(path), self._going_on(resume):
            if resume is not None and resume["original"] != self._original:
                raise self._changed()
            self._voxels = _voxels(Target.of(path, info, pending), pending.sibling("spool"), threads, resume)

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        with self._guarded():
            self._voxels.write(index, block)

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what was written."""
        with self._guarded():
            return {"original": self._original, **self._voxels.checkpoint()}

    def finish(self) -> None:
        """Put everything into the passing file and make it durable."""
        with self._guarded():
            self._voxels.finish()
        self._pending.sync()

    def publish(self) -> None:
        """Give the file its name, unless another run changed it meanwhile."""
        if self._original is not None and self._original != _identity(self._pending.path):
            raise self._changed()
        self._pending.commit()

    def abort(self, *, keep: bool = False) -> None:
        """Leave nothing behind, or what the last checkpoint stands on."""
        self._voxels.close()
        self._pending.abort(keep=keep)

    def _changed(self) -> OutputError:
        return OutputError(f"output {self._path}: the file was changed by another run meanwhile; run again")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with writing(self._path):
            try:
                yield
            except RuntimeError as error:
                raise OSError(reason(error)) from None

    @contextmanager
    def _going_on(self, resume: dict[str, Any] | None) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            if resume is None or getattr(error, "errno", None) not in (None, ENOENT):
                raise
            raise OutputError(
                f"output {self._path}: cannot go on from what a killed run left: {reason(error)}; run again"
            ) from None


def _voxels(target: Target, spool: Path, threads: int, resume: dict[str, Any] | None) -> InPlace | Packed | Filtered:
    """Create the dataset, or go on with it, in the way that its filters ask for."""
    storage = target.storage()
    if hdf5_in_place.can_be(storage):
        return InPlace(target, going_on=resume is not None)
    assert storage.grid is not None
    if storage.packing is None:
        return Filtered(target, storage.grid, spool, resume)
    return Packed(target, storage.grid, storage.packing, spool, threads=threads, resume=resume)


def writing_bytes(info: VolumeInfo) -> int:
    """Return the memory that writing a dataset takes beside the regions: for a few chunks, and for where each lies."""
    chunk: tuple[int, ...] | None = info.layout.get("chunks")
    if chunk is None:
        return 0
    many = prod(ceil(n / length) for n, length in zip(info.shape, chunk, strict=True))
    held = COPIES if any(info.layout.get(name) for name in FILTERS) else 1
    return held * prod(chunk) * info.dtype.itemsize + NOTED_BYTES * many


def _identity(path: Path) -> list[int] | None:
    """What changes with a file: None where there is none."""
    if not path.is_file():
        return None
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]
