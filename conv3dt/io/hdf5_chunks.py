"""Where do the chunks of a gzip-packed HDF5 dataset lie, and how are their bytes shuffled?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from conv3dt.io.volume import Index

AT_ONCE = 2**16
"""Bytes that are joined at once: few enough for a core's own cache."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one chunk has of a box: the chunk begins at ``offset``; ``inside`` of it is what ``block`` of the box is."""

    offset: tuple[int, ...]
    block: Index
    inside: Index


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """The chunks of a dataset whose filters are gzip alone, or gzip behind the shuffling of bytes.

    Attributes:
        shape: of the dataset; chunk: of each chunk, also of those that reach beyond the end of an axis.
        dtype: the type of the numbers.
        level: of gzip.
        shuffled: whether the first bytes of all numbers come first, then their second bytes, and so on.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    level: int
    shuffled: bool

    @classmethod
    def of(cls, dataset: Any) -> ChunkGrid | None:
        """Return the grid of a dataset, or None where it has no chunks or other filters."""
        packing = dataset.id.get_create_plist()
        filters = [packing.get_filter(n) for n in range(packing.get_nfilters())]
        codes = [code for code, *_ in filters]
        shuffled = codes[:1] == [h5py.h5z.FILTER_SHUFFLE]
        if dataset.chunks is None or codes[shuffled:] != [h5py.h5z.FILTER_DEFLATE]:
            return None
        if shuffled and tuple(filters[0][2]) != (dataset.dtype.itemsize,):
            return None
        return cls(dataset.shape, dataset.chunks, dataset.dtype, int(filters[-1][2][0]), shuffled)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk, unpacked."""
        return prod(self.chunk) * self.dtype.itemsize

    def parts(self, index: Index) -> Iterator[Part]:
        """Yield what each chunk has of a box, in the order of the chunks."""
        starts = [
            range(part.start - part.start % size, part.stop, size) for part, size in zip(index, self.chunk, strict=True)
        ]
        for offset in product(*starts):
            met = [
                (at, part.start, max(at, part.start), min(at + size, part.stop))
                for at, part, size in zip(offset, index, self.chunk, strict=True)
            ]
            yield Part(
                offset,
                tuple(slice(low - start, high - start) for _, start, low, high in met),
                tuple(slice(low - at, high - at) for at, _, low, high in met),
            )


def shuffled(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of a flat array, a row for the first bytes of all its numbers, one for the second, and so on.

    >>> shuffled(np.array([0x0102, 0x0304], ">u2")).tolist()
    [[1, 3], [2, 4]]
    """
    return np.ascontiguousarray(values.view(np.uint8).reshape(len(values), -1).T)


def unshuffled(planes: NDArray[np.uint8], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers whose bytes were shuffled.

    >>> unshuffled(np.array([[1, 3], [2, 4]], np.uint8), np.dtype(">u2")) == [0x0102, 0x0304]
    array([ True,  True])
    """
    values = np.empty(planes.shape[1], f"<u{dtype.itemsize}")
    step = AT_ONCE // dtype.itemsize
    for start in range(0, len(values), step):
        part = slice(start, start + step)
        values[part] = _joined(planes[:, part])
    return values.view(dtype)


def _joined(planes: NDArray[Any]) -> NDArray[Any]:
    """Join neighbours into numbers of twice the width until one row is left: faster than placing byte by byte."""
    while len(planes) > 1:
        wide = planes[1::2].astype(f"<u{2 * planes.itemsize}")
        wide <<= 8 * planes.itemsize
        wide |= planes[::2]
        planes = wide
    row: NDArray[Any] = planes[0]
    return row
