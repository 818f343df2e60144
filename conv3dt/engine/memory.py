"""Where do arrays begin in memory?  On whole lines of the cache: a vector that straddles two takes twice as long."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.plan import LINE_BYTES, row_length


def address(array: NDArray[Any]) -> int:
    """Return where an array begins; ``array.ctypes.data`` takes three times as long."""
    found: int = array.__array_interface__["data"][0]
    return found


def aligned(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array of ``count`` zeros that begins on a line.

    Zeros cost nothing in fresh memory; what lies between rows is computed along, and garbage may be slow (denormals).
    """
    raw = np.zeros(count * dtype.itemsize + LINE_BYTES, np.uint8)
    first = -address(raw) % LINE_BYTES
    return raw[first : first + count * dtype.itemsize].view(dtype)


def in_rows(flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the beginning of a flat array as one of ``shape`` whose every row begins on a line."""
    padded = (*shape[:-1], row_length(shape[-1], flat.itemsize))
    return flat[: prod(padded)].reshape(padded)[..., : shape[-1]]


class PlainMemory:
    """Arrays as `aligned` makes them."""

    def take(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a new array of ``count`` zeros."""
        return aligned(count, dtype)

    def close(self) -> None:
        """Nothing is pinned."""
