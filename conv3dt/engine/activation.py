"""What do the activations compute?  One formula each, as Keras 2.9 has them, on values of the loops' language.

Each takes the activation's numbers and gives the function of one value.  Both sides of a choice are computed, so a
side that is not chosen may overflow.  Softmax and log_softmax are not here: they look at all filters of a voxel
(`direct` applies them to whole regions).
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

from conv3dt.engine.ir import Value, where
from conv3dt.layer.activation import activation_parts

Function = Callable[[Value], Value]


def _of_libm(name: str) -> Function:
    """A function of C's mathematical library."""
    return lambda x: x.sheet.lanewise(name + ("f" if x.type.scalar == "float" else ""), x)


exp, expm1, log1p, tanh, erf = (_of_libm(name) for name in ("exp", "expm1", "log1p", "tanh", "erf"))


def magnitude(x: Value) -> Value:
    """x without its sign; a NaN stays one."""
    return where(x < 0.0, -x, x)


def relu(alpha: float, max_value: float | None, threshold: float) -> Function:
    """x above the threshold, then clipped to 0 .. max_value if there is one; alpha * (x - threshold) below."""
    if (alpha, max_value, threshold) == (0.0, None, 0.0):
        return lambda x: where(x < 0.0, 0.0, x)

    def function(x: Value) -> Value:
        above = x if max_value is None else where(x < 0.0, 0.0, where(x > max_value, max_value, x))
        below = alpha * (x - threshold) if alpha != 0.0 else where(x.is_nan(), x, 0.0)
        return where(x > threshold, above, below)

    return function


def relu6() -> Function:
    """min(max(x, 0), 6)."""
    return lambda x: where(x < 0.0, 0.0, where(x > 6.0, 6.0, x))


def leaky_relu(alpha: float) -> Function:
    """Slope alpha below zero."""
    return lambda x: where(x < 0.0, alpha * x, x)


def elu(alpha: float) -> Function:
    """alpha * (exp(x) - 1) below zero."""
    return lambda x: where(x < 0.0, alpha * expm1(x), x)


def selu() -> Function:
    """Klambauer et al. (2017)."""
    return lambda x: 1.05070098735548 * where(x < 0.0, 1.67326324235438 * expm1(x), x)


def softplus() -> Function:
    """log(1 + exp(x)), without overflow."""
    return lambda x: where(x > 0.0, x, 0.0) + log1p(exp(-magnitude(x)))


def softsign() -> Function:
    """x / (1 + |x|)."""
    return lambda x: x / (1.0 + magnitude(x))


def sigmoid() -> Function:
    """1 / (1 + exp(-x)), without overflow."""

    def function(x: Value) -> Value:
        power = exp(-magnitude(x))
        return where(x < 0.0, power, 1.0) / (1.0 + power)

    return function


def swish() -> Function:
    """x * sigmoid(x)."""
    return lambda x: x * sigmoid()(x)


def gelu(approximate: float) -> Function:
    """x times the normal distribution's integral: by erf, or by Hendrycks and Gimpel's tanh."""
    if approximate:
        return lambda x: 0.5 * x * (1.0 + tanh(sqrt(2.0 / pi) * (x + 0.044715 * x * x * x)))
    return lambda x: 0.5 * x * (1.0 + erf(x / sqrt(2.0)))


def exponential() -> Function:
    """exp(x)."""
    return exp


def hyperbolic() -> Function:
    """tanh(x)."""
    return tanh


def hard_sigmoid(slope: float) -> Function:
    """clip(slope * x + 0.5, 0, 1): slope 0.2 in Keras 2, 1/6 in Keras 3 and torch."""

    def function(x: Value) -> Value:
        y = slope * x + 0.5
        return where(y < 0.0, 0.0, where(y > 1.0, 1.0, y))

    return function


def thresholded_relu(theta: float) -> Function:
    """x above theta, else 0."""
    return lambda x: where((x > theta) | x.is_nan(), x, 0.0)


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


def activate(activation: str, value: Value) -> Value:
    """Apply an activation to a value."""
    name, numbers = activation_parts(activation)
    return value if name == "linear" else _FORMULAS[name](**numbers)(value)
