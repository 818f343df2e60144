"""In which boxes is a whole volume met once, in file order, a little at a time?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

from conv3dt.io.volume import Index, VolumeInfo

PREFERRED_BYTES = 16 * 2**20


def boxes(info: VolumeInfo) -> Iterator[Index]:
    """Yield boxes that tile a volume, axes as listed; in the order in which its file holds them.

    Of a NIfTI file planes of the third axis, one volume after another; else ranges of the first axis whose rest is
    small enough, of whole chunks where there are any.
    """
    order = range(len(info.shape))[:: -1 if info.fortran else 1]
    sizes = [info.shape[axis] for axis in order]
    cut = len(sizes) - 3 if info.fortran else 0
    while not info.fortran and cut < len(sizes) - 1 and prod(sizes[cut + 1 :]) * info.dtype.itemsize > PREFERRED_BYTES:
        cut += 1
    step = max(PREFERRED_BYTES // (prod(sizes[cut + 1 :]) * info.dtype.itemsize), 1)
    if "chunks" in info.layout:
        chunk = int(info.layout["chunks"][order[cut]])
        step = max(step // chunk, 1) * chunk
    for outer in product(*(range(n) for n in sizes[:cut])):
        for start in range(0, sizes[cut], step):
            parts = [slice(n, n + 1) for n in outer] + [slice(start, min(start + step, sizes[cut]))]
            parts += [slice(0, n) for n in sizes[cut + 1 :]]
            yield tuple(parts[order.index(axis)] for axis in range(len(sizes)))
