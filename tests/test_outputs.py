"""Does every output appear whole, where it was asked for, and never in the place of something else?"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest

import conv3dt
from conv3dt.errors import ArgumentError, Conv3dtError, OutputError
from conv3dt.pending import PendingFile
from tests.conftest import Run, listing, load, save_nifti, whole_numbers


def test_a_name_taken_meanwhile_is_not_taken_again(tmp_path: Path) -> None:
    first, second = (PendingFile(str(tmp_path / "a.nii"), overwrite=False) for _ in range(2))
    first.work.write_bytes(b"first")
    second.work.write_bytes(b"second")
    first.commit()
    with pytest.raises(OutputError, match="made by another run meanwhile"):
        second.commit()
    second.abort()
    assert (tmp_path / "a.nii").read_bytes() == b"first"
    assert listing(tmp_path) == ["a.nii"]


def test_runs_that_race_for_a_name_leave_one_whole_output(tmp_path: Path) -> None:
    sources = [save_nifti(tmp_path / f"{n}.nii", np.full((20, 20, 20), n, np.uint8)) for n in range(1, 5)]

    def upsample(source: Path) -> bool:
        try:
            conv3dt.upsample_file(source, tmp_path / "out.nii", kernel="nearest", threads=1)
        except Conv3dtError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(upsample, sources))
    assert sum(won) == 1
    assert np.unique(load(tmp_path / "out.nii")).tolist() == [won.index(True) + 1]
    assert len(listing(tmp_path)) == 5


def test_permissions_of_a_replaced_file_are_kept(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4))
    source.chmod(0o640)
    assert run("upsample", source, source, "--overwrite").code == 0
    assert source.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0o027)
    try:
        assert run("upsample", source, tmp_path / "b.nii").code == 0
    finally:
        os.umask(mask)
    assert (tmp_path / "b.nii").stat().st_mode & 0o777 == 0o640


def test_a_group_is_not_replaced_by_a_dataset(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4))
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["study/precious"] = whole_numbers(3, 3, 3)
    done = run("upsample", source, f"{tmp_path}/g.h5:/study", "--overwrite")
    assert done.code == 73
    assert "is a group" in done.complaint
    with h5py.File(tmp_path / "g.h5") as file:
        np.testing.assert_array_equal(file["study/precious"][()], whole_numbers(3, 3, 3))


@pytest.mark.parametrize("place", ["a.nii", "out.nii", "nowhere/r.json"])
def test_a_report_that_may_not_be_written_is_refused_before_the_work(run: Run, tmp_path: Path, place: str) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4))
    before = source.read_bytes()
    done = run("upsample", source, tmp_path / "out.nii", "--report", tmp_path / place)
    assert done.code in (2, 73)
    assert "report" in done.complaint
    assert source.read_bytes() == before
    assert listing(tmp_path) == ["a.nii"]


def test_an_array_is_not_upsampled_into_itself() -> None:
    volume = np.ones((4, 4, 4), np.float32)
    with pytest.raises(ArgumentError, match="out must not share memory"):
        conv3dt.upsample(volume, scale=1, out=volume)


@pytest.mark.parametrize("source", ["s.h5:/s", "s.nii.gz"])
def test_volumes_listed_before_space_come_out_the_same_in_every_format(run: Run, tmp_path: Path, source: str) -> None:
    series = whole_numbers(3, 4, 5, 6)  # t, z, y, x
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["s"] = series
        file["s"].attrs["element_size_um"] = [1.0, 8.0, 4.0, 2.0]
    save_nifti(tmp_path / "s.nii.gz", series, pixdim=[1, 1, 8, 4, 2, 0, 0, 0])
    for target in ("o.nii", "o.nii.gz"):
        done = run("upsample", f"{tmp_path}/{source}", tmp_path / target, "--axes", "tzyx", "--scale", "1,2,2")
        assert done.code == 0, done.err
        expected = np.stack([conv3dt.upsample(volume, scale=(1, 2, 2)) for volume in series], axis=-1)
        np.testing.assert_allclose(load(tmp_path / target), expected, rtol=1e-6)
        assert nibabel.load(tmp_path / target).header["pixdim"][1:5].tolist() == [8, 2, 1, 1]


def test_a_header_that_cannot_say_where_it_lies_is_told_of(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4), pixdim=[1, 2, 2, 2, 0, 0, 0, 0])
    done = run("upsample", source, tmp_path / "b.nii")
    assert done.code == 0
    assert "neither sform nor qform" in done.err
    report = run("upsample", source, tmp_path / "c.nii", "--json").json
    assert report["output"]["affine"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert run("info", tmp_path / "c.nii", "--json").json[0]["affine"] == report["output"]["affine"]
    placed = run("upsample", save_nifti(tmp_path / "d.nii", whole_numbers(4, 4, 4), np.eye(4)), tmp_path / "e.nii")
    assert "neither sform nor qform" not in placed.err


def test_numpy_types_and_wrong_names_in_python() -> None:
    volume = np.ones((2, 2, 2), np.float32)
    assert conv3dt.upsample(volume, dtype=np.int16).dtype == np.int16
    assert conv3dt.upsample(volume, dtype=np.dtype("uint8")).dtype == np.uint8
    with pytest.raises(TypeError, match="unexpected keyword argument 'skale'"):
        conv3dt.upsample(volume, skale=2)
