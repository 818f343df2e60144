"""What says of an output where it came from, so that it can be proved?  A record in the sidecar beside it.

The sidecar of ``up.nii.gz`` is ``up.json``, as BIDS has it, and the record stands in it under one key.  A sidecar gets
its name before its output does: an output that is there has a record, and a record without its output, or with
another one, proves nothing and is replaced.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from conv3dt import paths
from conv3dt.errors import DataError, InputMissingError, OutputError
from conv3dt.pending import check_target, write_whole
from conv3dt.request import LayerRequest
from conv3dt.settings import Settings

KEY = "Conv3dt"
MOST_BYTES = 2**24
"""No sidecar is longer."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file: its path, from the sidecar's folder, its length and its SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """Where an output came from.

    Attributes:
        version: of conv3dt; job: the hash of all that decides the output but the input's voxels (`digest.job_hash`).
        options: of the layer and of the run, as they were given; paths among them from the sidecar's folder.
        input, output: the files.
    """

    version: str
    job: str
    options: dict[str, Any]
    input: FileFacts
    output: FileFacts


def sidecar_path(output: str) -> str:
    """Return the path of an output's sidecar.

    >>> sidecar_path("a/up.nii.gz"), sidecar_path("up.h5"), sidecar_path("up.h5:/raw/t1")
    ('a/up.json', 'up.json', 'up_raw_t1.json')
    """
    file, dataset = paths.split(output)
    stem = re.sub(r"(\.nii)?\.gz$|\.[^./\\]+$", "", file, flags=re.I)
    inside = "" if dataset in (None, "/", "/data") else str(dataset).replace("/", "_")
    return f"{stem}{inside}.json"


def read_sidecar(path: str) -> dict[str, Any] | None:
    """Return what a sidecar says, None if there is none.

    Raises:
        DataError: it is not a JSON object.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # one may wait for ever for a pipe
        raise DataError(f"sidecar {path}: is not a regular file; move it away")
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise DataError(f"sidecar {path}: is longer than any sidecar; move it away")
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"sidecar {path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f"sidecar {path}: is not a JSON object; move it away")
    return found


def record_of(path: str) -> Record | None:
    """Return the record in a sidecar; None if there is no sidecar, or no record in it that could be one of ours."""
    found = (read_sidecar(path) or {}).get(KEY)
    if not isinstance(found, dict):
        return None
    try:
        files = {name: FileFacts(**found[name]) for name in ("input", "output")}
        whole = Record(**(found | files))
    except (TypeError, KeyError):
        return None
    sound = isinstance(whole.options, dict) and _is_word(whole.version) and _is_word(whole.job)
    return whole if sound and all(map(_is_file, files.values())) else None


def _is_file(facts: FileFacts) -> bool:
    return isinstance(facts.bytes, int) and _is_word(facts.sha256) and _is_path(facts.path)


def _is_word(value: object) -> bool:
    """Whether it can be shown."""
    return isinstance(value, str) and value.isprintable()


def _is_path(value: object) -> bool:
    """Whether a file system could have it."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def check_sidecar(path: str, output: str, *, overwrite: bool, spared: Collection[str] = ()) -> None:
    """Refuse a sidecar that cannot be written, or whose place is taken.

    Args:
        path: where; output: whose it will be.
        overwrite: whether one that is not conv3dt's may be replaced.
        spared: paths that may not be replaced in any case, unless by a record for a record.

    Raises:
        OutputError: says why.
    """
    check_target(path, overwrite=True)
    if not os.path.lexists(path):
        return
    needed = os.path.realpath(path) in {os.path.realpath(each) for each in spared}
    try:
        ours = KEY in (read_sidecar(path) or {})
    except DataError as error:
        if overwrite and not needed:
            return
        raise OutputError(str(error)) from None
    if needed and not ours:
        raise OutputError(f"sidecar {path}: is there already and belongs to an input; choose another output")
    if not (ours or overwrite):
        raise OutputError(f"sidecar {path}: is there already and not conv3dt's; say --overwrite or choose another name")
    other = _other(path, output)
    if other is not None:
        raise OutputError(f"sidecar {path}: is the record of {other}, which is there; choose another name")


def _other(sidecar: str, output: str) -> str | None:
    """The output that a sidecar tells of, if that is another one and there."""
    record = record_of(sidecar)
    if record is None:
        return None
    told = to_folder_of(sidecar, record.output.path)
    here, there = (os.path.realpath(paths.split(each)[0]) for each in (output, told))
    return told if there != here and os.path.exists(there) else None


def write_sidecar(path: str, content: Mapping[str, Any], record: Record) -> None:
    """Write a sidecar: what it is to say, and the record; what JSON has no number for becomes null.

    Its name is durable when that of its output is, which comes next.
    """
    told = _plain({**content, KEY: asdict(record)})
    text = json.dumps(told, indent=2, default=str, allow_nan=False) + "\n"
    write_whole(path, text.encode(), overwrite=True, durably=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_folder_of(sidecar: str, path: str) -> str:
    """Return a path as seen from a sidecar's folder, with forward slashes."""
    file, inside = paths.split_weights(path)
    seen = os.path.relpath(os.path.realpath(file), os.path.realpath(os.path.dirname(sidecar) or "."))
    return Path(seen).as_posix() + (f":{inside}" if inside else "")


def to_folder_of(sidecar: str, path: str) -> str:
    """Return a path of a record as seen from here."""
    file, inside = paths.split_weights(path)
    return os.path.normpath(os.path.join(os.path.dirname(sidecar), file)) + (f":{inside}" if inside else "")


def facts_of(sidecar: str, path: str, sha256: str) -> FileFacts:
    """Return what a record says of a file whose hash is known."""
    file = paths.split(path)[0]
    try:
        return FileFacts(from_folder_of(sidecar, path), os.path.getsize(file), sha256)
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read: {error.strerror}") from None


DEFAULTS = {each.name: each.default for kind in (Settings, LayerRequest) for each in fields(kind)}
PATHS = ("weights", "layer", "like")
"""Options that may be paths."""


def recorded(options: Mapping[str, Any], sidecar: str) -> dict[str, Any]:
    """Return options as a record keeps them: no defaults, paths from its folder, what is no plain value as its type."""
    kept: dict[str, Any] = {}
    for name, value in options.items():
        if name in DEFAULTS and _same(value, DEFAULTS[name]):
            continue
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if name in PATHS and isinstance(value, str):
            value = from_folder_of(sidecar, value)
        try:
            kept[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            kept[name] = {"not recorded": type(value).__name__}
    return kept


def _same(value: Any, default: Any) -> bool:
    """Whether they are equal; an array has no one answer to that."""
    return type(value) is type(default) and bool(value == default)


def recalled(options: Mapping[str, Any], sidecar: str) -> dict[str, Any]:
    """Return recorded options as a run takes them.

    Raises:
        DataError: one of them could not be recorded.
    """
    found = {}
    for name, value in options.items():
        if isinstance(value, dict) and "not recorded" in value:
            raise DataError(f"sidecar {sidecar}: {name} was given in memory and is not recorded; it cannot be verified")
        if name in PATHS and isinstance(value, str):
            value = to_folder_of(sidecar, value)
        found[name] = tuple(value) if isinstance(value, list) else value
    return found
