"""How do regions pass through one device?  Up, computed, and down, each on a stream of its own: two at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from conv3dt.engine.gpu.ending import bits
from conv3dt.errors import DataError
from conv3dt.plan import IN_FLIGHT


class Way(Protocol):
    """What computes a region on its device; see `ways`."""

    name: str

    def run(self, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        """Compute ``out (filters, z, y, x)`` from ``source (channels, z, y, x)``.

        Added to ``lost``, two whole numbers: values that were clipped or not a number; sums that a type of 16 bits
        could not hold.
        """
        ...


@dataclass(slots=True)
class _Slot:
    """The tensors of one region on the device, used again and again.

    Attributes:
        lost: what `Way.run` counts; told: the same on the side of the program, where no copy waits for it.
        done: happens when the region has come back; None where nothing is done by and by.
        last: the region that has it, or had it.
    """

    lost: torch.Tensor
    told: torch.Tensor
    done: Any = None
    last: _Return | None = None
    source: torch.Tensor | None = None
    out: torch.Tensor | None = None


class _Return:
    """A region that comes back."""

    def __init__(self, slot: _Slot) -> None:
        self._slot, self._told = slot, list[int]()

    def wait(self) -> None:
        """Wait for it, once, and note what was told: the next region in its place tells something else."""
        if not self._told:
            if self._slot.done is not None:
                self._slot.done.synchronize()
            self._told = self._slot.told.tolist()

    def __call__(self) -> int:
        """Wait for it; return how many values were lost."""
        self.wait()
        clipped, overflowed = self._told
        if overflowed:
            raise DataError("precision fp16: a sum is beyond 65504, the most that the type holds; use bf16 or tf32")
        return clipped


class Lane:
    """One device with its streams; where a device has none, one thing is done after the other."""

    def __init__(self, device: torch.device, way: Way) -> None:
        self.device, self._way = device, way
        stream: Any = torch.cuda.Stream
        self._streams = [stream(device) for _ in range(3)] if device.type == "cuda" else None
        self._slots = [_slot(device) for _ in range(IN_FLIGHT)]
        self._turn = 0
        if self._streams:  # what was made ready above came on another stream, which these do not wait for
            torch.cuda.synchronize(device)

    def start(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> Callable[[], int]:
        """Send a region on its way; what is returned waits for it, and returns how many values were lost.

        Args:
            source, out: as of `DirectEngine.compute`; both belong to the device until then.

        Raises:
            torch.OutOfMemoryError: the device has no room for it.
        """
        with self._here():
            return self._started(source, out)

    def _started(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> Callable[[], int]:
        slot = self._slots[self._turn % IN_FLIGHT]
        self._turn += 1
        if slot.last is not None:
            slot.last.wait()
        with self._stream(0):
            on_device = _sent(slot, source, self.device, waits=self._streams is None)
        self._order(0, 1)
        with self._stream(1):
            result = _room(slot, bits(out), self.device)
            slot.lost.zero_()
            self._way.run(on_device, result, slot.lost)
        self._order(1, 2)
        with self._stream(2):
            no_wait = self._streams is not None  # without an event to wait for, a copy that is under way is not seen
            bits(out).copy_(result, non_blocking=no_wait)
            slot.told.copy_(slot.lost, non_blocking=no_wait)
            if self._streams is not None:
                self._streams[2].record_event(slot.done)

        slot.last = _Return(slot)
        return slot.last

    def let_go(self) -> None:
        """Wait for what is under way, and give its memory back."""
        if self._streams:
            torch.cuda.synchronize(self.device)
        for slot in self._slots:
            slot.source = slot.out = None
        if self._streams:
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def _here(self) -> AbstractContextManager[Any]:
        """Make the device the current one.

        A stream alone would do so too, but on leaving it would make a context on the first device, which may be full.
        """
        return nullcontext() if self._streams is None else torch.cuda.device(self.device)

    def _stream(self, number: int) -> AbstractContextManager[Any]:
        return nullcontext() if self._streams is None else torch.cuda.stream(self._streams[number])

    def _order(self, first: int, then: int) -> None:
        """What comes on one stream waits for what is on another."""
        if self._streams is not None:
            self._streams[then].wait_stream(self._streams[first])


def _slot(device: torch.device) -> _Slot:
    event: Any = torch.cuda.Event
    on_cuda = device.type == "cuda"
    return _Slot(
        torch.zeros(2, dtype=torch.int32, device=device),
        torch.zeros(2, dtype=torch.int32, pin_memory=on_cuda),
        event(blocking=True) if on_cuda else None,  # who waits leaves the processor to those who read and write
    )


def span(source: NDArray[np.floating]) -> int:
    """Return how many items a region takes on a device, with all that lies between its rows."""
    return 1 + sum((n - 1) * step // source.itemsize for n, step in zip(source.shape, source.strides, strict=True))


def _sent(slot: _Slot, source: NDArray[np.floating], device: torch.device, *, waits: bool) -> torch.Tensor:
    """A region on its device, with all that lies between its rows: one copy."""
    steps = [step // source.itemsize for step in source.strides]
    count = span(source)
    flat = np.lib.stride_tricks.as_strided(source, (count,), (source.itemsize,))
    if slot.source is None or slot.source.numel() < count:
        slot.source = None
        slot.source = torch.empty(count, dtype=torch.from_numpy(flat[:1]).dtype, device=device)
    held = slot.source[:count].copy_(torch.from_numpy(flat), non_blocking=not waits)
    return held.as_strided(source.shape, steps)


def _room(slot: _Slot, out: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor for the result."""
    if slot.out is None or slot.out.numel() < out.numel():
        slot.out = None
        slot.out = torch.empty(out.numel(), dtype=out.dtype, device=device)
    return slot.out[: out.numel()].view(out.shape)
