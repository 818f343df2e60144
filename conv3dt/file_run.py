"""How does one file become another?  Resolve, run, prove, name; if it is killed, the next run goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING

from conv3dt.describe import header_facts
from conv3dt.digest import glance, job_hash
from conv3dt.errors import ArgumentError, DataError, DoesNotFitError
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

if TYPE_CHECKING:
    Start = Callable[[int], Callable[[int], None]]

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
    wanted: FileRun, job: Job, *, start: Start | None = None, finished: Callable[[str], None] | None = None
) -> tuple[Tally, ProofFacts | None]:
    """Run a job into its file.

    Args:
        wanted: where the job came from; job: of `resolve`.
        start: called with the number of output voxels, returns a function that is told how many are written.
        finished: called with the path of the whole file, before it gets its name.

    Returns:
        What happened, and what the self-check found.

    Raises:
        Conv3dtError: a child that says what is wrong; nothing is left under the output's name then.
    """
    opened = perf_counter()
    pending = begin(wanted.output, overwrite=wanted.overwrite, going_on=True)
    journal, sink = None, None
    try:
        journal = _journal(wanted, job, pending)
        job, found = _gone_on(wanted, job, journal, pending)
        in_order = job.plan.in_slabs and job.source.in_file_order and job.target.in_file_order
        threads = job.choice.threads
        sink = create_sink(
            job.target, pending, threads=threads, in_order=in_order, resume=None if found is None else found.sink
        )
        with closing(open_source(job.source, threads=threads, in_order=in_order)) as source:
            tally = run(
                job,
                source,
                sink,
                start(prod(job.target.space) * job.plan.batch) if start else None,
                done=None if found is None else _counts(found),
                written=None if journal is None else _noting(journal, job, sink),
            )
            source.finish()
        clock = perf_counter()
        sink.finish()
        proof = _proved(job, pending) if wanted.self_check else None
        if finished is not None and pending is not None:
            finished(str(pending.work))
        sink.publish()
    except BaseException:
        keep = wanted.keep and journal is not None and journal.read() is not None
        if sink is not None:
            sink.abort(keep=keep)
        elif pending is not None:
            pending.abort(keep=keep)
        raise
    tally.write_s += perf_counter() - clock
    tally.wall_s = perf_counter() - opened
    return tally, proof


def _journal(wanted: FileRun, job: Job, pending: PendingFile | None) -> Journal | None:
    """The journal of a run that can be gone on with: not of a pipe."""
    if pending is None or wanted.input == PIPE:
        return None
    return Journal(pending.sibling("journal"), f"{job_hash(job)} {job.choice.device} {glance(wanted.input)}")


def _gone_on(
    wanted: FileRun, job: Job, journal: Journal | None, pending: PendingFile | None
) -> tuple[Job, Progress | None]:
    """The job with the regions of the run that was killed, and how far that came; else as it is, from the start."""
    found = None if journal is None else journal.read()
    if found is not None and found.tile != job.plan.tile:
        tile = found.tile[::-1] if job.backwards else found.tile
        try:
            job = resolve(replace(wanted, settings=replace(wanted.settings, tile=tile)))
        except DoesNotFitError:
            found = None
        if job.plan.tile != tile and found is not None and job.plan.tile != found.tile:
            found = None
    if found is None and pending is not None:
        pending.clear()
    return job, found


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
    inside = job.target.path[len(str(job.target.path).split(":/")[0]) :] if job.target.format == "hdf5" else ""
    proof = prove_files(job, replace(job.target, path=str(pending.work) + inside), regions=PROVED, seed=0)
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
