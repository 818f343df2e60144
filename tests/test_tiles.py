"""Is a volume computed in pieces the volume computed at once?  Bit for bit on the loops, whatever the pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conv3dt
from conv3dt.geometry import BOUNDARIES
from conv3dt.io.array import ArraySource, info
from conv3dt.io.volume import FileSink
from conv3dt.job import Job, make_job
from conv3dt.pipeline import Tally, run
from conv3dt.request import LayerRequest
from conv3dt.resources import Resources
from tests.conftest import only

Array = NDArray[np.float32]
Triple = tuple[int, int, int]

LAYERS: dict[str, dict[str, Any]] = {  # few compilations: each is one text of loops
    "k3 s2 same": {"size": (3, 3, 3, 1, 1), "strides": 2, "padding": "same"},
    "anisotropic, many taps": {"size": (5, 4, 3, 1, 1), "strides": (2, 1, 3), "padding": "same"},
    "channels, filters": {"size": (2, 3, 4, 2, 2), "strides": (1, 2, 3), "padding": "valid"},
    "dilated": {"size": (3, 2, 3, 1, 1), "dilation_rate": (1, 3, 2), "padding": "same"},
    "gaps": {"size": (2, 1, 3, 1, 1), "strides": (3, 2, 4), "padding": "valid", "output_padding": (1, 0, 3)},
}
every_layer = pytest.mark.parametrize("name", LAYERS)
shapes = st.tuples(*[st.integers(1, 9)] * 3)
tiles = st.one_of(
    st.sampled_from([1, 2, 3, 5, 7, 11, 13]), st.tuples(*[st.sampled_from([1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 17])] * 3)
)
boundaries = st.sampled_from(BOUNDARIES)
seeds = st.integers(0, 2**32 - 1)


def problem(name: str, shape: Triple, seed: int) -> tuple[Array, dict[str, Any]]:
    """Random numbers, not whole ones: any change in the order of a sum would show."""
    arguments = dict(LAYERS[name])
    random, size = np.random.default_rng(seed), arguments.pop("size")
    x = random.normal(size=(*shape, size[4])).astype(np.float32)
    return x, arguments | {
        "weights": random.normal(size=size).astype(np.float32), "bias": random.normal(size=size[3]).astype(np.float32),
        "data_format": "channels_last",
    }  # fmt: skip


@every_layer
@given(shape=shapes, tile=tiles, boundary=boundaries, threads=st.sampled_from((1, 2)), seed=seeds)
@settings(deadline=None, max_examples=30)
def test_tiles_and_threads_change_no_bit(
    name: str, shape: Triple, tile: Any, boundary: str, threads: int, seed: int
) -> None:
    x, layer = problem(name, shape, seed)
    with only("direct"):
        whole = conv3dt.upsample(x, boundary=boundary, threads=1, **layer)
        tiled = conv3dt.upsample(x, boundary=boundary, threads=threads, tile=tile, **layer)
    assert np.array_equal(tiled, whole)


@every_layer
@pytest.mark.parametrize("slab_bytes", [1, 300, 2000])
def test_slabs_change_no_bit(monkeypatch: pytest.MonkeyPatch, name: str, slab_bytes: int) -> None:
    """What a thread computes at a time is a few planes; here each size of few."""
    x, layer = problem(name, (11, 5, 6), slab_bytes)
    with only("direct"):
        whole = conv3dt.upsample(x, threads=1, **layer)
        monkeypatch.setattr("conv3dt.engine.direct.SLAB_BYTES", slab_bytes)
        slabs = [conv3dt.upsample(x, threads=threads, **layer) for threads in (1, 2, 3)]
    assert all(np.array_equal(slab, whole) for slab in slabs)


@every_layer
@given(shape=shapes, tile=tiles, boundary=boundaries, seed=seeds)
@settings(deadline=None, max_examples=20)
def test_tiles_change_torchs_sums_by_rounding_only(
    name: str, shape: Triple, tile: Any, boundary: str, seed: int
) -> None:
    x, layer = problem(name, shape, seed)
    with only("transposed"):
        whole = conv3dt.upsample(x, boundary=boundary, threads=1, **layer)
        tiled = conv3dt.upsample(x, boundary=boundary, threads=1, tile=tile, **layer)
    assert np.abs(tiled - whole).max() <= 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("boundary", BOUNDARIES)
@given(shape=st.tuples(*[st.integers(1, 3)] * 3), tile=tiles, seed=seeds)
@settings(deadline=None, max_examples=15)
def test_volumes_smaller_than_the_reach_of_the_kernel(boundary: str, shape: Triple, tile: Any, seed: int) -> None:
    """A kernel of 17 taps a line over one to three voxels: most of what it meets lies outside."""
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    arguments: dict[str, Any] = {"kernel": "lanczos3", "scale": (3, 1, 2), "boundary": boundary}
    with only("direct"):
        whole = conv3dt.upsample(x, threads=1, **arguments)
        tiled = conv3dt.upsample(x, threads=2, tile=tile, **arguments)
    assert np.array_equal(tiled, whole)


@given(shape=shapes, tile=tiles, seed=seeds)
@settings(deadline=None, max_examples=20)
def test_integers_do_not_depend_on_tiles_either(shape: Triple, tile: Any, seed: int) -> None:
    x, layer = problem("k3 s2 same", shape, seed)
    with only("direct"):
        whole = conv3dt.upsample(100 * x, dtype="int16", threads=1, **layer)
        tiled = conv3dt.upsample(100 * x, dtype="int16", threads=2, tile=tile, **layer)
    assert np.array_equal(tiled, whole)


def test_a_changed_bit_would_be_seen() -> None:
    """The twin: sums in another order differ on these numbers."""
    x, layer = problem("anisotropic, many taps", (5, 5, 5), 0)
    with only("direct"):
        direct = conv3dt.upsample(x, threads=1, **layer)
    with only("transposed"):
        tensor = conv3dt.upsample(x, threads=1, **layer)
    assert not np.array_equal(direct, tensor)
    np.testing.assert_allclose(direct, tensor, rtol=1e-4, atol=1e-5)


class CountingSink(FileSink):
    """A sink that counts how often each voxel is written, and keeps what was."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.times = np.zeros(shape, int)
        self.values = np.full(shape, np.nan)

    def write(self, index: tuple[slice, ...], block: NDArray[Any]) -> None:
        assert block.shape == self.times[index].shape
        self.times[index] += 1
        self.values[index] = block


def job_of(x: NDArray[Any], tile: Any, **layer: Any) -> tuple[Job, ArraySource]:
    facts = info(x, layer.pop("axes", None), layer.pop("data_format", None))
    job = make_job(
        facts, LayerRequest(**layer).concrete(), path="", form="array", align="kernel", dtype="float64", device="cpu",
        tile=tile, limits=Resources(2, None),
    )  # fmt: skip
    return job, ArraySource(x, facts)


def counted(x: NDArray[Any], tile: Any, **layer: Any) -> tuple[CountingSink, Tally, list[int]]:
    """Run in tiles into a counting sink; also what the progress was told."""
    job, source = job_of(x, tile, **layer)
    sink, told = CountingSink(job.target.shape), list[int]()
    tally = run(job, source, sink, told.append)
    return sink, tally, told


@pytest.mark.parametrize("engine", ["direct", "phased", "transposed"])
@given(shape=shapes, tile=tiles, boundary=boundaries, fortran=st.booleans())
@settings(deadline=None, max_examples=25)
def test_every_voxel_is_written_once(engine: str, shape: Triple, tile: Any, boundary: str, fortran: bool) -> None:
    x, layer = problem("channels, filters", shape, 0)
    with only(engine):
        sink, tally, told = counted(np.asfortranarray(x) if fortran else x, tile, boundary=boundary, **layer)
    assert (sink.times == 1).all()
    assert np.isfinite(sink.values).all()
    space = sink.times.size // 2  # two filters
    assert tally.counts.written == space
    assert tally.counts.regions == len(told)
    assert told == sorted(told)
    assert told[-1] == space


@given(shape=shapes, tile=tiles, seed=seeds, batch=st.integers(1, 3), fortran=st.booleans())
@settings(deadline=None, max_examples=25)
def test_a_volume_after_another_is_written_once_and_by_itself(
    shape: Triple, tile: Any, seed: int, batch: int, fortran: bool
) -> None:
    x = np.random.default_rng(seed).normal(size=(*shape, batch))
    with only("transposed"):
        sink, tally, _ = counted(np.asfortranarray(x) if fortran else x, tile, scale=2)
        alone = [conv3dt.upsample(x[..., n], scale=2, dtype="float64", threads=1) for n in range(batch)]
    assert (sink.times == 1).all()
    assert tally.counts.written == sink.times.size
    np.testing.assert_allclose(sink.values, np.stack(alone, axis=-1), rtol=1e-12, atol=1e-12)


@every_layer
@given(shape=shapes, tile=tiles, boundary=boundaries, seed=seeds, count=st.integers(0, 5))
@settings(deadline=None, max_examples=15)
def test_voxels_that_are_not_finite_are_counted_once_each(
    name: str, shape: Triple, tile: Any, boundary: str, seed: int, count: int
) -> None:
    x, layer = problem(name, shape, seed)
    random = np.random.default_rng(seed)
    spoilt = random.choice(x.size, min(count, x.size), replace=False)
    x.reshape(-1)[spoilt] = random.choice([np.nan, np.inf, -np.inf], len(spoilt))
    with only("transposed"):
        _, tally, _ = counted(x, tile, boundary=boundary, **layer)
    assert tally.counts.not_finite == len(spoilt)


@pytest.mark.parametrize("engine", ["direct", "phased", "transposed"])
def test_clipped_values_are_counted_once_each(engine: str) -> None:
    x = np.zeros((6, 6, 6), np.float32)
    x[1, 2, 3], x[5, 5, 5], x[0, 0, 0] = 1000, -5, np.nan
    facts = info(x, None, None)
    for tile in (None, 1, 3, 5):
        with only(engine):
            job = make_job(
                facts, LayerRequest(scale=2, kernel="nearest").concrete(), path="", form="array", align="kernel",
                dtype="uint8", device="cpu", tile=tile, limits=Resources(2, None),
            )  # fmt: skip
        assert job.choice.way == (None if engine == "direct" else engine)
        tally = run(job, ArraySource(x, facts), CountingSink(job.target.shape))
        assert (tally.counts.clipped, tally.counts.not_finite) == (3 * 8, 1)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_memory_is_limited_by_smaller_regions(n: int) -> None:
    """A budget that the whole does not fit gives several regions, and the same bits."""
    x, layer = problem("k3 s2 same", (9, 8 + n, 9), n)
    with only("direct"):
        whole = conv3dt.upsample(x, threads=1, **layer)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Resources, "budget", lambda *_: 20_000 * n)
            job, _ = job_of(x, None, **layer)
            assert job.plan.count > 1
            assert job.plan.peak_bytes <= 20_000 * n
            tiled = conv3dt.upsample(x, threads=1, **layer)
    assert np.array_equal(tiled, whole)


ROOMS: dict[str, Callable[[tuple[int, ...]], NDArray[Any]]] = {
    "C": lambda shape: np.empty(shape, np.float32),
    "Fortran": lambda shape: np.empty(shape, np.float32, order="F"),
    "reversed": lambda shape: np.empty(shape, np.float32)[::-1, :, ::-1],
    "every second": lambda shape: np.empty([2 * n for n in shape], np.float32)[::2, 1::2, 1::2],
    "between others": lambda shape: np.empty([n + 3 for n in shape], np.float32)[1:-2, 2:-1, 3:],
    "not aligned": lambda shape: np.empty(4 * int(np.prod(shape)) + 1, np.uint8)[1:].view(np.float32).reshape(shape),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("tile", [None, 6])
@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_an_output_is_filled_wherever_its_voxels_lie(
    room: Callable[[tuple[int, ...]], NDArray[Any]], tile: int | None, order: Any
) -> None:
    x = np.asarray(np.random.default_rng(0).normal(size=(5, 6, 21)), np.float32, order=order)
    options: dict[str, Any] = {"scale": (2, 3, 2), "kernel": "cubic", "tile": tile, "threads": 2}
    out = room((10, 18, 42))
    assert conv3dt.upsample(x, out=out, **options) is out
    np.testing.assert_allclose(out, conv3dt.upsample(np.ascontiguousarray(x), **options), rtol=2e-5, atol=2e-6)
