"""How does a file appear whole or not at all?  Written under another name, made durable, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conv3dt.errors import OutputError, StreamError


class PendingFile:
    """A file on its way: ``work`` is where it is written, ``path`` where it will be."""

    def __init__(self, path: str, *, overwrite: bool) -> None:
        """Create the file under its passing name.

        Raises:
            OutputError: the target exists and may not be replaced, or its folder refuses.
        """
        self.path = check_target(path, overwrite=overwrite)
        self._replaces = overwrite
        try:
            descriptor, work = tempfile.mkstemp(".part", f".{self.path.name[:200]}.", self.path.parent)
            os.fchmod(descriptor, _mode(self.path))
            os.close(descriptor)
        except OSError as error:
            raise OutputError(f"output {path}: cannot be created: {error.strerror}") from None
        self.work = Path(work)

    def commit(self) -> None:
        """Make the file durable and give it its name.

        Raises:
            OutputError: another run made a file of that name meanwhile, and it may not be replaced.
        """
        with writing(str(self.path)):
            descriptor = os.open(self.work, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._name()

    def _name(self) -> None:
        if self._replaces:
            os.replace(self.work, self.path)
            return
        try:
            os.link(self.work, self.path)  # unlike a rename, refuses if the name is taken by now
        except FileExistsError:
            raise OutputError(f"output {self.path}: was made by another run meanwhile; say --overwrite") from None
        except OSError:  # a file system without links
            os.replace(self.work, self.path)
            return
        self.work.unlink()

    def abort(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            self.work.unlink()

    def reserve(self, count: int) -> None:
        """Take ``count`` bytes of disk now rather than fail half-way.

        Raises:
            OutputError: the disk is too small.
        """
        free = shutil.disk_usage(self.path.parent).free
        try:
            if free < count:
                raise OSError
            with self.work.open("r+b") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, count)
                else:
                    file.truncate(count)
        except OSError:
            self.abort()
            raise OutputError(
                f"output {self.path}: needs {count} bytes and cannot have them ({free} bytes are free); "
                "make room or choose another disk"
            ) from None


def _mode(path: Path) -> int:
    """The permissions of the file to be replaced, or those of any new file."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def check_target(path: str, *, overwrite: bool) -> Path:
    """Return where an output will be, if it may be there; nothing is created.

    Raises:
        OutputError: it exists and may not be replaced, or there is no such folder.
    """
    try:
        target = Path(path).resolve()
        exists, is_file = target.exists(), target.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OutputError(f"output {path}: cannot be created: {reason}; choose another name") from None
    if exists and not overwrite:
        raise OutputError(f"output {path}: exists already; say --overwrite (overwrite=True) or choose another name")
    if exists and not is_file:
        raise OutputError(f"output {path}: is not a regular file; choose another name")
    if not target.parent.is_dir():
        raise OutputError(f"output {path}: the folder {target.parent} does not exist; create it first")
    return target


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn what the system says while writing into one line.

    Raises:
        StreamError: instead of any OSError.
    """
    try:
        yield
    except (StreamError, OutputError):
        raise
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise StreamError(f"output {path}: writing broke off: {reason}; no file was left") from None
