"""Is a kernel an outer product of three vectors?  Then three passes along one axis each do the work of all its taps."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine.phases import Axes

Array = NDArray[np.float64]

ROUNDINGS = 4
"""A kernel counts as an outer product if every tap is within so many roundings of it."""

PASSES = 8
"""What the passes store in between costs an output voxel about as much as so many taps (measured)."""


def factors(kernel: NDArray[np.floating], compute: np.dtype[np.floating]) -> tuple[Array, Array, Array] | None:
    """Return vectors along z, y and x whose outer product the kernel is; None if it is none.

    Args:
        kernel: ``(kz, ky, kx)``.
        compute: the type of the sums; its precision is what "is" means.
    """
    taps, eps = kernel.astype(np.float64), float(np.finfo(compute).eps)
    place = np.unravel_index(np.abs(taps).argmax(), taps.shape)
    largest = taps[place]
    if largest == 0 or not np.isfinite(taps).all():
        return None
    z, y, x = taps[:, place[1], place[2]] / largest, taps[place[0], :, place[2]] / largest, taps[place[0], place[1], :]
    error = np.abs(np.einsum("i,j,k", z, y, x) - taps)
    if (error > ROUNDINGS * eps * np.abs(taps) + eps**2 * abs(largest)).any():
        return None
    # No sum in between shall be larger than the voxels themselves; powers of two change no digit.
    by = [2.0 ** np.ceil(np.log2(np.abs(each).sum())) for each in (z, y)]
    x = x * by[0] * by[1]
    return (z / by[0], y / by[1], x) if np.abs(x).max() <= np.finfo(compute).max else None


def is_worth_it(axes: Axes) -> bool:
    """Whether three passes cost less than all taps at once."""
    z, y, x = (axis.kernel / axis.stride for axis in axes)
    strides = [axis.stride for axis in axes]
    return z / prod(strides[1:]) + y / strides[2] + x + PASSES < z * y * x
