"""How long does one of many small scans take in a process that is warm?  Beyond moving its own bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median

from . import scans
from .measure import Row, in_turn, typical

EDGE = 64


def rows(quick: bool) -> list[Row]:
    """In a process of its own."""
    count, rounds = (5, 2) if quick else (20, 7)
    with tempfile.TemporaryDirectory(prefix="conv3dt-bench-") as folder:
        scans.make(Path(folder) / "0.nii", (EDGE, EDGE, EDGE), "int16")
        for number in range(1, count):
            shutil.copy(f"{folder}/0.nii", f"{folder}/{number}.nii")
        command = [sys.executable, "-m", "tests.benchmarks.batch", folder, str(rounds)]
        return [Row(**row) for row in json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)]


def measure(folder: Path, rounds: int) -> Row:
    """Upsample every scan of a folder, in turn with reading and writing the same bytes and nothing else."""
    import conv3dt

    paths = sorted(folder.glob("*.nii"))
    (folder / "up").mkdir()
    targets = [folder / "up" / path.name for path in paths]

    def ours() -> None:
        for path, target in zip(paths, targets, strict=True):
            conv3dt.upsample_file(path, target, overwrite=True)

    ours()
    upsampled = [target.read_bytes() for target in targets]

    def bytes_alone() -> None:
        for path, target, content in zip(paths, targets, upsampled, strict=True):
            path.read_bytes()
            target.write_bytes(content)

    mine, moving = (
        [1e3 * seconds / len(paths) for seconds in times] for times in in_turn([ours, bytes_alone], rounds, os.sync)
    )
    beyond = median(a - b for a, b in zip(mine, moving, strict=True))
    work = f"{len(paths)} scans of {EDGE}^3 int16, .nii -> .nii, one process"
    return Row(
        work, "their bytes alone; ms a scan beyond", typical(mine, "ms", 1), typical(moving, "ms", 1), beyond, -30
    )


if __name__ == "__main__":
    print(json.dumps([asdict(measure(Path(sys.argv[1]), int(sys.argv[2])))]))
