"""Does the proof let through what the definition says, whatever the layer and the file, and nothing else?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conv3dt import geometry
from conv3dt.errors import ArgumentError, DataError
from conv3dt.file_run import FileRun, execute, resolve
from conv3dt.geometry import BOUNDARIES
from conv3dt.io.array import ArraySink, ArraySource, info
from conv3dt.io.files import open_source
from conv3dt.job import Job, make_job
from conv3dt.kernels import KERNELS
from conv3dt.layer.activation import ACTIVATIONS
from conv3dt.pipeline import run
from conv3dt.proof import prove
from conv3dt.proof.boxes import choose_boxes
from conv3dt.proof.definition import Meetings, meetings
from conv3dt.proof.rounding import Sums, fraction_bits
from conv3dt.report import ProofFacts
from conv3dt.request import LayerRequest
from conv3dt.resources import resources
from conv3dt.settings import Settings
from tests.conftest import chosen, save_nifti
from tests.oracle import transposed
from tests.test_engines import Setting, a_setting

Array = NDArray[Any]
Made = tuple[Job, Array, Array]
seeds = st.integers(0, 2**32 - 1)


def made(
    x: Array, *, data_format: str | None = None, dtype: str | None = None, tile: Any = None, engine: str = "direct",
    slope: tuple[float, float] = (1.0, 0.0), nan: str = "keep", axes: str | None = None,
    spread: tuple[float, float] | None = None, **layer: Any,
) -> Made:  # fmt: skip
    """Upsample an array as a run does; return the job, the input and the output."""
    request = LayerRequest(**layer)
    facts = replace(info(x, axes, data_format), slope=slope[0], inter=slope[1])
    job = make_job(
        facts, request.concrete(facts.channels), path="out", form="array", align="kernel", dtype=dtype, device="cpu",
        tile=tile, limits=resources(threads=1), nan=nan, spread=spread,
    )  # fmt: skip
    job = replace(job, choice=chosen(engine))
    out = np.empty(job.target.shape, job.target.dtype)
    run(job, ArraySource(x, facts), ArraySink(out))
    return job, x, out


def proof(job: Job, x: Array, out: Array, **options: Any) -> ProofFacts:
    """What is found in an output."""
    return prove(job, ArraySource(x, job.source), ArraySource(out, job.target), **options)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# What is right passes.


@st.composite
def a_layer(draw: st.DrawFn) -> tuple[Setting, dict[str, Any]]:
    """A layer, and what may be said beside it."""
    setting = draw(a_setting(most=2))
    said: dict[str, Any] = {"boundary": draw(st.sampled_from(BOUNDARIES)), "activation": draw(
        st.sampled_from((*ACTIVATIONS, "relu(alpha=-0.3, max_value=0.5, threshold=-0.2)", "gelu(approximate=1)"))
    )}  # fmt: skip
    if setting.filters == setting.channels == 1:
        said["per_channel"] = draw(st.booleans())
    if setting.filters > 1 or said.get("per_channel"):
        said["reduce"] = draw(st.sampled_from((None, "argmax", "softmax")))
        if said["reduce"] == "softmax":
            said["activation"] = "linear"
    said["dtype"] = draw(st.sampled_from(("float32", "float64", "int16", "uint8", None)))
    said["slope"] = draw(st.sampled_from(((1.0, 0.0), (0.37, 0.0), (-2.5, 11.0))))
    return setting, said


@given(
    layer=a_layer(), shape=st.tuples(*[st.integers(1, 6)] * 3), kind=st.sampled_from(("f4", "f8", "i2", "u1", ">i4")),
    odd=st.booleans(), engine=st.sampled_from(("direct", "direct", "phased", "transposed")), seed=seeds,
)  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_any_output_of_a_run_passes(layer: Any, shape: Any, kind: str, odd: bool, engine: str, seed: int) -> None:
    setting, said = layer
    random = np.random.default_rng(seed)
    channels = 3 if said.get("per_channel") else setting.channels
    x = (random.normal(size=(*shape, channels)) * (1 if kind[0] == "f" else 40)).astype(kind)
    if odd and kind[0] == "f":
        x.flat[random.integers(x.size)] = random.choice([np.nan, np.inf, -np.inf])
    weights = random.normal(size=(*setting.size, setting.filters, setting.channels)).astype(random.choice(["f4", "f8"]))
    found = made(
        x, data_format="channels_last", weights=weights, bias=random.normal(size=setting.filters), engine=engine,
        strides=setting.strides, dilation_rate=setting.dilation, padding=setting.padding, output_padding=setting.extra,
        **said,
    )  # fmt: skip
    facts = proof(*found, regions=200, size=5)
    assert facts.passed, facts
    assert facts.voxels == np.prod(found[0].target.space)
    json_numbers = (facts.worst, *facts.worst_at)
    assert all(type(number) in (int, float) for number in json_numbers)
    assert 0 <= facts.worst <= 1


@given(
    kernel=st.sampled_from(KERNELS), boundary=st.sampled_from(BOUNDARIES), scale=st.tuples(*[st.integers(1, 4)] * 3),
    shape=st.tuples(*[st.integers(1, 9)] * 3), kind=st.sampled_from(("f4", "f8", "i2", "u1", "i4", "u8")),
    dtype=st.sampled_from((None, "float64", "int16", "same")), size=st.sampled_from((1, 1e-38, 1e37, 1e308)),
    tile=st.sampled_from((None, 4)), seed=seeds,
)  # fmt: skip
@settings(deadline=None, max_examples=25)
def test_named_kernels_pass_however_large_or_small_the_numbers(
    kernel: str, boundary: str, scale: Any, shape: Any, kind: str, dtype: str | None, size: float, tile: Any, seed: int
) -> None:
    random = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        x = random.normal(size=shape) * size if kind[0] == "f" else random.integers(0, 2**63, shape)
        found = made(x.astype(kind), kernel=kernel, scale=scale, boundary=boundary, dtype=dtype, tile=tile)
    assert proof(*found, regions=100, size=7).passed


@pytest.mark.parametrize("tile", [None, (32, 48, 12)])
def test_a_sample_of_a_large_output_passes(tile: Any) -> None:
    facts = proof(*made(normal(40, 44, 30), scale=2, kernel="lanczos3", tile=tile), seed=3)
    assert (facts.passed, facts.regions) == (True, 24)
    assert 0.9 * 24 * 8**3 < facts.voxels <= 24 * 8**3


def test_a_long_kernel_and_many_channels_pass() -> None:
    x, kernel = normal(9, 8, 7), normal(12, 12, 12, seed=1)
    assert proof(*made(x, weights=kernel, padding="same")).passed
    weights = normal(3, 3, 3, 20, 40)
    found = made(normal(6, 6, 6, 40), weights=weights, strides=2, padding="same", data_format="channels_last")
    assert proof(*found).passed


PER_CHANNEL: dict[str, Any] = {"data_format": "channels_last", "per_channel": True, "scale": 2}
FILES: dict[str, tuple[str, str, tuple[int, ...], dict[str, Any]]] = {
    "3-D": ("a.nii.gz", "b.nii.gz", (9, 8, 7), {"scale": 2, "kernel": "cubic"}),
    "mirrored": ("a.nii.gz", "b.nii", (5, 5, 9), {"scale": 2, "kernel": "lanczos3", "boundary": "reflect"}),
    "one volume after another": ("a.nii.gz", "b.nii.gz", (6, 5, 9, 4, 2), {"scale": (2, 1, 2)}),
    "other axes": ("a.nii", "b.h5:/up", (6, 5, 7, 3), {"scale": 3, "dtype": "int16"}),
    "filters": ("a.h5:/x", "b.nii.gz", (6, 5, 7), {"weights": normal(3, 2, 4, 2, 1), "strides": (2, 1, 2)}),
    "channels": ("a.nii.gz", "b.nii.gz", (6, 5, 7, 3), PER_CHANNEL),
    "labels": ("a.nii.gz", "b.nii.gz", (6, 5, 7, 2, 3), PER_CHANNEL | {"reduce": "argmax"}),
    "a slope": ("a.nii.gz", "b.nii.gz", (6, 5, 7), {"scale": 2, "rescale": True}),
    "slabs": ("a.nii", "b.nii.gz", (6, 5, 29), {"scale": (1, 1, 2), "tile": (6, 5, 6)}),
}
"""Input, output, shape of the input, and what is asked for."""


@pytest.mark.parametrize("name", FILES)
def test_files_pass(tmp_path: Path, name: str) -> None:
    """Packed NIfTI is met from first to last, and only once."""
    origin, output, shape, options = FILES[name]
    stored = np.random.default_rng(0).integers(-99, 99, shape).astype(np.int16)
    if ".h5" in origin:
        import h5py

        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = stored
    else:
        save_nifti(tmp_path / origin, stored, np.eye(4), scl_slope=0.25, scl_inter=-3)
    own = {key: value for key, value in options.items() if key in Settings.__dataclass_fields__}
    layer = LayerRequest(**{key: value for key, value in options.items() if key not in own})
    wanted = FileRun(str(tmp_path / origin), str(tmp_path / output), layer, Settings(**own), resources(threads=1))
    job = resolve(wanted)
    execute(wanted, job)
    for regions in (5, 400):
        sources = [open_source(each, threads=1, in_order=each.in_file_order) for each in (job.source, job.target)]
        with closing(sources[0]) as source, closing(sources[1]) as target:
            assert source.sequential == (origin.endswith(".gz") and "data_format" not in options)
            facts = prove(job, source, target, regions=regions, size=4)
        assert facts.passed, facts
    assert facts.voxels == np.prod(
        [n for n, letter in zip(job.target.shape, job.target.axes, strict=True) if letter != "c"]
    )


def test_streams_are_read_forwards() -> None:
    """Also where a box at the end needs voxels that are mirrored from far before it."""
    job, x, out = made(normal(5, 5, 60), scale=(1, 1, 2), kernel="lanczos3", boundary="reflect", tile=(5, 5, 10))
    starts: list[int] = []

    class Stream(ArraySource):
        sequential = True

        def read(self, index: Any) -> Any:
            starts.append(index[2].start)
            return super().read(index)

    assert prove(job, Stream(x, job.source), ArraySource(out, job.target), size=3, seed=1).passed
    assert starts == sorted(starts)
    assert len(set(starts)) > 5


# What is wrong does not.

KERNEL = normal(4, 3, 5, seed=1)[..., None, None]
LAYER: dict[str, Any] = {
    "weights": KERNEL,
    "strides": (2, 1, 3),
    "padding": "same",
    "bias": [0.25],
    "tile": (16, 8, 24),
}


def voxels(**changes: Any) -> Array:
    """The output of the layer, or of one that differs from it."""
    return made(normal(20, 20, 20), **LAYER | changes)[2]


def wide() -> Array:
    """All outputs that the taps reach, of which ``same`` keeps those from one after the first on."""
    return voxels(padding="valid")


def seam() -> Array:
    out = voxels()
    out[16::16] = out[15:-1:16]
    return out


WRONG: dict[str, Callable[[], Array]] = {
    "shifted by a voxel": lambda: np.roll(voxels(), 1, 0),
    "shifted back": lambda: np.roll(voxels(), -1, 2),
    "kernel flipped along the first axis": lambda: voxels(weights=KERNEL[::-1]),
    "kernel flipped along the last axis": lambda: voxels(weights=KERNEL[:, :, ::-1]),
    "crop too small": lambda: wide()[:40, 1:21, 1:61],
    "crop too large": lambda: wide()[2:42, 1:21, 1:61],
    "a seam at the border of tiles": seam,
    "bias left out": lambda: voxels(bias=None),
    "another boundary": lambda: voxels(boundary="edge"),
    "axes of the input swapped": lambda: made(normal(20, 20, 20).transpose(1, 0, 2), **LAYER)[2],
    "half the digits": lambda: voxels().astype(np.float16).astype(np.float32),
    "an activation": lambda: voxels(activation="relu"),
    "a NaN": lambda: np.where(np.indices((40, 20, 60)).sum(0) == 0, np.float32(np.nan), voxels()),
}


def test_these_outputs_are_wrong_but_for_what_makes_them_so() -> None:
    assert proof(*made(normal(20, 20, 20), **LAYER)).passed
    np.testing.assert_array_equal(wide()[1:41, 1:21, 1:61], voxels())


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_fails(name: str) -> None:
    job, x, right = made(normal(20, 20, 20), **LAYER)
    wrong = WRONG[name]()
    facts = proof(job, x, np.ascontiguousarray(wrong), seed=5)
    assert not facts.passed
    assert facts.worst > 1
    assert not wrong[facts.worst_at] == right[facts.worst_at], "the place that is told is one that is wrong"


@pytest.mark.parametrize("tap", [0, 2])
def test_phases_that_are_wrong_are_seen(monkeypatch: pytest.MonkeyPatch, tap: int) -> None:
    """What the engines believe of an axis is not believed here."""
    real = geometry.Axis._phase

    def wrong(axis: geometry.Axis, remainder: int) -> geometry.Phase:
        phase = real(axis, remainder)
        return replace(phase, taps=phase.taps[::-1]) if tap in phase.taps else phase

    monkeypatch.setattr(geometry.Axis, "_phase", wrong)
    assert not proof(*made(normal(20, 20, 20), **LAYER | {"weights": normal(4, 4, 4), "strides": 2})).passed


def test_volumes_in_another_order_fail() -> None:
    job, x, out = made(normal(6, 6, 6, 5), scale=2)
    assert proof(job, x, out).passed
    assert not proof(job, x, out[..., ::-1]).passed


def test_a_slope_that_was_left_out_fails() -> None:
    x = np.arange(6**3, dtype=np.int16).reshape(6, 6, 6)
    job, _, out = made(x, scale=2, slope=(0.5, 3))
    assert proof(job, x, out).passed
    assert not proof(job, x, made(x, scale=2)[2]).passed


@given(seed=seeds, above=st.booleans(), dtype=st.sampled_from(("float32", "float64", "int16")))
@settings(deadline=None, max_examples=30)
def test_the_ends_of_what_is_allowed_pass_and_the_next_numbers_fail(seed: int, above: bool, dtype: str) -> None:
    random = np.random.default_rng(seed)
    x, weights = random.normal(size=(4, 3, 5)) * 50, random.normal(size=(3, 4, 2))
    job, x, out = made(x.astype(np.float32), weights=weights, strides=2, dtype=dtype)
    place = tuple(int(random.integers(0, n)) for n in out.shape)
    low, high = allowed(job, x)
    end, onwards = (high[place], np.inf) if above else (low[place], -np.inf)
    stored = np.rint(end).astype(out.dtype) if dtype == "int16" else end.astype(out.dtype)
    out[place] = stored
    assert proof(job, x, out).passed
    out[place] = stored + np.sign(onwards) if dtype == "int16" else np.nextafter(stored, out.dtype.type(onwards))
    facts = proof(job, x, out)
    assert (facts.passed, facts.worst_at) == (False, place)


def allowed(job: Job, x: Array) -> tuple[Array, Array]:
    """The ends of all sums of an output of one channel."""
    axes = whole(job)
    needed = tuple(slice(*axis.needed) for axis in axes)
    ends = Sums(job.layer, np.dtype(job.storage.compute_dtype)).between(axes, x[needed][None].astype(np.float64), None)
    return ends[1][0], ends[2][0]


def whole(job: Job) -> tuple[Meetings, Meetings, Meetings]:
    first, second, third = (
        meetings(axis, 0, axis.length(n), n, job.layer.boundary)
        for axis, n in zip(job.layer.config.axes, job.source.space, strict=True)
    )
    return first, second, third


def test_rounding_that_cannot_go_wrong_is_held_to_its_last_digit() -> None:
    """Quarters of whole numbers are summed without any rounding; halves are rounded to even."""
    x = np.random.default_rng(0).integers(-99, 99, (6, 5, 7)).astype(np.int16)
    job, _, out = made(x, scale=2, kernel="linear", dtype="int16")
    real = made(x, scale=2, kernel="linear", dtype="float64")[2]
    np.testing.assert_array_equal(out, np.rint(real))
    assert (real % 1 == 0.5).any()
    assert proof(job, x, out).passed
    for wrong in (np.floor(real + 0.5), np.ceil(real - 0.5), np.trunc(real), np.floor(real)):
        facts = proof(job, x, wrong.astype(np.int16))
        assert not facts.passed
        assert wrong[facts.worst_at] != out[facts.worst_at]
    exact, _, single = made(x, scale=2, kernel="linear")
    single[3, 3, 3] = np.nextafter(single[3, 3, 3], np.float32(np.inf))
    assert proof(exact, x, single).worst_at == (3, 3, 3)


@pytest.mark.parametrize(("dtype", "wrapped"), [("uint8", np.uint8), ("int16", np.int16)])
def test_integers_that_were_wrapped_fail(dtype: str, wrapped: Any) -> None:
    x = np.random.default_rng(0).integers(-(2**17), 2**17, (5, 5, 5)).astype(np.int32)
    job, _, out = made(x, scale=2, dtype=dtype)
    assert proof(job, x, out).passed
    assert not proof(job, x, made(x, scale=2, dtype="float64")[2].astype(np.int64).astype(wrapped)).passed


def test_what_becomes_of_nan_and_infinity_is_held_to() -> None:
    x = normal(5, 6, 7)
    x[1, 2, 3], x[4, 0, 0] = np.nan, np.inf
    layer: dict[str, Any] = {"weights": normal(3, 3, 3, seed=1), "strides": 2, "padding": "same"}
    job, _, kept = made(x, **layer)
    zeroed, _, out = made(x, nan="zero", **layer)
    assert np.isnan(kept).any()
    assert np.isinf(kept).any()
    assert np.isfinite(out).all()
    assert proof(job, x, kept).passed
    assert proof(zeroed, x, out).passed
    assert proof(zeroed, x, kept).worst == proof(job, x, out).worst == 1e9
    spread = np.where(np.roll(np.isnan(kept), 1, 0), np.nan, kept).astype(np.float32)
    assert not proof(job, x, spread).passed
    integers, _, clipped = made(x, dtype="int16", **layer)
    assert proof(integers, x, clipped).passed
    clipped[np.isnan(kept)] = 1
    assert not proof(integers, x, clipped).passed


def test_labels_are_those_of_the_largest_and_of_equals_the_first() -> None:
    options: dict[str, Any] = {"scale": 2, "per_channel": True, "data_format": "channels_last", "reduce": "argmax"}
    x = np.random.default_rng(0).integers(0, 3, (4, 5, 6, 4)).astype(np.int16)
    job, _, out = made(x, **options)
    values = made(x, **options | {"reduce": None})[2]
    assert proof(job, x, out).passed
    last = (3 - values[..., ::-1].argmax(-1)).astype(np.uint8)
    assert (np.take_along_axis(values, last[..., None], -1)[..., 0] == values.max(-1)).all()
    assert not proof(job, x, last).passed
    out[3, 3, 3] = 200
    assert proof(job, x, out).worst_at == (3, 3, 3)
    out[3, 3, 3] = values[3, 3, 3].argmin()
    assert proof(job, x, out).worst_at == (3, 3, 3)


def test_shares_that_do_not_sum_to_one_fail() -> None:
    x = normal(4, 5, 6, 3)
    job, _, out = made(x, scale=2, per_channel=True, data_format="channels_last", reduce="softmax")
    assert proof(job, x, out).passed
    out[2, 3, 4] *= np.float32(1.0001)
    assert proof(job, x, out).worst_at[:3] == (2, 3, 4)


# How it is done.


@given(setting=a_setting(), shape=st.tuples(*[st.integers(1, 6)] * 3), boundary=st.sampled_from(BOUNDARIES), seed=seeds)
@settings(deadline=None, max_examples=60)
def test_sums_are_the_definition(setting: Setting, shape: Any, boundary: str, seed: int) -> None:
    """Whole numbers, so that no order of a sum excuses anything; then no difference is allowed either."""
    random = np.random.default_rng(seed)
    x = random.integers(-9, 10, (*shape, setting.channels)).astype(np.float64)
    weights = random.integers(-9, 10, (*setting.size, setting.filters, setting.channels)).astype(np.float64)
    bias = random.integers(-9, 10, setting.filters).astype(np.float64)
    expected = transposed(x, weights, setting.laws, bias=bias, boundary=boundary)
    layer = LayerRequest(
        weights=weights, bias=bias, boundary=boundary, strides=setting.strides, dilation_rate=setting.dilation,
        padding=setting.padding, output_padding=setting.extra,
    ).concrete(setting.channels)  # fmt: skip
    start = [int(random.integers(0, n)) for n in expected.shape[:3]]
    stop = [int(random.integers(a + 1, n + 1)) for a, n in zip(start, expected.shape[:3], strict=True)]
    first, second, third = (
        meetings(axis, a, b, n, boundary) for axis, a, b, n in zip(layer.config.axes, start, stop, shape, strict=True)
    )
    axes = (first, second, third)
    block = np.moveaxis(x[tuple(slice(*axis.needed) for axis in axes)], 3, 0)
    value, low, high = Sums(layer, np.dtype(np.float64)).between(axes, block, None)
    box = np.moveaxis(expected[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))], 3, 0)
    np.testing.assert_array_equal(value, box)
    assert (low <= value).all()
    assert (value <= high).all()
    if setting.filters > 1:
        np.testing.assert_array_equal(high, low)


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
@settings(deadline=None)
def test_digits_behind_the_point(values: list[float]) -> None:
    found = fraction_bits(np.array(values))
    denominators = [value.as_integer_ratio()[1] for value in values]
    assert 2**found == max(denominators)


@given(
    shape=st.tuples(*[st.integers(1, 50)] * 3), volumes=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    tile=st.tuples(*[st.integers(1, 50)] * 3), regions=st.integers(1, 40), size=st.integers(1, 9), seed=seeds,
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_boxes_lie_inside_differ_and_are_in_file_order(
    shape: Any, volumes: Any, tile: Any, regions: int, size: int, seed: int
) -> None:
    chosen = choose_boxes(shape, volumes, tile, regions=regions, size=size, seed=seed)
    assert chosen == choose_boxes(shape, volumes, tile, regions=regions, size=size, seed=seed)
    assert 1 <= len(chosen) <= regions
    assert len(set(chosen)) == len(chosen)
    keys = [(*volume[::-1], *box.start[::-1]) for volume, box in chosen]
    assert keys == sorted(keys)
    for volume, box in chosen:
        assert all(0 <= number < n for number, n in zip(volume, volumes, strict=True))
        assert box.shape == tuple(min(size, n) for n in shape)
        assert all(0 <= a < b <= n for a, b, n in zip(box.start, box.stop, shape, strict=True))


def test_corners_seams_and_chance_have_a_share_each() -> None:
    shape, tile = (100, 90, 100), (32, 48, 100)
    chosen = [box for _, box in choose_boxes(shape, (7,), tile, regions=24, size=8, seed=0)]
    corners = {
        tuple(a == 0 for a in box.start)
        for box in chosen
        if all(a == 0 or b == n for a, b, n in zip(box.start, box.stop, shape, strict=True))
    }
    across = [
        box
        for box in chosen
        if any(box.start[0] < cut < box.stop[0] for cut in (32, 64, 96)) and box.start[1] < 48 < box.stop[1]
    ]
    assert len(corners) == 8
    assert len(across) >= 8
    assert chosen != [box for _, box in choose_boxes(shape, (7,), tile, regions=24, size=8, seed=1)]


def test_what_cannot_be_compared_is_refused() -> None:
    job, x, out = made(normal(4, 5, 6), scale=2)
    with pytest.raises(ArgumentError, match="regions must be at least 1, got 0"):
        proof(job, x, out, regions=0)
    with pytest.raises(ArgumentError, match="size must be at least 1, got -3"):
        proof(job, x, out, size=-3)
    source = ArraySource(x, job.source)
    for changed, message in (
        ({"shape": (8, 10, 11)}, "is 8x10x11 of float32, the run makes 8x10x12 of float32"),
        ({"dtype": np.dtype(np.int16)}, "is 8x10x12 of int16, the run makes 8x10x12 of float32"),
        ({"slope": 2.0}, "has slope 2 and intercept 0, the run makes 1 and 0"),
    ):
        with pytest.raises(DataError, match=message):
            prove(job, source, ArraySource(out, replace(job.target, **changed)))
