"""How do voxels come out of and go into NIfTI files?  Plain ones by offset, gzipped ones as streams of planes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from conv3dt import paths
from conv3dt.errors import Conv3dtError, DataError, InputMissingError, OutputError, StreamError
from conv3dt.io import nifti_header
from conv3dt.io.flat import FlatArray, bytes_of
from conv3dt.io.gzip_stream import GzipReader, GzipWriter, beginning
from conv3dt.io.pipe import Outlet, Reader, incoming, skip
from conv3dt.io.volume import PIPE, FileSink, Index, VolumeInfo
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
    if nifti_header.serialised(again.header) != nifti_header.serialised(info.header):
        raise DataError(f"{info.path}: changed while it was being read")
    if not info.is_stream:
        return PlainSource(info.path, info, offset)
    reader: Reader = incoming() if info.path == PIPE else GzipReader(info.path, info.path)
    try:
        skip(reader, offset)
        return StreamSource(info, reader) if in_order else SpooledSource(info, reader)
    except BaseException:
        reader.close()
        raise


def _open(path: str, axes: str | None, data_format: str | None) -> tuple[VolumeInfo, int]:
    if path == PIPE:
        return _open_pipe(axes, data_format)
    if not Path(path).is_file():
        raise InputMissingError(f"input {path}: no such file")
    compressed = paths.is_gzip(path)
    header, offset = nifti_header.parse(_beginning(path, HEADER_BYTES, compressed=compressed), path)
    header = _whole_header(header, _beginning(path, offset, compressed=compressed), offset, path)
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


def _open_pipe(axes: str | None, data_format: str | None) -> tuple[VolumeInfo, int]:
    """The same of standard input, of which nothing is known but what comes."""
    stream = incoming()
    header, offset = nifti_header.parse(stream.peek(HEADER_BYTES), PIPE)
    header = _whole_header(header, stream.peek(offset), offset, PIPE)
    return nifti_header.info(header, PIPE, compressed=stream.packed, axes=axes, data_format=data_format), offset


def _whole_header(header: Any, start: bytes, offset: int, path: str) -> Any:
    if len(start) < offset:
        raise DataError(f"{path}: damaged or cut short inside the header, at {len(start)} bytes")
    return nifti_header.with_extensions(header, start[header.sizeof_hdr :])


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
        try:
            return self._array.read(index[::-1]).T
        except (DataError, ValueError):  # or by a map of more than there is
            raise DataError(f"{self.info.path}: ends before its last voxel: it was cut short meanwhile") from None
        except OSError as error:
            raise StreamError(f"{self.info.path}: reading broke off: {error.strerror or error}") from None

    def finish(self) -> None:
        """Nothing is left to check."""

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


class StreamSource:
    """A ``.nii.gz`` or a pipe: planes of the third axis in file order, each read once and held while it is needed."""

    sequential = True

    def __init__(self, info: VolumeInfo, stream: Reader) -> None:
        """Begin where ``stream`` stands, at the first voxel."""
        self.info = info
        self._stream = stream
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
    """A ``.nii.gz`` or a pipe put into a passing file first: any box at any time."""

    sequential = False

    def __init__(self, info: VolumeInfo, stream: Reader) -> None:
        """Unpack everything.

        Raises:
            StreamError: there is no room for it.
        """
        self.info = info
        with _passing(info.path):
            self._file = tempfile.TemporaryFile(prefix="conv3dt-", buffering=0)
        try:
            left = info.nbytes
            while left:
                piece = memoryview(bytearray(min(left, COPY_BYTES)))
                stream.read_into(piece)
                left -= len(piece)
                with _passing(info.path):
                    while piece:
                        piece = piece[self._file.write(piece) :]
            stream.finish()
            stream.close()
        except BaseException:
            self._file.close()
            raise
        self._array = FlatArray(self._file.fileno(), 0, info.shape[::-1], info.dtype)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box."""
        return self._array.read(index[::-1]).T

    def finish(self) -> None:
        """All was read, and checked, when it was unpacked."""

    def close(self) -> None:
        """The passing file goes with its last handle."""
        self._file.close()


@contextmanager
def _passing(path: str) -> Iterator[None]:
    """Turn what the system says of a file that has no name into one line.

    Raises:
        StreamError: instead of any OSError.
    """
    try:
        yield
    except Conv3dtError:
        raise
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
        raise StreamError(
            f"{path}: its passing file in the folder for such files: {reason}; set TMPDIR to another folder"
        ) from None


class PlainSink(FileSink):
    """A ``.nii``: any box at any time."""

    sequential = False

    def __init__(self, info: VolumeInfo, pending: PendingFile, resume: dict[str, Any] | None) -> None:
        self._pending = pending
        start = nifti_header.serialised(info.header)
        if resume is None:
            pending.reserve(len(start) + info.nbytes)
        elif pending.work.stat().st_size != len(start) + info.nbytes:
            raise _not_left(pending)
        self._file = pending.work.open("r+b", buffering=0)
        os.pwrite(self._file.fileno(), start, 0)
        self._array = FlatArray(self._file.fileno(), len(start), info.shape[::-1], info.dtype)

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        with writing(str(self._pending.path)):
            self._array.write(index[::-1], block.T)

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what was written."""
        with writing(str(self._pending.path)):
            os.fsync(self._file.fileno())
        return {}

    def finish(self) -> None:
        """Make the file durable."""
        self._file.close()
        self._pending.sync()

    def publish(self) -> None:
        """Give it its name."""
        self._pending.commit()

    def abort(self, *, keep: bool = False) -> None:
        """Leave nothing behind, or what was made durable."""
        self._file.close()
        self._pending.abort(keep=keep)


class StreamSink(FileSink):
    """A ``.nii.gz``: whole planes in file order."""

    sequential = True

    def __init__(self, info: VolumeInfo, pending: PendingFile, resume: dict[str, Any] | None, *, threads: int) -> None:
        self._pending, self._dtype = pending, info.dtype
        self._file = pending.work.open("r+b", buffering=0)
        try:
            with writing(str(pending.path)):
                self._stream = self._begun(info, min(threads, MOST_WRITERS), resume)
        except BaseException:
            self._file.close()
            raise

    def _begun(self, info: VolumeInfo, threads: int, resume: dict[str, Any] | None) -> GzipWriter:
        length = 0 if resume is None else resume["stream"][-1]
        if os.fstat(self._file.fileno()).st_size < length:
            raise _not_left(self._pending)
        self._file.truncate(length)
        self._file.seek(0, os.SEEK_END)
        stream = GzipWriter(cast(BinaryIO, self._file), threads=threads, resume=resume)
        if resume is None:
            stream.write(memoryview(nifti_header.serialised(info.header)))
        return stream

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Append a box of whole planes."""
        with writing(str(self._pending.path)):
            self._stream.write(_planes(block, self._dtype))

    def append(self, piece: bytes) -> None:
        """Append bytes of voxels."""
        self._stream.write(memoryview(piece))

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what was written, but for a rest that is returned."""
        with writing(str(self._pending.path)):
            state = self._stream.checkpoint()
            os.fsync(self._file.fileno())
        return state

    def finish(self) -> None:
        """Write the end, and make the file durable."""
        with writing(str(self._pending.path)):
            self._stream.close()
            self._file.close()
        self._pending.sync()

    def publish(self) -> None:
        """Give it its name."""
        self._pending.commit()

    def abort(self, *, keep: bool = False) -> None:
        """Leave nothing behind, or what was made durable."""
        self._stream.abandon()
        self._file.close()
        self._pending.abort(keep=keep)


class PipeSink(FileSink):
    """Standard output: whole planes in file order, packed or not."""

    sequential = True

    def __init__(self, info: VolumeInfo, *, threads: int) -> None:
        self._outlet, self._dtype = Outlet(), info.dtype
        self._stream: GzipWriter | Outlet = self._outlet
        if info.compressed:
            self._stream = GzipWriter(cast(BinaryIO, self._outlet), threads=min(threads, MOST_WRITERS))
        self._stream.write(memoryview(nifti_header.serialised(info.header)))

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Send a box of whole planes."""
        self._stream.write(_planes(block, self._dtype))

    def append(self, piece: bytes) -> None:
        """Send bytes of voxels."""
        self._stream.write(memoryview(piece))

    def checkpoint(self) -> dict[str, Any]:
        """What was sent cannot be sent again."""
        return {}

    def finish(self) -> None:
        """Send the end."""
        self._stream.close()
        self._outlet.close()

    def publish(self) -> None:
        """A pipe has no name."""

    def abort(self, *, keep: bool = False) -> None:
        """What was sent cannot be taken back; without its end a packed stream is not whole."""
        self._stream.abandon()
        self._outlet.close()


class SpooledSink(FileSink):
    """A stream from boxes in any order: gathered in a passing file, sent or packed at the end."""

    sequential = False

    def __init__(self, info: VolumeInfo, target: StreamSink | PipeSink, spool: IO[bytes], *, fresh: bool) -> None:
        """Begin with an open passing file; ``fresh`` if there is nothing in it yet, else as long as it has to be."""
        self._target, self._file, self._info = target, spool, info
        if fresh:
            with _gathering(info):
                self._file.truncate(info.nbytes)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(self._file.fileno(), 0, info.nbytes)
        self._array = FlatArray(self._file.fileno(), 0, info.shape[::-1], info.dtype)

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Keep a box until its turn comes."""
        with _gathering(self._info):
            self._array.write(index[::-1], block.T)

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what was gathered."""
        with _gathering(self._info):
            os.fsync(self._file.fileno())
        return {}

    def finish(self) -> None:
        """Pack or send everything."""
        with _gathering(self._info):
            self._file.seek(0)
            while piece := self._file.read(COPY_BYTES):
                self._target.append(piece)
            self._file.close()
        self._target.finish()

    def publish(self) -> None:
        """Give the file its name."""
        self._target.publish()

    def abort(self, *, keep: bool = False) -> None:
        """Leave nothing behind, or what was made durable."""
        self._file.close()
        self._target.abort(keep=keep)


def create_sink(
    info: VolumeInfo, pending: PendingFile | None, *, threads: int, in_order: bool, resume: dict[str, Any] | None
) -> FileSink:
    """Create the output, or go on with one at a checkpoint; without a passing file it goes to standard output."""
    if not info.is_stream and pending is not None:
        return PlainSink(info, pending, resume)
    if in_order:
        return _stream_sink(info, pending, threads, resume)
    spool = _spool(info, pending, fresh=resume is None)
    try:
        return SpooledSink(info, _stream_sink(info, pending, threads, None), spool, fresh=resume is None)
    except BaseException:
        spool.close()
        raise


def _spool(info: VolumeInfo, pending: PendingFile | None, *, fresh: bool) -> IO[bytes]:
    """The passing file in which boxes are gathered."""
    if pending is None:
        with _passing(info.path):
            return tempfile.TemporaryFile(prefix="conv3dt-")
    place = pending.sibling("spool")
    if fresh:
        with writing(info.path):
            place.unlink(missing_ok=True)
            return place.open("x+b")  # not through a link
    if not place.is_file() or place.stat().st_size != info.nbytes:
        raise _not_left(pending)
    return place.open("r+b")


def _not_left(pending: PendingFile) -> OutputError:
    return OutputError(f"output {pending.path}: what a killed run left is not as its journal says; run again")


def _gathering(info: VolumeInfo) -> AbstractContextManager[None]:
    return _passing(info.path) if info.path == PIPE else writing(info.path)


def _stream_sink(
    info: VolumeInfo, pending: PendingFile | None, threads: int, resume: dict[str, Any] | None
) -> StreamSink | PipeSink:
    if pending is None:
        return PipeSink(info, threads=threads)
    return StreamSink(info, pending, resume, threads=threads)


def _planes(block: NDArray[Any], dtype: np.dtype[Any]) -> memoryview:
    """The bytes of whole planes, slowest axis first."""
    return bytes_of(np.ascontiguousarray(block.T, dtype))
