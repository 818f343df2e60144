"""What does it cost a layer to have these weights or these outputs?  Keras 2.9's regularizers for torch.

A regularizer takes a tensor of any shape and returns a tensor without axes in the same dtype.  Factors are rounded to
the default number type (``conv3dt.defaults.floatx``), as Keras keeps them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from conv3dt.defaults import as_floatx
from conv3dt.errors import ArgumentError
from conv3dt.identifiers import Names, Registry


class Regularizer:
    """Base of penalties of one's own: define ``__call__``, and ``get_config`` for saving."""

    def __call__(self, x: Tensor) -> Tensor | float:
        """Return the penalty of ``x``."""
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_config")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """Return the regularizer of a configuration."""
        return cls(**config)


class L1L2(Regularizer):
    """``l1 * sum |x| + l2 * sum x^2``; None means 0.

    >>> float(L1L2(l1=1, l2=2)(torch.tensor([1.0, -2.0])))
    13.0
    """

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1, self.l2 = _factor("l1", l1, 0.0), _factor("l2", l2, 0.0)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penalty of ``x``."""
        penalty = x.new_zeros(())
        if self.l1:  # a factor of 0 asks nothing, not even 0 * infinity
            penalty = penalty + self.l1 * x.abs().sum()
        if self.l2:
            penalty = penalty + self.l2 * x.square().sum()
        return penalty

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """``l1 * sum |x|``; None means 0.01; the old keyword ``l`` is understood."""

    def __init__(self, l1: float | None = 0.01, **legacy: float | None) -> None:
        self.l1 = _factor("l1", _legacy(type(self).__name__, legacy, l1), 0.01)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penalty of ``x``."""
        return self.l1 * x.abs().sum()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l1": self.l1}


class L2(Regularizer):
    """``l2 * sum x^2``; None means 0.01; the old keyword ``l`` is understood."""

    def __init__(self, l2: float | None = 0.01, **legacy: float | None) -> None:
        self.l2 = _factor("l2", _legacy(type(self).__name__, legacy, l2), 0.01)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penalty of ``x``."""
        return self.l2 * x.square().sum()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """``factor`` times the mean dot product of two different rows (or columns) of a matrix, each of length 1.

    As in Keras 2.9 the dot products keep their signs, so that the penalty may be negative.  A layer's kernel has five
    axes and is refused when the penalty is computed.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = _factor("factor", factor, None)
        if mode not in ("rows", "columns"):
            raise ArgumentError(f"mode must be 'rows' or 'columns', got {mode!r}")
        self.mode = mode

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penalty of the matrix ``x``.

        Raises:
            ArgumentError: ``x`` is no matrix.
        """
        if x.ndim != 2:
            raise ArgumentError(f"OrthogonalRegularizer needs a matrix (2 axes), got shape {tuple(x.shape)}")
        vectors = x if self.mode == "rows" else x.T
        vectors = vectors * vectors.square().sum(1, keepdim=True).clamp(min=1e-12).rsqrt()
        products = vectors @ vectors.T
        n = len(products)
        pairs = n * (n - 1) / 2
        return self.factor * 0.5 * (products - torch.diag(products.diagonal())).sum() / pairs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"factor": self.factor, "mode": self.mode}


def l1_l2(l1: float | None = 0.01, l2: float | None = 0.01) -> L1L2:
    """Return an `L1L2` whose factors are 0.01 where none is given; the name ``"l1_l2"`` means this one."""
    return L1L2(l1=l1, l2=l2)


def _factor(name: str, value: float | None, default: float | None) -> float:
    """Return the factor as it is kept; of NumPy's numbers only float64 is a float, the others Keras refuses too."""
    number = default if value is None else value
    if not isinstance(number, (int, float)) or not math.isfinite(number):
        raise ArgumentError(f"{name} must be a finite int or float, got {number!r}")
    return as_floatx(number)


def _legacy(owner: str, given: dict[str, float | None], value: float | None) -> float | None:
    value = given.pop("l", value)
    if given:
        raise TypeError(f"{owner} got an unexpected keyword argument {next(iter(given))!r}")
    return value


_REGISTRY = Registry(
    "regularizer",
    {
        "L1": L1,
        "l1": L1,
        "L2": L2,
        "l2": L2,
        "L1L2": L1L2,
        "l1_l2": l1_l2,
        "OrthogonalRegularizer": OrthogonalRegularizer,
        "orthogonal_regularizer": OrthogonalRegularizer,
    },
)


def get(identifier: Any) -> Any:
    """Return the regularizer of a name, a dict or a callable; None stays None.

    >>> get("l2").get_config()
    {'l2': 0.009999999776482582}
    """
    return _REGISTRY.get(identifier)


def serialize(regularizer: Any) -> Any:
    """Return a regularizer as a dict, a function as its name."""
    return _REGISTRY.serialize(regularizer)


def deserialize(config: Any, custom_objects: Names | None = None) -> Any:
    """Return the regularizer that `serialize` wrote."""
    return _REGISTRY.deserialize(config, custom_objects)
