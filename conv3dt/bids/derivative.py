"""How does a folder become a BIDS derivative?  What makes it one is written first, and never into another dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from conv3dt.bids.dataset import DESCRIPTION, Dataset
from conv3dt.bids.description import dataset_description, link_name, readme
from conv3dt.bids.inherit import Companion
from conv3dt.bids.small_files import as_json, read_bytes, read_object, write_bytes, write_text
from conv3dt.errors import Conv3dtError, OutputError
from conv3dt.visible import visible

ELSEWHERE = "choose another --out-dir, such as derivatives/conv3dt in the dataset"


def check_out_dir(dataset: Dataset, out_dir: str) -> None:
    """Refuse a folder that cannot become, or go on as, the derivative of a dataset; nothing is written.

    Raises:
        OutputError: it is a file, or another dataset, or it was made from another one.
    """
    where = f"out_dir {visible(out_dir)}"
    if "\0" in out_dir or (os.path.lexists(out_dir) and not os.path.isdir(out_dir)):
        raise OutputError(f"{where}: is not a folder; {ELSEWHERE}")
    path = os.path.join(out_dir, DESCRIPTION)
    if not os.path.lexists(path):
        if any(name.startswith("sub-") for name in _names(out_dir)):
            raise OutputError(f"{where}: has subjects in it but no {DESCRIPTION}, so it is not conv3dt's; {ELSEWHERE}")
        return
    try:
        there = read_object(path)
    except Conv3dtError as error:
        raise OutputError(f"{where}: {error}, or {ELSEWHERE}") from None
    if _maker(there) != "conv3dt":
        raise OutputError(f"{where}: is another dataset, {_told(there)}; {ELSEWHERE}")
    links = there.get("DatasetLinks")
    link = links.get(link_name(dataset)) if isinstance(links, Mapping) else None
    if not isinstance(link, str) or not _same(os.path.join(out_dir, unquote(link, errors="surrogateescape")), dataset):
        raise OutputError(f"{where}: was made from another dataset, {visible(str(link))}; {ELSEWHERE}")


def prepare(dataset: Dataset, out_dir: str, *, version: str, ignored: Sequence[str] = ()) -> None:
    """Make a folder the derivative of a dataset: its description, a README if it has none, ``.bidsignore``.

    Runs that share the folder write the same, so they may do so at once.

    Args:
        dataset: what is upsampled.
        out_dir: need not be there.
        version: of conv3dt.
        ignored: lines for ``.bidsignore``, which names what BIDS does not know; ``logs/`` needs none.

    Raises:
        OutputError: see `check_out_dir`; or a file cannot be created.
        StreamError: writing broke off.
    """
    check_out_dir(dataset, out_dir)
    write_text(os.path.join(out_dir, DESCRIPTION), as_json(dataset_description(dataset, out_dir, version=version)))
    if not any(name.startswith("README") for name in _names(out_dir)):
        write_text(os.path.join(out_dir, "README.md"), readme(dataset))
    _ignore(os.path.join(out_dir, ".bidsignore"), ignored)


def copy_companions(companions: Iterable[Companion], out_dir: str) -> tuple[str, ...]:
    """Copy what an image is of no use without; return the paths of the copies.

    Raises:
        InputMissingError: one cannot be read.
        OutputError, StreamError: one cannot be written.
    """
    copies = []
    for companion in companions:
        copies.append(os.path.join(out_dir, *companion.target.split("/")))
        write_bytes(copies[-1], read_bytes(companion.source))
    return tuple(copies)


def _names(folder: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _same(folder: str, dataset: Dataset) -> bool:
    return os.path.realpath(folder) == os.path.realpath(dataset.root)


def _maker(description: Mapping[str, Any]) -> str | None:
    """The name of what made a derivative, None for other datasets."""
    if description.get("DatasetType") != "derivative":
        return None
    with suppress(KeyError, IndexError, TypeError):
        return str(description["GeneratedBy"][0]["Name"])
    return None


def _told(description: Mapping[str, Any]) -> str:
    """A dataset in words."""
    maker = _maker(description)
    kind = f"made by {maker}" if maker else "a derivative" if description.get("DatasetType") == "derivative" else "raw"
    return visible(f"{kind}, named {description.get('Name')}")


def _ignore(path: str, lines: Sequence[str]) -> None:
    """Add lines to those that a ``.bidsignore`` has."""
    there: list[str] = []
    with suppress(FileNotFoundError):
        there = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    new = [line for line in lines if line not in there]
    if new:
        write_bytes(path, "".join(f"{line}\n" for line in [*there, *new]).encode("utf-8", "surrogateescape"))
