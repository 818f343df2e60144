"""How are gzip-packed chunks read faster than by HDF5's own filter?  Unpacked by isal in threads, and kept for a while.

HDF5 unpacks chunk by chunk in one thread with zlib, and keeps 1 MiB of them (8 since version 2.0): regions that cut
through chunks make it unpack the same ones again and again.  What is not simply packed voxels - no chunk at all, one
that was stored without its filters, one that isal cannot make sense of - is asked of HDF5, whose answer stands, be it
voxels or an error.  Only the length is judged here: HDF5 takes memory for whatever a chunk claims to unpack to.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from math import ceil, prod
from threading import Lock
from typing import Any

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from conv3dt.io.hdf5_chunks import ChunkGrid, Packing, Part, unshuffled
from conv3dt.io.volume import Index, VolumeInfo

KEPT_BYTES = 64 * 2**20
"""Unpacked chunks that are kept, with those that are in use; one chunk is, whatever its size."""

LEAST_BYTES = 2**14
"""Chunks smaller than this are left to HDF5: they cost more in Python than isal and threads win."""

_NO_ANSWER: Any = (OSError, RuntimeError, ValueError, MemoryError, isal_zlib.error)


class ChunkUnpacker:
    """Unpacks the chunks of one dataset; keeps those last used."""

    def __init__(self, dataset: Any, grid: ChunkGrid, packing: Packing, threads: int) -> None:
        self._dataset, self._grid, self._packing = dataset, grid, packing
        self._most = _most_chunks(grid.chunk_bytes)
        self._threads = min(threads, self._most)
        self._pool = ThreadPoolExecutor(self._threads, "conv3dt-unpack")
        self._kept: OrderedDict[tuple[int, ...], NDArray[Any]] = OrderedDict()
        self._lent = 0  # chunks that are being unpacked or copied
        self._lock = Lock()

    @classmethod
    def of(cls, dataset: Any, threads: int) -> ChunkUnpacker | None:
        """Return the unpacker of a dataset, or None where HDF5 has to unpack or to convert numbers, or is faster."""
        grid, packing = ChunkGrid.of(dataset), Packing.of(dataset)
        if grid is None or packing is None or grid.chunk_bytes < LEAST_BYTES:
            return None
        plain = dataset.id.get_type() == h5py.h5t.py_create(dataset.dtype, logical=True)
        return cls(dataset, grid, packing, threads) if plain else None

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box.

        Raises:
            OSError, RuntimeError: a chunk is damaged.
        """
        block = np.empty([part.stop - part.start for part in index], self._grid.dtype)
        # Those that are kept come first, before others push them out.
        parts = deque(sorted(self._grid.parts(index), key=lambda part: part.offset not in self._kept))
        jobs = [self._pool.submit(self._fill, block, index, parts) for _ in range(min(self._threads, len(parts)))]
        try:
            for job in jobs:
                job.result()
        finally:
            parts.clear()
            wait(jobs)
        return block

    def close(self) -> None:
        """Let the threads and the chunks go."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._kept.clear()

    def _fill(self, block: NDArray[Any], index: Index, parts: deque[Part]) -> None:
        """Copy parts into a block until none is left."""
        while True:
            try:
                part = parts.popleft()
            except IndexError:
                return
            self._copy(block, index, part)

    def _copy(self, block: NDArray[Any], index: Index, part: Part) -> None:
        with self._chunk(part.offset) as chunk:
            if chunk is None:
                place = zip(index, part.block, strict=True)
                block[part.block] = self._dataset[tuple(slice(a.start + b.start, a.start + b.stop) for a, b in place)]
            else:
                block[part.block] = chunk[part.inside]

    @contextmanager
    def _chunk(self, offset: tuple[int, ...]) -> Iterator[NDArray[Any] | None]:
        """Lend a chunk, unpacked now or before; None where HDF5 has to be asked."""
        with self._lock:
            chunk = self._kept.pop(offset, None)
            self._lent += 1
            while self._kept and len(self._kept) + self._lent > self._most:
                self._kept.popitem(last=False)
        try:
            if chunk is None:
                chunk = self._unpacked(offset)
            yield chunk
        finally:
            with self._lock:
                self._lent -= 1
                if chunk is not None:
                    self._kept[offset] = chunk

    def _unpacked(self, offset: tuple[int, ...]) -> NDArray[Any] | None:
        grid, content = self._grid, self._content(offset)
        if content is None:
            return None
        if not self._packing.shuffled:
            return np.frombuffer(content, grid.dtype).reshape(grid.chunk)
        planes = np.frombuffer(content, np.uint8).reshape(grid.dtype.itemsize, -1)
        return unshuffled(planes, grid.dtype).reshape(grid.chunk)

    def _content(self, offset: tuple[int, ...]) -> bytes | None:
        size, where = self._grid.chunk_bytes, ",".join(map(str, offset))
        unpacker = isal_zlib.decompressobj()
        try:
            mask, packed = self._dataset.id.read_direct_chunk(offset)
            if mask:
                return None
            content: bytes = unpacker.decompress(packed, size + 1)
        except _NO_ANSWER:
            return None
        if len(content) > size:
            raise OSError(f"the chunk at {where} unpacks to more than its {size} bytes")
        if not unpacker.eof:
            return None
        if len(content) < size:
            raise OSError(f"the chunk at {where} unpacks to {len(content)} of its {size} bytes")
        return content


def unpacking_bytes(info: VolumeInfo, threads: int) -> int:
    """Return the memory that reading a dataset's chunks takes: those kept, and a packed twin of each being unpacked."""
    chunk: tuple[int, ...] | None = info.layout.get("chunks")
    if chunk is None:
        return 0
    size = prod(chunk) * info.dtype.itemsize
    if info.layout.get("compression") != "gzip" or size < LEAST_BYTES:
        return 2 * size
    many = prod(ceil(n / length) for n, length in zip(info.shape, chunk, strict=True))
    most = _most_chunks(size)
    return (min(most, many) + min(threads, most, many)) * size


def _most_chunks(size: int) -> int:
    return max(KEPT_BYTES // size, 1)
