"""Does each output voxel lie where its content came from?  Centres of mass in mm, before and after."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from numpy.typing import NDArray

import conv3dt
from conv3dt.affine import ALIGNMENTS, Placement, place, spacing
from conv3dt.errors import ArgumentError
from conv3dt.geometry import Axis
from tests.conftest import chosen
from tests.oracle import Law, transposed

Axes = tuple[Axis, Axis, Axis]
Array = NDArray[np.float64]
VOXEL = 1e-3
"""How far a centre of mass may be off, in output voxels."""


@st.composite
def an_axis(draw: st.DrawFn) -> Axis:
    stride = draw(st.integers(1, 4))
    kernel = draw(st.integers(1, 7))
    padding = draw(st.sampled_from(("valid", "same")))
    extra = draw(st.sampled_from((None, *range(stride))))
    if padding == "same" and extra == 0 and kernel % 2 == 0:
        extra = None
    return Axis(kernel, stride, 1, padding, extra)


@st.composite
def a_dilated_axis(draw: st.DrawFn) -> Axis:
    return Axis(draw(st.integers(1, 4)), 1, draw(st.integers(1, 3)), draw(st.sampled_from(("valid", "same"))))


three_axes = st.one_of(st.tuples(an_axis(), an_axis(), an_axis()), st.tuples(*[a_dilated_axis()] * 3))
seeds = st.integers(0, 2**32 - 1)


def laws(axes: Axes) -> tuple[Law, Law, Law]:
    a, b, c = (Law(x.kernel, x.stride, x.dilation, x.padding, x.output_padding) for x in axes)
    return a, b, c


def points(random: np.random.Generator, axes: Axes) -> Array:
    """A volume with four voxels alight, so far from the border that no kernel carries them out of the output."""
    margins = [axis.extent // axis.stride + 1 for axis in axes]
    x = np.zeros([2 * margin + 3 for margin in margins])
    for _ in range(4):
        x[tuple(margin + random.integers(0, 3) for margin in margins)] += random.uniform(1, 5)
    return x


def a_kernel(random: np.random.Generator, axes: Axes) -> Array:
    taps: Array = random.uniform(0.1, 1, [axis.kernel for axis in axes]) ** 3
    return taps


def an_affine(random: np.random.Generator) -> Array:
    """Any voxel size from 0.3 to 5, any orientation, sheared a little, anywhere."""
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    matrix: Array = np.eye(4)
    matrix[:3, :3] = turn @ (np.eye(3) + random.uniform(-0.1, 0.1, (3, 3))) @ np.diag(random.uniform(0.3, 5, 3))
    matrix[:3, 3] = random.uniform(-200, 200, 3)
    return matrix


def centre(values: Array, matrix: Array) -> Array:
    """The centre of mass of a volume in the world."""
    index = [float((grid * values).sum() / values.sum()) for grid in np.indices(values.shape)]
    place: Array = matrix[:3] @ [*index, 1.0]
    return place


def off(before: Array, after: Array, matrix: Array) -> Array:
    """How far two places in the world are apart, in voxels of ``matrix``."""
    return np.asarray(np.linalg.solve(matrix[:3, :3], after - before), np.float64)


@given(axes=three_axes, seed=seeds)
@settings(deadline=None, max_examples=60)
def test_centroid_keeps_the_centre_of_mass_for_any_kernel(axes: Axes, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, kernel, affine = points(random, axes), a_kernel(random, axes)[..., None, None], an_affine(random)
    out = transposed(x[..., None], kernel, laws(axes))[..., 0]
    placement = place(axes, "centroid", kernel)
    moved = affine @ placement.matrix()
    assert np.abs(off(centre(x, affine), centre(out, moved), moved)).max() < VOXEL
    assert placement.drift == (0, 0, 0)


@given(axes=three_axes, seed=seeds)
@settings(deadline=None, max_examples=60)
def test_kernel_keeps_the_centre_of_mass_for_symmetric_kernels(axes: Axes, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, kernel, affine = points(random, axes), a_kernel(random, axes), an_affine(random)
    for axis in range(3):
        kernel += np.flip(kernel, axis).copy()
    out = transposed(x[..., None], kernel[..., None, None], laws(axes))[..., 0]
    placement = place(axes, "kernel", kernel[..., None, None])
    moved = affine @ placement.matrix()
    assert np.abs(off(centre(x, affine), centre(out, moved), moved)).max() < VOXEL
    assert placement.drift == pytest.approx((0, 0, 0), abs=1e-9)
    assert place(axes, "kernel").shift == placement.shift, "the taps are not needed"


@pytest.mark.parametrize("align", ALIGNMENTS)
@given(axes=three_axes, seed=seeds)
@settings(deadline=None, max_examples=40)
def test_drift_is_how_far_off_the_centre_of_mass_is(align: str, axes: Axes, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, kernel, affine = points(random, axes), a_kernel(random, axes)[..., None, None], an_affine(random)
    out = transposed(x[..., None], kernel, laws(axes))[..., 0]
    placement = place(axes, align, kernel)
    moved = affine @ placement.matrix()
    assert off(centre(x, affine), centre(out, moved), moved) == pytest.approx(placement.drift, abs=VOXEL)


def test_a_wrong_shift_would_be_seen() -> None:
    """The twin of the three above: half a voxel at k3 s2 same, the commonest mistake."""
    axes = (Axis(3, 2, padding="same"),) * 3
    random = np.random.default_rng(0)
    x, kernel = points(random, axes), np.ones((3, 3, 3, 1, 1))
    out = transposed(x[..., None], kernel, laws(axes))[..., 0]
    edge = place(axes, "edge", kernel)
    assert off(centre(x, np.eye(4)), centre(out, edge.matrix()), edge.matrix()) == pytest.approx([0.5] * 3)
    assert edge.drift == (0.5, 0.5, 0.5)


def test_several_filters_and_channels_count_together() -> None:
    random = np.random.default_rng(5)
    axes = (Axis(3, 2, padding="same"), Axis(4, 1), Axis(5, 3))
    x, kernel = points(random, axes), random.uniform(0.1, 1, (3, 4, 5, 2, 3))
    out = transposed(np.stack([x] * 3, axis=-1), kernel, laws(axes)).sum(axis=-1)
    matrix = place(axes, "centroid", kernel).matrix()
    assert np.abs(off(centre(x, np.eye(4)), centre(out, matrix), matrix)).max() < VOXEL


@given(axes=three_axes, n=st.integers(1, 9))
@settings(deadline=None)
def test_edge_keeps_the_first_faces_and_origin_the_first_centres(axes: Axes, n: int) -> None:
    edge, origin = place(axes, "edge").matrix(), place(axes, "origin").matrix()
    assert edge @ [-0.5, -0.5, -0.5, 1] == pytest.approx([-0.5, -0.5, -0.5, 1])
    assert origin @ [0, 0, 0, 1] == pytest.approx([0, 0, 0, 1])
    last = [n * axis.stride - 0.5 for axis in axes]  # where the input ends, faces kept
    assert edge @ [*last, 1] == pytest.approx([n - 0.5] * 3 + [1])


@given(axes=three_axes)
@settings(deadline=None)
def test_edge_drifts_as_the_law_of_each_axis_says(axes: Axes) -> None:
    assert place(axes, "edge").drift == pytest.approx([axis.drift for axis in axes])


@given(axes=three_axes, seed=seeds, align=st.sampled_from(ALIGNMENTS))
@settings(deadline=None)
def test_reversed_is_the_placement_of_reversed_axes(axes: Axes, seed: int, align: str) -> None:
    kernel = a_kernel(np.random.default_rng(seed), axes)[..., None, None]
    there = place(axes, align, kernel).reversed()
    back = place(axes[::-1], align, kernel.transpose(2, 1, 0, 3, 4))
    assert there.strides == back.strides
    assert there.shift == pytest.approx(back.shift)
    assert there.drift == pytest.approx(back.drift, abs=1e-8)


def test_matrix_takes_output_indices_to_input_indices() -> None:
    matrix = Placement((2, 1, 4), (-0.25, 0.0, 1.0), (0, 0, 0)).matrix()
    assert (matrix @ [2, 3, 8, 1]).tolist() == [0.75, 3.0, 3.0, 1.0]


def test_spacing_is_the_length_of_the_columns() -> None:
    matrix = np.array([[0.0, -3.0, 0, 9], [2.0, 0, 0, 9], [0, 4.0, 0.5, 9], [0, 0, 0, 1]])
    assert spacing(matrix) == (2.0, 5.0, 0.5)


@pytest.mark.parametrize(
    ("align", "kernel", "message"),
    [
        ("corner", None, "align must be one of kernel, centroid, edge, origin, got 'corner'"),
        ("centroid", None, "align 'centroid' needs the taps of a kernel"),
        ("centroid", np.array([1.0, 0, -1]).reshape(3, 1, 1, 1, 1), "taps do not sum to zero; use align 'kernel'"),
        ("centroid", np.zeros((3, 1, 1, 1, 1)), "taps do not sum to zero; use align 'kernel'"),
    ],
)
def test_refusals(align: str, kernel: Array | None, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        place((Axis(3), Axis(1), Axis(1)), align, kernel)


def test_a_kernel_without_a_centre_of_mass_is_placed_by_its_middle() -> None:
    difference = np.array([1.0, 0, -1]).reshape(3, 1, 1, 1, 1)
    assert place((Axis(3), Axis(1), Axis(1)), "kernel", difference) == Placement((1, 1, 1), (-1, 0, 0), (0, 0, 0))


@pytest.mark.parametrize(
    ("size", "strides", "padding", "extra"),
    [
        ((3, 3, 3), (2, 2, 2), "same", None),
        ((4, 3, 2), (2, 3, 1), "same", None),
        ((5, 2, 3), (2, 4, 2), "valid", 1),
        ((5, 3, 7), (2, 2, 3), "same", 0),
    ],
    ids=str,
)
def test_an_image_keeps_its_centre_of_mass(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int, int], strides: Any, padding: str, extra: int | None
) -> None:
    """The same through the front door: NIfTI images walk their axes backwards, and their headers are float32."""
    monkeypatch.setattr("conv3dt.job.choose", lambda *_, threads, **__: chosen("transposed", threads))
    a, b, c = (Axis(k, s, 1, padding, extra) for k, s in zip(size, strides, strict=True))
    random = np.random.default_rng(7)
    x, kernel, affine = points(random, (a, b, c)), a_kernel(random, (a, b, c)), an_affine(random)
    after = conv3dt.upsample(
        nibabel.Nifti1Image(x, affine), weights=kernel, strides=strides, padding=padding, output_padding=extra,
        align="centroid", dtype="float64", threads=1,
    )  # fmt: skip
    distance = off(centre(x, affine), centre(after.get_fdata(), after.affine), after.affine)
    assert np.abs(distance).max() < VOXEL


def test_planes_of_zeros_around_a_kernel_do_not_move_its_outputs() -> None:
    """A kernel of 4 whose last planes are zero is a kernel of 3: it lies where that lies."""
    small = np.random.default_rng(0).normal(size=(3, 3, 3, 2, 1))
    grown = np.pad(small, [(0, 1), (1, 0), (1, 1), (0, 0), (0, 0)])
    axes = (Axis(4, 2, padding="same"), Axis(4, 2, padding="same"), Axis(5, 2, padding="same"))
    assert place(axes, "kernel", grown).shift == (0.0, -0.5, -0.5)
    assert place(axes, "kernel", np.ones((4, 4, 5, 1, 1))).shift == (-0.25, -0.25, -0.5)
    assert place(axes, "kernel").shift == (-0.25, -0.25, -0.5)
    assert place(axes, "kernel", np.zeros((4, 4, 5, 1, 1))).shift == (-0.25, -0.25, -0.5)


def test_the_most_common_layer_of_torch_lies_on_the_first_voxels_centre() -> None:
    """Kernel 3, stride 2, padding 1, output padding 1: one input voxel comes out around output twice its index."""
    torch_layer = torch.nn.ConvTranspose3d(1, 1, 3, stride=2, padding=1, output_padding=1, bias=False)
    torch.nn.init.constant_(torch_layer.weight, 1.0)
    volume = np.zeros((5, 5, 5), np.float32)
    volume[2, 2, 2] = 1
    image = nibabel.nifti1.Nifti1Image(volume, np.eye(4))
    fine = conv3dt.upsample(image, weights=torch_layer)
    centre = np.argwhere(np.asarray(fine.dataobj) > 0).mean(axis=0)
    assert np.allclose(apply_affine(fine.affine, centre), [2, 2, 2])
    assert np.allclose(fine.affine[:3, 3], 0)
