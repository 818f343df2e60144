"""Do weights begin as in Keras: distributions, fans, names, and the same numbers for the same seed?"""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conv3dt import defaults, initializers
from conv3dt.errors import ArgumentError
from conv3dt.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    Initializer,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
    fans,
)
from tests.keras29 import RECORDED, plain

RANDOM = [
    RandomUniform, RandomNormal, TruncatedNormal, VarianceScaling, Orthogonal, GlorotUniform, GlorotNormal, HeUniform,
    HeNormal, LecunUniform, LecunNormal,
]  # fmt: skip
KERNEL = (5, 5, 5, 20, 10)
SHAPES = st.lists(st.integers(1, 6), min_size=0, max_size=5)
random = pytest.mark.parametrize("cls", RANDOM, ids=lambda cls: cls.__name__)


@pytest.mark.parametrize("seen", RECORDED["initializers"], ids=lambda seen: str(seen["identifier"]))
def test_what_the_real_one_said(seen: dict[str, Any]) -> None:
    initializer = initializers.get(seen["identifier"])
    assert initializers.serialize(initializer) == seen["config"]
    assert initializers.serialize(initializers.deserialize(plain(seen["config"]))) == seen["config"]


def test_every_name_of_the_real_one_and_no_other() -> None:
    recorded = {seen["identifier"] for seen in RECORDED["initializers"] if isinstance(seen["identifier"], str)}
    assert set(initializers._MAKERS) == recorded


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), RECORDED["fans"], ids=str)
def test_fans_are_the_real_one_s(shape: list[int], fan_in: int, fan_out: int) -> None:
    assert fans(shape) == (fan_in, fan_out)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_fan_in_of_a_transposed_kernel_counts_the_filters(d: int, h: int, w: int, filters: int, channels: int) -> None:
    assert fans((d, h, w, filters, channels)) == (d * h * w * filters, d * h * w * channels)


# One distribution after the other; 25 000 numbers from a seed, so that nothing here is left to chance.

VARIANCES = [
    (GlorotUniform(1), 2 / (2500 + 1250)),
    (GlorotNormal(1), 2 / (2500 + 1250)),
    (HeUniform(1), 2 / 2500),
    (HeNormal(1), 2 / 2500),
    (LecunUniform(1), 1 / 2500),
    (LecunNormal(1), 1 / 2500),
    (VarianceScaling(3, "fan_out", "untruncated_normal", 1), 3 / 1250),
    (VarianceScaling(3, "fan_out", "NORMAL", 1), 3 / 1250),
    (VarianceScaling(0.5, "fan_avg", "Uniform", 1), 0.5 / 1875),
    (RandomUniform(-1, 2, 1), 9 / 12),
    (RandomNormal(3, 2, 1), 4),
    (TruncatedNormal(3, 2, 1), 4 * 0.8796256610342398**2),
]


@pytest.mark.parametrize(("initializer", "variance"), VARIANCES, ids=lambda v: type(v).__name__)
def test_variances(initializer: Initializer, variance: float) -> None:
    values = initializer(KERNEL).double()
    assert float(values.var()) == pytest.approx(variance, rel=0.03)
    mean = {"RandomUniform": 0.5, "RandomNormal": 3, "TruncatedNormal": 3}.get(type(initializer).__name__, 0)
    assert float(values.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / values.numel()))


@pytest.mark.parametrize(
    ("initializer", "reach"),
    [
        (TruncatedNormal(0, 2, 1), 4),
        (HeNormal(1), 2 * math.sqrt(2 / 2500) / 0.8796256610342398),
        (HeUniform(1), math.sqrt(3 * 2 / 2500)),
        (RandomUniform(-2, 2, 1), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_far_values_reach(initializer: Initializer, reach: float) -> None:
    furthest = float(initializer(KERNEL).abs().max())
    assert 0.99 * reach < furthest <= reach * (1 + 1e-6)


def test_an_untruncated_normal_reaches_further() -> None:
    assert float(RandomNormal(0, 1, 1)(KERNEL).abs().max()) > 3
    assert float(VarianceScaling(2500, distribution="untruncated_normal", seed=1)(KERNEL).abs().max()) > 3


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.floats(0.1, 3), st.integers(0, 99))
@settings(deadline=None)
def test_orthogonal_columns_or_rows(shape: list[int], gain: float, seed: int) -> None:
    matrix = Orthogonal(gain, seed)(shape, torch.float64).reshape(-1, shape[-1]).numpy()
    rows, columns = matrix.shape
    square = matrix.T @ matrix if rows >= columns else matrix @ matrix.T
    np.testing.assert_allclose(square, gain**2 * np.eye(min(rows, columns)), atol=1e-10)


def test_orthogonal_matrices_of_one_number_have_either_sign() -> None:
    """Householder's decomposition alone would always give the same."""
    initializer = Orthogonal(seed=1)
    assert {initializer((1, 1)).item() for _ in range(20)} == {-1, 1}


def test_plain_values() -> None:
    assert Zeros()((2, 1)).tolist() == [[0], [0]]
    assert Ones()((2,)).tolist() == [1, 1]
    assert Constant(3)((2,)).tolist() == [3, 3]
    assert Constant([1, 2, 3, 4])((2, 2)).tolist() == [[1, 2], [3, 4]]
    assert Constant(np.float32(2))(()).item() == 2
    assert Identity(2)((2, 3)).tolist() == [[2, 0, 0], [0, 2, 0]]
    assert Ones()((2,), dtype="int32").dtype == torch.int32


def test_a_constant_is_not_shared() -> None:
    values = Constant(np.array([1, 2], np.float32))
    values((2,)).zero_()
    assert values((2,)).tolist() == [1, 2]
    assert Constant(3)((2,)).add_(torch.tensor([1, 2])).tolist() == [4, 5]


@random
def test_the_same_seed_is_the_same_sequence(cls: Any) -> None:
    one, two, other = cls(seed=5), cls(seed=5), cls(seed=6)
    first, second = one((3, 4)), one((3, 4))
    assert torch.equal(first, two((3, 4)))
    assert torch.equal(second, two((3, 4)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, other((3, 4)))


@random
def test_a_seed_leaves_torch_s_own_numbers_alone(cls: Any) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    cls(seed=5)((3, 4))
    assert torch.equal(torch.rand(3), expected)


@random
def test_without_a_seed_torch_s_seed_governs(cls: Any) -> None:
    torch.manual_seed(7)
    first = cls()((3, 4))
    second = cls()((3, 4))
    torch.manual_seed(7)
    assert torch.equal(cls()((3, 4)), first)
    assert not torch.equal(first, second)


@random
def test_copies_go_on_from_where_the_original_is(cls: Any) -> None:
    original = cls(seed=5)
    original((3, 4))
    copies = [copy.deepcopy(original), pickle.loads(pickle.dumps(original))]
    following = original((3, 4))
    assert all(torch.equal(other((3, 4)), following) for other in copies)


@random
def test_a_configuration_begins_anew(cls: Any) -> None:
    original = cls(seed=5)
    first = original((3, 4))
    assert torch.equal(cls.from_config(original.get_config())((3, 4)), first)


@random
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_type_asked_for(cls: Any, dtype: torch.dtype) -> None:
    values = cls(seed=1)((4, 4), dtype)
    assert values.dtype == dtype
    assert torch.isfinite(values).all()


@given(SHAPES)
@settings(deadline=None)
def test_any_shape(shape: list[int]) -> None:
    for initializer in (Zeros(), Ones(), Constant(2), RandomNormal(seed=1), GlorotUniform(1), HeNormal(1)):
        assert initializer(shape).shape == tuple(shape)


def test_the_default_type_is_the_one_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RandomNormal()((2,)).dtype == torch.float32
    monkeypatch.setattr(defaults, "_current", defaults.Defaults(floatx="float64"))
    assert RandomNormal()((2,)).dtype == torch.float64


def test_values_lie_on_the_cpu_whatever_torch_s_default_device() -> None:
    with torch.device("meta"):
        assert all(make((2, 2)).device.type == "cpu" for make in (Ones(), Constant(1), GlorotUniform(1), Orthogonal(1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0}, "scale must be greater than 0, got 0"),
        ({"scale": -1.5}, "scale must be greater than 0, got -1.5"),
        ({"mode": "fan"}, "mode must be one of fan_in, fan_out, fan_avg, got 'fan'"),
        ({"distribution": "even"}, "distribution must be one of uniform, .* got 'even'"),
    ],
)
def test_scalings_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        VarianceScaling(**arguments)


def test_shapes_and_types_that_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Orthogonal needs at least 2 axes, got shape \(2,\)"):
        Orthogonal()((2,))
    for shape in ((2,), (3, 3, 3, 1, 1)):
        with pytest.raises(ArgumentError, match=r"Identity needs 2 axes, got shape \("):
            Identity()(shape)
    for initializer in (RandomNormal(), RandomUniform(), HeNormal(), Orthogonal(), Identity()):
        with pytest.raises(ArgumentError, match="needs a floating dtype, got int32; use float32"):
            initializer((2, 2), dtype="int32")
    with pytest.raises(TypeError, match=r"Constant holds 2 values, but shape \(3,\) has 3"):
        Constant([1, 2])((3,))
    made: list[Any] = [Zeros(), HeNormal(), Orthogonal()]
    for initializer in made:
        with pytest.raises(TypeError, match="unexpected keyword argument 'layout'"):
            initializer((2, 2), layout=1)
    with pytest.raises(NotImplementedError, match="Initializer does not define __call__"):
        Initializer()((2,))
