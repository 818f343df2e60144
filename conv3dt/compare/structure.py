"""How alike are two volumes in structure?  The mean structural similarity of Wang et al. (2004), in three dimensions.

For each voxel whose window lies inside the volume, with means, variances and covariance under a Gaussian window:

    (2 mean_a mean_b + C1) (2 cov + C2) / ((mean_a^2 + mean_b^2 + C1) (var_a + var_b + C2))

sigma 1.5, 11 voxels an axis, ``C1 = (0.01 L)^2``, ``C2 = (0.03 L)^2``, ``L`` the data range; moments are those of the
population.  That is scikit-image's ``structural_similarity`` with ``gaussian_weights=True, sigma=1.5,
use_sample_covariance=False``.  The window is a layer, of 11 x 11 x 11 taps and strides of one, which the engine
computes in float64; values are first put near zero, because variances are small differences of large numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial, reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.compare.figures import values
from conv3dt.compare.pairs import IN_FLIGHT, Pair, Slab
from conv3dt.engine import memory
from conv3dt.layer.concrete import Layer
from conv3dt.layer.config import LayerConfig
from conv3dt.plan import row_length

Array = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5
OVERLAP = WINDOW - 1
K1, K2 = 0.01, 0.03

PIECE_BYTES = 8 * 2**20
MOST_PLANES, LEAST_ROWS = 16, 8
"""A piece: at most so many planes of windows, and rows to fill its bytes, but at least so many."""

FIELDS = 5
"""What is filtered: a, b, a^2 + b^2, ab, and where there are voxels that are not finite."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """The sum over so many windows; ``reason`` says why there are none.  ``+`` joins two parts."""

    total: float = 0.0
    windows: int = 0
    reason: str = ""

    def __add__(self, other: Similarity) -> Similarity:
        return Similarity(self.total + other.total, self.windows + other.windows)


class Structure:
    """Sums the similarity of windows, slab by slab."""

    def __init__(self, pair: Pair, data_range: float) -> None:
        """Compile the loops of the window.

        Args:
            pair: the volumes.
            data_range: the span of values, above 0.
        """
        from conv3dt.engine.direct import DirectEngine
        from conv3dt.engine.finish import Storage

        self._pair, self._range = pair, data_range
        self._engine = DirectEngine(_window(), Storage(np.dtype(np.float64)), threads=1)
        self._own = threading.local()  # memory of each thread, used again and again

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()

    def of(self, slab: Slab, pool: Executor) -> Similarity:
        """Return the sum over the windows whose last plane is a fresh one."""
        a, b = (each.reshape(each.shape[-3:]) for each in (slab.a, slab.b))
        return reduce(
            Similarity.__add__, pool.map(partial(self._piece, a, b), _boxes(self._pair, len(a))), Similarity()
        )

    def _piece(self, a: NDArray[Any], b: NDArray[Any], box: tuple[slice, slice]) -> Similarity:
        shape = (box[0].stop - box[0].start, box[1].stop - box[1].start, a.shape[2])
        windows = (shape[0] - OVERLAP, shape[1] - OVERLAP, shape[2] - OVERLAP)
        with np.errstate(all="ignore"):  # what overflows is told at the end
            offset, fields = self._fields(a[box], b[box], self._room("fields", (FIELDS, *shape), in_rows=True))
            means = self._room("means", (len(fields), *windows), in_rows=False)
            self._engine.compute(fields, means)
            similarity = _similarity(means[0], means[1], means[2], means[3], offset)
        if len(means) < FIELDS:
            return Similarity(float(similarity.sum()), similarity.size)
        whole = similarity[means[4] == 0]
        return Similarity(float(whole.sum()), whole.size)

    def _fields(self, stored_a: NDArray[Any], stored_b: NDArray[Any], room: Array) -> tuple[float, Array]:
        """Fill what is to be filtered, in data ranges, from an offset on; the last field only where it is needed."""
        a, b = values(stored_a, self._pair.a), values(stored_b, self._pair.b)
        whole = np.isfinite(a) & np.isfinite(b)
        count = FIELDS - 1
        if not whole.all():
            a[~whole] = b[~whole] = a[whole].mean() if whole.any() else 0.0
            np.logical_not(whole, out=room[4], casting="unsafe")
            count = FIELDS
        offset = float(a.mean())
        for each, field in zip((a, b), room, strict=False):
            np.subtract(each, offset, out=field)
            field /= self._range
        np.multiply(room[0], room[0], out=room[2])
        np.multiply(room[1], room[1], out=a)
        room[2] += a
        np.multiply(room[0], room[1], out=room[3])
        return offset / self._range, room[:count]

    def _room(self, name: str, shape: tuple[int, ...], *, in_rows: bool) -> Array:
        flat = getattr(self._own, name, None)
        size = prod(shape[:-1]) * (row_length(shape[-1], 8) if in_rows else shape[-1])
        if flat is None or flat.size < size:
            flat = memory.aligned(size, np.dtype(np.float64))
            setattr(self._own, name, flat)
        return memory.in_rows(flat, shape) if in_rows else flat[:size].reshape(shape)


def memory_bytes(pair: Pair, threads: int) -> int:
    """Return about how much memory planes that are kept and the threads' pieces take."""
    planes, rows = _piece_shape(pair)
    piece = 2 * FIELDS * 8 * (planes + OVERLAP) * (rows + OVERLAP) * pair.space[2]
    return threads * piece + (2 * OVERLAP + IN_FLIGHT) * pair.plane_bytes


def _window() -> Layer:
    """The Gaussian as a layer for each field by itself."""
    taps = np.exp(-0.5 * (np.arange(WINDOW) - WINDOW // 2) ** 2 / SIGMA**2)
    taps /= taps.sum()
    kernel = np.einsum("i,j,k", taps, taps, taps)[..., None, None]
    config = LayerConfig(filters=1, kernel_size=(WINDOW, WINDOW, WINDOW))
    return Layer(config, kernel, None, "zero", "gaussian", per_channel=True)


def _piece_shape(pair: Pair) -> tuple[int, int]:
    """Planes and rows of windows in a piece."""
    planes = min(pair.space[0] - OVERLAP, MOST_PLANES)
    row = FIELDS * 8 * (planes + OVERLAP) * pair.space[2]
    return planes, max(PIECE_BYTES // row - OVERLAP, LEAST_ROWS)


def _boxes(pair: Pair, planes: int) -> Iterator[tuple[slice, slice]]:
    """Planes and rows of the pieces of a slab; each with all voxels that its windows need."""
    most_planes, most_rows = _piece_shape(pair)
    rows = pair.space[1]
    for z in range(0, planes - OVERLAP, most_planes):
        for y in range(0, rows - OVERLAP, most_rows):
            yield (
                slice(z, min(z + most_planes + OVERLAP, planes)),
                slice(y, min(y + most_rows + OVERLAP, rows)),
            )


def _similarity(mean_a: Array, mean_b: Array, squares: Array, products: Array, offset: float) -> Array:
    """The index of each window, in data ranges; spends its arrays.

    Args:
        mean_a, mean_b, squares, products: filtered ``a``, ``b``, ``a^2 + b^2`` and ``ab``, of values less the offset.
        offset: which only the means feel.
    """
    c1, c2 = K1**2, K2**2
    both = mean_a * mean_b
    products -= both  # the covariance
    products *= 2
    products += c2
    together = mean_a * mean_a + mean_b * mean_b
    squares -= together  # both variances
    squares += c2
    mean_a += mean_b
    mean_a *= 2 * offset
    mean_a += 2 * offset**2
    both *= 2
    both += mean_a
    both += c1
    together += mean_a
    together += c1
    both *= products
    together *= squares
    both /= together
    return both
