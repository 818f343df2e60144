"""How is a job told?  From resolved values to the report; no voxel and no file is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from conv3dt.io.volume import LABEL_INTENT
from conv3dt.ledger import ledger
from conv3dt.report import (
    AxisFacts,
    HeaderFact,
    LayerFacts,
    PlanFacts,
    ProofFacts,
    Report,
    RunFacts,
    VolumeFacts,
    axis_facts,
)
from conv3dt.version import __version__

if TYPE_CHECKING:
    from conv3dt.estimate import Estimate
    from conv3dt.io.volume import VolumeInfo
    from conv3dt.job import Job
    from conv3dt.pipeline import Tally


def volume_facts(info: VolumeInfo) -> VolumeFacts:
    """Return what the report says of a volume."""
    return VolumeFacts(
        path=info.path,
        format=info.format,
        shape=info.shape,
        axes=info.axes,
        dtype=info.dtype.newbyteorder("=").name,
        bytes=info.nbytes,
        spacing=info.spacing,
        unit=info.unit,
        affine=None if info.affine is None else [[float(v) for v in row] for row in info.affine],
        slope=info.slope,
        inter=info.inter,
    )


def job_report(
    job: Job,
    tally: Tally | None = None,
    peak_bytes: int = 0,
    proof: ProofFacts | None = None,
    *,
    expected: Estimate | None = None,
    disk_bytes: int = 0,
) -> Report:
    """Return the report of a job: planned, or done if there is a tally; and what was expected, if that is known."""
    doubts = () if expected is None or tally is not None else expected.doubts
    return Report(
        version=__version__,
        input=volume_facts(job.source),
        output=volume_facts(job.target),
        layer=_layer(job),
        axes=_axes(job),
        plan=_plan(job, expected),
        run=None if tally is None else _run(job, tally, peak_bytes, disk_bytes),
        warnings=(*_warnings(job, tally), *doubts),
        header=header_facts(job),
        proof=proof,
    )


def header_facts(job: Job) -> tuple[HeaderFact, ...]:
    """Return what becomes of each field of the input's header."""
    return ledger(job.source, job.target, like=job.like, foreign=job.source.foreign)


def _layer(job: Job) -> LayerFacts:
    config = job.layer.config
    return LayerFacts(
        name=job.layer.name,
        kernel_size=config.kernel_size,
        filters=config.filters,
        channels=job.layer.channels,
        strides=config.strides,
        padding=config.padding,
        output_padding=config.output_padding,
        dilation_rate=config.dilation_rate,
        activation=config.activation,
        use_bias=job.layer.bias is not None,
        boundary=job.layer.boundary,
        align=job.align,
        layout=job.layer.layout,
        per_channel=job.layer.per_channel,
        reduce=job.layer.reduce,
        notes=job.layer.notes,
    )


def _axes(job: Job) -> tuple[AxisFacts, ...]:
    return tuple(
        axis_facts(axis, n, shift=shift, drift=drift)
        for axis, n, shift, drift in zip(
            job.layer.config.axes, job.source.space, job.placement.shift, job.placement.drift, strict=True
        )
    )


def _plan(job: Job, expected: Estimate | None) -> PlanFacts:
    facts = PlanFacts(
        engine=job.choice.engine,
        device=job.choice.device,
        threads=job.choice.threads,
        why=job.choice.reason,
        tile=job.plan.tile[::-1] if job.backwards else job.plan.tile,
        regions=job.plan.count * job.plan.batch,
        volumes=job.plan.batch,
        region_bytes=job.plan.peak_bytes,
        way=job.choice.way,
        precision=job.choice.effective_precision(job.storage.compute_dtype.itemsize),
    )
    if expected is None:
        return facts
    return replace(
        facts,
        memory_bytes=expected.memory_bytes,
        disk_bytes=expected.disk.file_bytes,
        packed=expected.disk.packed,
        passing_bytes=expected.disk.passing_bytes + expected.disk.unpacked_bytes,
        seconds=expected.seconds,
    )


def _run(job: Job, tally: Tally, peak_bytes: int, disk_bytes: int) -> RunFacts:
    return RunFacts(
        start_s=tally.start_s,
        read_s=tally.read_s,
        compute_s=tally.compute_s,
        write_s=tally.write_s,
        total_s=tally.wall_s,
        voxels_per_s=tally.counts.written / tally.wall_s if tally.wall_s else 0.0,
        peak_bytes=peak_bytes,
        disk_bytes=disk_bytes,
        clipped=tally.counts.clipped,
        not_finite=tally.counts.not_finite,
        first_not_finite=tally.counts.first_not_finite,
        resumed_regions=tally.resumed,
        headroom=_headroom(job, tally),
        halved_regions=tally.halved,
    )


def _headroom(job: Job, tally: Tally) -> float | None:
    """How much of the integers' range was left over by what came out."""
    low, high, limits = tally.counts.low, tally.counts.high, job.storage.limits
    if low is None or high is None or limits is None:
        return None
    return 1 - max(high / limits[1], low / limits[0] if limits[0] else 0.0)


def _warnings(job: Job, tally: Tally | None) -> list[str]:
    found = list(job.notes)
    if not job.layer.kernel.any():
        found.append(f"the kernel {job.layer.name} is all zeros: the output holds nothing but the bias")
    if "strides" in job.layer.assumed:
        found.append("strides are said nowhere, and 1 upsamples nothing; say --strides")
    if max(abs(drift) for drift in job.placement.drift) > 1e-6:
        drift = ", ".join(f"{value:+.3g}" for value in job.placement.drift)
        found.append(f"the header places voxels ({drift}) output voxels from where this kernel's weight lies")
    if job.source.header is not None and int(job.source.header["intent_code"]) == LABEL_INTENT:
        if job.layer.name != "nearest":
            found.append(f"the scan says that it holds labels, which {job.layer.name} mixes; say --kernel nearest")
    header = job.target.header
    if header is not None and not (int(header["sform_code"]) or int(header["qform_code"])) and any(job.placement.shift):
        shift = ", ".join(f"{value:+g}" for value in job.placement.shift)
        found.append(f"the scan has neither sform nor qform: its header cannot hold the shift ({shift}) input voxels")
    if job.source.dtype.name in ("int64", "uint64", "float16") and job.target.format.startswith("nifti"):
        if job.target.dtype.kind in "iu":
            found.append(f"{job.source.dtype} cannot be read by other tools in NIfTI; {job.target.dtype} is written")
    if "nifti_header" in job.target.attributes and job.source.header is not None and job.source.header.extensions:
        if len(job.target.attributes["nifti_header"]) < job.source.header.extensions.get_sizeondisk():
            found.append("the header's extensions are too large for an HDF5 attribute and are left out")
    if tally is None:
        return found
    if tally.counts.clipped:
        share = 100 * tally.counts.clipped / max(tally.counts.written * job.filters, 1)
        found.append(f"{tally.counts.clipped} values ({share:.2g} %) did not fit {job.storage.dtype} and were clipped")
    if tally.counts.rounded:
        found.append(f"{tally.counts.rounded} input voxels are beyond 2^53, where whole numbers are rounded")
    if tally.counts.not_finite:
        became = (
            "were taken as zero" if job.nan == "zero" else "spoil what the kernel reaches (--nan zero takes them as 0)"
        )
        place = f"the first at {tally.counts.first_not_finite}"
        found.append(f"{tally.counts.not_finite} input voxels are NaN or infinite, {place}, and {became}")
    return found
