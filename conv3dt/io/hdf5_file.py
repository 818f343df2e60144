"""How are HDF5 files opened, and written so that what goes wrong is told in one line?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py

from conv3dt import paths
from conv3dt.errors import Conv3dtError, DataError, InputMissingError
from conv3dt.unbroken import unbroken

START = 64
"""Bytes by which a packed chunk is told from what else HDF5 writes."""


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open a file for reading; what stands behind its name does not matter.

    Raises:
        InputMissingError: no such file.
        DataError: not an HDF5 file, or damaged.
    """
    file = paths.split(path)[0]
    if not Path(file).is_file():
        raise InputMissingError(f"input {file}: no such file")
    try:
        with h5py.File(file, "r", locking=False) as found:
            yield found
    except Conv3dtError:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{file}: not an HDF5 file, or damaged: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """Return the first line of what an error says."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


class WrittenFile:
    """An HDF5 file that is being written: whole behind the block that uses it, or an error came.

    Attributes:
        file: of h5py.
    """

    file: Any = None

    def __init__(self, path: Path | None, *, fresh: bool, dry: bool = False) -> None:
        """Take a file.

        Args:
            path: where it is; None is nowhere.
            fresh: whether it is empty, and HDF5 is to begin it.
            dry: do everything but write.
        """
        self._mode = "w" if fresh else "r+"
        self._bytes = _Bytes(path, dry=dry)

    def __enter__(self) -> WrittenFile:
        try:
            with unbroken():
                self.file = h5py.File(self._bytes, self._mode)
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                with unbroken():
                    self.file.close()
                self.check()
                return
            self._bytes.give_up()
            with unbroken(), suppress(OSError, RuntimeError, ValueError):
                if self.file is not None:
                    self.file.close()
        finally:
            self._bytes.close()

    def write_chunk(self, dataset: Any, offset: tuple[int, ...], content: bytes) -> int | None:
        """Write a chunk that is packed; return where in the file it lies, if HDF5 wrote it there and then.

        Raises:
            OSError: it could not be written.
        """
        self._bytes.expect(content)
        with unbroken():
            dataset.id.write_direct_chunk(offset, content)
        self.check()
        return self._bytes.found

    def sync(self) -> None:
        """Make durable what was written; not what HDF5 still holds."""
        self._bytes.sync()

    def check(self) -> None:
        """Raise what went wrong while writing.

        Raises:
            OSError: as it came from the system.
        """
        if self._bytes.failure is not None:
            raise self._bytes.failure


class _Bytes:
    """The file under HDF5, which cannot close a file that it cannot write: a failure is kept, and told later."""

    def __init__(self, path: Path | None, *, dry: bool) -> None:
        self._file: Any = BytesIO() if path is None else path.open("rb" if dry else "r+b", buffering=0)
        self._given_up = dry
        self._at = 0
        self._expected = b""
        self.failure: OSError | None = None
        self.found: int | None = None

    def sync(self) -> None:
        """Make durable what was written."""
        os.fsync(self._file.fileno())

    def expect(self, content: bytes) -> None:
        """Note in ``found`` where bytes of that length and beginning are written next."""
        self._expected, self.found = content, None

    def give_up(self) -> None:
        """From now on nothing is written."""
        self._given_up = True

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def write(self, data: Any) -> int:
        """Write all of ``data``, or remember why not."""
        view, done = memoryview(data).cast("B"), 0
        if self.found is None and len(view) == len(self._expected) and view[:START] == self._expected[:START]:
            self.found = self._at
        while done < len(view) and not self._given_up and self.failure is None:
            try:
                done += self._file.write(view[done:]) or 0
            except OSError as error:
                self.failure = error
        self._at += len(view)
        return len(view)

    def read(self, size: int = -1) -> bytes:
        """As of a file: h5py takes nothing for a file that cannot be read."""
        data = self._file.read(size) or b""
        self._at += len(data)
        return data

    def readinto(self, data: Any) -> int:
        """As of a file."""
        count = self._file.readinto(data) or 0
        self._at += count
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        self._at = self._file.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        """As of a file."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """As of a file, failures remembered."""
        try:
            return (size or 0) if self._given_up else self._file.truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def flush(self) -> None:
        """As of a file."""
        self._file.flush()
