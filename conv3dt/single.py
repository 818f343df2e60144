"""How is one run told, and what does it leave beside its output?  A report, and on request a sidecar with a record."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from conv3dt import paths
from conv3dt.describe import job_report
from conv3dt.digest import file_hash, glance, job_hash
from conv3dt.errors import ArgumentError, DataError
from conv3dt.estimate import Estimate
from conv3dt.file_run import FileRun, execute, resolve
from conv3dt.fits import foresee
from conv3dt.io.files import check_output
from conv3dt.io.volume import PIPE
from conv3dt.job import Job
from conv3dt.pipeline import Tally
from conv3dt.record import (
    FileFacts,
    Record,
    check_sidecar,
    facts_of,
    from_folder_of,
    recorded,
    sidecar_path,
    write_sidecar,
)
from conv3dt.report import ProofFacts, Report
from conv3dt.resources import peak
from conv3dt.version import __version__

PASSING = ("threads", "max_memory", "max_vram", "tile", "device", "strict_header")
"""Options that a record leaves out: they do not change the output, or only whether there is one."""


def report_of(
    wanted: FileRun, options: Mapping[str, Any] | None, *, dry_run: bool = False, start: Any = None
) -> Report:
    """Run, or only plan, one file; return its report.

    Args:
        wanted: the run.
        options: of the layer and of the run, as they were given, if there is to be a sidecar; else None.
        dry_run: only resolve and report.
        start: called with the number of output voxels, returns a function that is told how many are written.

    Raises:
        Conv3dtError: a child that says what is wrong; nothing is left then.
    """
    check_output(wanted.output, overwrite=wanted.overwrite)  # before the input is looked at, which may take long
    job = resolve(wanted)
    if options is not None:
        check_recordable(wanted)
    expected = foresee(job)
    if dry_run:
        return job_report(job, expected=expected)
    if options is None:
        return _done(wanted, expected, *execute(wanted, job, start=start))
    return recorded_run(wanted, job, options, {}, start=start, expected=expected)


def recorded_run(
    wanted: FileRun,
    job: Job,
    options: Mapping[str, Any],
    content: Mapping[str, Any],
    *,
    start: Any = None,
    expected: Estimate | None = None,
) -> Report:
    """Run one file, and leave a sidecar beside it.

    Args:
        wanted: the run; job: what it resolves to.
        options: of the layer and of the run, as they were given.
        content: what the sidecar says beside its record.
        start: as in `report_of`.
        expected: what the job was expected to take.

    Raises:
        Conv3dtError: a child that says what is wrong; nothing is left then.
    """
    given_up = threading.Event()
    with ThreadPoolExecutor(1, "conv3dt-hash") as pool:
        before = glance(wanted.input)
        hashing = pool.submit(file_hash, wanted.input, given_up)
        leave = _leaving_a_record(wanted, job, options, content, before, hashing.result)
        try:
            done = execute(wanted, job, start=start, finished=leave)
        except BaseException:
            given_up.set()
            raise
    return _done(wanted, expected, *done)


def _done(wanted: FileRun, expected: Estimate | None, job: Job, tally: Tally, proof: ProofFacts | None) -> Report:
    """The report of a run that is done, with what was expected of it."""
    written = 0
    with suppress(OSError):  # somebody may have taken it away by now
        written = 0 if wanted.output == PIPE else os.path.getsize(paths.split(wanted.output)[0])
    return job_report(job, tally, peak(), proof, expected=expected, disk_bytes=written)


def check_recordable(wanted: FileRun) -> None:
    """Refuse a run that could leave no record, before it is run.

    Raises:
        ArgumentError: its record could not be true.
        OutputError: there is no place for its sidecar.
    """
    if PIPE in (wanted.input, wanted.output):
        raise ArgumentError("sidecar cannot go with a pipe: a record names files; leave it out")
    source, target = (os.path.realpath(paths.split(path)[0]) for path in (wanted.input, wanted.output))
    if source == target:
        raise ArgumentError(
            f"sidecar cannot go with an output in the file of its input ({wanted.input}), which would be another file "
            "then; name another output, or leave it out"
        )
    read = [wanted.request.weights, wanted.request.layer, wanted.settings.like]
    named = [paths.split_weights(os.fspath(path))[0] for path in read if isinstance(path, (str, os.PathLike))]
    spared = [sidecar_path(wanted.input), *named]
    check_sidecar(sidecar_path(wanted.output), wanted.output, overwrite=wanted.overwrite, spared=spared)


def _leaving_a_record(
    wanted: FileRun,
    job: Job,
    options: Mapping[str, Any],
    content: Mapping[str, Any],
    before: str,
    input_hash: Callable[[], str],
) -> Callable[[str], AbstractContextManager[None]]:
    """What is done with the whole output before it gets its name: its record gets one."""
    sidecar = sidecar_path(wanted.output)

    def finished(work: str) -> AbstractContextManager[None]:
        digest = input_hash()
        if glance(wanted.input) != before:
            raise DataError(f"{wanted.input}: changed while it was being read; run again")
        record = Record(
            version=__version__,
            job=job_hash(job),
            options=recorded({name: value for name, value in options.items() if name not in PASSING}, sidecar),
            input=facts_of(sidecar, wanted.input, digest),
            output=FileFacts(
                from_folder_of(sidecar, wanted.output), os.path.getsize(paths.split(work)[0]), file_hash(work)
            ),
        )
        return _left(wanted, sidecar, content, record)

    return finished


@contextmanager
def _left(wanted: FileRun, sidecar: str, content: Mapping[str, Any], record: Record) -> Iterator[None]:
    """Leave a record beside an output that gets its name within the context; take it away again if it gets none."""
    check_output(wanted.output, overwrite=wanted.overwrite)  # or another run's output would lose its record
    fresh, before = not os.path.lexists(sidecar), _identity(wanted.output)
    write_sidecar(sidecar, content, record)
    try:
        yield
    except BaseException:
        if fresh and _identity(wanted.output) == before:
            with suppress(OSError):
                os.unlink(sidecar)
        raise


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from the one that takes its name; None if there is none."""
    try:
        facts = os.stat(paths.split(path)[0])
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
