"""How do bytes flow in and out of gzip?  isal in threads; the same bytes in give the same file out."""

from __future__ import annotations

from typing import Any, BinaryIO

from isal import igzip, igzip_threaded, isal_zlib

from conv3dt.errors import DataError

BLOCK_BYTES = 2**20
"""Compressed piece by piece of this size whatever the size of the writes, so the file depends on its content only."""

LEVEL = 2
"""isal's level that packs as tightly as zlib's level 1 (nibabel's choice), at more than ten times the speed."""


_BROKEN: Any = (EOFError, OSError, isal_zlib.error, igzip.BadGzipFile)


def beginning(path: str, count: int) -> bytes:
    """Return up to ``count`` bytes from the start of a gzip file, whatever comes behind them.

    Raises:
        DataError: the stream is damaged before that.
    """
    unpacked, unpacker = b"", isal_zlib.decompressobj(wbits=31)
    with open(path, "rb") as file:
        while len(unpacked) < count and not unpacker.eof and (piece := file.read(2**16)):
            while piece and len(unpacked) < count:
                try:
                    unpacked += unpacker.decompress(piece, count - len(unpacked))
                except _BROKEN as error:
                    raise _damaged(path, error) from None
                piece = unpacker.unconsumed_tail
    return unpacked


def _damaged(path: str, error: Exception) -> DataError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return DataError(f"{path}: damaged or cut short: {reason}; get the file again")


class GzipReader:
    """Reads a gzip file forwards, unpacking ahead in a thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: Any = igzip_threaded.open(path, "rb", block_size=BLOCK_BYTES)

    def read_into(self, view: memoryview) -> None:
        """Fill ``view``.

        Raises:
            DataError: the stream is damaged or ends too early.
        """
        done = 0
        while done < len(view):
            got = self._next(view[done:])
            if not got:
                raise DataError(f"{self._path}: ends {len(view) - done} bytes early; the header promises more voxels")
            done += got

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes."""
        scrap = memoryview(bytearray(min(count, BLOCK_BYTES)))
        while count:
            self.read_into(scrap[: min(count, len(scrap))])
            count -= min(count, len(scrap))

    def finish(self) -> None:
        """Read to the end, so that the checksum is compared.

        Raises:
            DataError: the checksum is wrong or the end is missing.
        """
        scrap = memoryview(bytearray(BLOCK_BYTES))
        while self._next(scrap):
            pass

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _next(self, view: memoryview) -> int:
        try:
            return int(self._file.readinto(view) or 0)
        except _BROKEN as error:
            raise _damaged(self._path, error) from None


class GzipWriter:
    """Writes a gzip file without name or time, in blocks of a fixed size."""

    def __init__(self, file: BinaryIO, *, threads: int) -> None:
        self._file: Any = igzip_threaded.open(
            file, "wb", compresslevel=LEVEL, threads=max(threads, 1), block_size=BLOCK_BYTES
        )
        self._rest = bytearray()

    def write(self, view: memoryview) -> None:
        """Append bytes."""
        start = 0
        if self._rest:
            start = min(BLOCK_BYTES - len(self._rest), len(view))
            self._rest += view[:start]
            if len(self._rest) < BLOCK_BYTES:
                return
            self._file.write(self._rest)
            self._rest = bytearray()
        while len(view) - start >= BLOCK_BYTES:
            self._file.write(view[start : start + BLOCK_BYTES])
            start += BLOCK_BYTES
        self._rest += view[start:]

    def close(self) -> None:
        """Write what is left and the checksum."""
        if self._rest:
            self._file.write(self._rest)
            self._rest = bytearray()
        self._file.close()
