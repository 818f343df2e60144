"""How do many scans become many, unattended?  Overlapped in one process; one that fails stops no other.

What is there already is proved, not believed: a scan counts as done if the record in its sidecar names this work, this
input and this output, by their hashes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from conv3dt import paths
from conv3dt.describe import job_report
from conv3dt.digest import file_hash, job_hash
from conv3dt.discover import Scan
from conv3dt.errors import Conv3dtError, OutputError
from conv3dt.file_run import FileRun, resolve
from conv3dt.fits import foresee
from conv3dt.io.files import check_output
from conv3dt.job import Job
from conv3dt.record import record_of, sidecar_path
from conv3dt.report import Report
from conv3dt.request import LayerRequest
from conv3dt.resources import Resources
from conv3dt.settings import Settings
from conv3dt.single import check_recordable, recorded_run
from conv3dt.version import __version__

EXISTING = ("prove", "skip", "overwrite")
"""What happens where an output is there already: it is proved, left alone without a look, or made again."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A batch, before it is run.

    Attributes:
        scans: inputs and outputs.
        request, settings: of every scan; options: both as they were given, for the records.
        limits: of each run by itself; jobs: how many run at once.
        existing: one of `EXISTING`.
        keep: whether an interrupted run leaves what it has done; self_check: as in `FileRun`.
        dry_run: only resolve.
        content: what a scan's sidecar says beside its record.
    """

    scans: Sequence[Scan]
    request: LayerRequest
    settings: Settings
    options: Mapping[str, Any]
    limits: Resources
    jobs: int = 1
    existing: str = "prove"
    keep: bool = False
    self_check: bool = False
    dry_run: bool = False
    content: Callable[[Scan, Job], Mapping[str, Any]] = lambda scan, job: {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scan.

    Attributes:
        name, input, output: as in `Scan`.
        status: ``done``, ``skipped`` (it was there), ``planned`` (a dry run), ``failed`` or ``cancelled``.
        seconds: that it took.
        error: of a scan that failed, in one line; exit_code: what it would have ended the command with.
        why: of a scan that was skipped.
        report: of a scan that was made or planned.
    """

    name: str
    input: str
    output: str
    status: str
    seconds: float
    error: str | None = None
    exit_code: int = 0
    why: str | None = None
    report: Report | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self)


STOPPED = "the batch was stopped"


class _Cancelled(Conv3dtError):
    """The batch is being stopped."""


def run(
    batch: Batch, *, stop: threading.Event | None = None, moved: Callable[[str, float], None] | None = None
) -> Generator[Outcome, None, None]:
    """Run a batch; yield what became of each scan, as soon as it is known.

    Args:
        batch: what to do.
        stop: when set, no further scan is begun, and those under way are given up.
        moved: told the name of a scan under way, and which part of it is written.

    Whoever leaves the loop early stops the batch.  What ends it from outside (Ctrl-C) is raised when all scans that
    were under way have been yielded.
    """
    stop = stop or threading.Event()
    pool = ThreadPoolExecutor(batch.jobs, "conv3dt-scan")
    waiting: set[Future[Outcome]] = set()
    scans = iter(batch.scans)
    try:
        while True:
            while len(waiting) < batch.jobs and not stop.is_set() and (scan := next(scans, None)) is not None:
                waiting.add(pool.submit(_one, batch, scan, stop, moved))
            if not waiting:
                return
            for future in wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED).done:
                waiting.discard(future)
                yield future.result()
    except GeneratorExit:
        raise
    except BaseException:
        stop.set()
        for future in waiting:
            yield future.result()
        raise
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _one(batch: Batch, scan: Scan, stop: threading.Event, moved: Callable[[str, float], None] | None) -> Outcome:
    begin = perf_counter()

    def outcome(status: str, **more: Any) -> Outcome:
        return Outcome(scan.name, scan.input, scan.output, status, perf_counter() - begin, **more)

    try:
        status, why, report = _made(batch, scan, stop, moved)
        return outcome(status, why=why, report=report)
    except _Cancelled as error:
        return outcome("cancelled", error=str(error))
    except Conv3dtError as error:
        return outcome("failed", error=_line(error), exit_code=error.exit_code)
    except MemoryError:
        return outcome("failed", error="memory ran out; give --max-memory or fewer --jobs", exit_code=75)
    except OSError as error:
        return outcome("failed", error=f"{error.filename or scan.input}: {error.strerror or error}", exit_code=74)
    except Exception as error:
        return outcome("failed", error=_line(f"unexpected {type(error).__name__}: {error}"), exit_code=1)


def _made(
    batch: Batch, scan: Scan, stop: threading.Event, moved: Callable[[str, float], None] | None
) -> tuple[str, str | None, Report | None]:
    """Status, reason and report of a scan."""
    there = _is_there(scan.output)
    if there and batch.existing == "skip":
        return "skipped", "is there", None
    wanted = FileRun(
        scan.input, scan.output, batch.request, batch.settings, batch.limits, overwrite=batch.existing == "overwrite",
        keep=batch.keep, self_check=batch.self_check,
    )  # fmt: skip
    job = resolve(wanted)
    if there and batch.existing == "prove":
        doubt = _doubt(scan, job, stop)
        if stop.is_set():
            raise _Cancelled(STOPPED)
        if doubt is None:
            return "skipped", "is there, and proved by its record", None
        raise OutputError(f"output {scan.output}: exists, but {doubt}; say --overwrite or --skip-existing")
    expected = foresee(job)
    if batch.dry_run:
        return "planned", None, job_report(job, expected=expected)
    _make_folder(scan.output)
    check_output(scan.output, overwrite=wanted.overwrite)
    check_recordable(wanted)
    content = batch.content(scan, job)
    watching = _watching(scan, stop, moved)
    report = recorded_run(wanted, job, batch.options, content, start=watching, expected=expected)
    return "done", None, report


def _is_there(output: str) -> bool:
    """Whether an output exists; a dataset does if its file has a record of it, else its file is asked later."""
    return os.path.lexists(paths.split(output)[0])


def _doubt(scan: Scan, job: Job, stop: threading.Event) -> str | None:
    """Why an output that is there is not known to be this scan's; None if its record proves it."""
    record = record_of(sidecar_path(scan.output))
    if record is None:
        return "has no record that would prove it"
    if record.version != __version__:
        return f"was made by another version ({record.version})"
    if record.input.sha256 != file_hash(scan.input, stop):
        return "was made from another input"
    if record.job != job_hash(job):
        return "was made with other options or weights"
    if record.output.sha256 != file_hash(scan.output, stop):
        return "was changed since it was made"
    return None


def _make_folder(output: str) -> None:
    folder = os.path.dirname(paths.split(output)[0]) or "."
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise OutputError(f"output folder {folder}: cannot be created: {error.strerror}") from None


def _watching(
    scan: Scan, stop: threading.Event, moved: Callable[[str, float], None] | None
) -> Callable[[int], Callable[[int], None]]:
    """Tell how far a scan is, and give it up when the batch is stopped."""

    def start(total: int) -> Callable[[int], None]:
        def advance(done: int) -> None:
            if stop.is_set():
                raise _Cancelled(STOPPED)
            if moved is not None:
                moved(scan.name, done / total)

        return advance

    return start


def _line(error: object) -> str:
    return " ".join(str(error).split())
