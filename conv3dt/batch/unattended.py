"""What is done around a batch?  Its log, its page, and that it ends in good order."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from conv3dt import paths
from conv3dt.batch.gather import Gathered
from conv3dt.batch.log import BatchLog
from conv3dt.batch.run import Outcome, run
from conv3dt.discover import Scan
from conv3dt.pending import write_whole

if TYPE_CHECKING:
    from conv3dt.page import Row

Told = Callable[[int, Outcome], None]


def unattended(
    plan: Gathered,
    *,
    told: Told | None = None,
    moved: Callable[[str, float], None] | None = None,
    ended: Callable[[list[Outcome]], None] | None = None,
    reports: bool = True,
) -> list[Outcome]:
    """Run a batch with its log and its page; return what became of its scans, in their order.

    Args:
        plan: what to do.
        told: called with the number of scans that are known, and what became of the last.
        moved: called with the name of a scan under way, and which part of it is written.
        ended: called with what became of all scans, also of those that were not begun because something ended the
            batch, which is raised then.
        reports: whether what is returned holds the reports: kilobytes a scan, which the page needs too.

    Raises:
        Conv3dtError: the log or the page cannot be written; the scans are made nevertheless, if the batch was begun.
    """
    if plan.page is not None:
        from conv3dt.page import check_page

        check_page()
    log = None if plan.batch.dry_run else BatchLog(plan.log)
    outcomes: dict[str, Outcome] = {}
    try:
        if not plan.batch.dry_run:
            plan.begin()
        try:
            _run(plan, outcomes, log, told, moved, reports=reports or plan.page is not None)
        finally:
            ordered = [_outcome(scan, outcomes, log) for scan in plan.batch.scans]
            if ended is not None:
                ended(ordered)
    finally:
        if log is not None:
            log.close()
    if plan.page is not None and not plan.batch.dry_run:
        _write(plan.page, ordered)
    if log is not None:
        log.check()
    return ordered


def _run(
    plan: Gathered,
    outcomes: dict[str, Outcome],
    log: BatchLog | None,
    told: Told | None,
    moved: Callable[[str, float], None] | None,
    *,
    reports: bool,
) -> None:
    """Run the scans, and note what became of each by its output, also where something ends the batch."""
    stop = threading.Event()

    def note(outcome: Outcome) -> None:
        if outcome.output in outcomes:
            return
        outcomes[outcome.output] = outcome if reports else replace(outcome, report=None)
        if log is not None:
            log.add(outcome)
        if told is not None:
            told(len(outcomes), outcome)
        if outcome.status == "failed" and plan.stop_on_first_failure:
            stop.set()

    with closing(run(plan.batch, stop=stop, moved=moved)) as running:
        try:
            for outcome in running:
                note(outcome)
        except BaseException:
            stop.set()
            for outcome in running:
                note(outcome)
            raise


def _outcome(scan: Scan, outcomes: Mapping[str, Outcome], log: BatchLog | None) -> Outcome:
    """What became of a scan; one that nothing became of is noted as that."""
    found = outcomes.get(scan.output)
    if found is None:
        found = Outcome(scan.name, scan.input, scan.output, "cancelled", 0.0, error="not begun")
        if log is not None:
            log.add(found)
    return found


def _write(path: str, outcomes: Sequence[Outcome]) -> None:
    from conv3dt.page import render

    counts = Counter(outcome.status for outcome in outcomes)
    facts = {status: str(count) for status, count in sorted(counts.items())}
    content = render([_row(outcome) for outcome in outcomes], title="conv3dt batch", facts=facts)
    write_whole(path, content, overwrite=True)


def _row(outcome: Outcome) -> Row:
    from conv3dt.page import Row

    report = outcome.report
    before = after = None
    if outcome.status in ("done", "skipped") and os.path.exists(paths.split(outcome.output)[0]):
        from conv3dt.preview import before_after

        axes = (None, None) if report is None else (report.input.axes, report.output.axes)
        with suppress(Exception):  # a page without a picture is a page
            before, after = before_after(outcome.input, outcome.output, before_axes=axes[0], after_axes=axes[1])
    told = None if report is None else report.as_dict()
    return Row(
        outcome.name, outcome.status, outcome.seconds, outcome.error, outcome.input, outcome.output, told, before, after
    )
