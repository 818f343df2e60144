"""Does ``conv3dt shape`` foretell what ``conv3dt upsample`` makes, without loading what it does not need?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import Run, imported_by, load

NAMED: list[tuple[str, ...]] = [
    (),
    ("--scale", "2,3,1", "--kernel", "cubic"),
    ("--scale", "3", "--kernel", "nearest"),
    ("--align", "origin", "--boundary", "zero"),
    ("--kernel", "nearest", "--dtype", "float32"),
    ("--dtype", "uint8"),
    ("--dtype", "same", "--activation", "relu"),
]
WEIGHTED: list[tuple[str, ...]] = [
    ("--strides", "2", "--padding", "same"),
    ("--strides", "2,1,3"),
    ("--strides", "2", "--output-padding", "1,0,1"),
    ("--dilation-rate", "2"),
    ("--strides", "2", "--no-bias", "--align", "centroid"),
]


def agreeing(report: Any) -> Any:
    """What a report says but for paths and for how the work is cut up."""
    for volume in ("input", "output"):
        report[volume]["path"] = ""
    return {name: report[name] for name in ("input", "output", "layer", "axes", "warnings")}


@pytest.mark.parametrize("options", NAMED, ids=" ".join)
def test_a_nifti_file_becomes_what_was_foretold(
    run: Run, tmp_path: Path, sample: Path, options: tuple[str, ...]
) -> None:
    foretold = run("shape", sample / "series.nii.gz", "--json", *options)
    done = run("upsample", sample / "series.nii.gz", tmp_path / "out.nii", "--json", *options)
    assert (foretold.code, foretold.err, done.code) == (0, "", 0)
    if "uint8" in options:  # only a run knows how many values do not fit
        done.json["warnings"].clear()
    told, made = agreeing(foretold.json), agreeing(done.json)
    made["warnings"] = [text for text in made["warnings"] if "clipped" not in text]
    assert told == made
    assert told["output"]["shape"] == list(load(tmp_path / "out.nii").shape)
    assert told["output"]["bytes"] == (tmp_path / "out.nii").stat().st_size - 352


@pytest.mark.parametrize("options", WEIGHTED, ids=" ".join)
def test_an_hdf5_file_becomes_what_was_foretold(
    run: Run, tmp_path: Path, sample: Path, options: tuple[str, ...]
) -> None:
    for source, weights in (("raw", "blur.npz"), ("features", "features.h5:/up/kernel")):
        layer = ("--weights", f"{sample}/{weights}", *options)
        foretold = run("shape", f"{sample}/cells.h5:/{source}", "--json", *layer)
        done = run("upsample", f"{sample}/cells.h5:/{source}", f"{tmp_path}/out.h5:/{source}", "--json", *layer)
        assert (foretold.code, done.code) == (0, 0)
        assert agreeing(foretold.json) == agreeing(done.json)
        with h5py.File(tmp_path / "out.h5") as file:
            assert foretold.json["output"]["shape"] == list(file[source].shape)
            assert foretold.json["output"]["bytes"] == file[source].nbytes


@pytest.mark.parametrize("options", [*NAMED[:4], *WEIGHTED], ids=" ".join)
def test_numbers_and_a_volume_of_that_shape_become_the_same(run: Run, sample: Path, options: tuple[str, ...]) -> None:
    layer = ("--weights", sample / "blur.npz", *options) if options in WEIGHTED else options
    head = run("shape", sample / "head.nii.gz", "--json", *layer).json
    for numbers in ("48,56,28", "48x56x28"):
        given = run("shape", numbers, "--json", *layer).json
        assert given["output"]["shape"] == head["output"]["shape"]
        assert given["axes"] == head["axes"]
        assert given["layer"] == head["layer"]
        if "nearest" not in options:  # else the type is kept, and numbers have none
            assert given["output"]["bytes"] == head["output"]["bytes"]


@pytest.mark.parametrize(
    ("arguments", "shape", "axes"),
    [
        (("64,64,32",), [128, 128, 64], "012"),
        (("64,64,32", "--scale", "2,2,1"), [128, 128, 32], "012"),
        (("64,64,32", "--kernel-size", "3", "--strides", "2", "--padding", "same", "--filters", "8"),
         [128, 128, 64, 8], "012c"),
        (("64,64,32", "--kernel-size", "3", "--strides", "2"), [129, 129, 65], "012"),
        (("64,64,32,10",), [128, 128, 64, 10], "012t"),
        (("64,64,32,10", "--kernel-size", "2", "--strides", "2", "--channels-last"), [128, 128, 64, 1], "012c"),
        (("10,64,64,32", "--kernel-size", "2", "--strides", "2", "--filters", "5", "--channels-first"),
         [5, 128, 128, 64], "c012"),
        (("7,10,64,64,32", "--kernel-size", "2", "--strides", "2", "--data-format", "channels_first"),
         [7, 1, 128, 128, 64], "tc012"),
        (("10,64,64,32", "--axes", "tzyx"), [10, 128, 128, 64], "tzyx"),
        (("1,1,1",), [2, 2, 2], "012"),
        (("1000000,1000000,1000000",), [2000000] * 3, "012"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_numbers(run: Run, arguments: tuple[str, ...], shape: list[int], axes: str) -> None:
    done = run("shape", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["output"]["shape"] == shape
    assert done.json["output"]["axes"] == axes


def test_the_answer_is_on_stdout(run: Run, sample: Path, tmp_path: Path) -> None:
    done = run("shape", sample / "head.nii.gz")
    assert (done.code, done.err) == (0, "")
    assert "48x56x28 (ijk)" in done.out
    assert "96x112x56 (ijk)" in done.out
    assert "2 x 2 x 4 mm" in done.out
    assert "1 x 1 x 2 mm" in done.out
    assert "affine out" not in done.out
    assert "affine out" in run("shape", sample / "head.nii.gz", "-v").out
    quiet = run("shape", sample / "head.nii.gz", "-q", "--report", tmp_path / "r.json")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert json.loads((tmp_path / "r.json").read_text()) == run("shape", sample / "head.nii.gz", "--json").json


@pytest.mark.parametrize(
    ("numbers", "options"),
    [
        ("64,64", ()),
        ("64,64,0", ()),
        ("1,2,3,4,5,6,7,8", ()),
        ("64,64,64", ("--scale", "0")),
        ("64,64,64", ("--scale", "2,2")),
        ("64,64,64", ("--strides", "2")),  # and neither weights nor a kernel size
        ("64,64,64", ("--kernel-size", "3", "--strides", "2", "--dilation-rate", "2")),
        ("64,64,64", ("--kernel-size", "3", "--strides", "2", "--output-padding", "2")),
        ("64,64,64", ("--kernel-size", "3", "--strides", "2", "--padding", "causal")),
        ("64,64,64", ("--kernel-size", "3", "--filters", "0")),
        ("64,64,64", ("--kernel-size", "3", "--align", "centroid")),
        ("64,64,64", ("--dtype", "complex64")),
        ("64,64,64", ("--axes", "zy")),
        ("64,64,64", ("--axes", "abc")),
        ("64,64,64", ("--axes", "xyzt")),
        ("64,64,64", ("--kernel", "linear", "--strides", "2")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_what_upsample_refuses_shape_refuses(run: Run, numbers: str, options: tuple[str, ...]) -> None:
    done = run("shape", numbers, *options)
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "unexpected" not in done.err


@pytest.mark.parametrize("volume", ["48,56,28,6", "series.nii.gz"])
def test_channels_that_do_not_match_are_refused(run: Run, sample: Path, volume: str) -> None:
    name = volume if "," in volume else sample / volume
    layer = ("--weights", sample / "blur.npz", "--strides", "2")
    assert run("shape", name, *layer).code == 0
    assert run("shape", name, *layer, "--channels-last").code == 65
    assert run("shape", name, "--weights", f"{sample}/features.h5:/up/kernel").code == 65


def test_the_type_must_be_one_that_upsample_writes(run: Run, sample: Path) -> None:
    assert run("shape", sample / "head.nii.gz", "--dtype", "complex64").code == 2
    assert run("shape", sample / "head.nii.gz", "--dtype", "float64").code == 0


def test_numbers_need_neither_numpy_nor_nibabel() -> None:
    modules = imported_by("shape", "64,64,64", "--scale", "2")
    assert "conv3dt" in modules
    assert not modules & {"torch", "llvmlite", "numpy", "nibabel", "h5py", "rich"}


def test_a_scan_needs_neither_torch_nor_llvm(sample: Path) -> None:
    modules = imported_by("shape", sample / "head.nii.gz")
    assert {"numpy", "nibabel"} <= modules  # the twin of the test above: these would be seen
    assert not modules & {"torch", "llvmlite", "h5py"}


def test_that_llvm_would_be_seen(sample: Path, tmp_path: Path) -> None:
    assert "llvmlite" in imported_by("upsample", sample / "labels.nii.gz", tmp_path / "out.nii", "--kernel", "nearest")


def test_the_same_command_in_a_process_of_its_own(spawn: Run, run: Run) -> None:
    assert spawn("shape", "64,64,32", "--json") == run("shape", "64,64,32", "--json")


def test_zero_and_infinite_numbers_are_json_all_the_same(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.zeros((2, 2, 2)))
    done = run("shape", "8,8,8", "--weights", tmp_path / "k.npy", "--strides", "2", "--json")
    assert done.code == 0
    assert done.json["output"]["shape"] == [16, 16, 16]
