"""Which numbers may stand in the file for a sum between two ends?  Activation, rounding and clipping of both ends.

Each step keeps the order of numbers, so what became of anything between the ends lies between what becomes of them.
Ends that are `OPEN` mean that nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine.finish import Storage, float_limits
from conv3dt.layer.activation import activation_parts
from conv3dt.layer.concrete import Layer
from conv3dt.layer.response import ACROSS_FILTERS, response
from conv3dt.proof.rounding import OPEN

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Ends = tuple[Array, Array, Array]
"""The exact value, and the least and greatest that may have been computed; each ``(filters, o1, o2, o3)``."""

STEPS, STEPS_BEFORE, STEPS_SCALING = 16, 4, 4
"""Roundings that an activation may take, those that may shift what it is given, and those of slope and intercept."""

OUTSIDE, MOST = 1.01, 1e9
"""The least and the greatest miss of a number that may not stand there."""


@dataclass(frozen=True, slots=True)
class Precision:
    """The type of the sums, and how far one of its roundings may go."""

    compute: np.dtype[np.floating]
    unit: float

    @property
    def tiny(self) -> float:
        """Numbers smaller than that may be taken for zero."""
        return float(np.finfo(self.compute).tiny)


def activated(layer: Layer, ends: Ends, precision: Precision) -> Ends:
    """Return what the activation makes of sums."""
    text = layer.config.activation
    if text == "linear" or (layer.argmax and text in ACROSS_FILTERS):  # the largest sum is the largest share
        return ends
    value, low, high = ends
    nan, unclaimed = np.isnan(value), _unclaimed(ends)
    if text in ACROSS_FILTERS:  # an infinite filter makes NaN of all
        nan |= (nan | (value == np.inf)).any(axis=0) | (value == -np.inf).all(axis=0)
        unclaimed |= unclaimed.any(axis=0)
    alpha = None if layer.alpha is None else layer.alpha.astype(np.float64)
    exact = text in ("relu", "relu6")  # these choose
    before = 0.0 if exact else _slack_before(text, value, precision)
    least, greatest = response(text, low - before, high + before, alpha)
    middle = response(text, value, value, alpha)[0]
    if not exact:
        after = _slack_after(text, value, np.maximum(np.abs(least), np.abs(greatest)), precision)
        least, greatest = least - after, greatest + after
        unclaimed |= np.isinf(value)  # where some libraries have a limit, and others NaN
    return _marked((middle, least, greatest), nan, unclaimed)


def _slack_before(text: str, value: Array, precision: Precision) -> Array:
    """How far a function's rounded numbers, and its first steps, may seem to shift its argument."""
    numbers = [abs(number) for number in activation_parts(text)[1].values() if number]
    size = np.abs(np.where(np.isfinite(value), value, 0.0))
    if text in ACROSS_FILTERS:
        size = size + size.max(axis=0)
    return np.asarray(STEPS_BEFORE * precision.unit * (size + max(numbers, default=0.0)))


def _slack_after(text: str, value: Array, size: Array, precision: Precision) -> Array:
    given = np.abs(np.where(np.isfinite(value), value, 0.0))
    if text.startswith("gelu"):  # 1 + erf(x) cancels
        size = np.maximum(size, given)
    if text == "log_softmax":  # the logarithm of a sum that is about 1
        size = np.maximum(size, 1.0)
    steps = STEPS + (len(value) if text in ACROSS_FILTERS else 0)
    lost = precision.tiny * (1 + given)  # a factor that is too small for a number
    return np.where(np.isfinite(size), steps * precision.unit * size + lost, 0.0)


def misses(stored: NDArray[np.generic], ends: Ends, storage: Storage, precision: Precision) -> Array:
    """Return how far stored numbers are from the exact ones, as parts of what rounding allows.

    Args:
        stored: ``(filters, o1, o2, o3)``.
        ends: real values.
        storage: what a stored number means.
        precision: of the computation.

    Returns:
        Where the number may stand there, how much of the computation's margin it takes to round to it, 0 to 1.  Else
        how many times as far off it is as it may be, `OUTSIDE` to `MOST`; `MOST` for NaN in the place of a number.
    """
    found, unclaimed, nan = stored.astype(np.float64), _unclaimed(ends), np.isnan(ends[0])
    with np.errstate(all="ignore"):
        value, low, high = _scaled(ends, storage, precision)
        least, greatest = (_as_stored(end, storage, precision) for end in (low, high))
        if storage.limits is not None:
            bottom, top = storage.limits
            value, low, high = (np.clip(end, bottom, top) for end in (value, low, high))
            half = 0.5
        else:
            half = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(storage.dtype)).astype(np.float64) / 2
        distance, margin = np.abs(found - value), np.maximum(high - value, value - low)
        used = np.fmax(distance - half, 0.0) / margin
        beyond = np.fmin(np.fmax(distance / (margin + half), OUTSIDE), MOST)
    inside = (least <= found) & (found <= greatest)
    parts = np.where(inside, np.fmin(np.nan_to_num(used), 1.0), beyond)
    parts = np.where(np.isnan(found) | (~inside & np.isnan(distance)), MOST, parts)
    stands_for_nan = np.isnan(found) if storage.limits is None else found == storage.nought
    parts = np.where(nan, np.where(stands_for_nan, 0.0, MOST), parts)
    return np.where(unclaimed, 0.0, parts)


def misses_of_labels(stored: NDArray[np.generic], ends: Ends, precision: Precision) -> Array:
    """Return, likewise, how far the filters named by labels ``(1, o1, o2, o3)`` are from being the largest.

    Of equals the first is the largest, and NaN is the smallest.
    """
    with np.errstate(over="ignore"):  # numbers that are too large are equal
        low, high = (end.astype(precision.compute).astype(np.float64) for end in ends[1:])
    low, high = (np.where(np.isnan(end), -np.inf, end) for end in (low, high))
    label, numbers = stored[0].astype(np.float64), np.arange(len(low))
    known = (label >= 0) & (label < len(low)) & (label == np.rint(label))
    own = np.where(known, label, 0).astype(np.intp)
    own_low, own_high = (np.take_along_axis(end, own[None], axis=0) for end in (low, high))
    earlier = numbers[:, None, None, None] < own
    beaten = np.where(earlier, low >= own_high, low > own_high)
    beaten[numbers[:, None, None, None] == own] = False
    with np.errstate(all="ignore"):
        part = ((low + high) - (own_low + own_high)) / ((high - low) + (own_high - own_low))
        part = np.where(beaten, np.fmin(np.fmax(part, OUTSIDE), MOST), np.fmax(np.fmin(part, 1.0), 0.0))
    part = np.where(np.isnan(part), np.where(beaten, MOST, 0.0), part).max(axis=0)
    return np.asarray(np.where(known, part, MOST)[None])


def _scaled(ends: Ends, storage: Storage, precision: Precision) -> Ends:
    """Stored numbers before they are rounded."""
    if (storage.slope, storage.inter) == (1.0, 0.0):
        return ends
    value, low, high = ((end - storage.inter) / storage.slope for end in ends)
    size = np.where(np.isfinite(ends[0]), np.abs(ends[0]), 0.0) + abs(storage.inter)
    slack = STEPS_SCALING * precision.unit * size / abs(storage.slope)
    return value, np.minimum(low, high) - slack, np.maximum(low, high) + slack


def _as_stored(values: Array, storage: Storage, precision: Precision) -> Array:
    """Rounded half to even and clipped, or rounded to a type of floats; NaN stays."""
    if storage.limits is None:
        return values.astype(precision.compute).astype(storage.dtype).astype(np.float64)
    low, high = float_limits(storage, np.float64)
    return np.asarray(np.clip(np.rint(values), low, high))


def _unclaimed(ends: Ends) -> Mask:
    return np.asarray((ends[1] == -np.inf) & (ends[2] == np.inf))


def _marked(ends: Ends, nan: Mask, unclaimed: Mask) -> Ends:
    for end, open_end in zip(ends, OPEN, strict=True):
        end[unclaimed], end[nan] = open_end, np.nan
    return ends
