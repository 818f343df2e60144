"""What does a GPU do for a layer of few channels?  The text of a Triton kernel, written for the layer.

A *cell* is what one input voxel becomes: an output of each phase.  A program computes a block of cells along x, and
`Recipe.cells` of them along z, so that each input voxel is fetched once for all the taps that meet it.  Every product
is written out: no tap is padded, sums are of float32 (or float64) and in one order, whatever the region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine.phases import Axes, tap_places
from conv3dt.geometry import Phase
from conv3dt.layer.activation import activation_parts
from conv3dt.layer.concrete import Layer

MOST_PRODUCTS, MOST_WRITTEN, MOST_HELD = 1024, 512, 64
"""Products and outputs that a kernel's text may have for one cell, or compiling takes tens of seconds; outputs of a
cell that a loop over channels may hold."""

AIM = 256
"""Products that are worth a program: kernels with fewer compute several cells along z."""

INTERLEAVED = (2, 4, 8)
"""Strides along x whose phases are stored side by side, as one row."""

HALF = {"fp32": 1.5 * 2.0**23, "fp64": 1.5 * 2.0**52}
"""Added and taken away again, this rounds half to even."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the text.

    Attributes:
        axes: the law of each axis, in walk order.
        taps: ``(kz, ky, kx)`` if there is one channel and one filter, written into the text as numbers; else None.
        compute: ``fp32`` or ``fp64``.
        activation: its text; ``linear`` if it is left to others.
        bias: whether there is one.
        integer: whether the output is rounded and clipped.
        shared: whether all outputs have one bias: those of a layer that is applied channel by channel.
    """

    axes: Axes
    taps: tuple[float, ...] | None
    compute: str
    activation: str
    bias: bool
    integer: bool
    shared: bool = False

    @property
    def cells(self) -> int:
        """How many cells along z a program computes."""
        many = prod(axis.kernel for axis in self.axes)
        return 1 if self.taps is None else max(min(AIM // many, 4), 1)

    @property
    def strides(self) -> tuple[int, int, int]:
        """Outputs of a cell per axis."""
        z, y, x = self.axes
        return z.stride, y.stride, x.stride


def can_be(axes: Axes, *, one: bool) -> bool:
    """Whether a text for these axes would be short enough.

    Args:
        axes: the law of each axis; one: whether it holds the taps too, of one channel and one filter.
    """
    many, held = prod(axis.kernel for axis in axes), prod(axis.stride for axis in axes)
    return many <= MOST_PRODUCTS and held <= (MOST_WRITTEN if one else MOST_HELD)


def taps_of(layer: Layer, *, wide: bool) -> tuple[float, ...] | None:
    """Return the taps of a layer that stand in its text; None if they are read from a table.

    Args:
        layer: what is computed; wide: whether in float64.
    """
    one = layer.channels == layer.filters == 1
    return written(layer.kernel[..., 0, 0]) if one and not wide else None


def written(taps: NDArray[np.floating]) -> tuple[float, ...] | None:
    """Return the taps of one channel and one filter as numbers for a text; None if one of them cannot be written.

    Triton takes a number that float32 has only as a denormal, or not at all, for a float64.
    """
    numbers = tuple(float(value) for value in taps.astype(np.float32).ravel())
    tiny = float(np.finfo(np.float32).tiny)
    return numbers if all(isfinite(n) and (n == 0.0 or abs(n) >= tiny) for n in numbers) else None


def kernel_text(recipe: Recipe) -> str:
    """Return the text; it defines ``polyphase``."""
    body = _in_text(recipe) if recipe.taps is not None else _in_loop(recipe)
    return "\n".join([*HEAD, *("    " + line for line in (*PLACES, *body, *_counted(recipe))), ""])


VARYING = (
    "channels", "sz", "sy", "sx", "plane", "row", "channel_step", "source_step", "table_step", "oz", "oy", "blocks",
    "rows", "layers",
)  # fmt: skip
"""Arguments of which Triton is not to ask whether they are multiples of 16: it would compile anew for each answer.
Of ``ox`` it may, for then whole vectors are stored."""

HEAD = (
    f"@triton.jit(do_not_specialize={list(VARYING)})",
    "def polyphase(source, out, lost, table, bias, alpha, numbers, channels, sz, sy, sx, plane, row, channel_step,",
    "              source_step, table_step, oz, oy, ox, blocks, rows, layers,",
    "              BX: tl.constexpr, CELLS: tl.constexpr, STRIDE: tl.constexpr, TAPS: tl.constexpr):",
)
"""Steps are in items; ``source_step`` and ``table_step`` from one filter to the next; ``s`` is the source's shape,
``o`` the output's, ``blocks``, ``rows`` and ``layers`` how many programs there are along x, y and z."""

PLACES = (
    "number = tl.program_id(0)",
    "cell_x = (number % blocks) * BX",
    "number = number // blocks",
    "cell_y = number % rows",
    "number = number // rows",
    "cell_z = (number % layers) * CELLS",
    "filter = number // layers",
    "x = cell_x + tl.arange(0, BX)",
    "base = source + filter * source_step",
)


def _in_text(recipe: Recipe) -> Iterator[str]:
    """All products of one channel and one filter, row of outputs by row."""
    assert recipe.taps is not None
    taps = np.array(recipe.taps).reshape([axis.kernel for axis in recipe.axes])
    loads = _Loads()
    yield from _begin(recipe)
    for cell, pz, py in _rows(recipe):
        names = []
        for px in recipe.axes[2].phases():
            names.append(f"a{px.remainder}")
            yield from _sum(recipe, loads, names[-1], (pz, py, px), lambda tap: repr(float(taps[tap])), cell=cell)
        yield from _stored(recipe, cell, (pz, py), names)


def _in_loop(recipe: Recipe) -> Iterator[str]:
    """The products of one channel, in a loop over channels that holds all outputs of a cell; taps come from a table."""
    sizes = [axis.kernel for axis in recipe.axes]
    yield from _begin(recipe)
    yield "weights = table + filter * table_step"
    names = {place: f"a{n}" for n, place in enumerate(product(*(axis.phases() for axis in recipe.axes)))}
    for name in names.values():
        yield f"{name} = {_zeros(recipe)}"
    yield "for channel in range(channels):"
    loads = _Loads()
    for place, name in names.items():
        lines = _sum(recipe, loads, name, place, lambda tap: f"tl.load(weights + {np.ravel_multi_index(tap, sizes)})")
        yield from ("    " + line for line in lines)
    yield "    base += channel_step"
    yield "    weights += TAPS"
    for _, pz, py in _rows(recipe):
        yield from _stored(recipe, 0, (pz, py), [names[pz, py, px] for px in recipe.axes[2].phases()])


def _begin(recipe: Recipe) -> Iterator[str]:
    place = "" if recipe.shared else " + filter"
    if recipe.integer:
        yield "slope, inter = tl.load(numbers), tl.load(numbers + 1)"
        yield "low, high = tl.load(numbers + 2), tl.load(numbers + 3)"
        yield "nought = tl.load(numbers + 4)"
        yield "count = tl.zeros([BX], tl.int32)"
    if recipe.bias:
        yield f"offset = tl.load(bias{place})"
    if recipe.activation == "prelu":
        yield f"below = tl.load(alpha{place})"


def _rows(recipe: Recipe) -> Iterator[tuple[int, Phase, Phase]]:
    z, y, _ = recipe.axes
    for cell in range(recipe.cells):
        yield from ((cell, pz, py) for pz, py in product(z.phases(), y.phases()))


class _Loads:
    """Input voxels by name, each fetched where it is met first."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def lines(self, z: int, y: int, x: int) -> Iterator[str]:
        """Lines that find the row of a voxel and fetch it, unless they were there before.

        A cell that reaches beyond the output may ask for rows beyond the source: it gets the last one, for outputs
        that are not stored.
        """
        name, row = self.name(z, y, x), f"r{z}_{y}"
        if row not in self._known:
            self._known.add(row)
            places = f"tl.minimum(cell_z + {z}, sz - 1) * plane + tl.minimum(cell_y + {y}, sy - 1) * row"
            yield f"{row} = base + {places}"
        if name not in self._known:
            self._known.add(name)
            yield f"{name} = tl.load({row} + x + {x}, mask=x < sx - {x}, other=0.0)"

    @staticmethod
    def name(z: int, y: int, x: int) -> str:
        """The name of a voxel, by its place counted from that of cell 0."""
        return f"v{z}_{y}_{x}"


def _sum(
    recipe: Recipe,
    loads: _Loads,
    name: str,
    phases: tuple[Phase, ...],
    weight: Callable[[tuple[int, ...]], str],
    *,
    cell: int | None = None,
) -> Iterator[str]:
    """Lines that add the products of one output of a cell, in the order in which the taps lie in the source.

    Without a cell they are added to what is there.
    """
    places = [
        list(zip(tap_places(axis, phase), phase.taps, strict=True))
        for axis, phase in zip(recipe.axes, phases, strict=True)
    ]
    fresh = cell is not None
    if fresh and not all(places):  # the stride is wider than the kernel: no tap reaches it
        yield f"{name} = {_zeros(recipe)}"
    for (z, tz), (y, ty), (x, tx) in product(*places):
        at, tap = (z + (cell or 0), y, x), weight((tz, ty, tx))
        yield from loads.lines(*at)
        yield f"{name} = {loads.name(*at)} * {tap}" if fresh else f"{name} = tl.fma({loads.name(*at)}, {tap}, {name})"
        fresh = False


def _zeros(recipe: Recipe) -> str:
    return f"tl.zeros([BX], tl.{recipe.compute.replace('fp', 'float')})"


def _stored(recipe: Recipe, cell: int, phases: tuple[Phase, Phase], names: list[str]) -> Iterator[str]:
    """Lines that end a row of outputs and store it."""
    sz, sy, sx = recipe.strides
    for name in names:
        yield from _ended(recipe, name)
    yield f"to_z, to_y = (cell_z + {cell}) * {sz} + {phases[0].remainder}, cell_y * {sy} + {phases[1].remainder}"
    yield "end = tl.where((to_z < oz) & (to_y < oy), ox, 0)"  # of a row that is not there, nothing is
    yield "to = out + ((filter * oz + to_z) * oy + to_y) * ox"
    if sx in INTERLEAVED:
        yield f"values = {_interleaved(names)}"
        yield f"to_x = cell_x * {sx} + tl.arange(0, BX * STRIDE)"
        yield "tl.store(to + to_x, values, mask=to_x < end)"
    for n, name in enumerate(names):
        if recipe.integer:
            yield f"count += tl.where((x * {sx} + {n} < end) & lost_{name}, 1, 0)"
        if sx not in INTERLEAVED:
            yield f"tl.store(to + x * {sx} + {n}, {name}, mask=x * {sx} + {n} < end)"


def _interleaved(names: list[str]) -> str:
    """The rows of all phases as one: the first voxel of each, then the second of each."""
    if len(names) == 1:
        return names[0]
    return f"tl.interleave({_interleaved(names[::2])}, {_interleaved(names[1::2])})"


def _ended(recipe: Recipe, name: str) -> Iterator[str]:
    """Lines that make a sum what is stored: bias, activation, rounding."""
    if recipe.bias:
        yield f"{name} = {name} + offset"
    function, numbers = activation_parts(recipe.activation)
    if function == "prelu":
        yield f"{name} = functions.leaky_relu({name}, below)"
    elif function != "linear":
        told = ", ".join(repr(value) for value in numbers.values())
        yield f"{name} = functions.{SPELLED.get(function, function)}({name}{', ' + told if told else ''})"
    if recipe.integer:
        half = HALF[recipe.compute]
        yield f"{name} = ({name} - inter) * slope"
        yield f"near = tl.minimum(tl.maximum(tl.where({name} == {name}, {name}, nought), low - 1.0), high + 1.0)"
        yield f"near = (near + {half!r}) - {half!r}"
        yield f"lost_{name} = ({name} != {name}) | (near < low) | (near > high)"
        whole = recipe.compute.replace("fp", "int")  # what is stored are its lowest bits, with a sign or without
        yield f"{name} = tl.minimum(tl.maximum(near, low), high).to(tl.{whole})"


SPELLED = {"silu": "swish"}


def _counted(recipe: Recipe) -> Iterator[str]:
    if recipe.integer:
        yield "tl.atomic_add(lost, tl.sum(count, 0))"
