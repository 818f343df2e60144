"""How far is a kernel from an outer product of three vectors?  By higher-order orthogonal iteration.

De Lathauwer, De Moor, Vandewalle (2000), SIAM J. Matrix Anal. Appl. 21(4), 1324-1342.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_SIDE = 1024
PASSES = 10


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
