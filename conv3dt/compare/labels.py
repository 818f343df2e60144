"""How much do the labels of two volumes overlap?  Counts per label; Dice's coefficient follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conv3dt.errors import DataError

MOST_LABELS = 1000
LARGEST = 2**53
SPAN = 2**16
"""Labels that lie closer together than this are counted in a table, others by sorting."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Voxels per label, ``(in A, in B, in both)``; ``+`` joins two parts."""

    counts: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def __add__(self, other: Overlap | None) -> Overlap:
        if other is None:
            return self
        counts = dict(self.counts)
        for label, more in other.counts.items():
            before = counts.get(label, (0, 0, 0))
            counts[label] = (before[0] + more[0], before[1] + more[1], before[2] + more[2])
        if len(counts) > MOST_LABELS:
            raise DataError(f"labels: more than {MOST_LABELS} different numbers; leave --labels (labels=True) out")
        return Overlap(counts)


def overlap_of(a: NDArray[np.float64], b: NDArray[np.float64]) -> Overlap:
    """Count the labels of some voxels.

    Raises:
        DataError: a value is no whole number, or there are too many.
    """
    first, second = _whole(a), _whole(b)
    low, high = int(min(first.min(), second.min())), int(max(first.max(), second.max()))
    groups = (first, second, first[first == second])
    if high - low < SPAN:
        tables = [np.bincount(group - low, minlength=high - low + 1) for group in groups]
        found = [dict(zip((np.flatnonzero(table) + low).tolist(), table[table > 0].tolist(), strict=True))
                 for table in tables]  # fmt: skip
    else:
        sorted_ = [np.unique(group, return_counts=True) for group in groups]
        found = [dict(zip(labels.tolist(), counts.tolist(), strict=True)) for labels, counts in sorted_]
    of_a, of_b, both = found
    return Overlap() + Overlap({n: (of_a.get(n, 0), of_b.get(n, 0), both.get(n, 0)) for n in {*of_a, *of_b}})


def _whole(values: NDArray[np.float64]) -> NDArray[np.int64]:
    odd = (np.rint(values) != values) | (np.abs(values) > LARGEST)
    if odd.any():
        raise DataError(f"labels: {values[odd.argmax()]:g} is no label; leave --labels (labels=True) out")
    return values.astype(np.int64)
