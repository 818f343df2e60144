"""How are two files compared?  All figures in one walk through both, the structural similarity in a second if need be.

The similarity needs the data range first: it comes from the first walk, unless it was given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from math import isfinite, prod

from conv3dt.compare.comparison import Comparison, Settings, concluded
from conv3dt.compare.figures import Figures, measure
from conv3dt.compare.pairs import Pair, Slab, pair_up, slabs
from conv3dt.compare.places import compare_grids
from conv3dt.compare.structure import OVERLAP, WINDOW, Similarity, Structure, memory_bytes
from conv3dt.errors import ArgumentError
from conv3dt.io.files import open_source, read_info
from conv3dt.io.volume import PIPE
from conv3dt.resources import resources

MOST_WORKERS = 8
"""Threads beyond so many would take more memory than time."""


def compare_files(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    axes: str | None = None,
    axes_b: str | None = None,
    data_range: float | None = None,
    tolerance: float = 0.0,
    labels: bool = False,
    start: Callable[[int], Callable[[int], None]] | None = None,
) -> Comparison:
    """Compare two volumes voxel by voxel.

    Args:
        a: the reference: ``.nii``, ``.nii.gz``, ``file.h5:/dataset``, or ``-`` for a NIfTI file on standard input.
        b: what is compared with it, likewise; its shape must be that of ``a``, axis by axis.
        axes: letters for the axes of both (``zyx``, ``txyz``), where the files do not say them; axes that are named
            alike belong together (``i`` and ``x`` are one name), others in the order in which they are listed.
        axes_b: letters for the axes of ``b``, if they are others.
        data_range: the span of values that PSNR, NRMSE and SSIM refer to; that of ``a`` by default.
        tolerance: the largest difference at which `Comparison.same` is still true.
        labels: count the overlap of each label (at most 1000 whole numbers).
        start: called with the number of voxels to be read, returns a function that is told how many were.

    Raises:
        ArgumentError: a data range or a tolerance that cannot be.
        DataError: a damaged file, shapes that do not agree, labels that are none.
        InputMissingError: no such file or dataset.
        DoesNotFitError: two planes do not fit into memory.
    """
    settings = _settings(data_range, tolerance, labels)
    path_a, path_b = os.fspath(a), os.fspath(b)
    if path_a == path_b == PIPE:
        raise ArgumentError("compare: only one of the volumes can come from standard input; name the other's file")
    pair = pair_up(read_info(path_a, axes=axes), read_info(path_b, axes=axes_b or axes))
    grid = compare_grids(pair)
    figures, similarity = _walk(pair, settings, start)
    return concluded(pair, grid, figures, similarity, settings)


def _settings(data_range: float | None, tolerance: float, labels: bool) -> Settings:
    if data_range is not None and not (isfinite(data_range) and data_range > 0):
        raise ArgumentError(f"data_range must be a finite number above 0, got {data_range!r}")
    if not (isfinite(tolerance) and tolerance >= 0):
        raise ArgumentError(f"tolerance must be a finite number of at least 0, got {tolerance!r}")
    return Settings(data_range, tolerance, labels)


def _walk(
    pair: Pair, settings: Settings, start: Callable[[int], Callable[[int], None]] | None
) -> tuple[Figures, Similarity]:
    """Both walks, or one where that is enough."""
    why_not = _why_not(pair, settings)
    walks = 1 if why_not or settings.data_range else 2
    total = walks * prod(axis.length for axis in pair.axes)
    told = _Progress(start(total) if start else None, total)
    if settings.data_range and not why_not:
        return _measured(pair, settings, told, Structure(pair, settings.data_range))
    figures, _ = _measured(pair, settings, told, None)
    if why_not := why_not or figures.why_no_structure():
        return figures, Similarity(reason=why_not)
    if not figures.different and not figures.left_out:  # each window is its own twin
        windows = prod(n - OVERLAP for n in pair.space) * prod(axis.length for axis in pair.further)
        return figures, Similarity(float(windows), windows)
    similarity = Similarity()
    with closing(Structure(pair, figures.a.largest - figures.a.least)) as structure, _workers() as pool:
        for slab in told.of(_slabs(pair, overlap=OVERLAP)):
            similarity += structure.of(slab, pool)
    return figures, similarity


def _measured(
    pair: Pair, settings: Settings, told: _Progress, structure: Structure | None
) -> tuple[Figures, Similarity]:
    """One walk: all figures, and the structural similarity if its range is known."""
    figures, similarity = Figures(), Similarity()
    with ExitStack() as stack:
        pool = stack.enter_context(_workers())
        if structure is not None:
            stack.enter_context(closing(structure))
        for slab in told.of(_slabs(pair, overlap=OVERLAP if structure is not None else 0)):
            figures += measure(pair, slab, pool, labels=settings.labels)
            if structure is not None:
                similarity += structure.of(slab, pool)
    return figures, similarity


def _slabs(pair: Pair, *, overlap: int) -> Iterator[Slab]:
    """Open both files, and check both at their ends."""
    threads = resources().threads
    with ExitStack() as stack:
        sources = tuple(
            stack.enter_context(closing(open_source(info, threads=threads, in_order=pair.in_order(info))))
            for info in (pair.a, pair.b)
        )
        yield from slabs(pair, sources, overlap=overlap)
        for source in sources:
            source.finish()


def _why_not(pair: Pair, settings: Settings) -> str:
    """Why there can be no structural similarity, whatever the voxels are."""
    if settings.data_range is None and PIPE in (pair.a.path, pair.b.path):
        return "it needs the data range first, and standard input can be read only once; give a data range"
    if min(pair.space) < WINDOW:
        return f"a volume of {'x'.join(map(str, pair.space))} voxels is smaller than the window of {WINDOW}"
    if memory_bytes(pair, _threads()) > resources().budget(0):
        return f"{WINDOW} planes at a time do not fit into memory"
    return ""


def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads(), "conv3dt-compare")


def _threads() -> int:
    return min(resources().threads, MOST_WORKERS)


class _Progress:
    """Tells how many voxels have been walked past."""

    def __init__(self, tell: Callable[[int], None] | None, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0

    def of(self, walk: Iterator[Slab]) -> Iterator[Slab]:
        """Pass slabs on, and tell of each when it is done with."""
        for slab in walk:
            yield slab
            self._done += slab.fresh_voxels
            if self._tell is not None:
                self._tell(min(self._done, self._total))
