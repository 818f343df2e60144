"""Does a NIfTI file come out with the right voxels, in the right place, and with all else that it said?"""

from __future__ import annotations

import gzip
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from tests.conftest import Run, listing, load, save_nifti, transposed, whole_numbers

RECOMPUTED = {
    "dim", "pixdim", "srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z", "datatype", "bitpix",
    "scl_slope", "scl_inter", "vox_offset",
}  # fmt: skip
"""The only fields that depend on the grid or the type of the output."""

SLICES: dict[str, Any] = {
    "slice_code": 3, "slice_start": 0, "slice_end": 4, "slice_duration": 0.06, "dim_info": 0b111001,
}  # fmt: skip
"""Slices along the third axis; the first is frequency, the second phase."""


def oblique(*, flip: bool = False, tilt: float = 0.3) -> NDArray[np.float64]:
    """A rigid matrix with voxels of 2 x 1.5 x 4 mm; ``flip`` makes it left-handed."""
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(z=tilt, y=0.2, x=-0.4) @ np.diag([-2.0 if flip else 2.0, 1.5, 4.0])
    affine[:3, 3] = (-30.5, 12.25, 7.0)
    return affine


def corners(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The eight outermost points of a volume in the world: half a voxel beyond the centres of the corner voxels."""
    ends = [(-0.5, n - 0.5) for n in shape[:3]]
    return np.array([matrix @ (*point, 1.0) for point in product(*ends)])


def header_of(path: Path) -> Any:
    return nibabel.load(path).header


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", ["2", "2,3,1"])
@pytest.mark.parametrize("kernel", ["linear", "cubic"])
def test_sform_and_qform_keep_the_outer_faces(run: Run, tmp_path: Path, flip: bool, scale: str, kernel: str) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(7, 6, 5), oblique(flip=flip))
    target = tmp_path / "out.nii"
    assert run("upsample", source, target, "--scale", scale, "--kernel", kernel).code == 0
    old, new = header_of(source), header_of(target)
    assert float(new["pixdim"][0]) == (-1 if flip else 1)
    for form in ("get_sform", "get_qform"):
        before = corners(getattr(old, form)(), old.get_data_shape())
        after = corners(getattr(new, form)(), new.get_data_shape())
        np.testing.assert_allclose(after, before, atol=1e-4)
    assert new.get_zooms() == pytest.approx(
        [z * o / n for z, o, n in zip(old.get_zooms(), old.get_data_shape(), new.get_data_shape(), strict=True)]
    )


def test_forms_that_differ_are_each_transformed_and_keep_their_codes(run: Run, tmp_path: Path) -> None:
    header = Nifti1Header()
    header.set_sform(oblique(), code=4)
    header.set_qform(oblique(flip=True, tilt=-0.7), code=1)
    source = save_nifti(tmp_path / "in.nii", whole_numbers(7, 6, 5), header=header)
    assert run("upsample", source, tmp_path / "out.nii").code == 0
    new = header_of(tmp_path / "out.nii")
    assert (int(new["sform_code"]), int(new["qform_code"])) == (4, 1)
    shape = new.get_data_shape()
    np.testing.assert_allclose(corners(new.get_sform(), shape), corners(oblique(), (7, 6, 5)), atol=1e-4)
    np.testing.assert_allclose(
        corners(new.get_qform(), shape), corners(oblique(flip=True, tilt=-0.7), (7, 6, 5)), atol=1e-4
    )


@pytest.mark.parametrize("kept", ["sform", "qform", "neither"])
def test_a_form_of_code_0_stays_as_it_is(run: Run, tmp_path: Path, kept: str) -> None:
    header = Nifti1Header()
    header["pixdim"][1:4] = 2, 1.5, 4
    if kept == "sform":
        header.set_sform(oblique(), code=2)
    if kept == "qform":
        header.set_qform(oblique(), code=2)
    source = save_nifti(tmp_path / "in.nii", whole_numbers(7, 6, 5), header=header)
    assert run("upsample", source, tmp_path / "out.nii").code == 0
    old, new = header_of(source), header_of(tmp_path / "out.nii")
    assert int(new["sform_code"]) == (2 if kept == "sform" else 0)
    assert int(new["qform_code"]) == (2 if kept == "qform" else 0)
    if kept != "sform":
        assert all((new[name] == old[name]).all() for name in ("srow_x", "srow_y", "srow_z"))
    if kept != "qform":
        assert all(new[name] == old[name] for name in ("qoffset_x", "qoffset_y", "qoffset_z"))
    assert new["pixdim"][1:4].tolist() == [1, 0.75, 2]


@pytest.mark.parametrize(("padding", "align"), [("valid", "centroid"), ("same", "centroid"), ("same", "kernel")])
def test_a_bright_voxel_stays_where_it_is_in_the_world(run: Run, tmp_path: Path, padding: str, align: str) -> None:
    kernel = np.random.default_rng(5).uniform(0.1, 1.0, (5, 4, 3))
    if align == "kernel":  # the middle of the taps: exact for kernels that are their own mirror image
        kernel = np.prod(np.meshgrid([1, 2, 3, 2, 1], [1, 2, 2, 1], [1, 2, 1], indexing="ij"), axis=0)
    np.save(tmp_path / "k.npy", kernel)
    volume = np.zeros((9, 9, 9), np.float32)
    volume[4, 3, 5] = 100
    source = save_nifti(tmp_path / "in.nii", volume, oblique())
    done = run("upsample", source, tmp_path / "out.nii", "--weights", tmp_path / "k.npy", "--strides", "2,3,1",
               "--padding", padding, "--align", align)  # fmt: skip
    assert done.code == 0
    out = load(tmp_path / "out.nii").astype(np.float64)
    middle = [float((grid * out).sum() / out.sum()) for grid in np.indices(out.shape)]
    new = header_of(tmp_path / "out.nii").get_sform()
    np.testing.assert_allclose(new @ (*middle, 1.0), oblique() @ (4, 3, 5, 1), atol=1e-4)
    assert not np.allclose(new @ (*np.add(middle, 0.25), 1.0), oblique() @ (4, 3, 5, 1), atol=0.1)  # it could fail


@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
def test_every_other_field_and_the_extensions_are_kept(run: Run, tmp_path: Path, kind: Any) -> None:
    header = kind()
    header.set_xyzt_units("mm", "msec")
    header.set_intent("t test", (12.0,), name="t map")
    pixdim = np.array([1, 2, 1.5, 4, 2500, 7, 8, 9], np.float32)
    source = save_nifti(
        tmp_path / "in.nii.gz", whole_numbers(6, 7, 5, 3), oblique(), header=header, pixdim=pixdim,
        extensions=[Nifti1Extension(6, b"a comment"), Nifti1Extension(44, b"{}")], descrip=b"what a scan",
        aux_file=b"aux", toffset=12.5, cal_min=-3, cal_max=99, **SLICES,
    )  # fmt: skip
    assert run("upsample", source, tmp_path / "out.nii.gz", "--scale", "2,2,1").code == 0
    old, new = header_of(source), header_of(tmp_path / "out.nii.gz")
    for name in old.keys():
        assert name in RECOMPUTED or old[name].tobytes() == new[name].tobytes(), name
    assert new.get_xyzt_units() == ("mm", "msec")
    assert new["pixdim"][4:].tolist() == [2500, 7, 8, 9]
    assert [(e.get_code(), e.get_content()) for e in new.extensions] == [
        (e.get_code(), e.get_content()) for e in old.extensions
    ]
    assert len(new.extensions) == 2


@pytest.mark.parametrize(("scale", "kept"), [("2,2,1", True), ("1,1,2", False), ("2", False)])
def test_slice_timing_is_dropped_only_if_slices_are_upsampled(run: Run, tmp_path: Path, scale: str, kept: bool) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), oblique(), **SLICES)
    assert run("upsample", source, tmp_path / "out.nii", "--scale", scale).code == 0
    old, new = header_of(source), header_of(tmp_path / "out.nii")
    assert int(new["dim_info"]) == int(old["dim_info"])
    for name in ("slice_code", "slice_start", "slice_end", "slice_duration"):
        assert float(new[name]) == (float(old[name]) if kept else 0), name


def test_scaling_is_applied_and_not_inherited(run: Run, tmp_path: Path) -> None:
    stored = whole_numbers(5, 4, 3)
    source = save_nifti(tmp_path / "in.nii", stored, scl_slope=0.5, scl_inter=-10)
    done = run("upsample", source, tmp_path / "out.nii", "--kernel", "nearest", "--dtype", "float32")
    assert done.code == 0
    new = nibabel.load(tmp_path / "out.nii")
    assert new.dataobj.slope == 1
    assert new.dataobj.inter == 0
    assert new.get_data_dtype() == np.float32
    np.testing.assert_array_equal(load(tmp_path / "out.nii"), tripled(stored * 0.5 - 10))


def test_dtype_same_keeps_the_scaling_on_purpose(run: Run, tmp_path: Path) -> None:
    stored = whole_numbers(5, 4, 3)
    source = save_nifti(tmp_path / "in.nii", stored, scl_slope=0.5, scl_inter=-10)
    assert run("upsample", source, tmp_path / "out.nii", "--kernel", "nearest", "--dtype", "same").code == 0
    new = nibabel.load(tmp_path / "out.nii")
    assert (new.dataobj.slope, new.dataobj.inter, new.get_data_dtype()) == (0.5, -10, np.int16)
    np.testing.assert_array_equal(new.dataobj.get_unscaled(), tripled(stored))
    np.testing.assert_array_equal(load(tmp_path / "out.nii"), tripled(stored * 0.5 - 10))


def tripled(values: NDArray[Any]) -> NDArray[Any]:
    """Every voxel twice along each of three axes."""
    return values.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def test_nifti2_is_chosen_where_an_axis_outgrows_nifti1(run: Run, tmp_path: Path) -> None:
    source = save_nifti(
        tmp_path / "in.nii", whole_numbers(20000, 1, 1), oblique(), descrip=b"long", intent_code=1005, cal_max=5
    )
    assert run("upsample", source, tmp_path / "out.nii", "--scale", "2,1,1", "--kernel", "nearest").code == 0
    new = nibabel.load(tmp_path / "out.nii")
    assert isinstance(new, nibabel.Nifti2Image)
    assert new.shape == (40000, 1, 1)
    assert (int(new.header["sform_code"]), int(new.header["qform_code"])) == (1, 1)
    assert (bytes(new.header["descrip"].tobytes())[:4], int(new.header["intent_code"])) == (b"long", 1005)
    assert float(new.header["cal_max"]) == 5
    np.testing.assert_allclose(corners(new.affine, new.shape), corners(oblique(), (20000, 1, 1)), atol=0.02)
    np.testing.assert_array_equal(load(tmp_path / "out.nii"), whole_numbers(20000, 1, 1).repeat(2, 0))


def test_nifti1_stays_nifti1_up_to_its_limit(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(16383, 1, 1))
    assert run("upsample", source, tmp_path / "out.nii", "--scale", "2,1,1", "--kernel", "nearest").code == 0
    new = nibabel.load(tmp_path / "out.nii")
    assert type(new) is nibabel.Nifti1Image
    assert new.shape == (32766, 1, 1)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_kinds_and_byte_orders_give_the_same_voxels(
    run: Run, tmp_path: Path, kind: Any, endian: str, suffix: str
) -> None:
    stored = whole_numbers(6, 5, 4)
    source = save_nifti(tmp_path / f"in{suffix}", stored, oblique(), header=kind(endianness=endian))
    target = tmp_path / f"out{suffix}"
    assert run("upsample", source, target, "--kernel", "nearest").code == 0
    new = nibabel.load(target)
    assert new.header["sizeof_hdr"] == kind.sizeof_hdr
    assert new.header.endianness == "<"
    np.testing.assert_array_equal(load(target), tripled(stored))
    np.testing.assert_allclose(corners(new.affine, new.shape), corners(oblique(), (6, 5, 4)), atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint32", "float32", "float64"])
def test_types_are_read_and_kept_by_nearest(run: Run, tmp_path: Path, dtype: str) -> None:
    stored = whole_numbers(5, 4, 3, dtype=dtype)
    stored[0, 0, 0] = np.iinfo(dtype).max if stored.dtype.kind in "iu" else np.finfo(dtype).max
    source = save_nifti(tmp_path / "in.nii.gz", stored)
    assert run("upsample", source, tmp_path / "out.nii.gz", "--kernel", "nearest").code == 0
    new = nibabel.load(tmp_path / "out.nii.gz")
    assert new.get_data_dtype() == dtype
    np.testing.assert_array_equal(new.dataobj, tripled(stored))


def test_float64_is_computed_as_float64_when_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 4, 3))
    source = save_nifti(tmp_path / "in.nii", values)
    assert run("upsample", source, tmp_path / "out.nii", "--kernel", "nearest", "--dtype", "float64").code == 0
    np.testing.assert_array_equal(load(tmp_path / "out.nii"), tripled(values))
    assert run("upsample", source, tmp_path / "single.nii", "--kernel", "nearest", "--dtype", "float32").code == 0
    assert header_of(tmp_path / "single.nii").get_data_dtype() == np.float32
    np.testing.assert_array_equal(load(tmp_path / "single.nii"), tripled(values.astype(np.float32)))


def test_streams_and_plain_files_hold_the_same_voxels(run: Run, tmp_path: Path, sample: Path) -> None:
    packed = sample / "head.nii.gz"
    plain = tmp_path / "head.nii"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    found = []
    for n, (source, suffix) in enumerate(product((packed, plain), (".nii", ".nii.gz"))):
        target = tmp_path / f"out{n}{suffix}"
        assert run("upsample", source, target, "--scale", "2,2,1").code == 0
        raw = target.read_bytes()
        found.append(gzip.decompress(raw) if suffix == ".nii.gz" else raw)
    assert len(found[0]) == 352 + 96 * 112 * 28 * 4
    assert all(raw == found[0] for raw in found)


@pytest.mark.parametrize("tile", ["16", "40,200,6"])
def test_tiles_hold_the_same_voxels_as_the_whole(run: Run, tmp_path: Path, sample: Path, tile: str) -> None:
    source = sample / "head.nii.gz"
    assert run("upsample", source, tmp_path / "whole.nii.gz").code == 0
    assert run("upsample", source, tmp_path / "tiles.nii.gz", "--tile", tile).code == 0
    assert (tmp_path / "tiles.nii.gz").read_bytes() == (tmp_path / "whole.nii.gz").read_bytes()


def test_gzip_output_is_the_same_bytes_every_time(run: Run, tmp_path: Path, sample: Path) -> None:
    files = []
    for n, threads in enumerate((1, 1, 2)):
        target = tmp_path / f"out{n}.nii.gz"
        assert run("upsample", sample / "head.nii.gz", target, "--scale", "3", "--threads", threads).code == 0
        files.append(target.read_bytes())
    assert len(gzip.decompress(files[0])) > 2 * 2**20  # more than one block of the writer
    assert files[0] == files[1] == files[2]
    assert files[0][:3] == b"\x1f\x8b\x08"
    assert files[0][3] == 0  # flags: no name, no comment
    assert files[0][4:8] == bytes(4)  # no time


def test_a_series_is_one_volume_after_another(run: Run, tmp_path: Path, sample: Path) -> None:
    assert run("upsample", sample / "series.nii.gz", tmp_path / "all.nii.gz").code == 0
    series, everything = nibabel.load(sample / "series.nii.gz"), load(tmp_path / "all.nii.gz")
    new = header_of(tmp_path / "all.nii.gz")
    assert everything.shape == (48, 48, 24, 6)
    assert float(new["pixdim"][4]) == 2.5
    assert new.get_xyzt_units() == ("mm", "sec")
    for t in (0, 3, 5):
        one = save_nifti(
            tmp_path / "one.nii", series.dataobj.get_unscaled()[..., t], series.affine, scl_slope=series.dataobj.slope
        )
        assert run("upsample", one, tmp_path / "out.nii", "--overwrite").code == 0
        np.testing.assert_array_equal(everything[..., t], load(tmp_path / "out.nii"))


@pytest.mark.parametrize("tile", ["2048", "4"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("first", [False, True])
def test_channels_of_a_nifti_file(run: Run, tmp_path: Path, first: bool, suffix: str, tile: str) -> None:
    volume = whole_numbers(4, 5, 3, 3)
    kernel = whole_numbers(3, 2, 2, 2, 3, seed=1, dtype=np.float32)
    np.save(tmp_path / "k.npy", kernel)
    source = save_nifti(tmp_path / f"in{suffix}", np.moveaxis(volume, 3, 0) if first else volume)
    done = run("upsample", source, tmp_path / f"out{suffix}", "--weights", tmp_path / "k.npy", "--strides", "2,2,1",
               "--channels-first" if first else "--channels-last", "--tile", tile)  # fmt: skip
    assert done.code == 0
    out = load(tmp_path / f"out{suffix}")
    expected = transposed(volume, kernel, (2, 2, 1))
    np.testing.assert_array_equal(out, expected)  # filters are the last axis of NIfTI, wherever channels were


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_filters_become_the_last_axis(run: Run, tmp_path: Path, suffix: str) -> None:
    volume = whole_numbers(4, 5, 3, 2)
    kernel = whole_numbers(3, 2, 2, 4, 1, seed=1, dtype=np.float32)
    np.save(tmp_path / "k.npy", kernel)
    options = ("--weights", tmp_path / "k.npy", "--strides", "2,1,2")
    expected = np.stack([transposed(volume[..., t, None], kernel, (2, 1, 2)) for t in range(2)], axis=3)
    one = save_nifti(tmp_path / f"one{suffix}", volume[..., 0])
    both = save_nifti(tmp_path / f"both{suffix}", volume)
    assert run("upsample", one, tmp_path / f"out1{suffix}", *options).code == 0
    assert run("upsample", both, tmp_path / f"out2{suffix}", *options).code == 0
    np.testing.assert_array_equal(load(tmp_path / f"out1{suffix}"), expected[:, :, :, 0])
    np.testing.assert_array_equal(load(tmp_path / f"out2{suffix}"), expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_input_itself_may_be_overwritten(run: Run, tmp_path: Path, suffix: str) -> None:
    place = save_nifti(tmp_path / f"scan{suffix}", whole_numbers(9, 8, 7), oblique())
    assert run("upsample", place, tmp_path / f"other{suffix}").code == 0
    assert run("upsample", place, place, "--overwrite").code == 0
    assert place.read_bytes() == (tmp_path / f"other{suffix}").read_bytes()
    assert listing(tmp_path) == [f"other{suffix}", f"scan{suffix}"]


@pytest.mark.parametrize("edge", [8, 80])
def test_many_short_runs_and_many_long_ones_are_read_and_written(run: Run, tmp_path: Path, edge: int) -> None:
    """A slab of 70 channels is 70 runs: short ones go through a map of the file, long ones are read one by one."""
    volume = np.random.default_rng(0).integers(0, 1000, (edge, edge, 4, 70)).astype(np.int16)
    source, target = save_nifti(tmp_path / "a.nii", volume), tmp_path / "b.nii"
    options = ("--channels-last", "--per-channel", "--kernel", "nearest", "--tile", f"{2 * edge},{2 * edge},4")
    assert run("upsample", source, target, *options).code == 0
    np.testing.assert_array_equal(load(target), volume.repeat(2, 0).repeat(2, 1).repeat(2, 2))
