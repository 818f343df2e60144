"""Does a sample of the output stand in the file as the definition says?  Read, compute again, compare; box by box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from conv3dt.axes import SPATIAL
from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import Box
from conv3dt.io.volume import Index, Source, VolumeInfo
from conv3dt.job import Job
from conv3dt.proof.boxes import choose_boxes
from conv3dt.proof.definition import Meetings, meetings
from conv3dt.proof.rounding import Sums
from conv3dt.proof.storing import Precision, activated, misses, misses_of_labels
from conv3dt.report import ProofFacts

Array = NDArray[np.float64]
Volume = tuple[int, ...]

MOST_PRODUCTS = 2**26
"""Boxes of a layer with so many taps and channels that one would take more products than this are smaller."""

SAME = 1e-6
"""Slopes are the same if they differ by less: headers may keep them in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One box: which volume, which outputs, what they meet, and what is read for them; axes as listed."""

    volume: Volume
    target: Box
    axes: tuple[Meetings, Meetings, Meetings]
    source: Box


def prove(job: Job, source: Source, target: Source, *, regions: int = 24, size: int = 8, seed: int = 0) -> ProofFacts:
    """Compute boxes of an output again and compare them with what stands in the file.

    Args:
        job: what the output should be.
        source: gives boxes of ``job.source``; target: of the output.  Those that are `sequential` are met in the order
            of their files, which is that of `VolumeInfo.in_file_order`.
        regions: how many boxes; fewer where they hold everything.
        size: output voxels of a side; fewer where that would take long.
        seed: of the boxes chosen at random.

    Returns:
        How many boxes and different voxels were compared, and the worst; see `storing` for what is allowed.

    Raises:
        ArgumentError: no boxes are asked for.
        DataError: the output has another shape or type, or a file is damaged.
    """
    for name, number in (("regions", regions), ("size", size)):
        if number < 1:
            raise ArgumentError(f"{name} must be at least 1, got {number}")
    _check_target(job, target.info)
    precision_of = np.dtype(job.storage.compute_dtype)
    sums = Sums(job.layer, precision_of, job.precision)
    precision = Precision(precision_of, sums.unit)
    worst, place, seen, count = -1.0, (0,) * len(job.target.shape), [], 0
    for step in _steps(job, regions, size, seed, in_order=source.sequential):
        stored = _canonical(job.target, target.read(_index(job.target, step.volume, step.target)))
        values, doubt = _real_values(job, source, step, precision_of)
        ends = activated(job.layer, sums.between(step.axes, values, doubt), precision)
        if job.layer.argmax:
            parts = misses_of_labels(stored, ends, precision)
        else:
            parts = misses(stored, ends, job.storage, precision)
        largest = int(parts.argmax())
        if parts.flat[largest] > worst:
            worst, place = float(parts.flat[largest]), _place(job.target, step, np.unravel_index(largest, parts.shape))
        seen.append(_numbers(job, step))
        count += 1
    voxels = len(np.unique(np.concatenate(seen)))
    return ProofFacts(worst <= 1, count, voxels, worst, place)


def _check_target(job: Job, info: VolumeInfo) -> None:
    """Refuse what cannot be compared voxel by voxel, or whose numbers mean something else."""
    wanted = job.target
    shapes = ["x".join(map(str, each.shape)) for each in (info, wanted)]
    types = [each.dtype.newbyteorder("=").name for each in (info, wanted)]
    if info.shape != wanted.shape or types[0] != types[1]:
        raise DataError(f"{info.path}: is {shapes[0]} of {types[0]}, the run makes {shapes[1]} of {types[1]}")
    if not np.allclose((info.slope, info.inter), (wanted.slope, wanted.inter), rtol=SAME, atol=0):
        raise DataError(
            f"{info.path}: has slope {info.slope:.9g} and intercept {info.inter:.9g}, the run makes {wanted.slope:.9g} "
            f"and {wanted.inter:.9g}"
        )


def _steps(job: Job, regions: int, size: int, seed: int, *, in_order: bool) -> Iterator[_Step]:
    """The boxes in file order, with what must be read for them."""
    axes, shape, boundary = job.layer.config.axes, job.source.space, job.layer.boundary
    output = job.layer.config.output_shape(shape)
    taps = prod(ceil(axis.kernel / axis.stride) for axis in axes) * max(job.channels, job.layer.kernel[0, 0, 0].size)
    while size > 1 and size**3 * taps > MOST_PRODUCTS:
        size -= 1
    volumes = tuple(job.source.shape[axis] for axis in job.source.batch)
    tile = job.plan.tile[::-1] if job.backwards else job.plan.tile
    steps = []
    for volume, box in choose_boxes(output, volumes, tile, regions=regions, size=size, seed=seed):
        first, second, third = (
            meetings(axis, start, stop, n, boundary)
            for axis, start, stop, n in zip(axes, box.start, box.stop, shape, strict=True)
        )
        ranges = [each.needed for each in (first, second, third)]
        steps.append(_Step(volume, box, (first, second, third), _box(ranges)))
    yield from _monotone(steps) if in_order else steps


def _monotone(steps: list[_Step]) -> list[_Step]:
    """The same, reading from far enough back that no box of a volume begins before the planes of the box before it.

    A box at the end of an axis may need voxels mirrored at it that lie before all that its neighbour needs.
    """
    found: list[_Step] = []
    least: dict[Volume, int] = {}
    for step in reversed(steps):
        if 0 not in step.source.shape:
            start = step.source.start
            first = least[step.volume] = min(start[2], least.get(step.volume, start[2]))
            step = replace(step, source=Box((*start[:2], first), step.source.stop))
        found.append(step)
    return found[::-1]


def _real_values(job: Job, source: Source, step: _Step, compute: np.dtype[np.floating]) -> tuple[Array, Array | None]:
    """What a box needs of the input as ``(channels, n1, n2, n3)``, and how far the layer may be given something else.

    Returns:
        Values in float64, infinite where they are too large for the type of the computation; and in units of roundoff
        how far each is from what the computation begins with, or None if it begins with the very same.
    """
    needed = [each.needed for each in step.axes]
    if 0 in _box(needed).shape:
        return np.zeros((job.channels, *_box(needed).shape)), None
    stored = _canonical(job.source, source.read(_index(job.source, step.volume, step.source)))
    stored = stored[:, :, :, needed[2][0] - step.source.start[2] :]
    numbers, slope, inter = stored.astype(np.float64), job.source.slope, job.source.inter
    scaled = (slope, inter) != (1.0, 0.0)
    with np.errstate(all="ignore"):
        product = numbers * slope if scaled else numbers
        values = product + inter if scaled else numbers
        top = float(np.finfo(compute).max)
        too_large = np.maximum(np.maximum(np.abs(numbers), np.abs(product)), np.abs(values)) > top
        values = np.where(too_large, np.copysign(np.inf, np.where(np.abs(product) > top, product, values)), values)
        doubt = np.zeros(values.shape)
        if not np.can_cast(stored.dtype, compute, "safe"):
            doubt += np.abs(product)
        if scaled:  # the slope, the product, the intercept and the sum are rounded
            doubt += 2 * np.abs(product) + abs(inter) + np.abs(values)
    finite = np.isfinite(values)
    if job.nan == "zero":
        values = np.where(finite, values, 0.0)
    return values, np.where(finite & np.isfinite(doubt), doubt, 0.0) if doubt.any() else None


def _index(info: VolumeInfo, volume: Volume, box: Box) -> Index:
    """A box of a volume as an index, all axes as the file lists them."""
    space, number = iter(box.slices), iter(volume)
    parts = []
    for letter, n in zip(info.axes, info.shape, strict=True):
        if letter in SPATIAL:
            parts.append(next(space))
        elif letter == "c":
            parts.append(slice(0, n))
        else:
            first = next(number)
            parts.append(slice(first, first + 1))
    return tuple(parts)


def _canonical(info: VolumeInfo, block: NDArray[np.generic]) -> NDArray[np.generic]:
    """A block as listed -> ``(channels, n1, n2, n3)``, the spatial axes as listed."""
    order = [*info.batch, *([] if info.channel is None else [info.channel]), *info.spatial]
    view: NDArray[np.generic] = block.transpose(order)[(0,) * len(info.batch)]
    return view if info.channel is not None else view[None]


def _place(info: VolumeInfo, step: _Step, place: Sequence[np.intp]) -> tuple[int, ...]:
    """``(filter, o1, o2, o3)`` in a box as an index into the output."""
    channel, *inside = map(int, place)
    starts = (part.start for part in _index(info, step.volume, step.target))
    space = iter(inside)
    return tuple(
        start + (next(space) if letter in SPATIAL else channel if letter == "c" else 0)
        for start, letter in zip(starts, info.axes, strict=True)
    )


def _numbers(job: Job, step: _Step) -> NDArray[np.int64]:
    """One number for each output voxel of a box, no other voxel's."""
    output = job.layer.config.output_shape(job.source.space)
    volumes = [job.source.shape[axis] for axis in job.source.batch]
    volume = int(np.ravel_multi_index(step.volume, volumes)) if volumes else 0
    grid = np.ogrid[step.target.slices]
    inside = (grid[0] * output[1] + grid[1]) * output[2] + grid[2]
    return np.asarray(volume * prod(output) + inside, np.int64).ravel()


def _box(ranges: list[tuple[int, int]]) -> Box:
    return Box(tuple(low for low, _ in ranges), tuple(high for _, high in ranges))
