"""The way with many channels: each phase is a small forward convolution, for which the libraries' fast paths are made.

Phases that read the same input are computed as one, with their filters side by side: where the kernel is as large as
the stride, that is all of them, and one matrix product.  No tap is padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from conv3dt.engine.finish import Storage
from conv3dt.engine.gpu.ending import Ending, ending_of, note_overflow, offsets
from conv3dt.engine.phases import tap_places
from conv3dt.geometry import Phase
from conv3dt.layer.concrete import Layer

Place = tuple[int, ...]
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What tensor cores take beside float32 itself, whole or cut off to tf32."""


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Phases with the same places.

    Attributes:
        begin: where the first tap lies in the source, counted as in `phases.tap_places`; step: from one to the next.
        phases: the remainder of each, per axis.
        weight: ``(phases * filters, channels, taps of z, y, x)``; None where no tap reaches.
    """

    begin: Place
    step: Place
    phases: list[Place]
    weight: torch.Tensor | None


class Phased:
    """Computes regions of a layer, on tensors."""

    name = "phased"

    def __init__(self, layer: Layer, storage: Storage, device: torch.device, precision: str) -> None:
        """Put the weights of each phase on the device, for a layer whose axes are in walk order."""
        compute = torch.float64 if storage.compute_dtype == np.float64 else torch.float32
        self._type = compute if compute == torch.float64 else TYPES.get(precision, compute)
        self._layer, self._compute, self._strides = layer, compute, [axis.stride for axis in layer.config.axes]
        self._ending: Ending = ending_of(layer, storage, device)
        kernel = torch.from_numpy(np.ascontiguousarray(layer.kernel)).to(compute)
        self._bias = None if layer.bias is None else offsets(layer.bias, device, compute)
        self._groups = [self._group(places, phases, kernel, device) for places, phases in _grouped(layer).items()]

    def _group(
        self,
        places: tuple[tuple[int, ...], ...],
        phases: list[tuple[Phase, ...]],
        kernel: torch.Tensor,
        device: torch.device,
    ) -> _Group:
        remainders = [tuple(phase.remainder for phase in each) for each in phases]
        if not all(places):
            return _Group((0, 0, 0), (1, 1, 1), remainders, None)
        parts = [kernel[list(z.taps)][:, list(y.taps)][:, :, list(x.taps)] for z, y, x in phases]
        weight = torch.cat([part.permute(3, 4, 0, 1, 2) for part in parts]).to(device, self._type)
        return _Group(
            tuple(each[0] for each in places),
            tuple(phase.step for phase in phases[0]),
            remainders,
            weight.contiguous(memory_format=torch.channels_last_3d),
        )

    def run(self, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        """Compute ``out (filters, z, y, x)`` from ``source (channels, z, y, x)``; see `Fused.run`."""
        x = (source[:, None] if self._layer.per_channel else source[None]).to(self._type)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for group in self._groups:
            values = self._values(group, x, out.shape[1:])
            note_overflow(source, values, lost)
            for n, phase in enumerate(group.phases):
                target = out[(slice(None), *(slice(r, None, s) for r, s in zip(phase, self._strides, strict=True)))]
                if target.numel():
                    self._ending.store(self._phase(values, n, target.shape[1:]), target, lost)

    def _values(self, group: _Group, x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """``(n, phases * filters, z, y, x)``: as many cells as the phases with most of them have."""
        cells = [
            max(-(-(n - phase[axis]) // self._strides[axis]) for phase in group.phases)
            for axis, n in enumerate(shape)
        ]  # fmt: skip
        if group.weight is None or min(cells) < 1:
            return x.new_zeros(()).expand(x.shape[0], len(group.phases) * self._layer.filters, *cells)
        reach = [(taps - 1) * step for taps, step in zip(group.weight.shape[2:], group.step, strict=True)]
        for dim, (begin, count, more) in enumerate(zip(group.begin, cells, reach, strict=True), start=2):
            x = x.narrow(dim, begin, count + more)
        if prod(group.weight.shape[2:]) == 1 and x.shape[0] == 1:
            return torch.mm(group.weight.flatten(1), x[0].flatten(1)).view(1, -1, *cells)
        return F.conv3d(x, group.weight, dilation=group.step)

    def _phase(self, values: torch.Tensor, number: int, cells: torch.Size) -> torch.Tensor:
        """``(filters, z, y, x)`` of one phase, in float32 or float64."""
        filters = self._layer.filters
        found = values[(slice(None), slice(number * filters, (number + 1) * filters), *map(slice, cells))]
        found = found[:, 0] if self._layer.per_channel else found[0]
        return found.to(self._compute) if self._bias is None else found + self._bias  # which is of that type


def _grouped(layer: Layer) -> dict[tuple[tuple[int, ...], ...], list[tuple[Phase, ...]]]:
    """The phases of a layer by the places of their taps, per axis."""
    axes = layer.config.axes
    found: dict[tuple[tuple[int, ...], ...], list[tuple[Phase, ...]]] = {}
    for phases in product(*(axis.phases() for axis in axes)):
        places = tuple(tap_places(axis, phase) for axis, phase in zip(axes, phases, strict=True))
        found.setdefault(places if all(places) else ((), (), ()), []).append(phases)
    return found


def groups(layer: Layer) -> int:
    """Return how many convolutions it takes."""
    return len(_grouped(layer))
