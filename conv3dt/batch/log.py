"""What is kept of a batch for machines?  One line of JSON a scan, appended as soon as it is known."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import Any

from conv3dt.batch.run import Outcome
from conv3dt.errors import OutputError, StreamError
from conv3dt.version import __version__


class BatchLog:
    """A file of JSON lines; several shards may write into one, for each line is written at once."""

    def __init__(self, path: str) -> None:
        """Open it, to write behind what it holds.

        Raises:
            OutputError: it cannot be written, or holds something else.
        """
        self._path, self._whole = path, _is_whole(path)
        self.trouble: str | None = None
        """What went wrong when a line was written, if something did."""
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(f"log {path}: cannot be written: {error.strerror}; choose another by --log") from None

    def add(self, outcome: Outcome) -> None:
        """Write what became of a scan; where that fails, the batch goes on, and `trouble` says so."""
        line = json.dumps(told(outcome), ensure_ascii=True) + "\n"
        left = (b"" if self._whole else b"\n") + line.encode()
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
                self._whole = not left
        except OSError as error:
            self.trouble = self.trouble or error.strerror or str(error)

    def check(self) -> None:
        """Say that lines are missing, if they are.

        Raises:
            StreamError: the disk was full, or the like.
        """
        if self.trouble is not None:
            raise StreamError(f"log {self._path}: writing broke off: {self.trouble}; lines are missing, no scan is")

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def _is_whole(path: str) -> bool:
    """Whether the last line of a log is whole, where there is one.

    Raises:
        OutputError: it is no log.
    """
    try:
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        if not size:
            return True
        with open(path, "rb") as file:
            first = file.read(1)
            file.seek(size - 1)
            last = file.read(1)
    except OSError as error:
        raise OutputError(f"log {path}: cannot be read: {error.strerror}; choose another by --log") from None
    if first not in (b"{", b"\n"):
        raise OutputError(f"log {path}: is there already and holds something else; choose another by --log")
    return last == b"\n"


def told(outcome: Outcome) -> dict[str, Any]:
    """Return a line as values: when, which scan, what became of it, how long it took, what went wrong."""
    report = outcome.report
    run = None if report is None else report.run
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "scan": outcome.name,
        "input": outcome.input,
        "output": outcome.output,
        "status": outcome.status,
        "seconds": round(outcome.seconds, 3),
        "error": outcome.error,
        "exit_code": outcome.exit_code,
        "why": outcome.why,
        "shape": None if report is None else list(report.output.shape),
        "warnings": [] if report is None else list(report.warnings),
        "peak_bytes": None if run is None else run.peak_bytes,
    }
