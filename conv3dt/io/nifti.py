"""How do voxels come out of and go into NIfTI files?  Plain ones by offset, gzipped ones as streams of planes."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt import paths
from conv3dt.errors import DataError, InputMissingError
from conv3dt.io import nifti_header
from conv3dt.io.flat import FlatArray, bytes_of
from conv3dt.io.gzip_stream import GzipReader, GzipWriter, beginning
from conv3dt.io.volume import FileSink, Index, VolumeInfo
from conv3dt.pending import PendingFile, writing

HEADER_BYTES = 540
COPY_BYTES = 2**24
MOST_WRITERS = 16
MOST_PACKED = 1100
"""No byte of a gzip file gives more bytes than about 1032 when it is unpacked."""


def read_info(path: str, *, axes: str | None = None, data_format: str | None = None) -> VolumeInfo:
    """Return the header facts of a NIfTI file without reading a voxel."""
    return _open(path, axes, data_format)[0]


def open_source(info: VolumeInfo, *, in_order: bool) -> PlainSource | StreamSource | SpooledSource:
    """Open for reading a file whose header was read before; ``in_order`` promises to ask for planes in file order."""
    again, offset = _open(info.path, info.axes, None)
    if (again.shape, again.dtype) != (info.shape, info.dtype):
        raise DataError(f"{info.path}: changed while it was being read")
    if not info.compressed:
        return PlainSource(info.path, info, offset)
    source = StreamSource(info.path, info, offset)
    return source if in_order else source.spool()


def _open(path: str, axes: str | None, data_format: str | None) -> tuple[VolumeInfo, int]:
    if not Path(path).is_file():
        raise InputMissingError(f"input {path}: no such file")
    compressed = paths.is_gzip(path)
    header, offset = nifti_header.parse(_beginning(path, HEADER_BYTES, compressed=compressed), path)
    start = _beginning(path, offset, compressed=compressed)
    if len(start) < offset:
        raise DataError(f"{path}: damaged or cut short inside the header, at {len(start)} bytes")
    header = nifti_header.with_extensions(header, start[header.sizeof_hdr :])
    info = nifti_header.info(header, path, compressed=compressed, axes=axes, data_format=data_format)
    if compressed and info.nbytes > MOST_PACKED * Path(path).stat().st_size:
        raise DataError(
            f"{path}: the header promises {info.nbytes} bytes of voxels, more than gzip can pack into the file"
        )
    if not compressed and (size := Path(path).stat().st_size) < offset + info.nbytes:
        raise DataError(
            f"{path}: the header promises {info.nbytes} bytes of voxels, the file holds {size - offset}; get it again"
        )
    return info, offset


def _beginning(path: str, count: int, *, compressed: bool) -> bytes:
    if compressed:
        return beginning(path, count)
    with Path(path).open("rb") as file:
        return file.read(count)


class PlainSource:
    """An unpacked ``.nii``: any box at any time."""

    sequential = False

    def __init__(self, path: str, info: VolumeInfo, offset: int) -> None:
        self.info = info
        self._descriptor = os.open(path, os.O_RDONLY)
        self._array = FlatArray(self._descriptor, offset, info.shape[::-1], info.dtype)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box."""
        return self._array.read(index[::-1]).T

    def finish(self) -> None:
        """Nothing is left to check."""

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


class StreamSource:
    """A ``.nii.gz``: planes of the third axis in file order, each unpacked once and held while it is needed."""

    sequential = True

    def __init__(self, path: str, info: VolumeInfo, offset: int) -> None:
        self.info = info
        self._stream = GzipReader(path)
        self._stream.skip(offset)
        self._plane = (info.shape[1], info.shape[0])
        self._planes = prod(info.shape[2:])
        self._held = np.empty((0, *self._plane), info.dtype)
        self._first = 0  # number of the first plane held

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box; it may not begin before the planes of the box before it."""
        low, high = self._range(index)
        self._advance(low, high)
        box = self._held[low - self._first : high - self._first, index[1], index[0]]
        return box.reshape(*[part.stop - part.start for part in index[:1:-1]], *box.shape[1:]).T

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def finish(self) -> None:
        """Compare the checksum at the end of the file."""
        self._stream.finish()

    def spool(self) -> SpooledSource:
        """Unpack all of it into a passing file, for work that cannot go in file order."""
        return SpooledSource(self.info, self._stream)

    def _range(self, index: Index) -> tuple[int, int]:
        """Numbers of the planes of a box: whole volumes of further axes are met one at a time."""
        first = 0
        for part, size in zip(index[:2:-1], self.info.shape[:2:-1], strict=True):
            first = first * size + part.start
        first = first * self.info.shape[2]
        return first + index[2].start, first + index[2].stop

    def _advance(self, low: int, high: int) -> None:
        held = self._first + len(self._held)
        if high <= held and low >= self._first:
            return
        keep = self._held[max(low - self._first, 0) :] if low < held else self._held[:0]
        start = max(low, held)
        self._skip(start - held)
        fresh = np.empty((len(keep) + high - start, *self._plane), self.info.dtype)
        fresh[: len(keep)] = keep
        self._stream.read_into(bytes_of(fresh[len(keep) :]))
        self._held, self._first = fresh, min(low, start) if len(keep) else start
        if self._first + len(self._held) == self._planes:
            self._stream.finish()

    def _skip(self, planes: int) -> None:
        scrap = np.empty(self._plane, self.info.dtype)
        for _ in range(planes):
            self._stream.read_into(bytes_of(scrap))


class SpooledSource:
    """A ``.nii.gz`` unpacked into a passing file: any box at any time."""

    sequential = False

    def __init__(self, info: VolumeInfo, stream: GzipReader) -> None:
        self.info = info
        self._file = tempfile.TemporaryFile(prefix="conv3dt-")
        left = info.nbytes
        while left:
            piece = bytearray(min(left, COPY_BYTES))
            stream.read_into(memoryview(piece))
            with writing("in the folder for passing files"):
                self._file.write(piece)
            left -= len(piece)
        stream.finish()
        stream.close()
        self._file.flush()
        self._array = FlatArray(self._file.fileno(), 0, info.shape[::-1], info.dtype)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box."""
        return self._array.read(index[::-1]).T

    def finish(self) -> None:
        """All was read, and checked, when it was unpacked."""

    def close(self) -> None:
        """The passing file goes with its last handle."""
        self._file.close()


class PlainSink(FileSink):
    """A ``.nii``: any box at any time."""

    sequential = False

    def __init__(self, path: str, info: VolumeInfo, *, overwrite: bool) -> None:
        self._pending = PendingFile(path, overwrite=overwrite)
        try:
            start = nifti_header.serialised(info.header)
            self._pending.reserve(len(start) + info.nbytes)
            self._descriptor = os.open(self._pending.work, os.O_RDWR)
            os.pwrite(self._descriptor, start, 0)
            self._array = FlatArray(self._descriptor, len(start), info.shape[::-1], info.dtype)
        except BaseException:
            self._pending.abort()
            raise

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        with writing(str(self._pending.path)):
            self._array.write(index[::-1], block.T)

    def commit(self) -> None:
        """Make the file durable and give it its name."""
        os.close(self._descriptor)
        self._pending.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            os.close(self._descriptor)
        self._pending.abort()


class StreamSink(FileSink):
    """A ``.nii.gz``: whole planes in file order."""

    sequential = True

    def __init__(self, path: str, info: VolumeInfo, *, overwrite: bool, threads: int) -> None:
        self._pending = PendingFile(path, overwrite=overwrite)
        self._dtype = info.dtype
        try:
            self._file = self._pending.work.open("wb")
            self._stream = GzipWriter(self._file, threads=min(threads, MOST_WRITERS))
            self._stream.write(memoryview(nifti_header.serialised(info.header)))
        except BaseException:
            self._pending.abort()
            raise

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Append a box of whole planes."""
        with writing(str(self._pending.path)):
            planes = np.ascontiguousarray(block.T, self._dtype)
            self._stream.write(bytes_of(planes))

    def append(self, piece: bytes) -> None:
        """Append bytes of voxels."""
        self._stream.write(memoryview(piece))

    def commit(self) -> None:
        """Make the file durable and give it its name."""
        with writing(str(self._pending.path)):
            self._stream.close()
            self._file.close()
        self._pending.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError, ValueError):
            self._stream.close()
        with suppress(OSError):
            self._file.close()
        self._pending.abort()


class SpooledSink(FileSink):
    """A ``.nii.gz`` from boxes in any order: gathered in a passing file beside it, packed at the end."""

    sequential = False

    def __init__(self, path: str, info: VolumeInfo, *, overwrite: bool, threads: int) -> None:
        self._target = StreamSink(path, info, overwrite=overwrite, threads=threads)
        try:
            self._file = tempfile.TemporaryFile(prefix="conv3dt-", dir=Path(path).resolve().parent)
            with writing(path):
                self._file.truncate(info.nbytes)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(self._file.fileno(), 0, info.nbytes)
        except BaseException:
            self._target.abort()
            raise
        self._info = info
        self._array = FlatArray(self._file.fileno(), 0, info.shape[::-1], info.dtype)

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Keep a box until its turn comes."""
        with writing(self._info.path):
            self._array.write(index[::-1], block.T)

    def commit(self) -> None:
        """Pack everything, make the file durable and give it its name."""
        with writing(self._info.path):
            self._file.seek(0)
            while piece := self._file.read(COPY_BYTES):
                self._target.append(piece)
            self._file.close()
        self._target.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._target.abort()
