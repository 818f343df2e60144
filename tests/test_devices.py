"""What would go wrong on a real GPU?  Each such thing, made to happen here, where there is none."""

from __future__ import annotations

import gc
import subprocess
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import conv3dt
from conv3dt.engine.choose import Choice, choose
from conv3dt.engine.gpu import host, switches
from conv3dt.engine.gpu.lane import Lane
from conv3dt.engine.gpu.phased import Phased
from conv3dt.engine.gpu.tensor import TensorEngine, way_on
from conv3dt.engine.gpu.ways import ways_of
from conv3dt.errors import ArgumentError, DeviceError, DoesNotFitError
from conv3dt.layer.config import LayerConfig
from tests.conftest import Run, listing, only, save_nifti, whole_numbers
from tests.regions import FLOAT32, FLOAT64, layer_of, region
from tests.test_engines import Setting
from tests.test_lanes import MANY, ONE, devices, spoilt

# Torch's switches.

NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")


def _state() -> dict[str, Any]:
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    names = ["allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"]
    names += [name for name in ("fp32_precision", "allow_fp16_accumulation") if hasattr(matmul, name)]
    names += [name for each in names if hasattr(matmul, name := f"{each}_split_k")]
    found = {name: getattr(matmul, name) for name in names}
    found |= {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    return found | ({"conv": cudnn.conv.fp32_precision} if NEW else {"conv": cudnn.allow_tf32})


@pytest.mark.skipif(not NEW, reason="torch has the old switches alone")
@pytest.mark.parametrize("owner", ["matmul", "conv"])
@pytest.mark.parametrize("value", ["ieee", "tf32"])
def test_what_somebody_set_by_the_new_switches_is_no_error_and_stays(owner: str, value: str) -> None:
    """Who asks for the old switches then, is told not to mix them."""
    backends: Any = torch.backends
    switch = backends.cuda.matmul if owner == "matmul" else backends.cudnn.conv
    before = switch.fp32_precision
    switch.fp32_precision = value
    try:
        state = _state()
        with only("phased"):
            conv3dt.upsample(whole_numbers(5, 5, 5), scale=2)
        assert _state() == state
    finally:
        switch.fp32_precision = before


@pytest.mark.parametrize("tf32", [False, True])
def test_sums_are_of_float32_and_products_as_was_asked(tf32: bool) -> None:
    """By default cuBLAS may add parts of a sum in 16 bits."""
    state = _state()
    with switches.switched(tf32=tf32):
        inside = _state()
    assert _state() == state
    assert state["allow_fp16_reduced_precision_reduction"]
    assert (inside["enabled"], inside["benchmark"], inside["deterministic"]) == (True, False, True)
    assert not inside["allow_fp16_reduced_precision_reduction"]
    assert not inside["allow_bf16_reduced_precision_reduction"]
    assert inside["conv"] == (("tf32" if tf32 else "ieee") if NEW else tf32)


# Memory.


def test_a_second_attempt_finds_the_memory_of_the_first() -> None:
    """The traceback of an error holds all that the attempt had; here nothing but counted references may free it."""
    tried: list[tuple[int, weakref.ref[torch.Tensor]]] = []

    def run(way: Phased, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        assert all(held() is None for _, held in tried)
        values = torch.empty(9)
        tried.append((out[0].numel(), weakref.ref(values)))
        if out[0].numel() > 100:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    layer = layer_of(MANY)
    source, out = region(layer, FLOAT32, (8, 8, 8)), np.empty((5, 8, 8, 8), np.float32)
    engine = TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased")
    gc.disable()
    try:
        with spoilt(run):
            engine.compute(source, out)
    finally:
        gc.enable()
    assert [size for size, _ in tried[:3]] == [512, 256, 128]


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "Triton Error [CUDA]: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 4.00 GB)",
    ],
)
def test_each_library_has_its_own_words_for_no_room(text: str) -> None:
    def run(way: Phased, source: torch.Tensor, out: torch.Tensor, lost: torch.Tensor) -> None:
        if out[0].numel() > 100:
            raise RuntimeError(text)

    layer = layer_of(MANY)
    source = region(layer, FLOAT32, (8, 8, 8))
    expected, found = np.empty((5, 8, 8, 8), np.float32), np.empty((5, 8, 8, 8), np.float32)
    TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased").compute(source, expected)
    engine = TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased")
    with spoilt(run):
        engine.compute(source, found)
    assert engine.halved == 3
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_no_room_for_one_cell_is_told_before_a_voxel_is_read(tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii", whole_numbers(5, 5, 5), np.eye(4))

    def run(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    with devices(1), spoilt(run), pytest.raises(DoesNotFitError, match="cpu has no memory left for the layer: CUDA"):
        conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "b.nii")


def test_no_tensor_comes_near_two_to_the_31(monkeypatch: Any) -> None:
    """A region of few outputs may have many inputs: those of an argmax, or rows of few voxels, each on its line."""
    monkeypatch.setattr("conv3dt.engine.gpu.tensor.MOST_VALUES", 4000)
    most, start = 0, Lane.start

    def counted(self: Lane, source: Any, out: Any) -> Callable[[], int]:
        nonlocal most
        most = max(most, source.size)
        return start(self, source, out)

    monkeypatch.setattr(Lane, "start", counted)
    x = whole_numbers(12, 11, 10, 8).astype(np.float32)
    arguments: dict[str, Any] = {"weights": whole_numbers(3, 3, 3, 1, 8), "padding": "same",
                                 "data_format": "channels_last", "strides": 1}  # fmt: skip
    with only("direct"):
        expected = conv3dt.upsample(x, **arguments)
    with devices(1):
        np.testing.assert_array_equal(conv3dt.upsample(x, **arguments), expected)
    assert 0 < most <= 4000


# Copies.


def test_copies_are_waited_for_where_there_are_no_events(monkeypatch: Any) -> None:
    """On Apple's GPUs a copy that does not wait is not there yet when it is read."""
    copy, seen = torch.Tensor.copy_, []
    to: Any = torch.Tensor.to

    def copied(self: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        seen.append(non_blocking)
        return copy(self, source, non_blocking=non_blocking)

    def moved(self: torch.Tensor, *args: Any, non_blocking: bool = False, **more: Any) -> Any:
        seen.append(non_blocking)
        return to(self, *args, non_blocking=non_blocking, **more)

    layer = layer_of(MANY)
    engine = TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased")
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.Tensor, "to", moved)
    engine.compute(region(layer, FLOAT32, (4, 4, 4)), np.empty((5, 4, 4, 4), np.float32))
    assert seen
    assert not any(seen)


def test_streams_follow_one_another_on_their_own_device(monkeypatch: Any) -> None:
    """Whoever leaves a stream of the second device for the first one makes a context there, which may be full."""
    told: list[Any] = []

    class Stream:
        def __init__(self, number: int) -> None:
            self.number = number

        def wait_stream(self, other: Stream) -> None:
            told.append((self.number, "waits for", other.number))

        def record_event(self, event: Stream) -> None:
            told.append((self.number, "ends", event.number))

        def synchronize(self) -> None:
            told.append("waited")

    @contextmanager
    def at(where: Any) -> Iterator[None]:
        told.append(where.number if isinstance(where, Stream) else where)
        yield
        told.append("left")

    layer = layer_of(MANY)
    engine = TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased")
    lane: Any = engine._lanes[0]
    lane._streams = [Stream(n) for n in range(3)]
    for slot in lane._slots:
        slot.done = Stream(9)
    monkeypatch.setattr(torch.cuda, "device", at)
    monkeypatch.setattr(torch.cuda, "stream", at)
    found, expected = np.empty((5, 4, 4, 4), np.float32), np.empty((5, 4, 4, 4), np.float32)
    source = region(layer, FLOAT32, (4, 4, 4))
    engine.start(source, found)()
    assert told == [
        torch.device("cpu"), 0, "left", (1, "waits for", 0), 1, "left", (2, "waits for", 1), 2, (2, "ends", 9), "left",
        "left", "waited",
    ]  # fmt: skip
    TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased").compute(source, expected)
    np.testing.assert_array_equal(found, expected)


@contextmanager
def driver(*, refuses: bool) -> Iterator[list[tuple[Any, ...]]]:
    """The driver's part that pins memory, and all that was asked of it."""
    told: list[tuple[Any, ...]] = []

    class Driver:
        def cudaHostRegister(self, place: int, size: int, flags: int) -> int:
            told.append(("pin", place, size, flags))
            return int(refuses)

        def cudaHostUnregister(self, place: int) -> int:
            told.append(("forget", place))
            return 0

    @contextmanager
    def at(device: torch.device) -> Iterator[None]:
        told.append(("at", str(device)))
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "_driver", Driver)
        patch.setattr(torch.cuda, "device", at)
        patch.setattr(torch, "zeros", lambda n, device: told.append(("clear", str(device))))
        yield told


def test_memory_is_pinned_for_all_devices_in_the_name_of_one_that_is_used() -> None:
    """Else a run on ``cuda:1`` would take memory of the first device, which may have none left."""
    with driver(refuses=False) as told:
        memory = Choice("tensor", "cuda:1, cuda:2", 1, "").host_memory()
        found = memory.take(100, np.dtype(np.float32))
        place = found.ctypes.data
        assert told == [("at", "cuda:1"), ("pin", place, 4096, 1)]
        memory.close()
    assert told[2:] == [("at", "cuda:1"), ("forget", place)]
    np.testing.assert_array_equal(found, np.zeros(100, np.float32))


def test_memory_that_cannot_be_pinned_is_ordinary_and_the_error_is_cleared() -> None:
    with driver(refuses=True) as told:
        memory = Choice("tensor", "cuda:1", 1, "").host_memory()
        assert memory.take(7, np.dtype(np.int16)).shape == (7,)
        memory.close()
    assert told[2:] == [("clear", "cuda:1"), ("at", "cuda:1")]


# What does not run there.


@contextmanager
def refused(*ways: str, error: Exception) -> Iterator[None]:
    """Ways that a device cannot go; those of a GPU are tried, on the CPU."""

    def make(device: torch.device, layer: Any, storage: Any, way: str, precision: str) -> Any:
        if way in ways:
            raise error
        return way_on(device, layer, storage, way, precision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conv3dt.engine.gpu.tensor.way_on", make)
        patch.setattr("conv3dt.engine.gpu.ways.ways_of", lambda layer, kind, wide: ways_of(layer, "cuda", wide=wide))
        yield


NO_COMPILER = RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")
BROKEN = subprocess.CalledProcessError(1, ["/usr/bin/gcc", "cuda_utils.c"])


@pytest.mark.parametrize("error", [NO_COMPILER, BROKEN, AssertionError("libcuda.so cannot found!")], ids=type)
def test_where_triton_has_no_compiler_torch_computes(error: Exception) -> None:
    choice = Choice("tensor", "cpu", 1, "asked for")
    with refused("fused", error=error):
        found = choice.tried_out(layer_of(ONE), FLOAT32)
    assert found.way == "phased"
    assert found.reason.startswith("asked for; not fused: device cpu cannot run this layer in float32 (fused, fp32): ")


@pytest.mark.parametrize("error", [NO_COMPILER, torch.OutOfMemoryError("CUDA out of memory.")], ids=type)
def test_a_device_that_nobody_named_makes_room_for_the_cpu(error: Exception) -> None:
    layer, wanted = layer_of(ONE), Choice("tensor", "cpu", 3, "work", asked=False)
    with refused("fused", "phased", "transposed", error=error):
        found = wanted.tried_out(layer, FLOAT32)
        assert (found.engine, found.device, found.threads) == ("direct", "cpu", 3)
        assert "cannot run" in found.reason or "no memory left" in found.reason
        with pytest.raises((ArgumentError, DoesNotFitError)):
            Choice("tensor", "cpu", 3, "asked for").tried_out(layer, FLOAT32)


def test_a_device_that_cannot_be_used_is_told_in_one_line(monkeypatch: Any, run: Run, tmp_path: Path) -> None:
    """Its memory may be full, or it may be another program's alone."""

    def answer(name: str) -> tuple[int, int]:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCompile with TORCH_USE_CUDA")

    monkeypatch.setattr("conv3dt.engine.devices.cuda_count", lambda: 1)
    monkeypatch.setattr("conv3dt.engine.choose.cuda_count", lambda: 1)
    monkeypatch.setattr("conv3dt.engine.choose.has_nvidia", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", answer)
    path = save_nifti(tmp_path / "a.nii", whole_numbers(5, 5, 5), np.eye(4))
    done = run("upsample", path, tmp_path / "b.nii", "--device", "cuda")
    assert done.code == 2
    assert done.complaint == (
        "conv3dt: device cuda:0 cannot be used: CUDA error: all CUDA-capable devices are busy or unavailable; use "
        "another device, or cpu"
    )
    told = choose(LayerConfig(32, (4, 4, 4), (2, 2, 2)), 32, 10**9, device="auto", threads=2)
    assert told.device == "cpu"
    assert "cuda:0 cannot be used" in told.reason
    listed = run("devices")
    assert listed.code == 0
    assert listed.out.splitlines()[-1].startswith("cuda:0  device cuda:0 cannot be used: CUDA error: all")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyError("a"), AssertionError("a")], ids=type
)
def test_whatever_fails_half_way_is_told_in_one_line(error: Exception) -> None:
    """Triton compiles anew for a region of another width, and its compiler is a library like others."""

    def run(*_: object) -> None:
        raise error

    layer = layer_of(MANY)
    engine = TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased")
    with spoilt(run), pytest.raises(DeviceError, match="device cpu failed: "):
        engine.compute(region(layer, FLOAT32, (4, 4, 4)), np.empty((5, 4, 4, 4), np.float32))


def test_what_is_not_kept_is_not_said_to_be(tmp_path: Path) -> None:
    """An array has no journal, and a file has none before its first minute."""
    from tests.test_lanes import failing_at

    volume = whole_numbers(10, 10, 30)
    save_nifti(tmp_path / "a.nii", volume, np.eye(4))
    with devices(1), spoilt(failing_at(3)), pytest.raises(DeviceError) as of_file:
        conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "b.nii", tile=(20, 20, 4))
    with devices(1), spoilt(failing_at(3)), pytest.raises(DeviceError) as of_array:
        conv3dt.upsample(volume, tile=(20, 20, 4))
    assert listing(tmp_path) == ["a.nii"]
    for error in (of_file, of_array):
        assert str(error.value).endswith("; run again, or use device cpu")


def test_a_machine_without_memory_is_no_failed_device() -> None:
    def run(*_: object) -> None:
        raise MemoryError

    layer = layer_of(MANY)
    engine = TensorEngine(layer, FLOAT32, devices=["cpu"], way="phased")
    with spoilt(run), pytest.raises(MemoryError):
        engine.compute(region(layer, FLOAT32, (4, 4, 4)), np.empty((5, 4, 4, 4), np.float32))


def test_texts_that_would_take_long_to_compile_go_another_way() -> None:
    wide, many = Setting((4, 4, 4), (4, 4, 4)), Setting((9, 9, 9), (9, 9, 9))
    assert ways_of(layer_of(wide), "cuda")[0] == "fused"
    assert ways_of(layer_of(wide), "cuda", wide=True)[0] == "fused"  # in a loop, which holds 64 sums
    assert ways_of(layer_of(Setting((5, 5, 5), (5, 5, 5))), "cuda", wide=True)[0] == "phased"
    assert ways_of(layer_of(many), "cuda")[0] == "phased"
    assert TensorEngine(layer_of(many), FLOAT64, devices=["cpu"]).way == "phased"


def test_apples_devices_convolve_forwards() -> None:
    """They have no transposed convolution of three axes."""
    assert ways_of(layer_of(MANY), "mps") == ("phased", "transposed")


def test_a_run_is_not_gone_on_with_by_another_way(tmp_path: Path, monkeypatch: Any) -> None:
    from tests.test_lanes import failing_at

    monkeypatch.setattr("conv3dt.journal.FIRST_S", 0.0)
    monkeypatch.setattr("conv3dt.journal.SHARE", 0)
    save_nifti(tmp_path / "a.nii", whole_numbers(10, 10, 30), np.eye(4))
    options: dict[str, Any] = {"tile": (20, 20, 4), "kernel": "cubic"}
    with devices(1), spoilt(failing_at(9)), pytest.raises(DeviceError):
        conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "b.nii", **options)
    with devices(1, "transposed"):
        report = conv3dt.upsample_file(tmp_path / "a.nii", tmp_path / "b.nii", **options)
    assert report.run is not None
    assert report.run.resumed_regions == 0
