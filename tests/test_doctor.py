"""Does the doctor say what the definitions say, and does what it says hold for outputs?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conv3dt import kernels
from conv3dt.doctor import Examination, examine, looks_like_torch, normalized, phase_sums, rank_one_error
from conv3dt.errors import ArgumentError, DataError
from conv3dt.layer.config import LayerConfig, layer_config
from tests.oracle import Law, transposed

Floats = NDArray[np.float64]


def layer_of(kernel: NDArray[Any], **arguments: Any) -> LayerConfig:
    return layer_config(filters=kernel.shape[3], kernel_size=kernel.shape[:3], **arguments)


def examined(kernel: NDArray[Any], bias: NDArray[Any] | None = None, **arguments: Any) -> Examination:
    return examine(kernel, bias, layer_of(kernel, **arguments).axes)


def laws_of(config: LayerConfig) -> tuple[Law, Law, Law]:
    first, second, third = (
        Law(axis.kernel, axis.stride, axis.dilation, axis.padding, axis.output_padding) for axis in config.axes
    )
    return first, second, third


def named(name: str, strides: Sequence[int]) -> Floats:
    first, second, third = (np.array(kernels.taps(name, stride)) for stride in strides)
    product_of_lines: Floats = np.einsum("i,j,k->ijk", first, second, third)[..., None, None]
    return product_of_lines


def random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def said(found: Examination, severity: str | None = None) -> list[str]:
    return [f.what for f in found.findings if severity in (None, f.severity)]


def about(found: Examination, word: str) -> list[str]:
    return [f"{f.severity}: {f.what}; {f.advice}" for f in found.findings if word in f.what]


@st.composite
def layers(draw: st.DrawFn, *, holes: bool = False, least: float = -4) -> tuple[Floats, LayerConfig]:
    """A kernel of tidy numbers and a layer that it goes with."""
    dilated = draw(st.booleans())
    strides = (1, 1, 1) if dilated else draw(st.tuples(*[st.integers(1, 3)] * 3))
    sizes = [draw(st.integers(1 if holes else stride, 4)) for stride in strides]
    shape = (*sizes, draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    seed = draw(st.integers(0, 2**31))
    kernel = np.round(np.random.default_rng(seed).uniform(least, 4, shape), 3)
    padding = draw(st.sampled_from(["valid", "same"]))
    dilation = draw(st.tuples(*[st.integers(1, 2)] * 3)) if dilated else 1
    return kernel, layer_of(kernel, strides=strides, padding=padding, dilation_rate=dilation)


# Gain.


def inner(config: LayerConfig, n: int) -> tuple[slice, ...]:
    """The outputs of ``n`` inputs an axis that no border reaches; it begins with remainder 0."""
    slices = []
    for axis in config.axes:
        first = -(-axis.extent // axis.stride) * axis.stride
        slices.append(slice(first, first + axis.stride))
        assert axis.sources(first, first + axis.stride)[0] >= 0
        assert axis.sources(first, first + axis.stride)[1] <= n
    return tuple(slices)


@given(layers(holes=True))
@settings(max_examples=60, deadline=None)
def test_a_phase_sum_is_what_a_constant_becomes(layer: tuple[Floats, LayerConfig]) -> None:
    kernel, config = layer
    n = 12
    out = transposed(np.ones((n, n, n, kernel.shape[4])), kernel, laws_of(config))
    np.testing.assert_allclose(phase_sums(kernel, config.axes), out[inner(config, n)], atol=1e-12)


def test_gains_by_their_definitions() -> None:
    kernel = random(3, 2, 4, 2, 3)
    found = examined(kernel, strides=(2, 1, 3))
    for number in range(2):
        gains = {
            (i, j, k): kernel[i::2, j::1, k::3, number, :].sum() for i, j, k in product(range(2), range(1), range(3))
        }
        values = list(gains.values())
        facts = found.by_filter[number]
        assert facts.gain == pytest.approx(sum(values) / 6)
        assert (facts.lowest, facts.highest) == pytest.approx((min(values), max(values)))
        assert facts.checkerboard == pytest.approx((max(values) - min(values)) / abs(sum(values) / 6))
    assert [phase.remainder for phase in found.by_phase] == list(product(range(2), range(1), range(3)))
    assert [phase.taps for phase in found.by_phase] == [8, 4, 4, 4, 2, 2]
    assert found.by_phase[4].gain == pytest.approx(kernel[1::2, :, 1::3].sum() / 2)
    assert found.gain == pytest.approx(kernel.sum() / 6 / 2)


def test_same_moves_the_remainders() -> None:
    """Under ``same`` one output is cropped: those of even number come from odd taps."""
    kernel = np.arange(1.0, 5.0).reshape(4, 1, 1, 1, 1)
    valid, same = (examined(kernel, strides=(2, 1, 1), padding=padding) for padding in ("valid", "same"))
    assert [phase.gain for phase in valid.by_phase] == [4, 6]
    assert [phase.gain for phase in same.by_phase] == [6, 4]


@pytest.mark.parametrize("strides", [(2, 2, 2), (3, 2, 1)])
@pytest.mark.parametrize("name", kernels.KERNELS)
def test_named_kernels_are_healthy(name: str, strides: tuple[int, int, int]) -> None:
    found = examined(named(name, strides), strides=strides, padding="same")
    assert found.gain == pytest.approx(1)
    assert found.checkerboard == pytest.approx(0, abs=1e-12)
    assert found.separable
    assert said(found, "problem") + said(found, "warning") == []
    assert [axis.symmetry for axis in found.axes] == ["symmetric"] * 3
    assert [axis.from_edge_grid for axis in found.axes] == [0, 0, 0]


def test_ones_of_size_3_at_stride_2_are_the_textbook_checkerboard() -> None:
    found = examined(np.ones((3, 3, 3, 1, 1)), strides=2, padding="same")
    assert sorted({phase.gain for phase in found.by_phase}) == [1, 2, 4, 8]
    assert found.checkerboard == pytest.approx(7 / (27 / 8))
    (line,) = about(found, "checkerboard")
    assert line.startswith("warning: checkerboard: the gains of the phases differ by 2.07 times their mean (the kernel")
    assert "train with a kernel of 4x4x4" in line


def test_gains_that_cancel_have_no_ratio() -> None:
    kernel = np.array([1.0, -1.0]).reshape(2, 1, 1, 1, 1)
    assert examined(kernel, strides=(2, 1, 1)).checkerboard is None


@given(layers(least=0.1))
@settings(max_examples=60, deadline=None)
def test_normalized_kernels_have_gain_1_in_each_phase(layer: tuple[Floats, LayerConfig]) -> None:
    kernel, config = layer
    even = normalized(kernel, config.axes)
    np.testing.assert_allclose(phase_sums(even, config.axes), 1, rtol=1e-13)
    found = examine(even, None, config.axes)
    assert found.checkerboard == pytest.approx(0, abs=1e-12)
    assert about(found, "gain") == []


@given(layers(least=0.1))
@settings(max_examples=60, deadline=None)
def test_normalizing_scales_each_phase_by_one_factor(layer: tuple[Floats, LayerConfig]) -> None:
    kernel, config = layer
    sums = phase_sums(kernel, config.axes)
    even = normalized(kernel, config.axes)
    n = 12
    x = np.random.default_rng(1).normal(size=(n, n, n, kernel.shape[4]))
    before, after = (transposed(x, taps, laws_of(config))[inner(config, n)] for taps in (kernel, even))
    np.testing.assert_allclose(after, before / sums, rtol=1e-9, atol=1e-9)


def test_normalizing_keeps_the_type() -> None:
    kinds: list[type[np.float32] | type[np.float64]] = [np.float32, np.float64]
    for kind in kinds:
        kernel: NDArray[np.floating] = np.abs(random(4, 4, 4, 2, 1)).astype(kind)
        even = normalized(kernel, layer_of(kernel, strides=2).axes)
        assert even.dtype == kind
        np.testing.assert_allclose(phase_sums(even, layer_of(kernel, strides=2).axes), 1, rtol=1e-6)


def test_what_cannot_be_normalized() -> None:
    cancelling = np.array([1.0, 1.0, -1.0, 1.0]).reshape(4, 1, 1, 1, 1)
    with pytest.raises(DataError, match=r"the taps of phase 0,0,0 of filter 0 sum to 0, beside a size of 2"):
        normalized(cancelling, layer_of(cancelling, strides=(2, 1, 1)).axes)
    with pytest.raises(DataError, match="sum to -1, beside a size of 1: it finds edges"):
        normalized(-np.ones((1, 1, 1, 1, 1)), layer_of(np.ones((1, 1, 1, 1, 1))).axes)
    small = np.ones((1, 1, 1, 1, 1))
    with pytest.raises(DataError, match=r"phase 1,0,0 of filter 0 sum to 0, the kernel is smaller than the stri"):
        normalized(small, layer_of(small, strides=(2, 1, 1)).axes)


# Range.


@given(layers(holes=True))
@settings(max_examples=60, deadline=None)
def test_the_bound_is_attained_by_the_taps_signs_and_never_exceeded(layer: tuple[Floats, LayerConfig]) -> None:
    kernel, config = layer
    n = 12
    bias = np.arange(1.0, 1.0 + kernel.shape[3])
    found = examine(kernel, bias, config.axes)
    noise = np.random.default_rng(2).uniform(-1, 1, (n, n, n, kernel.shape[4]))
    limit = found.bound + found.bias_bound
    assert np.abs(transposed(noise, kernel, laws_of(config), bias=bias)).max() <= limit + 1e-12
    attained = 0.0
    for number in range(kernel.shape[3]):
        for remainder in np.ndindex(*config.strides):
            at = tuple(slice_.start + r for slice_, r in zip(inner(config, n), remainder, strict=True))
            reached = transposed(signs(kernel, config, at, number, n), kernel, laws_of(config))
            assert np.abs(reached).max() <= found.bound + 1e-12
            attained = max(attained, reached[at][number])
    assert attained == pytest.approx(found.bound)


def signs(kernel: Floats, config: LayerConfig, at: tuple[int, ...], number: int, n: int) -> Floats:
    """The input of ones and minus ones whose output at ``at`` is the sum of the sizes of its taps."""
    x = np.zeros((n, n, n, kernel.shape[4]))
    for t in np.ndindex(*kernel.shape[:3]):
        # o = s i + d t - P
        steps = [
            divmod(o + axis.crop - axis.dilation * tap, axis.stride)
            for o, tap, axis in zip(at, t, config.axes, strict=True)
        ]
        if all(rest == 0 for _, rest in steps):
            x[tuple(i for i, _ in steps)] = np.sign(kernel[t][number])
    return x


@given(layers(holes=True))
@settings(max_examples=40, deadline=None)
def test_inputs_that_are_never_negative_stay_between_down_and_up(layer: tuple[Floats, LayerConfig]) -> None:
    kernel, config = layer
    found = examine(kernel, None, config.axes)
    out = transposed(np.random.default_rng(3).uniform(0, 1, (6, 6, 6, kernel.shape[4])), kernel, laws_of(config))
    assert -found.down - 1e-12 <= out.min()
    assert out.max() <= found.up + 1e-12


def test_values_are_counted() -> None:
    kernel = np.zeros((2, 2, 2, 3, 1), np.float32)
    kernel[0, 0, 0, 1] = -2
    kernel[1, 1, 1, 1] = 5
    found = examined(kernel, np.array([0, -7, 1], np.float32))
    assert (found.low, found.high, found.zeros, found.taps, found.dead) == (-2, 5, 22, 24, (0, 2))
    assert (found.bound, found.up, found.down, found.bias_bound, found.bias) == (7, 5, 2, 7, True)
    assert (found.dtype, found.filters, found.channels) == ("float32", 3, 1)
    assert about(found, "zeros only") == [
        "warning: filters of zeros only: 0, 2; leave them out: they give the bias alone"
    ]


# Place.


@given(layers(least=0.1))
@settings(max_examples=60, deadline=None)
def test_the_centroid_is_the_first_moment(layer: tuple[Floats, LayerConfig]) -> None:
    kernel, config = layer
    found = examine(kernel, None, config.axes)
    for number, axis in enumerate(found.axes):
        taps = kernel.sum(axis=tuple(n for n in range(5) if n != number))
        moment = sum(t * value for t, value in enumerate(taps)) / taps.sum()
        assert axis.centroid == pytest.approx(moment, abs=1e-9)
        assert axis.middle == (len(taps) - 1) / 2
        assert axis.from_middle == pytest.approx((moment - axis.middle) * axis.dilation, abs=1e-9)


@given(layers(least=0.1))
@settings(max_examples=60, deadline=None)
def test_shifts_are_where_an_impulse_comes_to_lie(layer: tuple[Floats, LayerConfig]) -> None:
    """The output's centre of mass lies at ``(input - shift) * stride``: the meaning of the header's grid."""
    kernel, config = layer
    n = 13
    x = np.zeros((n, n, n, kernel.shape[4]))
    x[6, 6, 6] = 1
    out = transposed(x, kernel, laws_of(config)).sum(axis=3)
    for number, axis in enumerate(examine(kernel, None, config.axes).axes):
        row = out.sum(axis=tuple(other for other in range(3) if other != number))
        centre = float((np.arange(len(row)) * row).sum() / row.sum())
        assert axis.centroid_shift is not None
        assert axis.from_middle is not None
        assert centre == pytest.approx((6 - axis.centroid_shift) * axis.stride, abs=1e-9)
        assert centre == pytest.approx((6 - axis.shift) * axis.stride + axis.from_middle, abs=1e-9)
        on_edge_grid = (6 + 0.5) * axis.stride - 0.5
        assert axis.from_edge_grid + axis.from_middle == pytest.approx(centre - on_edge_grid, abs=1e-9)


def test_taps_that_cancel_have_no_centroid() -> None:
    kernel = np.array([1.0, 0.0, -1.0]).reshape(3, 1, 1, 1, 1)
    first, *_ = examined(kernel).axes
    assert (first.centroid, first.centroid_shift, first.from_middle) == (None, None, None)
    assert first.symmetry == "antisymmetric"


def test_symmetry_by_its_definition() -> None:
    kernel = random(3, 4, 2, 2, 2)
    kernel = kernel + kernel[::-1]
    first, second, third = examined(kernel).axes
    assert (first.symmetry, first.asymmetry) == ("symmetric", 0)
    assert (second.symmetry, third.symmetry) == ("neither", "neither")
    assert second.asymmetry == pytest.approx(np.abs(kernel - kernel[:, ::-1]).max() / np.abs(kernel).max())


# Shape.


@given(st.integers(0, 2**31), st.tuples(*[st.integers(1, 6)] * 3), st.floats(-200, 200))
@settings(max_examples=80, deadline=None)
def test_outer_products_are_separable(seed: int, shape: tuple[int, int, int], size: float) -> None:
    rng = np.random.default_rng(seed)
    pairs = [np.einsum("i,j,k->ijk", *(rng.normal(size=n) for n in shape)) for _ in range(4)]
    kernel = np.stack(pairs, -1).reshape(*shape, 2, 2) * 10.0**size
    error = rank_one_error(kernel)
    assert error is not None
    assert error < 1e-13


@given(st.integers(0, 2**31), st.tuples(*[st.integers(2, 5)] * 3), st.floats(1e-4, 1))
@settings(max_examples=80, deadline=None)
def test_sums_of_outer_products_are_not(seed: int, shape: tuple[int, int, int], size: float) -> None:
    """Two orthogonal outer products: the smaller is the error, for no outer product comes nearer (Eckart, Young)."""
    rng = np.random.default_rng(seed)
    bases = [np.linalg.qr(rng.normal(size=(n, n)))[0] for n in shape]
    first, second = (np.einsum("i,j,k->ijk", *(basis[:, n] for basis in bases)) for n in range(2))
    error = rank_one_error((first + 0.9 * size * second)[..., None, None])
    assert error == pytest.approx(0.9 * size / np.hypot(1, 0.9 * size), rel=1e-6)


def test_one_pair_that_is_not_separable_is_enough() -> None:
    kernel = np.ones((3, 3, 3, 4, 4))
    assert rank_one_error(kernel) == pytest.approx(0, abs=1e-15)
    kernel[0, 0, 0, 3, 2] = 2
    error = rank_one_error(kernel)
    assert error is not None
    assert error > 0.1
    assert about(examined(kernel), "separable") == []


def test_zeros_and_single_taps_are_separable() -> None:
    assert rank_one_error(np.zeros((3, 3, 3, 2, 1))) == 0
    assert rank_one_error(random(1, 1, 5, 2, 2)) == pytest.approx(0, abs=1e-15)


def test_sides_too_long_to_try_are_told() -> None:
    assert rank_one_error(np.ones((1100, 1100, 1, 1, 1), np.float32)) is None
    assert rank_one_error(np.ones((200_000, 2, 2, 1, 1), np.float32)) == pytest.approx(0, abs=1e-9)


# What is said about it.


def test_strides_that_nobody_said() -> None:
    kernel = 8 * named("linear", (2, 2, 2)) / 8
    found = examine(kernel, None, layer_of(kernel).axes, assumed=("strides", "padding"))
    assert about(found, "strides") == [
        "warning: strides unknown, taken as 1; the sum of the taps fits strides 2; give --strides 2"
    ]
    assert about(found, "gain") == []
    rough = random(3, 3, 3, 1, 1)
    found = examine(rough, None, layer_of(rough).axes, assumed=("strides",))
    assert about(found, "strides") == ["warning: strides unknown, taken as 1; give --strides N"]


def test_a_kernel_of_3_at_stride_2_lies_half_a_voxel_off() -> None:
    found = examined(np.ones((3, 3, 1, 1, 1)), strides=(2, 2, 1), padding="same")
    (line,) = about(found, "edge-aligned")
    assert line == (
        "warning: outputs lie +0.5 voxels off the edge-aligned grid on axes 0, 1; keep --align kernel, so that the "
        "header says so, or use a kernel of 4x4x1"
    )
    assert examined(np.ones((4, 4, 1, 1, 1)), strides=(2, 2, 1), padding="same").axes[0].from_edge_grid == 0
    assert about(examined(np.ones((3, 3, 1, 1, 1)), strides=(2, 2, 1)), "edge-aligned") == []


def test_a_kernel_smaller_than_its_stride_has_holes() -> None:
    found = examined(np.ones((2, 3, 3, 1, 1)), strides=3)
    assert found.findings[0].severity == "problem"
    assert said(found)[0] == "the kernel is smaller than the stride on axis 0: 9 of 27 outputs hold the bias alone"
    assert about(found, "checkerboard") == []
    assert "none while there are holes" in about(found, "gain")[0]


def test_zeros_only_are_one_problem() -> None:
    found = examined(np.zeros((3, 3, 3, 2, 2)), strides=2)
    assert [f.severity for f in found.findings] == ["problem"]
    assert said(found) == ["all taps are 0: every output is the bias alone"]


@pytest.mark.parametrize(
    ("shape", "suspicious"),
    [((4, 8, 3, 3, 3), True), ((1, 1, 4, 4, 4), True), ((3, 3, 3, 8, 4), False), ((3, 3, 3, 3, 3), False),
     ((4, 8, 1, 1, 1), False), ((2, 4, 4, 1, 1), False)],
)  # fmt: skip
def test_torchs_layout_is_suspected(shape: tuple[int, ...], suspicious: bool) -> None:
    assert looks_like_torch(shape) == suspicious
    kernel = random(*shape)
    assert bool(about(examined(kernel), "PyTorch")) == suspicious
    axes = layer_of(kernel).axes
    assert about(examine(kernel, None, axes, layout_known=True), "PyTorch") == []


def test_brightness() -> None:
    found = examined(0.5 * named("linear", (2, 2, 2)), strides=2, padding="same")
    assert about(found, "gain") == [
        "warning: the gain is 0.5, not 1: a constant comes out as another; --normalize-gain FILE writes a kernel of "
        "gain 1"
    ]
    several = np.concatenate([named("linear", (2, 2, 2))] * 2, axis=4)
    assert about(examined(several, strides=2, padding="same"), "gain") == []


def test_content_beside_the_middle() -> None:
    kernel = np.array([1.0, 2.0, 5.0]).reshape(3, 1, 1, 1, 1) / 8
    (line,) = about(examined(kernel), "centre of mass")
    assert "lies +0.5 output voxels from the middle of the taps on axis 0; --align centroid" in line
    rough = examined(random(3, 3, 3, 1, 1))
    assert rough.cancellation > 0.5
    assert about(rough, "centre of mass") == []


def test_overshoot() -> None:
    (line,) = about(examined(named("cubic", (2, 1, 1)), strides=(2, 1, 1), padding="same"), "reach")
    assert line == (
        "note: outputs can reach 1.188 times the largest input (and below 0 where no input is); integers may be "
        "clipped; --dtype float32 keeps all"
    )
    assert about(examined(named("linear", (2, 2, 2)), strides=2), "reach") == []


def test_the_worst_comes_first() -> None:
    found = examined(np.ones((2, 3, 4, 1, 1)), strides=(3, 2, 2), padding="same")
    order = ["problem", "warning", "note"]
    ranks = [order.index(f.severity) for f in found.findings]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}


def test_what_cannot_be_examined() -> None:
    with pytest.raises(ArgumentError, match=r"kernel must be \(3, 3, 3\) taps by filters and channels, got shape \(3,"):
        examine(np.ones((3, 3, 3)), None, layer_of(np.ones((3, 3, 3, 1, 1))).axes)
    with pytest.raises(ArgumentError, match="strides must make at most 262144 phases"):
        examined(np.ones((1, 1, 1, 1, 1)), strides=100)


def test_plain_values_only() -> None:
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(plain(item) for item in value.values())
        if isinstance(value, (list, tuple)):
            return all(plain(item) for item in value)
        return type(value) in (int, float, str, bool, type(None))

    told = examined(random(3, 3, 3, 2, 2).astype(np.float32), np.zeros(2, np.float32), strides=2).as_dict()
    assert plain(told)
    assert told["separable"] is False
    assert len(told["by_phase"]) == prod((2, 2, 2))


def test_no_gain_is_mended_that_cannot_be() -> None:
    level, edges = np.full((2, 2, 2, 1, 1), 0.5), np.full((2, 2, 2, 1, 1), -0.5)
    for kernel, advice in ((level, "--normalize-gain FILE writes"), (edges, "leave it as it is")):
        (line,) = about(examined(kernel, strides=2), "gain")
        assert advice in line
