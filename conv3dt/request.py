"""Which layer do these arguments mean?  A named kernel and a scale, or weights and the layer's own arguments."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from conv3dt import kernels
from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import BOUNDARIES
from conv3dt.layer.concrete import Layer
from conv3dt.layer.config import LayerConfig, check_choice, layer_config, triple

if TYPE_CHECKING:
    from conv3dt.weights import Weights


MOST_TAPS = 2**23
LAYER_ARGUMENTS = ("strides", "padding", "output_padding", "dilation_rate", "filters", "kernel_size", "bias")
"""What only an own layer has: with any of these, weights (or a kernel size) must be given too."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerRequest:
    """The arguments that choose a layer, as a user gives them; None means not given.

    Either ``scale`` and ``kernel`` (a name from `kernels.KERNELS`), or ``weights`` (a path, or an array in Keras
    layout) with the arguments of Keras's ``Conv3DTranspose``.
    """

    scale: Any = None
    kernel: str | None = None
    weights: Any = None
    bias: Any = None
    filters: int | None = None
    kernel_size: Any = None
    strides: Any = None
    padding: str | None = None
    output_padding: Any = None
    dilation_rate: Any = None
    activation: str | None = None
    use_bias: bool | None = None
    boundary: str | None = None

    def __post_init__(self) -> None:
        named, layer = self._given(("scale", "kernel")), self._given(LAYER_ARGUMENTS)
        if self.weights is not None and named:
            raise ArgumentError(f"weights cannot go with {' and '.join(named)}; give strides instead")
        if named and layer:
            raise ArgumentError(
                f"{' and '.join(named)} cannot go with {' and '.join(layer)}; give weights to use your own layer"
            )
        if self.boundary is not None:
            check_choice("boundary", self.boundary, BOUNDARIES)

    def _given(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]

    @property
    def has_weights(self) -> bool:
        """Whether the taps are known, and not only how many there are."""
        return self.is_named or self.weights is not None

    @property
    def is_named(self) -> bool:
        """Whether a named interpolation kernel is meant."""
        return self.weights is None and not self._given(LAYER_ARGUMENTS)

    @property
    def kernel_name(self) -> str:
        """The named kernel, ``linear`` unless another was asked for."""
        return check_choice("kernel", self.kernel or "linear", kernels.KERNELS)

    @property
    def outside(self) -> str:
        """What lies outside the volume: ``edge`` for interpolation kernels, else ``zero``, the layer's meaning."""
        return self.boundary or ("edge" if self.is_named else "zero")

    def config(self, kernel_size: Any = None, filters: int | None = None) -> LayerConfig:
        """Return the layer's configuration, from integers only.

        Args:
            kernel_size: of the weights, where there are weights.
            filters: of the weights, likewise.
        """
        if self.is_named:
            strides = triple("scale", 2 if self.scale is None else self.scale)
            if max(strides) > MOST_TAPS:
                raise ArgumentError(f"scale must be at most {MOST_TAPS} an axis, got {max(strides)}")
            size = tuple(kernels.size(self.kernel_name, stride) for stride in strides)
            return layer_config(
                filters=1, kernel_size=size, strides=strides, padding="same", activation=self.activation
            )
        size = self.kernel_size if kernel_size is None else kernel_size
        if size is None:
            raise ArgumentError("kernel_size is missing; give it, or weights to take it from")
        return layer_config(
            filters=filters or (1 if self.filters is None else self.filters),
            kernel_size=size,
            strides=1 if self.strides is None else self.strides,
            padding=self.padding or "valid",
            output_padding=self.output_padding,
            dilation_rate=1 if self.dilation_rate is None else self.dilation_rate,
            activation=self.activation,
        )

    def layer(self) -> Layer:
        """Return the layer with its weights, reading them if they are in a file.

        Raises:
            ArgumentError, DataError, InputMissingError: for what the arguments or the file get wrong.
        """
        return self._named_layer() if self.is_named else self._weighted_layer()

    def stand_in(self, channels: int) -> Layer:
        """Return the layer without its weights (all taps are one), for questions of shape only."""
        import numpy as np

        config = self.config()
        kernel = np.ones((*config.kernel_size, config.filters, channels), np.float32)
        return Layer(config, kernel, None, self.outside, "kernel " + "x".join(map(str, config.kernel_size)))

    def _named_layer(self) -> Layer:
        import numpy as np

        config = self.config()
        if self.use_bias:
            raise ArgumentError("use_bias needs weights with a bias; named kernels have none")
        if prod(config.kernel_size) > MOST_TAPS:
            raise ArgumentError(f"scale {config.strides} takes more than {MOST_TAPS} taps; upsample in steps")
        rows = [np.array(kernels.taps(self.kernel_name, stride)) for stride in config.strides]
        kernel = rows[0][:, None, None] * rows[1][:, None] * rows[2]
        return Layer(config, kernel[..., None, None], None, self.outside, self.kernel_name)

    def _weighted_layer(self) -> Layer:
        found = self._weights()
        config = self.config(found.kernel.shape[:3], int(found.kernel.shape[3]))
        if self.use_bias and found.bias is None:
            raise DataError(f"weights {found.path}: hold no bias, but use_bias asks for one; leave it out")
        bias = None if self.use_bias is False else found.bias
        return Layer(config, found.kernel, bias, self.outside, found.path)

    def _weights(self) -> Weights:
        from conv3dt.weights import checked, read_weights

        if self.weights is None:
            given = " and ".join(self._given(LAYER_ARGUMENTS))
            raise ArgumentError(f"{given} needs weights: give a file or an array; for a named kernel say scale")
        if isinstance(self.weights, str) or hasattr(self.weights, "__fspath__"):
            found = read_weights(str(self.weights))
        else:
            import numpy as np

            try:
                array = np.asarray(self.weights)
            except ValueError:
                raise DataError(
                    "weights must be one array (k1, k2, k3, filters, channels); give bias by itself"
                ) from None
            found = checked(array, None, "given as an array", "array")
        if self.bias is not None:
            import numpy as np

            found = checked(found.kernel, np.asarray(self.bias), found.path, found.format)
        self._check_shape(found)
        return found

    def _check_shape(self, found: Weights) -> None:
        shape = found.kernel.shape
        if self.kernel_size is not None and triple("kernel_size", self.kernel_size) != shape[:3]:
            raise DataError(f"weights {found.path}: kernel_size is {shape[:3]}, but {self.kernel_size} was asked for")
        if self.filters is not None and self.filters != shape[3]:
            raise DataError(f"weights {found.path}: filters are {shape[3]}, but {self.filters} were asked for")
