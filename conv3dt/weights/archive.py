"""What is in a zip archive, and can it be unpacked at all?  Keras, PyTorch and NumPy all write such."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from conv3dt.errors import Conv3dtError, DataError
from conv3dt.weights.kernel import MOST_BYTES, listed, reason

MOST_ENTRIES = 100_000
BLOCK_BYTES = 2**20


@contextmanager
def opened(path: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive, and turn what zipfile says of it into one line.

    Raises:
        DataError: not an archive, damaged, or of far too many entries.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > MOST_ENTRIES:
                raise DataError(f"weights {path}: holds more than {MOST_ENTRIES} entries; is not a file of weights")
            yield archive
    except Conv3dtError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError, OverflowError, LookupError) as error:
        raise DataError(f"weights {path}: cannot be read as an archive (.keras, .pt, .npz): {reason(error)}") from None


def module_of(path: str) -> str:
    """Return the module that reads an archive, by the names in it.

    Raises:
        DataError: none does.
    """
    with opened(path) as archive:
        names = archive.namelist()
    if "config.json" in names and "metadata.json" in names:
        return "keras_archive"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "pytorch"
    if any(name.endswith(".npy") for name in names):
        return "arrays"
    if "keras_metadata.pb" in names or any(name.endswith("saved_model.pb") for name in names):
        raise DataError(f"weights {path}: a SavedModel in an archive; save it as .keras or .h5 in Keras")
    raise DataError(f"weights {path}: not a kernel file: an archive of {listed(names, 5)}")


def content(archive: zipfile.ZipFile, name: str, most: int, where: str) -> bytes:
    """Return an entry, unpacked, if it is not larger than ``most`` bytes, whatever it says of itself.

    Raises:
        DataError: too large.
    """
    entry = archive.getinfo(name)
    if entry.file_size > most:
        raise DataError(f"{where}: {name} unpacks to {entry.file_size} bytes, more than it can have ({most})")
    with archive.open(entry) as stream:
        found = stream.read(most + 1)
    if len(found) > most:
        raise DataError(f"{where}: {name} unpacks to more than it says, and than it can have ({most} bytes)")
    return found


def seekable(archive: zipfile.ZipFile, name: str, where: str) -> IO[bytes]:
    """Return an entry to read from anywhere: one that is stored as it is stays on disk, after its checksum was checked.

    Raises:
        DataError: packed and too large to be unpacked into memory.
    """
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or archive.filename is None:
        return io.BytesIO(content(archive, name, MOST_BYTES, where))
    with archive.open(entry) as stream:
        while stream.read(BLOCK_BYTES):  # zipfile compares the checksum when it comes to the end
            pass
    with open(archive.filename, "rb") as file:
        file.seek(entry.header_offset + 26)
        sizes = file.read(4)
    start = entry.header_offset + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
    return io.BufferedReader(_Window(archive.filename, start, entry.file_size))


class _Window(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = open(path, "rb"), start, size, 0

    def readable(self) -> bool:
        """As of a file."""
        return True

    def seekable(self) -> bool:
        """As of a file."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        self._at = offset + {0: 0, 1: self._at, 2: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As of a file."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        self._file.seek(self._start + self._at)
        done = self._file.readinto(view[:count])
        self._at += done
        return done

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        super().close()
