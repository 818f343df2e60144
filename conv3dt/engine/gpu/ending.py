"""How do values on a device become what is stored?  Activation, labels, rounding and clipping, in torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray

from conv3dt import activations
from conv3dt.engine.finish import Storage, float_limits
from conv3dt.layer.activation import activation_parts
from conv3dt.layer.concrete import Layer

Function = Callable[[torch.Tensor], torch.Tensor]

SIGNED = {"uint16": torch.int16, "uint32": torch.int32, "uint64": torch.int64}
"""Types that torch hardly knows, and those whose bits stand for them."""


class Ending:
    """What is done with the values of a layer, filters first, bias included."""

    def __init__(self, activate: Function, storage: Storage, *, argmax: bool) -> None:
        self._activate, self._storage, self._argmax = activate, storage, argmax

    def store(self, values: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        """Write ``values (filters, z, y, x)`` into ``out``; add how many were clipped or not a number to ``lost``."""
        values = self._activate(values)
        if self._argmax:
            values = values.nan_to_num(nan=-inf, posinf=inf, neginf=-inf).argmax(0, keepdim=True).to(values.dtype)
        storage = self._storage
        if storage.limits is None:
            out.copy_(values)
            return
        low, high = (float(limit) for limit in float_limits(storage, np.dtype(storage.compute_dtype)))
        scaled = ((values - storage.inter) * (1 / storage.slope)).round()
        lost[0] += ((scaled < low) | (scaled > high) | scaled.isnan()).sum()
        whole = scaled.nan_to_num(nan=storage.nought, posinf=inf, neginf=-inf).clamp(low, high)
        if storage.dtype.name in SIGNED:
            whole = torch.where(whole > high // 2, whole - 2.0 ** (8 * storage.dtype.itemsize), whole)
        out.copy_(whole)


def ending_of(layer: Layer, storage: Storage, device: torch.device) -> Ending:
    """Return the ending of a layer."""
    activation = "linear" if layer.argmax and "softmax" in layer.config.activation else layer.config.activation
    return Ending(function_of(layer, activation, device), storage, argmax=layer.argmax)


def function_of(layer: Layer, text: str, device: torch.device) -> Function:
    """Return the activation of a text, channels first."""
    name, numbers = activation_parts(text)
    if name == "prelu":
        alpha = torch.as_tensor(layer.alpha).to(device)
        return lambda x: torch.nn.functional.prelu(x[None], alpha.to(x.dtype))[0]
    if name == "thresholded_relu":
        return activations.ThresholdedReLU(numbers["theta"] or 0.0)
    function: Callable[..., torch.Tensor] = getattr(activations, name)
    if name in ("softmax", "log_softmax"):
        return partial(function, axis=0)
    return partial(function, **numbers) if numbers else function


def offsets(bias: NDArray[np.floating], device: torch.device, kind: torch.dtype) -> torch.Tensor:
    """Return the bias on a device, to be added to ``(filters, z, y, x)``."""
    return torch.from_numpy(np.array(bias)).to(device, kind).view(-1, 1, 1, 1)


def note_overflow(source: torch.Tensor, values: torch.Tensor, lost: torch.Tensor) -> None:
    """Add to ``lost[1]`` whether values of 16 bits are infinite though no voxel of the source is."""
    if values.dtype == torch.float16:
        lost[1] += (source.isfinite().all() & ~values.isfinite().all()).to(lost.dtype)


def bits(array: NDArray[np.generic]) -> torch.Tensor:
    """Return an array as a tensor that shares its memory, of a type that torch computes with."""
    signed = SIGNED.get(array.dtype.name)
    return torch.from_numpy(array if signed is None else array.view(array.dtype.name.removeprefix("u")))
