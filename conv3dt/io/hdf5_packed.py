"""How are gzip-packed voxels written?  Packed in threads; chunks that come before their turn wait.

The file is filled in an order of chunks that its axes say: its bytes do not depend on the order in which voxels came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from conv3dt.io.hdf5_chunks import ChunkGrid, Packing, Place, shifted
from conv3dt.io.hdf5_pack import packed
from conv3dt.io.hdf5_spool import Spool
from conv3dt.io.hdf5_target import Target
from conv3dt.io.volume import Index, VolumeInfo

AHEAD_BYTES = 24 * 2**20
"""Chunks that are read and packed ahead of the one that is written; one is, whatever its size."""
COPIES = 3
"""A chunk that is packed is there more than once: as it was or shuffled, packed, and packed and on its way."""


class Packed:
    """The voxels of a dataset, on their way into the passing file."""

    def __init__(
        self,
        target: Target,
        grid: ChunkGrid,
        packing: Packing,
        spool: Path,
        *,
        threads: int,
        resume: dict[str, Any] | None,
    ) -> None:
        """Begin, or go on from a checkpoint.

        Args:
            target: the dataset; grid: how it is cut up; packing: how each chunk is packed.
            spool: the passing file of the chunks that wait.
            threads: for packing.
            resume: what the checkpoint returned.

        Raises:
            OSError: what the checkpoint stands on is not there.
        """
        self._grid, self._packing, self._threads = grid, packing, threads
        self._order = _order(target.info)
        self._rest = grid.offsets(tuple(slice(0, n) for n in grid.shape), self._order)
        self._next = next(self._rest, None)
        with ExitStack() as stack:
            self._spool = Spool(spool, grid, resume)
            stack.callback(self._spool.close)
            self._spool.take_over(target.work)
            self._dataset, self._written = stack.enter_context(target.created(early=False))
            self._pool = ThreadPoolExecutor(threads, "conv3dt-pack")
            stack.callback(self._pool.shutdown, cancel_futures=True)
            self._open = stack.pop_all()

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write the whole chunks of a box, or let them wait; what it has of others is put together first."""
        grid, packing = self._grid, self._packing
        held = grid.held(index)
        if held is not None:
            whole = grid.voxels(held)
            parts, inner = list(grid.parts(whole, self._order)), block[shifted(whole, index)]
            contents = self._pool.map(lambda part: packed(inner[part.block], grid, packing), parts)
            for part, content in zip(parts, contents, strict=True):
                self._take(part.offset, content)
        for box in grid.cut(index):
            self._spool.put(box, block[shifted(box, index)])

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what was written."""
        self._written.sync()
        return self._spool.checkpoint()

    def finish(self) -> None:
        """Put all chunks into the file that are not there yet."""
        for offset, content in self._contents():
            self._written.write_chunk(self._dataset, offset, content)
        self._open.close()

    def close(self) -> None:
        """Let go of everything; the passing files stay as they are."""
        error = InterruptedError("given up")
        self._open.__exit__(type(error), error, None)

    def _take(self, offset: tuple[int, ...], content: bytes) -> None:
        """Write the chunk that begins there, if it is its turn, or let it wait."""
        self._advance()
        at = None
        if offset == self._next:
            at = self._written.write_chunk(self._dataset, offset, content)
            self._next = next(self._rest, None)
        if at is None:
            self._spool.add(self._grid.place(offset), content)
        else:
            self._spool.add_outside(self._grid.place(offset), at, len(content))

    def _advance(self) -> None:
        """Write those whose turn has come while they waited."""
        while self._next is not None:
            content = self._spool.packed(self._grid.place(self._next))
            if content is None:
                return
            self._written.write_chunk(self._dataset, self._next, content)
            self._next = next(self._rest, None)

    def _contents(self) -> Iterator[tuple[tuple[int, ...], bytes]]:
        """Yield the chunks that are not in the file yet, in their order; a few are read or packed ahead."""
        most = max(min(AHEAD_BYTES // (COPIES * self._grid.chunk_bytes), 2 * self._threads), 1)
        ahead: deque[tuple[tuple[int, ...], Future[bytes]]] = deque()
        for offset in chain([] if self._next is None else [self._next], self._rest):
            ahead.append((offset, self._pool.submit(self._content, self._grid.place(offset))))
            if len(ahead) >= most:
                first, content = ahead.popleft()
                yield first, content.result()
        for offset, content in ahead:
            yield offset, content.result()

    def _content(self, place: Place) -> bytes:
        content = self._spool.packed(place)
        return packed(self._spool.voxels(place), self._grid, self._packing) if content is None else content


def _order(info: VolumeInfo) -> tuple[int, ...]:
    """The axes in the order in which regions usually follow one another, the slowest first: NIfTI's are reversed."""
    turn = -1 if "ijk" in info.axes else 1
    return (*info.batch[::turn], *info.spatial[::turn], *(axis for axis in (info.channel,) if axis is not None))
