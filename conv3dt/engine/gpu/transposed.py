"""The way of last resort: the library's own transposed convolution, on channels-last tensors."""

from __future__ import annotations

import numpy as np
import torch

from conv3dt.engine.finish import Storage
from conv3dt.engine.gpu.ending import ending_of, note_overflow, offsets
from conv3dt.engine.gpu.phased import TYPES
from conv3dt.layer.concrete import Layer
from conv3dt.layer.convolution import transposed_convolution


class Transposed:
    """Computes regions of a layer, on tensors."""

    name = "transposed"

    def __init__(self, layer: Layer, storage: Storage, device: torch.device, precision: str) -> None:
        """Put the weights on the device, for a layer whose axes are in walk order."""
        compute = torch.float64 if storage.compute_dtype == np.float64 else torch.float32
        self._type = compute if compute == torch.float64 else TYPES.get(precision, compute)
        self._layer, self._compute = layer, compute
        self._ending = ending_of(layer, storage, device)
        kernel = torch.from_numpy(np.ascontiguousarray(layer.kernel.transpose(4, 3, 0, 1, 2)))
        self._weight = kernel.to(device, self._type).contiguous(memory_format=torch.channels_last_3d)
        self._bias = None if layer.bias is None else offsets(layer.bias, device, compute)

    def run(self, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        """Compute ``out (filters, z, y, x)`` from ``source (channels, z, y, x)``; see `Fused.run`.

        Output 0 lies at ``crop - stride * low`` of the whole result, of which the source is all from input ``low`` on.
        """
        axes = self._layer.config.axes
        x = (source[:, None] if self._layer.per_channel else source[None]).to(self._type)
        values = transposed_convolution(
            x.contiguous(memory_format=torch.channels_last_3d),
            self._weight,
            strides=[axis.stride for axis in axes],
            dilations=[axis.dilation for axis in axes],
            first=[axis.crop - axis.stride * axis.sources(0, 1)[0] for axis in axes],
            lengths=out.shape[1:],
        )
        note_overflow(source, values, lost)
        values = values[:, 0] if self._layer.per_channel else values[0]
        values = values.to(self._compute) if self._bias is None else values + self._bias  # which is of that type
        self._ending.store(values, out, lost)
