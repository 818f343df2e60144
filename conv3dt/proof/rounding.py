"""How far may a sum that was computed with so many digits lie from the exact one?  Nothing is guessed or measured.

A sum of ``n`` products, each factor and each product and each sum rounded to nearest, in whatever order, fused or not,
lies within ``gamma(n) * sum of |x| |w|`` of the exact one, ``gamma(n) = n u / (1 - n u)`` for unit roundoff ``u``:
Higham (2002), Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 3.1 and 4.2.  One more rounding each is
for the weight and for the bias.  Where every product and every partial sum is a whole number of the same power of two
and small enough, nothing is rounded at all, and nothing is allowed.  On a GPU the factors may have been cut off
before, and sums of 16 bits behind: see `precision`.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine.precision import LEAST, cut_off
from conv3dt.engine.separable import PASSES, ROUNDINGS
from conv3dt.layer.concrete import Layer
from conv3dt.proof.definition import Correlation, Meetings, filled_up

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

OPEN = (0.0, -np.inf, np.inf)
"""Value and ends of a sum of which nothing is claimed."""


class Sums:
    """The sums of a layer, bias included, and how far computed ones may lie from them."""

    def __init__(self, layer: Layer, compute: np.dtype[np.floating], precision: str = "fp32") -> None:
        """``compute``: the type in which sums were added; ``precision``: of the factors, on a GPU."""
        facts, kernel = np.finfo(compute), layer.kernel.astype(np.float64)
        self._layer, self._facts, size = layer, facts, np.abs(kernel)
        self.unit = float(facts.eps) / 2 + 2.0**-53  # the definition is summed in float64
        lowered = precision != "fp32" and compute == np.float32
        self._cut, self._least = (cut_off(precision), LEAST[precision]) if lowered else (0.0, 0.0)
        self._tiny = float(facts.tiny)  # numbers smaller than that may be taken for zero
        self._in_passes = _may_be_in_passes(layer)
        error = 2 * float(facts.eps) ** 2 * float(size.max()) if self._in_passes else 0.0
        self._tap_error = error + self._tiny
        self._kernel, self._size = filled_up(kernel), filled_up(size)
        self._ones = filled_up(np.ones((*kernel.shape[:3], 1, kernel.shape[4])))
        self._largest, self._gain = float(size.max()), float(size.sum(axis=(0, 1, 2, 4)).max())
        bias = np.zeros(1) if layer.bias is None else layer.bias.astype(np.float64)
        self._bias = bias.reshape(-1, 1, 1, 1)
        self._bits, self._bias_bits = fraction_bits(kernel), fraction_bits(bias)

    def between(
        self, axes: tuple[Meetings, Meetings, Meetings], block: Array, doubt: Array | None
    ) -> tuple[Array, Array, Array]:
        """Return ``(value, low, high)``, each ``(filters or channels, o1, o2, o3)``.

        Args:
            axes: what the outputs of a box meet.
            block: ``(channels, n1, n2, n3)``, real values.
            doubt: how far each value may be from what the layer is given, in units of roundoff; None if not at all.

        All three are NaN where the sum is, and `OPEN` where nothing is claimed of it.
        """
        correlation = Correlation(axes, per_channel=self._layer.per_channel)
        finite = np.isfinite(block)
        known = np.where(finite, block, 0.0)
        with np.errstate(all="ignore"):
            value = correlation.sums(known, self._kernel) + self._bias
            magnitude = correlation.sums(np.abs(known), self._size) + np.abs(self._bias)
            margin = self._margin(correlation, known, magnitude, doubt)
            ends = value, value - margin, value + margin
            for end, open_end in zip(ends, OPEN, strict=True):  # where sums on the way may have no end
                end[~(margin + magnitude < float(self._facts.max) / 4)] = open_end
        if not finite.all():
            self._endless(correlation, block, ends)
        return ends

    def _margin(self, correlation: Correlation, block: Array, magnitude: Array, doubt: Array | None) -> Array:
        channels = 1 if self._layer.per_channel else len(block)
        terms = correlation.terms * channels + 2
        if self._in_passes:  # three more weights, which are the tap to some roundings
            terms = np.maximum(terms, correlation.passes + 2 + 3 + 2 * ROUNDINGS)
        share = terms * self.unit
        gamma = np.where(share < 1, share / (1 - share), np.inf)
        # What is too small for a number of this type is lost at each step.
        margin: Array = gamma * magnitude + self._tiny * terms * (1 + 4 * self._gain)
        margin = margin + self._tap_error * correlation.sums(np.abs(block), self._ones)
        if self._cut:
            margin = margin + self._cut * (1 + gamma) * magnitude
            margin = margin + self._least * (correlation.sums(np.abs(block), self._ones) + self._gain)
        if doubt is not None:
            return margin + self.unit * correlation.sums(doubt, self._size)
        return np.where(self._is_exact(block, magnitude), 0.0, margin)

    def _is_exact(self, block: Array, magnitude: Array) -> Mask:
        """Where all that is added up is whole numbers of one power of two, and their sum fits the type's digits."""
        digits, bits = self._facts.nmant + 1, fraction_bits(block)
        count = max(bits + self._bits, self._bias_bits)
        inputs_fit = np.abs(block).max(initial=0) <= 2.0 ** (digits - bits)
        taps_fit = self._largest <= 2.0 ** (digits - self._bits)
        if self._cut or self._in_passes or not inputs_fit or not taps_fit or count > -self._facts.minexp:
            return np.zeros(magnitude.shape, np.bool_)
        return np.asarray(magnitude <= 2.0 ** (digits - count))

    def _endless(self, correlation: Correlation, block: Array, found: tuple[Array, Array, Array]) -> None:
        """Put what comes of NaN and infinite inputs in the place of ``value``, ``low`` and ``high``."""
        kernel, inside = self._kernel, self._ones > 0
        up, down = block == np.inf, block == -np.inf

        def met(where: Mask, taps: Mask) -> Mask:
            return np.asarray(correlation.sums(where, taps.astype(np.float64)) > 0)

        plus = met(up, kernel > 0) | met(down, kernel < 0)
        minus = met(up, kernel < 0) | met(down, kernel > 0)
        spoilt = correlation.sums(np.isnan(block), self._ones) > 0
        nan = spoilt | met(up | down, (kernel == 0) & inside) | (plus & minus)
        # Of a tap that small the sign may be lost; a pass of its own may even give one to a zero.
        faint = (np.abs(kernel) <= self._tap_error) & inside & ((kernel != 0) | self._in_passes)
        unknown = (met(up | down, faint) & ~spoilt) | (np.isinf(found[2]) & ~nan)
        for array, open_end in zip(found, OPEN, strict=True):
            array[plus], array[minus], array[nan] = np.inf, -np.inf, np.nan
            array[unknown] = open_end


def fraction_bits(values: NDArray[np.floating]) -> int:
    """Return how many binary digits behind the point finite numbers have.

    >>> fraction_bits(np.array([0.75, 3.0])), fraction_bits(np.array([8.0]))
    (2, 0)
    """
    fractions, exponents = np.frexp(values[values != 0].astype(np.float64))
    whole = np.ldexp(fractions, 53).astype(np.int64)
    trailing = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return int((53 - exponents - trailing).max(initial=0))


def _may_be_in_passes(layer: Layer) -> bool:
    """Whether the engine may apply the kernel along one axis after the other, if it is an outer product."""
    axes = layer.config.axes
    single = layer.kernel.shape[3:] == (1, 1) and not layer.argmax
    return single and prod(axis.kernel for axis in axes) > PASSES * prod(axis.stride for axis in axes)
