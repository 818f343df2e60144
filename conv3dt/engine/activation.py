"""What do the named activations compute?  One scalar formula each, as Keras 2.9 has them; numba compiles them.

Softmax and log_softmax are not here: they look at all filters of a voxel (`direct` applies them to whole regions).
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, exp, expm1, log1p, sqrt, tanh


def relu6(x: float) -> float:
    """min(max(x, 0), 6)."""
    return 0.0 if x < 0.0 else 6.0 if x > 6.0 else x


def leaky_relu(x: float) -> float:
    """Slope 0.2 below zero."""
    return 0.2 * x if x < 0.0 else x


def elu(x: float) -> float:
    """exp(x) - 1 below zero."""
    return expm1(x) if x < 0.0 else x


def selu(x: float) -> float:
    """Klambauer et al. (2017)."""
    return 1.05070098735548 * (1.67326324235438 * expm1(x) if x < 0.0 else x)


def softplus(x: float) -> float:
    """log(1 + exp(x)), without overflow."""
    return x + log1p(exp(-x)) if x > 0.0 else log1p(exp(x))


def softsign(x: float) -> float:
    """x / (1 + |x|)."""
    return x / (1.0 + abs(x))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    if x < 0.0:
        power = exp(x)
        return power / (1.0 + power)
    return 1.0 / (1.0 + exp(-x))


def swish(x: float) -> float:
    """x * sigmoid(x)."""
    if x < 0.0:
        power = exp(x)
        return x * (power / (1.0 + power))
    return x / (1.0 + exp(-x))


def gelu(x: float) -> float:
    """The exact form, with erf."""
    return 0.5 * x * (1.0 + erf(x / sqrt(2.0)))


def hyperbolic(x: float) -> float:
    """tanh(x)."""
    return tanh(x)


def exponential(x: float) -> float:
    """exp(x)."""
    return exp(x)


def hard_sigmoid(x: float) -> float:
    """clip(0.2 x + 0.5, 0, 1): Keras 2's, not the one of Keras 3 and torch."""
    return 0.0 if x < -2.5 else 1.0 if x > 2.5 else 0.2 * x + 0.5


SCALAR: dict[str, Callable[[float], float]] = {
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
}
ACROSS_FILTERS = ("softmax", "log_softmax")
