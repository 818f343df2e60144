"""What is done to each output after the bias?  Keras 2.9's activations for torch.

The functions take a tensor of any shape and return one of the same shape and dtype, elementwise but for the softmaxes,
which act along ``axis``.  The classes are the same as modules with arguments of their own, as Keras's activation layers
are; arguments are rounded to the default number type, as Keras keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conv3dt import constraints, initializers, regularizers
from conv3dt.defaults import as_floatx, automatic_name
from conv3dt.dtypes import as_policy
from conv3dt.errors import ArgumentError
from conv3dt.identifiers import Names, Registry

Axes = int | Sequence[int]


def linear(x: Tensor) -> Tensor:
    """Return ``x``."""
    return x


def relu(x: Tensor, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """Return ``x`` where it is above ``threshold`` (else 0), at most ``max_value``, less what is missing below.

    What is missing where ``x`` is below ``threshold`` is ``alpha * (threshold - x)``.

    >>> relu(torch.tensor([-1.0, 1.0, 3.0, 9.0]), alpha=0.5, max_value=6, threshold=2)
    tensor([-1.5000, -0.5000,  3.0000,  6.0000])
    """
    if alpha and max_value is None and threshold == 0:
        return F.leaky_relu(x, alpha)
    y = torch.relu(x) if threshold == 0 else torch.where(x <= threshold, torch.zeros_like(x), x)
    if max_value is not None:
        y = y.clamp(0, max_value)
    return y - alpha * torch.relu(threshold - x) if alpha else y


def relu6(x: Tensor) -> Tensor:
    """Return ``min(max(x, 0), 6)``."""
    return F.relu6(x)


def leaky_relu(x: Tensor, alpha: float = 0.2) -> Tensor:
    """Return ``x`` above 0 and ``alpha * x`` below; the class `LeakyReLU` has another default, 0.3."""
    return F.leaky_relu(x, alpha)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Return ``x`` above 0 and ``alpha * (e^x - 1)`` below."""
    return F.elu(x, alpha)


def selu(x: Tensor) -> Tensor:
    """Return ``1.05070098 * elu(x, 1.67326324)`` (Klambauer et al. 2017)."""
    return torch.selu(x)


def softplus(x: Tensor) -> Tensor:
    """Return ``log(1 + e^x)``; torch's own is the identity above 20, this one is exact everywhere."""
    return -F.logsigmoid(-x)


def softsign(x: Tensor) -> Tensor:
    """Return ``x / (1 + |x|)``."""
    return F.softsign(x)


def swish(x: Tensor) -> Tensor:
    """Return ``x * sigmoid(x)``; also called ``silu``."""
    return F.silu(x)


silu = swish


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """Return ``x / 2 * (1 + erf(x / sqrt(2)))``.

    With ``approximate``: ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))``.
    """
    return F.gelu(x, approximate="tanh" if approximate else "none")


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent."""
    return torch.tanh(x)


def sigmoid(x: Tensor) -> Tensor:
    """Return ``1 / (1 + e^-x)``."""
    return torch.sigmoid(x)


def exponential(x: Tensor) -> Tensor:
    """Return ``e^x``."""
    return torch.exp(x)


def hard_sigmoid(x: Tensor, slope: float = 0.2) -> Tensor:
    """Return ``slope * x + 0.5`` cut to ``[0, 1]``; Keras 3 and torch have the slope 1/6."""
    return (slope * x + 0.5).clamp(0, 1)


def softmax(x: Tensor, axis: Axes = -1) -> Tensor:
    """Return ``e^x`` divided by its sum along ``axis`` (one axis or several).

    Raises:
        ArgumentError: ``x`` has fewer than two axes.
    """
    if x.ndim < 2:
        raise ArgumentError(f"softmax needs at least 2 axes, got shape {tuple(x.shape)}")
    return _softmax(x, axis)


def _softmax(x: Tensor, axis: Axes) -> Tensor:
    if isinstance(axis, int):
        return torch.softmax(x, axis)
    return torch.exp(x - torch.logsumexp(x, tuple(axis), keepdim=True))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return the logarithm of the softmax along ``axis``."""
    return torch.log_softmax(x, axis)


class ActivationLayer(nn.Module):
    """Base of the classes: what every Keras layer says about itself.

    ``dtype`` is kept for the configuration; the result has the dtype of the input.
    """

    def __init__(self, *, name: str | None = None, trainable: bool = True, dtype: object = None) -> None:
        super().__init__()
        self.name = automatic_name(type(self).__name__) if name is None else name
        self.trainable = trainable
        self.dtype_policy = as_policy(dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name, "trainable": self.trainable, "dtype": self.dtype_policy.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ActivationLayer:
        """Return the layer of a configuration."""
        return cls(**config)


class ReLU(ActivationLayer):
    """`relu` with its arguments; Keras calls ``alpha`` here ``negative_slope``."""

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else _at_least_0("max_value", max_value)
        self.negative_slope = _at_least_0("negative_slope", negative_slope)
        self.threshold = _at_least_0("threshold", threshold)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``."""
        return relu(x, self.negative_slope, self.max_value, self.threshold)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"max_value": self.max_value, "negative_slope": self.negative_slope, "threshold": self.threshold}
        return super().get_config() | own


class LeakyReLU(ActivationLayer):
    """``x`` above 0 and ``alpha * x`` below."""

    def __init__(self, alpha: float = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = _number("alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``."""
        return relu(x, self.alpha)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"alpha": self.alpha}


class ELU(ActivationLayer):
    """``x`` above 0 and ``alpha * (e^x - 1)`` below."""

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = _number("alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``."""
        return elu(x, self.alpha)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"alpha": self.alpha}


class ThresholdedReLU(ActivationLayer):
    """``x`` above ``theta``, else 0."""

    def __init__(self, theta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.theta = _at_least_0("theta", theta)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``."""
        return torch.where(x <= self.theta, torch.zeros_like(x), x)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"theta": self.theta}


class Softmax(ActivationLayer):
    """Softmax along ``axis`` (one axis or several)."""

    def __init__(self, axis: Axes = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``."""
        return _softmax(x, self.axis)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"axis": self.axis}


class PReLU(ActivationLayer):
    """``x`` above 0 and ``alpha * x`` below, with a trained ``alpha`` (He et al. 2015).

    ``alpha`` has the input's shape without its first axis, 1 on the ``shared_axes`` (counted with the first axis, from
    1).  It is made at the first call or by `build`.
    """

    alpha: nn.Parameter | None

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Axes | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        self.shared_axes = [shared_axes] if isinstance(shared_axes, int) else shared_axes and list(shared_axes)
        self.register_parameter("alpha", None)

    def build(self, input_shape: Sequence[int | None], *, like: Tensor | None = None) -> None:
        """Make ``alpha`` for inputs of ``input_shape``, with dtype and device of ``like`` if it is given.

        Raises:
            ArgumentError: an axis that is not shared has no known length.
        """
        shape = list(input_shape[1:])
        for axis in self.shared_axes or ():
            shape[axis - 1] = 1
        known = [n for n in shape if n is not None]
        if len(known) < len(shape):
            raise ArgumentError(
                f"PReLU needs to know the length of every axis but the first, got {tuple(input_shape)}; "
                f"share the others by shared_axes"
            )
        target = torch.empty(0, dtype=self.dtype_policy.variable) if like is None else like
        with torch.inference_mode(False):  # a weight made by a call in inference mode could never be trained
            initial = (self.alpha_initializer or initializers.GlorotUniform())(tuple(known), dtype=target.dtype)
            self.alpha = nn.Parameter(initial.to(target.device), requires_grad=self.trainable)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``."""
        if self.alpha is None:
            self.build(x.shape, like=x)
        assert self.alpha is not None
        return torch.relu(x) - self.alpha.to(x.dtype) * torch.relu(-x)

    @property
    def losses(self) -> list[Tensor]:
        """The penalty of ``alpha``, if it is there and has one."""
        return [] if self.alpha is None or self.alpha_regularizer is None else [self.alpha_regularizer(self.alpha)]

    @torch.no_grad()
    def apply_constraints(self) -> None:
        """Project ``alpha``, if it is there and has a constraint."""
        if self.alpha is not None and self.alpha_constraint is not None:
            self.alpha.copy_(self.alpha_constraint(self.alpha))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {
            "alpha_initializer": initializers.serialize(self.alpha_initializer),
            "alpha_regularizer": regularizers.serialize(self.alpha_regularizer),
            "alpha_constraint": constraints.serialize(self.alpha_constraint),
            "shared_axes": self.shared_axes,
        }
        return super().get_config() | own

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}alpha")
        if self.alpha is None and saved is not None:
            self.alpha = nn.Parameter(torch.empty_like(saved, dtype=self.dtype_policy.variable), self.trainable)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _number(name: str, value: float | None) -> float:
    if value is None:
        raise ArgumentError(f"{name} must be a number, got None")
    return as_floatx(value)


def _at_least_0(name: str, value: float | None) -> float:
    if value is None or value < 0:
        raise ArgumentError(f"{name} must be a number of at least 0, got {value}")
    return as_floatx(value)


_FUNCTIONS: dict[str, Any] = {
    "linear": linear,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "softplus": softplus,
    "softsign": softsign,
    "swish": swish,
    "silu": silu,
    "gelu": gelu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "exponential": exponential,
    "hard_sigmoid": hard_sigmoid,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "log_softmax_v2": log_softmax,  # what Keras 2.9 writes, though it cannot read it
}
_LAYERS: tuple[type[ActivationLayer], ...] = (ReLU, LeakyReLU, ELU, ThresholdedReLU, Softmax, PReLU)
_REGISTRY = Registry("activation", {cls.__name__: cls for cls in _LAYERS}, _FUNCTIONS, wrong_type=TypeError)


def get(identifier: Any) -> Any:
    """Return the activation of a name, a dict (of a class) or a callable; None is `linear`.

    Raises:
        ArgumentError: an unknown name, or a dict of another form.
        TypeError: anything else.

    >>> get("silu").__name__, get({"class_name": "LeakyReLU", "config": {}}).alpha
    ('swish', 0.30000001192092896)
    """
    return linear if identifier is None else _REGISTRY.get(identifier)


def serialize(activation: Any) -> Any:
    """Return a function as its name, a layer as a dict."""
    return _REGISTRY.serialize(activation)


def deserialize(config: Any, custom_objects: Names | None = None) -> Any:
    """Return the activation that `serialize` wrote."""
    return _REGISTRY.deserialize(config, custom_objects)
