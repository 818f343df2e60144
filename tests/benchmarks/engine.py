"""How fast are the engines, voxels in memory to voxels in memory?  Against torch's own layer and the memory itself."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import median

from .measure import Row, in_turn, ratio


@dataclass(frozen=True)
class Case:
    """A layer under padding ``same`` on a cube of ``n`` voxels."""

    kernel: int
    stride: int
    channels: int
    filters: int
    n: int
    asked_torch: float | None
    asked_fill: float | None

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.channels}->{self.filters} k{self.kernel} s{self.stride}, {self.n}^3"


CASES = (
    Case(2, 2, 1, 1, 128, 50, 0.7),
    Case(3, 2, 1, 1, 128, 50, 0.7),
    Case(4, 2, 1, 1, 128, 50, 0.7),
    Case(6, 3, 1, 1, 85, None, None),
    Case(8, 2, 1, 1, 96, None, None),
    Case(4, 2, 16, 16, 32, 4, None),
    Case(3, 2, 32, 32, 32, 4, None),
)


def rows(quick: bool) -> list[Row]:
    """Measure every case, each in a process of its own."""
    found = []
    for number in range(len(CASES)):
        command = [sys.executable, "-m", "tests.benchmarks.engine", str(number), "3" if quick else "9"]
        found += [Row(**row) for row in json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)]
    return found


def measure(case: Case, rounds: int) -> list[Row]:
    """Time one case: the engine that ``auto`` would take, torch's default layout, and filling the output."""
    import numpy as np
    import torch

    from conv3dt.engine.choose import choose
    from conv3dt.engine.finish import Storage
    from conv3dt.layer.concrete import Layer
    from conv3dt.layer.config import layer_config
    from conv3dt.resources import resources

    threads = resources().threads
    torch.set_num_threads(threads)
    config = layer_config(filters=case.filters, kernel_size=case.kernel, strides=case.stride, padding="same")
    rng = np.random.default_rng(0)
    kernel = rng.random((*config.kernel_size, case.filters, case.channels), np.float32)
    choice = choose(config, case.channels, 10**9, device="cpu", threads=threads)  # a run where imports do not count
    engine = choice.build(Layer(config, kernel, None, "zero", "random"), Storage(np.dtype(np.float32)))
    axis = config.axes[0]
    low, high = axis.sources(0, axis.length(case.n))
    source = rng.random((case.channels, *[high - low] * 3), np.float32)
    out = np.empty((case.filters, *[axis.length(case.n)] * 3), np.float32)
    weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2)))
    volume = torch.from_numpy(np.ascontiguousarray(source[:, : case.n, : case.n, : case.n]))[None]
    pool = ThreadPoolExecutor(threads)
    parts = np.array_split(out.reshape(-1), 4 * threads)

    def peer() -> None:
        with torch.inference_mode():
            torch.nn.functional.conv_transpose3d(volume, weight, stride=case.stride)

    def fill() -> None:
        list(pool.map(lambda part: part.fill(1), parts))

    ours, theirs, filling = in_turn([lambda: engine.compute(source, out), peer, fill], rounds)
    mine, flops = median(ours), 2 * out.size * case.channels * case.kernel**3 / case.stride**3
    speed = f"{mine * 1e3:.1f} ms, {out.nbytes / mine / 1e9:.1f} GB/s, {flops / mine / 1e9:.0f} GFLOP/s ({engine.name})"
    name, memory = case.name, f"{out.nbytes / median(filling) / 1e9:.1f} GB/s"
    found = [
        Row(
            name, "torch default layout", speed, f"{median(theirs) * 1e3:.0f} ms", ratio(theirs, ours), case.asked_torch
        )
    ]
    found.append(Row(name, "filling memory", "", memory, ratio(filling, ours), case.asked_fill))
    return found


if __name__ == "__main__":
    measured = measure(CASES[int(sys.argv[1])], int(sys.argv[2]))
    print(json.dumps([asdict(row) for row in measured]))
