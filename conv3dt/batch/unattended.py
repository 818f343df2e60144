"""What is done around a batch?  Its log, its page, and that it ends in good order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from conv3dt import paths
from conv3dt.batch.gather import Gathered
from conv3dt.batch.log import BatchLog
from conv3dt.batch.run import Outcome, run
from conv3dt.errors import Conv3dtError
from conv3dt.pending import write_whole

if TYPE_CHECKING:
    from conv3dt.page import Row

Told = Callable[[int, Outcome], None]


def unattended(
    plan: Gathered, *, told: Told | None = None, moved: Callable[[str, float], None] | None = None
) -> list[Outcome]:
    """Run a batch with its log and its page; return what became of its scans, in their order.

    Args:
        plan: what to do.
        told: called with the number of scans that are known, and what became of the last.
        moved: called with the name of a scan under way, and which part of it is written.
    """
    if plan.page is not None:
        from conv3dt.page import check_page

        check_page()
    outcomes: dict[str, Outcome] = {}
    log = None if plan.batch.dry_run else BatchLog(plan.log)
    try:
        if not plan.batch.dry_run:
            plan.begin()
        with closing(run(plan.batch, moved=moved)) as running:
            for outcome in running:
                outcomes[outcome.output] = outcome
                if log is not None:
                    log.add(outcome)
                if told is not None:
                    told(len(outcomes), outcome)
                if outcome.status == "failed" and plan.stop_on_first_failure:
                    break
    finally:
        if log is not None:
            log.close()
    left = [scan for scan in plan.batch.scans if scan.output not in outcomes]
    for scan in left:
        outcomes[scan.output] = Outcome(scan.name, scan.input, scan.output, "cancelled", 0.0, error="not begun")
    ordered = [outcomes[scan.output] for scan in plan.batch.scans]
    if plan.page is not None and not plan.batch.dry_run:
        _write(plan.page, ordered)
    return ordered


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
        with suppress(Conv3dtError):  # a page without a picture is a page
            before, after = before_after(outcome.input, outcome.output, before_axes=axes[0], after_axes=axes[1])
    told = None if report is None else report.as_dict()
    return Row(
        outcome.name, outcome.status, outcome.seconds, outcome.error, outcome.input, outcome.output, told, before, after
    )
