"""Which volumes does a batch read, and what will each output be called?  Names only; no file but a list is read.

A file goes straight into the output folder; what is found in a folder, or by a pattern, keeps its path below it.
Outputs keep the names of their inputs.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from conv3dt import paths
from conv3dt.errors import ArgumentError, InputMissingError
from conv3dt.visible import visible

FORMATS = {"nii": ".nii", "nii.gz": ".nii.gz", "h5": ".h5"}
"""What an output can be written as, and the ending of its name."""

VOLUMES = (*paths.NIFTI_SUFFIXES, *paths.HDF5_SUFFIXES)
CIFTI = re.compile(r"\.(dconn|dtseries|dscalar|dlabel|dpconn|pconn|pdconn|ptseries|pscalar|plabel)\.nii$", re.I)
"""Endings of files that are NIfTI by name and matrices of surface points by content."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Scan:
    """One input of a batch, and its output.

    Attributes:
        input: a file, or a dataset as ``file.h5:/dataset``.
        output: the file to be; its folder may not be there yet.
        name: what reports call it: the path below what was given, with ``/``; always one printable line.
        entities: of a BIDS name, as (key, value) in its order; empty for any other.
    """

    input: str
    output: str
    name: str
    entities: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """An input, its path below what was given, and the output's name where a list gives one."""

    input: str
    below: str
    target: str | None = None


def scans_of(
    inputs: Sequence[str], *, out_dir: str, listed: str | None = None, out_format: str | None = None, label: str = ""
) -> tuple[Scan, ...]:
    """Return the scans of a batch, in the order of their names.

    Args:
        inputs: files, ``file.h5:/dataset``, folders (searched to the bottom) and patterns (``*``, ``?``, ``[a-z]``, and
            ``**`` for any folders).  Hidden files, CIFTI, and the output folder itself are left out of a search.
        out_dir: where outputs go; it need not be there.
        listed: a file that names one input a line, ``-`` for stdin; blank lines and those that begin with ``#`` are
            left out.  What follows a tab is the output's name, below ``out_dir``.  A file that is not there is a scan
            like any other, which will fail when it is read.
        out_format: ``nii``, ``nii.gz`` or ``h5``; by default that of the input.  A name in a list that has such an
            ending keeps it.
        label: goes between an output's name and its ending; names in a list stay as they are.

    Raises:
        ArgumentError: two outputs would get one name, or an input would be written over.
        InputMissingError: there is nothing of that name, or no volume in it, or it cannot be read.
    """
    if out_format is not None and out_format not in FORMATS:
        raise ArgumentError(f"out_format must be one of {', '.join(FORMATS)}, got {out_format!r}")
    check_name("out_dir", out_dir)
    if not label.isprintable() or "/" in label or os.sep in label:
        raise ArgumentError(f"label must be part of a file name, got {label!r}")
    found = [one for text in inputs for one in _given(text, out_dir)]
    if listed is not None:
        found += _listed(listed, out_dir)
    ending = None if out_format is None else FORMATS[out_format]
    scans = [Scan(one.input, os.path.join(out_dir, _target(one, ending, label)), visible(one.below)) for one in found]
    return check_outputs(sorted(_once(scans), key=lambda scan: (scan.name, scan.output)))


def _once(scans: Iterable[Scan]) -> Iterable[Scan]:
    """The scans without those that are there already under another spelling of their paths."""
    real = _Real()
    first: dict[tuple[str, str | None, str], Scan] = {}
    for scan in scans:
        file, dataset = paths.split(scan.input)
        first.setdefault((real.path(file), dataset, real.path(scan.output)), scan)
    return first.values()


class _Real(dict[str, str]):
    """The real paths of folders, each looked up once."""

    def __missing__(self, folder: str) -> str:
        return self.setdefault(folder, os.path.realpath(folder))

    def path(self, file: str) -> str:
        """Return the real path of a file."""
        folder, name = os.path.split(file)
        return os.path.realpath(file) if os.path.islink(file) else os.path.join(self[folder], name)


def check_outputs(scans: Sequence[Scan]) -> tuple[Scan, ...]:
    """Return the scans, if each can have its output for itself.

    Raises:
        ArgumentError: two outputs would get one name (or one sidecar), or an input would be written over.
    """
    real = _Real()
    inputs = {real.path(paths.split(scan.input)[0]): scan for scan in scans}
    taken: dict[str, Scan] = {}
    for scan in scans:
        target = real.path(paths.split(scan.output)[0])
        if target in inputs:
            raise ArgumentError(
                f"input {visible(inputs[target].input)}: would be written over by the output of {visible(scan.input)}; "
                "choose another --out-dir or name"
            )
        other = taken.setdefault(_stem(target), scan)
        if other is not scan:
            raise ArgumentError(
                f"inputs {visible(other.input)} and {visible(scan.input)} would both become {visible(scan.output)}; "
                "give one of them, or name the outputs in a --list"
            )
    return tuple(scans)


def check_name(what: str, path: str) -> None:
    """Refuse what no file system can hold.

    Raises:
        ArgumentError: the path is empty or has a NUL in it.
    """
    if not path or "\0" in path:
        raise ArgumentError(f"{what} must be the name of a folder, got '{visible(path)}'")


def parse_shard(text: str) -> tuple[int, int]:
    """Return the number of a shard, from 1, and how many there are.

    >>> parse_shard("2/8")
    (2, 8)
    """
    parts = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    index, count = (int(parts[1]), int(parts[2])) if parts else (0, 0)
    if not 1 <= index <= count:
        raise ArgumentError(f"shard must be i/n with 1 <= i <= n, such as 2/8, got {text!r}")
    return index, count


def shard(items: Sequence[Item], index: int, count: int) -> tuple[Item, ...]:
    """Return the share of one of ``count`` runs: every ``count``-th item, so that shares differ by one at most.

    >>> shard("abcdefg", 1, 3), shard("abcdefg", 3, 3)
    (('a', 'd', 'g'), ('c', 'f'))
    """
    return tuple(items[index - 1 :: count])


def entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder and not hidden, by name.

    Raises:
        InputMissingError: it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise InputMissingError(
            f"input folder {visible(folder)}: cannot be read: {error.strerror}; permit it, or leave the folder out"
        ) from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    with suppress(OSError):  # a link that leads back to itself
        return entry.is_dir()
    return False


# What an argument names.


def _given(text: str, out_dir: str) -> list[_Found]:
    file, dataset = paths.split(text)
    if not file or "\0" in file:
        raise InputMissingError(f"input '{visible(text)}': is not the name of a file")
    if os.path.isdir(file):
        found = [_Found(os.path.join(file, below), _posix(below)) for below in _volumes(file, out_dir)]
        if not found:
            raise InputMissingError(f"input {visible(text)}: the folder has no {_LISTED} in it")
    elif os.path.lexists(file):
        found = [_Found(file, os.path.basename(file))]
    elif glob.has_magic(file):
        found = _matching(file, out_dir)
        if not found:
            raise InputMissingError(f"input {visible(text)}: matches no {_LISTED}")
    else:
        raise InputMissingError(f"input {visible(text)}: no such file or folder")
    return [_Found(f"{one.input}:{dataset}", f"{one.below}:{dataset}") for one in found] if dataset else found


_LISTED = ".nii, .nii.gz or HDF5 file"


def _is_volume(name: str) -> bool:
    return name.lower().endswith(VOLUMES) and not CIFTI.search(name)


def _volumes(folder: str, out_dir: str) -> list[str]:
    """The paths of the volumes below a folder, from that folder."""
    home = os.path.realpath(folder)
    if os.path.realpath(out_dir) == home:
        raise ArgumentError(
            f"out_dir {visible(out_dir)}: is the input folder itself, and its outputs would be inputs of the next run; "
            "choose another, which may lie inside it"
        )
    return sorted(path for path in _below(folder, out_dir) if _is_volume(path))


def _below(folder: str, out_dir: str) -> Iterator[str]:
    """Paths of the files below a folder; each real folder once, those reached by links last."""
    home = os.path.realpath(folder)
    seen = {os.path.realpath(out_dir), *map(str, Path(home).parents)} - {home}
    waiting, links = [""], list[str]()
    while waiting or links:
        below = waiting.pop() if waiting else links.pop(0)
        here = os.path.join(folder, below) if below else folder
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        for entry in entries(here):
            path = os.path.join(below, entry.name)
            if not is_folder(entry):
                yield path
            elif entry.is_symlink():
                links.append(path)
            else:
                waiting.append(path)


def _posix(path: str) -> str:
    return path.replace(os.sep, "/")


# Patterns.


def _matching(pattern: str, out_dir: str) -> list[_Found]:
    """What a pattern matches; paths below are counted from the last folder that it names without a wildcard."""
    parts = Path(pattern).parts
    fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    if ".." in parts[fixed:]:
        raise ArgumentError(f"input {visible(pattern)}: must not go up (..) behind a wildcard")
    root = os.path.join("", *parts[:fixed])
    hits = [""]
    for n, part in enumerate(parts[fixed:], fixed + 1):
        hits = sorted({path for hit in hits for path in _step(root, hit, part, out_dir, last=n == len(parts))})
    below = set()
    for hit in hits:
        path = os.path.join(root, hit)
        if _inside(path, out_dir):
            continue
        if os.path.isdir(path):
            below |= {os.path.join(hit, inner) for inner in _volumes(path, out_dir)}
        elif _is_volume(hit):
            below.add(hit)
    return [_Found(os.path.join(root, path), _posix(path)) for path in sorted(below)]


def _inside(path: str, folder: str) -> bool:
    """Whether a path is a folder, or lies in it."""
    return f"{os.path.realpath(path)}{os.sep}".startswith(f"{os.path.realpath(folder)}{os.sep}")


def _step(root: str, hit: str, part: str, out_dir: str, *, last: bool) -> Iterable[str]:
    """What one part of a pattern makes of a path below its root."""
    folder = (os.path.join(root, hit) if hit else root) or "."
    if part == "**":
        return _deep(folder, hit, out_dir, files=last)
    if not glob.has_magic(part):
        return [os.path.join(hit, part)] if os.path.lexists(os.path.join(folder, part)) else []
    if not os.path.isdir(folder):
        return []
    names = [entry.name for entry in entries(folder) if last or is_folder(entry)]
    return [os.path.join(hit, name) for name in names if fnmatchcase(name, part)]


def _deep(folder: str, hit: str, out_dir: str, *, files: bool) -> Iterable[str]:
    """What ``**`` makes of a path: it and all folders below it, or all files if nothing follows."""
    found = list(_below(folder, out_dir)) if os.path.isdir(folder) else []
    if files:
        return [os.path.join(hit, path) for path in found]
    folders = {str(parent) for path in found for parent in Path(path).parents}
    return [hit, *(os.path.join(hit, path) for path in folders if path != ".")]


# Lists.


def _listed(path: str, out_dir: str) -> list[_Found]:
    found = []
    for number, line in _lines(path):
        name, _, target = (part.strip() for part in line.partition("\t"))
        where = f"list {visible(path)} line {number}"
        if "\0" in line:
            raise InputMissingError(f"{where}: holds a NUL; it must be a text file with one path a line")
        file, dataset = paths.split(name)
        if target:
            if os.path.isdir(file) or (glob.has_magic(file) and not os.path.lexists(file)):
                raise ArgumentError(f"{where}: an output's name goes with one file, got {visible(name)}")
            found.append(_Found(name, _posix(target), _checked(target, where)))
        elif os.path.lexists(file) or glob.has_magic(file):
            found += _given(name, out_dir)
        else:
            found.append(_Found(name, os.path.basename(file) + (f":{dataset}" if dataset else "")))
    if not found:
        raise InputMissingError(f"list {visible(path)}: names no input; it must have one path a line")
    return found


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers from 1."""
    try:
        if path == "-" and sys.stdin is None:
            raise OSError(0, "stdin is closed")
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputMissingError(f"list {visible(path)}: cannot be read: {reason}") from None
    for number, line in enumerate(os.fsdecode(content.removeprefix(b"\xef\xbb\xbf")).split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _checked(target: str, where: str) -> str:
    """An output's name from a list, if it lies below the output folder."""
    path = os.path.normpath(target)
    if os.path.isabs(path) or path.split(os.sep)[0] in ("..", ".") or target.endswith(("/", os.sep)):
        raise ArgumentError(f"{where}: the output's name must be a file below --out-dir, got {visible(target)}")
    return path


# Outputs.


def _target(found: _Found, ending: str | None, label: str) -> str:
    """The path of an output below the output folder."""
    if found.target is not None:
        if paths.split(found.target)[0].lower().endswith(VOLUMES):
            return found.target
        return found.target + (ending or _ending(found.input))
    file, dataset = paths.split(found.below)
    inside = "" if dataset is None else dataset.rstrip("/").replace("/", "_")
    return _stem(file) + inside + label + (ending or _ending(found.input))


def _ending(path: str) -> str:
    """The ending of an input's name, that of NIfTI if it says nothing."""
    file = paths.split(path)[0]
    return file[len(_stem(file)) :] or ".nii.gz"


def _stem(file: str) -> str:
    """A path without the ending that says its format.

    >>> _stem("a.b/scan.v2.nii.gz"), _stem("a.b/scan"), _stem("STACK.H5")
    ('a.b/scan.v2', 'a.b/scan', 'STACK')
    """
    known = [ending for ending in VOLUMES if file.lower().endswith(ending)]
    return file[: -max(map(len, known))] if known else file
