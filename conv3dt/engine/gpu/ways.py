"""By which way does a GPU compute a layer?  A rule of whole numbers, so that the same layer always goes the same way.

* ``fused``: one Triton kernel for everything; few channels, where the memory sets the pace.
* ``phased``: each phase a forward convolution, or all of them one matrix product; many channels, on tensor cores.
* ``transposed``: the library's own operation; kernels of which the others would make too much.
"""

from __future__ import annotations

from importlib.util import find_spec
from math import prod

from conv3dt.engine.gpu.fused_text import can_be, taps_of
from conv3dt.layer.concrete import Layer

WAYS = ("fused", "phased", "transposed")

FEW = 16
"""Products of channels and filters up to which the fused kernel is taken."""

MOST_GROUPS = 64
"""Convolutions up to which the phases are computed one by one."""


def ways_of(layer: Layer, device: str, *, wide: bool = False) -> tuple[str, ...]:
    """Return the ways by which a device computes a layer, the next one for where those before do not run.

    Args:
        layer: what is computed.
        device: the kind of the device: ``cuda``, ``mps`` or ``cpu``; wide: whether in float64.
    """
    axes = layer.config.axes
    few = device == "cuda" and layer.channels * layer.filters <= FEW
    if few and can_be(axes, one=taps_of(layer, wide=wide) is not None) and has_triton():
        return ("fused", *_of_torch(layer, device))
    return _of_torch(layer, device)


def _of_torch(layer: Layer, device: str) -> tuple[str, ...]:
    axes = layer.config.axes
    convolutions = prod(min(axis.stride, axis.kernel) for axis in axes)
    if all(axis.kernel == axis.stride for axis in axes) or all(axis.stride == 1 for axis in axes):
        return "phased", "transposed"
    # Apple's GPUs have long had no transposed convolution of three axes
    phased = device != "cpu" and convolutions <= MOST_GROUPS
    return ("phased", "transposed") if phased else ("transposed", "phased")


def has_triton() -> bool:
    """Whether there is a Triton to compile the fused kernel."""
    return find_spec("triton") is not None
