"""What is the layer once it has weights?  Configuration, kernel and bias, ready for any order of axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conv3dt.layer.config import LayerConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A layer with its weights.

    Attributes:
        config: the arguments; its axes are those of ``kernel``.
        kernel: Keras layout ``(k1, k2, k3, filters, channels)``, float32 or float64.
        bias: ``(filters,)`` or None.
        boundary: what lies outside the volume: ``zero`` (the layer's own meaning), ``edge`` or ``reflect``.
        name: what the report calls the kernel.
        per_channel: the kernel, of one channel and one filter, is applied to every channel of the volume by itself.
        alpha: ``(filters,)``, the slopes below zero if the activation is ``prelu``, else None.
        assumed: arguments that neither the weights' file nor anybody says.
        layout: how the weights' array was understood; notes: what was done to it.
        reduce: ``argmax`` if of the filters (or channels) of an output voxel only the number of the largest is kept,
            ``softmax`` if they become probabilities (then that is the activation too), or None.
    """

    config: LayerConfig
    kernel: NDArray[np.floating]
    bias: NDArray[np.floating] | None
    boundary: str
    name: str
    alpha: NDArray[np.floating] | None = None
    assumed: tuple[str, ...] = ()
    layout: str = ""
    notes: tuple[str, ...] = ()
    per_channel: bool = False
    reduce: str | None = None

    @property
    def argmax(self) -> bool:
        """Whether an output voxel is a label."""
        return self.reduce == "argmax"

    @property
    def channels(self) -> int:
        """How many channels the layer takes."""
        return int(self.kernel.shape[4])

    @property
    def filters(self) -> int:
        """How many channels the layer gives."""
        return self.config.filters

    def reversed(self) -> Layer:
        """The same layer for volumes whose three axes are listed the other way round."""
        extra = self.config.output_padding
        config = replace(
            self.config,
            kernel_size=self.config.kernel_size[::-1],
            strides=self.config.strides[::-1],
            output_padding=None if extra is None else extra[::-1],
            dilation_rate=self.config.dilation_rate[::-1],
        )
        return replace(self, config=config, kernel=self.kernel.transpose(2, 1, 0, 3, 4))
