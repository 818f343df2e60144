"""Are kernels too large to be written out tap by tap computed all the same?  They take loops of their own."""

from __future__ import annotations

import numpy as np
import pytest

import conv3dt
from conv3dt.engine.phases import Rows
from conv3dt.geometry import Axis
from tests.oracle import Law, transposed

CASES = [
    ((1, 2, 61), (1, 1, 1), "valid", 1, 1),
    ((2, 1, 40), (1, 2, 13), "same", 2, 3),
    ((1, 1, 20), (1, 1, 29), "valid", 1, 2),  # phases without a tap: bias only
    ((50, 1, 1), (16, 1, 1), "same", 1, 1),
    ((1, 33, 3), (1, 30, 2), "same", 1, 1),
]


@pytest.mark.parametrize(("kernel", "strides", "padding", "channels", "filters"), CASES)
def test_large_kernels_are_the_definition(
    kernel: tuple[int, int, int], strides: tuple[int, int, int], padding: str, channels: int, filters: int
) -> None:
    rng = np.random.default_rng(0)
    volume, taps = rng.normal(size=(3, 4, 5, channels)), rng.normal(size=(*kernel, filters, channels))
    bias = rng.normal(size=filters)
    out = conv3dt.upsample(
        volume, weights=taps, bias=bias, strides=strides, padding=padding, data_format="channels_last", dtype="float64"
    )
    first, second, third = (Law(k, s, 1, padding) for k, s in zip(kernel, strides, strict=True))
    expected = transposed(volume, taps, (first, second, third), bias=bias)
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-10)


def test_a_large_scale_repeats_voxels() -> None:
    volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for axis in range(3):
        scale = [300 if n == axis else 1 for n in range(3)]
        out = conv3dt.upsample(volume, scale=scale, kernel="nearest")
        np.testing.assert_array_equal(out, np.repeat(volume, 300, axis))
        np.testing.assert_array_equal(out, conv3dt.upsample(volume, scale=scale, kernel="nearest", tile=7))


def test_these_cases_do_take_loops_and_small_ones_do_not() -> None:
    def combed(kernel: tuple[int, int, int], strides: tuple[int, int, int]) -> bool:
        first, second, third = (Axis(k, s) for k, s in zip(kernel, strides, strict=True))
        return Rows((first, second, third)).combed

    assert all(combed(kernel, strides) for kernel, strides, *_ in CASES[:3])
    assert not combed((8, 8, 8), (2, 2, 2))
