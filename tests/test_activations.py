"""Are the activations Keras's functions, value for value, and do their layers keep their arguments?"""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conv3dt import activations, defaults
from conv3dt.activations import ELU, LeakyReLU, PReLU, ReLU, Softmax, ThresholdedReLU
from conv3dt.errors import ArgumentError
from tests.keras29 import RECORDED, plain

Numbers = list[float]
NONE: Any = None  # where the types say a number
NUMBERS = st.lists(st.floats(-50, 50), min_size=1, max_size=6)
ALL = [*activations._FUNCTIONS, *(cls.__name__ for cls in activations._LAYERS)]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def selu(x: float) -> float:
    return 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x))


DEFINITIONS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0 else 0.2 * x,
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": selu,
    "softplus": lambda x: math.log1p(math.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "swish": lambda x: x * sigmoid(x),
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "tanh": math.tanh,
    "sigmoid": sigmoid,
    "exponential": math.exp,
    "hard_sigmoid": lambda x: min(max(0.2 * x + 0.5, 0.0), 1.0),
    "ReLU": lambda x: max(x, 0.0),
    "LeakyReLU": lambda x: x if x > 0 else float(np.float32(0.3)) * x,
    "ELU": lambda x: x if x > 0 else math.expm1(x),
    "ThresholdedReLU": lambda x: x if x > 1 else 0.0,
}


@pytest.mark.parametrize("name", DEFINITIONS)
@given(numbers=NUMBERS)
@settings(deadline=None, max_examples=40)
def test_the_definitions(name: str, numbers: Numbers) -> None:
    x = torch.tensor(numbers, dtype=torch.float64)
    expected = [DEFINITIONS[name](value) for value in numbers]
    np.testing.assert_allclose(activations.get(name)(x).numpy(), expected, rtol=1e-12, atol=1e-15)


@given(NUMBERS, st.floats(-1, 2), st.none() | st.floats(0, 9), st.floats(-5, 5))
@example([-0.5], 0.0, 2.0, -1.0)
@settings(deadline=None)
def test_the_general_relu(numbers: Numbers, alpha: float, most: float | None, threshold: float) -> None:
    expected = []
    for x in numbers:
        kept = x if x > threshold else 0.0
        cut = kept if most is None else min(max(kept, 0.0), most)
        expected.append(cut - alpha * max(threshold - x, 0.0))
    found = activations.relu(torch.tensor(numbers, dtype=torch.float64), alpha, most, threshold)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@given(arrays(np.float64, (2, 3, 2), elements=st.floats(-50, 50)), st.sampled_from([0, 1, -1, (0, 1), (1, 2), [2]]))
@settings(deadline=None)
def test_softmax_is_a_share_of_the_sum(x: Any, axis: Any) -> None:
    powers = np.exp(x)
    expected = powers / powers.sum(axis=axis if isinstance(axis, int) else tuple(axis), keepdims=True)
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(activations.softmax(tensor, axis).numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(Softmax(axis)(tensor).numpy(), expected, rtol=1e-9)
    if isinstance(axis, int):
        np.testing.assert_allclose(activations.log_softmax(tensor, axis).numpy(), np.log(expected), atol=1e-9)


def test_the_two_gelus_and_the_two_hard_sigmoids() -> None:
    x = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    wave = [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x.tolist()]
    np.testing.assert_allclose(activations.gelu(x, approximate=True).numpy(), wave, rtol=1e-12)
    torch.testing.assert_close(activations.hard_sigmoid(x, slope=1 / 6), torch.nn.functional.hardsigmoid(x))


@pytest.mark.parametrize("seen", RECORDED["activations"], ids=lambda seen: f"{seen['name']} {seen['arguments']}")
def test_what_the_real_ones_said(seen: dict[str, Any]) -> None:
    grid = RECORDED["grid"]
    x = torch.tensor([grid, grid[::-1]])
    name, arguments = seen["name"], seen["arguments"]
    layer = getattr(activations, name)
    found = layer(**arguments)(x) if name[0].isupper() else layer(x, **arguments)
    np.testing.assert_allclose(found[0].detach().numpy(), seen["values"], rtol=2e-6, atol=1e-6)


def test_signatures() -> None:
    wanted = {
        "relu": "(x, alpha=0.0, max_value=None, threshold=0.0)",
        "leaky_relu": "(x, alpha=0.2)",
        "elu": "(x, alpha=1.0)",
        "gelu": "(x, approximate=False)",
        "hard_sigmoid": "(x, slope=0.2)",
        "softmax": "(x, axis=-1)",
        "log_softmax": "(x, axis=-1)",
    }
    for name, function in activations._FUNCTIONS.items():
        bare = [
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in inspect.signature(function).parameters.values()
        ]
        expected = wanted.get(function.__name__, "(x)")
        assert str(inspect.Signature(bare)) == expected, name


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shape_and_type_are_kept(name: str, dtype: torch.dtype) -> None:
    y = activations.get(name)(torch.linspace(-3, 3, 12, dtype=dtype).reshape(1, 2, 3, 2))
    assert (y.shape, y.dtype) == ((1, 2, 3, 2), dtype)


@pytest.mark.parametrize("name", ALL)
def test_gradients(name: str) -> None:
    x = torch.tensor([[-2.2, -0.3, 0.4, 1.7, 7.1]], dtype=torch.float64, requires_grad=True)
    function = activations.get(name)
    if name == "PReLU":
        function.build(x.shape, like=x)
    assert torch.autograd.gradcheck(function, x)


@pytest.mark.parametrize("name", ["softplus", "sigmoid", "tanh", "swish", "gelu", "elu", "selu", "softmax", "relu"])
def test_large_inputs_are_finite(name: str) -> None:
    x = torch.tensor([[-1e4, -100.0, 0.0, 100.0, 1e4]], requires_grad=True)
    y = activations.get(name)(x)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_softplus_is_exact_where_torch_s_is_not() -> None:
    x = torch.tensor([21.0, 30.0], dtype=torch.float64)
    assert (activations.softplus(x) - x).tolist() == pytest.approx([math.log1p(math.exp(-21)), 9.4e-14], rel=0.2)
    assert (activations.softplus(x) > x).all()


def test_a_vector_has_no_softmax() -> None:
    with pytest.raises(ArgumentError, match=r"softmax needs at least 2 axes, got shape \(3,\)"):
        activations.softmax(torch.ones(3))
    assert Softmax()(torch.zeros(2)).tolist() == [0.5, 0.5]


def test_names_written_and_read() -> None:
    assert activations.serialize(activations.get("silu")) == "swish"
    assert activations.serialize(activations.get("log_softmax")) == "log_softmax"
    assert activations.get("log_softmax_v2") is activations.log_softmax
    assert activations.serialize(activations.get(torch.tanh)) == "tanh"
    for name in activations._FUNCTIONS:
        assert activations.get(activations.serialize(activations.get(name))) is activations.get(name)


@pytest.mark.parametrize(
    ("layer", "own"),
    [
        (ReLU(6, 0.1, 1), {"max_value": 6.0, "negative_slope": 0.10000000149011612, "threshold": 1.0}),
        (ReLU(), {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}),
        (LeakyReLU(), {"alpha": 0.30000001192092896}),
        (ELU(2), {"alpha": 2.0}),
        (ThresholdedReLU(), {"theta": 1.0}),
        (Softmax([1, 2]), {"axis": [1, 2]}),
        (
            PReLU("ones", "l1", "nonneg", [1, 2]),
            {
                "alpha_initializer": {"class_name": "Ones", "config": {}},
                "alpha_regularizer": {"class_name": "L1", "config": {"l1": 0.009999999776482582}},
                "alpha_constraint": {"class_name": "NonNeg", "config": {}},
                "shared_axes": [1, 2],
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_are_written_and_read(layer: Any, own: dict[str, Any]) -> None:
    written = activations.serialize(layer)
    common = {"name": layer.name, "trainable": True, "dtype": "float32"}
    assert written == {"class_name": type(layer).__name__, "config": {**common, **own}}
    assert list(written["config"]) == [*common, *own]
    assert activations.serialize(activations.get(plain(written))) == written


def test_layers_have_names_of_their_own() -> None:
    defaults.restart_names()
    assert [cls().name for cls in (ReLU, ReLU, PReLU, LeakyReLU, ELU, ThresholdedReLU, Softmax)] == [
        "re_lu", "re_lu_1", "p_re_lu", "leaky_re_lu", "elu", "thresholded_re_lu", "softmax",
    ]  # fmt: skip
    assert ReLU(name="mine").name == "mine"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReLU(-1), "max_value must be a number of at least 0, got -1"),
        (lambda: ReLU(negative_slope=-0.1), "negative_slope must be .* got -0.1"),
        (lambda: ReLU(negative_slope=NONE), "negative_slope must be .* got None"),
        (lambda: ReLU(threshold=NONE), "threshold must be .* got None"),
        (lambda: ReLU(threshold=-2), "threshold must be .* got -2"),
        (lambda: LeakyReLU(NONE), "alpha must be a number, got None"),
        (lambda: ELU(NONE), "alpha must be a number, got None"),
        (lambda: ThresholdedReLU(NONE), "theta must be .* got None"),
        (lambda: ThresholdedReLU(-1), "theta must be .* got -1"),
        (lambda: PReLU("zeroes"), "initializer 'zeroes' is unknown; did you mean zeros"),
        (lambda: PReLU().build((None, None, 3)), r"every axis but the first, got \(None, None, 3\); share the others"),
    ],
)
def test_arguments_that_layers_refuse(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_layer_by_dict_with_an_unknown_argument() -> None:
    with pytest.raises(TypeError, match=r"activation 'ReLU' takes max_value, .* got \{'alpha': 1\}"):
        activations.get({"class_name": "ReLU", "config": {"alpha": 1}})
    with pytest.raises(TypeError, match="activation 'relu' is a function and takes no config"):
        activations.get({"class_name": "relu", "config": {"alpha": 1}})


# PReLU.


def test_prelu_has_a_slope_for_each_place() -> None:
    layer = PReLU(alpha_initializer="ones")
    assert list(layer.parameters()) == []
    x = torch.tensor([[-1.0, -2.0], [3.0, -4.0]])
    assert layer(x).tolist() == x.tolist()
    assert layer.alpha is not None
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.5, 0.25]))
    assert layer(x).tolist() == [[-0.5, -0.5], [3.0, -1.0]]


@pytest.mark.parametrize(
    ("shared", "shape"), [(None, (2, 3, 4, 5)), ([1, 2, 3], (1, 1, 1, 5)), (4, (2, 3, 4, 1)), ((), (2, 3, 4, 5))]
)
def test_prelu_s_slopes(shared: Any, shape: tuple[int, ...]) -> None:
    layer = PReLU(shared_axes=shared)
    layer(torch.ones(7, 2, 3, 4, 5, dtype=torch.float64))
    assert layer.alpha is not None
    assert (layer.alpha.shape, layer.alpha.dtype) == (shape, torch.float64)


def test_prelu_shared_over_unknown_axes() -> None:
    layer = PReLU(shared_axes=[1, 2], trainable=False)
    layer.build((None, None, None, 3))
    assert layer.alpha is not None
    assert (layer.alpha.shape, layer.alpha.requires_grad) == ((1, 1, 3), False)


def test_prelu_s_penalty_and_constraint() -> None:
    layer = PReLU(lambda shape, dtype: torch.tensor([-1.0, 2.0]), alpha_regularizer="l2", alpha_constraint="non_neg")
    assert layer.losses == []
    layer.apply_constraints()
    layer(torch.ones(1, 2))
    assert [loss.item() for loss in layer.losses] == pytest.approx([0.05])
    layer.apply_constraints()
    assert layer.alpha is not None
    assert layer.alpha.tolist() == [0, 2]


def test_prelu_learns_its_slope() -> None:
    layer, x = PReLU(shared_axes=1), torch.tensor([[-1.0, -2.0, 3.0]])
    layer.build(x.shape)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(layer(x), torch.where(x < 0, 0.25 * x, x))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert layer.alpha is not None
    assert layer.alpha.item() == pytest.approx(0.25, abs=1e-3)


def test_prelu_is_copied_saved_and_loaded_before_and_after_it_is_built() -> None:
    layer, x = PReLU("ones"), torch.tensor([[-1.0, 2.0]])
    assert copy.deepcopy(layer).alpha is None
    layer(x)
    fresh = PReLU()
    fresh.load_state_dict(layer.state_dict())
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other(x).tolist() == [[-1.0, 2.0]]
