"""Is a kernel an outer product of three vectors?  Then three passes along one axis each do the work of all its taps."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine.phases import Axes

Array = NDArray[np.float64]

ROUNDINGS = 4
"""A kernel counts as an outer product if no tap is further from it than so many roundings of the largest tap."""

PASSES = 8
"""What the passes store in between costs an output voxel about as much as so many taps (measured)."""


def factors(kernel: NDArray[np.floating], compute: np.dtype[np.floating]) -> tuple[Array, Array, Array] | None:
    """Return vectors along z, y and x whose outer product the kernel is; None if it is none.

    Args:
        kernel: ``(kz, ky, kx)``.
        compute: the type of the sums; its precision is what "is" means.
    """
    taps = kernel.astype(np.float64)
    z, y, x = np.unravel_index(np.abs(taps).argmax(), taps.shape)
    largest = taps[z, y, x]
    if largest == 0 or not np.isfinite(taps).all():
        return None
    found = (taps[:, y, x] / largest, taps[z, :, x] / largest, taps[z, y, :])
    error = np.abs(np.einsum("i,j,k", *found) - taps).max()
    return found if error <= ROUNDINGS * np.finfo(compute).eps * abs(largest) else None


def is_worth_it(axes: Axes) -> bool:
    """Whether three passes cost less than all taps at once."""
    z, y, x = (axis.kernel / axis.stride for axis in axes)
    strides = [axis.stride for axis in axes]
    return z / prod(strides[1:]) + y / strides[2] + x + PASSES < z * y * x
