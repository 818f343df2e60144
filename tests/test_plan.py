"""Is every output voxel computed once, from the input it needs, within the memory allowed?"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from conv3dt.errors import DoesNotFitError
from conv3dt.geometry import BOUNDARIES, Axis, reflect
from conv3dt.plan import BUFFERS, LINE_BYTES, Demand, Plan, make_plan

Axes = tuple[Axis, Axis, Axis]
Shape = tuple[int, int, int]
PLENTY = 2**40
ONE = Demand(channels=1, filters=1, stored=2, computed=4, written=4)


@st.composite
def an_axis(draw: st.DrawFn) -> Axis:
    stride = draw(st.integers(1, 4))
    kernel = draw(st.integers(1, 7))
    padding = draw(st.sampled_from(("valid", "same")))
    extra = draw(st.sampled_from((None, *range(stride))))
    dilation = draw(st.integers(1, 3)) if stride == 1 else 1
    if padding == "same" and extra == 0 and (kernel - 1) * dilation % 2 == 1:
        extra = None
    return Axis(kernel, stride, dilation, padding, extra)


def triples(least: int, most: int) -> st.SearchStrategy[Shape]:
    one = st.integers(least, most)
    return st.tuples(one, one, one)


three_axes = st.tuples(an_axis(), an_axis(), an_axis())
boundaries = st.sampled_from(BOUNDARIES)
demands = st.builds(
    Demand,
    channels=st.integers(1, 4),
    filters=st.integers(1, 4),
    stored=st.sampled_from((1, 2, 4, 8)),
    computed=st.sampled_from((4, 8)),
    written=st.sampled_from((1, 2, 4, 8)),
    scratch=st.sampled_from((0, 4, 24)),
)


def plan_of(axes: Axes, shape: Shape, **changes: Any) -> Plan:
    arguments: dict[str, Any] = {
        "boundary": "zero", "batch": 1, "demand": ONE, "budget": PLENTY, "tile": None, "chunks": (1, 1, 1),
        "slabs": False,
    }  # fmt: skip
    return make_plan(axes, shape, **arguments | changes)


def in_flight(plan: Plan, demand: Demand) -> int:
    """The bytes of the buffers that running the plan really takes, from the boxes of its regions."""
    regions = list(plan.regions())
    line = LINE_BYTES // demand.computed
    source = max(prod(r.source.shape[:2]) * -(-r.source.shape[2] // line) * line for r in regions)
    read = max(prod(r.read.shape) for r in regions)
    target = max(prod(r.target.shape) for r in regions)
    return (
        BUFFERS * demand.channels * (source * demand.computed + read * demand.stored)
        + BUFFERS * demand.filters * target * demand.written
        + demand.filters * target * demand.scratch
    )


@given(axes=three_axes, shape=triples(1, 6), tile=triples(1, 9))
@settings(deadline=None, max_examples=150)
def test_regions_cover_each_output_voxel_once(axes: Axes, shape: Shape, tile: Shape) -> None:
    plan = plan_of(axes, shape, tile=tile)
    times = np.zeros(plan.output_shape, int)
    count = 0
    for region in plan.regions():
        assert prod(region.target.shape) > 0
        times[region.target.slices] += 1
        count += 1
    assert (times == 1).all()
    assert times.sum() == prod(plan.output_shape), "no region reaches outside"
    assert plan.count == count


@given(axes=three_axes, shape=triples(1, 8), tile=triples(1, 9), boundary=boundaries)
@settings(deadline=None, max_examples=150)
def test_regions_start_at_strides_and_read_what_they_need(axes: Axes, shape: Shape, tile: Shape, boundary: str) -> None:
    for region in plan_of(axes, shape, tile=tile, boundary=boundary).regions():
        for n, axis in enumerate(axes):
            assert region.target.start[n] % axis.stride == 0
            source = (region.source.start[n], region.source.stop[n])
            assert source == axis.sources(region.target.start[n], region.target.stop[n])
            stand_ins = {found for i in range(*source) if (found := reflect(i, shape[n], boundary)) is not None}
            assert stand_ins <= set(range(region.read.start[n], region.read.stop[n]))
            assert 0 <= region.read.start[n] <= region.read.stop[n] <= shape[n]


@given(axes=three_axes, shape=triples(1, 5))
@settings(deadline=None, max_examples=50)
def test_a_plan_without_limits_is_one_region(axes: Axes, shape: Shape) -> None:
    (region,) = plan_of(axes, shape).regions()
    assert region.target.start == (0, 0, 0)
    assert region.target.stop == tuple(axis.length(n) for axis, n in zip(axes, shape, strict=True))


@given(
    axes=three_axes, shape=triples(1, 24), demand=demands, budget=st.integers(1, 400_000), slabs=st.booleans(),
    chunks=triples(1, 16),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_a_plan_stays_within_its_budget(
    axes: Axes, shape: Shape, demand: Demand, budget: int, slabs: bool, chunks: Shape
) -> None:
    try:
        plan = plan_of(axes, shape, demand=demand, budget=budget, slabs=slabs, chunks=chunks)
    except DoesNotFitError:
        assume(False)
    assert plan.peak_bytes <= budget
    assert all(1 <= size <= n for size, n in zip(plan.tile, plan.output_shape, strict=True))
    assert all(r.target.start[n] % axis.stride == 0 for r in plan.regions() for n, axis in enumerate(axes))


@given(axes=three_axes, shape=triples(1, 12), demand=demands, tile=triples(1, 16), boundary=boundaries)
@example(axes=(Axis(7, 1),) * 3, shape=(1, 1, 1), demand=ONE, tile=(7, 7, 7), boundary="zero")  # reach on both sides
@settings(deadline=None, max_examples=200)
def test_peak_bytes_are_not_understated(axes: Axes, shape: Shape, demand: Demand, tile: Shape, boundary: str) -> None:
    plan = plan_of(axes, shape, demand=demand, tile=tile, boundary=boundary)
    assert in_flight(plan, demand) <= plan.peak_bytes


@given(axes=three_axes, shape=triples(1, 12), demand=demands, slabs=st.booleans(), chunks=triples(1, 16))
@settings(deadline=None, max_examples=100)
def test_only_what_cannot_fit_is_refused(axes: Axes, shape: Shape, demand: Demand, slabs: bool, chunks: Shape) -> None:
    """The smallest region, one stride on each axis, is the limit, whatever the chunks."""
    smallest = plan_of(axes, shape, demand=demand, tile=(1, 1, 1)).peak_bytes
    fitting = plan_of(axes, shape, demand=demand, budget=smallest, slabs=slabs, chunks=chunks)
    assert fitting.peak_bytes <= smallest
    with pytest.raises(DoesNotFitError):
        plan_of(axes, shape, demand=demand, budget=fitting.peak_bytes - 1 if smallest == 1 else 0, slabs=slabs)


def test_the_refusal_says_what_would_help() -> None:
    axes = (Axis(3, 2),) * 3
    with pytest.raises(
        DoesNotFitError, match=r"leaves 0\.0 MiB .* \(2x2x2 output voxels\) takes .*; raise max-memory$"
    ):
        plan_of(axes, (64, 64, 64), budget=100)
    with pytest.raises(
        DoesNotFitError, match=r"this tile \(100x100x100 output voxels\) takes 9\.5 MiB; .* or give a smaller tile"
    ):
        plan_of(axes, (64, 64, 64), budget=2**20, tile=(100, 100, 100))


@pytest.mark.parametrize(
    ("tile", "becomes"),
    [((1, 1, 1), (2, 3, 1)), ((5, 5, 5), (6, 6, 5)), ((6, 6, 6), (6, 6, 6)), ((99, 1, 99), (20, 3, 10))],
)
def test_tiles_of_the_user_are_rounded_up_to_strides_and_end_with_the_volume(tile: Shape, becomes: Shape) -> None:
    axes = (Axis(3, 2, padding="same"), Axis(3, 3, padding="same"), Axis(3, padding="same"))
    assert plan_of(axes, (10, 10, 10), tile=tile).tile == becomes


@given(axes=three_axes, shape=triples(20, 60), blocks=triples(1, 8), height=st.integers(1, 4), slabs=st.booleans())
@settings(deadline=None, max_examples=100)
def test_regions_end_on_whole_chunks_where_the_budget_allows(
    axes: Axes, shape: Shape, blocks: Shape, height: int, slabs: bool
) -> None:
    """A chunk written by two regions is packed twice.  The budget here holds whole slabs of whole chunks."""
    a, b, c = (block * axis.stride for block, axis in zip(blocks, axes, strict=True))
    output = tuple(axis.length(n) for axis, n in zip(axes, shape, strict=True))
    assume(height * a < output[0])
    budget = plan_of(axes, shape, tile=(height * a, *output[1:])).peak_bytes
    plan = plan_of(axes, shape, chunks=(a, b, c), budget=budget, slabs=slabs)
    assert all(size % chunk == 0 or size == n for size, chunk, n in zip(plan.tile, (a, b, c), output, strict=True))


def test_regions_end_on_whole_chunks_of_64_at_stride_3() -> None:
    """The chunks of an HDF5 output made from NIfTI; 192 is the least that starts at strides and ends on chunks."""
    axes = (Axis(5, 3, padding="same"),) * 3
    budget = plan_of(axes, (200, 50, 50), tile=(192, 150, 150)).peak_bytes
    assert plan_of(axes, (200, 50, 50), chunks=(64, 64, 64), budget=budget, slabs=True).tile == (192, 150, 150)


@given(axes=three_axes, shape=triples(8, 40), budget=st.integers(50_000, 10**6))
@settings(deadline=None, max_examples=100)
def test_files_met_in_order_get_slabs_where_the_budget_allows(axes: Axes, shape: Shape, budget: int) -> None:
    output = tuple(axis.length(n) for axis, n in zip(axes, shape, strict=True))
    thinnest = plan_of(axes, shape, tile=(1, *output[1:])).peak_bytes
    assume(thinnest <= budget)
    plan = plan_of(axes, shape, budget=budget, slabs=True)
    assert plan.in_slabs
    order = [region.target.start for region in plan.regions()]
    assert all(a < b for a, b in pairwise(order))


def test_a_slab_too_big_for_the_budget_becomes_boxes() -> None:
    axes = (Axis(3, 2, padding="same"),) * 3
    plan = plan_of(axes, (8, 200, 200), budget=2**20, slabs=True)
    assert not plan.in_slabs
    assert plan.peak_bytes <= 2**20


@given(axes=three_axes, shape=triples(1, 6), tile=triples(1, 9))
@settings(deadline=None, max_examples=50)
def test_regions_come_slowest_axis_outermost(axes: Axes, shape: Shape, tile: Shape) -> None:
    order = [region.target.start for region in plan_of(axes, shape, tile=tile).regions()]
    assert order == sorted(order)


def test_a_plan_is_a_value() -> None:
    axes = (Axis(3, 2, padding="same"),) * 3
    plan = plan_of(axes, (8, 8, 8), tile=(4, 4, 4))
    assert plan == plan_of(axes, (8, 8, 8), tile=(4, 4, 4))
    assert plan != replace(plan, batch=2)
    assert list(plan.regions()) == list(plan.regions())
