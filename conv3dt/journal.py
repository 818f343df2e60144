"""How far did a run come that was killed?  One small file beside the passing one, whole or not there at all.

Its first line is a checksum of the second, which is JSON.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from conv3dt.pending import writing

FIRST_S, SHARE = 1.0, 20
"""Seconds before the first checkpoint and between two; they take no more than one part in so many of the time."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is durable of a run.

    Attributes:
        regions: how many, from the first on; tile: output voxels per axis of each, in walk order.
        tally: what was counted in them; sink: what the sink needs to go on.
    """

    regions: int
    tile: tuple[int, ...]
    tally: dict[str, Any]
    sink: dict[str, Any]


class Journal:
    """The journal of one output; what another job wrote, by its key, counts as nothing."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._due = time.monotonic() + FIRST_S

    def read(self) -> Progress | None:
        """Return how far the job came, if it did."""
        with suppress(OSError, ValueError):
            check, _, text = self._path.read_text(encoding="utf-8").partition("\n")
            if check != _check(text):
                return None
            found = json.loads(text)
            if found["key"] == self._key:
                return Progress(int(found["regions"]), tuple(found["tile"]), found["tally"], found["sink"])
        return None

    def note(self, progress: Callable[[], Progress]) -> None:
        """Make progress durable, if it is time to; else do not even ask for it.

        Where there is no room for it, the run goes on without: the output may have all its room.

        Raises:
            StreamError: the folder is gone, or the like.
        """
        begin = time.monotonic()
        if begin < self._due:
            return
        found = progress()
        told = {"key": self._key, "regions": found.regions, "tile": found.tile, "tally": found.tally}
        self._write(json.dumps(told | {"sink": found.sink}))
        now = time.monotonic()
        self._due = now + max(FIRST_S, SHARE * (now - begin))

    def _write(self, text: str) -> None:
        fresh = self._path.with_name(self._path.name + "-new")
        with writing(str(self._path)):
            fresh.unlink(missing_ok=True)  # it may be a link to somewhere
            try:
                with fresh.open("x", encoding="utf-8") as file:
                    file.write(f"{_check(text)}\n{text}")
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(self._path)
            except OSError as error:
                fresh.unlink(missing_ok=True)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise


def _check(text: str) -> str:
    return f"{crc32(text.encode()):08x}"
