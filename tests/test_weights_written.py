"""Does what is written come back bit for bit, whole or not at all, and is what was lost told?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv3dt.errors import ArgumentError, DataError, OutputError, StreamError
from conv3dt.weights import WRITERS, Weights, read_weights, write_weights
from tests.conftest import listing
from tests.test_weights import check, pattern

NAMES = [f"a{suffix}" for suffix in WRITERS]
CONFIG = {
    "name": "up", "filters": 3, "kernel_size": (2, 3, 4), "strides": (2, 1, 2), "padding": "same",
    "activation": "relu", "use_bias": True, "output_padding": None,
}  # fmt: skip


def weights(kind: Any = np.float32, *, bias: bool = True, config: dict[str, Any] | None = CONFIG) -> Weights:
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 3, 2)).astype(kind)
    values[0, 0, 0, 0] = np.finfo(kind).smallest_subnormal, -0.0
    return Weights(values, pattern(3, seed=2).astype(kind) if bias else None, "memory", "array", "", config)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_every_bit_comes_back(tmp_path: Path, name: str, kind: Any, bias: bool) -> None:
    given = weights(kind, bias=bias)
    write_weights(given, f"{tmp_path}/{name}")
    assert listing(tmp_path) == [name]
    found = read_weights(f"{tmp_path}/{name}", "torch" if name == "a.pth" else None)
    kernel = found.kernel
    if name == "a.onnx":  # may come back with zeros around it
        kernel = kernel[:2, :3, :4]
    assert kernel.dtype == kind
    assert kernel.tobytes() == given.kernel.tobytes()
    assert (found.bias is None) == (given.bias is None or name == "a.npy")
    if found.bias is not None and given.bias is not None:
        assert found.bias.tobytes() == given.bias.tobytes()


@pytest.mark.parametrize("name", ["a.safetensors", "a.keras", "a.h5", "a.hdf5"])
def test_the_configuration_comes_back(tmp_path: Path, name: str) -> None:
    assert write_weights(weights(), f"{tmp_path}/{name}") == []
    found = read_weights(f"{tmp_path}/{name}").config or {}
    assert {key: found[key] for key in CONFIG} == CONFIG


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("a.npz", []),
        ("a.npy", ["no place for the bias in .npy", "no place for the configuration in .npy"]),
        ("a.pt", ["no place for the configuration in a PyTorch state dict"]),
        ("a.onnx", ["the activation relu is not part of a ConvTranspose node and is left out"]),
        ("a.safetensors", []),
    ],
)
def test_what_is_lost_is_told(tmp_path: Path, name: str, lost: list[str]) -> None:
    assert write_weights(weights(), f"{tmp_path}/{name}") == lost
    if name != "a.onnx":
        assert write_weights(weights(bias=False, config=None), f"{tmp_path}/b{name}") == []


def test_what_is_not_plain_data_is_told(tmp_path: Path) -> None:
    odd = CONFIG | {"kernel_initializer": np.zeros, "activity_regularizer": {"class_name": object()}}
    for name in ("a.safetensors", "a.keras", "a.h5"):
        lost = write_weights(weights(config=odd), f"{tmp_path}/{name}")
        assert [line.split()[0] for line in lost] == ["kernel_initializer", "activity_regularizer"]
        assert (read_weights(f"{tmp_path}/{name}").config or {})["strides"] == (2, 1, 2)


def test_types_are_those_of_the_kernel(tmp_path: Path) -> None:
    """Or Keras would round it."""
    for name in ("a.h5", "a.keras"):
        lost = write_weights(weights(np.float64, config=CONFIG | {"dtype": "float32"}), f"{tmp_path}/{name}")
        assert lost == ["dtype float32 is written as float64, which the kernel is"]
        assert (read_weights(f"{tmp_path}/{name}").config or {})["dtype"] == "float64"
    mixed = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    for name in ("b.h5", "b.keras"):
        assert write_weights(weights(config=CONFIG | {"dtype": mixed}), f"{tmp_path}/{name}") == []
        assert (read_weights(f"{tmp_path}/{name}").config or {})["dtype"] == mixed


def test_without_a_configuration_hdf5_holds_bare_datasets(tmp_path: Path) -> None:
    write_weights(weights(config=None), f"{tmp_path}/a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["bias", "kernel"]
    for path in (f"{tmp_path}/a.h5", f"{tmp_path}/a.h5:/kernel"):
        check(read_weights(path), weights().kernel, weights().bias)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_weights_are_the_same_bytes(tmp_path: Path, name: str) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_weights(weights(), f"{tmp_path}/{folder}/{name}")
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["up", "a/b", "../up", "", "ü", "a b", "kernel", ".", "bias:0", "x" * 300])
def test_names_of_layers(tmp_path: Path, name: str) -> None:
    for file in ("a.h5", "a.keras", "a.safetensors", "a.onnx"):
        write_weights(weights(config=CONFIG | {"name": name}), f"{tmp_path}/{file}")
        np.testing.assert_array_equal(read_weights(f"{tmp_path}/{file}").kernel[:2, :3, :4], weights().kernel)


FORMATS = ["a.h5", "a.keras", "a.safetensors", "a.npz"]


@given(st.sampled_from(FORMATS), st.lists(st.integers(1, 3), min_size=5, max_size=5), st.booleans(), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_any_shape(
    tmp_path_factory: pytest.TempPathFactory, name: str, shape: list[int], bias: bool, seed: int
) -> None:
    kernel = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    path = f"{tmp_path_factory.mktemp('any')}/{name}"
    extra = kernel[0, 0, 0, :, 0] if bias else None
    write_weights(Weights(kernel, extra, "", "", "", {"padding": "same"}), path)
    check(read_weights(path), kernel, extra)


# What cannot be written.


@pytest.mark.parametrize("name", ["a", "a.txt", "a.json", "a.nii", "a.h5:/kernel", ".npz"])
def test_names_that_say_no_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match=r"the name does not say a format of weights; known are \.npz, \.npy"):
        write_weights(weights(), f"{tmp_path}/{name}")
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"kernel_size": (2, 3, 5)}, r"the kernel is 2x3x4, but its layer says kernel_size \(2, 3, 5\)"),
        ({"kernel_size": 2}, "but its layer says kernel_size 2"),
        ({"filters": 2}, "the kernel has 3 filters, but its layer says filters 2"),
    ],
)
def test_configurations_of_another_layer(tmp_path: Path, config: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        write_weights(weights(config=config), f"{tmp_path}/a.keras")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_there_stays_unless_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already; say --overwrite"):
        write_weights(weights(), str(path))
    assert path.read_text() == "precious"
    write_weights(weights(), str(path), overwrite=True)
    assert read_weights(str(path)).kernel.any()
    assert listing(tmp_path) == [name]
    with pytest.raises(OutputError, match="does not exist; create it first"):
        write_weights(weights(), f"{tmp_path}/none/{name}")


def test_a_write_that_breaks_off_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    path.write_text("precious")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StreamError, match="writing broke off: No space left on device; no file was left"):
        write_weights(weights(), str(path), overwrite=True)
    assert path.read_text() == "precious"
    assert listing(tmp_path) == ["a.npz"]


def test_permissions_are_those_of_any_file(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_weights(weights(), f"{tmp_path}/a.npz")
    finally:
        os.umask(mask)
    assert (tmp_path / "a.npz").stat().st_mode & 0o777 == 0o640


def test_an_npz_of_ours_brings_its_layer(tmp_path: Path) -> None:
    path, config = f"{tmp_path}/a.npz", {"strides": (2, 1, 2), "padding": "same", "activation": "relu"}
    made = weights(config=config)
    write_weights(made, path)
    found = read_weights(path)
    assert found.config == config
    assert "written by conv3dt" in found.layout
    with np.load(path) as arrays:  # and anybody's arrays
        assert np.array_equal(arrays["kernel"], made.kernel)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("{", "metadata conv3dt: cannot be read as JSON"),
        ("[]", "says that conv3dt wrote it, but holds no Conv3DTranspose"),
        ('{"class_name": "Conv3DTranspose", "config": {"kernel_size": [9, 9, 9]}}', "kernel"),
        (3.5, "holds no Conv3DTranspose"),
        (np.zeros(3), "metadata conv3dt"),
    ],
    ids=str,
)
def test_an_npz_that_says_nonsense_of_its_layer(tmp_path: Path, told: Any, message: str) -> None:
    np.savez(tmp_path / "a.npz", kernel=np.ones((2, 2, 2, 1, 1)), conv3dt=np.array(told))
    with pytest.raises(DataError, match=message):
        read_weights(f"{tmp_path}/a.npz")
