"""Does ``conv3dt upsample`` do what its options say, and tell it where it should?"""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

import conv3dt
from conv3dt.resources import resident
from tests.conftest import Result, Run, imported_by, listing, load, save_nifti, whole_numbers

HEAD = (48, 56, 28)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A volume of 7 x 6 x 5 whole numbers, in a folder of its own."""
    (tmp_path / "in").mkdir()
    return save_nifti(tmp_path / "in" / "scan.nii", whole_numbers(7, 6, 5), np.diag([2.0, 2, 4, 1]))


def voxels(run: Run, scan: Path, *options: object) -> NDArray[Any]:
    """What upsampling a scan with these options gives."""
    target = scan.parent.parent / "voxels.nii"
    assert run("upsample", scan, target, "--overwrite", *options).code == 0
    return np.array(load(target))


def facts(run: Run, scan: Path, *options: object) -> Any:
    """What the report of a dry run with these options says."""
    return run("upsample", scan, "out.nii", "--dry-run", "--json", *options).json


def test_the_sample_scan(run: Run, tmp_path: Path, sample: Path) -> None:
    done = run("upsample", sample / "head.nii.gz", tmp_path / "up.nii.gz")
    assert (done.code, done.out) == (0, "")
    assert "48x56x28 (ijk)" in done.err
    assert "96x112x56 (ijk)" in done.err
    image = nibabel.load(tmp_path / "up.nii.gz")
    assert image.header.get_zooms() == pytest.approx((1, 1, 2))
    np.testing.assert_array_equal(image.dataobj, conv3dt.upsample(load(sample / "head.nii.gz")))
    assert listing(tmp_path) == ["up.nii.gz"]


def test_labels_stay_labels(run: Run, tmp_path: Path, sample: Path) -> None:
    assert run("upsample", sample / "labels.nii.gz", tmp_path / "up.nii.gz", "--kernel", "nearest").code == 0
    up, labels = nibabel.load(tmp_path / "up.nii.gz"), load(sample / "labels.nii.gz")
    assert up.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(up.dataobj, labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_the_sample_blur_keeps_the_mean_and_adds_its_bias(run: Run, tmp_path: Path, sample: Path) -> None:
    options = ("--weights", sample / "blur.npz", "--strides", "2", "--padding", "same")
    assert run("upsample", sample / "head.nii.gz", tmp_path / "up.nii.gz", *options).code == 0
    up, head = load(tmp_path / "up.nii.gz"), load(sample / "head.nii.gz")
    assert up.shape == tuple(2 * n for n in HEAD)
    assert up[0, 0, 0] == pytest.approx(10, abs=30)  # air, and the bias
    assert up.mean() == pytest.approx(head.mean() + 10, rel=0.01)  # every phase of the blur sums to one


def test_json_alone_is_on_stdout(run: Run, tmp_path: Path, sample: Path) -> None:
    done = run("upsample", sample / "head.nii.gz", tmp_path / "up.nii.gz", "--json")
    assert (done.code, done.err) == (0, "")
    report = done.json
    assert report["version"] == conv3dt.__version__
    assert report["input"]["shape"] == list(HEAD)
    assert report["output"]["shape"] == [96, 112, 56]
    assert report["output"]["path"] == str(tmp_path / "up.nii.gz")
    np.testing.assert_allclose(report["output"]["affine"], nibabel.load(tmp_path / "up.nii.gz").affine, atol=1e-4)
    assert report["run"]["peak_bytes"] > 2**20
    assert report["run"]["not_finite"] == 0


def test_a_report_goes_to_a_file(run: Run, scan: Path, tmp_path: Path) -> None:
    done = run("upsample", scan, tmp_path / "a.nii", "--report", tmp_path / "r.json", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    report = json.loads((tmp_path / "r.json").read_text())
    both = run("upsample", scan, tmp_path / "a.nii", "--report", tmp_path / "r.json", "--json", "--overwrite")
    assert both.json == json.loads((tmp_path / "r.json").read_text())
    del both.json["run"], report["run"]
    assert {key: both.json[key] for key in report} == report


def test_quiet_is_silent_and_verbose_says_more(run: Run, scan: Path, tmp_path: Path) -> None:
    said = {}
    for option in ("--quiet", "-q", "-v", "--no-bias"):  # the last is neither
        done = run("upsample", scan, tmp_path / "out.nii", "--overwrite", option)
        assert (done.code, done.out) == (0, "")
        said[option] = done.err
    assert said["-q"] == said["--quiet"] == ""
    assert "affine out" in said["-v"]
    assert "affine out" not in said["--no-bias"]
    assert 0 < len(said["--no-bias"]) < len(said["-v"])


def test_a_dry_run_reports_everything_and_writes_nothing(run: Run, scan: Path, tmp_path: Path) -> None:
    dry = run("upsample", scan, tmp_path / "out.nii", "--dry-run", "--json")
    assert dry.code == 0
    assert listing(tmp_path) == ["in"]
    assert listing(scan.parent) == ["scan.nii"]
    wet = run("upsample", scan, tmp_path / "out.nii", "--json")
    assert dry.json["run"] is None
    assert wet.json["run"] is not None
    assert {**dry.json, "run": None} == {**wet.json, "run": None}
    assert "out.nii" in run("upsample", scan, tmp_path / "out2.nii", "--dry-run").err.replace("out2", "out")


def test_a_dry_run_checks_what_a_run_would_refuse(run: Run, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "out.nii").write_text("precious")
    for target in (tmp_path / "out.nii", tmp_path / "nowhere" / "out.nii"):
        assert run("upsample", scan, target).code == 73
        assert run("upsample", scan, target, "--dry-run").code == 73


def test_existing_output_is_replaced_only_on_demand(run: Run, scan: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.nii"
    target.write_text("precious")
    refused = run("upsample", scan, target)
    assert refused.code == 73
    assert "--overwrite" in refused.complaint
    assert target.read_text() == "precious"
    assert run("upsample", scan, target, "--overwrite").code == 0
    assert load(target).shape == (14, 12, 10)


@pytest.mark.parametrize("same", [("2", "2,2,2", "2x2x2", "2X2x2"), ("2,2,1", "2x2x1", " 2 , 2 , 1 ", "2x2,1")])
def test_numbers_are_spelt_in_several_ways(run: Run, scan: Path, same: tuple[str, ...]) -> None:
    found = [facts(run, scan, "--scale", text)["layer"]["strides"] for text in same]
    assert all(strides == found[0] for strides in found)
    assert found[0] == [2, 2, 2 if "1" not in same[1] else 1]


@pytest.mark.parametrize("text", ["2,2", "a", "0", "-1", "1.5", "2,2,2,2", "", "2,,2", "2,0,1"])
@pytest.mark.parametrize("option", ["--scale", "--tile"])
def test_other_numbers_are_refused(run: Run, scan: Path, tmp_path: Path, option: str, text: str) -> None:
    done = run("upsample", scan, tmp_path / "out.nii", f"{option}={text}")
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert listing(tmp_path) == ["in"]


STRIDES = ((2, 1, 3), (1, 3, 2))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".h5"])
@pytest.mark.parametrize("strides", STRIDES)
def test_numbers_and_kernel_axes_go_with_axes_as_the_file_lists_them(
    run: Run, tmp_path: Path, sample: Path, suffix: str, strides: tuple[int, int, int]
) -> None:
    """One bright voxel becomes the kernel itself, where the strides say, on the axes that the kernel's file names."""
    taps, place = np.load(sample / "asymmetric.npy"), (3, 1, 2)
    volume = np.zeros((5, 6, 7), np.float32)
    volume[place] = 10
    if suffix == ".h5":
        with h5py.File(tmp_path / "in.h5", "w") as file:
            file["raw"] = volume
    else:
        save_nifti(tmp_path / f"in{suffix}", volume)
    options = ("--weights", sample / "asymmetric.npy", "--strides", ",".join(map(str, strides)))
    assert run("upsample", tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", *options).code == 0
    if suffix == ".h5":
        with h5py.File(tmp_path / "out.h5") as file:
            out = file["data"][()]
    else:
        out = load(tmp_path / f"out{suffix}")
    expected = np.zeros([n * s + max(k - s, 0) for n, s, k in zip(volume.shape, strides, taps.shape, strict=True)])
    expected[tuple(slice(p * s, p * s + k) for p, s, k in zip(place, strides, taps.shape, strict=True))] = taps * 10
    np.testing.assert_array_equal(out, expected)


def test_every_named_kernel_gives_other_voxels_of_the_same_mean(run: Run, scan: Path) -> None:
    found = {k: voxels(run, scan, "--kernel", k) for k in ("nearest", "linear", "cubic", "lanczos3", "gaussian")}
    for name, out in found.items():
        assert out.mean() == pytest.approx(load(scan).mean(), rel=0.05)
        assert [other for other, values in found.items() if np.array_equal(values, out)] == [name]


def test_boundaries_differ_at_the_border_only(run: Run, scan: Path) -> None:
    found = {b: voxels(run, scan, "--kernel", "cubic", "--boundary", b) for b in ("zero", "edge", "reflect")}
    inside = (slice(4, -4), slice(4, -4), slice(4, -4))
    assert all(np.array_equal(out[inside], found["zero"][inside]) for out in found.values())
    assert not np.array_equal(found["zero"], found["edge"])
    assert not np.array_equal(found["edge"], found["reflect"])
    np.testing.assert_array_equal(voxels(run, scan, "--kernel", "cubic"), found["edge"])


def test_the_default_boundary_of_weights_is_zero(run: Run, scan: Path, sample: Path) -> None:
    options = ("--weights", sample / "blur.npz", "--strides", "2", "--padding", "same")
    default = voxels(run, scan, *options)
    np.testing.assert_array_equal(default, voxels(run, scan, *options, "--boundary", "zero"))
    assert not np.array_equal(default, voxels(run, scan, *options, "--boundary", "edge"))


def test_activation(run: Run, scan: Path, sample: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", kernel=np.ones((2, 2, 2)), bias=np.array([-50.0]))
    options = ("--weights", tmp_path / "k.npz", "--strides", "2")
    plain = voxels(run, scan, *options)
    assert plain.min() < 0
    np.testing.assert_array_equal(voxels(run, scan, *options, "--activation", "relu"), np.maximum(plain, 0))
    assert facts(run, scan, *options, "--activation", "relu")["layer"]["activation"] == "relu"


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ((), (9, 7, 8)),
        (("--strides", "2"), (15, 12, 12)),
        (("--strides", "2", "--padding", "same"), (14, 12, 10)),
        (("--strides", "2", "--padding", "SAME"), (14, 12, 10)),
        (("--strides", "2", "--output-padding", "1"), (16, 13, 13)),
        (("--strides", "3,2,4", "--output-padding", "2,0,3"), (23, 12, 23)),
        (("--dilation-rate", "2"), (11, 8, 11)),
        (("--dilation-rate", "1,3,1"), (9, 9, 8)),
    ],
)
def test_options_of_the_layer_decide_the_shape(
    run: Run, scan: Path, sample: Path, options: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    weights = ("--weights", sample / "asymmetric.npy")  # 3 x 2 x 4 taps on 7 x 6 x 5 voxels
    assert facts(run, scan, *weights, *options)["output"]["shape"] == list(shape)


def test_dilation_spreads_the_taps(run: Run, tmp_path: Path, sample: Path) -> None:
    taps = np.load(sample / "asymmetric.npy")
    volume = np.zeros((3, 3, 3), np.float32)
    volume[1, 1, 1] = 1
    (tmp_path / "in").mkdir()
    point = save_nifti(tmp_path / "in" / "p.nii", volume)
    out = voxels(run, point, "--weights", sample / "asymmetric.npy", "--dilation-rate", "2,3,1")
    np.testing.assert_array_equal(out[1:6:2, 1:5:3, 1:5], taps)
    assert out.sum() == taps.sum()


@pytest.mark.parametrize(("align", "first"), [("kernel", -0.25), ("centroid", -0.25), ("edge", -0.25), ("origin", 0.0)])
def test_align_moves_the_header_and_no_voxel(run: Run, scan: Path, tmp_path: Path, align: str, first: float) -> None:
    assert run("upsample", scan, tmp_path / "out.nii", "--align", align).code == 0
    old, new = nibabel.load(scan), nibabel.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(new.dataobj, voxels(run, scan))
    place = np.linalg.inv(old.affine) @ new.affine[:, 3]  # of output voxel 0, in input voxels
    np.testing.assert_allclose(place[:3], first, atol=1e-6)


@pytest.mark.parametrize(("align", "first"), [("kernel", -1.0), ("centroid", -1.19), ("edge", 0.0), ("origin", 0.0)])
def test_align_of_a_kernel_of_no_symmetry(
    run: Run, scan: Path, tmp_path: Path, sample: Path, align: str, first: float
) -> None:
    options = ("--weights", sample / "asymmetric.npy", "--strides", "1", "--align", align)
    assert run("upsample", scan, tmp_path / "out.nii", *options).code == 0
    place = np.linalg.inv(nibabel.load(scan).affine) @ nibabel.load(tmp_path / "out.nii").affine[:, 3]
    taps = np.load(sample / "asymmetric.npy").sum(axis=(1, 2))
    assert {"centroid": -(taps @ range(3)) / taps.sum()}.get(align, first) == pytest.approx(place[0], abs=1e-6)


def test_a_header_off_the_kernels_grid_is_warned_of(run: Run, scan: Path, tmp_path: Path) -> None:
    assert "warning" not in run("upsample", scan, tmp_path / "a.nii").err
    done = run("upsample", scan, tmp_path / "b.nii", "--align", "origin")
    assert "output voxels from where this kernel's weight lies" in done.err


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8", "uint16", "same"])
def test_dtype(run: Run, scan: Path, tmp_path: Path, dtype: str) -> None:
    assert run("upsample", scan, tmp_path / "out.nii", "--dtype", dtype).code == 0
    exact = voxels(run, scan, "--dtype", "float64")
    image = nibabel.load(tmp_path / "out.nii")
    assert image.get_data_dtype() == ("int16" if dtype == "same" else dtype)
    expected = exact if dtype.startswith("float") else np.rint(exact)  # half to even; sums of 1/64 are exact
    np.testing.assert_array_equal(image.dataobj, expected)


def test_integers_are_clipped_and_counted_and_never_wrap(run: Run, tmp_path: Path) -> None:
    volume = np.array([-40000.0, -1, 0, 100.5, 101.5, 255, 256, 65536, np.nan, np.inf, -np.inf], np.float32)
    source = save_nifti(tmp_path / "in.nii", np.tile(volume[:, None, None], (1, 2, 1)))
    limits = {"uint8": (0, 255), "uint16": (0, 65535), "int16": (-32768, 32767)}
    for dtype, (low, high) in limits.items():
        target = tmp_path / f"{dtype}.nii"
        done = run("upsample", source, target, "--scale", "1", "--dtype", dtype, "--json", "--kernel", "nearest")
        assert done.code == 0
        expected = np.clip(np.nan_to_num(np.rint(volume), nan=0, posinf=1e9, neginf=-1e9), low, high)
        np.testing.assert_array_equal(load(target)[:, 0, 0], expected)
        assert done.json["run"]["clipped"] == 2 * sum(not low <= value <= high for value in volume)  # NaN is not
        assert done.json["run"]["not_finite"] == 6
        assert any("were clipped" in text for text in done.json["warnings"])
        assert any("NaN or infinite" in text for text in done.json["warnings"])


def test_threads_tiles_and_memory_change_the_plan_and_no_voxel(run: Run, tmp_path: Path, sample: Path) -> None:
    head = sample / "head.nii.gz"
    plans, files = {}, {}

    def keep(name: str, *options: object) -> None:
        done = run("upsample", head, tmp_path / f"{name}.nii", "--scale", 4, "--json", *options)
        assert done.code == 0, done.err
        plans[name], files[name] = done.json["plan"], (tmp_path / f"{name}.nii").read_bytes()

    keep("default")
    keep("threads", "--threads", 1)
    keep("tile", "--tile", "64,48,16")
    limits = range(resident(), resident() + 2**30, 2**23)
    dry = (run("upsample", head, "out.nii", "--scale", 4, "--dry-run", "--max-memory", limit) for limit in limits)
    codes = list(takewhile(bool, (done.code for done in dry)))
    assert set(codes) == {75}
    keep("memory", "--max-memory", limits[len(codes) + 1])  # the least that will do, and 8 MiB
    assert plans["threads"]["threads"] == 1
    assert plans["tile"]["tile"] == [64, 48, 16]
    assert plans["tile"]["regions"] == 3 * 5 * 7
    assert plans["memory"]["region_bytes"] < 16 * 2**20 < plans["default"]["region_bytes"]
    assert plans["memory"]["regions"] > plans["default"]["regions"]
    assert files["default"] == files["threads"] == files["tile"] == files["memory"]


def test_a_processor_may_be_insisted_on(run: Run, scan: Path, tmp_path: Path) -> None:
    done = run("upsample", scan, tmp_path / "out.nii", "--device", "cpu", "--json")
    assert (done.code, done.json["plan"]["device"]) == (0, "cpu")


def test_scale_and_weights_exclude_each_other(run: Run, scan: Path, tmp_path: Path, sample: Path) -> None:
    both = run("upsample", scan, tmp_path / "out.nii", "--weights", sample / "blur.npz", "--scale", "2")
    assert both.code == 2
    assert "weights cannot go with scale" in both.complaint
    mixed = run("upsample", scan, tmp_path / "out.nii", "--kernel", "cubic", "--padding", "same")
    assert mixed.code == 2
    assert "kernel cannot go with padding; give weights" in mixed.complaint


@pytest.mark.parametrize("option", ["--channels-last", "--data-format=channels_last", "--axes=xyzc"])
def test_channels_may_be_said_in_three_ways(run: Run, tmp_path: Path, option: str) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(4, 5, 3, 3))
    np.save(tmp_path / "k.npy", np.ones((2, 2, 2, 1, 3)))
    layer = ("--weights", tmp_path / "k.npy", "--strides", "2")
    done = run("upsample", source, tmp_path / "out.nii", *layer, option)
    assert done.code == 0
    out = load(tmp_path / "out.nii")
    total = whole_numbers(4, 5, 3, 3).sum(axis=3)
    np.testing.assert_array_equal(out.reshape(8, 10, 6), total.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    assert run("upsample", source, tmp_path / "not.nii", *layer).code == 65


def test_the_same_command_in_a_process_of_its_own(spawn: Run, run: Run, scan: Path, tmp_path: Path) -> None:
    done = spawn("upsample", scan, tmp_path / "spawned.nii", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["output"]["shape"] == [14, 12, 10]
    assert run("upsample", scan, tmp_path / "called.nii").code == 0
    assert (tmp_path / "spawned.nii").read_bytes() == (tmp_path / "called.nii").read_bytes()


def test_one_channel_needs_no_torch(tmp_path: Path, sample: Path) -> None:
    modules = imported_by("upsample", sample / "head.nii.gz", tmp_path / "up.nii.gz", "-q")
    assert "torch" not in modules
    assert {"llvmlite", "numpy", "nibabel"} <= modules


def test_that_torch_would_be_seen(tmp_path: Path, sample: Path) -> None:
    """The twin: a device that only torch can tell of, of a number that no machine has."""
    target = tmp_path / "up.nii.gz"
    modules = imported_by("upsample", sample / "head.nii.gz", target, "-q", "--device", "cuda:99", code=2)
    assert "torch" in modules
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["upsample", "shape", "info"])
def test_help_explains_with_an_example(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert "Examples:" in done.out
    assert f"  conv3dt {name} " in done.out
    assert name in run("--help").out
    assert run(name, "-h").out == done.out


def test_every_option_is_explained(run: Run) -> None:
    (options,) = [text for text in run("upsample", "--help").out.split("Options:\n")[1:]]
    entries = ("\n" + options).split("\n  -")[1:]
    assert len(entries) > 25
    assert all(len(entry.replace("\n", " ").split("  ", 1)[-1].strip()) > 10 for entry in entries)


def test_shared_options_stand_under_headings_of_their_own(run: Run) -> None:
    parts = run("upsample", "--help").out.split(":\n")
    headings = [part.rsplit("\n", 1)[-1] for part in parts[:-1]]
    assert [each for each in headings if not each.startswith(" ")] == [
        "Options", "Kernel and layer", "Axes", "Output", "Machine", "Report",
    ]  # fmt: skip
    machine = run("upsample", "--help").out.split("\nMachine:\n")[1].split("\n\n")[0]
    for name in ("--device", "--precision", "--max-vram", "--threads", "--max-memory", "--tile"):
        assert name in machine
    assert "\nKernel and layer:\n" in run("shape", "--help").out
    assert "\nMachine:\n" not in run("shape", "--help").out


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.code, done.err) == (0, "")
    assert conv3dt.__version__ in done.out


def test_usage_errors(run: Run, scan: Path) -> None:
    for arguments in (("nothing",), ("upsample",), ("upsample", scan), ("upsample", scan, "o.nii", "--nonsense")):
        done: Result = run(*arguments)
        assert (done.code, done.complaint.endswith("--help")) == (2, True)


def test_who_says_nothing_is_shown_what_there_is_to_say(run: Run) -> None:
    for arguments in ((), ("kernel",)):
        done = run(*arguments)
        assert "Commands:" in done.out + done.err


def test_labels_under_a_kernel_that_mixes_them_are_told_of(run: Run, tmp_path: Path) -> None:
    scan = save_nifti(tmp_path / "labels.nii", whole_numbers(4, 4, 4, dtype=np.uint8), np.eye(4), intent_code=1002)
    assert "which linear mixes; say --kernel nearest" in run("upsample", scan, tmp_path / "a.nii").err
    assert "mixes" not in run("upsample", scan, tmp_path / "b.nii", "--kernel", "nearest").err
