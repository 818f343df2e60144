"""What does the real layer say?  Writes ``keras29.json`` beside this file; run it with TensorFlow 2.9.3 installed.

Everything that the tests compare with is here: the arguments, as JSON holds them, and what Keras made of them.
"""

# mypy: ignore-errors
from __future__ import annotations

import inspect
import itertools
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow import keras

Layer = keras.layers.Conv3DTranspose

CONFIGS = [
    {"filters": 2, "kernel_size": 3},
    {"filters": 4.9, "kernel_size": [1, 2, 3], "strides": [3, 2, 1], "padding": "SAME", "output_padding": [0, 1, 0],
     "data_format": "channels_first", "use_bias": False, "name": "up", "trainable": False, "dtype": "float64"},
    {"filters": 6, "kernel_size": 2, "groups": 3, "dtype": "mixed_float16", "batch_input_shape": [2, 3, 4, 5, 1]},
    {"filters": 1, "kernel_size": 2, "input_shape": [None, None, None, 3], "batch_size": 7, "dynamic": True},
    {"filters": 1, "kernel_size": 2, "kernel_initializer": None, "bias_initializer": None},
    {"filters": 1, "kernel_size": 2, "kernel_initializer": "he_normal", "bias_initializer": "ones",
     "kernel_regularizer": "l2", "bias_regularizer": "l1_l2", "activity_regularizer": "L1L2",
     "kernel_constraint": "max_norm", "bias_constraint": "nonneg"},
    {"filters": 1, "kernel_size": 2, "kernel_initializer": {"class_name": "Orthogonal", "config": {"seed": 3}},
     "kernel_regularizer": {"class_name": "L1", "config": {"l1": 0.3}},
     "kernel_constraint": {"class_name": "MinMaxNorm", "config": {"rate": 0.5, "axis": [0, 1, 2, 4]}}},
    *({"filters": 1, "kernel_size": 1, "activation": name} for name in (
        None, "relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "softsign", "swish", "silu", "gelu", "tanh",
        "sigmoid", "exponential", "hard_sigmoid", "softmax", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax",
        "PReLU")),
    {"filters": 1, "kernel_size": 1, "activation": {"class_name": "PReLU", "config": {
        "shared_axes": [1, 2, 3], "alpha_initializer": "ones", "alpha_regularizer": "l1", "name": "slope"}}},
]  # fmt: skip

GRID = [-30.0, -7.0, -3.0, -2.5, -1.0, -0.25, 0.0, 0.25, 1.0, 2.0, 2.5, 3.0, 5.5, 7.0, 30.0]

ACTIVATIONS = [
    *((name, {}) for name in (
        "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "softsign", "swish", "gelu", "tanh",
        "sigmoid", "exponential", "hard_sigmoid", "softmax", "log_softmax",
        "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax", "PReLU")),
    ("relu", {"alpha": 0.5}), ("relu", {"max_value": 2.0}), ("relu", {"threshold": 1.0}),
    ("relu", {"alpha": 0.5, "max_value": 2.5, "threshold": 1.0}), ("elu", {"alpha": 0.3}),
    ("relu", {"alpha": 0.5, "max_value": 6.0}), ("gelu", {"approximate": True}),
    ("ReLU", {"max_value": 2.5, "negative_slope": 0.25, "threshold": 0.5}), ("LeakyReLU", {"alpha": 0.1}),
    ("ThresholdedReLU", {"theta": 2.0}), ("PReLU", {"alpha_initializer": "ones"}),
]  # fmt: skip

REGULARIZERS = [
    "l1", "L1", "l2", "L2", "l1_l2", "L1L2", {"class_name": "l1_l2", "config": {"l1": 0.5}},
    {"class_name": "L1L2", "config": {"l1": 0.5}}, {"class_name": "L1L2", "config": {"l1": 0.5, "l2": None}},
    {"class_name": "L1", "config": {"l": 0.25}}, {"class_name": "L2", "config": {"l": -0.25}},
    {"class_name": "L1", "config": {"l1": None}}, "OrthogonalRegularizer", "orthogonal_regularizer",
    {"class_name": "OrthogonalRegularizer", "config": {"factor": 2, "mode": "columns"}},
]  # fmt: skip

CONSTRAINTS = [
    *("MaxNorm", "max_norm", "maxnorm", "NonNeg", "non_neg", "nonneg", "UnitNorm", "unit_norm", "unitnorm",
      "MinMaxNorm", "min_max_norm"),
    {"class_name": "MaxNorm", "config": {"max_value": 1.5, "axis": [0, 1, 2, 4]}},
    {"class_name": "UnitNorm", "config": {"axis": [1, 3]}},
    {"class_name": "MinMaxNorm", "config": {"min_value": 2.0, "max_value": 3.0, "rate": 0.25, "axis": 1}},
    {"class_name": "MinMaxNorm", "config": {"min_value": 3.0, "max_value": 2.0}},
]  # fmt: skip

INITIALIZERS = [
    *("Zeros", "Ones", "Constant", "RandomUniform", "RandomNormal", "TruncatedNormal", "VarianceScaling", "Orthogonal",
      "Identity", "GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal"),
    *("zeros", "ones", "constant", "random_uniform", "random_normal", "truncated_normal", "variance_scaling",
      "orthogonal", "identity", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
      "lecun_normal"),
    *("ZerosV2", "OnesV2", "ConstantV2", "RandomUniformV2", "RandomNormalV2", "TruncatedNormalV2",
      "VarianceScalingV2", "OrthogonalV2", "IdentityV2", "GlorotUniformV2", "GlorotNormalV2", "HeUniformV2",
      "HeNormalV2", "LecunUniformV2", "LecunNormalV2"),
    *("glorot_normalV2", "glorot_uniformV2", "he_normalV2", "he_uniformV2", "lecun_normalV2", "lecun_uniformV2"),
    *("normal", "uniform", "one", "zero"),
    {"class_name": "VarianceScaling", "config": {"scale": 2, "mode": "fan_out", "distribution": "NORMAL", "seed": 4}},
    {"class_name": "RandomNormal", "config": {"mean": 1, "dtype": "float32"}},
    {"class_name": "he_normal", "config": {"seed": 5}},
]  # fmt: skip

FAN_SHAPES = [[], [4], [2, 3], [5, 6, 7], [3, 4, 5, 6, 7], [1, 1, 1, 2, 9]]

RESULTS = [
    {"kernel_size": kernel, "strides": strides, "padding": padding, "output_padding": extra}
    for kernel, strides, padding, extra in (
        (3, 2, "same", None), (3, 2, "valid", None), (2, 3, "valid", None), (2, 3, "same", None),
        (3, 2, "valid", 1), (3, 2, "same", 0), (5, 2, "same", 1), (4, 2, "same", 1), (1, 1, "valid", None),
        ([1, 2, 3], [3, 2, 1], "same", None), ([4, 1, 3], [1, 2, 2], "valid", [0, 1, 0]), (3, 1, "same", 0),
    )
]  # fmt: skip

FORWARD = [
    {"strides": strides, "padding": padding, "dilation_rate": dilation}
    for strides, padding, dilation in (
        (1, "valid", 1), (2, "valid", 1), (2, "same", 1), (3, "same", 1), (1, "same", 2), ([1, 2, 3], "same", 1),
    )
]  # fmt: skip

SHAPES = [
    {"kernel_size": kernel, "strides": strides, "padding": padding, "output_padding": extra}
    for kernel, strides, padding in itertools.product((1, 2, 3, 4), (1, 2, 3), ("valid", "same"))
    for extra in (None, *range(strides))
]


def whole(shape: tuple[int, ...], start: int = 0) -> np.ndarray:
    """Small whole numbers, the same in the tests."""
    values = (np.arange(start, start + np.prod(shape)) * 7) % 11 - 5
    return values.reshape(shape).astype(np.float32)


def plain(value: object) -> object:
    """Return the value as JSON holds it."""
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
        return np.asarray(value).tolist()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def arguments(given: dict) -> dict:
    """Return what Keras takes: it wants some lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def config_of(given: dict) -> dict:
    keras.backend.clear_session()
    return {"arguments": given, "config": plain(Layer(**arguments(json.loads(json.dumps(given)))).get_config())}


def activation_of(name: str, given: dict) -> dict:
    x = tf.constant([GRID, GRID[::-1]], tf.float32)
    if name[0].isupper():
        function = getattr(keras.layers, name)(**given)
    else:
        function = lambda x: keras.activations.get(name)(x, **given)  # noqa: E731
    return {"name": name, "arguments": given, "values": plain(function(x)[0])}


def regularizer_of(identifier: object) -> dict:
    regularizer = keras.regularizers.get(json.loads(json.dumps(identifier)))
    value = regularizer(tf.constant(whole((3, 4))))
    return {"identifier": identifier, "config": plain(keras.regularizers.serialize(regularizer)), "value": plain(value)}


def constraint_of(identifier: object) -> dict:
    constraint = keras.constraints.get(json.loads(json.dumps(identifier)))
    values = constraint(tf.constant(whole((2, 1, 2, 2, 3))))
    return {
        "identifier": identifier,
        "config": plain(keras.constraints.serialize(constraint)),
        "values": plain(tf.reshape(values, -1)),
    }


def radial_of(n: int) -> dict:
    values = keras.constraints.RadialConstraint()(tf.constant(whole((n, n, 2, 1))))
    return {"n": n, "values": plain(tf.reshape(values, -1))}


def initializer_of(identifier: object) -> dict:
    initializer = keras.initializers.get(json.loads(json.dumps(identifier)))
    return {"identifier": identifier, "config": plain(keras.initializers.serialize(initializer))}


def fans_of(shape: list) -> list:
    from keras.initializers.initializers_v2 import _compute_fans

    return [shape, *_compute_fans(shape)]


def result_of(given: dict) -> dict:
    layer = Layer(filters=2, **arguments(given))
    x = whole((1, 2, 3, 2, 2))
    layer.build(x.shape)
    layer.set_weights([whole(layer.kernel.shape, 3), np.array([1.0, -2.0], np.float32)])
    y = np.asarray(layer(x))
    return {"arguments": given, "shape": list(y.shape), "values": [int(value) for value in y.ravel()]}


def forward_of(given: dict) -> dict:
    layer = Layer(filters=1, kernel_size=1, **arguments(given))
    y = np.asarray(layer.convolution_op(whole((1, 5, 4, 6, 2)), whole((2, 3, 2, 2, 1), 3)))
    return {"arguments": given, "shape": list(y.shape), "values": [int(value) for value in y.ravel()]}


def shape_of(given: dict) -> dict:
    layer = Layer(filters=3, **given)
    return {"arguments": given, "shape": layer.compute_output_shape((None, 1, 5, None, 4)).as_list()}


def losses() -> list:
    """Return the losses of a layer with every kind of them, in Keras's order."""
    slope = keras.layers.PReLU(alpha_regularizer="l1", alpha_initializer="ones")
    layer = Layer(
        2, 2, activation=slope, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l1",
        kernel_initializer="ones", bias_initializer="ones",
    )  # fmt: skip
    layer(tf.constant(whole((2, 2, 2, 2, 1))))
    layer.add_loss(lambda: tf.constant(7.0))
    return plain(layer.losses)


def main() -> None:
    parameters = inspect.signature(Layer.__init__).parameters
    found = {
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "signature": [
            [name, None if it.default is it.empty else plain(it.default)]
            for name, it in parameters.items()
            if name not in ("self", "kwargs")
        ],
        "configs": [config_of(given) for given in CONFIGS],
        "grid": GRID,
        "activations": [activation_of(name, given) for name, given in ACTIVATIONS],
        "regularizers": [regularizer_of(identifier) for identifier in REGULARIZERS],
        "constraints": [constraint_of(identifier) for identifier in CONSTRAINTS],
        "radial": [radial_of(n) for n in (2, 3, 4, 5, 6)],
        "initializers": [initializer_of(identifier) for identifier in INITIALIZERS],
        "fans": [fans_of(shape) for shape in FAN_SHAPES],
        "results": [result_of(given) for given in RESULTS],
        "forward": [forward_of(given) for given in FORWARD],
        "shapes": [shape_of(given) for given in SHAPES],
        "losses": losses(),
    }
    lines = []
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            inner = ",\n  ".join(json.dumps(item) for item in value)
            lines.append(f'"{name}": [\n  {inner}\n ]')
        else:
            lines.append(f'"{name}": {json.dumps(value)}')
    text = "{\n " + ",\n ".join(lines) + "\n}\n"
    json.loads(text)
    Path(__file__).with_name("keras29.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
