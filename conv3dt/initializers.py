"""With which values do weights begin?  Keras 2.9's initializers for torch.

An initializer is called with a shape and a dtype and returns a new tensor on the CPU.  With a seed it has a random
generator of its own: the same seed gives the same sequence of tensors, one call after the other.  Without a seed it
draws from torch's global generator, so that ``torch.manual_seed`` governs it.  The numbers are not TensorFlow's.

Fans are counted as Keras counts them: ``fan_in = shape[-2] * prod(shape[:-2])``, ``fan_out = shape[-1] *
prod(shape[:-2])``.  A transposed kernel is ``(kd, kh, kw, filters, channels)``, so that its fan_in counts the filters
and its fan_out the channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from inspect import isclass
from typing import Any

import torch
from torch import Tensor

from conv3dt.defaults import snake_case
from conv3dt.dtypes import as_dtype, dtype_name
from conv3dt.errors import ArgumentError
from conv3dt.identifiers import Names, Registry

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")
TRUNCATED_STDDEV = 0.87962566103423978
"""The standard deviation of a standard normal distribution cut off at -2 and 2."""


class Initializer:
    """Base of initializers of one's own: define ``__call__(shape, dtype=None)``, and ``get_config`` for arguments."""

    def __call__(self, shape: Sequence[int], dtype: object = None) -> Tensor:
        """Return a tensor of ``shape``; ``dtype`` None is the default type."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """Return the initializer of a configuration; ``dtype``, which old files carry, is left aside."""
        return cls(**{name: value for name, value in config.items() if name != "dtype"})


class Zeros(Initializer):
    """All 0."""

    def __call__(self, shape: Sequence[int], dtype: object = None) -> Tensor:
        """Return a tensor of ``shape``."""
        return torch.zeros(tuple(shape), dtype=as_dtype(dtype), device="cpu")


class Ones(Initializer):
    """All 1."""

    def __call__(self, shape: Sequence[int], dtype: object = None) -> Tensor:
        """Return a tensor of ``shape``."""
        return torch.ones(tuple(shape), dtype=as_dtype(dtype), device="cpu")


class Constant(Initializer):
    """One value everywhere, or an array with as many values as the tensor has."""

    def __init__(self, value: Any = 0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: object = None) -> Tensor:
        """Return a tensor of ``shape``.

        Raises:
            TypeError: the array holds another number of values.
        """
        values = torch.as_tensor(self.value, dtype=as_dtype(dtype), device="cpu")
        if values.numel() == 1:
            return values.reshape(()).expand(tuple(shape)).clone()
        if values.numel() != math.prod(shape):
            raise TypeError(f"Constant holds {values.numel()} values, but shape {tuple(shape)} has {math.prod(shape)}")
        return values.reshape(tuple(shape)).clone()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"value": self.value}


class _Random(Initializer):
    """An initializer that draws."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __call__(self, shape: Sequence[int], dtype: object = None) -> Tensor:
        """Return a new draw of ``shape``; half precision is drawn in float32 and rounded.

        Raises:
            ArgumentError: ``dtype`` is not a floating type, or the shape is none that the initializer can fill.
        """
        wanted = _floating(type(self).__name__, dtype)
        drawn = torch.promote_types(wanted, torch.float32)
        return self._draw(tuple(shape), drawn).to(wanted)

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        raise NotImplementedError

    def _uniform(self, shape: tuple[int, ...], dtype: torch.dtype, low: float, high: float) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="cpu").uniform_(low, high, generator=self._generator)

    def _normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="cpu").normal_(generator=self._generator)

    def _truncated(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        values = torch.empty(shape, dtype=dtype, device="cpu")
        return torch.nn.init.trunc_normal_(values, 0.0, 1.0, -2.0, 2.0, generator=self._generator)


class RandomUniform(_Random):
    """Evenly distributed from ``minval`` to ``maxval``."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return self._uniform(shape, dtype, self.minval, self.maxval)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"minval": self.minval, "maxval": self.maxval, "seed": self.seed}


class RandomNormal(_Random):
    """Normally distributed."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return self._normal(shape, dtype) * self.stddev + self.mean

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed}


class TruncatedNormal(RandomNormal):
    """Normally distributed, but never further than ``2 * stddev`` from the mean; what remains spreads 0.88 as far."""

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return self._truncated(shape, dtype) * self.stddev + self.mean


class VarianceScaling(_Random):
    """Of variance ``scale / max(1, n)``, where ``n`` is the fan_in, the fan_out or the mean of both.

    Distributions: ``truncated_normal`` (also ``normal``; cut off at two standard deviations and widened to have the
    variance again), ``untruncated_normal`` and ``uniform``.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        if scale <= 0:
            raise ArgumentError(f"scale must be greater than 0, got {scale}")
        if mode not in MODES:
            raise ArgumentError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        name = "truncated_normal" if distribution.lower() == "normal" else distribution.lower()
        if name not in DISTRIBUTIONS:
            raise ArgumentError(f"distribution must be one of {', '.join(DISTRIBUTIONS)}, got {distribution!r}")
        self.scale, self.mode, self.distribution = scale, mode, name

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        fan_in, fan_out = fans(shape)
        count = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, count)
        if self.distribution == "truncated_normal":
            return self._truncated(shape, dtype) * (math.sqrt(variance) / TRUNCATED_STDDEV)
        if self.distribution == "untruncated_normal":
            return self._normal(shape, dtype) * math.sqrt(variance)
        limit = math.sqrt(3 * variance)
        return self._uniform(shape, dtype, -limit, limit)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"scale": self.scale, "mode": self.mode, "distribution": self.distribution, "seed": self.seed}


class _Named(VarianceScaling):
    """A variance scaling whose choices are its name."""

    choices: tuple[float, str, str]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(*self.choices, seed=seed)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": self.seed}


class GlorotUniform(_Named):
    """Uniform with variance ``2 / (fan_in + fan_out)``: the default of a kernel (Glorot and Bengio 2010)."""

    choices = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    """Truncated normal with variance ``2 / (fan_in + fan_out)``."""

    choices = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Named):
    """Uniform with variance ``2 / fan_in`` (He et al. 2015)."""

    choices = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    """Truncated normal with variance ``2 / fan_in``."""

    choices = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Named):
    """Uniform with variance ``1 / fan_in`` (LeCun et al. 1998)."""

    choices = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    """Truncated normal with variance ``1 / fan_in``."""

    choices = (1.0, "fan_in", "truncated_normal")


class Orthogonal(_Random):
    """``gain`` times a matrix ``(prod(shape[:-1]), shape[-1])`` of orthonormal columns, or rows if it is wide."""

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if len(shape) < 2:
            raise ArgumentError(f"Orthogonal needs at least 2 axes, got shape {shape}; use another initializer")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = torch.linalg.qr(self._normal((max(rows, columns), min(rows, columns)), dtype))
        q = q * r.diagonal().sign()  # makes the decomposition unique, and with it the distribution even
        matrix: Tensor = q.T if rows < columns else q
        return self.gain * matrix.reshape(shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"gain": self.gain, "seed": self.seed}


class Identity(Initializer):
    """``gain`` times the unit matrix; only for two axes, so that no weight of a `Conv3DTranspose` can have it."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: object = None) -> Tensor:
        """Return a tensor of ``shape``.

        Raises:
            ArgumentError: ``shape`` has not two axes, or ``dtype`` is not a floating type.
        """
        wanted = _floating("Identity", dtype)
        if len(shape) != 2:
            raise ArgumentError(f"Identity needs 2 axes, got shape {tuple(shape)}; use another initializer")
        return self.gain * torch.eye(*shape, dtype=wanted, device="cpu")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"gain": self.gain}


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return fan_in and fan_out of a weight.

    >>> fans((3, 4, 5, 6, 7)), fans((2, 3)), fans((4,)), fans(())
    ((360, 420), (2, 3), (4, 4), (1, 1))
    """
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def _floating(owner: str, dtype: object) -> torch.dtype:
    wanted = as_dtype(dtype)
    if not wanted.is_floating_point:
        raise ArgumentError(f"{owner} needs a floating dtype, got {dtype_name(wanted)}; use float32")
    return wanted


_CLASSES: tuple[type[Initializer], ...] = (
    Zeros, Ones, Constant, RandomUniform, RandomNormal, TruncatedNormal, VarianceScaling, Orthogonal, Identity,
    GlorotUniform, GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal,
)  # fmt: skip
_MAKERS: dict[str, type[Initializer]] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{snake_case(cls.__name__): cls for cls in _CLASSES},
    **{f"{cls.__name__}V2": cls for cls in _CLASSES},
    **{f"{snake_case(cls.__name__)}V2": cls for cls in _CLASSES if issubclass(cls, _Named)},
    "normal": RandomNormal,
    "uniform": RandomUniform,
    "one": Ones,
    "zero": Zeros,
}
_REGISTRY = Registry("initializer", _MAKERS)


def get(identifier: Any) -> Any:
    """Return the initializer of a name, a dict, a class or a callable ``f(shape, dtype=...)``; None stays None.

    >>> get("he_normal").get_config(), get(Ones)((2,))
    ({'seed': None}, tensor([1., 1.]))
    """
    found = _REGISTRY.get(identifier)
    return found() if isclass(found) else found


def serialize(initializer: Any) -> Any:
    """Return an initializer as a dict, a function as its name."""
    return _REGISTRY.serialize(initializer)


def deserialize(config: Any, custom_objects: Names | None = None) -> Any:
    """Return the initializer that `serialize` wrote."""
    return _REGISTRY.deserialize(config, custom_objects)
