"""The CPU engine: polyphase loops made for one layer and one processor, slabs of planes over threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine import machine
from conv3dt.engine.activation import ACROSS_FILTERS
from conv3dt.engine.finish import Storage, store
from conv3dt.engine.passes import Ending, Pass
from conv3dt.engine.separable import factors, is_worth_it
from conv3dt.engine.three_passes import ThreePasses
from conv3dt.layer.concrete import Layer

Item = TypeVar("Item")
Result = TypeVar("Result")

SLAB_BYTES = 8 * 2**20
"""Output bytes one thread computes at a time: large enough to hide the call, small enough to share the work evenly."""

LEAST_SHARED = 2**18
"""Regions smaller than so many bytes are computed before another thread is awake."""


class DirectEngine:
    """Computes regions of one layer.  Same bits for any region, slab and number of threads."""

    name = "direct"
    in_place = True
    halved = 0

    def __init__(self, layer: Layer, storage: Storage, *, threads: int) -> None:
        """Compile the loops.

        Args:
            layer: the layer, its axes in walk order.
            storage: what an output voxel becomes.
            threads: how many compute at once.
        """
        self.layer, self.storage, self.threads = layer, storage, threads
        self.compute_dtype = storage.compute_dtype
        # The largest filter is the largest under softmax too.
        across = layer.config.activation in ACROSS_FILTERS
        self._across = across and not layer.argmax
        self._indirect = self._across or (storage.dtype == np.float16 and not machine.processor().halves)
        self._work = _work(
            layer,
            Ending(
                Storage(np.dtype(self.compute_dtype)) if self._indirect else storage,
                "linear" if across else layer.config.activation,
                layer.argmax,
                layer.bias,
                layer.alpha,
            ),
            np.dtype(self.compute_dtype),
        )
        self._pool = ThreadPoolExecutor(max(threads - 1, 1), "conv3dt-direct")

    def compute(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        """Compute one output region.

        Args:
            source: ``(channels, z, y, x)`` of ``compute_dtype``: the input that ``out`` needs, extended beyond the
                volume by the boundary.  C-contiguous, but for what may lie between rows: they are met sooner if each
                begins on a line of the cache.
            out: ``(filters, z, y, x)``, C-contiguous, of the storage type; its first voxel is at multiples of the
                strides.  ``(channels, ...)`` if the layer works per channel, ``(1, ...)`` if it keeps the argmax.

        Returns:
            How many values were clipped or not a number (integer types only).
        """
        if not self._indirect:
            return self._fill(source, out)
        values: NDArray[Any] = out if out.dtype == self.compute_dtype else np.empty(out.shape, self.compute_dtype)
        self._fill(source, values)
        if self._across:
            self._share(self._compare_filters, np.array_split(values, self.threads, axis=1))
        return 0 if values is out else store(values, self.storage, out)

    def start(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> Callable[[], int]:
        """Compute one output region, at once; see `choose.Engine`."""
        lost = self.compute(source, out)
        return lambda: lost

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fill(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        if out.nbytes + source.nbytes < LEAST_SHARED:
            return self._work.bind(source, out)(0, out.shape[1])
        return sum(self._share(lambda piece: piece(), self._pieces(source, out)))

    def _pieces(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> list[Callable[[], int]]:
        """Slabs of planes; where there are fewer planes than threads can share, bands of their rows."""
        planes = out.shape[1]
        if planes >= 2 * self.threads:
            whole = self._work.bind(source, out)
            return [partial(whole, *slab) for slab in self._slabs(out)]
        axis = self.layer.config.axes[1]
        first = axis.sources(0, 1)[0]
        rows = -(-out.shape[2] * planes // (2 * self.threads * axis.stride)) * axis.stride
        pieces: list[Callable[[], int]] = []
        for start in range(0, out.shape[2], rows):
            stop = min(start + rows, out.shape[2])
            low, high = axis.sources(start, stop)
            band = self._work.bind(source[:, :, low - first : high - first], out[:, :, start:stop])
            pieces.append(partial(band, 0, planes))
        return pieces

    def _share(self, work: Callable[[Item], Result], items: list[Item]) -> list[Result]:
        """Do the work on all items in all threads, this one too: it need not be woken."""
        left = iter(items)  # each takes the next one

        def take() -> list[Result]:
            return [work(item) for item in left]

        others = [self._pool.submit(take) for _ in range(min(self.threads, len(items)) - 1)]
        return [*take(), *(result for other in others for result in other.result())]

    def _slabs(self, out: NDArray[np.generic]) -> list[tuple[int, int]]:
        """Output planes, some to each thread at a time."""
        count = out.shape[1]
        height = max(min(SLAB_BYTES // max(out[:, 0].nbytes, 1), -(-count // (2 * self.threads))), 1)
        return [(start, min(start + height, count)) for start in range(0, count, height)]

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


def _work(layer: Layer, ending: Ending, compute: np.dtype[np.floating]) -> Pass | ThreePasses:
    """One pass with all taps, or three of one axis each where the kernel allows it and they are fewer."""
    axes = layer.config.axes
    if layer.channels == layer.filters == 1 and not layer.argmax and is_worth_it(axes):
        vectors = factors(layer.kernel[..., 0, 0], compute)
        if vectors is not None:
            return ThreePasses(axes, vectors, ending, compute)
    return Pass(axes, layer.kernel, ending, compute, per_channel=layer.per_channel)
