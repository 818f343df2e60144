"""How long does a whole command take, and how much memory?  Against the scripts people write today."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from .measure import Row, processes_in_turn, ratio

PEERS = Path(__file__).parent / "peers"
ASKED_TIME = {".nii": 3.0, ".nii.gz": 4.0}


def rows(quick: bool) -> list[Row]:
    """Upsample an int16 ``.nii.gz`` by two, linear, to ``.nii`` and to ``.nii.gz``."""
    found = []
    with tempfile.TemporaryDirectory(prefix="conv3dt-bench-") as folder:
        size = 96 if quick else 192
        scan = Path(folder) / "scan.nii.gz"
        # Elsewhere: the peak of a process is never less than what its parent held when it was started.
        subprocess.run([sys.executable, "-m", "tests.benchmarks.command", str(scan), str(size)], check=True)
        for suffix, asked in ASKED_TIME.items():
            found += _against_scripts(scan, Path(folder), suffix, asked, 2 if quick else 5, f"{size}^3 -> {suffix}")
    return found


def _against_scripts(scan: Path, folder: Path, suffix: str, asked: float, rounds: int, name: str) -> list[Row]:
    ours = [sys.executable, "-m", "conv3dt_cli", "upsample", str(scan), str(folder / f"a{suffix}"), "--overwrite"]
    names = [f"nibabel_{library}" for library in ("torch", "scipy") if find_spec(library)]
    if len(names) < 2:
        print("scipy is not installed: its script is left out (pip install -c tests/constraints.txt -e '.[bench]')")
    theirs = [[sys.executable, str(PEERS / f"{peer}.py"), str(scan), str(folder / f"b{suffix}")] for peer in names]
    mine, *others = processes_in_turn([ours, *theirs], rounds)
    seconds, memory = [run.seconds for run in mine], [run.peak_mib for run in mine]
    found = []
    for peer, runs in zip(names, others, strict=True):
        times, peaks = [run.seconds for run in runs], [run.peak_mib for run in runs]
        found += [
            Row(name, f"{peer}, time", _median(seconds, "s", 2), _median(times, "s", 2), ratio(times, seconds), asked),
            Row(name, f"{peer}, memory", _median(memory, "MiB"), _median(peaks, "MiB"), ratio(peaks, memory), 3.0),
        ]  # fmt: skip
    return found


def _median(values: list[float], unit: str, digits: int = 0) -> str:
    return f"{median(values):.{digits}f} {unit}"


def make_scan(path: Path, size: int) -> None:
    """Write a ball of smooth noise, as compressible as a head in air."""
    import nibabel as nib
    import numpy as np

    noise = np.random.default_rng(0).normal(size=(size // 4 + 1,) * 3)
    smooth = np.kron(noise, np.ones((4, 4, 4)))[:size, :size, :size]
    radius = np.sqrt(sum((axis - size / 2) ** 2 for axis in np.indices((size,) * 3, sparse=True)))
    fine = np.random.default_rng(1).normal(size=smooth.shape) * 12
    scan = np.where(radius < size * 0.42, 600 + 120 * smooth + fine, 0).clip(0, 4095).astype(np.int16)
    nib.save(nib.Nifti1Image(scan, np.diag([1.0, 1.0, 1.2, 1.0])), path)


if __name__ == "__main__":
    make_scan(Path(sys.argv[1]), int(sys.argv[2]))
