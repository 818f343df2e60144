"""What do the taps of a layer sum to, and where do they lie?  And how is each phase scaled to sum to one?"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import Axes, place
from conv3dt.doctor.advice import findings
from conv3dt.doctor.facts import SAME, AxisFindings, Examination, FilterFacts, PhaseFacts
from conv3dt.doctor.rank_one import rank_one_error
from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import Axis

Array = NDArray[np.float64]

FAINTEST = 0.05
"""A phase whose taps cancel to less than this part of their absolute sum is not scaled to sum to one: it makes edges,
not brightness, and would be blown up."""
MOST_PHASES = 2**18


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
    return replace(found, findings=tuple(findings(found)))


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

    Sums run over taps and channels, in float64; the type of the kernel stays.

    Raises:
        ArgumentError: as `examine`.
        DataError: a phase has no taps, or they cancel or sum to less than nothing: then it does not interpolate.
    """
    _check(kernel, axes)
    sums = phase_sums(kernel, axes)
    sizes = phase_sums(np.abs(kernel), axes)
    faint = sums <= FAINTEST * sizes
    if faint.any():
        place = tuple(int(index[0]) for index in np.nonzero(faint))
        phase = ",".join(map(str, place[:3]))
        why = (
            "the kernel is smaller than the strides; choose a larger one"
            if any(axis.kernel < axis.stride for axis in axes)
            else f"beside a size of {sizes[place]:.3g}: it finds edges and does not interpolate; use it as it is"
        )
        raise DataError(
            f"gain cannot be made 1: the taps of phase {phase} of filter {place[3]} sum to {sums[place]:.3g}, {why}"
        )
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
    middles = place(axes, "kernel", taps).shift
    first, second, third = (_axis(taps, n, axes[n], middles[n], shifts[n]) for n in range(3))
    return first, second, third


def _axis(taps: Array, number: int, axis: Axis, shift: float, centroid_shift: float | None) -> AxisFindings:
    size = np.abs(taps).max() or 1.0
    even = float(np.abs(taps - np.flip(taps, number)).max() / size)
    odd = float(np.abs(taps + np.flip(taps, number)).max() / size)
    middle = (axis.crop - shift * axis.stride) / axis.dilation
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
        shift=shift,
        centroid_shift=centroid_shift,
        from_middle=None if centroid is None else _tidy((centroid - middle) * axis.dilation),
        from_edge_grid=(1 - axis.stride) / 2 - shift * axis.stride,
    )


def _tidy(value: float) -> float:
    """The value without the rounding of float64, so that a centroid in the middle is told as such."""
    return round(value, 12) + 0.0
