"""Does ``conv3dt plan`` say what a run would take, and refuse what cannot be, before anything is written?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conv3dt import fits
from tests.conftest import Run, imported_by, listing, save_nifti, whole_numbers

SHAPE = (20, 16, 12)
MIB = 2**20


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A packed scan, alone in a folder."""
    return save_nifti(tmp_path / "scan.nii.gz", whole_numbers(*SHAPE), np.diag([2.0, 2, 4, 1]))


def row(text: str, name: str) -> str:
    """What a table says of a thing."""
    (found,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return found[len(name) :].strip()


def test_it_tells_regions_engine_memory_disk_and_time(run: Run, scan: Path) -> None:
    done = run("plan", scan, scan.with_name("up.nii"), "--threads", 2)
    assert done.code == 0
    assert done.err == "plan: nothing was written\n"
    assert row(done.out, "engine") == "direct on cpu, 2 threads"
    assert row(done.out, "regions").startswith("1 of 40x32x24, ")
    assert row(done.out, "memory").endswith("MiB at the peak")
    assert row(done.out, "disk") == "120.3 KiB"
    assert row(done.out, "time").startswith("about 0.") and row(done.out, "time").endswith(
        " s on two cores of a server"
    )
    assert listing(scan.parent) == ["scan.nii.gz"]


def test_what_is_packed_is_told_as_a_guess(run: Run, scan: Path) -> None:
    assert row(run("plan", scan, scan.with_name("up.nii.gz")).out, "disk").startswith("about ")


def test_what_waits_on_the_disk_is_told(run: Run, scan: Path) -> None:
    done = run("plan", scan, scan.with_name("up.nii"), "--tile", 16)
    assert row(done.out, "disk") == "120.3 KiB, and 7.5 KiB until the run ends"


@pytest.mark.parametrize(
    "options", [(), ("--kernel", "cubic", "--tile", 8), ("--dtype", "same", "--scale", "3,1,2")], ids=str
)
def test_it_is_a_dry_run(run: Run, scan: Path, options: tuple[Any, ...]) -> None:
    target = scan.with_name("up.nii.gz")
    plan = run("plan", scan, target, "--json", *options)
    dry = run("upsample", scan, target, "--dry-run", "--json", *options)
    assert (plan.code, dry.code) == (0, 0)
    assert plan.json == dry.json
    assert listing(scan.parent) == ["scan.nii.gz"]


@pytest.mark.parametrize(("target", "packed"), [("up.nii", False), ("up.h5:/up", True), ("up.nii.gz", True)])
def test_json_holds_what_a_run_then_takes(run: Run, scan: Path, target: str, packed: bool) -> None:
    path = f"{scan.parent}/{target}"
    plan = run("plan", scan, path, "--json").json["plan"]
    report = run("upsample", scan, path, "--json").json
    assert report["plan"] == plan
    written = report["run"]["disk_bytes"]
    assert written == os.path.getsize(path.partition(":/")[0])
    assert plan["packed"] == packed
    assert packed or written == plan["disk_bytes"]
    assert plan["memory_bytes"] > plan["region_bytes"] and plan["seconds"] > 0


def test_a_run_sets_what_was_expected_beside_what_was(run: Run, scan: Path) -> None:
    done = run("upsample", scan, scan.with_name("up.nii"))
    assert "iB at the peak, " in row(done.err, "memory") and row(done.err, "memory").endswith(" expected")
    assert row(done.err, "disk") == "120.3 KiB written, 120.3 KiB expected"
    assert " expected: start " in row(done.err, "time")


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("scan.nii", "(output).nii", "nifti1"),
        ("scan.nii.gz", "(output).nii.gz", "nifti1"),
        ("scan.h5", "(output).h5", "hdf5"),
        ("scan.h5:/deep/raw", "(output).h5", "hdf5"),
    ],
)
def test_without_an_output_the_inputs_kind_is_meant(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "hdf5":
        with h5py.File("scan.h5", "w") as file:
            file["deep/raw"] = whole_numbers(*SHAPE)
    else:
        save_nifti(tmp_path / name, whole_numbers(*SHAPE), np.eye(4))
        Path(path).write_bytes(b"")  # no obstacle, if it should be there
    before = listing(tmp_path)
    output = run("plan", name, "--json").json["output"]
    assert (output["path"], output["format"]) == (path, kind)
    assert listing(tmp_path) == before


def test_an_output_larger_than_the_disk_is_refused(run: Run, tmp_path: Path) -> None:
    """A header that promises half a terabyte of voxels, in a file with nothing in it; packed they may be few."""
    scan = save_nifti(
        tmp_path / "scan.nii", whole_numbers(1, 1, 1, dtype=np.uint8), dim=[3, 8000, 8000, 8000, 1, 1, 1, 1]
    )
    os.truncate(scan, 352 + 8000**3)
    for words in (("plan",), ("upsample", "--dry-run"), ("upsample",)):
        done = run(*words, scan, tmp_path / "up.nii")
        assert done.code == 73
        assert f"needs {352 + 4 * 16000**3} bytes and cannot have them" in done.complaint
    packed = run("plan", scan, tmp_path / "up.nii.gz")
    assert packed.code == 0 or "needs at least" in packed.complaint
    assert listing(tmp_path) == ["scan.nii"]


def test_a_packed_output_that_may_not_fit_is_a_warning(run: Run, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "_free", lambda folder: 5000)
    done = run("plan", scan, scan.with_name("up.nii.gz"))
    assert done.code == 0
    assert "only 0 MiB are free there" in row(done.out, "warning")


def test_memory_that_cannot_be_had_is_refused(run: Run, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "available", lambda: 10 * MIB)
    monkeypatch.setattr(fits, "_swap", lambda: 0)
    target = scan.with_name("up.nii")
    assert "only 10 MiB are free" in row(run("plan", scan, target).out, "warning")
    for words in (("plan",), ("upsample",)):
        done = run(*words, scan, target, "--weights", save_large_kernel(scan.parent), "--strides", 2)
        assert done.code == 75
        assert done.complaint.startswith("conv3dt: the run takes about ")
    assert not target.exists()


def save_large_kernel(folder: Path) -> Path:
    """Weights that take 40 MB, and more while they are made ready."""
    np.save(folder / "large.npy", np.ones((1, 1, 1, 10**7, 1), np.float32))
    return folder / "large.npy"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["scan.nii.gz", "up.nii", "--scale", "0"], 2, "scale"),
        (["scan.nii.gz", "up.txt"], 2, "the name does not say a format"),
        (["scan.nii.gz", "scan.nii.gz"], 73, "exists already"),
        (["scan.nii.gz", "nowhere/up.nii"], 73, "does not exist"),
        (["none.nii.gz"], 66, "no such file"),
        (["scan.nii.gz", "up.nii", "--report", "scan.nii.gz"], 2, "is another file of this run"),
        (["scan.nii.gz", "--dry-run"], 2, "dry-run"),
    ],
    ids=str,
)
def test_what_upsample_refuses_is_refused(
    run: Run, scan: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(scan.parent)
    done = run("plan", *words)
    assert done.code == code
    assert says in done.complaint


def test_the_report_goes_where_it_was_asked_for(run: Run, scan: Path) -> None:
    done = run("plan", scan, scan.with_name("up.nii"), "-q", "--report", scan.with_name("plan.json"))
    assert (done.code, done.out, done.err) == (0, "", "")
    report = json.loads(scan.with_name("plan.json").read_text())
    assert report["run"] is None and report["plan"]["seconds"] > 0


def test_it_loads_neither_torch_nor_the_compiler(scan: Path) -> None:
    assert not {"torch", "llvmlite", "rich"} & imported_by("plan", scan, scan.with_name("up.nii"))
