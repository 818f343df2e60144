"""What will a kernel do to a volume?  Brightness, pattern, place, shape and range, from its taps alone; NumPy only.

With padding, strides and dilation as in the layer, and far from the borders:

* **gain**: what a constant 1 becomes.  Each of the ``s1 * s2 * s3`` phases (outputs of the same remainder) has its own
  gain, the sum of its taps over all channels; that of a filter is the mean over its phases.  1 keeps brightness.
* **checkerboard**: ``(max - min) / |mean|`` of a filter's gains over its phases.  A constant comes out with a pattern
  of the strides' period unless it is 0: Odena, Dumoulin, Olah (2016), Deconvolution and checkerboard artifacts,
  Distill, doi:10.23915/distill.00003.
* **asymmetry**: ``max |w - w flipped| / max |w|`` along an axis.
* **centroid**: the first moment of the taps, filters and channels summed, in taps; where content comes to lie.
* **rank-one error**: ``|w - a x b x c| / |w|`` for the best vectors a, b, c of a filter and a channel, by higher-order
  orthogonal iteration: De Lathauwer, De Moor, Vandewalle (2000), SIAM J. Matrix Anal. Appl. 21(4), 1324-1342.
* **bound**: ``|out| <= bound * max |in| + max |bias|``, the largest sum of ``|w|`` over phases and filters; an input
  of the taps' signs attains it.

Examples:
    >>> from conv3dt.layer.config import layer_config
    >>> axes = layer_config(filters=1, kernel_size=3, strides=2, padding="same").axes
    >>> found = examine(np.ones((3, 3, 3, 1, 1)), None, axes)
    >>> found.gain, found.checkerboard, [axis.from_edge_grid for axis in found.axes]
    (3.375, 2.074074074074074, [0.5, 0.5, 0.5])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import Axes, place
from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import Axis

Array = NDArray[np.float64]

SAME = 1e-6
"""Relative differences below this are rounding of float32: symmetric, separable."""
LEVEL = 1e-3
"""Gains that differ by less are not seen: a tenth of a percent."""
FAINTEST = 1e-3
"""A phase whose taps cancel to less than this part of their absolute sum cannot be scaled to sum to one."""
MOST_PHASES = 2**18
MOST_SIDE = 1024
PASSES = 10


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
        middle: the middle of the taps, in taps.
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
    """What `examine` found: plain values; the terms are those of the module's head.

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


def examine(
    kernel: NDArray[np.floating],
    bias: NDArray[np.floating] | None,
    axes: Axes,
    *,
    layout: str = "(k1, k2, k3, filters, channels)",
    layout_known: bool = False,
    assumed: tuple[str, ...] = (),
) -> Examination:
    """Return what the taps of a layer do.

    Args:
        kernel: ``(k1, k2, k3, filters, channels)``, finite.
        bias: ``(filters,)`` or None.
        axes: the laws of the three axes.
        layout: how the array was understood, to be passed on.
        layout_known: that was said by someone who knows; no suspicion.
        assumed: names of layer arguments that are Keras's defaults for want of better.

    Raises:
        ArgumentError: the kernel does not go with the axes, or the strides make more phases than can be looked at.
    """
    _check(kernel, axes)
    taps = kernel.astype(np.float64)
    gains = phase_sums(taps, axes)
    positive = phase_sums(np.maximum(taps, 0.0), axes)
    magnitudes = phase_sums(np.abs(taps), axes)
    by_filter = _by_filter(gains, magnitudes)
    ratios = [facts.checkerboard for facts in by_filter if facts.checkerboard is not None]
    found = Examination(
        kernel_size=(axes[0].kernel, axes[1].kernel, axes[2].kernel),
        filters=kernel.shape[3],
        channels=kernel.shape[4],
        dtype=kernel.dtype.name,
        bias=bias is not None,
        layout=layout,
        layout_known=layout_known,
        strides=(axes[0].stride, axes[1].stride, axes[2].stride),
        padding=axes[0].padding,
        output_padding=(axes[0].output_padding, axes[1].output_padding, axes[2].output_padding),
        dilation_rate=(axes[0].dilation, axes[1].dilation, axes[2].dilation),
        assumed=assumed,
        low=float(taps.min()),
        high=float(taps.max()),
        taps=taps.size,
        zeros=taps.size - int(np.count_nonzero(taps)),
        dead=tuple(np.flatnonzero(~taps.any(axis=(0, 1, 2, 4))).tolist()),
        cancellation=_cancellation(taps),
        gain=float(gains.mean()),
        checkerboard=max(ratios, default=None),
        rank_one_error=rank_one_error(taps),
        bound=float(magnitudes.max()),
        up=float(positive.max()),
        down=float((magnitudes - positive).max()),
        bias_bound=0.0 if bias is None else float(np.abs(bias.astype(np.float64)).max()),
        axes=_axes(taps, axes),
        by_filter=by_filter,
        by_phase=_by_phase(gains, axes),
    )
    return replace(found, findings=tuple(_findings(found)))


def _check(kernel: NDArray[np.floating], axes: Axes) -> None:
    sizes = tuple(axis.kernel for axis in axes)
    if kernel.ndim != 5 or kernel.shape[:3] != sizes:
        raise ArgumentError(f"kernel must be {sizes} taps by filters and channels, got shape {kernel.shape}")
    strides = tuple(axis.stride for axis in axes)
    if prod(strides) > MOST_PHASES:
        raise ArgumentError(f"strides must make at most {MOST_PHASES} phases to be examined, got {strides}")


def phase_sums(kernel: NDArray[np.floating], axes: Axes) -> Array:
    """Return what the taps of each phase sum to, channels included: ``(s1, s2, s3, filters)``; 0 where it has none.

    >>> phase_sums(np.arange(1.0, 4.0).reshape(3, 1, 1, 1, 1), (Axis(3, 2), Axis(1), Axis(1))).ravel().tolist()
    [4.0, 2.0]
    """
    sums: Array = kernel.sum(axis=4, dtype=np.float64)
    for number, axis in enumerate(axes):
        rows = [sums.take(np.array(phase.taps, np.intp), number).sum(axis=number) for phase in axis.phases()]
        sums = np.stack(rows, axis=number)
    return sums


def normalized(kernel: NDArray[np.floating], axes: Axes) -> NDArray[np.floating]:
    """Return the kernel, ``(k1, k2, k3, filters, channels)``, with each phase of each filter scaled to sum to one.

    A phase that sums to less than nothing is turned round.  Sums run over taps and channels, in float64; the type of
    the kernel stays.

    Raises:
        ArgumentError: as `examine`.
        DataError: a phase has no taps, or they cancel, so that no factor makes their sum one.
    """
    _check(kernel, axes)
    sums = phase_sums(kernel, axes)
    faint = np.abs(sums) <= FAINTEST * phase_sums(np.abs(kernel), axes)
    if faint.any():
        first, second, third, number = (int(index[0]) for index in np.nonzero(faint))
        holes = any(axis.kernel < axis.stride for axis in axes)
        raise DataError(
            f"gain cannot be made 1: the taps of phase {first},{second},{third} of filter {number} sum to "
            f"{sums[first, second, third, number]:.3g}"
            + (", for the kernel is smaller than the strides; choose a larger one" if holes else
               ", next to nothing beside their size; mend or retrain the kernel")
        )  # fmt: skip
    factors = (1 / sums)[np.ix_(*(_owners(axis) for axis in axes))]
    return (kernel * factors[..., None]).astype(kernel.dtype)


def _owners(axis: Axis) -> NDArray[np.intp]:
    """The phase of each tap."""
    owners = np.empty(axis.kernel, np.intp)
    for phase in axis.phases():
        owners[list(phase.taps)] = phase.remainder
    return owners


def _cancellation(taps: Array) -> float:
    size = float(np.abs(taps).sum())
    return 1 - abs(float(taps.sum())) / size if size else 0.0


def _by_filter(gains: Array, magnitudes: Array) -> tuple[FilterFacts, ...]:
    flat = gains.reshape(-1, gains.shape[3]).T
    sizes = magnitudes.mean(axis=(0, 1, 2))
    return tuple(
        FilterFacts(number, float(row.mean()), float(row.min()), float(row.max()), _ratio(row, size))
        for number, (row, size) in enumerate(zip(flat, sizes, strict=True))
    )


def _ratio(gains: Array, size: float) -> float | None:
    mean = abs(float(gains.mean()))
    return float(gains.max() - gains.min()) / mean if mean > SAME * size else None


def _by_phase(gains: Array, axes: Axes) -> tuple[PhaseFacts, ...]:
    counts = [[phase.count for phase in axis.phases()] for axis in axes]
    means, lows, highs = gains.mean(axis=3), gains.min(axis=3), gains.max(axis=3)
    return tuple(
        PhaseFacts(
            (i, j, k),
            counts[0][i] * counts[1][j] * counts[2][k],
            float(means[i, j, k]),
            float(lows[i, j, k]),
            float(highs[i, j, k]),
        )
        for i, j, k in np.ndindex(*gains.shape[:3])
    )


def _axes(taps: Array, axes: Axes) -> tuple[AxisFindings, AxisFindings, AxisFindings]:
    shifts: tuple[float | None, ...]
    try:
        shifts = place(axes, "centroid", taps).shift
    except ArgumentError:  # the taps cancel
        shifts = (None, None, None)
    first, second, third = (_axis(taps, number, axes[number], shifts[number]) for number in range(3))
    return first, second, third


def _axis(taps: Array, number: int, axis: Axis, centroid_shift: float | None) -> AxisFindings:
    size = np.abs(taps).max() or 1.0
    even = float(np.abs(taps - np.flip(taps, number)).max() / size)
    odd = float(np.abs(taps + np.flip(taps, number)).max() / size)
    middle = (axis.kernel - 1) / 2
    centroid = None if centroid_shift is None else (axis.crop - centroid_shift * axis.stride) / axis.dilation
    return AxisFindings(
        kernel=axis.kernel,
        stride=axis.stride,
        dilation=axis.dilation,
        crop=axis.crop,
        symmetry="symmetric" if even < SAME else "antisymmetric" if odd < SAME else "neither",
        asymmetry=even,
        middle=middle,
        centroid=None if centroid is None else _tidy(centroid),
        shift=axis.shift,
        centroid_shift=centroid_shift,
        from_middle=None if centroid is None else _tidy((centroid - middle) * axis.dilation),
        from_edge_grid=axis.drift,
    )


def _tidy(value: float) -> float:
    """The value without the rounding of float64, so that a centroid in the middle is told as such."""
    return round(value, 12) + 0.0


def rank_one_error(kernel: NDArray[np.floating]) -> float | None:
    """Return how far the worst filter and channel of a kernel is from an outer product of three vectors, 0 to 1.

    Returns None where two sides are so long that it would take minutes.

    >>> a, b = np.ones(3), np.array([1.0, 2.0, 1.0])
    >>> rank_one_error(np.einsum("i,j,k->ijk", a, b, b)[..., None, None]) < 1e-15
    True
    """
    order = np.argsort(kernel.shape[:3])[::-1]
    if kernel.shape[order[1]] > MOST_SIDE:
        return None
    sides = [kernel.shape[axis] for axis in order]
    # The longest side comes first, for its vector needs no start.
    pairs = kernel.transpose(*order, 3, 4).reshape(*sides, -1)
    step = max(2**20 // prod(sides), 1)
    return max(
        float(_rank_one_errors(np.moveaxis(pairs[..., n : n + step], -1, 0)).max())
        for n in range(0, pairs.shape[-1], step)
    )


def _rank_one_errors(pairs: NDArray[np.floating]) -> Array:
    """The relative errors of ``(n, long, middle, short)``."""
    largest = np.abs(pairs).max(axis=(1, 2, 3), keepdims=True).astype(np.float64)
    # Squares of the taps shall neither overflow nor vanish.
    pairs = np.divide(pairs, np.where(largest > 0, largest, 1), dtype=np.float64)
    second, third = _leading(pairs, 2), _leading(pairs, 3)
    for _ in range(PASSES):
        first = _unit(np.einsum("nabc,nb,nc->na", pairs, second, third, optimize=True))
        inner = np.einsum("nabc,na->nbc", pairs, first)
        second = _unit(np.einsum("nbc,nc->nb", inner, third))
        third = np.einsum("nbc,nb->nc", inner, second)  # carries the size
        size, third = third, _unit(third)
    rest = pairs - np.einsum("na,nb,nc->nabc", first, second, size, optimize=True)
    error, whole = (np.sqrt(np.square(values).sum(axis=(1, 2, 3))) for values in (rest, pairs))
    relative: Array = error / np.where(whole > 0, whole, 1)
    return relative


def _leading(pairs: NDArray[np.floating], axis: int) -> Array:
    """The leading left singular vector of each unfolding along an axis."""
    unfolded = np.moveaxis(pairs, axis, 1).reshape(len(pairs), pairs.shape[axis], -1)
    vectors: Array = np.linalg.eigh(unfolded @ unfolded.transpose(0, 2, 1)).eigenvectors[..., -1]
    return vectors


def _unit(vectors: Array) -> Array:
    lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    unit: Array = vectors / np.where(lengths > 0, lengths, 1)
    return unit


# What to say about it.


def _findings(found: Examination) -> Iterator[Finding]:
    """The findings, the worst first."""
    if found.zeros == found.taps:
        yield Finding("problem", "all taps are 0: every output is the bias alone", "look for a file that was trained")
        return
    severities = ("problem", "warning", "note")
    every = [*_about_layer(found), *_about_gain(found), *_about_place(found), *_about_values(found)]
    yield from sorted(every, key=lambda finding: severities.index(finding.severity))


def _about_layer(found: Examination) -> Iterator[Finding]:
    if "strides" in found.assumed:
        likely = _likely_stride(found)
        hint = f"; the sum of the taps fits strides {likely}" if likely else ""
        yield Finding("warning", f"strides unknown, taken as 1{hint}", f"give --strides {likely or 'N'}")
    if not found.layout_known and looks_like_torch((*found.kernel_size, found.filters, found.channels)):
        yield Finding(
            "warning",
            f"a kernel of {_by(found.kernel_size)} taps, {found.filters} filters and {found.channels} channels looks "
            "like PyTorch's (in, out, k, k, k) taken for Keras's",
            "give --layout torch",
        )
    small = [n for n, axis in enumerate(found.axes) if axis.kernel < axis.stride]
    if small:
        holes = sum(phase.taps == 0 for phase in found.by_phase)
        yield Finding(
            "problem",
            f"the kernel is smaller than the stride on {_axes_named(small)}: {holes} of {len(found.by_phase)} outputs "
            "hold the bias alone",
            f"choose a kernel of at least {_by(found.strides)}",
        )


def looks_like_torch(shape: tuple[int, ...]) -> bool:
    """Whether a kernel's five axes look like torch's ``(in, out, k, k, k)``: three alike at the end, not all five.

    >>> looks_like_torch((4, 8, 3, 3, 3)), looks_like_torch((3, 3, 3, 8, 4))
    (True, False)
    """
    return shape[2] == shape[3] == shape[4] > 1 and len(set(shape)) > 1


def _likely_stride(found: Examination) -> int | None:
    """The stride at which every filter would have gain 1, if there is one."""
    for stride in range(2, 1 + min(4, *found.kernel_size)):
        if all(abs(facts.gain / stride**3 - 1) < LEVEL for facts in found.by_filter):
            return stride
    return None


def _about_gain(found: Examination) -> Iterator[Finding]:
    if found.dead:
        some = ", ".join(map(str, found.dead[:8])) + (", ..." if len(found.dead) > 8 else "")
        yield Finding("warning", f"filters of zeros only: {some}", "leave them out: they give the bias alone")
    gains = [facts.gain for facts in found.by_filter if facts.filter not in found.dead]
    holes = any(phase.taps == 0 for phase in found.by_phase)
    # Of several channels the gain is that of the same constant in all of them, which no network sees.
    if found.channels == 1 and "strides" not in found.assumed and max(abs(gain - 1) for gain in gains) > LEVEL:
        yield Finding(
            "warning",
            f"the gain is {_span(gains)}, not 1: a constant comes out as another",
            "none while there are holes" if holes else "--normalize-gain FILE writes a kernel of gain 1",
        )
    if found.checkerboard is not None and found.checkerboard > LEVEL and not holes:
        uneven = [n for n, axis in enumerate(found.axes) if axis.kernel % axis.stride and axis.stride > 1]
        size = tuple(-(-axis.kernel // axis.stride) * axis.stride for axis in found.axes)
        ratio = found.checkerboard
        much = f"{100 * ratio:.3g} % of" if ratio < 1 else f"{ratio:.3g} times"
        yield Finding(
            "warning",
            f"checkerboard: the gains of the phases differ by {much} their mean"
            + (f" (the kernel is no multiple of the stride on {_axes_named(uneven)})" if uneven else ""),
            (f"train with a kernel of {_by(size)}, or " if uneven else "")
            + "level it with --normalize-gain FILE"
            + (", which changes what was learned" if found.channels > 1 else ""),
        )


def _about_place(found: Examination) -> Iterator[Finding]:
    off = [n for n, axis in enumerate(found.axes) if axis.from_edge_grid]
    if off and found.padding == "same" and "strides" not in found.assumed:
        size = tuple(_aligned(axis) for axis in found.axes)
        lies = sorted({found.axes[n].from_edge_grid for n in off})
        yield Finding(
            "warning",
            f"outputs lie {' or '.join(f'{value:+g}' for value in lies)} voxels off the edge-aligned grid on "
            f"{_axes_named(off)}",
            f"keep --align kernel, so that the header says so, or use a kernel of {_by(size)}",
        )
    # Where taps of both signs nearly cancel, their moment is a quotient of small numbers and says nothing.
    if found.cancellation > 0.5:
        return
    beside = [n for n, axis in enumerate(found.axes) if abs(axis.from_middle or 0.0) > 0.01]
    if beside:
        lies_at = ", ".join(f"{found.axes[n].from_middle:+.3g}" for n in beside)
        yield Finding(
            "warning",
            f"the centre of mass lies {lies_at} output voxels from the middle of the taps on {_axes_named(beside)}",
            "--align centroid puts the header where the content lies",
        )


def _aligned(axis: AxisFindings) -> int:
    """The next size that under ``same`` keeps the faces: not smaller than the stride, and odd or even as it is."""
    least = max((axis.kernel - 1) * axis.dilation + 1, axis.stride)
    return least + (least - axis.stride) % 2


def _about_values(found: Examination) -> Iterator[Finding]:
    if found.channels == 1 and found.bound > 1 + LEVEL and "strides" not in found.assumed:
        below = " (and below 0 where no input is)" if found.down > 0 else ""
        yield Finding(
            "note",
            f"outputs can reach {found.bound:.4g} times the largest input{below}",
            "integers may be clipped; --dtype float32 keeps all",
        )
    if found.separable and sum(axis.kernel > 1 for axis in found.axes) > 1:
        yield Finding("note", "separable: an outer product of three vectors", "three passes along the axes would do")


def _axes_named(numbers: list[int]) -> str:
    return ("axis " if len(numbers) == 1 else "axes ") + ", ".join(map(str, numbers))


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if high - low <= LEVEL * abs(high) else f"{low:.4g} to {high:.4g}"


def _by(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))
