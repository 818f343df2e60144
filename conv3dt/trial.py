"""Does the HDF5 library survive a file?  Damaged ones can crash it or hold it up for ever: another process tries first.

A crash cannot be caught, and would take a whole batch with it.  Where there are no threads the trial is a fork, which
costs milliseconds; where there are, it is a helper that is started once and asked about one file after another.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from conv3dt.errors import DataError

MOST_S = 5.0
"""Seconds after which a library is taken to have lost its way."""

_sound: set[tuple[object, ...]] = set()
_turn = threading.Lock()
_helper: subprocess.Popen[bytes] | None = None


def attempt(path: str, module: str, function: str, *arguments: Any) -> None:
    """Have another process call ``module.function(*arguments)``; what it returns or raises does not matter.

    Args:
        path: of the file that is read; of the same file, unchanged, only the first attempt is made.
        module, function, arguments: what to call, arguments as values for JSON.

    Raises:
        DataError: the process crashed, or did not come to an end.
    """
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return  # whoever reads it will say so
    key = (path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, module, function, *arguments)
    with _turn:
        if key in _sound or not sys.executable or os.name != "posix":
            return
        alone = threading.active_count() == 1
        ended = _forked(module, function, arguments) if alone else _asked(module, function, arguments)
        if ended is None:
            _sound.add(key)
            return
    raise DataError(f"{path}: damaged: the HDF5 library {ended} it; get the file again")


def _call(module: str, function: str, arguments: tuple[Any, ...]) -> None:
    with suppress(BaseException):
        getattr(import_module(module), function)(*arguments)


def _forked(module: str, function: str, arguments: tuple[Any, ...]) -> str | None:
    """What became of the library in a copy of this process; None if nothing did."""
    child = os.fork()
    if child == 0:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what crashes may have last words
        _no_core()
        _call(module, function, arguments)
        os._exit(0)
    end, pause = time.monotonic() + MOST_S, 0.0005
    try:
        while time.monotonic() < end:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                child = 0
                return "crashed on" if os.WIFSIGNALED(status) else None
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return "came to no end with"
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _asked(module: str, function: str, arguments: tuple[Any, ...]) -> str | None:
    """What became of the library in the helper."""
    global _helper
    if _helper is None:
        _helper = subprocess.Popen(
            [sys.executable, "-m", "conv3dt.trial"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        atexit.register(_dismiss)
    helper = _helper
    assert helper.stdin is not None and helper.stdout is not None
    hung = False
    with suppress(OSError):
        helper.stdin.write(json.dumps([module, function, arguments]).encode() + b"\n")
        helper.stdin.flush()
        hung = not select.select([helper.stdout], [], [], MOST_S)[0]
        if not hung and helper.stdout.readline():
            return None
    _dismiss()
    return "came to no end with" if hung else "crashed on"


def _dismiss() -> None:
    """End the helper, if there is one."""
    global _helper
    if _helper is None:
        return
    _helper.kill()
    _helper.wait()
    for stream in (_helper.stdin, _helper.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    _helper = None


def _no_core() -> None:
    """A crash that was reckoned with needs no image of the memory."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve() -> None:
    """Be the helper: a line of JSON in, an empty line out, until nobody asks any more."""
    _no_core()
    for line in sys.stdin.buffer:
        module, function, arguments = json.loads(line)
        _call(module, function, tuple(arguments))
        os.write(1, b"\n")


if __name__ == "__main__":
    _serve()
