"""How does a kernel in memory become weights?  Arrays, lists of Keras's ``get_weights()``, PyTorch modules."""

from __future__ import annotations

from typing import Any

import numpy as np

from conv3dt.errors import DataError
from conv3dt.weights import Weights, checked


def weights_in_memory(given: Any, layout: str | None) -> Weights:
    """Return the weights of an object that a program holds.

    Args:
        given: an array in Keras layout ``(k1, k2, k3, filters, channels)``, or three axes for one channel; a list of
            it and a bias; or a ``torch.nn.ConvTranspose3d``.
        layout: ``torch`` for an array ``(channels, filters, k1, k2, k3)``.

    Raises:
        DataError: not a kernel.
    """
    if hasattr(given, "state_dict") and hasattr(given, "output_padding"):
        from conv3dt.weights.pytorch import from_module

        return from_module(given, type(given).__name__)
    bias = None
    if isinstance(given, (list, tuple)) and 1 <= len(given) <= 2 and all(hasattr(each, "ndim") for each in given):
        given, bias = given[0], np.asarray(given[1]) if len(given) == 2 else None
    try:
        array = np.asarray(given)
    except ValueError:
        raise DataError("weights must be one array (k1, k2, k3, filters, channels); give bias by itself") from None
    if layout == "torch" and array.ndim == 5:
        array = array.transpose(2, 3, 4, 1, 0)
    return checked(array, bias, "given as an array", "array")
