"""How is the page of a run put together, whole and never too large?  Rows in, bytes of HTML out.

Text from outside is made visible (`visible`) and escaped by Jinja; a content security policy lets nothing in but the
page's own style and script, by their hashes, and pictures that it holds itself.  Filters, flicker and everything else
but search and sorting work without the script.

The page keeps to a number of bytes whatever there is to say, by giving way in this order: pictures become smaller,
reports become short, pictures are left out, then reports, names and errors are cut, and at the very end scans are left
out that did not fail.  What gave way is said on the page.
"""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from conv3dt.errors import ArgumentError
from conv3dt.page.pictures import DECENT, Pairs, told
from conv3dt.page.text import ARROW, MOST_WARNINGS, Section, duration, grid, sections, summary, warnings_of
from conv3dt.visible import visible

STATUSES = ("done", "skipped", "failed", "cancelled", "planned")
KINDS = {
    "failed": "failed",
    "cancelled": "cancelled",
    "warned": "done with warnings",
    "done": "done",
    "planned": "planned",
    "skipped": "skipped",
}
"""Kinds of rows in the order in which they stand, and their words."""

MOST_BYTES = 2_000_000
FEWEST_BYTES = 100_000
NOTE_BYTES = 2000
"""Kept free for saying what was left out."""

MORE = "<tr class=more><td colspan=4>"
FRAME = len(MORE)
CUTS = ((400, 600, 400), (160, 240, 0), (80, 100, 0), (48, 48, 0))
"""Characters of a name, of an error and of the paths under the name."""
MOST_FACTS, MOST_FACT = 24, 200


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one scan.

    Attributes:
        name: what it is called in the table.
        status: ``done``, ``skipped``, ``failed``, ``cancelled`` or ``planned``.
        seconds: how long it took.
        error: one line, if it failed.
        input, output: paths.
        report: `Report.as_dict()`, whole or in part.
        before, after: pictures of the same size, as `preview.before_after` makes them.
    """

    name: str
    status: str
    seconds: float | None = None
    error: str | None = None
    input: str = ""
    output: str = ""
    report: dict[str, Any] | None = None
    before: bytes | None = None
    after: bytes | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ArgumentError(f"status must be one of {', '.join(STATUSES)}, got {self.status!r}")

    @property
    def kind(self) -> str:
        """Its status; ``warned`` if it is done and its report has warnings."""
        return "warned" if self.status == "done" and warnings_of(self.report) else self.status


@dataclass(slots=True)
class _Page:
    """A page while it is put together: of each row its first line, its report and its pictures, as HTML."""

    rows: list[Row]
    left: int  # bytes
    scans: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, parts: Sequence[str]) -> list[str]:
        """Return the parts that fit into what is left, the empty text for others."""
        taken = []
        for part in parts:
            cost = _size(part) + FRAME if part else 0
            taken.append(part if cost <= self.left else "")
            self.left -= cost if cost <= self.left else 0
        return taken


def check_page() -> None:
    """Refuse before any work is done, if what draws and writes a page is not installed.

    Raises:
        ArgumentError: naming what to install.
    """
    try:
        import jinja2  # noqa: F401
        import PIL.Image  # noqa: F401
    except ImportError:
        raise ArgumentError("a page needs Jinja and Pillow; install them with: pip install 'conv3dt[html]'") from None


def render(rows: Sequence[Row], *, title: str, facts: dict[str, str], most_bytes: int = MOST_BYTES) -> bytes:
    """Return the page of a run: UTF-8, the same bytes for the same rows.

    Args:
        rows: one a scan; those that failed come first, each kind in the order given.
        title: of the page.
        facts: names and values that stand on top, such as when the run began.
        most_bytes: never more than that, however many rows there are.

    Raises:
        ArgumentError: less room than the page itself takes, or Jinja is not installed.
    """
    check_page()
    if most_bytes < FEWEST_BYTES:
        raise ArgumentError(f"most_bytes must be at least {FEWEST_BYTES}, got {most_bytes}")
    macros = _macros()
    shell = _Shell(macros, title, facts, rows)
    order = list(KINDS)
    room = most_bytes - _size(shell("", [], pictures=True)) - NOTE_BYTES
    page = _Page(sorted(rows, key=lambda row: order.index(row.kind)), room)
    _add_scans(page, macros)
    _add_details(page, macros)
    body = "\n".join(map(_whole, page.scans, page.pairs, page.reports))
    return shell(body, page.notes, pictures=any(page.pairs)).encode()


@cache
def _macros() -> Any:
    """The macros of the template, which escape what they are given."""
    from jinja2 import Environment, StrictUndefined

    text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text).module


class _Shell:
    """The page around the table."""

    def __init__(self, macros: Any, title: str, facts: dict[str, str], rows: Sequence[Row]) -> None:
        self._macros = macros
        self._title = visible(title, MOST_FACT)
        self._facts = [
            (visible(name, 40), visible(value, MOST_FACT)) for name, value in list(facts.items())[:MOST_FACTS]
        ]
        kinds = [row.kind for row in rows]
        self._totals = [
            {"kind": kind, "words": words, "count": kinds.count(kind)} for kind, words in KINDS.items() if kind in kinds
        ]
        self._count = len(rows)

    def __call__(self, scans: str, notes: list[str], *, pictures: bool) -> str:
        from markupsafe import Markup

        page = self._macros.page(
            self._title, self._facts, self._totals, notes, self._policy(), pictures, self._count, Markup(scans)
        )
        return f"{page}\n"

    def _policy(self) -> str:
        style, script = (_hash(str(text)) for text in (self._macros.style, self._macros.script))
        return (
            f"default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; "
            "form-action 'none'"
        )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _add_scans(page: _Page, macros: Any) -> None:
    """The first line of each scan, in the longest form in which all fit; if none does, of as many as fit."""
    for cut in CUTS:
        page.scans = [str(macros.scan(_told(row, *cut))) for row in page.rows]
        if sum(map(_size, page.scans)) + len(page.scans) <= page.left:
            break
    if cut != CUTS[0]:
        page.notes.append(f"Names and errors are cut to {cut[0]} and {cut[1]} characters, to keep the page small.")
    sizes = list(accumulate(_size(part) + 1 for part in page.scans))
    count = bisect_right(sizes, page.left)
    if count < len(page.rows):
        page.notes.append(f"The last {len(page.rows) - count} scans in the order of this page are not listed: no room.")
    page.rows, page.scans = page.rows[:count], page.scans[:count]
    page.left -= sizes[count - 1] if count else 0


def _add_details(page: _Page, macros: Any) -> None:
    """Reports and pictures, as much of them as there is room for."""
    pairs = Pairs([(visible(row.name, 80), row.before, row.after) for row in page.rows], macros.pair)
    whole = _reports(page, macros, sections, page.left - pairs.expected(DECENT))
    if all(whole[n] for n, row in enumerate(page.rows) if row.report):
        _add_reports(page, whole, short=False)
    else:
        _add_reports(page, _reports(page, macros, summary, page.left), short=True)
    step = pairs.step(page.left)
    page.pairs = page.take(pairs.drawn(step, page.left))
    shown = sum(1 for part in page.pairs if part)
    if step and shown:
        page.notes.append(f"Pictures are {told(step)}, to keep the page small.")
    if shown < pairs.count:
        page.notes.append(f"The pictures of {pairs.count - shown} of {pairs.count} scans are left out: no room.")


def _reports(page: _Page, macros: Any, tell: Callable[[dict[str, Any]], list[Section]], room: int) -> list[str]:
    """The report of each row as HTML, as long as there is room."""
    parts = []
    for row in page.rows:
        part = str(macros.report(tell(row.report))) if row.report and room > 0 else ""
        room -= _size(part) + FRAME if part else 0
        parts.append(part if room >= 0 else "")
    return parts


def _add_reports(page: _Page, parts: list[str], *, short: bool) -> None:
    page.reports = page.take(parts)
    lost = sum(1 for row, part in zip(page.rows, page.reports, strict=True) if row.report and not part)
    if short and any(page.reports):
        page.notes.append("Reports are short here, to keep the page small; the reports of the run are whole.")
    if lost:
        page.notes.append(f"The reports of {lost} scans are left out: no room.")


def _whole(scan: str, pair: str, report: str) -> str:
    return f"{scan}{MORE}{pair}{report}" if pair or report else scan


def _size(text: str) -> int:
    return len(text.encode())


def _told(row: Row, name: int, error: int, path: int) -> dict[str, Any]:
    """What the first line of a scan says, in so many characters."""
    warnings = [visible(text, error) for text in warnings_of(row.report)] if path else []
    if len(warnings) > MOST_WARNINGS:
        warnings[MOST_WARNINGS - 1 :] = [f"and {len(warnings) - MOST_WARNINGS + 1} more warnings, in the report"]
    ways = [visible(way, path // 2) for way in (row.input, row.output) if way] if path else []
    return {
        "kind": row.kind,
        "name": visible(row.name, name),
        "path": ARROW.join(ways),
        "error": visible(row.error, error) if row.error else "",
        "warnings": warnings,
        "status": row.status,
        "seconds": None if row.seconds is None else f"{row.seconds:.3g}",
        "time": duration(row.seconds),
        "grid": grid(row.report or {}),
    }
