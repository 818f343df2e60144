"""What is found out about a kernel?  Plain values; the terms are those of `conv3dt.doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SAME = 1e-6
"""Relative differences below this are rounding of float32: symmetric, separable."""
LEVEL = 1e-3
"""Gains that differ by less are not seen: a tenth of a percent."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: ``severity`` is problem, warning or note; ``advice`` says what to do."""

    severity: str
    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class FilterFacts:
    """The gain of one filter, and the lowest and highest over its phases; ``checkerboard`` None where it cancels."""

    filter: int
    gain: float
    lowest: float
    highest: float
    checkerboard: float | None


@dataclass(frozen=True, slots=True)
class PhaseFacts:
    """The outputs of one remainder: how many taps of one channel make them, and their gains over the filters."""

    remainder: tuple[int, int, int]
    taps: int
    gain: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class AxisFindings:
    """One axis of a kernel.

    Attributes:
        kernel, stride, dilation, crop: its law; ``crop`` outputs are dropped before the first.
        symmetry: symmetric, antisymmetric or neither; asymmetry: how far from symmetric.
        middle: the middle of the taps from the first that is not zero to the last, in taps.
        centroid: their first moment, in taps; None where they cancel.
        shift: the input index at which output voxel 0 lies by the middle of the taps; centroid_shift: by the centroid.
        from_middle: output voxels by which content lies further along the axis than the middle of the taps says.
        from_edge_grid: output voxels by which the middle lies further along than on the grid that keeps the first face.
    """

    kernel: int
    stride: int
    dilation: int
    crop: int
    symmetry: str
    asymmetry: float
    middle: float
    centroid: float | None
    shift: float
    centroid_shift: float | None
    from_middle: float | None
    from_edge_grid: float


@dataclass(frozen=True, slots=True)
class Examination:
    """What `examine` found: plain values; the terms are those of `conv3dt.doctor`.

    Attributes:
        layout: how the file's array was understood; layout_known: whether that was said, and not taken for granted.
        assumed: names of what nobody said of the layer, and was taken to be as Keras's defaults.
        low, high: the range of the taps; zeros: how many of them are 0; dead: filters without any other.
        cancellation: the part of the taps' size that is lost in their sum: 0 for taps of one sign, 1 for a sum of 0.
        gain: the mean of the filters'; checkerboard: the worst of them, None where all cancel.
        rank_one_error: the worst over filters and channels; None for sides too long to try.
        up, down: what the bound is for inputs that are never negative: ``-down * max(in) <= out <= up * max(in)``.
    """

    kernel_size: tuple[int, int, int]
    filters: int
    channels: int
    dtype: str
    bias: bool
    layout: str
    layout_known: bool
    strides: tuple[int, int, int]
    padding: str
    output_padding: tuple[int | None, int | None, int | None]
    dilation_rate: tuple[int, int, int]
    assumed: tuple[str, ...]
    low: float
    high: float
    taps: int
    zeros: int
    dead: tuple[int, ...]
    cancellation: float
    gain: float
    checkerboard: float | None
    rank_one_error: float | None
    bound: float
    up: float
    down: float
    bias_bound: float
    axes: tuple[AxisFindings, AxisFindings, AxisFindings]
    by_filter: tuple[FilterFacts, ...]
    by_phase: tuple[PhaseFacts, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def separable(self) -> bool:
        """Whether each filter and channel is an outer product of three vectors, but for rounding."""
        return self.rank_one_error is not None and self.rank_one_error < SAME

    def as_dict(self) -> dict[str, Any]:
        """Return the examination as plain dicts, tuples, strings and numbers."""
        return asdict(self) | {"separable": self.separable}
