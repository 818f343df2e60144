"""Are the least and the greatest value found, wherever they stand and however the file is laid out?"""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv3dt.extremes import extremes
from conv3dt.io import walk
from conv3dt.io.files import read_info
from tests.conftest import save_nifti


@given(
    shape=st.lists(st.integers(1, 6), min_size=3, max_size=5),
    most=st.sampled_from([1, 40, 10**6]),
    name=st.sampled_from(["a.nii", "a.nii.gz", "a.h5:/x", "chunked.h5:/x"]),
)
@settings(deadline=None, max_examples=40)
def test_boxes_tile_a_volume_and_its_ends_are_found(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], most: int, name: str
) -> None:
    folder = tmp_path_factory.mktemp("x")
    volume = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    volume.flat[0] = np.nan
    if ".h5" in name:
        with h5py.File(folder / name.partition(":")[0], "w") as file:
            file.create_dataset("x", data=volume, chunks=tuple(min(2, n) for n in shape) if "chunk" in name else None)
    else:
        save_nifti(folder / name, volume, np.eye(4))
    info = read_info(str(folder / name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "PREFERRED_BYTES", most)
        counts = np.zeros(shape, int)
        for box in walk.boxes(info):
            counts[box] += 1
        assert counts.min() == counts.max() == 1
        rest = volume[np.isfinite(volume)]
        assert extremes(info) == ((float(rest.min()), float(rest.max())) if rest.size else (0.0, 0.0))
