"""How long does a whole command take, and how much memory?  Against the scripts and programs people use today.

All read the same scan and write the same numbers, float32 at twice the grid (dipy's lie half a voxel off); ours alone
waits until they are on the disk.  Each has the threads that it takes by itself.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import scans
from .measure import Row, installed, memory_row, processes_in_turn, time_row

SCRIPTS = Path(__file__).parent / "peers"
SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Peer:
    """Something that upsamples a scan: what it needs, and what is asked of us beside it, by the output's suffix."""

    name: str
    needs: str
    command: tuple[str, ...]
    asked: Mapping[str, float] = field(default_factory=dict)
    asked_memory: float | None = None

    def on(self, scan: Path, target: Path) -> list[str]:
        """Return its command line."""
        return [word.format(scan=scan, target=target) for word in self.command]


def _script(name: str) -> tuple[str, ...]:
    return (sys.executable, str(SCRIPTS / f"{name}.py"), "{scan}", "{target}")


OURS = Peer(
    "conv3dt", "conv3dt", (sys.executable, "-m", "conv3dt_cli", "upsample", "{scan}", "{target}", "--overwrite")
)
PEERS = (
    Peer("nibabel + torch script", "torch", _script("nibabel_torch"), {".nii": 3.0, ".nii.gz": 4.0}, 3.0),
    Peer("nibabel + scipy script", "scipy", _script("nibabel_scipy"), {".nii": 3.0, ".nii.gz": 4.0}, 3.0),
    Peer("SimpleITK script", "SimpleITK", _script("simpleitk_resample"), {".nii": 1 / 0.35, ".nii.gz": 1 / 0.4}),
    Peer("dipy script", "dipy", _script("dipy_reslice")),
    Peer(
        "mrgrid", "mrgrid", ("mrgrid", "{scan}", "regrid", "-scale", "2", "-interp", "linear", "{target}", "-force"),
        {".nii": 1 / 0.35, ".nii.gz": 1 / 0.2},
    ),
)  # fmt: skip


def rows(quick: bool) -> list[Row]:
    """Upsample a uint8 ``.nii.gz`` by two, linear, to ``.nii`` and to ``.nii.gz``.

    conv3dt keeps nothing from run to run: each is the first.
    """
    there = installed(peer.needs for peer in PEERS)
    peers = [peer for peer in PEERS if peer.needs in there]
    shape = (99, 117, 95) if quick else (197, 233, 189)
    found = []
    with tempfile.TemporaryDirectory(prefix="conv3dt-bench-") as folder:
        scan = Path(folder) / "scan.nii.gz"
        scans.make(scan, shape, "uint8")
        for suffix in SUFFIXES:
            work = f"{'x'.join(map(str, shape))} uint8 .nii.gz -> {suffix}"
            found += _against(peers, work, scan, suffix, 1 if quick else 5)
    return found


def _against(peers: list[Peer], work: str, scan: Path, suffix: str, rounds: int) -> list[Row]:
    ours = OURS.on(scan, scan.with_name(f"ours{suffix}"))
    theirs = [peer.on(scan, scan.with_name(f"theirs{suffix}")) for peer in peers]
    mine, *others = processes_in_turn([ours, *theirs], rounds)
    found = []
    for peer, runs in zip(peers, others, strict=True):
        found.append(time_row(work, peer.name, mine, runs, peer.asked.get(suffix)))
        found.append(memory_row(work, peer.name, mine, runs, peer.asked_memory))
    return found
