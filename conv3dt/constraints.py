"""What must the weights be after each step of training?  Keras 2.9's constraints for torch.

A constraint takes a tensor and returns its projection, of the same shape and dtype.  Norms are Euclidean, taken over
``axis`` (one axis or several); a layer's kernel is ``(kd, kh, kw, filters, channels)``, so that the default axis 0 is
the kernel's depth alone, and the norm of each filter is ``axis=[0, 1, 2, 4]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from conv3dt.defaults import epsilon
from conv3dt.errors import ArgumentError
from conv3dt.identifiers import Names, Registry

Axes = int | Sequence[int]


class Constraint:
    """Base of constraints of one's own: define ``__call__``, and ``get_config`` if there are arguments."""

    def __call__(self, w: Tensor) -> Tensor:
        """Return the projection of ``w``."""
        return w

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constraint:
        """Return the constraint of a configuration."""
        return cls(**config)


class MaxNorm(Constraint):
    """Norms are at most ``max_value``: ``w * clip(norm, 0, max_value) / (epsilon + norm)``."""

    def __init__(self, max_value: float = 2, axis: Axes = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Tensor) -> Tensor:
        """Return the projection of ``w``."""
        norms = _norms(w, self.axis)
        return w * (norms.clamp(0, max(self.max_value, 0)) / (epsilon() + norms))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"max_value": self.max_value, "axis": self.axis}


class NonNeg(Constraint):
    """Negative weights become 0.

    >>> NonNeg()(torch.tensor([-1.0, 2.0]))
    tensor([-0., 2.])
    """

    def __call__(self, w: Tensor) -> Tensor:
        """Return the projection of ``w``."""
        return w * (w >= 0)


class UnitNorm(Constraint):
    """Norms are 1: ``w / (epsilon + norm)``."""

    def __init__(self, axis: Axes = 0) -> None:
        self.axis = axis

    def __call__(self, w: Tensor) -> Tensor:
        """Return the projection of ``w``."""
        return w / (epsilon() + _norms(w, self.axis))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Norms move towards ``[min_value, max_value]``; ``rate`` 1 puts them there at once.

    ``w * (rate * clip(norm, min_value, max_value) + (1 - rate) * norm) / (epsilon + norm)``
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Axes = 0) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Tensor) -> Tensor:
        """Return the projection of ``w``."""
        norms = _norms(w, self.axis)
        clipped = norms.clamp(self.min_value, max(self.min_value, self.max_value))
        return w * ((self.rate * clipped + (1 - self.rate) * norms) / (epsilon() + norms))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"min_value": self.min_value, "max_value": self.max_value, "rate": self.rate, "axis": self.axis}


class RadialConstraint(Constraint):
    """Each square ring of a 2-D kernel ``(n, n, a, b)`` takes one value from the diagonal.

    The values are those that Keras 2.9 takes (the ring next to the centre of 4 x 4 is ``[3, 3]``, the centre
    ``[1, 1]``).  A layer's kernel has five axes and is refused when the constraint is applied.
    """

    def __call__(self, w: Tensor) -> Tensor:
        """Return the projection of ``w``.

        Raises:
            ArgumentError: ``w`` is no square 2-D kernel.
        """
        if w.ndim != 4 or w.shape[0] != w.shape[1]:
            raise ArgumentError(f"RadialConstraint needs a kernel of shape (n, n, a, b), got {tuple(w.shape)}")
        sources = _ring_sources(w.shape[0]).to(w.device)
        return w.diagonal(dim1=0, dim2=1)[..., sources].permute(2, 3, 0, 1)


def _ring_sources(n: int) -> Tensor:
    """Return the place on the diagonal from which each place of an ``n x n`` kernel is taken."""
    distance = (2 * torch.arange(n) - (n - 1)).abs() // 2
    ring = torch.maximum(distance[:, None], distance[None, :])
    if n % 2:
        return (ring + n // 2 - 1).clamp(min=0)
    return torch.where(ring == 0, n // 2 - 1, ring + n // 2)


def _norms(w: Tensor, axis: Axes) -> Tensor:
    axes = axis if isinstance(axis, int) else tuple(axis)
    return w.square().sum(axes, keepdim=True).sqrt()


_REGISTRY = Registry(
    "constraint",
    {
        "MaxNorm": MaxNorm,
        "max_norm": MaxNorm,
        "maxnorm": MaxNorm,
        "NonNeg": NonNeg,
        "non_neg": NonNeg,
        "nonneg": NonNeg,
        "UnitNorm": UnitNorm,
        "unit_norm": UnitNorm,
        "unitnorm": UnitNorm,
        "MinMaxNorm": MinMaxNorm,
        "min_max_norm": MinMaxNorm,
        "RadialConstraint": RadialConstraint,
        "radial_constraint": RadialConstraint,
    },
)


def get(identifier: Any) -> Any:
    """Return the constraint of a name, a dict or a callable; None stays None.

    >>> get("max_norm").get_config()
    {'max_value': 2, 'axis': 0}
    """
    return _REGISTRY.get(identifier)


def serialize(constraint: Any) -> Any:
    """Return a constraint as a dict, a function as its name."""
    return _REGISTRY.serialize(constraint)


def deserialize(config: Any, custom_objects: Names | None = None) -> Any:
    """Return the constraint that `serialize` wrote."""
    return _REGISTRY.deserialize(config, custom_objects)
