"""Does twice the work take twice the time, from small cubes to large ones?  And how do the peers fare?

Upsampled by two, linear, float32.  First ``conv3dt.upsample``, array to array, beside the functions that people call
so; into an array that is there where they take one, or the pages of new memory are what is timed.  Then the engine
alone, which computes the regions of the same run one after another in memory that is used again, so that nothing but
the work grows with the cube.  A cube is left out where its arrays would take more than half of the memory there is,
or a peer too long.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from math import prod
from statistics import median
from typing import Any

from .measure import Point, Row, in_turn, installed, ratio

NAMES = {"conv3dt": "conv3dt.upsample", "torch": "F.conv_transpose3d", "scipy": "scipy.ndimage.zoom"}
PEERS = ("torch", "scipy")
BYTES = {"conv3dt": 36, "torch": 4 * (1 + 8 + 8 + 64), "scipy": 36}
"""Memory per input voxel: of input and output, and of torch's own output and product of every voxel with every tap."""

PATIENCE_S = 20.0


def rows(quick: bool) -> list[Row]:
    """Every cube in a process of its own, then the engine alone in one."""
    edges, rounds = ([32, 64, 128], 2) if quick else ([64, 128, 256, 512], 5)
    calls = _calls(edges, rounds)
    ours = calls.pop("conv3dt")
    alone = dict(zip(edges, _measured("engine", rounds, edges), strict=True))
    return [
        *(_beside(edge, who, ours[edge], calls[who][edge]) for edge in ours for who in calls if edge in calls[who]),
        _flatness("conv3dt.upsample", ours, None),
        _flatness("conv3dt's engine alone", alone, None if quick else -1.2),
    ]


def _calls(edges: list[int], rounds: int) -> dict[str, dict[int, list[float]]]:
    """The seconds of each function for each cube; those too large or too long are named on stderr."""
    from conv3dt.resources import available

    times: dict[str, dict[int, list[float]]] = {who: {} for who in ("conv3dt", *sorted(installed(PEERS)))}
    expected, left_out = dict.fromkeys(times, 0.0), []
    for edge in edges:
        fit = [who for who in times if BYTES[who] * edge**3 < available() / 2 and expected[who] < PATIENCE_S]
        left_out += [f"{NAMES[who]} {edge}^3" for who in times if who not in fit]
        for who, seconds in zip(fit, _measured("calls", rounds, [edge], fit), strict=True):
            times[who][edge] = seconds
            expected[who] = 8 * median(seconds)
    if left_out:
        print(f"too large or too long and left out: {', '.join(left_out)}", file=sys.stderr)
    return times


def _beside(edge: int, who: str, ours: list[float], theirs: list[float]) -> Row:
    work, points = f"x2 linear, {edge}^3, array to array", [Point(NAMES[who], edge, median(theirs))]
    mine, other = _per_voxel(edge, ours), _per_voxel(edge, theirs)
    return Row(work, NAMES[who], mine, other, ratio(theirs, ours), None, points)


def _flatness(who: str, times: dict[int, list[float]], asked: float | None) -> Row:
    """How much longer an output voxel takes in the worst cube than in the best."""
    first = next(iter(times))
    costs = [ratio(seconds, times[first]) * (first / edge) ** 3 for edge, seconds in times.items()]
    return Row(
        f"{who}, x2 linear, {', '.join(f'{edge}^3' for edge in times)}",
        "its own best cube, times as long a voxel",
        ", ".join(_per_voxel(edge, seconds) for edge, seconds in times.items()),
        "",
        max(costs) / min(costs),
        asked,
        [Point(who, edge, median(seconds)) for edge, seconds in times.items()],
    )


def _per_voxel(edge: int, seconds: list[float]) -> str:
    return f"{median(seconds) / (2 * edge) ** 3 * 1e9:.2f} ns"


def _measured(what: str, rounds: int, edges: list[int], who: list[str] | None = None) -> list[list[float]]:
    command = [sys.executable, "-m", "tests.benchmarks.scaling", json.dumps([what, rounds, edges, who or []])]
    found: list[list[float]] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def calls(edge: int, who: list[str], rounds: int) -> list[list[float]]:
    """Time the functions on one cube."""
    import numpy as np

    volume = np.random.default_rng(0).random((edge,) * 3, np.float32)
    out = np.ones((2 * edge,) * 3, np.float32)
    return in_turn([CALLS[name](volume, out) for name in who], rounds)


def _conv3dt(volume: Any, out: Any) -> Callable[[], Any]:
    import conv3dt

    return lambda: conv3dt.upsample(volume, out=out, scale=2, kernel="linear")


def _torch(volume: Any, out: Any) -> Callable[[], Any]:
    import torch

    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    kernel = taps[:, None, None] * taps[:, None] * taps
    cube = torch.from_numpy(volume)[None, None]
    return lambda: torch.nn.functional.conv_transpose3d(cube, kernel[None, None], stride=2, padding=1)


def _scipy(volume: Any, out: Any) -> Callable[[], Any]:
    from scipy.ndimage import zoom

    return lambda: zoom(volume, 2, output=out, order=1, mode="nearest", grid_mode=True)


CALLS = {"conv3dt": _conv3dt, "torch": _torch, "scipy": _scipy}


def engine(edges: list[int], rounds: int) -> list[list[float]]:
    """Time the engine alone; every cube so often that all come to the voxels of the largest."""
    passes = [(max(edges) // edge) ** 3 for edge in edges]
    times = in_turn([_regions(edge, count) for edge, count in zip(edges, passes, strict=True)], rounds)
    return [[seconds / count for seconds in found] for count, found in zip(passes, times, strict=True)]


def _regions(edge: int, passes: int) -> Callable[[], None]:
    """All regions of one cube's run, several times over, without reading and writing."""
    import numpy as np

    from conv3dt.io.volume import VolumeInfo
    from conv3dt.job import make_job
    from conv3dt.request import LayerRequest
    from conv3dt.resources import resources

    cube = VolumeInfo("cube", "array", (edge,) * 3, "012", np.dtype(np.float32))
    job = make_job(
        cube, LayerRequest(scale=2).concrete(), path="the result", form="array", align="kernel", dtype=None,
        device="cpu", tile=None, limits=resources(),
    )  # fmt: skip
    engine, regions = job.choice.build(job.walked, job.storage), list(job.plan.regions())
    source = np.ones(max(prod(region.source.shape) for region in regions), np.float32)
    out = np.ones(max(prod(region.target.shape) for region in regions), np.float32)

    def compute() -> None:
        for region in regions * passes:
            read, written = (1, *region.source.shape), (1, *region.target.shape)
            engine.start(source[: prod(read)].reshape(read), out[: prod(written)].reshape(written))()

    return compute


if __name__ == "__main__":
    what, rounds, edges, who = json.loads(sys.argv[1])
    print(json.dumps(engine(edges, rounds) if what == "engine" else calls(edges[0], who, rounds)))
