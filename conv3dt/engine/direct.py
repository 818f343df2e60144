"""The CPU engine for few channels: written-out polyphase loops, compiled once, slabs over threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine import loops, phases
from conv3dt.engine.activation import ACROSS_FILTERS
from conv3dt.engine.compile import compiled
from conv3dt.engine.finish import Storage, store
from conv3dt.geometry import Axis
from conv3dt.layer.concrete import Layer

SLAB_BYTES = 4 * 2**20
"""Output bytes one thread computes at a time: large enough to hide the call, small enough to share the work evenly."""


class DirectEngine:
    """Computes regions of one layer.  Same bits for any region, slab and number of threads."""

    name = "direct"

    def __init__(self, layer: Layer, storage: Storage, *, threads: int) -> None:
        """Compile the loops (or load what an earlier run compiled).

        Args:
            layer: the layer, its axes in walk order.
            storage: what an output voxel becomes.
            threads: how many compute at once.
        """
        self.layer, self.storage, self.threads = layer, storage, threads
        self.compute_dtype = storage.compute_dtype
        self._axes = layer.config.axes
        self._across = layer.config.activation in ACROSS_FILTERS
        # The largest filter is the largest under softmax too; NumPy's float16 is one that numba cannot write.
        self._indirect = (self._across and not layer.argmax) or storage.dtype == np.float16
        activation = "linear" if self._across else layer.config.activation
        limits = None if self._indirect or layer.argmax else storage.limits
        recipe = loops.Recipe(
            _canonical(self._axes), layer.channels == 1, activation, limits, layer.per_channel, layer.argmax
        )
        out = self.compute_dtype if self._indirect else storage.dtype
        self._loops = compiled(recipe, self.compute_dtype.name, out.name)
        kind = self.compute_dtype.type
        self._weights = phases.pack(layer.kernel.astype(kind), self._axes)
        bias = np.zeros(layer.filters) if layer.bias is None else layer.bias
        self._bias = np.ascontiguousarray(bias, kind)
        self._alpha = np.ascontiguousarray(np.zeros(layer.filters) if layer.alpha is None else layer.alpha, kind)
        self._scale, self._shift = kind(1 / storage.slope), kind(storage.inter)
        self._pool = ThreadPoolExecutor(threads, "conv3dt-direct")

    def compute(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        """Compute one output region.

        Args:
            source: ``(channels, z, y, x)``, C-contiguous, of ``compute_dtype``: the input that ``out`` needs,
                extended beyond the volume by the boundary.
            out: ``(filters, z, y, x)``, C-contiguous, of the storage type; its first voxel is at multiples of the
                strides.  ``(channels, ...)`` if the layer works per channel, ``(1, ...)`` if it keeps the argmax.

        Returns:
            How many values were clipped or not a number (integer types only).
        """
        if not self._indirect:
            return self._fill(source, out)
        values = np.empty(out.shape, self.compute_dtype)
        self._fill(source, values)
        if self._across and not self.layer.argmax:
            deque(self._pool.map(self._compare_filters, np.array_split(values, self.threads, axis=1)), maxlen=0)
        return store(values, self.storage, out)

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fill(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        bias, alpha = self._bias, self._alpha
        if self.layer.per_channel:
            bias, alpha = (np.broadcast_to(each, len(source)).copy() for each in (bias, alpha))
        constants = (self._weights, bias, alpha, self._scale, self._shift)
        x = self._axes[2].stride
        rows = (x, -(-out.shape[3] // x) + 1)

        def compute(slab: tuple[int, int]) -> int:
            sums, best, winner = (np.empty(rows, kind) for kind in (self.compute_dtype, self.compute_dtype, np.int32))
            return self._loops(source, *constants, sums, best, winner, out, *slab)

        return sum(self._pool.map(compute, self._slabs(out)))

    def _slabs(self, out: NDArray[np.generic]) -> list[tuple[int, int]]:
        """Groups of ``stride`` output planes, some to each thread at a time."""
        stride = self._axes[0].stride
        groups = -(-out.shape[1] // stride)
        height = min(SLAB_BYTES // max(out[:, 0].nbytes * stride, 1), -(-groups // (2 * self.threads)))
        height = max(height, 1)
        return [(start, min(start + height, groups)) for start in range(0, groups, height)]

    def _compare_filters(self, values: NDArray[np.floating]) -> None:
        """Softmax and its logarithm need every filter of a voxel before they can say anything about one."""
        with np.errstate(all="ignore"):  # an infinite voxel makes NaN here, as it does in Keras
            values -= values.max(axis=0)
            powers = np.exp(values)
            total = powers.sum(axis=0)
            if self.layer.config.activation == "softmax":
                np.divide(powers, total, out=values)
            else:
                values -= np.log(total)


def _canonical(axes: tuple[Axis, Axis, Axis]) -> tuple[Axis, Axis, Axis]:
    """Axes that meet the same crop have the same loops, whichever padding led to it: one compilation serves both."""
    first, second, third = (
        replace(axis, padding="valid", output_padding=None) if axis.crop == 0 else axis for axis in axes
    )
    return first, second, third
