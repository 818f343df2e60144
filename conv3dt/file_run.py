"""How does one file become another?  Resolve, run, prove, name; if it is killed, the next run goes on from there."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING, Any

from conv3dt import paths
from conv3dt.describe import header_facts
from conv3dt.digest import glance, job_hash
from conv3dt.errors import ArgumentError, DataError, DeviceError, DoesNotFitError, OutputError
from conv3dt.io.files import begin, create_sink, open_source, output_format, read_info
from conv3dt.io.volume import PIPE, Sink, VolumeInfo
from conv3dt.job import Job, make_job
from conv3dt.journal import Journal, Progress
from conv3dt.ledger import check_strict
from conv3dt.pending import PendingFile
from conv3dt.pipeline import Counts, Tally, run
from conv3dt.report import ProofFacts
from conv3dt.request import LayerRequest
from conv3dt.resources import Resources
from conv3dt.settings import Settings
from conv3dt.unbroken import unbroken

if TYPE_CHECKING:
    Start = Callable[[int], Callable[[int], None]]
    Finished = Callable[[str], AbstractContextManager[None]]

PROVED = 24
"""Regions that are computed again to prove an output."""


@dataclass(frozen=True, slots=True)
class FileRun:
    """One run, from arguments to a file; a value.

    Attributes:
        input, output: paths; ``-`` is a pipe.
        request, settings: what is asked for; limits: threads and memory.
        out_format: ``nii`` or ``nii.gz``, for a pipe.
        overwrite: whether an existing output may be replaced.
        keep: whether an interrupted run leaves what it has done for the next to go on from.
        self_check: whether a sample of the output is computed again before it gets its name.
    """

    input: str
    output: str
    request: LayerRequest
    settings: Settings
    limits: Resources
    out_format: str | None = None
    overwrite: bool = False
    keep: bool = False
    self_check: bool = False


def resolve(wanted: FileRun) -> Job:
    """Return the job of a run, from headers alone, unless values must be looked at for a slope.

    Raises:
        Conv3dtError: a child that says what is wrong.
    """
    settings, request = wanted.settings, wanted.request
    source = read_info(wanted.input, axes=settings.axes, data_format=settings.data_format or request.data_format)
    form = output_format(wanted.output, wanted.out_format, packed=source.compressed)
    if wanted.self_check and PIPE in (wanted.input, wanted.output):
        raise ArgumentError("self-check cannot go with a pipe, which is read only once; name files")
    reference = None
    if settings.like is not None:
        from conv3dt.like import strides_like

        reference = read_info(str(settings.like))
        if not request.says_strides:
            request = request.with_strides(strides_like(source, reference))
    job = make_job(
        source,
        request.concrete(source.channels),
        path=wanted.output,
        form=form,
        align=settings.align,
        dtype=_dtype(settings),
        device=settings.device,
        tile=settings.tile,
        limits=wanted.limits,
        precision=settings.precision,
        nan=settings.nan,
        spread=spread(source) if settings.rescale else None,
        reference=reference,
    )
    if settings.strict_header:
        check_strict(header_facts(job))
    return job


def _dtype(settings: Settings) -> str | None:
    dtype = settings.dtype
    if isinstance(dtype, type) or hasattr(dtype, "name"):  # NumPy's own ways to say a type
        import numpy as np

        dtype = np.dtype(dtype).name
    return "int16" if dtype is None and settings.rescale else dtype


def spread(source: VolumeInfo) -> tuple[float, float]:
    """Return the least and the greatest value of a volume; of bytes and of pipes, those that its type can hold.

    Raises:
        ArgumentError: its voxels would have to be looked at first, and it is a pipe.
    """
    from conv3dt.bound import input_range

    known = input_range(source)
    if known is not None and (source.path == PIPE or source.dtype.itemsize == 1):
        return known
    if source.path == PIPE:
        raise ArgumentError("rescale has to look at all voxels of a float volume first, and a pipe is read only once")
    from conv3dt.extremes import extremes

    return extremes(source)


def execute(
    wanted: FileRun, job: Job, *, start: Start | None = None, finished: Finished | None = None
) -> tuple[Job, Tally, ProofFacts | None]:
    """Run a job into its file.

    Args:
        wanted: where the job came from; job: of `resolve`.
        start: called with the number of output voxels, returns a function that is told how many are written.
        finished: called with the path of the whole file; the file gets its name within the context that it returns.

    Returns:
        The job as it was run, in the regions of a killed run if it went on from one; what happened, and what the
        self-check found.

    Raises:
        Conv3dtError: a child that says what is wrong; nothing is left under the output's name then.
    """
    opened = perf_counter()
    begun = _begun(wanted, job)
    job, sink, journal = begun.job, begun.sink, begun.journal
    try:
        seen = _seen(wanted.input)
        with closing(open_source(job.source, threads=job.choice.threads, in_order=_in_order(job))) as source:
            tally = run(
                job,
                source,
                sink,
                start(prod(job.target.space) * job.plan.batch) if start else None,
                done=None if begun.found is None else _counts(begun.found),
                written=None if journal is None else _noting(journal, job, sink),
            )
            source.finish()
        _check_unchanged(wanted.input, seen)
        clock = perf_counter()
        sink.finish()
        proof = _proved(job, begun.pending) if wanted.self_check else None
        leaving = nullcontext() if finished is None or begun.pending is None else finished(str(begun.pending.work))
        _named(sink, leaving)
    except BaseException as error:
        kept = begun.kept(error)
        sink.abort(keep=kept)
        if kept and isinstance(error, DeviceError):
            raise DeviceError(f"{error}; what is done is kept, and the same command goes on from there") from error
        raise
    tally.write_s += perf_counter() - clock
    tally.wall_s = perf_counter() - opened
    return job, tally, proof


@dataclass(slots=True)
class _Begun:
    """A run that is under way.

    Attributes:
        wanted, job: as of `execute`; the job has the regions of the run that it goes on from.
        pending: the output's passing file, unless it is a pipe; journal: of a run that can be gone on with.
        found: how far an earlier run came.
    """

    wanted: FileRun
    job: Job
    pending: PendingFile | None
    journal: Journal | None = None
    found: Progress | None = None
    sink: Any = None

    def kept(self, error: BaseException) -> bool:
        """Whether what is done is left for the next run: on request, or if a device failed, which is no one's fault."""
        keep = self.wanted.keep or isinstance(error, DeviceError)
        return keep and self.journal is not None and self.journal.read() is not None


def _begun(wanted: FileRun, job: Job) -> _Begun:
    """Begin a run where a killed one came to; where it left nothing, or nothing that fits, from the start.

    Raises:
        OutputError: another run is making the same output.
    """
    for going_on in (True, False):
        begun = _Begun(wanted, job, begin(wanted.output, overwrite=wanted.overwrite, going_on=going_on))
        try:
            if begun.pending is not None and not (begun.pending.alone or wanted.overwrite):
                raise OutputError(f"output {wanted.output}: another run is making it; wait or choose another name")
            begun.journal = _journal(wanted, job, begun.pending)
            _go_on(begun)
            found = begun.found
            begun.sink = create_sink(
                begun.job.target, begun.pending, threads=begun.job.choice.threads, in_order=_in_order(begun.job),
                resume=None if found is None else found.sink,
            )  # fmt: skip
            break
        except BaseException as error:
            if begun.pending is not None:
                begun.pending.abort(keep=begun.kept(error))
            if begun.found is None or not isinstance(error, (OSError, ValueError, LookupError, TypeError)):
                raise
    return begun


def _in_order(job: Job) -> bool:
    return job.plan.in_slabs and job.source.in_file_order and job.target.in_file_order


def _seen(path: str) -> tuple[int, ...] | None:
    """What changes with a file that is written to; None of one that is not there, or a pipe."""
    with suppress(OSError):
        facts = None if path == PIPE else os.stat(paths.split(path)[0])
        return None if facts is None else (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    return None


def _check_unchanged(path: str, before: tuple[int, ...] | None) -> None:
    """Refuse what was read, if it was written to meanwhile; of one that was replaced or is gone, the old one was read.

    Raises:
        DataError: it was.
    """
    now = _seen(path)
    if now is not None and before is not None and now[:2] == before[:2] and now != before:
        raise DataError(f"{path}: changed while it was being read; run again")


def _named(sink: Sink, leaving: AbstractContextManager[None]) -> None:
    """Give record and output their names: both or none."""
    with unbroken(), leaving:
        sink.publish()


def _journal(wanted: FileRun, job: Job, pending: PendingFile | None) -> Journal | None:
    """The journal of a run that can be gone on with: not of a pipe."""
    if pending is None or wanted.input == PIPE:
        return None
    where = " ".join(filter(None, (job.choice.device, job.choice.way)))  # whose numbers are those of a run
    return Journal(pending.sibling("journal"), f"{job_hash(job)} {where} {glance(wanted.input)}")


def _go_on(begun: _Begun) -> None:
    """Take over the regions of the run that was killed, and how far that came; else begin afresh."""
    found = None if begun.journal is None else begun.journal.read()
    if found is not None:
        job = _in_regions(begun, found.tile)
        if job.plan.tile == found.tile:
            begun.job, begun.found = job, found
            return
    if begun.pending is not None:
        begun.pending.clear()


def _in_regions(begun: _Begun, walked: tuple[int, ...]) -> Job:
    """The job, cut up into the regions of the run that was killed, if these can be had now."""
    if begun.job.plan.tile == walked:
        return begun.job
    tile = walked[::-1] if begun.job.backwards else walked
    try:
        return resolve(replace(begun.wanted, settings=replace(begun.wanted.settings, tile=tile)))
    except DoesNotFitError:
        return begun.job


def _counts(found: Progress) -> Counts:
    place = found.tally["first_not_finite"]
    return Counts(**(found.tally | {"first_not_finite": None if place is None else tuple(place)}))


def _noting(journal: Journal, job: Job, sink: Sink) -> Callable[[Counts], None]:
    def note(counts: Counts) -> None:
        journal.note(lambda: Progress(counts.regions, job.plan.tile, asdict(counts), sink.checkpoint()))

    return note


def _proved(job: Job, pending: PendingFile | None) -> ProofFacts:
    """Compute a sample of the finished file again.

    Raises:
        DataError: it is not what the definition says.
    """
    assert pending is not None
    made = str(pending.work)
    if job.target.format == "hdf5":
        from conv3dt.io.hdf5_target import split

        made += f":{split(job.target.path)[1]}"
    proof = prove_files(job, replace(job.target, path=made), regions=PROVED, seed=0)
    if not proof.passed:
        raise DataError(
            f"output {job.target.path}: the self-check failed: voxel {proof.worst_at} is {proof.worst:.3g} times as "
            f"far from the definition as rounding allows; no file was left; please report this"
        )
    return proof


def prove_files(job: Job, target: VolumeInfo, *, regions: int, seed: int) -> ProofFacts:
    """Compute a sample of an output again from its source in float64, and compare.

    Args:
        job: what the output should be; target: where it is.
        regions: how many boxes; seed: which.
    """
    from conv3dt.proof import prove

    with (
        closing(open_source(job.source, threads=1, in_order=job.source.in_file_order)) as source,
        closing(open_source(target, threads=1, in_order=target.in_file_order)) as made,
    ):
        return prove(job, source, made, regions=regions, seed=seed)
