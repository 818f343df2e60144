"""How does Keras spell a model of this one layer?  Version 2.9 and version 3; dicts only."""

from __future__ import annotations

import json
from typing import Any

from conv3dt.weights.keras_config import KERAS3_HARD_SIGMOID, Config
from conv3dt.weights.kernel import Weights

MODULES = {
    "activation": "keras.layers",
    "kernel_initializer": "keras.initializers",
    "bias_initializer": "keras.initializers",
    "kernel_regularizer": "keras.regularizers",
    "bias_regularizer": "keras.regularizers",
    "activity_regularizer": "keras.regularizers",
    "kernel_constraint": "keras.constraints",
    "bias_constraint": "keras.constraints",
}
"""Where Keras 3 looks for what an argument may be."""


def layer_name(weights: Weights) -> str:
    """Return the layer's name as a file can have it: one component of a path."""
    name = str((weights.config or {}).get("name") or "conv3d_transpose")
    kept = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "_" for each in name)
    return kept.strip(".") or "conv3d_transpose"


def keras2_model(weights: Weights) -> tuple[Config, list[str]]:
    """Return a Sequential model of Keras 2.9 with the layer in it, and what could not be said."""
    config, lost = _complete(weights)
    if config["activation"] == KERAS3_HARD_SIGMOID:
        config["activation"] = "linear"
        lost.append("Keras 2.9 has no hard_sigmoid of Keras 3: the activation is written as linear")
    if config.get("dilation_rate"):
        lost.append("Keras 2.9 itself ignores dilation_rate when it runs the model")
    shape = config.pop("batch_input_shape", None) or _input_shape(weights, config)
    scan = {"batch_input_shape": shape, "dtype": "float32", "sparse": False, "ragged": False, "name": "input"}
    return {
        "class_name": "Sequential",
        "config": {
            "name": "sequential",
            "layers": [
                {"class_name": "InputLayer", "config": scan},
                {"class_name": "Conv3DTranspose", "config": config},
            ],
        },
    }, lost


def keras3_model(weights: Weights) -> tuple[Config, list[str]]:
    """Return a Sequential model of Keras 3 with the layer in it, and what could not be said."""
    config, lost = _complete(weights)
    if config["activation"] == "hard_sigmoid":
        config["activation"] = "linear"
        lost.append("Keras 3 has no hard_sigmoid of Keras 2.9: the activation is written as linear")
    elif config["activation"] == KERAS3_HARD_SIGMOID:
        config["activation"] = "hard_sigmoid"
    elif config["activation"] == "log_softmax_v2":
        config["activation"] = "log_softmax"
    shape = config.pop("batch_input_shape", None) or _input_shape(weights, config)
    config = {key: _with_module(key, value) for key, value in config.items()}
    scan = {"batch_shape": shape, "dtype": "float32", "sparse": False, "name": "input"}
    layers = [_serialized("keras.layers", "InputLayer", scan)]
    layers.append(_serialized("keras.layers", "Conv3DTranspose", config) | {"build_config": {"input_shape": shape}})
    model = {"name": "sequential", "trainable": True, "dtype": "float32", "layers": layers, "build_input_shape": shape}
    return _serialized("keras", "Sequential", model) | {"build_config": {"input_shape": shape}}, lost


def _serialized(module: str, kind: str, config: Config) -> Config:
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def _with_module(key: str, value: Any) -> Any:
    fields = value.get("config") if isinstance(value, dict) else None
    if not isinstance(fields, dict):
        return value
    if key == "dtype":
        return fields.get("name", "float32")
    if key not in MODULES or "class_name" not in value:
        return value
    fields = dict(fields)
    if value["class_name"] == "LeakyReLU" and "alpha" in fields:
        fields["negative_slope"] = fields.pop("alpha")
    return _serialized(MODULES[key], value["class_name"], fields)


def _complete(weights: Weights) -> tuple[Config, list[str]]:
    """Everything that both versions want to know, from what is known and Keras's defaults."""
    lost: list[str] = []
    config: Config = {
        "name": "", "trainable": True, "dtype": "float32", "filters": 1, "kernel_size": 1, "strides": (1, 1, 1),
        "padding": "valid", "data_format": "channels_last", "activation": "linear", "use_bias": True,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "bias_initializer": {"class_name": "Zeros", "config": {}}, "kernel_regularizer": None,
        "bias_regularizer": None, "activity_regularizer": None, "kernel_constraint": None, "bias_constraint": None,
        "output_padding": None,
    }  # fmt: skip
    for key, value in (weights.config or {}).items():
        if _is_json(value):
            config[key] = value
        else:
            lost.append(f"{key} is not plain data and is left at Keras's default")
    if config.get("groups") == 1:  # which Keras 3 does not know, and Keras 2.9 takes anyway
        del config["groups"]
    if weights.kernel.dtype == "float64" and config["dtype"] != "float64":  # or Keras would round the kernel
        if "dtype" in (weights.config or {}):
            lost.append(f"dtype {config['dtype']} is written as float64, which the kernel is")
        config["dtype"] = "float64"
    config["name"] = layer_name(weights)
    config["filters"], config["use_bias"] = int(weights.kernel.shape[3]), weights.bias is not None
    config["kernel_size"] = tuple(int(n) for n in weights.kernel.shape[:3])
    config["activation"] = config["activation"] or "linear"
    return config, lost


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _input_shape(weights: Weights, config: Config) -> list[int | None]:
    channels = int(weights.kernel.shape[4])
    if config["data_format"] == "channels_first":
        return [None, channels, None, None, None]
    return [None, None, None, None, channels]
