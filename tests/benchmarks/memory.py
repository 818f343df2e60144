"""How much memory does a scan take from stream to stream, and how much does one four times as long?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from . import scans
from .command import OURS
from .measure import Row, processes_in_turn, ratio, typical

MOST_MB = 350


def rows(quick: bool) -> list[Row]:
    """Upsample ``.nii.gz`` to ``.nii.gz``, short and long."""
    planes = 32 if quick else 128
    with tempfile.TemporaryDirectory(prefix="conv3dt-bench-") as folder:
        commands = []
        for length in (planes, 4 * planes):
            scan = Path(folder) / f"{length}.nii.gz"
            scans.make(scan, (256, 256, length), "uint8")
            commands.append(OURS.on(scan, scan.with_name(f"up{length}.nii.gz")))
        short, long = ([run.peak_mib for run in runs] for runs in processes_in_turn(commands, 1 if quick else 3))
    work, texts = "256x256x{} uint8 .nii.gz -> .nii.gz", (typical(long, "MiB"), typical(short, "MiB"))
    return [
        Row(work.format(4 * planes), f"{planes} planes, times as much memory", *texts, ratio(long, short), -1.05),
        Row(work.format(4 * planes), f"{MOST_MB} MB, in MB", texts[0], "", median(long) * 2**20 / 1e6, -MOST_MB),
    ]
