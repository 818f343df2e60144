"""How are boxes read from and written to a flat array in a file?  Few long runs by offset, many short ones together.

Nothing is read through a memory map: somebody may cut the file meanwhile, and that would end the process.
"""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.errors import DataError
from conv3dt.io.volume import Index

MOST_RUNS, MOST_LONG_RUNS, LONG_BYTES = 64, 2**16, 16 * 2**10
"""Above so many contiguous runs, or so many long ones, neighbours are read at once with what lies between, and a box is
written through a memory map of its range: that file is ours, and has all its room already."""

APART = 64 * 2**10
"""Bytes from one run to the next up to which it costs less to read what lies between than to begin anew."""


class FlatArray:
    """A C-ordered array in an open file, from ``offset`` on."""

    def __init__(self, descriptor: int, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._descriptor, self._offset, self._shape, self._dtype = descriptor, offset, shape, dtype

    def read(self, index: Index) -> NDArray[Any]:
        """Return a copy of a box."""
        block = np.empty([part.stop - part.start for part in index], self._dtype)
        runs = self._runs(index)
        if runs is None:
            self._read_together(index, block)
            return block
        view, done = bytes_of(block), 0
        for start, count in runs:
            self._read_into(view[done : done + count], start)
            done += count
        return block

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        runs = self._runs(index)
        if runs is None:
            self._map(index)[...] = block
            return
        view, done = bytes_of(np.ascontiguousarray(block, self._dtype)), 0
        for start, count in runs:
            while count:
                put = os.pwrite(self._descriptor, view[done : done + count], start)
                done, start, count = done + put, start + put, count - put

    def _runs(self, index: Index) -> list[tuple[int, int]] | None:
        """Byte ranges of a box; None if there are too many to use."""
        axis = len(index) - 1
        while axis > 0 and index[axis].stop - index[axis].start == self._shape[axis]:
            axis -= 1
        inner = self._step(axis)
        count = (index[axis].stop - index[axis].start) * inner
        outer = [range(part.start, part.stop) for part in index[:axis]]
        if prod(len(part) for part in outer) > (MOST_RUNS if count < LONG_BYTES else MOST_LONG_RUNS):
            return None
        starts = np.zeros(1, np.int64)
        for part, size in zip(outer, self._shape[:axis], strict=True):
            starts = (starts[:, None] * size + np.asarray(part)[None, :]).reshape(-1)
        first = starts * self._shape[axis] + index[axis].start
        return [(self._offset + int(start) * inner, count) for start in first]

    def _read_together(self, index: Index, block: NDArray[Any]) -> None:
        """Read a box in pieces that lie side by side, with what lies between the runs in each."""
        level = len(index) - 1
        while level > 0 and self._step(level - 1) <= APART:
            level -= 1
        scratch = np.empty((index[level].stop - index[level].start, *self._shape[level + 1 :]), self._dtype)
        for place in np.ndindex(*block.shape[:level]):
            at = 0
            for n, part, size in zip(place, index, self._shape, strict=False):
                at = at * size + part.start + n
            start = (at * self._shape[level] + index[level].start) * self._step(level)
            self._read_into(bytes_of(scratch), self._offset + start)
            block[place] = scratch[(slice(None), *index[level + 1 :])]

    def _step(self, axis: int) -> int:
        """Bytes from one place on an axis to the next."""
        return prod(self._shape[axis + 1 :]) * self._dtype.itemsize

    def _read_into(self, view: memoryview, start: int) -> None:
        done = 0
        while done < len(view):
            got = os.preadv(self._descriptor, [view[done:]], start + done)
            if not got:
                raise DataError("the file ends before its last voxel")
            done += got

    def _map(self, index: Index) -> NDArray[Any]:
        """Only the range of the slowest axis is mapped, and let go at once: pages do not pile up."""
        step = prod(self._shape[1:]) * self._dtype.itemsize
        start, stop = index[0].start, index[0].stop
        with os.fdopen(os.dup(self._descriptor), "r+b") as file:
            mapped = np.memmap(file, self._dtype, "r+", self._offset + start * step, (stop - start, *self._shape[1:]))
        return mapped[(slice(0, stop - start), *index[1:])]


def bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a C-contiguous array, as a view."""
    return array.reshape(-1).view(np.uint8).data
