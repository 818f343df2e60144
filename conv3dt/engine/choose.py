"""Which engine computes this layer soonest?  The loops on the CPU, or torch on an accelerator.

On the CPU the loops win for any number of channels in volumes larger than the kernel, by what ``python -m
tests.benchmarks engine`` measures (in smaller ones torch would, were it not for the time its import takes); whether a
GPU is worth its start is an estimate from the work.  Its constants are rates of one thread of a server CPU; they need
only be right to a factor of two to choose well.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from conv3dt.errors import ArgumentError
from conv3dt.layer.config import LayerConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from conv3dt.engine.finish import Storage
    from conv3dt.layer.concrete import Layer

FLOPS, VOXELS = 80e9, 3e9
GPU_START = 4.0
LIBRARIES = {"direct": ("llvmlite", 80 * 2**20), "tensor": ("torch", 420 * 2**20)}
"""The library behind each engine and the memory that it takes."""


class Engine(Protocol):
    """What the pipeline asks of an engine."""

    name: str
    compute_dtype: np.dtype[np.floating]

    def compute(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        """Fill ``out (filters, z, y, x)`` from ``source (channels, z, y, x)``; return how many values were lost.

        Both are C-contiguous, but for what may lie between the rows of ``source``.
        """
        ...

    def close(self) -> None:
        """Let go of threads."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, the device it runs on, the threads it has and the reason it was taken."""

    engine: str
    device: str
    threads: int
    reason: str

    @property
    def library_bytes(self) -> int:
        """Memory of the libraries that come with it, as far as it is not taken already."""
        module, size = LIBRARIES[self.engine]
        return size // 4 if module in sys.modules else size

    def scratch(self, itemsize: int, activation: str) -> int:
        """Bytes per output voxel that the engine needs beside its output, when it computes in ``itemsize`` bytes."""
        if self.engine == "direct":
            return 3 * itemsize if "softmax" in activation else 0  # which looks at all filters of a voxel
        return 3 * itemsize

    def build(self, layer: Layer, storage: Storage) -> Engine:
        """Import the engine and make it ready for a layer whose axes are in walk order."""
        module: Any = import_module(f"conv3dt.engine.{self.engine}")
        if self.engine == "direct":
            return module.DirectEngine(layer, storage, threads=self.threads)  # type: ignore[no-any-return]
        return module.TensorEngine(layer, storage, threads=self.threads, device=self.device)  # type: ignore[no-any-return]


def check_device(device: str) -> str:
    """Return the torch name of a device option."""
    name = device.lower().replace("gpu", "cuda") if isinstance(device, str) else ""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ArgumentError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}")
    return name


def choose(config: LayerConfig, channels: int, voxels: int, *, device: str, threads: int) -> Choice:
    """Return the engine for ``voxels`` output voxels (all volumes together)."""
    name = check_device(device)
    if name not in ("auto", "cpu"):
        return Choice("tensor", name, threads, "the device was asked for")
    seconds = estimate(config, channels, voxels, threads)
    reason = f"{channels} -> {config.filters} channels, {seconds:.2g} s estimated on the CPU"
    if name == "auto" and seconds > GPU_START and _has_nvidia() and _torch_sees_cuda():
        return Choice("tensor", "cuda", threads, reason)
    return Choice("direct", "cpu", threads, reason)


def estimate(config: LayerConfig, channels: int, voxels: int, threads: int) -> float:
    """Return the seconds that the loops would take on the CPU."""
    out = voxels * config.filters
    flops = 2 * out * channels * prod(config.kernel_size) / prod(config.strides)
    return max(flops / FLOPS, out / VOXELS) / threads


def _has_nvidia() -> bool:
    return os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/dxg")


def _torch_sees_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())
