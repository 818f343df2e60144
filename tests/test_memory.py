"""Does a run stay within the memory it was given, however long the scan is?  Each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run, save_nifti

LIMIT = 300_000_000
LOW_LIMIT = 200_000_000


def peak(spawn: Run, folder: Path, planes: int, source: str, target: str, *options: str) -> int:
    """Upsample ``planes`` planes by two and return the bytes that the process held at the most."""
    volume = np.random.default_rng(0).integers(0, 255, (256, 256, planes), np.uint8)
    save_nifti(folder / source, volume, np.eye(4))
    report = folder / "report.json"
    done = spawn("upsample", folder / source, folder / target, "--overwrite", "-q", "--report", report, *options)
    assert done.code == 0, done.err
    return int(json.loads(report.read_text())["run"]["peak_bytes"])


def test_memory_does_not_follow_the_length_of_a_stream(spawn: Run, tmp_path: Path) -> None:
    short, long = (peak(spawn, tmp_path, n, "a.nii.gz", "b.nii.gz", "--max-memory", str(LIMIT)) for n in (40, 160))
    assert long <= LIMIT
    assert long <= 1.1 * short  # the longer output holds 126 MB more


def test_less_memory_is_less_memory(spawn: Run, tmp_path: Path) -> None:
    """The twin of the test above: what is measured does follow what is allowed."""
    much = peak(spawn, tmp_path, 100, "a.nii", "b.nii", "--tile", "512,512,200")
    assert much > 1.3 * peak(spawn, tmp_path, 100, "a.nii", "b.nii", "--max-memory", str(LIMIT))


def test_upsampled_logits_are_never_held(spawn: Run, tmp_path: Path) -> None:
    """They would take 708 MB, which a run to probabilities does write."""
    logits = np.random.default_rng(0).normal(size=(48, 48, 48, 200)).astype(np.float32)
    save_nifti(tmp_path / "logits.nii", logits, np.eye(4))
    report = tmp_path / "report.json"
    done = spawn(
        "upsample", tmp_path / "logits.nii", tmp_path / "labels.nii.gz", "--channels-last", "--per-channel",
        "--reduce", "argmax", "--report", report, "-q", "--max-memory", str(LOW_LIMIT),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(report.read_text())["run"]["peak_bytes"] <= LOW_LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("target", ["b.nii", "b.nii.gz", "b.h5:/b"])
@pytest.mark.parametrize("source", ["a.nii", "a.nii.gz"])
def test_memory_is_bounded_in_every_format(spawn: Run, tmp_path: Path, source: str, target: str) -> None:
    short, long = (peak(spawn, tmp_path, n, source, target, "--max-memory", str(LIMIT)) for n in (100, 400))
    assert long <= LIMIT
    assert long <= 1.1 * short
