"""Do pictures of volumes show what lies where, the same places before and after, and read no more than that takes?"""

from __future__ import annotations

import gzip
import io
import tracemalloc
from itertools import permutations, product
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff, ornt2axcodes
from numpy.typing import NDArray
from PIL import Image

from conv3dt import preview
from conv3dt.errors import ArgumentError, Conv3dtError, DataError
from conv3dt.io.files import open_source, read_info
from conv3dt.io.volume import Index, VolumeInfo
from conv3dt.slices import Slice, View, grid_of, in_order, read_slices, view_of
from conv3dt.visible import visible
from tests.conftest import Run, imported_by, listing, save_nifti, whole_numbers

Array = NDArray[Any]
ORIENTATIONS = [
    np.array(list(zip(order, flips, strict=True)), np.float64)
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]
RAS = np.diag([2.0, 3.0, 4.0, 1.0])
RAS[:3, 3] = [-5.0, 7.0, 11.0]


def info_of(shape: tuple[int, ...], affine: Array | None, axes: str = "ijk", **fields: Any) -> VolumeInfo:
    return VolumeInfo("memory", "array", shape, axes, np.dtype(np.int32), affine=affine, **fields)


class Memory:
    """A volume in memory that keeps which boxes were asked for."""

    sequential = False

    def __init__(self, info: VolumeInfo, array: Array) -> None:
        self.info, self._array = info, array
        self.boxes: list[Index] = []

    def read(self, index: Index) -> Array:
        self.boxes.append(index)
        return np.asarray(self._array[index])

    def finish(self) -> None: ...

    def close(self) -> None: ...


def seen(volumes: list[tuple[Array, Array]], *, pixels: int = 64, **place: Any) -> tuple[View, list[list[Slice]]]:
    """What volumes with affines show."""
    place = {"at": None, "voxel": None} | place
    infos = [info_of(array.shape, affine) for array, affine in volumes]
    grids = [grid_of(info, (infos[0], grid_of(infos[0]))) for info in infos]
    view = view_of(infos, grids, pixels=pixels, **place)
    return view, [
        read_slices(Memory(info, array), grid, view, volume=0, channel=0)
        for info, (array, _), grid in zip(infos, volumes, grids, strict=True)
    ]


def reoriented(array: Array, affine: Array, orientation: Array) -> tuple[Array, Array]:
    """The same voxels at the same places, axes permuted and turned round."""
    return apply_orientation(array, orientation), affine @ inv_ornt_aff(orientation, array.shape)


def repeated(array: Array, affine: Array, times: tuple[int, int, int]) -> tuple[Array, Array]:
    """The same picture of the world on a grid that is finer by whole numbers."""
    for axis, count in enumerate(times):
        array = array.repeat(count, axis)
    finer = np.diag([*(1 / count for count in times), 1.0])
    finer[:3, 3] = [(1 / count - 1) / 2 for count in times]
    return array, affine @ finer


@st.composite
def affines(draw: st.DrawFn) -> Array:
    """Sizes, a rotation, a turned or mirrored frame and a place."""
    angles = [draw(st.floats(-0.6, 0.6)) for _ in range(3)]
    sizes = [draw(st.sampled_from([0.5, 1.0, 1.25, 2.0, 3.0])) for _ in range(3)]
    matrix = np.eye(4)
    for angle, (a, b) in zip(angles, [(0, 1), (1, 2), (0, 2)], strict=True):
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix[:3, :3] = matrix[:3, :3] @ turn
    matrix[:3, :3] *= sizes
    matrix[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    orientation = draw(st.sampled_from(ORIENTATIONS))
    return np.asarray(matrix @ inv_ornt_aff(orientation, (5, 6, 7)))


SHAPES = st.tuples(*[st.integers(2, 8)] * 3)


# Where things are.


@settings(max_examples=40, deadline=None)
@given(SHAPES, affines(), SHAPES, affines(), st.integers(16, 90), st.integers(0, 2**32 - 1))
def test_a_pixel_shows_the_voxel_whose_centre_is_nearest(
    shape: tuple[int, ...], affine: Array, other: tuple[int, ...], its: Array, pixels: int, seed: int
) -> None:
    its = its.copy()
    its[:3, 3] += affine[:3] @ [*(n / 2 for n in shape), 1] - its[:3] @ [*(n / 2 for n in other), 1]
    first, second = whole_numbers(*shape, seed=seed), whole_numbers(*other, seed=seed + 1)
    view, shown = seen([(first, affine), (second, its)], pixels=pixels)
    for (array, matrix), slices in zip([(first, affine), (second, its)], shown, strict=True):
        for panel, part in zip(view.panels, slices, strict=True):
            for row, column in product(range(0, part.values.shape[0], 7), range(0, part.values.shape[1], 5)):
                u, v = ((n + 0.5) / view.samples - 0.5 for n in (column, row))
                world = panel.corner + u * panel.right + v * panel.down
                index = np.linalg.solve(matrix, [*world, 1.0])[:3]
                if (np.abs((index % 1) - 0.5) < 4e-3).any():
                    continue  # half-way between two
                nearest = tuple(np.rint(index).astype(int))
                inside = all(0 <= at < n for at, n in zip(nearest, array.shape, strict=True))
                assert part.inside[row, column] == inside
                assert part.values[row, column] == (array[nearest] if inside else 0)


@settings(max_examples=40, deadline=None)
@given(SHAPES, affines(), st.tuples(*[st.integers(1, 3)] * 3), st.sampled_from(ORIENTATIONS), st.integers(16, 120))
def test_a_finer_grid_turned_round_shows_the_same_pixels(
    shape: tuple[int, ...], affine: Array, times: tuple[int, int, int], orientation: Array, pixels: int
) -> None:
    array = whole_numbers(*shape)
    finer = reoriented(*repeated(array, affine, times), orientation)
    _, (before, after) = seen([(array, affine), finer], pixels=pixels)
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first.inside, second.inside)
        np.testing.assert_array_equal(first.values, second.values)


@settings(max_examples=25, deadline=None)
@given(affines(), st.integers(0, 2**32 - 1), st.sampled_from(ORIENTATIONS))
def test_a_blob_lies_at_the_same_pixel_within_half_an_output_voxel(affine: Array, seed: int, turn: Array) -> None:
    random = np.random.default_rng(seed)
    shape, times = (7, 8, 9), (2, 2, 2)
    middle = random.uniform(2, 4, 3)
    world = (affine @ [*middle, 1.0])[:3]

    def blob(counts: tuple[int, ...], matrix: Array) -> Array:
        places = np.moveaxis(np.indices(counts), 0, -1) @ matrix[:3, :3].T + matrix[:3, 3]
        voxel = np.linalg.inv(affine[:3, :3])
        distance = (((places - world) @ voxel.T) ** 2).sum(axis=-1)
        return np.asarray(np.rint(1000 * np.exp(-distance / 2)), np.int32)

    (_, finer) = repeated(np.zeros(shape), affine, times)
    counts = tuple(n * times[0] for n in shape)
    turned = reoriented(blob(counts, finer), finer, turn)
    view, shown = seen([(blob(shape, affine), affine), turned], pixels=200, at=world)
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)) / times[0]
    for slices in shown:
        for panel, part in zip(view.panels, slices, strict=True):
            weight = part.values.astype(np.float64)
            rows, columns = np.indices(weight.shape)
            found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
            offset = (found - panel.cross) * view.pixel
            assert np.abs(offset).max() <= sizes.max() / 2


def test_half_a_voxel_of_shift_is_seen_as_half_a_voxel() -> None:
    array = whole_numbers(6, 7, 8)
    wrong = RAS.copy()
    wrong[:3, 3] += RAS[:3, 0] / 2
    view, (before, after) = seen([(array, RAS), (array, wrong)], pixels=120, voxel=(3, 3, 3))
    half = round(RAS[0, 0] / 2 / view.pixel)
    assert half >= 1
    for first, second in zip(before[:2], after[:2], strict=True):
        assert (first.values != second.values).any()
        # Shifted to the patient's right, which is on the left.
        np.testing.assert_array_equal(first.values[:, half:], second.values[:, :-half])


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda turn: "".join(ornt2axcodes(turn)))
def test_all_orientations_of_a_scan_look_alike(orientation: Array) -> None:
    array = whole_numbers(6, 7, 8)
    point = (RAS @ [2, 4, 3, 1])[:3]
    _, (upright,) = seen([(array, RAS)], at=point)
    _, (turned,) = seen([reoriented(array, RAS, orientation)], at=point)
    for first, second in zip(upright, turned, strict=True):
        np.testing.assert_array_equal(first.values, second.values)


def test_the_patients_right_is_on_the_left_and_the_front_up_or_left() -> None:
    array = np.zeros((9, 9, 9), np.int32)
    array[8, 4, 4], array[4, 8, 4], array[4, 4, 8] = 1, 2, 3  # right, front, top
    view, (slices,) = seen([(array, np.eye(4))])

    def place(panel: int, value: int) -> tuple[str, str]:
        rows, columns = np.nonzero(slices[panel].values == value)
        up = {-1: "up", 0: "middle", 1: "down"}[int(np.sign(round(rows.mean() - view.panels[panel].cross[1])))]
        left = {-1: "left", 0: "middle", 1: "right"}[int(np.sign(round(columns.mean() - view.panels[panel].cross[0])))]
        return left, up

    assert [panel.name for panel in view.panels] == ["axial", "coronal", "sagittal"]
    assert [panel.letters for panel in view.panels] == [tuple("RLAP"), tuple("RLSI"), tuple("APSI")]
    assert [place(0, 1), place(0, 2)] == [("left", "middle"), ("middle", "up")]
    assert [place(1, 1), place(1, 3)] == [("left", "middle"), ("middle", "up")]
    assert [place(2, 2), place(2, 3)] == [("left", "middle"), ("middle", "up")]


def test_without_an_affine_first_faces_lie_together() -> None:
    array = whole_numbers(4, 5, 6)
    infos = [info_of((4, 5, 6), None, "zyx", spacing=(2.0, 1.0, 1.0)),
             info_of((8, 10, 12), None, "zyx", spacing=(1.0, 0.5, 0.5))]  # fmt: skip
    arrays = [array, array.repeat(2, 0).repeat(2, 1).repeat(2, 2)]
    grids = [grid_of(infos[0]), grid_of(infos[1], (infos[0], grid_of(infos[0])))]
    view = view_of(infos, grids, at=None, voxel=(1, 2, 3), pixels=60)
    before, after = (
        read_slices(Memory(info, array), grid, view, volume=0, channel=0)
        for info, array, grid in zip(infos, arrays, grids, strict=True)
    )
    assert [panel.name for panel in view.panels] == ["across axis z", "across axis y", "across axis x"]
    assert view.panels[0].letters == ("", "x", "", "y")
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first.values, second.values)
    side = before[0].values[before[0].inside].reshape(before[0].inside.any(axis=1).sum(), -1)
    times = side.shape[0] // 5
    np.testing.assert_array_equal(side, array[1].repeat(times, 0).repeat(times, 1))


def test_without_a_voxel_size_a_volume_is_laid_over_the_first() -> None:
    first = info_of((4, 5, 6), None, "012")
    grid = grid_of(info_of((8, 10, 18), None, "012"), (first, grid_of(first)))
    assert grid.sizes == pytest.approx((0.5, 0.5, 1 / 3))


def test_pixels_are_a_whole_part_or_multiple_of_the_finest_voxel() -> None:
    for pixels in (16, 30, 64, 301):
        view, _ = seen([(whole_numbers(20, 21, 22), RAS)], pixels=pixels)
        ratio = 2.0 / view.pixel
        assert max(ratio, 1 / ratio) == pytest.approx(round(max(ratio, 1 / ratio)))
        assert max(max(panel.width, panel.height) for panel in view.panels) <= pixels


# What is read.


def test_no_voxel_is_read_that_is_not_shown() -> None:
    array = whole_numbers(40, 50, 60)
    info = info_of(array.shape, RAS)
    source = Memory(info, array)
    grid = grid_of(info)
    read_slices(source, grid, view_of([info], [grid], at=None, voxel=(1, 2, 3), pixels=100), volume=0, channel=0)
    sides = [tuple(part.stop - part.start for part in box) for box in source.boxes]
    assert sorted(sides) == [(1, 50, 60), (40, 1, 60), (40, 50, 1)]


def test_large_boxes_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    array = whole_numbers(30, 31, 32)
    tilted = RAS.copy()
    tilted[:3, :3] = tilted[:3, :3] @ np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    info, first = info_of(array.shape, RAS, fortran=True), info_of(array.shape, tilted)
    grids = [grid_of(first), grid_of(info)]
    view = view_of([first, info], grids, at=None, voxel=None, pixels=80)
    whole = read_slices(Memory(info, array), grids[1], view, volume=0, channel=0)
    monkeypatch.setattr("conv3dt.slices.MOST_BYTES", 2000)
    source = Memory(info, array)
    pieces = read_slices(source, grids[1], view, volume=0, channel=0)
    assert len(source.boxes) > 50
    assert max(array[box].size for box in source.boxes) * 4 <= 2000
    for first_part, second_part in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(first_part.values, second_part.values)


def files_of(folder: Path, array: Array, axes: str) -> list[tuple[str, str | None]]:
    """The same volume in every format, and the axes to be said."""
    save_nifti(folder / "a.nii", array, RAS)
    save_nifti(folder / "a.nii.gz", array, RAS)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("packed", data=array, chunks=tuple(min(n, 4) for n in array.shape), compression="gzip")
        file.create_dataset("plain", data=array)
        for name in ("packed", "plain"):
            file[name].attrs["affine"] = RAS
    return [(str(folder / "a.nii"), axes), (str(folder / "a.nii.gz"), axes),
            (f"{folder}/a.h5:/packed", axes), (f"{folder}/a.h5:/plain", axes)]  # fmt: skip


@pytest.mark.parametrize(
    ("axes", "shape", "volume", "channel"),
    [
        ("xyz", (6, 7, 8), 0, 0),
        ("xyzt", (6, 7, 8, 3), 2, 0),
        ("cxyz", (3, 6, 7, 8), 0, 1),
        ("txyzc", (2, 6, 7, 8, 3), 1, 2),
        ("xytz", (6, 7, 3, 8), 1, 0),
        ("tcxyz", (2, 3, 6, 7, 8), 1, 2),
        ("xyztu", (6, 7, 8, 2, 3), 4, 0),
    ],
)
def test_every_format_shows_the_same_voxels(
    tmp_path: Path, axes: str, shape: tuple[int, ...], volume: int, channel: int
) -> None:
    array = whole_numbers(*shape)
    fixed: list[Any] = [slice(None)] * len(shape)
    volumes = np.unravel_index(volume, [n for n, letter in zip(shape, axes, strict=True) if letter in "tu"] or [1])
    for letter, at in zip([letter for letter in axes if letter in "tu"], volumes, strict=False):
        fixed[axes.index(letter)] = int(at)
    if "c" in axes:
        fixed[axes.index("c")] = channel
    _, (expected,) = seen([(array[tuple(fixed)], RAS)], voxel=(2, 5, 3))
    for path, named in files_of(tmp_path, array, axes):
        info = read_info(path, axes=named)
        grid = grid_of(info)
        view = view_of([info], [grid], at=None, voxel=(2, 5, 3), pixels=64)
        source = open_source(info, threads=1, in_order=in_order(info))
        try:
            found = read_slices(source, grid, view, volume=volume, channel=channel)
        finally:
            source.close()
        for first, second in zip(expected, found, strict=True):
            np.testing.assert_array_equal(first.values, second.values, err_msg=path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_memory_does_not_grow_with_the_scan(tmp_path: Path, suffix: str) -> None:
    array = np.zeros((256, 256, 1000), np.uint8)
    array[100:150, 100:150, ::5] = 200
    path = save_nifti(tmp_path / f"long{suffix}", array, np.eye(4))
    tracemalloc.start()
    try:
        preview.slices_png([str(path)], pixels=250)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes / 2


def test_a_plane_that_no_memory_should_hold_is_refused(tmp_path: Path, run: Run) -> None:
    path = save_nifti(tmp_path / "bomb.nii.gz", np.zeros((2, 2, 2), np.int16), RAS)
    header = bytearray(gzip.decompress(path.read_bytes())[:352])
    header[40:48] = np.array([3, 32767, 32767, 2], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(header) + np.random.default_rng(0).bytes(4_000_000), 1))
    done = run("preview", path, "-o", tmp_path / "out.png")
    assert (done.code, listing(tmp_path)) == (75, ["bomb.nii.gz"])
    assert "one plane takes 2147352578 bytes" in done.complaint


# What is drawn.


def panels_of(png: bytes) -> list[list[Array]]:
    """The panels of each column of a picture: rectangles with a rim in the colour of the outside."""
    sheet = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    outside = (sheet == preview.OUTSIDE).all(axis=2)

    def runs(line: Array) -> list[slice]:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(int)))
        return [slice(a, b) for a, b in edges.reshape(-1, 2)]

    return [
        [sheet[rows, columns] for rows in runs(outside[:, columns].any(axis=1))]
        for columns in runs(outside.any(axis=0))
    ]


def test_upsampled_by_nearest_looks_as_before(run: Run, sample: Path, tmp_path: Path) -> None:
    after = tmp_path / "up.nii.gz"
    assert run("upsample", sample / "head.nii.gz", after, "--kernel", "nearest", "--scale", "2,2,4", "-q").code == 0
    done = run("preview", sample / "head.nii.gz", after, "-o", tmp_path / "both.png")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"{tmp_path}/both.png: ")
    first, second = panels_of((tmp_path / "both.png").read_bytes())
    assert len(first) == len(second) == 3
    for before, now in zip(first, second, strict=True):
        np.testing.assert_array_equal(before, now)


def test_the_window_is_that_of_the_first(tmp_path: Path) -> None:
    ramp = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    first = save_nifti(tmp_path / "a.nii", ramp, np.eye(4))
    second = save_nifti(tmp_path / "b.nii", (ramp + 200).astype(np.int16), np.eye(4))
    third = save_nifti(tmp_path / "c.nii", ramp, np.eye(4), scl_slope=1.0, scl_inter=200.0)
    one, two, three = panels_of(preview.slices_png([str(first), str(second), str(third)], pixels=24))
    for a, b, c in zip(one, two, three, strict=True):
        np.testing.assert_array_equal(b, c)
        drawn = (a != preview.OUTSIDE).any(axis=2)
        assert (b[drawn].astype(int) >= a[drawn]).all()
        assert b[drawn].mean() > a[drawn].mean() + 20


def test_panels_of_all_columns_stand_at_the_same_heights(tmp_path: Path) -> None:
    array = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    plain = save_nifti(tmp_path / "a.nii", array, np.eye(4))
    array[5] = np.nan  # is told in a line of its own above
    broken = save_nifti(tmp_path / ("long " * 30 + ".nii"), array, np.eye(4))
    with Image.open(io.BytesIO(preview.slices_png([str(plain), str(broken)], pixels=48))) as image:
        outside = (np.asarray(image.convert("RGB")) == preview.OUTSIDE).all(axis=2)
    left, right = outside[:, : outside.shape[1] // 2], outside[:, outside.shape[1] // 2 :]
    np.testing.assert_array_equal(left.any(axis=1), right.any(axis=1))


def test_what_is_no_number_is_told(tmp_path: Path) -> None:
    array = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    array[5, 5, 5], array[4, 5, 5], array[5, 4, 5] = np.nan, np.inf, 3e38
    path = save_nifti(tmp_path / "a.nii", array, np.eye(4))
    ((axial, _, _),) = _three(preview.slices_png([str(path)], pixels=36))
    found = (axial == preview.BROKEN).all(axis=2)
    assert found.sum() == 2 * 9
    assert (axial == 255).all(axis=2).any()


def _three(png: bytes) -> list[list[Array]]:
    """The panels of a single volume, which stand beside each other."""
    return [[panel for column in panels_of(png) for panel in column]]


def test_labels_have_colours_of_their_own(tmp_path: Path) -> None:
    array = np.zeros((8, 8, 8), np.uint8)
    array[:4], array[4:], array[:, :2] = 3, 7, 0
    finer, affine = repeated(array, np.eye(4), (2, 2, 2))
    before = save_nifti(tmp_path / "a.nii", array, np.eye(4), intent_code=1002)
    after = save_nifti(tmp_path / "b.nii.gz", finer, affine, intent_code=1002)
    first, second = panels_of(preview.slices_png([str(before), str(after)], pixels=40))
    colours = {tuple(pixel) for pixel in np.concatenate([panel.reshape(-1, 3) for panel in first]).tolist()}
    assert len(colours) == 4, "two labels, 0 and the outside"
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("value", [0, 5, -3])
def test_a_volume_of_one_value_can_be_drawn(tmp_path: Path, value: int) -> None:
    path = save_nifti(tmp_path / "a.nii", np.full((3, 3, 3), value, np.int16), np.eye(4))
    assert len(_three(preview.slices_png([str(path)]))[0]) == 3


def test_the_same_volumes_give_the_same_bytes(sample: Path) -> None:
    paths = [str(sample / "head.nii.gz"), str(sample / "series.nii.gz")]
    assert preview.slices_png(paths, pixels=64) == preview.slices_png(paths, pixels=64)
    assert preview.before_after(*paths) == preview.before_after(*paths)


def test_names_of_files_may_be_anything(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4), np.eye(4))
    for name in ("\u202egnp\n<b>.nii", "\udcff\x07.nii", "x" * 200 + ".nii", "\u8133.nii"):
        path = path.rename(tmp_path / name)
        assert len(_three(preview.slices_png([str(path)], pixels=32))[0]) == 3


def test_text_is_spelled_out_and_cut() -> None:
    assert visible("a\tb\u2028\u202e\udcff\ue000\U000e0001") == r"a\x09b\u2028\u202e\udcff\ue000\U000e0001"
    assert visible("a<b>&\u8133\u00e9") == "a<b>&\u8133\u00e9"
    assert visible("x" * 100, 20) == "x" * 5 + "\u2026" + "x" * 14
    assert all(len(visible("x" * 100, most)) == most for most in range(8, 100))


# Small pictures for pages.


def test_before_and_after_have_one_size_and_one_window(tmp_path: Path) -> None:
    array = whole_numbers(12, 13, 14)
    before = save_nifti(tmp_path / "a.nii", array, RAS)
    after = save_nifti(tmp_path / "b.nii.gz", *repeated(array, RAS, (2, 2, 2)))
    first, second = preview.before_after(str(before), str(after))
    one, two = (np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")) for raw in (first, second))
    np.testing.assert_array_equal(one, two)
    assert one.shape[1] <= 3 * preview.THUMB_PIXELS + 4
    assert len(first) < 20_000


def test_axes_of_before_and_after_may_differ(tmp_path: Path) -> None:
    array = whole_numbers(6, 7, 8)
    before = save_nifti(tmp_path / "a.nii", array, RAS)
    after = save_nifti(tmp_path / "b.nii", np.stack([array, 0 * array]), RAS)
    first, second = preview.before_after(str(before), str(after), before_axes="ijk", after_axes="cijk")
    assert first == second


def broken_files(folder: Path) -> dict[str, Path]:
    array = whole_numbers(6, 7, 8)
    cut = save_nifti(folder / "cut.nii.gz", np.random.default_rng(0).integers(0, 9999, (20, 20, 20)), RAS)
    cut.write_bytes(cut.read_bytes()[:9000])
    singular = np.diag([1.0, 0.0, 1.0, 1.0])
    (folder / "text.nii").write_text("no volume")
    return {
        "missing": folder / "missing.nii",
        "folder": folder,
        "cut": cut,
        "singular": save_nifti(folder / "s.nii", array, sform_code=1, srow_x=singular[0], srow_y=singular[1]),
        "nan": save_nifti(folder / "n.nii", array, sform_code=1, srow_x=[np.nan] * 4),
        "text": folder / "text.nii",
        "nowhere": save_nifti(folder / "p.nii", array),
    }


@pytest.mark.parametrize("name", ["missing", "folder", "cut", "singular", "nan", "text", "nowhere"])
def test_what_cannot_be_drawn_is_one_line(tmp_path: Path, run: Run, name: str) -> None:
    good = save_nifti(tmp_path / "good.nii", whole_numbers(6, 7, 8), RAS)
    bad = broken_files(tmp_path)[name]
    before = listing(tmp_path)
    with pytest.raises(Conv3dtError):
        preview.before_after(str(good), str(bad))
    done = run("preview", good, bad, "-o", tmp_path / "out.png")
    assert done.code == (66 if name == "missing" else 65)
    assert done.complaint
    assert listing(tmp_path) == before


def test_an_unexpected_failure_is_contained(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("never thought of")

    monkeypatch.setattr(preview, "_window", broken)
    with pytest.raises(DataError, match="cannot be drawn: ZeroDivisionError never thought of"):
        preview.before_after(str(sample / "head.nii.gz"), str(sample / "head.nii.gz"))


# The command.


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--at", "0,0,500"], 2, "lies outside"),
        (["--at", "0,0,nan"], 2, "at must be three finite numbers"),
        (["--at", "1,2"], 2, "three numbers such as"),
        (["--voxel", "1,2,3.5"], 2, "three whole numbers such as"),
        (["--voxel", "1,2,28"], 2, "whose voxels are 0,0,0 to 47,55,27"),
        (["--voxel", "1,2,-1"], 2, "voxel 1,2,-1 is not in"),
        (["--at", "0,0,0", "--voxel", "1,2,3"], 2, "give one of them"),
        (["--volume", "1"], 2, "volume must be 0 for"),
        (["--channel", "2"], 2, "channel must be 0 for"),
        (["--pixels", "8"], 2, "--pixels"),
        (["--axes", "tzyx"], 2, "axes must name each of 3 axes"),
        (["-o", "picture.jpg"], 2, "ends in .png"),
        (["-o", "no/such/folder.png"], 73, "does not exist"),
        (["-o", "there.png"], 73, "exists already"),
    ],
)
def test_misuse_is_told_in_one_line(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int,
    complaint: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("there.png").write_text("keep me")
    done = run("preview", sample / "head.nii.gz", *(options if "-o" in options else ["-o", "out.png", *options]))
    assert done.code == code
    assert complaint in done.complaint
    assert listing(tmp_path) == ["there.png"]
    assert Path("there.png").read_text() == "keep me"


def test_points_of_the_world_need_a_world(run: Run, sample: Path, tmp_path: Path) -> None:
    done = run("preview", f"{sample}/cells.h5:/raw", "-o", tmp_path / "out.png", "--at", "1,2,3")
    assert (done.code, listing(tmp_path)) == (2, [])
    assert "give --voxel I,J,K instead" in done.complaint


def test_a_volume_is_not_written_over(run: Run, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4), RAS)
    path = path.rename(tmp_path / "scan.png")
    kept = path.read_bytes()
    assert run("preview", path, "-o", path, "--overwrite").code == 2
    assert path.read_bytes() == kept


def test_too_large_a_picture_is_refused_before_anything_is_read(run: Run, tmp_path: Path) -> None:
    done = run("preview", *["nowhere.nii"] * 9, "-o", tmp_path / "out.png", "--pixels", 4096)
    assert done.code == 2
    assert "more than 100 million pixels" in done.complaint


def test_one_volume_may_come_through_a_pipe(spawn: Run, sample: Path, tmp_path: Path) -> None:
    head = sample / "head.nii.gz"
    with head.open("rb") as stream:
        done = spawn("preview", "-", head, "-o", tmp_path / "a.png", "--pixels", 100, stdin=stream)
    assert (done.code, done.out) == (0, "")
    first, second = panels_of((tmp_path / "a.png").read_bytes())
    for piped, read in zip(first, second, strict=True):
        np.testing.assert_array_equal(piped, read)
    done = spawn("preview", "-", "-", "-o", tmp_path / "b.png")
    assert done.code == 2
    assert "can be read once" in done.complaint


def test_at_and_voxel_say_the_same(run: Run, sample: Path, tmp_path: Path) -> None:
    affine = nibabel.load(sample / "head.nii.gz").affine
    point = ",".join(f"{value:.9f}" for value in (affine @ [20, 30, 9, 1])[:3])
    for name, options in (("a.png", ["--voxel", "20,30,9"]), ("b.png", ["--at", point])):
        done = run("preview", sample / "head.nii.gz", "-o", tmp_path / name, "--pixels", 100, "-q", *options)
        assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_without_pillow_the_error_says_what_to_install(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    done = run("preview", sample / "head.nii.gz", "-o", tmp_path / "out.png")
    assert (done.code, listing(tmp_path)) == (2, [])
    assert "pip install" in done.complaint
    with pytest.raises(ArgumentError, match="pip install"):
        preview.before_after("a.nii", "b.nii")


def test_neither_torch_nor_llvm_is_needed(sample: Path, tmp_path: Path) -> None:
    modules = imported_by("preview", sample / "head.nii.gz", "-o", tmp_path / "out.png")
    assert {"numpy", "PIL"} <= modules
    assert not modules & {"torch", "llvmlite", "rich", "jinja2"}
    assert not imported_by("preview", "--help") & {"numpy", "PIL", "nibabel"}
