"""Are weights projected as Keras projects them?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conv3dt import constraints, defaults
from conv3dt.constraints import Constraint, MaxNorm, MinMaxNorm, NonNeg, RadialConstraint, UnitNorm
from conv3dt.errors import ArgumentError
from tests.keras29 import RECORDED, whole

WEIGHTS = arrays(np.float64, (2, 3, 2), elements=st.floats(-100, 100))
AXES = st.sampled_from([0, 1, -1, [0, 1], [0, 2], [0, 1, 2]])
EPSILON = 1e-7


def norms(w: Any, axis: Any) -> Any:
    return np.sqrt((w**2).sum(axis=axis if isinstance(axis, int) else tuple(axis), keepdims=True))


@pytest.mark.parametrize("seen", RECORDED["constraints"], ids=lambda seen: str(seen["identifier"]))
def test_what_the_real_one_said(seen: dict[str, Any]) -> None:
    constraint = constraints.get(seen["identifier"])
    assert constraints.serialize(constraint) == seen["config"]
    projected = constraint(torch.from_numpy(whole((2, 1, 2, 2, 3))))
    np.testing.assert_allclose(projected.numpy().ravel(), seen["values"], rtol=1e-6)
    assert constraints.serialize(constraints.deserialize(seen["config"])) == seen["config"]


@pytest.mark.parametrize("seen", RECORDED["radial"], ids=lambda seen: str(seen["n"]))
def test_what_the_real_one_made_of_rings(seen: dict[str, Any]) -> None:
    n = seen["n"]
    assert RadialConstraint()(torch.from_numpy(whole((n, n, 2, 1)))).numpy().ravel().tolist() == seen["values"]


@given(WEIGHTS, AXES, st.floats(0, 50), st.floats(0, 50), st.floats(0, 1))
@settings(deadline=None)
def test_the_formulas(w: Any, axis: Any, low: float, more: float, rate: float) -> None:
    tensor, size, high = torch.from_numpy(w), norms(w, axis), low + more
    expected = {
        MaxNorm(high, axis): w * (np.clip(size, 0, high) / (EPSILON + size)),
        UnitNorm(axis): w / (EPSILON + size),
        NonNeg(): np.maximum(w, 0),
        MinMaxNorm(low, high, rate, axis): w
        * ((rate * np.clip(size, low, high) + (1 - rate) * size) / (EPSILON + size)),
    }
    for constraint, values in expected.items():
        np.testing.assert_allclose(constraint(tensor).numpy(), values, rtol=1e-12, atol=1e-300)


@given(WEIGHTS, AXES, st.floats(0.5, 50))
@settings(deadline=None)
def test_norms_come_to_lie_where_they_should(w: Any, axis: Any, bound: float) -> None:
    assert (norms(MaxNorm(bound, axis)(torch.from_numpy(w)).numpy(), axis) <= bound).all()
    unit = norms(UnitNorm(axis)(torch.from_numpy(w)).numpy(), axis)
    assert np.logical_or(np.abs(unit - 1) < 1e-3, norms(w, axis) < 1e-3).all()


def test_the_default_axis_is_the_first() -> None:
    w = torch.tensor([[3.0, 0.3], [4.0, 0.4]])
    torch.testing.assert_close(UnitNorm()(w), torch.tensor([[0.6, 0.6], [0.8, 0.8]]))
    torch.testing.assert_close(MaxNorm(1)(w), torch.tensor([[0.6, 0.3], [0.8, 0.4]]))


def test_the_norm_of_each_filter() -> None:
    w = torch.from_numpy(whole((3, 2, 2, 4, 5)))
    unit = UnitNorm([0, 1, 2, 4])(w)
    torch.testing.assert_close(unit.square().sum((0, 1, 2, 4)), torch.ones(4))


def test_epsilon_is_the_one_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "_current", defaults.Defaults(epsilon=1.0))
    assert UnitNorm()(torch.tensor([1.0])).item() == 0.5


def test_rings_of_the_picture_in_the_docstring() -> None:
    w = torch.arange(16.0).reshape(4, 4, 1, 1)
    ring = RadialConstraint()(w)[..., 0, 0]
    assert ring.tolist() == [[15, 15, 15, 15], [15, 5, 5, 15], [15, 5, 5, 15], [15, 15, 15, 15]]


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 1), (3, 4, 1, 1), (3, 3, 3, 1, 1)])
def test_rings_need_a_square_kernel_of_two_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"needs a kernel of shape \(n, n, a, b\), got \("):
        RadialConstraint()(torch.ones(shape))


@pytest.mark.parametrize("constraint", [MaxNorm(), NonNeg(), UnitNorm(), MinMaxNorm(), Constraint()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shape_and_type_are_kept(constraint: Constraint, dtype: torch.dtype) -> None:
    w = constraint(torch.ones(2, 3, dtype=dtype))
    assert (w.shape, w.dtype) == ((2, 3), dtype)


def test_one_of_ones_own() -> None:
    class Even(Constraint):
        def __call__(self, w: torch.Tensor) -> torch.Tensor:
            return 2 * (w / 2).round()

    assert constraints.serialize(Even()) == {"class_name": "Even", "config": {}}
    assert constraints.get(Even())(torch.tensor([2.9])).item() == 2
