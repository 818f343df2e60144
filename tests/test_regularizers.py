"""Are the penalties Keras's sums, with its names, defaults and refusals?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conv3dt import regularizers
from conv3dt.errors import ArgumentError
from conv3dt.regularizers import L1, L1L2, L2, OrthogonalRegularizer, Regularizer
from tests.keras29 import RECORDED, whole

VALUES = arrays(np.float64, st.tuples(st.integers(0, 3), st.integers(1, 4)), elements=st.floats(-100, 100))
FACTORS = st.floats(-2, 2, width=32)


@pytest.mark.parametrize("seen", RECORDED["regularizers"], ids=lambda seen: str(seen["identifier"]))
def test_what_the_real_one_said(seen: dict[str, Any]) -> None:
    regularizer = regularizers.get(seen["identifier"])
    assert regularizers.serialize(regularizer) == seen["config"]
    assert float(regularizer(torch.from_numpy(whole((3, 4))))) == pytest.approx(seen["value"], rel=1e-6)
    again = regularizers.deserialize(seen["config"])
    assert again.get_config() == regularizer.get_config()


@given(VALUES, FACTORS, FACTORS)
@settings(deadline=None)
def test_the_sums(x: Any, l1: float, l2: float) -> None:
    ones, squares = float(np.abs(x).sum()), float((x**2).sum())
    tensor = torch.from_numpy(x)
    assert float(L1(l1)(tensor)) == pytest.approx(l1 * ones, abs=1e-9)
    assert float(L2(l2)(tensor)) == pytest.approx(l2 * squares, abs=1e-9)
    assert float(L1L2(l1, l2)(tensor)) == pytest.approx(l1 * ones + l2 * squares, abs=1e-9)


@given(arrays(np.float64, (3, 4), elements=st.floats(-100, 100).filter(lambda v: abs(v) > 0.1)), st.booleans())
@settings(deadline=None)
def test_the_mean_of_dot_products_of_unit_vectors(x: Any, rows: bool) -> None:
    vectors = [v / math.sqrt(float((v**2).sum())) for v in (x if rows else x.T)]
    n = len(vectors)
    dots = [float((vectors[i] * vectors[j]).sum()) for i in range(n) for j in range(i)]
    penalty = OrthogonalRegularizer(0.5, "rows" if rows else "columns")(torch.from_numpy(x))
    assert float(penalty) == pytest.approx(0.5 * sum(dots) / len(dots), abs=1e-9)


def test_orthogonal_rows_cost_nothing_and_signs_are_kept() -> None:
    assert float(OrthogonalRegularizer(1.0)(torch.eye(3))) == 0
    assert float(OrthogonalRegularizer(1.0)(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))) == -1
    assert float(OrthogonalRegularizer(1.0)(torch.tensor([[2**-10, 0.0], [2**-10, 0.0]]))) == pytest.approx(1)
    assert float(OrthogonalRegularizer(1.0)(torch.zeros(2, 2))) == 0


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (1, 1, 1, 2, 2)])
def test_orthogonal_needs_a_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"needs a matrix \(2 axes\), got shape \("):
        OrthogonalRegularizer()(torch.ones(shape))


@pytest.mark.parametrize("regularizer", [L1(0.3), L2(0.3), L1L2(0.2, 0.1), L1L2()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_penalty_has_no_axes_and_the_type_of_the_weights(regularizer: Regularizer, dtype: torch.dtype) -> None:
    penalty = regularizer(torch.ones(2, 3, dtype=dtype))
    assert isinstance(penalty, torch.Tensor)
    assert (penalty.shape, penalty.dtype) == ((), dtype)


@pytest.mark.parametrize("regularizer", [L1(0.3), L2(0.3), L1L2(0.2, 0.1), OrthogonalRegularizer(0.3)])
def test_gradients(regularizer: Any) -> None:
    x = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(regularizer, x)


def test_a_factor_of_0_asks_nothing_of_infinity() -> None:
    assert float(L1L2(0, 0)(torch.tensor([math.inf]))) == 0


@pytest.mark.parametrize("value", [np.float32(1), np.int64(1), "1", [1], math.inf, -math.inf, math.nan], ids=repr)
def test_factors_that_are_refused(value: Any) -> None:
    for make in (L1, L2, OrthogonalRegularizer, lambda value: L1L2(l2=value)):
        with pytest.raises(ArgumentError, match="must be a finite int or float, got "):
            make(value)


def test_factors_that_are_taken() -> None:
    assert L1(True).get_config() == {"l1": 1.0}
    assert L2(np.float64(2)).get_config() == {"l2": 2.0}
    assert L2(-1).get_config() == {"l2": -1.0}
    assert L2(l=0.5).get_config() == {"l2": 0.5}
    with pytest.raises(ArgumentError, match="factor must be a finite int or float, got None"):
        OrthogonalRegularizer(None)  # type: ignore[arg-type]


def test_unknown_arguments_are_type_errors() -> None:
    with pytest.raises(TypeError, match="L1 got an unexpected keyword argument 'foo'"):
        L1(foo=1)
    with pytest.raises(ArgumentError, match="mode must be 'rows' or 'columns', got 'row'"):
        OrthogonalRegularizer(mode="row")


def test_one_of_ones_own() -> None:
    class Sum(Regularizer):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum()

    assert float(regularizers.get(Sum())(torch.ones(3))) == 3
    assert Regularizer()(torch.ones(3)) == 0
    with pytest.raises(NotImplementedError, match="Sum does not define get_config"):
        regularizers.serialize(Sum())
