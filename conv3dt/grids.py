"""How does one grid of voxels lie against another?  Units, directions, and offsets in voxels; no layer is known here.

A grid is a shape and a voxel-to-world matrix.  Offsets are those of the second grid against the first, in voxels of
the first: ``+0.5`` along an axis means that the second's voxels lie half a voxel further along it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import spacing
from conv3dt.axes import SPATIAL
from conv3dt.errors import DataError

if TYPE_CHECKING:
    from conv3dt.io.volume import VolumeInfo

Array = NDArray[np.float64]
Triple = tuple[int, int, int]

UNITS = {1: "m", 2: "mm", 3: "um"}
"""Of space, by the lowest three bits of NIfTI's ``xyzt_units``."""
MILLIMETRES = {"m": 1e3, "mm": 1.0, "um": 1e-3}
PLACE = 1e-3
"""Voxels by which grids may differ at a corner and be the same, beside what float32 cannot say."""
ANGLE = 1e-3
"""Radians by which axes may miss one another and run alike."""
SINGULAR = 1e-6


def letters(info: VolumeInfo) -> list[str]:
    """Return the names of the axes in space, in order."""
    return [letter for letter in info.axes if letter in SPATIAL]


def place_of(info: VolumeInfo) -> Array | None:
    """Return the voxel-to-world matrix of a volume; None if it does not say where it is.

    A NIfTI header without sform and qform says only how large voxels are.
    """
    header = info.header
    if header is not None and not int(header["sform_code"]) and not int(header["qform_code"]):
        return None
    return info.affine


def unit_of(info: VolumeInfo) -> str:
    """Return the unit of lengths; an empty text where the volume does not say it."""
    return info.unit if info.header is None else UNITS.get(int(info.header["xyzt_units"]) & 7, "")


def scaled(matrix: Array, its: VolumeInfo, other: VolumeInfo) -> Array:
    """Return the matrix of one volume in the unit of another."""
    result = matrix.copy()
    result[:3] *= unit_ratio(its, other)
    return result


def unit_ratio(one: VolumeInfo, other: VolumeInfo) -> float:
    """Return how many units of the second volume one of the first is; 1 where either does not say its unit."""
    here, there = MILLIMETRES.get(unit_of(one)), MILLIMETRES.get(unit_of(other))
    return here / there if here and there else 1.0


# Directions.


def directions(matrix: Array, path: str) -> Array:
    """Return the unit vectors of the three axes, as columns.

    Raises:
        DataError: they span no space.
    """
    sizes = np.array(spacing(matrix))
    if not np.isfinite(matrix).all() or not sizes.all() or abs(np.linalg.det(matrix[:3, :3] / sizes)) < SINGULAR:
        raise DataError(f"{path}: its voxel-to-world matrix is singular and says no place; repair the header first")
    return np.asarray(matrix[:3, :3] / sizes)


def misdirection(first: Array, second: Array, names: list[str], path: str) -> str:
    """Return how the axes of a second grid run against those of a first; an empty text if they run alike.

    Args:
        first, second: of `directions`.
        names: of the first grid's axes; path: what it is called.
    """
    if np.arccos(np.clip((first * second).sum(axis=0), -1, 1)).max() <= ANGLE:
        return ""
    order, signs = _nearest(first, second)
    turned = first[:, order] * signs
    angle, sheared = _turn(turned, second)
    parts = []
    if order != [0, 1, 2] or min(signs) < 0:
        run = ", ".join(f"{'-' if sign < 0 else '+'}{names[axis]}" for axis, sign in zip(order, signs, strict=True))
        parts.append(f"its axes run along {run} of {path}")
    if angle > ANGLE:
        parts.append(f"it is turned by {np.degrees(angle):.3g} degrees against {path}")
    if sheared or not parts:
        parts.append(f"it is sheared against {path}")
    return " and ".join(parts)


def _nearest(first: Array, second: Array) -> tuple[list[int], list[float]]:
    """Which axes of the first grid, and which way along them, come nearest to those of the second."""
    cosines = first.T @ second
    order = max(permutations(range(3)), key=lambda order: sum(abs(cosines[axis, n]) for n, axis in enumerate(order)))
    return list(order), [1.0 if cosines[axis, n] > 0 else -1.0 for n, axis in enumerate(order)]


def _turn(first: Array, second: Array) -> tuple[float, bool]:
    """The angle from one set of axes to another in radians, and whether they are sheared against one another too."""
    u, sizes, v = np.linalg.svd(second @ np.linalg.inv(first))
    return float(np.arccos(np.clip((np.trace(u @ v) - 1) / 2, -1, 1))), bool(np.ptp(sizes) > 2 * ANGLE)


# Offsets.


@dataclass(frozen=True, slots=True, eq=False)
class Offset:
    """Where the voxels of a second grid lie against those of the first with the same index.

    Attributes:
        corners: ``(8, 3)``, at the corners of the second grid, in voxels of the first.
        lengths: ``(8,)``, the same in the world.
        sizes: ``(3,)``, of the first grid's voxels.
        allowed: ``(3,)``, voxels that `PLACE` and the float32 of headers let pass.
    """

    corners: Array
    lengths: Array
    sizes: Array
    allowed: Array

    @property
    def mean(self) -> Array:
        """``(3,)``: in the middle."""
        return np.asarray(self.corners.mean(axis=0))

    @property
    def farthest(self) -> tuple[Array, float]:
        """At the corner where it is most: voxels along the axes, and length in the world."""
        most = int(self.lengths.argmax())
        return self.corners[most], float(self.lengths[most])

    @property
    def fits(self) -> bool:
        """Whether the grids lie on one another."""
        return bool((np.abs(self.corners) <= self.allowed).all())

    @property
    def is_rigid(self) -> bool:
        """Whether it is the same everywhere."""
        return bool((np.ptp(self.corners, axis=0) <= 2 * self.allowed).all())

    @property
    def is_whole(self) -> bool:
        """Whether voxels lie on voxels, if only on those of other indices."""
        return self.is_rigid and bool((np.abs(self.mean - np.round(self.mean)) <= self.allowed).all())


def offset(first: Array, second: Array, space: Triple) -> Offset:
    """Return the offset of a second grid of ``space`` voxels, of matrix ``second``, against a first."""
    ends = np.array([(*corner, 1.0) for corner in product(*((0, n - 1) for n in space))])
    inverse = np.linalg.inv(first)
    corners = (ends @ (inverse @ second).T - ends)[:, :3]
    coordinates = np.abs(second[:3]) @ ends[-1]  # no entry of either header is known better than float32 says these
    return Offset(
        corners=corners,
        lengths=np.linalg.norm(corners @ first[:3, :3].T, axis=1),
        sizes=np.array(spacing(first)),
        allowed=PLACE + np.abs(inverse[:3, :3]) @ coordinates * np.finfo(np.float32).eps,
    )


# Text.


def signed(values: Array) -> str:
    """Return offsets along axes as text; what is nothing beside the largest is 0.

    >>> signed(np.array([0.5, -1e-6, -2]))
    '+0.5, 0, -2'
    """
    least = max(1e-4 * float(np.abs(values).max()), 5e-7)
    return ", ".join(f"{value:+.4g}" if abs(value) > least else "0" for value in values.tolist())


def by(values: tuple[float, ...]) -> str:
    """Return voxel sizes as text.

    >>> by((2.0, 0.75, 1.0))
    '2 x 0.75 x 1'
    """
    return " x ".join(f"{value:.6g}" for value in values)
