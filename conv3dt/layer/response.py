"""What can an activation make of a value that is only known to lie between two others?  NumPy alone, in float64.

The functions are those of `conv3dt.layer.activation`, each written down once more, so that what engines compute can be
held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import erf, inf, nextafter, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.layer.activation import activation_parts

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

ACROSS_FILTERS = ("softmax", "log_softmax")
"""What looks at all filters of a voxel."""

SWISH_LEAST, GELU_LEAST, GELU_TANH_LEAST = -1.2784645427610738, -0.7517915246935645, -0.7524614220710162
"""Where these functions turn from falling to rising: the zeros of their derivatives."""


def response(activation: str, low: Array, high: Array, alpha: Array | None = None) -> tuple[Array, Array]:
    """Return the least and the greatest value that an activation makes of values from ``low`` to ``high``.

    Args:
        activation: a text of `activation_text`.
        low, high: ``(filters, ...)``, float64, each filter free of the others.
        alpha: ``(filters,)``, the slopes below zero of ``prelu``.

    Returns:
        Two arrays of the same shape, NaN where the formula makes NaN of an infinite end.

    Examples:
        >>> [float(end[0]) for end in response("relu", np.array([-2.0]), np.array([3.0]))]
        [0.0, 3.0]
    """
    with np.errstate(all="ignore"):  # sides of a choice that are not taken may overflow
        if activation in ACROSS_FILTERS:
            return _softmax(low, high, logarithm=activation == "log_softmax")
        function, turns = _function(activation, low.ndim, alpha)
        ends = [function(low), function(high), *(function(np.clip(turn, low, high)) for turn in turns)]
        return np.minimum.reduce(ends), np.maximum.reduce(ends)


def _function(activation: str, ndim: int, alpha: Array | None) -> tuple[Function, Sequence[float]]:
    """The function and the places between which it only rises or only falls."""
    name, numbers = activation_parts(activation)
    if name == "prelu":
        assert alpha is not None
        return partial(_bent, slope=np.asarray(alpha, np.float64).reshape(-1, *[1] * (ndim - 1))), (0.0,)
    formula, turns = _FORMULAS[name]
    return partial(formula, **numbers), turns(numbers)


def _softmax(low: Array, high: Array, *, logarithm: bool) -> tuple[Array, Array]:
    """A filter's share is least where it is least and the others are greatest, and the other way round."""
    ends = []
    for own, others in ((low, high), (high, low)):
        none = np.full_like(own[:1], -inf)
        before = np.concatenate([none, np.logaddexp.accumulate(others, axis=0)[:-1]])
        after = np.concatenate([np.logaddexp.accumulate(others[::-1], axis=0)[-2::-1], none])
        lead = own - np.logaddexp(before, after)
        ends.append(-_softplus(-lead) if logarithm else _sigmoid(lead))
    return ends[0], ends[1]


def _bent(x: Array, slope: Array | float) -> Array:
    return np.where(x < 0, slope * x, x)


def _relu(x: Array, alpha: float, max_value: float | None, threshold: float) -> Array:
    above = x if max_value is None else np.clip(x, 0, max_value)
    return np.where(x > threshold, above, alpha * (x - threshold) if alpha else 0.0)


def _relu_turns(numbers: dict[str, Any]) -> Sequence[float]:
    threshold = numbers["threshold"]
    return 0.0, threshold, nextafter(threshold, inf), *([] if numbers["max_value"] is None else [numbers["max_value"]])


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, alpha * np.expm1(x), x)


def _selu(x: Array) -> Array:
    return 1.0507009873554805 * _elu(x, 1.6732632423543772)


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(0, x))


def _softsign(x: Array) -> Array:
    return np.asarray(x / (1 + np.abs(x)))


def _sigmoid(x: Array) -> Array:
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, power, 1.0) / (1 + power))


def _swish(x: Array) -> Array:
    return x * _sigmoid(x)


def _gelu(x: Array, approximate: float) -> Array:
    if approximate:
        return np.asarray(0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + np.vectorize(erf, otypes=[np.float64])(x / sqrt(2))))


def _gelu_turns(numbers: dict[str, Any]) -> Sequence[float]:
    return (GELU_TANH_LEAST,) if numbers["approximate"] else (GELU_LEAST,)


def _hard_sigmoid(x: Array, slope: float) -> Array:
    return np.clip(slope * x + 0.5, 0, 1)


def _thresholded_relu(x: Array, theta: float) -> Array:
    return np.where(x > theta, x, 0.0)


def _thresholded_turns(numbers: dict[str, Any]) -> Sequence[float]:
    return numbers["theta"], nextafter(numbers["theta"], inf)


def _linear(x: Array) -> Array:
    return x


def _at(*turns: float) -> Callable[[dict[str, Any]], Sequence[float]]:
    return lambda numbers: turns


_FORMULAS: dict[str, tuple[Callable[..., Array], Callable[[dict[str, Any]], Sequence[float]]]] = {
    "linear": (_linear, _at()),
    "relu": (_relu, _relu_turns),
    "relu6": (partial(_relu, alpha=0.0, max_value=6.0, threshold=0.0), _at()),
    "leaky_relu": (lambda x, alpha: _bent(x, alpha), _at(0.0)),
    "elu": (_elu, _at(0.0)),
    "selu": (_selu, _at()),
    "softplus": (_softplus, _at()),
    "softsign": (_softsign, _at()),
    "swish": (_swish, _at(SWISH_LEAST)),
    "silu": (_swish, _at(SWISH_LEAST)),
    "gelu": (_gelu, _gelu_turns),
    "tanh": (np.tanh, _at()),
    "sigmoid": (_sigmoid, _at()),
    "exponential": (np.exp, _at()),
    "hard_sigmoid": (_hard_sigmoid, _at()),
    "thresholded_relu": (_thresholded_relu, _thresholded_turns),
}
