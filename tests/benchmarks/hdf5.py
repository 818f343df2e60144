"""How long does writing a gzip-packed HDF5 dataset take, and how large is it?  Against h5py's own filter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from .measure import Row, in_turn, ratio


def rows(quick: bool) -> list[Row]:
    """In a process of its own."""
    size, rounds = (96, 2) if quick else (256, 5)
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.hdf5", str(size), str(rounds)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [Row(**row) for row in json.loads(done.stdout)]


def measure(size: int, rounds: int, folder: Path) -> list[Row]:
    """Write a uint16 stack in slabs, as the pipeline does, and all at once, as people do."""
    import h5py
    import numpy as np

    from conv3dt.io.hdf5 import Hdf5Sink
    from conv3dt.io.volume import VolumeInfo
    from conv3dt.resources import resources

    grid = np.indices((size,) * 3, dtype=np.float32)
    smooth = np.sin(grid[0] / 9) * np.cos(grid[1] / 7) * np.sin(grid[2] / 11)
    noise = np.random.default_rng(0).normal(size=smooth.shape) * 15
    stack = (1000 + 600 * smooth + noise).astype(np.uint16)
    layout: dict[str, Any] = {
        "chunks": (min(size, 64),) * 3, "compression": "gzip", "compression_opts": 4, "shuffle": True
    }  # fmt: skip
    info = VolumeInfo("ours", "hdf5", stack.shape, "zyx", stack.dtype, layout=layout)

    def ours() -> None:
        sink = Hdf5Sink(f"{folder}/ours.h5:/x", info, overwrite=True, threads=resources().threads)
        for start in range(0, size, 64):
            part = slice(start, min(start + 64, size))
            sink.write((part, slice(0, size), slice(0, size)), stack[part])
        sink.commit()
        (folder / "last.h5").unlink(missing_ok=True)
        (folder / "ours.h5").rename(folder / "last.h5")

    def theirs() -> None:
        with h5py.File(folder / "theirs.h5", "w") as file:
            file.create_dataset("x", data=stack, **layout)

    mine, other = in_turn([ours, theirs], rounds, os.sync)
    sizes = [(folder / name).stat().st_size for name in ("last.h5", "theirs.h5")]
    name, mib = f"writing {size}^3 uint16, gzip 4, shuffled", [f"{n / 2**20:.1f} MiB" for n in sizes]
    seconds = [f"{median(times):.2f} s" for times in (mine, other)]
    return [
        Row(name, "h5py's own filter, time", seconds[0], seconds[1], ratio(other, mine), 5.0),
        Row(name, "the same, size", mib[0], mib[1], sizes[1] / sizes[0], 1 / 1.05),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="conv3dt-bench-") as place:
        measured = measure(int(sys.argv[1]), int(sys.argv[2]), Path(place))
    print(json.dumps([asdict(row) for row in measured]))
