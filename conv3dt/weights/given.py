"""How does a kernel in memory become weights?  Arrays, Keras's layers and ours, PyTorch's modules and state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conv3dt.errors import DataError
from conv3dt.weights.arrays import arranged
from conv3dt.weights.kernel import Weights, check_layout, checked


def weights_in_memory(given: Any, layout: str | None = None) -> Weights:
    """Return the weights of an object that a program holds.

    Args:
        given: an array in Keras layout ``(k1, k2, k3, filters, channels)``, or three axes for one channel; a list of
            it and a bias; a built layer with ``get_config`` and ``get_weights``; a ``torch.nn.ConvTranspose3d``; its
            state dict; or a torch tensor, which is taken to be in PyTorch's layout.
        layout: ``keras`` or ``torch``, for arrays and tensors.

    Raises:
        DataError: not a kernel.
    """
    if hasattr(given, "get_config") and hasattr(given, "get_weights"):
        return _of_layer(given)
    if hasattr(given, "state_dict"):
        from conv3dt.weights.pytorch import from_module

        check_layout(layout, "torch", type(given).__name__, "a PyTorch module")
        return from_module(given, type(given).__name__)
    if isinstance(given, Mapping):
        from conv3dt.weights.pytorch import from_state

        return from_state(given, None, layout)
    bias = None
    if isinstance(given, (list, tuple)) and 1 <= len(given) <= 2 and all(hasattr(each, "ndim") for each in given):
        given, bias = given[0], _array(given[1]) if len(given) == 2 else None
    if hasattr(given, "detach"):
        return arranged(_array(given), bias, "given as a tensor", "array", layout or "torch", ": a torch tensor")
    return arranged(_array(given), bias, "given as an array", "array", layout)


def _of_layer(layer: Any) -> Weights:
    """A layer of Keras's or ours, with its configuration."""
    from conv3dt.weights.keras_config import layer_arguments, layer_config_of

    name = str(getattr(layer, "name", "layer"))
    told = layer_config_of(layer)
    arrays = layer.get_weights()
    if not arrays:
        raise DataError(f"weights {name}: the layer is not built and has none; call build(input_shape)")
    config = layer_arguments(told, f"layer {name}")
    kernel, *more = (np.asarray(array) for array in arrays)
    bias = more.pop(0) if more and config.get("use_bias", True) else None
    return checked(kernel, bias, name, "array", config=config, alpha=more[0] if more else _alpha(layer))


def _alpha(layer: Any) -> Any:
    """Keras 3 does not count the weights of an activation among those of its layer."""
    alpha = getattr(getattr(layer, "activation", None), "alpha", None)
    return None if alpha is None or isinstance(alpha, (int, float)) else _array(getattr(alpha, "value", alpha))


def _array(given: Any) -> np.ndarray[Any, np.dtype[Any]]:
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = given.float() if str(given.dtype) == "torch.bfloat16" else given
    try:
        return np.asarray(given)
    except ValueError:
        raise DataError("weights must be one array (k1, k2, k3, filters, channels); give bias by itself") from None
