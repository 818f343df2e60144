"""Which voxel of one volume answers which of another, and in which order are both met?

Axes belong together by meaning: space by its letters where both files name them (``i`` and ``x`` are one name), else
in the order in which it is listed; further axes by their letters where both have the same ones, else likewise.  Further
axes of one voxel need no partner.  Both volumes are then met in the order of the one that allows no other: packed
NIfTI, then NIfTI, then A.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.axes import SPATIAL
from conv3dt.errors import DataError, DoesNotFitError
from conv3dt.io.volume import Index, Source, VolumeInfo
from conv3dt.plan import places
from conv3dt.resources import resources

SLAB_BYTES = 16 * 2**20
"""Stored numbers of both volumes that are read at a time."""

CHUNKS_BYTES = 64 * 2**20
"""The same where a dataset has a layer of chunks as large as this: each is unpacked once."""

IN_FLIGHT = 3
"""Slabs in memory: the one that is compared, the one that is read, and what a reader holds."""

ONE_NAME = str.maketrans("ijk", "xyz")


@dataclass(frozen=True, slots=True)
class Twin:
    """An axis that both volumes have: its letter and its number in A, its number in B, its voxels."""

    letter: str
    a: int
    b: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two volumes of one shape.

    Attributes:
        a, b: their headers.
        axes: walk order: further axes, then the three of space, the slowest first in both groups.
        together: how many of the further axes (the last ones) are faster in the file than planes are: the planes of
            all their volumes are read at once.
    """

    a: VolumeInfo
    b: VolumeInfo
    axes: tuple[Twin, ...]
    together: int

    @property
    def further(self) -> tuple[Twin, ...]:
        """The axes that are not space."""
        return self.axes[:-3]

    @property
    def space(self) -> tuple[int, int, int]:
        """Voxels per spatial axis, the slowest first."""
        planes, rows, columns = (axis.length for axis in self.axes[-3:])
        return planes, rows, columns

    @property
    def plane_bytes(self) -> int:
        """Stored numbers of a plane of A and its twin."""
        return self.space[1] * self.space[2] * (self.a.dtype.itemsize + self.b.dtype.itemsize)

    @property
    def partners(self) -> tuple[int, int, int]:
        """For each spatial axis of A, as listed, which of the spatial axes of B answers it."""
        found = {axis.a: self.b.spatial.index(axis.b) for axis in self.axes[-3:]}
        first, second, third = (found[axis] for axis in self.a.spatial)
        return first, second, third

    def numbers(self, info: VolumeInfo) -> list[int]:
        """The numbers of the walked axes in ``a`` or in ``b``."""
        return [axis.a if info is self.a else axis.b for axis in self.axes]

    def in_order(self, info: VolumeInfo) -> bool:
        """Whether a file is met from its first voxel to its last."""
        numbers = self.numbers(info)
        return info.fortran and info.spatial == (0, 1, 2) and numbers == sorted(numbers, reverse=True)

    def listed(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """Return an index in walk order as an index into A, as its file lists its axes."""
        index = [0] * len(self.a.shape)
        for axis, n in zip(self.axes, place, strict=True):
            index[axis.a] = int(n)
        return tuple(index)


@dataclass(frozen=True, slots=True, eq=False)
class Slab:
    """Some planes of both volumes.

    Attributes:
        start: the index of its first voxel, in walk order.
        kept: how many of its planes the slab before had too.
        a, b: stored numbers, axes in walk order, C-contiguous.
    """

    start: tuple[int, ...]
    kept: int
    a: NDArray[Any]
    b: NDArray[Any]

    @property
    def fresh_voxels(self) -> int:
        """How many voxels no slab before had."""
        return self.a.size // self.a.shape[-3] * (self.a.shape[-3] - self.kept)

    def place(self, flat: int) -> tuple[int, ...]:
        """Return the walk index of a voxel of `fresh`."""
        shape = (*self.a.shape[:-3], self.a.shape[-3] - self.kept, *self.a.shape[-2:])
        local = np.unravel_index(flat, shape)
        first = (*self.start[:-3], self.start[-3] + self.kept, *self.start[-2:])
        return tuple(int(n) + low for n, low in zip(local, first, strict=True))

    def fresh(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the voxels that no slab before had, flat."""
        return self.a[..., self.kept :, :, :].reshape(-1), self.b[..., self.kept :, :, :].reshape(-1)


def pair_up(a: VolumeInfo, b: VolumeInfo) -> Pair:
    """Return which axes belong together.

    Raises:
        DataError: the shapes do not agree.
    """
    letters = _in_space(a), _in_space(b)
    by_name = set(letters[0]) == set(letters[1]) == set("xyz")
    order = [letters[1].index(letter) for letter in letters[0]] if by_name else [0, 1, 2]
    space = [Twin(a.axes[n], n, b.spatial[m], a.shape[n]) for n, m in zip(a.spatial, order, strict=True)]
    further = _further(a, b)
    if further is None or any(axis.length != b.shape[axis.b] for axis in (*space, *further)):
        raise DataError(_mismatch(a, b))
    lead = max((a, b), key=lambda info: (info.is_stream, info.fortran))  # of equals the first, A

    def slowness(axis: Twin) -> int:
        number = axis.a if lead is a else axis.b
        return -number if lead.fortran else number

    space.sort(key=slowness)
    further.sort(key=slowness)
    together = sum(slowness(axis) > slowness(space[0]) for axis in further)
    return Pair(a, b, (*further, *space), together)


def _in_space(info: VolumeInfo) -> str:
    return "".join(letter for letter in info.axes if letter in SPATIAL).translate(ONE_NAME)


def _further(a: VolumeInfo, b: VolumeInfo) -> list[Twin] | None:
    """Further axes that belong together; None if one has no partner."""
    of_a, of_b = ([n for n, letter in enumerate(info.axes) if letter not in SPATIAL and info.shape[n] > 1]
                  for info in (a, b))  # fmt: skip
    if len(of_a) != len(of_b):
        return None
    if {a.axes[n] for n in of_a} == {b.axes[n] for n in of_b}:
        of_b = [b.axes.index(a.axes[n]) for n in of_a]
    return [Twin(a.axes[n], n, m, a.shape[n]) for n, m in zip(of_a, of_b, strict=True)]


def _mismatch(a: VolumeInfo, b: VolumeInfo) -> str:
    first, second = (f"{info.path} is {'x'.join(map(str, info.shape))} ({info.axes})" for info in (a, b))
    turned = sorted(a.shape) == sorted(b.shape)
    advice = "say with --axes-b (axes_b=) how B lists them" if turned else "compare volumes of one shape"
    return f"{first}, {second}: the shapes must agree axis by axis; {advice}"


def slabs(pair: Pair, sources: tuple[Source, ...], *, overlap: int) -> Iterator[Slab]:
    """Yield both volumes slab by slab; the next one is read meanwhile, each file by a thread of its own.

    Args:
        pair: what belongs together.
        sources: A and B.
        overlap: how many planes a slab repeats of the one before; volumes are then met one by one.

    Raises:
        DoesNotFitError: a plane is too large.
    """
    with ThreadPoolExecutor(2, "conv3dt-read") as readers:

        def reading(box: Index | None) -> list[Future[NDArray[Any]]]:
            if box is None:
                return []
            both = zip((pair.a, pair.b), sources, strict=True)
            return [readers.submit(_read, pair, info, source, box) for info, source in both]

        boxes = _boxes(pair, depth(pair, overlap), together=0 if overlap else pair.together)
        box = next(boxes, None)
        waiting = reading(box)
        held: list[NDArray[Any]] = []
        while box is not None:
            blocks = [future.result() for future in waiting]
            upcoming = next(boxes, None)
            waiting = reading(upcoming)
            slab = _with_kept(box, held if box[-3].start else [], blocks)
            yield slab
            held = [block[..., -overlap:, :, :].copy() for block in (slab.a, slab.b)] if overlap else []
            box = upcoming


def _with_kept(box: Index, held: list[NDArray[Any]], blocks: list[NDArray[Any]]) -> Slab:
    """Put planes of the slab before in front of those of a box."""
    kept = held[0].shape[-3] if held else 0
    if kept:
        blocks = [np.concatenate(two, axis=-3) for two in zip(held, blocks, strict=True)]
    start = [part.start for part in box]
    start[-3] -= kept
    return Slab(tuple(start), kept, *blocks)


def depth(pair: Pair, overlap: int) -> int:
    """Return how many planes are read at a time.

    Raises:
        DoesNotFitError: not even one fits.
    """
    many = 1 if overlap else prod(axis.length for axis in pair.further[len(pair.further) - pair.together :])
    plane = many * pair.plane_bytes
    if (budget := resources().budget(0)) < IN_FLIGHT * plane:
        raise DoesNotFitError(
            f"compare: a plane of {pair.a.path} and its twin take {plane / 2**20:.0f} MiB, {IN_FLIGHT} of them must "
            f"fit into {budget / 2**20:.0f} MiB; free memory, or store the volumes with smaller planes"
        )
    count, layer = SLAB_BYTES // plane, _chunk(pair)
    if count < layer and layer * plane <= min(CHUNKS_BYTES, budget // IN_FLIGHT):
        count = layer
    return min(max(count - count % layer if count > layer else count, 1), pair.space[0])


def _chunk(pair: Pair) -> int:
    """The planes of a layer of chunks."""
    found = [1]
    for info in (pair.a, pair.b):
        if "chunks" in info.layout:
            found.append(int(info.layout["chunks"][pair.numbers(info)[-3]]))
    return max(found)


def _boxes(pair: Pair, depth: int, *, together: int) -> Iterator[Index]:
    """Boxes of ``depth`` planes, in walk order."""
    planes, rows, columns = pair.space
    outer = [axis.length for axis in pair.further[: len(pair.further) - together]]
    inner = [slice(0, axis.length) for axis in pair.further[len(pair.further) - together :]]
    for volume in places(outer):
        for low in range(0, planes, depth):
            yield (
                *(slice(n, n + 1) for n in volume), *inner, slice(low, min(low + depth, planes)), slice(0, rows),
                slice(0, columns),
            )  # fmt: skip


def _read(pair: Pair, info: VolumeInfo, source: Source, box: Index) -> NDArray[Any]:
    """Return a box in walk order."""
    numbers = pair.numbers(info)
    index = [slice(0, 1)] * len(info.shape)
    for number, part in zip(numbers, box, strict=True):
        index[number] = part
    alone = [n for n in range(len(info.shape)) if n not in numbers]
    block = source.read(tuple(index)).transpose([*alone, *numbers])
    return np.ascontiguousarray(block[(0,) * len(alone)])
