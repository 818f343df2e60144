"""What does an initializer draw?  A kernel and a bias as arrays, with a name that says how to draw them again."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt import initializers
from conv3dt.errors import ArgumentError

Floats = NDArray[np.floating]


def drawn(
    shape: tuple[int, ...], *, kernel_initializer: Any, bias_initializer: Any, seed: int | None
) -> tuple[Floats, Floats | None, str]:
    """Return a kernel, a bias and what to call them.

    Args:
        shape: of the kernel, Keras layout ``(k1, k2, k3, filters, channels)``.
        kernel_initializer, bias_initializer: as Keras takes them; no bias for None.
        seed: of both; None draws one, which the name tells.

    Raises:
        ArgumentError: no such initializer, or one that cannot make this shape.
    """
    kernel_initializer, random = _seeded(kernel_initializer, seed)
    kernel = np.asarray(kernel_initializer(shape), np.float32)
    bias = None
    if bias_initializer is not None:
        bias = np.asarray(_seeded(bias_initializer, seed if random is None else random)[0](shape[3:4]), np.float32)
    told = initializers.serialize(kernel_initializer)
    name = str(told["class_name"] if isinstance(told, dict) else told)
    for what, array in (("kernel", kernel), ("bias", bias)):
        if array is not None and not np.isfinite(array).all():
            raise ArgumentError(f"{what}_initializer {name}: draws values that are NaN or infinite")
    return kernel, bias, name if random is None else f"{name}, seed {random}"


def _seeded(identifier: Any, seed: int | None) -> tuple[Any, int | None]:
    """The initializer with a seed, and the seed; None for one that draws nothing."""
    try:
        initializer = initializers.get(identifier)
    except TypeError as error:  # a configuration that the class does not take
        raise ArgumentError(str(error)) from None
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    if "seed" not in config:
        return initializer, None
    if seed is None:
        seed = config["seed"] if config["seed"] is not None else secrets.randbelow(2**31)
    return type(initializer).from_config({**config, "seed": seed}), seed
