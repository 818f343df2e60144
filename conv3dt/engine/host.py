"""Where do regions wait on their way to a GPU and back?  In memory that stays where it is: copies need not wait.

A plain array would be copied twice, and the program would stand still meanwhile.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class PinnedMemory:
    """Arrays that the CUDA driver may read and write at any time."""

    def __init__(self) -> None:
        self._held: list[NDArray[np.uint8]] = []

    def take(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a new array of ``count`` zeros; where it cannot be pinned, an ordinary one."""
        raw = np.frombuffer(mmap.mmap(-1, max(count * dtype.itemsize, 1)), np.uint8)
        if int(_driver().cudaHostRegister(raw.ctypes.data, raw.nbytes, 0)) == 0:
            self._held.append(raw)
        else:  # the next launch would find the error, and take it for its own
            with suppress(RuntimeError):
                torch.zeros(1, device="cuda")
        return raw[: count * dtype.itemsize].view(dtype)

    def close(self) -> None:
        """Let the driver forget them; none may be in use."""
        for raw in self._held:
            _driver().cudaHostUnregister(raw.ctypes.data)
        self._held.clear()


def _driver() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
