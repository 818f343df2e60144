"""Which process meets damaged files?  One that calls the entry point for one case after another, watched by the tests.

Run as a program it reads a request a line, as JSON, and answers each with a line; `Worker` is the other end.  The files
under standard input, output and error are exchanged for each case, so that what libraries print is seen too.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

MOST_FILE_BYTES = 2**28
"""No output of a small input is larger."""
MOST_BYTES = 6 * 2**30
"""Where a case is ended that takes all memory; what it may take is judged by what it took."""
PATIENCE_S = 60.0
"""Wall time until a case counts as hanging that uses no processor, however busy the machine is."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a case ended.

    Attributes:
        code: exit code; None if the process died or was killed.
        signal: what it died of, in words, if it did.
        out, err: what it said.
        cpu_s: processor seconds of all threads; grown: bytes by which it outgrew what it held before.
        files: open files more than before.
    """

    code: int | None
    signal: str
    out: bytes
    err: bytes
    cpu_s: float = 0.0
    grown: int = 0
    files: int = 0


class Worker:
    """The process, from the side of the tests; begun anew whenever it died."""

    def __init__(self, folder: Path) -> None:
        """Take a folder for what the process says and for passing files."""
        self._folder = folder
        (folder / "tmp").mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, words: Sequence[str], folder: Path, stdin: Path | None = None) -> Ended:
        """Call the command in a folder."""
        process = self._process or self._begun()
        assert process.stdin is not None and process.stdout is not None
        out, err = self._folder / "out", self._folder / "err"
        request = {"words": list(words), "folder": str(folder), "in": str(stdin or os.devnull)}
        process.stdin.write(json.dumps(request | {"out": str(out), "err": str(err)}).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
        line = process.stdout.readline() if ready else b""
        if line:
            return Ended(**json.loads(line), signal="", out=out.read_bytes(), err=err.read_bytes())
        died = self.close() if ready else "hung"
        self.close()
        return Ended(None, died, out.read_bytes(), err.read_bytes())

    def left(self) -> list[str]:
        """Return the names of passing files that were left outside of the case's folder."""
        return sorted(os.listdir(self._folder / "tmp"))

    def close(self) -> str:
        """End the process; return of which signal it had died, if it had."""
        process, self._process = self._process, None
        if process is None:
            return ""
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        code = process.poll()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return signal.Signals(-code).name if code is not None and code < 0 else f"ended with {code}"

    def _begun(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CONV3DT_")}
        environment |= {"TMPDIR": str(self._folder / "tmp"), "COLUMNS": "80"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        return self._process


def main() -> None:
    """Answer requests until there are no more."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE_BYTES, MOST_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    (point,) = entry_points(group="console_scripts", name="conv3dt")
    command = point.load()
    for line in requests:
        answers.write(json.dumps(_answer(command, json.loads(line))).encode() + b"\n")


def _answer(command: Callable[[], None], request: dict[str, Any]) -> dict[str, Any]:
    os.chdir(request["folder"])
    for number, name, how in ((0, "in", os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        descriptor = os.open(request[name], how | (os.O_CREAT | os.O_TRUNC if number else 0))
        os.dup2(descriptor, number)
        os.close(descriptor)
    _forget_input()
    gc.collect()
    gc.freeze()
    files, held, cpu = len(os.listdir("/proc/self/fd")), _from_here(), _cpu()
    sys.argv = ["conv3dt", *request["words"]]
    try:
        command()
        code: Any = "returned"
    except SystemExit as stop:
        code = stop.code
    gc.collect()  # what is only found to be left behind by now is told on stderr
    sys.stdout.flush()
    sys.stderr.flush()
    assert code is not None or threading.active_count() >= 1
    grown = _held("VmHWM") - held
    return {"code": code, "cpu_s": _cpu() - cpu, "grown": grown, "files": len(os.listdir("/proc/self/fd")) - files}


def _forget_input() -> None:
    """Standard input is met once in a process; here it is another one for each case."""
    pipe = sys.modules.get("conv3dt.io.pipe")
    if pipe is not None:
        pipe.incoming.cache_clear()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _from_here() -> int:
    """Let the peak be counted from here; return what is held now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _held("VmRSS")


def _held(name: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


if __name__ == "__main__":
    main()
