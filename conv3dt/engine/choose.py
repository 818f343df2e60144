"""Which engine computes this layer soonest?  The loops on the CPU, or torch and Triton on an accelerator.

On the CPU the loops win for any number of channels in volumes larger than the kernel, by what ``python -m
tests.benchmarks engine`` measures (in smaller ones torch would, were it not for the time its import takes); whether a
GPU is worth its start is an estimate from the work.  Its constants are rates of one thread of a server CPU, and guesses
of a GPU's; they need only be right to a factor of two to choose well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from conv3dt.engine.devices import SPARED, check_device, cuda_count, find, free_memory, has_nvidia
from conv3dt.errors import ArgumentError, DoesNotFitError
from conv3dt.layer.config import LayerConfig
from conv3dt.plan import IN_FLIGHT, MOST_VALUES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from conv3dt.engine.finish import Storage
    from conv3dt.layer.concrete import Layer

FLOPS, VOXELS = 80e9, 3e9
GPU_START, GPU_STARTED = 4.0, 0.1
"""Seconds to import torch and make a context, and where that was done before."""

BUS, GPU_FLOPS = 10e9, 5e12
"""Bytes a second over the bus, each way, and products a second of a GPU: guesses, not measured."""

LIBRARIES = {"direct": ("llvmlite", 80 * 2**20), "tensor": ("torch", 420 * 2**20)}
"""The library behind each engine and the memory that it takes."""

PREFERRED_BYTES = 64 * 2**20
"""Output bytes of a region for an accelerator: enough to hide what it takes to send one on its way."""


class Engine(Protocol):
    """What the pipeline asks of an engine."""

    name: str
    compute_dtype: np.dtype[np.floating]
    in_place: bool
    """Whether it computes as well into memory that is not `Choice.host_memory`."""
    halved: int
    """Regions that were computed in parts for want of memory."""

    def start(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> Callable[[], int]:
        """Begin to fill ``out (filters, z, y, x)`` from ``source (channels, z, y, x)``.

        Both are C-contiguous, but for what may lie between the rows of ``source``, and belong to the engine until what
        is returned has been called: it waits, and returns how many values were lost.  No more than
        `Choice.in_flight` may be waited for.
        """
        ...

    def close(self) -> None:
        """Let go of threads and memory."""
        ...


class HostMemory(Protocol):
    """Where regions lie on the side of the program."""

    def take(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a new array of ``count`` zeros."""
        ...

    def close(self) -> None:
        """Let go of what is pinned."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, where it runs, the threads it has and the reason it was taken.

    Attributes:
        engine: ``direct`` or ``tensor``.
        device: torch's name; several with commas between.
        threads, reason: of the CPU, and in words.
        precision: of `precision.PRECISIONS`, in which many channels are multiplied; way: of `ways.WAYS`, None chooses.
        max_vram: bytes of each device that may be taken, if somebody said; free_vram: that are free.
        asked: whether the device was named.
    """

    engine: str
    device: str
    threads: int
    reason: str
    precision: str = "fp32"
    way: str | None = None
    max_vram: int | None = None
    free_vram: int | None = None
    asked: bool = True

    @property
    def devices(self) -> tuple[str, ...]:
        """Each device by itself."""
        return tuple(self.device.split(", "))

    def effective_precision(self, itemsize: int) -> str | None:
        """Return in what an accelerator multiplies, when it computes in ``itemsize`` bytes; None on the CPU."""
        if self.engine == "direct":
            return None
        if itemsize == 8:
            return "fp64"
        return "fp32" if self.way == "fused" else self.precision

    @property
    def in_flight(self) -> int:
        """Regions that the engine may hold at once."""
        return 1 if self.engine == "direct" else IN_FLIGHT * len(self.devices)

    @property
    def library_bytes(self) -> int:
        """Memory of the libraries that come with it, as far as it is not taken already."""
        module, size = LIBRARIES[self.engine]
        return size // 4 if module in sys.modules else size

    @property
    def preferred_bytes(self) -> int | None:
        """Output bytes of a region that suit the engine; None for what suits the CPU's caches."""
        return PREFERRED_BYTES if self.device.startswith("cuda") else None

    def scratch(self, itemsize: int, activation: str) -> int:
        """Bytes per output voxel that the engine needs beside its output, when it computes in ``itemsize`` bytes."""
        if self.engine == "direct":
            return 3 * itemsize if "softmax" in activation else 0  # which looks at all filters of a voxel
        return 0 if self.device.startswith("cuda") else 4 * itemsize

    def most_values(self, *, channels: int, filters: int, strides: int, computed: int, written: int) -> int:
        """Return how many output values a region may have, for the device to hold those in flight.

        Args:
            channels, filters: that are computed; strides: output voxels per input voxel.
            computed, written: bytes of a value.
        """
        vram = self.max_vram or (None if self.free_vram is None else int(self.free_vram * SPARED))
        if vram is None:
            return MOST_VALUES
        region = 1.5 * channels * computed / strides + filters * written  # the halo is a part of the source
        passing = 4 * filters * computed  # what torch's own operations leave on the way
        return max(min(int(vram / (IN_FLIGHT * region + passing)) * filters, MOST_VALUES), filters)

    def build(self, layer: Layer, storage: Storage) -> Engine:
        """Import the engine and make it ready for a layer whose axes are in walk order."""
        home: Any
        if self.engine == "direct":
            home = import_module("conv3dt.engine.direct")
            return home.DirectEngine(layer, storage, threads=self.threads)  # type: ignore[no-any-return]
        home = import_module("conv3dt.engine.gpu.tensor")
        return home.TensorEngine(  # type: ignore[no-any-return]
            layer, storage, devices=self.devices, threads=self.threads, precision=self.precision, way=self.way,
            max_vram=self.max_vram,
        )  # fmt: skip

    def tried_out(self, layer: Layer, storage: Storage) -> Choice:
        """Compute a few cells on each device, before any data are read; return the choice with the way that does it.

        A way that does not run there, as Triton where it has no compiler, makes room for the next.  Where the device
        was not asked for, the CPU stands in.

        Raises:
            ArgumentError: a device cannot run the layer; DoesNotFitError: it has no room for it.
        """
        if self.engine == "direct":
            return self
        from conv3dt.engine.gpu.ways import ways_of

        wide, kind = storage.compute_dtype.itemsize == 8, self.devices[0].partition(":")[0]
        found, failed = self, []
        for way in (self.way,) if self.way else ways_of(layer, kind, wide=wide):
            try:
                found._try(way, layer, storage)
                return replace(found, way=way)
            except (ArgumentError, DoesNotFitError) as error:
                failed.append(error)
                found = replace(found, reason=f"{found.reason}; not {way}: {error}")
        if self.asked:
            raise failed[0]
        return Choice("direct", "cpu", self.threads, f"{self.reason}; {failed[0]}")

    def _try(self, way: str, layer: Layer, storage: Storage) -> None:
        engine: Any = replace(self, way=way).build(layer, storage)
        try:
            engine.try_out()
        finally:
            engine.close()

    def host_memory(self) -> HostMemory:
        """Return where regions are to lie for the engine."""
        if self.device.startswith("cuda"):
            return import_module("conv3dt.engine.gpu.host").PinnedMemory(self.devices[0])  # type: ignore[no-any-return]
        return import_module("conv3dt.engine.memory").PlainMemory()  # type: ignore[no-any-return]


def choose(
    config: LayerConfig,
    channels: int,
    voxels: int,
    *,
    device: str,
    threads: int,
    precision: str = "fp32",
    max_vram: int | None = None,
) -> Choice:
    """Return the engine for ``voxels`` output voxels (all volumes together).

    Raises:
        ArgumentError: the device is not there, or cannot be used.
    """
    name = check_device(device)
    asked = name != "auto"
    if not asked:
        name, reason = _weighed(config, channels, voxels, threads)
    elif name == "cpu":
        reason = f"asked for; {_work(config, channels, voxels, threads)}"
    else:
        reason = "asked for"
    if name == "cpu":
        return Choice("direct", "cpu", threads, reason)
    try:
        devices = find(name)
        known = [free for free in map(free_memory, devices) if free is not None]
    except ArgumentError as error:
        if asked:
            raise
        return Choice("direct", "cpu", threads, f"{reason}; {error}")
    return Choice(
        "tensor", ", ".join(devices), threads, reason, precision, None, max_vram, min(known, default=None), asked
    )  # fmt: skip


def _weighed(config: LayerConfig, channels: int, voxels: int, threads: int) -> tuple[str, str]:
    """The device for ``auto``, and what was weighed: work, start, and bytes over the bus."""
    work, seconds = _work(config, channels, voxels, threads), estimate(config, channels, voxels, threads)
    start = GPU_STARTED if _is_started() else GPU_START
    if seconds <= start:
        return "cpu", f"{work}, sooner than a GPU starts ({start:g} s)"
    if not has_nvidia():
        return "cpu", f"{work}; there is no NVIDIA GPU"
    if not cuda_count():
        return "cpu", f"{work}; torch sees no CUDA device"
    moved = _bus_bytes(config, channels, voxels)
    busy = start + max(moved / BUS, _products(config, channels, voxels) / GPU_FLOPS)
    told = f"{work}, {busy:.2g} s on the GPU ({start:g} s to start, {moved / 1e9:.2g} GB over the bus)"
    return ("cuda" if busy < seconds else "cpu"), told


def _work(config: LayerConfig, channels: int, voxels: int, threads: int) -> str:
    seconds = estimate(config, channels, voxels, threads)
    return f"{channels} -> {config.filters} channels, {seconds:.2g} s estimated on the CPU"


def estimate(config: LayerConfig, channels: int, voxels: int, threads: int) -> float:
    """Return the seconds that the loops would take on the CPU."""
    out = voxels * config.filters
    return max(2 * _products(config, channels, voxels) / FLOPS, out / VOXELS) / threads


def _products(config: LayerConfig, channels: int, voxels: int) -> float:
    return voxels * config.filters * channels * prod(config.kernel_size) / prod(config.strides)


def _bus_bytes(config: LayerConfig, channels: int, voxels: int) -> float:
    return 4 * voxels * (config.filters + channels / prod(config.strides))


def _is_started() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())
