"""How are boxes written to chunks that lie unpacked in a file, wherever each may lie?  Many at once, in long runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.io.flat import FlatArray, bytes_of
from conv3dt.io.hdf5_chunks import ChunkGrid, Part, Place, shifted
from conv3dt.io.volume import Index

BATCH_BYTES = 2**22
"""Chunks that are put together in memory before they are written."""

SMALL_BYTES, LONG_BYTES = 2**16, 2**12
"""Cut chunks larger than a batch are written into, and so are those that are not small if a box has long runs of them;
others are read, changed and written again, many at once."""

Run = tuple[int, int, int]
"""Where neighbours lie in the file, where among all of their batch, and how many bytes they are."""


class ChunkPlaces:
    """The chunks of a dataset in an open file, in memory order of C, zero where there are no voxels."""

    def __init__(self, descriptor: int, grid: ChunkGrid, offsets: NDArray[np.int64]) -> None:
        """Take chunks as they lie.

        Args:
            descriptor: of the file.
            grid: how the dataset is cut up.
            offsets: where each chunk begins, one number a chunk, shaped as ``grid.counts``; may change meanwhile.
        """
        self._descriptor, self._grid, self._offsets = descriptor, grid, offsets
        self._memory = np.empty(0, grid.dtype)

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box of the dataset."""
        held = self._grid.held(index)
        if held is not None:
            for chunks in self._batches(held):
                self._put(chunks, index, block, whole=True)
        for box in self._grid.cut(index):
            self._put_cut(box, block[shifted(box, index)])

    def read(self, place: Place) -> NDArray[Any]:
        """Return a chunk, as long as it is in the file."""
        return self._chunk(place).read(tuple(slice(0, size) for size in self._grid.chunk))

    def clear_ends(self, below: int) -> None:
        """Fill with zeros the chunks that reach beyond the end of an axis and begin below an offset in the file."""
        reach = np.zeros(self._grid.counts, np.bool_)
        for axis, (size, n) in enumerate(zip(self._grid.chunk, self._grid.shape, strict=True)):
            if n % size:
                reach[(slice(None),) * axis + (-1,)] = True
        zeros = memoryview(bytes(self._grid.chunk_bytes))
        for offset in self._offsets[reach & (self._offsets < below)].tolist():
            write_at(self._descriptor, zeros, offset)

    def _chunk(self, place: Place) -> FlatArray:
        return FlatArray(self._descriptor, int(self._offsets[place]), self._grid.chunk, self._grid.dtype)

    def _put_cut(self, index: Index, block: NDArray[Any]) -> None:
        grid = self._grid
        long = grid.chunk_bytes > SMALL_BYTES and self._run_bytes(next(grid.parts(index))) >= LONG_BYTES
        if grid.chunk_bytes > BATCH_BYTES or long:
            for part in grid.parts(index):
                self._chunk(grid.place(part.offset)).write(part.inside, block[part.block])
            return
        for chunks in self._batches(grid.touched(index)):
            self._put(chunks, index, block, whole=False)

    def _run_bytes(self, part: Part) -> int:
        """How many bytes lie side by side in what a chunk has of a box."""
        count = self._grid.dtype.itemsize
        for inside, size in zip(reversed(part.inside), reversed(self._grid.chunk), strict=True):
            count *= inside.stop - inside.start
            if inside.stop - inside.start < size:
                break
        return count

    def _batches(self, chunks: Index) -> Iterator[Index]:
        """Cut a range of chunks into ranges that are few bytes, each as long as can be along the last axes."""
        left, steps = max(BATCH_BYTES // self._grid.chunk_bytes, 1), []
        for part in reversed(chunks):
            count = part.stop - part.start
            steps.append(min(left, count))
            left = max(left // count, 1)
        starts = [range(part.start, part.stop, step) for part, step in zip(chunks, reversed(steps), strict=True)]
        for place in product(*starts):
            yield tuple(
                slice(start, min(start + step, part.stop))
                for start, step, part in zip(place, reversed(steps), chunks, strict=True)
            )

    def _put(self, chunks: Index, index: Index, block: NDArray[Any], *, whole: bool) -> None:
        """Write what a range of chunks has of a box; what they hold else stays, unless they are ``whole`` in it."""
        buffer = self._buffer([part.stop - part.start for part in chunks])
        view, runs = bytes_of(buffer), list(self._runs(chunks))
        if whole:
            if self._reach_beyond(chunks):
                buffer[...] = 0
        else:
            for offset, start, count in runs:
                read_at(self._descriptor, view[start : start + count], offset)
        self._fill(buffer, chunks, index, block)
        for offset, start, count in runs:
            write_at(self._descriptor, view[start : start + count], offset)

    def _buffer(self, counts: list[int]) -> NDArray[Any]:
        """Memory used again and again: pages touched for the first time are slow."""
        size = prod(counts) * prod(self._grid.chunk)
        if self._memory.size < size:
            self._memory = np.empty(size, self._grid.dtype)
        return self._memory[:size].reshape(*counts, *self._grid.chunk)

    def _reach_beyond(self, chunks: Index) -> bool:
        """Whether any of them goes on beyond the end of an axis."""
        grid = self._grid
        return any(part.stop * size > n for part, size, n in zip(chunks, grid.chunk, grid.shape, strict=True))

    def _runs(self, chunks: Index) -> Iterator[Run]:
        """Chunks that lie behind one another in the file are one run."""
        size, offsets = self._grid.chunk_bytes, self._offsets[chunks].reshape(-1)
        breaks = np.flatnonzero(np.diff(offsets) != size) + 1
        for first, last in zip([0, *breaks], [*breaks, len(offsets)], strict=True):
            yield int(offsets[first]), int(first) * size, int(last - first) * size

    def _fill(self, buffer: NDArray[Any], chunks: Index, index: Index, block: NDArray[Any]) -> None:
        """Copy a box into a range of chunks, ``(count per axis..., voxels per axis...)``."""
        axes = len(chunks)
        pieces = [
            list(_pieces(*each)) for each in zip(chunks, index, self._grid.chunk, self._grid.shape, strict=True)
        ]  # fmt: skip
        for piece in product(*pieces):
            target = buffer[tuple(count for count, _, _ in piece) + tuple(inside for _, inside, _ in piece)]
            lengths = [n for axis in range(axes) for n in (target.shape[axis], target.shape[axes + axis])]
            source = block[tuple(part for _, _, part in piece)].reshape(lengths)  # a view: axes are only split
            target[...] = source.transpose([*range(0, 2 * axes, 2), *range(1, 2 * axes, 2)])


def _pieces(chunks: slice, part: slice, size: int, length: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut what a range of chunks has of an axis of a box into parts of like chunks: the first, those whole, the last.

    Args:
        chunks: their numbers; part: of the axis; size: of a chunk; length: of the axis.

    Yields:
        Which of the chunks, which voxels of each, and which of the box.
    """
    at, stop = max(part.start, chunks.start * size), min(part.stop, chunks.stop * size, length)
    while at < stop:
        inside, number = at % size, at // size - chunks.start
        count = max((stop - at) // size, 1) if inside == 0 else 1
        end = min(at + count * size - inside, stop)
        held = slice(inside, inside + end - at) if count == 1 else slice(0, size)
        yield slice(number, number + count), held, slice(at - part.start, end - part.start)
        at = end


def write_at(descriptor: int, view: memoryview, offset: int) -> None:
    """Write all bytes of ``view`` from ``offset`` on."""
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)


def read_at(descriptor: int, view: memoryview, offset: int) -> None:
    """Fill ``view`` with the bytes from ``offset`` on.

    Raises:
        OSError: the file ends before.
    """
    done = 0
    while done < len(view):
        got = os.preadv(descriptor, [view[done:]], offset + done)
        if not got:
            raise OSError("a passing file was cut short")
        done += got
