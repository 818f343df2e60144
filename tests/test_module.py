"""Does the module compute the layer: value for value, shape for shape, in each number type and order of axes?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conv3dt import activations
from conv3dt.errors import ArgumentError
from conv3dt.layer.module import Conv3DTranspose, Convolution3DTranspose
from tests import oracle
from tests.keras29 import RECORDED, whole


def layer_with(kernel: Any, bias: Any = None, **arguments: Any) -> Conv3DTranspose:
    """A layer with these weights, built."""
    layer = Conv3DTranspose(
        kernel.shape[3], kernel.shape[:3], use_bias=bias is not None, dtype=kernel.dtype, **arguments
    )
    layer.build((None, None, None, None, kernel.shape[4]) if layer.data_format == "channels_last" else
                (None, kernel.shape[4], None, None, None))  # fmt: skip
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return layer


def values(layer: Conv3DTranspose, x: Any) -> Any:
    return layer(torch.from_numpy(x)).detach().numpy()


# The layer itself.


@pytest.mark.parametrize("seen", RECORDED["results"], ids=lambda seen: str(seen["arguments"]))
def test_what_the_real_one_computed(seen: dict[str, Any]) -> None:
    arguments = dict(seen["arguments"])
    size = arguments.pop("kernel_size")
    kernel = whole((*([size] * 3 if isinstance(size, int) else size), 2, 2), 3)
    layer = layer_with(kernel, np.array([1, -2], np.float32), **arguments)
    found = values(layer, whole((1, 2, 3, 2, 2)))
    assert list(found.shape) == seen["shape"]
    assert found.astype(int).ravel().tolist() == seen["values"]


@st.composite
def laws(draw: Any) -> oracle.Laws:
    padding = draw(st.sampled_from(["valid", "same"]))
    explicit, dilated = draw(st.booleans()), draw(st.booleans())
    found = []
    for _ in range(3):
        kernel = draw(st.integers(1, 4))
        stride, dilation = (1, draw(st.integers(1, 3))) if dilated else (draw(st.integers(1, 3)), 1)
        law = oracle.Law(kernel, stride, dilation, padding, draw(st.integers(0, stride - 1)) if explicit else None)
        assume(not (padding == "same" and law.output_padding == 0 and law.extent % 2 == 0))
        found.append(law)
    return found[0], found[1], found[2]


@given(laws(), st.tuples(*[st.integers(1, 3)] * 3), st.booleans(), st.sampled_from([None, "relu", "hard_sigmoid"]))
@settings(deadline=None, max_examples=80)
def test_the_definition(laws: oracle.Laws, shape: Any, first: bool, activation: str | None) -> None:
    x = whole((2, *shape, 2)).astype(np.float64)
    kernel = whole((*(law.kernel for law in laws), 3, 2), 3).astype(np.float64)
    bias = np.array([1.0, -2.0, 3.0])
    layer = layer_with(
        kernel,
        bias,
        strides=[law.stride for law in laws],
        dilation_rate=[law.dilation for law in laws],
        padding=laws[0].padding,
        output_padding=None if laws[0].output_padding is None else [law.output_padding for law in laws],
        data_format="channels_first" if first else None,
        activation=activation,
    )
    end: Any = {
        None: lambda y: y,
        "relu": lambda y: np.maximum(y, 0),
        "hard_sigmoid": lambda y: np.clip(0.2 * y + 0.5, 0, 1),
    }
    expected = np.stack([end[activation](oracle.transposed(one, kernel, laws, bias=bias)) for one in x])
    given_shape = (2, 2, *shape) if first else x.shape
    found = values(layer, np.moveaxis(x, -1, 1) if first else x)
    assert layer.compute_output_shape(given_shape) == found.shape
    np.testing.assert_allclose(np.moveaxis(found, 1, -1) if first else found, expected, rtol=1e-13)


def test_an_odd_kernel_with_an_even_stride_is_cut_more_at_the_end() -> None:
    """The usual torch idiom, padding 1 and output_padding 1, gives 2, 13, 20, 30."""
    kernel = np.array([1, 2, 3], np.float32).reshape(1, 1, 3, 1, 1)
    layer = layer_with(kernel, strides=(1, 1, 2), padding="same")
    assert values(layer, np.array([1, 10], np.float32).reshape(1, 1, 1, 2, 1)).ravel().tolist() == [1, 2, 13, 20]


def test_outputs_that_no_tap_reaches_are_the_activation_of_the_bias() -> None:
    layer = layer_with(np.ones((1, 1, 1, 1, 1), np.float32), np.array([-2], np.float32), strides=(1, 1, 3))
    assert values(layer, np.full((1, 1, 1, 2, 1), 5, np.float32)).ravel().tolist() == [3, -2, -2, 3, -2, -2]
    layer.activation = activations.relu
    assert values(layer, np.full((1, 1, 1, 1, 1), 5, np.float32)).ravel().tolist() == [3, 0, 0]


def test_a_batch_is_each_of_its_volumes() -> None:
    layer = layer_with(whole((2, 3, 2, 2, 3)), strides=2)
    x = whole((3, 2, 3, 2, 3))
    assert np.array_equal(values(layer, x), np.concatenate([values(layer, x[i : i + 1]) for i in range(3)]))


def test_no_volumes_and_one_voxel() -> None:
    layer = Conv3DTranspose(2, 3, strides=2)
    assert layer(torch.zeros(0, 2, 3, 4, 1)).shape == (0, 5, 7, 9, 2)
    assert layer(torch.zeros(1, 1, 1, 1, 1)).shape == (1, 3, 3, 3, 2)


def test_softmax_acts_along_the_last_axis_in_either_format() -> None:
    x = torch.from_numpy(whole((1, 2, 3, 2, 2)))
    last = Conv3DTranspose(3, 2, activation="softmax")(x)
    first = Conv3DTranspose(3, 2, activation="softmax", data_format="channels_first")(x)
    assert last.shape == (1, 3, 4, 3, 3)
    assert first.shape == (1, 3, 4, 3, 3)
    for y in (last, first):
        torch.testing.assert_close(y.sum(-1), torch.ones(y.shape[:-1]))


def test_the_other_name() -> None:
    assert Convolution3DTranspose is Conv3DTranspose


# Shapes.


@pytest.mark.parametrize("seen", RECORDED["shapes"], ids=lambda seen: str(list(seen["arguments"].values())))
def test_what_shapes_the_real_one_told(seen: dict[str, Any]) -> None:
    arguments = seen["arguments"]
    if arguments["padding"] == "same" and arguments["output_padding"] == 0 and arguments["kernel_size"] % 2 == 0:
        with pytest.raises(ArgumentError, match="output_padding 0 with padding 'same' has no meaning for an even"):
            Conv3DTranspose(3, **arguments)
        return
    assert list(Conv3DTranspose(3, **arguments).compute_output_shape((None, 1, 5, None, 4))) == seen["shape"]


def test_shapes_with_channels_first() -> None:
    layer = Conv3DTranspose(3, 2, strides=(1, 2, 3), data_format="channels_first")
    assert layer.compute_output_shape((None, 9, 4, None, 5)) == (None, 3, 5, None, 15)
    assert layer.compute_output_shape(torch.Size([2, 9, 4, 5, 5])) == (2, 3, 5, 10, 15)


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (1, 2, 3, 4, 5, 6), 3, None])
def test_shapes_without_five_axes(shape: Any) -> None:
    with pytest.raises(ArgumentError, match="must have 5 axes, batch and channels included, got "):
        Conv3DTranspose(1, 1).compute_output_shape(shape)


# Inputs.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_inputs_are_converted_to_the_layer_s_type(dtype: str) -> None:
    layer = Conv3DTranspose(1, 2, dtype=dtype)
    for given_type in (torch.float16, torch.float32, torch.float64, torch.bfloat16):
        assert str(layer(torch.ones(1, 2, 2, 2, 1, dtype=given_type)).dtype) == f"torch.{dtype}"
    assert (layer.dtype, layer.variable_dtype, layer.compute_dtype) == (dtype, dtype, dtype)
    assert str(layer.weights[0].dtype) == f"torch.{dtype}"


@pytest.mark.parametrize(("policy", "compute"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")])
def test_mixed_policies_keep_the_weights_in_float32(policy: str, compute: str) -> None:
    layer = Conv3DTranspose(2, 3, dtype=policy, kernel_initializer="ones", activation="PReLU")
    y = layer(torch.ones(1, 2, 2, 2, 1))
    assert str(y.dtype) == f"torch.{compute}"
    assert [weight.dtype for weight in layer.weights] == [torch.float32] * 3
    assert (layer.dtype, layer.compute_dtype) == ("float32", compute)
    y.float().sum().backward()
    assert layer.weights[0].grad is not None
    assert layer.weights[0].grad.dtype == torch.float32


def test_numpy_arrays_are_welcome() -> None:
    layer = layer_with(whole((2, 2, 2, 1, 1)))
    x: Any = whole((1, 2, 2, 2, 1)).astype(np.float64)
    assert torch.equal(layer(x), layer(torch.from_numpy(x)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_inputs_that_are_no_real_numbers(dtype: torch.dtype) -> None:
    with pytest.raises(ArgumentError, match=r"inputs of layer \w+ must be float32, got torch\.\w+; convert them"):
        Conv3DTranspose(1, 1)(torch.ones(1, 2, 2, 2, 1, dtype=dtype))


def test_without_autocast_the_type_must_fit() -> None:
    layer = Conv3DTranspose(1, 1, autocast=False)
    assert layer(torch.ones(1, 1, 1, 1, 1)).dtype == torch.float32
    with pytest.raises(ArgumentError, match=r"must be float32, got torch\.float64"):
        layer(torch.ones(1, 1, 1, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(2, 2, 2, 1), (1, 1, 2, 2, 2, 1), (), (1, 2, 2, 2, 3)])
def test_inputs_of_another_shape(shape: tuple[int, ...]) -> None:
    layer = Conv3DTranspose(1, 1, name="up")
    if len(shape) != 5:
        with pytest.raises(
            ArgumentError, match=r"inputs of layer up must have 5 axes, any channels on axis 4, got shape"
        ):
            layer(torch.ones(shape))
        assert not layer.built
    layer.build((None, None, None, None, 2))
    with pytest.raises(ArgumentError, match=r"inputs of layer up must have 5 axes, 2 channels on axis 4, got shape"):
        layer(torch.ones(shape))


# The forward convolution.


@pytest.mark.parametrize("seen", RECORDED["forward"], ids=lambda seen: str(seen["arguments"]))
@pytest.mark.parametrize("first", [False, True])
def test_convolution_op_is_the_real_one_s(seen: dict[str, Any], first: bool) -> None:
    layer = Conv3DTranspose(1, 1, data_format="channels_first" if first else None, **seen["arguments"])
    x, kernel = torch.from_numpy(whole((1, 5, 4, 6, 2))), torch.from_numpy(whole((2, 3, 2, 2, 1), 3))
    found = layer.convolution_op(x.movedim(-1, 1) if first else x, kernel)
    found = found.movedim(1, -1) if first else found
    assert list(found.shape) == seen["shape"]
    assert found.int().ravel().tolist() == seen["values"]
    assert not layer.built


@pytest.mark.parametrize(
    ("x", "kernel"), [((1, 2, 2, 2, 3), (1, 1, 1, 2, 3)), ((2, 2, 2, 3), (1, 1, 1, 3, 1)), ((1, 2, 2, 2, 3), (1, 1, 3))]
)
def test_convolution_op_needs_channels_that_go_together(x: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"convolution_op needs inputs of 5 axes and a kernel .* got shapes \("):
        Conv3DTranspose(1, 1).convolution_op(torch.ones(x), torch.ones(kernel))
