"""Is the law of an axis the one of the table, and do its parts agree with the definition voxel by voxel?"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv3dt.errors import ArgumentError
from conv3dt.geometry import BOUNDARIES, Axis, Box, covering, reflect
from tests.oracle import PAD_MODES, Law

Setting = tuple[int, int, int, str, int | None]


def refused(kernel: int, dilation: int, padding: str, output_padding: int | None) -> bool:
    """Whether TensorFlow fails at run time: same, output padding 0, even extent."""
    return padding == "same" and output_padding == 0 and ((kernel - 1) * dilation) % 2 == 1


EVERY: list[Setting] = [
    (kernel, stride, dilation, padding, extra)
    for stride in (1, 2, 3, 4)
    for kernel in range(1, 8)
    for dilation in ((1, 2, 3) if stride == 1 else (1,))
    for padding in ("valid", "same")
    for extra in (None, *range(stride))
]
LEGAL = [s for s in EVERY if not refused(s[0], s[2], s[3], s[4])]
REFUSED = [s for s in EVERY if refused(s[0], s[2], s[3], s[4])]
legal = pytest.mark.parametrize(
    "axes",
    [[Axis(*s) for s in LEGAL if s[:2] == (kernel, stride)] for stride in (1, 2, 3, 4) for kernel in range(1, 8)],
    ids=lambda axes: f"k{axes[0].kernel}s{axes[0].stride}",
)


def law_of(axis: Axis) -> Law:
    return Law(axis.kernel, axis.stride, axis.dilation, axis.padding, axis.output_padding)


@cache
def pairs(axis: Axis, o: int) -> set[tuple[int, int]]:
    """Every (input, tap) that lands on output ``o``, by trying all of them."""
    return {
        (i, t)
        for t in range(axis.kernel)
        for i in range(-20, 24)
        if axis.stride * i + axis.dilation * t - axis.crop == o
    }


def test_the_settings_are_all_there() -> None:
    assert len(EVERY) == 7 * (3 * 2 * 2 + 2 * 3 + 2 * 4 + 2 * 5)
    assert len(REFUSED) == 3 + 0 + 3 + 3 * 3  # kernels 2, 4, 6 at stride 1 (dilation 1, 2, 3), then at strides 2, 3, 4


@legal
def test_length_and_crop_are_those_of_the_table(axes: list[Axis]) -> None:
    for axis in axes:
        law = law_of(axis)
        assert axis.crop == law.crop
        assert axis.extent == law.extent
        assert [axis.length(n) for n in range(1, 9)] == [law.length(n) for n in range(1, 9)]


@legal
def test_tail_is_what_is_left_after_the_last_output(axes: list[Axis]) -> None:
    for axis in axes:
        for n in (1, 2, 5):
            whole = axis.stride * (n - 1) + axis.dilation * (axis.kernel - 1) + 1
            assert axis.crop + axis.length(n) + axis.tail(n) == whole


@legal
def test_same_crops_what_the_forward_convolution_would_pad(axes: list[Axis]) -> None:
    """TensorFlow's SAME from the output back to the input pads the smaller half before."""
    for axis in axes:
        if axis.padding == "same":
            for n in (1, 2, 5):
                total = max((n - 1) * axis.stride + axis.extent - axis.length(n), 0)
                assert axis.crop == total // 2


@pytest.mark.parametrize("setting", REFUSED, ids=str)
def test_same_with_output_padding_0_is_refused_for_even_extents(setting: Setting) -> None:
    with pytest.raises(ArgumentError, match=r"output_padding 0 with padding 'same'.*even kernel extent, got \d+"):
        Axis(*setting)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": 0}, "kernel must be a positive whole number, got 0"),
        ({"kernel": 3, "stride": 0}, "stride must be a positive whole number, got 0"),
        ({"kernel": 3, "dilation": -1}, "dilation must be a positive whole number, got -1"),
        ({"kernel": 3, "padding": "SAME"}, "padding must be 'valid' or 'same', got 'SAME'"),
        ({"kernel": 3, "stride": 2, "dilation": 2}, "strides > 1 cannot go with dilation_rate > 1, got strides 2"),
        ({"kernel": 3, "stride": 2, "output_padding": 2}, "less than strides, got output_padding 2, strides 2"),
        ({"kernel": 3, "stride": 2, "output_padding": -1}, "at least 0 .* got output_padding -1"),
        ({"kernel": 3, "output_padding": 1}, "less than strides, got output_padding 1, strides 1"),
    ],
)
def test_what_an_axis_refuses(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Axis(**arguments)  # type: ignore[arg-type]


def test_an_axis_holds_a_voxel() -> None:
    with pytest.raises(ArgumentError, match="at least 1 voxel, got 0"):
        Axis(3).length(0)


@legal
def test_phases_share_out_the_taps(axes: list[Axis]) -> None:
    for axis in axes:
        phases = axis.phases()
        assert [phase.remainder for phase in phases] == list(range(axis.stride))
        assert sorted(tap for phase in phases for tap in phase.taps) == list(range(axis.kernel))
        assert all(phase.count == len(phase.taps) for phase in phases)


@legal
def test_a_phase_is_the_definition(axes: list[Axis]) -> None:
    for axis in axes:
        for phase in axis.phases():
            for q in (0, 1, 4):
                said = [(q + phase.base + j * phase.step, tap) for j, tap in enumerate(phase.taps)]
                assert set(said) == pairs(axis, q * axis.stride + phase.remainder)
                assert [i for i, _ in said] == sorted(i for i, _ in said), (
                    "taps are listed in reading order of the input"
                )


@legal
def test_sources_are_the_needed_range_and_no_more(axes: list[Axis]) -> None:
    for axis in axes:
        for start in range(0, 3 * axis.stride, axis.stride):  # where regions start
            for stop in range(start + 1, start + 8):
                needed = {i for o in range(start, stop) for i, _ in pairs(axis, o)}
                low, high = axis.sources(start, stop)
                assert (low, high) == (min(needed), max(needed) + 1)


@legal
def test_sources_of_any_range_hold_what_it_needs(axes: list[Axis]) -> None:
    for axis in axes:
        for start in range(9):
            for stop in range(start + 1, start + 6):
                low, high = axis.sources(start, stop)
                needed = {i for o in range(start, stop) for i, _ in pairs(axis, o)}
                assert low <= high
                assert needed <= set(range(low, high))
                assert not needed or (low, high) == (min(needed), max(needed) + 1)


@legal
def test_shift_puts_each_input_voxel_at_the_middle_of_its_footprint(axes: list[Axis]) -> None:
    for axis in axes:
        for i in (0, 3):
            footprint = [axis.stride * i + axis.dilation * t - axis.crop for t in range(axis.kernel)]
            middle = sum(footprint) / len(footprint)
            assert axis.shift + middle / axis.stride == pytest.approx(i, abs=1e-12)


@legal
def test_drift_is_the_distance_from_the_grid_that_keeps_the_first_face(axes: list[Axis]) -> None:
    for axis in axes:
        edge_aligned = 0.5 * axis.stride - 0.5  # where that grid puts the centre of input voxel 0
        true = -axis.shift * axis.stride  # where the layer puts it
        assert axis.drift == pytest.approx(true - edge_aligned, abs=1e-12)


@pytest.mark.parametrize(
    ("stride", "drifts"),
    [
        (2, [-0.5, 0, 0.5, 0, 0.5, 0, 0.5]),
        (3, [-1.0, -0.5, 0, 0.5, 0, 0.5, 0]),
        (4, [-1.5, -1.0, -0.5, 0, 0.5, 0, 0.5]),
    ],
)
def test_drift_of_same_for_kernels_1_to_7(stride: int, drifts: list[float]) -> None:
    assert [Axis(kernel, stride, padding="same").drift for kernel in range(1, 8)] == drifts


@given(n=st.integers(1, 7), before=st.integers(0, 30), after=st.integers(0, 30), boundary=st.sampled_from(BOUNDARIES))
@settings(deadline=None)
def test_reflect_is_numpys_pad(n: int, before: int, after: int, boundary: str) -> None:
    marks = np.pad(np.arange(1, n + 1), (before, after), PAD_MODES[boundary])  # 0 is "nothing there"
    said = [reflect(index, n, boundary) for index in range(-before, n + after)]
    assert [0 if found is None else found + 1 for found in said] == marks.tolist()


@given(n=st.integers(1, 9), low=st.integers(-40, 40), width=st.integers(1, 50), boundary=st.sampled_from(BOUNDARIES))
@settings(deadline=None, max_examples=300)
def test_covering_holds_every_stand_in(n: int, low: int, width: int, boundary: str) -> None:
    stand_ins = {found for i in range(low, low + width) if (found := reflect(i, n, boundary)) is not None}
    start, stop = covering(low, low + width, n, boundary)
    assert 0 <= start <= stop <= n
    assert stand_ins <= set(range(start, stop))
    if width <= 4 * n:
        assert (start, stop) == ((min(stand_ins), max(stand_ins) + 1) if stand_ins else (0, 0)), "and no more"


def test_covering_of_nothing_is_empty() -> None:
    assert covering(3, 3, 8, "edge") == (0, 0)


def test_a_box_is_half_open() -> None:
    box = Box((1, 2, 5), (4, 2, 3))
    assert box.shape == (3, 0, 0)
    assert np.arange(10)[box.slices[0]].tolist() == [1, 2, 3]
