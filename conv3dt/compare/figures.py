"""Which sums over all voxels tell how far two volumes are apart?  Gathered piece by piece in threads, then joined.

Means and squares about the mean are joined as Chan, Golub and LeVeque (1983) join them, so that a large offset costs no
digits.  Pieces are always the same ones and are joined in their order: the figures do not depend on threads.  Voxels
that are not finite in either volume are counted and left out of everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from math import isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.compare.labels import Overlap, overlap_of
from conv3dt.compare.pairs import Pair, Slab
from conv3dt.io.volume import VolumeInfo

Array = NDArray[np.float64]

PIECE = 2**17
"""Voxels that a thread looks at at a time: they stay in its cache."""

EXACT = 2.0**53
"""Whole numbers beyond are rounded in float64."""

NOTHING = "no voxel is finite in both volumes"
NO_RANGE = "all voxels of A are the same, so they have no data range; give one"
BEYOND = "beyond what float64 holds"


@dataclass(frozen=True, slots=True)
class Moments:
    """The compared values of one volume; ``squares`` is the sum of squared distances from the mean."""

    least: float = float("inf")
    largest: float = float("-inf")
    mean: float = 0.0
    squares: float = 0.0


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest difference: its magnitude, where it is (walk index), and the two values there."""

    size: float
    place: tuple[int, ...]
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of the voxels met so far; ``+`` joins two parts, the earlier one first.

    Attributes:
        voxels: compared; left_out: not finite in A or in B.
        not_finite_a, not_finite_b: NaN and infinite ones in each.
        unlike: left out, and neither NaN in both nor the same infinity; first_unlike: the walk index of the first.
        different: compared or unlike, and not the same value.
        same_bits: whether all stored numbers are the same, bit by bit, of one type and scaling.
        a, b: the values of each.
        products: the sum of products of distances from the means.
        total, magnitudes, squares: the sums of ``b - a``, of its magnitude, and of its square.
        top: the largest difference, the first of equals; None if no voxel was compared.
        overlap: of labels, if they are counted.
    """

    voxels: int = 0
    left_out: int = 0
    not_finite_a: int = 0
    not_finite_b: int = 0
    unlike: int = 0
    first_unlike: tuple[int, ...] | None = None
    different: int = 0
    same_bits: bool = True
    a: Moments = field(default_factory=Moments)
    b: Moments = field(default_factory=Moments)
    products: float = 0.0
    total: float = 0.0
    magnitudes: float = 0.0
    squares: float = 0.0
    top: Largest | None = None
    overlap: Overlap | None = None

    def __add__(self, other: Figures) -> Figures:
        count = self.voxels + other.voxels
        part = other.voxels / count if count else 0.0
        with np.errstate(all="ignore"):  # what no float holds is found infinite at the end
            apart_a, apart_b = (float(np.subtract(n, m)) for n, m in ((other.a.mean, self.a.mean),
                                                                     (other.b.mean, self.b.mean)))  # fmt: skip
            return Figures(
                voxels=count,
                left_out=self.left_out + other.left_out,
                not_finite_a=self.not_finite_a + other.not_finite_a,
                not_finite_b=self.not_finite_b + other.not_finite_b,
                unlike=self.unlike + other.unlike,
                first_unlike=other.first_unlike if self.first_unlike is None else self.first_unlike,
                different=self.different + other.different,
                same_bits=self.same_bits and other.same_bits,
                a=_joined(self.a, other.a, apart_a, self.voxels, part),
                b=_joined(self.b, other.b, apart_b, self.voxels, part),
                products=self.products + other.products + apart_a * apart_b * self.voxels * part,
                total=self.total + other.total,
                magnitudes=self.magnitudes + other.magnitudes,
                squares=self.squares + other.squares,
                top=_larger(self.top, other.top),
                overlap=other.overlap if self.overlap is None else self.overlap + other.overlap,
            )

    def why_no_structure(self) -> str:
        """Why there can be no structural similarity over the range of A; empty if there can."""
        if not self.voxels:
            return NOTHING
        span = self.a.largest - self.a.least
        if span == 0:
            return NO_RANGE
        return "" if isfinite(span) else f"the data range of A is {BEYOND}"

    def correlation(self) -> float | None:
        """Pearson's; None where a volume is constant or float64 does not hold the sums."""
        if not self.voxels or self.a.least == self.a.largest or self.b.least == self.b.largest:
            return None
        scale = sqrt(self.a.squares) * sqrt(self.b.squares)
        if not (isfinite(scale) and scale > 0 and isfinite(self.products)):
            return None
        return min(max(self.products / scale, -1.0), 1.0)


def _joined(first: Moments, second: Moments, apart: float, voxels: int, part: float) -> Moments:
    """``apart``: of the means; ``voxels``: of the first; ``part``: of all that the second has."""
    return Moments(
        min(first.least, second.least),
        max(first.largest, second.largest),
        first.mean + apart * part,
        first.squares + second.squares + apart * apart * voxels * part,
    )


def _larger(first: Largest | None, second: Largest | None) -> Largest | None:
    if first is None or second is None:
        return first or second
    return second if second.size > first.size else first


def measure(pair: Pair, slab: Slab, pool: Executor, *, labels: bool) -> Figures:
    """Return the figures of a slab's fresh voxels."""
    a, b = slab.fresh()
    starts = range(0, len(a), PIECE)
    look = partial(_piece, pair, slab, labels=labels)
    pieces = pool.map(look, starts, (a[n : n + PIECE] for n in starts), (b[n : n + PIECE] for n in starts))
    return reduce(Figures.__add__, pieces)


def values(stored: NDArray[Any], info: VolumeInfo) -> Array:
    """Return what stored numbers mean, in float64; a new array."""
    real = stored.astype(np.float64)
    if info.slope != 1:
        real *= info.slope
    if info.inter != 0:
        real += info.inter
    return real


def _piece(pair: Pair, slab: Slab, start: int, stored_a: NDArray[Any], stored_b: NDArray[Any], *,
           labels: bool) -> Figures:  # fmt: skip
    with np.errstate(all="ignore"):  # what overflows is infinite, and left out and counted
        a, b = values(stored_a, pair.a), values(stored_b, pair.b)
        apart = b - a
        total = float(apart.sum())
        chosen, figures = None, Figures()
        if not isfinite(total) and not (whole := np.isfinite(a) & np.isfinite(b)).all():
            figures = _not_finite(slab, start, a, b, whole)
            chosen = np.flatnonzero(whole)
            a, b, apart = a[chosen], b[chosen], apart[chosen]
            total = float(apart.sum())
        different = int(np.count_nonzero(apart))
        if chosen is None and is_long(pair.a) and _one_kind(pair):
            different = int(np.count_nonzero(stored_a != stored_b))
        alike = not different and not figures.unlike and _same_bits(pair, stored_a, stored_b)
        figures = replace(figures, same_bits=alike, different=figures.unlike + different)
        if not len(a):
            return figures
        if labels:
            figures = replace(figures, overlap=overlap_of(a, b))
        places = range(len(a)) if chosen is None else chosen
        return _summed(replace(figures, total=total), a, b, apart, lambda at: slab.place(start + int(places[at])))


def _not_finite(slab: Slab, start: int, a: Array, b: Array, whole: NDArray[np.bool_]) -> Figures:
    """What is known of the voxels that are left out."""
    unlike = ~whole & (a != b) & ~(np.isnan(a) & np.isnan(b))
    count = int(np.count_nonzero(unlike))
    return Figures(
        left_out=len(a) - int(np.count_nonzero(whole)),
        not_finite_a=len(a) - int(np.count_nonzero(np.isfinite(a))),
        not_finite_b=len(b) - int(np.count_nonzero(np.isfinite(b))),
        unlike=count,
        first_unlike=slab.place(start + int(unlike.argmax())) if count else None,
    )


def _same_bits(pair: Pair, stored_a: NDArray[Any], stored_b: NDArray[Any]) -> bool:
    if not _one_kind(pair):
        return False
    bits = f"u{stored_a.itemsize}"
    native = stored_a.dtype.newbyteorder("=")
    first, second = (np.ascontiguousarray(each, native).view(bits) for each in (stored_a, stored_b))
    return bool(np.array_equal(first, second))


def is_long(info: VolumeInfo) -> bool:
    """Whether a volume stores whole numbers that float64 may round."""
    return info.dtype.kind in "iu" and info.dtype.itemsize == 8


def _one_kind(pair: Pair) -> bool:
    """Whether both store numbers of one type under one scaling; the order of bytes does not matter."""
    a, b = pair.a, pair.b
    return a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=") and (a.slope, a.inter) == (b.slope, b.inter)


def _summed(figures: Figures, a: Array, b: Array, apart: Array, where: Callable[[int], tuple[int, ...]]) -> Figures:
    """Add all sums over the voxels that are left, and where the largest difference is; spends its arrays."""
    squares = _product(apart, apart)
    np.abs(apart, out=apart)
    at = int(apart.argmax())
    top = Largest(float(apart[at]), where(at), float(a[at]), float(b[at]))
    moments = [_moments(each) for each in (a, b)]
    return replace(
        figures,
        voxels=len(a),
        a=moments[0],
        b=moments[1],
        products=_product(a, b),
        magnitudes=float(apart.sum()),
        squares=squares,
        top=top,
    )


def _moments(values: Array) -> Moments:
    """The moments of values, which become distances from their mean."""
    least, largest = float(values.min()), float(values.max())
    mean = min(max(float(values.mean()), least), largest)  # rounding may leave the range, and make a constant vary
    values -= mean
    return Moments(least, largest, mean, _product(values, values))


def _product(first: Array, second: Array) -> float:
    return float(np.einsum("i,i->", first, second))  # not by BLAS, whose own threads would stand in the way
