"""How does a job run?  Read, compute, write: one way, overlapped; nothing above sees voxels, nothing below a plan."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.axes import SPATIAL
from conv3dt.engine import memory
from conv3dt.engine.choose import HostMemory
from conv3dt.errors import DataError
from conv3dt.geometry import reflect
from conv3dt.io.volume import PIPE, Index, Sink, Source, VolumeInfo
from conv3dt.job import Job
from conv3dt.plan import Region, buffers, places, row_length

Progress = Callable[[int], None]


@dataclass(slots=True)
class Counts:
    """What was met in a region, or in all that are written.

    Attributes:
        regions: done; written: output voxels.
        clipped: values that did not fit an integer type.
        not_finite: NaN and infinite input voxels; first_not_finite: the first one's index, axes as listed.
        rounded: 64-bit input voxels beyond 2^53, which no float holds exactly; those that two regions read count twice.
        low, high: the least and the greatest stored number, where integers are rescaled.
    """

    regions: int = 0
    written: int = 0
    clipped: int = 0
    not_finite: int = 0
    first_not_finite: tuple[int, ...] | None = None
    rounded: int = 0
    low: int | None = None
    high: int | None = None

    def add(self, other: Counts) -> None:
        """Count what was met in one region more."""
        for name in ("regions", "written", "clipped", "not_finite", "rounded"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first_not_finite = self.first_not_finite or other.first_not_finite
        self.low = min((n for n in (self.low, other.low) if n is not None), default=None)
        self.high = max((n for n in (self.high, other.high) if n is not None), default=None)


@dataclass(slots=True)
class Tally:
    """What happened in a run.

    Attributes:
        counts: of all regions written.
        read_s, compute_s, write_s: seconds spent in each, side by side; wall_s: from first to last.
        start_s: seconds to import and compile or load the engine.
        resumed: regions that an earlier run had written.
        halved: regions that were computed in parts, for want of memory on a device.
        broken: whether a region could not be written.
    """

    counts: Counts = field(default_factory=Counts)
    read_s: float = 0.0
    compute_s: float = 0.0
    write_s: float = 0.0
    start_s: float = 0.0
    wall_s: float = 0.0
    resumed: int = 0
    halved: int = 0
    broken: bool = False


@dataclass(slots=True)
class _Buffers:
    """Memory used again and again: pages touched for the first time are slow."""

    count: int
    memory: HostMemory
    flat: dict[int, NDArray[Any]] = field(default_factory=dict)

    def take(self, turn: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, in_rows: bool) -> NDArray[Any]:
        """Return ``(channels, z, y, x)``, C-contiguous or with each row on a line of its own."""
        place = turn % self.count
        size = prod(shape[:-1]) * (row_length(shape[-1], dtype.itemsize) if in_rows else shape[-1])
        if place not in self.flat or self.flat[place].size < size:
            self.flat[place] = self.memory.take(size, dtype)
        flat = self.flat[place]
        return memory.in_rows(flat, shape) if in_rows else flat[:size].reshape(shape)


@dataclass(frozen=True, slots=True)
class _Step:
    number: int
    volume: tuple[int, ...]
    region: Region
    counts: Counts


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A region that is being computed into ``out``, which may be where it belongs."""

    step: _Step
    out: NDArray[Any]
    in_place: bool
    finish: Callable[[], int]


def run(
    job: Job,
    source: Source,
    sink: Sink,
    progress: Progress | None = None,
    *,
    done: Counts | None = None,
    written: Callable[[Counts], None] | None = None,
) -> Tally:
    """Run a job from a source into a sink.

    Args:
        job: what to do.
        source: gives regions of ``job.source``; sink: takes regions of ``job.target``.
        progress: called with the number of output voxels written so far.
        done: what an earlier run wrote; only the regions behind are computed.
        written: called behind each region that was written, before the next one is.

    Returns:
        What happened.  The sink is neither finished nor aborted.
    """
    tally, begin = Tally(), time.perf_counter()
    if done is not None:
        tally.counts.add(done)
        tally.resumed = done.regions
    host, many = job.choice.host_memory(), buffers(job.choice.in_flight)
    sources, outputs = _Buffers(many, host), _Buffers(many, host)
    engine = None
    reader, writer = ThreadPoolExecutor(1, "conv3dt-read"), ThreadPoolExecutor(1, "conv3dt-write")
    try:
        steps = _steps(job, tally.resumed)
        step = next(steps, None)
        reading = reader.submit(_read, job, source, step, sources, tally) if step else None
        engine = job.choice.build(job.walked, job.storage)
        tally.start_s = time.perf_counter() - begin
        writing: deque[Future[None]] = deque()
        under_way: deque[_UnderWay] = deque()

        def finish_first() -> None:
            first = under_way.popleft()
            clock = time.perf_counter()
            first.step.counts.clipped = first.finish()
            _note_range(job, first.out, first.step.counts)
            tally.compute_s += time.perf_counter() - clock
            out = None if first.in_place else first.out
            writing.append(writer.submit(_write, job, sink, first.step, out, tally, progress, written))

        while step is not None and reading is not None:
            block = reading.result()
            upcoming = next(steps, None)
            if upcoming is not None:
                reading = reader.submit(_read, job, source, upcoming, sources, tally)
            while len(under_way) + len(writing) >= many:
                writing.popleft().result()
            room = _room(job, sink, step) if engine.in_place else None
            shape = (job.filters, *step.region.target.shape)
            out = outputs.take(step.number, shape, job.storage.dtype, in_rows=False) if room is None else room
            clock = time.perf_counter()
            under_way.append(_UnderWay(step, out, room is not None, engine.start(block, out)))
            tally.compute_s += time.perf_counter() - clock
            if len(under_way) == job.choice.in_flight:
                finish_first()
            step = upcoming
        while under_way:
            finish_first()
        for future in writing:
            future.result()
        tally.halved = engine.halved
    except BaseException:
        if PIPE in (job.source.path, job.target.path):
            from conv3dt.io.pipe import give_up

            give_up()  # or to read or write what is under way could take for ever
        raise
    finally:
        reader.shutdown(wait=True, cancel_futures=True)
        writer.shutdown(wait=True, cancel_futures=True)
        if engine is not None:
            engine.close()
        host.close()
    tally.wall_s = time.perf_counter() - begin
    return tally


def _steps(job: Job, done: int) -> Iterator[_Step]:
    """All regions of all volumes but the first ``done``; in file order, whichever axis that makes the slowest."""
    sizes = [job.source.shape[axis] for axis in job.source.batch]
    order = sizes[::-1] if job.backwards else sizes
    number = 0
    for volume in places(order):
        for region in job.plan.regions():
            if number >= done:
                counts = Counts(regions=1, written=prod(region.target.shape))
                yield _Step(number, volume[::-1] if job.backwards else volume, region, counts)
            number += 1


def _read(job: Job, source: Source, step: _Step, buffers: _Buffers, tally: Tally) -> NDArray[np.floating]:
    clock = time.perf_counter()
    region = step.region
    shape = (job.channels, *region.source.shape)
    dtype = np.dtype(job.storage.compute_dtype)
    buffer = buffers.take(step.number, shape, dtype, in_rows=True)
    if 0 in region.read.shape:
        buffer[...] = 0
    else:
        stored = source.read(_index(job, job.source, step, region.read.slices))
        with np.errstate(all="ignore"):  # what overflows float32 is infinite there, and counted
            _fill(job, region, _canonical(job, job.source, stored), buffer)
            if job.source.dtype.kind == "f":
                _treat_not_finite(job, step, buffer)
            elif job.source.dtype.itemsize == 8:
                beyond = (stored > 2**53) if job.source.dtype.kind == "u" else (stored > 2**53) | (stored < -(2**53))
                step.counts.rounded = int(np.count_nonzero(beyond))
    tally.read_s += time.perf_counter() - clock
    return buffer


def _room(job: Job, sink: Sink, step: _Step) -> NDArray[Any] | None:
    """Where a region's output lies, ``(filters, z, y, x)``, if the sink is memory with x side by side."""
    room = sink.room(_index(job, job.target, step, step.region.target.slices))
    if room is None:
        return None
    view = _canonical(job, job.target, room)
    return view if view.strides[3] == view.itemsize else None


def _note_range(job: Job, out: NDArray[Any], counts: Counts) -> None:
    """Note how far rescaled integers reach, for the report to say how much room there was."""
    if job.rescaled:
        counts.low, counts.high = int(out.min()), int(out.max())


def _write(
    job: Job,
    sink: Sink,
    step: _Step,
    out: NDArray[Any] | None,
    tally: Tally,
    progress: Progress | None,
    written: Callable[[Counts], None] | None,
) -> None:
    """Write a region, unless it was computed where it belongs; but none behind one that could not be written."""
    if tally.broken:
        return
    tally.broken = True
    clock = time.perf_counter()
    if out is not None:
        index = _index(job, job.target, step, step.region.target.slices)
        sink.write(index, _listed(job, job.target, out))
    tally.counts.add(step.counts)
    if written is not None:
        written(tally.counts)
    tally.write_s += time.perf_counter() - clock
    if progress is not None:
        progress(tally.counts.written)
    tally.broken = False


def _index(job: Job, info: VolumeInfo, step: _Step, box: Index) -> Index:
    """A box in walk order as an index into a volume with all its axes, as listed."""
    space = iter(box[::-1] if job.backwards else box)
    volume = iter(step.volume)
    parts = []
    for letter, n in zip(info.axes, info.shape, strict=True):
        if letter in SPATIAL:
            parts.append(next(space))
        elif letter == "c":
            parts.append(slice(0, n))
        else:
            number = next(volume)
            parts.append(slice(number, number + 1))
    return tuple(parts)


def _canonical(job: Job, info: VolumeInfo, block: NDArray[Any]) -> NDArray[Any]:
    """A block as listed -> ``(channels, z, y, x)`` in walk order, as a view."""
    space = info.spatial[::-1] if job.backwards else info.spatial
    order = [*info.batch, *([] if info.channel is None else [info.channel]), *space]
    view: NDArray[Any] = block.transpose(order)[(0,) * len(info.batch)]
    return view if info.channel is not None else view[None]


def _listed(job: Job, info: VolumeInfo, out: NDArray[Any]) -> NDArray[Any]:
    """``(filters, z, y, x)`` in walk order -> a block as listed, as a view."""
    view = out if info.channel is not None else out[0]
    space = info.spatial[::-1] if job.backwards else info.spatial
    order = [*info.batch, *([] if info.channel is None else [info.channel]), *space]
    view = view[(None,) * len(info.batch)]
    listed: NDArray[Any] = view.transpose(np.argsort(order).tolist())
    return listed


def _fill(job: Job, region: Region, values: NDArray[Any], buffer: NDArray[np.floating]) -> None:
    """Copy what was read into the buffer as real values, and extend it beyond the volume by the boundary."""
    axes = list(zip(region.source.start, region.source.stop, region.read.start, region.read.stop,
                    job.plan.shape, strict=True))  # fmt: skip
    inside = [(max(low, 0), min(high, n)) for low, high, _, _, n in axes]
    maps = [_mirror(low, high, n, job.plan.boundary) for low, high, _, _, n in axes]
    if any(a >= b for a, b in inside) or not all(
        a <= m < b for pairs, (a, b) in zip(maps, inside, strict=True) for _, m in pairs
    ):
        _gather(job, region, values, buffer)
        return
    target = tuple(slice(a - low, b - low) for (a, b), (low, *_) in zip(inside, axes, strict=True))
    origin = tuple(slice(a - start, b - start) for (a, b), (_, _, start, _, _) in zip(inside, axes, strict=True))
    if job.plan.boundary == "zero" and buffer.shape[1:] != tuple(b - a for a, b in inside):
        buffer[...] = 0
    inner = buffer[(slice(None), *target)]
    np.copyto(inner, values[(slice(None), *origin)], casting="unsafe")
    _scale(job, inner)
    filled = list(target)
    for axis, ((low, *_), pairs) in enumerate(zip(axes, maps, strict=True)):
        for place, mirror in pairs:
            here, there = ([slice(None), *filled] for _ in range(2))
            here[axis + 1], there[axis + 1] = slice(place, place + 1), slice(mirror - low, mirror - low + 1)
            buffer[tuple(here)] = buffer[tuple(there)]
        filled[axis] = slice(None)


def _mirror(low: int, high: int, n: int, boundary: str) -> list[tuple[int, int]]:
    """Pairs (place in the buffer, voxel of the volume that stands there) for all places outside the volume."""
    if boundary == "zero":
        return []
    outside = [*range(low, min(0, high)), *range(max(n, low), high)]
    return [(place - low, found) for place in outside if (found := reflect(place, n, boundary)) is not None]


def _gather(job: Job, region: Region, values: NDArray[Any], buffer: NDArray[np.floating]) -> None:
    """The same, voxel by voxel: for volumes and tiles smaller than the kernel's reach."""
    buffer[...] = 0
    places, origins = [list(range(len(buffer)))], [list(range(len(buffer)))]
    for low, high, start, n in zip(
        region.source.start, region.source.stop, region.read.start, job.plan.shape, strict=True
    ):
        found = [(place - low, voxel - start) for place in range(low, high)
                 if (voxel := reflect(place, n, job.plan.boundary)) is not None]  # fmt: skip
        places.append([place for place, _ in found])
        origins.append([voxel for _, voxel in found])
    block = values[np.ix_(*origins)].astype(buffer.dtype)
    _scale(job, block)
    buffer[np.ix_(*places)] = block


def _scale(job: Job, values: NDArray[np.floating]) -> None:
    if job.source.slope != 1:
        values *= values.dtype.type(job.source.slope)
    if job.source.inter != 0:
        values += values.dtype.type(job.source.inter)


def _treat_not_finite(job: Job, step: _Step, buffer: NDArray[np.floating]) -> None:
    """Count the NaN and infinite voxels that belong to this region, and do with all of them what was asked for.

    Input ``i`` belongs to where output ``i * stride`` is.
    """
    if np.isfinite(buffer.sum()):
        return
    wrong = ~np.isfinite(buffer)
    owned, origin = [slice(None)], [0]
    for axis, n, low, start, stop in zip(
        job.plan.axes, job.plan.shape, step.region.source.start, step.region.target.start, step.region.target.stop,
        strict=True,
    ):  # fmt: skip
        first, last = -(-start // axis.stride), min(-(-stop // axis.stride), n)
        owned.append(slice(max(first - low, 0), max(last - low, 0)))
        origin.append(low + owned[-1].start)
    places = wrong[tuple(owned)]
    step.counts.not_finite = int(np.count_nonzero(places))
    if step.counts.not_finite:
        place = np.unravel_index(int(places.argmax()), places.shape)
        first_place = [int(a) + b for a, b in zip(place, origin, strict=True)]
        step.counts.first_not_finite = _listed_place(job, step, first_place)
        if job.nan == "error":
            raise DataError(
                f"{job.source.path}: voxel {step.counts.first_not_finite} is NaN or infinite (axes "
                f"{job.source.axes}); say --nan zero or --nan keep"
            )
    if job.nan == "zero":
        buffer[wrong] = 0


def _listed_place(job: Job, step: _Step, place: list[int]) -> tuple[int, ...]:
    """``(channel, z, y, x)`` in walk order as an index into the input with all its axes."""
    channel, *walked = place
    index = _index(job, job.source, step, tuple(slice(n, n + 1) for n in walked))
    return tuple(channel if letter == "c" else part.start for part, letter in zip(index, job.source.axes, strict=True))
