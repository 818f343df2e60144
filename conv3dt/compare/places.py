"""Do two volumes put the same index at the same place?  If not: which axis is turned, stretched or shifted, how far.

The matrix ``inverse(A) @ B`` takes an index of B to where A has the same place.  Voxels of one index lie the farthest
apart at one of the eight corners, because it is affine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import atan2, degrees

import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import spacing
from conv3dt.compare.pairs import Pair
from conv3dt.errors import DataError
from conv3dt.grids import PLACE, directions, letters, offset, place_of, scaled, unit_of, unit_ratio

Matrix = NDArray[np.float64]

MOST_DEGREES = 0.01


@dataclass(frozen=True, slots=True)
class GridAxis:
    """An axis of A and the one of B that answers it; lengths in the unit of the grid.

    Attributes:
        axis: its letter in A.
        size_a, size_b: voxel sizes; None where a file does not say.
        shift_voxels: where the first voxel of B lies on this axis, in voxels of A; shift: the same as a length.
        most_voxels: how far voxels of one index lie apart on this axis, at the most, in voxels of A.
        runs: ``along i`` or ``backwards along i``, naming the axis of A that lies nearest.
        degrees: the angle between those two.
    """

    axis: str
    size_a: float | None
    size_b: float | None
    shift_voxels: float | None = None
    shift: float | None = None
    most_voxels: float | None = None
    runs: str | None = None
    degrees: float | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """How the grid of B lies to that of A.

    Attributes:
        match: whether they put the same index at the same place; None if that cannot be known.
        unit: of lengths; empty where no file says one.
        axes: of A, as listed.
        most_voxels: how far voxels of one index lie apart on an axis, at the most, in voxels of A.
        most: how far they lie apart in space, at the most.
        reordered: whether B has the same places in another order (flipped or swapped axes).
        orientation_a, orientation_b: where the axes of each file lead, as in ``RAS``.
        mismatches: what differs, in words.
        note: why only voxel sizes were compared.
    """

    match: bool | None
    unit: str
    axes: tuple[GridAxis, ...]
    most_voxels: float | None = None
    most: float | None = None
    reordered: bool = False
    orientation_a: str | None = None
    orientation_b: str | None = None
    mismatches: tuple[str, ...] = ()
    note: str = ""


def compare_grids(pair: Pair) -> Grid:
    """Compare the grids of two volumes whose axes belong together."""
    places = [place_of(info) for info in (pair.a, pair.b)]
    orientations = [_orientation(place) for place in places]
    grid = replace(_sizes(pair), orientation_a=orientations[0], orientation_b=orientations[1])
    a, b = places
    if a is None or b is None:
        who = "neither file says" if a is b else f"{'A' if a is None else 'B'} does not say"
        return replace(grid, note=f"{who} where its voxels lie")
    b = scaled(b, pair.b, pair.a)[:, [*pair.partners, 3]]
    try:
        along_a, along_b = directions(a, "A"), directions(b, "B")
    except DataError as error:
        return replace(grid, note=str(error).partition(";")[0])
    return _placed(grid, pair.a.space, a, b, along_a, along_b)


def _orientation(place: Matrix | None) -> str | None:
    if place is None or not np.isfinite(place).all():
        return None
    from nibabel.orientations import aff2axcodes

    return "".join(code or "?" for code in aff2axcodes(place))


def _sizes(pair: Pair) -> Grid:
    """What can be said without places."""
    ratio = unit_ratio(pair.b, pair.a)
    of_a = pair.a.spacing or (None, None, None)
    of_b = [pair.b.spacing[axis] * ratio if pair.b.spacing else None for axis in pair.partners]
    unit = unit_of(pair.a) or unit_of(pair.b)
    axes = tuple(GridAxis(*each) for each in zip(letters(pair.a), of_a, of_b, strict=True))
    found = tuple(text for axis, n in zip(axes, pair.a.space, strict=True) if (text := _size_text(axis, n, unit)))
    return Grid(False if found else None, unit, axes, mismatches=found)


def _placed(grid: Grid, space: tuple[int, int, int], a: Matrix, b: Matrix, along_a: Matrix, along_b: Matrix) -> Grid:
    """What can be said of two places, both in the axes and the unit of A."""
    apart = offset(a, b, space)
    names = [axis.axis for axis in grid.axes]
    axes = []
    for n, name in enumerate(names):
        cosines = along_a.T @ along_b[:, n]
        nearest = int(np.abs(cosines).argmax())
        across = float(np.linalg.norm(np.cross(along_a[:, nearest], along_b[:, n])))
        shift = float(apart.corners[0, n])
        axes.append(
            GridAxis(
                axis=name,
                size_a=spacing(a)[n],
                size_b=spacing(b)[n],
                shift_voxels=shift,
                shift=shift * spacing(a)[n],
                most_voxels=float(np.abs(apart.corners[:, n]).max()),
                runs=f"{'along' if cosines[nearest] >= 0 else 'backwards along'} {names[nearest]}",
                degrees=degrees(atan2(across, abs(float(cosines[nearest])))),  # arccos knows small angles badly
            )
        )
    reordered = not apart.fits and _reordered(np.linalg.inv(a) @ b, space)
    found: list[str] = []
    if not apart.fits:
        found = [text for axis, n in zip(axes, space, strict=True) for text in _texts(axis, n, grid.unit)]
        found += ["B has the same places in another order of voxels"] if reordered else []
    return replace(
        grid,
        match=apart.fits,
        axes=tuple(axes),
        most_voxels=float(np.abs(apart.corners).max()),
        most=float(apart.lengths.max()),
        reordered=reordered,
        mismatches=tuple(found),
    )


def _reordered(moved: Matrix, space: tuple[int, int, int]) -> bool:
    """Whether the grids match once axes are flipped or swapped."""
    signs = np.rint(moved[:3, :3])
    if (np.abs(signs).sum(axis=0) != 1).any() or (np.abs(signs).sum(axis=1) != 1).any():
        return False
    order = np.eye(4)
    order[:3, :3] = signs
    order[:3, 3] = np.where(signs.sum(axis=1) < 0, np.array(space) - 1, 0)
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in space))])
    return bool(np.abs((corners @ (moved - order).T)[:, :3]).max() <= PLACE)


def _texts(axis: GridAxis, n: int, unit: str) -> list[str]:
    """What differs on an axis of ``n`` voxels."""
    found = []
    if axis.runs != f"along {axis.axis}":
        flipped = " (flipped)" if axis.runs == f"backwards along {axis.axis}" else ""
        found.append(f"axis {axis.axis}: B runs {axis.runs}{flipped}")
    if size := _size_text(axis, n, unit):
        found.append(size)
    if axis.degrees is not None and axis.degrees > MOST_DEGREES:
        found.append(f"axis {axis.axis}: B is turned by {axis.degrees:.3g} degrees")
    if axis.runs == f"along {axis.axis}" and axis.shift_voxels is not None and (axis.most_voxels or 0) > PLACE:
        length = f"{axis.shift or 0:+.4g} {unit}".rstrip()
        most = f"at most {axis.most_voxels:.4g} voxels"
        found.append(f"axis {axis.axis}: B begins {axis.shift_voxels:+.4g} voxels ({length}) off, {most}")
    return found


def _size_text(axis: GridAxis, n: int, unit: str) -> str:
    """The sizes, if they differ so much that it is seen at the other end of ``n`` voxels."""
    a, b = axis.size_a, axis.size_b
    if a is None or b is None or abs(b - a) * n <= PLACE * abs(a):
        return ""
    return f"axis {axis.axis}: voxel size {a:.6g} in A, {b:.6g} in B {unit}".rstrip()
