"""Which layer do these arguments mean?  A named kernel and a scale, or a layer of Keras's with its weights."""

from __future__ import annotations

import os
from collections import abc
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from conv3dt import kernels
from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import BOUNDARIES
from conv3dt.layer.config import PADDINGS, LayerConfig, check_choice, layer_config, triple
from conv3dt.matching import REDUCTIONS, check_channels, check_reduction

if TYPE_CHECKING:
    from conv3dt.layer.concrete import Layer
    from conv3dt.weights import Weights
    from conv3dt.weights.mapping import Mapping


MOST_TAPS = 2**23
MOST_ASKED = 2**40
BARE = ("npz", "npy", "hdf5", "array")
"""Formats of arrays, which say nothing of a layer, and of which nobody expects it."""
DEFAULTS = {"strides": "1", "padding": "valid", "activation": "linear"}
"""What Keras takes for the arguments that matter most, if nobody says."""
SHAPE_ARGUMENTS = ("filters", "kernel_size", "strides", "padding", "output_padding", "dilation_rate")
LAYER_ARGUMENTS = (*SHAPE_ARGUMENTS, "bias", "layer", "layout", "kernel_initializer", "bias_initializer", "seed")
"""What only an own layer has: with any of these, weights (or a kernel size) must be given too."""


LAYOUTS = ("keras", "torch")


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerRequest:
    """The arguments that choose a layer, as a user gives them; None means not given.

    Either ``scale`` and ``kernel`` (a name from `kernels.KERNELS`), or a layer of Keras's ``Conv3DTranspose``: its
    arguments one by one, or all of them in ``layer`` (a JSON file, a ``get_config()`` dict, or a layer object, which
    brings its weights), and ``weights`` (a file, which may bring arguments too, an array in Keras layout, or a PyTorch
    module) or ``kernel_initializer`` and ``seed``.  What is said one by one goes before ``layer``, and that before
    what the weights' file says.  A ``padding`` in numbers, one or three, is PyTorch's, and ``output_padding`` with it.
    """

    scale: Any = None
    kernel: str | None = None
    weights: Any = None
    bias: Any = None
    layer: Any = None
    layout: str | None = None
    filters: int | None = None
    kernel_size: Any = None
    strides: Any = None
    padding: Any = None
    output_padding: Any = None
    dilation_rate: Any = None
    activation: Any = None
    use_bias: bool | None = None
    kernel_initializer: Any = None
    bias_initializer: Any = None
    seed: int | None = None
    boundary: str | None = None
    per_channel: bool = False
    reduce: str | None = None

    def __post_init__(self) -> None:
        if hasattr(self.layer, "state_dict") and not hasattr(self.layer, "get_config"):  # PyTorch's own: no Keras words
            object.__setattr__(self, "weights", self.layer if self.weights is None else self.weights)
            object.__setattr__(self, "layer", None)
        named, layer = self._given(("scale", "kernel")), self._given(LAYER_ARGUMENTS)
        if self.weights is not None and named:
            raise ArgumentError(f"weights cannot go with {' and '.join(named)}; give strides instead")
        if named and layer:
            raise ArgumentError(
                f"{' and '.join(named)} cannot go with {' and '.join(layer)}; give weights to use your own layer"
            )
        self._check_together()
        if self.layout is not None:
            check_choice("layout", self.layout, LAYOUTS)
        if self.boundary is not None:
            check_choice("boundary", self.boundary, BOUNDARIES)
        if self.reduce is not None:
            check_choice("reduce", self.reduce, REDUCTIONS)
        if self.reduce == "softmax" and self.activation not in (None, "linear"):
            raise ArgumentError(f"reduce softmax cannot go with activation {self.activation}; leave one of them out")

    def _check_together(self) -> None:
        """Refuse arguments that would be left aside."""
        drawn = self._given(("kernel_initializer", "bias_initializer", "seed"))
        if self._weights_given is not None and drawn:
            raise ArgumentError(f"weights cannot go with {' and '.join(drawn)}; leave one of them out")
        if drawn and self.bias is not None:
            raise ArgumentError(f"bias cannot go with {' and '.join(drawn)}; leave one of them out")
        if drawn and self.layout is not None:
            raise ArgumentError("layout is that of weights in a file or an array; what is drawn has none, leave it out")
        if self.use_bias is False and self.bias_initializer is not None:
            raise ArgumentError("use_bias is off, but bias_initializer would draw one; leave one of them out")
        if self.is_named and self.use_bias:
            raise ArgumentError("use_bias needs weights with a bias; named kernels have none")
        if self.seed is not None and (not hasattr(self.seed, "__index__") or not 0 <= self.seed < 2**63):
            raise ArgumentError(f"seed must be a whole number from 0 to 2^63 - 1, got {self.seed!r}")

    def _given(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]

    @property
    def has_weights(self) -> bool:
        """Whether the taps are known, and not only how many there are."""
        return self.is_named or self._weights_given is not None or self._is_drawn

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

    @property
    def says_strides(self) -> bool:
        """Whether the strides are said, by an argument or by the layer that was given."""
        if self.is_named:
            return self.scale is not None
        return self.strides is not None or self._told.get("strides") is not None

    def with_strides(self, strides: tuple[int, int, int]) -> LayerRequest:
        """Return the request with strides that come from elsewhere."""
        return replace(self, scale=strides) if self.is_named else replace(self, strides=strides)

    @property
    def data_format(self) -> str | None:
        """Where the layer says that its channels are; only one of several channels need be asked."""
        if self.is_named or (self.layer is None and self._found is None):
            return None
        several = self._found is None or self._found.kernel.shape[4] > 1
        told = self._told.get("data_format") if several else None
        return None if told is None else str(told)

    @property
    def has_bias(self) -> bool:
        """Whether a layer of which no weights are known would have a bias."""
        told = self.layer is not None and bool(self._told.get("use_bias", True))
        return told if self.use_bias is None else self.use_bias

    def config(self) -> LayerConfig:
        """Return the layer's configuration, from integers only unless there are weights to look at."""
        if self.is_named:
            return self._named_config()
        told = self._arguments
        if told.get("kernel_size") is None:
            raise ArgumentError("kernel_size is missing; give it, or weights to take it from")
        found = self._mapping
        if found is not None:
            told |= {"padding": found.padding, "output_padding": found.output_padding}
            from conv3dt.weights.mapping import grown

            told["kernel_size"] = grown(triple("kernel_size", told["kernel_size"]), found)
        return layer_config(
            filters=told.get("filters", 1),
            kernel_size=told["kernel_size"],
            strides=told.get("strides", 1),
            padding=told.get("padding", "valid"),
            output_padding=told.get("output_padding"),
            dilation_rate=told.get("dilation_rate", 1),
            activation=self._activation,
        )

    @property
    def _bare_size(self) -> tuple[int, ...]:
        """The kernel's size without taps of zero that `_mapping` adds."""
        return triple("kernel_size", self._arguments["kernel_size"])

    @property
    def _arguments(self) -> dict[str, Any]:
        """What decides the layer's shape: said by itself, by the layer or by the weights."""
        told = self._told | {name: getattr(self, name) for name in self._given(SHAPE_ARGUMENTS)}
        if self._found is not None:
            told |= {"kernel_size": self._found.kernel.shape[:3], "filters": int(self._found.kernel.shape[3])}
        return told

    @cached_property
    def _mapping(self) -> Mapping | None:
        """How Keras says a padding in numbers, which is PyTorch's; None where the padding is Keras's own."""
        if self.padding is None or (isinstance(self.padding, str) and self.padding.lower() in PADDINGS):
            return None  # the usual case needs no further module
        from conv3dt.weights.mapping import in_numbers, torch_mapping

        numbers, told = in_numbers(self.padding), self._arguments
        if numbers is None:
            return None
        return torch_mapping(
            kernel_size=triple("kernel_size", told["kernel_size"]),
            strides=triple("strides", told.get("strides", 1)),
            dilations=triple("dilation_rate", told.get("dilation_rate", 1)),
            padding=triple("padding", numbers, least=0),
            output_padding=triple("output_padding", told.get("output_padding") or 0, least=0),
        )

    @property
    def adds_zeros(self) -> bool:
        """Whether Keras says the layer with taps of zero around its kernel; they count for shapes, not for places."""
        return not self.is_named and self._mapping is not None and self._mapping.adds

    def filters_of(self, config: LayerConfig, axes: str, shape: tuple[int, ...]) -> int | None:
        """Return what the channels of a volume become; None if they become one label.

        Raises:
            DataError, ArgumentError: the layer does not go with the volume's channels.
        """
        there = shape[axes.index("c")] if "c" in axes else 1
        channels = 1 if self.per_channel or self.is_named else there
        if self._found is not None:
            channels = int(self._found.kernel.shape[4])
        name = self.kernel_name if self.is_named else "kernel"
        check_channels(channels, per_channel=self.per_channel, name=name, path="shape", shape=shape, axes=axes)
        self._check_reduction(config, channels, name)
        if self.reduce == "argmax":
            return None
        return shape[axes.index("c")] if self.per_channel else config.filters

    def concrete(self, channels: int = 1) -> Layer:
        """Return the layer with its weights, reading them if they are in a file.

        Args:
            channels: of the volume, for weights that are drawn.

        Raises:
            ArgumentError, DataError, InputMissingError: for what the arguments or the file get wrong.
        """
        if self.is_named:
            layer = self._named_layer()
        elif self._found is not None:
            layer = self._weighted_layer(self._found)
        else:
            layer = self._drawn_layer(1 if self.per_channel else channels)
        self._check_reduction(layer.config, layer.channels, layer.name)
        return layer

    def stand_in(self, channels: int) -> Layer:
        """Return the layer without its weights (all taps are one), for questions of shape only."""
        import numpy as np

        config = self.config()
        shape = (*self._bare_size, config.filters, 1 if self.per_channel else channels)
        if prod(shape) > MOST_ASKED:
            raise ArgumentError(f"a kernel of {'x'.join(map(str, shape))} taps is more than any machine holds")
        kernel = np.broadcast_to(np.float32(1), shape)  # takes no memory
        bias = np.zeros(config.filters, np.float32) if self.has_bias else None
        layer = self._layer(config, kernel, bias, "kernel " + "x".join(map(str, config.kernel_size)))
        self._check_reduction(layer.config, layer.channels, layer.name)
        return layer

    @cached_property
    def _told(self) -> dict[str, Any]:
        """What the layer, or else the weights' file, says of the arguments."""
        if self.layer is None:
            return dict((self._found and self._found.config) or {})
        from conv3dt.weights.keras_config import layer_arguments, layer_config_of, read_layer_config

        if isinstance(self.layer, (str, os.PathLike)):
            return read_layer_config(os.fspath(self.layer))
        told = layer_config_of(self.layer) if hasattr(self.layer, "get_config") else self.layer
        if not isinstance(told, abc.Mapping):
            raise ArgumentError(
                f"layer must be a JSON file, a get_config() dict or a Keras layer, got {type(self.layer).__name__}"
            )
        return layer_arguments(dict(told), "layer")

    @property
    def _weights_given(self) -> Any:
        if self.weights is not None or not hasattr(self.layer, "get_weights") or isinstance(self.layer, type):
            return self.weights
        return self.layer if self.layer.get_weights() else None

    @property
    def _is_drawn(self) -> bool:
        """Whether the weights come out of an initializer: only if it, or its seed, was asked for."""
        return self.kernel_initializer is not None or self.seed is not None

    @property
    def _activation(self) -> Any:
        told = self._told.get("activation") if self.activation is None else self.activation
        if self.reduce != "softmax":
            return told
        if told not in (None, "linear", "softmax"):
            raise ArgumentError(f"reduce softmax cannot go with activation {told}; say --activation linear")
        return "softmax"

    def _named_config(self) -> LayerConfig:
        strides = triple("scale", 2 if self.scale is None else self.scale)
        if max(strides) > MOST_TAPS:
            raise ArgumentError(f"scale must be at most {MOST_TAPS} an axis, got {max(strides)}")
        return layer_config(
            filters=1,
            kernel_size=tuple(kernels.size(self.kernel_name, stride) for stride in strides),
            strides=strides,
            padding="same",
            activation=self._activation,
        )

    def _named_layer(self) -> Layer:
        import numpy as np

        config = self.config()
        if prod(config.kernel_size) > MOST_TAPS:
            raise ArgumentError(f"scale {config.strides} takes more than {MOST_TAPS} taps; upsample in steps")
        rows = [np.array(kernels.taps(self.kernel_name, stride)) for stride in config.strides]
        kernel = rows[0][:, None, None] * rows[1][:, None] * rows[2]
        return self._layer(config, kernel[..., None, None], None, self.kernel_name)

    def _weighted_layer(self, found: Weights) -> Layer:
        self._check_shape(found)
        config, wanted = self.config(), self.use_bias
        if wanted is None and self.layer is not None:
            wanted = bool(self._told.get("use_bias", True))
        if wanted and found.bias is None:
            who = "use_bias asks for one; leave it out" if self.use_bias else "the layer has one; say --no-bias"
            raise DataError(f"weights {found.path}: hold no bias, but {who}")
        bias = None if wanted is False else found.bias
        notes, assumed = found.notes, self._assumed(found)
        if assumed:
            taken = ", ".join(f"{name} {DEFAULTS[name]}" for name in assumed)
            notes += (f"the file holds weights alone: {taken} assumed",)
        alpha = found.alpha if config.activation == "prelu" else None
        if config.activation == "prelu" and alpha is None:
            raise DataError(
                f"weights {found.path}: the activation PReLU has weights of its own, alpha, which are not there; say "
                f"--activation relu or another"
            )
        layer = self._layer(config, found.kernel, bias, found.path, found.layout, notes)
        return replace(layer, alpha=alpha, assumed=assumed)

    def _assumed(self, found: Weights) -> tuple[str, ...]:
        """What a net's file that holds weights alone leaves open, and nobody else says."""
        if self.layer is not None or found.config is not None or found.format in BARE:
            return ()
        return tuple(name for name in DEFAULTS if getattr(self, name) is None)

    def _drawn_layer(self, channels: int) -> Layer:
        use_bias = self._told.get("use_bias", True) if self.use_bias is None else self.use_bias
        if not self._is_drawn:
            given = " and ".join(self._given(LAYER_ARGUMENTS))
            raise ArgumentError(
                f"{given} needs weights: give a file or an array; for a named kernel say scale, for weights drawn by "
                f"an initializer say kernel_initializer or seed"
            )
        from conv3dt.draw import drawn

        config = self.config()
        if config.activation == "prelu":
            raise ArgumentError("the activation PReLU has weights of its own, which are not drawn; give weights")
        size = prod(config.kernel_size) * config.filters * channels
        if size > MOST_TAPS:
            raise ArgumentError(
                f"kernel_size {config.kernel_size} with {config.filters} filters of {channels} channels takes {size} "
                f"taps, more than can be drawn ({MOST_TAPS}); give fewer filters"
            )
        kernel_initializer = self.kernel_initializer
        if kernel_initializer is None:
            kernel_initializer = self._told.get("kernel_initializer", "glorot_uniform")
        kernel, bias, name = drawn(
            (*self._bare_size, config.filters, channels),
            kernel_initializer=kernel_initializer,
            bias_initializer=self._bias_initializer if use_bias else None,
            seed=self.seed,
        )
        return self._layer(config, kernel, bias, name)

    @property
    def _bias_initializer(self) -> Any:
        """Of a whole layer's bias zeros, as in Keras; beside a kernel alone there is none unless it was asked for."""
        if self.bias_initializer is not None or self.layer is None:
            return self.bias_initializer
        return self._told.get("bias_initializer", "zeros")

    def _layer(
        self, config: LayerConfig, kernel: Any, bias: Any, name: str, layout: str = "", notes: tuple[str, ...] = ()
    ) -> Layer:
        from conv3dt.layer.concrete import Layer

        added = self._mapping
        if added is not None and added.adds:
            import numpy as np

            kernel = np.pad(kernel, [*zip(added.before, added.after, strict=True), (0, 0), (0, 0)])
            notes += (f"zero taps added to the kernel: {added.before} before, {added.after} behind",)
        return Layer(
            config, kernel, bias, self.outside, name, layout=layout, notes=notes,
            per_channel=self.per_channel, reduce=self.reduce,
        )  # fmt: skip

    @cached_property
    def _found(self) -> Weights | None:
        """The weights, if any are given: read, or brought into Keras's terms."""
        given = self._weights_given
        if given is None:
            return None
        from conv3dt.weights import checked, read_weights

        if isinstance(given, (str, os.PathLike)):
            found = read_weights(os.fspath(given), self.layout)
        else:
            from conv3dt.weights.given import weights_in_memory

            found = weights_in_memory(given, self.layout)
        if self.bias is None:
            return found
        import numpy as np

        bias = checked(found.kernel, np.asarray(self.bias), found.path, found.format).bias
        return replace(found, bias=bias)

    def _check_reduction(self, config: LayerConfig, channels: int, name: str) -> None:
        check_reduction(self.reduce, per_channel=self.per_channel, name=name, channels=channels, filters=config.filters)

    def _check_shape(self, found: Weights) -> None:
        shape = found.kernel.shape
        told = self._told if self.layer is not None else {}
        size, filters = told.get("kernel_size"), told.get("filters")
        if self.kernel_size is not None:
            size = self.kernel_size
        if self.filters is not None:
            filters = self.filters
        if size is not None and triple("kernel_size", size) != shape[:3]:
            raise DataError(f"weights {found.path}: kernel_size is {shape[:3]}, but {size} was asked for")
        if filters is not None and filters != shape[3]:
            raise DataError(f"weights {found.path}: filters are {shape[3]}, but {filters} were asked for")
