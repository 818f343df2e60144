"""Where do the chunks of an HDF5 dataset lie in it, and how are the bytes of gzip-packed ones shuffled?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from conv3dt.io.volume import Index

AT_ONCE = 2**16
"""Bytes that are joined at once: few enough for a core's own cache."""

Place = tuple[int, ...]
"""The number of a chunk along each axis."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one chunk has of a box: the chunk begins at ``offset``; ``inside`` of it is what ``block`` of the box is."""

    offset: tuple[int, ...]
    block: Index
    inside: Index


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """How a dataset is cut up.

    Attributes:
        shape: of the dataset; chunk: of each chunk, also of those that reach beyond the end of an axis.
        dtype: the type of the numbers.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, dataset: Any) -> ChunkGrid | None:
        """Return the grid of a dataset, or None where it has no chunks."""
        return None if dataset.chunks is None else cls(dataset.shape, dataset.chunks, dataset.dtype)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk, unpacked."""
        return prod(self.chunk) * self.dtype.itemsize

    @property
    def counts(self) -> tuple[int, ...]:
        """Chunks per axis."""
        return tuple(ceil(n / size) for n, size in zip(self.shape, self.chunk, strict=True))

    def place(self, offset: tuple[int, ...]) -> Place:
        """Return the number per axis of the chunk that begins at ``offset``."""
        return tuple([at // size for at, size in zip(offset, self.chunk, strict=True)])

    def voxels(self, chunks: Index) -> Index:
        """Return the box of all that a range of chunks has of the dataset."""
        return tuple(
            slice(part.start * size, min(part.stop * size, n))
            for part, size, n in zip(chunks, self.chunk, self.shape, strict=True)
        )

    def touched(self, index: Index) -> Index:
        """Return the range of chunks, by their numbers per axis, that have anything of a box."""
        return tuple(
            slice(part.start // size, ceil(part.stop / size)) for part, size in zip(index, self.chunk, strict=True)
        )

    def held(self, index: Index) -> Index | None:
        """Return the range of chunks of which a box has all; None if there is none."""
        found = []
        for part, size, n in zip(index, self.chunk, self.shape, strict=True):
            found.append(slice(ceil(part.start / size), ceil(n / size) if part.stop == n else part.stop // size))
        return None if any(part.start >= part.stop for part in found) else tuple(found)

    def cut(self, index: Index) -> Iterator[Index]:
        """Yield boxes that together are those parts of a box that are not whole chunks."""
        held = self.held(index)
        if held is None:
            yield index
            return
        rest = list(index)
        for axis, whole in enumerate(self.voxels(held)):
            for start, stop in ((rest[axis].start, whole.start), (whole.stop, rest[axis].stop)):
                if start < stop:
                    yield (*rest[:axis], slice(start, stop), *rest[axis + 1 :])
            rest[axis] = whole

    def offsets(self, index: Index, order: Sequence[int] = ()) -> Iterator[tuple[int, ...]]:
        """Yield where the chunks begin that have anything of a box.

        Args:
            index: the box.
            order: the axes from the one along which chunks follow last to the one along which they follow first; as
                they are listed unless given.
        """
        starts = [
            range(part.start - part.start % size, part.stop, size) for part, size in zip(index, self.chunk, strict=True)
        ]
        order = order or range(len(index))
        places = [order.index(axis) for axis in range(len(index))]
        for found in product(*[starts[axis] for axis in order]):
            yield tuple([found[place] for place in places])

    def parts(self, index: Index, order: Sequence[int] = ()) -> Iterator[Part]:
        """Yield what each chunk has of a box, in the order of `offsets`."""
        for offset in self.offsets(index, order):
            met = [
                (at, part.start, max(at, part.start), min(at + size, part.stop))
                for at, part, size in zip(offset, index, self.chunk, strict=True)
            ]
            yield Part(
                offset,
                tuple(slice(low - start, high - start) for _, start, low, high in met),
                tuple(slice(low - at, high - at) for at, _, low, high in met),
            )


@dataclass(frozen=True, slots=True)
class Packing:
    """Filters that are gzip alone, or gzip behind the shuffling of bytes.

    Attributes:
        level: of gzip.
        shuffled: whether the first bytes of all numbers come first, then their second bytes, and so on.
    """

    level: int
    shuffled: bool

    @classmethod
    def of(cls, dataset: Any) -> Packing | None:
        """Return the packing of a dataset, or None where it has no chunks or other filters."""
        created = dataset.id.get_create_plist()
        filters = [created.get_filter(n) for n in range(created.get_nfilters())]
        codes = [code for code, *_ in filters]
        shuffled = codes[:1] == [h5py.h5z.FILTER_SHUFFLE]
        if dataset.chunks is None or codes[shuffled:] != [h5py.h5z.FILTER_DEFLATE]:
            return None
        if shuffled and tuple(filters[0][2]) != (dataset.dtype.itemsize,):
            return None
        return cls(int(filters[-1][2][0]), shuffled)


def shifted(index: Index, within: Index) -> Index:
    """Return a box as seen from the start of one that holds it.

    >>> shifted((slice(5, 7),), (slice(4, 9),))
    (slice(1, 3, None),)
    """
    return tuple(
        slice(part.start - whole.start, part.stop - whole.start) for part, whole in zip(index, within, strict=True)
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
