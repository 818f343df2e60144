"""Where do regions wait on their way to a GPU and back?  In memory that stays where it is: copies need not wait.

A plain array would be copied twice, and the program would stand still meanwhile.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from conv3dt.engine.memory import address

PAGE = 4096
PORTABLE = 1
"""cudaHostRegisterPortable: for every GPU, not only the current one."""


class PinnedMemory:
    """Arrays that the CUDA driver may read and write at any time."""

    def __init__(self, device: str) -> None:
        """``device``: one of those that are used; another might be full, or somebody else's."""
        self._device, self._held = torch.device(device), list[NDArray[np.uint8]]()

    def take(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a new array of ``count`` zeros on pages of its own; where it cannot be pinned, an ordinary one."""
        size = -(-max(count * dtype.itemsize, 1) // PAGE) * PAGE
        raw = np.zeros(size + PAGE, np.uint8)
        first = -address(raw) % PAGE
        pages = raw[first : first + size]
        with suppress(RuntimeError), torch.cuda.device(self._device):  # of this thread, which may not be the computing
            if int(_driver().cudaHostRegister(address(pages), size, PORTABLE)) == 0:
                self._held.append(pages)
            else:  # the next launch would find the error, and take it for its own
                torch.zeros(1, device=self._device)
        return pages[: count * dtype.itemsize].view(dtype)

    def close(self) -> None:
        """Let the driver forget them; none may be in use."""
        with suppress(RuntimeError), torch.cuda.device(self._device):  # a lost device has forgotten them
            for pages in self._held:
                _driver().cudaHostUnregister(address(pages))
        self._held.clear()


def _driver() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
