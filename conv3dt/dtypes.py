"""In which number types does a layer keep its weights and compute?  Keras's dtypes and dtype policies for torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from conv3dt.defaults import floatx

_TORCH: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("float16", "float32", "float64", "bfloat16", "half", "float", "double", "int8", "int16", "int32",
                 "int64", "uint8", "bool", "complex64", "complex128")
}  # fmt: skip
_MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def as_dtype(value: object) -> torch.dtype:
    """Return the torch dtype of anything that names one; None is the default type.

    Raises:
        TypeError: it names none.

    >>> as_dtype("half"), as_dtype(np.float64), as_dtype(None)
    (torch.float16, torch.float64, torch.float32)
    """
    if value is None:
        return _TORCH[floatx()]
    if isinstance(value, torch.dtype):
        return value
    name = "float32" if value is float else value
    if isinstance(name, (type, np.dtype)):
        try:
            name = np.dtype(name).name
        except TypeError:
            name = value
    if not isinstance(name, str) or name not in _TORCH:
        raise TypeError(f"dtype must name a number type, got {value!r}; use one of float32, float64, float16, bfloat16")
    return _TORCH[name]


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name without its module: ``float32``."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True, slots=True)
class Policy:
    """The type of the weights and the type of the arithmetic; one name says both."""

    name: str
    variable: torch.dtype
    compute: torch.dtype

    def get_config(self) -> str | dict[str, object]:
        """Return the ``dtype`` of a layer's configuration: a plain name, or a mixed policy spelt out."""
        if self.variable == self.compute:
            return self.name
        return {"class_name": "Policy", "config": {"name": self.name}}


def as_policy(value: object) -> Policy:
    """Return the policy of a layer's ``dtype`` argument.

    Raises:
        TypeError: it names none.

    >>> as_policy("mixed_float16")
    Policy(name='mixed_float16', variable=torch.float32, compute=torch.float16)
    """
    if isinstance(value, Policy):
        return value
    if isinstance(value, Mapping):
        value = _policy_name(value)
    if isinstance(value, str) and value in _MIXED:
        return Policy(value, torch.float32, _TORCH[_MIXED[value]])
    dtype = as_dtype(value)
    return Policy(dtype_name(dtype), dtype, dtype)


def _policy_name(value: Mapping[str, object]) -> object:
    """Return the name in a serialised policy; Keras 3 calls its class ``DTypePolicy``."""
    config = value.get("config")
    if not isinstance(config, Mapping) or "name" not in config:
        raise TypeError(f"dtype as a dict must be {{'class_name': 'Policy', 'config': {{'name': ...}}}}, got {value!r}")
    return config["name"]
