"""Does an HDF5 dataset come out with the right voxels, stored as it was, with attributes that are still true?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from tests.conftest import Run, listing, load, save_nifti, transposed, whole_numbers


def save(path: Path, array: NDArray[Any], name: str = "raw", *, attributes: Any = None, **layout: Any) -> str:
    """Add a dataset to a file and return what the command calls it."""
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset(name, data=array, **layout)
        for key, value in (attributes or {}).items():
            dataset.attrs[key] = value
    return f"{path}:/{name}"


def read(path: Path, name: str) -> NDArray[Any]:
    with h5py.File(path) as file:
        return np.asarray(file[name][()])


def attribute(path: Path, name: str, key: str) -> Any:
    with h5py.File(path) as file:
        return file[name].attrs[key]


def doubled(values: NDArray[Any], *axes: int) -> NDArray[Any]:
    for axis in axes:
        values = values.repeat(2, axis)
    return values


def test_numbers_go_with_axes_in_array_order(run: Run, tmp_path: Path) -> None:
    volume = whole_numbers(4, 5, 6)
    source = save(tmp_path / "in.h5", volume)
    done = run("upsample", source, tmp_path / "out.h5", "--kernel", "nearest", "--scale", "1,2,3")
    assert done.code == 0
    np.testing.assert_array_equal(read(tmp_path / "out.h5", "data"), volume.repeat(2, 1).repeat(3, 2))


def test_attributes_are_kept_and_lengths_rescaled(run: Run, tmp_path: Path, sample: Path) -> None:
    done = run("upsample", f"{sample}/cells.h5:/raw", f"{tmp_path}/out.h5:/raw", "--scale", "1,2,4")
    assert done.code == 0
    assert attribute(tmp_path / "out.h5", "raw", "sample") == "synthetic cells"
    np.testing.assert_allclose(attribute(tmp_path / "out.h5", "raw", "element_size_um"), [1.2, 0.2, 0.1])
    with h5py.File(tmp_path / "out.h5") as file:
        assert [dimension.label for dimension in file["raw"].dims] == ["z", "y", "x"]


@pytest.mark.parametrize("name", ["element_size_um", "voxel_size_mm", "spacing"])
def test_lengths_of_all_four_axes_are_rescaled_in_space_only(run: Run, tmp_path: Path, name: str) -> None:
    attributes = {name: np.array([7, 1.2, 0.4, 0.8], np.float32), "axes": "czyx"}
    source = save(tmp_path / "in.h5", whole_numbers(1, 4, 5, 6), attributes=attributes)
    assert run("upsample", source, tmp_path / "out.h5", "--scale", "2,1,4").code == 0
    found = attribute(tmp_path / "out.h5", "data", name)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [7, 0.6, 0.4, 0.2], rtol=1e-6)
    assert run("info", source, "--json").json[0]["voxel_size"] == pytest.approx([1.2, 0.4, 0.8])


def test_one_length_for_all_axes_becomes_three_when_they_differ(run: Run, tmp_path: Path) -> None:
    source = save(tmp_path / "in.h5", whole_numbers(4, 5, 6), attributes={"element_size_um": 3.0})
    assert run("upsample", source, f"{tmp_path}/out.h5:/same").code == 0
    assert run("upsample", source, f"{tmp_path}/out.h5:/differ", "--scale", "1,2,3").code == 0
    assert attribute(tmp_path / "out.h5", "same", "element_size_um") == 1.5
    np.testing.assert_allclose(attribute(tmp_path / "out.h5", "differ", "element_size_um"), [3, 1.5, 1])


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"chunks": (2, 3, 4)},
        {"chunks": (2, 3, 4), "compression": "gzip", "compression_opts": 4, "shuffle": True},
        {"chunks": (4, 5, 6), "compression": "lzf", "fletcher32": True},
    ],
    ids=["contiguous", "chunked", "gzip", "one chunk"],
)
def test_the_output_is_stored_like_the_input(run: Run, tmp_path: Path, layout: dict[str, Any]) -> None:
    volume = whole_numbers(4, 5, 6)
    source = save(tmp_path / "in.h5", volume, **layout)
    assert run("upsample", source, f"{tmp_path}/out.h5:/raw", "--kernel", "nearest").code == 0
    with h5py.File(tmp_path / "in.h5") as before, h5py.File(tmp_path / "out.h5") as after:
        for name in ("chunks", "compression", "compression_opts", "shuffle", "fletcher32", "dtype"):
            assert getattr(after["raw"], name) == getattr(before["raw"], name), name
        np.testing.assert_array_equal(after["raw"][()], doubled(volume, 0, 1, 2))


@pytest.mark.parametrize("tile", ["6", "64,5,64"])
def test_chunks_larger_or_smaller_than_regions_hold_the_same_voxels(
    run: Run, tmp_path: Path, sample: Path, tile: str
) -> None:
    source = f"{sample}/cells.h5:/raw"
    big = save(tmp_path / "big.h5", read(sample / "cells.h5", "raw"), chunks=(24, 64, 64), compression="gzip")
    assert run("upsample", source, f"{tmp_path}/out.h5:/whole").code == 0
    assert run("upsample", source, f"{tmp_path}/out.h5:/tiles", "--tile", tile).code == 0
    assert run("upsample", big, f"{tmp_path}/out.h5:/big", "--tile", tile).code == 0
    whole = read(tmp_path / "out.h5", "whole")
    assert whole.std() > 100
    np.testing.assert_array_equal(read(tmp_path / "out.h5", "tiles"), whole)
    np.testing.assert_array_equal(read(tmp_path / "out.h5", "big"), whole)


def test_chunks_larger_than_the_output_are_cut_to_it(run: Run, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("raw", (4, 4, 4), "i2", chunks=(64, 64, 64), maxshape=(None,) * 3, fillvalue=3)
    assert run("upsample", tmp_path / "in.h5", tmp_path / "out.h5").code == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].chunks == (8, 8, 8)
        assert (file["data"][()] == 3).all()


def test_the_only_volume_is_found_wherever_it_is(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "in.h5", whole_numbers(3), "not/a/volume")
    save(tmp_path / "in.h5", np.array([[[b"text"]]]), "nor this")
    save(tmp_path / "in.h5", whole_numbers(4, 5, 6), "deep/down/here")
    assert run("upsample", tmp_path / "in.h5", f"{tmp_path}/out.h5:/a/b/c", "--kernel", "nearest").code == 0
    np.testing.assert_array_equal(read(tmp_path / "out.h5", "a/b/c"), doubled(whole_numbers(4, 5, 6), 0, 1, 2))


def test_several_volumes_are_listed(run: Run, tmp_path: Path, sample: Path) -> None:
    done = run("upsample", sample / "cells.h5", tmp_path / "out.h5")
    assert done.code == 65
    assert "/raw 24x64x64 uint16" in done.complaint
    assert "/features 4x10x16x16 float32" in done.complaint
    assert listing(tmp_path) == []


def test_a_dataset_that_is_not_there_is_told_beside_those_that_are(run: Run, tmp_path: Path, sample: Path) -> None:
    done = run("upsample", f"{sample}/cells.h5:/row", tmp_path / "out.h5")
    assert done.code == 66
    assert "no dataset /row" in done.complaint
    assert "/raw 24x64x64 uint16" in done.complaint


def test_writing_again_does_not_make_a_file_grow(run: Run, tmp_path: Path) -> None:
    source, out = save(tmp_path / "in.h5", whole_numbers(9, 10, 11)), tmp_path / "out.h5"
    sizes = []
    for _ in range(3):
        assert run("upsample", source, f"{out}:/deep/up", "--overwrite").code == 0
        sizes.append(out.stat().st_size)
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("more", ["dataset", "attribute", "attribute of a group", "link", "empty group"])
def test_writing_again_keeps_whatever_else_there_is(run: Run, tmp_path: Path, more: str) -> None:
    source, out = save(tmp_path / "in.h5", whole_numbers(4, 5, 6)), tmp_path / "out.h5"
    assert run("upsample", source, f"{out}:/deep/up").code == 0
    with h5py.File(out, "r+") as file:
        if more == "dataset":
            file["deep/other"] = [1]
        elif more == "attribute":
            file.attrs["who"] = "me"
        elif more == "attribute of a group":
            file["deep"].attrs["who"] = "me"
        elif more == "link":
            file["deep/again"] = h5py.SoftLink("/nowhere")
        else:
            file.create_group("empty")
    assert run("upsample", source, f"{out}:/deep/up", "--overwrite", "--kernel", "nearest").code == 0
    with h5py.File(out) as file:
        found = {
            "dataset": "other" in file["deep"], "attribute": "who" in file.attrs,
            "attribute of a group": "who" in file["deep"].attrs, "link": "again" in file["deep"],
            "empty group": "empty" in file,
        }  # fmt: skip
        assert found == {name: name == more for name in found}
        assert file["deep/up"].shape == (8, 10, 12)


def test_an_existing_file_keeps_its_other_datasets(run: Run, tmp_path: Path) -> None:
    kept = whole_numbers(3, 3, 3, seed=8)
    save(tmp_path / "out.h5", kept, "group/kept", attributes={"note": "mine"}, chunks=(1, 3, 3), compression="gzip")
    source = save(tmp_path / "in.h5", whole_numbers(4, 5, 6))
    target = f"{tmp_path}/out.h5:/group/new"
    assert run("upsample", source, target, "--kernel", "nearest").code == 0
    before = (tmp_path / "out.h5").read_bytes()
    again = run("upsample", source, target, "--kernel", "linear")
    assert again.code == 73
    assert "group/new: exists already" in again.complaint
    assert (tmp_path / "out.h5").read_bytes() == before
    assert run("upsample", source, target, "--scale", "1", "--overwrite").code == 0
    np.testing.assert_array_equal(read(tmp_path / "out.h5", "group/new"), whole_numbers(4, 5, 6))
    np.testing.assert_array_equal(read(tmp_path / "out.h5", "group/kept"), kept)
    assert attribute(tmp_path / "out.h5", "group/kept", "note") == "mine"
    assert listing(tmp_path) == ["in.h5", "out.h5"]


def test_input_and_output_may_be_the_same_file_and_even_dataset(run: Run, tmp_path: Path) -> None:
    volume = whole_numbers(4, 5, 6)
    source = save(tmp_path / "a.h5", volume)
    assert run("upsample", source, f"{tmp_path}/a.h5:/up", "--kernel", "nearest").code == 0
    np.testing.assert_array_equal(read(tmp_path / "a.h5", "raw"), volume)
    np.testing.assert_array_equal(read(tmp_path / "a.h5", "up"), doubled(volume, 0, 1, 2))
    assert run("upsample", source, source, "--kernel", "nearest", "--overwrite").code == 0
    np.testing.assert_array_equal(read(tmp_path / "a.h5", "raw"), doubled(volume, 0, 1, 2))
    assert listing(tmp_path) == ["a.h5"]


def axistags(letters: str) -> str:
    return json.dumps({"axes": [{"key": letter, "typeFlags": 2, "resolution": 0} for letter in letters]})


@pytest.mark.parametrize("how", ["labels", "axes", "bytes", "axistags", "option"])
@pytest.mark.parametrize(("letters", "space"), [("tzyx", (1, 2, 3)), ("zyxc", (0, 1, 2)), ("ztyx", (0, 2, 3))])
def test_axes_are_what_the_file_or_the_user_calls_them(
    run: Run, tmp_path: Path, how: str, letters: str, space: tuple[int, ...]
) -> None:
    shape = tuple(1 if letter == "c" else n for letter, n in zip(letters, (3, 4, 5, 6), strict=True))
    volume = whole_numbers(*shape)
    stated: dict[str, Any] = {"axes": letters, "bytes": np.bytes_(letters), "axistags": axistags(letters)}
    key = "axistags" if how == "axistags" else "axes"
    source = save(tmp_path / "in.h5", volume, attributes={key: stated[how]} if how in stated else None)
    if how == "labels":
        with h5py.File(tmp_path / "in.h5", "a") as file:
            for n, letter in enumerate(letters):
                file["raw"].dims[n].label = letter
    more = ("--axes", letters) if how == "option" else ()
    assert run("upsample", source, tmp_path / "out.h5", "--kernel", "nearest", *more).code == 0
    np.testing.assert_array_equal(read(tmp_path / "out.h5", "data"), doubled(volume, *space))


def test_labels_decide_where_channels_are(run: Run, tmp_path: Path, sample: Path) -> None:
    features, kernels = f"{sample}/cells.h5:/features", f"{sample}/features.h5:/up/kernel"
    done = run("upsample", features, f"{tmp_path}/out.h5:/deep", "--weights", kernels, "--strides", "2", "--json")
    assert done.code == 0
    assert done.json["output"]["axes"] == "czyx"
    volume = np.moveaxis(read(sample / "cells.h5", "features"), 0, 3)
    kernel, bias = read(sample / "features.h5", "up/kernel"), read(sample / "features.h5", "up/bias")
    expected = np.moveaxis(transposed(volume, kernel, (2, 2, 2)) + bias, 3, 0)
    assert expected.shape[0] == 8
    np.testing.assert_allclose(read(tmp_path / "out.h5", "deep"), expected, rtol=0, atol=1e-5)


def test_five_axes(run: Run, tmp_path: Path) -> None:
    volume = whole_numbers(2, 3, 4, 3, 5)  # t z y x c
    kernel = whole_numbers(2, 3, 2, 3, 5, seed=1, dtype=np.float32)
    np.save(tmp_path / "k.npy", kernel)
    source = save(tmp_path / "in.h5", volume, attributes={"axes": "tzyxc"}, chunks=(1, 2, 2, 2, 5))
    done = run("upsample", source, tmp_path / "out.h5", "--weights", tmp_path / "k.npy", "--strides", "1,2,1")
    assert done.code == 0
    out = read(tmp_path / "out.h5", "data")
    for t in range(2):
        np.testing.assert_array_equal(out[t], transposed(volume[t], kernel, (1, 2, 1)))


def test_filters_of_a_volume_without_channels_become_the_last_axis_and_its_labels_stay_true(
    run: Run, tmp_path: Path
) -> None:
    volume = whole_numbers(4, 3, 5)
    kernel = whole_numbers(2, 3, 2, 3, 1, seed=1, dtype=np.float32)
    np.save(tmp_path / "k.npy", kernel)
    attributes = {"axes": "zyx", "axistags": axistags("zyx")}
    source = save(tmp_path / "in.h5", volume, attributes=attributes, chunks=(2, 2, 2))
    with h5py.File(tmp_path / "in.h5", "a") as file:
        for n, letter in enumerate("zyx"):
            file["raw"].dims[n].label = letter
    done = run("upsample", source, tmp_path / "out.h5", "--weights", tmp_path / "k.npy", "--strides", "1,2,1")
    assert done.code == 0
    np.testing.assert_array_equal(read(tmp_path / "out.h5", "data"), transposed(volume[..., None], kernel, (1, 2, 1)))
    with h5py.File(tmp_path / "out.h5") as file:
        # Not by h5py's dims: HDF5 itself reads beyond the end of a list of labels that is too short.
        assert "".join(file["data"].attrs.get("DIMENSION_LABELS", "zyxc")) == "zyxc"
    assert run("info", tmp_path / "out.h5", "--json").json[0]["axes"] == "zyxc"


def test_dimension_scales_leave_no_dangling_references(run: Run, tmp_path: Path) -> None:
    source = save(tmp_path / "in.h5", whole_numbers(4, 5, 6))
    with h5py.File(tmp_path / "in.h5", "a") as file:
        file["position"] = np.arange(4.0)
        file["position"].make_scale("position")
        file["raw"].dims[0].attach_scale(file["position"])
    assert run("upsample", source, tmp_path / "out.h5").code == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert [len(dimension) for dimension in file["data"].dims] == [0, 0, 0]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64", ">i2", "float16", "float64", "bool"])
def test_types_are_kept_by_nearest(run: Run, tmp_path: Path, dtype: str) -> None:
    volume = (whole_numbers(3, 4, 5) > 40) if dtype == "bool" else whole_numbers(3, 4, 5, dtype=dtype)
    source = save(tmp_path / "in.h5", volume)
    assert run("upsample", source, tmp_path / "out.h5", "--kernel", "nearest").code == 0
    out = read(tmp_path / "out.h5", "data")
    assert out.dtype == ("uint8" if dtype == "bool" else np.dtype(dtype).newbyteorder("="))
    np.testing.assert_array_equal(out, doubled(volume, 0, 1, 2))


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_labels_of_64_bits_are_kept_or_spoken_of(run: Run, tmp_path: Path, dtype: str) -> None:
    """Segments of large stacks have numbers that float64 cannot hold."""
    volume = np.arange(2**53, 2**53 + 60, dtype=dtype).reshape(3, 4, 5)
    done = run("upsample", save(tmp_path / "in.h5", volume), tmp_path / "out.h5", "--kernel", "nearest", "--json")
    assert done.code == 0
    kept = np.array_equal(read(tmp_path / "out.h5", "data"), doubled(volume, 0, 1, 2))
    assert kept or done.json["warnings"]


def test_nifti_comes_back_from_hdf5_as_it_was(run: Run, tmp_path: Path, sample: Path) -> None:
    for name in ("head.nii.gz", "series.nii.gz"):
        inside, back = f"{tmp_path}/a.h5:/{name[:4]}", tmp_path / name
        assert run("upsample", sample / name, inside, "--scale", "1").code == 0
        assert run("upsample", inside, back, "--scale", "1").code == 0
        old, new = nibabel.load(sample / name).header, nibabel.load(back).header
        for field in old.keys():
            if field not in ("datatype", "bitpix", "scl_slope", "scl_inter", "vox_offset"):
                assert old[field].tobytes() == new[field].tobytes(), field
        np.testing.assert_array_equal(load(back), load(sample / name).astype(np.float32))
    assert float(nibabel.load(tmp_path / "series.nii.gz").header["pixdim"][4]) == 2.5


def test_a_volume_upsampled_by_way_of_hdf5_lies_where_one_upsampled_at_once_does(
    run: Run, tmp_path: Path, sample: Path
) -> None:
    scan = save_nifti(
        tmp_path / "scan.nii.gz", whole_numbers(6, 5, 4), nibabel.load(sample / "head.nii.gz").affine, sform_code=4,
        descrip=b"here", extensions=[Nifti1Extension(6, b"kept")],
    )  # fmt: skip
    for source, target, scale in (
        (scan, "once.nii", "2,4,1"),
        (scan, "half.h5", "1,2,1"),
        (tmp_path / "half.h5", "twice.nii", "2,2,1"),
    ):
        assert run("upsample", source, tmp_path / target, "--scale", scale, "--kernel", "nearest").code == 0
    once, twice = nibabel.load(tmp_path / "once.nii"), nibabel.load(tmp_path / "twice.nii")
    np.testing.assert_array_equal(once.dataobj, twice.dataobj)
    np.testing.assert_allclose(twice.affine, once.affine, atol=1e-5)
    np.testing.assert_allclose(twice.header.get_qform(), once.header.get_qform(), atol=1e-5)
    assert (int(twice.header["sform_code"]), int(twice.header["qform_code"])) == (4, 1)
    assert bytes(twice.header["descrip"].tobytes())[:4] == b"here"
    assert [extension.get_content() for extension in twice.header.extensions] == [
        extension.get_content() for extension in once.header.extensions
    ]
    coarse = once.affine @ np.diag([2, 2, 1, 1.0]) + shift_of(once)
    np.testing.assert_allclose(attribute(tmp_path / "half.h5", "data", "affine"), coarse, atol=1e-4)


def shift_of(image: Any) -> NDArray[np.float64]:
    """What to add to the matrix of a grid twice as coarse along two axes, so that its first face is the same."""
    shift = np.zeros((4, 4))
    shift[:, 3] = image.affine @ (0.5, 0.5, 0, 0)
    return shift


def test_scaled_numbers_mean_the_same_after_hdf5(run: Run, tmp_path: Path) -> None:
    stored = whole_numbers(5, 4, 3)
    scan = save_nifti(tmp_path / "scan.nii", stored, scl_slope=0.25, scl_inter=3)
    inside = f"{tmp_path}/a.h5:/scan"
    assert run("upsample", scan, inside, "--kernel", "nearest", "--dtype", "same").code == 0
    assert run("upsample", inside, tmp_path / "back.nii", "--scale", "1").code == 0
    np.testing.assert_array_equal(load(tmp_path / "back.nii"), doubled(stored, 0, 1, 2) * 0.25 + 3)


def test_voxel_sizes_reach_a_nifti_header(run: Run, tmp_path: Path, sample: Path) -> None:
    assert run("upsample", f"{sample}/cells.h5:/raw", tmp_path / "cells.nii.gz", "--scale", "1,2,2").code == 0
    new = nibabel.load(tmp_path / "cells.nii.gz")
    assert new.shape == (24, 128, 128)
    assert new.header.get_zooms() == pytest.approx((1.2, 0.2, 0.2))
    assert new.header.get_xyzt_units()[0] == "micron"


def test_space_comes_first_in_a_nifti_file(run: Run, tmp_path: Path) -> None:
    """NIfTI's first three axes are space, whatever an HDF5 file lists first."""
    volume = whole_numbers(3, 4, 5, 6)
    attributes = {"axes": "tzyx", "element_size_um": np.array([1.2, 0.4, 0.6])}
    source = save(tmp_path / "in.h5", volume, attributes=attributes)
    assert run("upsample", source, tmp_path / "out.nii", "--kernel", "nearest", "--scale", "1,2,2").code == 0
    new = nibabel.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(new.dataobj, np.moveaxis(doubled(volume, 2, 3), 0, 3))
    assert new.header.get_zooms()[:3] == pytest.approx((1.2, 0.2, 0.3))
