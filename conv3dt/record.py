"""What says of an output where it came from, so that it can be proved?  A record in the sidecar beside it.

The sidecar of ``up.nii.gz`` is ``up.json``, as BIDS has it, and the record stands in it under one key.  A sidecar gets
its name before its output does: an output that is there has a record, and a record without its output, or with
another one, proves nothing and is replaced.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from conv3dt import paths
from conv3dt.errors import DataError, InputMissingError, OutputError
from conv3dt.pending import write_whole
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
    """Return the record in a sidecar; None if there is no sidecar, or no record in it."""
    found = (read_sidecar(path) or {}).get(KEY)
    if not isinstance(found, dict):
        return None
    try:
        files = {name: FileFacts(**found[name]) for name in ("input", "output")}
        whole = Record(**(found | files))
    except (TypeError, KeyError):
        return None
    return whole if isinstance(whole.options, dict) and isinstance(whole.input.path, str) else None


def check_sidecar(path: str, *, overwrite: bool) -> None:
    """Refuse to write a sidecar over a file that is not one of ours.

    Raises:
        OutputError: says why.
    """
    if overwrite or not os.path.lexists(path):
        return
    try:
        ours = KEY in (read_sidecar(path) or {})
    except DataError as error:
        raise OutputError(str(error)) from None
    if not ours:
        raise OutputError(f"sidecar {path}: is there already and not conv3dt's; say --overwrite or choose another name")


def write_sidecar(path: str, content: Mapping[str, Any], record: Record) -> None:
    """Write a sidecar: what it is to say, and the record."""
    text = json.dumps({**content, KEY: asdict(record)}, indent=2, default=str, allow_nan=False) + "\n"
    write_whole(path, text.encode(), overwrite=True)


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
        if name in DEFAULTS and value == DEFAULTS[name]:
            continue
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if name in PATHS and isinstance(value, str):
            value = from_folder_of(sidecar, value)
        try:
            kept[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            kept[name] = {"not recorded": type(value).__name__}
    return kept


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
