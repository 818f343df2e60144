"""How long do the logits of a segmentation net take to become labels, and how much memory?  100 classes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median

from .measure import Row, in_turn, memory_row, processes_in_turn, ratio, time_row

CLASSES = 100
PEER = Path(__file__).parent / "peers" / "interpolate_argmax.py"


def rows(quick: bool) -> list[Row]:
    """Compute alone, in a process of its own, then the whole command from file to file."""
    size, rounds = (32, 2) if quick else (64, 5)
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.logits", str(size), str(rounds)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [Row(**row) for row in json.loads(done.stdout)] + _commands(size, rounds)


def _commands(size: int, rounds: int) -> list[Row]:
    name = f"{CLASSES} classes, {size}^3 .nii -> {2 * size}^3 labels .nii.gz"
    with tempfile.TemporaryDirectory(prefix="conv3dt-bench-") as folder:
        logits = f"{folder}/logits.nii"
        subprocess.run([sys.executable, "-m", "tests.benchmarks.logits", logits, str(size)], check=True)
        ours = [
            sys.executable, "-m", "conv3dt_cli", "upsample", logits, f"{folder}/a.nii.gz", "--channels-last",
            "--per-channel", "--reduce", "argmax", "--overwrite",
        ]  # fmt: skip
        mine, theirs = processes_in_turn([ours, [sys.executable, str(PEER), logits, f"{folder}/b.nii.gz"]], rounds)
    peer = "F.interpolate + argmax script"
    return [time_row(name, peer, mine, theirs, 5.0), memory_row(name, peer, mine, theirs, 10.0)]


def measure(size: int, rounds: int) -> Row:
    """Time the engine against torch in this process."""
    from dataclasses import replace

    import numpy as np
    import torch

    from conv3dt.engine.choose import choose
    from conv3dt.engine.finish import Storage
    from conv3dt.request import LayerRequest
    from conv3dt.resources import resources

    threads = resources().threads
    torch.set_num_threads(threads)
    layer = replace(LayerRequest(scale=2).concrete(), per_channel=True, reduce="argmax")
    choice = choose(layer.config, 1, 10**9, device="cpu", threads=threads)
    engine = choice.build(layer, Storage(np.dtype(np.uint8)))
    source = np.random.default_rng(0).random((CLASSES, *[size + 2] * 3), np.float32)
    labels = np.empty((1, *[2 * size] * 3), np.uint8)
    logits = torch.from_numpy(source[:, 1:-1, 1:-1, 1:-1].copy())[None]

    def peer() -> None:
        with torch.inference_mode():
            torch.nn.functional.interpolate(logits, scale_factor=2, mode="trilinear", align_corners=False).argmax(1)

    ours, theirs = in_turn([lambda: engine.start(source, labels)(), peer], rounds)
    name = f"{CLASSES} classes, {size}^3 -> {2 * size}^3 labels"
    mine, other = f"{median(ours) * 1e3:.0f} ms", f"{median(theirs) * 1e3:.0f} ms"
    return Row(name, "F.interpolate + argmax", mine, other, ratio(theirs, ours), 5.0)


def make_logits(path: str, size: int) -> None:
    """Write smooth noise, class by class."""
    import nibabel as nib
    import numpy as np

    coarse = np.random.default_rng(0).normal(size=(size // 8,) * 3 + (CLASSES,)).astype(np.float32)
    logits = np.kron(coarse, np.ones((8, 8, 8, 1), np.float32))
    logits += np.random.default_rng(1).normal(size=logits.shape).astype(np.float32) * 0.3
    nib.save(nib.Nifti1Image(logits, np.diag([2.0, 2.0, 2.0, 1.0])), path)


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        print(json.dumps([asdict(measure(int(sys.argv[1]), int(sys.argv[2])))]))
    else:
        make_logits(sys.argv[1], int(sys.argv[2]))
