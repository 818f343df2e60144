"""The engine for accelerators: regions dealt out to devices, halved where a device has no room for them.

What a device computes depends on the region alone, so reruns are equal to the bit; `fused` gives the same bits for
any region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from math import prod
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from conv3dt.engine.finish import Storage
from conv3dt.engine.lane import Lane, Way
from conv3dt.engine.ways import way_of
from conv3dt.errors import ArgumentError, DeviceError, DoesNotFitError
from conv3dt.layer.concrete import Layer

Finish = Callable[[], int]

TRIED = 16
"""Cells along x that are tried out: rows as even as most are, for which Triton compiles a kernel of their own."""

_switches = Lock()
"""Held while torch's switches, which are of the whole process, are as this engine wants them."""


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
        self._limited = [device for device in found if max_vram is not None and device.type == "cuda"]
        for device in self._limited:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min((max_vram or total) / total, 1.0), device)
        if found[0].type == "cpu":
            torch.set_num_threads(threads)
        self.way = way or way_of(layer, found[0].type)
        with self._telling(found[0]), self._switched():
            self._lanes = [Lane(device, way_on(device, layer, storage, self.way, precision)) for device in found]
        self._turn = cycle(self._lanes)
        self._most: int | None = None

    def try_out(self) -> None:
        """Compute a few cells on each device, before any data are read.

        Raises:
            ArgumentError: a device cannot run the layer.
        """
        axes = self.layer.config.axes
        shape = axes[0].stride, axes[1].stride, TRIED * axes[2].stride
        low, high = zip(*(axis.sources(0, n) for axis, n in zip(axes, shape, strict=True)), strict=True)
        channels = 1 if self.layer.per_channel else self.layer.channels
        filters = 1 if self.layer.argmax else channels if self.layer.per_channel else self.layer.filters
        for lane in self._lanes:
            source = np.zeros((channels, *(b - a for a, b in zip(low, high, strict=True))), self.compute_dtype)
            out = np.empty((filters, *shape), self.storage.dtype)
            with self._telling(lane.device), self._switched():
                lane.start(source, out)()

    def start(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> Finish:
        """Begin to compute one output region; see `choose.Engine`.

        Raises:
            DoesNotFitError: a device has no room for the smallest region.
            DeviceError: a device failed.
        """
        lane = next(self._turn)
        if self._most is not None and out[0].size > self._most:
            return self._halves(lane, source, out)
        try:
            with self._failing(lane.device), self._switched():
                finish = lane.start(source, out)
        except torch.OutOfMemoryError as error:
            self._make_room(lane, out, error)
            return self._halves(lane, source, out)

        def waited() -> int:
            with self._failing(lane.device):
                return finish()

        return waited

    def compute(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        """Compute one output region; see `DirectEngine.compute`."""
        return self.start(source, out)()

    def close(self) -> None:
        """Give the devices' memory back."""
        for lane in self._lanes:
            try:
                lane.let_go()
            except RuntimeError:  # the device is lost, and said so before
                continue
        for device in self._limited:
            torch.cuda.set_per_process_memory_fraction(1.0, device)

    def _make_room(self, lane: Lane, out: NDArray[np.generic], error: Exception) -> None:
        """Give back what is held, and ask for regions half as large from now on."""
        if all(n <= axis.stride for n, axis in zip(out.shape[1:], self.layer.config.axes, strict=True)):
            raise DoesNotFitError(
                f"device {lane.device} has no memory left for a region of {'x'.join(map(str, out.shape[1:]))} output "
                f"voxels; give a higher --max-vram, or --device cpu"
            ) from error
        self.halved += 1
        self._most = max(prod(out.shape[1:]) // 2, 1)
        for each in self._lanes:
            each.let_go()

    def _halves(self, lane: Lane, source: NDArray[np.floating], out: NDArray[np.generic]) -> Finish:
        """Compute a region in two parts, which may be halved again; it waits for each."""
        lost = 0
        for part, piece in self._split(source, out):
            values = np.empty(piece.shape, piece.dtype)
            lost += self._piece(lane, np.ascontiguousarray(part), values)
            piece[...] = values
        return lambda: lost

    def _piece(self, lane: Lane, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        fits = (
            self._most is None
            or out[0].size <= self._most
            or all(n <= axis.stride for n, axis in zip(out.shape[1:], self.layer.config.axes, strict=True))
        )
        if not fits:
            return self._halves(lane, source, out)()
        try:
            with self._failing(lane.device), self._switched():
                return lane.start(source, out)()
        except torch.OutOfMemoryError as error:
            self._make_room(lane, out, error)
            return self._halves(lane, source, out)()

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
    def _switched(self) -> Iterator[None]:
        """Torch's switches: nothing is tried out, nothing is random, and float32 is cut off only on request."""
        short = self.precision == "tf32"
        with _switches, torch.inference_mode():
            before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = short
            try:
                with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=short):
                    yield
            finally:
                torch.backends.cuda.matmul.allow_tf32 = before

    @contextmanager
    def _telling(self, device: torch.device) -> Iterator[None]:
        """Say in one line that a device cannot run the layer at all."""
        try:
            yield
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise ArgumentError(
                f"device {device} cannot run this layer in {self.compute_dtype} ({self.way}, {self.precision}): "
                f"{_reason(error)}; use device cpu"
            ) from error

    @contextmanager
    def _failing(self, device: torch.device) -> Iterator[None]:
        """Say in one line that a device failed, unless it only ran out of memory."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if device.type == "mps" and "out of memory" in str(error):  # which has no error of its own
                raise torch.OutOfMemoryError(str(error)) from error
            raise DeviceError(
                f"device {device} failed: {_reason(error)}; what is done is kept, and the same command goes on from "
                f"there"
            ) from error


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def way_on(device: torch.device, layer: Layer, storage: Storage, way: str, precision: str) -> Way:
    """Return what computes regions of a layer on one device, by a way of `ways.WAYS`."""
    if way == "fused":
        from conv3dt.engine.fused import Fused

        return Fused(layer, storage, device)
    if way == "phased":
        from conv3dt.engine.phased import Phased

        return Phased(layer, storage, device, precision)
    from conv3dt.engine.transposed import Transposed

    return Transposed(layer, storage, device, precision)
