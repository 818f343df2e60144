"""Does ``conv3dt info`` say what stands in the headers, all of it and nothing else?"""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from tests.conftest import Run, imported_by, save_nifti, whole_numbers

FILES = ["head.nii.gz", "series.nii.gz", "labels.nii.gz", "cells.h5:/raw", "cells.h5:/features", "blur.npz",
         "asymmetric.npy", "features.h5:/up/kernel"]  # fmt: skip


def test_a_scan(run: Run, sample: Path) -> None:
    (facts,) = run("info", sample / "head.nii.gz", "--json").json
    image = nibabel.load(sample / "head.nii.gz")
    assert facts["path"] == str(sample / "head.nii.gz")
    assert (facts["format"], facts["axes"], facts["shape"]) == ("nifti1", "ijk", [48, 56, 28])
    assert (facts["dtype"], facts["byte_order"], facts["bytes"]) == ("int16", "little", 48 * 56 * 28 * 2)
    assert (facts["voxel_size"], facts["unit"], facts["compressed"]) == ([2, 2, 4], "mm", True)
    assert (facts["sform_code"], facts["qform_code"], facts["orientation"]) == (1, 1, "LAS")
    assert facts["description"] == "synthetic head, conv3dt sample data"
    np.testing.assert_allclose(facts["affine"], image.affine)


def test_a_series(run: Run, sample: Path) -> None:
    (facts,) = run("info", sample / "series.nii.gz", "--json").json
    assert (facts["shape"], facts["axes"]) == ([24, 24, 12, 6], "ijkt")
    assert (facts["repetition_time"], facts["time_unit"]) == (2.5, "s")
    assert (facts["slope"], facts["inter"]) == (0.25, 0)


def test_a_dataset(run: Run, sample: Path) -> None:
    (facts,) = run("info", f"{sample}/cells.h5:/raw", "--json").json
    assert (facts["shape"], facts["axes"], facts["dtype"]) == ([24, 64, 64], "zyx", "uint16")
    assert (facts["voxel_size"], facts["unit"]) == (pytest.approx([1.2, 0.4, 0.4]), "um")
    assert (facts["chunks"], facts["compression"], facts["shuffle"]) == ([8, 32, 32], "gzip", True)
    assert "sample" in facts["attributes"]


def test_kernels(run: Run, sample: Path) -> None:
    blur, asymmetric, features = run(
        "info", sample / "blur.npz", sample / "asymmetric.npy", f"{sample}/features.h5:/up/kernel", "--json"
    ).json
    assert (blur["format"], blur["kernel_size"], blur["sum_per_filter"]) == ("npz", [4, 4, 4], [8])
    assert (asymmetric["format"], asymmetric["kernel_size"], asymmetric["range"]) == ("npy", [3, 2, 4], [1, 24])
    assert (features["format"], features["filters"], features["channels"]) == ("hdf5", 8, 4)
    assert (blur["bias"], asymmetric["bias"], features["bias"]) == ("1 values", "none", "8 values")


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
def test_kinds_and_byte_orders(run: Run, tmp_path: Path, kind: type[Nifti1Header], endian: str) -> None:
    path = save_nifti(tmp_path / "a.nii", whole_numbers(3, 4, 5), header=kind(endianness=endian))
    (facts,) = run("info", path, "--json").json
    assert facts["format"] == ("nifti1" if kind is Nifti1Header else "nifti2")
    assert (facts["shape"], facts["dtype"]) == ([3, 4, 5], "int16")
    assert facts["byte_order"] == ("little" if endian == "<" else "big")


@pytest.mark.parametrize(
    ("option", "axes"),
    [("--channels-last", "ijkc"), ("--channels-first", "cijk"), ("--axes=xyzt", "xyzt"), ("--axes=t,z,y,x", "tzyx")],
)
def test_options_name_the_axes(run: Run, sample: Path, option: str, axes: str) -> None:
    assert run("info", sample / "series.nii.gz", option, "--json").json[0]["axes"] == axes


def test_axes_that_cannot_be(run: Run, sample: Path) -> None:
    for axes in ("xyz", "xyzz", "abcd", "xyztt"):
        done = run("info", sample / "series.nii.gz", "--axes", axes)
        assert done.code == 2
        assert "axes must name each of 4 axes once" in done.complaint


@pytest.mark.parametrize("name", FILES)
def test_the_table_has_a_row_for_every_fact(run: Run, sample: Path, name: str) -> None:
    (facts,) = run("info", f"{sample}/{name}", "--json").json
    done = run("info", f"{sample}/{name}")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"{sample}/{name}"
    for fact, value in facts.items():
        if fact != "path" and value not in (None, "", [], {}):
            assert re.search(rf"^  {fact.replace('_', ' ')}  +\S", done.out, re.MULTILINE), fact


def test_attributes_are_a_list_and_no_product(run: Run, sample: Path) -> None:
    assert "element_size_um, sample" in run("info", f"{sample}/cells.h5:/raw").out


def test_one_bad_file_does_not_hide_the_others(run: Run, sample: Path) -> None:
    done = run("info", sample / "head.nii.gz", "nowhere.nii", sample / "blur.npz")
    assert done.code == 66
    assert done.err == "conv3dt: input nowhere.nii: no such file\n"
    assert str(sample / "head.nii.gz") in done.out
    assert str(sample / "blur.npz") in done.out
    listed = run("info", sample / "head.nii.gz", "nowhere.nii", "--json")
    assert (listed.code, len(listed.json)) == (66, 1)


def test_no_voxel_is_read(run: Run, sample: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes((sample / "head.nii.gz").read_bytes()[:2000])
    assert run("info", cut, "--json").json[0]["shape"] == [48, 56, 28]
    assert run("upsample", cut, tmp_path / "out.nii").code == 65


def test_a_file_of_another_name_is_known_by_its_beginning(run: Run, sample: Path, tmp_path: Path) -> None:
    for name in ("head.nii.gz", "cells.h5"):
        (tmp_path / f"{name}.bin").write_bytes((sample / name).read_bytes())
    assert run("info", tmp_path / "head.nii.gz.bin", "--json").json[0]["shape"] == [48, 56, 28]
    several = run("info", tmp_path / "cells.h5.bin")
    assert several.code == 65
    assert "/raw 24x64x64" in several.complaint


def test_neither_torch_nor_llvm_is_needed(sample: Path) -> None:
    modules = imported_by("info", sample / "head.nii.gz", sample / "blur.npz")
    assert {"numpy", "nibabel"} <= modules
    assert not modules & {"torch", "llvmlite", "h5py", "rich"}
