"""How do small text files come off the disk and onto it?  JSON objects in; whole or not at all out."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conv3dt.errors import DataError, InputMissingError, OutputError
from conv3dt.pending import write_whole
from conv3dt.visible import visible

MOST_BYTES = 2**24
MOST_DEEP = 100
"""Far more than any sidecar holds."""


def read_object(path: str) -> dict[str, Any]:
    """Return the JSON object in a file; NaN and infinities, which JSON does not have, become None.

    Raises:
        InputMissingError: there is no such file, or it cannot be read.
        DataError: it is not a JSON object.
    """
    content = read_bytes(path)
    try:
        found = json.loads(content.decode("utf-8-sig"), parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{visible(path)}: is not valid JSON in UTF-8: {reason}; correct it") from None
    if not isinstance(found, dict):
        raise DataError(f"{visible(path)}: must hold a JSON object, got {type(found).__name__}; correct it")
    if _is_deep(found):
        raise DataError(f"{visible(path)}: is nested more than {MOST_DEEP} deep, which no sidecar is; correct it")
    return found


def read_bytes(path: str) -> bytes:
    """Return what is in a small file.

    Raises:
        InputMissingError: there is no such file, or it cannot be read.
        DataError: it is not a file, or not small.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise DataError(f"{visible(path)}: is not a file")
        if os.path.getsize(path) > MOST_BYTES:
            raise DataError(f"{visible(path)}: is longer than {MOST_BYTES} bytes, which no such file is; get it again")
        return Path(path).read_bytes()
    except OSError as error:
        raise InputMissingError(f"{visible(path)}: cannot be read: {error.strerror}") from None


def _finite(digits: str) -> float | None:
    return value if math.isfinite(value := float(digits)) else None


def _is_deep(value: Any) -> bool:
    """Whether a value is nested deeper than can be written again."""
    level = [value]
    for _ in range(MOST_DEEP):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else _items(outer))]
    return bool(level)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_json(value: Mapping[str, Any]) -> str:
    """Return the text of a JSON file."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: str, text: str) -> None:
    """Write a small file in UTF-8, see `write_bytes`; what is no text is escaped as JSON escapes it."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str, content: bytes) -> None:
    """Write a small file in place of what is there, unless it is the same; its folder is made.

    Raises:
        OutputError: it cannot be created.
        StreamError: writing broke off.
    """
    if _holds(path, content):
        return
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    except OSError as error:
        raise OutputError(f"output {visible(path)}: its folder cannot be made: {error.strerror}") from None
    write_whole(path, content, overwrite=True)


def _holds(path: str, content: bytes) -> bool:
    try:
        return os.path.getsize(path) == len(content) and Path(path).read_bytes() == content
    except OSError:
        return False
