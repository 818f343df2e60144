"""What does a file not say, who says it then, and is that told?  Paddings of PyTorch, weights without a layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import conv3dt
from conv3dt.errors import ArgumentError, Conv3dtError, DataError
from conv3dt.request import LayerRequest
from tests.conftest import Run, load, only, save_nifti

VOLUME = np.random.default_rng(0).normal(size=(5, 4, 6, 2)).astype(np.float32)


def by_torch(layer: torch.nn.Module, volume: Any = VOLUME) -> Any:
    with torch.no_grad():
        out: Any = layer(torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, -1, 0)))[None])[0]
    return np.moveaxis(out.numpy(), 0, -1)


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.integers(1, 5), stride=st.integers(1, 3), padding=st.integers(0, 3), extra=st.integers(0, 2),
    bias=st.booleans(),
)  # fmt: skip
def test_a_padding_in_numbers_is_that_of_torch(kernel: int, stride: int, padding: int, extra: int, bias: bool) -> None:
    if extra >= stride or (4 - 1) * stride - 2 * padding + kernel + extra < 1:
        return
    layer = torch.nn.ConvTranspose3d(2, 3, kernel, stride, padding, extra, bias=bias)
    arguments: dict[str, Any] = {"strides": stride, "padding": padding, "output_padding": extra}
    weights = {name: value for name, value in layer.state_dict().items()}
    try:
        with only("transposed"):
            out = conv3dt.upsample(VOLUME, weights=weights, data_format="channels_last", dtype="float64", **arguments)
    except ArgumentError as error:
        assert "no Conv3DTranspose of Keras crops like that" in str(error)
        return
    np.testing.assert_allclose(out, by_torch(layer), rtol=1e-4, atol=1e-5)


def test_what_is_mapped_needs_no_weights() -> None:
    arguments: dict[str, Any] = {"kernel_size": 3, "strides": 2, "padding": 1, "output_padding": 1}
    assert conv3dt.output_shape((4, 5, 6), **arguments) == (8, 10, 12)
    assert LayerRequest(**arguments).config().kernel_size == (4, 4, 4)
    assert LayerRequest(**arguments | {"padding": "1,1,1"}).config() == LayerRequest(**arguments).config()
    with pytest.raises(ArgumentError, match=r"padding .3, 3, 3., output_padding .0, 0, 0.: no Conv3DTranspose"):
        LayerRequest(kernel_size=4, strides=2, padding=3).config()


def test_what_is_drawn_or_only_asked_about_is_mapped_too(run: Run, tmp_path: Path) -> None:
    """The header of a layer like torch's lies where its three taps lie, whoever makes the weights."""
    options = ("--kernel-size", "3", "--strides", "2", "--padding", "1", "--output-padding", "1")
    scan = save_nifti(tmp_path / "x.nii", VOLUME[..., 0], np.eye(4))
    done = run("upsample", scan, tmp_path / "y.nii", *options, "--seed", "3", "--json").json
    for asked in (scan, "5,4,6"):
        told = run("shape", asked, *options, "--json").json
        assert done["output"]["shape"] == told["output"]["shape"] == [10, 8, 12]
        assert [axis["shift"] for axis in done["axes"]] == [axis["shift"] for axis in told["axes"]] == [0, 0, 0]
    layer = LayerRequest(kernel_size=3, strides=2, padding=1, output_padding=1, seed=3).concrete()
    drawn = LayerRequest(kernel_size=3, seed=3).concrete()
    assert np.array_equal(layer.kernel[:3, :3, :3], drawn.kernel)
    assert not layer.kernel[3].any()


@pytest.fixture
def state(tmp_path: Path) -> tuple[torch.nn.ConvTranspose3d, str]:
    layer = torch.nn.ConvTranspose3d(2, 3, 3, 2, 1, 1)
    torch.save(layer.state_dict(), tmp_path / "net.pt")
    return layer, str(tmp_path / "net.pt")


def test_the_command_takes_torchs_words(run: Run, tmp_path: Path, state: tuple[Any, str]) -> None:
    layer, path = state
    scan = save_nifti(tmp_path / "x.nii", VOLUME, np.eye(4))
    done = run(
        "upsample", scan, tmp_path / "y.nii", "--channels-last", "--weights", path, "--strides", "2", "--padding", "1",
        "--output-padding", "1", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    np.testing.assert_allclose(load(tmp_path / "y.nii"), by_torch(layer), rtol=1e-4, atol=1e-5)
    assert done.json["layer"]["notes"][-1] == "zero taps added to the kernel: (0, 0, 0) before, (1, 1, 1) behind"
    assert [axis["shift"] for axis in done.json["axes"]] == [0, 0, 0]


def test_strides_that_nobody_says_are_warned_of(run: Run, tmp_path: Path, state: tuple[Any, str]) -> None:
    scan = save_nifti(tmp_path / "x.nii", VOLUME, np.eye(4))
    done = run("upsample", scan, tmp_path / "y.nii", "--channels-last", "--weights", state[1], "--json")
    assert done.json["warnings"] == ["strides are said nowhere, and 1 upsamples nothing; say --strides"]
    assert "weights alone: strides 1, padding valid, activation linear assumed" in done.json["layer"]["notes"][-1]
    done = run("upsample", scan, tmp_path / "z.nii", "--channels-last", "--weights", state[1], "--strides=2", "--json")
    assert done.json["warnings"] == []
    assert "weights alone: padding valid, activation linear assumed" in done.json["layer"]["notes"][-1]


def test_a_whole_layer_is_not_written_from_what_is_assumed(run: Run, tmp_path: Path, state: tuple[Any, str]) -> None:
    done = run("kernel", "convert", state[1], tmp_path / "a.keras")
    assert (done.code, "give --strides" in done.complaint) == (2, True)
    assert run("kernel", "convert", state[1], tmp_path / "a.keras", "--strides", "2").code == 0


@pytest.mark.parametrize("form", ["layer", "weights", "state", "tensor"])
def test_torchs_own_objects_are_taken_as_they_are(form: str) -> None:
    layer = torch.nn.ConvTranspose3d(2, 3, 4, 2, 1, bias=form != "tensor")
    ways: dict[str, dict[str, Any]] = {
        "layer": {"layer": layer},
        "weights": {"weights": layer},
        "state": {"weights": layer.state_dict(), "strides": 2, "padding": "same"},
        "tensor": {"weights": layer.weight, "strides": 2, "padding": "same"},
    }
    out = conv3dt.upsample(VOLUME, data_format="channels_last", **ways[form])
    np.testing.assert_allclose(out, by_torch(layer), rtol=1e-4, atol=1e-5)


def test_a_trained_layer_is_written_with_all_that_it_says(tmp_path: Path) -> None:
    layer = conv3dt.Conv3DTranspose(3, 3, strides=2, padding="same", activation="relu", name="up")
    with pytest.raises(DataError, match="weights up: the layer is not built"):
        conv3dt.write_weights(layer, str(tmp_path / "up.safetensors"))
    layer.build((None, None, None, None, 2))
    assert conv3dt.write_weights(layer, str(tmp_path / "up.safetensors")) == []
    out = conv3dt.upsample(VOLUME, weights=str(tmp_path / "up.safetensors"), data_format="channels_last")
    with torch.no_grad():
        np.testing.assert_allclose(out, layer(torch.from_numpy(VOLUME)[None])[0].numpy(), rtol=1e-4, atol=1e-5)


def test_an_argument_misspelt_in_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"filters": 1, "kernel_size": 3, "strdes": 2}), encoding="utf-8")
    with pytest.raises(Conv3dtError, match=r"c\.json: Conv3DTranspose takes no argument strdes; did you mean strides"):
        LayerRequest(layer=str(tmp_path / "c.json")).config()


def test_shape_and_upsample_agree_on_where_a_layers_channels_are(run: Run, tmp_path: Path) -> None:
    config = conv3dt.Conv3DTranspose(3, 3, strides=2, padding="same").get_config()
    (tmp_path / "c.json").write_text(json.dumps(config), encoding="utf-8")
    scan = save_nifti(tmp_path / "x.nii", VOLUME, np.eye(4))
    layer = ("--layer", tmp_path / "c.json")
    done = run("upsample", scan, tmp_path / "y.nii", *layer, "--seed", "1", "--json")
    for asked in ("5,4,6,2", scan):
        told = run("shape", asked, *layer, "--json").json
        assert told["output"]["shape"] == done.json["output"]["shape"] == [10, 8, 12, 3]
        assert told["layer"]["use_bias"]


# What is given is used, or refused.


def test_a_layout_that_is_said_is_the_one_that_is_read(tmp_path: Path) -> None:
    kernel = np.random.default_rng(1).normal(size=(2, 2, 2, 2, 2))
    np.save(tmp_path / "keras.npy", kernel)
    np.save(tmp_path / "torch.npy", kernel.transpose(4, 3, 0, 1, 2))
    arguments: dict[str, Any] = {"data_format": "channels_last", "strides": 2}
    wanted = conv3dt.upsample(VOLUME, weights=str(tmp_path / "keras.npy"), **arguments)
    out = conv3dt.upsample(VOLUME, weights=str(tmp_path / "torch.npy"), layout="torch", **arguments)
    assert np.array_equal(out, wanted)
    assert not np.array_equal(conv3dt.upsample(VOLUME, weights=str(tmp_path / "torch.npy"), **arguments), wanted)


@pytest.mark.parametrize("file", ["x.nii", "w.npz", "c.json"])
@pytest.mark.parametrize("command", ["shape", "upsample"])
def test_no_report_replaces_a_file_of_the_run(run: Run, tmp_path: Path, command: str, file: str) -> None:
    scan = save_nifti(tmp_path / "x.nii", VOLUME[..., 0], np.eye(4))
    np.savez(tmp_path / "w.npz", kernel=np.ones((2, 2, 2, 1, 1)))
    (tmp_path / "c.json").write_text(json.dumps({"filters": 1, "kernel_size": 2, "use_bias": False}), encoding="utf-8")
    before = (tmp_path / file).read_bytes()
    more = (tmp_path / "y.nii", "--overwrite") if command == "upsample" else ()
    done = run(
        command, scan, *more, "--weights", tmp_path / "w.npz", "--layer", tmp_path / "c.json", "--report",
        tmp_path / file,
    )  # fmt: skip
    assert (done.code, "is another file of this run" in done.complaint) == (2, True)
    assert (tmp_path / file).read_bytes() == before


def tanh(x: torch.Tensor) -> torch.Tensor:
    """Not what its name says."""
    return 3 * x


def built(**arguments: Any) -> conv3dt.Conv3DTranspose:
    return conv3dt.Conv3DTranspose(1, 2, input_shape=(None, None, None, 2), **arguments)


class Conv3D:
    """A layer that is none of ours."""

    def get_config(self) -> dict[str, Any]:
        return {"filters": 1, "kernel_size": 2}

    def get_weights(self) -> list[Any]:
        return [np.ones((2, 2, 2, 2, 1)), np.ones(1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": built(activation=tanh)}, "its activation tanh is a function that only the layer itself can call"),
        ({"layer": Conv3D()}, "layer must be a Conv3DTranspose, got Conv3D"),
        ({"layer": conv3dt.Conv3DTranspose}, "layer must be a Conv3DTranspose, got the class Conv3DTranspose; call it"),
        ({"layer": built(), "seed": 5}, "weights cannot go with seed"),
        ({"layer": built(), "bias_initializer": "ones"}, "weights cannot go with bias_initializer"),
        ({"kernel_size": 2, "seed": 1, "bias": [1.0]}, "bias cannot go with seed"),
        ({"kernel_size": 2, "seed": 1, "layout": "torch"}, "layout is that of weights in a file or an array"),
        ({"kernel_size": 2, "seed": 2**63}, "seed must be a whole number from 0"),
        ({"kernel_size": 2, "seed": "a"}, "seed must be a whole number from 0"),
        ({"kernel_size": 2, "bias_initializer": "ones", "use_bias": False}, "use_bias is off, but bias_initializer"),
        ({"kernel_size": 2, "kernel_initializer": ""}, "kernel_initializer '' is unknown|'' is unknown"),
        ({"layer": {"filters": 1, "kernel_size": 2, "foo": 1}, "seed": 1}, "takes no argument foo; it takes name"),
        ({"layer": {"filters": 1, "kernel_size": 2, "use_bias": "no"}, "seed": 1}, "use_bias must be true or false"),
        ({"layer": {"filters": "2", "kernel_size": 2}, "seed": 1}, "filters must be a positive whole number, got '2'"),
        ({"scale": 2, "activation": "elu(alpha=1,alpha=2)"}, "alpha is given twice"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_nothing_that_is_given_is_left_aside(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Conv3dtError, match=message):
        LayerRequest(**arguments).concrete(2)


def test_an_initializer_may_be_a_function() -> None:
    layer = LayerRequest(kernel_size=2, kernel_initializer=lambda shape, dtype=None: torch.full(shape, 3.0)).concrete()
    assert (layer.kernel == 3).all()


@pytest.mark.parametrize(
    "options",
    [
        "4,5,6 --reduce argmax",
        "4,5,6,3 --reduce softmax",
        "4,5,6 --use-bias",
        "4,5,6,3 --axes xyzc",
        "4,5,6,3 --channels-last --per-channel --kernel-size 3 --filters 4 --seed 1",
        "4,5,6 --kernel-size 3 --filters 300 --reduce argmax --dtype uint8",
    ],
)
def test_shape_refuses_what_upsample_would(run: Run, options: str) -> None:
    done = run("shape", *options.split())
    assert done.code in (2, 65)
    assert done.complaint


def test_the_shape_of_a_file_takes_no_memory_for_a_kernel_that_nobody_has(run: Run, tmp_path: Path) -> None:
    scan = save_nifti(tmp_path / "x.nii", VOLUME[..., 0], np.eye(4))
    done = run("shape", scan, "--filters", "99999999999999999999", "--kernel-size", "3")
    assert (done.code, "more than any machine holds" in done.complaint) == (2, True)
