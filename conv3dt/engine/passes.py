"""How are the loops put to work on arrays?  A pass is a convolution made ready; binding gives it arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine import machine
from conv3dt.engine.finish import Storage, float_limits
from conv3dt.engine.loops import write
from conv3dt.engine.memory import address
from conv3dt.engine.phases import Axes, Rows
from conv3dt.engine.recipe import SIZES, Recipe

Planes = Callable[[int, int], int]
"""Computes the output planes from one number to another and says how many values were lost."""

SCALARS = {"float16": "half", "float32": "float", "float64": "double"}


@dataclass(frozen=True, slots=True)
class Ending:
    """What becomes of a sum.

    Attributes:
        storage: the number that is stored.
        activation: of one value; argmax: whether the number of the largest filter is stored instead.
        bias, alpha: a number for each filter, or None.
    """

    storage: Storage
    activation: str = "linear"
    argmax: bool = False
    bias: NDArray[np.floating] | None = None
    alpha: NDArray[np.floating] | None = None


class Pass:
    """A convolution as machine code and packed weights."""

    def __init__(
        self, axes: Axes, kernel: NDArray[np.floating], ending: Ending, compute: np.dtype[Any], *, per_channel: bool
    ) -> None:
        """Compile the loops.

        Args:
            axes: the laws of z, y, x.
            kernel: Keras layout ``(kz, ky, kx, filters, channels)``.
            ending: what becomes of a sum.
            compute: the type of the sums and of the source.
            per_channel: whether the one kernel makes output channel f from input channel f, whatever f.
        """
        self._rows, self._per_channel = Rows(axes), per_channel
        self._filters, self._channels = kernel.shape[3:]
        recipe = recipe_for(self._rows, 1 if per_channel else self._filters, ending, np.dtype(compute))
        self._loops = _compiled(recipe)
        self._block = recipe.filters
        self._weights = self._rows.weights(kernel.astype(compute), recipe.filters)
        self._bias, self._alpha = (self._for_filters(values, compute) for values in (ending.bias, ending.alpha))
        self._numbers = np.array([1 / ending.storage.slope, ending.storage.inter], compute)

    def _for_filters(self, values: NDArray[np.floating] | None, compute: np.dtype[Any]) -> NDArray[Any]:
        """A number for each filter, up to a whole number of blocks; zeros if there are none."""
        found = np.zeros(-(-self._filters // self._block) * self._block, compute)
        if values is not None:
            found[: len(values)] = values
        return found

    def bind(self, source: NDArray[np.floating], out: NDArray[Any]) -> Bound:
        """Return what computes planes of ``out (filters, z, y, x)`` from ``source (channels, z, y, x)``.

        Their x lies side by side.  ``source`` begins with the first voxel that the first of ``out`` needs, and ``out``
        at multiples of the strides.
        """
        bias, alpha = self._bias, self._alpha
        if self._per_channel:
            bias, alpha = (np.broadcast_to(each, len(source)).copy() for each in (bias, alpha))
        steps, to = ([step // array.itemsize for step in array.strides[:3]] for array in (source, out))
        lines = _lines(self._rows, self._channels, (steps[0], steps[1], steps[2]))
        alone = self._per_channel
        sizes = sizes_array(
            self._rows,
            source_z=steps[1], source_y=steps[2], source_f=steps[0] if alone else 0,
            lines_phase=lines.shape[1], weights_phase=self._weights[0].size,
            weights_f=0 if alone else self._weights[0, 0].size // self._block,
            out_z=to[1], out_y=to[2], out_f=to[0], height=out.shape[2], width=out.shape[3],
            filters=len(source) if alone else self._filters,
        )  # fmt: skip
        return Bound(self._loops, (source, self._weights, bias, alpha, self._numbers, lines, sizes, out))


class Bound:
    """A pass with its arrays."""

    def __init__(self, loops: machine.Function, arrays: tuple[NDArray[Any], ...]) -> None:
        """Take the addresses; the arrays live as long as this does."""
        self._loops, self._arrays = loops, arrays
        self._addresses = [address(array) for array in arrays]

    def __call__(self, begin: int, end: int) -> int:
        """Compute output planes ``begin`` to ``end``; say how many values were lost."""
        return self._loops(*self._addresses, begin, end)


def sizes_array(rows: Rows, **sizes: int) -> NDArray[np.int64]:
    """Return the whole numbers that the loops are told, by their names."""
    z, y, x = rows.axes
    sizes |= {"stride_z": z.stride, "stride_y": y.stride, "stride_x": x.stride}
    return np.array([sizes[name] for name in SIZES], np.int64)


@lru_cache(maxsize=8)
def _lines(rows: Rows, channels: int, steps: tuple[int, int, int]) -> NDArray[np.int64]:
    return rows.lines(channels, steps)


@lru_cache(maxsize=64)
def _compiled(recipe: Recipe) -> machine.Function:
    return machine.compiled(write(recipe), "region", 10)


def recipe_for(rows: Rows, filters: int, ending: Ending, compute: np.dtype[Any], *, distant: bool = True) -> Recipe:
    """Return the recipe for this processor; ``filters`` of one source are summed side by side."""
    storage, processor = ending.storage, machine.processor()
    out = storage.dtype
    low, high = float_limits(storage, compute)
    block, vectors = _block(filters, len(rows.offsets), processor.registers, whole=ending.argmax)
    return Recipe(
        phases=rows.offsets,
        stride=rows.axes[2].stride,
        combed=rows.combed,
        compute=SCALARS[compute.name],
        out=SCALARS.get(out.name, f"i{8 * out.itemsize}"),
        signed=out.kind == "i",
        limits=None if storage.limits is None else (float(low), float(high)),
        scaled=storage.limits is not None and (storage.slope, storage.inter) != (1.0, 0.0),
        activation=ending.activation,
        argmax=ending.argmax,
        filters=block,
        vectors=vectors,
        lanes=processor.vector_bytes // compute.itemsize,
        fused=processor.fused,
        distant=distant,
    )


def _block(filters: int, phases: int, registers: int, *, whole: bool) -> tuple[int, int]:
    """How many filters and how many vectors of neighbours are summed side by side, so that registers suffice.

    ``whole`` asks for blocks that leave no filter over: one of those that fill up the last block could win an argmax.
    """
    room = 16 if registers == 32 else 8
    many = min(filters, max(room // (2 * phases), 1))
    # Of the widest blocks, the one that leaves the fewest filters over.
    widths = [n for n in range(1, many + 1) if filters % n == 0 or (not whole and n > many // 2)]
    block = min(widths, key=lambda n: (-(-filters // n) * n, -n))
    return block, max(min(room // (block * phases), 4), 1)
