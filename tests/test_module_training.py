"""Does the layer train as a torch module does: gradients, losses, constraints, moving, saving, copying, compiling?"""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from conv3dt.activations import PReLU
from conv3dt.errors import ArgumentError
from conv3dt.layer.module import Conv3DTranspose
from conv3dt.regularizers import L1
from tests.keras29 import RECORDED, whole

ONES: dict[str, Any] = {"kernel_initializer": "ones", "bias_initializer": "ones"}


def tensor(shape: tuple[int, ...], start: int = 0) -> torch.Tensor:
    return torch.from_numpy(whole(shape, start))


# Gradients.


@pytest.mark.parametrize(
    "arguments",
    [
        {"strides": 2, "padding": "same"},
        {"strides": (1, 2, 3), "output_padding": (0, 1, 2)},
        {"strides": 3, "kernel_size": 2},
        {"dilation_rate": 2, "padding": "same"},
        {"strides": 2, "padding": "same", "output_padding": 0, "activation": "softmax"},
        {"data_format": "channels_first", "activation": "tanh"},
        {"use_bias": False, "activation": "PReLU"},
    ],
    ids=str,
)
def test_gradients(arguments: dict[str, Any]) -> None:
    layer = Conv3DTranspose(**{"filters": 2, "kernel_size": 3, **arguments}, dtype="float64")
    x = tensor((1, 2, 1, 2, 2)).double().requires_grad_()
    layer(x)
    names = [name for name, _ in layer.named_parameters()]

    def function(x: torch.Tensor, *weights: torch.Tensor) -> Any:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    weights = [weight.detach().add(0.01).requires_grad_() for weight in layer.weights]
    assert torch.autograd.gradcheck(function, (x, *weights))


def test_a_kernel_is_found_again_by_training() -> None:
    torch.manual_seed(0)
    teacher = Conv3DTranspose(2, 3, strides=2, padding="same", bias_initializer="ones")
    student = Conv3DTranspose(2, 3, strides=2, padding="same", input_shape=(3, 3, 3, 1))
    x = torch.randn(4, 3, 3, 3, 1)
    with torch.no_grad():
        target = teacher(x)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(student(x), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]
    for found, wanted in zip(student.get_weights(), teacher.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, atol=0.05)


def test_an_optimizer_made_before_the_first_call_has_nothing_to_do() -> None:
    """This is why ``input_shape`` builds at once."""
    with pytest.raises(ValueError, match="empty parameter list"):
        torch.optim.SGD(Conv3DTranspose(1, 1).parameters(), lr=1)
    torch.optim.SGD(Conv3DTranspose(1, 1, input_shape=(None, None, None, 1)).parameters(), lr=1)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_weights_made_by_a_call_without_gradients_can_be_trained(mode: Any) -> None:
    layer, x = Conv3DTranspose(1, 2, activation="PReLU"), tensor((1, 2, 2, 2, 1))
    with mode():
        layer(x)
    layer(x).sum().backward()
    assert all(weight.grad is not None for weight in layer.weights)


# What is trained.


def test_trainable_may_be_set_before_and_after_it_is_built() -> None:
    layer = Conv3DTranspose(1, 1, trainable=False, activation="PReLU", kernel_regularizer="l2", **ONES)
    layer(tensor((1, 1, 1, 1, 1)))
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (0, 3)
    assert len(layer.losses) == 1
    weights = layer.get_weights()
    layer.trainable = True
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (3, 0)
    assert all(weight.requires_grad for weight in layer.weights)
    assert layer.activation.trainable
    assert all(np.array_equal(old, new) for old, new in zip(weights, layer.get_weights(), strict=True))
    layer.trainable = False
    assert layer.get_config()["trainable"] is False
    assert layer.get_config()["activation"]["config"]["trainable"] is False
    assert not layer(tensor((1, 1, 1, 1, 1))).requires_grad
    with pytest.raises(TypeError, match="trainable must be a bool, got 1"):
        layer.trainable = 1  # type: ignore[assignment]


# Losses.


def test_losses_are_the_real_one_s_in_its_order() -> None:
    layer = Conv3DTranspose(
        2,
        2,
        activation=PReLU(alpha_regularizer="l1", alpha_initializer="ones"),
        kernel_regularizer="l2",
        bias_regularizer="l1",
        activity_regularizer="l1",
        **ONES,
    )
    layer(tensor((2, 2, 2, 2, 1)))
    layer.add_loss(lambda: torch.tensor(7.0))
    assert [loss.item() for loss in layer.losses] == pytest.approx(RECORDED["losses"], rel=1e-6)


def test_losses_before_and_after_it_is_built_and_called() -> None:
    layer = Conv3DTranspose(2, 1, kernel_regularizer="l2", bias_regularizer="l1", activity_regularizer="l1", **ONES)
    assert layer.losses == []
    layer.build((None, 1, 1, 1, 1))
    assert [loss.item() for loss in layer.losses] == pytest.approx([0.02, 0.02])
    for _ in range(2):
        layer(torch.ones(2, 1, 1, 1, 1))
        assert [loss.item() for loss in layer.losses] == pytest.approx([0.04, 0.02, 0.02])


def test_weight_penalties_are_computed_anew() -> None:
    layer = Conv3DTranspose(1, 1, kernel_regularizer=L1(1.0), input_shape=(1, 1, 1, 2), **ONES)
    assert layer.losses[0].item() == 2
    layer.set_weights([np.full((1, 1, 1, 1, 2), 3), np.ones(1)])
    assert layer.losses[0].item() == 6


def test_the_activity_s_penalty_is_after_the_activation_and_per_volume() -> None:
    layer = Conv3DTranspose(1, 1, activation="relu", activity_regularizer=L1(1.0), **ONES)
    layer(torch.tensor([-5.0, 1.0, 3.0, -2.0]).reshape(4, 1, 1, 1, 1))
    assert [loss.item() for loss in layer.losses] == [(2 + 4) / 4]
    layer(torch.zeros(0, 1, 1, 1, 1))
    assert np.isnan(layer.losses[0].item())


def test_added_losses_are_functions_and_stay() -> None:
    layer = Conv3DTranspose(1, 1, input_shape=(1, 1, 1, 1), **ONES)
    layer.add_loss([lambda: 3.0, lambda: torch.tensor(4.0)])
    layer.add_loss(lambda: None)
    layer.add_loss(None)
    layer(torch.ones(1, 1, 1, 1, 1))
    assert [loss.item() for loss in layer.losses] == [3, 4]
    value: Any
    for value in (3.0, torch.tensor(3.0)):
        with pytest.raises(ArgumentError, match=r"add_loss takes functions without arguments, got .*; write lambda: "):
            layer.add_loss(value)


def test_losses_have_gradients() -> None:
    layer = Conv3DTranspose(
        1, 1, kernel_regularizer=L1(0.5), activity_regularizer=L1(1.0), input_shape=(1, 1, 1, 1), **ONES
    )
    layer(torch.full((2, 1, 1, 1, 1), 3.0))
    torch.stack(layer.losses).sum().backward()  # type: ignore[no-untyped-call]
    kernel, bias = layer.weights
    assert kernel.grad is not None
    assert bias.grad is not None
    assert (kernel.grad.item(), bias.grad.item()) == (3 + 0.5, 1)


# Constraints.


def test_constraints_are_applied_when_asked_for() -> None:
    layer = Conv3DTranspose(
        1, (2, 1, 1), kernel_constraint="unit_norm", bias_constraint="nonneg", input_shape=(1, 1, 1, 1)
    )
    layer.set_weights([np.array([3.0, 4.0]).reshape(2, 1, 1, 1, 1), np.array([-1.0])])
    layer(torch.ones(1, 1, 1, 1, 1))
    assert layer.get_weights()[0].ravel().tolist() == [3, 4]
    layer.apply_constraints()
    np.testing.assert_allclose(layer.get_weights()[0].ravel(), [0.6, 0.8], rtol=1e-6)
    assert layer.get_weights()[1].tolist() == [0]
    assert layer.weights[0].requires_grad
    Conv3DTranspose(1, 1, kernel_constraint="unit_norm").apply_constraints()


def test_constraints_by_a_hook_of_the_optimizer() -> None:
    layer = Conv3DTranspose(1, 1, kernel_constraint="nonneg", input_shape=(1, 1, 1, 1), **ONES)
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0)
    optimizer.register_step_post_hook(lambda *_: layer.apply_constraints())
    layer(torch.ones(1, 1, 1, 1, 1)).sum().backward()
    optimizer.step()
    assert [array.item() for array in layer.get_weights()] == [0, -9]


def test_the_activation_s_weights_have_constraints_too() -> None:
    slope = PReLU(lambda shape, dtype: torch.full(shape, -1.0), alpha_constraint="nonneg")
    layer = Conv3DTranspose(1, 1, activation=slope, input_shape=(1, 1, 1, 1))
    layer.apply_constraints()
    assert layer.get_weights()[2].item() == 0


# Moving, saving, copying.


def test_state_dict() -> None:
    layer = Conv3DTranspose(2, (1, 2, 3), strides=2, activation="PReLU")
    x = tensor((1, 2, 2, 2, 3))
    y = layer(x)
    state = layer.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "kernel": (1, 2, 3, 2, 3),
        "bias": (2,),
        "activation.alpha": (4, 4, 5, 2),
    }
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    unbuilt = Conv3DTranspose(2, (1, 2, 3), strides=2, activation="PReLU", trainable=False)
    assert str(unbuilt.load_state_dict(torch.load(file))) == "<All keys matched successfully>"
    assert torch.equal(unbuilt(x), y)
    assert not any(weight.requires_grad for weight in unbuilt.weights)
    built = Conv3DTranspose(2, (1, 2, 3), strides=2, activation="PReLU", input_shape=(2, 2, 2, 3))
    built.load_state_dict(state)
    assert torch.equal(built(x), y)


def test_a_state_inside_a_larger_model() -> None:
    def model() -> torch.nn.Module:
        return torch.nn.Sequential(Conv3DTranspose(2, 2, strides=2), Conv3DTranspose(1, 3, use_bias=False))

    first, second, x = model(), model(), tensor((1, 2, 2, 2, 3))
    y = first(x)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x), y)
    assert list(first.state_dict()) == ["0.kernel", "0.bias", "1.kernel"]


def test_states_that_do_not_fit() -> None:
    state = Conv3DTranspose(2, 3, input_shape=(1, 1, 1, 4)).state_dict()
    for layer in (Conv3DTranspose(2, 2), Conv3DTranspose(2, 3, input_shape=(1, 1, 1, 5))):
        with pytest.raises(RuntimeError, match="size mismatch for kernel"):
            layer.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "bias"'):
        Conv3DTranspose(2, 3, use_bias=False).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "bias"'):
        Conv3DTranspose(2, 3).load_state_dict({"kernel": state["kernel"]})


@pytest.mark.parametrize("built", [False, True])
def test_another_number_type_is_another_policy(built: bool) -> None:
    x = tensor((1, 2, 2, 2, 1))
    layer = Conv3DTranspose(1, 2, activation="PReLU")
    if built:
        layer(x)
    assert layer.double()(x).dtype == torch.float64
    assert [weight.dtype for weight in layer.weights] == [torch.float64] * 3
    assert (layer.dtype, layer.get_config()["dtype"]) == ("float64", "float64")
    assert layer.to(torch.bfloat16)(x).dtype == torch.bfloat16


@pytest.mark.parametrize("built", [False, True])
def test_another_device(built: bool) -> None:
    layer = Conv3DTranspose(1, 2, activation="PReLU", dtype="mixed_float16")
    if built:
        layer(tensor((1, 2, 2, 2, 1)))
    y = layer.to("meta")(torch.empty(1, 2, 2, 2, 1, device="meta"))
    assert (y.device.type, y.shape, y.dtype) == ("meta", (1, 3, 3, 3, 1), torch.float16)
    assert {weight.device.type for weight in layer.weights} == {"meta"}
    assert layer.dtype_policy.name == "mixed_float16"


def test_the_device_in_force_at_construction() -> None:
    with torch.device("meta"):
        layer = Conv3DTranspose(1, 2)
    layer.build((None, None, None, None, 1))
    assert {weight.device.type for weight in layer.weights} == {"meta"}


@pytest.mark.parametrize("built", [False, True])
def test_copies_and_pickles(built: bool) -> None:
    x = tensor((1, 2, 2, 2, 1))
    layer = Conv3DTranspose(
        1, 2, strides=2, padding="same", activation="PReLU", activity_regularizer="l1", kernel_constraint="max_norm",
        kernel_initializer="ones", name="up",
    )  # fmt: skip
    if built:
        layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.built is built
        assert other.get_config() == layer.get_config()
        assert torch.equal(other(x), Conv3DTranspose.from_config(layer.get_config())(x))
        assert len(other.losses) == 1


def test_a_copy_has_weights_of_its_own() -> None:
    layer = Conv3DTranspose(1, 1, input_shape=(1, 1, 1, 1), **ONES)
    other = copy.deepcopy(layer)
    other.set_weights([np.zeros((1, 1, 1, 1, 1)), np.zeros(1)])
    assert layer.get_weights()[0].item() == 1


# Compiling.


@pytest.fixture
def compiled() -> Any:
    torch.compiler.reset()
    yield lambda layer, **options: torch.compile(layer, backend="aot_eager", **options)
    torch.compiler.reset()


def test_a_built_layer_is_one_graph(compiled: Any) -> None:
    layer = Conv3DTranspose(
        2, 3, strides=2, padding="same", activation="relu", activity_regularizer="l1", input_shape=(2, 2, 2, 2)
    )
    x = tensor((1, 2, 2, 2, 2))
    expected = layer(x)
    expected.sum().backward()
    gradients = [weight.grad for weight in layer.weights]
    wanted = layer.losses[0].item()
    layer.zero_grad()
    found = compiled(layer, fullgraph=True)(x)
    torch.testing.assert_close(found, expected)
    assert layer.losses[0].item() == pytest.approx(wanted)
    found.sum().backward()
    for weight, gradient in zip(layer.weights, gradients, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def test_a_layer_that_is_not_built_is_built_by_the_compiled_call(compiled: Any) -> None:
    layer = Conv3DTranspose(2, 2, strides=3, activation="PReLU")
    function = compiled(layer)
    x = tensor((1, 2, 2, 2, 1))
    torch.testing.assert_close(function(x), layer(x))
    assert len(layer.weights) == 3
    bigger = Conv3DTranspose(2, 2, strides=3)
    function = compiled(bigger)
    for n in (2, 3, 4):
        x = tensor((1, n, 2, 2, 1))
        torch.testing.assert_close(function(x), bigger(x))
