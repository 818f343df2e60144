"""How does a person see a kernel?  Aligned lines, or tables by rich on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from .console import NAME_WIDTH

if TYPE_CHECKING:
    from conv3dt.doctor import Examination
    from conv3dt.kernel_files import Inspection, Written
    from conv3dt.layer.config import LayerConfig

Rows = list[Sequence[str]]
MOST_ROWS = 27
"""Phases or filters of which each gets a line; JSON has all."""
COLOURS = {"problem": "red", "warning": "yellow", "note": ""}


def print_written(written: Written) -> None:
    """Say on stderr, in one line, what was written and what could not be."""
    weights = written.weights
    k1, k2, k3, filters, channels = weights.kernel.shape
    parts = [
        f"{k1}x{k2}x{k3}",
        f"{channels} -> {filters} channels" if filters * channels > 1 else "",
        weights.kernel.dtype.name,
        "bias" if weights.bias is not None else "",
        written.origin,
        *weights.notes,
    ]
    lost = f"; not kept: {', '.join(written.lost)}" if written.lost else ""
    click.echo(f"{written.path}: {', '.join(part for part in parts if part)}{lost}", err=True)


def print_inspection(found: Inspection) -> None:
    """Print an examination on stdout, and on stderr which files were written."""
    if sys.stdout.isatty():
        _print_tables(found)
    else:
        for line in lines(found):
            click.echo(line)
    if found.picture is not None:
        cut = f"; {', '.join(found.cut)}" if found.cut else ""
        click.echo(f"{found.picture}: picture of {found.weights.path}{cut}", err=True)
    if found.repaired is not None:
        print_written(found.repaired)


def lines(found: Inspection) -> list[str]:
    """Return an examination as lines of text."""
    text = [found.weights.path]
    text += [f"  {name:<{NAME_WIDTH}}{value}" for name, value in _facts(found)]
    for rows in (_axes(found.examination), _phases(found.examination), _filters(found.examination)):
        text += ["", *_aligned(rows)] if rows else []
    findings = [(severity, f"{what}; {advice}") for severity, what, advice in _findings(found.examination)]
    return text + [""] * bool(findings) + [f"  {severity:<{NAME_WIDTH}}{told}" for severity, told in findings]


def _aligned(rows: Rows) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths[0] = max(widths[0], NAME_WIDTH - 2)
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _print_tables(found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(found.weights.path, "bold"))
    grid = Table.grid(padding=(0, 2))
    for name, value in _facts(found):
        grid.add_row(name, Text(value))
    console.print(grid)
    for rows in (_axes(found.examination), _phases(found.examination), _filters(found.examination)):
        if rows:
            table = Table(*rows[0])
            for row in rows[1:]:
                table.add_row(*row)
            console.print(table)
    grid = Table.grid(padding=(0, 2))
    for severity, what, advice in _findings(found.examination):
        grid.add_row(Text(severity, COLOURS[severity]), Text(f"{what}; {advice}"))
    console.print(grid)


def _facts(found: Inspection) -> list[tuple[str, str]]:
    kernel, weights = found.examination, found.weights
    facts = [
        ("format", weights.format),
        ("layout", kernel.layout),
        *(("note", note) for note in weights.notes),
        ("kernel", _kernel(kernel)),
        ("layer", _layer(found.config, kernel.assumed)),
        ("taps", f"{_number(kernel.low)} to {_number(kernel.high)}, {kernel.zeros} of {kernel.taps} are 0"),
        ("gain", _gain(kernel)),
        ("checkerboard", "the gains cancel" if kernel.checkerboard is None else _relative(kernel.checkerboard)),
        ("rank-one error", _separable(kernel)),
        ("largest output", _bound(kernel)),
    ]
    return facts


def _kernel(kernel: Examination) -> str:
    channels = f", {kernel.channels} -> {kernel.filters} channels" if kernel.channels * kernel.filters > 1 else ""
    return f"{_by(kernel.kernel_size)}{channels}, {kernel.dtype}, {'bias' if kernel.bias else 'no bias'}"


def _layer(config: LayerConfig, assumed: tuple[str, ...]) -> str:
    parts = [
        f"strides {_by(config.strides)}" + (" (assumed)" if "strides" in assumed else ""),
        f"padding {config.padding}" + (" (assumed)" if "padding" in assumed else ""),
        f"output padding {_by(config.output_padding)}" if config.output_padding else "",
        f"dilation {_by(config.dilation_rate)}" if max(config.dilation_rate) > 1 else "",
    ]
    return ", ".join(part for part in parts if part)


def _gain(kernel: Examination) -> str:
    lowest, highest = min(f.lowest for f in kernel.by_filter), max(f.highest for f in kernel.by_filter)
    phases = len(kernel.by_phase)
    if phases * kernel.filters == 1:
        return _number(kernel.gain)
    of = f"{phases} phase{'s' * (phases > 1)}" + (f" of {kernel.filters} filters" if kernel.filters > 1 else "")
    if _number(lowest) == _number(highest):
        return f"{_number(kernel.gain)} in {of}"
    return f"{_number(kernel.gain)} on average, {_number(lowest)} to {_number(highest)} in {of}"


def _separable(kernel: Examination) -> str:
    if kernel.rank_one_error is None:
        return "not tried, the kernel is too large"
    return f"{_relative(kernel.rank_one_error)}, {'separable' if kernel.separable else 'not separable'}"


def _bound(kernel: Examination) -> str:
    bias = f" + {_number(kernel.bias_bound)}" if kernel.bias_bound else ""
    return f"{_number(kernel.bound)} x the largest input{bias}"


def _axes(kernel: Examination) -> Rows:
    rows: Rows = [("axis", "taps", "stride", "symmetry", "asymmetry", "centroid", "output 0 at input", "off edge grid")]
    for number, axis in enumerate(kernel.axes):
        centroid = "none" if axis.centroid is None else f"{axis.centroid:.4g} of {axis.middle:g}"
        place = f"{axis.shift:+.4g}" if axis.shift else "0"
        if axis.from_middle and kernel.cancellation <= 0.5:
            place += f" ({axis.centroid_shift:+.4g} by centroid)"
        rows.append(
            (
                str(number),
                str(axis.kernel),
                str(axis.stride),
                axis.symmetry,
                _relative(axis.asymmetry),
                centroid,
                place,
                f"{axis.from_edge_grid:+g} voxels" if axis.from_edge_grid else "0",
            )
        )
    return rows


def _phases(kernel: Examination) -> Rows:
    if len(kernel.by_phase) == 1:
        return []
    several = kernel.filters > 1
    rows: Rows = [("phase", "taps", "gain", *(("lowest", "highest") if several else ()))]
    for phase in kernel.by_phase[:MOST_ROWS]:
        span = (_number(phase.lowest), _number(phase.highest)) if several else ()
        rows.append((",".join(map(str, phase.remainder)), str(phase.taps), _number(phase.gain), *span))
    return rows + _more(len(kernel.by_phase), len(rows[0]))


def _filters(kernel: Examination) -> Rows:
    if kernel.filters == 1:
        return []
    rows: Rows = [("filter", "gain", "lowest", "highest", "checkerboard")]
    for facts in kernel.by_filter[:MOST_ROWS]:
        ratio = "none" if facts.checkerboard is None else _relative(facts.checkerboard)
        rows.append(
            (str(facts.filter), _number(facts.gain), _number(facts.lowest), _number(facts.highest), ratio)
        )  # fmt: skip
    return rows + _more(kernel.filters, len(rows[0]))


def _more(count: int, columns: int) -> Rows:
    """A row that says what is left out."""
    return [(f"... of {count}", "--json", "has all", *[""] * (columns - 3))] if count > MOST_ROWS else []


def _findings(kernel: Examination) -> Iterable[tuple[str, str, str]]:
    return [(finding.severity, finding.what, finding.advice) for finding in kernel.findings]


def _number(value: float) -> str:
    return f"{value:.4g}"


def _relative(value: float) -> str:
    """A ratio, of which nothing but rounding is 0."""
    return "0" if abs(value) < 1e-9 else f"{value:.4g}"


def _by(numbers: Iterable[int]) -> str:
    return "x".join(map(str, numbers))
