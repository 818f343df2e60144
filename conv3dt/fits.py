"""Can a job be run here at all?  Refused is only what cannot be; what may go wrong is said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from conv3dt.disk import left_behind
from conv3dt.errors import DoesNotFitError, OutputError
from conv3dt.estimate import Estimate, estimate
from conv3dt.job import Job
from conv3dt.resources import available

SURE, SPARED = 0.75, 40 * 2**20
"""An estimate of memory may be too high by a quarter, or by so many bytes."""


def foresee(job: Job) -> Estimate:
    """Return what a job is expected to take, with what may go wrong for want of memory or disk.

    Raises:
        DoesNotFitError, OutputError: as `check_fits`.
    """
    expected = estimate(job)
    return replace(expected, doubts=check_fits(job, expected))


def check_fits(job: Job, expected: Estimate) -> tuple[str, ...]:
    """Return what may go wrong for want of memory or disk.

    Args:
        job: what is to be run.
        expected: of `estimate`.

    Raises:
        DoesNotFitError: the process cannot have the memory.
        OutputError: a disk cannot hold even the smallest output possible, or the passing files of the run.
    """
    return *_memory(expected), *_disk(job, expected)


def _memory(expected: Estimate) -> list[str]:
    free = available()
    if expected.growth_bytes <= free:
        return []
    told = f"takes about {_mib(expected.growth_bytes)} of memory more than it has now"
    if SURE * expected.growth_bytes - SPARED > free + _swap():
        raise DoesNotFitError(
            f"the run {told}, and {_mib(free)} are free; give a smaller --tile (tile), or --max-memory (max_memory)"
        )
    return [f"the run {told}, and only {_mib(free)} are free"]


def _swap() -> int:
    """Bytes that the system can move out of memory: slow, but it may work."""
    import psutil

    return int(psutil.swap_memory().free)


def _disk(job: Job, expected: Estimate) -> list[str]:
    use = expected.disk
    folder = next(each for each in (use.folder, *use.folder.parents) if each.is_dir())  # it may have to be made yet
    free = _free(folder) + left_behind(job.target.path)
    unpacked = use.unpacked_bytes if _disk_of(folder) == _disk_of(use.temporary) else 0
    if not unpacked and use.unpacked_bytes > _free(use.temporary):
        raise OutputError(
            f"input {job.source.path}: {use.unpacked_bytes} bytes have to be unpacked in {use.temporary}, where "
            f"{_free(use.temporary)} are free; set TMPDIR to a folder with more, or leave --tile (tile) out"
        )
    least, wanted = use.least_bytes + unpacked, use.file_bytes + use.passing_bytes + unpacked
    if least > free:
        raise OutputError(
            f"output {job.target.path}: needs {'at least ' if use.packed else ''}{least} bytes and cannot have them "
            f"({free} bytes are free); make room or choose another disk"
        )
    if wanted > free:
        return [f"about {_mib(wanted)} will be written to {use.folder}, and only {_mib(free)} are free there"]
    return []


def _disk_of(folder: Path) -> int:
    return folder.stat().st_dev


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
