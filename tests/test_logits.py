"""Are the channels of a segmentation net's logits upsampled each by itself, and do they become the right labels?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conv3dt
from conv3dt.errors import ArgumentError, DataError
from tests.conftest import Run, only, save_nifti
from tests.oracle import Law, transposed

LINEAR = np.array([0.25, 0.75, 0.75, 0.25])
WAYS = ("direct", "phased", "transposed")


def by_definition(logits: Any, taps: Any, law: Law, boundary: str = "edge") -> Any:
    """Channel by channel, in float64; channels first."""
    kernel = np.asarray(taps)[:, None, None] * np.asarray(taps)[:, None] * np.asarray(taps)
    layers = [transposed(c[..., None], kernel[..., None, None], (law, law, law), boundary=boundary) for c in logits]
    return np.stack([layer[..., 0] for layer in layers])


@pytest.fixture(scope="module")
def logits() -> Any:
    """Whole numbers, so that every sum is exact and ties are ties."""
    return np.random.default_rng(3).integers(-9, 9, (7, 4, 5, 6)).astype(np.float64)


@pytest.mark.parametrize("way", WAYS)
def test_each_channel_is_upsampled_by_itself(way: str, logits: Any) -> None:
    with only(way):
        out = conv3dt.upsample(logits, per_channel=True, data_format="channels_first", dtype="float64", threads=1)
    assert np.array_equal(out, by_definition(logits, LINEAR, Law(4, 2, padding="same")))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel", ["linear", "nearest", "cubic"])
def test_labels_are_the_first_of_the_largest(way: str, kernel: str, logits: Any) -> None:
    taps = {"linear": LINEAR, "nearest": np.ones(2), "cubic": None}[kernel]
    with only(way):
        labels = conv3dt.upsample(
            logits, kernel=kernel, per_channel=True, reduce="argmax", data_format="channels_first", threads=1
        )
        values = conv3dt.upsample(
            logits, kernel=kernel, per_channel=True, data_format="channels_first", dtype="float64", threads=1
        )
    assert labels.dtype == np.uint8
    assert labels.shape == (8, 10, 12)
    if taps is None:  # cubic: sums are rounded, so only labels that win clearly are known
        clear = np.diff(np.sort(values, axis=0)[-2:], axis=0)[0] > 1e-4
        assert clear.mean() > 0.9
        assert np.array_equal(labels[clear], values.argmax(axis=0)[clear])
    else:
        assert np.array_equal(labels, by_definition(logits, taps, Law(len(taps), 2, padding="same")).argmax(axis=0))


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 4), stride=st.integers(1, 3), padding=st.sampled_from(("valid", "same")),
    classes=st.integers(2, 5), seed=st.integers(0, 99), way=st.sampled_from(WAYS),
)  # fmt: skip
def test_labels_for_any_kernel(size: int, stride: int, padding: str, classes: int, seed: int, way: str) -> None:
    draw = np.random.default_rng(seed)
    taps, volume = draw.integers(-3, 4, size), draw.integers(-9, 9, (classes, 2, 3, 4)).astype(np.float64)
    kernel = taps[:, None, None] * taps[:, None] * taps
    with only(way):
        labels = conv3dt.upsample(
            volume, weights=kernel.astype(float), strides=stride, padding=padding, per_channel=True, reduce="argmax",
            data_format="channels_first", threads=1,
        )  # fmt: skip
    expected = by_definition(volume, taps, Law(size, stride, padding=padding), "zero").argmax(axis=0)
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("size", [1, 5, 27], ids=lambda size: f"k{size}")
def test_every_form_of_the_loops_finds_the_labels(size: int, logits: Any) -> None:
    """Written out voxel by voxel, row by row, and in loops."""
    taps = np.random.default_rng(size).integers(-3, 4, (size,)).astype(float)
    kernel = np.ones((size if size < 9 else 1,))[:, None, None] * np.ones((1, 1))[:, None] * taps
    labels = conv3dt.upsample(
        logits, weights=kernel, strides=2, padding="same", per_channel=True, reduce="argmax",
        data_format="channels_first",
    )  # fmt: skip
    values = conv3dt.upsample(
        logits, weights=kernel, strides=2, padding="same", per_channel=True, data_format="channels_first",
        dtype="float64",
    )  # fmt: skip
    assert np.array_equal(labels, values.argmax(axis=0))


@pytest.mark.parametrize("way", WAYS)
def test_softmax_makes_probabilities_of_the_channels(way: str, logits: Any) -> None:
    with only(way):
        out = conv3dt.upsample(
            logits, per_channel=True, reduce="softmax", data_format="channels_first", dtype="float64", threads=1
        )
    powers = np.exp(by_definition(logits, LINEAR, Law(4, 2, padding="same")))
    np.testing.assert_allclose(out, powers / powers.sum(axis=0), rtol=1e-10)


@pytest.mark.parametrize("way", WAYS)
def test_filters_of_a_whole_layer_become_labels_too(way: str) -> None:
    draw = np.random.default_rng(5)
    volume, kernel = (
        draw.integers(-5, 5, (3, 4, 4, 2)).astype(float),
        draw.integers(-5, 5, (3, 2, 3, 6, 2)).astype(float),
    )
    bias = draw.integers(-5, 5, 6).astype(float)
    with only(way):
        labels = conv3dt.upsample(
            volume, weights=kernel, bias=bias, strides=(2, 1, 2), reduce="argmax", data_format="channels_last",
            activation="relu", threads=1,
        )  # fmt: skip
    sums = transposed(volume, kernel, (Law(3, 2), Law(2), Law(3, 2)), bias=bias)
    assert np.array_equal(labels, np.maximum(sums, 0).argmax(axis=-1))


@pytest.mark.parametrize("way", WAYS)
def test_a_voxel_that_is_not_a_number_never_wins(way: str) -> None:
    logits = np.zeros((3, 1, 1, 2))
    logits[:, 0, 0, 0], logits[:, 0, 0, 1] = (1, np.nan, 0.5), (np.nan, np.nan, np.nan)
    with only(way):
        labels = conv3dt.upsample(
            logits, scale=1, per_channel=True, reduce="argmax", data_format="channels_first", threads=1
        )
    assert labels.ravel().tolist() == [0, 0]


@pytest.mark.parametrize(("classes", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_labels_take_the_smallest_unsigned_type(classes: int, dtype: Any) -> None:
    logits = np.zeros((classes, 1, 1, 1), np.float32)
    logits[-1] = 1
    labels = conv3dt.upsample(logits, scale=1, per_channel=True, reduce="argmax", data_format="channels_first")
    assert (labels.dtype, labels.ravel().tolist()) == (dtype, [classes - 1])
    as_told = conv3dt.upsample(
        logits, scale=1, per_channel=True, reduce="argmax", data_format="channels_first", dtype="int16"
    )
    assert (as_told.dtype, as_told.ravel().tolist()) == (np.int16, [classes - 1])


def test_tiles_and_threads_change_no_label() -> None:
    logits = np.random.default_rng(1).normal(size=(5, 9, 8, 7)).astype(np.float32)
    arguments: dict[str, Any] = {
        "kernel": "cubic",
        "per_channel": True,
        "reduce": "argmax",
        "data_format": "channels_first",
    }
    whole = conv3dt.upsample(logits, threads=1, **arguments)
    for tile, threads in ((4, 1), ((2, 6, 10), 2), (18, 3)):
        assert np.array_equal(conv3dt.upsample(logits, tile=tile, threads=threads, **arguments), whole)


# Through the command.


def test_a_label_map_comes_out_of_a_file_of_logits(run: Run, tmp_path: Path) -> None:
    logits = np.random.default_rng(2).normal(size=(6, 5, 4, 9)).astype(np.float32)
    scan = save_nifti(tmp_path / "logits.nii.gz", logits, np.diag([2.0, 2.0, 3.0, 1.0]))
    done = run(
        "upsample", scan, tmp_path / "labels.nii.gz", "--channels-last", "--per-channel", "--reduce", "argmax", "--json"
    )
    assert done.code == 0, done.err
    image: Any = nibabel.load(tmp_path / "labels.nii.gz")
    expected = conv3dt.upsample(logits, per_channel=True, reduce="argmax", data_format="channels_last", axes="xyzc")
    assert image.shape == (12, 10, 8)
    assert image.get_data_dtype() == np.uint8
    assert image.header.get_intent()[0] == "label"
    assert np.array_equal(np.asarray(image.dataobj), expected)
    assert (done.json["layer"]["per_channel"], done.json["layer"]["reduce"]) == (True, "argmax")
    assert done.json["output"]["axes"] == "ijk"


def test_logits_that_list_channels_first_come_out_of_hdf5(run: Run, tmp_path: Path) -> None:
    logits = np.random.default_rng(2).normal(size=(9, 4, 5, 6)).astype(np.float32)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["logits"] = logits
    done = run(
        "upsample", f"{tmp_path}/net.h5:/logits", f"{tmp_path}/up.h5:/labels", "--channels-first", "--per-channel",
        "--reduce=argmax",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "each channel by itself, argmax over channels" in done.err
    with h5py.File(tmp_path / "up.h5") as file:
        expected = conv3dt.upsample(logits, per_channel=True, reduce="argmax", data_format="channels_first")
        assert np.array_equal(file["labels"][()], expected)


def test_shapes_of_labels_without_a_voxel(run: Run) -> None:
    """As quick as any other shape, and the same from Python."""
    done = run("shape", "100,64,64,64", "--channels-first", "--per-channel", "--reduce", "argmax", "--json")
    assert (done.code, done.json["output"]["shape"], done.json["output"]["dtype"]) == (0, [128, 128, 128], "uint8")
    arguments: dict[str, Any] = {"per_channel": True, "data_format": "channels_first"}
    assert conv3dt.output_shape((100, 64, 64, 64), reduce="argmax", **arguments) == (128, 128, 128)
    assert conv3dt.output_shape((100, 64, 64, 64), **arguments) == (100, 128, 128, 128)
    done = run("shape", "300,64,64,64", "--channels-first", "--per-channel", "--reduce", "argmax", "--json")
    assert done.json["output"]["dtype"] == "uint16"
    assert done.json["output"]["bytes"] == 2 * 128**3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_channel": True}, "has 1 channel .2x2x2x2, axes 012t.; per-channel needs an axis of channels"),
        ({"reduce": "argmax"}, "reduce argmax needs several filters, the kernel linear has one; say --per-channel"),
        ({"reduce": "softmax"}, "reduce softmax needs several filters"),
        ({"reduce": "argmin"}, "reduce must be one of argmax, softmax, got 'argmin'; did you mean argmax"),
        ({"reduce": "softmax", "activation": "relu"}, "reduce softmax cannot go with activation relu"),
        (
            {"per_channel": True, "data_format": "channels_last", "weights": np.ones((2, 2, 2, 3, 1))},
            r"per-channel takes a kernel of one channel and one filter, got 1 -> 3",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ArgumentError, DataError), match=message):
        conv3dt.upsample(np.zeros((2, 2, 2, 2)), **arguments)


def test_a_type_that_cannot_hold_the_labels_is_refused() -> None:
    logits = np.zeros((300, 1, 1, 1), np.float32)
    with pytest.raises(ArgumentError, match="dtype uint8 cannot hold 300 labels; leave it out"):
        conv3dt.upsample(logits, per_channel=True, reduce="argmax", data_format="channels_first", dtype="uint8")
