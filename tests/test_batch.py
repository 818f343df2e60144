"""Are many scans made, proved and gone on with, whatever happened in the night?"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.conftest import SAMPLES, Run, command, content_hash, listing, load, save_nifti, whole_numbers


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Five sound scans in a tree, and one that is damaged."""
    folder = tmp_path / "scans"
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "b").mkdir()
    for n, name in enumerate(["a/one.nii.gz", "a/two.nii", "a/deep/three.nii.gz", "b/one.nii.gz"]):
        save_nifti(folder / name, whole_numbers(9, 8, 7 + n, seed=n), np.diag([1.0, 2, 3, 1]))
    shutil.copy(SAMPLES / "labels.nii.gz", folder / "b")
    (folder / "b" / "cut.nii.gz").write_bytes((SAMPLES / "head.nii.gz").read_bytes()[:9000])
    return folder


GOOD = ["a/deep/three.nii.gz", "a/one.nii.gz", "a/two.nii", "b/labels.nii.gz", "b/one.nii.gz"]


def outputs(folder: Path) -> dict[str, str]:
    """The hashes of what is in the volumes of a folder, by their paths."""
    found = [path for path in folder.rglob("*") if path.suffix in (".nii", ".gz", ".h5")]
    return {path.relative_to(folder).as_posix(): content_hash(path) for path in found}


def statuses(done: object) -> dict[str, str]:
    return {each["name"]: each["status"] for each in done.json}  # type: ignore[attr-defined]


def test_a_tree_is_made_and_one_failure_stops_no_other(run: Run, scans: Path, tmp_path: Path) -> None:
    done = run("batch", scans, "--out-dir", tmp_path / "up", "--scale", "2,2,1")
    assert (done.code, done.out) == (1, "")
    assert sorted(outputs(tmp_path / "up")) == GOOD
    for name in GOOD:
        assert (
            run("upsample", scans / name, tmp_path / f"single.{name[-6:]}", "--scale", "2,2,1", "--overwrite").code == 0
        )
        assert (tmp_path / f"single.{name[-6:]}").read_bytes() == (tmp_path / "up" / name).read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "up" / "conv3dt.jsonl").read_text().splitlines()]
    assert {line["scan"]: line["status"] for line in lines} == dict.fromkeys(GOOD, "done") | {"b/cut.nii.gz": "failed"}
    (failed,) = (line for line in lines if line["status"] == "failed")
    assert failed["exit_code"] == 65
    assert "damaged or cut short" in failed["error"]
    assert "6 scans: 5 done, 1 failed" in done.err
    assert not [name for name in listing(tmp_path / "up" / "b") if "cut" in name or "part" in name]


def test_what_is_proved_is_not_made_again(run: Run, scans: Path, tmp_path: Path) -> None:
    words = ("batch", scans, "--out-dir", tmp_path / "up", "--json")
    assert set(statuses(run(*words)).values()) == {"done", "failed"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "up").rglob("*.nii.gz")}
    assert statuses(run(*words)) == dict.fromkeys(GOOD, "skipped") | {"b/cut.nii.gz": "failed"}
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "up").rglob("*.nii.gz")}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("options", "made with other options"),
        ("input", "made from another input"),
        ("output", "changed since it was made"),
        ("sidecar", "no record"),
        ("version", "another version (0.0.1)"),
    ],
)
def test_what_is_not_proved_is_neither_believed_nor_destroyed(
    run: Run, scans: Path, tmp_path: Path, change: str, text: str
) -> None:
    up, words = tmp_path / "up", ["batch", scans / "a", "--out-dir", tmp_path / "up", "--json"]
    assert run(*words).code == 0
    target, sidecar = up / "one.nii.gz", up / "one.json"
    if change == "options":
        words += ["--kernel", "cubic"]
    elif change == "input":
        save_nifti(scans / "a" / "one.nii.gz", whole_numbers(9, 8, 7, seed=99), np.diag([1.0, 2, 3, 1]))
    elif change == "output":
        raw = bytearray(target.read_bytes())
        raw[-20] ^= 1
        target.write_bytes(raw)
    elif change == "sidecar":
        sidecar.unlink()
    else:
        sidecar.write_text(sidecar.read_text().replace('"version": "0.1.0"', '"version": "0.0.1"'))
    kept = target.read_bytes()
    done = run(*words)
    (one,) = (each for each in done.json if each["name"] == "one.nii.gz")
    assert (done.code, one["status"], one["exit_code"]) == (1, "failed", 73)
    assert text in one["error"]
    assert target.read_bytes() == kept
    assert run(*words, "--overwrite").code == 0
    assert set(statuses(run(*words)).values()) == {"skipped"}


def test_skip_existing_asks_no_questions(run: Run, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "one.nii.gz").write_text("mine")
    done = run("batch", scans / "a", "--out-dir", tmp_path / "up", "--skip-existing", "--json")
    assert done.code == 0
    assert statuses(done)["one.nii.gz"] == "skipped"
    assert (tmp_path / "up" / "one.nii.gz").read_text() == "mine"
    done = run("batch", scans / "a", "--out-dir", tmp_path / "up", "--overwrite", "--json")
    assert set(statuses(done).values()) == {"done"}
    assert run("batch", scans / "a", "--out-dir", tmp_path / "up", "--overwrite", "--skip-existing").code == 2


def test_a_failure_can_end_it(run: Run, scans: Path, tmp_path: Path) -> None:
    words = ("batch", scans, "--out-dir", tmp_path / "up", "--stop-on-first-failure", "--jobs", 1, "--json")
    done = run(*words)
    assert done.code == 1
    assert statuses(done)["b/labels.nii.gz"] == "cancelled"
    assert statuses(done)["a/one.nii.gz"] == "done"


@pytest.mark.parametrize(
    "options", [("--jobs", 1), ("--jobs", 5), ("--threads", 1), ("--tile", 6), ("--max-memory", "1GiB")]
)
def test_the_same_bytes_however_it_is_run(run: Run, scans: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    for folder, more in (("one", ()), ("two", options)):
        run("batch", scans, "--out-dir", tmp_path / folder, "--kernel", "cubic", *more)
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")
    assert sorted(outputs(tmp_path / "one")) == GOOD


def test_shards_are_the_whole(run: Run, scans: Path, tmp_path: Path) -> None:
    for n in (1, 2, 3):
        run("batch", scans, "--out-dir", tmp_path / "up", "--shard", f"{n}/3")
    run("batch", scans, "--out-dir", tmp_path / "whole")
    assert outputs(tmp_path / "up") == outputs(tmp_path / "whole")
    lines = (tmp_path / "up" / "conv3dt.jsonl").read_text().splitlines()
    assert len({json.loads(line)["scan"] for line in lines}) == len(lines) == 6


def test_other_formats(run: Run, scans: Path, tmp_path: Path) -> None:
    assert run("batch", scans / "a", "--out-dir", tmp_path / "up", "--out-format", "h5").code == 0
    assert sorted(outputs(tmp_path / "up")) == ["deep/three.h5", "one.h5", "two.h5"]
    assert set(
        statuses(run("batch", scans / "a", "--out-dir", tmp_path / "up", "--out-format", "h5", "--json")).values()
    ) == {"skipped"}
    back = run("upsample", tmp_path / "up" / "one.h5", tmp_path / "back.nii", "--scale", 1, "--kernel", "nearest")
    assert back.code == 0, back.err
    assert run("upsample", scans / "a" / "one.nii.gz", tmp_path / "one.nii").code == 0
    np.testing.assert_array_equal(load(tmp_path / "back.nii"), load(tmp_path / "one.nii"))


def test_a_dry_run_writes_nothing(run: Run, scans: Path, tmp_path: Path) -> None:
    done = run("batch", scans / "a", "--out-dir", tmp_path / "up", "--dry-run", "--json")
    assert done.code == 0
    assert set(statuses(done).values()) == {"planned"}
    assert done.json[0]["report"]["output"]["shape"] == [18, 16, 18]
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("nowhere/", "--out-dir", "up"), 66, "nowhere"),
        (("scans", "--out-dir", "up", "--shard", "0/3"), 2, "shard"),
        (("scans", "--out-dir", "up", "--suffix", "T1w"), 2, "--bids"),
        (("scans", "--out-dir", "scans/a/one.nii.gz"), 73, "one.nii.gz"),
        (("scans", "--out-dir", "up", "--kernel", "cubic", "--weights", "k.npy"), 2, "weights"),
        (("scans", "--out-dir", "up", "--weights", "nowhere.npy"), 66, "nowhere.npy"),
        (("scans", "--out-dir", "up", "--max-memory", "10MB"), 75, "max-memory"),
        (("--out-dir", "up"), 2, "INPUT"),
        (("scans",), 2, "--out-dir"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_before_a_scan_is_touched(
    run: Run, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("batch", *words)
    assert done.code == code, done.err
    assert text.lower() in done.complaint.lower()
    assert listing(tmp_path) == ["scans"]


def test_memory_is_shared_out(spawn: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(4):
        volume = np.random.default_rng(n).integers(0, 255, (128, 128, 120), np.uint8)
        save_nifti(tmp_path / "in" / f"{n}.nii.gz", volume, np.eye(4))
    words = (
        "batch",
        tmp_path / "in",
        "--out-dir",
        tmp_path / "up",
        "--max-memory",
        "350000000",
        "--jobs",
        4,
        "--json",
        "-q",
    )
    done = spawn(*words)
    assert done.code == 0, done.err
    assert max(each["report"]["run"]["peak_bytes"] for each in done.json) <= 350_000_000


def test_a_vanished_input_and_an_error_nobody_thought_of(
    run: Run, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{scans}/a/one.nii.gz\n{scans}/a/gone.nii.gz\n{scans}/a/two.nii\n")

    from conv3dt.engine.direct import DirectEngine

    compute = DirectEngine.compute

    def dying(self: DirectEngine, source: np.ndarray, out: np.ndarray) -> int:  # type: ignore[type-arg]
        if source.shape[1] > 9:
            raise MemoryError if out.shape[0] > 3 else ZeroDivisionError("a worker\ndied")
        return compute(self, source, out)

    monkeypatch.setattr(DirectEngine, "compute", dying)
    done = run("batch", "--list", listed, "--out-dir", tmp_path / "up", "--json")
    found = {each["name"]: (each["status"], each["exit_code"], each["error"]) for each in done.json}
    assert done.code == 1
    assert found["one.nii.gz"][0] == "done"
    assert found["gone.nii.gz"][:2] == ("failed", 66)
    assert found["two.nii"] == ("failed", 1, "unexpected ZeroDivisionError: a worker died")
    assert sorted(listing(tmp_path / "up")) == ["conv3dt.jsonl", "one.json", "one.nii.gz"]


def test_a_read_only_target(spawn: Run, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "up").mkdir(mode=0o555)
    if os.access(tmp_path / "up", os.W_OK):
        pytest.skip("nothing is read-only to root")
    done = spawn("batch", scans, "--out-dir", tmp_path / "up")
    assert (done.code, "conv3dt.jsonl" in done.err) == (73, True)


def test_a_page_of_it(run: Run, scans: Path, tmp_path: Path) -> None:
    assert run("batch", scans, "--out-dir", tmp_path / "up", "--html").code == 1
    page = (tmp_path / "up" / "conv3dt.html").read_text(encoding="utf-8")
    assert all(name in page for name in [*GOOD, "b/cut.nii.gz", "damaged or cut short"])
    assert page.count("data:image/") >= 10


def test_an_interrupted_batch_is_clean_and_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(6):
        volume = np.random.default_rng(n).integers(0, 255, (128, 128, 100), np.uint8)
        save_nifti(tmp_path / "in" / f"{n}.nii.gz", volume, np.eye(4))
    words = command("batch", tmp_path / "in", "--out-dir", tmp_path / "up")
    run = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "up" / "0.nii.gz").exists() and run.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    _, told = run.communicate(timeout=60)
    assert run.returncode in (143, 0), told
    assert not [name for name in listing(tmp_path / "up") if "part" in name]
    subprocess.run([*words, "-q"], check=True)
    subprocess.run([*command("batch", tmp_path / "in", "--out-dir", tmp_path / "whole"), "-q"], check=True)
    assert outputs(tmp_path / "up") == outputs(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_25_random_moments_a_batch_comes_to_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for n in range(12):
        volume = np.random.default_rng(n).integers(0, 255, (110, 100, 60 + 10 * n), np.uint8)
        save_nifti(tmp_path / "in" / f"{n}.nii{'.gz' if n % 2 else ''}", volume, np.eye(4))
    words = [*command("batch", tmp_path / "in", "--kernel", "cubic", "-q", "--out-dir")]
    begin = time.monotonic()
    subprocess.run([*words, str(tmp_path / "whole")], check=True)
    most, chance, killed = time.monotonic() - begin, random.Random(0), 0
    while killed < 25:
        run = subprocess.Popen([*words, str(tmp_path / "up")])
        try:
            assert run.wait(chance.uniform(0.2, most)) == 0
            shutil.rmtree(tmp_path / "up")
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            killed += 1
    subprocess.run([*words, str(tmp_path / "up")], check=True)
    assert outputs(tmp_path / "up") == outputs(tmp_path / "whole")
    names = {path.name for path in (tmp_path / "up").rglob("*")}
    assert names == {path.name for path in (tmp_path / "whole").rglob("*")}


def test_a_long_series_keeps_its_time_in_bounded_memory(spawn: Run, tmp_path: Path) -> None:
    """64 x 64 x 36 x 300, as of an fMRI run; the output would be 2.8 GB at once."""
    rng = np.random.default_rng(0)
    volume = np.broadcast_to(rng.integers(0, 900, (64, 64, 36, 1)), (64, 64, 36, 300)).astype(np.int16)
    source = save_nifti(tmp_path / "bold.nii.gz", volume, np.diag([3.0, 3, 3, 1]), pixdim=[1, 3, 3, 3, 2.5, 1, 1, 1],
                        xyzt_units=10)  # fmt: skip
    options = ("--dtype", "int16", "--max-memory", "300000000", "--json", "-q")
    done = spawn("upsample", source, tmp_path / "up.nii.gz", "--scale", "2,2,1", *options)
    assert done.code == 0, done.err
    assert done.json["run"]["peak_bytes"] <= 300_000_000
    image = nibabel.load(tmp_path / "up.nii.gz")
    assert image.shape == (128, 128, 36, 300)
    assert image.header.get_zooms()[3] == 2.5
    assert image.header.get_xyzt_units() == ("mm", "sec")
