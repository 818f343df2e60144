"""Does ``conv3dt compare`` say by how much two volumes differ, and where?  Against the definitions, in float64."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from conv3dt.compare import Comparison, compare_files, figures, pairs, structure
from conv3dt.compare import run as walks
from conv3dt.errors import ArgumentError, DataError
from conv3dt.io import files
from tests.conftest import Run, command, imported_by, save_nifti

Array = NDArray[np.float64]
FORMATS = ("nii", "nii.gz", "h5")
FIGURES = ("voxels", "left_out", "different", "mean_difference", "mae", "rmse", "data_range", "nrmse",
           "nrmse_euclidean", "psnr", "ssim", "ssim_windows", "pearson")  # fmt: skip


# --- definitions -----------------------------------------------------------------------------------------------------


def similarity(a: Array, b: Array, data_range: float) -> Array:
    """Wang et al. (2004), one index a window that lies inside, NaN where it holds one: three axes, all taps at once."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.einsum("i,j,k", taps, taps, taps)
    window /= window.sum()

    def mean(values: Array) -> Array:
        return np.asarray(np.einsum("xyzijk,ijk->xyz", sliding_window_view(values, (11, 11, 11)), window))

    means = mean(a), mean(b)
    variances = mean(a * a) - means[0] ** 2, mean(b * b) - means[1] ** 2
    covariance = mean(a * b) - means[0] * means[1]
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
    return np.asarray(top / ((means[0] ** 2 + means[1] ** 2 + c1) * (variances[0] + variances[1] + c2)))


def defined(a: Array, b: Array, data_range: float | None = None) -> dict[str, float | None]:
    """Every figure of two volumes of three axes, from its definition."""
    whole = np.isfinite(a) & np.isfinite(b)
    x, y = a[whole], b[whole]
    span = float(x.max() - x.min()) if data_range is None else data_range
    mse = float(np.mean((y - x) ** 2))
    found: dict[str, float | None] = {
        "voxels": x.size,
        "left_out": a.size - x.size,
        "mean_difference": float(np.mean(y - x)),
        "mae": float(np.mean(np.abs(y - x))),
        "rmse": math.sqrt(mse),
        "data_range": span,
        "nrmse": math.sqrt(mse) / span if span else None,
        "nrmse_euclidean": math.sqrt(mse) / math.sqrt(np.mean(x**2)) if x.any() else None,
        "psnr": math.inf if mse == 0 else 10 * math.log10(span**2 / mse) if span else None,
        "pearson": float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else None,
        "ssim": None,
        "ssim_windows": 0,
    }
    if min(a.shape) >= 11 and span:
        spoilt = np.where(whole, 0.0, np.nan)
        windows = similarity(a + spoilt, b + spoilt, span)
        if count := int(np.isfinite(windows).sum()):
            found |= {"ssim": float(np.nanmean(windows)), "ssim_windows": count}
    return found


def agrees(found: Comparison, truth: dict[str, float | None], rel: float = 1e-9) -> None:
    for name, value in truth.items():
        said = getattr(found, name)
        assert said == (value if value is None else pytest.approx(value, rel=rel, abs=1e-9)), name


# --- volumes ---------------------------------------------------------------------------------------------------------


def save(path: Path, array: NDArray[Any], affine: Array | None = None, **attributes: Any) -> str:
    """Write an array as the suffix says, axes as they are listed; return what the command calls it."""
    if path.suffix != ".h5":
        return str(save_nifti(path, array, affine))
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("data", data=array)
        for key, value in (({} if affine is None else {"affine": affine}) | attributes).items():
            dataset.attrs[key] = value
    return f"{path}:/data"


def noisy(*shape: int, seed: int = 0, noise: float = 5.0, dtype: Any = np.float32) -> tuple[NDArray[Any], NDArray[Any]]:
    """A volume with structure, and the same with noise."""
    rng = np.random.default_rng(seed)
    base = 100 + 50 * np.sin(np.indices(shape).sum(axis=0) / 3) + rng.normal(size=shape)
    return base.astype(dtype), (base + noise * rng.normal(size=shape)).astype(dtype)


def real(array: NDArray[Any]) -> Array:
    return array.astype(np.float64)


@pytest.fixture
def two(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Write two arrays as files; affines and attributes of the second by name."""

    def make(
        a: NDArray[Any], b: NDArray[Any], *, suffixes: tuple[str, str] = ("nii", "nii"), affine: Any = None,
        other: Any = None,
    ) -> tuple[str, str]:  # fmt: skip
        first = save(tmp_path / f"a.{suffixes[0]}", a, affine)
        return first, save(tmp_path / f"b.{suffixes[1]}", b, affine if other is None else other)

    return make


Two = Callable[..., tuple[str, str]]


# --- figures ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    types=st.tuples(*[st.sampled_from(["u1", "<i2", ">i2", "<u4", "<f4", ">f4", "<f8"])] * 2),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    offset=st.sampled_from([0, 100, -3]),
    seed=st.integers(0, 2**32 - 1),
    suffix=st.sampled_from(["nii", "nii.gz"]),
    data_range=st.sampled_from([None, None, 255.0]),
)
def test_figures_are_those_of_the_definitions(
    shape: tuple[int, int, int], types: tuple[str, str], scale: float, offset: int, seed: int, suffix: str,
    data_range: float | None,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    a, b = (
        np.clip(offset + scale * rng.normal(size=shape), 0 if "u" in kind else -120, 120).astype(kind) for kind in types
    )
    with TemporaryDirectory() as folder:
        first, second = save(Path(folder) / f"a.{suffix}", a), save(Path(folder) / "b.nii", b)
        found = compare_files(first, second, data_range=data_range)
    agrees(found, defined(real(a), real(b), data_range))
    apart = np.abs(real(b) - real(a))
    assert found.different == np.count_nonzero(apart)
    if found.largest is None:
        assert not apart.any()
    else:
        assert abs(found.largest.difference) == apart.max() == apart[found.largest.index]
        assert (found.largest.a, found.largest.b) == (a[found.largest.index], b[found.largest.index])
    assert found.values_a is not None
    assert (found.values_a.min, found.values_a.max) == (a.min(), a.max())
    assert found.values_a.mean == pytest.approx(real(a).mean(), abs=1e-9)
    assert found.values_a.std == pytest.approx(real(a).std(), abs=1e-9)


def test_figures_are_those_of_scikit_image(two: Two) -> None:
    """What version 0.26.0 says of these volumes; Gaussian weights, sigma 1.5, no sample covariance."""
    i, j, k = np.indices((13, 14, 15))
    a = (7 * i + 5 * j + 3 * k) % 32 + (i * j * k) % 11
    b = a + (i * i + 3 * j + k * k) % 9 - 4
    paths = two(a.astype(np.int16), b.astype(np.int16))
    found = compare_files(*paths)
    assert found.data_range == 41
    assert found.ssim == pytest.approx(0.9663686884627001, abs=1e-12)
    assert found.psnr == pytest.approx(24.08343887492455, abs=1e-12)
    assert found.nrmse_euclidean == pytest.approx(0.12014214705178212, abs=1e-12)
    assert found.nrmse == pytest.approx(0.06249252264532566, abs=1e-12)
    assert compare_files(*paths, data_range=255).ssim == pytest.approx(0.9740419223300909, abs=1e-12)


def test_a_large_offset_costs_no_digits(two: Two) -> None:
    a, b = (real(each) for each in noisy(13, 12, 14, dtype=np.float64))
    near = compare_files(*two(a, b))
    far = compare_files(*two(a + 2.0**40, b + 2.0**40))
    assert near.ssim is not None
    assert far.pearson == pytest.approx(near.pearson, abs=1e-6)
    assert far.rmse == pytest.approx(near.rmse, rel=1e-4)
    # Seen from so far all means are alike: what is left is contrast and structure.
    with np.errstate(all="ignore"):
        span = float(np.ptp(a))
        alone = similarity(a - 100, b - 100, span) / _luminance(a - 100, b - 100, span)
    assert far.ssim == pytest.approx(alone.mean(), abs=1e-4)


def _luminance(a: Array, b: Array, data_range: float) -> Array:
    """The part of the index that compares means: that of volumes without contrast would be it alone."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.einsum("i,j,k", taps, taps, taps)
    window /= window.sum()
    first, second = (np.einsum("xyzijk,ijk->xyz", sliding_window_view(each, (11, 11, 11)), window) for each in (a, b))
    c1 = (0.01 * data_range) ** 2
    return np.asarray((2 * first * second + c1) / (first**2 + second**2 + c1))


@pytest.mark.parametrize("slab", [1, 3, 1000])
@pytest.mark.parametrize("data_range", [None, 200.0])
@pytest.mark.parametrize("suffix", FORMATS)
def test_pieces_and_threads_change_nothing(
    two: Two, monkeypatch: pytest.MonkeyPatch, suffix: str, data_range: float | None, slab: int
) -> None:
    a, b = noisy(14, 13, 17)
    b[3, 4, 5] = np.nan
    paths = two(a, b, suffixes=(suffix, suffix))
    whole = compare_files(*paths, data_range=data_range)
    agrees(whole, defined(real(a), real(b), data_range))
    monkeypatch.setattr(pairs, "SLAB_BYTES", slab * 14 * 13 * 8)
    monkeypatch.setattr(figures, "PIECE", 50)
    monkeypatch.setattr(structure, "MOST_PLANES", 2)
    monkeypatch.setattr(structure, "LEAST_ROWS", 1)
    monkeypatch.setattr(structure, "PIECE_BYTES", 1)
    monkeypatch.setattr(walks, "_threads", lambda: 3)
    found = compare_files(*paths, data_range=data_range)
    agrees(found, {name: getattr(whole, name) for name in FIGURES}, rel=1e-12)
    assert (found.largest, found.not_finite) == (whole.largest, whole.not_finite)


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_formats_each_with_each(two: Two, first: str, second: str) -> None:
    a, b = noisy(12, 13, 14)
    found = compare_files(*two(a, b, suffixes=(first, second)))
    agrees(found, defined(real(a), real(b)))
    assert not found.identical
    again = compare_files(*two(a, a, suffixes=(first, second)))
    assert (again.identical, again.psnr, again.ssim, again.same) == (True, math.inf, 1, True)


def test_stored_numbers_become_real_ones(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    a = save_nifti(tmp_path / "a.nii", stored, scl_slope=0.5, scl_inter=-3)
    b = save(tmp_path / "b.h5", stored * 0.5 - 3)
    found = compare_files(a, b)
    assert (found.different, found.identical, found.same) == (0, False, True)
    c = save_nifti(tmp_path / "c.nii", stored, scl_slope=2)
    other = compare_files(a, c)
    assert other.largest is not None
    assert (other.largest.a, other.largest.b, other.largest.index) == (8.5, 46, (1, 2, 3))
    assert any("different slopes (0.5, 2)" in text for text in other.warnings)


# --- where, and which axis is which ----------------------------------------------------------------------------------


def test_the_largest_difference_is_where_it_is(tmp_path: Path, run: Run) -> None:
    a = np.zeros((4, 5, 6, 3), np.float32)
    b = a.copy()
    b[1, 2, 3, 2] = -7
    affine = np.array([[0, -2.0, 0, 10], [3, 0, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])
    save_nifti(tmp_path / "a.nii.gz", a, affine, xyzt_units=2)
    save_nifti(tmp_path / "b.nii", b, affine, xyzt_units=2)
    found = run("compare", tmp_path / "a.nii.gz", tmp_path / "b.nii", "--json").json["largest"]
    assert found["index"] == [1, 2, 3, 2]
    assert (found["difference"], found["a"], found["b"]) == (-7, 0, -7)
    assert found["world"] == pytest.approx((affine @ [1, 2, 3, 1])[:3].tolist())
    assert found["unit"] == "mm"


ORDERS = [
    ("ijk", "zyx"), ("ijk", "yxz"), ("ijkt", "tzyx"), ("ijkt", "zyxc"), ("ijkt", "czyx"), ("ijktu", "zuyxt"),
]  # fmt: skip


@pytest.mark.parametrize(("listed", "other"), ORDERS, ids=["=".join(pair) for pair in ORDERS])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("turned", [False, True], ids=["nifti-hdf5", "hdf5-nifti"])
def test_axes_belong_together_by_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, other: str, suffix: str, turned: bool
) -> None:
    shape = dict(zip("ijktu", (11, 12, 13, 2, 3), strict=True))
    a, b = noisy(*(shape[letter] for letter in listed))
    a[(3, 2, 1, *(1,) * (len(listed) - 3))] = 1e4
    renamed = other.translate(str.maketrans("xyzc", "ijkt"))
    order = [listed.index(letter) for letter in renamed]
    monkeypatch.setattr(pairs, "SLAB_BYTES", 5000)
    paths = [save(tmp_path / f"a.{suffix}", a), save(tmp_path / "b.h5", b.transpose(order), axes=other)]
    found = compare_files(*(reversed(paths) if turned else paths))
    n = a.size
    assert found.mae == pytest.approx(np.abs(real(a) - b).sum() / n)
    assert found.largest is not None
    place = [3, 2, 1, 1, 1]
    assert found.largest.index == tuple(place["ijktu".index(letter)] for letter in (renamed if turned else listed))
    named = zip(other, renamed, strict=True) if turned else zip(listed, _of(other), strict=True)
    assert dict(found.axes) == dict(named)
    space = a.reshape(*a.shape[:3], -1), b.reshape(*b.shape[:3], -1)
    span = float(np.ptp(b if turned else a))
    windows = [similarity(real(space[0][..., n]), real(space[1][..., n]), span) for n in range(space[0].shape[3])]
    assert found.ssim == pytest.approx(np.mean(windows), abs=1e-9)


def _of(other: str) -> list[str]:
    """The letters of B in the order of those of A that they belong to."""
    renamed = other.translate(str.maketrans("xyzc", "ijkt"))
    return [other[renamed.index(letter)] for letter in "ijktu"[: len(other)]]


def test_axes_without_names_go_by_their_order_and_can_be_named(run: Run, tmp_path: Path) -> None:
    a = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    first, second = save(tmp_path / "a.nii", a), save(tmp_path / "b.h5", a)
    assert run("compare", first, second, "--strict").code == 0
    third = save(tmp_path / "c.h5", a.T)
    refused = run("compare", first, third, "--strict")
    assert refused.code == 65
    assert f"{first} is 2x3x4 (ijk), {third} is 4x3x2 (012)" in refused.complaint
    assert "--axes-b" in refused.complaint
    assert run("compare", first, third, "--axes-b", "zyx", "--strict").code == 0
    assert run("compare", third, second, "--axes", "zyx", "--axes-b", "xyz", "--strict").code == 0
    assert run("compare", first, third, "--axes-b", "zy").code == 2


def test_further_axes_of_one_voxel_need_no_partner(tmp_path: Path) -> None:
    a, b = noisy(4, 5, 6)
    first = save(tmp_path / "a.nii", a[..., None])
    second = save(tmp_path / "b.h5", b[None, :, None], axes="txcyz")
    found = compare_files(first, second)
    agrees(found, defined(real(a), real(b)))
    assert found.largest is not None
    assert len(found.largest.index) == 4


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 4, 5, 2), (5, 4, 3), (3, 4, 5, 1, 2)])
def test_shapes_that_do_not_agree_are_refused(run: Run, tmp_path: Path, shape: tuple[int, ...]) -> None:
    a, b = save(tmp_path / "a.nii", np.zeros((3, 4, 5))), save(tmp_path / "b.nii", np.zeros(shape))
    refused = run("compare", a, b)
    assert refused.code == 65
    assert a in refused.complaint
    assert f"{b} is {'x'.join(map(str, shape))}" in refused.complaint


# --- what is the same ------------------------------------------------------------------------------------------------


def test_identical_means_the_same_bits(two: Two, tmp_path: Path) -> None:
    a = np.array([[[0.0, 1.5, np.nan, -np.inf]]], np.float32)
    assert compare_files(*two(a, a)).identical
    assert compare_files(*two(a, a.astype(">f4"), suffixes=("nii", "h5"))).identical
    for other in (a.astype(np.float64), np.array([[[-0.0, 1.5, np.nan, -np.inf]]], np.float32)):
        found = compare_files(*two(a, other))
        assert (found.identical, found.different, found.same) == (False, 0, True)
    quiet = a.view(np.uint32).copy()
    quiet[0, 0, 2] += 1  # another NaN
    found = compare_files(*two(a, quiet.view(np.float32)))
    assert (found.identical, found.different, found.same) == (False, 0, True)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_whole_numbers_of_64_bits_differ_though_no_float_says_so(run: Run, two: Two, dtype: Any) -> None:
    a = np.full((2, 3, 4), 2**60, dtype)
    b = a.copy()
    b[1, 1, 1] += 1
    found = compare_files(*two(a, b))
    assert (found.different, found.identical, found.same, found.rmse) == (1, False, False, 0)
    assert any("beyond 2^53" in text for text in found.warnings)
    assert compare_files(*two(a, a)).same


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--strict",), 1),
        (("--tolerance", "0.49"), 1),
        (("--tolerance", "0.5"), 0),
        (("--tolerance", "0"), 1),
        (("--strict", "--tolerance", "1"), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.parametrize("form", [(), ("--json",), ("-q",)], ids=["table", "json", "quiet"])
def test_the_exit_code_tells(run: Run, two: Two, options: tuple[str, ...], code: int, form: tuple[str, ...]) -> None:
    a = np.zeros((3, 4, 5), np.float32)
    b = a.copy()
    b[0, 0, 0] = -0.5
    done = run("compare", *two(a, b), *options, *form)
    assert (done.code, done.err) == (code, "")
    assert (done.out == "") == (form == ("-q",))
    if form == ("--json",) and options:
        assert done.json["same"] == (code == 0)
    if not form and options:
        assert f"verdict       {'same' if code == 0 else 'different'}" in done.out


def test_grids_that_differ_are_no_pass(run: Run, two: Two) -> None:
    a = np.zeros((3, 4, 5), np.float32)
    moved = np.eye(4)
    moved[0, 3] = 0.01
    paths = two(a, a, affine=np.eye(4), other=moved)
    assert run("compare", *paths).code == 0
    assert run("compare", *paths, "--strict").code == 1
    assert run("compare", *paths, "--tolerance", "1e9").code == 1
    assert run("compare", *two(a, a, affine=np.eye(4)), "--strict").code == 0


# --- numbers that are none -------------------------------------------------------------------------------------------


def test_what_is_not_finite_is_counted_and_left_out(two: Two) -> None:
    a, b = noisy(16, 15, 14)
    a[0, 0, 0] = b[0, 0, 0] = np.nan  # alike
    a[15, 1, 2] = b[15, 1, 2] = -np.inf  # alike
    a[1, 13, 13] = np.inf
    b[14, 14, 13] = np.nan
    found = compare_files(*two(a, b))
    agrees(found, defined(real(a), real(b)))
    assert found.ssim_windows == 6 * 5 * 4 - (1 + 6 + 4 + 2)  # windows that hold each
    assert (found.left_out, found.not_finite.a, found.not_finite.b, found.not_finite.unlike) == (4, 3, 3, 2)
    assert found.different == 16 * 15 * 14 - 4 + 2
    assert found.not_finite.index == (1, 13, 13)
    assert any("4 voxels are NaN or infinite" in text for text in found.warnings)


def test_only_nan_that_is_alike_passes(run: Run, two: Two) -> None:
    a = np.full((3, 4, 5), np.nan, np.float32)
    assert run("compare", *two(a, a), "--strict").code == 0
    b = a.copy()
    b[2, 1, 0] = np.inf
    done = run("compare", *two(a, b), "--tolerance", "1e30", "--json")
    assert (done.code, done.json["not_finite"]) == (1, {"a": 60, "b": 60, "unlike": 1, "index": [2, 1, 0]})
    assert done.json["undefined"]["psnr"] == "no voxel is finite in both volumes"
    assert (done.json["rmse"], done.json["ssim"], done.json["values_a"]) == (None, None, None)


def test_each_window_spoilt(two: Two) -> None:
    a, b = noisy(11, 12, 13)
    a[5, 5, 5] = np.nan
    found = compare_files(*two(a, b))
    assert (found.ssim, found.ssim_windows) == (None, 0)
    assert found.undefined["ssim"] == "every window holds a voxel that is not finite"


@pytest.mark.parametrize(
    ("fill_a", "fill_b", "psnr", "missing"),
    [
        (3, 3, math.inf, {"nrmse", "pearson", "psnr", "ssim"}),
        (3, 4, None, {"nrmse", "pearson", "psnr", "ssim"}),
        (0, 1, None, {"nrmse", "nrmse_euclidean", "pearson", "psnr", "ssim"}),
        (0.1, 0.1, math.inf, {"nrmse", "pearson", "psnr", "ssim"}),
    ],
)
def test_a_constant_has_no_range(two: Two, fill_a: float, fill_b: float, psnr: float | None, missing: set[str]) -> None:
    a, b = (np.full((12, 12, 13), fill, np.float32) for fill in (fill_a, fill_b))
    found = compare_files(*two(a, b))
    assert found.psnr == psnr
    assert set(found.undefined) == missing
    assert found.values_a is not None
    assert found.values_a.std == 0
    given = compare_files(*two(a, b), data_range=10.0)
    assert given.ssim is not None
    assert given.psnr == pytest.approx(math.inf if fill_a == fill_b else 20.0)


def test_one_voxel(two: Two) -> None:
    found = compare_files(*two(np.ones((1, 1, 1)), np.full((1, 1, 1), 3.0)))
    assert (found.mae, found.rmse, found.psnr) == (2, 2, None)
    assert found.largest is not None
    assert found.largest.index == (0, 0, 0)


@pytest.mark.parametrize("shape", [(10, 20, 20), (20, 20, 1), (11, 11, 11)])
def test_a_volume_smaller_than_the_window_has_no_similarity(run: Run, two: Two, shape: tuple[int, ...]) -> None:
    done = run("compare", *two(*noisy(*shape)), "--json").json
    assert (done["ssim"] is None) == (min(shape) < 11)
    if min(shape) < 11:
        assert "smaller than the window of 11" in done["undefined"]["ssim"]
        assert done["psnr"] is not None


def test_what_no_float_holds_is_said(run: Run, two: Two) -> None:
    a, b = noisy(12, 12, 12, dtype=np.float64)
    a[0, 0, 0], b[0, 0, 0] = 1e308, -1e308
    done = run("compare", *two(a, b), "--json")
    assert done.code == 0
    assert done.json["undefined"]["rmse"] == "beyond what float64 holds"
    assert done.json["rmse"] is None
    assert done.json["largest"]["index"] == [0, 0, 0]
    assert run("compare", *two(a, b), "--strict").code == 1


# --- grids -----------------------------------------------------------------------------------------------------------


def grid_of(run: Run, paths: tuple[str, str]) -> Any:
    done = run("compare", *paths, "--json")
    assert done.code == 0
    assert (done.json["grid"]["match"] is False) == any("grids differ" in text for text in done.json["warnings"])
    return done.json["grid"]


SIZE = (6, 8, 10)
PLACE = np.array([[-2.0, 0, 0, 90], [0, 3, 0, -60], [0, 0, 4, 12], [0, 0, 0, 1]])


def changed(linear: Any, shift: Any = (0, 0, 0)) -> Array:
    """The place of a grid whose indices ``j`` are at ``linear @ j + shift`` of ours."""
    change = np.eye(4)
    change[:3, :3], change[:3, 3] = linear, shift
    return np.asarray(PLACE @ change)


def turn(angle: float) -> Array:
    """A turn about the third axis of the world by so many degrees."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


CASES: list[tuple[str, Array, tuple[str, ...]]] = [
    ("half a voxel", changed(np.eye(3), (0.5, 0, -0.25)),
     ("axis i: B begins +0.5 voxels (+1 mm) off, at most 0.5 voxels",
      "axis k: B begins -0.25 voxels (-1 mm) off, at most 0.25 voxels")),
    ("finer", changed(np.diag([1, 0.5, 1])),
     ("axis j: voxel size 3 in A, 1.5 in B mm", "axis j: B begins +0 voxels (+0 mm) off, at most 3.5 voxels")),
    ("flipped", changed(np.diag([-1, 1, 1]), (5, 0, 0)),
     ("axis i: B runs backwards along i (flipped)", "B has the same places in another order of voxels")),
    ("flipped and shifted", changed(np.diag([-1, 1, 1]), (6, 0, 0)), ("axis i: B runs backwards along i (flipped)",)),
    ("swapped", changed(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])),
     ("axis i: B runs along j", "axis i: voxel size 2 in A, 3 in B mm",
      "axis j: B runs along i", "axis j: voxel size 3 in A, 2 in B mm",
      "B has the same places in another order of voxels")),
    ("turned", turn(10) @ PLACE, ("axis i: B is turned by 10 degrees", "axis j: B is turned by 10 degrees")),
]  # fmt: skip


@pytest.mark.parametrize(("other", "texts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_grids_that_do_not_match_are_named(run: Run, tmp_path: Path, other: Array, texts: tuple[str, ...]) -> None:
    paths = [str(save_nifti(tmp_path / f"{n}.nii", np.zeros(SIZE, np.uint8), place, xyzt_units=2))
             for n, place in enumerate((PLACE, other))]  # fmt: skip
    grid = grid_of(run, (paths[0], paths[1]))
    assert grid["match"] is False
    assert set(texts) <= set(grid["mismatches"])
    corners = np.array([[i, j, k, 1] for i in (0, 5) for j in (0, 7) for k in (0, 9)]).T
    apart = (np.linalg.inv(PLACE) @ other @ corners - corners)[:3]
    assert grid["most_voxels"] == pytest.approx(np.abs(apart).max(), abs=1e-4)
    assert grid["most"] == pytest.approx(np.linalg.norm(((other - PLACE) @ corners)[:3], axis=0).max(), abs=1e-3)
    assert [axis["shift_voxels"] for axis in grid["axes"]] == pytest.approx(apart[:, 0], abs=1e-4)
    assert [axis["most_voxels"] for axis in grid["axes"]] == pytest.approx(np.abs(apart).max(axis=1), abs=1e-4)
    assert grid["reordered"] == ("B has the same places in another order of voxels" in grid["mismatches"])
    table = run("compare", *paths).out
    for text in grid["mismatches"]:
        assert f"grid          {text}\n" in table


def test_a_grid_is_the_same_in_any_order_of_axes_and_unit(run: Run, tmp_path: Path) -> None:
    volume = np.zeros(SIZE, np.uint8)
    first = str(save_nifti(tmp_path / "a.nii", volume, PLACE, xyzt_units=2))
    turned = save(tmp_path / "b.h5", volume.T, PLACE[:, [2, 1, 0, 3]], axes="zyx")
    small = str(save_nifti(tmp_path / "c.nii", volume, np.diag([1000.0, 1000, 1000, 1]) @ PLACE, xyzt_units=3))
    for other in (turned, small):
        grid = grid_of(run, (first, other))
        assert (grid["match"], grid["unit"], grid["mismatches"]) == (True, "mm", [])
        assert [axis["size_b"] for axis in grid["axes"]] == pytest.approx([2, 3, 4])
    assert grid_of(run, (first, turned))["orientation_b"] == "SAL"


def test_the_rounding_of_headers_is_no_mismatch(run: Run, tmp_path: Path) -> None:
    """The same place as an sform in float32 and as the quaternion of a qform."""
    place = turn(33) @ np.array([[0, 0, 0.7, -90], [0.9, 0, 0, -126], [0, 0.8, 0, -72], [0, 0, 0, 1]])
    volume = np.zeros((200, 200, 200), np.uint8)
    a = save_nifti(tmp_path / "a.nii", volume, place, qform_code=0)
    b = save_nifti(tmp_path / "b.nii", volume, place, sform_code=0)
    assert grid_of(run, (str(a), str(b)))["match"] is True


def test_what_no_file_says_is_no_mismatch(run: Run, tmp_path: Path) -> None:
    volume = np.zeros(SIZE, np.uint8)
    placed = str(save_nifti(tmp_path / "a.nii", volume, PLACE))
    sizes = str(save_nifti(tmp_path / "b.nii", volume, pixdim=[1, 2, 3, 4, 0, 0, 0, 0]))
    others = str(save_nifti(tmp_path / "c.nii", volume, pixdim=[1, 2, 3, 5, 0, 0, 0, 0]))
    bare = save(tmp_path / "d.h5", volume)
    for other in (sizes, bare):
        grid = grid_of(run, (placed, other))
        assert (grid["match"], grid["note"]) == (None, "B does not say where its voxels lie")
        assert run("compare", placed, other, "--strict").code == 0
    assert grid_of(run, (bare, bare))["note"] == "neither file says where its voxels lie"
    grid = grid_of(run, (placed, others))
    assert (grid["match"], grid["mismatches"]) == (False, ["axis k: voxel size 4 in A, 5 in B"])


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_a_matrix_that_says_no_place(run: Run, tmp_path: Path, bad: float) -> None:
    volume = np.zeros(SIZE, np.uint8)
    a = save_nifti(tmp_path / "a.nii", volume, PLACE)
    b = save_nifti(tmp_path / "b.nii", volume, PLACE, srow_x=[bad] * 4)
    for paths in ((a, b), (b, a)):
        grid = grid_of(run, (str(paths[0]), str(paths[1])))
        assert grid["match"] is None
        assert "singular" in grid["note"]


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("names", [(0, 1, 2, 5), (-7, 0, 3, 70_000)], ids=["near", "far"])
def test_labels_overlap_as_dice_says(run: Run, two: Two, names: tuple[int, ...], dtype: Any) -> None:
    if dtype == np.uint8:
        names = tuple(abs(name) % 256 for name in names)
    rng = np.random.default_rng(1)
    a, b = (rng.choice(names[:3], (9, 8, 7)).astype(dtype) for _ in range(2))
    b[0, 0, 0] = names[3]
    done = run("compare", *two(a, b), "--labels", "--json").json
    assert [each["label"] for each in done["labels"]] == sorted(names)
    for each in done["labels"]:
        of_a, of_b = a == each["label"], b == each["label"]
        both = int((of_a & of_b).sum())
        assert (each["a"], each["b"], each["both"]) == (of_a.sum(), of_b.sum(), both)
        assert each["dice"] == pytest.approx(2 * both / (of_a.sum() + of_b.sum()))
    coefficients = [each["dice"] for each in done["labels"] if each["label"]]
    assert done["dice"] == pytest.approx(np.mean(coefficients))
    assert "label 0       dice" in run("compare", *two(a, b), "--labels").out


def test_without_labels_none_are_counted(run: Run, two: Two) -> None:
    a = np.zeros((3, 4, 5), np.uint8)
    assert run("compare", *two(a, a), "--json").json["labels"] is None
    assert run("compare", *two(a, a), "--labels", "--json").json["undefined"]["dice"] == "there is no label but 0"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.linspace(0, 1, 60), " is no label"),
        (np.arange(0, 1001 * 60, 1001.0).repeat(20), ""),
        (np.arange(1200.0), "more than 1000 different numbers"),
        (np.array([1e300] * 60), "1e+300 is no label"),
    ],
    ids=["fractions", "few", "many", "large"],
)
def test_labels_that_are_none(run: Run, two: Two, values: Array, text: str) -> None:
    paths = two(*[values.reshape(3, 4, -1)] * 2)
    done = run("compare", *paths, "--labels")
    assert done.code == (65 if text else 0)
    if text:
        assert text in done.complaint


# --- bad input -------------------------------------------------------------------------------------------------------


def damaged(path: Path, how: str) -> str:
    raw = bytearray(path.read_bytes())
    if how == "cut":
        raw = raw[: len(raw) // 2]
    elif how == "checksum":
        raw[-6] ^= 1
    else:
        raw[len(raw) // 2 : len(raw) // 2 + 64] = b"\xff" * 64
    path.write_bytes(raw)
    return str(path)


@pytest.mark.parametrize("how", ["cut", "checksum", "inside"])
@pytest.mark.parametrize("which", [0, 1], ids=["a", "b"])
@pytest.mark.parametrize("options", [(), ("--data-range", "255")], ids=["", "one walk"])
def test_a_damaged_stream_is_one_line(run: Run, tmp_path: Path, how: str, which: int, options: tuple[str, ...]) -> None:
    a = np.random.default_rng(0).integers(0, 255, (30, 31, 32), np.uint8)
    bad = damaged(save_nifti(tmp_path / "bad.nii.gz", a), how)
    paths = [bad, save(tmp_path / "good.nii.gz", a)]
    done = run("compare", *(paths if which == 0 else paths[::-1]), *options)
    assert done.code == 65
    assert bad in done.complaint
    assert "unexpected" not in done.complaint


def test_a_damaged_chunk_is_one_line(run: Run, tmp_path: Path) -> None:
    a = np.random.default_rng(0).integers(0, 99, (40, 40, 40)).astype(np.int16)
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        chunk = file.create_dataset("data", data=a, chunks=(20, 20, 20), compression="gzip").id.get_chunk_info(3)
    with (tmp_path / "bad.h5").open("r+b") as file:
        file.seek(chunk.byte_offset + 100)
        file.write(b"\xff" * 200)
    done = run("compare", save(tmp_path / "a.nii", a), tmp_path / "bad.h5")
    assert done.code == 65
    assert "damaged" in done.complaint


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--data-range", "0"), "data_range must be a finite number above 0"),
        (("--data-range", "nan"), "data_range must be a finite number above 0"),
        (("--data-range", "inf"), "data_range must be a finite number above 0"),
        (("--tolerance", "-1"), "tolerance must be a finite number of at least 0"),
        (("--tolerance", "nan"), "tolerance must be a finite number of at least 0"),
        (("--tolerance", "much"), "'much' is not a valid float"),
        (("--axes", "abc"), "axes must name each of 3 axes once"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_arguments_that_cannot_be(run: Run, two: Two, options: tuple[str, ...], text: str) -> None:
    done = run("compare", *two(*noisy(3, 4, 5)), *options)
    assert done.code == 2
    assert text in done.complaint


def test_files_that_are_not_there(run: Run, two: Two, tmp_path: Path) -> None:
    a, _ = two(*noisy(3, 4, 5))
    assert run("compare", a, tmp_path / "nowhere.nii").code == 66
    assert run("compare", tmp_path / "nowhere.nii", a).code == 66
    assert run("compare", a).code == 2


def test_planes_that_do_not_fit_are_refused_before_they_are_read(run: Run, tmp_path: Path) -> None:
    """A dataset of nothing but its shape: no file would have to be large for it."""
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("data", (3, 300_000, 300_000), np.float64, chunks=(1, 1000, 1000))
    done = run("compare", tmp_path / "a.h5", tmp_path / "b.h5")
    assert done.code == 75
    assert "a plane of" in done.complaint


def test_large_planes_are_compared_without_similarity(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = two(*noisy(14, 13, 12))
    monkeypatch.setattr(walks, "memory_bytes", lambda pair, threads: 2**60)
    found = compare_files(*paths)
    assert found.ssim is None
    assert found.undefined["ssim"] == "11 planes at a time do not fit into memory"
    assert found.psnr is not None


def test_the_library_refuses_likewise(two: Two) -> None:
    paths = two(*noisy(3, 4, 5))
    with pytest.raises(ArgumentError, match="tolerance must be"):
        compare_files(*paths, tolerance=-1)
    with pytest.raises(DataError, match="is no label"):
        compare_files(*paths, labels=True)
    with pytest.raises(ArgumentError, match="only one of the volumes can come from standard input"):
        compare_files("-", "-")


# --- how it is done --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("same", "data_range", "times"), [(False, None, 2), (False, 255.0, 1), (True, None, 1), (True, 255.0, 1)]
)
def test_a_stream_is_unpacked_no_more_often_than_needed(
    two: Two, monkeypatch: pytest.MonkeyPatch, same: bool, data_range: float | None, times: int
) -> None:
    a, b = noisy(12, 13, 14)
    paths = two(a, a if same else b, suffixes=("nii.gz", "nii.gz"))
    opened: list[tuple[str, bool]] = []
    open_source = files.open_source

    def counted(info: Any, *, threads: int, in_order: bool) -> Any:
        opened.append((info.path, in_order))
        return open_source(info, threads=threads, in_order=in_order)

    monkeypatch.setattr(walks, "open_source", counted)
    found = compare_files(*paths, data_range=data_range)
    assert sorted(opened) == sorted([(path, True) for path in paths] * times)
    agrees(found, defined(real(a), real(a if same else b), data_range))


def test_progress_ends_with_all_voxels(two: Two) -> None:
    for data_range, total in ((None, 2), (1.0, 1)):
        told: list[int] = []
        totals: list[int] = []

        def start(count: int, totals: list[int] = totals, told: list[int] = told) -> Callable[[int], None]:
            totals.append(count)
            return told.append

        compare_files(*two(*noisy(12, 13, 14)), start=start, data_range=data_range)
        assert totals == [total * 12 * 13 * 14]
        assert told == sorted(told)
        assert told[-1] == totals[0]


PEAK = """
import sys
from conv3dt.compare import compare_files, pairs
from conv3dt.resources import peak
pairs.SLAB_BYTES = int(sys.argv.pop(1))
found = compare_files(*sys.argv[1:])
assert found.ssim is not None
print(peak())
"""


def peak(folder: Path, planes: int, slab: int) -> int:
    """The bytes that a process held at the most to compare two streams of so many planes, ``slab`` bytes at a time."""
    volume = np.arange(128.0 * 128 * planes).reshape(128, 128, planes) % 251
    paths = []
    for name, values in (("a", volume), ("b", volume + 1)):
        raw = save_nifti(folder / f"{name}.nii", values).read_bytes()
        (folder / f"{name}.nii.gz").write_bytes(isal_zlib.compress(raw, wbits=31))
        paths.append(str(folder / f"{name}.nii.gz"))
    done = subprocess.run([sys.executable, "-c", PEAK, str(slab), *paths], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_memory_follows_the_slab_and_not_the_length_of_a_stream(tmp_path: Path) -> None:
    short, long = (peak(tmp_path, planes, slab=2**21) for planes in (100, 480))
    assert long <= 1.2 * short  # the longer ones hold 100 MB more
    assert peak(tmp_path, 480, slab=2**30) > 1.3 * long  # what is measured does follow what is held


def test_neither_torch_nor_tables_are_needed(sample: Path) -> None:
    head = sample / "head.nii.gz"
    assert not imported_by("compare", head, head, "--json") & {"torch", "llvmlite", "h5py", "rich"}
    series = imported_by("compare", head, head, "--data-range", "255")
    assert "llvmlite" in series  # the windows of the similarity
    assert "torch" not in series


def test_a_volume_can_come_through_a_pipe(two: Two) -> None:
    a, b = noisy(12, 13, 14)
    paths = two(a, b, suffixes=("nii", "nii.gz"))
    for arguments, expected in (((), None), (("--data-range", "200"), defined(real(a), real(b), 200.0)["ssim"])):
        done = subprocess.run(
            command("compare", paths[0], "-", "--json", *arguments), input=Path(paths[1]).read_bytes(),
            capture_output=True, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert found["mae"] == pytest.approx(defined(real(a), real(b))["mae"])
        assert found["ssim"] == (expected if expected is None else pytest.approx(expected))
        assert ("ssim" in found["undefined"]) == (expected is None)


# --- what is printed -------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_json_says(run: Run, two: Two) -> None:
    a, b = noisy(12, 13, 14)
    b[0, 2, 0] = np.nan
    paths = two(a, b, affine=PLACE)
    facts, table = run("compare", *paths, "--json").json, run("compare", *paths)
    assert (table.code, table.err) == (0, "")
    rows = {line[:14].strip(): line[14:] for line in table.out.splitlines() if line[:14].strip()}
    assert rows["a"] == f"{paths[0]}  12x13x14 (ijk) float32"
    assert rows["grid"] == "the same"
    unlike = "1 of them unlike, the first at [0, 2, 0]"
    assert rows["voxels"] == f"2183 compared, 1 left out (0 not finite in A, 1 in B, {unlike})"
    assert rows["identical"].startswith("no: 2184 voxels differ (100 %)")
    top = facts["largest"]
    assert rows["largest"].startswith(f"{top['difference']:+.6g} at {top['index']}, (")
    for name, form in (("mae", "{:.6g}"), ("rmse", "{:.6g}"), ("psnr", "{:.4f} dB"), ("pearson", "{:.8g}")):
        assert rows[name] == form.format(facts[name])
    assert rows["ssim"] == f"{facts['ssim']:.6f} over {facts['ssim_windows']} windows"
    assert rows["nrmse"] == f"{facts['nrmse']:.6g} of the data range {facts['data_range']:.6g} (A)"
    assert rows["warning"] == facts["warnings"][0]


def test_what_has_no_number_is_null_and_says_why(run: Run, sample: Path) -> None:
    head = sample / "head.nii.gz"
    done = run("compare", head, head, "--json").json
    assert (done["psnr"], done["ssim"], done["identical"], done["largest"]) == (None, 1, True, None)
    assert done["undefined"] == {"psnr": "infinite: the mean square difference is 0"}
    assert "psnr          infinite: " in run("compare", head, head).out


def test_the_json_holds_every_fact(run: Run, two: Two) -> None:
    found = run("compare", *two(*noisy(3, 4, 5)), "--json").json
    assert set(found) == set(Comparison.__dataclass_fields__)
    assert found["a"]["shape"] == [3, 4, 5]
    assert found["axes"] == [["i", "i"], ["j", "j"], ["k", "k"]]


def test_upsampling_by_two_engines_is_the_same_to_rounding(run: Run, tmp_path: Path, sample: Path) -> None:
    for name, dtype in (("a.nii.gz", "float32"), ("b.h5", "float64")):
        assert run("upsample", sample / "head.nii.gz", tmp_path / name, "--dtype", dtype, "-q").code == 0
    done = run("compare", tmp_path / "a.nii.gz", tmp_path / "b.h5", "--tolerance", "1e-3", "--json")
    assert (done.code, done.json["same"], done.json["grid"]["match"]) == (0, True, True)
    assert run("compare", sample / "head.nii.gz", tmp_path / "a.nii.gz").code == 65
