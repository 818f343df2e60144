"""The engine for accelerators: torch's transposed convolution on channels-last tensors.

Per channel, the channels of a region are a batch of one-channel volumes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray

from conv3dt import activations
from conv3dt.engine.finish import Storage, store
from conv3dt.errors import ArgumentError, DoesNotFitError
from conv3dt.layer.activation import activation_parts
from conv3dt.layer.concrete import Layer
from conv3dt.layer.convolution import transposed_convolution


class TensorEngine:
    """Computes regions of one layer with torch on one device."""

    name = "tensor"

    def __init__(self, layer: Layer, storage: Storage, *, threads: int, device: str) -> None:
        """Put the weights on the device and try the operation there, before any data is read.

        Raises:
            ArgumentError: the device is not there or cannot run the layer in this precision.
        """
        self.layer, self.storage = layer, storage
        self.compute_dtype = storage.compute_dtype
        self._axes, activation = layer.config.axes, layer.config.activation
        self._activation = _function(layer, "linear" if layer.argmax and "softmax" in activation else activation)
        self._device = find_device(device)
        if self._device.type == "cpu":
            torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        kernel = np.ascontiguousarray(layer.kernel.transpose(4, 3, 0, 1, 2), self.compute_dtype)
        bias = np.zeros(layer.filters) if layer.bias is None else layer.bias
        try:
            self._weight = torch.from_numpy(kernel).to(self._device, memory_format=torch.channels_last_3d)
            self._bias = torch.from_numpy(bias.astype(self.compute_dtype)).to(self._device).view(-1, 1, 1, 1)
            probe = torch.zeros((layer.channels, 1, 1, 1), dtype=self._weight.dtype, device=self._device)
            self._values(probe, tuple(axis.stride for axis in self._axes))
        except (RuntimeError, NotImplementedError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ArgumentError(
                f"device {device} cannot run this layer in {self.compute_dtype}: {reason}; use device cpu"
            ) from None

    def compute(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        """Compute one output region; see `DirectEngine.compute`."""
        try:
            with torch.inference_mode():
                values = self._finished(self._values(torch.from_numpy(source), out.shape[1:]))
                return store(values.cpu().numpy(), self.storage, out)
        except torch.OutOfMemoryError as error:
            raise DoesNotFitError(
                f"device {self._device} has no memory left for a region of {'x'.join(map(str, out.shape[1:]))} output "
                f"voxels; give a smaller tile or device cpu"
            ) from error

    def close(self) -> None:
        """Nothing to let go."""

    def _finished(self, values: torch.Tensor) -> torch.Tensor:
        values = self._activation(values + self._bias)
        if not self.layer.argmax:
            return values
        return values.nan_to_num(nan=-inf, posinf=inf, neginf=-inf).argmax(0, keepdim=True).to(self._weight.dtype)

    def _values(self, source: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Return ``(filters, z, y, x)``; output 0 is at ``crop - stride * low`` of the whole result."""
        x = (source[:, None] if self.layer.per_channel else source[None]).to(self._device)
        values = transposed_convolution(
            x.contiguous(memory_format=torch.channels_last_3d),
            self._weight,
            strides=[axis.stride for axis in self._axes],
            dilations=[axis.dilation for axis in self._axes],
            first=[axis.crop - axis.stride * axis.sources(0, 1)[0] for axis in self._axes],
            lengths=shape,
        )
        return values[:, 0] if self.layer.per_channel else values[0]


def _function(layer: Layer, text: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The activation of a text, channels first."""
    name, numbers = activation_parts(text)
    if name == "prelu":
        return lambda x: torch.nn.functional.prelu(x[None], torch.as_tensor(layer.alpha).to(x))[0]
    if name == "thresholded_relu":
        return activations.ThresholdedReLU(numbers["theta"] or 0.0)
    function: Callable[..., torch.Tensor] = getattr(activations, name)
    if name in ("softmax", "log_softmax"):
        return partial(function, axis=0)
    return partial(function, **numbers) if numbers else function


def find_device(name: str) -> torch.device:
    """Return the torch device of a name, if it is there.

    Raises:
        ArgumentError: says what torch sees instead.
    """
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ArgumentError(f"device {name} is not there: torch sees {count} CUDA devices; use device cpu or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ArgumentError("device mps is not there: torch sees no Apple GPU; use device cpu or auto")
    return device
