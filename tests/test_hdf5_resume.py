"""Is an HDF5 output the same bytes whatever the regions, threads and kills on the way to it?"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conv3dt.errors import OutputError, StreamError
from conv3dt.io import hdf5_file, hdf5_in_place, hdf5_packed, hdf5_places, hdf5_times
from conv3dt.io.hdf5_chunks import ChunkGrid
from conv3dt.io.hdf5_file import WrittenFile
from conv3dt.io.hdf5_sink import Hdf5Sink, writing_bytes
from conv3dt.io.hdf5_spool import Spool
from conv3dt.io.hdf5_target import begin, check_output
from conv3dt.io.volume import Index, VolumeInfo
from tests.conftest import Run, listing, save_nifti, whole_numbers


class Killed(BaseException):
    """As if the process ended here."""


GZIP = {"compression": "gzip", "compression_opts": 4}
FILTERS: dict[str, dict[str, Any]] = {
    "chunked": {},
    "gzip": GZIP,
    "gzip, shuffled": GZIP | {"shuffle": True},
    "gzip 9": GZIP | {"compression_opts": 9},
    "gzip 0": GZIP | {"compression_opts": 0},
    "gzip, checked": GZIP | {"fletcher32": True},
    "checked": {"fletcher32": True},
}
"""Packed by us, or by HDF5 alone; not lzf, which packs the same voxels now into these bytes, now into those."""

BEFORE = ["nothing", "alone", "beside others", "latest", "block before"]
"""What is in the file already: the dataset alone or with others, in the newest version, behind a user's own block."""

NAME = "group/new"


@cache
def there_already(what: str) -> bytes:
    """One of `BEFORE`; always the same, for it says when it was made."""
    versions: dict[str, Any] = {"latest": {"libver": "latest"}, "block before": {"userblock_size": 512}}
    with TemporaryDirectory(prefix="conv3dt-test-") as place:
        with h5py.File(Path(place) / "a.h5", "w", **versions.get(what, {})) as file:
            file[NAME] = np.full(1000, 0x5A, np.uint8)  # whose place may be taken
            if what != "alone":
                file["other"] = np.arange(20)
                file["other"].attrs["note"] = "mine"
        return (Path(place) / "a.h5").read_bytes()


@dataclass(frozen=True, slots=True)
class Case:
    """A dataset to be, and the file that it goes into.

    Attributes:
        info: of the dataset; values: its voxels.
        before: one of `BEFORE`.
    """

    info: VolumeInfo
    values: NDArray[Any]
    before: str

    def prepare(self, folder: Path) -> str:
        """Make what is there already, and return what the command calls the dataset."""
        path = folder / "out.h5"
        if self.before != "nothing":
            path.write_bytes(there_already(self.before))
        return f"{path}:/{NAME}"

    def start(
        self, path: str, resume: dict[str, Any] | None = None, *, threads: int = 1, going_on: bool = False
    ) -> Any:
        pending = begin(path, overwrite=True, going_on=resume is not None)
        try:
            return Hdf5Sink(path, self.info, pending=pending, threads=threads, resume=resume)
        except BaseException as error:
            pending.abort(keep=isinstance(error, Killed))
            raise

    def whole(self) -> bytes:
        """The file, of which all voxels are written at once."""
        with TemporaryDirectory(prefix="conv3dt-test-") as place:
            path = self.prepare(Path(place))
            sink = self.start(path)
            sink.write(tuple(slice(0, n) for n in self.info.shape), self.values)
            sink.commit()
            return (Path(place) / "out.h5").read_bytes()

    def check(self, raw: bytes) -> None:
        """The file holds what it should, for anyone who reads HDF5."""
        with TemporaryDirectory(prefix="conv3dt-test-") as place:
            path = Path(place) / "read.h5"
            path.write_bytes(raw)
            with h5py.File(path) as file:
                made, wanted = file[NAME], self.info.layout
                assert np.array_equal(made[()], self.values)
                assert made.dtype == self.info.dtype
                assert made.attrs["note"] == "new"
                for name in ("chunks", "compression", "compression_opts"):
                    assert getattr(made, name) == wanted.get(name)
                for name in ("shuffle", "fletcher32"):
                    assert getattr(made, name) is wanted.get(name, False)
                if self.before not in ("nothing", "alone"):
                    assert file["other"].attrs["note"] == "mine"
                    assert np.array_equal(file["other"], np.arange(20))


def case_of(shape: tuple[int, ...], dtype: str, axes: str, before: str, **layout: Any) -> Case:
    values = np.random.default_rng(0).integers(0, 99, shape).astype(dtype)
    if "chunks" in layout:
        layout["chunks"] = tuple(layout["chunks"])
    info = VolumeInfo(
        "out", "hdf5", shape, axes, values.dtype, layout=layout, attributes={"note": "new", "affine": np.eye(4)}
    )
    return Case(info, values, before)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    axes = draw(st.sampled_from(["012", "ijk", "t012", "ijkc", "c012"]))
    shape = tuple(draw(st.tuples(*[st.integers(1, 2 if letter in "tc" else 9) for letter in axes]), "shape"))
    dtype, before = draw(st.sampled_from(["u1", "<i2", ">i2", "<f4", "<f8"])), draw(st.sampled_from(BEFORE))
    if draw(st.integers(0, 7)) == 0:
        return case_of(shape, dtype, axes, before)
    chunks = draw(st.tuples(*[st.integers(1, n) for n in shape]))
    return case_of(shape, dtype, axes, before, chunks=chunks, **FILTERS[draw(st.sampled_from(sorted(FILTERS)))])


def regions(shape: tuple[int, ...], tile: tuple[int, ...]) -> list[Index]:
    starts = product(*[range(0, n, size) for n, size in zip(shape, tile, strict=True)])
    return [
        tuple(slice(a, min(a + size, n)) for a, size, n in zip(start, tile, shape, strict=True)) for start in starts
    ]


@st.composite
def ways(draw: st.DrawFn, shape: tuple[int, ...]) -> list[Index]:
    """Regions of one size, in file order or any other."""
    tile = tuple(draw(st.tuples(*[st.integers(1, n) for n in shape]), "tile"))
    found = regions(shape, tile)
    return draw(st.one_of(st.just(found), st.just(found[::-1]), st.permutations(found)), "order")


@contextmanager
def sizes(small: int, batch: int, long: int) -> Iterator[None]:
    """As if chunks were larger than they are; nobody waits for the disk."""
    with (
        mock.patch.multiple(hdf5_places, SMALL_BYTES=small, BATCH_BYTES=batch, LONG_BYTES=long),
        mock.patch("os.fsync"),
    ):
        yield


any_sizes = st.tuples(st.sampled_from([0, 2**16]), st.sampled_from([1, 40, 2**22]), st.sampled_from([1, 6, 2**12]))


@settings(max_examples=100, deadline=None)
@given(case=cases(), data=st.data(), threads=st.integers(1, 3), limits=any_sizes)
def test_regions_and_threads_make_no_other_bytes(
    case: Case, data: st.DataObject, threads: int, limits: tuple[int, int, int]
) -> None:
    steps = data.draw(ways(case.info.shape))
    checkpoints = data.draw(st.sets(st.sampled_from(range(len(steps)))), "checkpoints")
    with TemporaryDirectory(prefix="conv3dt-test-") as place, sizes(*limits):
        whole = case.whole()
        case.check(whole)
        sink = case.start(case.prepare(Path(place)), threads=threads)
        for number, index in enumerate(steps):
            block = case.values[index]
            sink.write(index, np.asfortranarray(block) if case.info.axes[0] == "i" else block)
            if number in checkpoints:
                sink.checkpoint()
        sink.commit()
        assert (Path(place) / "out.h5").read_bytes() == whole
        assert listing(Path(place)) == ["out.h5"]


# --- kills -----------------------------------------------------------------------------------------------------------


def killed(sink: Any) -> None:
    """Leave the passing files as a kill at this moment would: as the system has them."""
    pending = sink._pending
    left = {path: path.read_bytes() for path in (pending.work, pending.sibling("spool")) if path.exists()}
    sink.abort(keep=True)
    for path, content in left.items():
        path.write_bytes(content)


@settings(max_examples=100, deadline=None)
@given(case=cases(), data=st.data(), limits=any_sizes)
def test_a_killed_run_goes_on_to_the_same_bytes(case: Case, data: st.DataObject, limits: tuple[int, int, int]) -> None:
    """Killed between any two of its steps, again and again; each time, all from the last checkpoint on is repeated."""
    with TemporaryDirectory(prefix="conv3dt-test-") as place, sizes(*limits):
        path = case.prepare(Path(place))
        steps = data.draw(ways(case.info.shape))
        events = data.draw(
            st.lists(st.sampled_from([*["write"] * 4, *["checkpoint"] * 2, "kill"]), max_size=30), "events"
        )
        state, sure, done = None, 0, 0
        sink = case.start(path)
        for event in events:
            if event == "checkpoint":
                state, sure = json.loads(json.dumps(sink.checkpoint())), done
                continue
            if event == "write" and done < len(steps):
                sink.write(steps[done], case.values[steps[done]])
                done += 1
                continue
            if event == "write":
                sink.finish()
            killed(sink)
            sink, done = case.start(path, state), sure
        for index in steps[done:]:
            sink.write(index, case.values[index])
        sink.commit()
        assert (Path(place) / "out.h5").read_bytes() == case.whole()
        assert listing(Path(place)) == ["out.h5"]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("filters", ["gzip", "checked"])
@pytest.mark.parametrize("late", [0, 1, 5, 11])
def test_a_run_killed_while_its_file_is_filled_goes_on_to_the_same_bytes(
    tmp_path: Path, before: str, filters: str, late: int
) -> None:
    case = case_of((6, 5, 7), "<i2", "012", before, chunks=(3, 2, 3), **FILTERS[filters])
    path, steps = case.prepare(tmp_path), regions((6, 5, 7), (6, 5, 2))
    sink = case.start(path)
    for index in steps:
        sink.write(index, case.values[index])
    state, original, count = sink.checkpoint(), WrittenFile.check, 0

    def check(self: WrittenFile) -> None:
        nonlocal count
        count += 1
        if count > late:
            raise Killed
        original(self)

    with mock.patch.object(WrittenFile, "check", check), pytest.raises(Killed):
        sink.finish()
    sink.abort(keep=True)
    sink = case.start(path, state)
    sink.commit()
    assert (tmp_path / "out.h5").read_bytes() == case.whole()


@pytest.mark.parametrize("late", range(4))
def test_a_run_killed_while_it_goes_on_goes_on_from_the_same_checkpoint(tmp_path: Path, late: int) -> None:
    """Chunks that went into the file at once are taken over before it is begun anew, whenever that is broken off."""
    case = case_of((8, 4, 4), "<i2", "012", "beside others", chunks=(2, 4, 4), **FILTERS["gzip"])
    path, steps = case.prepare(tmp_path), regions((8, 4, 4), (2, 4, 4))
    sink = case.start(path)
    for index in steps[:3]:
        sink.write(index, case.values[index])
    state = sink.checkpoint()
    sink.abort(keep=True)
    original, count = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count > late:
            raise Killed
        original(descriptor)

    with mock.patch("os.fsync", fsync):
        try:
            sink = case.start(path, state)
        except Killed:
            assert late < 2  # once when all is copied, once when that is noted
        else:
            assert late >= 2
            for index in steps[3 : late + 1]:
                sink.write(index, case.values[index])
            sink.abort(keep=True)
    sink = case.start(path, state)
    sink.write(steps[3], case.values[steps[3]])
    sink.commit()
    assert (tmp_path / "out.h5").read_bytes() == case.whole()


def test_what_lies_behind_a_checkpoint_is_forgotten(tmp_path: Path) -> None:
    """A slot is zero where nothing was put, whatever a run that was killed had there."""
    grid = ChunkGrid((4, 6), (3, 4), np.dtype(np.int16))
    spool = Spool(tmp_path / "spool", grid, None)
    state = spool.checkpoint()
    spool.add((0, 0), bytes([255]) * 10000)
    spool.close()
    spool = Spool(tmp_path / "spool", grid, state)
    assert spool.packed((0, 0)) is None
    spool.put((slice(3, 4), slice(4, 5)), np.array([[7]], np.int16))
    assert np.array_equal(spool.voxels((1, 1)), [[7, 0, 0, 0], [0] * 4, [0] * 4])
    spool.close()


@pytest.mark.parametrize(("axes", "tile"), [("012", (2, 9, 9)), ("012", (2, 3, 9)), ("ijk", (9, 9, 4))])
def test_chunks_that_come_in_order_do_not_wait(tmp_path: Path, axes: str, tile: tuple[int, ...]) -> None:
    """They are written once: in planes as HDF5 lists them, or as NIfTI does."""
    case = case_of((9, 9, 9), "<i2", axes, "nothing", chunks=(2, 3, 4), **GZIP)
    path, waiting = case.prepare(tmp_path), []
    for steps in (regions((9, 9, 9), tile), regions((9, 9, 9), tile)[::-1]):
        sink = case.start(path)
        for index in steps:
            sink.write(index, case.values[index])
        waiting.append(sink._pending.sibling("spool").stat().st_size)
        sink.commit()
    assert waiting[0] == 0 < waiting[1]


@pytest.mark.parametrize(
    ("filters", "files"), [("chunked", ["work"]), ("gzip", ["work", "spool"]), ("checked", ["spool"])]
)
def test_a_checkpoint_is_on_the_disk(tmp_path: Path, filters: str, files: list[str]) -> None:
    case = case_of((4, 4, 4), "<i2", "012", "nothing", chunks=(2, 4, 4), **FILTERS[filters])
    sink, synced = case.start(case.prepare(tmp_path)), set()
    sink.write((slice(0, 2), slice(0, 4), slice(0, 4)), case.values[:2])
    with mock.patch("os.fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino)):
        sink.checkpoint()
    paths = {"work": sink._pending.work, "spool": sink._pending.sibling("spool")}
    assert synced == {paths[name].stat().st_ino for name in files}
    sink.abort()


CHILD = """
import json, os, signal, sys
import numpy as np
from pathlib import Path
from tests import test_hdf5_resume as tests
from conv3dt.io.hdf5_sink import Hdf5Sink
from conv3dt.io.hdf5_spool import Spool
from conv3dt.io.hdf5_target import begin
folder, layout, ends = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
case = tests.case_of((24, 20, 16), "<i2", "012", "nothing", **layout)
path, note = f"{folder}/out.h5:/{tests.NAME}", Path(folder) / "state.json"
found = json.loads(note.read_text()) if note.exists() else {"done": 0, "sink": None}
pending = begin(path, overwrite=True, going_on=note.exists())
sink = Hdf5Sink(path, case.info, pending=pending, threads=2, resume=found["sink"])
for n, index in enumerate(tests.regions((24, 20, 16), (5, 20, 16))):
    if n < found["done"]:
        continue
    if n == ends:
        os.kill(os.getpid(), signal.SIGKILL)
    sink.write(index, case.values[index])
    if n % 2:
        note.write_text(json.dumps({"done": n + 1, "sink": sink.checkpoint()}))
sink.finish()
if ends == 99:
    os.kill(os.getpid(), signal.SIGKILL)
sink.publish()
note.unlink()
"""


@pytest.mark.parametrize("filters", ["chunked", "gzip, shuffled", "checked"])
def test_a_process_that_is_killed(tmp_path: Path, filters: str) -> None:
    layout = {"chunks": (8, 20, 8), **FILTERS[filters]}
    codes = [
        subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), json.dumps(layout), str(ends)]).returncode
        for ends in (3, 4, 99, -1)
    ]
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, -signal.SIGKILL, 0]
    case = case_of((24, 20, 16), "<i2", "012", "nothing", **layout)
    assert (tmp_path / "out.h5").read_bytes() == case.whole()
    assert listing(tmp_path) == ["out.h5"]


# --- what cannot be gone on with -------------------------------------------------------------------------------------


def interrupted(folder: Path, before: str = "nothing", **filters: Any) -> tuple[Case, str, dict[str, Any]]:
    case = case_of((6, 5, 7), "<i2", "012", before, chunks=(3, 2, 3), **filters)
    path = case.prepare(folder)
    sink = case.start(path)
    for index in regions((6, 5, 7), (3, 5, 7))[:1]:
        sink.write(index, case.values[index])
    state = sink.checkpoint()
    sink.abort(keep=True)
    return case, path, state


@pytest.mark.parametrize("filters", ["chunked", "gzip", "checked"])
@pytest.mark.parametrize("damage", ["cut", "gone", "nonsense"])
def test_passing_files_that_were_damaged_are_told_of_and_swept_away(tmp_path: Path, filters: str, damage: str) -> None:
    case, path, state = interrupted(tmp_path, **FILTERS[filters])
    for name in listing(tmp_path):
        if damage == "gone":
            (tmp_path / name).unlink()
        else:
            os.truncate(tmp_path / name, 100 if damage == "cut" else 0)
    if damage == "nonsense":
        state = {"original": None, "end": "much", "list": 8}
    with pytest.raises(OutputError, match=r"cannot go on from what a killed run left: .*; run again"):
        case.start(path, state)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("filters", ["chunked", "gzip"])
@pytest.mark.parametrize("when", ["before it goes on", "before it is whole"])
def test_a_file_that_was_changed_meanwhile_is_not_replaced(tmp_path: Path, filters: str, when: str) -> None:
    case, path, state = interrupted(tmp_path, "beside others", **FILTERS[filters])
    index = regions((6, 5, 7), (3, 5, 7))[1]
    second = index, case.values[index]
    sink = case.start(path, state) if when == "before it is whole" else None
    with h5py.File(tmp_path / "out.h5", "r+") as file:
        file["late"] = 1
    changed = (tmp_path / "out.h5").read_bytes()
    with pytest.raises(OutputError, match="was changed by another run meanwhile; run again"):
        if sink is None:
            case.start(path, state)
        else:
            sink.write(*second)
            sink.finish()
            sink.publish()
    if sink is not None:
        sink.abort()
    assert listing(tmp_path) == ["out.h5"]
    assert (tmp_path / "out.h5").read_bytes() == changed


# --- times, links, and whatever else is in a file ---------------------------------------------------------------------


@pytest.mark.parametrize("block", [0, 512])
def test_groups_keep_the_time_of_their_last_change(tmp_path: Path, block: int) -> None:
    """HDF5 itself would set them to now: two runs would differ."""
    with h5py.File(tmp_path / "out.h5", "w", libver="latest", userblock_size=block) as file:
        timed = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
        timed.set_obj_track_times(True)
        for group in (b"old", b"old/deep"):
            h5py.h5g.create(file.id, group, None, timed)
        file["old/other"] = 1
    place = hdf5_times._headers(tmp_path / "out.h5", "old/deep/x")
    with (tmp_path / "out.h5").open("r+b", buffering=0) as raw:
        for name in ("/old", "/old/deep"):
            hdf5_times._put_times(raw.fileno(), place[name], b"".join(n.to_bytes(4, "little") for n in (1, 2, 3, 4)))
    case = case_of((3, 4, 5), "<i2", "012", "nothing", **FILTERS["gzip"], chunks=(2, 2, 2))
    for name in ("old/deep/x", "old/new/y"):
        path = f"{tmp_path}/out.h5:/{name}"
        sink = Hdf5Sink(path, case.info, pending=begin(path, overwrite=False, going_on=False))
        sink.write(tuple(slice(0, n) for n in (3, 4, 5)), case.values)
        sink.commit()
    with h5py.File(tmp_path / "out.h5") as file:
        for name, times in {"old": (1, 2, 3, 4), "old/deep": (1, 2, 3, 4), "old/new": (0,) * 4}.items():
            found = h5py.h5o.get_info(file[name].id)
            assert (found.atime, found.mtime, found.ctime, found.btime) == times
        for name in ("old/deep/x", "old/new/y"):
            assert h5py.h5o.get_info(file[name].id).ctime == 0
            assert np.array_equal(file[name], case.values)


def test_the_checksum_is_the_one_that_hdf5_writes(tmp_path: Path) -> None:
    """The twin of the test above: a header with another checksum cannot be read."""
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.create_group("group").attrs["note"] = "text of some length"
    at = hdf5_times._headers(tmp_path / "a.h5", "group/x")["/group"]
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    raw[at + hdf5_times.TIMES.start] ^= 1
    (tmp_path / "b.h5").write_bytes(raw)
    with h5py.File(tmp_path / "b.h5") as file, pytest.raises(KeyError, match="checksum"):
        file["group"]


def dangling(file: Any) -> str:
    file["link"] = h5py.SoftLink("/nowhere")
    return "link"


def through_a_dataset(file: Any) -> str:
    file["a"] = 1
    return "a/new"


def through_another_file(file: Any) -> str:
    with h5py.File(Path(file.filename).with_name("far.h5"), "w") as far:
        far.create_group("group")
    file["link"] = h5py.ExternalLink("far.h5", "group")
    return "link/new"


def a_group(file: Any) -> str:
    file["a/b"] = 1
    return "a"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (dangling, "cannot be created"),
        (through_a_dataset, "/a is a dataset; choose another name"),
        (through_another_file, "link is a link into another file; name that one"),
        (a_group, "is a group of its own; name a dataset in it"),
    ],
    ids=["dangling link", "through a dataset", "through another file", "a group"],
)
@pytest.mark.parametrize("filters", ["chunked", "gzip", "checked"])
def test_places_where_no_dataset_can_be_are_refused_at_once(tmp_path: Path, make: Any, text: str, filters: str) -> None:
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["other"] = 1
        name = make(file)
    before = {found: (tmp_path / found).read_bytes() for found in listing(tmp_path)}
    case = case_of((3, 4, 5), "<i2", "012", "nothing", chunks=(2, 2, 2), **FILTERS[filters])
    with pytest.raises(OutputError, match=text):
        case.start(f"{tmp_path}/out.h5:/{name}")
    assert {found: (tmp_path / found).read_bytes() for found in listing(tmp_path)} == before


def test_an_attribute_that_is_too_large_is_refused_at_once(tmp_path: Path) -> None:
    info = VolumeInfo("out", "hdf5", (2, 2, 2), "012", np.dtype("u1"), attributes={"much": np.zeros(70000)})
    path = f"{tmp_path}/out.h5"
    check_output(path, overwrite=False)
    pending = begin(path, overwrite=False, going_on=False)
    with pytest.raises(OutputError, match=r"out.h5: cannot be created"):
        Hdf5Sink(path, info, pending=pending)
    pending.abort()
    assert listing(tmp_path) == []


@pytest.mark.parametrize("version", ["unknown places", "unknown writes"])
@pytest.mark.parametrize("filters", ["chunked", "gzip"])
def test_versions_of_hdf5_that_tell_less_make_the_same_file(tmp_path: Path, version: str, filters: str) -> None:
    """Without the places of chunks, or of what was just written, voxels wait: the file is as good."""
    case = case_of((8, 4, 4), "<i2", "012", "beside others", chunks=(2, 4, 4), **FILTERS[filters])
    path, steps = case.prepare(tmp_path), regions((8, 4, 4), (2, 4, 4))
    patches: dict[str, Any] = {
        "unknown places": mock.patch.object(hdf5_in_place, "can_be", lambda storage: False),
        "unknown writes": mock.patch.object(hdf5_file._Bytes, "expect", lambda self, content: None),
    }
    with patches[version]:
        sink = case.start(path)
        for index in steps[:2]:
            sink.write(index, case.values[index])
        state = sink.checkpoint()
        sink.abort(keep=True)
        sink = case.start(path, state)
        for index in steps[2:]:
            sink.write(index, case.values[index])
        sink.commit()
    case.check((tmp_path / "out.h5").read_bytes())


# --- disks -----------------------------------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("tile", [(64, 64, 64), (64, 64, 5)], ids=["whole", "cut"])
@pytest.mark.parametrize("filters", ["contiguous", "chunked", "gzip", "checked"])
@pytest.mark.parametrize("limit", [1000, 20_000, 200_000])
def test_a_file_that_may_not_grow_is_told_of(
    tmp_path: Path, filters: str, tile: tuple[int, int, int], limit: int
) -> None:
    layout = {"chunks": (16, 16, 16), **FILTERS[filters]} if filters in FILTERS else {}
    noise = np.random.default_rng(0).integers(0, 2**16, (64, 64, 64), np.uint16)
    case = Case(VolumeInfo("out", "hdf5", noise.shape, "012", noise.dtype, layout=layout), noise, "nothing")
    path = case.prepare(tmp_path)
    pending = begin(path, overwrite=False, going_on=False)
    sink = None
    with pytest.raises((OutputError, StreamError), match=r"out.h5"), files_of_at_most(limit):
        sink = Hdf5Sink(path, case.info, pending=pending)
        for index in regions(noise.shape, tile):
            sink.write(index, noise[index])
        sink.commit()
    if sink is None:
        pending.abort()
    else:
        sink.abort()
    assert (sink is None) or filters in ("gzip", "checked")  # others know from the start how much they need
    assert listing(tmp_path) == []


@pytest.mark.parametrize("filters", ["contiguous", "chunked"])
def test_a_disk_that_is_too_small_is_known_at_once(tmp_path: Path, filters: str) -> None:
    layout = {"chunks": (2, 2, 2)} if filters == "chunked" else {}
    case = case_of((30, 30, 30), "<i2", "012", "nothing", **layout)
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        mock.patch("os.posix_fallocate", side_effect=full, create=True),
        pytest.raises(OutputError, match=r"needs \d+ bytes and cannot have them \(\d+ bytes are free\); make room"),
    ):
        case.start(case.prepare(tmp_path))
    assert listing(tmp_path) == []


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [(128, 128, 8), (16, 128, 128)], ids=["along the last axis", "along the first"])
@pytest.mark.parametrize("filters", ["chunked", "gzip, shuffled", "checked"])
def test_few_chunks_are_held_however_regions_cut_them(tmp_path: Path, filters: str, tile: tuple[int, ...]) -> None:
    """Of 8 chunks; HDF5's own copy of one is not counted here."""
    noise = np.random.default_rng(0).integers(0, 2**16, (128,) * 3, np.uint16)
    layout = {"chunks": (64,) * 3, **FILTERS[filters]}
    case = Case(VolumeInfo("out", "hdf5", noise.shape, "012", noise.dtype, layout=layout), noise, "nothing")
    path, steps = case.prepare(tmp_path), regions(noise.shape, tile)
    with mock.patch.object(hdf5_places, "BATCH_BYTES", 2**19), mock.patch.object(hdf5_packed, "AHEAD_BYTES", 2**19):
        tracemalloc.start()
        sink = case.start(path, threads=4)
        for index in steps:
            sink.write(index, noise[index])
        sink.commit()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= writing_bytes(case.info) + 2**19 + 2**20  # and a batch, and some of each that is nearly gone
    assert 2**19 <= writing_bytes(case.info) < noise.nbytes // 2  # a chunk is 2**19 bytes


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "filters"),
    [
        *[("a.h5", filters) for filters in ("contiguous", *sorted(FILTERS))],
        ("a.nii", "chunked"),
        ("a.nii.gz", "gzip, shuffled"),
    ],
)
def test_the_same_command_makes_the_same_bytes(run: Run, tmp_path: Path, source: str, filters: str) -> None:
    """Whatever the tiles and threads; what comes from NIfTI is stored in one of two ways."""
    volume, path = whole_numbers(11, 13, 9, dtype=np.uint16), f"{tmp_path}/{source}"
    layout = {"chunks": (4, 5, 6), **FILTERS[filters]} if filters in FILTERS else {}
    if source == "a.h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=volume, **layout)
    else:
        save_nifti(Path(path), volume, np.eye(4))
    found = set()
    for options in ((), ("--threads", "1"), ("--tile", "6,10,14"), ("--tile", "2,26,18"), ("--tile", "22,26,2")):
        (tmp_path / "b.h5").unlink(missing_ok=True)
        done = run("upsample", path, f"{tmp_path}/b.h5:/up", "--dtype", "same", *options)
        assert done.code == 0, done.err
        found.add(sha256((tmp_path / "b.h5").read_bytes()).hexdigest())
    with h5py.File(tmp_path / "b.h5") as file:
        assert (file["up"].chunks is None) is (filters == "contiguous")
        assert file["up"].compression == layout.get("compression")
    assert len(found) == 1


def test_lzf_has_the_same_voxels_however_it_was_interrupted(tmp_path: Path) -> None:
    case, path, state = interrupted(tmp_path, "beside others", compression="lzf")
    sink = case.start(path, state)
    for index in regions((6, 5, 7), (3, 5, 7))[1:]:
        sink.write(index, case.values[index])
    sink.commit()
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file[NAME], case.values)
        assert file[NAME].compression == "lzf"
