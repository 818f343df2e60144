"""How is one thing timed against another?  In turn, several times, median of the ratios."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median

PAUSE = 0.1
"""Seconds between one and the next: threads of OpenMP keep their cores busy for a while after their work is done."""

WARM = 0.05
"""Seconds of work after which a processor that had paused is at its full rate (one call of 5 ms is not enough)."""


@dataclass(frozen=True)
class Point:
    """What a plot of time against size is made of: a cube of ``edge`` voxels an axis took ``who`` so long."""

    who: str
    edge: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work, peer, ours, theirs: the texts of its columns.
        ratio: how many times better than the peer, or what a bound is on.
        asked: what is to be reached; below zero the negative of an upper bound; None where nothing is asked.
        points: what the row adds to the plot.
    """

    work: str
    peer: str
    ours: str
    theirs: str
    ratio: float
    asked: float | None
    points: Sequence[Point] = ()


def installed(names: Iterable[str]) -> set[str]:
    """Return which modules and programs are there; name the others on stderr."""
    names = set(names)
    found = {name for name in names if find_spec(name) or shutil.which(name)}
    if found < names:
        hint = "mrgrid is part of MRtrix3, the others come with pip install -c tests/constraints.txt -e '.[bench]'"
        print(f"not installed and left out: {', '.join(sorted(names - found))} ({hint})", file=sys.stderr)
    return found


def in_turn(
    functions: Sequence[Callable[[], object]],
    rounds: int,
    before: Callable[[], object] = lambda: None,
    *,
    warm: bool = False,
) -> list[list[float]]:
    """Return the seconds of each function in each round; one round more is run first and not counted.

    Args:
        functions: what is timed.
        rounds: how often.
        before: runs before each and is not counted; ``os.sync`` where files are written, or who waits for the disk
            waits for what the one before left behind.
        warm: whether each runs for `WARM` right before it is timed: caches, threads and the processor's clock are then
            as they are in the middle of a long run, not as the one before or the pause left them.
    """
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, seconds in zip(functions, times, strict=True):
            before()
            time.sleep(PAUSE)
            begin = time.perf_counter()
            while warm and time.perf_counter() - begin < WARM:
                function()
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return times


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median of the ratios, round by round."""
    return median(a / b for a, b in zip(theirs, ours, strict=True))


def typical(values: Sequence[float], unit: str, digits: int = 0) -> str:
    """Return the median as text."""
    return f"{median(values):.{digits}f} {unit}"


@dataclass(frozen=True)
class Process:
    """What a whole process took."""

    seconds: float
    peak_mib: float


def process(command: Sequence[str]) -> Process:
    """Run a command to its end and return its wall time and its peak memory.

    Raises:
        RuntimeError: it failed; with what it said last.
    """
    # Without it, compiled Python files are kept and found again, as for those who install the package.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        said = child.stderr.read() if child.stderr else ""
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {said.strip().splitlines()[-1:]}")
    return Process(seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def processes_in_turn(commands: Sequence[Sequence[str]], rounds: int) -> list[list[Process]]:
    """Return what each command took in each round, on a disk at rest; one round more is run first and not counted."""
    for command in commands:
        process(command)
    results: list[list[Process]] = [[] for _ in commands]
    for _ in range(rounds):
        for command, found in zip(commands, results, strict=True):
            os.sync()
            found.append(process(command))
    return results


def time_row(work: str, peer: str, ours: Sequence[Process], theirs: Sequence[Process], asked: float | None) -> Row:
    """Return how much longer a peer's processes took than ours."""
    mine, other = ([run.seconds for run in runs] for runs in (ours, theirs))
    return Row(work, f"{peer}, time", typical(mine, "s", 2), typical(other, "s", 2), ratio(other, mine), asked)


def memory_row(work: str, peer: str, ours: Sequence[Process], theirs: Sequence[Process], asked: float | None) -> Row:
    """Return how much more memory a peer's processes held at the most than ours."""
    mine, other = ([run.peak_mib for run in runs] for runs in (ours, theirs))
    return Row(work, f"{peer}, memory", typical(mine, "MiB"), typical(other, "MiB"), ratio(other, mine), asked)
