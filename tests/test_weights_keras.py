"""Does a layer come out of Keras's files as Keras put it in?  Files of real Keras 2.9, 2.12 and 3."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from conv3dt.errors import ArgumentError, DataError, InputMissingError
from conv3dt.weights import Weights, read_weights, write_weights
from conv3dt.weights.keras_config import (
    KERAS3_HARD_SIGMOID,
    layer_arguments,
    layers_in,
    read_layer_config,
    snake_case,
    translated,
)  # fmt: skip
from tests.test_weights import DATA, check, pattern

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
"""Of Keras's own way to NumPy."""

SHAPES = {
    "up": ((2, 3, 4, 3, 2), 2), "decoder/up": ((1, 2, 3, 2, 2), 3), "decoder/more": ((2, 2, 2, 2, 2), 5),
    "outer up": ((2, 1, 2, 2, 1), 6), "last": ((1, 1, 1, 1, 2), 7), "first": ((1, 2, 2, 2, 1), 8),
    "second": ((2, 1, 1, 3, 2), 10), "single": ((2, 2, 2, 2, 3), 11), "down": ((3, 3, 3, 1, 2), 1),
} | {f"z{n}": ((1, 1, 2, 1, 1), 20 + n) for n in range(6)}  # fmt: skip
"""Shapes of kernels and what their patterns begin with, as in ``make_tf.py``."""


def expect(found: Weights, layer: str, bias: bool = True) -> None:
    shape, seed = SHAPES[layer]
    check(found, pattern(*shape, seed=seed), pattern(shape[3], seed=seed + 50) if bias else None)


@pytest.mark.parametrize("name", ["tf29_plain.h5", "tf212_hdf5.keras", "tf212_plain.keras", "tf29_plain.h5:/up"])
def test_the_only_transposed_layer_of_a_model_is_taken_with_its_configuration(name: str) -> None:
    found = read_weights(f"{DATA}/{name}")
    expect(found, "up")
    version = "2.9.0" if "29" in name else "2.12.0"
    assert found.layout == f"(k1, k2, k3, filters, channels): layer up of a model saved by Keras {version}"
    assert found.config == {
        "name": "up", "trainable": True, "dtype": "float32", "filters": 3, "kernel_size": (2, 3, 4),
        "strides": (2, 2, 2), "padding": "same", "data_format": "channels_last", "groups": 1, "activation": "relu",
        "use_bias": True, "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "bias_initializer": {"class_name": "Zeros", "config": {}}, "kernel_regularizer": None,
        "bias_regularizer": None, "activity_regularizer": None, "kernel_constraint": None, "bias_constraint": None,
        "output_padding": None,
    }  # fmt: skip


@pytest.mark.parametrize("file", ["tf29_nested.h5", "tf212_nested.keras"])
@pytest.mark.parametrize(
    ("name", "layer", "strides"),
    [("up", "outer up", (2, 1, 2)), ("decoder/up", "decoder/up", (1, 2, 3)), ("more", "decoder/more", (1, 1, 1)),
     ("decoder/more", "decoder/more", (1, 1, 1)), ("last", "last", (1, 1, 1))],
)  # fmt: skip
def test_layers_in_models_in_models(file: str, name: str, layer: str, strides: tuple[int, int, int]) -> None:
    found = read_weights(f"{DATA}/{file}:/{name}")
    expect(found, layer, bias=layer != "decoder/more")
    assert found.config is not None
    assert found.config["strides"] == strides
    assert found.config["activation"] == ("hard_sigmoid" if layer == "decoder/more" else "linear"), "Keras 2's own"
    if name == "last":
        assert found.config["kernel_regularizer"] == {"class_name": "L2", "config": {"l2": pytest.approx(0.01)}}


@pytest.mark.parametrize("file", ["tf29_nested.h5", "tf212_nested.keras"])
def test_of_several_layers_one_must_be_named(file: str) -> None:
    with pytest.raises(
        DataError, match=r"several Conv3DTranspose layers: up, decoder/up, decoder/more, last; name"
    ) as r:
        read_weights(f"{DATA}/{file}")
    assert str(r.value).endswith(f"name one as {DATA}/{file}:/name")
    with pytest.raises(InputMissingError, match="no Conv3DTranspose layer none; there are up, decoder/up"):
        read_weights(f"{DATA}/{file}:/none")
    with pytest.raises(DataError, match="layer mix is a Conv3D, not a Conv3DTranspose"):
        read_weights(f"{DATA}/{file}:/mix")


@pytest.mark.parametrize("n", range(6))
def test_layers_are_counted_as_numbers(n: int) -> None:
    """Their groups are conv3d_transpose, _2, _4, ... _10: as texts, _10 would come before _2."""
    expect(read_weights(f"{DATA}/tf212_many.keras:/z{n}"), f"z{n}")


@pytest.mark.parametrize(
    ("path", "layer"),
    [("tf29_plain.weights.h5:/up", "up"), ("tf29_single.weights.h5", "single"),
     ("tf29_single.weights.h5:/up", "single"),
     ("tf29_subclassed.weights.h5:/first", "first"), ("tf29_subclassed.weights.h5:/net/second", "second"),
     ("tf29_plain.weights.h5:/up/up/kernel:0", "up"), ("tf29_plain.weights.h5:/up/up", "up"),
     ("tf29_plain.h5:/model_weights/up/up/kernel:0", "up"),
     ("tf212_subclassed.weights.h5:/a", "first"), ("tf212_subclassed.weights.h5:/blocks/conv3d_transpose", "second"),
     ("tf212_subclassed.weights.h5:/conv3d_transpose", "second"), ("tf212_subclassed.weights.h5:/a/vars/0", "first")],
)  # fmt: skip
def test_weights_alone(path: str, layer: str) -> None:
    found = read_weights(f"{DATA}/{path}")
    expect(found, layer)
    assert found.config is None


def test_weights_alone_say_that_they_do_not_know() -> None:
    assert "does not say that it is transposed" in read_weights(f"{DATA}/tf29_single.weights.h5").layout
    with pytest.raises(DataError, match=r"does not say which kernels are transposed; .*:/name; there are down, up"):
        read_weights(f"{DATA}/tf29_plain.weights.h5")
    with pytest.raises(InputMissingError, match="no layer none with a kernel of five axes; there are net/first"):
        read_weights(f"{DATA}/tf29_subclassed.weights.h5:/none")
    with pytest.raises(DataError, match=r"several layers have .* five axes: a, blocks/conv3d_transpose; name one"):
        read_weights(f"{DATA}/tf212_subclassed.weights.h5")
    with pytest.raises(DataError, match="layer blocks/conv3d is a Conv3D, not a Conv3DTranspose"):
        read_weights(f"{DATA}/tf212_subclassed.weights.h5:/blocks/conv3d")


def test_the_name_of_a_file_says_nothing(tmp_path: Path) -> None:
    for source, name in (("tf212_plain.keras", "a.h5"), ("tf29_plain.h5", "a.keras"), ("tf29_plain.h5", "b")):
        (tmp_path / name).write_bytes((DATA / source).read_bytes())
        expect(read_weights(str(tmp_path / name)), "up")


def test_the_layout_is_keras_own() -> None:
    expect(read_weights(f"{DATA}/tf29_plain.h5", "keras"), "up")
    for name in ("tf29_plain.h5", "tf212_plain.keras", "tf29_single.weights.h5", "tf212_subclassed.weights.h5:/a"):
        with pytest.raises(ArgumentError, match="layout torch cannot be: a Keras file says itself"):
            read_weights(f"{DATA}/{name}", "torch")
    with pytest.raises(ArgumentError, match="layout must be keras or torch, got 'tf'"):
        read_weights(f"{DATA}/tf29_plain.h5", "tf")


def test_names_split_over_several_attributes(tmp_path: Path) -> None:
    """As Keras writes lists of names that are too long for one attribute."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"down"], [b"up"]
        for name, (shape, seed) in {"down": SHAPES["down"], "up": SHAPES["up"]}.items():
            group = file.create_group(name)
            group.attrs["weight_names0"], group.attrs["weight_names1"] = [f"{name}/kernel:0"], [f"{name}/bias:0"]
            group[f"{name}/kernel:0"] = pattern(*shape, seed=seed)
            group[f"{name}/bias:0"] = pattern(shape[3], seed=seed + 50)
    expect(read_weights(f"{tmp_path}/a.h5:/up"), "up")


# The Keras that is installed.


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return keras


def model_of(keras: Any, *layers: Any, channels: int = 2) -> Any:
    model = keras.Sequential([keras.Input((None, None, None, channels)), *layers])
    for n, layer in enumerate(layers):
        layer.set_weights([pattern(*weight.shape, seed=n + 50 * i) for i, weight in enumerate(layer.get_weights())])
    return model


def save(model: Any, path: Path) -> str:
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return str(path)


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_keras_3_is_spelled_as_keras_2(keras: Any, tmp_path: Path, name: str) -> None:
    layer = keras.layers.Conv3DTranspose(
        3, (2, 3, 1), strides=(2, 3, 1), padding="same", output_padding=(1, 0, 0), activation="hard_sigmoid", name="up",
        kernel_regularizer="l2",
    )  # fmt: skip
    found = read_weights(save(model_of(keras, layer), tmp_path / name))
    check(found, pattern(2, 3, 1, 3, 2, seed=0), pattern(3, seed=50))
    assert found.layout.startswith("(k1, k2, k3, filters, channels): layer up of a model saved by Keras 3.")
    assert found.config == {
        "name": "up", "trainable": True, "dtype": "float32", "filters": 3, "kernel_size": (2, 3, 1),
        "strides": (2, 3, 1), "padding": "same", "output_padding": (1, 0, 0), "data_format": "channels_last",
        "activation": KERAS3_HARD_SIGMOID, "use_bias": True,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "bias_initializer": {"class_name": "Zeros", "config": {}},
        "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}},
        "bias_regularizer": None, "activity_regularizer": None, "kernel_constraint": None, "bias_constraint": None,
    }  # fmt: skip


def test_activations_and_types_of_keras_3(keras: Any, tmp_path: Path) -> None:
    layers = [
        keras.layers.Conv3DTranspose(1, 1, activation=keras.layers.LeakyReLU(0.1), name="leaky"),
        keras.layers.Conv3DTranspose(1, 1, activation="mish", name="mish", dtype="mixed_float16"),
        keras.layers.Conv3DTranspose(1, 1, activation="leaky_relu", name="plain", dilation_rate=(2, 1, 1)),
        keras.layers.Conv3DTranspose(1, 1, name="none", kernel_initializer=keras.initializers.RandomNormal(seed=3)),
    ]
    path = save(model_of(keras, *layers), tmp_path / "a.keras")
    told = {name: read_weights(f"{path}:/{name}").config or {} for name in ("leaky", "mish", "plain", "none")}
    assert told["leaky"]["activation"]["class_name"] == "LeakyReLU"
    assert told["leaky"]["activation"]["config"]["alpha"] == pytest.approx(0.1)
    assert told["leaky"]["activation"]["config"]["dtype"] == "float32"
    assert told["mish"]["activation"] == "mish", "which is the caller's to refuse"
    assert told["mish"]["dtype"] == {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    assert told["plain"]["activation"] == "leaky_relu"
    assert told["plain"]["dilation_rate"] == (2, 1, 1)
    assert "dilation_rate" not in told["none"]
    assert told["none"]["activation"] == "linear"
    assert told["none"]["kernel_initializer"]["config"] == {"mean": 0.0, "stddev": 0.05, "seed": 3}


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a.weights.h5"])
def test_half_precision_is_widened(keras: Any, tmp_path: Path, name: str) -> None:
    kinds = ["float16"] if name == "a.h5" else ["bfloat16", "float16"]
    layers = [keras.layers.Conv3DTranspose(2, 2, name=kind, dtype=kind) for kind in kinds]
    path = save(model_of(keras, *layers), tmp_path / name)
    for n, kind in enumerate(kinds):
        found = read_weights(f"{path}:/{kind}")
        assert found.kernel.dtype == np.float32
        check(found, pattern(2, 2, 2, 2, 2, seed=n), pattern(2, seed=n + 50))


def nested(keras: Any) -> Any:
    """Layers in a model in a model, in a wrapper, and two of one name."""
    layers = keras.layers
    tail = keras.Input((None, None, None, 2), name="tail")
    inner = keras.Model(tail, layers.Conv3DTranspose(2, (1, 2, 3), name="up")(layers.Conv3D(2, 1)(tail)), name="inner")
    scan = keras.Input((None, None, None, 1), name="scan")
    x = layers.Conv3DTranspose(2, (2, 1, 2), name="up")(layers.Conv3D(1, 1)(scan))
    x = layers.Conv3DTranspose(1, 1, name="last")(layers.Activation("relu")(inner(x)))
    model = keras.Model(scan, x, name="outer")
    for layer, seed in ((inner.get_layer("up"), 3), (model.get_layer("up"), 6), (model.get_layer("last"), 7)):
        layer.set_weights([pattern(*w.shape, seed=seed + 50 * n) for n, w in enumerate(layer.get_weights())])
    return model


def without_names(source: str, target: Path) -> str:
    """An archive as earlier Keras 3 wrote it: without the layers' names in the weights."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".h5"):
                target.with_suffix(".h5").write_bytes(content)
                with h5py.File(target.with_suffix(".h5"), "r+") as file:
                    file.visititems(lambda _, node: node.attrs.pop("name", None) and None)
                content = target.with_suffix(".h5").read_bytes()
            new.writestr(name, content)
    return str(target)


@pytest.mark.parametrize("named", [True, False])
def test_models_in_models_of_keras_3(keras: Any, tmp_path: Path, named: bool) -> None:
    path = save(nested(keras), tmp_path / "a.keras")
    path = path if named else without_names(path, tmp_path / "b.keras")
    for name, layer in (("up", "outer up"), ("inner/up", "decoder/up"), ("last", "last")):
        expect(read_weights(f"{path}:/{name}"), layer)
    legacy = save(nested(keras), tmp_path / "a.h5")
    for name, layer in (("up", "outer up"), ("inner/up", "decoder/up"), ("last", "last")):
        expect(read_weights(f"{legacy}:/{name}"), layer)


def test_weights_alone_of_keras_3_tell_names(keras: Any, tmp_path: Path) -> None:
    path = save(nested(keras), tmp_path / "a.weights.h5")
    expect(read_weights(f"{path}:/last"), "last")
    expect(read_weights(f"{path}:/layers/functional/layers/conv3d_transpose"), "decoder/up")
    with pytest.raises(DataError, match=r"several layers .*layers/conv3d_transpose \(up\)"):
        read_weights(f"{path}:/up")


def test_a_layer_in_a_wrapper(keras: Any, tmp_path: Path) -> None:
    up = keras.layers.Conv3DTranspose(2, (1, 2, 3), name="up")
    model = keras.Sequential([keras.Input((2, 3, 3, 3, 2)), keras.layers.TimeDistributed(up, name="each")])
    up.set_weights([pattern(1, 2, 3, 2, 2, seed=3), pattern(2, seed=53)])
    for name in ("a.keras", "a.h5"):
        expect(read_weights(save(model, tmp_path / name)), "decoder/up")
    expect(read_weights(without_names(str(tmp_path / "a.keras"), tmp_path / "b.keras")), "decoder/up")


# What contradicts, or is damaged.


def archived(target: Path, *, config: Any = None, metadata: Any = None, shape: tuple[int, ...] | None = None) -> str:
    """A real archive with one part replaced."""
    with zipfile.ZipFile(DATA / "tf212_plain.keras") as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json" and config is not None:
                content = config if isinstance(config, bytes) else json.dumps(config).encode()
            if name == "metadata.json" and metadata is not None:
                content = metadata
            if name.endswith(".h5") and shape is not None:
                target.with_suffix(".h5").write_bytes(content)
                with h5py.File(target.with_suffix(".h5"), "r+") as file:
                    group = file["_layer_checkpoint_dependencies/conv3d_transpose/vars"]
                    del group["0"]
                    group["0"] = np.ones(shape, np.float32)
                content = target.with_suffix(".h5").read_bytes()
            new.writestr(name, content)
    return str(target)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shape": (1, 3, 4, 3, 2)}, r"the kernel is 1x3x4, but its layer says kernel_size \(2, 3, 4\)"),
        ({"shape": (2, 3, 4, 2, 2)}, "the kernel has 2 filters, but its layer says filters 3"),
        (
            {"shape": (2, 3)},
            "the weights of layer up cannot be told from those of others; there are none|_dependencies/conv3d$",
        ),
        ({"config": b"{"}, "config.json: cannot be read as JSON"),
        ({"config": b"\xff\xfe\xff"}, "config.json: cannot be read as JSON"),
        ({"config": b"[" * 100_000}, "config.json: the JSON is nested too deeply"),
        ({"config": b'{"layers":' * 100_000}, "config.json: the JSON is nested too deeply"),
        (
            {"config": {"class_name": "Sequential", "config": {"layers": [1, None, {"class_name": 5}]}}},
            "several layers",
        ),
        ({"config": 5}, "several layers have a kernel|holds"),
        ({"metadata": b"{"}, "metadata.json: cannot be read as JSON"),
        ({"metadata": b" " * (2**24 + 1)}, "metadata.json unpacks to 16777217 bytes, more than it can have"),
    ],
)
def test_archives_that_contradict_themselves(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    try:
        found = read_weights(archived(tmp_path / "a.keras", **changes))
    except DataError as refusal:
        assert str(refusal).startswith(f"weights {tmp_path}/a.keras")
        assert len(str(refusal).splitlines()) == 1
        assert re.search(text, str(refusal)), refusal
        return
    assert "several layers" in text, "a model without a configuration may still have one kernel that is not forward"
    assert found.config is None
    expect(found, "up")


def test_a_bias_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes((DATA / "tf29_plain.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["model_weights/up/up/bias:0"]
    with pytest.raises(DataError, match="the layer has a bias, but the file does not hold it"):
        read_weights(str(path))
    with h5py.File(path, "r+") as file:
        del file["model_weights/up/up/kernel:0"]
    with pytest.raises(DataError, match="the weights up/kernel:0 are listed but are not there"):
        read_weights(str(path))
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
    with pytest.raises(DataError, match="holds a model without its weights"):
        read_weights(str(path))


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [
        ("model_config", "{", "model_config: cannot be read as JSON"),
        ("model_config", b"\xff\xff", "model_config: cannot be read as JSON"),
        ("model_config", 5, "model_config: cannot be read as JSON"),
        ("model_config", "[" * 30_000, "nested too deeply"),
        ("model_config", '{"class_name": "Sequential", "config": []}', "holds no Conv3DTranspose layer"),
    ],
)
def test_models_with_strange_configurations(tmp_path: Path, attribute: str, value: Any, text: str) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes((DATA / "tf29_plain.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs[attribute] = value
    with pytest.raises(DataError, match=text):
        read_weights(str(path))


@pytest.mark.parametrize("value", [5, [1, 2], [b"\xff"], np.empty(0), h5py.Empty("f")])
@pytest.mark.parametrize("where", ["layer_names", "weight_names"])
def test_models_with_strange_names(tmp_path: Path, where: str, value: Any) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes((DATA / "tf29_plain.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        node = file["model_weights"] if where == "layer_names" else file["model_weights/up"]
        node.attrs[where] = value
    with pytest.raises(DataError, match=r"not a list of names|listed but are not there|0 kernels could be its"):
        read_weights(f"{path}:/up")


# Configurations by themselves.


LAYER = {"filters": 3, "kernel_size": [2, 3, 4], "strides": [2, 2, 2], "name": "up"}
TOLD = {"filters": 3, "kernel_size": (2, 3, 4), "strides": (2, 2, 2), "name": "up"}


@pytest.mark.parametrize(
    "config",
    [
        LAYER,
        {"class_name": "Conv3DTranspose", "config": LAYER},
        {"class_name": "Convolution3DTranspose", "config": LAYER},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Conv3DTranspose", "config": LAYER}]}},
        {"class_name": "Sequential", "config": [{"class_name": "Conv3DTranspose", "config": LAYER}]},
        {"name": "model", "layers": [{"class_name": "Conv3DTranspose", "config": LAYER}]},
        {"module": "keras", "class_name": "Conv3DTranspose", "config": LAYER, "registered_name": None},
    ],
)
@pytest.mark.parametrize("suffix", ["", ":/up"])
def test_a_layer_in_a_json_file(tmp_path: Path, config: Any, suffix: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert read_layer_config(f"{path}{suffix}") == TOLD
    assert layer_arguments(config, "layer") == TOLD


def test_json_of_real_models(keras: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(nested(keras).to_json())
    assert read_layer_config(f"{tmp_path}/a.json:/inner/up")["kernel_size"] == (1, 2, 3)
    with pytest.raises(DataError, match=r"layer .*a\.json: holds several Conv3DTranspose layers: up, inner/up, last"):
        read_layer_config(f"{tmp_path}/a.json")
    layer = keras.layers.Conv3DTranspose(3, 2, activation="hard_sigmoid")
    assert layer_arguments(layer.get_config(), "layer")["activation"] == KERAS3_HARD_SIGMOID


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "cannot be read as JSON"),
        (b"{", "cannot be read as JSON"),
        (b"\xff\xff", "cannot be read as JSON"),
        (b"[" * 10**6, "nested too deeply"),
        (b" " * (2**24 + 1), "more than a configuration has"),
        (b"5", "holds no Conv3DTranspose layer"),
        (b'{"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": {}}]}}',
         "holds no Conv3DTranspose layer; its layers are Sequential, Dense"),
        (b"PK\x03\x04", "is a file of weights, not JSON; give it as weights"),
    ],
)  # fmt: skip
def test_json_that_is_no_layer(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=text) as refusal:
        read_layer_config(str(path))
    assert len(str(refusal.value).splitlines()) == 1
    for missing in (tmp_path / "none.json", tmp_path, tmp_path / ("a" * 300), "a\0.json"):
        with pytest.raises(InputMissingError):
            read_layer_config(str(missing))


def test_a_configuration_stays_as_it_is() -> None:
    """And what Keras 2 calls hard_sigmoid is not taken for Keras 3's."""
    config = {**LAYER, "activation": "hard_sigmoid", "dilation_rate": [1, 1, 1], "groups": 1}
    before = json.dumps(config)
    assert translated(config, "")["activation"] == "hard_sigmoid"
    assert translated(config, "2.15.0")["activation"] == "hard_sigmoid"
    assert translated(config, "3.0.1")["activation"] == KERAS3_HARD_SIGMOID
    assert "dilation_rate" not in translated(config, "")
    assert json.dumps(config) == before


def test_a_wide_and_deep_configuration_takes_little_time() -> None:
    deep: Any = {"class_name": "Conv3DTranspose", "config": LAYER}
    for n in range(300):
        deep = {"class_name": "Model", "config": {"name": f"m{n}", "layers": [deep] * 2 if n < 12 else [deep]}}
    layers = layers_in(deep)
    assert sum(layer.is_transposed for layer in layers) == 2**12


def test_classes_are_spelled_as_keras_spells_them(keras: Any) -> None:
    from keras.src.utils.naming import to_snake_case

    for name in ("Conv3DTranspose", "LeakyReLU", "TimeDistributed", "PReLU", "My>Conv3D", "UNet3D", "ABCDef"):
        assert snake_case(name) == to_snake_case(name)


def test_configurations_are_read_without_numpy_or_torch() -> None:
    code = (
        "import sys; from conv3dt.weights.keras_config import layer_arguments as f; f({'filters': 1}, 'x');"
        "assert not {'numpy', 'torch', 'h5py'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Into Keras's files.


def own(**config: Any) -> Weights:
    kernel: NDArray[np.float32] = pattern(2, 3, 4, 3, 2, seed=1) / np.float32(7)
    told = {"name": "up", "strides": (2, 1, 2), "padding": "same", "activation": "relu"} | config
    return Weights(kernel, pattern(3, seed=2), "memory", "array", "", told)


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a.hdf5"])
def test_keras_loads_what_is_written(keras: Any, tmp_path: Path, name: str) -> None:
    weights = own(kernel_regularizer={"class_name": "L2", "config": {"l2": 0.5}}, use_bias=True)
    path = tmp_path / name
    assert write_weights(weights, str(path)) == []
    if name == "a.hdf5":
        path = path.rename(tmp_path / "b.h5")
    layer = keras.models.load_model(path, compile=False).layers[-1]
    assert layer.name == "up"
    for got, wanted in zip(layer.get_weights(), (weights.kernel, weights.bias), strict=True):
        np.testing.assert_array_equal(got, wanted)
    config = layer.get_config()
    assert (config["strides"], config["padding"], config["activation"]) == ((2, 1, 2), "same", "relu")
    assert config["kernel_regularizer"]["config"] == {"l2": 0.5}


@pytest.mark.parametrize(
    ("name", "activation", "written", "lost"),
    [
        ("a.keras", KERAS3_HARD_SIGMOID, KERAS3_HARD_SIGMOID, []),
        ("a.keras", "hard_sigmoid", "linear", ["Keras 3 has no hard_sigmoid of Keras 2.9: .* written as linear"]),
        ("a.h5", "hard_sigmoid", "hard_sigmoid", []),
        ("a.h5", KERAS3_HARD_SIGMOID, "linear", ["Keras 2.9 has no hard_sigmoid of Keras 3: .* written as linear"]),
        ("a.keras", {"class_name": "LeakyReLU", "config": {"alpha": 0.1}},
         {"class_name": "LeakyReLU", "config": {"alpha": 0.1}}, []),
        ("a.h5", np.tanh, "linear", ["activation is not plain data and is left at Keras's default"]),
    ],
)  # fmt: skip
def test_what_the_other_version_does_not_have(
    keras: Any, tmp_path: Path, name: str, activation: Any, written: Any, lost: list[str]
) -> None:
    told = write_weights(own(activation=activation), str(tmp_path / name))
    assert len(told) == len(lost)
    for line, text in zip(told, lost, strict=True):
        assert re.search(text, line)
    found = read_weights(str(tmp_path / name))
    assert found.config is not None
    assert found.config["activation"] == written
    if name == "a.keras":
        keras.models.load_model(tmp_path / name, compile=False)
