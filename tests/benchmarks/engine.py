"""How fast are the engines, voxels in memory to voxels in memory?  Against torch's own layer and the machine itself.

Volumes are large enough that what is written does not fit the last cache, where memory is the limit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import prod
from statistics import median
from typing import Any

from .measure import Row, in_turn, ratio

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Case:
    """A layer under padding ``same`` on a cube of ``n`` voxels, and what is asked of it.

    ``torch`` is a ratio to torch's default layout, ``fill`` to filling the output, ``gemm`` to the operations a second
    of a large matrix product.
    """

    kernel: int | Triple
    stride: int | Triple
    channels: int
    filters: int
    n: int
    torch: float | None = None
    fill: float | None = None
    gemm: float | None = None
    outer: bool = False
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """How the table calls it."""
        what = " outer product" if self.outer else ""
        kind = "" if self.dtype == "float32" else f", {self.dtype} with bias and relu"
        return f"{self.channels}->{self.filters} k{_text(self.kernel)} s{_text(self.stride)}{what}, {self.n}^3{kind}"


CASES = (
    Case(2, 2, 1, 1, 128, 10, 0.8),
    Case(3, 2, 1, 1, 128, 10, 0.8),
    Case(4, 2, 1, 1, 128, 60, 0.8),
    Case(3, 3, 1, 1, 85, 10, 0.8),
    Case(6, 3, 1, 1, 85, 10, 0.8),
    Case(4, 4, 1, 1, 64, 10, 0.8),
    Case(8, 4, 1, 1, 64, 10, 0.8),
    Case((3, 3, 1), (2, 2, 1), 1, 1, 160, 10, 0.8),
    Case((1, 1, 4), (1, 1, 4), 1, 1, 160, 10, 0.8),
    Case(6, 2, 1, 1, 48, 10),
    Case(8, 2, 1, 1, 48, 10),
    Case(12, 2, 1, 1, 48, 10),
    Case(5, 1, 1, 1, 64, 10),
    Case(7, 1, 1, 1, 64, 10),
    Case(5, 2, 1, 1, 48, 10),
    Case(7, 2, 1, 1, 48, 10),
    Case(6, 2, 1, 1, 128, None, 0.3, outer=True),
    Case(8, 2, 1, 1, 128, None, 0.3, outer=True),
    Case(12, 2, 1, 1, 128, None, 0.3, outer=True),
    Case(5, 1, 1, 1, 256, None, 0.3, outer=True),
    Case(7, 1, 1, 1, 256, None, 0.3, outer=True),
    Case(5, 2, 1, 1, 128, None, 0.3, outer=True),
    Case(7, 2, 1, 1, 128, None, 0.3, outer=True),
    Case(4, 2, 1, 8, 64, 8),
    Case(4, 2, 4, 4, 64, 8),
    Case(4, 2, 8, 1, 96, 8),
    Case(4, 2, 16, 16, 32, 6, gemm=0.6),
    Case(3, 2, 32, 32, 32, 6, gemm=0.6),
    Case(4, 2, 64, 32, 32, 6, gemm=0.6),
    Case(4, 2, 1, 1, 128, dtype="int16"),
)
QUICK = (2, 15, 17, 26)


def rows(quick: bool) -> list[Row]:
    """Measure every case, each in a process of its own."""
    found = []
    for number in QUICK if quick else range(len(CASES)):
        command = [sys.executable, "-m", "tests.benchmarks.engine", str(number), "3" if quick else "9"]
        found += [Row(**row) for row in json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)]
    return found


def measure(case: Case, rounds: int) -> list[Row]:
    """Time one case against each peer."""
    import numpy as np

    from conv3dt.resources import resources

    threads = resources().threads
    ours, out = _engine(case, threads)
    peers: dict[str, Callable[[], Any]] = {}
    if case.torch is not None:
        peers["torch default layout"] = _torch(case, threads)
    if case.fill is not None:
        peers["filling memory"] = _filling(out, threads)
    if case.gemm is not None:
        peers["NumPy's matrix product"] = _matrix_product()
    if case.dtype != "float32":
        peers["float32"] = _engine(Case(case.kernel, case.stride, case.channels, case.filters, case.n), threads)[0]
    mine, *others = in_turn([ours, *peers.values()], rounds, warm=True)
    seconds, flops = (
        median(mine),
        2 * out.size * case.channels * prod(_triple(case.kernel)) / prod(_triple(case.stride)),
    )
    speed = f"{seconds * 1e3:.1f} ms, {out.nbytes / seconds / 1e9:.1f} GB/s, {flops / seconds / 1e9:.0f} GFLOP/s"
    asked = {
        "torch default layout": case.torch,
        "filling memory": case.fill,
        "NumPy's matrix product": case.gemm,
        "float32": 1.0,
    }
    found = []
    for (peer, _), times in zip(peers.items(), others, strict=True):
        theirs, compared = f"{median(times) * 1e3:.1f} ms", ratio(times, mine)
        if peer == "filling memory":
            theirs = f"{out.nbytes / median(times) / 1e9:.1f} GB/s"
        if peer == "NumPy's matrix product":
            rates = [PRODUCT_FLOPS / each for each in times]
            theirs = f"{median(rates) / 1e9:.0f} GFLOP/s"
            compared = float(np.median([flops / us / rate for us, rate in zip(mine, rates, strict=True)]))
        found.append(Row(case.name, peer, speed, theirs, compared, asked[peer]))
    return found


def _engine(case: Case, threads: int) -> tuple[Callable[[], Any], Any]:
    """The engine that ``auto`` would take, with its arrays."""
    import numpy as np

    from conv3dt.engine.choose import choose
    from conv3dt.engine.finish import Storage
    from conv3dt.engine.memory import aligned, in_rows
    from conv3dt.layer.concrete import Layer
    from conv3dt.layer.config import layer_config
    from conv3dt.plan import row_length

    whole = case.dtype != "float32"
    config = layer_config(
        filters=case.filters, kernel_size=case.kernel, strides=case.stride, padding="same",
        activation="relu" if whole else "linear",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    kernel = rng.random((*config.kernel_size, case.filters, case.channels), np.float32)
    if case.outer:
        kernel = np.einsum("i,j,k", *(rng.random(n) for n in config.kernel_size)).astype(np.float32)[..., None, None]
    choice = choose(config, case.channels, 1, device="cpu", threads=threads)
    bias = np.ones(case.filters, np.float32) if whole else None
    engine = choice.build(Layer(config, kernel, bias, "zero", "random"), Storage(np.dtype(case.dtype)))
    ranges = [axis.sources(0, axis.length(case.n)) for axis in config.axes]
    shape = (case.channels, *[high - low for low, high in ranges])
    source = in_rows(aligned(prod(shape[:3]) * row_length(shape[3], 4), np.dtype(np.float32)), shape)
    source[...] = rng.random(shape, np.float32)
    out = np.empty((case.filters, *[axis.length(case.n) for axis in config.axes]), case.dtype)
    return (lambda: engine.start(source, out)()), out


def _torch(case: Case, threads: int) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(threads)
    volume = torch.rand(1, case.channels, *[case.n] * 3)
    weight = torch.rand(case.channels, case.filters, *_triple(case.kernel))

    def run() -> None:
        with torch.inference_mode():
            torch.nn.functional.conv_transpose3d(volume, weight, stride=_triple(case.stride))

    return run


def _filling(out: Any, threads: int) -> Callable[[], Any]:
    import numpy as np

    pool, parts = ThreadPoolExecutor(threads), np.array_split(out.reshape(-1), 4 * threads)
    return lambda: list(pool.map(lambda part: part.fill(1), parts))


PRODUCT = 2048
PRODUCT_FLOPS = 2 * PRODUCT**3


def _matrix_product() -> Callable[[], Any]:
    import numpy as np

    a, b = np.random.default_rng(0).random((2, PRODUCT, PRODUCT), np.float32)
    return lambda: a @ b


def _triple(value: int | Triple) -> Triple:
    return (value, value, value) if isinstance(value, int) else value


def _text(value: int | Triple) -> str:
    return str(value) if isinstance(value, int) else ",".join(map(str, value))


if __name__ == "__main__":
    measured = measure(CASES[int(sys.argv[1])], int(sys.argv[2]))
    print(json.dumps([asdict(row) for row in measured]))
