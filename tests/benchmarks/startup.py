"""How soon is an answer there that needs no data?  Against importing click and nothing else."""

from __future__ import annotations

import shutil
import sys
from statistics import median

from .measure import Row, processes_in_turn


def rows(quick: bool) -> list[Row]:
    """Time ``conv3dt shape 64,64,64 --scale 2`` through the installed command."""
    command = shutil.which("conv3dt", path=str(__import__("pathlib").Path(sys.executable).parent)) or "conv3dt"
    commands = [[command, "shape", "64,64,64", "--scale", "2"], [sys.executable, "-c", "import click"]]
    ours, theirs = processes_in_turn(commands, 5 if quick else 25)
    mine, click = median(run.seconds for run in ours), median(run.seconds for run in theirs)
    slower = median(a.seconds / b.seconds for a, b in zip(ours, theirs, strict=True))
    return [
        Row(
            "conv3dt shape",
            "import click, times as long",
            f"{mine * 1e3:.0f} ms",
            f"{click * 1e3:.0f} ms",
            slower,
            -1.5,
        )
    ]
