"""Do chunks that are packed outside HDF5 come back bit for bit, through any reader, whatever their place and type?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conv3dt
from conv3dt.io.hdf5_chunks import ChunkPacker
from tests.conftest import Run, whole_numbers


def dataset(file: h5py.File, shape: tuple[int, ...], dtype: Any = "<u2", **layout: Any) -> Any:
    packing = {"chunks": (4, 5, 6), "compression": "gzip", "compression_opts": 4, "shuffle": True} | layout
    return file.create_dataset("x", shape, dtype, **packing)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 13)] * 3), dtype=st.sampled_from(["u1", "<i2", ">i2", "<f4", ">f8"]),
    shuffle=st.booleans(), level=st.sampled_from([1, 4, 9]), cut=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_what_is_written_is_what_is_read(
    shape: tuple[int, int, int], dtype: str, shuffle: bool, level: int, cut: int, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 99, shape).astype(dtype)
    if seed % 2:
        values[:] = 7  # packs to next to nothing
    chunks = tuple(min(chunk, n) for chunk, n in zip((4, 5, 6), shape, strict=True))
    with h5py.File.in_memory() as file:
        made = dataset(file, shape, dtype, chunks=chunks, shuffle=shuffle, compression_opts=level)
        packer = ChunkPacker(made, 2)
        step = chunks[0] * cut
        for start in range(0, shape[0], step):
            index = (slice(start, min(start + step, shape[0])), slice(0, shape[1]), slice(0, shape[2]))
            assert packer.holds(index)
            packer.write(index, np.asfortranarray(values[index]) if seed % 3 else values[index])
        packer.close()
        assert np.array_equal(made[()], values)


def test_which_boxes_are_made_of_whole_chunks() -> None:
    with h5py.File.in_memory() as file:
        packer = ChunkPacker(dataset(file, (9, 10, 7)), 1)
        for start, stop, whole in (
            (0, 4, True),
            (4, 9, True),
            (8, 9, True),
            (0, 5, False),
            (1, 4, False),
            (4, 6, False),
        ):
            assert packer.holds((slice(start, stop), slice(0, 10), slice(0, 7))) is whole
        packer.close()


@pytest.mark.parametrize(
    ("layout", "can"),
    [
        ({}, True),
        ({"shuffle": False}, True),
        ({"compression_opts": 0}, False),
        ({"fletcher32": True}, False),
        ({"compression": "lzf", "compression_opts": None}, False),
        ({"compression": None, "compression_opts": None}, False),
        ({"scaleoffset": 0}, False),
        ({"chunks": None, "compression": None, "compression_opts": None, "shuffle": False}, False),
    ],
    ids=str,
)
def test_which_datasets_are_packed_so(layout: dict[str, Any], can: bool) -> None:
    with h5py.File.in_memory() as file:
        assert ChunkPacker.can_pack(dataset(file, (8, 8, 8), **layout)) is can


def test_the_size_is_that_of_hdf5s_own_filter() -> None:
    """Within 5 %, on something like a scan and on something like labels."""
    grid = np.indices((64, 64, 64), dtype=np.float32)
    smooth = np.sin(grid[0] / 9) * np.cos(grid[1] / 7) * np.sin(grid[2] / 11)
    noise = np.random.default_rng(0).normal(size=smooth.shape) * 15
    for values in ((1000 + 600 * smooth + noise).astype(np.uint16), (smooth > 0.3).astype(np.uint8)):
        sizes = []
        for ours in (True, False):
            with h5py.File.in_memory() as file:
                made = dataset(file, values.shape, values.dtype, chunks=(32, 32, 32))
                packer = ChunkPacker(made, 2)
                if ours:
                    packer.write((slice(0, 64),) * 3, values)
                else:
                    made[()] = values
                packer.close()
                assert np.array_equal(made[()], values)
                sizes.append(made.id.get_storage_size())
        assert sizes[0] <= 1.05 * sizes[1]


@pytest.mark.parametrize("options", [(), ("--tile", "6,10,14"), ("--tile", "2"), ("--scale", "3,1,2")], ids=str)
def test_a_packed_dataset_is_upsampled_into_one_alike(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    volume = whole_numbers(11, 13, 9, dtype=np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=volume, chunks=(4, 5, 6), compression="gzip", compression_opts=6, shuffle=True)
    done = run("upsample", f"{tmp_path}/a.h5:/x", f"{tmp_path}/b.h5:/x", "--dtype", "same", *options)
    assert done.code == 0, done.err
    scale = (3, 1, 2) if "--scale" in options else 2
    with h5py.File(tmp_path / "b.h5") as file:
        made = file["x"]
        assert (made.chunks, made.compression, made.compression_opts, made.shuffle) == ((4, 5, 6), "gzip", 6, True)
        assert np.array_equal(made[()], conv3dt.upsample(volume, scale=scale, dtype="same"))


def test_chunks_follow_their_axes_when_channels_become_labels(run: Run, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros((9, 8, 8, 8), np.float32), chunks=(1, 4, 5, 6), compression="gzip")
    done = run(
        "upsample", f"{tmp_path}/a.h5:/x", f"{tmp_path}/b.h5:/x", "--channels-first", "--per-channel", "--reduce=argmax"
    )
    assert done.code == 0, done.err
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["x"].chunks == (4, 5, 6)
    assert conv3dt.read_info(f"{tmp_path}/b.h5:/x").shape == (16, 16, 16)
