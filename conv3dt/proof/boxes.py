"""Which boxes of an output are computed again?  Corners, seams between tiles, and random ones; plain ints."""

from __future__ import annotations

from itertools import product
from math import ceil, prod
from random import Random

from conv3dt.geometry import Box
from conv3dt.plan import places

Shape = tuple[int, ...]
Volume = tuple[int, ...]

ENDS = ((0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (0, 0, 1), (1, 1, 0))
"""The corners, each followed by the one opposite: as few as there is room for lie far apart."""

TRIES = 50
"""Random boxes are tried so many times for each that is wanted, before there is no new one."""


def choose_boxes(
    shape: Shape, volumes: Shape, tile: Shape, *, regions: int, size: int, seed: int
) -> list[tuple[Volume, Box]]:
    """Return boxes of a series of volumes, each with the number of its volume, in the order of a NIfTI file.

    If ``regions`` boxes hold everything, everything is chosen.  Else the eight corners are (as many as there are boxes
    for, in the first, the last and random volumes), a third lies across the faces where tiles meet, and the rest
    anywhere.  The same arguments give the same boxes.

    Args:
        shape: voxels per axis, the first axis fastest in the file; volumes: how many there are along each further axis.
        tile: voxels per axis of the regions that were computed at once.
        regions: how many boxes; size: voxels of a side.
        seed: of the random ones.

    >>> choose_boxes((2, 3, 4), (), (2, 3, 4), regions=2, size=3, seed=0)
    [((), Box(start=(0, 0, 0), stop=(2, 3, 3))), ((), Box(start=(0, 0, 1), stop=(2, 3, 4)))]
    """
    sides = [min(size, n) for n in shape]
    counts = [ceil(n / side) for n, side in zip(shape, sides, strict=True)]
    if prod(counts) * prod(volumes) <= regions:
        starts = [[min(number * side, n - side) for number in range(count)]
                  for count, side, n in zip(counts, sides, shape, strict=True)]  # fmt: skip
        chosen = list(product(places(volumes), product(*starts)))
    else:
        chosen = _sample(shape, volumes, tile, sides, regions, Random(seed))
    found = [(volume, _box(start, sides)) for volume, start in dict.fromkeys(chosen)]
    return sorted(found, key=lambda each: (each[0][::-1], each[1].start[::-1]))


def _sample(
    shape: Shape, volumes: Shape, tile: Shape, sides: list[int], regions: int, random: Random
) -> list[tuple[Volume, Shape]]:
    last = [n - side for n, side in zip(shape, sides, strict=True)]

    def anywhere() -> list[int]:
        return [random.randint(0, n) for n in last]

    def any_volume() -> Volume:
        return tuple(random.randrange(n) for n in volumes)

    ends = [tuple(0 for _ in volumes), tuple(n - 1 for n in volumes), *(any_volume() for _ in ENDS[2:])]
    chosen = dict.fromkeys(
        (volume, tuple(end * n for end, n in zip(corner, last, strict=True)))
        for volume, corner in list(zip(ends, ENDS, strict=True))[:regions]
    )
    seams = [range(step, n, step) for step, n in zip(tile, shape, strict=True)]
    for _ in range((regions - len(chosen)) // 2 if any(seams) else 0):
        start = anywhere()
        for axis, places_of_axis in enumerate(seams):
            if places_of_axis:
                middle = random.choice(places_of_axis) - sides[axis] // 2
                start[axis] = min(max(middle, 0), last[axis])
        chosen[any_volume(), tuple(start)] = None
    for _ in range(TRIES * regions):
        if len(chosen) >= regions:
            break
        chosen[any_volume(), tuple(anywhere())] = None
    return list(chosen)


def _box(start: Shape, sides: list[int]) -> Box:
    return Box(start, tuple(a + side for a, side in zip(start, sides, strict=True)))
