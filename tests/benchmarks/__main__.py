"""Run the benchmark and print its table."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec

import click
from rich.console import Console
from rich.table import Table

from .measure import Row

PARTS = ("engine", "command", "batch", "memory", "scaling", "logits", "hdf5", "startup", "gpu")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--quick", is_flag=True, help="Small volumes, few rounds: to see that it runs.")
@click.option("--json", "path", metavar="FILE", help="Write the rows as JSON too.")
@click.option("--plot", metavar="FILE.png", help="Draw time against size too, from the part scaling.")
def main(parts: tuple[str, ...], quick: bool, path: str | None, plot: str | None) -> None:
    """Measure conv3dt beside its peers; PARTS as listed above, all by default."""
    if plot is not None:
        _check_plot(parts)
    rows: list[Row] = []
    for part in parts or PARTS:
        rows += import_module(f"tests.benchmarks.{part}").rows(quick)
    _print(rows)
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"machine": _machine(), "rows": [asdict(row) for row in rows]}, file, indent=2)
    if plot is not None:
        from .plot import draw

        draw([point for row in rows for point in row.points], plot, _machine())


def _check_plot(parts: tuple[str, ...]) -> None:
    """Say what stands in the way of a plot before anything is measured."""
    if parts and "scaling" not in parts:
        raise click.UsageError("--plot draws the part scaling; name it too")
    if find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install -c tests/constraints.txt -e '.[bench]'")


def _print(rows: list[Row]) -> None:
    table = Table(title=_machine())
    for heading in ("work", "against", "conv3dt", "peer", "ratio", "asked"):
        table.add_column(heading, justify="right" if heading in ("ratio", "asked") else "left")
    for row in rows:
        asked = "" if row.asked is None else f"at most {-row.asked:.3g}" if row.asked < 0 else f"{row.asked:.3g}"
        table.add_row(row.work, row.peer, row.ours, row.theirs, f"{row.ratio:.2f}", asked)
    Console(width=150).print(table)


def _machine() -> str:
    from conv3dt.resources import resources

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    return f"{model}, {resources().threads} threads, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
