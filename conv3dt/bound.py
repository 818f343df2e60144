"""Which numbers can come out of a layer, and which slope makes integers of them?  Known before a voxel is computed.

An output voxel is a sum over the taps of its phase, so the greatest it can be is reached when every positive tap meets
the greatest input and every negative tap the least.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, frexp, inf, isfinite, ldexp
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.errors import ArgumentError, DataError
from conv3dt.layer.response import ACROSS_FILTERS, response

if TYPE_CHECKING:
    from conv3dt.geometry import Axis
    from conv3dt.io.volume import VolumeInfo
    from conv3dt.layer.concrete import Layer

Array = NDArray[np.float64]

SLOPE_BITS, ZERO_BITS = 16, 8
"""Binary digits of a slope and of the integer that stands for zero: their product is exact in a header's float32."""
MOST_CODES = 2**52
"""Integers beyond are not used: they are rounded on the way."""
LEAST, GREATEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def output_bounds(layer: Layer, low: float, high: float) -> tuple[float, float]:
    """Return the least and the greatest value of a layer's output over all volumes of values from ``low`` to ``high``.

    Both are reached by some volume (but for softmax, whose filters are taken as free of each other, and where
    ``boundary`` is ``zero`` and 0 is not between ``low`` and ``high``: then every tap is taken to be free to meet it).
    They are sums in float64; what is computed may exceed them by its rounding.

    Args:
        layer: its boundary counts: outside the volume, ``zero`` is met too.
        low, high: of the input, as real values.

    Raises:
        ArgumentError: the output is a label, or an activation of which nothing is known beforehand.
        DataError: ``low`` and ``high`` are no range, or the output has no end.

    Examples:
        >>> from conv3dt.request import LayerRequest
        >>> output_bounds(LayerRequest(kernel="linear").concrete(1), 0, 255)
        (0.0, 255.0)
    """
    if layer.argmax:
        raise ArgumentError("reduce argmax makes labels, which have no range; leave rescale out")
    _check_range(low, high, "the input")
    if layer.boundary == "zero":
        low, high = min(low, 0.0), max(high, 0.0)
    sums = _sums(layer, low, high)
    activation = layer.config.activation
    if layer.per_channel and activation == "softmax":
        return 0.0, 1.0  # how many channels there are, the layer does not know
    if layer.per_channel and activation in ACROSS_FILTERS:
        raise ArgumentError(f"activation {activation} per channel has no bounds; leave rescale out")
    ends = response(activation, *sums, None if layer.alpha is None else layer.alpha.astype(np.float64))
    found = float(ends[0].min()), float(ends[1].max())
    if not (isfinite(found[0]) and isfinite(found[1])):
        raise DataError(
            f"weights {layer.name}: with activation {activation}, inputs from {low:.6g} to {high:.6g} may come out as "
            f"large as no number is; leave rescale out"
        )
    return found


def scaling(dtype: np.dtype[Any], low: float, high: float) -> tuple[float, float]:
    """Return the finest slope, and the intercept, with which integers of a type hold values from ``low`` to ``high``.

    ``value = slope * stored + inter``.  The slope is as fine as the type allows, however few numbers the input had:
    that is what rescaling is for.  Both are exact in float32, as NIfTI-1 keeps them, and the ends lie at least half a
    step within the type, so that no rounding clips them.

    A range that holds zero, or lies no further from it than it is long, gets a scale with zero on it: background stays
    exactly 0, at the price of a binary digit or two.  Then the intercept is 0 too, and stored numbers are proportional
    to values, unless the type is unsigned and there are negative values.  Other ranges get a scale of their own.

    Args:
        dtype: of integers.
        low, high: the range, such as `output_bounds` gives it.

    Raises:
        ArgumentError: the type is not one of integers.
        DataError: no such slope exists: the range is empty or endless, or its slope is no float32.

    Examples:
        >>> scaling(np.dtype("int16"), 0, 32767), scaling(np.dtype("uint8"), -1, 254)
        ((1.0, 0.0), (1.0, -1.0))
    """
    if dtype.kind not in "iu":
        raise ArgumentError(f"rescale is for integers, got dtype {dtype}; say dtype int16, uint16 or uint8")
    low, high = float(low), float(high)
    _check_range(low, high, "the output")
    if low == high:
        raise DataError(f"every output voxel would be {low:.6g}: a slope needs a range; leave rescale out")
    bottom, top = (max(min(int(end), MOST_CODES), -MOST_CODES) for end in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    whole = min(low, 0.0), max(high, 0.0)
    if whole[1] - whole[0] > 2 * (high - low):
        slope, inter = _far_from_zero(low, high, bottom, top)
    else:
        slope, inter = _around_zero(*whole, bottom, top)
    if not (LEAST <= slope <= GREATEST and abs(inter) <= GREATEST):
        raise DataError(
            f"no slope of a header (float32) makes {dtype} of values from {low:.6g} to {high:.6g}; say dtype float64"
        )
    return slope, inter


def input_range(info: VolumeInfo) -> tuple[float, float] | None:
    """Return the least and the greatest value that a volume can hold by its type, slope and intercept.

    Returns None for floats: only their voxels tell.
    """
    if info.dtype.kind == "b":
        limits = 0, 1
    elif info.dtype.kind in "iu":
        limits = int(np.iinfo(info.dtype).min), int(np.iinfo(info.dtype).max)
    else:
        return None
    ends = [info.slope * end + info.inter for end in limits]
    return min(ends), max(ends)


def _check_range(low: float, high: float, what: str) -> None:
    if not (isfinite(low) and isfinite(high) and low <= high and isfinite(2 * (high - low))):
        raise DataError(f"{what} must lie in a finite range, got {low:.6g} to {high:.6g}; leave rescale out")


def _sums(layer: Layer, low: float, high: float) -> tuple[Array, Array]:
    """The least and the greatest sums, bias included: ``(filters, phases)``."""
    taps = layer.kernel.astype(np.float64)
    positive, negative = (_phase_sums(part, layer.config.axes) for part in (np.maximum(taps, 0), np.minimum(taps, 0)))
    bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64)[:, None]
    with np.errstate(over="ignore"):
        return positive * low + negative * high + bias, positive * high + negative * low + bias


def _phase_sums(taps: Array, axes: tuple[Axis, Axis, Axis]) -> Array:
    """What the taps of each phase sum to, channels included: ``(filters, phases)``; phases with the same taps once."""
    sums: Array = taps.sum(axis=4)
    for number, axis in enumerate(axes):
        sets = sorted({phase.taps for phase in axis.phases()})
        sums = np.stack([sums.take(np.array(each, np.intp), number).sum(axis=number) for each in sets], axis=number)
    return sums.reshape(-1, sums.shape[3]).T


def _around_zero(low: float, high: float, bottom: int, top: int) -> tuple[float, float]:
    """A scale on which zero is a stored number: 0 itself, if the type has negative numbers or needs none."""
    if bottom < 0 or low == 0:
        return _rounded(ceil, max(high / top, low / bottom if bottom else 0.0), 24), 0.0
    most = top - 1 if high > 0 else top
    zero = int(_rounded(floor, min(max(top * (-low / (high - low)), 1.0), most), ZERO_BITS))
    slope = _rounded(ceil, max(high / (top - zero) if high > 0 else 0.0, -low / zero), SLOPE_BITS)
    return slope, -slope * zero


def _far_from_zero(low: float, high: float, bottom: int, top: int) -> tuple[float, float]:
    """A scale on which 0 is stored for the middle of the range, or for its beginning if the type is unsigned."""
    with np.errstate(over="ignore"):  # an endless intercept is refused by the caller
        inter = np.float32(low / 2 + high / 2 if bottom else low)
        if bottom == 0 and float(inter) > low:
            inter = np.nextafter(inter, np.float32(-inf))
    start = float(inter)
    slope = max((high - start) / top, (low - start) / bottom if bottom else 0.0)
    return (_rounded(ceil, slope, 24) if isfinite(slope) else slope), start


def _rounded(how: Callable[[float], int], value: float, bits: int) -> float:
    """A positive number rounded, up or down, to so many binary digits.

    >>> _rounded(ceil, 257, 8), _rounded(floor, 0.1, 3)
    (258.0, 0.09375)
    """
    fraction, exponent = frexp(value)
    return ldexp(how(ldexp(fraction, bits)), exponent - bits)
