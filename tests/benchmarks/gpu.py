"""How fast is a GPU?  Against cuDNN, against its memory and its matrix units, and whole commands against the disk.

Voxels are on the device before and after, but for whole commands; cuDNN may try out all it knows
(``cudnn.benchmark``), in either layout.  Rates of the device are measured in the same process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .measure import Row, in_turn, process, ratio

REPEATS = 5
"""Calls between two looks at the clock: to wait for a device takes as long as a small kernel."""

COPIED = 2**28
PRODUCT = 8192
"""Items of the copy, and rows of the matrices that rates are measured by."""


@dataclass(frozen=True)
class Case:
    """A layer under padding ``same`` on a cube of ``n`` voxels, and what is asked of it.

    ``cudnn`` is a ratio to the faster layout of cuDNN, ``copy`` to the bandwidth of a copy, ``product`` to the rate of
    a matrix product.
    """

    kernel: int
    stride: int
    channels: int
    filters: int
    n: int
    precision: str = "fp32"
    cudnn: float | None = None
    copy: float | None = None
    product: float | None = None

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.channels}->{self.filters} k{self.kernel} s{self.stride}, {self.n}^3, {self.precision}"


CASES = (
    *(Case(kernel, 2, 1, 1, 256, cudnn=5, copy=0.6) for kernel in (2, 3, 4, 8)),
    *(Case(4, 2, 16, 16, 96, precision, cudnn=1.5) for precision in ("fp32", "tf32", "bf16")),
    *(Case(3, 2, 32, 32, 96, precision, cudnn=1.5) for precision in ("fp32", "tf32", "bf16")),
    *(Case(4, 2, 64, 32, 64, precision, cudnn=1.5) for precision in ("fp32", "tf32", "bf16")),
    *(Case(2, 2, 64, 32, 96, precision, cudnn=1.5, product=0.5) for precision in ("fp32", "tf32", "bf16")),
)
QUICK = (0, 2, 7, 12)


def rows(quick: bool) -> list[Row]:
    """Measure every case, each in a process of its own; nothing where there is no CUDA device."""
    words = [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"]
    if subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip() != "True":
        print("no CUDA device: the part gpu is left out", file=sys.stderr)
        return []
    found = []
    for number in QUICK if quick else range(len(CASES)):
        command = [sys.executable, "-m", "tests.benchmarks.gpu", str(number), "3" if quick else "9", "cuda"]
        found += [Row(**row) for row in json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)]
    return found + _commands(128 if quick else 256, 1 if quick else 3)


def measure(case: Case, rounds: int, device: str) -> list[Row]:
    """Time every way of one case against each peer; the way that would be taken comes first."""
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = case.precision == "tf32"
    ours, out_bytes = _ours(case, device)
    peers = {f"cuDNN, {layout}": _cudnn(case, device, layout) for layout in ("default layout", "channels_last_3d")}
    rates = {"a copy": _copy(device), "a matrix product": _product(case, device)}
    functions = [_timed(run, device) for run in (*ours.values(), *peers.values(), *rates.values())]
    times = dict(zip((*ours, *peers, *rates), in_turn(functions, rounds), strict=True))
    moved = out_bytes + 4 * case.channels * case.n**3
    operations = 2 * (out_bytes / 4) * case.channels * (case.kernel / case.stride) ** 3
    found = []
    for number, way in enumerate(ours):
        seconds = median(times[way]) / REPEATS
        speed = f"{way}: {seconds * 1e3:.2f} ms, {moved / seconds / 1e9:.0f} GB/s"
        speed += f", {operations / seconds / 1e12:.1f} TFLOP/s"
        best = min(peers, key=lambda peer: median(times[peer]))
        theirs = f"{median(times[best]) / REPEATS * 1e3:.2f} ms"
        asked = (case.cudnn, case.copy, case.product) if number == 0 else (None, None, None)
        found.append(Row(case.name, best, speed, theirs, ratio(times[best], times[way]), asked[0]))
        for name, amount, whole, unit, wanted in (
            ("a copy", moved, 8 * COPIED, 1e9, asked[1]),
            ("a matrix product", operations, 2 * PRODUCT**3, 1e12, asked[2]),
        ):
            if wanted is not None:
                rate = whole * REPEATS / median(times[name])
                told = f"{rate / unit:.0f} {'GB/s' if unit == 1e9 else 'TFLOP/s'}"
                found.append(Row(case.name, name, speed, told, amount / seconds / rate, wanted))
    return found


def _timed(run: Callable[[], Any], device: str) -> Callable[[], Any]:
    import torch

    def timed() -> None:
        with torch.inference_mode():
            for _ in range(REPEATS):
                run()
        if device == "cuda":
            torch.cuda.synchronize()

    return timed


def _ours(case: Case, device: str) -> tuple[dict[str, Callable[[], Any]], int]:
    """Every way that there is, and the bytes of the output."""
    import numpy as np
    import torch

    from conv3dt.engine.finish import Storage
    from conv3dt.engine.gpu.tensor import way_on
    from conv3dt.engine.gpu.ways import WAYS, has_triton, ways_of
    from conv3dt.layer.concrete import Layer
    from conv3dt.layer.config import layer_config

    config = layer_config(filters=case.filters, kernel_size=case.kernel, strides=case.stride, padding="same")
    kernel = np.random.default_rng(0).random((*config.kernel_size, case.filters, case.channels), np.float32)
    layer, storage = Layer(config, kernel, None, "zero", "random"), Storage(np.dtype(np.float32))
    ranges = [axis.sources(0, axis.length(case.n)) for axis in config.axes]
    source = torch.rand((case.channels, *(high - low for low, high in ranges)), device=device)
    out = torch.empty((case.filters, *config.output_shape([case.n] * 3)), device=device)
    lost = torch.zeros(2, dtype=torch.int32, device=device)
    taken = ways_of(layer, device)[0]
    there = [way for way in WAYS if way != "fused" or (device == "cuda" and has_triton() and case.precision == "fp32")]
    runs: dict[str, Callable[[], Any]] = {}
    for way in sorted(there, key=lambda way: way != taken):
        made = way_on(torch.device(device), layer, storage, way, case.precision)
        runs[way] = lambda made=made: made.run(source, out, lost)  # type: ignore[misc]
    return runs, out.numel() * 4


def _cudnn(case: Case, device: str, layout: str) -> Callable[[], Any]:
    import torch

    kind = torch.bfloat16 if case.precision == "bf16" else torch.float32
    form = torch.channels_last_3d if layout == "channels_last_3d" else torch.contiguous_format
    x = torch.rand(1, case.channels, *[case.n] * 3, device=device, dtype=kind).contiguous(memory_format=form)
    weight = torch.rand(case.channels, case.filters, *[case.kernel] * 3, device=device, dtype=kind)
    weight = weight.contiguous(memory_format=form)
    return lambda: torch.nn.functional.conv_transpose3d(x, weight, stride=case.stride)


def _copy(device: str) -> Callable[[], Any]:
    import torch

    a, b = (torch.zeros(COPIED, device=device) for _ in range(2))
    return lambda: b.copy_(a)


def _product(case: Case, device: str) -> Callable[[], Any]:
    import torch

    kind = torch.bfloat16 if case.precision == "bf16" else torch.float32
    a, b = (torch.rand(PRODUCT, PRODUCT, device=device, dtype=kind) for _ in range(2))
    return lambda: a @ b


def _commands(n: int, rounds: int) -> list[Row]:
    """Whole commands, from ``n`` voxels an axis to twice them, against writing as many bytes to the disk."""
    import numpy as np

    from tests.conftest import save_nifti

    found = []
    with tempfile.TemporaryDirectory(prefix="conv3dt-bench-") as folder:
        scan = save_nifti(Path(folder) / "scan.nii", np.random.default_rng(0).random((n, n, n), np.float32), np.eye(4))
        for suffix in (".nii", ".h5"):
            command = [
                sys.executable, "-m", "conv3dt_cli", "upsample", str(scan), f"{folder}/out{suffix}", "--overwrite",
                "--kernel", "cubic", "--device",
            ]  # fmt: skip
            times = {"cuda": [], "cpu": [], "disk": []}  # type: dict[str, list[float]]
            for _ in range(rounds + 1):
                for device in ("cuda", "cpu"):
                    os.sync()
                    times[device].append(process([*command, device]).seconds)
                os.sync()
                times["disk"].append(_written(Path(folder) / "raw", 4 * (2 * n) ** 3))
            counted = {name: values[1:] for name, values in times.items()}
            work, told = f"whole command, {2 * n}^3 to {suffix}", f"{median(counted['cuda']):.2f} s"
            disk = f"{median(counted['disk']):.2f} s"
            found.append(Row(work, "writing its bytes", told, disk, ratio(counted["disk"], counted["cuda"]), 1 / 1.3))
            cpu = f"{median(counted['cpu']):.2f} s"
            found.append(Row(work, "--device cpu", told, cpu, ratio(counted["cpu"], counted["cuda"]), None))
    return found


def _written(path: Path, count: int) -> float:
    """Seconds to write ``count`` bytes and wait for the disk."""
    piece = os.urandom(2**24)
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(count // len(piece)):
            file.write(piece)
        os.fsync(file.fileno())
    return time.perf_counter() - start


if __name__ == "__main__":
    wanted, times, where = sys.argv[1:]
    print(json.dumps([asdict(row) for row in measure(CASES[int(wanted)], int(times), where)]))
