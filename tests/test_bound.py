"""Are the bounds of an output reached and never exceeded, and does a slope made from them clip nothing?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conv3dt
from conv3dt.bound import input_range, output_bounds, scaling
from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import BOUNDARIES
from conv3dt.io.array import info
from conv3dt.io.volume import VolumeInfo
from conv3dt.kernels import KERNELS
from conv3dt.layer.activation import ACTIVATIONS
from conv3dt.layer.concrete import Layer
from conv3dt.layer.response import response
from conv3dt.request import LayerRequest
from tests.oracle import transposed
from tests.test_engines import Setting, a_setting

Array = NDArray[np.float64]
TEXTS = (
    *ACTIVATIONS, "relu(alpha=0.3)", "relu(max_value=2.0)", "relu(threshold=-1.0)", "relu(alpha=-0.5, threshold=0.7)",
    "relu(alpha=0.2, max_value=1.5, threshold=0.5)", "leaky_relu(alpha=-0.4)", "elu(alpha=-2.0)",
    "gelu(approximate=1.0)", "hard_sigmoid(slope=0.1)", "thresholded_relu(theta=0.5)",
)  # fmt: skip
every_text = pytest.mark.parametrize("text", TEXTS)
seeds = st.integers(0, 2**32 - 1)
two_ends = st.tuples(st.floats(-100, 100), st.floats(-100, 100)).map(sorted)
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def layer_of(setting: Setting, random: np.random.Generator, **said: Any) -> Layer:
    weights = random.normal(size=(*setting.size, setting.filters, setting.channels))
    return LayerRequest(
        weights=weights, bias=random.normal(size=setting.filters), strides=setting.strides,
        dilation_rate=setting.dilation, padding=setting.padding, output_padding=setting.extra, **said,
    ).concrete(setting.channels)  # fmt: skip


# Activations.


@every_text
@given(ends=two_ends, seed=seeds)
@settings(deadline=None, max_examples=20)
def test_an_activation_stays_between_its_ends_and_reaches_them(text: str, ends: Any, seed: int) -> None:
    low, high = (np.full((3, 1), end) for end in ends)
    least, greatest = response(text, low, high)
    inside = np.random.default_rng(seed).uniform(ends[0], ends[1], (3, 400))
    inside[:, :2] = ends
    found, same = response(text, inside, inside)
    np.testing.assert_array_equal(found, same)
    slack = 1e-14 * (1 + np.abs(found))
    assert (least <= found + slack).all()
    assert (found - slack <= greatest).all()
    if "softmax" in text:
        return
    fine = np.linspace(ends[0], ends[1], 20001, dtype=np.float64)[None]
    dense, step = response(text, fine, fine)[0], (ends[1] - ends[0]) / 20000
    jumps = "threshold" in text  # a value just above the threshold may be met by no other
    if not jumps:
        tolerance = 4 * step * max(1.0, float(np.abs(dense).max()) if text == "exponential" else 1.0) + 1e-12
        assert dense.min() - least[0, 0] <= tolerance
        assert greatest[0, 0] - dense.max() <= tolerance


@pytest.mark.parametrize("text", TEXTS)
def test_an_activation_is_the_modules(text: str) -> None:
    import torch

    from conv3dt.engine.gpu.ending import function_of

    x = np.linspace(-9, 9, 1803, dtype=np.float64).reshape(3, 601)
    layer = layer_of(Setting((1, 1, 1), filters=3), np.random.default_rng(0), activation=text)
    expected = function_of(layer, text, torch.device("cpu"))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(response(text, x, x)[0], expected, rtol=1e-12, atol=1e-12)


def test_prelu_has_a_slope_for_each_filter() -> None:
    low, high = response("prelu", np.full((2, 3), -2.0), np.full((2, 3), 1.0), np.array([0.5, -3.0]))
    np.testing.assert_array_equal(low, [[-1.0] * 3, [0.0] * 3])
    np.testing.assert_array_equal(high, [[1.0] * 3, [6.0] * 3])


# Layers.


@given(
    setting=a_setting(), ends=two_ends, boundary=st.sampled_from(BOUNDARIES),
    text=st.sampled_from([text for text in TEXTS if text != "exponential"]), shape=st.tuples(*[st.integers(1, 6)] * 3),
    seed=seeds,
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_no_output_lies_beyond_the_bounds(
    setting: Setting, ends: Any, boundary: str, text: str, shape: Any, seed: int
) -> None:
    random = np.random.default_rng(seed)
    layer = layer_of(setting, random, boundary=boundary, activation=text)
    low, high = output_bounds(layer, *ends)
    x = random.choice([*ends, *random.uniform(ends[0], ends[1], 2)], (*shape, setting.channels))
    sums = transposed(x, layer.kernel, setting.laws, bias=layer.bias, boundary=boundary)
    values = response(text, *[np.moveaxis(sums, 3, 0)] * 2)[0]
    slack = 1e-12 * (1 + abs(low) + abs(high))
    assert low - slack <= values.min()
    assert values.max() <= high + slack


@given(setting=a_setting(), ends=two_ends, boundary=st.sampled_from(BOUNDARIES), seed=seeds)
@settings(deadline=None, max_examples=30)
def test_the_bounds_are_reached(setting: Setting, ends: Any, boundary: str, seed: int) -> None:
    """By the volume in which every voxel that an output meets has the sign of the tap it meets."""
    assume(boundary != "zero" or ends[0] <= 0 <= ends[1])
    random = np.random.default_rng(seed)
    layer = layer_of(setting, random, boundary=boundary)
    n = [law.extent // law.stride * 2 + 3 for law in setting.laws]
    found = []
    for filter in range(setting.filters):
        for phase in np.ndindex(*setting.strides):
            # An output in the middle of each phase: far from all borders.
            outputs = [
                (law.length(size) // 2 // law.stride) * law.stride + r
                for law, size, r in zip(setting.laws, n, phase, strict=True)
            ]
            found += [_extreme(layer, setting, n, outputs, filter, ends[::turn]) for turn in (1, -1)]
    low, high = output_bounds(layer, *ends)
    assert min(found) == pytest.approx(low, abs=1e-11)
    assert max(found) == pytest.approx(high, abs=1e-11)


def _extreme(layer: Layer, setting: Setting, n: list[int], outputs: list[int], filter: int, ends: Any) -> float:
    """An output of the volume that makes it as large as can be (or as small, with the ends turned round)."""
    x = np.full((*n, setting.channels), ends[0])
    total = float(layer.bias[filter]) if layer.bias is not None else 0.0
    for t in np.ndindex(*setting.size):
        landing = [o + law.crop - law.dilation * tap for o, law, tap in zip(outputs, setting.laws, t, strict=True)]
        if all(place % law.stride == 0 for place, law in zip(landing, setting.laws, strict=True)):
            i = tuple(place // law.stride for place, law in zip(landing, setting.laws, strict=True))
            assert all(0 <= place < size for place, size in zip(i, n, strict=True))
            taps = layer.kernel[t][filter].astype(np.float64)
            x[i] = np.where(taps > 0, ends[1], ends[0])
            total += float(taps @ x[i])
    sums = transposed(x, layer.kernel, setting.laws, bias=layer.bias, boundary=layer.boundary)
    assert sums[(*outputs, filter)] == pytest.approx(total, abs=1e-11)
    return total


@pytest.mark.parametrize("kernel", KERNELS)
def test_named_kernels(kernel: str) -> None:
    low, high = output_bounds(LayerRequest(kernel=kernel, scale=(2, 3, 1)).concrete(1), 10, 250)
    if kernel in ("cubic", "lanczos3"):
        assert low < 10 < 250 < high
    else:
        assert (low, high) == pytest.approx((10, 250))


def test_what_lies_outside_a_volume_is_an_input_too() -> None:
    kernel = np.array([-1.0, 2.0]).reshape(2, 1, 1)
    for boundary, expected in (("edge", (2 * 3 - 5, 2 * 5 - 3)), ("zero", (-5, 10))):
        assert output_bounds(LayerRequest(weights=kernel, boundary=boundary).concrete(1), 3, 5) == expected


def test_strides_wider_than_the_kernel_leave_the_bias_alone() -> None:
    layer = LayerRequest(weights=np.ones((1, 1, 1)), bias=[7.0], strides=3, boundary="edge").concrete(1)
    assert output_bounds(layer, 20, 30) == (7, 37)
    huge = LayerRequest(weights=np.ones((1, 1, 1)), strides=10**4, boundary="edge").concrete(1)
    assert output_bounds(huge, 20, 30) == (0, 30)


def test_channels_by_themselves_and_shares() -> None:
    weights = np.array([0.5, -1.5]).reshape(1, 1, 2)
    layer = LayerRequest(weights=weights, per_channel=True, boundary="edge").concrete(5)
    assert output_bounds(layer, -2, 3) == (-5.5, 4.5)


def test_what_has_no_bounds_is_refused() -> None:
    kernel = np.ones((2, 2, 2, 3, 1))
    refused: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
        ({"reduce": "argmax"}, ArgumentError, "reduce argmax makes labels"),
        ({"activation": "exponential"}, DataError, "as large as no number is"),
    )
    for said, error, message in refused:
        layer = LayerRequest(weights=kernel, **said).concrete(1)
        with pytest.raises(error, match=message):
            output_bounds(layer, 0, 1e6)
    layer = LayerRequest(weights=np.ones((2, 2, 2)), activation="log_softmax", per_channel=True).concrete(3)
    with pytest.raises(ArgumentError, match="log_softmax per channel has no bounds"):
        output_bounds(layer, 0, 1)
    shares = LayerRequest(kernel="linear", per_channel=True, reduce="softmax").concrete(3)
    assert output_bounds(shares, -1e6, 1e6) == (0, 1)
    plain = LayerRequest(kernel="linear").concrete(1)
    for low, high in ((np.nan, 1), (0, np.inf), (2, 1), (-1e308, 1e308)):
        with pytest.raises(DataError, match="the input must lie in a finite range, got "):
            output_bounds(plain, low, high)


# Slopes.

LEAST_RANGE = 1e-18
"""Less than that divided by the codes of 64 bits is no slope that float32 holds."""

ranges = st.tuples(*[st.floats(-1e30, 1e30) | st.floats(-1e4, 1e4)] * 2).map(sorted)


@pytest.mark.parametrize("dtype", INTEGERS)
@given(ends=ranges)
@settings(deadline=None, max_examples=40)
def test_a_slope_holds_its_range_and_is_as_fine_as_can_be(dtype: str, ends: Any) -> None:
    low, high = ends
    limits = np.iinfo(dtype)
    assume(high - low > LEAST_RANGE)
    slope, inter = scaling(np.dtype(dtype), low, high)
    assert (slope, inter) == (float(np.float32(slope)), float(np.float32(inter)))
    assert slope > 0
    stored = [(end - inter) / slope for end in (low, high)]
    assert limits.min - 0.25 <= stored[0]
    assert stored[1] <= limits.max + 0.25
    codes = min(2.0**limits.bits - 1, 2.0**52)
    # An intercept far from the range's length is rounded, too.
    finest = (high - low) / codes + 2.0**-22 * max(abs(low), abs(high)) / codes
    assert slope <= (4.1 if limits.min else 2.1) * finest


@pytest.mark.parametrize("dtype", INTEGERS)
@given(ends=ranges)
@settings(deadline=None, max_examples=40)
def test_zero_stays_exactly_zero(dtype: str, ends: Any) -> None:
    low, high = ends
    assume(high - low > LEAST_RANGE)
    slope, inter = scaling(np.dtype(dtype), low, high)
    if low <= 0 <= high or min(abs(low), abs(high)) <= high - low:
        stored = np.rint(-inter / slope)
        assert np.iinfo(dtype).min <= stored <= np.iinfo(dtype).max
        assert np.float32(slope) * np.float32(stored) + np.float32(inter) == 0
        assert inter == 0 or (low < 0 and dtype.startswith("u"))


@pytest.mark.parametrize(
    ("dtype", "low", "high", "expected"),
    [
        ("int16", 0, 32767, (1, 0)),
        ("int16", -32768, 100, (1, 0)),
        ("int16", 0, 255, (255 / 32767, 0)),
        ("uint16", 0, 65535, (1, 0)),
        ("uint8", 0, 510, (2, 0)),
        ("uint8", -128, 127, (1, -128)),
        ("uint8", -255, 0, (1, -255)),
        ("int16", 1000, 32767, (1, 0)),  # lies no further from zero than it is long
        ("uint16", 70000, 70000 + 65535, (1, 70000)),
    ],
)
def test_slopes_that_one_would_choose_by_hand(dtype: str, low: float, high: float, expected: Any) -> None:
    slope, inter = scaling(np.dtype(dtype), low, high)
    assert slope == pytest.approx(expected[0], rel=2e-7)
    assert slope >= expected[0]
    assert inter == expected[1]


def test_a_range_far_from_zero_gets_an_intercept() -> None:
    slope, inter = scaling(np.dtype(np.int16), 1e6, 1e6 + 1)
    assert slope < 1.1 / 65535
    assert 1e6 <= inter <= 1e6 + 1
    slope, inter = scaling(np.dtype(np.uint16), -1e9 - 1, -1e9)  # float32 knows no number between
    assert 1e-3 > slope > 1 / 65535
    assert inter <= -1e9 - 1


@pytest.mark.parametrize(
    ("dtype", "low", "high", "message"),
    [
        ("int16", 5, 5, "every output voxel would be 5: a slope needs a range"),
        ("int16", 0, 0, "every output voxel would be 0"),
        ("int16", 0, np.inf, "the output must lie in a finite range, got 0 to inf"),
        ("int16", np.nan, 1, "the output must lie in a finite range, got nan to 1"),
        ("int16", 3, 1, "the output must lie in a finite range, got 3 to 1"),
        ("int16", 0, 1e-36, "no slope of a header"),
        ("uint8", 0, 1e42, "no slope of a header"),
        ("int16", 1e300, 1.00001e300, "no slope of a header"),
    ],
)
def test_ranges_without_a_slope_are_refused(dtype: str, low: float, high: float, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        scaling(np.dtype(dtype), low, high)
    assert "\n" not in str(caught.value)


def test_only_integers_have_a_slope() -> None:
    with pytest.raises(ArgumentError, match="rescale is for integers, got dtype float32"):
        scaling(np.dtype(np.float32), 0, 1)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint16"])
@pytest.mark.parametrize("kernel", ["linear", "lanczos3"])
def test_nothing_is_clipped_and_every_step_is_used(dtype: str, kernel: str) -> None:
    """A checkerboard of the ends, as sharp as can be: what comes out goes to the last steps and not beyond."""
    x = np.where(np.indices((9, 9, 9)).sum(0) % 2, -3.0, 11.0)
    x[2:7, 2:7, 2:7] = 11.0
    layer = LayerRequest(kernel=kernel).concrete(1)
    slope, inter = scaling(np.dtype(dtype), *output_bounds(layer, -3, 11))
    real = conv3dt.upsample(x, kernel=kernel, dtype="float64")
    stored = np.rint((real - inter) / slope)
    limits = np.iinfo(dtype)
    assert limits.min <= stored.min()
    assert stored.max() <= limits.max
    np.testing.assert_allclose(stored * slope + inter, real, atol=slope / 2 * (1 + 1e-9))


# Inputs.


def facts(dtype: Any, **changes: Any) -> VolumeInfo:
    return replace(info(np.zeros((2, 2, 2), dtype), None, None), **changes)


def test_a_type_says_what_a_volume_can_hold() -> None:
    assert input_range(facts(np.uint8)) == (0, 255)
    assert input_range(facts(np.dtype(">i2"))) == (-32768, 32767)
    assert input_range(facts(np.int16, slope=-0.5, inter=10.0)) == (10 - 32767 / 2, 10 + 16384)
    assert input_range(facts(np.bool_)) == (0, 1)
    assert input_range(facts(np.uint64)) == (0, 2.0**64)
    assert input_range(facts(np.float32)) is None
