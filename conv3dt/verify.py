"""Is an output what its record says?  The files by their hashes, the voxels by computing a sample again in float64."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from conv3dt import paths
from conv3dt.digest import file_hash, job_hash
from conv3dt.errors import ArgumentError, Conv3dtError, DataError, InputMissingError
from conv3dt.file_run import PROVED, FileRun, prove_files, resolve
from conv3dt.io.files import read_info
from conv3dt.io.volume import VolumeInfo
from conv3dt.job import Job
from conv3dt.record import KEY, FileFacts, Record, recalled, record_of, sidecar_path, to_folder_of
from conv3dt.report import ProofFacts
from conv3dt.request import LayerRequest
from conv3dt.resources import resources
from conv3dt.settings import split
from conv3dt.version import __version__


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: whether it is as it should be (None: it could not be told), and what it is."""

    name: str
    passed: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an output that was verified; it passed if nothing failed and the voxels were looked at."""

    output: str
    findings: tuple[Finding, ...]
    proof: ProofFacts | None

    @property
    def passed(self) -> bool:
        """Whether the output is what its record says."""
        return self.proof is not None and all(finding.passed is not False for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {"passed": self.passed} | asdict(self)


def verify_file(output: str, *, source: str | None = None, regions: int = PROVED, seed: int = 0) -> Verdict:
    """Verify an output by the record in its sidecar.

    Args:
        output: a volume that was written with a sidecar.
        source: the input, if it is no longer where the record says.
        regions: how many boxes of voxels are computed again; seed: which.

    Raises:
        InputMissingError: there is no output, no record, or no input.
        DataError: the record cannot be followed.
    """
    sidecar = sidecar_path(output)
    made = read_info(output)
    record = record_of(sidecar)
    if record is None:
        raise InputMissingError(
            f"{output}: there is no record in {sidecar} ({KEY!r}); upsample --sidecar and batch write one"
        )
    origin = to_folder_of(sidecar, record.input.path) if source is None else source
    if not os.path.isfile(paths.split(origin)[0]):
        raise InputMissingError(f"{output}: its input {origin} is not there; say where it is by --source")
    findings = [
        _same_file("output", output, record.output),
        _same_file("input", origin, record.input),
    ]
    job = _job(output, origin, record, sidecar)
    findings += [_same_job(job, record), _same_header(job, made)]
    if (made.shape, made.dtype.newbyteorder("=")) != (job.target.shape, job.target.dtype.newbyteorder("=")):
        told = f"{_shape(made)}, the record makes {_shape(job.target)}"
        return Verdict(output, (*findings, Finding("shape", False, told)), None)
    try:
        proof = prove_files(job, _readable(job.target, made), regions=regions, seed=seed)
    except DataError as error:
        return Verdict(output, (*findings, Finding("voxels", False, str(error))), None)
    return Verdict(output, (*findings, _voxels(proof)), proof)


def _same_file(name: str, path: str, facts: FileFacts) -> Finding:
    found = file_hash(path)
    if found == facts.sha256:
        return Finding(name, True, f"{path}: is the recorded file, sha256 {found[:16]}...")
    size = os.path.getsize(paths.split(path)[0])
    told = f"is not the recorded file: {size} bytes, sha256 {found[:16]}..., recorded {facts.bytes} bytes"
    return Finding(name, False, f"{path}: {told}, {facts.sha256[:16]}...")


def _job(output: str, origin: str, record: Record, sidecar: str) -> Job:
    try:
        settings, layer = split(recalled(record.options, sidecar))
        request = LayerRequest(**layer)
    except TypeError:
        raise DataError(f"sidecar {sidecar}: has options that this version ({__version__}) does not know") from None
    except ArgumentError as error:
        raise DataError(f"sidecar {sidecar}: its options cannot be followed: {error}") from None
    try:
        return resolve(FileRun(origin, output, request, replace(settings, device="cpu"), resources()))
    except Conv3dtError as error:
        raise DataError(f"sidecar {sidecar}: its options cannot be followed: {error}") from None


def _same_job(job: Job, record: Record) -> Finding:
    if record.version != __version__:
        told = f"made by conv3dt {record.version}, this is {__version__}: the arguments cannot be compared"
        return Finding("arguments", None, told)
    if job_hash(job) == record.job:
        return Finding("arguments", True, "make the same layer, header and types as when it was made")
    return Finding("arguments", False, "make another layer or header than when it was made; have weights changed?")


def _same_header(job: Job, made: VolumeInfo) -> Finding:
    if not made.format.startswith("nifti"):
        return Finding("header", None, "HDF5 has attributes in its place")
    from conv3dt.io.nifti_header import serialised

    wanted = serialised(job.target.header)
    same = made.format == job.target.format and serialised(made.header) == wanted
    return Finding("header", same, "says what it must, byte for byte" if same else "is not what it must be")


def _readable(target: VolumeInfo, made: VolumeInfo) -> VolumeInfo:
    """The target as it is to be read: its axes mean what the job says."""
    from dataclasses import replace

    return replace(made, axes=target.axes)


def _voxels(proof: ProofFacts) -> Finding:
    told = f"{proof.voxels} voxels in {proof.regions} regions, computed again in float64"
    if proof.passed:
        return Finding("voxels", True, f"{told}, differ by {100 * proof.worst:.2g} % of what rounding allows at most")
    return Finding(
        "voxels", False, f"{told}: voxel {proof.worst_at} is {proof.worst:.3g} times as far as rounding allows"
    )


def _shape(info: VolumeInfo) -> str:
    return f"{'x'.join(map(str, info.shape))} {info.dtype.name}"
