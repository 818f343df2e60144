"""A kernel as small kernels: which weights and which source rows does each output row have?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conv3dt.geometry import Axis, Phase

MOST_TAPS, MOST_PHASES = 24, 8
"""Up to so many taps and phases along x are written out; rows with more are combed."""

Axes = tuple[Axis, Axis, Axis]


@dataclass(frozen=True, slots=True)
class Rows:
    """How the rows of an output are summed.

    A row's *phase* is that of its z and its y, y faster; if rows are combed, that of x too, x fastest.  Its *lines* are
    the source rows it needs, in the order channel, z, y; if rows are combed, those shifted by each tap of x.
    """

    axes: Axes

    @property
    def combed(self) -> bool:
        """Whether x has too many taps or phases to write out."""
        return self.axes[2].kernel > MOST_TAPS or self.axes[2].stride > MOST_PHASES

    @property
    def offsets(self) -> tuple[tuple[int, ...], ...]:
        """For each x-phase the places of its taps in a source row."""
        if self.combed:
            return ((0,),)
        return tuple(tap_places(self.axes[2], phase) for phase in self.axes[2].phases())

    @property
    def _phases(self) -> list[tuple[Phase, Phase, Phase | None]]:
        z, y, x = (axis.phases() for axis in self.axes)
        return [(a, b, c) for a in z for b in y for c in (x if self.combed else [None])]

    def lines(self, channels: int, steps: tuple[int, int, int]) -> NDArray[np.int64]:
        """Return ``(phases, 1 + lines)``: how many lines a phase has, then where each begins.

        Args:
            channels: summed over.
            steps: items from one channel, plane and row of the source to the next.
        """
        z, y, x = self.axes
        found = []
        for pz, py, px in self._phases:
            planes, rows = (np.array(tap_places(axis, p), np.int64) for axis, p in ((z, pz), (y, py)))
            parts = [np.arange(channels) * steps[0], planes * steps[1], rows * steps[2]]
            parts.append(np.zeros(1, np.int64) if px is None else np.array(tap_places(x, px), np.int64))
            found.append(_sums(parts))
        table = np.zeros((len(found), 1 + max(map(len, found))), np.int64)
        for row, places in zip(table, found, strict=True):
            row[0], row[1 : 1 + len(places)] = len(places), places
        return table

    def weights(self, kernel: NDArray[np.floating], block: int) -> NDArray[np.floating]:
        """Return ``(phases, blocks, lines, taps, block)``: each weight where the loops meet it.

        Args:
            kernel: Keras layout ``(kz, ky, kx, filters, channels)``, axes in the order of memory.
            block: filters that are summed side by side; the last block is filled up with zeros, which nobody stores.
        """
        filters, channels = kernel.shape[3:]
        blocks = -(-filters // block)
        full = np.zeros((*kernel.shape[:3], blocks * block, channels), kernel.dtype)
        full[:, :, :, :filters] = kernel
        # (channels, z, y, x, blocks, block)
        full = np.moveaxis(full, 4, 0).reshape(channels, *kernel.shape[:3], blocks, block)
        found = [self._of_phase(full, *phases) for phases in self._phases]
        packed = np.zeros((len(found), blocks, max(map(len, found)), *found[0].shape[1:2], block), kernel.dtype)
        for target, weights in zip(packed, found, strict=True):
            target[:, : len(weights)] = np.moveaxis(weights, 2, 0)
        return packed

    def _of_phase(self, kernel: NDArray[np.floating], z: Phase, y: Phase, x: Phase | None) -> NDArray[np.floating]:
        """``(lines, taps, blocks, block)``."""
        kernel = kernel[:, list(z.taps)][:, :, list(y.taps)]
        if x is not None:  # each tap of x is a line
            return kernel[:, :, :, list(x.taps)].reshape(-1, 1, *kernel.shape[4:])
        return kernel[:, :, :, self._columns].reshape(-1, len(self._columns), *kernel.shape[4:])

    @property
    def _columns(self) -> list[int]:
        """The taps of x as the loops add them: by offset, then by phase."""
        taps = [
            (offset, r, tap)
            for r, phase in enumerate(self.axes[2].phases())
            for offset, tap in zip(self.offsets[r], phase.taps, strict=True)
        ]
        return [tap for _, _, tap in sorted(taps)]


def tap_places(axis: Axis, phase: Phase) -> tuple[int, ...]:
    """Return where the taps of a phase lie, counted from the first input that output 0 needs: where a region begins."""
    first = axis.sources(0, 1)[0]
    return tuple(phase.base - first + j * phase.step for j in range(phase.count))


def _sums(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """All sums of one item from each part, the last part fastest."""
    total = np.zeros(1, np.int64)
    for part in parts:
        total = (total[:, None] + part).ravel()
    return total
