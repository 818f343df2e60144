"""What becomes of runs when the system fails them?  Disks, permissions, neighbours, kills, and pipes."""

from __future__ import annotations

import errno
import fcntl
import gzip
import importlib
import json
import math
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest

import conv3dt
from conv3dt import journal
from conv3dt.batch.gather import gather
from conv3dt.batch.log import BatchLog
from conv3dt.batch.run import Outcome
from conv3dt.batch.unattended import unattended
from conv3dt.errors import ArgumentError, Conv3dtError, DataError, InputMissingError, OutputError, StreamError
from conv3dt.pending import PREFIX, PendingFile
from conv3dt.record import FileFacts, Record, record_of, write_sidecar
from conv3dt.verify import verify_file
from tests.conftest import SAMPLES, Run, command, content_hash, listing, save_nifti, whole_numbers

SLABS: dict[str, Any] = {"tile": (48, 48, 6), "kernel": "cubic"}
BOXES: dict[str, Any] = {"tile": (24, 24, 24), "kernel": "cubic"}


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return save_nifti(tmp_path / "a.nii", whole_numbers(24, 24, 24), np.eye(4))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for n in range(4):
        save_nifti(folder / f"{n}.nii{'.gz' if n % 2 else ''}", whole_numbers(12, 11, 10, seed=n), np.eye(4))
    return folder


class Killed(BaseException):
    """Stands for a kill inside this process."""


def killed(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """Run until the second checkpoint, and leave everything as a kill would."""
    note, count = journal.Journal.note, iter(range(1, 100))

    def noted(self: journal.Journal, progress: Any) -> None:
        note(self, progress)
        if next(count) == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(journal, "FIRST_S", 0.0)
        patch.setattr(journal, "SHARE", 0)
        patch.setattr(journal.Journal, "note", noted)
        with pytest.raises(Killed):
            conv3dt.upsample_file(source, target, resume=True, **options)


# --- what killed runs left -------------------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 100_000),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("b.nii", SLABS, ""),
        ("b.nii.gz", SLABS, ""),
        ("b.nii.gz", BOXES, ""),
        ("b.nii.gz", BOXES, "-spool"),
        ("b.nii", SLABS, "-journal"),
    ],
    ids=["plain", "stream", "boxes", "spool", "journal"],
)
def test_passing_files_that_are_not_as_they_were_do_no_harm(
    scan: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], kind: str, damage: str
) -> None:
    out = scan.parent / "out"
    conv3dt.upsample_file(scan, scan.parent / name, **options)
    killed(scan, out / name, monkeypatch, options)
    DAMAGES[damage](out / f"{PREFIX}{name}{kind}")
    conv3dt.upsample_file(scan, out / name, **options)
    assert (out / name).read_bytes() == (scan.parent / name).read_bytes()
    assert listing(out) == [name]


def test_a_journal_of_which_any_byte_is_wrong_counts_as_none(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, chance = scan.parent / "out", random.Random(0)
    conv3dt.upsample_file(scan, scan.parent / "b.nii.gz", **SLABS)
    for _ in range(12):
        killed(scan, out / "b.nii.gz", monkeypatch, SLABS)
        place = out / f"{PREFIX}b.nii.gz-journal"
        raw = bytearray(place.read_bytes())
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        place.write_bytes(raw)
        report = conv3dt.upsample_file(scan, out / "b.nii.gz", **SLABS)
        assert report.run is not None
        assert report.run.resumed_regions == 0
        assert content_hash(out / "b.nii.gz") == content_hash(scan.parent / "b.nii.gz")
        (out / "b.nii.gz").unlink()


def test_the_regions_in_the_report_are_those_of_the_run_that_was_gone_on_with(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = scan.parent / "out"
    killed(scan, out / "b.nii", monkeypatch, SLABS)
    report = conv3dt.upsample_file(scan, out / "b.nii", **BOXES)
    assert report.run is not None and report.plan is not None
    assert (report.run.resumed_regions, report.plan.tile) == (2, (48, 48, 6))


@pytest.mark.parametrize("moved", [False, True], ids=["in its place", "moved"])
def test_a_run_killed_while_it_names_its_output_costs_no_output(scan: Path, moved: bool) -> None:
    """Passing file and output are one file for a moment: whoever writes into the first spoils the second."""
    out = scan.parent / "out"
    conv3dt.upsample_file(scan, out / "b.nii", **SLABS)
    whole = content_hash(out / "b.nii")
    os.link(out / "b.nii", out / f"{PREFIX}b.nii")
    (out / f"{PREFIX}b.nii-journal").write_text("of that run")
    kept = out / ("mine.nii" if moved else "b.nii")
    (out / "b.nii").rename(kept)

    def stop(total: int) -> Callable[[int], None]:
        raise StreamError("the disk is full")

    with pytest.raises(StreamError):
        conv3dt.upsample_file(scan, out / "b.nii", overwrite=True, start=stop)
    assert content_hash(kept) == whole
    assert listing(out) == [kept.name]


def test_a_run_killed_right_behind_the_naming_leaves_nothing_that_misleads(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal may come back when the power fails, though its passing file is an output by then."""
    out = scan.parent / "out"
    killed(scan, out / "b.nii.gz", monkeypatch, SLABS)
    left = (out / f"{PREFIX}b.nii.gz-journal").read_bytes()
    conv3dt.upsample_file(scan, out / "b.nii.gz", **SLABS)
    whole = content_hash(out / "b.nii.gz")
    (out / f"{PREFIX}b.nii.gz-journal").write_bytes(left)
    conv3dt.upsample_file(scan, out / "b.nii.gz", overwrite=True, **SLABS)
    assert content_hash(out / "b.nii.gz") == whole
    assert listing(out) == ["b.nii.gz"]


def test_a_batch_killed_between_a_record_and_its_output_is_finished_by_the_same_command(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, up = (gather([str(scans)], out_dir=str(tmp_path / name), layer={}, jobs=1) for name in ("whole", "up"))
    unattended(whole)
    name = PendingFile._name

    def dying(self: PendingFile) -> None:
        if self.path.suffix != ".json":
            raise Killed
        name(self)

    with monkeypatch.context() as patch:
        patch.setattr(PendingFile, "_name", dying)
        patch.setattr(PendingFile, "abort", lambda self, keep=False: self._let_go())
        patch.setattr("conv3dt.single.os.unlink", lambda path: None)
        with pytest.raises(Killed):
            unattended(up)
    assert "0.json" in listing(tmp_path / "up")
    assert {outcome.status for outcome in unattended(up)} == {"done"}
    assert listing(tmp_path / "up") == listing(tmp_path / "whole")
    for scan in up.batch.scans:
        assert content_hash(Path(scan.output)) == content_hash(tmp_path / "whole" / Path(scan.output).name)


def test_an_output_that_gets_no_name_leaves_no_record(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, name = scan.parent / "out", PendingFile._name

    def refused(self: PendingFile) -> None:
        if self.path.suffix != ".json":
            raise OSError(errno.EIO, "the disk is gone")
        name(self)

    monkeypatch.setattr(PendingFile, "_name", refused)
    with pytest.raises(StreamError, match="the disk is gone"):
        conv3dt.upsample_file(scan, out / "b.nii", sidecar=True)
    assert listing(out) == []


def test_ctrl_c_comes_before_record_and_output_or_behind_both(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, name = scan.parent / "out", PendingFile._name

    def interrupted(self: PendingFile) -> None:
        if self.path.suffix == ".json":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        name(self)

    monkeypatch.setattr(PendingFile, "_name", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            conv3dt.upsample_file(scan, out / "b.nii", sidecar=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert listing(out) == ["b.json", "b.nii"]
    assert verify_file(str(out / "b.nii")).passed


# --- neighbours ------------------------------------------------------------------------------------------------------


def test_an_output_that_another_run_is_making_is_left_to_it(scan: Path) -> None:
    out = scan.parent / "out"
    other = PendingFile(str(out / "b.nii"), overwrite=False)
    for sidecar in (False, True):
        with pytest.raises(OutputError, match="another run is making it"):
            conv3dt.upsample_file(scan, out / "b.nii", sidecar=sidecar)
    assert listing(out) == [f"{PREFIX}b.nii"]
    conv3dt.upsample_file(scan, out / "b.nii", overwrite=True)
    other.abort()
    assert listing(out) == ["b.nii"]


def test_what_a_second_run_left_is_swept_away_but_not_what_one_is_writing(tmp_path: Path) -> None:
    path = str(tmp_path / "b.nii")
    first, second, third = (PendingFile(path, overwrite=True) for _ in range(3))
    assert (first.alone, second.alone, third.alone) == (True, False, False)
    second.work.write_bytes(b"second")
    second.sibling("journal").write_bytes(b"second")
    second.abort(keep=True)  # as a kill leaves it
    first.work.write_bytes(b"first")
    first.commit()
    assert listing(tmp_path) == sorted(["b.nii", third.work.name])
    third.commit()
    assert listing(tmp_path) == ["b.nii"]


def test_two_batches_for_the_same_scans_make_each_of_them_once(scans: Path, tmp_path: Path) -> None:
    plans = [gather([str(scans)], out_dir=str(tmp_path / "up"), layer={}, jobs=2) for _ in range(2)]
    found: list[list[Outcome]] = []
    threads = [threading.Thread(target=lambda plan=plan: found.append(unattended(plan))) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [outcome.name for outcomes in found for outcome in outcomes if outcome.status == "done"]
    assert sorted(made) == ["0.nii", "1.nii.gz", "2.nii", "3.nii.gz"]
    for outcome in (outcome for outcomes in found for outcome in outcomes if outcome.status == "failed"):
        assert outcome.error is not None
        assert any(words in outcome.error for words in ("another run", "exists already", "exists, but"))
    assert {outcome.status for outcome in unattended(plans[0])} == {"skipped"}


# --- permissions -----------------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> list[str]:
    """Words before a command that make root heed permissions as others do."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root heeds no permissions")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown"]


def ran(prefix: list[str], *words: object, **options: Any) -> tuple[int, str]:
    done = subprocess.run([*prefix, *command(*words)], capture_output=True, text=True, check=False, **options)
    assert "unexpected" not in done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_permissions_are_met_with_a_line_and_no_file(scan: Path, unprivileged: list[str]) -> None:
    shut = scan.parent / "shut"
    shut.mkdir(mode=0o555)
    code, told = ran(unprivileged, "upsample", scan, shut / "b.nii")
    assert (code, "Permission denied" in told) == (73, True)
    code, told = ran(unprivileged, "batch", scan, "--out-dir", shut / "up", "--log", scan.parent / "log")
    assert (code, "output folder" in told) == (1, True)
    assert listing(shut) == []


def test_a_file_that_may_not_be_written_is_replaced_and_keeps_its_permissions(
    scan: Path, unprivileged: list[str]
) -> None:
    out = scan.parent / "out"
    (out / "b.nii.gz").write_bytes(b"old")
    (out / "b.nii.gz").chmod(0o444)
    code, told = ran(unprivileged, "upsample", scan, out / "b.nii.gz", "--overwrite", "-q")
    assert code == 0, told
    assert (out / "b.nii.gz").stat().st_mode & 0o777 == 0o444


def test_a_mask_that_forbids_everything_forbids_no_run(scan: Path, unprivileged: list[str]) -> None:
    out = scan.parent / "out"
    code, told = ran(unprivileged, "upsample", scan, out / "b.nii", "--sidecar", "-q", umask=0o777)
    assert code == 0, told
    assert [(out / name).stat().st_mode & 0o777 for name in listing(out)] == [0, 0]


@pytest.mark.parametrize("what", ["another's", "folder", "link", "pipe"])
def test_a_passing_name_that_is_taken_is_passed_by(scan: Path, unprivileged: list[str], what: str) -> None:
    place, precious = scan.parent / "out" / f"{PREFIX}b.nii", scan.parent / "precious"
    precious.write_text("mine")
    if what == "folder":
        place.mkdir()
    elif what == "link":
        place.symlink_to(precious)
    elif what == "pipe":
        os.mkfifo(place)
    else:
        place.write_text("theirs")
        place.chmod(0o400)
        if os.geteuid() == 0:
            os.chown(place, 65534, 65534)
    code, told = ran(unprivileged, "upsample", scan, place.parent / "b.nii", "-q", timeout=60)
    assert code == 0, told
    assert listing(place.parent) == sorted([place.name, "b.nii"])
    assert precious.read_text() == "mine"


# --- disks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a disk of so many KiB, where the system lets us have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def mount(kib: int) -> Path:
        nonlocal mounted
        words = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        mounted = True
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", place], check=True)


def test_a_batch_on_a_disk_that_fills_up(run: Run, scans: Path, disk: Callable[[int], Path]) -> None:
    place = disk(48)  # one output of 43 KB, a record, a log
    options = ("--scale", "2", "--out-format", "nii", "--jobs", 1, "--html")
    done = run("batch", scans, "--out-dir", place / "up", *options)
    assert done.code in (1, 74)
    assert "4 scans: " in done.err
    assert "unexpected" not in done.err
    made = {path.stem for path in (place / "up").glob("*.nii")}
    assert made == {path.stem for path in (place / "up").glob("*.json")}
    assert not [name for name in listing(place / "up") if name.startswith(".")]


def test_a_log_that_cannot_be_written_stops_no_scan(run: Run, scans: Path, tmp_path: Path) -> None:
    done = run("batch", scans, "--out-dir", tmp_path / "up", "--log", "/dev/full")
    assert done.code == 74
    assert "4 scans: 4 done" in done.err
    assert "log /dev/full: writing broke off: No space left on device" in done.err.splitlines()[-1]


def test_a_batch_that_nobody_can_follow_goes_on(scans: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("batch", scans, "--out-dir", tmp_path / "up"), stderr=full, check=False)
    assert done.returncode == 0
    assert {outcome.status for outcome in unattended(gather([str(scans)], out_dir=str(tmp_path / "up"), layer={}))} == {
        "skipped"
    }


def test_a_log_is_gone_on_with_but_nothing_else(tmp_path: Path) -> None:
    outcome = Outcome("a", "a.nii", "b.nii", "done", 1.0)
    (tmp_path / "log").write_text('{"scan": "one"}\n{"scan": "tw')  # as a full disk leaves it
    log = BatchLog(str(tmp_path / "log"))
    log.add(outcome)
    log.close()
    log.check()
    *_, last = (tmp_path / "log").read_text().splitlines()
    assert json.loads(last)["scan"] == "a"
    (tmp_path / "scan.nii").write_bytes(b"\\\1\0\0")
    with pytest.raises(OutputError, match="holds something else"):
        BatchLog(str(tmp_path / "scan.nii"))
    assert (tmp_path / "scan.nii").read_bytes() == b"\\\1\0\0"


def test_no_room_for_a_journal_is_no_reason_to_fail(
    scan: Path, monkeypatch: pytest.MonkeyPatch, disk: Callable[[int], Path]
) -> None:
    monkeypatch.setattr(journal, "FIRST_S", 0.0)
    conv3dt.upsample_file(scan, scan.parent / "b.nii", **SLABS)
    place = disk(4 * -(-(scan.parent / "b.nii").stat().st_size // 4096))
    conv3dt.upsample_file(scan, place / "b.nii", **SLABS)
    assert content_hash(place / "b.nii") == content_hash(scan.parent / "b.nii")
    assert listing(place) == ["b.nii"]


def test_no_room_for_what_passes_names_the_folder_that_it_passes_through(
    scan: Path, monkeypatch: pytest.MonkeyPatch, disk: Callable[[int], Path]
) -> None:
    packed = save_nifti(scan.parent / "a.nii.gz", whole_numbers(40, 40, 40), np.eye(4))
    monkeypatch.setattr("tempfile.tempdir", str(disk(64)))
    monkeypatch.setattr("conv3dt.single.foresee", lambda job: None)
    with pytest.raises(StreamError, match="TMPDIR"):
        conv3dt.upsample_file(packed, scan.parent / "out" / "b.nii", tile=20)
    assert listing(scan.parent / "out") == []


def test_standard_output_on_a_full_disk_ends_in_one_line() -> None:
    for form in ("nii", "nii.gz"):
        with open("/dev/full", "wb") as full:
            words = command("upsample", SAMPLES / "head.nii.gz", "-", "-q", "--out-format", form)
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 74
        assert done.stderr == b"conv3dt: output -: writing broke off: No space left on device\n"


# --- what changes while it is read -----------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\1" * 100)
    os.utime(path, ns=(10**18, 10**18))  # a clock of four milliseconds may not have moved


def replaced(path: Path) -> None:
    path.with_name("other").write_bytes(path.read_bytes()[:-2] + b"zz")
    path.with_name("other").replace(path)


CHANGES: dict[str, tuple[Callable[[Path], object], bool, type[Conv3dtError]]] = {
    "cut": (lambda path: os.truncate(path, path.stat().st_size // 2), False, DataError),
    "written": (spoil, False, DataError),
    "replaced": (replaced, True, DataError),
    "gone": (Path.unlink, True, InputMissingError),
}
"""What happens to an input, whether an output is right nevertheless, and what goes wrong if it is to have a record."""


@pytest.mark.parametrize("sidecar", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("tile", [(48, 48, 6), (6, 48, 48)], ids=["slabs", "boxes"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_input_that_changes_while_it_is_read(
    scan: Path, change: str, name: str, tile: tuple[int, ...], sidecar: bool
) -> None:
    source, out = save_nifti(scan.parent / name, whole_numbers(24, 24, 24), np.eye(4)), scan.parent / "out"
    conv3dt.upsample_file(source, scan.parent / "whole.nii", tile=tile)
    happens, is_right, error = CHANGES[change]

    def start(total: int) -> Callable[[int], None]:
        first = iter([True])
        return lambda done: next(first, False) and happens(source)  # type: ignore[return-value]

    if sidecar or not is_right:
        with pytest.raises(error if sidecar else DataError, match=r"a\.nii"):
            conv3dt.upsample_file(source, out / "b.nii", tile=tile, start=start, sidecar=sidecar, threads=1)
        assert listing(out) == []
    else:
        conv3dt.upsample_file(source, out / "b.nii", tile=tile, start=start, threads=1)
        assert content_hash(out / "b.nii") == content_hash(scan.parent / "whole.nii")


@pytest.mark.parametrize("name", ["b.nii", "b.nii.gz", "b.h5:/b"])
def test_a_folder_that_vanishes(scan: Path, name: str) -> None:
    out = scan.parent / "out"

    def start(total: int) -> Callable[[int], None]:
        return lambda done: shutil.rmtree(out, ignore_errors=True)

    with pytest.raises((StreamError, OutputError)):
        conv3dt.upsample_file(scan, out / name, start=start, sidecar=True)
    assert not out.exists()


# --- batches ---------------------------------------------------------------------------------------------------------

PLACES = [
    "conv3dt.batch.run.resolve",
    "conv3dt.single.file_hash",
    "conv3dt.single.glance",
    "conv3dt.single.write_sidecar",
    "conv3dt.file_run.create_sink",
    "conv3dt.file_run.open_source",
    "conv3dt.io.nifti.skip",
    "conv3dt.io.nifti.StreamSource.read",
    "conv3dt.io.nifti.PlainSource.read",
    "conv3dt.io.nifti.StreamSink.write",
    "conv3dt.io.nifti.StreamSink.finish",
    "conv3dt.io.gzip_stream.GzipWriter.__init__",
    "conv3dt.io.gzip_stream._packed",
    "conv3dt.engine.direct.DirectEngine.compute",
    "conv3dt.pipeline._fill",
    "conv3dt.pending.PendingFile.__init__",
    "conv3dt.pending.PendingFile.commit",
    "conv3dt.pending.PendingFile._name",
    "os.fsync",
    "os.link",
]
ERRORS = [
    OSError(errno.EIO, "Input/output error"),
    TimeoutError(),
    MemoryError(),
    RuntimeError("can't start\na thread"),
]


@pytest.mark.parametrize("place", PLACES)
def test_whatever_fails_in_a_scan_it_is_told_in_a_line_and_leaves_nothing(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    owner_name, _, name = place.rpartition(".")
    try:
        owner: Any = importlib.import_module(owner_name)
    except ImportError:
        module, _, kind = owner_name.rpartition(".")
        owner = getattr(importlib.import_module(module), kind)
    for error in ERRORS:

        def failing(*words: Any, error: Exception = error, **options: Any) -> Any:
            raise error

        up = tmp_path / type(error).__name__
        plan = gather([str(scans)], out_dir=str(up), layer={}, jobs=2)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            outcomes = unattended(plan)
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        made = [Path(outcome.output).name for outcome in outcomes if outcome.status == "done"]
        records = [name.split(".")[0] + ".json" for name in made]
        if place != "os.link" or not isinstance(error, OSError):  # a file system may have no links
            assert failed
        assert listing(up) == sorted([*made, *records, "conv3dt.jsonl"])
        for outcome in failed:
            assert outcome.error
            assert "\n" not in outcome.error
            assert "unexpected" not in outcome.error or isinstance(error, RuntimeError)
        assert {outcome.status for outcome in unattended(plan)} <= {"done", "skipped"}


def test_neither_descriptors_nor_threads_nor_reports_pile_up(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(40):
        save_nifti(tmp_path / "in" / f"{n}.nii.gz", whole_numbers(8, 8, 8, seed=n), np.eye(4))
    (tmp_path / "in" / "cut.nii.gz").write_bytes((tmp_path / "in" / "0.nii.gz").read_bytes()[:-30])

    def held() -> tuple[int, int]:
        return psutil.Process().num_fds(), threading.active_count()

    plan = gather([str(tmp_path / "in")], out_dir=str(tmp_path / "up"), layer={}, jobs=4)
    before = held()
    outcomes = unattended(plan, reports=False)
    assert held() == before
    assert sum(outcome.status == "done" for outcome in outcomes) == 40
    assert all(outcome.report is None for outcome in outcomes)


def test_a_failure_that_ends_a_batch_tells_the_truth_of_those_under_way(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(8):
        save_nifti(tmp_path / "in" / f"{n}.nii.gz", whole_numbers(40, 40, 40, seed=n), np.eye(4))
    (tmp_path / "in" / "3.nii.gz").write_bytes(b"no")
    plan = gather(
        [str(tmp_path / "in")], out_dir=str(tmp_path / "up"), layer={}, jobs=3, stop_on_first_failure=True, tile=8
    )
    outcomes = unattended(plan)
    statuses = {outcome.name: outcome.status for outcome in outcomes}
    assert statuses["3.nii.gz"] == "failed"
    assert statuses["7.nii.gz"] == "cancelled"
    done = {name for name, status in statuses.items() if status == "done"}
    assert {name for name in listing(tmp_path / "up") if name.endswith(".gz")} == done
    lines = [json.loads(line) for line in (tmp_path / "up" / "conv3dt.jsonl").read_text().splitlines()]
    assert {line["scan"]: line["status"] for line in lines} == statuses


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_batch_that_is_stopped_says_what_it_did(tmp_path: Path, number: int) -> None:
    (tmp_path / "in").mkdir()
    for n in range(30):
        save_nifti(tmp_path / "in" / f"{n}.nii.gz", whole_numbers(60, 60, 60, seed=n), np.eye(4))
    words = command("batch", tmp_path / "in", "--out-dir", tmp_path / "up", "--kernel", "lanczos3")
    log = tmp_path / "up" / "conv3dt.jsonl"
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    ) as batch:
        while batch.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.01)
        batch.send_signal(number)
        _, told = batch.communicate(timeout=60)
    assert batch.returncode == 128 + number
    assert "30 scans: " in told
    assert told.splitlines()[-1] == "conv3dt: interrupted; the same command finishes what is left"
    statuses = {line["scan"]: line["status"] for line in map(json.loads, log.read_text().splitlines())}
    assert len(statuses) == 30
    assert set(statuses.values()) == {"done", "cancelled"}
    done = {name for name, status in statuses.items() if status == "done"}
    records = {name.replace(".nii.gz", ".json") for name in done}
    assert set(listing(tmp_path / "up")) == done | records | {"conv3dt.jsonl"}


def test_a_name_that_looks_like_markup_is_shown_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "x[").mkdir()
    save_nifti(tmp_path / "x[" / "bold].nii", whole_numbers(30, 30, 30), np.eye(4))
    (tmp_path / "b[").mkdir()
    (tmp_path / "b[" / "red].nii").write_bytes(b"no")
    leader, follower = pty.openpty()
    batch = subprocess.Popen(command("batch", tmp_path, "--out-dir", tmp_path / "up"), stderr=follower)
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 2**16):
            shown += piece
    except OSError:  # Linux's way to say that nobody is left
        pass
    os.close(leader)
    assert batch.wait() == 1
    assert b"Traceback" not in shown
    assert b"b[/red].nii" in shown
    assert b"2 scans: 1 done, 1 failed" in shown


def test_a_dry_run_adds_up(run: Run, scans: Path, tmp_path: Path) -> None:
    done = run("batch", scans, "--out-dir", tmp_path / "up", "--dry-run")
    assert (done.code, listing(tmp_path)) == (0, ["scans"])
    assert "4 scans: 4 planned; about " in done.err


# --- records ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_input_s_own_sidecar_is_never_replaced(scan: Path, overwrite: bool) -> None:
    precious = scan.with_suffix(".json")
    precious.write_text('{"EchoTime": 0.03}')
    with pytest.raises(OutputError, match="belongs to an input"):
        conv3dt.upsample_file(scan, scan.with_suffix(".nii.gz"), sidecar=True, overwrite=overwrite)
    assert precious.read_text() == '{"EchoTime": 0.03}'
    assert listing(scan.parent) == ["a.json", "a.nii", "out"]


def test_a_record_is_not_lost_to_another_output(scan: Path) -> None:
    out = scan.parent / "out"
    conv3dt.upsample_file(scan, out / "b.nii", sidecar=True)
    with pytest.raises(OutputError, match=r"is the record of .*b\.nii"):
        conv3dt.upsample_file(scan, out / "b.nii.gz", sidecar=True, overwrite=True)
    assert verify_file(str(out / "b.nii")).passed
    (out / "b.nii").unlink()
    conv3dt.upsample_file(scan, out / "b.nii.gz", sidecar=True)


def test_an_output_in_the_file_of_its_input_can_have_no_record(scan: Path) -> None:
    with h5py.File(scan.parent / "a.h5", "w") as file:
        file["raw"] = whole_numbers(5, 5, 5)
    for source, target in ((f"{scan.parent}/a.h5:/raw", f"{scan.parent}/a.h5:/up"), (str(scan), str(scan))):
        with pytest.raises(ArgumentError, match="in the file of its input"):
            conv3dt.upsample_file(source, target, sidecar=True, overwrite=True)


@pytest.mark.parametrize("what", ["folder", "pipe", "long"])
def test_a_sidecar_that_cannot_be_is_refused_before_the_work(scan: Path, what: str) -> None:
    name = "b" * 251 if what == "long" else "b"
    place = scan.parent / "out" / f"{name}.json"
    if what == "folder":
        place.mkdir()
    elif what == "pipe":
        os.mkfifo(place)
    begun: list[int] = []
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            conv3dt.upsample_file(
                scan, place.with_suffix(".nii"), sidecar=True, overwrite=overwrite, start=lambda total: begun.append
            )
    assert begun == []
    if what == "pipe":
        with pytest.raises(DataError, match="not a regular file"):
            record_of(str(place))


def test_numbers_that_json_does_not_have_become_null(tmp_path: Path) -> None:
    record = Record("1", "", {"scale": 2}, FileFacts("a", 1, ""), FileFacts("b", 1, ""))
    write_sidecar(str(tmp_path / "b.json"), {"SliceTiming": [0.0, math.nan], "Deep": {"er": -math.inf}}, record)
    told = json.loads((tmp_path / "b.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (told["SliceTiming"], told["Deep"]) == ([0.0, None], {"er": None})
    assert record_of(str(tmp_path / "b.json")) == record


def test_a_self_check_finds_the_dataset_that_has_no_name(scan: Path) -> None:
    with h5py.File(scan.parent / "b.h5", "w") as file:
        file["other"] = whole_numbers(5, 5, 5)
    report = conv3dt.upsample_file(scan, scan.parent / "b.h5", self_check=True)
    assert report.proof is not None
    assert report.proof.passed


# --- pipes -----------------------------------------------------------------------------------------------------------


def test_pipes_that_do_not_block_and_neighbours_that_are_slow(scan: Path) -> None:
    conv3dt.upsample_file(scan, scan.parent / "whole.nii")
    (reader, writer), (source, sink) = os.pipe(), os.pipe()
    for end in (reader, sink):
        fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_NONBLOCK)
    run = subprocess.Popen(command("upsample", "-", "-", "-q"), stdin=reader, stdout=sink)
    os.close(reader)
    os.close(sink)
    content, found = memoryview(scan.read_bytes()), bytearray()

    def write() -> None:
        for start in range(0, len(content), 9000):
            assert os.write(writer, content[start : start + 9000])
            time.sleep(0.02)
        os.close(writer)

    slow = threading.Thread(target=write)
    slow.start()
    while piece := os.read(source, 2**15):
        found += piece
        time.sleep(0.01)
    slow.join()
    os.close(source)
    assert run.wait(60) == 0
    assert bytes(found) == (scan.parent / "whole.nii").read_bytes()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_a_run_that_waits_for_its_neighbours_can_be_stopped(tmp_path: Path, packed: bool) -> None:
    source = save_nifti(tmp_path / "a.nii", np.random.default_rng(0).integers(0, 99, (80, 80, 80), np.uint8), np.eye(4))
    content = gzip.compress(source.read_bytes(), 1) if packed else source.read_bytes()
    words = command("upsample", "-", tmp_path / "b.nii", "-q")
    stalled = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert stalled.stdin is not None
    stalled.stdin.write(content[: len(content) // 2])
    stalled.stdin.flush()
    words = command("upsample", source, "-", "-q", "--out-format", "nii.gz" if packed else "nii", "--scale", "4")
    unread = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert unread.stdout is not None
    assert select.select([unread.stdout], [], [], 60)[0]  # it has begun, and so has the other, which took what it got
    time.sleep(0.5)
    for run in (stalled, unread):
        run.terminate()
        with run:
            assert run.wait(30) == 143
    assert listing(tmp_path) == ["a.nii"]


@pytest.mark.parametrize("cuts", [[0], [100], [348, 352], [1, 2, 3, 500]], ids=str)
def test_a_stream_of_many_members_is_read_from_a_file_too(tmp_path: Path, cuts: list[int]) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(6, 6, 6), np.eye(4))
    content = source.read_bytes()
    parts = [content[start:stop] for start, stop in zip([0, *cuts], [*cuts, None], strict=True)]
    (tmp_path / "b.nii.gz").write_bytes((b"\0" * 5).join(map(gzip.compress, parts)))
    for name in ("a.nii", "b.nii.gz"):
        conv3dt.upsample_file(tmp_path / name, tmp_path / f"{name}.nii")
    assert (tmp_path / "a.nii.nii").read_bytes() == (tmp_path / "b.nii.gz.nii").read_bytes()


# --- many, and at any moment -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_thousand_tiny_scans(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(2000):
        save_nifti(tmp_path / "in" / f"{n}.nii.gz", whole_numbers(8, 8, 8, seed=n), np.eye(4))
    plan = gather([str(tmp_path / "in")], out_dir=str(tmp_path / "up"), layer={}, jobs=2)
    process, held = psutil.Process(), []

    def told(known: int, outcome: Outcome) -> None:
        if known in (200, 2000):
            held.append(process.memory_info().rss)

    before = process.num_fds(), threading.active_count()
    assert {outcome.status for outcome in unattended(plan, told=told, reports=False)} == {"done"}
    assert (process.num_fds(), threading.active_count()) == before
    assert held[1] - held[0] < 20 * 2**20
    assert {outcome.status for outcome in unattended(plan)} == {"skipped"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_stopped_at_25_random_moments_a_batch_is_clean_and_finished_by_the_same_command(
    tmp_path: Path, number: int
) -> None:
    (tmp_path / "in").mkdir()
    for n in range(8):
        volume = np.random.default_rng(n).integers(0, 3000, (70, 60, 50)).astype(np.int16)
        save_nifti(tmp_path / "in" / f"{n}.nii{'.gz' if n % 2 else ''}", volume, np.eye(4))
    words, up = command("batch", tmp_path / "in", "--kernel", "cubic", "--out-dir"), tmp_path / "up"
    begin = time.monotonic()
    subprocess.run([*words, str(tmp_path / "whole")], check=True, stderr=subprocess.DEVNULL)
    most, chance, stopped = time.monotonic() - begin, random.Random(0), 0
    while stopped < 25:
        with subprocess.Popen(
            [*words, str(up)],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as batch:
            time.sleep(chance.uniform(0.3, most))
            batch.send_signal(number)
            _, told = batch.communicate(timeout=60)
        stopped += batch.returncode != 0
        assert batch.returncode in (0, 128 + number, -number), told  # at its very end Python heeds no handler
        assert "Traceback" not in told
        names = listing(up) if up.exists() else []
        assert not [name for name in names if name.startswith(".")]
        made = {name.split(".")[0] for name in names if name.endswith((".nii", ".gz"))}
        assert made == {name.split(".")[0] for name in names if name.endswith(".json")}
        subprocess.run([*words, str(up)], check=True, stderr=subprocess.DEVNULL)
        for path in (tmp_path / "whole").glob("*.nii*"):
            assert content_hash(path) == content_hash(up / path.name)
        shutil.rmtree(up)


def test_a_passing_file_that_is_gone_by_the_time_it_is_looked_at(scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run for the same output, which was counted among what is left behind, comes to its end."""
    gone = str(scan.parent / "out" / f"{PREFIX}b.nii")
    monkeypatch.setattr("conv3dt.disk.glob", lambda pattern: [gone])
    conv3dt.upsample_file(scan, scan.parent / "out" / "b.nii")
    assert listing(scan.parent / "out") == ["b.nii"]
