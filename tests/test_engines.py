"""Do both engines compute the definition, on whole numbers bit for bit?

Through the front door: by the loops, and by what a GPU does, here on the CPU (`test_fused` has the third way of it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conv3dt
from conv3dt.engine import direct
from conv3dt.engine.finish import Storage
from conv3dt.engine.gpu.tensor import TensorEngine
from conv3dt.geometry import BOUNDARIES
from conv3dt.layer.activation import ACTIVATIONS
from conv3dt.layer.concrete import Layer
from conv3dt.layer.config import LayerConfig
from tests.conftest import only
from tests.oracle import Law, Laws, transposed

Array = NDArray[np.float64]
Triple = tuple[int, int, int]
ENGINES = ("direct", "phased", "transposed")


@dataclass(frozen=True)
class Setting:
    """A layer without its weights."""

    size: Triple
    strides: Triple = (1, 1, 1)
    dilation: Triple = (1, 1, 1)
    padding: str = "valid"
    extra: Triple | None = None
    filters: int = 1
    channels: int = 1

    @property
    def laws(self) -> Laws:
        extra = self.extra or (None, None, None)
        a, b, c = (
            Law(k, s, d, self.padding, e)
            for k, s, d, e in zip(self.size, self.strides, self.dilation, extra, strict=True)
        )
        return a, b, c

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "strides": self.strides, "dilation_rate": self.dilation, "padding": self.padding,
            "output_padding": self.extra, "data_format": "channels_last", "dtype": "float64", "threads": 1,
        }  # fmt: skip


@st.composite
def a_setting(draw: st.DrawFn, most: int = 3) -> Setting:
    """Any layer: one axis with a kernel up to 7, the others up to 3 to keep the work small."""
    place = draw(st.integers(0, 2))
    size = [draw(st.integers(1, 7 if n == place else 3)) for n in range(3)]
    strided = draw(st.booleans())
    ones = [1, 1, 1]
    strides = [draw(st.integers(1, 4)) for _ in ones] if strided else ones
    dilation = ones if strided else [draw(st.integers(1, 3)) for _ in ones]
    padding = draw(st.sampled_from(("valid", "same")))
    extra = None
    if draw(st.booleans()):
        extra = [draw(st.integers(0, stride - 1)) for stride in strides]
        if padding == "same" and any((k - 1) * d % 2 and not e for k, d, e in zip(size, dilation, extra, strict=True)):
            extra = None
    return Setting(
        triple(size), triple(strides), triple(dilation), padding, None if extra is None else triple(extra),
        draw(st.integers(1, most)), draw(st.integers(1, most)),
    )  # fmt: skip


def triple(values: list[int]) -> Triple:
    first, second, third = values
    return first, second, third


def whole_numbers(seed: int, shape: tuple[int, ...]) -> Array:
    """Small whole numbers, zero among them: sums of products are exact in any order."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


@st.composite
def a_shape(draw: st.DrawFn) -> Triple:
    """Any shape; one axis may be longer than several vectors."""
    long = draw(st.integers(0, 2))
    return triple([draw(st.integers(1, 70 if n == long else 4)) for n in range(3)])


shapes = a_shape()
seeds = st.integers(0, 2**32 - 1)
boundaries = st.sampled_from(BOUNDARIES)


def check(
    way: str, setting: Setting, shape: Triple, boundary: str, *, seed: int, with_bias: bool = True, nans: int = 0
) -> None:
    """Compare with the definition, bit for bit."""
    x = whole_numbers(seed, (*shape, setting.channels))
    x.reshape(-1)[: nans * 5 : 5] = np.nan
    kernel = whole_numbers(seed + 1, (*setting.size, setting.filters, setting.channels))
    bias = whole_numbers(seed + 2, (setting.filters,)) if with_bias else None
    expected = transposed(x, kernel, setting.laws, bias=bias, boundary=boundary)
    with only(way):
        out = conv3dt.upsample(x, weights=kernel, bias=bias, boundary=boundary, **setting.arguments)
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("way", ENGINES)
@given(setting=a_setting(), shape=shapes, boundary=boundaries, seed=seeds, with_bias=st.booleans())
@settings(deadline=None, max_examples=150)
@example(setting=Setting((3, 3, 3), (4, 4, 4), padding="same", extra=(0, 0, 0)), shape=(2, 2, 2), boundary="edge",
         seed=1, with_bias=True)  # fmt: skip
def test_any_layer_is_the_definition(
    way: str, setting: Setting, shape: Triple, boundary: str, seed: int, with_bias: bool
) -> None:
    check(way, setting, shape, boundary, seed=seed, with_bias=with_bias)


@pytest.mark.parametrize("way", ENGINES)
@given(setting=a_setting(), shape=shapes, boundary=boundaries, seed=seeds, nans=st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_nan_reaches_exactly_as_far_as_the_kernel(
    way: str, setting: Setting, shape: Triple, boundary: str, seed: int, nans: int
) -> None:
    check(way, setting, shape, boundary, seed=seed, nans=nans)


GRID = {
    "few taps": Setting((4, 4, 4), (2, 2, 2), padding="same"),
    "uneven taps": Setting((3, 3, 3), (2, 2, 2), padding="same"),
    "many taps": Setting((5, 3, 7), (2, 1, 3), padding="same"),
    "kernel smaller than stride": Setting((2, 1, 3), (3, 2, 4)),
    "kernel smaller than stride, cropped": Setting((3, 3, 3), (4, 4, 4), padding="same", extra=(0, 0, 0)),
    "dilated, few taps": Setting((3, 2, 3), dilation=(1, 2, 3), padding="same"),
    "dilated, many taps": Setting((3, 4, 4), dilation=(3, 2, 1)),
    "output padding": Setting((1, 5, 3), (2, 3, 4), extra=(1, 0, 3)),
    "channels and filters": Setting((3, 2, 3), (2, 2, 1), padding="same", channels=3, filters=2),
    "filters of one channel": Setting((2, 3, 2), (1, 2, 2), filters=3),
}


@pytest.mark.parametrize("setting", GRID.values(), ids=GRID)
@given(shape=shapes, boundary=boundaries, seed=seeds, with_bias=st.booleans(), nans=st.integers(0, 2))
@settings(deadline=None, max_examples=12)
def test_compiled_loops_are_the_definition(
    setting: Setting, shape: Triple, boundary: str, seed: int, with_bias: bool, nans: int
) -> None:
    check("direct", setting, shape, boundary, seed=seed, with_bias=with_bias, nans=nans)


@given(setting=a_setting(), shape=shapes, boundary=boundaries, seed=seeds, threads=st.integers(2, 5))
@settings(deadline=None, max_examples=80)
@example(setting=Setting((1, 9, 9), (1, 3, 3), padding="same", extra=(0, 0, 0)), shape=(1, 40, 9), boundary="zero",
         seed=0, threads=2)  # fmt: skip
def test_threads_share_any_region(setting: Setting, shape: Triple, boundary: str, seed: int, threads: int) -> None:
    """Planes, or the rows of a few planes; regions so small are not shared otherwise."""
    x = whole_numbers(seed, (*shape, setting.channels))
    kernel = whole_numbers(seed + 1, (*setting.size, setting.filters, setting.channels))
    expected = transposed(x, kernel, setting.laws, boundary=boundary)
    with only("direct"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "LEAST_SHARED", 0)
        arguments = setting.arguments | {"threads": threads}
        np.testing.assert_array_equal(conv3dt.upsample(x, weights=kernel, boundary=boundary, **arguments), expected)


LEGAL = [
    (kernel, stride, dilation, padding, extra)
    for stride in (1, 2, 3, 4)
    for kernel in range(1, 8)
    for dilation in ((1, 2, 3) if stride == 1 else (1,))
    for padding in ("valid", "same")
    for extra in (None, *range(stride))
    if not (padding == "same" and extra == 0 and (kernel - 1) * dilation % 2)
]


@pytest.mark.parametrize(("stride", "padding"), [(s, p) for s in (1, 2, 3, 4) for p in ("valid", "same")])
def test_tensor_engine_is_torchs_transposed_convolution_cut_at_the_crop(stride: int, padding: str) -> None:
    """Every legal setting of one axis, in turn on each of the three, the other two plain."""
    for number, (kernel, s, dilation, pad, extra) in enumerate(LEGAL):
        if (s, pad) != (stride, padding):
            continue
        place = number % 3
        size, strides, dilations, extras = [2, 2, 2], [1, 1, 1], [1, 1, 1], [0, 0, 0]
        size[place], strides[place], dilations[place] = kernel, stride, dilation
        if extra is not None:
            extras[place] = extra
            size = [kernel if n == place else 1 for n in range(3)]
        setting = Setting(
            triple(size), triple(strides), triple(dilations), padding, None if extra is None else triple(extras), 2, 2
        )
        x, taps = whole_numbers(number, (2, 3, 2, 2)), whole_numbers(number + 1, (*size, 2, 2))
        with only("transposed"):
            ours = conv3dt.upsample(x, weights=taps, **setting.arguments)
        whole = torch.nn.functional.conv_transpose3d(
            torch.from_numpy(x.transpose(3, 0, 1, 2))[None], torch.from_numpy(taps.transpose(4, 3, 0, 1, 2)),
            stride=strides, dilation=dilations,
        )[0].numpy()  # fmt: skip
        expected = np.pad(whole, [(0, 0), *[(0, 9)] * 3])  # outputs that no tap reaches
        crops = [law.crop for law in setting.laws]
        lengths = [law.length(n) for law, n in zip(setting.laws, x.shape, strict=False)]
        kept = tuple(slice(crop, crop + length) for crop, length in zip(crops, lengths, strict=True))
        np.testing.assert_array_equal(ours, expected[(slice(None), *kept)].transpose(1, 2, 3, 0), err_msg=str(setting))


@pytest.mark.parametrize("way", ENGINES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_known_by_hand_and_seen_in_tensorflow(way: str, axis: int) -> None:
    """Kernel 3, stride 2, same: [1, 10] with [1, 2, 3] is 1, 2, 3 + 10, 20, (30 cropped); torch's idiom differs."""
    shape = [1, 1, 1]
    shape[axis] = -1
    strides = [2 if n == axis else 1 for n in range(3)]
    x, kernel = np.array([1.0, 10.0]).reshape(shape), np.array([1.0, 2.0, 3.0]).reshape(shape)
    laws = [Law(k, s, padding="same") for k, s in zip(kernel.shape, strides, strict=True)]
    by_definition = transposed(x[..., None], kernel[..., None, None], (laws[0], laws[1], laws[2]))
    assert by_definition.ravel().tolist() == [1, 2, 13, 20]
    with only(way):
        out = conv3dt.upsample(x, weights=kernel, strides=strides, padding="same", dtype="float64", threads=1)
    assert out.ravel().tolist() == [1, 2, 13, 20]


@pytest.mark.parametrize("way", ENGINES)
@given(setting=a_setting(most=2), shape=shapes, boundary=boundaries, seed=seeds)
@settings(deadline=None, max_examples=40)
def test_neither_memory_order_nor_axis_order_matters(
    way: str, setting: Setting, shape: Triple, boundary: str, seed: int
) -> None:
    x = whole_numbers(seed, (*shape, setting.channels))
    kernel = whole_numbers(seed + 1, (*setting.size, setting.filters, setting.channels))
    arguments = setting.arguments | {"weights": kernel, "boundary": boundary}
    with only(way):
        last = conv3dt.upsample(x, **arguments)
        fortran = conv3dt.upsample(np.asfortranarray(x), **arguments)
        arguments["data_format"] = "channels_first"
        first = conv3dt.upsample(np.ascontiguousarray(np.moveaxis(x, 3, 0)), **arguments)
        several = conv3dt.upsample(np.stack([np.moveaxis(x, 3, 0)] * 2), **arguments)
    np.testing.assert_array_equal(fortran, last)
    np.testing.assert_array_equal(np.moveaxis(first, 0, 3), last)
    np.testing.assert_array_equal(several, np.stack([first, first]))


def test_a_batch_of_keras_has_its_channels_last_and_its_volumes_first() -> None:
    """Keras's (N, D, H, W, C), and the shape that was promised."""
    setting = Setting((3, 2, 1), (2, 1, 3), padding="same", filters=2, channels=2)
    x, kernel = whole_numbers(1, (3, 2, 3, 4, 2)), whole_numbers(2, (3, 2, 1, 2, 2))
    with only("transposed"):
        out = conv3dt.upsample(x, weights=kernel, **setting.arguments)
    assert out.shape == conv3dt.output_shape(
        x.shape, kernel_size=(3, 2, 1), strides=(2, 1, 3), padding="same", filters=2, data_format="channels_last"
    )
    np.testing.assert_array_equal(out, np.stack([transposed(volume, kernel, setting.laws) for volume in x]))


# What an output becomes: activations.

VALUES = np.array([-1000, -90, -20.5, -6, -3.5, -2.5, -1, -0.75, -1e-3, 0, 1e-3, 0.5, 1, 2.5, 3, 5.9, 6, 6.5, 90, 700])


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


FORMULAS: dict[str, Callable[[Array], Any]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "swish": lambda x: x * np.exp(-np.logaddexp(0, -x)),
    "silu": lambda x: x * np.exp(-np.logaddexp(0, -x)),
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2))),
    "tanh": np.tanh,
    "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
    "exponential": np.exp,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid(slope=0.16666666666666666)": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "thresholded_relu": lambda x: np.where(x <= 1, 0, x),
    "relu(alpha=0.5, max_value=2.0, threshold=1.0)": lambda x: np.where(x <= 1, 0.5 * (x - 1), np.minimum(x, 2)),
    "relu(max_value=2.0)": lambda x: np.clip(x, 0, 2),
    "relu(threshold=-3.0)": lambda x: np.where(x <= -3, 0, x),
    "relu(alpha=0.5, threshold=-3.0)": lambda x: np.where(x <= -3, 0.5 * (x + 3), x),
    "relu(max_value=2.0, threshold=-3.0)": lambda x: np.where(x <= -3, 0, np.clip(x, 0, 2)),
    "elu(alpha=0.5)": lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0))),
    "leaky_relu(alpha=0.3)": lambda x: np.where(x > 0, x, 0.3 * x),
    "gelu(approximate=1.0)": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
}
ONE_TAP = np.ones((1, 1, 1))


def test_each_activation_has_its_formula() -> None:
    assert {name for name in FORMULAS if "(" not in name} == set(ACTIVATIONS)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FORMULAS)
def test_activations_are_their_formulas(engine: str, name: str) -> None:
    """On one filter: softmax of one number is 1, its logarithm 0."""
    with only(engine):
        out = conv3dt.upsample(
            VALUES.reshape(1, 4, 5), weights=ONE_TAP, activation=name, dtype="float64", threads=1
        )  # fmt: skip
    expected = FORMULAS[name](VALUES.reshape(1, 4, 5, 1))[..., 0]
    np.testing.assert_allclose(out, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("way", ENGINES)
@pytest.mark.parametrize("name", FORMULAS)
def test_activations_come_after_the_bias_and_pass_nan_on(way: str, name: str) -> None:
    x = VALUES[4:16].reshape(2, 2, 3).copy()
    x[0, 1, 2] = np.nan
    with only(way):
        out = conv3dt.upsample(
            x, weights=np.full((1, 1, 1, 1, 1), 2.0), bias=[0.25], activation=name, dtype="float64", threads=1
        )
    with np.errstate(invalid="ignore"):
        expected = FORMULAS[name](2 * x[..., None] + 0.25)[..., 0]
    np.testing.assert_allclose(out, expected, rtol=1e-7, atol=1e-12)
    assert np.isnan(out[0, 1, 2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", ENGINES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_is_over_the_filters(way: str, name: str, dtype: str) -> None:
    x = VALUES[2:18].reshape(2, 2, 2, 2)
    kernel = np.random.default_rng(0).normal(size=(2, 1, 1, 3, 2))
    with only(way):
        out = conv3dt.upsample(
            x, weights=kernel, bias=[1, 2, 3], strides=(2, 1, 2), activation=name, data_format="channels_last",
            dtype=dtype, threads=1,
        )  # fmt: skip
    expected = FORMULAS[name](transposed(x, kernel, (Law(2, 2), Law(1), Law(1, 2)), bias=[1, 2, 3]))
    np.testing.assert_allclose(out, expected, rtol=3e-5, atol=1e-6 if dtype == "float32" else 1e-15)
    if name == "softmax":
        np.testing.assert_allclose(out.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("way", ENGINES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_an_infinite_voxel_is_nan_without_a_word(way: str, name: str) -> None:
    x = np.zeros((1, 1, 3))
    x[0, 0, 1] = np.inf
    with only(way):
        out = conv3dt.upsample(x, weights=np.ones((1, 1, 1, 2, 1)), activation=name, dtype="float64", threads=1)
    assert np.isnan(out[0, 0, 1]).all()
    assert np.isfinite(out[0, 0, ::2]).all()


# What an output becomes: integers.


def rounded(value: float, dtype: np.dtype[Any], slope: float = 1.0, inter: float = 0.0) -> tuple[int, bool]:
    """The stored number of a value, by Python's exact arithmetic, and whether it was lost."""
    info = np.iinfo(dtype)
    scaled = (value - inter) / slope
    if np.isnan(scaled):
        return rounded(0.0, dtype, slope, inter)[0], True
    if np.isinf(scaled):
        return int(info.max if scaled > 0 else info.min), True
    nearest = round(scaled)  # half to even, as a whole number of any size
    return min(max(nearest, int(info.min)), int(info.max)), not info.min <= nearest <= info.max


def compute(way: str, values: Array, storage: Storage, activation: str = "linear") -> tuple[NDArray[Any], int]:
    """Run an engine by itself on a row of values, with the one kernel that changes nothing."""
    config = LayerConfig(1, (1, 1, 1), activation=activation)
    layer = Layer(config, ONE_TAP[..., None, None], None, "zero", "one")
    source = values.reshape(1, 1, 1, -1).astype(storage.compute_dtype)
    out = np.full(source.shape, 77, storage.dtype)
    with only(way):
        engine = (
            direct.DirectEngine(layer, storage, threads=1)
            if way == "direct"
            else TensorEngine(layer, storage, devices=["cpu"], way=way)
        )
        try:
            lost = engine.compute(source, out)
        finally:
            engine.close()
    return out.ravel(), lost


HALVES = np.array(
    [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 126.5, 127.5, 253.5, 254.5, 255.5, 0.49999997, 2.5000002]
)
HUGE = np.array([3e38, -3e38, np.inf, -np.inf, np.nan, 1e10, -1e10, 65535.4, 65535.5, 32767.4, -32768.5, -32768.6])


@pytest.mark.parametrize(
    ("way", "dtype"),
    [(way, kind) for way in ENGINES for kind in "int8 uint8 int16 uint16 int32 uint32".split()],
)
def test_integers_are_rounded_half_to_even_and_clipped_and_counted(way: str, dtype: str) -> None:
    storage = Storage(np.dtype(dtype))
    values = np.concatenate([HALVES, HUGE]).astype(storage.compute_dtype).astype(np.float64)
    out, lost = compute(way, values, storage)
    expected = [rounded(value, storage.dtype) for value in values]
    assert out.tolist() == [number for number, _ in expected]
    assert lost == sum(gone for _, gone in expected)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_each_lost_value_is_counted_once_in_rows_of_any_length(dtype: str) -> None:
    storage = Storage(np.dtype(dtype))
    for width in range(1, 200):
        values = np.full(width, 1e12)
        values[::3] = 7
        out, lost = compute("direct", values, storage)
        assert (out[::3] == 7).all()
        assert lost == width - len(values[::3])


@pytest.mark.parametrize("way", ENGINES)
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_64_bits_never_wrap(way: str, dtype: str) -> None:
    """The greatest float below 2^63 is 1024 less; beyond it, that is what is stored."""
    storage = Storage(np.dtype(dtype))
    info = np.iinfo(dtype)
    top = float(info.max)  # one more than the greatest
    values = np.array([top, 2 * top, np.inf, -np.inf, -2 * top, np.nan, np.nextafter(top, 0), 2.5])
    out, lost = compute(way, values, storage)
    highest = int(np.nextafter(top, 0))
    assert out.tolist() == [highest, highest, highest, int(info.min), int(info.min), 0, highest, 2]
    assert lost == 6


@pytest.mark.parametrize("way", ENGINES)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8),
    dtype=st.sampled_from(("uint8", "int16", "int32")),
    slope=st.sampled_from((1.0, 0.5, 4.0, -2.0)),
    inter=st.sampled_from((0.0, 100.0, -1024.0)),
)
@settings(deadline=None, max_examples=80)
def test_stored_numbers_follow_slope_and_intercept(
    way: str, values: list[float], dtype: str, slope: float, inter: float
) -> None:
    """Powers of two, and intercepts that leave floats of 32 bits exact or are subtracted in them as here."""
    storage = Storage(np.dtype(dtype), slope, inter)
    kind = storage.compute_dtype.type
    out, lost = compute(way, np.array(values), storage)
    expected = [rounded(float(kind(value) - kind(inter)), storage.dtype, slope) for value in values]
    assert out.tolist() == [number for number, _ in expected]
    assert lost == sum(gone for _, gone in expected)


@pytest.mark.parametrize("way", ENGINES)
def test_activations_come_before_rounding(way: str) -> None:
    out, lost = compute(way, np.array([-300.0, 2.5, 300.0]), Storage(np.dtype(np.uint8)), "relu")
    assert out.tolist() == [0, 2, 255]
    assert lost == 1


# What an output becomes: floats.


@pytest.mark.parametrize("way", ENGINES)
def test_float64_is_computed_in_double_and_float32_in_single(way: str) -> None:
    x = np.full((2, 2, 2), 1 + 2.0**-40)
    third = np.full((2, 2, 2), 1 / 3)
    with only(way):
        double = conv3dt.upsample(x, weights=third, strides=2, dtype="float64", threads=1)
        single = conv3dt.upsample(x, weights=third, strides=2, dtype="float32", threads=1)
        default = conv3dt.upsample(x, weights=third, strides=2, threads=1)
    assert (double.dtype, single.dtype, default.dtype) == (np.float64, np.float32, np.float32)
    assert (double == (1 + 2.0**-40) * (1 / 3)).all()
    assert (single == np.float32(1 / 3)).all()
    assert np.array_equal(default, single)


@pytest.mark.parametrize("way", ENGINES)
def test_float32_is_within_its_precision_of_the_definition(way: str) -> None:
    setting = GRID["channels and filters"]
    random = np.random.default_rng(9)
    x, kernel = random.normal(size=(5, 4, 6, 3)), random.normal(size=(3, 2, 3, 2, 3))
    expected = transposed(x, kernel, setting.laws, bias=[0.5, -0.5])
    with only(way):
        out = conv3dt.upsample(x, weights=kernel, bias=[0.5, -0.5], **setting.arguments | {"dtype": "float32"})
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float16", "float32", ">f4", ">i2", "bool"])
def test_any_type_of_number_goes_in(dtype: str) -> None:
    x = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 100, (2, 3, 2)).astype(dtype)
    kernel = whole_numbers(0, (2, 2, 2))
    with only("transposed"):
        out = conv3dt.upsample(x, weights=kernel, strides=2, dtype="float64", threads=1)
    expected = transposed(x.astype(float)[..., None], kernel[..., None, None], (Law(2, 2),) * 3)[..., 0]
    np.testing.assert_array_equal(out, expected)


def test_the_engine_chosen_does_not_show_in_whole_numbers() -> None:
    """The numbers are those of the definition, whatever is chosen."""
    for channels, filters in ((1, 1), (24, 24)):
        setting = Setting((3, 3, 3), (2, 2, 2), padding="same", channels=channels, filters=filters)
        x = whole_numbers(1, (4, 4, 4, channels))
        kernel = whole_numbers(2, (3, 3, 3, filters, channels))
        out = conv3dt.upsample(x, weights=kernel, **setting.arguments)
        np.testing.assert_array_equal(out, transposed(x, kernel, setting.laws))
        assert prod(out.shape) == 8**3 * filters
