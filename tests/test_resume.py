"""Does a run that was stopped at any moment come to the same bytes when it is run again?  By real signals."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conv3dt
from conv3dt import journal
from conv3dt.errors import StreamError
from tests.conftest import command, content_hash, listing, save_nifti, whole_numbers

TARGETS = ["b.nii.gz", "b.nii", "b.h5:/b"]


def stop_often(words: list[str], target: Path, number: int, times: int, most: float) -> None:
    """Run a command again and again, and stop it ``times`` times at random moments."""
    chance, stopped = random.Random(0), 0
    while stopped < times:
        target.unlink(missing_ok=True)
        run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert run.wait(chance.uniform(0, most)) == 0
        except subprocess.TimeoutExpired:
            run.send_signal(number)
            run.wait(60)
            stopped += 1


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    volume = np.random.default_rng(0).integers(0, 300, (64, 60, 80)).astype(np.uint16)
    return save_nifti(tmp_path / "in" / "a.nii.gz", volume, np.diag([1.0, 1, 2, 1]))


class Killed(BaseException):
    """Stands for a kill inside this process: nothing is cleaned up behind it."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("tile", [(128, 120, 10), (40, 48, 64)], ids=["slabs", "boxes"])
def test_a_run_goes_on_from_its_last_checkpoint(
    scan: Path, monkeypatch: pytest.MonkeyPatch, target: str, tile: tuple[int, int, int]
) -> None:
    out = scan.parent.parent / "out"
    file = out / target.partition(":")[0]
    whole: dict[str, Any] = {"scale": 2, "tile": tile, "kernel": "cubic", "dtype": "uint16"}
    conv3dt.upsample_file(scan, out / target, **whole)
    wanted = content_hash(file)
    file.unlink()
    monkeypatch.setattr(journal, "FIRST_S", 0.0)  # a checkpoint behind each region
    monkeypatch.setattr(journal, "SHARE", 0)
    for stop_at in (1, 3, 5):
        note, count = journal.Journal.note, iter(range(1, 100))

        def noted(
            self: journal.Journal, progress: Any, note: Any = note, count: Any = count, stop: int = stop_at
        ) -> None:
            note(self, progress)
            if next(count) == stop:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(journal.Journal, "note", noted)
            with pytest.raises(Killed):
                conv3dt.upsample_file(scan, out / target, resume=True, **whole)
        assert not file.exists()
        report = conv3dt.upsample_file(scan, out / target, dry_run=True, **whole)
        assert report.run is None
    report = conv3dt.upsample_file(scan, out / target, **whole)
    assert report.run is not None
    assert report.run.resumed_regions == 9
    assert content_hash(file) == wanted
    assert listing(out) == [file.name]


def test_counts_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.full((20, 20, 40), 300.0, np.float32)
    volume[3, 4, 5] = np.nan
    source = save_nifti(tmp_path / "a.nii", volume, np.eye(4))
    options: dict[str, Any] = {"dtype": "uint8", "tile": (40, 40, 8)}
    whole = conv3dt.upsample_file(source, tmp_path / "whole.nii", **options).run
    monkeypatch.setattr(journal, "FIRST_S", 0.0)

    def full(*_: object) -> None:
        raise StreamError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("conv3dt.io.gzip_stream.GzipWriter.close", full)
        with pytest.raises(StreamError):
            conv3dt.upsample_file(source, tmp_path / "b.nii.gz", resume=True, **options)
    run = conv3dt.upsample_file(source, tmp_path / "b.nii.gz", **options).run
    assert whole is not None and run is not None
    assert run.resumed_regions > 0
    assert (run.clipped, run.not_finite, run.first_not_finite) == (whole.clipped, 1, (3, 4, 5))


@pytest.mark.parametrize("change", ["input", "options", "nothing"])
def test_what_another_run_left_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(12, 12, 30), np.eye(4))
    monkeypatch.setattr(journal, "FIRST_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr("conv3dt.pending.PendingFile.commit", lambda self: (_ for _ in ()).throw(StreamError("no")))
        with pytest.raises(StreamError):
            conv3dt.upsample_file(source, tmp_path / "b.nii", resume=True, tile=8)
    assert len(listing(tmp_path)) == 3
    if change == "input":
        save_nifti(source, whole_numbers(12, 12, 30, seed=1), np.eye(4))
    run = conv3dt.upsample_file(source, tmp_path / "b.nii", kernel="cubic" if change == "options" else None).run
    assert run is not None
    assert (run.resumed_regions > 0) == (change == "nothing")
    conv3dt.upsample_file(source, tmp_path / "c.nii", kernel="cubic" if change == "options" else None)
    assert content_hash(tmp_path / "b.nii") == content_hash(tmp_path / "c.nii")
    assert listing(tmp_path) == ["a.nii", "b.nii", "c.nii"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("keep", [False, True], ids=["clean", "resume"])
def test_an_interrupted_run_leaves_nothing_unless_it_is_asked_to(tmp_path: Path, number: int, keep: bool) -> None:
    volume = np.random.default_rng(0).integers(0, 300, (256, 256, 200)).astype(np.uint16)
    source = save_nifti(tmp_path / "a.nii", volume, np.eye(4))
    words = command("upsample", source, tmp_path / "b.nii.gz", "--threads", 1, *(["--resume"] if keep else []))
    run = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (tmp_path / ".conv3dt-part-b.nii.gz-journal").exists() and run.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    run.send_signal(number)
    code = run.wait(60)
    assert code in (128 + number, 0)  # it may have ended by itself
    if code:
        there = {"a.nii", ".conv3dt-part-b.nii.gz", ".conv3dt-part-b.nii.gz-journal"} if keep else {"a.nii"}
        assert set(listing(tmp_path)) == there


def test_two_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(90, 90, 90), np.eye(4))
    words = command("upsample", source, tmp_path / "b.nii", "--overwrite", "-q")
    runs = [subprocess.Popen(words) for _ in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    conv3dt.upsample_file(source, tmp_path / "c.nii")
    assert content_hash(tmp_path / "b.nii") == content_hash(tmp_path / "c.nii")
    assert listing(tmp_path) == ["a.nii", "b.nii", "c.nii"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["kill", "term", "int"])
@pytest.mark.parametrize("target", TARGETS)
def test_stopped_at_25_random_moments_it_comes_to_the_same_bytes(tmp_path: Path, number: int, target: str) -> None:
    volume = np.random.default_rng(0).integers(0, 300, (200, 200, 200)).astype(np.uint16)
    source = save_nifti(tmp_path / "a.nii.gz", volume, np.eye(4))
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / target.partition(":")[0]
    words = command("upsample", source, tmp_path / "out" / target, "--kernel", "cubic", "-q")
    if number != signal.SIGKILL:
        words.append("--resume")
    begin = time.monotonic()
    subprocess.run(words, check=True)
    most = time.monotonic() - begin
    wanted = content_hash(file)
    file.unlink()
    stop_often(words, file, number, 25 if number == signal.SIGKILL else 8, most)
    if not file.exists():
        subprocess.run(words, check=True)
    assert content_hash(file) == wanted
    assert listing(tmp_path / "out") == [file.name]
