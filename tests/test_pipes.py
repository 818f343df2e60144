"""Does a volume go through pipes as it goes through files?  Real pipes between real processes."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SAMPLES, Run, command, listing, load, save_nifti, whole_numbers

HEAD = SAMPLES / "head.nii.gz"


def piped(content: bytes, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments), input=content, capture_output=True, check=False, cwd=cwd)


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("out", ["nii", "nii.gz"])
@pytest.mark.parametrize("tile", [(), ("--tile", "32")], ids=["slabs", "boxes"])
def test_a_pipe_gives_the_bytes_of_the_file(
    spawn: Run, tmp_path: Path, packed: bool, out: str, tile: tuple[str, ...]
) -> None:
    content = HEAD.read_bytes() if packed else gzip.decompress(HEAD.read_bytes())
    (tmp_path / "in.nii").write_bytes(content)
    assert spawn("upsample", tmp_path / "in.nii", tmp_path / f"up.{out}", *tile).code == 0
    done = piped(content, "upsample", "-", "-", "--out-format", out, *tile, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / f"up.{out}").read_bytes()
    assert b"shape" in done.stderr, "the report goes where the volume does not"
    assert listing(tmp_path) == ["in.nii", f"up.{out}"]


def test_the_form_of_the_output_follows_the_input() -> None:
    packed = HEAD.read_bytes()
    assert piped(packed, "upsample", "-", "-", "-q").stdout[:2] == b"\x1f\x8b"
    assert piped(gzip.decompress(packed), "upsample", "-", "-", "-q").stdout[:4] == (348).to_bytes(4, "little")


def test_two_runs_in_a_row(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii.gz", whole_numbers(9, 8, 7), np.eye(4))
    first = subprocess.Popen(command("upsample", source, "-", "-q"), stdout=subprocess.PIPE)
    second = subprocess.run(command("upsample", "-", tmp_path / "b.nii", "-q"), stdin=first.stdout, check=True)
    assert first.stdout is not None
    first.stdout.close()
    assert (first.wait(), second.returncode) == (0, 0)
    assert load(tmp_path / "b.nii").shape == (36, 32, 28)


@pytest.mark.parametrize("options", [("--channels-first",), ("--axes", "zyxt")], ids=["channels", "axes"])
def test_what_cannot_go_in_file_order_goes_too(spawn: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    source = save_nifti(tmp_path / "a.nii.gz", whole_numbers(2, 6, 5, 4), np.eye(4))
    more = ("--per-channel",) if "--channels-first" in options else ()
    assert spawn("upsample", source, tmp_path / "b.nii.gz", *options, *more).code == 0
    done = piped(source.read_bytes(), "upsample", "-", "-", *options, *more)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "b.nii.gz").read_bytes()


def test_a_pipe_into_hdf5_and_out_of_it(spawn: Run, tmp_path: Path) -> None:
    done = piped(HEAD.read_bytes(), "upsample", "-", tmp_path / "up.h5:/up")
    assert done.returncode == 0, done.stderr
    back = subprocess.run(
        command("upsample", f"{tmp_path}/up.h5:/up", "-", "--kernel", "nearest", "--scale", "1", "-q"),
        capture_output=True, check=True,
    )  # fmt: skip
    (tmp_path / "back.nii.gz").write_bytes(back.stdout)
    assert spawn("upsample", HEAD, tmp_path / "up.nii").code == 0
    np.testing.assert_array_equal(load(tmp_path / "back.nii.gz"), load(tmp_path / "up.nii"))


@pytest.mark.parametrize("name", ["shape", "info", "plan"])
def test_headers_come_through_pipes(name: str) -> None:
    done = piped(HEAD.read_bytes(), name, "-", "--json")
    assert done.returncode == 0, done.stderr
    assert "48" in done.stdout.decode()
    json.loads(done.stdout)


def test_a_reader_that_has_enough_ends_the_run_without_a_word(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(80, 80, 80), np.eye(4))
    run = subprocess.Popen(
        command("upsample", source, "-", "--out-format", "nii"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None and run.stderr is not None
    run.stdout.read(1000)
    run.stdout.close()
    assert run.wait(60) == 141
    with run.stderr as complaint:
        assert complaint.read() == b""


def test_a_stream_that_breaks_off_ends_in_one_line(tmp_path: Path) -> None:
    whole = save_nifti(tmp_path / "a.nii.gz", whole_numbers(40, 40, 40), np.eye(4)).read_bytes()
    for content in (whole[:-100], whole[:200], gzip.decompress(whole)[:-9]):
        done = piped(content, "upsample", "-", tmp_path / "b.nii.gz")
        assert done.returncode == 65
        (line,) = done.stderr.splitlines()
        assert line.startswith(b"conv3dt: -: ")
    assert listing(tmp_path) == ["a.nii.gz"]


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (b"", 66, b"nothing came through the pipe"),
        (b"\x89HDF\r\n\x1a\n" + bytes(2000), 65, b"HDF5 cannot be read from a pipe"),
        (b"hello, I am not a volume at all" * 40, 65, b"not a NIfTI file"),
        (gzip.compress(b"neither am I" * 99), 65, b"not a NIfTI file"),
    ],
    ids=["nothing", "hdf5", "text", "packed text"],
)
def test_what_is_no_volume_is_refused(tmp_path: Path, content: bytes, code: int, text: bytes) -> None:
    done = piped(content, "upsample", "-", tmp_path / "b.nii")
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert text in line
    assert listing(tmp_path) == []


def test_a_closed_standard_input_or_output_is_told(tmp_path: Path) -> None:
    words = " ".join(command("upsample", "-", str(tmp_path / "b.nii")))
    done = subprocess.run(["sh", "-c", f"exec {words} <&-"], capture_output=True, check=False)
    assert (done.returncode, b"is closed" in done.stderr) == (66, True)
    words = " ".join(command("upsample", str(HEAD), "-"))
    done = subprocess.run(["sh", "-c", f"exec {words} >&-"], capture_output=True, check=False)
    assert (done.returncode, b"is closed" in done.stderr) == (66, True)


def test_a_terminal_is_neither_read_nor_flooded(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    try:
        for words in (("-", tmp_path / "b.nii"), (HEAD, "-")):
            done = subprocess.run(
                command("upsample", *words), stdin=follower, stdout=follower, stderr=subprocess.PIPE, check=False
            )
            assert (done.returncode, b"is a terminal" in done.stderr) == (2, True)
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-", "-", "--json"), "--json"),
        (("-", "b.nii", "--out-format", "nii.gz"), "out-format"),
        (("-", "b.nii", "--sidecar"), "sidecar"),
        (("-", "b.nii", "--self-check"), "self-check"),
    ],
    ids=["json", "format", "sidecar", "self-check"],
)
def test_what_cannot_go_with_a_pipe_is_refused(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    done = piped(HEAD.read_bytes(), "upsample", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert text.encode() in done.stderr
    assert listing(tmp_path) == []


def test_memory_does_not_follow_the_length_of_a_pipe(tmp_path: Path) -> None:
    def peak(planes: int) -> int:
        volume = np.random.default_rng(0).integers(0, 255, (256, 256, planes), np.uint8)
        content = save_nifti(tmp_path / "a.nii.gz", volume, np.eye(4)).read_bytes()
        report = tmp_path / "report.json"
        options = ("--max-memory", "300000000", "--report", report, "-q")
        assert piped(content, "upsample", "-", "-", *options).returncode == 0
        return int(json.loads(report.read_text())["run"]["peak_bytes"])

    short, long = peak(40), peak(160)
    assert long <= 300_000_000
    assert long <= 1.1 * short
