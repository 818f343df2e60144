"""Which engine computes this layer soonest?  An estimate from the work and from what importing costs.

The constants are rates of one thread of a server CPU, measured by ``python -m tests.benchmarks``; they need only be
right to a factor of two to choose well.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from conv3dt.errors import ArgumentError
from conv3dt.layer.config import LayerConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from conv3dt.engine.finish import Storage
    from conv3dt.layer.concrete import Layer

DIRECT_FLOPS, DIRECT_CHANNEL_FLOPS = 40e9, 15e9
DIRECT_VOXELS = 2.5e9
TENSOR_FLOPS_PER_CHANNEL = 5e9
TENSOR_FLOPS = 80e9
TENSOR_VOXELS = 0.3e9
DIRECT_IMPORT, TENSOR_IMPORT, GPU_START = 0.1, 1.5, 4.0
DIRECT_BYTES, TENSOR_BYTES = 120 * 2**20, 420 * 2**20
"""Memory that the engine's libraries take."""


class Engine(Protocol):
    """What the pipeline asks of an engine."""

    name: str
    compute_dtype: np.dtype[np.floating]

    def compute(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        """Fill ``out (filters, z, y, x)`` from ``source (channels, z, y, x)``; return how many values were lost.

        Both are C-contiguous, or have their channels fastest where the engine likes that (`Choice.channels_last`).
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
    def channels_last(self) -> bool:
        """Whether the engine likes its regions with the channels of a voxel side by side in memory."""
        return self.engine == "tensor"

    @property
    def library_bytes(self) -> int:
        """Memory of the libraries that come with it, as far as it is not taken already."""
        module, size = ("llvmlite", DIRECT_BYTES) if self.engine == "direct" else ("torch", TENSOR_BYTES)
        return size // 4 if module in sys.modules else size

    def scratch(self, itemsize: int) -> int:
        """Bytes per output voxel that the engine needs beside its output."""
        return 0 if self.engine == "direct" else 3 * itemsize

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
    direct, tensor = estimate(config, channels, voxels, threads)
    through = f"{channels} -> {config.filters} channels"
    if name == "auto" and min(direct, tensor) > GPU_START and _has_nvidia() and _torch_sees_cuda():
        return Choice("tensor", "cuda", threads, f"{through}, {min(direct, tensor):.0f} s estimated on the CPU")
    reason = f"{through}: estimated {direct:.2g} s direct, {tensor:.2g} s torch, imports included"
    return Choice("direct" if direct <= tensor else "tensor", "cpu", threads, reason)


def estimate(config: LayerConfig, channels: int, voxels: int, threads: int) -> tuple[float, float]:
    """Return the seconds that the direct and the tensor engine would take, with their imports."""
    out = voxels * config.filters
    flops = 2 * out * channels * prod(config.kernel_size) / prod(config.strides)
    direct = max(flops / (DIRECT_FLOPS if channels == 1 else DIRECT_CHANNEL_FLOPS), out / DIRECT_VOXELS) / threads
    rate = min(TENSOR_FLOPS, TENSOR_FLOPS_PER_CHANNEL * min(channels, config.filters))
    tensor = (flops / rate + out / TENSOR_VOXELS) / threads
    return DIRECT_IMPORT + direct, TENSOR_IMPORT + tensor


def _has_nvidia() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/dxg").exists()


def _torch_sees_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())
