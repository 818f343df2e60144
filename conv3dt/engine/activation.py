"""What do the activations compute?  One scalar formula each, as Keras 2.9 has them; numba compiles them.

Each is a function of the activation's numbers that returns the function of one value: numba then sees constants.
Softmax and log_softmax are not here: they look at all filters of a voxel (`direct` applies them to whole regions).
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, exp, expm1, inf, log1p, pi, sqrt, tanh

from conv3dt.layer.activation import activation_parts

Function = Callable[[float], float]


def relu(alpha: float, max_value: float | None, threshold: float) -> Function:
    """x above the threshold, then clipped to 0 .. max_value; alpha * (x - threshold) below."""
    top = inf if max_value is None else max_value

    def function(x: float) -> float:
        if x > threshold:
            return 0.0 if x < 0.0 else top if x > top else x
        return alpha * (x - threshold) if alpha != 0.0 or x != x else 0.0

    return function


def relu6() -> Function:
    """min(max(x, 0), 6)."""
    return lambda x: 0.0 if x < 0.0 else 6.0 if x > 6.0 else x


def leaky_relu(alpha: float) -> Function:
    """Slope alpha below zero."""
    return lambda x: alpha * x if x < 0.0 else x


def elu(alpha: float) -> Function:
    """alpha * (exp(x) - 1) below zero."""
    return lambda x: alpha * expm1(x) if x < 0.0 else x


def selu() -> Function:
    """Klambauer et al. (2017)."""
    return lambda x: 1.05070098735548 * (1.67326324235438 * expm1(x) if x < 0.0 else x)


def softplus() -> Function:
    """log(1 + exp(x)), without overflow."""
    return lambda x: x + log1p(exp(-x)) if x > 0.0 else log1p(exp(x))


def softsign() -> Function:
    """x / (1 + |x|)."""
    return lambda x: x / (1.0 + abs(x))


def sigmoid() -> Function:
    """1 / (1 + exp(-x)), without overflow."""

    def function(x: float) -> float:
        if x < 0.0:
            power = exp(x)
            return power / (1.0 + power)
        return 1.0 / (1.0 + exp(-x))

    return function


def swish() -> Function:
    """x * sigmoid(x)."""

    def function(x: float) -> float:
        if x < 0.0:
            power = exp(x)
            return x * (power / (1.0 + power))
        return x / (1.0 + exp(-x))

    return function


def gelu(approximate: float) -> Function:
    """x times the normal distribution's integral: by erf, or by Hendrycks and Gimpel's tanh."""
    if approximate:
        return lambda x: 0.5 * x * (1.0 + tanh(sqrt(2.0 / pi) * (x + 0.044715 * x * x * x)))
    return lambda x: 0.5 * x * (1.0 + erf(x / sqrt(2.0)))


def hyperbolic() -> Function:
    """tanh(x)."""
    return lambda x: tanh(x)


def exponential() -> Function:
    """exp(x)."""
    return lambda x: exp(x)


def hard_sigmoid(slope: float) -> Function:
    """clip(slope * x + 0.5, 0, 1): slope 0.2 in Keras 2, 1/6 in Keras 3 and torch."""

    def function(x: float) -> float:
        y = slope * x + 0.5
        return 0.0 if y < 0.0 else 1.0 if y > 1.0 else y

    return function


def thresholded_relu(theta: float) -> Function:
    """x above theta, else 0."""
    return lambda x: x if x > theta or x != x else 0.0


_FORMULAS: dict[str, Callable[..., Function]] = {
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "softplus": softplus,
    "softsign": softsign,
    "swish": swish,
    "silu": swish,
    "gelu": gelu,
    "tanh": hyperbolic,
    "sigmoid": sigmoid,
    "exponential": exponential,
    "hard_sigmoid": hard_sigmoid,
    "thresholded_relu": thresholded_relu,
}
ACROSS_FILTERS = ("softmax", "log_softmax")


def formula(activation: str) -> Function | None:
    """Return the function of one value that an activation's text means; None for those that are not of one value."""
    name, numbers = activation_parts(activation)
    return _FORMULAS[name](**numbers) if name in _FORMULAS else None
