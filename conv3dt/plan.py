"""Which output regions, from which input regions, in which order, with how much memory?  Plain ints.

Axes are in *walk order*: slowest in memory first, which is ``k, j, i`` for NIfTI.  A plan is a value; running it is a
loop over ``regions()``.  Regions tile the output without overlap and start at multiples of the strides, so that every
region meets its phases in the same order; each is computed from exactly the input its outputs need, so nothing is
ever blended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, lcm, prod

from conv3dt.errors import DoesNotFitError
from conv3dt.geometry import Axis, Box, covering

Axes = tuple[Axis, Axis, Axis]
Shape = tuple[int, ...]

PREFERRED_BYTES = 16 * 2**20
"""Output bytes of one region where memory allows: small enough for the last cache, large enough to hide Python."""

MOST_VALUES = 2**30
"""No region comes near 2^31 values, where cuDNN has returned zeros without a word (pytorch#87354)."""

LINE_BYTES = 64
"""Each row of an input region begins on a line of the cache."""

IN_FLIGHT = 2
"""Regions that are on an accelerator at once: one moves while the other is computed."""

BUFFERS = 2
"""Input regions held at once, and output regions: one is read or written while the other is computed."""


@dataclass(frozen=True, slots=True)
class Region:
    """One step: read ``read``, extend it to ``source``, compute, write ``target``.

    ``source`` may reach outside the volume; ``read`` holds every voxel of the volume that ``source`` stands for.
    """

    target: Box
    source: Box
    read: Box


@dataclass(frozen=True, slots=True)
class Demand:
    """What one voxel costs in bytes while it is worked on.

    Attributes:
        channels: input channels; filters: output channels.
        stored: bytes of an input voxel in the file; computed: bytes of a voxel in computation.
        written: bytes of an output voxel in the file.
        scratch: further bytes per output voxel that the engine or the writer needs.
        in_flight: regions that are computed at once.
        preferred: output bytes of a region that suit the engine; most_values: that it can hold.
    """

    channels: int
    filters: int
    stored: int
    computed: int
    written: int
    scratch: int = 0
    in_flight: int = 1
    preferred: int = PREFERRED_BYTES
    most_values: int = MOST_VALUES

    @property
    def buffers(self) -> int:
        """Input regions held at once, and output regions."""
        return buffers(self.in_flight)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a volume is cut up.

    Attributes:
        axes: the law of each axis.
        shape: input voxels per axis; tile: output voxels per axis of a region (the last of an axis may be shorter).
        boundary: what lies outside the volume.
        batch: how many volumes follow one another.
        peak_bytes: the memory that the regions in flight take, beside the program itself.
    """

    axes: Axes
    shape: Shape
    tile: Shape
    boundary: str
    batch: int
    peak_bytes: int

    @property
    def output_shape(self) -> Shape:
        """Output voxels per axis."""
        return tuple(axis.length(n) for axis, n in zip(self.axes, self.shape, strict=True))

    @property
    def count(self) -> int:
        """How many regions there are in one volume."""
        return prod(ceil(n / size) for n, size in zip(self.output_shape, self.tile, strict=True))

    @property
    def in_slabs(self) -> bool:
        """Whether every region spans the two faster axes: then input and output are met in file order."""
        return self.tile[1:] == self.output_shape[1:]

    def regions(self) -> Iterator[Region]:
        """Yield the regions of one volume, slowest axis outermost."""
        counts = [ceil(n / size) for n, size in zip(self.output_shape, self.tile, strict=True)]
        for place in places(counts):
            start = tuple(number * size for number, size in zip(place, self.tile, strict=True))
            stop = tuple(min(a + size, n) for a, size, n in zip(start, self.tile, self.output_shape, strict=True))
            yield self._region(Box(start, stop))

    def _region(self, target: Box) -> Region:
        source, read = [], []
        for axis, n, start, stop in zip(self.axes, self.shape, target.start, target.stop, strict=True):
            low, high = axis.sources(start, stop)
            source.append((low, high))
            read.append(covering(low, high, n, self.boundary))
        return Region(target, _box(source), _box(read))


def places(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield all index tuples below ``counts``, the last fastest; unlike itertools.product without lists of them.

    >>> list(places([2, 2]))
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    for number in range(prod(counts)):
        place = []
        for count in reversed(counts):
            number, rest = divmod(number, count)
            place.append(rest)
        yield tuple(reversed(place))


def make_plan(
    axes: Axes,
    shape: Shape,
    *,
    boundary: str,
    batch: int,
    demand: Demand,
    budget: int,
    tile: Shape | None,
    chunks: Shape,
    slabs: bool,
) -> Plan:
    """Return the plan that stays within ``budget`` bytes.

    Args:
        axes: the law of each axis, in walk order like all that follows.
        shape: input voxels per axis.
        boundary: what lies outside the volume.
        batch: how many volumes follow one another.
        demand: what a voxel costs.
        budget: bytes for all regions in flight.
        tile: output voxels per axis of a region, or None to choose: slabs if one fits, else boxes.
        chunks: output voxels per axis of a storage chunk (1 where there are none); regions end on whole chunks
            where the budget allows.
        slabs: whether a file that can only be met in order asks for whole planes; then boxes are the last resort.

    Raises:
        DoesNotFitError: if not even the smallest region fits.
    """
    output = tuple(axis.length(n) for axis, n in zip(axes, shape, strict=True))
    steps = tuple(axis.stride for axis in axes)

    def cost(size: Shape) -> int:
        return _cost(size, axes, shape, demand)

    if tile is None:
        aligned = tuple(lcm(chunk, step) for chunk, step in zip(chunks, steps, strict=True))
        chosen = _choose(output, aligned, cost, budget, demand, _weight(demand, steps), slabs=slabs)
        if cost(chosen) > budget:
            chosen = _choose(output, steps, cost, budget, demand, _weight(demand, steps), slabs=slabs)
    else:
        chosen = tuple(min(_up(size, step), n) for size, step, n in zip(tile, steps, output, strict=True))
    if demand.filters * prod(chosen) > MOST_VALUES:
        raise DoesNotFitError(f"tile {'x'.join(map(str, chosen))} holds more than 2^30 values; give a smaller one")
    if cost(chosen) > budget:
        raise DoesNotFitError(
            f"max-memory leaves {_mib(budget)} for regions, {'the smallest' if tile is None else 'this tile'} "
            f"({'x'.join(map(str, chosen))} output voxels) takes {_mib(cost(chosen))}; raise max-memory"
            f"{'' if tile is None else ' or give a smaller tile'}"
        )
    return Plan(axes, shape, chosen, boundary, batch, cost(chosen))


def _choose(
    output: Shape, steps: Shape, cost: Callable[[Shape], int], budget: int, demand: Demand, voxel: int, *, slabs: bool
) -> Shape:
    """The highest slab of whole steps near the preferred size; boxes where even the lowest slab is too big."""
    height = min(_up(max(demand.preferred // (output[1] * output[2] * voxel), 1), steps[0]), _up(output[0], steps[0]))
    while height > steps[0] and cost((height, *output[1:])) > budget:
        height = _up(max(height // 2, 1), steps[0])
    size = [min(height, output[0]), *output[1:]]

    def too_big() -> bool:
        if demand.filters * prod(size) > demand.most_values:
            return True
        return cost(tuple(size)) > budget or (not slabs and prod(size) * voxel > 4 * demand.preferred)

    for axis in (1, 2, 0):
        while too_big() and size[axis] > steps[axis]:
            size[axis] = min(_up(max(size[axis] // 2, 1), steps[axis]), size[axis] - 1)
            size[axis] = max(size[axis] // steps[axis], 1) * steps[axis]
    return tuple(size)


def _weight(demand: Demand, strides: Shape) -> int:
    """Bytes that an output voxel moves: those written, or those read for it where many channels become one label."""
    read = (demand.stored + demand.computed) * demand.channels
    return max(demand.written * demand.filters, read // prod(strides))


def _cost(size: Shape, axes: Axes, shape: Shape, demand: Demand) -> int:
    """Bytes in flight for regions of ``size`` output voxels."""
    source = [min(ceil(n / axis.stride) + axis.extent // axis.stride + 1, full + 2 * axis.extent)
              for n, axis, full in zip(size, axes, shape, strict=True)]  # fmt: skip
    padded = prod(source[:2]) * row_length(source[2], demand.computed)
    read = demand.buffers * demand.channels * (prod(source) * demand.stored + padded * demand.computed)
    write = demand.filters * prod(size) * (demand.buffers * demand.written + demand.scratch)
    return read + write


def buffers(in_flight: int) -> int:
    """Return how many input regions, and output regions, are held where ``in_flight`` are computed at once."""
    return BUFFERS - 1 + in_flight


def row_length(width: int, itemsize: int) -> int:
    """Return how many items lie between rows that each begin on a line of the cache.

    >>> row_length(66, 4)
    80
    """
    return _up(width, LINE_BYTES // itemsize)


def _box(ranges: list[tuple[int, int]]) -> Box:
    return Box(tuple(low for low, _ in ranges), tuple(high for _, high in ranges))


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _mib(count: int) -> str:
    return f"{max(count, 0) / 2**20:.1f} MiB"
