"""How is a report told on a page?  In short or whole, as names with values and as tables; no markup.

Reports are read as the plain values of `Report.as_dict`, which may come back from a file: nothing is taken for granted
of what stands in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from conv3dt.visible import visible

MOST_TEXT, MOST_LINES, MOST_WARNINGS = 300, 80, 3
TIMES, ARROW = "\u00d7", " \u2192 "
NOTHING: tuple[Any, ...] = (None, "", [], (), {})
Line = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: names with values, or lines under heads."""

    title: str
    lines: tuple[Line, ...]
    heads: Line = ()


def duration(seconds: float | None) -> str:
    """Return seconds in the units in which people wait.

    >>> duration(0.1234), duration(75.2), duration(7260)
    ('0.12 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds is None or not isfinite(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def grid(report: dict[str, Any]) -> tuple[str, str] | None:
    """Return shapes and voxel sizes before and after, if the report tells them."""
    volumes = [volume for volume in (report.get("input"), report.get("output")) if isinstance(volume, dict)]
    shapes = [_by(volume.get("shape")) for volume in volumes]
    sizes = [_by(volume.get("spacing")) for volume in volumes]
    unit = visible(str(volumes[0].get("unit") or ""), 8) if volumes else ""
    if not shapes or not all(shapes):
        return None
    return ARROW.join(shapes), f"{ARROW.join(sizes)} {unit}".rstrip() if all(sizes) else ""


def _by(numbers: Any) -> str:
    if not isinstance(numbers, (list, tuple)) or not all(isinstance(number, (int, float)) for number in numbers):
        return ""
    return TIMES.join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers[:8])


def warnings_of(report: dict[str, Any] | None) -> list[str]:
    """Return the warnings of a report."""
    found = (report or {}).get("warnings")
    return [str(text) for text in found] if isinstance(found, (list, tuple)) else []


def summary(report: dict[str, Any]) -> list[Section]:
    """Return the few lines of a report that are read most."""
    chosen = {
        "layer": ("name", "kernel_size", "strides", "padding", "activation", "boundary", "align"),
        "run": ("total_s", "peak_bytes", "clipped", "not_finite"),
        "proof": ("passed", "worst"),
    }
    lines = []
    for title, names in chosen.items():
        part = report.get(title)
        if isinstance(part, dict):
            lines += [(_words(name), _text(part[name])) for name in names if part.get(name) not in NOTHING]
    lines += [("warning", _text(text)) for text in warnings_of(report)[:MOST_WARNINGS]]
    return [Section("In short", tuple(lines))] if lines else []


def sections(report: dict[str, Any]) -> list[Section]:
    """Return all of a report, whatever it consists of."""
    found: list[Section] = []
    alone: list[Line] = []
    for name, part in report.items():
        if part in NOTHING:
            continue
        if name == "header" and _is_table(part):
            found.append(_ledger(part))
        elif isinstance(part, dict):
            found.append(Section(_words(name), _pairs(part)))
        elif _is_table(part):
            found.append(_table(name, part, part[0]))
        elif isinstance(part, (list, tuple)):
            found.append(Section(_words(name), tuple(("", _text(text)) for text in part[:MOST_LINES])))
        else:
            alone.append((_words(name), _text(part)))
    if alone:
        found.append(Section("report", tuple(alone)))
    return sorted(found, key=lambda section: bool(section.heads))  # tables take the whole width, below the others


def _pairs(part: dict[str, Any]) -> tuple[Line, ...]:
    lines = ((_words(key), _text(value)) for key, value in part.items() if value not in NOTHING)
    return tuple(lines)[:MOST_LINES]


def _table(name: str, lines: Sequence[dict[str, Any]], heads: Iterable[str]) -> Section:
    heads = list(heads)
    shown = tuple(tuple(_text(line.get(head, "")) for head in heads) for line in lines[:MOST_LINES])
    return Section(_words(name), shown, tuple(map(_words, heads)))


def _ledger(fields: Sequence[dict[str, Any]]) -> Section:
    """Header fields that changed, a line each; those that were kept in one."""
    changed = [line for line in fields if line.get("status") != "kept"]
    kept = [str(line.get("field")) for line in fields if line.get("status") == "kept"]
    section = _table("header", changed, fields[0])
    if not kept:
        return section
    last = ("kept", *[""] * (len(section.heads) - 2), visible(", ".join(kept), 900))
    return replace(section, lines=(*section.lines, last))


def _is_table(part: Any) -> bool:
    return isinstance(part, (list, tuple)) and bool(part) and all(isinstance(line, dict) and line for line in part)


def _words(name: Any) -> str:
    return visible(str(name).replace("_", " "), 60)


def _text(value: Any) -> str:
    return visible(_plain(value), MOST_TEXT)


def _plain(value: Any) -> str:
    """
    >>> _plain([0.5, 2, None]), _plain({"a": True, "b": [[1.0, 2.0], [3.0, 4.0]]})
    ('0.5, 2, none', 'a yes, b 1, 2; 3, 4')
    """
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        nested = any(isinstance(item, (list, tuple)) for item in value)
        return ("; " if nested else ", ").join(map(_plain, value))
    return str(value)
