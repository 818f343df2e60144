"""Does the layer take what Keras's takes, refuse what it refuses, and write itself down as it does?"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from conv3dt import activations, constraints, defaults, initializers, regularizers
from conv3dt.errors import ArgumentError
from conv3dt.layer.module import Conv3DTranspose
from tests.keras29 import RECORDED, plain

KEYS = [
    "name", "trainable", "dtype", "filters", "kernel_size", "strides", "padding", "data_format", "groups", "activation",
    "use_bias", "kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer",
    "activity_regularizer", "kernel_constraint", "bias_constraint", "output_padding",
]  # fmt: skip


def test_the_signature_is_the_real_one_s() -> None:
    found = [
        [name, None if parameter.default is parameter.empty else plain(parameter.default)]
        for name, parameter in inspect.signature(Conv3DTranspose).parameters.items()
        if name != "kwargs"
    ]
    assert found == RECORDED["signature"]


def test_missing_or_too_many_arguments() -> None:
    make: Any = Conv3DTranspose
    for arguments in ((), (1,), range(1, 18)):
        with pytest.raises(TypeError, match=r"missing|takes from 3 to 17 positional arguments but 18"):
            make(*arguments)


# Configurations.


@pytest.mark.parametrize("seen", RECORDED["configs"], ids=lambda seen: str(seen["arguments"])[28:])
def test_configurations_are_the_real_one_s(seen: dict[str, Any]) -> None:
    defaults.restart_names()
    layer = Conv3DTranspose(**seen["arguments"])
    assert plain(layer.get_config()) == seen["config"]
    assert list(layer.get_config()) == list(seen["config"])


@pytest.mark.parametrize("seen", RECORDED["configs"], ids=lambda seen: str(seen["arguments"])[28:])
def test_configurations_of_the_real_one_make_the_same_layer(seen: dict[str, Any]) -> None:
    layer = Conv3DTranspose.from_config(seen["config"])
    assert plain(layer.get_config()) == seen["config"]
    assert layer.get_config() == Conv3DTranspose.from_config(layer.get_config()).get_config()


def test_keys_and_types_of_a_configuration() -> None:
    config = Conv3DTranspose(2, 3, output_padding=0).get_config()
    assert list(config) == KEYS
    assert (config["kernel_size"], config["strides"], config["output_padding"]) == ((3, 3, 3), (1, 1, 1), (0, 0, 0))
    assert config["activation"] == "linear"


def test_dilation_is_written_where_it_is_not_1() -> None:
    dilated = Conv3DTranspose(2, 3, dilation_rate=[1, 2, 1]).get_config()
    assert dilated["dilation_rate"] == (1, 2, 1)
    assert Conv3DTranspose.from_config(dilated).dilation_rate == (1, 2, 1)
    assert "dilation_rate" not in Conv3DTranspose(2, 3, dilation_rate=(1, 1, 1)).get_config()


def test_functions_are_written_by_name_and_objects_with_their_arguments() -> None:
    config = Conv3DTranspose(
        2,
        3,
        activation=torch.relu,
        kernel_initializer=initializers.HeNormal(seed=3),
        bias_initializer=initializers.Ones,
        kernel_regularizer=regularizers.L2(0.5),
        kernel_constraint=constraints.UnitNorm([0, 1, 2, 4]),
    ).get_config()
    assert config["activation"] == "relu"
    assert config["kernel_initializer"] == {"class_name": "HeNormal", "config": {"seed": 3}}
    assert config["bias_initializer"] == {"class_name": "Ones", "config": {}}
    assert config["kernel_regularizer"] == {"class_name": "L2", "config": {"l2": 0.5}}
    assert config["kernel_constraint"] == {"class_name": "UnitNorm", "config": {"axis": [0, 1, 2, 4]}}


def test_an_unknown_key_in_a_configuration() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'; leave it out"):
        Conv3DTranspose.from_config({**Conv3DTranspose(1, 1).get_config(), "foo": 1})


# Arguments.


@pytest.mark.parametrize("three", [2, [2, 2, 2], (2, 2, 2), np.array([2, 2, 2]), 2.0], ids=repr)
def test_numbers_in_any_spelling_are_tuples(three: Any) -> None:
    layer = Conv3DTranspose(1, three, strides=three)
    assert layer.kernel_size == layer.strides == (2, 2, 2)
    assert all(type(n) is int for n in (*layer.kernel_size, *layer.strides))
    assert (layer.output_padding, layer.dilation_rate, layer.padding) == (None, (1, 1, 1), "valid")
    assert Conv3DTranspose(1, 3, dilation_rate=three, padding="Same").dilation_rate == (2, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0}, "filters must be a positive whole number, got 0"),
        ({"filters": -1}, "filters must be a positive whole number, got -1"),
        ({"filters": 0.5}, "filters must be a positive whole number, got 0"),
        ({"filters": None}, "filters must be a positive whole number, got None"),
        ({"filters": float("inf")}, "filters must be a positive whole number, got inf"),
        ({"kernel_size": 0}, "kernel_size must be one whole number or three, each at least 1, got 0"),
        ({"kernel_size": (1, 2)}, r"kernel_size must be .* got \(1, 2\)"),
        ({"kernel_size": None}, "kernel_size must be .* got None"),
        ({"kernel_size": (1.5, 2, 3)}, "kernel_size must be .* got"),
        ({"strides": 0}, "strides must be .* got 0"),
        ({"strides": (1, -1, 1)}, "strides must be .* got"),
        ({"dilation_rate": "a"}, "dilation_rate must be .* got 'a'"),
        ({"output_padding": -1}, "output_padding must be .* each at least 0, got -1"),
        ({"output_padding": 1}, "output_padding must be at least 0 and less than strides, got output_padding 1"),
        ({"strides": 2, "output_padding": (1, 1, 2)}, "output_padding 2, strides 2"),
        ({"padding": "causal"}, "padding 'causal' is only for Conv1D and SeparableConv1D"),
        ({"padding": "full"}, "padding must be one of valid, same, got 'full'"),
        ({"padding": None}, "padding must be one of valid, same, got None"),
        ({"padding": (1, 1, 1)}, r"padding must be one of valid, same, got \(1, 1, 1\)"),
        ({"padding": "same", "kernel_size": 2, "output_padding": 0}, "no meaning for an even kernel extent, got 2"),
        ({"data_format": "NDHWC"}, "data_format must be channels_first or channels_last, got 'NDHWC'"),
        ({"strides": (2, 1, 1), "dilation_rate": (1, 2, 1)}, "strides > 1 cannot go with dilation_rate > 1"),
        ({"groups": 3}, "filters must be a multiple of groups, got filters 4, groups 3"),
        ({"activation": "rellu"}, "activation 'rellu' is unknown; did you mean relu"),
        ({"kernel_initializer": "he"}, "initializer 'he' is unknown"),
        ({"bias_initializer": 3}, "initializer must be a name, a dict .* got 3"),
        ({"kernel_regularizer": "l3"}, "regularizer 'l3' is unknown"),
        ({"activity_regularizer": ["l1"]}, "regularizer must be a name, a dict"),
        ({"bias_constraint": "max"}, "constraint 'max' is unknown"),
        ({"kernel_constraint": {"class_name": "MaxNorm"}}, "constraint as a dict must have class_name and config"),
    ],
    ids=str,
)
def test_values_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Conv3DTranspose(**{"filters": 4, "kernel_size": 3, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": "4"}, "filters must be a positive whole number, got '4'"),
        ({"filters": [4]}, r"filters must be a positive whole number, got \[4\]"),
        ({"foo": 1}, "Conv3DTranspose got an unexpected keyword argument 'foo'; leave it out"),
        ({"rank": 3}, "unexpected keyword argument 'rank'"),
        ({"input_shapes": (1,)}, "'input_shapes'; did you mean input_shape or batch_input_shape"),
        ({"name": 3}, "name must be a str, got 3"),
        ({"trainable": 1}, "trainable must be a bool, got 1"),
        ({"trainable": None}, "trainable must be a bool, got None"),
        ({"dynamic": 0}, "dynamic must be a bool, got 0"),
        ({"dtype": "float"[::-1]}, "dtype must name a number type, got 'taolf'; use one of float32"),
        ({"input_shape": 3}, r"input_shape must be a tuple of lengths \(None where one is unknown\), got 3"),
        ({"batch_input_shape": 3}, "batch_input_shape must be a tuple of lengths"),
        ({"activation": 3}, "activation must be a name, a dict with class_name and config, or a callable, got 3"),
        ({"kernel_regularizer": {"class_name": "L1", "config": {"q": 1}}}, "regularizer 'L1' takes l1, .*'q'"),
        ({"activation": {"class_name": "relu", "config": {}}}, "activation 'relu' is a function and takes no config"),
    ],
    ids=str,
)
def test_types_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Conv3DTranspose(**{"filters": 4, "kernel_size": 3, **arguments})


def test_filters_are_truncated_and_groups_only_checked() -> None:
    assert Conv3DTranspose(4.9, 3).filters == 4  # type: ignore[arg-type]
    assert Conv3DTranspose(np.int64(4), 3).get_config()["filters"] == 4  # type: ignore[arg-type]
    layer = Conv3DTranspose(4, 1, groups=2)
    layer.build((None, 1, 1, 1, 3))
    assert layer.groups == 2
    assert layer.weights[0].shape == (1, 1, 1, 4, 3)
    assert Conv3DTranspose(4, 1, groups=0).groups == 1


def test_keywords_without_a_meaning_are_taken() -> None:
    layer = Conv3DTranspose(1, 1, implementation=2, conv_op=None, kernel_layout=None, bias_layout=None, name="up")
    assert layer.get_config() == Conv3DTranspose(1, 1, name="up").get_config()


# Names.


def test_names_are_counted_per_class() -> None:
    class Finer(Conv3DTranspose):
        pass

    defaults.restart_names()
    assert [Conv3DTranspose(1, 1).name for _ in range(3)] == [
        "conv3d_transpose", "conv3d_transpose_1", "conv3d_transpose_2",
    ]  # fmt: skip
    assert (Finer(1, 1).name, Finer(1, 1).name) == ("finer", "finer_1")
    assert Conv3DTranspose(1, 1, name="conv3d_transpose_3").name == Conv3DTranspose(1, 1).name


# Where it is built.


@pytest.mark.parametrize(
    ("arguments", "batch"),
    [
        ({"input_shape": (4, 5, 6, 3)}, (None, 4, 5, 6, 3)),
        ({"input_shape": [None, None, None, 3]}, (None, None, None, None, 3)),
        ({"input_shape": (4, 5, 6, 3), "batch_size": 2}, (2, 4, 5, 6, 3)),
        ({"batch_input_shape": [2, 4, 5, 6, 3], "input_shape": (9,), "batch_size": 7}, (2, 4, 5, 6, 3)),
    ],
)
def test_a_known_input_shape_builds_at_construction(arguments: dict[str, Any], batch: tuple[int | None, ...]) -> None:
    layer = Conv3DTranspose(2, 3, **arguments)
    assert layer.built
    assert [tuple(weight.shape) for weight in layer.parameters()] == [(3, 3, 3, 2, 3), (2,)]
    assert layer.get_config()["batch_input_shape"] == batch
    assert list(layer.get_config())[2] == "batch_input_shape"


@pytest.mark.parametrize(
    "arguments",
    [{}, {"batch_size": 2}, {"input_shape": (4, 5, 6, None)}, {"input_shape": (3,)}, {"input_dim": 3}],
    ids=str,
)
def test_without_known_channels_the_first_call_builds(arguments: dict[str, Any]) -> None:
    layer = Conv3DTranspose(2, 3, **arguments)
    assert (layer.built, layer.weights, layer.get_weights(), layer.losses) == (False, [], [], [])
    layer(torch.ones(1, 1, 1, 1, 3))
    assert layer.built
    assert layer.count_params() == 27 * 6 + 2


def test_input_dim_is_recorded_as_in_keras() -> None:
    assert Conv3DTranspose(1, 1, input_dim=3).get_config()["batch_input_shape"] == (None, 3)


@pytest.mark.parametrize("first", [False, True])
def test_build(first: bool) -> None:
    layer = Conv3DTranspose(2, (1, 2, 3), data_format="channels_first" if first else "channels_last")
    layer.build((None, 4, None, None, None) if first else (None, None, None, None, 4))
    assert layer.kernel is not None
    assert layer.bias is not None
    assert (layer.kernel.shape, layer.bias.shape) == ((1, 2, 3, 2, 4), (2,))
    assert [name for name, _ in layer.named_parameters()] == ["kernel", "bias"]
    assert layer.weights[0] is layer.kernel
    assert layer.bias.tolist() == [0, 0]
    limit = (3 / ((6 * 2 + 6 * 4) / 2)) ** 0.5
    assert 0.5 * limit < float(layer.kernel.detach().abs().max()) <= limit


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (None, 4, 4, 4, None),
            r"the input's channels \(axis 4\) must be known to build layer up, got shape \(None, 4",
        ),
        ((4, 4, 4, 1), r"the input's shape must have 5 axes, batch and channels included, got \(4, 4, 4, 1\)"),
        ((1, 1, 4, 4, 4, 1), "must have 5 axes"),
        (None, "must have 5 axes, .* got None"),
        (3, "must have 5 axes, .* got 3"),
    ],
)
def test_shapes_that_do_not_build(shape: Any, message: str) -> None:
    layer = Conv3DTranspose(1, 1, name="up")
    with pytest.raises(ArgumentError, match=message):
        layer.build(shape)
    assert not layer.built


def test_without_a_bias() -> None:
    layer = Conv3DTranspose(2, 1, use_bias=False, input_shape=(1, 1, 1, 3))
    assert layer.bias is None
    assert len(layer.weights) == 1
    assert list(layer.state_dict()) == ["kernel"]


def test_a_type_that_is_no_float_fails_at_build() -> None:
    layer = Conv3DTranspose(1, 1, dtype="int32")
    assert layer.get_config()["dtype"] == "int32"
    with pytest.raises(ArgumentError, match="the weights' dtype must be a floating one, got int32; use float32"):
        layer.build((None, 1, 1, 1, 1))


def test_initializers_that_cannot_make_the_weights() -> None:
    for name, message in (("identity", "Identity needs 2 axes"), ("orthogonal", "Orthogonal needs at least 2 axes")):
        with pytest.raises(ArgumentError, match=message):
            Conv3DTranspose(1, 1, bias_initializer=name, input_shape=(1, 1, 1, 1))
    with pytest.raises(ArgumentError, match=r"must return shape \(1, 1, 1, 2, 1\) as asked, got \(1, 1, 1, 1, 2\)"):
        Conv3DTranspose(2, 1, kernel_initializer=lambda s, dtype: torch.ones(1, 1, 1, 1, 2), input_shape=(1, 1, 1, 1))


def test_initializers_of_ones_own_and_none() -> None:
    layer = Conv3DTranspose(
        2,
        1,
        kernel_initializer=lambda shape, dtype: np.full(shape, 3.0),
        bias_initializer=None,
        input_shape=(1, 1, 1, 1),
    )
    kernel, bias = layer.get_weights()
    assert (kernel == 3).all()
    assert kernel.dtype == np.float32
    assert (bias != 0).all(), "None is glorot_uniform, for the bias too"


def test_weights_are_set_by_the_first_call_that_builds_but_not_by_build() -> None:
    weights = [np.full((1, 1, 1, 1, 1), 2.0), np.array([1.0])]
    x = torch.full((1, 1, 1, 1, 1), 5.0)
    assert Conv3DTranspose(1, 1, weights=weights)(x).item() == 11
    assert Conv3DTranspose(1, 1, weights=weights, input_shape=(1, 1, 1, 1))(x).item() == 11
    built = Conv3DTranspose(1, 1, weights=weights, kernel_initializer="zeros")
    built.build(x.shape)
    assert built(x).item() == 0


def test_the_default_format_is_the_one_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "_current", defaults.Defaults("float64", 1e-7, "channels_first"))
    layer = Conv3DTranspose(1, 1)
    assert (layer.data_format, layer.dtype) == ("channels_first", "float64")
    assert Conv3DTranspose(1, 1, data_format="Channels_Last").data_format == "channels_last"


# Weights.


def test_weights_are_numpy_arrays_in_keras_s_layout() -> None:
    layer = Conv3DTranspose(2, (1, 2, 3), input_shape=(1, 1, 1, 4))
    given = [np.arange(48.0).reshape(1, 2, 3, 2, 4), np.array([1, 2])]
    layer.set_weights(given)
    found = layer.get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(found, given, strict=True))
    assert [array.dtype for array in found] == [np.float32, np.float32]
    found[1][:] = 9
    assert layer.get_weights()[1].tolist() == [1, 2], "what is given out is a copy"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([np.ones((1, 1, 1, 1, 2))], "layer up has 2 weights, got 1"),
        ([], "layer up has 2 weights, got 0"),
        ([np.ones((1, 1, 1, 2, 1)), np.ones(1)], r"shape \(1, 1, 1, 1, 2\), got \(1, 1, 1, 2, 1\)"),
        ([np.ones((1, 1, 1, 1, 2)), np.ones(2)], r"shape \(1,\), got \(2,\)"),
        ([[[[[[1, 1]]]]], np.ones(1)], r"must be an array of shape \(1, 1, 1, 1, 2\), got list"),
    ],
)
def test_weights_that_do_not_fit(weights: list[Any], message: str) -> None:
    layer = Conv3DTranspose(1, 1, name="up", kernel_initializer="zeros", input_shape=(1, 1, 1, 2))
    with pytest.raises(ArgumentError, match=message):
        layer.set_weights(weights)
    assert layer.get_weights()[0].ravel().tolist() == [0, 0], "nothing is set where anything is refused"


def test_before_it_is_built() -> None:
    layer = Conv3DTranspose(1, 1, name="up")
    layer.set_weights([])
    with pytest.raises(ArgumentError, match=r"layer up has 0 weights, got 2; the layer is not built, call build"):
        layer.set_weights([np.ones((1, 1, 1, 1, 1)), np.ones(1)])
    with pytest.raises(ArgumentError, match=r"layer up is not built and has no weights to count; call build"):
        layer.count_params()
    assert layer.kernel is None


def test_printed_it_tells_its_arguments() -> None:
    text = repr(Conv3DTranspose(2, 3, output_padding=0, dilation_rate=2, name="up"))
    assert text == (
        "Conv3DTranspose(2, kernel_size=(3, 3, 3), strides=(1, 1, 1), padding='valid', output_padding=(0, 0, 0), "
        "dilation_rate=(2, 2, 2), data_format='channels_last', name='up')"
    )


def test_the_activation_s_weights_come_third() -> None:
    layer = Conv3DTranspose(2, 1, activation="PReLU", input_shape=(3, 4, 5, 1))
    assert [tuple(weight.shape) for weight in layer.weights] == [(1, 1, 1, 2, 1), (2,), (3, 4, 5, 2)]
    unknown = Conv3DTranspose(2, 1, activation="PReLU", input_shape=(3, None, 5, 1))
    assert len(unknown.weights) == 2
    unknown(torch.ones(1, 3, 4, 5, 1))
    assert len(unknown.weights) == 3
    shared = Conv3DTranspose(
        2, 1, activation=activations.PReLU(shared_axes=[1, 2, 3]), input_shape=(None, None, None, 1)
    )
    assert [tuple(weight.shape) for weight in shared.weights][2] == (1, 1, 1, 2)
