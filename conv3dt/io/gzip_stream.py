"""How do bytes flow in and out of gzip?  isal in threads; the same bytes in give the same file out.

A file is written as blocks of a fixed size, each packed by itself, which costs less than a thousandth in size: so it
does not depend on who wrote how much at a time, threads have nothing to wait for, and a run that was killed can go on
behind any block.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO

from isal import igzip, igzip_threaded, isal_zlib

from conv3dt.errors import DataError

BLOCK_BYTES = 2**20
"""Unpacked bytes of a block."""

LEVEL = 2
"""isal's level that packs as tightly as zlib's level 1 (nibabel's choice), at more than ten times the speed."""

MOST_MEMBERS = 4096
"""Members of a stream in which the bytes before the first voxel may lie; those of nothing take their time too."""

MOST_BEHIND = 2**30
"""Bytes behind the last voxel that are passed over, as those of an unpacked file are; a stream may have no end."""

HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""A gzip header that tells neither name nor time nor system."""

_BROKEN: Any = (EOFError, OSError, isal_zlib.error, igzip.BadGzipFile)


def beginning(path: str, count: int) -> bytes:
    """Return up to ``count`` bytes from the start of a gzip file, whatever comes behind them.

    Raises:
        DataError: the stream is damaged before that, or in very many pieces.
    """
    unpacked, piece, members, unpacker = b"", b"", 0, isal_zlib.decompressobj(wbits=31)
    with open(path, "rb") as file:
        while len(unpacked) < count and (piece := piece or file.read(2**16)):
            try:
                unpacked += unpacker.decompress(piece, count - len(unpacked))
            except _BROKEN as error:
                raise _damaged(path, error) from None
            piece = unpacker.unconsumed_tail
            if unpacker.eof:  # a stream may have many members, with zeros in between
                members += 1
                if members > MOST_MEMBERS:
                    raise DataError(
                        f"{path}: more than {MOST_MEMBERS} gzip members before its first voxel; pack it anew"
                    )
                piece, unpacker = unpacker.unused_data.lstrip(b"\0"), isal_zlib.decompressobj(wbits=31)
    return unpacked


def _damaged(path: str, error: Exception) -> DataError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return DataError(f"{path}: damaged or cut short: {reason}; get the file again")


class GzipReader:
    """Reads a gzip stream forwards, unpacking ahead in a thread."""

    def __init__(self, file: str | BinaryIO, name: str) -> None:
        """Begin to read a path, or an open file; the name is for messages."""
        self._name = name
        self._file: Any = igzip_threaded.open(file, "rb", block_size=BLOCK_BYTES)

    def read_into(self, view: memoryview) -> None:
        """Fill ``view``.

        Raises:
            DataError: the stream is damaged or ends too early.
        """
        done = self.read_up_to(view)
        if done < len(view):
            raise DataError(f"{self._name}: ends {len(view) - done} bytes early; the header promises more voxels")

    def read_up_to(self, view: memoryview) -> int:
        """Fill as much of ``view`` as there is; return how much that is."""
        done = 0
        while done < len(view) and (got := self._next(view[done:])):
            done += got
        return done

    def finish(self) -> None:
        """Read to the end, so that the checksum is compared.

        Raises:
            DataError: the checksum is wrong, or the end is missing or too far away.
        """
        scrap, passed = memoryview(bytearray(BLOCK_BYTES)), 0
        while count := self._next(scrap):
            passed += count
            if passed > MOST_BEHIND:
                raise DataError(
                    f"{self._name}: goes on for more than {MOST_BEHIND} bytes behind the last voxel that the header "
                    "promises; is it damaged, or a gzip bomb? pack what belongs to it anew"
                )

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _next(self, view: memoryview) -> int:
        try:
            return int(self._file.readinto(view) or 0)
        except _BROKEN as error:
            raise _damaged(self._name, error) from None


class GzipWriter:
    """Writes a gzip stream, packing in threads."""

    def __init__(self, file: BinaryIO, *, threads: int, resume: dict[str, Any] | None = None) -> None:
        """Begin a stream, or go on with one at a checkpoint, where the file stands now."""
        self._file, self._most = file, threads + 2
        self._pool = ThreadPoolExecutor(threads, "conv3dt-gzip")
        self._packing: deque[Future[tuple[bytes, int, int]]] = deque()
        self._rest = bytearray(b64decode(resume["rest"]) if resume else b"")
        stream: list[int] = resume["stream"] if resume else [0, 0, 0]
        self._crc, self._unpacked, self._packed = stream
        if not resume:
            self._put(HEAD)

    def write(self, view: memoryview) -> None:
        """Append bytes."""
        start = 0
        if self._rest:
            start = min(BLOCK_BYTES - len(self._rest), len(view))
            self._rest += view[:start]
            if len(self._rest) < BLOCK_BYTES:
                return
            self._pack(bytes(self._rest))
            self._rest = bytearray()
        while len(view) - start >= BLOCK_BYTES:
            self._pack(bytes(view[start : start + BLOCK_BYTES]))
            start += BLOCK_BYTES
        self._rest += view[start:]

    def checkpoint(self) -> dict[str, Any]:
        """Hand all whole blocks to the file; return what is needed to go on from here, as values for JSON."""
        self._drain(0)
        self._file.flush()
        return {"stream": [self._crc, self._unpacked, self._packed], "rest": b64encode(self._rest).decode()}

    def close(self) -> None:
        """Write what is left and the checksum; the file stays open."""
        if self._rest:
            self._pack(bytes(self._rest))
        self._drain(0)
        end: bytes = isal_zlib.compress(b"", wbits=-15)
        self._put(end + struct.pack("<II", self._crc, self._unpacked & 0xFFFFFFFF))
        self._file.flush()
        self.abandon()

    def abandon(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _pack(self, block: bytes) -> None:
        self._packing.append(self._pool.submit(_packed, block))
        self._drain(self._most)

    def _drain(self, most: int) -> None:
        """Write packed blocks, until no more than ``most`` are on their way."""
        while len(self._packing) > most:
            packed, crc, count = self._packing.popleft().result()
            self._crc = isal_zlib.crc32_combine(self._crc, crc, count)
            self._unpacked += count
            self._put(packed)

    def _put(self, piece: bytes) -> None:
        self._file.write(piece)
        self._packed += len(piece)


def _packed(block: bytes) -> tuple[bytes, int, int]:
    """A block packed so that any other may follow, its checksum and its length."""
    packer = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    return packer.compress(block) + packer.flush(isal_zlib.Z_FULL_FLUSH), isal_zlib.crc32(block), len(block)
