"""The GPU's way with few channels: one Triton kernel that reads a region once and writes what is stored."""

from __future__ import annotations

import linecache
from functools import cache
from hashlib import sha256
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
import torch

from conv3dt.engine.finish import Storage, float_limits
from conv3dt.engine.gpu.ending import ending_of
from conv3dt.engine.gpu.fused_text import Recipe, kernel_text, taps_of
from conv3dt.layer.activation import activation_parts
from conv3dt.layer.concrete import Layer

EXACT = ("linear",)
"""Activations without numbers that float32 would round; all others are left to torch where float64 is computed in."""

WIDTHS = (256, 128, 64, 32)
"""Cells along x that a program may compute, a thread each."""


class Fused:
    """Computes regions of a layer of few channels, on tensors."""

    name = "fused"

    def __init__(self, layer: Layer, storage: Storage, device: torch.device) -> None:
        """Write the kernel for a layer whose axes are in walk order, and put its numbers on the device."""
        self._layer, self._compute = layer, storage.compute_dtype
        within, wide = _ends_within(layer, storage), self._compute == np.float64
        self._ending = None if within else ending_of(layer, storage, device)
        self._recipe = Recipe(
            layer.config.axes,
            taps_of(layer, wide=wide),
            "fp64" if wide else "fp32",
            layer.config.activation if within else "linear",
            layer.bias is not None,
            storage.limits is not None and within,
            layer.per_channel,
        )
        self._kernel = loaded(kernel_text(self._recipe))
        self._table = self._on(device, layer.kernel.transpose(3, 4, 0, 1, 2))
        self._bias = self._on(device, np.zeros(1) if layer.bias is None else layer.bias)
        self._alpha = self._on(device, np.zeros(1) if layer.alpha is None else layer.alpha)
        low, high = float_limits(storage, self._compute)
        self._numbers = self._on(device, np.array([1 / storage.slope, storage.inter, low, high, storage.nought]))

    def _on(self, device: torch.device, values: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, self._compute)).to(device)

    def run(self, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        """Compute ``out (filters, z, y, x)`` from ``source (channels, z, y, x)``; add what is lost to ``lost``.

        Both as in `DirectEngine.compute`; rows of the source are side by side, but for what lies between them.
        """
        if self._ending is None:
            self._launch(source, out, lost)
            return
        filters = source.shape[0] if self._layer.per_channel else self._layer.filters
        values = torch.empty((filters, *out.shape[1:]), dtype=source.dtype, device=source.device)
        self._launch(source, values, lost)
        self._ending.store(values, out, lost)

    def _launch(self, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        layer, recipe = self._layer, self._recipe
        cells = [-(-n // stride) for n, stride in zip(out.shape[1:], recipe.strides, strict=True)]
        width = _width(cells[2])
        blocks, layers = -(-cells[2] // width), -(-cells[0] // recipe.cells)
        step, plane, row, _ = source.stride()
        self._kernel[(blocks * cells[1] * layers * out.shape[0],)](
            source, out, lost, self._table, self._bias, self._alpha, self._numbers, layer.channels,
            *source.shape[1:], plane, row, step, step if layer.per_channel else 0,
            0 if layer.per_channel else self._table.stride(0), *out.shape[1:], blocks, cells[1], layers,
            BX=width, CELLS=recipe.cells, STRIDE=recipe.strides[2], TAPS=prod(self._table.shape[2:]),
            num_warps=width // 32, enable_fp_fusion=False,
        )  # fmt: skip


def _ends_within(layer: Layer, storage: Storage) -> bool:
    """Whether the kernel can write what is stored: else torch ends its values."""
    function, _ = activation_parts(layer.config.activation)
    if layer.argmax or "softmax" in function or (storage.limits is not None and storage.dtype.itemsize == 8):
        return False
    return storage.compute_dtype == np.float32 or function in EXACT


def _width(cells: int) -> int:
    """How many cells along x a program computes: the fewest idle, the most of those with as few."""
    return min(WIDTHS, key=lambda width: (-(-cells // width) * width, -width))


@cache
def loaded(text: str) -> Any:
    """Return the kernel of a text; Triton asks for its lines, as a debugger would."""
    import triton
    import triton.language as tl

    from conv3dt.engine.gpu import fused_functions

    name = f"<polyphase {sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module = ModuleType("conv3dt.engine.polyphase")
    module.__dict__.update(triton=triton, tl=tl, functions=fused_functions)
    exec(compile(text, name, "exec"), module.__dict__)
    return module.__dict__["polyphase"]
