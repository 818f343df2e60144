"""Are three passes along one axis each the same as all taps of a kernel that is an outer product?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conv3dt
from conv3dt.engine import direct
from conv3dt.engine.separable import factors, is_worth_it
from conv3dt.engine.three_passes import ThreePasses
from conv3dt.geometry import Axis
from tests.oracle import Law, transposed

TOLERANCE = 2e-6
Vectors = list[NDArray[np.float64]]


def outer(vectors: Vectors) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = np.einsum("i,j,k->ijk", *vectors)
    return kernel


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> list[ThreePasses]:
    """Take three passes whatever they cost; collects them."""
    made: list[ThreePasses] = []

    def three(*arguments: Any) -> ThreePasses:
        made.append(ThreePasses(*arguments))
        return made[-1]

    monkeypatch.setattr(direct, "is_worth_it", lambda axes: True)
    monkeypatch.setattr(direct, "ThreePasses", three)
    return made


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_three_passes_are_the_definition(always: list[ThreePasses], dtype: str) -> None:
    @given(
        size=st.tuples(*[st.integers(1, 9)] * 3), strides=st.tuples(*[st.integers(1, 4)] * 3),
        shape=st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 40)),
        padding=st.sampled_from(("valid", "same")), boundary=st.sampled_from(("zero", "edge")),
        seed=st.integers(0, 2**32 - 1), nan=st.booleans(),
    )  # fmt: skip
    @settings(deadline=None, max_examples=60)
    def holds(size: Any, strides: Any, shape: Any, padding: str, boundary: str, seed: int, nan: bool) -> None:
        rng = np.random.default_rng(seed)
        kernel, x = outer([rng.uniform(-1, 1, n) for n in size]), rng.uniform(-1, 1, shape)
        if nan:
            x.flat[rng.integers(x.size)] = np.nan
        first, second, third = (Law(k, s, 1, padding) for k, s in zip(size, strides, strict=True))
        taps, laws = kernel[..., None, None], (first, second, third)
        expected = transposed(x[..., None], taps, laws, bias=[0.25], boundary=boundary)[..., 0]
        scale = transposed(np.abs(x[..., None]), np.abs(taps), laws, boundary=boundary)[..., 0]
        out = conv3dt.upsample(
            x, weights=kernel, bias=[0.25], strides=strides, padding=padding, boundary=boundary, dtype=dtype, threads=2
        )
        np.testing.assert_array_equal(np.isnan(out), np.isnan(expected))
        limit = (TOLERANCE if dtype == "float32" else 1e-14) * (scale + 0.25)
        assert (np.abs(out - expected) <= limit)[~np.isnan(expected)].all()

    holds()
    assert always


def test_the_bits_do_not_depend_on_tiles_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "LEAST_SHARED", 0)
    volume = np.random.default_rng(0).normal(size=(30, 41, 50))
    assert is_worth_it((Axis(12, 2, padding="same"),) * 3)
    whole = conv3dt.upsample(volume, scale=2, kernel="lanczos3", threads=1)
    for tile in (16, (8, 82, 100), (60, 10, 100), 24, (2, 82, 100)):
        for threads in (2, 5):
            tiled = conv3dt.upsample(volume, scale=2, kernel="lanczos3", tile=tile, threads=threads)
            np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_rounding_and_activation_come_after_the_last_pass(always: list[ThreePasses], dtype: str) -> None:
    rng = np.random.default_rng(0)
    volume, kernel = rng.integers(-300, 300, (5, 6, 70)).astype(np.int16), outer([np.full(6, 0.5)] * 3)
    real = conv3dt.upsample(volume, weights=kernel, strides=2, activation="relu", bias=[3], dtype="float32")
    whole = conv3dt.upsample(volume, weights=kernel, strides=2, activation="relu", bias=[3], dtype=dtype)
    info = np.iinfo(dtype)
    np.testing.assert_array_equal(whole, np.rint(real).clip(info.min, info.max))
    assert len(always) == 2


def test_each_channel_by_itself(always: list[ThreePasses]) -> None:
    volume = np.random.default_rng(0).normal(size=(3, 5, 6, 20))
    options: dict[str, Any] = {"scale": 2, "kernel": "cubic"}
    together = conv3dt.upsample(volume, per_channel=True, data_format="channels_first", **options)
    np.testing.assert_array_equal(together, np.stack([conv3dt.upsample(channel, **options) for channel in volume]))
    assert len(always) == 4


def test_a_kernel_that_is_not_an_outer_product_keeps_all_its_taps() -> None:
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    kernel = outer([np.array([0.3, 1, 0.7]), np.array([1, -2.0]), np.array([0.1, 0.9, 3, 4])])
    for compute in (single, double):
        found = factors(kernel, compute)
        assert found is not None
        np.testing.assert_allclose(outer(list(found)), kernel, rtol=1e-14)
    assert factors(kernel.astype(np.float32), single) is not None  # as weights files hold it
    assert factors(kernel.astype(np.float32), double) is None
    kernel[2, 1, 0] *= 1 + 1e-5
    assert factors(kernel, single) is None
    floor = np.full((16, 16, 16), 4e-7)
    floor[8, 8, 8] = 1  # each tap is near an outer product, their sum is not
    assert factors(floor, single) is None
    assert factors(np.zeros((2, 2, 2)), single) is None
    kernel[0, 0, 0] = np.nan
    assert factors(kernel, single) is None


def test_no_sum_in_between_is_larger_than_the_voxels(always: list[ThreePasses]) -> None:
    for kernel, value in ((np.full((8, 8, 8), 1 / 512), 1e38), (np.full((9, 5, 7), 1e-30), 3e38)):
        out = conv3dt.upsample(np.full((12, 12, 12), value), weights=kernel, padding="same")
        np.testing.assert_allclose(out[6, 6, 6], value * kernel.sum(), rtol=2e-6)
    assert len(always) == 2


def test_few_taps_are_met_at_once() -> None:
    assert not is_worth_it((Axis(4, 2),) * 3)
    assert not is_worth_it((Axis(3, 2), Axis(3, 2), Axis(1)))
    assert is_worth_it((Axis(8, 2),) * 3)
    assert is_worth_it((Axis(7),) * 3)
