"""How do regions pass through devices?  Here the CPU stands for each: the same code, without streams.

What a device can do wrong (no memory left, a driver that fails) is made to happen by a way that does it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conv3dt
from conv3dt.engine.choose import Choice, choose
from conv3dt.engine.finish import Storage
from conv3dt.engine.gpu import host
from conv3dt.engine.gpu.lane import Lane
from conv3dt.engine.gpu.phased import Phased
from conv3dt.engine.gpu.tensor import TensorEngine
from conv3dt.engine.gpu.ways import ways_of
from conv3dt.engine.precision import PRECISIONS, UNITS, cut_off
from conv3dt.errors import ArgumentError, DataError, DeviceError, DoesNotFitError
from conv3dt.io.array import ArraySink, ArraySource, info
from conv3dt.job import make_job
from conv3dt.layer.config import LayerConfig
from conv3dt.pending import PREFIX
from conv3dt.pipeline import run
from conv3dt.plan import IN_FLIGHT, MOST_VALUES
from conv3dt.request import LayerRequest
from conv3dt.resources import Resources
from tests.benchmarks import gpu
from tests.conftest import Run, chosen, listing, only, save_nifti, whole_numbers
from tests.regions import FLOAT32, computed, layer_of, region
from tests.test_engines import Setting, a_setting

Array = NDArray[Any]
MANY = Setting((3, 3, 3), (2, 2, 2), padding="same", channels=4, filters=5)
ONE = Setting((4, 4, 4), (2, 2, 2), padding="same")


@contextmanager
def devices(count: int, way: str = "phased") -> Iterator[None]:
    """As many devices, each of them the CPU."""
    choice = Choice("tensor", ", ".join(["cpu"] * count), 1, "a test", way=way)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conv3dt.job.choose", lambda *_, **__: choice)
        yield


@contextmanager
def spoilt(run: Callable[[Phased, torch.Tensor, torch.Tensor, torch.Tensor], None]) -> Iterator[None]:
    """A way that does something else first."""
    proper = Phased.run

    def both(self: Phased, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        run(self, source, out, lost)
        proper(self, source, out, lost)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Phased, "run", both)
        yield


def no_room_beyond(most: int) -> Callable[..., None]:
    """A device with room for so many output voxels."""

    def run(way: Phased, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        if out[0].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    return run


# Order, and what is in flight.


@given(
    setting=a_setting(), shape=st.tuples(*[st.integers(1, 9)] * 3), tile=st.integers(1, 9), seed=st.integers(0, 99),
    count=st.integers(1, 3), way=st.sampled_from(("phased", "transposed")), fortran=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_regions_dealt_out_to_devices_come_back_in_their_places(
    setting: Setting, shape: tuple[int, ...], tile: int, seed: int, count: int, way: str, fortran: bool
) -> None:
    from tests.test_engines import whole_numbers as exact

    x, kernel = (
        exact(seed, (*shape, setting.channels)),
        exact(seed + 1, (*setting.size, setting.filters, setting.channels)),
    )
    x = np.asfortranarray(x) if fortran else x
    with only("direct"):
        expected = conv3dt.upsample(x, weights=kernel, **setting.arguments)
    with devices(count, way):
        found = conv3dt.upsample(x, weights=kernel, tile=tile, **setting.arguments)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_two_regions_are_in_flight_on_each_device_and_no_more(count: int) -> None:
    """A region's memory belongs to its device until it has been waited for."""
    begun, finished, most = 0, 0, 0
    start = Lane.start

    def counted(self: Lane, source: Array, out: Array) -> Callable[[], int]:
        nonlocal begun, most
        finish, before = start(self, source, out), source.copy()
        begun += 1
        most = max(most, begun - finished)

        def waited() -> int:
            nonlocal finished
            np.testing.assert_array_equal(source, before)
            finished += 1
            return finish()

        return waited

    x = np.random.default_rng(0).normal(size=(40, 6, 6)).astype(np.float32)
    with devices(count), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "start", counted)
        found = conv3dt.upsample(x, scale=2, tile=(4, 12, 12))
    assert most == IN_FLIGHT * count
    with only("direct"):
        np.testing.assert_allclose(found, conv3dt.upsample(x, scale=2), rtol=1e-6, atol=1e-6)


def test_files_and_batches_of_volumes_pass_too(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-99, 99, (9, 8, 7, 3)).astype(np.int16)
    save_nifti(tmp_path / "a.nii.gz", volume, np.eye(4))
    made = {}
    for name, choosing in (("direct", only("direct")), ("two", devices(2))):
        with choosing:
            for form in ("nii", "nii.gz", "h5"):
                conv3dt.upsample_file(
                    tmp_path / "a.nii.gz", tmp_path / f"{name}.{form}", tile=5, kernel="cubic", dtype="int16"
                )
                made[name, form] = (tmp_path / f"{name}.{form}").read_bytes()
    for form in ("nii", "nii.gz", "h5"):
        assert made["two", form] == made["direct", form]


@pytest.mark.parametrize("refused", [False, True])
def test_what_is_pinned_has_its_pages_to_itself_and_is_let_go(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is told of whole pages, and of none twice; here one that only takes notes."""
    held: dict[int, int] = {}

    class Driver:
        @staticmethod
        def cudaHostRegister(address: int, size: int, flags: int) -> int:
            assert (address % host.PAGE, size % host.PAGE, flags) == (0, 0, host.PORTABLE)
            assert all(address + size <= other or other + length <= address for other, length in held.items())
            held[address] = size
            return int(refused)

        @staticmethod
        def cudaHostUnregister(address: int) -> int:
            del held[address]
            return 0

    monkeypatch.setattr(host, "_driver", Driver)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    pinned = host.PinnedMemory("cpu")
    arrays = [pinned.take(count, np.dtype(kind)) for count in (1, 1000, 1024, 10**6) for kind in ("f4", "u1", "f8")]
    for number, array in enumerate(arrays):
        assert not array.any()
        array[...] = number
    assert all((array == number).all() for number, array in enumerate(arrays))
    pinned.close()
    assert len(held) == (len(arrays) if refused else 0)


# Too little memory.


@pytest.mark.parametrize("most", [1, 96, 200, 700])
@pytest.mark.parametrize("count", [1, 2])
def test_a_device_without_room_computes_regions_in_parts(most: int, count: int) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (11, 7, 9, 2)).astype(np.float32)
    taps = whole_numbers(3, 4, 3, 2, 2)
    arguments: dict[str, Any] = {
        "weights": taps, "strides": (2, 3, 1), "padding": "same", "data_format": "channels_last", "tile": (7, 21, 9),
    }  # fmt: skip
    with only("direct"):
        expected = conv3dt.upsample(x, **arguments)
    if most < 6:  # less than one cell, of 2 * 3 * 1 voxels, takes
        with devices(count), spoilt(no_room_beyond(most)), pytest.raises((DoesNotFitError, ArgumentError)):
            conv3dt.upsample(x, **arguments)
        return
    with devices(count), spoilt(no_room_beyond(most)):
        np.testing.assert_array_equal(conv3dt.upsample(x, **arguments), expected)


def test_what_is_clipped_is_counted_once_where_parts_take_the_place_of_a_region_in_flight() -> None:
    """Of two volumes in slabs of 8 and 2 planes: the parts of the second slab of 8 meet the slab of 2."""
    x = np.random.default_rng(0).integers(-200, 400, (10, 5, 5, 3)).astype(np.float32)
    facts = info(x, None, None)
    told = []
    for choosing in (only("direct"), devices(1)):
        with choosing, spoilt(no_room_beyond(900)):
            job = make_job(
                facts, LayerRequest(scale=2, kernel="cubic").concrete(), path="", form="array", align="kernel",
                dtype="uint8", device="cpu", tile=(16, 10, 10), limits=Resources(1, None),
            )  # fmt: skip
            out = np.empty(job.target.shape, np.uint8)
            tally = run(job, ArraySource(x, facts), ArraySink(out))
        told.append((tally.counts.clipped, out))
    assert told[0][0] == told[1][0] > 100
    np.testing.assert_array_equal(told[0][1], told[1][1])


def test_halving_is_told_and_not_tried_again_for_each_region(run: Run, tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii", whole_numbers(20, 10, 10), np.eye(4))
    tried = []

    def note(way: Phased, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        tried.append(out[0].numel())
        no_room_beyond(900)(way, source, out, lost)

    with devices(1), spoilt(note):
        report = conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "b.nii", tile=(20, 20, 8))
    assert report.run is not None
    assert report.run.halved_regions == 2  # 3200, 1600
    assert [size for size in tried if size > 900] == [3200, 1600]
    assert report.plan is not None
    assert (report.plan.way, report.plan.precision) == ("phased", "fp32")


def test_one_cell_without_room_is_the_end() -> None:
    layer = layer_of(MANY)
    source = region(layer, FLOAT32, (8, 8, 8))
    engine = TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased")
    with spoilt(no_room_beyond(0)), pytest.raises(DoesNotFitError, match="no memory left for a region of 2x2x2"):
        engine.compute(source, np.empty((5, 8, 8, 8), np.float32))


# A device that fails.


def failing_at(number: int) -> Callable[..., None]:
    """A driver that fails at one region."""
    count = iter(range(10**6))

    def run(*_: object) -> None:
        if next(count) == number:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")

    return run


def test_a_lost_device_leaves_a_journal_and_the_same_command_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("conv3dt.journal.FIRST_S", 0.0)
    monkeypatch.setattr("conv3dt.journal.SHARE", 0)
    save_nifti(tmp_path / "a.nii", whole_numbers(10, 10, 30), np.eye(4))
    (tmp_path / "out").mkdir()
    options: dict[str, Any] = {"tile": (20, 20, 4), "kernel": "cubic"}
    with devices(1):
        conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "whole.nii", **options)
        with spoilt(failing_at(9)), pytest.raises(DeviceError) as error:
            conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "out" / "b.nii", **options)
        assert str(error.value) == (
            "device cpu failed: CUDA error: an illegal memory access was encountered; run again, or use device cpu; "
            "what is done is kept, and the same command goes on from there"
        )
        assert f"{PREFIX}b.nii-journal" in listing(tmp_path / "out")
        report = conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "out" / "b.nii", **options)
    assert report.run is not None
    assert report.run.resumed_regions > 0
    assert listing(tmp_path / "out") == ["b.nii"]
    assert (tmp_path / "out" / "b.nii").read_bytes() == (tmp_path / "whole.nii").read_bytes()


def test_a_device_that_cannot_do_it_is_refused_before_a_voxel_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    save_nifti(tmp_path / "a.nii", whole_numbers(5, 5, 5), np.eye(4))
    monkeypatch.setattr("conv3dt.pipeline._read", lambda *_: pytest.fail("a voxel was read"))
    with (
        devices(1),
        spoilt(failing_at(0)),
        pytest.raises(ArgumentError, match="device cpu cannot run this layer in float32"),
    ):
        conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "b.nii")
    with devices(1), spoilt(failing_at(0)), pytest.raises(ArgumentError, match="use device cpu"):
        conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "b.nii", dry_run=True)
    assert listing(tmp_path) == ["a.nii"]


# Precision.


@pytest.mark.parametrize("way", ["phased", "transposed"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("setting", [MANY, Setting((2, 2, 2), (2, 2, 2), channels=7, filters=3)], ids=["k3", "k2"])
def test_results_are_within_the_bound_of_their_precision(way: str, precision: str, setting: Setting) -> None:
    """On a CPU tf32 is whole float32; `test_gpu` asks the same of tensor cores."""
    layer, shape = layer_of(setting), (8, 9, 10)
    source = region(layer, FLOAT32, shape)
    found = np.empty((setting.filters, *shape), np.float32)
    TensorEngine(layer, FLOAT32, devices=["cpu"], way=way, precision=precision).compute(source, found)
    check_within(layer, source, found, precision)


def relative_bound(precision: str, products: int) -> float:
    """How far a result may be off, as a part of the sum of the magnitudes of its products (Higham 2002, 3.1)."""
    return (1 + cut_off(precision)) * (1 + UNITS["fp32"] * (products + 2)) - 1


def check_within(layer: Any, source: Array, found: Array, precision: str) -> None:
    """Compare with float64, in parts of the sum of the products' magnitudes."""
    exact, sizes = layer, replace(layer, kernel=np.abs(layer.kernel), bias=np.abs(layer.bias))
    wide = Storage(np.dtype(np.float64))
    expected, _ = computed(exact, wide, source.astype(np.float64), found.shape[1:], "direct")
    magnitude, _ = computed(sizes, wide, np.abs(source).astype(np.float64), found.shape[1:], "direct")
    products = layer.kernel[..., 0, :].size
    share = np.abs(found - expected) / magnitude
    assert share.max() <= relative_bound(precision, products)
    if precision in ("bf16", "fp16"):
        assert share.max() > relative_bound("fp32", products)  # or it was not used


def test_fp16_that_overflows_is_an_error_and_what_was_infinite_before_is_not() -> None:
    layer = layer_of(MANY)
    source = region(layer, FLOAT32, (4, 4, 4)) * 1e5
    out = np.empty((5, 4, 4, 4), np.float32)
    for way in ("phased", "transposed"):
        engine = TensorEngine(layer, FLOAT32, devices=["cpu"], way=way, precision="fp16")
        with pytest.raises(DataError, match="fp16: a sum is beyond 65504"):
            engine.compute(source, out)
        small = source / 1e5
        small[0, 0, 0, 0] = np.inf
        engine.compute(small, out)


def test_a_self_check_knows_the_precision(tmp_path: Path, monkeypatch: Any) -> None:
    save_nifti(tmp_path / "a.nii", np.random.default_rng(0).normal(size=(9, 9, 9, 4)).astype(np.float32), np.eye(4))
    weights = tmp_path / "w.npy"
    np.save(weights, np.random.default_rng(1).normal(size=(3, 3, 3, 2, 4)))
    arguments: dict[str, Any] = {"weights": weights, "strides": 2, "data_format": "channels_last", "self_check": True}
    choice = Choice("tensor", "cpu", 1, "a test", "bf16", "phased")
    monkeypatch.setattr("conv3dt.job.choose", lambda *_, **__: choice)
    report = conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "b.nii", precision="bf16", sidecar=True, **arguments)
    assert report.proof is not None
    assert report.proof.passed
    with pytest.raises(DataError, match="the self-check failed"):  # of float32 it would be wrong
        conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "c.nii", **arguments)
    monkeypatch.undo()
    assert conv3dt.verify_file(str(tmp_path / "b.nii")).passed


# What is chosen, and why.


def test_the_same_layer_always_goes_the_same_way() -> None:
    assert ways_of(layer_of(ONE), "cuda")[0] == "fused"
    assert ways_of(layer_of(MANY), "cuda")[0] == "phased"
    assert ways_of(layer_of(Setting((2, 2, 2), (2, 2, 2), channels=8, filters=8)), "mps")[0] == "phased"
    assert ways_of(layer_of(MANY), "cpu")[0] == "transposed"
    assert ways_of(layer_of(Setting((5, 5, 5), (5, 5, 5), channels=8, filters=8)), "cuda")[0] == "phased"
    assert ways_of(layer_of(Setting((6, 6, 6), (5, 5, 5), channels=8, filters=8)), "cuda")[0] == "transposed"


def test_auto_says_what_it_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LayerConfig(32, (4, 4, 4), (2, 2, 2))
    arguments: dict[str, Any] = {"device": "auto", "threads": 2}
    assert "sooner than a GPU starts" in choose(config, 1, 10**6, **arguments).reason
    monkeypatch.setattr("conv3dt.engine.choose.has_nvidia", lambda: False)
    told = choose(config, 32, 10**9, **arguments)
    assert (told.engine, told.reason.endswith("there is no NVIDIA GPU")) == ("direct", True)
    monkeypatch.setattr("conv3dt.engine.choose.has_nvidia", lambda: True)
    monkeypatch.setattr("conv3dt.engine.choose.cuda_count", lambda: 0)
    assert choose(config, 32, 10**9, **arguments).reason.endswith("torch sees no CUDA device")
    monkeypatch.setattr("conv3dt.engine.choose.cuda_count", lambda: 1)
    monkeypatch.setattr("conv3dt.engine.choose.find", lambda name: (f"{name}:0",))
    monkeypatch.setattr("conv3dt.engine.choose.free_memory", lambda name: 10**10)
    told = choose(config, 32, 10**9, **arguments)
    assert (told.engine, told.device) == ("tensor", "cuda:0")
    assert "GB over the bus" in told.reason
    assert "s to start" in told.reason


def test_regions_are_no_larger_than_a_device_has_room_for() -> None:
    choice = Choice("tensor", "cuda:0", 1, "", max_vram=2**30)
    size = {"channels": 1, "filters": 1, "strides": 8, "computed": 4, "written": 4}
    assert 2**24 < choice.most_values(**size) < 2**30 / (2 * 4 + 4 * 4)
    assert Choice("tensor", "cuda:0", 1, "", free_vram=2**50).most_values(**size) == MOST_VALUES
    assert Choice("tensor", "cuda:0", 1, "", max_vram=1).most_values(**size) == 1


def test_the_process_is_left_as_it_was() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.is_inference_mode_enabled()
    with only("phased"):
        conv3dt.upsample(whole_numbers(5, 5, 5), scale=2, precision="tf32")
    after = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.is_inference_mode_enabled()
    assert after == before


def test_engines_of_other_threads_do_not_meet() -> None:
    """Torch's switches are of the whole process; batches run several engines at once."""
    x, found = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32), {}

    def work(number: int) -> None:
        found[number] = conv3dt.upsample(x, scale=2, tile=8, precision=PRECISIONS[number % 2])

    with only("phased"):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in range(6):
        np.testing.assert_array_equal(found[number], found[0])


@pytest.mark.parametrize("number", range(0, len(gpu.CASES), 4))
def test_the_benchmark_measures_every_way_there_is(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU and a small cube: figures that mean nothing, but the lines run."""
    for name, value in (("COPIED", 2**10), ("PRODUCT", 16), ("REPEATS", 1)):
        monkeypatch.setattr(gpu, name, value)
    case = gpu.CASES[number]
    found = gpu.measure(replace(case, n=5), 1, "cpu")
    assert {row.ours.split(":")[0] for row in found} == {"phased", "transposed"}
    wanted = [row.asked for row in found if row.asked is not None]
    assert wanted == [asked for asked in (case.cudnn, case.copy, case.product) if asked is not None]


# The command.


def test_devices_lists_what_is_there(run: Run) -> None:
    told = run("devices", "--json").json
    assert told[0]["name"] == "cpu"
    assert told[0]["memory_bytes"] > told[0]["free_bytes"] > 0
    text = run("devices").out
    assert all(each["name"] in text and each["title"] in text for each in told)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--device", "cuda:99"), "device cuda:99 is not there: torch sees "),
        (("--device", "tpu"), "device must be auto, cpu, cuda, cuda:N, cuda:all or mps, got 'tpu'"),
        (("--precision", "fp8"), "'fp8' is not one of 'fp32', 'tf32', 'bf16', 'fp16'"),
        (("--max-vram", "lots"), "max-vram must be a size such as 8GiB or 500MB, got 'lots'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    run: Run, sample: Path, tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    done = run("upsample", sample / "head.nii.gz", tmp_path / "b.nii", *words)
    assert done.code == 2
    assert complaint in done.complaint
    assert listing(tmp_path) == []


def test_precision_and_vram_are_taken_where_nothing_needs_them(run: Run, sample: Path, tmp_path: Path) -> None:
    done = run(
        "upsample", sample / "head.nii.gz", tmp_path / "b.nii", "--precision", "bf16", "--max-vram", "1GiB", "--json"
    )
    assert done.code == 0
    assert (done.json["plan"]["device"], done.json["plan"]["precision"]) == ("cpu", None)
    assert chosen("direct").in_flight == 1
