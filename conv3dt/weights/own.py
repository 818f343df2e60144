"""How do files of ours say which layer the weights belong to?  As JSON under one key, beside the arrays."""

from __future__ import annotations

import json
from typing import Any

from conv3dt.errors import DataError
from conv3dt.weights.keras_config import parsed, translated
from conv3dt.weights.kernel import Weights, check_agrees

KEY = "conv3dt"
CLASS = "Conv3DTranspose"


def layer_text(weights: Weights) -> tuple[str, list[str]]:
    """Return the JSON of the configuration, and what of it is not plain data."""
    config, lost = {}, []
    for key, value in (weights.config or {}).items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            lost.append(f"{key} is not plain data and is left out")
        else:
            config[key] = value
    return json.dumps({"class_name": CLASS, "config": config}), lost


def layer_of(text: str, shape: tuple[int, ...], where: str) -> dict[str, Any]:
    """Return the configuration of a text that `layer_text` wrote, if it goes with a kernel of ``shape``.

    Raises:
        DataError: not such a text, or one of another kernel.
    """
    layer = parsed(text, f"{where}: metadata {KEY}")
    config = layer.get("config") if isinstance(layer, dict) and layer.get("class_name") == CLASS else None
    if not isinstance(config, dict):
        raise DataError(f"{where}: says that conv3dt wrote it, but holds no {CLASS}")
    arguments = translated(config, "2.9")
    if len(shape) == 5:
        check_agrees(arguments, shape, where)
    return arguments
