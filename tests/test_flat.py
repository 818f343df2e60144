"""Is a box of a flat file the box of the array, in however many pieces it is read and written?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conv3dt.errors import DataError
from conv3dt.io import flat
from conv3dt.io.flat import FlatArray

OFFSET = 352


@contextmanager
def stored(array: NDArray[Any]) -> Iterator[FlatArray]:
    """An array in a file that has no name any more."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(OFFSET) + array.tobytes())
        file.flush()
        yield FlatArray(file.fileno(), OFFSET, array.shape, array.dtype)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """A shape, and a box in it."""
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=5)))
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return shape, tuple(slice(a, draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True))


@given(box=boxes(), kind=st.sampled_from(["u1", "<i2", ">f8"]), runs=st.integers(0, 9), apart=st.integers(1, 500))
@settings(deadline=None, max_examples=200)
def test_any_box_however_it_is_read_and_written(box: Any, kind: str, runs: int, apart: int) -> None:
    shape, index = box
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    with pytest.MonkeyPatch.context() as patch, stored(array) as found:
        for name, value in (("MOST_RUNS", runs), ("MOST_LONG_RUNS", runs), ("APART", apart)):
            patch.setattr(flat, name, value)
        np.testing.assert_array_equal(found.read(index), array[index])
        array[index] = array[index][::-1]
        found.write(index, array[index])
        np.testing.assert_array_equal(found.read(tuple(slice(0, n) for n in shape)), array)


@pytest.mark.parametrize("runs", [0, 2**16])
@pytest.mark.parametrize("apart", [1, 2**16])
def test_a_file_that_was_cut_meanwhile_is_an_error_and_not_the_end(runs: int, apart: int) -> None:
    array = np.arange(40 * 30 * 2000, dtype=np.int16).reshape(40, 30, 2000)
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(array.tobytes())
        file.flush()
        found = FlatArray(file.fileno(), 0, array.shape, array.dtype)
        patch.setattr(flat, "MOST_RUNS", runs)
        patch.setattr(flat, "MOST_LONG_RUNS", runs)
        patch.setattr(flat, "APART", apart)
        box = (slice(0, 40), slice(3, 20), slice(5, 700))
        np.testing.assert_array_equal(found.read(box), array[box])
        os.truncate(file.fileno(), array.nbytes // 2)
        with pytest.raises(DataError, match="ends before its last voxel"):
            found.read(box)
