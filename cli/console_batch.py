"""How does a person follow a batch?  One bar on a terminal, one line a scan elsewhere; at the end what failed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from conv3dt.batch.run import Outcome

WORDS = {"done": "done", "skipped": "skipped", "planned": "planned", "failed": "FAILED", "cancelled": "cancelled"}
MOST_ROWS = 200
"""Scans that the final table names; failures all, the log has the others."""


class Watch:
    """Tells how a batch goes on, on stderr."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._quiet = total, quiet
        self._parts: dict[str, float] = {}
        self._known = 0
        self._bar: Any = None

    def __enter__(self) -> Watch:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            name = TextColumn("{task.description}", markup=False)  # [/b] in a file's name is no markup
            columns = (BarColumn(), MofNCompleteColumn(), name, TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            with suppress(OSError):
                bar.stop()

    def moved(self, name: str, part: float) -> None:
        """Which part of a scan is written."""
        bar = self._bar
        if bar is not None:
            self._parts[name] = part
            bar.update(self._task, completed=self._known + sum(self._parts.copy().values()), description=name[-40:])

    def told(self, known: int, outcome: Outcome) -> None:
        """What became of a scan."""
        self._known = known
        self._parts.pop(outcome.name, None)
        if self._bar is not None:
            self._bar.update(self._task, completed=known)
            if outcome.status == "failed":
                with suppress(OSError):
                    self._bar.console.print(_line(outcome), style="red", markup=False, highlight=False)
        elif not self._quiet or outcome.status == "failed":
            _say(f"[{known}/{self._total}] {_line(outcome)}")

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """The final table: how many of what, and each failure."""
        self._close()
        if self._quiet:
            return
        listed = [each for each in outcomes if each.status == "failed"]
        if sys.stderr.isatty():
            with suppress(OSError):
                _table(listed or list(outcomes)[:MOST_ROWS])
        counts = Counter(outcome.status for outcome in outcomes)
        told = ", ".join(f"{counts[status]} {status}" for status in WORDS if counts[status])
        _say(f"{len(outcomes)} scans{': ' if told else ''}{told}{_total(outcomes)}")
        if not sys.stderr.isatty():
            for outcome in listed:
                _say(f"  {_line(outcome)}")


def _say(text: str) -> None:
    """A line on stderr; a batch does not end because nobody can read how it goes on."""
    with suppress(OSError):
        click.echo(text, err=True)


def _total(outcomes: Sequence[Outcome]) -> str:
    """What those that are planned would take together."""
    plans = [report.plan for outcome in outcomes if (report := outcome.report) and outcome.status == "planned"]
    size = sum(plan.disk_bytes for plan in plans if plan)
    seconds = sum(plan.seconds for plan in plans if plan)
    return f"; about {size / 2**20:.4g} MiB and {seconds:.2g} s, one after another" if size else ""


def _line(outcome: Outcome) -> str:
    reason = outcome.error or outcome.why
    return f"{WORDS[outcome.status]:<9} {outcome.seconds:7.2f} s  {outcome.name}" + (f": {reason}" if reason else "")


def _table(outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("scan", "status", "s", "")
    for outcome in outcomes:
        reason = Text(outcome.error or outcome.why or "")
        style = "red" if outcome.status == "failed" else ""
        table.add_row(Text(outcome.name), outcome.status, f"{outcome.seconds:.2f}", reason, style=style)
    Console(stderr=True).print(table)
