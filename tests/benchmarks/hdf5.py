"""How long does a gzip-packed HDF5 dataset take to read and write, and how large is it?  Against h5py's own filter."""

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

OWN = "h5py's own filter, time"
SLAB, HALO = 16, 1
"""Planes of a slab and beside it, as for twice the grid: four slabs cut through each chunk of 64."""


def rows(quick: bool) -> list[Row]:
    """In a process of its own."""
    size, rounds = (96, 2) if quick else (256, 5)
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.hdf5", str(size), str(rounds)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [Row(**row) for row in json.loads(done.stdout)]


def measure(size: int, rounds: int, folder: Path) -> list[Row]:
    """Write and read a uint16 stack, and upsample one of half its size to it."""
    return [*writing(size, rounds, folder), *reading(size, rounds, folder), *upsampling(size // 2, rounds, folder)]


def writing(size: int, rounds: int, folder: Path) -> list[Row]:
    """In slabs, as the pipeline does, and all at once, as people do."""
    from conv3dt.io.files import begin, create_sink
    from conv3dt.io.volume import VolumeInfo
    from conv3dt.resources import resources

    values, layout = stack(size), packed(64, size)
    info = VolumeInfo(f"{folder}/ours.h5:/x", "hdf5", values.shape, "zyx", values.dtype, layout=layout)

    def ours() -> None:
        pending = begin(info.path, overwrite=True)
        sink = create_sink(info, pending, threads=resources().threads, in_order=True)
        for start in range(0, size, 64):
            part = slice(start, min(start + 64, size))
            sink.write((part, slice(0, size), slice(0, size)), values[part])
        sink.finish()
        sink.publish()
        (folder / "last.h5").unlink(missing_ok=True)
        (folder / "ours.h5").rename(folder / "last.h5")

    def theirs() -> None:
        save(folder / "theirs.h5", values, layout)

    work = f"writing {size}^3 uint16, gzip 4, shuffled"
    mine, other = in_turn([ours, theirs], rounds, os.sync)
    return [time_row(work, mine, other, 5.0), size_row(folder / "last.h5", folder / "theirs.h5")]


def reading(size: int, rounds: int, folder: Path) -> list[Row]:
    """In slabs with a halo, as the pipeline does, and as one who has little memory does with h5py."""
    import h5py

    from conv3dt.io.files import open_source, read_info
    from conv3dt.resources import resources

    path = folder / "read.h5"
    slabs = [
        (slice(max(start - HALO, 0), min(start + SLAB + HALO, size)), slice(0, size), slice(0, size))
        for start in range(0, size, SLAB)
    ]

    def ours() -> None:
        source = open_source(read_info(f"{path}:/x"), threads=resources().threads, in_order=True)
        for slab in slabs:
            source.read(slab)
        source.close()

    def theirs() -> None:
        with h5py.File(path) as file:
            for slab in slabs:
                file["x"][slab]

    found = []
    for chunk in (64, 128):  # a layer of them takes 8 MiB, as much as HDF5 2.0 keeps (1.14: 1 MiB), or 16
        layout = packed(chunk, size)
        save(path, stack(size), layout)
        work = f"reading {size}^3 uint16, gzip 4, shuffled, chunks of {layout['chunks'][0]}, in slabs of {SLAB}"
        mine, other = in_turn([ours, theirs], rounds)
        found.append(time_row(work, mine, other, None))
    return found


def upsampling(size: int, rounds: int, folder: Path) -> list[Row]:
    """To twice the grid, and a script that reads the same and writes the same but has nothing to compute."""
    import h5py

    import conv3dt

    layout = packed(64, size)
    save(folder / "in.h5", stack(size), layout)

    def ours() -> None:
        (folder / "out.h5").unlink(missing_ok=True)
        conv3dt.upsample_file(f"{folder}/in.h5:/x", f"{folder}/out.h5:/x", scale=2, dtype="same")

    ours()
    with h5py.File(folder / "out.h5") as file:
        result = file["x"][()]

    def theirs() -> None:
        with h5py.File(folder / "in.h5") as file:
            file["x"][()]
        save(folder / "theirs.h5", result, layout)

    work = f"{size}^3 -> {2 * size}^3 uint16, gzip 4, shuffled"
    mine, other = in_turn([ours, theirs], rounds, os.sync)
    return [
        time_row(work, mine, other, 5.0, peer="h5py's own filter without computing, time"),
        size_row(folder / "out.h5", folder / "theirs.h5"),
    ]


def stack(size: int) -> Any:
    """Something like a scan: smooth, with noise."""
    import numpy as np

    grid = np.indices((size,) * 3, dtype=np.float32)
    smooth = np.sin(grid[0] / 9) * np.cos(grid[1] / 7) * np.sin(grid[2] / 11)
    noise = np.random.default_rng(0).normal(size=smooth.shape) * 15
    return (1000 + 600 * smooth + noise).astype(np.uint16)


def packed(chunk: int, size: int) -> dict[str, Any]:
    """Return a layout as h5py names it."""
    return {"chunks": (min(size, chunk),) * 3, "compression": "gzip", "compression_opts": 4, "shuffle": True}


def save(path: Path, values: Any, layout: dict[str, Any]) -> None:
    """Write a dataset as people do."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, **layout)


def time_row(work: str, ours: list[float], theirs: list[float], asked: float | None, peer: str = OWN) -> Row:
    """Return how much longer the peer took."""
    mine, other = (f"{median(times):.3f} s" for times in (ours, theirs))
    return Row(work, peer, mine, other, ratio(theirs, ours), asked)


def size_row(ours: Path, theirs: Path) -> Row:
    """Return how much larger the peer's file is."""
    mine, other = (path.stat().st_size for path in (ours, theirs))
    return Row(
        "the same", "h5py's own filter, size", f"{mine / 2**20:.1f} MiB", f"{other / 2**20:.1f} MiB", other / mine,
        1 / 1.05,
    )  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="conv3dt-bench-") as place:
        measured = measure(int(sys.argv[1]), int(sys.argv[2]), Path(place))
    print(json.dumps([asdict(row) for row in measured]))
