"""The engine for many channels and for accelerators: torch's transposed convolution on channels-last tensors.

Torch's own padding is not used: the whole transposed convolution of a region is computed and the wanted part cut out
of it, because Keras crops unevenly where torch cannot (kernel 3, stride 2, ``same``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from conv3dt.engine.finish import Storage, store
from conv3dt.errors import ArgumentError, DoesNotFitError
from conv3dt.layer.concrete import Layer

_ACTIVATIONS: dict[str, Any] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "relu6": lambda x: x.clamp(0, 6),
    "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.2),
    "elu": torch.nn.functional.elu,
    "selu": torch.selu,
    "softplus": lambda x: x.clamp(min=0) + torch.log1p(torch.exp(-x.abs())),
    "softsign": torch.nn.functional.softsign,
    "swish": torch.nn.functional.silu,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exponential": torch.exp,
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "softmax": lambda x: torch.softmax(x, 0),
    "log_softmax": lambda x: torch.log_softmax(x, 0),
}


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
        self._axes = layer.config.axes
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
            probe = torch.zeros((1, layer.channels, 1, 1, 1), dtype=self._weight.dtype, device=self._device)
            self._full(probe, [0, 0, 0])
        except (RuntimeError, NotImplementedError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ArgumentError(
                f"device {device} cannot run this layer in {self.compute_dtype}: {reason}; use device cpu"
            ) from None

    def compute(self, source: NDArray[np.floating], out: NDArray[np.generic]) -> int:
        """Compute one output region; see `DirectEngine.compute`."""
        try:
            with torch.inference_mode():
                values = self._values(torch.from_numpy(source), out.shape[1:])
                activation = self.layer.config.activation
                if activation != "linear" or self.storage.limits is not None:
                    values = _ACTIVATIONS[activation](values + self._bias)
                    return store(values.cpu().numpy(), self.storage, out)
                target, host, bias = torch.from_numpy(out), values.cpu(), self._bias[:, 0].cpu()
                for plane in range(out.shape[1]):  # all at once, powers of two in the strides defeat the caches
                    torch.add(host[:, plane], bias, out=target[:, plane])
                return 0
        except torch.OutOfMemoryError as error:
            raise DoesNotFitError(
                f"device {self._device} has no memory left for a region of {'x'.join(map(str, out.shape[1:]))} output "
                f"voxels; give a smaller tile or device cpu"
            ) from error

    def close(self) -> None:
        """Nothing to let go."""

    def _values(self, source: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Return ``(filters, z, y, x)``: the whole transposed convolution, cut to the outputs that are wanted.

        Output 0 is at ``crop - stride * low`` of the whole result.  Torch crops both sides alike, so it is asked for
        as much as both sides have to lose, and the rest is cut off here.
        """
        padding, begin = [], []
        for axis, n, length in zip(self._axes, source.shape[1:], shape, strict=True):
            first = axis.crop - axis.stride * axis.sources(0, 1)[0]
            last = (n - 1) * axis.stride + axis.extent - first - length
            both = max(min(first, last, axis.extent - 1), 0)
            padding.append(both)
            begin.append(first - both)
        cut = self._full(source[None].to(self._device), padding)[0]
        for dim, (start, length) in enumerate(zip(begin, shape, strict=True), start=1):
            cut = cut.narrow(dim, start, min(length, cut.shape[dim] - start))
        if cut.shape[1:] != shape:  # outputs that no tap reaches: bias only
            whole = cut.new_zeros((cut.shape[0], *shape))
            whole[:, : cut.shape[1], : cut.shape[2], : cut.shape[3]] = cut
            cut = whole
        return cut

    def _full(self, source: torch.Tensor, padding: list[int]) -> torch.Tensor:
        return torch.nn.functional.conv_transpose3d(
            source.contiguous(memory_format=torch.channels_last_3d),
            self._weight,
            stride=[axis.stride for axis in self._axes],
            dilation=[axis.dilation for axis in self._axes],
            padding=padding,
        )


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
