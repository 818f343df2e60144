"""Is the layer that comes from a configuration, a layer object or an initializer the one that is computed?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import conv3dt
from conv3dt.errors import ArgumentError, Conv3dtError, DataError
from conv3dt.request import LayerRequest
from tests.conftest import Run, load, save_nifti
from tests.oracle import Law, transposed

KERNEL = np.random.default_rng(0).normal(size=(3, 2, 4, 5, 2)).astype(np.float32)
BIAS = np.linspace(-1, 1, 5, dtype=np.float32)
VOLUME = np.random.default_rng(1).normal(size=(4, 5, 6, 2)).astype(np.float32)
LAWS = (Law(3, 2, padding="same"), Law(2, 1, padding="same"), Law(4, 2, padding="same"))
CONFIG = {
    "name": "up", "trainable": True, "dtype": "float32", "filters": 5, "kernel_size": (3, 2, 4), "strides": (2, 1, 2),
    "padding": "same", "data_format": "channels_last", "activation": "relu", "use_bias": True,
    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}}, "output_padding": None,
}  # fmt: skip


def expected() -> Any:
    return np.maximum(transposed(VOLUME, KERNEL, LAWS, bias=BIAS), 0)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    np.savez(tmp_path / "w.npz", kernel=KERNEL, bias=BIAS)
    return str(tmp_path / "w.npz")


@pytest.mark.parametrize("form", ["config", "class_name", "json", "model"])
def test_a_layer_is_its_configuration(form: str, tmp_path: Path, weights: str) -> None:
    """The channels are where the configuration says: nobody need say it again."""
    config: Any = CONFIG
    if form != "config":
        config = {"class_name": "Conv3DTranspose", "config": CONFIG}
    if form == "model":
        config = {"class_name": "Sequential", "config": {"name": "net", "layers": [config]}, "keras_version": "2.9.0"}
    if form == "json":
        (tmp_path / "layer.json").write_text(json.dumps(config), encoding="utf-8")
        config = str(tmp_path / "layer.json")
    out = conv3dt.upsample(VOLUME, layer=config, weights=weights)
    np.testing.assert_allclose(out, expected(), rtol=1e-5, atol=1e-5)


def test_a_layer_object_brings_its_weights() -> None:
    layer = conv3dt.Conv3DTranspose.from_config(CONFIG)
    layer.build((None, None, None, None, 2))
    layer.set_weights([KERNEL, BIAS])
    out = conv3dt.upsample(VOLUME, layer=layer)
    np.testing.assert_allclose(out, expected(), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(out, layer(torch.from_numpy(VOLUME)[None])[0].numpy(), rtol=1e-5, atol=1e-5)


def test_a_layer_object_without_weights_needs_them() -> None:
    with pytest.raises(ArgumentError, match="layer needs weights: give a file or an array"):
        conv3dt.upsample(VOLUME, layer=conv3dt.Conv3DTranspose(2, 3))


@pytest.mark.parametrize(
    "activation",
    [
        {"class_name": "LeakyReLU", "config": {"name": "l", "trainable": True, "dtype": "float32", "alpha": 0.25}},
        {"class_name": "ReLU", "config": {"max_value": 2.0, "negative_slope": 0.5, "threshold": 1.0}},
        {"class_name": "ThresholdedReLU", "config": {"theta": 0.5}},
        {"class_name": "ELU", "config": {"alpha": 0.5}},
        {"class_name": "Softmax", "config": {"axis": -1}},
        "log_softmax_v2",
        "gelu",
    ],
    ids=str,
)
def test_activations_of_a_layer_are_those_of_the_module(activation: Any) -> None:
    layer = conv3dt.Conv3DTranspose.from_config(CONFIG | {"activation": activation})
    layer.build((None, None, None, None, 2))
    layer.set_weights([KERNEL, BIAS])
    with torch.no_grad():
        wanted = layer(torch.from_numpy(VOLUME)[None])[0].numpy()
    np.testing.assert_allclose(conv3dt.upsample(VOLUME, layer=layer), wanted, rtol=2e-5, atol=1e-5)


def test_what_is_said_by_itself_goes_before_the_layer() -> None:
    out = conv3dt.upsample(
        VOLUME, layer=CONFIG, weights=KERNEL, strides=1, padding="valid", activation="linear", use_bias=False
    )
    np.testing.assert_allclose(out, transposed(VOLUME, KERNEL, (Law(3), Law(2), Law(4))), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": CONFIG}, "layer needs weights: give a file or an array; .* kernel_initializer or seed"),
        ({"layer": CONFIG, "weights": KERNEL}, "hold no bias, but the layer has one; say --no-bias"),
        ({"layer": CONFIG, "weights": KERNEL[:2]}, r"kernel_size is \(2, 2, 4\), but \(3, 2, 4\) was asked for"),
        ({"layer": CONFIG, "weights": KERNEL[..., :3, :]}, "filters are 3, but 5 were asked for"),
        ({"layer": CONFIG, "scale": 2}, "scale cannot go with layer"),
        ({"layer": 7, "weights": KERNEL}, "layer must be a JSON file, a get_config.. dict or a Keras layer, got int"),
        ({"layer": "nowhere.json", "weights": KERNEL}, "nowhere.json: no such file"),
        ({"layer": CONFIG | {"activation": "relo"}, "weights": KERNEL}, "got 'relo'; did you mean relu"),
        (
            {"layer": CONFIG | {"activation": {"class_name": "Softmax", "config": {"axis": 1}}}, "weights": KERNEL},
            r"only over channels \(axis -1\)",
        ),
        ({"layer": CONFIG | {"strides": 2, "dilation_rate": 2}, "weights": KERNEL}, "cannot go with dilation_rate > 1"),
        ({"weights": KERNEL, "seed": 3}, "weights cannot go with seed; leave one of them out"),
        ({"weights": KERNEL, "activation": "relu(max_value=-1)"}, "max_value must not be negative"),
        ({"weights": KERNEL, "activation": "relu(6)"}, "numbers are given as name=number, got '6'"),
        ({"weights": KERNEL, "activation": "elu(slope=1)"}, "activation elu takes alpha, got slope=1.0"),
        ({"weights": KERNEL, "activation": "tanh(alpha=1)"}, "activation tanh takes no numbers"),
        ({"weights": KERNEL, "activation": 3}, "activation must be a name, a text such as"),
        ({"weights": KERNEL, "activation": "relu(alpha=nan)"}, "alpha must be a finite number"),
        ({"weights": KERNEL, "layout": "pytorch"}, "layout must be one of keras, torch, got 'pytorch'"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_layers_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Conv3dtError, match=message):
        LayerRequest(**arguments).concrete(2)


# Weights that are drawn.


def test_drawn_weights_are_those_of_the_initializer() -> None:
    volume = VOLUME[..., :1]
    out = conv3dt.upsample(
        volume[..., 0], kernel_initializer="glorot_uniform", seed=7, filters=4, kernel_size=3, strides=2,
        padding="same", dtype="float64",
    )  # fmt: skip
    kernel = conv3dt.initializers.GlorotUniform(seed=7)((3, 3, 3, 4, 1)).numpy()
    np.testing.assert_allclose(out, transposed(volume, kernel, (Law(3, 2, padding="same"),) * 3), rtol=1e-6, atol=1e-9)


def test_the_channels_of_drawn_weights_are_the_volumes() -> None:
    layer = LayerRequest(kernel_initializer="he_normal", filters=4, kernel_size=3, seed=1).concrete(6)
    assert layer.kernel.shape == (3, 3, 3, 4, 6)
    assert layer.name == "HeNormal, seed 1"
    assert layer.bias is None


def test_without_a_seed_one_is_drawn_and_told() -> None:
    first = LayerRequest(kernel_initializer="glorot_uniform", kernel_size=3).concrete()
    name, _, seed = first.name.partition(", seed ")
    assert name == "GlorotUniform"
    again = LayerRequest(kernel_initializer="glorot_uniform", kernel_size=3, seed=int(seed)).concrete()
    assert np.array_equal(first.kernel, again.kernel)


def test_a_seed_draws_by_the_layers_own_initializers() -> None:
    config = CONFIG | {"bias_initializer": {"class_name": "RandomNormal", "config": {"mean": 1.0, "stddev": 0.1}}}
    layer = LayerRequest(layer=config, seed=2).concrete(2)
    assert (layer.kernel.shape, layer.name) == ((3, 2, 4, 5, 2), "GlorotUniform, seed 2")
    assert layer.bias is not None
    assert np.ptp(layer.bias) > 0
    assert LayerRequest(layer=config, seed=2, use_bias=False).concrete(2).bias is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_initializer": "glorot_unifrom"}, "glorot_unifrom.*did you mean glorot_uniform"),
        ({"kernel_initializer": "identity"}, "dentity"),
        ({"kernel_initializer": {"class_name": "HeNormal", "config": {"gain": 1}}}, "takes .*gain"),
        ({"kernel_initializer": "ones", "filters": 10**6}, "more than can be drawn"),
    ],
    ids=str,
)
def test_drawings_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Conv3dtError, match=message):
        LayerRequest(kernel_size=3, **arguments).concrete(1)


# Through the command.


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return save_nifti(tmp_path / "features.nii", VOLUME, np.diag([1.0, 1.0, 1.0, 1.0]))


def test_the_command_runs_a_configuration(run: Run, tmp_path: Path, weights: str, features: Path) -> None:
    (tmp_path / "layer.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    done = run(
        "upsample", features, tmp_path / "up.nii", "--layer", tmp_path / "layer.json", "--weights", weights, "--json"
    )
    assert done.code == 0, done.err
    np.testing.assert_allclose(load(tmp_path / "up.nii"), expected(), rtol=1e-5, atol=1e-5)
    assert done.json["layer"]["activation"] == "relu"
    assert "(k1, k2, k3, filters, channels)" in done.json["layer"]["layout"]


def test_the_command_draws_weights(run: Run, tmp_path: Path, features: Path) -> None:
    arguments = (
        "--channels-last", "--kernel-initializer", "glorot_uniform", "--seed", "7", "--filters", "4",
        "--kernel-size", "3",
    )  # fmt: skip
    assert run("upsample", features, tmp_path / "a.nii", *arguments).code == 0
    done = run("upsample", features, tmp_path / "b.nii", *arguments, "--json")
    assert done.json["layer"]["name"] == "GlorotUniform, seed 7"
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    assert load(tmp_path / "a.nii").shape == (6, 7, 8, 4)


def test_the_shape_of_a_configuration_takes_neither_weights_nor_torch(spawn: Run, tmp_path: Path) -> None:
    (tmp_path / "layer.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    done = spawn("shape", "64,64,64", "--layer", tmp_path / "layer.json", "--json")
    assert done.code == 0, done.err
    assert done.json["output"]["shape"] == [128, 64, 128, 5]
    program = (
        "import sys; from conv3dt_cli.main import main; sys.argv = ['conv3dt', 'shape', '64,64,64', '--layer', "
        f"{str(tmp_path / 'layer.json')!r}]\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'numpy', 'llvmlite', 'nibabel', 'h5py'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


def test_an_activation_with_numbers_is_told_in_the_report(
    run: Run, tmp_path: Path, features: Path, weights: str
) -> None:
    done = run(
        "upsample", features, tmp_path / "up.nii", "--channels-last", "--weights", weights, "--activation",
        "leaky_relu(alpha=0.5)", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["layer"]["activation"] == "leaky_relu(alpha=0.5)"
    sums = transposed(VOLUME, KERNEL, (Law(3), Law(2), Law(4)), bias=BIAS)
    np.testing.assert_allclose(load(tmp_path / "up.nii"), np.where(sums > 0, sums, sums / 2), rtol=1e-5, atol=1e-5)


def test_a_configuration_that_is_not_there_is_a_missing_input(run: Run, tmp_path: Path, features: Path) -> None:
    done = run("upsample", features, tmp_path / "up.nii", "--layer", tmp_path / "no.json", "--seed", "1")
    assert (done.code, done.complaint.endswith("no.json: no such file")) == (66, True)
    with pytest.raises(DataError, match="cannot be read as JSON"):
        (tmp_path / "bad.json").write_text("{", encoding="utf-8")
        LayerRequest(layer=tmp_path / "bad.json", seed=1).concrete()
