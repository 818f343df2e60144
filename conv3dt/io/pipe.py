"""How does a volume come in through a pipe, and go out through one?  Standard input and output, from first to last."""

from __future__ import annotations

import io
import os
import select
import stat
import threading
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO, Protocol

from conv3dt.errors import ArgumentError, DataError, InputMissingError, ReaderGoneError, StreamError
from conv3dt.io.gzip_stream import BLOCK_BYTES, GzipReader

INPUT, OUTPUT = 0, 1


class Reader(Protocol):
    """Bytes, from first to last."""

    def read_into(self, view: memoryview) -> None:
        """Fill ``view``, or raise a DataError."""
        ...

    def read_up_to(self, view: memoryview) -> int:
        """Fill as much of ``view`` as there is; return how much that is."""
        ...

    def finish(self) -> None:
        """Read to the end, and check what can be checked there."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


def skip(reader: Reader, count: int) -> None:
    """Pass over ``count`` bytes."""
    scrap = memoryview(bytearray(min(count, BLOCK_BYTES)))
    while count:
        reader.read_into(scrap[: min(count, len(scrap))])
        count -= min(count, len(scrap))


class PlainReader:
    """Bytes that are not packed."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def read_into(self, view: memoryview) -> None:
        """Fill ``view``, or raise a DataError."""
        done = self.read_up_to(view)
        if done < len(view):
            raise DataError(f"{self._name}: ends {len(view) - done} bytes early; the header promises more voxels")

    def read_up_to(self, view: memoryview) -> int:
        """Fill as much of ``view`` as there is; return how much that is."""
        done = 0
        while done < len(view) and (got := int(self._file.readinto(view[done:]) or 0)):  # type: ignore[attr-defined]
            done += got
        return done

    def finish(self) -> None:
        """Read to the end: who writes into the pipe is not to find it closed."""
        scrap = memoryview(bytearray(BLOCK_BYTES))
        while self.read_up_to(scrap):
            pass

    def close(self) -> None:
        """Let go."""
        self._file.close()


class Incoming:
    """Standard input, packed or not, that can be looked at before it is read."""

    def __init__(self, file: Any) -> None:
        self.raw_start: bytes = file.peek(8)[:8]
        self.packed = self.raw_start[:2] == b"\x1f\x8b"
        self._reader: Reader = GzipReader(file, "-") if self.packed else PlainReader(file, "-")
        self._ahead = b""

    def peek(self, count: int) -> bytes:
        """Return the next bytes, fewer where there are fewer, and leave them to be read."""
        more = bytearray(max(count - len(self._ahead), 0))
        got = self._reader.read_up_to(memoryview(more))
        self._ahead += bytes(more[:got])
        return self._ahead[:count]

    def read_into(self, view: memoryview) -> None:
        """Fill ``view``, or raise a DataError."""
        head = self._ahead[: len(view)]
        view[: len(head)] = head
        self._ahead = self._ahead[len(head) :]
        self._reader.read_into(view[len(head) :])

    def read_up_to(self, view: memoryview) -> int:
        """Fill as much of ``view`` as there is; return how much that is."""
        head = self._ahead[: len(view)]
        view[: len(head)] = head
        self._ahead = self._ahead[len(head) :]
        return len(head) + self._reader.read_up_to(view[len(head) :])

    def finish(self) -> None:
        """Read to the end, and check what can be checked there."""
        self._ahead = b""
        self._reader.finish()

    def close(self) -> None:
        """Let go."""
        self._reader.close()


class _Waiting(io.RawIOBase):
    """Standard input, whose end is not waited for once the run is given up, and which may be set not to block."""

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, view: Any) -> int:
        """Fill as much as comes at once; nothing at the end."""
        while _ready(INPUT, "POLLIN"):
            try:
                return os.readv(INPUT, [view])
            except BlockingIOError:
                continue
            except OSError as error:
                raise StreamError(f"input -: reading broke off: {error.strerror}") from None
        return 0


_given_up = threading.Event()
LOOK_S = 0.2
"""How long a pipe is waited for before it is asked whether the run is given up."""


def give_up() -> None:
    """Wait no longer for who writes into standard input, or reads standard output: the run ends."""
    _given_up.set()


def _ready(descriptor: int, kind: str) -> bool:
    """Wait until there is something to read, or room to write; False if the run is given up before."""
    if not hasattr(select, "poll"):  # not a Unix
        return True
    waiting = select.poll()
    waiting.register(descriptor, getattr(select, kind))
    while not waiting.poll(1000 * LOOK_S):
        if _given_up.is_set() or not threading.main_thread().is_alive():
            return False
    return True


@cache
def incoming() -> Incoming:
    """Return standard input; the same one whoever asks, for it can be read only once.

    Raises:
        ArgumentError: it is a terminal.
        InputMissingError: it is closed, or empty.
    """
    _check(INPUT, "input -", "pipe a volume in")
    found = Incoming(io.BufferedReader(_Waiting(), BLOCK_BYTES))
    if not found.raw_start:
        raise InputMissingError("input -: nothing came through the pipe")
    return found


class Outlet:
    """Standard output, for bytes; what is written is under way at once."""

    def __init__(self) -> None:
        """Find it.

        Raises:
            ArgumentError: it is a terminal.
            InputMissingError: it is closed.
        """
        _check(OUTPUT, "output -", "pipe it on")
        self._descriptor = -1

    def write(self, view: Any) -> int:
        """Write all bytes.

        Raises:
            ReaderGoneError: nobody reads them.
            StreamError: the disk is full, or the like.
        """
        if self._descriptor < 0:
            self._descriptor = _not_blocking()
        left = memoryview(view)
        while left and _ready(self._descriptor, "POLLOUT"):
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise ReaderGoneError("output -: nobody reads it any more") from None
            except OSError as error:
                raise StreamError(f"output -: writing broke off: {error.strerror}") from None
        return len(view)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Let go; standard output itself is the process's, and closed with it."""
        if self._descriptor not in (-1, OUTPUT):
            os.close(self._descriptor)
        self._descriptor = -1

    def abandon(self) -> None:
        """Let go; nothing is held back."""
        self.close()


def _not_blocking() -> int:
    """Standard output once more, if it is a pipe and may be opened: so that only this program's writes do not block."""
    if stat.S_ISFIFO(os.fstat(OUTPUT).st_mode):
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{OUTPUT}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return OUTPUT


def _check(descriptor: int, name: str, instead: str) -> None:
    try:
        terminal = os.isatty(descriptor) or not os.fstat(descriptor)
    except OSError:
        raise InputMissingError(f"{name}: is closed; {instead}, or name a file") from None
    if terminal:
        raise ArgumentError(f"{name}: is a terminal; {instead}, or name a file")
