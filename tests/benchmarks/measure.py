"""How is one thing timed against another?  In turn, several times, median of the ratios."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """One line of the table: ``ratio`` is how many times better than the peer, ``asked`` what is to be reached."""

    work: str
    peer: str
    ours: str
    theirs: str
    ratio: float
    asked: float | None


def in_turn(functions: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the seconds of each function in each round; one round more is run first and not counted."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, seconds in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return times


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median of the ratios, round by round."""
    return median(a / b for a, b in zip(theirs, ours, strict=True))


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
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        said = child.stderr.read() if child.stderr else ""
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {said.strip().splitlines()[-1:]}")
    return Process(seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def processes_in_turn(commands: Sequence[Sequence[str]], rounds: int) -> list[list[Process]]:
    """Return what each command took in each round; one round more is run first and not counted."""
    for command in commands:
        process(command)
    results: list[list[Process]] = [[] for _ in commands]
    for _ in range(rounds):
        for command, found in zip(commands, results, strict=True):
            found.append(process(command))
    return results
