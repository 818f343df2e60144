"""How many threads and how much memory may a run take?  What was asked for, else what the machine has."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from conv3dt.errors import ArgumentError, DoesNotFitError

DEFAULT_BYTES = 2 * 2**30
USABLE = 0.85
"""Part of what is left that regions may take: allocators keep some of what they are given back."""

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run may take.

    Attributes:
        threads: that compute at once.
        max_memory: bytes of the whole process, or None for the default: the lesser of 2 GiB and half of what is free.
        max_vram: bytes of each device that may be taken, or None for most of what is free.
        share: bytes beyond what the process takes anyway, where several runs share it; None for a run alone.
    """

    threads: int
    max_memory: int | None
    share: int | None = None
    max_vram: int | None = None

    def budget(self, library_bytes: int) -> int:
        """Return the bytes left for regions, when the process has grown by ``library_bytes``.

        Raises:
            DoesNotFitError: nothing is left.
        """
        if self.share is not None:
            if library_bytes >= self.share:
                raise DoesNotFitError(
                    f"max-memory leaves {self.share / 2**20:.0f} MiB to each job, of which {library_bytes / 2**20:.0f} "
                    f"MiB are needed before a voxel is read; raise it, or give fewer jobs"
                )
            return int((self.share - library_bytes) * USABLE)
        if self.max_memory is None:
            return min(DEFAULT_BYTES, available() // 2)
        taken = resident() + library_bytes
        if taken >= self.max_memory:
            raise DoesNotFitError(
                f"max-memory {self.max_memory / 2**20:.0f} MiB is less than the program itself takes "
                f"({taken / 2**20:.0f} MiB); raise it"
            )
        return int((self.max_memory - taken) * USABLE)

    def shared(self, jobs: int) -> Resources:
        """Return what each of ``jobs`` runs at once may take; libraries are to be in memory by now.

        Raises:
            DoesNotFitError: nothing is left.
        """
        whole = min(DEFAULT_BYTES, available() // 2) if self.max_memory is None else self.max_memory - resident()
        if whole <= 0:
            raise DoesNotFitError(
                f"max-memory {(self.max_memory or 0) / 2**20:.0f} MiB is less than the program itself takes "
                f"({resident() / 2**20:.0f} MiB); raise it"
            )
        return Resources(max(-(-self.threads // jobs), 1), self.max_memory, whole // jobs, self.max_vram)


def resources(*, threads: object = None, max_memory: object = None, max_vram: object = None) -> Resources:
    """Return checked resources from arguments."""
    return Resources(
        _threads(threads),
        None if max_memory is None else parse_bytes(max_memory),
        max_vram=None if max_vram is None else parse_bytes(max_vram, "max-vram"),
    )


def parse_bytes(value: object, name: str = "max-memory") -> int:
    """Return the bytes of ``8GiB``, ``500MB``, ``2g`` or a number.

    >>> parse_bytes("8GiB"), parse_bytes("500 MB"), parse_bytes(1024)
    (8589934592, 500000000, 1024)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(value), re.IGNORECASE)
    if not found or len(found[1]) > 18 or (count := int(float(found[1]) * UNITS[(found[2] or "").lower()])) < 1:
        raise ArgumentError(f"{name} must be a size such as 8GiB or 500MB, got {value!r}")
    return count


def _threads(value: object) -> int:
    if value is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not isinstance(value, int) or value < 1:
        raise ArgumentError(f"threads must be a whole number of at least 1, got {value!r}")
    return value


def available() -> int:
    """Return the bytes this process may still take: free memory, or what its control groups leave."""
    import psutil

    from conv3dt import cgroup

    free, left = int(psutil.virtual_memory().available), cgroup.memory_left()
    return free if left is None else min(free, left)


def resident() -> int:
    """Return the bytes this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """Return the most bytes this process has held so far."""
    try:
        # Not ru_maxrss: Linux lets a process begin with what its parent held.
        status = _text("/proc/self/status")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
