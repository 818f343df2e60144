"""What becomes of NaN and infinity, and of integers with a slope?  Counted, placed, and never silently wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conv3dt
from conv3dt.errors import DataError
from tests.conftest import Run, listing, load, save_nifti, whole_numbers


def spoiled(*places: tuple[int, ...], shape: tuple[int, ...] = (6, 7, 8), value: float = np.nan) -> np.ndarray:  # type: ignore[type-arg]
    volume = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    for place in places:
        volume[place] = value
    return volume


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_zero_is_what_a_zero_would_have_been(run: Run, tmp_path: Path, value: float, suffix: str) -> None:
    places = ((0, 0, 0), (3, 4, 5), (5, 6, 7))
    save_nifti(tmp_path / f"a{suffix}", spoiled(*places, value=value), np.eye(4))
    save_nifti(tmp_path / f"z{suffix}", spoiled(*places, value=0), np.eye(4))
    done = run("upsample", tmp_path / f"a{suffix}", tmp_path / "a_up.nii", "--nan", "zero", "--tile", "4", "--json")
    assert run("upsample", tmp_path / f"z{suffix}", tmp_path / "z_up.nii").code == 0
    np.testing.assert_array_equal(load(tmp_path / "a_up.nii"), load(tmp_path / "z_up.nii"))
    assert (done.json["run"]["not_finite"], done.json["run"]["first_not_finite"]) == (3, [0, 0, 0])


@given(place=st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 7)), tile=st.integers(2, 16))
@settings(deadline=None, max_examples=25)
def test_the_first_is_placed_as_the_file_lists_it(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[int, int, int], tile: int
) -> None:
    folder = tmp_path_factory.mktemp("place")
    source = save_nifti(folder / "a.nii", spoiled(place), np.eye(4))
    report = conv3dt.upsample_file(source, folder / "b.nii", tile=tile)
    assert report.run is not None
    assert (report.run.not_finite, report.run.first_not_finite) == (1, place)
    with pytest.raises(conv3dt.errors.DataError) as stop:
        conv3dt.upsample_file(source, folder / "c.nii", tile=tile, nan="error")
    assert str(place) in str(stop.value)


def test_the_place_names_all_axes(run: Run, tmp_path: Path) -> None:
    series = spoiled((1, 2, 3, 4), shape=(4, 5, 6, 7))
    save_nifti(tmp_path / "a.nii.gz", series, np.eye(4))
    for options in ((), ("--channels-last", "--per-channel")):
        done = run("upsample", tmp_path / "a.nii.gz", tmp_path / "b.nii", "--overwrite", "--json", *options)
        assert done.json["run"]["first_not_finite"] == [1, 2, 3, 4]


def test_error_leaves_nothing_and_says_where(run: Run, tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii", spoiled((2, 3, 4)), np.eye(4))
    done = run("upsample", tmp_path / "a.nii", tmp_path / "b.nii.gz", "--nan", "error")
    assert done.code == 65
    assert "(2, 3, 4)" in done.complaint
    assert listing(tmp_path) == ["a.nii"]


def test_a_clean_volume_is_no_error(run: Run, tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii", spoiled(), np.eye(4))
    assert run("upsample", tmp_path / "a.nii", tmp_path / "b.nii", "--nan", "error").code == 0


@pytest.mark.parametrize("kernel", ["linear", "cubic", "lanczos3"])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_rescaled_integers_are_never_clipped_and_near(
    run: Run, tmp_path: Path, kernel: str, dtype: str, kind: type
) -> None:
    volume: Any = whole_numbers(9, 8, 7).astype(kind) * (1 if kind is np.uint8 else 3)
    volume[0, 0, 0], volume[4, 4, 4] = 0, 255
    source = save_nifti(tmp_path / "a.nii", volume, np.eye(4))
    options = ("--kernel", kernel, "--dtype", dtype, "--rescale", "--json")
    done = run("upsample", source, tmp_path / "b.nii", *options)
    assert done.code == 0, done.err
    assert run("upsample", source, tmp_path / "c.nii", "--kernel", kernel, "--dtype", "float64").code == 0
    facts = done.json["run"]
    slope = nibabel.load(tmp_path / "b.nii").dataobj.slope
    assert facts["clipped"] == 0
    assert 0 <= facts["headroom"] < 1
    assert np.abs(load(tmp_path / "b.nii") - load(tmp_path / "c.nii")).max() <= 0.51 * slope
    assert nibabel.load(tmp_path / "b.nii").get_data_dtype() == np.dtype(dtype)


@pytest.mark.parametrize("value", [0.0, 3.7, -2.5])
def test_a_volume_of_one_value_is_rescaled_too(run: Run, tmp_path: Path, value: float) -> None:
    source = save_nifti(tmp_path / "a.nii", np.full((4, 4, 4), value, np.float32), np.eye(4))
    assert run("upsample", source, tmp_path / "b.nii", "--rescale").code == 0
    np.testing.assert_allclose(load(tmp_path / "b.nii"), value, rtol=1e-6)


def test_floats_with_a_slope_keep_their_values(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", np.full((4, 4, 4), 3, np.float32), np.eye(4), scl_slope=2, scl_inter=1)
    assert run("upsample", source, tmp_path / "b.nii", "--kernel", "nearest").code == 0
    assert np.unique(load(tmp_path / "b.nii")).tolist() == [7]


def test_rescale_is_for_integers(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4), np.eye(4))
    done = run("upsample", source, tmp_path / "b.nii", "--dtype", "float32", "--rescale")
    assert (done.code, "rescale is for integers" in done.complaint) == (2, True)
    assert run("upsample", source, tmp_path / "b.nii", "--rescale").code == 0
    assert nibabel.load(tmp_path / "b.nii").get_data_dtype() == np.int16


@pytest.mark.parametrize("dtype", ["int16", "uint8"])
@pytest.mark.parametrize("least", [-500.0, 1000.0])
def test_nan_is_stored_as_what_is_nearest_to_nought(run: Run, tmp_path: Path, dtype: str, least: float) -> None:
    """Whatever the intercept: a background of NaN would else come out as the middle of the range."""
    volume = np.random.default_rng(0).uniform(least, 3000, (6, 7, 8)).astype(np.float32)
    volume[:3] = np.nan
    save_nifti(tmp_path / "a.nii", volume, np.eye(4))
    done = run("upsample", tmp_path / "a.nii", tmp_path / "b.nii", "--dtype", dtype, "--rescale", "--kernel", "nearest")
    assert done.code == 0, done.err
    made, slope = load(tmp_path / "b.nii"), done_slope(tmp_path / "b.nii")
    assert len(np.unique(made[:6])) == 1
    if least < 0:
        assert abs(made[0, 0, 0]) <= slope / 2
    else:
        assert made[0, 0, 0] <= made[6:].min()


def done_slope(path: Path) -> float:
    """The slope in a file's header."""
    return float(np.frombuffer(path.read_bytes()[112:116], "<f4")[0])


def test_arrays_have_the_same_rules() -> None:
    x = np.array([[[1.0, np.nan, 3.0]]], np.float32)
    assert np.isnan(conv3dt.upsample(x, scale=(1, 1, 2), kernel="nearest")).sum() == 2
    zeroed = conv3dt.upsample(x, scale=(1, 1, 2), kernel="nearest", nan="zero")
    np.testing.assert_array_equal(zeroed[0, 0], [1, 1, 0, 0, 3, 3])
    with pytest.raises(DataError, match=r"not a number|not finite|NaN"):
        conv3dt.upsample(x, scale=2, nan="error")
