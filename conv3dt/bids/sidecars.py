"""What does a derivative say of an image?  What is still true of its source, and what was done to it; values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conv3dt.bids.choose import LABELS
from conv3dt.bids.dataset import Dataset, Image
from conv3dt.bids.description import link_name, uri
from conv3dt.record import KEY

if TYPE_CHECKING:
    from conv3dt.job import Job

_ANEW = (
    "Description",
    "Sources",
    "RawSources",
    "Resolution",
    "SpatialReference",
    "SkullStripped",
    "IntendedFor",
    KEY,
)
_OF_SLICES = ("SliceTiming", "SliceThickness", "SpacingBetweenSlices", "NumberOfSlices")
_OF_GRID = ("PixelSpacing", "PixelSize", "Rows", "Columns", "VoxelSize")
_OF_PHASE = ("BandwidthPerPixelPhaseEncode", "ReconMatrixPE", "WaterFatShift")
_ECHO_SPACING = ("EffectiveEchoSpacing", "EstimatedEffectiveEchoSpacing")
_READOUT_TIME = ("TotalReadoutTime", "EstimatedTotalReadoutTime")


@dataclass(frozen=True, slots=True)
class Upsampling:
    """What was done to an image, axes i, j, k.

    Attributes:
        strides: of the layer.
        kernel: its name.
        shape, output_shape: voxels before and after.
        spacing, output_spacing: size of a voxel before and after, in ``unit``; None where the file has none.
    """

    strides: tuple[int, int, int]
    kernel: str
    shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    spacing: tuple[float, ...] | None = None
    output_spacing: tuple[float, ...] | None = None
    unit: str = "mm"

    def is_new(self, axis: int) -> bool:
        """Whether the voxels along an axis are others than before."""
        return self.strides[axis] != 1 or self.shape[axis] != self.output_shape[axis]


def upsampling_of(job: Job) -> Upsampling:
    """Return what a job does to an image."""
    return Upsampling(
        job.layer.config.strides,
        job.layer.name,
        job.source.space,
        job.target.space,
        job.source.spacing,
        job.target.spacing,
        job.source.unit,
    )


def sidecar(
    metadata: Mapping[str, Any],
    *,
    dataset: Dataset,
    image: Image,
    upsampling: Upsampling,
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the sidecar of an upsampled image: what it is, what is still true of its source, and the record.

    Left out of what is said of the source is what new voxels make untrue: times and thickness of slices where slices
    are new, sizes of pixels and matrices.  References to files become BIDS URIs.

    `EffectiveEchoSpacing` and `TotalReadoutTime` are put for the new voxels along the phase encoding, so that
    distortion stays what it is in mm: of a field f, it is f x spacing x N voxels (N voxels along the axis), and BIDS
    has ``TotalReadoutTime = EffectiveEchoSpacing x (N - 1)``.

    Args:
        metadata: of the source, see `inherit.metadata`.
        dataset: of the source.
        image: the source.
        upsampling: what was done.
        record: what proves it; goes under its own key.
    """
    told: dict[str, Any] = {
        "Description": _description(image, upsampling),
        "Sources": [uri(dataset, image.path)],
        "Resolution": _resolution(upsampling),
        "SpatialReference": _spatial_reference(metadata, dataset, image),
    }
    if image.name.suffix not in LABELS:
        told["SkullStripped"] = metadata.get("SkullStripped") is True
    if (intended := _as_uris(metadata.get("IntendedFor"), dataset, f"{image.path.split('/')[0]}/")) is not None:
        told["IntendedFor"] = intended
    told |= _still_true(metadata, upsampling)
    return told if record is None else told | {KEY: dict(record)}


def _description(image: Image, upsampling: Upsampling) -> str:
    strides = " x ".join(map(str, upsampling.strides))
    return f"{image.name.suffix} upsampled by transposed convolution: kernel {upsampling.kernel}, strides {strides}."


def _resolution(upsampling: Upsampling) -> str:
    before, after = _times(upsampling.shape), _times(upsampling.output_shape)
    if upsampling.spacing is not None and upsampling.output_spacing is not None:
        before += f" of {_times(upsampling.spacing)} {upsampling.unit}".rstrip()
        after += f" of {_times(upsampling.output_spacing)} {upsampling.unit}".rstrip()
    return f"Upsampled {_times(upsampling.strides)} times: {after} voxels, from {before} voxels."


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)


def _spatial_reference(metadata: Mapping[str, Any], dataset: Dataset, image: Image) -> Any:
    """What the image is aligned with: what its source says; else the source if it is in a named space, else itself."""
    given = metadata.get("SpatialReference")
    if isinstance(given, Mapping):
        return {key: _reference(value, dataset) for key, value in given.items()}
    if isinstance(given, str):
        return _reference(given, dataset)
    return "orig" if image.name.get("space") is None else uri(dataset, image.path)


def _reference(value: Any, dataset: Dataset) -> Any:
    return value if value == "orig" else _as_uris(value, dataset, "")


def _as_uris(value: Any, dataset: Dataset, folder: str) -> Any:
    """References to files of the dataset as URIs: paths from ``folder``, and URIs that say no name of a dataset."""
    if isinstance(value, list):
        return [_as_uris(one, dataset, folder) for one in value]
    if not isinstance(value, str):
        return None
    if value.startswith("bids::"):
        return f"bids:{link_name(dataset)}:{value.removeprefix('bids::')}"
    return value if ":" in value else uri(dataset, folder + value.lstrip("/"))


def _still_true(metadata: Mapping[str, Any], upsampling: Upsampling) -> dict[str, Any]:
    untrue = {*_ANEW}
    new = [upsampling.is_new(axis) for axis in range(3)]
    phase, slices = _axis(metadata, "PhaseEncodingDirection"), _axis(metadata, "SliceEncodingDirection")
    if new[2 if slices is None else slices]:
        untrue |= {*_OF_SLICES}
    if any(new):
        untrue |= {*_OF_GRID}
    kept = dict(metadata)
    if any(new) if phase is None else new[phase]:
        untrue |= {*_OF_PHASE}
        scaled = {} if phase is None else _phase_times(metadata, upsampling, phase)
        untrue |= {*_ECHO_SPACING, *_READOUT_TIME} - set(scaled)
        kept |= scaled
    return {key: value for key, value in kept.items() if key not in untrue}


def _axis(metadata: Mapping[str, Any], key: str) -> int | None:
    """The axis that a direction such as ``j-`` names."""
    value = metadata.get(key)
    return "ijk".index(value[0]) if isinstance(value, str) and value in ("i", "i-", "j", "j-", "k", "k-") else None


def _phase_times(metadata: Mapping[str, Any], upsampling: Upsampling, axis: int) -> dict[str, float]:
    """Echo spacings and readout times for the voxels after, from those before: f x time x voxels' size is the same."""
    before, after = upsampling.shape[axis], upsampling.output_shape[axis]
    echo = upsampling.strides[axis] * before / after
    factors = dict.fromkeys(_ECHO_SPACING, echo)
    if before > 1:
        factors |= dict.fromkeys(_READOUT_TIME, echo * (after - 1) / (before - 1))
    return {key: _short(metadata[key] * factor) for key, factor in factors.items() if _is_time(metadata.get(key))}


def _short(value: float) -> float:
    return float(f"{value:.12g}")


def _is_time(value: Any) -> bool:
    """Whether a value can be a time, in seconds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6
