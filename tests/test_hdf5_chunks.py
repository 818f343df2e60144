"""Do chunks packed or unpacked outside HDF5 hold the same voxels bit for bit, whatever their place and type?"""

from __future__ import annotations

import threading
import tracemalloc
import zlib
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conv3dt
from conv3dt.io import hdf5_unpack
from conv3dt.io.files import open_source, read_info
from conv3dt.io.hdf5_chunks import ChunkGrid, Packing
from conv3dt.io.hdf5_pack import packed
from conv3dt.io.hdf5_unpack import ChunkUnpacker, unpacking_bytes
from conv3dt.io.volume import Index
from conv3dt.resources import resident
from tests.conftest import Run, listing, whole_numbers


def dataset(file: h5py.File, shape: tuple[int, ...], dtype: Any = "<u2", **layout: Any) -> Any:
    packing = {"chunks": (4, 5, 6), "compression": "gzip", "compression_opts": 4, "shuffle": True} | layout
    return file.create_dataset("x", shape, dtype, **packing)


def grid_of(dataset: Any) -> ChunkGrid:
    grid = ChunkGrid.of(dataset)
    assert grid is not None
    return grid


def packing_of(dataset: Any) -> Packing:
    packing = Packing.of(dataset)
    assert packing is not None
    return packing


def write_packed(dataset: Any, values: NDArray[Any]) -> None:
    """Write all chunks as we pack them."""
    grid, packing = grid_of(dataset), packing_of(dataset)
    for part in grid.parts(tuple(slice(0, n) for n in grid.shape)):
        dataset.id.write_direct_chunk(part.offset, packed(values[part.block], grid, packing))


def unpacker_of(dataset: Any, threads: int = 2, kept: int = 2**20) -> Counted:
    """An unpacker that keeps so many bytes, also of chunks so small that HDF5 would do as well."""
    with mock.patch.object(hdf5_unpack, "KEPT_BYTES", kept):
        return Counted(dataset, grid_of(dataset), packing_of(dataset), threads)


class Counted(ChunkUnpacker):
    """Counts how often each chunk is unpacked, and how many are held meanwhile."""

    def __init__(self, dataset: Any, grid: ChunkGrid, packing: Packing, threads: int) -> None:
        super().__init__(dataset, grid, packing, threads)
        self.count: Counter[tuple[int, ...]] = Counter()
        self.held = 0

    def _unpacked(self, offset: tuple[int, ...]) -> NDArray[Any] | None:
        with self._lock:
            self.count[offset] += 1
            self.held = max(self.held, len(self._kept) + self._lent)
        return super()._unpacked(offset)


def box(*ranges: tuple[int, int]) -> Index:
    return tuple(slice(*each) for each in ranges)


# --- packing ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 13)] * 3), dtype=st.sampled_from(["u1", "<i2", ">i2", "<f4", ">f8"]),
    shuffle=st.booleans(), level=st.sampled_from([1, 4, 9]), seed=st.integers(0, 99),
)  # fmt: skip
def test_what_is_written_is_what_is_read(
    shape: tuple[int, int, int], dtype: str, shuffle: bool, level: int, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 99, shape).astype(dtype)
    if seed % 2:
        values[:] = 7  # packs to next to nothing
    chunks = tuple(min(chunk, n) for chunk, n in zip((4, 5, 6), shape, strict=True))
    with h5py.File.in_memory() as file:
        made = dataset(file, shape, dtype, chunks=chunks, shuffle=shuffle, compression_opts=level)
        write_packed(made, np.asfortranarray(values) if seed % 3 else values)
        assert np.array_equal(made[()], values)


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Index:
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return tuple(slice(a, draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True))


@st.composite
def grids(draw: st.DrawFn) -> tuple[ChunkGrid, Index]:
    """A grid of 1 to 3 axes, and a box in it."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    chunk = tuple(draw(st.tuples(*[st.integers(1, n) for n in shape])))
    return ChunkGrid(shape, chunk, np.dtype(np.uint8)), draw(boxes(shape))


@settings(max_examples=100, deadline=None)
@given(found=grids(), data=st.data())
def test_a_box_is_its_whole_chunks_and_what_it_has_of_others(
    found: tuple[ChunkGrid, Index], data: st.DataObject
) -> None:
    grid, index = found
    seen, chunks = np.zeros(grid.shape, int), np.zeros(grid.counts, int)
    held = grid.held(index)
    if held is not None:
        seen[grid.voxels(held)] += 1
        chunks[held] += 1
    for box in grid.cut(index):
        assert all(part.start < part.stop for part in box)
        assert grid.held(box) is None
        seen[box] += 1
        chunks[grid.touched(box)] += 2
    inside = np.zeros(grid.shape, int)
    inside[index] = 1
    assert np.array_equal(seen, inside)
    for place in np.ndindex(*grid.counts):
        mine = inside[grid.voxels(tuple(slice(at, at + 1) for at in place))]
        assert (chunks[place] == 1) == mine.all()
        assert (chunks[place] >= 2) == (mine.any() and not mine.all())
    order = data.draw(st.permutations(range(len(index))))
    parts = list(grid.parts(index, order))
    assert sorted(part.offset for part in parts) == [part.offset for part in grid.parts(index)]
    assert [part.offset for part in parts] == sorted(
        (part.offset for part in parts), key=lambda offset: [offset[axis] for axis in order]
    )


def test_which_boxes_are_made_of_whole_chunks() -> None:
    grid = ChunkGrid((9, 10, 7), (4, 5, 6), np.dtype(np.uint8))
    for start, stop, held in ((0, 4, (0, 1)), (4, 9, (1, 3)), (8, 9, (2, 3)), (0, 5, (0, 1)), (3, 9, (1, 3))):
        index = box((start, stop), (0, 10), (0, 7))
        assert grid.held(index) == box(held, (0, 2), (0, 2))
        assert (list(grid.cut(index)) == []) is (start % 4 == 0 and stop != 5)
    for start, stop in ((1, 4), (4, 6)):
        assert grid.held(box((start, stop), (0, 10), (0, 7))) is None


@pytest.mark.parametrize(
    ("layout", "can"),
    [
        ({}, True),
        ({"shuffle": False}, True),
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
        assert (Packing.of(dataset(file, (8, 8, 8), **layout)) is not None) is can


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
                if ours:
                    write_packed(made, values)
                else:
                    made[()] = values
                assert np.array_equal(made[()], values)
                sizes.append(made.id.get_storage_size())
        assert sizes[0] <= 1.05 * sizes[1]


# --- from the command line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [1, 2**14], ids=["ours", "HDF5's"])
@pytest.mark.parametrize("options", [(), ("--tile", "6,10,14"), ("--tile", "2"), ("--scale", "3,1,2")], ids=str)
def test_a_packed_dataset_is_upsampled_into_one_alike(
    run: Run, tmp_path: Path, options: tuple[str, ...], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_unpack, "LEAST_BYTES", least)
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


# --- unpacking -------------------------------------------------------------------------------------------------------

TYPES = ["u1", "<i2", ">i2", "<u4", ">f4", "<f8", ">i8", "<f2", "?"]


def write_masked(made: Any, volume: NDArray[Any], mask: int) -> None:
    """Store the last chunk without the filters of a mask, if it is missing: HDF5 keeps the mask that a chunk has."""
    last = tuple((n - 1) // size * size for n, size in zip(volume.shape, made.chunks, strict=True))
    if any(last) and made.id.get_chunk_info_by_coord(last).byte_offset is None:
        content = np.full(made.chunks, volume[last]).tobytes()
        shuffled, packed = made.shuffle and not mask & 1, not mask & (2 if made.shuffle else 1)
        if shuffled:
            content = np.frombuffer(content, np.uint8).reshape(-1, volume.itemsize).T.tobytes()
        made.id.write_direct_chunk(last, zlib.compress(content) if packed else content, mask)


def reopened(file: h5py.File) -> h5py.File:
    """As from a disk: in the session that writes it, HDF5 does not tell the mask of a chunk."""
    file.flush()
    return h5py.File.in_memory(file.id.get_file_image())


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_box_is_what_hdf5_itself_reads(data: st.DataObject) -> None:
    """Of 3 to 5 axes, with missing chunks and chunks stored without one filter or both, whatever is kept."""
    draw = data.draw
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=3, max_size=5), "shape"))
    chunks = tuple(draw(st.tuples(*[st.integers(1, n) for n in shape]), "chunks"))
    dtype = np.dtype(draw(st.sampled_from(TYPES), "dtype"))
    shuffle, level = draw(st.booleans(), "shuffle"), draw(st.sampled_from([0, 1, 4, 9]), "level")
    written, mask = draw(boxes(shape), "written"), draw(st.sampled_from([0, 1, 2, 3] if shuffle else [0, 1]), "mask")
    kept = draw(st.sampled_from([1, 200, 2**20]), "kept")
    values = np.random.default_rng(0).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    volume = (values % 2 if dtype.kind == "b" else values).view(dtype)[..., 0]
    with h5py.File.in_memory(libver=draw(st.sampled_from(["earliest", "latest"]), "libver")) as file:
        made = dataset(
            file, shape, dtype, chunks=chunks, shuffle=shuffle, compression_opts=level, fillvalue=volume.flat[0]
        )
        made[written] = volume[written]
        write_masked(made, volume, mask)
        image = reopened(file)
    with image:
        made = image["x"]
        unpacker = unpacker_of(made, draw(st.integers(1, 3), "threads"), kept)
        for _ in range(3):
            index = draw(boxes(shape), "box")
            found = unpacker.read(index)
            assert found.dtype == dtype
            assert found.tobytes() == made[index].tobytes()
        unpacker.close()


def test_what_the_property_above_promises_is_also_unpacked_by_us() -> None:
    """Its twin: HDF5 is asked for what is missing or stored without filters, and for nothing else."""
    volume = whole_numbers(12, 5, 6, dtype=np.uint16)
    with h5py.File.in_memory() as file:
        made = dataset(file, volume.shape)
        made[:4] = volume[:4]
        made.id.write_direct_chunk((4, 0, 0), volume[4:8].tobytes(), 3)
        image = reopened(file)
    with image:
        unpacker = unpacker_of(image["x"])
        assert unpacker._unpacked((4, 0, 0)) is None
        assert unpacker._unpacked((8, 0, 0)) is None
        found = unpacker._unpacked((0, 0, 0))
        assert found is not None
        assert np.array_equal(found, volume[:4])
        unpacker.close()


@pytest.mark.parametrize(
    ("layout", "can"),
    [
        ({}, True),
        ({"shuffle": False}, True),
        ({"compression_opts": 0}, True),
        ({"dtype": ">u2"}, True),
        ({"dtype": "?", "chunks": (32, 32, 32)}, True),
        ({"chunks": (8, 32, 31)}, False),
        ({"fletcher32": True}, False),
        ({"compression": "lzf", "compression_opts": None}, False),
        ({"scaleoffset": 0}, False),
        ({"chunks": None, "compression": None, "compression_opts": None, "shuffle": False}, False),
    ],
    ids=str,
)
def test_which_datasets_are_unpacked_so(layout: dict[str, Any], can: bool) -> None:
    with h5py.File.in_memory() as file:
        made = dataset(file, (32, 32, 32), **{"chunks": (8, 32, 32)} | layout)
        assert (ChunkUnpacker.of(made, 1) is not None) is can


@pytest.mark.parametrize("precise", [True, False])
def test_numbers_that_hdf5_has_to_convert_are_left_to_it(tmp_path: Path, precise: bool) -> None:
    """12 bits of 16, of which h5py says ``<u2``: the other four are not part of the number."""
    kind = h5py.h5t.STD_U16LE.copy()
    if not precise:
        kind.set_precision(12)
    packing = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    packing.set_chunk((16, 32, 32))
    packing.set_deflate(4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space = h5py.h5s.create_simple((16, 32, 32))
        h5py.h5d.create(file.id, b"x", kind, space, packing)
        stored = np.full((16, 32, 32), 0xF123, np.uint16)
        file["x"].id.write_direct_chunk((0, 0, 0), zlib.compress(stored.tobytes()))
        assert file["x"].dtype == np.uint16
        assert (ChunkUnpacker.of(file["x"], 1) is not None) is precise
    path = f"{tmp_path}/a.h5:/x"
    source = open_source(read_info(path), threads=1, in_order=False)
    assert (source.read(box((0, 16), (0, 32), (0, 32))) == (0xF123 if precise else 0x0123)).all()
    source.close()


@pytest.mark.parametrize("itemsize", [1, 2])
def test_bytes_that_were_shuffled_otherwise_are_left_to_hdf5(tmp_path: Path, itemsize: int) -> None:
    """The filter's own parameter says of how many bytes a number is; HDF5 believes it."""
    with h5py.File(tmp_path / "a.h5", "w", libver="earliest") as file:
        dataset(file, (16, 32, 32), chunks=(16, 32, 32))[()] = whole_numbers(16, 32, 32)
    raw = (tmp_path / "a.h5").read_bytes()
    said = [b"shuffle\0" + size.to_bytes(4, "little") for size in (2, itemsize)]
    assert raw.count(said[0]) == 1
    (tmp_path / "a.h5").write_bytes(raw.replace(said[0], said[1]))
    with h5py.File(tmp_path / "a.h5") as file:
        assert (ChunkUnpacker.of(file["x"], 1) is None) is (itemsize == 1)
        assert np.array_equal(file["x"], whole_numbers(16, 32, 32)) is (itemsize == 2)


def slabs(unpacker: ChunkUnpacker, height: int, halo: int = 1) -> None:
    n, *others = unpacker._grid.shape
    for start in range(0, n, height):
        unpacker.read(box((max(start - halo, 0), min(start + height + halo, n)), *((0, m) for m in others)))


@pytest.mark.parametrize(("kept", "once"), [(4, True), (3, False)])
def test_chunks_that_regions_cut_through_are_unpacked_once(kept: int, once: bool) -> None:
    """As long as the two layers that a region touches can be kept; its twin keeps a chunk less."""
    with h5py.File.in_memory() as file:
        made = dataset(file, (16, 10, 6))
        made[()] = 1
        unpacker = unpacker_of(made, 1, kept * 4 * 5 * 6 * 2)
        slabs(unpacker, 2)
        assert set(unpacker.count) == {(z, y, 0) for z in (0, 4, 8, 12) for y in (0, 5)}
        assert (max(unpacker.count.values()) == 1) is once
        unpacker.close()


def test_what_is_kept_is_used_before_it_is_pushed_out() -> None:
    """A layer of eight chunks, half of which can be kept, is met again."""
    with h5py.File.in_memory() as file:
        made = dataset(file, (4, 10, 24))
        made[()] = 1
        unpacker = unpacker_of(made, 1, 4 * 4 * 5 * 6 * 2)
        for _ in range(2):
            unpacker.read(box((0, 4), (0, 10), (0, 24)))
        assert unpacker.count.total() == 8 + 4
        unpacker.close()


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("most", [1, 3, 5])
def test_no_more_chunks_are_held_than_allowed(threads: int, most: int) -> None:
    with h5py.File.in_memory() as file:
        made = dataset(file, (32, 10, 12))
        made[()] = 1
        size = 4 * 5 * 6 * 2
        unpacker = unpacker_of(made, threads, most * size + size - 1)
        slabs(unpacker, 8)
        assert len(unpacker._kept) == most
        assert unpacker.held == most
        unpacker.close()


def test_a_chunk_larger_than_what_is_kept_is_kept_all_the_same() -> None:
    with h5py.File.in_memory() as file:
        made = dataset(file, (16, 5, 6), chunks=(16, 5, 6))
        unpacker = unpacker_of(made, 4, 1)
        made[()] = 1
        slabs(unpacker, 2)
        assert unpacker.count == {(0, 0, 0): 1}
        unpacker.close()


@pytest.mark.parametrize(
    ("shape", "chunks", "threads", "count"),
    [
        ((512,) * 3, (64,) * 3, 2, 128 + 2),  # 64 MiB are 128 chunks of half a MiB
        ((512,) * 3, (64,) * 3, 4000, 128 + 128),
        ((100, 64, 64), (64,) * 3, 8, 2 + 2),
        ((512,) * 3, (512,) * 3, 8, 1 + 1),
        ((1024, 512, 512), (512,) * 3, 8, 1 + 1),
    ],
)
def test_what_is_held_is_planned(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], threads: int, count: int
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset(file, shape, chunks=chunks)
    assert unpacking_bytes(read_info(f"{tmp_path}/a.h5:/x"), threads) == count * prod(chunks) * 2


def test_regions_get_what_unpacking_leaves(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset(file, (512,) * 3, chunks=(64,) * 3)
    found = []
    for kept in (1, 64 * 2**20):
        with mock.patch.object(hdf5_unpack, "KEPT_BYTES", kept):
            report = conv3dt.upsample_file(
                f"{tmp_path}/a.h5:/x", tmp_path / "b.h5", dry_run=True, threads=2, max_memory=resident() + 250 * 2**20
            )
            assert report.plan is not None
            found.append(report.plan.region_bytes)
    assert found[1] < found[0] - 16 * 2**20


@pytest.mark.parametrize("dtype", ["<u2", "<f8"])
def test_memory_stays_within_what_is_planned(tmp_path: Path, dtype: str) -> None:
    """Of noise, which packs to nothing less; with an eighth of the volume to keep chunks in."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 64, 64, np.dtype(dtype).itemsize), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset(file, noise.shape[:3], dtype, chunks=(32, 32, 32))[()] = noise.view(dtype)[..., 0]
    with mock.patch.object(hdf5_unpack, "KEPT_BYTES", noise.nbytes // 8):
        planned = unpacking_bytes(read_info(f"{tmp_path}/a.h5:/x"), 4)
    with h5py.File(tmp_path / "a.h5") as file:
        unpacker = unpacker_of(file["x"], 4, noise.nbytes // 8)
        tracemalloc.start()
        slabs(unpacker, 8)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        unpacker.close()
    block = 10 * noise[0].nbytes
    assert noise.nbytes // 8 < planned <= noise.nbytes // 4
    assert planned // 2 < peak <= planned + block + 4 * 2**18  # and the buffers of each thread


def test_threads_go_when_the_file_is_closed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset(file, (64, 32, 32), chunks=(8, 32, 32))[()] = 1

    before = set(threading.enumerate())

    def running() -> int:
        return sum(thread.name.startswith("conv3dt-unpack") for thread in set(threading.enumerate()) - before)

    source = open_source(read_info(f"{tmp_path}/a.h5:/x"), threads=3, in_order=False)
    source.read(box((0, 64), (0, 32), (0, 32)))
    assert 1 <= running() <= 3
    source.close()
    assert running() == 0


# --- damage ----------------------------------------------------------------------------------------------------------

VOLUME = whole_numbers(16, 32, 32, dtype=np.uint16)
PLAIN = VOLUME.tobytes()
PACKED = zlib.compress(PLAIN, 4)


def with_chunk(file: h5py.File, content: bytes) -> Any:
    """A dataset of two chunks, the second of which is as given."""
    made = dataset(file, (32, 32, 32), chunks=VOLUME.shape, shuffle=False)
    made[:16] = VOLUME
    made.id.write_direct_chunk((16, 0, 0), content)
    return made


DAMAGED = {
    "cut short": PACKED[:-200],
    "without checksum": PACKED[:-4],
    "wrong checksum": PACKED[:-1] + bytes([PACKED[-1] ^ 1]),
    "other bytes inside": PACKED[:300] + bytes(20) + PACKED[320:],
    "no gzip": b"Dear reader, these are no voxels",
    "one byte": b"x",
    "too few voxels": zlib.compress(PLAIN[:-1]),
    "no voxels": zlib.compress(b""),
    "too many voxels": zlib.compress(PLAIN + b"x"),
    "bomb": zlib.compress(bytes(2**28), 9),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_chunk_is_told_in_one_line(run: Run, tmp_path: Path, content: bytes) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        with_chunk(file, content)
    done = run("upsample", f"{tmp_path}/a.h5:/x", tmp_path / "b.h5")
    assert done.code == 65
    assert f"{tmp_path}/a.h5:/x: damaged: " in done.complaint
    assert done.complaint.endswith("; get the file again")
    assert listing(tmp_path) == ["a.h5"]


def test_the_twin_of_the_damaged_ones_is_good(run: Run, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        with_chunk(file, PACKED)
    assert run("upsample", f"{tmp_path}/a.h5:/x", f"{tmp_path}/b.h5:/x", "--scale", "1", "--dtype", "same").code == 0
    with h5py.File(tmp_path / "b.h5") as file:
        assert np.array_equal(file["x"], np.concatenate([VOLUME, VOLUME]))


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(PACKED) - 1), bits=st.integers(1, 255), cut=st.booleans())
def test_no_damage_makes_other_voxels(place: int, bits: int, cut: bool) -> None:
    content = bytearray(PACKED[:place] if cut and place else PACKED)
    if len(content) > place:
        content[place] ^= bits
    with h5py.File.in_memory() as file:
        unpacker = unpacker_of(with_chunk(file, bytes(content)))
        whole = box((0, 32), (0, 32), (0, 32))
        try:
            assert np.array_equal(unpacker.read(whole)[16:], VOLUME)
        except OSError:
            pass
        assert np.array_equal(unpacker.read(box((0, 16), (0, 32), (0, 32))), VOLUME)
        unpacker.close()


@pytest.mark.parametrize("size", [2**28, len(PLAIN)])
def test_a_chunk_that_unpacks_to_far_more_takes_no_memory(size: int) -> None:
    with h5py.File.in_memory() as file:
        unpacker = unpacker_of(with_chunk(file, zlib.compress(bytes(size), 9)), 1)
        tracemalloc.start()
        try:
            unpacker.read(box((16, 32), (0, 32), (0, 32)))
        except OSError as error:
            assert "more than its 32768 bytes" in str(error)  # said by us: HDF5 was not asked
            assert size > len(PLAIN)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(PLAIN) <= peak <= 2**28 // 64  # packed it takes 256 KiB
        unpacker.close()
