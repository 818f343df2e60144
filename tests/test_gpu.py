"""Does a GPU say what the CPU says?  Runs where there is one; `test_fused` asks its kernel the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import conv3dt
from conv3dt.engine.gpu.tensor import TensorEngine
from conv3dt.engine.gpu.ways import WAYS
from tests.conftest import Run, save_nifti
from tests.regions import FLOAT32, computed, layer_of, region
from tests.test_engines import Setting
from tests.test_lanes import check_within

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


CASES = {
    "k4 s2": Setting((4, 4, 4), (2, 2, 2), padding="same"),
    "k3 s2": Setting((3, 3, 3), (2, 2, 2), padding="same"),
    "k8 s4": Setting((8, 8, 8), (4, 4, 4), padding="same"),
    "uneven": Setting((3, 3, 3), (2, 1, 3), padding="same", channels=2, filters=3),
    "matrix": Setting((2, 2, 2), (2, 2, 2), channels=32, filters=16),
    "many": Setting((3, 3, 3), (2, 2, 2), padding="same", channels=32, filters=32),
    "dilated": Setting((3, 3, 3), dilation=(1, 2, 3), channels=4, filters=4),
}
every_case = pytest.mark.parametrize("setting", CASES.values(), ids=CASES)


def on_gpu(layer: Any, source: NDArray[Any], shape: tuple[int, ...], way: str, precision: str = "fp32") -> NDArray[Any]:
    """A region, by one way."""
    out = np.empty((layer.filters, *shape), np.float32)
    engine = TensorEngine(layer, FLOAT32, devices=["cuda:0"], way=way, precision=precision)
    engine.compute(source, out)
    engine.close()
    return out


@every_case
@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_the_cpu_to_a_millionth_and_reruns_to_the_bit(setting: Setting, way: str) -> None:
    layer, shape = layer_of(setting), (48, 44, 70)
    source = region(layer, FLOAT32, shape)
    expected, _ = computed(layer, FLOAT32, source, shape, "direct")
    found = on_gpu(layer, source, shape, way)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(on_gpu(layer, source, shape, way), found)


@pytest.mark.parametrize("name", ["matrix", "many"])
@pytest.mark.parametrize("way", ["phased", "transposed"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_tensor_cores_stay_within_the_bound_of_their_precision(name: str, way: str, precision: str) -> None:
    layer, shape = layer_of(CASES[name]), (32, 30, 34)
    source = region(layer, FLOAT32, shape)
    found = on_gpu(layer, source, shape, way, precision)
    check_within(layer, source, found, precision)
    np.testing.assert_array_equal(on_gpu(layer, source, shape, way, precision), found)


def volume(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("boundary", ["zero", "edge"])
def test_many_regions_in_flight_are_the_cpus(boundary: str) -> None:
    x = volume(90, 80, 70)
    arguments: dict[str, Any] = {"kernel": "cubic", "boundary": boundary}
    found = conv3dt.upsample(x, device="cuda", tile=(16, 160, 140), **arguments)
    expected = conv3dt.upsample(x, device="cpu", **arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(conv3dt.upsample(x, device="cuda", tile=40, **arguments), found)
    np.testing.assert_array_equal(conv3dt.upsample(x, device="cuda:all", tile=24, **arguments), found)


def test_too_little_memory_halves_regions_and_changes_no_bit(tmp_path: Path) -> None:
    """A real error of the real allocator, which is held to 64 MB."""
    source = save_nifti(tmp_path / "a.nii", volume(128, 128, 64), np.eye(4))
    arguments: dict[str, Any] = {"kernel": "cubic", "device": "cuda"}
    conv3dt.upsample_file(source, tmp_path / "whole.nii", **arguments)
    planned = conv3dt.upsample_file(source, tmp_path / "planned.nii", max_vram="64MB", **arguments)
    halved = conv3dt.upsample_file(
        source, tmp_path / "halved.nii", max_vram="64MB", tile=(256, 256, 128), **arguments
    )  # fmt: skip
    assert planned.run is not None
    assert halved.run is not None
    assert planned.run.halved_regions == 0
    assert halved.run.halved_regions > 0
    for name in ("planned", "halved"):
        assert (tmp_path / f"{name}.nii").read_bytes() == (tmp_path / "whole.nii").read_bytes()


def test_integers_of_a_whole_file_are_the_cpus(tmp_path: Path) -> None:
    """Rounded by the same rule; a sum that ends next to a half may go the other way."""
    scan = np.random.default_rng(0).integers(-500, 3000, (60, 50, 40)).astype(np.int16)
    source, made = save_nifti(tmp_path / "a.nii.gz", scan, np.eye(4)), []
    for device in ("cpu", "cuda"):
        path = tmp_path / f"{device}.h5"
        conv3dt.upsample_file(source, path, kernel="cubic", dtype="int16", device=device, self_check=True)
        with h5py.File(path) as file:
            made.append(file["data"][...].astype(np.int64))
    difference = np.abs(made[0] - made[1])
    assert difference.max() <= 1
    assert np.count_nonzero(difference) < 1e-4 * difference.size


def test_the_report_says_what_was_chosen(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", volume(20, 20, 20), np.eye(4))
    plan = run("upsample", source, tmp_path / "b.nii", "--device", "cuda", "--json").json["plan"]
    assert (plan["engine"], plan["device"], plan["precision"]) == ("tensor", "cuda:0", "fp32")
    told = run("devices", "--json").json
    assert told[1]["name"] == "cuda:0"
    assert told[1]["memory_bytes"] >= told[1]["free_bytes"] > 0
    assert run("upsample", source, tmp_path / "c.nii", "--device", "cuda:77").code == 2


def test_few_channels_take_the_fused_kernel() -> None:
    pytest.importorskip("triton")
    layer = layer_of(CASES["k4 s2"])
    engine = TensorEngine(layer, FLOAT32, devices=["cuda:0"])
    assert engine.way == "fused"
    engine.close()
