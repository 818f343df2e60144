"""Where do chunks wait that cannot go into the file yet?  One behind the other in a passing file beside it.

A chunk that came whole waits packed; one that comes in pieces has a slot, in which they are put together.  The file
only grows.  A checkpoint adds a list of the chunks that are new since the one before, and says where it is; each list
says where the one before is.  Whoever goes on from a checkpoint follows them and forgets what lies behind the last.

Chunks that went into the output at once are listed too, with their places there.  Whoever goes on begins that file
anew, and so first takes them over; that this is done is noted behind the checkpoint, for one who goes on from the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from conv3dt.io.flat import bytes_of
from conv3dt.io.hdf5_chunks import ChunkGrid, Place
from conv3dt.io.hdf5_places import ChunkPlaces, read_at, write_at
from conv3dt.io.volume import Index

NOWHERE = -1
PAGE = 4096
"""Slots begin at multiples of this, for the system maps whole pages."""
COLUMNS = 4
"""Numbers of a chunk in a list: which it is, where it lies, how many bytes it packs to, and whether in the output."""
NOTE = 3
"""Numbers of the note that chunks were taken over: where the file ends, where its last list is, and a checksum."""


class Spool:
    """The chunks of one dataset."""

    def __init__(self, path: Path, grid: ChunkGrid, resume: dict[str, Any] | None) -> None:
        """Begin an empty file, or go on from a checkpoint.

        Raises:
            OSError: the file of the checkpoint is not there, or not as it was then.
        """
        self._grid = grid
        self._offsets = np.full(grid.counts, NOWHERE, np.int64)
        self._lengths = np.zeros(grid.counts, np.uint32)  # of packed chunks; 0 of slots
        self._outside = np.zeros(grid.counts, np.bool_)  # in the output
        self._listed = np.zeros(grid.counts, np.bool_)
        self._end, self._list = 0, NOWHERE
        self._file = path.open("w+b" if resume is None else "r+b", buffering=0)
        self._slots = ChunkPlaces(self._file.fileno(), grid, self._offsets)
        try:
            if resume is not None:
                self._recall(resume)
        except BaseException:
            self._file.close()
            raise

    def add(self, place: Place, content: bytes) -> None:
        """Keep a packed chunk."""
        write_at(self._file.fileno(), memoryview(content), self._end)
        self._note(place, self._end, len(content), outside=False)
        self._end += len(content)

    def add_outside(self, place: Place, offset: int, count: int) -> None:
        """Note where in the output a packed chunk lies."""
        self._note(place, offset, count, outside=True)

    def put(self, index: Index, block: NDArray[Any]) -> None:
        """Put a box into the slots of its chunks."""
        touched, size = self._grid.touched(index), self._grid.chunk_bytes
        missing = np.argwhere(self._offsets[touched] == NOWHERE) + [part.start for part in touched]
        if len(missing):
            start = -(-self._end // PAGE) * PAGE
            self._offsets[tuple(missing.T)] = start + np.arange(len(missing)) * size
            self._end = start + len(missing) * size
            _reserve(self._file.fileno(), start, self._end)
        self._slots.write(index, block)

    def packed(self, place: Place) -> bytes | None:
        """Return a chunk that came whole, packed; None of one that did not."""
        return self._content(self._file.fileno(), place) if self._lengths[place] else None

    def voxels(self, place: Place) -> NDArray[Any]:
        """Return a chunk that came in pieces, zero beyond the end of an axis."""
        return self._slots.read(place)

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what is kept here; return where the file ends, and where its last list begins."""
        fresh = np.flatnonzero((self._offsets != NOWHERE) & ~self._listed)
        columns = [table.reshape(-1)[fresh] for table in (self._offsets, self._lengths, self._outside)]
        content = np.concatenate([[self._list, len(fresh)], fresh, *columns]).astype("<i8").tobytes()
        write_at(self._file.fileno(), memoryview(content), self._end)
        self._list, self._end = self._end, self._end + len(content)
        self._listed.reshape(-1)[fresh] = True
        os.fsync(self._file.fileno())
        return {"end": self._end, "list": self._list}

    def take_over(self, output: Path) -> None:
        """Copy the chunks that lie in the output, durably: it may be begun anew.

        Raises:
            OSError: it is not as it was at the checkpoint.
        """
        places = np.argwhere(self._outside).tolist()
        if not places:
            return
        note = self._end
        self._end += NOTE * 8
        with output.open("rb", buffering=0) as file:
            for place in map(tuple, places):
                self.add(place, self._content(file.fileno(), place))
        done = self.checkpoint()
        write_at(self._file.fileno(), bytes_of(_signed(done["end"], done["list"])), note)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _content(self, descriptor: int, place: Place) -> bytes:
        content = os.pread(descriptor, int(self._lengths[place]), int(self._offsets[place]))
        if len(content) < self._lengths[place]:
            raise OSError("a passing file was cut short")
        return content

    def _note(self, place: Place, offset: int, count: int, *, outside: bool) -> None:
        self._offsets[place], self._lengths[place], self._outside[place] = offset, count, outside
        self._listed[place] = False

    def _recall(self, resume: dict[str, Any]) -> None:
        """Follow the lists from the last to the first; what a later one says of a chunk stands."""
        self._end, self._list = self._reached(int(resume["end"]), int(resume["list"]))
        self._file.truncate(self._end)
        offsets, at = self._offsets.reshape(-1), self._list
        while at != NOWHERE:
            before, count = self._numbers(at, 2).tolist()
            rows = self._numbers(at + 16, COLUMNS * count).reshape(COLUMNS, count)
            chunk, offset, length, outside = rows[:, offsets[rows[0]] == NOWHERE]
            offsets[chunk], self._lengths.reshape(-1)[chunk] = offset, length
            self._outside.reshape(-1)[chunk] = outside
            at = before
        self._listed[...] = self._offsets != NOWHERE

    def _reached(self, end: int, last: int) -> tuple[int, int]:
        """Where the file ends and its last list begins: at a checkpoint, or behind what was taken over from there."""
        size = os.fstat(self._file.fileno()).st_size
        if size >= end + NOTE * 8:
            note = self._numbers(end, NOTE)
            if np.array_equal(note, _signed(*note[:2].tolist())):
                end, last = note[:2].tolist()
        if size < end:
            raise OSError("a passing file was cut short")
        return end, last

    def _numbers(self, at: int, count: int) -> NDArray[np.int64]:
        found = np.empty(count, "<i8")
        read_at(self._file.fileno(), bytes_of(found), at)
        return found


def _signed(end: int, last: int) -> NDArray[np.int64]:
    numbers = np.array([end, last], "<i8")
    return np.append(numbers, crc32(bytes_of(numbers)))


def _reserve(descriptor: int, start: int, stop: int) -> None:
    """Take disk now: slots are written through a map, which a full disk ends without a word."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, stop - start)
    else:
        os.ftruncate(descriptor, stop)
