"""Which voxel does each pixel of a slice show?  Planes through one point of the world, the same for every volume.

A view is laid out on the axes of the first volume: three panels, each with one of its axes to the right and one down,
all of the same number of millimetres a pixel.  A pixel is a point of the world; a volume shows the voxel there, the
nearest centre to ``inverse(matrix) @ point``, so that grids which lie half a voxel apart are seen to.  Half-way between
two centres the one further to the right, front or top is taken, whichever way the indices of a volume run.

Volumes with an affine that says where the patient is are shown as radiologists expect it, along the axes that lie
nearest to the patient's: axial, coronal, sagittal, the patient's right on the left and front on the left.  Others are
shown by their plain axes, the faster in the file to the right, first faces together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import spacing
from conv3dt.axes import SPATIAL
from conv3dt.errors import ArgumentError, DataError, DoesNotFitError

if TYPE_CHECKING:
    from conv3dt.io.volume import Source, VolumeInfo

Matrix = NDArray[np.float64]
Triple = tuple[int, int, int]
Point = tuple[float, float, float]

MARGIN = 1
"""Voxels of the first volume that are shown around it, so that what lies outside of it is seen."""
NUDGE = 1e-3
"""Of the finest voxel: how far from the middle of a pixel it is looked up, so that nothing lies half-way, not even by
what the float32 of a header leaves."""
MOST_SAMPLES = 960
"""Samples along a panel's longest side where one pixel stands for several voxels."""
MOST_BYTES = 16 * 2**20
"""Of a box that is read at once, or of the range of a file that is mapped for it."""
MOST_PLANE_BYTES = 2**30
MOST_MM = 1e12
MILLIMETRES = {"m": 1000.0, "mm": 1.0, "um": 0.001}


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels of a volume lie.

    Attributes:
        matrix: 4x4, from indices of its three spatial axes, as listed, to mm.
        oriented: whether the world's axes are the patient's: right, front and top (RAS).
        oblique: whether its axes lie askew to the world's.
    """

    matrix: Matrix
    oriented: bool
    oblique: bool = False

    @property
    def sizes(self) -> Point:
        """The voxel size in mm."""
        return spacing(self.matrix)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A plane as a picture: pixel ``(column, row)`` is the world's ``corner + column * right + row * down``.

    Attributes:
        name: ``axial``, or which axis it cuts.
        corner: the world point of the middle of pixel (0, 0); right, down: from one pixel to the next, in mm.
        width, height: in pixels.
        cross: the column and row, not whole, of the point that all planes go through.
        letters: what lies left, right, up and down.
    """

    name: str
    corner: Matrix
    right: Matrix
    down: Matrix
    width: int
    height: int
    cross: tuple[float, float]
    letters: tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Three panels through a point.

    Attributes:
        panels: planes as pictures.
        point: of the world, in mm; voxel: of the first volume there.
        pixel: mm a pixel; samples: along each side of one.
        nudge: from the middle of a sample to where it is looked up, in mm.
        oriented: whether the panels lie along the patient's axes.
    """

    panels: tuple[Panel, Panel, Panel]
    point: Point
    voxel: Triple
    pixel: float
    samples: int
    nudge: Matrix
    oriented: bool


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """The stored numbers under a panel's samples, and which samples lie in the volume; zero where they do not.

    Both are ``(height * samples, width * samples)``.
    """

    values: NDArray[Any]
    inside: NDArray[np.bool_]


def grid_of(info: VolumeInfo, first: tuple[VolumeInfo, Grid] | None = None) -> Grid:
    """Return where a volume lies.

    Args:
        info: its header.
        first: the volume that it is shown beside; one that says neither place nor voxel size is laid over it.

    Raises:
        DataError: its affine is singular or not finite, or one of the two has no place in the world.
    """
    oriented = _is_placed(info)
    if first is not None and oriented != first[1].oriented:
        lost, found = (info, first[0]) if first[1].oriented else (first[0], info)
        raise DataError(
            f"{lost.path}: does not say where it lies, and {found.path} does; no place is the same in both, draw each "
            "by itself"
        )
    if oriented:
        return _placed(info)
    sizes = info.spacing
    if sizes is None and first is not None:
        sides = [n * size for n, size in zip(first[0].space, first[1].sizes, strict=True)]
        return _plain([side / n for side, n in zip(sides, info.space, strict=True)])
    scale = MILLIMETRES.get(info.unit, 1.0)
    return _plain([size * scale if 0 < size < MOST_MM else 1.0 for size in sizes or (1.0, 1.0, 1.0)])


def _is_placed(info: VolumeInfo) -> bool:
    if info.affine is None:
        return False
    return info.header is None or int(info.header["sform_code"]) > 0 or int(info.header["qform_code"]) > 0


def _placed(info: VolumeInfo) -> Grid:
    assert info.affine is not None
    matrix = np.array(info.affine, np.float64)
    matrix[:3] *= MILLIMETRES.get(info.unit, 1.0)
    if not np.abs(matrix).max() < MOST_MM or np.linalg.matrix_rank(matrix[:3, :3]) < 3:
        raise DataError(f"{info.path}: its affine is singular or not finite: its voxels lie nowhere; mend it")
    directions = np.abs(matrix[:3, :3] / spacing(matrix))
    return Grid(matrix, oriented=True, oblique=bool((directions.max(axis=0) < 1 - 1e-6).any()))


def _plain(sizes: Sequence[float]) -> Grid:
    matrix = np.diag([*sizes, 1.0])
    matrix[:3, 3] = [size / 2 for size in sizes]
    return Grid(matrix, oriented=False)


def view_of(
    infos: Sequence[VolumeInfo],
    grids: Sequence[Grid],
    *,
    at: Sequence[float] | None,
    voxel: Sequence[int] | None,
    pixels: int,
) -> View:
    """Lay out three planes on the first of some volumes.

    Args:
        infos, grids: of the volumes.
        at: the point in mm; voxel: or a voxel of the first volume; neither: the voxel in its middle.
        pixels: about how many along the longest side.

    Raises:
        ArgumentError: the point lies outside the first volume, or the volumes have no world.
    """
    space, grid = infos[0].space, grids[0]
    index = _index_of(infos[0], grid, at, voxel)
    axes, signs = _axes(grid)
    sides = [(n + 2 * MARGIN) * size for n, size in zip(space, grid.sizes, strict=True)]
    finest = min(size for each in grids for size in each.sizes)
    pixel, samples = _pixel(finest, max(sides) / pixels)
    nudge = sum(sign * grid.matrix[:3, axis] / grid.sizes[axis] for axis, sign in zip(axes, signs, strict=True))
    nudge = NUDGE * finest * np.asarray(nudge)
    nearest = np.floor(index + np.linalg.solve(grid.matrix[:3, :3], nudge) + 0.5).astype(int)
    if ((nearest < 0) | (nearest >= space)).any():
        raise ArgumentError(f"at {_listed(at)} mm lies outside {infos[0].path}, {_reach(infos[0], grid)}")
    panels = [_panel(cut, space, grid, index, pixel, axes, signs) for cut in _cuts(infos[0], grid)]
    return View(
        (panels[0], panels[1], panels[2]),
        _point((grid.matrix @ [*index, 1.0])[:3].tolist()),
        (int(nearest[0]), int(nearest[1]), int(nearest[2])),
        pixel,
        min(samples, max(MOST_SAMPLES // pixels, 1)),
        nudge,
        grid.oriented,
    )


def _pixel(finest: float, wanted: float) -> tuple[float, int]:
    """Return a pixel's size, a whole part or a whole multiple of the finest voxel, and how many voxels it spans."""
    if finest >= wanted:
        return finest / floor(finest / wanted * (1 + 1e-9)), 1
    times = ceil(wanted / finest * (1 - 1e-9))
    return finest * times, times


def _index_of(
    info: VolumeInfo, grid: Grid, at: Sequence[float] | None, voxel: Sequence[int] | None
) -> tuple[float, float, float]:
    """The index, not whole, of the point in the first volume."""
    if at is not None and voxel is not None:
        raise ArgumentError("at and voxel both say where; give one of them")
    if at is None:
        return _index_of_voxel(info, voxel)
    if not grid.oriented:
        raise ArgumentError(f"at: {info.path} does not say where in the world it lies; give --voxel I,J,K instead")
    if len(at) != 3 or not np.isfinite(at).all():
        raise ArgumentError(f"at must be three finite numbers, got {_listed(at)}")
    index = (np.linalg.inv(grid.matrix) @ [*at, 1.0])[:3]
    if not (np.abs(index) < 2**40).all():
        raise ArgumentError(f"at {_listed(at)} mm lies outside {info.path}, {_reach(info, grid)}")
    return _point(index.tolist())


def _index_of_voxel(info: VolumeInfo, voxel: Sequence[int] | None) -> Point:
    if voxel is None:
        return _point([n // 2 for n in info.space])
    if len(voxel) != 3 or any(not 0 <= index < n for index, n in zip(voxel, info.space, strict=True)):
        last = ",".join(str(n - 1) for n in info.space)
        raise ArgumentError(f"voxel {_listed(voxel)} is not in {info.path}, whose voxels are 0,0,0 to {last}")
    return _point([float(index) for index in voxel])


def _reach(info: VolumeInfo, grid: Grid) -> str:
    corners = np.array([[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners[:, :3] = corners[:, :3] * info.space - 0.5
    world = (grid.matrix @ corners.T)[:3]
    return f"which reaches from {_listed(world.min(axis=1))} to {_listed(world.max(axis=1))}"


def _axes(grid: Grid) -> tuple[list[int], list[int]]:
    """Which axis of the volume lies nearest to each of the view's three, and whether it runs the same way."""
    if not grid.oriented:
        return [0, 1, 2], [1, 1, 1]
    from nibabel.orientations import io_orientation

    found = io_orientation(grid.matrix)
    order = [int(np.flatnonzero(found[:, 0] == world)[0]) for world in range(3)]
    return order, [int(found[axis, 1]) for axis in order]


@dataclass(frozen=True, slots=True)
class _Cut:
    """What a panel shows: which of the view's axes runs to the right and which down, each with its sign."""

    name: str
    right: tuple[int, int]
    down: tuple[int, int]
    letters: tuple[str, str, str, str]


def _cuts(info: VolumeInfo, grid: Grid) -> list[_Cut]:
    if grid.oriented:  # axes of RAS
        return [
            _Cut("axial", (0, -1), (1, -1), ("R", "L", "A", "P")),
            _Cut("coronal", (0, -1), (2, -1), ("R", "L", "S", "I")),
            _Cut("sagittal", (1, -1), (2, -1), ("A", "P", "S", "I")),
        ]
    names = [letter for letter in info.axes if letter in SPATIAL]
    slow = (2, 1, 0) if info.fortran else (0, 1, 2)
    cuts = []
    for cut in slow:
        down, right = (axis for axis in slow if axis != cut)
        cuts.append(_Cut(f"across axis {names[cut]}", (right, 1), (down, 1), ("", names[right], "", names[down])))
    return cuts


def _panel(
    cut: _Cut, space: Triple, grid: Grid, index: Point, pixel: float, axes: list[int], signs: list[int]
) -> Panel:
    start, steps, counts, cross = list(index), [], [], []
    for view_axis, sign in (cut.right, cut.down):
        axis, sign = axes[view_axis], sign * signs[view_axis]
        step = sign * pixel / grid.sizes[axis]
        first = -0.5 - MARGIN if sign > 0 else space[axis] - 0.5 + MARGIN
        start[axis] = first + sign * min(abs(step), space[axis] + 2 * MARGIN) / 2
        counts.append(max(ceil((space[axis] + 2 * MARGIN) / abs(step) * (1 - 1e-9)), 1))
        cross.append((index[axis] - start[axis]) / step)
        steps.append(grid.matrix[:3, axis] * step)
    corner = (grid.matrix @ [*start, 1.0])[:3]
    return Panel(cut.name, corner, steps[0], steps[1], counts[0], counts[1], (cross[0], cross[1]), cut.letters)


def read_slices(source: Source, grid: Grid, view: View, *, volume: int, channel: int) -> list[Slice]:
    """Read what a volume shows in the panels of a view, and no more of it than that takes.

    A packed NIfTI file is met once, from its first plane to the last one needed; of others only boxes are read.

    Args:
        source: opened in file order if `in_order` says so; grid: where it lies.
        view: see `view_of`.
        volume: which of several volumes, counted as the file lists them; channel: likewise.

    Raises:
        ArgumentError: no such volume or channel.
        DataError: the file is damaged.
        DoesNotFitError: one plane of a packed file is too large to be held.
    """
    reader = _Reader(source, _fixed(source.info, volume, channel))
    parts, slices = [], []
    for panel in view.panels:
        voxels, inside = _picks(panel, grid, source.info.space, view)
        values = np.zeros(inside.size, source.info.dtype.newbyteorder("="))
        parts.append((voxels, np.flatnonzero(inside).astype(np.int32), values))
        slices.append(Slice(values.reshape(inside.shape), inside))
    if source.sequential:
        reader.stream(parts)
    else:
        for part in parts:
            reader.gather(*part)
    return slices


def in_order(info: VolumeInfo) -> bool:
    """Whether slices can be had from a file that is met once: all axes behind its planes but one are not space."""
    return sum(axis >= 3 for axis in info.spatial) <= 1


def _fixed(info: VolumeInfo, volume: int, channel: int) -> dict[int, int]:
    """The index on each axis that is not space."""
    sizes = [info.shape[axis] for axis in info.batch]
    for name, number, count in (("volume", volume, prod(sizes)), ("channel", channel, info.channels)):
        if not 0 <= number < count:
            raise ArgumentError(
                f"{name} must be 0{f' to {count - 1}' if count > 1 else ''} for {info.path}, got {number}"
            )
    fixed = {axis: int(n) for axis, n in zip(info.batch, np.unravel_index(volume, sizes) if sizes else (), strict=True)}
    return fixed if info.channel is None else fixed | {info.channel: channel}


def _picks(panel: Panel, grid: Grid, space: Triple, view: View) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The voxel under each sample that lies in the volume, ``(3, n)``, and which samples do, ``(height, width)``."""
    inverse, samples, corner = np.linalg.inv(grid.matrix), view.samples, panel.corner + view.nudge
    columns = (np.arange(panel.width * samples) + 0.5) / samples - 0.5
    rows = (np.arange(panel.height * samples) + 0.5) / samples - 0.5
    inside = np.ones((rows.size, columns.size), np.bool_)
    found = []
    for axis, n in enumerate(space):
        start = inverse[axis, :3] @ corner + inverse[axis, 3] + 0.5
        index = np.floor(
            (start + rows * (inverse[axis, :3] @ panel.down))[:, None] + columns * (inverse[axis, :3] @ panel.right)
        )
        inside &= (index >= 0) & (index < n)
        found.append(np.clip(index, 0, n - 1).astype(np.int32))
    return np.stack([index[inside] for index in found]), inside


Part = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[Any]]
"""Voxels ``(3, n)``, where they go, ``(n,)``, and into what, flat."""


class _Reader:
    """Reads scattered voxels of one volume as few boxes."""

    def __init__(self, source: Source, fixed: dict[int, int]) -> None:
        self._source = source
        self._info = source.info
        self._fixed = fixed

    def gather(self, voxels: NDArray[np.int32], at: NDArray[np.int32], out: NDArray[Any]) -> None:
        """Read voxels from a file that gives any box; a box too large is read in halves."""
        waiting = [(voxels, at)] if at.size else []
        while waiting:
            voxels, at = waiting.pop()
            low, high = voxels.min(axis=1), voxels.max(axis=1) + 1
            axis = self._too_long(high - low)
            if axis is None:
                out[at] = self._box(low, high)[tuple(voxels - low[:, None])]
                continue
            lower = voxels[axis] < (low[axis] + high[axis]) // 2
            waiting += [(voxels[:, ~lower], at[~lower]), (voxels[:, lower], at[lower])]

    def stream(self, parts: list[Part]) -> None:
        """Read voxels of several panels from a file that is met once, plane after plane."""
        info, slow = self._info, 2
        held = prod(info.shape[: info.spatial[slow]]) * info.dtype.itemsize
        if held > MOST_PLANE_BYTES:
            raise DoesNotFitError(f"{info.path}: one plane takes {held} bytes; unpack it to .nii first")
        for number, (voxels, at, out) in enumerate(parts):
            turn = np.argsort(voxels[slow], kind="stable")
            parts[number] = (voxels[:, turn], at[turn], out)
        for plane in np.unique(np.concatenate([voxels[slow] for voxels, _, _ in parts])):
            low, high = np.array([0, 0, plane]), np.array([*info.space[:2], plane + 1])
            box = self._box(low, high)[:, :, 0]
            for voxels, at, out in parts:
                first, last = np.searchsorted(voxels[slow], [plane, plane + 1])
                out[at[first:last]] = box[voxels[0, first:last], voxels[1, first:last]]

    def _too_long(self, extent: NDArray[np.int32]) -> int | None:
        """The axis along which a box is to be halved, if it is too large."""
        info, sides = self._info, [int(side) for side in extent]
        slow = 2 if info.fortran else 0
        if info.fortran and sides[slow] > 1:  # a box of many short runs maps all of its planes
            plane = prod(info.shape[: info.spatial[slow]]) * info.dtype.itemsize
            if plane * sides[slow] > MOST_BYTES:
                return slow
        if prod(sides) * info.dtype.itemsize > MOST_BYTES and max(sides) > 1:
            return int(np.argmax(sides))
        return None

    def _box(self, low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
        """Read a box of space, three axes as listed."""
        index = [slice(self._fixed.get(axis, 0), self._fixed.get(axis, 0) + 1) for axis in range(len(self._info.shape))]
        for axis, start, stop in zip(self._info.spatial, low, high, strict=True):
            index[axis] = slice(int(start), int(stop))
        block = self._source.read(tuple(index))
        return block.reshape([int(side) for side in high - low])


def _point(values: Sequence[float]) -> Point:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _listed(values: Any) -> str:
    return ",".join(f"{value:.6g}" for value in values)
