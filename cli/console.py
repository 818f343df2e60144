"""How does a person see a report?  Tables by rich, JSON by the standard library; rich is imported for tables only."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from conv3dt.axes import SPATIAL
from conv3dt.errors import ArgumentError, OutputError
from conv3dt.paths import split_weights

if TYPE_CHECKING:
    from conv3dt.report import AxisFacts, HeaderFact, PlanFacts, Report, RunFacts, VolumeFacts

Row = tuple[str, str, str]
NAME_WIDTH = 18


def publish(
    report: Report, *, as_json: bool, path: str | None, quiet: bool, verbose: bool, to_stdout: bool = False
) -> None:
    """Print a report where it was asked for: JSON on stdout, JSON in a file, a table on stderr.

    Args:
        report: what to say.
        as_json: JSON on stdout in the place of the table.
        path: of a file for the JSON.
        quiet: no table.
        verbose: matrices and reasons too.
        to_stdout: the table is what was asked for, and goes to stdout.
    """
    if as_json:
        print_json(report.as_dict())
    elif not quiet and not to_stdout and sys.stderr.isatty():
        _print_table(report, verbose=verbose)
    elif not quiet:
        click.echo("\n".join(lines(report, verbose=verbose)), err=not to_stdout)
    if path is not None:
        _write(path, report)


def check_report(path: str | None, *files: str | None) -> None:
    """Refuse a report that could not be written, or that would replace a file of the run, before the work is done."""
    if path is None:
        return
    target = os.path.realpath(path)
    if target in (os.path.realpath(split_weights(file)[0]) for file in files if file):
        raise ArgumentError(f"report {path}: is another file of this run; choose another name")
    if not os.path.isdir(os.path.dirname(target)) or os.path.isdir(target):
        raise OutputError(f"report {path}: cannot be written there; choose another name")


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout; what JSON has no number for becomes null."""
    click.echo(_json(value))


def print_facts(facts: dict[str, Any]) -> None:
    """Print a name and its facts as a table on stdout."""
    click.echo(facts["path"])
    for name, value in facts.items():
        if name != "path" and value not in (None, "", [], {}):
            click.echo(f"  {name.replace('_', ' '):<{NAME_WIDTH}}{_text(value)}")


def print_devices(found: list[dict[str, Any]]) -> None:
    """Print devices as a table on stdout: name, memory, what each would be used for."""
    width = max(len(each["name"]) for each in found)
    for each in found:
        if not each["precisions"]:
            click.echo(f"{each['name']:<{width}}  {each['note']}")
            continue
        memory = f"{_bytes(each['free_bytes'])} of {_bytes(each['memory_bytes'])} free"
        click.echo(f"{each['name']:<{width}}  {each['title']}, {memory}")
        used = f"few channels: {each['few']}; many: {each['many']} in {', '.join(each['precisions'])}"
        click.echo(f"{'':<{width}}  {used}{'; ' + each['note'] if each['note'] else ''}")


def lines(report: Report, *, verbose: bool) -> list[str]:
    """Return a report as lines of text: two columns for what changed, one for the rest."""
    rows = _changes(report)
    width = max(len(row[1]) for row in rows)
    text = [f"{name:<12}{before:<{width}}  ->  {after}" for name, before, after in rows]
    return text + [f"{name:<11} {value}" for name, value in _details(report, verbose=verbose)]


def _print_table(report: Report, *, verbose: bool) -> None:
    """The same on a terminal, by rich."""
    from rich.console import Console
    from rich.table import Table

    (_, before, after), *rows = _changes(report)
    table = Table("", before, after)
    for row in rows:
        table.add_row(*row)
    rest = Table.grid(padding=(0, 2))
    for name, value in _details(report, verbose=verbose):
        rest.add_row(name, value, style="yellow" if name == "warning" else "")
    console = Console(stderr=True)
    console.print(table)
    console.print(rest)


def _changes(report: Report) -> list[Row]:
    rows = [
        ("", report.input.path, report.output.path),
        ("shape", _shape(report.input), _shape(report.output)),
        ("voxel size", _spacing(report.input), _spacing(report.output)),
        ("origin", _origin(report.input), _origin(report.output)),
        ("type", report.input.dtype, report.output.dtype),
        ("bytes", _bytes(report.input.bytes), _bytes(report.output.bytes)),
    ]
    return [row for row in rows if row[1] or row[2]]


def _details(report: Report, *, verbose: bool) -> list[tuple[str, str]]:
    matrices = _matrices(report) if verbose else []
    warnings = [("warning", text) for text in report.warnings]
    return _layer(report) + matrices + _header(report, verbose=verbose) + _work(report, verbose=verbose) + warnings


def _layer(report: Report) -> list[tuple[str, str]]:
    layer = report.layer
    parts = [
        f"{layer.name}  {_join(layer.kernel_size)}",
        f"strides {_join(layer.strides)}",
        layer.padding,
        f"output padding {_join(layer.output_padding)}" if layer.output_padding else "",
        f"dilation {_join(layer.dilation_rate)}" if max(layer.dilation_rate) > 1 else "",
        f"{layer.channels} -> {layer.filters} channels" if layer.channels * layer.filters > 1 else "",
        "bias" if layer.use_bias else "",
        layer.activation if layer.activation != "linear" else "",
        f"boundary {layer.boundary}",
        "each channel by itself" if layer.per_channel else "",
        f"{layer.reduce} over channels" if layer.reduce else "",
    ]
    text = [("kernel", ", ".join(part for part in parts if part))]
    text += [("layout", layer.layout)] if layer.layout else []
    text += [("note", note) for note in layer.notes]
    letters = [letter for letter in report.input.axes if letter in SPATIAL]
    for letter, axis in zip(letters, report.axes, strict=True):
        off = f", {axis.from_edge_grid:+g} voxels off the edge grid" if axis.from_edge_grid else ""
        text.append(
            (
                f"axis {letter}",
                f"{axis.input} -> {axis.output}, {_cropped(axis)}, output 0 at input {axis.shift:+g}{off}",
            )
        )
    return text


def _cropped(axis: AxisFacts) -> str:
    if axis.crop_after < 0:
        return f"cropped {axis.crop_before}+0, {-axis.crop_after} appended"
    return f"cropped {axis.crop_before}+{axis.crop_after}"


def _matrices(report: Report) -> list[tuple[str, str]]:
    text = []
    for name, volume in (("affine in", report.input), ("affine out", report.output)):
        for n, row in enumerate(volume.affine or []):
            text.append((name if n == 0 else "", " ".join(f"{value:12.6g}" for value in row)))
    return text


def _header(report: Report, *, verbose: bool) -> list[tuple[str, str]]:
    """The ledger of header fields: all of them, or how many and which are lost."""
    if verbose:
        return [(fact.field, _fact(fact)) for fact in report.header]
    counts = Counter(fact.status for fact in report.header)
    if not counts:
        return []
    told = ", ".join(f"{counts[status]} {status}" for status in ("kept", "recomputed", "dropped") if counts[status])
    lost = "; ".join(f"{fact.field} ({fact.why})" for fact in report.header if fact.status == "dropped")
    return [("header", told + (f": {lost}" if lost else ""))]


def _fact(fact: HeaderFact) -> str:
    values = fact.before if fact.before == fact.after else f"{fact.before or '-'} -> {fact.after or '-'}"
    return f"{fact.status}: {values}" + (f" ({fact.why})" if fact.why else "")


def _work(report: Report, *, verbose: bool) -> list[tuple[str, str]]:
    text = []
    if plan := report.plan:
        why = f" ({plan.why})" if verbose else ""
        volumes = f" in {plan.volumes} volumes" if plan.volumes > 1 else ""
        text += [
            ("engine", f"{plan.engine} on {plan.device}, {_means(plan)}{why}"),
            ("regions", f"{plan.regions} of {_join(plan.tile)}{volumes}, {_bytes(plan.region_bytes)} in flight"),
        ]
    if (run := report.run) and run.resumed_regions:
        text.append(("resumed", f"{run.resumed_regions} regions were there from an earlier run"))
    if (run := report.run) and run.halved_regions:
        text.append(
            ("halved", f"the device had no room for a region {run.halved_regions} times; it was computed in parts")
        )
    if (run := report.run) and run.headroom is not None:
        slope = f"slope {report.output.slope:.6g}, inter {report.output.inter:.6g}"
        text.append(("scaling", f"{slope}; {run.clipped} clipped, {100 * run.headroom:.2g} % of the range left over"))
    if proof := report.proof:
        looked = f"{proof.voxels} voxels in {proof.regions} regions computed again in float64"
        text.append(("self-check", f"{looked}: right, at most {100 * proof.worst:.2g} % of what rounding allows"))
    return text + (_taken(report.run, plan) if report.run else _expected(plan) if plan and plan.memory_bytes else [])


def _means(plan: PlanFacts) -> str:
    """The threads of a CPU, or the way and the precision of a device."""
    return f"{plan.threads} threads" if plan.way is None else f"{plan.way} in {plan.precision}"


def _taken(run: RunFacts, plan: PlanFacts | None) -> list[tuple[str, str]]:
    """What a run took, beside what was expected."""
    memory = disk = seconds = ""
    if plan and plan.memory_bytes:
        memory, disk = f", {_bytes(plan.memory_bytes)} expected", f", {_bytes(plan.disk_bytes)} expected"
        seconds = f", {plan.seconds:.2g} expected"
    stages = (
        f"start {run.start_s:.3g}, read {run.read_s:.3g}, compute {run.compute_s:.3g}, write {run.write_s:.3g} "
        f"side by side; {run.voxels_per_s / 1e6:.3g} M voxels/s"
    )
    return [
        ("memory", f"{_bytes(run.peak_bytes)} at the peak{memory}"),
        *([("disk", f"{_bytes(run.disk_bytes)} written{disk}")] if run.disk_bytes else []),
        ("time", f"{run.total_s:.3g} s{seconds}: {stages}"),
    ]


def _expected(plan: PlanFacts) -> list[tuple[str, str]]:
    """What a run would take."""
    passing = f", and {_bytes(plan.passing_bytes)} until the run ends" if plan.passing_bytes else ""
    return [
        ("memory", f"{_bytes(plan.memory_bytes)} at the peak"),
        ("disk", f"{'about ' if plan.packed else ''}{_bytes(plan.disk_bytes)}{passing}"),
        ("time", f"about {plan.seconds:.2g} s on two cores of a server"),
    ]


@contextmanager
def progress(*, shown: bool) -> Iterator[Callable[[int], Callable[[int], None]] | None]:
    """Give a function that starts a progress bar on a terminal; None elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )

    def start(total: int) -> Callable[[int], None]:
        task = bar.add_task("", total=total, rate="")

        def advance(done: int) -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, rate=f"{speed / 1e6:.0f} M voxels/s" if speed else "")

        return advance

    with bar:
        yield start


def _write(path: str, report: Report) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(_json(report.as_dict()) + "\n")
    except OSError as error:
        raise OutputError(f"report {path}: cannot be written: {error.strerror}") from None


def _json(value: Any) -> str:
    import json

    return json.dumps(_plain(value), indent=2, default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        return ("\n" + " " * (NAME_WIDTH + 2)).join(" ".join(f"{item:10.5g}" for item in row) for row in value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        return ", ".join(value)
    if isinstance(value, (list, tuple)):
        return " x ".join(_text(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _shape(volume: VolumeFacts) -> str:
    return f"{_join(volume.shape)} ({volume.axes})"


def _spacing(volume: VolumeFacts) -> str:
    return " x ".join(f"{size:.6g}" for size in volume.spacing) + f" {volume.unit}".rstrip() if volume.spacing else ""


def _origin(volume: VolumeFacts) -> str:
    return ", ".join(f"{row[3]:.6g}" for row in volume.affine[:3]) if volume.affine else ""


def _join(numbers: Any) -> str:
    return "x".join(map(str, numbers))


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.4g} {units[0]}"
