"""What are the outputs of a box, by the definition?  Sums in float64 over the inputs that taps meet, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conv3dt.geometry import Axis

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_HELD = 2**19
"""So many inputs are laid out before taps at a time."""

MOST_AT_ONCE = 2**18
"""Matrix products of so many multiplications a BLAS computes in this thread: waking others takes longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Meetings:
    """Which taps of an axis meet which inputs in a run of outputs.

    Outputs that meet the same taps form a group; groups with fewer outputs or taps than the largest are filled up.

    Attributes:
        taps: ``(groups, most taps)``; -1 fills up.
        inputs: ``(groups, most outputs, most taps)``, voxels of the volume; -1 fills up, and is what lies outside
            under the boundary ``zero``.
        place: ``(outputs,)``, where in ``groups * most outputs`` each output stands.
        count: ``(outputs,)``, how many taps each meets.
    """

    taps: Ints
    inputs: Ints
    place: Ints
    count: Ints

    @property
    def needed(self) -> tuple[int, int]:
        """The range of voxels met; empty if none is."""
        inside = self.inputs[self.inputs >= 0]
        return (int(inside.min()), int(inside.max()) + 1) if inside.size else (0, 0)


def meetings(axis: Axis, start: int, stop: int, n: int, boundary: str) -> Meetings:
    """Return which taps meet which of ``n`` inputs in the outputs ``start`` to ``stop``.

    Tap ``t`` meets input ``i`` in output ``o = stride * i + dilation * t - crop``.
    """
    outputs, taps = np.arange(start, stop, dtype=np.int64), np.arange(axis.kernel, dtype=np.int64)
    landing = outputs[:, None] + axis.crop - axis.dilation * taps  # stride * i
    meets = landing % axis.stride == 0
    rows, group = np.unique(meets, axis=0, return_inverse=True)
    group = group.reshape(-1)
    members = [np.flatnonzero(group == number) for number in range(len(rows))]
    most_outputs, most_taps = max(map(len, members)), max(int(rows.sum(axis=1).max()), 1)
    of_group = np.full((len(rows), most_taps), -1, np.int64)
    inputs = np.full((len(rows), most_outputs, most_taps), -1, np.int64)
    place = np.empty(len(outputs), np.int64)
    for number, (row, own) in enumerate(zip(rows, members, strict=True)):
        met = np.flatnonzero(row)
        of_group[number, : len(met)] = met
        inputs[number, : len(own), : len(met)] = _inside(landing[np.ix_(own, met)] // axis.stride, n, boundary)
        place[own] = number * most_outputs + np.arange(len(own))
    return Meetings(of_group, inputs, place, meets.sum(axis=1))


def _inside(index: Ints, n: int, boundary: str) -> Ints:
    """The voxel of ``0 .. n-1`` that stands for each index; -1 where that is a zero."""
    if boundary == "zero":
        return np.where((index >= 0) & (index < n), index, -1)
    if boundary == "edge" or n == 1:
        return np.clip(index, 0, n - 1)
    # A triangle wave of period 2 (n - 1): the outermost voxels are not repeated.
    return np.abs((index + (n - 1)) % (2 * (n - 1)) - (n - 1))


def filled_up(kernel: NDArray[np.generic]) -> Array:
    """Return a kernel ``(k1, k2, k3, filters, channels)`` with the zeros behind it that tap -1 means."""
    return np.pad(kernel.astype(np.float64), [*[(0, 1)] * 3, (0, 0), (0, 0)])


class Correlation:
    """Sums over the taps of the outputs of one box."""

    def __init__(self, axes: tuple[Meetings, Meetings, Meetings], *, per_channel: bool) -> None:
        """``per_channel``: a kernel of one channel and one filter is applied to every channel by itself."""
        self._axes, self._per_channel = axes, per_channel

    @property
    def terms(self) -> Ints:
        """``(o1, o2, o3)``: how many taps each output meets in one channel."""
        first, second, third = (axis.count for axis in self._axes)
        return np.asarray(first[:, None, None] * second[:, None] * third)

    @property
    def passes(self) -> Ints:
        """``(o1, o2, o3)``: how many it meets along the three axes, added."""
        first, second, third = (axis.count for axis in self._axes)
        return np.asarray(first[:, None, None] + second[:, None] + third)

    def sums(self, block: NDArray[np.generic], taps: Array) -> Array:
        """Return ``sum of block[i] * kernel[t]``, ``(filters or channels, o1, o2, o3)``.

        Args:
            block: ``(channels, n1, n2, n3)``, the ranges `Meetings.needed`.
            taps: the kernel, as `filled_up` returns it.
        """
        values = np.pad(block.astype(np.float64), [(0, 0), *[(0, 1)] * 3])  # the zero that index -1 means
        inputs = [np.where(axis.inputs < 0, -1, axis.inputs - axis.needed[0]) for axis in self._axes]
        total = sum(
            self._part(values[channels], taps[..., channels if not self._per_channel else slice(None)], inputs, rows)
            for rows, channels in self._pieces(len(values))
        )
        return self._in_order(np.asarray(total))

    def _pieces(self, channels: int) -> Iterator[tuple[slice, slice]]:
        """Taps of the first axis, and channels, that are summed at once."""
        first, second, third = (axis.inputs.shape for axis in self._axes)
        one = np.prod([*first[:2], *second, *third], dtype=np.int64)
        rows = min(max(int(MOST_HELD // one), 1), first[2])
        # Channels that are not summed stay together.
        some = channels if self._per_channel else min(max(int(MOST_HELD // (one * rows)), 1), channels)
        for start in range(0, first[2], rows):
            for channel in range(0, channels, some):
                yield slice(start, start + rows), slice(channel, channel + some)

    def _part(self, values: Array, taps: Array, inputs: list[Ints], rows: slice) -> Array:
        """``(channels or 1, groups of 3 axes, outputs of 3 axes, filters)``, flat in between."""
        met = [inputs[0][:, :, rows], *inputs[1:]]
        numbers = [self._axes[0].taps[:, rows], *(axis.taps for axis in self._axes[1:])]
        for axis, index in enumerate(met, start=1):
            values = values.take(index.ravel(), axis)
        shape = [length for index in met for length in index.shape]
        values = values.reshape(-1, *shape).transpose(0, 1, 4, 7, 2, 5, 8, 3, 6, 9)
        groups, outputs = values.shape[1:4], values.shape[4:7]
        if not self._per_channel:
            values = np.moveaxis(values, 0, 6)[None]  # channels are summed, like taps
        weights = taps[np.ix_(*(number.ravel() for number in numbers))]
        weights = weights.reshape(*(length for number in numbers for length in number.shape), *taps.shape[3:])
        weights = weights.transpose(0, 2, 4, 7, 1, 3, 5, 6)
        flat = values.reshape(len(values), np.prod(groups), np.prod(outputs), -1)
        return _product(flat, weights.reshape(np.prod(groups), -1, taps.shape[3]))

    def _in_order(self, total: Array) -> Array:
        """Outputs of all groups, put where they belong."""
        groups, outputs = ([axis.inputs.shape[n] for axis in self._axes] for n in (0, 1))
        several = total[..., 0] if self._per_channel else np.moveaxis(total[0], -1, 0)
        found = several.reshape(-1, *groups, *outputs).transpose(0, 1, 4, 2, 5, 3, 6)
        found = found.reshape(len(found), *(g * o for g, o in zip(groups, outputs, strict=True)))
        for axis, each in enumerate(self._axes, start=1):
            found = found.take(each.place, axis)
        return np.asarray(found)


def _product(values: Array, weights: Array) -> Array:
    """``(channels, groups, outputs, taps)`` times ``(groups, taps, filters)``, summed over taps."""
    if weights.shape[2] == 1:
        return np.asarray(np.einsum("cgot,gt->cgo", values, weights[..., 0])[..., None])
    step = max(MOST_AT_ONCE // (values.shape[2] * weights.shape[2]), 1)
    return np.asarray(
        sum(values[..., n : n + step] @ weights[:, n : n + step] for n in range(0, values.shape[3], step))
    )
