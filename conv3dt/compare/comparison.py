"""What is said of two volumes in the end?  Plain values that print as JSON, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import inf, isfinite, log10, sqrt
from typing import TYPE_CHECKING, Any

from conv3dt.compare.figures import BEYOND, EXACT, NO_RANGE, NOTHING, is_long
from conv3dt.describe import volume_facts
from conv3dt.grids import place_of, unit_of
from conv3dt.report import VolumeFacts
from conv3dt.version import __version__

if TYPE_CHECKING:
    from conv3dt.compare.figures import Figures, Moments
    from conv3dt.compare.pairs import Pair
    from conv3dt.compare.places import Grid
    from conv3dt.compare.structure import Similarity

NO_WINDOW = "every window holds a voxel that is not finite"
NO_DIFFERENCE = "infinite: the mean square difference is 0"
CONSTANT = "a volume is constant"


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for; see `compare_files`."""

    data_range: float | None
    tolerance: float
    labels: bool


@dataclass(frozen=True, slots=True)
class LargestDifference:
    """The largest difference, the first of equals.

    ``difference`` is B less A; ``index`` is of A, as its file lists its axes; ``world`` is where A puts that voxel, in
    ``unit``, None where it does not say.
    """

    difference: float
    index: tuple[int, ...]
    a: float
    b: float
    world: tuple[float, float, float] | None
    unit: str


@dataclass(frozen=True, slots=True)
class NotFinite:
    """NaN and infinite voxels of A and of B.

    ``unlike`` ones are neither NaN in both nor the same infinity in both; ``index`` is the first such, in A.
    """

    a: int
    b: int
    unlike: int
    index: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Values:
    """The compared values of one volume; ``std`` is of the population."""

    min: float
    max: float
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class LabelOverlap:
    """Voxels of a label in A, in B and in both, and Dice's coefficient, ``2 both / (a + b)``."""

    label: int
    a: int
    b: int
    both: int
    dice: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What there is to say of two volumes.

    Figures are None where they are not defined; ``psnr`` is infinite where no voxel differs; ``undefined`` says why.

    Attributes:
        version: of conv3dt.
        a, b: the volumes; A is the reference.
        axes: which axes belong together: letters in A, letters in B.
        grid: how the grids lie to one another.
        voxels: compared; left_out: not finite in A or B, and left out of every figure.
        not_finite: how many those are.
        identical: whether both store the same bits, of one type under one scaling.
        different: voxels with different values; of those that are not finite, the unlike ones.
        largest: the largest difference.
        mean_difference: of B less A; mae: of magnitudes; rmse: root of the mean square.
        data_range: what PSNR, NRMSE and SSIM refer to, that of A (``data_range_of`` is ``A``) or a ``given`` one.
        nrmse: rmse over the data range; nrmse_euclidean: rmse over the root mean square of A.
        psnr: ``20 log10(data_range / rmse)``, in dB.
        ssim: mean structural similarity (Wang et al. 2004), see `conv3dt.compare.structure`; over so many windows.
        pearson: the correlation coefficient.
        values_a, values_b: the compared values of each.
        labels: the overlap of each label, if it was asked for; dice: the mean of their coefficients, 0 left out.
        undefined: the reason for each figure that has no finite value.
        tolerance: the largest difference that passes.
        same: whether no difference is larger, no voxel unlike, and no grid known to lie elsewhere.
        warnings: what to know when reading the figures.
    """

    version: str
    a: VolumeFacts
    b: VolumeFacts
    axes: tuple[tuple[str, str], ...]
    grid: Grid
    voxels: int
    left_out: int
    not_finite: NotFinite
    identical: bool
    different: int
    largest: LargestDifference | None
    mean_difference: float | None
    mae: float | None
    rmse: float | None
    data_range: float | None
    data_range_of: str
    nrmse: float | None
    nrmse_euclidean: float | None
    psnr: float | None
    ssim: float | None
    ssim_windows: int
    pearson: float | None
    values_a: Values | None
    values_b: Values | None
    labels: tuple[LabelOverlap, ...] | None
    dice: float | None
    undefined: dict[str, str]
    tolerance: float
    same: bool
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain dicts, lists, strings and numbers."""
        return asdict(self)


def concluded(pair: Pair, grid: Grid, figures: Figures, similarity: Similarity, settings: Settings) -> Comparison:
    """Return what follows from all sums."""
    found, reasons = _figures(figures, similarity, settings)
    labels = _labels(figures) if settings.labels else None
    named = [label.dice for label in labels or () if label.label]
    if labels is not None and not named:
        reasons["dice"] = "there is no label but 0"
    return Comparison(
        version=__version__,
        a=volume_facts(pair.a),
        b=volume_facts(pair.b),
        axes=tuple((axis.letter, pair.b.axes[axis.b]) for axis in sorted(pair.axes, key=lambda axis: axis.a)),
        grid=grid,
        voxels=figures.voxels,
        left_out=figures.left_out,
        not_finite=NotFinite(
            figures.not_finite_a,
            figures.not_finite_b,
            figures.unlike,
            None if figures.first_unlike is None else pair.listed(figures.first_unlike),
        ),
        identical=figures.same_bits,
        different=figures.different,
        largest=_largest(pair, figures),
        **found,  # the figures by name
        data_range_of="A" if settings.data_range is None else "given",
        ssim_windows=similarity.windows,
        values_a=_values(figures.a, figures.voxels),
        values_b=_values(figures.b, figures.voxels),
        labels=labels,
        dice=sum(named) / len(named) if named else None,
        undefined=reasons,
        tolerance=settings.tolerance,
        same=_same(figures, grid, settings.tolerance),
        warnings=tuple(_warnings(pair, grid, figures)),
    )


def _figures(figures: Figures, similarity: Similarity, settings: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    """Figures by name, and why some have no finite value."""
    names = ("mean_difference", "mae", "rmse", "data_range", "nrmse", "nrmse_euclidean", "psnr", "ssim", "pearson")
    if not (n := figures.voxels):
        return dict.fromkeys(names), dict.fromkeys(names, NOTHING)
    rmse, norm = sqrt(figures.squares / n), sqrt(figures.a.squares / n + figures.a.mean * figures.a.mean)
    span = figures.a.largest - figures.a.least if settings.data_range is None else settings.data_range
    correlation = figures.correlation()
    values = (
        figures.total / n,
        figures.magnitudes / n,
        rmse,
        span,
        rmse / span if span else NO_RANGE,
        rmse / norm if norm else "all voxels of A are 0",
        _psnr(span, rmse),
        similarity.total / similarity.windows if similarity.windows else similarity.reason or NO_WINDOW,
        CONSTANT if correlation is None else correlation,
    )
    found = {name: None if isinstance(value, str) else value for name, value in zip(names, values, strict=True)}
    reasons = {name: value for name, value in zip(names, values, strict=True) if isinstance(value, str)}
    for name, value in found.items():
        if value is not None and not isfinite(value):
            endless = name == "psnr" and rmse == 0
            reasons[name], found[name] = (NO_DIFFERENCE, value) if endless else (BEYOND, None)
    return found, reasons


def _psnr(span: float, rmse: float) -> float | str:
    if rmse == 0:
        return inf
    return 20 * (log10(span) - log10(rmse)) if span and isfinite(rmse) else NO_RANGE if not span else BEYOND


def _largest(pair: Pair, figures: Figures) -> LargestDifference | None:
    if (top := figures.top) is None or not top.size:
        return None
    index = pair.listed(top.place)
    matrix, world = place_of(pair.a), None
    if matrix is not None:
        x, y, z = (matrix[:3, :3] @ [index[axis] for axis in pair.a.spatial] + matrix[:3, 3]).tolist()
        world = (x, y, z)
    return LargestDifference(top.b - top.a, index, top.a, top.b, world, unit_of(pair.a) if world else "")


def _values(moments: Moments, voxels: int) -> Values | None:
    if not voxels:
        return None
    return Values(moments.least, moments.largest, moments.mean, sqrt(moments.squares / voxels))


def _labels(figures: Figures) -> tuple[LabelOverlap, ...]:
    counts = figures.overlap.counts if figures.overlap else {}
    return tuple(LabelOverlap(label, a, b, both, 2 * both / (a + b)) for label, (a, b, both) in sorted(counts.items()))


def _same(figures: Figures, grid: Grid, tolerance: float) -> bool:
    if figures.unlike or grid.match is False:
        return False
    return not figures.different or (0 < tolerance and figures.top is not None and figures.top.size <= tolerance)


def _warnings(pair: Pair, grid: Grid, figures: Figures) -> Iterator[str]:
    if grid.match is False:
        yield "the grids differ; voxels were compared index by index all the same"
    if figures.left_out:
        yield f"{figures.left_out} voxels are NaN or infinite in A or B and left out"
    both = ((pair.a, figures.a), (pair.b, figures.b))
    if any(is_long(info) and max(-values.least, values.largest) > EXACT for info, values in both):
        yield "whole numbers beyond 2^53 are compared in float64, which rounds them"
    if pair.a.slope != pair.b.slope and pair.a.dtype.kind in "iu" and pair.b.dtype.kind in "iu":
        yield f"stored numbers have different slopes ({pair.a.slope:.6g}, {pair.b.slope:.6g}); real values are compared"
