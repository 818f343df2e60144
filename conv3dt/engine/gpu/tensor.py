"""The engine for accelerators: regions dealt out to devices, halved where a device has no room for them.

What a device computes depends on the region alone, so reruns are equal to the bit; `fused` gives the same bits for
any region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from conv3dt.engine.finish import Storage
from conv3dt.engine.gpu.lane import Lane, Way, span
from conv3dt.engine.gpu.switches import switched
from conv3dt.engine.gpu.ways import ways_of
from conv3dt.errors import ArgumentError, Conv3dtError, DeviceError, DoesNotFitError
from conv3dt.layer.concrete import Layer
from conv3dt.plan import MOST_VALUES

Finish = Callable[[], int]

TRIED = 16
"""Cells along x that are tried out: rows as even as most are, for which Triton compiles a kernel of their own."""

NO_ROOM = ("out of memory", "STATUS_ALLOC_FAILED")
"""What stands in an error of the driver, of Triton, of cuBLAS or cuDNN, which have no class of their own for it."""


class TensorEngine:
    """Computes regions of one layer on one device or several."""

    name = "tensor"
    in_place = False

    def __init__(
        self,
        layer: Layer,
        storage: Storage,
        *,
        devices: Sequence[str],
        threads: int = 1,
        precision: str = "fp32",
        way: str | None = None,
        max_vram: int | None = None,
    ) -> None:
        """Put the weights on the devices.

        Args:
            layer: its axes in walk order; storage: what an output voxel becomes.
            devices: torch's names, of `devices.find`.
            threads: of torch, on the CPU.
            precision: of `precision.PRECISIONS`.
            way: of `ways.WAYS`; None chooses.
            max_vram: bytes of each device that may be taken, or None.

        Raises:
            ArgumentError: a device cannot run the layer in this precision.
        """
        self.layer, self.storage, self.precision = layer, storage, precision
        self.compute_dtype = storage.compute_dtype
        self.halved = 0
        found = [torch.device(name) for name in devices]
        self._limited: list[torch.device] = []
        self._lanes: list[Lane] = []
        if found[0].type == "cpu":
            torch.set_num_threads(threads)
        self.way = way or ways_of(layer, found[0].type, wide=storage.compute_dtype == np.float64)[0]
        self._most: int | None = None
        try:
            for device in found:
                with self._telling(device), switched(tf32=precision == "tf32"):
                    if max_vram is not None and device.type == "cuda":
                        self._limit(device, max_vram)
                    self._lanes.append(Lane(device, way_on(device, layer, storage, self.way, precision)))
        except BaseException:
            self.close()
            raise
        self._turn = cycle(self._lanes)

    def try_out(self) -> None:
        """Compute a few cells on each device, before any data are read.

        Raises:
            ArgumentError: a device cannot run the layer.
            DoesNotFitError: it has no room for one cell.
        """
        axes = self.layer.config.axes
        shape = axes[0].stride, axes[1].stride, TRIED * axes[2].stride
        low, high = zip(*(axis.sources(0, n) for axis, n in zip(axes, shape, strict=True)), strict=True)
        channels = 1 if self.layer.per_channel else self.layer.channels
        filters = 1 if self.layer.argmax else channels if self.layer.per_channel else self.layer.filters
        for lane in self._lanes:
            source = np.zeros((channels, *(b - a for a, b in zip(low, high, strict=True))), self.compute_dtype)
            out = np.empty((filters, *shape), self.storage.dtype)
            with self._telling(lane.device), switched(tf32=self.precision == "tf32"):
                lane.start(source, out)()

    def start(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> Finish:
        """Begin to compute one output region; see `choose.Engine`.

        Raises:
            DoesNotFitError: a device has no room for the smallest region.
            DeviceError: a device failed.
        """
        return self._begun(next(self._turn), source, out)

    def compute(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        """Compute one output region; see `DirectEngine.compute`."""
        return self.start(source, out)()

    def close(self) -> None:
        """Give the devices' memory back."""
        for lane in self._lanes:
            with suppress(RuntimeError):  # the device is lost, and said so before
                lane.let_go()
        for device in self._limited:
            with suppress(RuntimeError):
                torch.cuda.set_per_process_memory_fraction(1.0, device)

    def _limit(self, device: torch.device, most: int) -> None:
        """Let torch take no more than so many bytes of a device."""
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(most / total, 1.0), device)
        self._limited.append(device)

    def _begun(self, lane: Lane, source: NDArray[np.floating], out: NDArray[np.generic]) -> Finish:
        """Begin a region, as a whole or, where there is no room for it, in parts."""
        if self._fits(source, out):
            finish = self._tried(lane, source, out)
            if finish is not None:
                return self._waiting(lane, finish)
            self._make_room(lane, out)
        return self._halves(lane, source, out)

    def _tried(self, lane: Lane, source: NDArray[np.floating], out: NDArray[np.generic]) -> Finish | None:
        """Begin a region; None if there is no room for it.

        The error is gone by then: its traceback holds the tensors of the attempt, which are in the way.
        """
        try:
            with self._failing(lane.device), switched(tf32=self.precision == "tf32"):
                return lane.start(source, out)
        except torch.OutOfMemoryError:
            return None

    def _waiting(self, lane: Lane, finish: Finish) -> Finish:
        def waited() -> int:
            with self._failing(lane.device):
                return finish()

        return waited

    def _fits(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> bool:
        """Whether a region is no larger than what found no room before, and no tensor comes near 2^31 elements."""
        if self._is_smallest(out):
            return True
        return span(source) <= MOST_VALUES and (self._most is None or out[0].size <= self._most)

    def _is_smallest(self, out: NDArray[np.generic]) -> bool:
        return all(n <= axis.stride for n, axis in zip(out.shape[1:], self.layer.config.axes, strict=True))

    def _make_room(self, lane: Lane, out: NDArray[np.generic]) -> None:
        """Give back what is held, and ask for regions half as large from now on."""
        if self._is_smallest(out):
            raise DoesNotFitError(
                f"device {lane.device} has no memory left for a region of {'x'.join(map(str, out.shape[1:]))} output "
                f"voxels; give a higher --max-vram, or --device cpu"
            )
        self.halved += 1
        self._most = max(prod(out.shape[1:]) // 2, 1)
        for each in self._lanes:
            with self._failing(each.device):
                each.let_go()

    def _halves(self, lane: Lane, source: NDArray[np.floating], out: NDArray[np.generic]) -> Finish:
        """Compute a region in two parts, which may be halved again; it waits for each."""
        lost = 0
        for part, piece in self._split(source, out):
            values = np.empty(piece.shape, piece.dtype)
            lost += self._begun(lane, np.ascontiguousarray(part), values)()
            piece[...] = values
        return lambda: lost

    def _split(
        self, source: NDArray[np.floating], out: NDArray[np.generic]
    ) -> Iterator[tuple[NDArray[np.floating], NDArray[np.generic]]]:
        """The two halves of a region, along its longest axis and at a multiple of the stride."""
        axes = self.layer.config.axes
        cells = [-(-n // axis.stride) for n, axis in zip(out.shape[1:], axes, strict=True)]
        longest = cells.index(max(cells))
        axis, end = axes[longest], out.shape[longest + 1]
        middle = -(-cells[longest] // 2) * axis.stride
        first = axis.sources(0, 1)[0]
        for start, stop in ((0, min(middle, end)), (middle, end)):
            if start < stop:
                low, high = axis.sources(start, stop)
                before = (slice(None),) * (longest + 1)
                yield source[(*before, slice(low - first, high - first))], out[(*before, slice(start, stop))]

    @contextmanager
    def _telling(self, device: torch.device) -> Iterator[None]:
        """Say in one line that a device cannot run the layer at all, whichever library finds that out.

        Triton's compiler alone may raise errors of its own, of the system's compiler, and failed assertions.
        """
        try:
            yield
        except (Conv3dtError, MemoryError):
            raise
        except Exception as error:
            if _is_no_room(error):
                raise DoesNotFitError(
                    f"device {device} has no memory left for the layer: {_reason(error)}; give a higher --max-vram, or "
                    f"--device cpu"
                ) from error
            raise ArgumentError(
                f"device {device} cannot run this layer in {self.compute_dtype} ({self.way}, {self.precision}): "
                f"{_reason(error)}; use device cpu"
            ) from error

    @contextmanager
    def _failing(self, device: torch.device) -> Iterator[None]:
        """Say in one line that a device failed, unless it only ran out of memory."""
        try:
            yield
        except (Conv3dtError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            if _is_no_room(error):
                raise torch.OutOfMemoryError(str(error)) from error
            raise DeviceError(f"device {device} failed: {_reason(error)}; run again, or use device cpu") from error


def _is_no_room(error: Exception) -> bool:
    """Whether a device, not the machine, had no room for something."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_ROOM)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def way_on(device: torch.device, layer: Layer, storage: Storage, way: str, precision: str) -> Way:
    """Return what computes regions of a layer on one device, by a way of `ways.WAYS`."""
    if way == "fused":
        from conv3dt.engine.gpu.fused import Fused

        return Fused(layer, storage, device)
    if way == "phased":
        from conv3dt.engine.gpu.phased import Phased

        return Phased(layer, storage, device, precision)
    from conv3dt.engine.gpu.transposed import Transposed

    return Transposed(layer, storage, device, precision)
