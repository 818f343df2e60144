"""Does the Triton kernel compute the definition?  By Triton's interpreter where there is no GPU, else on the GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv3dt.bound import output_bounds
from conv3dt.engine.finish import Storage
from conv3dt.engine.gpu.fused_text import MOST_HELD, MOST_PRODUCTS, can_be, kernel_text, written
from conv3dt.geometry import Axis
from conv3dt.layer.activation import ACTIVATIONS
from tests.conftest import HAS_GPU, ROOT
from tests.regions import FLOAT32, FLOAT64, computed, layer_of, region
from tests.test_engines import Setting, a_setting

pytest.importorskip("triton", reason="Triton is for Linux")


seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(*[st.integers(1, 9)] * 3)


@given(
    setting=a_setting(), shape=st.tuples(*[st.integers(1, 9)] * 3), seed=seeds, wide=st.booleans(), bias=st.booleans()
)
@settings(deadline=None, max_examples=40)
def test_any_layer_is_what_the_loops_make_of_it(
    setting: Setting, shape: tuple[int, int, int], seed: int, wide: bool, bias: bool
) -> None:
    """Of whole numbers, bit for bit; `test_engines` holds the loops to the definition."""
    layer, storage = layer_of(setting, seed, whole=True, bias=bias), FLOAT64 if wide else FLOAT32
    if not can_be(layer.config.axes, one=layer.channels == layer.filters == 1):
        return
    source = region(layer, storage, shape, seed=seed, whole=True)
    expected, _ = computed(layer, storage, source, shape, "direct")
    np.testing.assert_array_equal(computed(layer, storage, source, shape)[0], expected)


CASES = {
    "k2 s2": Setting((2, 2, 2), (2, 2, 2)),
    "k3 s2": Setting((3, 3, 3), (2, 2, 2), padding="same"),
    "k4 s2": Setting((4, 4, 4), (2, 2, 2), padding="same"),
    "k8 s4": Setting((4, 4, 8), (2, 2, 4), padding="same"),
    "k3 s3": Setting((3, 3, 3), (3, 3, 3)),
    "anisotropic": Setting((1, 3, 4), (1, 3, 2), padding="same"),
    "gaps": Setting((1, 1, 2), (2, 2, 4)),
    "dilated": Setting((3, 3, 3), dilation=(1, 2, 3)),
    "channels": Setting((3, 3, 3), (2, 2, 2), padding="same", channels=3, filters=2),
}
every_case = pytest.mark.parametrize("setting", CASES.values(), ids=CASES)


@every_case
def test_random_numbers_agree_with_the_loops_to_a_millionth(setting: Setting) -> None:
    layer, shape = layer_of(setting), (7, 6, 37)
    source = region(layer, FLOAT32, shape)
    expected, _ = computed(layer, FLOAT32, source, shape, "direct")
    found, lost = computed(layer, FLOAT32, source, shape)
    assert lost == 0
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@every_case
def test_a_part_of_a_region_has_the_bits_of_the_whole(setting: Setting) -> None:
    layer, strides = layer_of(setting), setting.strides
    shape = tuple(5 * stride for stride in strides)
    source = region(layer, FLOAT32, shape)
    whole, _ = computed(layer, FLOAT32, source, shape)
    again, _ = computed(layer, FLOAT32, source, shape)
    np.testing.assert_array_equal(whole, again)
    start, stop = [2 * stride for stride in strides], [4 * stride for stride in strides]
    part: list[slice] = [slice(None)]
    for axis, a, b in zip(layer.config.axes, start, stop, strict=True):
        first = axis.sources(0, 1)[0]
        part.append(slice(axis.sources(a, b)[0] - first, axis.sources(a, b)[1] - first))
    inner, _ = computed(layer, FLOAT32, source[tuple(part)], tuple(b - a for a, b in zip(start, stop, strict=True)))
    np.testing.assert_array_equal(inner, whole[(slice(None), *map(slice, start, stop))])


TEXTS = [
    *(name for name in ACTIVATIONS if "softmax" not in name),
    "relu(alpha=0.1, max_value=6.0, threshold=0.5)", "relu(threshold=1.0)", "leaky_relu(alpha=0.5)", "elu(alpha=0.7)",
    "gelu(approximate=1.0)", "thresholded_relu(theta=0.3)", "hard_sigmoid(slope=0.16666667)",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_activations_are_those_of_the_loops(text: str) -> None:
    """From far below zero to far above it, and closely around it, where differences cancel."""
    layer = layer_of(Setting((1, 1, 1)), bias=False, activation=text)
    layer = replace(layer, kernel=np.ones_like(layer.kernel))
    near, far = np.geomspace(1e-6, 1.0, 60), np.linspace(1.0, 30.0, 40)
    values = np.concatenate([-far, -near, [0.0, -0.0, np.nan, 0.3, 0.5, 1.0], near, far]).astype(np.float32)
    source = values.reshape(1, 1, 1, -1)
    expected, _ = computed(layer, FLOAT32, source, source.shape[1:], "direct")
    found, _ = computed(layer, FLOAT32, source, source.shape[1:])
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-7)


@pytest.mark.skipif(HAS_GPU, reason="is about what a GPU does")
def test_powers_are_exact_although_a_gpu_rounds_x_over_ln_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own e^x is 4 millionths off at 80; and NaN, infinity and what overflows stay what they are."""
    from triton.runtime.interpreter import InterpreterBuilder

    def rounded(self: Any, value: Any) -> Any:
        return self.unary_op(value, lambda x: np.exp2((x * np.float32(1.442695)).astype(np.float64)).astype(x.dtype))

    monkeypatch.setattr(InterpreterBuilder, "create_exp", rounded)
    layer = layer_of(Setting((1, 1, 1)), bias=False, activation="exponential")
    layer = replace(layer, kernel=np.ones_like(layer.kernel))
    ends = [np.inf, -np.inf, np.nan, 1e30, -1e30, 89.0, 103.5, 104.5]
    values = np.concatenate([ends, np.linspace(-86, 88, 999)]).astype(np.float32)
    with np.errstate(all="ignore"):
        expected = np.exp(values.astype(np.float64)).astype(np.float32)
        found, _ = computed(layer, FLOAT32, values.reshape(1, 1, 1, -1), (1, 1, values.size))
    np.testing.assert_allclose(found.ravel(), expected, rtol=3e-7)


@pytest.mark.parametrize("text", ["linear", "relu"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_as_far_as_the_kernel(text: str, value: float) -> None:
    layer, shape = layer_of(CASES["k4 s2"], activation=text), (8, 8, 8)
    source = region(layer, FLOAT32, shape)
    source[0, 2, 2, 2] = value
    expected, _ = computed(layer, FLOAT32, source, shape, "direct")
    found, _ = computed(layer, FLOAT32, source, shape)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


@pytest.mark.parametrize("kind", "uint8 int16 uint16 int32 uint32 int64 uint64 float16".split())
@pytest.mark.parametrize("scaled", [False, True])
def test_what_is_stored_is_rounded_and_clipped_as_by_the_loops(kind: str, scaled: bool) -> None:
    """Halves go to even, what does not fit to the end, NaN to zero; all that is lost is counted."""
    storage = Storage(np.dtype(kind), *((0.5, 3.0) if scaled and kind != "float16" else (1.0, 0.0)))
    layer = layer_of(Setting((1, 1, 2), (1, 1, 2)), bias=False)
    layer = replace(layer, kernel=np.ones_like(layer.kernel))
    top = 1000 if kind == "float16" else float(np.iinfo(kind).max)
    values = [0, 0.5, 1.5, 2.5, -0.5, -1.5, -3, top / 3, top / 2, top, 4 * top, -4 * top, np.nan]
    source = np.array(values, storage.compute_dtype).reshape(1, 1, 1, -1)
    shape = (1, 1, 2 * len(values))
    expected, lost = computed(layer, storage, source, shape, "direct")
    for way in ("fused", "phased", "transposed"):
        found, counted = computed(layer, storage, source, shape, way)
        np.testing.assert_array_equal(found, expected)
        assert counted == lost


@pytest.mark.parametrize("activation", ["linear", "prelu", "elu", "softmax", "log_softmax"])
@pytest.mark.parametrize("wide", [False, True])
def test_what_looks_at_filters_or_in_float64_is_ended_elsewhere(activation: str, wide: bool) -> None:
    storage, shape = FLOAT64 if wide else FLOAT32, (4, 4, 6)
    alpha = np.array([0.3, -0.2], np.float32) if activation == "prelu" else None
    layer = layer_of(CASES["channels"], activation="linear" if alpha is not None else activation)
    if alpha is not None:
        layer = replace(layer, alpha=alpha, config=replace(layer.config, activation="prelu"))
    source = region(layer, storage, shape)
    expected, _ = computed(layer, storage, source, shape, "direct")
    found, _ = computed(layer, storage, source, shape)
    np.testing.assert_allclose(found, expected, rtol=1e-12 if wide else 3e-6, atol=1e-12 if wide else 1e-5)


def test_labels_are_those_of_the_loops() -> None:
    layer, shape = layer_of(Setting((2, 2, 2), (2, 2, 2), channels=2, filters=4), reduce="argmax"), (4, 4, 6)
    storage = Storage(np.dtype(np.uint8))
    source = region(layer, storage, shape)
    expected, _ = computed(layer, storage, source, shape, "direct")
    for way in ("fused", "phased", "transposed"):
        np.testing.assert_array_equal(computed(layer, storage, source, shape, way)[0], expected)


@pytest.mark.parametrize("bias", [False, True])
def test_each_channel_by_itself(bias: bool) -> None:
    layer = layer_of(CASES["k4 s2"], bias=bias, per_channel=True)
    shape = (4, 6, 8)
    source = np.repeat(region(layer, FLOAT32, shape), 3, axis=0) * np.arange(1, 4, dtype=np.float32).reshape(3, 1, 1, 1)
    expected, _ = computed(layer, FLOAT32, source, shape, "direct")
    for way in ("fused", "phased", "transposed"):
        found, _ = computed(layer, FLOAT32, source, shape, way)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_rounding_never_leaves_the_bounds_of_the_layer() -> None:
    layer, shape = layer_of(CASES["k3 s2"], activation="tanh"), (8, 8, 8)
    found, _ = computed(layer, FLOAT32, np.clip(region(layer, FLOAT32, shape), -1, 1), shape)
    low, high = output_bounds(layer, -1.0, 1.0)
    assert low - 1e-6 <= found.min() <= found.max() <= high + 1e-6


# The text.


def test_taps_that_float32_has_only_as_denormals_are_not_written() -> None:
    assert written(np.array([[[1.0, 0.0, -2.5]]])) == (1.0, 0.0, -2.5)
    for odd in (1e-40, np.nan, np.inf, 1e39):
        with np.errstate(over="ignore"):
            assert written(np.array([[[1.0, odd]]])) is None


def test_large_kernels_go_another_way() -> None:
    def cube(kernel: int, stride: int) -> tuple[Axis, Axis, Axis]:
        return (Axis(kernel, stride),) * 3

    assert can_be(cube(10, 2), one=True)
    assert not can_be(cube(11, 2), one=True)
    assert can_be(cube(8, 8), one=True)
    assert not can_be(cube(8, 8), one=False)
    assert 8**3 <= MOST_PRODUCTS
    assert 4**3 == MOST_HELD


def test_every_product_is_written_once_and_no_tap_is_padded() -> None:
    from tests.fused_compiler import recipes

    for recipe, _ in recipes().values():
        text = kernel_text(recipe)
        products = text.count("tl.fma(") + text.count(" * tl.load") + sum(
            line.strip().startswith("a") and " = v" in line and " * " in line for line in text.splitlines()
        )  # fmt: skip
        taps = np.prod([axis.kernel for axis in recipe.axes])
        assert products == taps * recipe.cells


@cache
def compiled(architecture: int, *names: str) -> dict[str, Any]:
    """What texts become on a GPU that need not be there."""
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words = [sys.executable, "-m", "tests.fused_compiler", str(architecture), *names]
    done = subprocess.run(words, cwd=ROOT, env=clean, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_all_texts_compile_for_a_real_gpu() -> None:
    """The interpreter takes what the compiler does not; nothing is spilt into memory."""
    for name, made in compiled(90).items():
        assert made["bytes"] > 0, name
        assert made["local"] == 0, name


@pytest.mark.parametrize("architecture", [75, 80, 90])
def test_voxels_are_fetched_once_and_rows_are_stored_whole(architecture: int) -> None:
    made = compiled(architecture, "k4 s2", "k8 s4", "int16")
    assert made["k4 s2"]["loads"] == 6 * 3 * 3  # four cells along z, and the neighbours on either side
    assert made["k4 s2"]["fused"] == 4 * (64 - 8)  # the first product of each output is no sum
    assert made["k4 s2"]["stores"] == ["st.global.v2.b32"]
    assert made["k8 s4"]["stores"] == ["st.global.v4.b32"]
    assert made["int16"]["stores"] == ["st.global.b32"]  # two voxels
