"""How does a file appear whole or not at all?  Written under another name, made durable, then renamed.

The passing name of ``up.nii`` is ``.conv3dt-part-up.nii``; a lock on it says that a run is alive.  What a killed run
left there is gone on from, or swept away by the next run for the same output; two runs at once do not meet, the second
takes ``.conv3dt-part2-up.nii``.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conv3dt.errors import OutputError, ReaderGoneError, StreamError

PREFIX = ".conv3dt-part-"
MOST_RUNS = 8
"""So many runs at once for one output have passing files whose names the next one knows; a further one makes one up."""
MOST_NAME = 200
"""Bytes of a name that its passing name keeps: file systems allow 255."""
SIBLINGS = ("journal", "journal-new", "spool")
"""Further passing files that may lie beside the first."""


class PendingFile:
    """A file on its way: ``work`` is where it is written, ``path`` where it will be."""

    def __init__(self, path: str, *, overwrite: bool, going_on: bool = False) -> None:
        """Create the file under its passing name.

        Args:
            path: of the file to be.
            overwrite: whether an existing one may be replaced.
            going_on: leave what a killed run left under that name, and beside it; else it is swept away.

        Raises:
            OutputError: the target exists and may not be replaced, or its folder refuses.
        """
        self.path = check_target(path, overwrite=overwrite)
        self.alone = True
        """Whether no other run for this output was alive when this one began."""
        self._replaces = overwrite
        self._durable = False
        self._descriptor = -1
        try:
            self._descriptor, self.work, created = self._take()
            if created or not going_on:  # a journal without the file that it tells of is worth nothing
                self.clear()
        except OSError as error:
            self._let_go()
            raise OutputError(f"output {path}: cannot be created: {error.strerror}") from None

    def _take(self) -> tuple[int, Path, bool]:
        """Return a file that no other run has, and whether it is new: under a known name, or under one of its own."""
        for work in self._names():
            try:
                found = _locked(work)
            except BlockingIOError:
                self.alone = False
                continue
            if found is None:
                break
            return found[0], work, found[1]
        descriptor, name = tempfile.mkstemp("-" + self._end(), PREFIX, self.path.parent)
        return descriptor, Path(name), True

    def _names(self) -> Iterator[Path]:
        """The passing names of the first run for this output, and of those beside it."""
        for number in range(1, MOST_RUNS + 1):
            start = PREFIX if number == 1 else f"{PREFIX[:-1]}{number}-"
            yield self.path.parent / (start + self._end())

    def _end(self) -> str:
        return os.fsencode(self.path.name)[-MOST_NAME:].decode(errors="ignore")

    def sibling(self, kind: str) -> Path:
        """Return the name of a further passing file, which goes when this one does."""
        assert kind in SIBLINGS
        return self.work.with_name(f"{self.work.name}-{kind}")

    def clear(self) -> None:
        """Begin afresh: an empty file, nothing beside it."""
        if _sweep(self.work):
            _sync_folder(self.path.parent)  # or a journal could come back that tells of another file
        os.ftruncate(self._descriptor, 0)

    def commit(self, *, durably: bool = True) -> None:
        """Make the file durable and give it its name.

        Args:
            durably: whether the name is to be durable too; if not, then with the next one in the folder that is.

        Raises:
            OutputError: another run made a file of that name meanwhile, and it may not be replaced.
        """
        if not self._durable:
            self.sync()
        with suppress(OSError):  # a file system may have permissions of its own
            os.chmod(self.work, _mode(self.path))  # not before: it may forbid to write
        with writing(str(self.path)):
            self._name()
            if durably:
                _sync_folder(self.path.parent)
        self._let_go()

    def sync(self) -> None:
        """Make the file durable; nothing is written any more."""
        with writing(str(self.path)):
            descriptor = os.open(self.work, os.O_RDONLY)  # by name: a library may have put a file of its own there
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._durable = True

    def _name(self) -> None:
        self._sweep()  # first: behind the name, nobody would look for it any more
        if self._replaces:
            os.replace(self.work, self.path)
            return
        try:
            os.link(self.work, self.path)  # unlike a rename, refuses if the name is taken by now
        except OSError:
            if os.path.lexists(self.path):
                raise OutputError(f"output {self.path}: was made by another run meanwhile; say --overwrite") from None
            os.replace(self.work, self.path)  # a file system without links
            return
        with suppress(OSError):
            self.work.unlink()

    def abort(self, *, keep: bool = False) -> None:
        """Leave nothing behind; or everything, for the next run to go on from."""
        try:
            if self._descriptor >= 0 and not keep:
                self._sweep()
                with suppress(OSError):
                    self.work.unlink()
        finally:
            self._let_go()

    def _sweep(self) -> None:
        """Remove what lies beside the file, and what killed runs left that were not alone."""
        _sweep(self.work)
        for work in self._names():
            if work != self.work and os.path.lexists(work):
                with suppress(OSError):
                    _remove(work)

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

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


def write_whole(path: str, content: bytes, *, overwrite: bool, durably: bool = True) -> None:
    """Write a small file, whole or not at all; ``durably`` as in `PendingFile.commit`.

    Raises:
        OutputError, StreamError: it exists and may not be replaced, or it cannot be written.
    """
    pending = PendingFile(path, overwrite=overwrite)
    try:
        with writing(path):
            pending.work.write_bytes(content)
        pending.commit(durably=durably)
    finally:
        pending.abort()


def _sweep(work: Path) -> bool:
    """Remove what lies beside a passing file; say whether there was anything."""
    found = False
    for kind in SIBLINGS:
        with suppress(OSError):
            work.with_name(f"{work.name}-{kind}").unlink()
            found = True
    return found


def _remove(work: Path) -> None:
    """Remove a passing file and what lies beside it, unless a living run holds it."""
    found = _locked(work)
    if found is not None:
        try:
            _sweep(work)
            work.unlink()
        finally:
            os.close(found[0])


def _locked(path: Path) -> tuple[int, bool] | None:
    """Open a file that no living run holds, made if it is not there; return it, and whether it was made.

    None if it cannot be opened, or nothing can be locked here.

    Raises:
        BlockingIOError: a living run holds it.
    """
    try:
        import fcntl
    except ImportError:  # not a Unix
        return None
    while True:
        opened = _opened(path)
        if opened is None:
            return None
        descriptor, made = opened
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                here = os.fstat(descriptor)
                if here.st_nlink > 1 and os.path.samestat(os.stat(path, follow_symlinks=False), here):
                    path.unlink()  # it has got its name already, from a run that was killed in that moment
                elif os.path.samestat(os.stat(path, follow_symlinks=False), here):
                    return descriptor, made
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:
            os.close(descriptor)
            if made:
                path.unlink(missing_ok=True)
            return None
        os.close(descriptor)  # whoever held it gave it its name, or took it away, between the two calls


def _opened(path: Path) -> tuple[int, bool] | None:
    """Open a regular file to read and write, and say whether it was made; None if that cannot be."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            with suppress(OSError):
                os.fchmod(descriptor, 0o600)  # whatever the mask for new files
            return descriptor, True
        except FileExistsError:
            pass
        except OSError:
            return None
        try:
            descriptor = os.open(path, flags | os.O_NONBLOCK)
        except FileNotFoundError:  # gone between the two calls
            continue
        except OSError:  # a link, a folder, or somebody else's
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor, False
        os.close(descriptor)
        return None


def _sync_folder(folder: Path) -> None:
    """Make a new name durable too, where folders can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode(path: Path) -> int:
    """The permissions of the file to be replaced, or those of any new file."""
    if path.exists():
        return path.stat().st_mode & 0o777
    return 0o666 & ~_mask()


def _mask() -> int:
    """The mask for new files; from the system where it tells, for to ask for it is to set it, in all threads."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/self/status").read_text().split("Umask:")[1].split()[0], 8)
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
    except (StreamError, OutputError, ReaderGoneError):
        raise
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
        raise StreamError(f"output {path}: writing broke off: {reason}; no file was left") from None
