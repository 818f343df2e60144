"""``conv3dt compare``: by how much do two volumes differ, and where?"""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from conv3dt.compare import Comparison

WIDTH = 14


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--data-range", type=float, metavar="L", help="Span of values for PSNR, NRMSE, SSIM.  [default: A's]")
@click.option("--labels", is_flag=True, help="Count the overlap of each label (Dice).")
@click.option("--strict", is_flag=True, help="Exit 1 if a value differs or the grids do.")
@click.option("--tolerance", type=float, metavar="T", help="Strict, but differences up to T pass.")
@click.option("--axes", metavar="LETTERS", help="Axes as listed, where the files do not say them (tzyx).")
@click.option("--axes-b", metavar="LETTERS", help="Axes of B, if they are listed otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only; the exit code tells.")
def compare(
    a: str,
    b: str,
    data_range: float | None,
    labels: bool,
    strict: bool,
    tolerance: float | None,
    axes: str | None,
    axes_b: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare the volume B with the volume A, voxel by voxel, in float64.

    Prints the largest difference and where it is, mean errors, PSNR, structural similarity, correlation, and how the
    grids lie to one another.  Formats and orders of axes may differ, shapes may not; voxels that are NaN or infinite
    are counted and left out.  Exit code 0, or 1 if something differs and --strict or --tolerance is given.

    \b
    Examples:
      conv3dt compare scan.nii.gz other.h5:/data
      conv3dt compare before.nii.gz after.nii.gz --tolerance 1e-5 -q && echo same
      conv3dt compare truth.nii.gz labels.nii.gz --labels --json
    """
    from conv3dt.compare import compare_files

    from .console import print_json, progress

    with progress(shown=not quiet) as start:
        found = compare_files(
            a, b, axes=axes, axes_b=axes_b, data_range=data_range, tolerance=tolerance or 0.0, labels=labels,
            start=start,
        )  # fmt: skip
    is_strict = strict or tolerance is not None
    if as_json:
        print_json(found.as_dict())
    elif not quiet:
        click.echo("\n".join(f"{name:<{WIDTH}}{text}".rstrip() for name, text in _rows(found, is_strict)))
    click.get_current_context().exit(int(is_strict and not found.same))


def _rows(found: Comparison, is_strict: bool) -> Iterator[tuple[str, str]]:
    """Names and what is said of them, line by line."""
    for name, volume in (("a", found.a), ("b", found.b)):
        yield name, f"{volume.path}  {'x'.join(map(str, volume.shape))} ({volume.axes}) {volume.dtype}"
    if any(a != b for a, b in found.axes):
        yield "axes", ", ".join(f"{a} = {b}" for a, b in found.axes)
    yield from _grid(found)
    yield "voxels", f"{found.voxels} compared{_left_out(found)}"
    yield "identical", _identical(found)
    if (top := found.largest) is not None:
        world = f", ({', '.join(f'{n:.6g}' for n in top.world)}) {top.unit}".rstrip() if top.world else ""
        yield "largest", f"{top.difference:+.6g} at {list(top.index)}{world}: {top.a:.9g} in A, {top.b:.9g} in B"
    yield from _figures(found)
    for name, values in (("values of a", found.values_a), ("values of b", found.values_b)):
        if values is not None:
            yield name, f"{values.min:.6g} to {values.max:.6g}, mean {values.mean:.6g}, std {values.std:.6g}"
    yield from _labels(found)
    for text in found.warnings:
        yield "warning", text
    if is_strict:
        limit = f" (tolerance {found.tolerance:g})" if found.tolerance else ""
        yield "verdict", f"{'same' if found.same else 'different'}{limit}"


def _grid(found: Comparison) -> Iterator[tuple[str, str]]:
    grid = found.grid
    if grid.match:
        yield "grid", "the same"
    for text in grid.mismatches:
        yield "grid", text
    if grid.most_voxels is not None and not grid.match:
        yield "grid", f"at most {grid.most_voxels:.4g} voxels, {grid.most:.4g} {grid.unit}".rstrip() + " apart"
    if grid.note:
        yield "grid", f"{grid.note}; only voxel sizes were compared"


def _left_out(found: Comparison) -> str:
    bad = found.not_finite
    if not found.left_out:
        return ""
    unlike = f", {bad.unlike} of them unlike, the first at {list(bad.index)}" if bad.index is not None else ""
    return f", {found.left_out} left out ({bad.a} not finite in A, {bad.b} in B{unlike})"


def _identical(found: Comparison) -> str:
    if found.identical:
        return "yes, bit by bit"
    if not found.different:
        return "in value, but not stored alike"
    return f"no: {found.different} voxels differ ({100 * found.different / (found.voxels + found.left_out):.3g} %)"


def _figures(found: Comparison) -> Iterator[tuple[str, str]]:
    span = "" if found.data_range is None else f"{found.data_range:.6g} ({found.data_range_of})"
    named = (
        ("mean diff", found.mean_difference, "{:+.6g}", "mean_difference"),
        ("mae", found.mae, "{:.6g}", "mae"),
        ("rmse", found.rmse, "{:.6g}", "rmse"),
        (
            "nrmse",
            found.nrmse,
            f"{{:.6g}} of the data range {span}",
            "nrmse",
        ),
        ("", found.nrmse_euclidean, "{:.6g} of the root mean square of A", "nrmse_euclidean"),
        ("psnr", found.psnr, "{:.4f} dB", "psnr"),
        ("ssim", found.ssim, f"{{:.6f}} over {found.ssim_windows} windows", "ssim"),
        ("pearson", found.pearson, "{:.8g}", "pearson"),
    )
    for name, value, form, key in named:
        if value is None or isinf(value):
            yield name, f"{'not defined: ' if value is None else ''}{found.undefined[key]}"
        else:
            yield name, form.format(value)


def _labels(found: Comparison) -> Iterator[tuple[str, str]]:
    if found.labels is None:
        return
    for label in found.labels:
        yield f"label {label.label}", f"dice {label.dice:.6f}: {label.a} in A, {label.b} in B, {label.both} in both"
    yield "dice", found.undefined["dice"] if found.dice is None else f"{found.dice:.6f} on average, 0 left out"
