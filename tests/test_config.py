"""Which arguments make a layer, which are refused, and does the refusal say what to do?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv3dt.errors import ArgumentError, Conv3dtError, DataError
from conv3dt.geometry import Axis
from conv3dt.layer.activation import ACTIVATIONS
from conv3dt.layer.config import LayerConfig, check_choice, layer_config, padding_name, triple
from conv3dt.request import LayerRequest


@pytest.mark.parametrize(
    ("value", "three"),
    [
        (2, (2, 2, 2)),
        (2.0, (2, 2, 2)),
        (np.int64(2), (2, 2, 2)),
        ([1, 2, 3], (1, 2, 3)),
        ((1, 2.0, np.int16(3)), (1, 2, 3)),
        (np.array([1, 2, 3]), (1, 2, 3)),
        (range(1, 4), (1, 2, 3)),
        ({1: "a", 2: "b", 3: "c"}.keys(), (1, 2, 3)),
    ],
    ids=str,
)
def test_what_makes_three_numbers(value: object, three: tuple[int, int, int]) -> None:
    found = triple("strides", value)
    assert found == three
    assert all(type(number) is int for number in found)


@pytest.mark.parametrize(
    "value",
    [0, -1, 2.5, float("nan"), float("inf"), None, "2", "222", [], [1, 2], [1, 2, 3, 4], [1, 2, 1.5], [1, 2, "3"],
     [1, 2, None], [1, 0, 1], [[1, 2, 3]], np.array([1.5, 1, 1]), 2j],
    ids=str,
)  # fmt: skip
def test_what_does_not(value: object) -> None:
    with pytest.raises(ArgumentError, match=r"^strides must be one whole number or three, each at least 1, got "):
        triple("strides", value)


def test_an_array_without_axes_is_one_number_or_refused_in_words() -> None:
    try:
        assert triple("strides", np.array(2)) == (2, 2, 2)
    except ArgumentError as error:
        assert "strides must be one whole number or three" in str(error)


def test_output_padding_may_be_0() -> None:
    assert triple("output_padding", 0, least=0) == (0, 0, 0)
    with pytest.raises(ArgumentError, match=r"output_padding must be .* each at least 0, got -1"):
        triple("output_padding", -1, least=0)


@given(st.lists(st.integers(1, 1000), min_size=3, max_size=3))
@settings(deadline=None)
def test_three_numbers_are_themselves(numbers: list[int]) -> None:
    assert triple("strides", numbers) == tuple(numbers)
    assert triple("strides", [float(number) for number in numbers]) == tuple(numbers)


@pytest.mark.parametrize(("given_", "name"), [("same", "same"), ("VALID", "valid"), ("Same", "same")])
def test_padding_in_any_case(given_: str, name: str) -> None:
    assert padding_name(given_) == name
    assert layer_config(filters=1, kernel_size=3, padding=given_).padding == name


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("causal", "padding 'causal' is only for Conv1D and SeparableConv1D; use 'valid' or 'same'"),
        ("CAUSAL", "padding 'causal' is only for Conv1D"),
        ("sam", "padding must be one of valid, same, got 'sam'; did you mean same"),
        ("full", "padding must be one of valid, same, got 'full'$"),
        (None, "padding must be one of valid, same, got None$"),
        (1, "padding must be one of valid, same, got 1$"),
        (["same"], r"padding must be one of valid, same, got \['same'\]$"),
    ],
)
def test_paddings_refused(value: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        layer_config(filters=1, kernel_size=3, padding=value)


@pytest.mark.parametrize(
    ("value", "near"),
    [
        ("qqqq", None),
        ("relu_", "relu"),
        ("sigmoit", "sigmoid"),
        ("softmaxx", "softmax"),
        ("RELU", "ReLU"),
        ("leaky-relu", "leaky_relu"),
    ],
)
def test_a_misspelt_activation_is_told_what_is_near(value: str, near: str | None) -> None:
    with pytest.raises(ArgumentError, match=rf"activation must be one of linear, relu, .* got '{value}'") as raised:
        layer_config(filters=1, kernel_size=3, activation=value)
    if near:
        assert near in str(raised.value).partition("; did you mean ")[2]
    else:
        assert "did you mean" not in str(raised.value)


def test_a_choice_that_is_no_text_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"activation must be one of .* got 3$"):
        check_choice("activation", 3, ACTIVATIONS)


def test_every_activation_is_accepted_and_none_means_linear() -> None:
    assert [layer_config(filters=1, kernel_size=1, activation=name).activation for name in ACTIVATIONS] == [
        *ACTIVATIONS
    ]
    assert layer_config(filters=1, kernel_size=1).activation == "linear"


@pytest.mark.parametrize("filters", [0, -3, 0.5])
def test_filters_are_positive(filters: Any) -> None:
    with pytest.raises(ArgumentError, match=f"filters must be a positive whole number, got {filters}"):
        layer_config(filters=filters, kernel_size=3)


def test_filters_are_a_whole_number() -> None:
    with pytest.raises(ArgumentError, match=r"filters must be a positive whole number, got 1\.5"):
        layer_config(filters=1.5, kernel_size=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("filters", ["2", [2]])
def test_filters_that_are_no_number_are_a_type_error_as_in_keras(filters: Any) -> None:
    with pytest.raises((TypeError, ArgumentError)):
        layer_config(filters=filters, kernel_size=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be one whole number or three, each at least 1, got 0"),
        ({"kernel_size": (3, 3)}, r"kernel_size must be .* got \(3, 3\)"),
        ({"strides": (1, 2, 0)}, r"strides must be .* got \(1, 2, 0\)"),
        ({"dilation_rate": 1.5}, "dilation_rate must be .* got 1.5"),
        ({"output_padding": (0, 0)}, r"output_padding must be .* each at least 0, got \(0, 0\)"),
        ({"output_padding": 2, "strides": 2}, "output_padding must be .* less than strides, got output_padding 2, str"),
        ({"output_padding": 0}, None),
        ({"output_padding": (1, 0, 0), "strides": (2, 1, 1)}, None),
        ({"output_padding": (0, 1, 0), "strides": (2, 1, 1)}, "got output_padding 1, strides 1"),
        ({"output_padding": 0, "padding": "same", "kernel_size": 4}, "output_padding 0 with padding 'same'"),
        ({"output_padding": 1, "padding": "same", "kernel_size": 4, "strides": 2}, None),
        ({"strides": 2, "dilation_rate": 2}, r"strides > 1 cannot go with dilation_rate > 1 \(on any axis\)"),
        ({"strides": (2, 1, 1), "dilation_rate": (1, 2, 1)}, r"strides \(2, 1, 1\), dilation_rate \(1, 2, 1\); set"),
        ({"dilation_rate": (1, 2, 3)}, None),
    ],
    ids=str,
)  # fmt: skip
def test_combinations(arguments: dict[str, Any], message: str | None) -> None:
    given_ = {"filters": 1, "kernel_size": 3} | arguments
    if message is None:
        layer_config(**given_)
    else:
        with pytest.raises(ArgumentError, match=message):
            layer_config(**given_)


def test_axes_and_shapes_are_those_of_each_axis() -> None:
    config = LayerConfig(4, (3, 4, 5), (2, 1, 3), "same")
    assert config.axes == (Axis(3, 2, padding="same"), Axis(4, 1, padding="same"), Axis(5, 3, padding="same"))
    assert config.output_shape((5, 6, 7)) == (10, 6, 21)
    explicit = LayerConfig(1, (3, 5, 3), (2, 1, 3), output_padding=(1, 0, 2))
    assert explicit.axes == (Axis(3, 2, output_padding=1), Axis(5, 1, output_padding=0), Axis(3, 3, output_padding=2))
    assert explicit.output_shape((4, 4, 4)) == (3 * 2 + 3 + 1, 3 + 5, 3 * 3 + 3 + 2)


def test_output_padding_0_is_not_none() -> None:
    """Kernel 1 at stride 3: three voxels a voxel, or one less than whole."""
    assert layer_config(filters=1, kernel_size=1, strides=3).output_shape((4, 4, 4)) == (12, 12, 12)
    assert layer_config(filters=1, kernel_size=1, strides=3, output_padding=0).output_shape((4, 4, 4)) == (10, 10, 10)


KERNEL = np.arange(3.0 * 3 * 3 * 2 * 1).reshape(3, 3, 3, 2, 1)


def test_without_arguments_the_layer_is_linear_twice() -> None:
    layer = LayerRequest().concrete()
    assert (layer.name, layer.config.strides, layer.boundary) == ("linear", (2, 2, 2), "edge")
    assert layer.kernel.sum() == pytest.approx(8.0)
    assert (layer.channels, layer.filters, layer.bias) == (1, 1, None)


def test_weights_are_the_layer_of_keras() -> None:
    layer = LayerRequest(weights=KERNEL, bias=[1, 2], strides=2, padding="SAME", activation="relu").concrete()
    assert (layer.config.padding, layer.boundary, layer.filters, layer.channels) == ("same", "zero", 2, 1)
    assert layer.bias is not None
    assert layer.bias.tolist() == [1, 2]
    assert LayerRequest(weights=KERNEL).config().strides == (1, 1, 1)
    assert LayerRequest(weights=KERNEL, bias=[1, 2], use_bias=False).concrete().bias is None


def test_three_axes_are_a_kernel_of_one_channel() -> None:
    assert LayerRequest(weights=np.ones((3, 2, 1))).concrete().kernel.shape == (3, 2, 1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": KERNEL, "scale": 2}, "^weights cannot go with scale; give strides instead"),
        ({"weights": KERNEL, "kernel": "cubic"}, "^weights cannot go with kernel; give strides instead"),
        ({"weights": KERNEL, "kernel": "cubic", "scale": 2}, "^weights cannot go with scale and kernel; give strides"),
        ({"scale": 2, "strides": 2}, "^scale cannot go with strides; give weights to use your own layer"),
        ({"kernel": "linear", "padding": "same", "output_padding": 1}, "cannot go with padding and output_padding"),
        ({"scale": 2, "dilation_rate": 1}, "cannot go with dilation_rate"),
        ({"scale": 2, "filters": 3, "kernel_size": 2}, "cannot go with filters and kernel_size"),
        ({"boundary": "wrap"}, "boundary must be one of zero, edge, reflect, got 'wrap'"),
        ({"boundary": "edges"}, "did you mean edge"),
    ],
    ids=str,
)
def test_a_named_kernel_and_a_layer_do_not_mix(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LayerRequest(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": "bicubic"}, "kernel must be one of nearest, .* got 'bicubic'; did you mean cubic"),
        ({"scale": 0}, "scale must be one whole number or three, each at least 1, got 0"),
        ({"scale": (2, 2)}, r"scale must be .* got \(2, 2\)"),
        ({"scale": 1.5}, "scale must be .* got 1.5"),
        ({"use_bias": True}, "use_bias needs weights with a bias; named kernels have none"),
        ({"strides": 2}, "needs weights: give a file or an array"),
        ({"kernel_size": 3}, "needs weights: give a file or an array; for a named kernel say scale"),
        ({"weights": KERNEL, "use_bias": True}, "hold no bias, but use_bias asks for one; leave it out"),
        ({"weights": KERNEL, "kernel_size": 2}, r"kernel_size is \(3, 3, 3\), but 2 was asked for"),
        ({"weights": KERNEL, "filters": 3}, "filters are 2, but 3 were asked for"),
        ({"weights": KERNEL, "bias": [1.0]}, r"the bias must have 2 values, one a filter, got \(1,\)"),
        ({"weights": KERNEL[0]}, "the kernel must have 5 axes .* or 3 for one channel, got shape"),
        ({"weights": KERNEL[:0]}, r"the kernel is empty, got shape \(0, 3, 3, 2, 1\)"),
        ({"weights": KERNEL * np.nan}, "the kernel holds 54 values that are NaN or infinite"),
        ({"weights": KERNEL, "bias": [1.0, np.inf]}, "the bias holds 1 values that are NaN or infinite"),
        ({"weights": KERNEL.astype(str)}, "the kernel must hold real numbers, got <U"),
        ({"weights": KERNEL, "padding": "causal"}, "padding 'causal' is only for Conv1D"),
        ({"weights": KERNEL, "strides": 2, "dilation_rate": (1, 1, 2)}, "strides > 1 cannot go with dilation_rate > 1"),
        ({"weights": "nowhere/kernel.npz"}, "weights nowhere/kernel.npz: no such file"),
        ({"weights": Path("nowhere.npy")}, "weights nowhere.npy: no such file"),
    ],
    ids=str,
)  # fmt: skip
def test_layers_refused_when_they_are_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Conv3dtError, match=message):
        LayerRequest(**arguments).concrete()


def test_kernel_size_and_filters_that_agree_with_the_weights_are_welcome() -> None:
    layer = LayerRequest(weights=KERNEL, kernel_size=3, filters=2).concrete()
    assert layer.config.kernel_size == (3, 3, 3)
    with pytest.raises(DataError, match="filters are 2"):
        LayerRequest(weights=KERNEL, filters=1).concrete()


@pytest.mark.parametrize(
    "arguments",
    [{"padding": "valid"}, {"output_padding": 1}, {"dilation_rate": 2}, {"filters": 4}, {"bias": [1.0]}],
    ids=str,
)
def test_nothing_that_was_given_is_left_aside_in_silence(arguments: dict[str, Any]) -> None:
    """None of these says anything about a named kernel, which is what no weights mean."""
    with pytest.raises(Conv3dtError):
        LayerRequest(**arguments).concrete()


def test_filters_0_is_refused_and_not_taken_for_1() -> None:
    with pytest.raises(ArgumentError, match="filters must be a positive whole number, got 0"):
        LayerRequest(kernel_size=3, filters=0).config()


def test_a_stand_in_has_the_shape_of_the_layer() -> None:
    layer = LayerRequest(kernel_size=(3, 4, 5), strides=(1, 2, 2), filters=6).stand_in(2)
    assert layer.kernel.shape == (3, 4, 5, 6, 2)
    assert layer.name == "kernel 3x4x5"


def test_a_layer_walked_backwards_has_its_axes_backwards() -> None:
    layer = LayerRequest(weights=KERNEL, strides=(2, 1, 3), output_padding=(1, 0, 2)).concrete()
    back = layer.reversed()
    assert back.config.axes == layer.config.axes[::-1]
    assert np.array_equal(back.kernel, layer.kernel.transpose(2, 1, 0, 3, 4))
    assert back.reversed().config == layer.config
