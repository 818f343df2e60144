"""Run the benchmark and print its table."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib import import_module

import click
from rich.console import Console
from rich.table import Table

from .measure import Row

PARTS = ("engine", "command", "logits", "hdf5", "startup")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--quick", is_flag=True, help="Small volumes, few rounds: to see that it runs.")
@click.option("--json", "path", metavar="FILE", help="Write the rows as JSON too.")
def main(parts: tuple[str, ...], quick: bool, path: str | None) -> None:
    """Measure conv3dt beside its peers; PARTS are engine, command, logits, hdf5 and startup, all by default."""
    rows: list[Row] = []
    for part in parts or PARTS:
        rows += import_module(f"tests.benchmarks.{part}").rows(quick)
    _print(rows)
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"machine": _machine(), "rows": [asdict(row) for row in rows]}, file, indent=2)


def _print(rows: list[Row]) -> None:
    table = Table(title=_machine())
    for heading in ("work", "against", "conv3dt", "peer", "ratio", "asked"):
        table.add_column(heading, justify="right" if heading in ("ratio", "asked") else "left")
    for row in rows:
        asked = "" if row.asked is None else f"at most {-row.asked:g}" if row.asked < 0 else f"{row.asked:g}"
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
