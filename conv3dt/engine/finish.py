"""How does a computed value become a stored one?  Rounding, clipping and what is counted, for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True, slots=True)
class Storage:
    """The type of a stored voxel and the meaning of its numbers: ``value = slope * stored + inter``."""

    dtype: np.dtype[Any]
    slope: float = 1.0
    inter: float = 0.0

    @property
    def limits(self) -> tuple[int, int] | None:
        """The smallest and largest number of an integer type; None for floats."""
        if self.dtype.kind not in "iu":
            return None
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    @property
    def nought(self) -> float:
        """The stored number nearest to the value 0, which takes the place of NaN; of floats 0."""
        if self.limits is None:
            return 0.0
        low, high = float_limits(self, self.compute_dtype)
        return float(np.clip(np.rint((0.0 - self.inter) * (1 / self.slope)), low, high))

    @property
    def compute_dtype(self) -> np.dtype[np.floating]:
        """float32 where that holds every stored value exactly, else float64."""
        wide = (self.dtype.itemsize >= 4 and self.dtype.kind in "iu") or self.dtype == np.float64
        if self.limits is not None and (self.slope, self.inter) != (1.0, 0.0):
            wide = True  # scaled and scaled back, small steps on a large offset would be lost
        return np.dtype(np.float64 if wide else np.float32)


def float_limits(storage: Storage, dtype: DTypeLike) -> tuple[np.floating, np.floating]:
    """Return the limits as floats of ``dtype`` that do not leave the integer range when converted."""
    low, high = storage.limits or (0, 0)
    kind: Any = np.dtype(dtype).type
    top = kind(high)
    if int(top) > high:
        top = np.nextafter(top, kind(0))
    return kind(low), top


def store(values: NDArray[np.floating], storage: Storage, out: NDArray[np.generic]) -> int:
    """Write ``values`` as stored numbers into ``out``; return how many were clipped or not a number.

    Integers are rounded half to even and clipped, never wrapped; NaN becomes the value 0.
    """
    if storage.limits is None:
        out[...] = values
        return 0
    low, high = float_limits(storage, values.dtype)
    with np.errstate(all="ignore"):
        scaled = np.rint((values - values.dtype.type(storage.inter)) * values.dtype.type(1 / storage.slope))
    lost = np.isnan(scaled)
    clipped = int(np.count_nonzero(lost | (scaled < low) | (scaled > high)))
    scaled[lost] = storage.nought
    np.clip(scaled, low, high, out=scaled)
    out[...] = scaled
    return clipped
