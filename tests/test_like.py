"""Does the output land on a reference's grid, or is it said by how much it misses, and what would help?"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nibabel.affines import rescale_affine
from nibabel.eulerangles import euler2mat
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from conv3dt.affine import ALIGNMENTS, spacing
from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import Axis
from conv3dt.io import nifti_header
from conv3dt.io.files import read_info
from conv3dt.io.volume import VolumeInfo
from conv3dt.job import Job, make_job
from conv3dt.like import SPATIAL_FIELDS, check_like, pinned, strides_like
from conv3dt.request import LayerRequest
from conv3dt.resources import resources
from tests.conftest import Run, load, save_nifti, whole_numbers

Matrix = NDArray[np.float64]
Triple = tuple[int, int, int]

SHAPE = (6, 7, 5)
EDGE = (-0.25, -0.25, -0.25)
"""Where output voxel 0 lies, in input voxels, if first faces coincide at strides of 2."""


def rigid(*, flip: bool = False, turn: float = 0.0) -> Matrix:
    """Voxels of 2 x 1.5 x 4 mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = euler2mat(z=turn, y=turn / 2, x=-turn) @ np.diag([-2.0 if flip else 2.0, 1.5, 4.0])
    matrix[:3, 3] = (-30.5, 12.25, 7.0)
    return matrix


def volume(
    matrix: Matrix, shape: tuple[int, ...] = SHAPE, *, path: str = "scan.nii", sform: int = 1, qform: int = 1,
    kind: Any = Nifti1Header, unit: int = 2,
) -> VolumeInfo:  # fmt: skip
    """The header facts of a NIfTI file."""
    header = kind()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header.set_qform(matrix, code=1)  # without what is sheared
    header.set_sform(matrix, code=1)
    header["sform_code"], header["qform_code"] = sform, qform
    header["xyzt_units"] = unit | 8
    return nifti_header.info(header, path, compressed=False, axes=None, data_format=None)


def a_job(source: VolumeInfo, *, align: str = "kernel", path: str = "out.nii", form: str = "nii", **layer: Any) -> Job:
    return make_job(
        source, LayerRequest(**layer).concrete(source.channels), path=path, form=form, align=align, dtype=None,
        device="cpu", tile=None, limits=resources(),
    )  # fmt: skip


def landed(job: Job, reference: VolumeInfo) -> tuple[str, ...]:
    return check_like(job.target, reference, source=job.source, layer=job.layer, align=job.align)


def complaint(job: Job, reference: VolumeInfo) -> str:
    """What is said of an output that misses its reference: one line that names it."""
    with pytest.raises(DataError) as failure:
        landed(job, reference)
    text = str(failure.value)
    assert "\n" not in text
    assert text.startswith(f"like {reference.path}: ")
    return text.removeprefix(f"like {reference.path}: ")


def written(target: VolumeInfo, path: str = "ref.nii") -> VolumeInfo:
    """A NIfTI output as it is read from its file."""
    raw = nifti_header.serialised(target.header)
    header, _ = nifti_header.parse(raw, path)
    return nifti_header.info(header, path, compressed=False, axes=target.axes, data_format=None)


def finer(matrix: Matrix, strides: Any, shift: Any) -> Matrix:
    """The grid whose voxel 0 lies at input index ``shift``."""
    change = np.diag([*(1 / n for n in strides), 1.0])
    change[:3, 3] = shift
    return np.asarray(matrix @ change)


def bits(info: VolumeInfo) -> list[bytes]:
    """The fields of a header that say where voxels lie."""
    fields = [info.header[name].tobytes() for name in SPATIAL_FIELDS]
    return [*fields, info.header["pixdim"][:4].tobytes(), bytes([int(info.header["xyzt_units"]) & 7])]


# Any layer's own output is a reference that it lands on.


@st.composite
def layers(draw: st.DrawFn) -> dict[str, Any]:
    """A named kernel, or taps of any layer of Keras's."""
    strides = draw(st.tuples(*[st.integers(1, 4)] * 3))
    if draw(st.booleans()):
        return {"scale": strides, "kernel": draw(st.sampled_from(("nearest", "linear", "cubic")))}
    size = draw(st.tuples(*[st.integers(1, 5)] * 3))
    padding = draw(st.sampled_from(("valid", "same")))
    extra = draw(st.one_of(st.none(), st.tuples(*(st.integers(0, n - 1) for n in strides))))
    try:
        for n in range(3):
            Axis(size[n], strides[n], 1, padding, None if extra is None else extra[n])
    except ArgumentError:
        assume(False)
    taps = np.random.default_rng(draw(st.integers(0, 99))).uniform(0.1, 1, size)
    return {"weights": taps, "strides": strides, "padding": padding, "output_padding": extra}


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """Any voxel size, orientation and place, sheared a little."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    shear = np.eye(3) + random.uniform(-0.1, 0.1, (3, 3))
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ shear @ np.diag(random.uniform(0.3, 5, 3))
    matrix[:3, 3] = random.uniform(-200, 200, 3)
    return matrix


codes = st.sampled_from(((1, 1), (4, 0), (0, 2), (3, 1)))
spaces = st.tuples(*[st.integers(2, 9)] * 3)


@given(
    layer=layers(), matrix=matrices(), codes=codes, space=spaces, align=st.sampled_from(ALIGNMENTS),
    kind=st.sampled_from((Nifti1Header, Nifti2Header)),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_a_layer_lands_on_its_own_output(
    layer: dict[str, Any], matrix: Matrix, codes: tuple[int, int], space: Triple, align: str, kind: Any
) -> None:
    source = volume(matrix, space, sform=codes[0], qform=codes[1], kind=kind)
    job = a_job(source, align=align, **layer)
    reference = written(job.target)
    assert strides_like(source, reference) == layer.get("scale", layer.get("strides"))
    assert landed(job, reference) == ()
    assert bits(pinned(job.target, reference)) == bits(reference)


@given(layer=layers(), matrix=matrices(), space=spaces, move=st.tuples(*[st.floats(-3, 3)] * 3), whole=st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_reference_that_lies_elsewhere_is_told_by_how_much(
    layer: dict[str, Any], matrix: Matrix, space: Triple, move: tuple[float, float, float], whole: bool
) -> None:
    moved = np.round(move) if whole else np.array(move)
    assume(np.abs(moved).max() > 0.01)
    source = volume(matrix, space)
    job = a_job(source, **layer)
    assert job.target.affine is not None
    reference = volume(finer(job.target.affine, (1, 1, 1), moved), job.target.space, path="ref.nii")
    text = complaint(job, reference)
    found = re.search(r"it lies \(([^)]*)\) output voxels or \(([^)]*)\) mm along i, j, k off the output, every", text)
    assert found is not None
    voxels, lengths = ([float(number) for number in group.split(", ")] for group in found.groups())
    assert voxels == pytest.approx(moved, rel=1e-3, abs=2e-3)
    assert lengths == pytest.approx(moved * spacing(job.target.affine), abs=1e-2)
    rest = np.abs(moved - np.round(moved)).max()
    assert rest < 1e-2 or "crop or pad" not in text
    assert rest > 1e-6 or text.endswith("crop or pad the result")


@given(
    size=st.tuples(*[st.integers(1, 5)] * 3), strides=st.tuples(*[st.integers(2, 3)] * 3), space=spaces, data=st.data()
)
@settings(deadline=None, max_examples=60)
def test_a_padding_that_is_advised_lands(size: Triple, strides: Triple, space: Triple, data: st.DataObject) -> None:
    """Two layers of the same taps: what is said to help one onto the other's grid does."""
    paddings: st.SearchStrategy[tuple[Any, Any]] = st.sampled_from(
        (("valid", None), ("same", None), ("valid", (1, 0, 1)), ("same", (1, 1, 1)), (1, (1, 1, 1)))
    )
    taps = np.ones(size)
    mine, other = (dict(zip(("padding", "output_padding"), data.draw(paddings), strict=True)) for _ in range(2))
    source = volume(rigid(turn=0.3), space)
    try:
        job, wanted = (a_job(source, weights=taps, strides=strides, **each) for each in (mine, other))
    except ArgumentError:
        assume(False)
    reference = written(wanted.target)
    if bits(written(job.target)) == bits(reference) and job.target.space == reference.space:
        assert landed(job, reference) == ()
        return
    text = complaint(job, reference)
    found = re.search(r"--padding (\S+)(?: --output-padding (\S+))? would land on it", text)
    if found is None:
        assert 1 in (mine["padding"], other["padding"]), text  # then zeros around a kernel may leave no words for it
        return
    padding: Any = found[1]
    extra = None if found[2] is None else tuple(map(int, found[2].split(",")))
    advised = a_job(source, weights=taps, strides=strides, padding=padding, output_padding=extra)
    assert landed(advised, reference) == ()


# Other tools' grids.


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turn", [0.0, 0.4])
@pytest.mark.parametrize(("align", "shift"), [("edge", EDGE), ("origin", (0, 0, 0))])
def test_the_two_conventions_of_the_field(align: str, shift: Any, turn: float, flip: bool) -> None:
    source = volume(rigid(flip=flip, turn=turn))
    reference = volume(finer(rigid(flip=flip, turn=turn), (2, 2, 2), shift), (12, 14, 10), path="ref.nii")
    assert strides_like(source, reference) == (2, 2, 2)
    three: dict[str, Any] = {"weights": np.ones((3, 3, 3)), "strides": 2, "padding": "same"}
    assert landed(a_job(source, align=align, scale=2), reference) == ()
    assert landed(a_job(source, align=align, **three), reference) == ()
    named, own = (complaint(a_job(source, **layer), reference) if layer != {"scale": 2} or align != "edge" else ""
                  for layer in ({"scale": 2}, three))  # fmt: skip
    if align == "origin":
        assert "--align origin would make the header agree, but moves only the header: it then places voxels " in named
        assert "(+0.5, +0.5, +0.5) output voxels off where this kernel's weight lies" in named
        assert "+1, +1, +1" in own
    else:
        assert named == "", "named kernels land there by themselves"
        assert "a kernel of 2x2x2 with --padding same would land on it; or --align edge would make the header" in own
        assert landed(a_job(source, weights=np.ones((2, 2, 2)), strides=2, padding="same"), reference) == ()


def test_a_kernel_without_symmetry_may_lie_where_its_weight_does() -> None:
    taps = np.ones((4, 4, 4))
    taps[0] = 3
    source = volume(rigid())
    layer: dict[str, Any] = {"weights": taps, "strides": 2, "padding": "same"}
    reference = written(a_job(source, align="centroid", **layer).target)
    text = complaint(a_job(source, align="kernel", **layer), reference)
    assert text.endswith("--align centroid would make the header agree, and is where this kernel's weight lies")


def test_a_grid_of_nibabel_keeps_the_middle_voxel() -> None:
    source = volume(rigid(turn=0.2))
    matrix = rescale_affine(rigid(turn=0.2), SHAPE, (1.0, 0.75, 2.0), (12, 14, 10))
    reference = volume(matrix, (12, 14, 10), path="ref.nii")
    assert strides_like(source, reference) == (2, 2, 2)
    text = complaint(a_job(source, scale=2), reference)
    assert text.startswith("it lies (-0.5, +0.5, +0.5) output voxels or (-0.5, +0.375, +1) mm along i, j, k off")


# What is said.


def refusal(reference: VolumeInfo, source: VolumeInfo | None = None) -> str:
    """What is said of a reference that gives no strides."""
    with pytest.raises(DataError) as failure:
        strides_like(source or volume(rigid()), reference)
    text = str(failure.value)
    assert "\n" not in text
    return text


def test_strides_that_are_not_whole() -> None:
    text = refusal(volume(finer(rigid(), (2, 1.5, 2), EDGE), (12, 10, 10), path="ref.nii"))
    assert text == (
        "like ref.nii: a voxel of scan.nii is 2, 1.5, 2 of its voxels along i, j, k, and no transposed convolution "
        "makes 1.5 of one; the nearest grids are those of --strides 2,1,2 and 2,2,2: make one of them and resample that"
    )


def test_a_coarser_reference() -> None:
    text = refusal(volume(finer(rigid(), (1, 0.5, 0.25), EDGE), (6, 4, 2), path="ref.nii"))
    assert text == (
        "like ref.nii: a voxel of scan.nii is 1, 0.5, 0.25 of its voxels along i, j, k: it is coarser along j and k, "
        "and nothing is made coarser here; give a reference that is at least as fine along every axis"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (np.eye(4)[[1, 0, 2, 3]], "its axes run along +j, +i, +k of scan.nii; store one of them with the axes"),
        (np.diag([1, -1, -1, 1]), "its axes run along +i, -j, -k of scan.nii; store one of them with the axes"),
        (np.eye(4)[[2, 0, 1, 3]] * [[-1], [1], [1], [1]], "its axes run along +j, +k, -i of scan.nii; store"),
    ],
    ids=["swapped", "flipped", "turned about"],
)
def test_axes_that_are_listed_otherwise(change: Matrix, said: str) -> None:
    for turn in (0.0, 0.7):
        source = volume(rigid(turn=turn))
        reference = volume(finer(rigid(turn=turn), (2, 2, 2), EDGE) @ change, (12, 14, 10), path="ref.nii")
        assert refusal(reference, source).startswith(f"like ref.nii: {said}")


def test_a_reference_that_is_turned() -> None:
    turn = np.eye(4)
    turn[:3, :3] = euler2mat(z=np.radians(5))
    reference = volume(turn @ finer(rigid(), (2, 2, 2), EDGE), (12, 14, 10), path="ref.nii")
    assert refusal(reference) == (
        "like ref.nii: it is turned by 5 degrees against scan.nii; upsample along the scan's own axes and resample that"
    )
    swapped = volume(turn @ finer(rigid(), (2, 2, 2), EDGE)[:, [1, 0, 2, 3]], (14, 12, 10), path="ref.nii")
    assert "its axes run along +j, +i, +k of scan.nii and it is turned by 5 degrees against" in refusal(swapped)


def test_a_reference_that_is_sheared() -> None:
    shear = np.eye(4)
    shear[0, 1] = 0.1
    reference = volume(shear @ finer(rigid(), (2, 2, 2), EDGE), (12, 14, 10), path="ref.nii", qform=0)
    assert "it is sheared against scan.nii; upsample along the scan's own axes" in refusal(reference)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_matrix_that_says_no_place(value: float) -> None:
    broken = volume(rigid())
    broken.header["srow_x"] = value
    broken = nifti_header.info(broken.header, "broken.nii", compressed=False, axes=None, data_format=None)
    expected = "broken.nii: its voxel-to-world matrix is singular and says no place; repair the header first"
    assert refusal(broken) == expected
    assert refusal(volume(rigid()), broken) == expected


def test_a_reference_with_more_voxels_at_its_ends() -> None:
    source = volume(rigid(turn=0.3))
    reference = volume(finer(rigid(turn=0.3), (2, 2, 2), (-1.25, -0.25, 0.25)), (15, 14, 10), path="ref.nii")
    text = complaint(a_job(source, scale=2), reference)
    assert text == (
        "it has 15x14x10 voxels, the output 12x14x10 (+3 along i); it lies (-2, 0, +1) output voxels or (-2, 0, +2) mm "
        "along i, j, k off the output, everywhere; along i it has 2 voxels more at the start and 1 voxel more at the "
        "end; along k it has 1 voxel fewer at the start and 1 voxel more at the end; crop or pad the result"
    )


def test_a_shape_alone_that_differs() -> None:
    reference = volume(finer(rigid(), (2, 2, 2), EDGE), (11, 13, 10), path="ref.nii")
    text = complaint(a_job(volume(rigid()), scale=2), reference)
    assert text.startswith(
        "it has 11x13x10 voxels, the output 12x14x10 (-1 along i, j); along i, j it has 1 voxel fewer at"
    )


def test_voxels_that_are_a_little_larger_lie_off_more_and_more() -> None:
    source = volume(rigid(), (200, 7, 5))
    reference = volume(finer(rigid(), (2 / 1.0005, 2, 2), (-0.25, -0.25, -0.25)), (400, 14, 10), path="ref.nii")
    assert strides_like(source, reference) == (2, 2, 2), "as near as that is whole"
    text = complaint(a_job(source, scale=2), reference)
    assert "its voxels are 1.0005 x 0.75 x 2 mm, the output's 1 x 0.75 x 2 mm" in text
    assert re.search(
        r"it lies \(\+0\.0997\d?, 0, 0\) output voxels or \(\+0\.0997\d?, 0, 0\) mm along i, j, k off", text
    )
    assert " off the output in the middle, (" in text
    assert "(+0.1995, 0, 0) voxels or 0.1995 mm at the farthest corner" in text
    assert text.endswith("leave --like out to keep the layer's own grid")


def test_a_thousandth_of_a_voxel_is_let_pass_and_two_are_not() -> None:
    source = volume(rigid())
    job = a_job(source, scale=2)
    for thousandths, fits in ((0.9, True), (2.0, False)):
        shift = (-0.25 + thousandths * 0.5e-3, -0.25, -0.25)
        reference = volume(finer(rigid(), (2, 2, 2), shift), (12, 14, 10), path="ref.nii")
        if fits:
            assert landed(job, reference) == ()
        else:
            assert re.search(r"it lies \(\+0\.00200?\d?, 0, 0\) output voxels", complaint(job, reference))


def test_float32_is_not_taken_for_a_miss() -> None:
    """Voxels of a tenth of a micrometre, 80 mm from the origin: float32 says their place to a few voxels at best."""
    matrix = np.diag([1e-4, 1e-4, 1e-4, 1.0])
    matrix[:3, 3] = 80.1, -33.3, 51.7
    source = volume(matrix)
    job = a_job(source, scale=2)
    assert landed(job, written(job.target)) == ()
    assert job.target.affine is not None
    moved = finer(job.target.affine, (1, 1, 1), (0.1, 0, 0))
    assert landed(job, volume(moved, (12, 14, 10), path="ref.nii")) == (), "float32 does not know the difference"
    moved = finer(job.target.affine, (1, 1, 1), (1, 0, 0))
    text = complaint(job, volume(moved, (12, 14, 10), path="ref.nii"))
    assert re.search(r"it lies \(\+(1|0\.9|1\.\d)\d*, 0, 0\) output voxels", text), "but one of a whole voxel"


def test_strides_of_ones_own_may_contradict_the_reference() -> None:
    reference = volume(finer(rigid(), (2, 2, 2), EDGE), (12, 14, 10), path="ref.nii")
    text = complaint(a_job(volume(rigid()), scale=4), reference)
    assert "its voxels are 1 x 0.75 x 2 mm, the output's 0.5 x 0.375 x 1 mm; leave out what says other strides" in text


def test_units_are_brought_together() -> None:
    source, micro = volume(rigid()), np.diag([1000.0, 1000, 1000, 1])
    reference = volume(micro @ finer(rigid(), (2, 2, 2), EDGE), (12, 14, 10), path="ref.nii", unit=3)
    assert strides_like(source, reference) == (2, 2, 2)
    job = a_job(source, scale=2)
    assert landed(job, reference) == ()
    placed = pinned(job.target, reference)
    assert bits(placed) == bits(reference)
    assert (placed.unit, int(placed.header["xyzt_units"]) & 56) == ("um", 8), "the unit of time is the scan's own"
    assert placed.spacing == pytest.approx((1000, 750, 2000))


# Volumes that do not say where they are.


def test_voxel_sizes_must_do_where_there_is_no_place() -> None:
    silent = volume(rigid(), sform=0, qform=0)
    reference = volume(finer(rigid(), (2, 1, 2), (0, 0, 0)), (12, 7, 10), path="ref.nii")
    assert strides_like(silent, reference) == (2, 1, 2)
    job = a_job(silent, scale=(2, 1, 2))
    assert landed(job, reference) == ("where voxels lie was not compared with ref.nii: scan.nii does not say it",)
    assert bits(pinned(job.target, reference)) == bits(reference)
    longer = replace(reference, shape=(13, 7, 10))
    assert complaint(job, longer).startswith("it has 13x7x10 voxels, the output 12x7x10 (+1 along i); leave --like out")
    wide = volume(finer(rigid(), (2, 1, 4), (0, 0, 0)), (12, 7, 10), path="ref.nii")
    assert "its voxels are 1 x 1.5 x 1 mm, the output's 1 x 1.5 x 2 mm" in complaint(job, wide)


def test_a_silent_reference_leaves_the_place_as_it_is() -> None:
    source = volume(rigid())
    silent = volume(finer(rigid(), (2, 2, 2), EDGE), (12, 14, 10), path="ref.nii", sform=0, qform=0)
    job = a_job(source, scale=2)
    assert landed(job, silent) == ("where voxels lie was not compared with ref.nii: ref.nii does not say it",)
    assert pinned(job.target, silent) is job.target


def stack(path: Path, shape: tuple[int, ...], **attributes: Any) -> VolumeInfo:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", data=whole_numbers(*shape))
        for name, value in attributes.items():
            dataset.attrs[name] = value
    return read_info(f"{path}:/raw")


def test_hdf5_by_sizes_shapes_and_names(tmp_path: Path) -> None:
    source = stack(tmp_path / "a.h5", (4, 6, 8), element_size_um=[4.0, 1.5, 2.0])
    reference = stack(tmp_path / "b.h5", (8, 6, 24), voxel_size_mm=[2e-3, 1.5e-3, 2e-3 / 3])
    assert strides_like(source, reference) == (2, 1, 3)
    bare = stack(tmp_path / "c.h5", (8, 6, 24))
    assert strides_like(source, bare) == (2, 1, 3), "by shape"
    odd = stack(tmp_path / "d.h5", (9, 6, 24))
    assert "is 2.25, 1, 3 of its voxels along 0, 1, 2, and no transposed convolution makes 2.25" in refusal(odd, source)
    named, turned = (stack(tmp_path / f"{axes}.h5", (4, 6, 8), axes=axes) for axes in ("zyx", "xyz"))
    assert f"like {turned.path}: lists its axes as x, y, z, {named.path} as z, y, x; store" in refusal(turned, named)
    assert "lists its axes as z, y, x, scan.nii as i, j, k; store one of them" in refusal(named, volume(rigid()))
    assert strides_like(volume(rigid(), (4, 3, 2)), turned) == (1, 2, 4)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_voxel_sizes_that_cannot_be_are_not_believed(tmp_path: Path, value: float) -> None:
    source = stack(tmp_path / "a.h5", (4, 6, 8), element_size_um=[value, 1.5, 2.0])
    reference = stack(tmp_path / "b.h5", (8, 12, 16), element_size_um=[1.0, 0.5, 1.0])
    assert strides_like(source, reference) == (2, 2, 2), "shapes are"


def test_hdf5_takes_the_reference_s_place(tmp_path: Path) -> None:
    matrix = rigid(turn=0.2)
    source = stack(tmp_path / "a.h5", (4, 6, 8), affine=matrix, element_size_mm=[2.0, 1.5, 4.0])
    fine = finer(matrix, (2, 2, 2), np.add(EDGE, 1e-4))
    reference = stack(tmp_path / "b.h5", (8, 12, 16), affine=fine, element_size_mm=[1.00001, 0.75, 2.0])
    assert strides_like(source, reference) == (2, 2, 2)
    job = a_job(source, form="hdf5", path="out.h5", scale=2)
    assert landed(job, reference) == ()
    placed = pinned(job.target, reference)
    np.testing.assert_array_equal(placed.attributes["affine"], reference.attributes["affine"])
    np.testing.assert_array_equal(placed.attributes["element_size_mm"], reference.attributes["element_size_mm"])
    np.testing.assert_array_equal(np.asarray(placed.affine), fine)


def test_nifti_takes_the_place_of_an_hdf5_reference_and_the_other_way_round(tmp_path: Path) -> None:
    matrix = rigid(turn=0.2)
    fine = finer(matrix, (2, 2, 2), EDGE)
    source, reference = volume(matrix), stack(tmp_path / "b.h5", (12, 14, 10), affine=fine)
    job = a_job(source, scale=2)
    assert strides_like(source, reference) == (2, 2, 2)
    assert landed(job, reference) == ()
    placed = pinned(job.target, reference)
    np.testing.assert_array_equal(nifti_header.world(placed.header), fine.astype(np.float32))
    assert int(placed.header["sform_code"]) == 1

    nifti = volume(fine, (12, 14, 10), path="ref.nii", kind=Nifti2Header)
    job = a_job(source, form="hdf5", path="out.h5", scale=2)
    assert landed(job, nifti) == ()
    placed = pinned(job.target, nifti)
    np.testing.assert_allclose(placed.attributes["affine"], fine, rtol=1e-6)
    stored, _ = nifti_header.parse(placed.attributes["nifti_header"].tobytes(), "stored")
    assert stored["srow_x"].tolist() == fine[0].astype(np.float32).tolist()


def test_what_is_not_the_place_stays_the_scan_s_own() -> None:
    source, other = volume(rigid()), volume(finer(rigid(), (2, 2, 2), EDGE), (12, 14, 10), path="ref.nii")
    source.header["descrip"], other.header["descrip"] = b"mine", b"its"
    source.header["pixdim"][4], other.header["pixdim"][4] = 2.5, 7
    other.header["cal_max"], other.header["dim_info"], other.header["intent_code"] = 9, 57, 3
    other.header["sform_code"], other.header["qform_code"] = 4, 2
    job = a_job(source, scale=2)
    assert landed(job, other) == ()
    placed = pinned(job.target, other)
    assert bits(placed) == bits(other)
    for name in set(placed.header.keys()) - {*SPATIAL_FIELDS, "pixdim"}:
        assert placed.header[name].tobytes() == job.target.header[name].tobytes(), name
    assert placed.header["pixdim"][4] == 2.5
    assert bits(job.target) != bits(other), "the job's own header is another"


def test_like_takes_everything_from_a_file(run: Run, tmp_path: Path) -> None:
    """Through the front door: the result of another tool, here with first centres together."""
    source = save_nifti(tmp_path / "in.nii", whole_numbers(*SHAPE), rigid(turn=0.3))
    header = Nifti1Header()
    header.set_xyzt_units("mm")
    reference = save_nifti(
        tmp_path / "ref.nii", whole_numbers(12, 14, 5), finer(rigid(turn=0.3), (2, 2, 1), (0, 0, 0)), header=header
    )
    missed = run("upsample", source, tmp_path / "out.nii", "--like", reference)
    assert missed.code == 65
    assert (
        "it lies (+0.5, +0.5, 0) output voxels or (+0.5, +0.375, 0) mm along i, j, k off the output" in missed.complaint
    )
    assert "--align origin would make the header agree, but moves only the header" in missed.complaint
    assert run("upsample", source, tmp_path / "out.nii", "--like", reference, "--align", "origin").code == 0
    assert bits(read_info(str(tmp_path / "out.nii"))) == bits(read_info(str(reference)))
    assert run("upsample", source, tmp_path / "plain.nii", "--scale", "2,2,1").code == 0
    np.testing.assert_array_equal(load(tmp_path / "out.nii"), load(tmp_path / "plain.nii"))
