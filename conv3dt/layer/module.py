"""How does one call, build, train and save the layer?  Keras 2.9's ``Conv3DTranspose`` as a torch module.

``Conv3DTranspose`` takes Keras's arguments under Keras's names and gives Keras's outputs, and it is a
``torch.nn.Module``: its weights are parameters, ``state_dict`` holds them, torch's optimizers train them.

Departures from Keras 2.9: ``dilation_rate`` is honoured where all strides are 1; strides > 1 together with a dilation
> 1, and ``padding="same"`` with an output_padding of 0 for an even kernel, are refused at construction; and
``input_shape=`` or ``batch_input_shape=`` with a known number of channels build the layer at once, because a torch
optimizer wants the parameters when it is made.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conv3dt import activations, constraints, initializers, regularizers
from conv3dt.defaults import data_format_name
from conv3dt.errors import ArgumentError
from conv3dt.layer.base import KerasModule
from conv3dt.layer.config import Triple, layer_config
from conv3dt.layer.convolution import forward_convolution, transposed_convolution
from conv3dt.layer.options import Shape, layer_options


class Conv3DTranspose(KerasModule):
    """Transposed convolution of volumes, Keras's ``Conv3DTranspose``.

    Inputs are ``(batch, depth, height, width, channels)``, outputs ``(batch, depth', height', width', filters)``; with
    ``data_format="channels_first"`` channels and filters stand second.  The kernel is ``(kd, kh, kw, filters,
    channels)`` in both.  On each axis, with ``extent = (kernel - 1) * dilation + 1``::

        out[o, f] = activation(bias[f] + sum over i, t, c with o = stride * i + dilation * t - crop
                                         of  x[i, c] * kernel[t, f, c])

    where crop and length are those of TensorFlow 2.9 (``conv3dt.geometry.Axis``).  Outputs that no tap reaches are
    ``activation(bias)``.

    Args:
        filters: how many channels the output has.
        kernel_size: taps per axis; one number or three, as ``strides``, ``output_padding`` and ``dilation_rate``.
        strides: output voxels per input voxel.
        padding: ``valid`` keeps all that the kernel reaches, ``same`` keeps ``stride`` outputs per input.
        output_padding: voxels at the end of each axis beyond the shortest output, less than the stride; None lets
            ``padding`` decide (None is not 0).
        data_format: ``channels_last`` or ``channels_first``; None is what ``keras.json`` says, or channels_last.
        dilation_rate: distance of two taps in output voxels.
        activation: a name, a dict, or a function or module from tensor to tensor (``conv3dt.activations``); the
            softmaxes act along the last axis in either data format.
        use_bias: whether there is a bias ``(filters,)``.
        kernel_initializer, bias_initializer: see ``conv3dt.initializers``; None is glorot_uniform.
        kernel_regularizer, bias_regularizer, activity_regularizer: see ``conv3dt.regularizers``; their penalties are
            in `losses`, the activity's (of the output, divided by the batch size) after each call.
        kernel_constraint, bias_constraint: see ``conv3dt.constraints``; `apply_constraints` applies them.
        **kwargs: Keras's keywords for every layer: ``name``, ``trainable``, ``dtype`` (a number type, or
            ``mixed_float16`` or ``mixed_bfloat16``: weights float32, arithmetic in half precision), ``input_shape``
            (without batch), ``batch_size``, ``batch_input_shape``, ``weights`` (arrays for the first build at a call),
            ``autocast`` (False: inputs are not converted to the layer's type), ``groups``, ``dynamic``.

    Raises:
        ArgumentError: a value that Keras refuses (a ValueError).
        TypeError: an unknown keyword, or a value of another type than Keras takes.

    >>> layer = Conv3DTranspose(1, 3, strides=2, padding="same", kernel_initializer="ones")
    >>> layer(torch.ones(1, 4, 4, 4, 2)).shape
    torch.Size([1, 8, 8, 8, 1])
    """

    kernel: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1, 1),
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = (1, 1, 1),
        activation: Any = None,
        use_bias: Any = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        options = layer_options(type(self).__name__, kwargs)
        super().__init__(options)
        self.config = layer_config(
            filters=_filters(filters, options.groups),
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            output_padding=output_padding,
            dilation_rate=dilation_rate,
        )
        self.data_format = data_format_name(data_format)
        self.groups, self.dynamic, self.autocast = options.groups, options.dynamic, options.autocast
        self.batch_input_shape = options.batch_input_shape
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self._axes = self.config.axes
        self._initial_weights = options.weights
        self.register_parameter("kernel", None)
        self.register_parameter("bias", None)
        shape = self.batch_input_shape
        if shape is not None and len(shape) == 5 and shape[self._channel_axis] is not None:
            self._build_for(shape)

    # What it is.

    @property
    def filters(self) -> int:
        """How many channels the output has."""
        return self.config.filters

    @property
    def kernel_size(self) -> Triple:
        """Taps per axis."""
        return self.config.kernel_size

    @property
    def strides(self) -> Triple:
        """Output voxels per input voxel, per axis."""
        return self.config.strides

    @property
    def padding(self) -> str:
        """``valid`` or ``same``."""
        return self.config.padding

    @property
    def output_padding(self) -> Triple | None:
        """Voxels beyond the shortest output, per axis; None where ``padding`` decides."""
        return self.config.output_padding

    @property
    def dilation_rate(self) -> Triple:
        """Distance of two taps in output voxels, per axis."""
        return self.config.dilation_rate

    @property
    def _channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else 4

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Shape:
        """Return the output's shape for an input's, both with all five axes; None is a length that is not known.

        Raises:
            ArgumentError: not five axes, or an axis without voxels.

        >>> Conv3DTranspose(8, 3, strides=2).compute_output_shape((None, 4, 5, None, 1))
        (None, 9, 11, None, 8)
        """
        shape = _five(input_shape)
        spatial = shape[2:] if self._channel_axis == 1 else shape[1:4]
        lengths = [None if n is None else axis.length(n) for axis, n in zip(self._axes, spatial, strict=True)]
        return (shape[0], self.filters, *lengths) if self._channel_axis == 1 else (shape[0], *lengths, self.filters)

    def extra_repr(self) -> str:
        """Return the arguments that torch shows when the module is printed."""
        parts = [f"{self.filters}, kernel_size={self.kernel_size}, strides={self.strides}, padding={self.padding!r}"]
        if self.output_padding is not None:
            parts.append(f"output_padding={self.output_padding}")
        if max(self.dilation_rate) > 1:
            parts.append(f"dilation_rate={self.dilation_rate}")
        return ", ".join([*parts, f"data_format={self.data_format!r}", f"name={self.name!r}"])

    # Weights.

    @property
    def built(self) -> bool:
        """Whether the weights are there."""
        return self.kernel is not None

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make kernel and bias for inputs of ``input_shape`` (five axes; only the channels must be known).

        Raises:
            ArgumentError: not five axes, or channels that are not known.
        """
        channels = _five(input_shape)[self._channel_axis]
        if channels is None:
            raise ArgumentError(
                f"the input's channels (axis {self._channel_axis}) must be known to build layer {self.name}, "
                f"got shape {tuple(input_shape)}"
            )
        self.kernel = self._new_weight(self.kernel_initializer, (*self.kernel_size, self.filters, channels))
        self.bias = self._new_weight(self.bias_initializer, (self.filters,)) if self.use_bias else None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _build_for(self, input_shape: Sequence[int | None]) -> None:
        """Make what weights are missing and can be made: at a call, or at construction for a shape given there."""
        if not self.built:
            self.build(input_shape)
            if self._initial_weights is not None:
                self.set_weights(self._initial_weights)
                self._initial_weights = None
        if self._slope_is_missing:
            output, shared = self.compute_output_shape(input_shape), self.activation.shared_axes or ()
            if all(n is not None or axis in shared for axis, n in enumerate(output) if axis):
                self.activation.build(output, like=self.kernel)
        if not self.trainable:  # the activation's weights follow the layer
            self.requires_grad_(False)

    @property
    def _slope_is_missing(self) -> bool:
        return isinstance(self.activation, activations.PReLU) and self.activation.alpha is None

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Read a state; a layer that is not built is built for the kernel in it."""
        saved = state_dict.get(f"{prefix}kernel")
        if not self.built and saved is not None and saved.ndim == 5:
            self.kernel = self._new_weight(initializers.Zeros(), (*self.kernel_size, self.filters, saved.shape[4]))
            self.bias = self._new_weight(initializers.Zeros(), (self.filters,)) if self.use_bias else None
            if isinstance(self.activation, activations.PReLU) and f"{prefix}activation.alpha" in state_dict:
                self.activation.alpha = self._new_weight(
                    initializers.Zeros(), tuple(state_dict[f"{prefix}activation.alpha"].shape)
                )
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def apply_constraints(self) -> None:
        """Project the weights as the constraints demand; call it after each step of the optimizer.

        Or once: ``optimizer.register_step_post_hook(lambda *_: layer.apply_constraints())``.
        """
        for weight, constraint in ((self.kernel, self.kernel_constraint), (self.bias, self.bias_constraint)):
            if weight is not None and constraint is not None:
                weight.copy_(constraint(weight))
        if isinstance(self.activation, activations.PReLU):
            self.activation.apply_constraints()

    def _penalties(self) -> Iterable[Tensor]:
        for weight, regularizer in ((self.kernel, self.kernel_regularizer), (self.bias, self.bias_regularizer)):
            if weight is not None and regularizer is not None:
                yield regularizer(weight)

    # The operation.

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layer's outputs; the first call builds the layer.

        Args:
            inputs: ``(batch, depth, height, width, channels)``, or with the channels second; any floating type, which
                is converted to the layer's; a NumPy array is welcome too.

        Raises:
            ArgumentError: not five axes, other channels than the layer was built for, or whole numbers.
        """
        x = self._accepted(inputs)
        if not self.built or self._slope_is_missing:
            self._build_for(x.shape)
        outputs: Tensor = self.activation(self._biased(x))
        if self.activity_regularizer is not None:
            self._activity_loss = torch.as_tensor(self.activity_regularizer(outputs)) / outputs.shape[0]
        return outputs

    def _accepted(self, inputs: Tensor | np.ndarray[Any, Any]) -> Tensor:
        x = inputs if isinstance(inputs, Tensor) else torch.as_tensor(inputs, device=self._device)
        channels = x.shape[self._channel_axis] if x.ndim == 5 else None
        if channels is None or (self.kernel is not None and channels != self.kernel.shape[4]):
            wanted = "any" if self.kernel is None else self.kernel.shape[4]
            raise ArgumentError(
                f"inputs of layer {self.name} must have 5 axes, {wanted} channels on axis {self._channel_axis}, "
                f"got shape {tuple(x.shape)}"
            )
        compute = self.dtype_policy.compute
        if not x.dtype.is_floating_point or not (self.autocast or x.dtype == compute):
            raise ArgumentError(
                f"inputs of layer {self.name} must be {self.compute_dtype}, got {x.dtype}; convert them"
            )
        return x.to(compute)

    def _biased(self, x: Tensor) -> Tensor:
        """Return kernel and bias applied to ``x``, in the layer's data format."""
        assert self.kernel is not None
        last = self.data_format == "channels_last"
        x = x.movedim(-1, 1) if last else x
        y = transposed_convolution(
            x,
            self.kernel.to(x.dtype).permute(4, 3, 0, 1, 2),
            strides=self.strides,
            dilations=self.dilation_rate,
            first=[axis.crop for axis in self._axes],
            lengths=[axis.length(n) for axis, n in zip(self._axes, x.shape[2:], strict=True)],
        )
        y = y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1, 1)
        return y.movedim(1, -1) if last else y

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the ordinary, forward convolution with the layer's strides, padding and dilation, as Keras has it.

        The layer itself never calls it.  There is no bias and no activation, and the layer need not be built.

        Args:
            inputs: as the layer's own.
            kernel: ``(kd, kh, kw, channels, filters)`` of any size: a forward kernel, the layer's own has the last two
                axes the other way round.

        Raises:
            ArgumentError: other axes, or channels that do not go with the kernel.
        """
        x, taps = torch.as_tensor(inputs), torch.as_tensor(kernel)
        if x.ndim != 5 or taps.ndim != 5 or x.shape[self._channel_axis] != taps.shape[3]:
            raise ArgumentError(
                f"convolution_op needs inputs of 5 axes and a kernel (kd, kh, kw, channels, filters) of like channels, "
                f"got shapes {tuple(x.shape)} and {tuple(taps.shape)}, {self.data_format}"
            )
        last = self.data_format == "channels_last"
        y = forward_convolution(
            x.movedim(-1, 1) if last else x,
            taps.permute(4, 3, 0, 1, 2),
            strides=self.strides,
            dilations=self.dilation_rate,
            same=self.padding == "same",
        )
        return y.movedim(1, -1) if last else y

    # Configuration.

    def get_config(self) -> dict[str, Any]:
        """Return the arguments in Keras 2.9's form and order; ``dilation_rate`` only where it is not 1."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            **({} if self.batch_input_shape is None else {"batch_input_shape": self.batch_input_shape}),
            "dtype": self.dtype_policy.get_config(),
            **({"dynamic": True} if self.dynamic else {}),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            **({"dilation_rate": self.dilation_rate} if max(self.dilation_rate) > 1 else {}),
            "groups": self.groups,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            "output_padding": self.output_padding,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Conv3DTranspose:
        """Return the layer of a configuration, without its weights' values."""
        return cls(**config)


Convolution3DTranspose = Conv3DTranspose


def _filters(value: Any, groups: Any) -> int:
    """Return the filters as Keras takes them: a float is truncated, anything else must be a whole number."""
    if value is None:
        raise ArgumentError("filters must be a positive whole number, got None")
    try:
        filters = int(value) if isinstance(value, float) else operator.index(value)
    except (ValueError, OverflowError):
        raise ArgumentError(f"filters must be a positive whole number, got {value}") from None
    except TypeError:
        raise TypeError(f"filters must be a positive whole number, got {value!r}") from None
    if filters > 0 and filters % groups:
        raise ArgumentError(f"filters must be a multiple of groups, got filters {filters}, groups {groups}")
    return filters


def _five(shape: Sequence[int | None] | None) -> Shape:
    axes = tuple(shape) if isinstance(shape, Iterable) else None
    if axes is None or len(axes) != 5:
        raise ArgumentError(f"the input's shape must have 5 axes, batch and channels included, got {shape}")
    return axes
