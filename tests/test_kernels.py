"""Do the named kernels interpolate: weights that sum to one, in place, exact for what each promises to reproduce?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray

import conv3dt
from conv3dt.errors import ArgumentError
from conv3dt.geometry import Axis
from conv3dt.kernels import KERNELS, size, taps
from tests.oracle import Law, transposed

STRIDES = (1, 2, 3, 4, 5, 6)
every = pytest.mark.parametrize(("name", "stride"), [(name, stride) for name in KERNELS for stride in STRIDES])


def line(values: ArrayLike, name: str, stride: int) -> NDArray[np.float64]:
    """A row of voxels upsampled by the definition, ``edge`` outside."""
    row = np.array(taps(name, stride))
    laws = (Law(1), Law(1), Law(len(row), stride, padding="same"))
    return transposed(np.asarray(values)[None, None, :, None], row[None, None, :, None, None], laws, boundary="edge")[
        0, 0, :, 0
    ]


def places(n: int, stride: int) -> NDArray[np.float64]:
    """Where the outputs lie on an input of ``n`` voxels, faces aligned."""
    return (np.arange(n * stride) + 0.5) / stride - 0.5


@every
def test_each_phase_sums_to_one(name: str, stride: int) -> None:
    row = taps(name, stride)
    assert [sum(row[phase::stride]) for phase in range(stride)] == pytest.approx([1.0] * stride, abs=1e-15)


@every
def test_taps_are_symmetric(name: str, stride: int) -> None:
    row = taps(name, stride)
    assert row == pytest.approx(row[::-1], abs=1e-15)


@every
def test_same_crops_both_sides_alike(name: str, stride: int) -> None:
    axis = Axis(size(name, stride), stride, padding="same")
    assert axis.crop == axis.tail(7)
    assert axis.drift == 0


@every
def test_a_constant_stays_that_constant(name: str, stride: int) -> None:
    assert line(np.full(5, 7.25), name, stride) == pytest.approx(np.full(5 * stride, 7.25), abs=1e-12)


@every
def test_values_stay_within_the_reach_of_the_named_width(name: str, stride: int) -> None:
    """An impulse is felt by no output further away than the kernel is wide."""
    reach = {"nearest": 0.5, "linear": 1, "cubic": 2, "lanczos3": 3, "gaussian": 2}[name]
    impulse = np.zeros(11)
    impulse[5] = 1.0
    felt = np.abs(places(11, stride) - 5)[np.abs(line(impulse, name, stride)) > 1e-12]
    assert felt.size > 0
    assert felt.max() < reach


@pytest.mark.parametrize("stride", STRIDES)
def test_linear_reproduces_ramps(stride: int) -> None:
    values = 3.0 * np.arange(6) - 2.0
    inner = slice(stride, -stride)
    assert line(values, "linear", stride)[inner] == pytest.approx((3.0 * places(6, stride) - 2.0)[inner], abs=1e-12)


@pytest.mark.parametrize("stride", STRIDES)
def test_cubic_reproduces_quadratics(stride: int) -> None:
    i, at = np.arange(9.0), places(9, stride)
    inner = slice(2 * stride, -2 * stride)
    expected = 0.5 * at**2 - 3.0 * at + 1.0
    assert line(0.5 * i**2 - 3.0 * i + 1.0, "cubic", stride)[inner] == pytest.approx(expected[inner], abs=1e-12)


@pytest.mark.parametrize("stride", STRIDES)
def test_linear_does_not_reproduce_quadratics(stride: int) -> None:
    """The twin: the test above can fail."""
    i, at = np.arange(9.0), places(9, stride)
    inner = slice(2 * stride, -2 * stride)
    error = np.abs(line(i**2, "linear", stride) - at**2)[inner].max()
    assert (error > 1e-3) == (stride > 1)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("nearest", [1, 2, 3, 4, 5]),
        ("linear", [1, 4, 5, 8, 9]),
        ("cubic", [1, 8, 11, 16, 19]),
        ("lanczos3", [1, 12, 17, 24, 29]),
        ("gaussian", [1, 8, 11, 16, 19]),
    ],
)
def test_sizes(name: str, sizes: list[int]) -> None:
    assert [size(name, stride) for stride in (1, 2, 3, 4, 5)] == sizes
    assert [len(taps(name, stride)) for stride in (1, 2, 3, 4, 5)] == sizes


@pytest.mark.parametrize("name", KERNELS)
def test_stride_1_leaves_an_axis_alone(name: str) -> None:
    assert taps(name, 1) == [1.0]


def test_taps_known_by_hand() -> None:
    assert taps("linear", 3) == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    # Keys at 1/4, 3/4, 5/4, 7/4: 111/128, 29/128, -9/128, -3/128.
    assert taps("cubic", 2)[:4] == pytest.approx([-3 / 128, -9 / 128, 29 / 128, 111 / 128])


def test_an_unknown_name_is_refused() -> None:
    for ask in (size, taps):
        with pytest.raises(ArgumentError, match=r"kernel must be one of nearest, linear, .* got 'bicubic'"):
            ask("bicubic", 2)


def volume(*shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(len(shape)).normal(size=shape)


@pytest.mark.parametrize("scale", [(2, 2, 2), (1, 3, 2)])
@pytest.mark.parametrize(("name", "mode"), [("nearest", "nearest-exact"), ("linear", "trilinear")])
def test_upsample_is_torchs_interpolate(name: str, mode: str, scale: tuple[int, int, int]) -> None:
    x = volume(4, 3, 5)
    corners = {"align_corners": False} if mode == "trilinear" else {}
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(x)[None, None], scale_factor=[float(s) for s in scale], mode=mode, **corners
    )
    ours = conv3dt.upsample(x, scale=scale, kernel=name, dtype="float64", threads=1)
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), rtol=1e-13, atol=1e-13)


def test_upsample_is_the_three_lines_one_after_the_other() -> None:
    """The kernel of a volume is the product of those of its axes, ``edge`` outside, by default."""
    x = volume(3, 4, 2)
    scale = (2, 1, 3)
    expected = x
    for axis, stride in enumerate(scale):
        expected = np.apply_along_axis(line, axis, expected, "cubic", stride)
    ours = conv3dt.upsample(x, scale=scale, kernel="cubic", dtype="float64", threads=1)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_nearest_keeps_the_type_and_makes_no_new_values() -> None:
    labels = np.random.default_rng(3).integers(0, 2000, (3, 4, 5)).astype(np.int16)
    ours = conv3dt.upsample(labels, scale=2, kernel="nearest", threads=1)
    assert ours.dtype == np.int16
    assert np.array_equal(ours, labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))
