"""Which images are in a BIDS dataset?  Names and the dataset's description only; no image and no sidecar is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conv3dt.bids.names import Name, parse_name
from conv3dt.bids.small_files import read_object
from conv3dt.discover import entries, is_folder
from conv3dt.errors import DataError, InputMissingError
from conv3dt.visible import visible

DESCRIPTION = "dataset_description.json"
IMAGES = (".nii", ".nii.gz")
BESIDE = (".json", ".bval", ".bvec", ".tsv")
"""Extensions of what is said of images, beside them or above."""

_DATATYPE = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Image:
    """An image: its path from the root, with ``/``, its folder's datatype, and its name's parts."""

    path: str
    datatype: str
    name: Name

    @property
    def folder(self) -> str:
        """The path of its folder from the root."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What there is in a dataset.

    Attributes:
        root: its folder.
        description: its ``dataset_description.json``.
        images: all NIfTI images of subjects, by path.
        misnamed: paths of NIfTI files whose names are not BIDS, or belong to another folder; nothing is done with them.
        beside: names of sidecars, gradient tables and the like, by the path of their folder.
    """

    root: str
    description: Mapping[str, Any]
    images: tuple[Image, ...]
    misnamed: tuple[str, ...]
    beside: Mapping[str, tuple[str, ...]]

    @property
    def is_derivative(self) -> bool:
        """Whether it says that it was made from another dataset."""
        return self.description.get("DatasetType") == "derivative"


def image_at(path: str) -> Image:
    """Return the image at a path from the root, such as the ``name`` of a scan."""
    folder, _, file = path.rpartition("/")
    name = parse_name(file)
    assert name is not None
    return Image(path, _datatype(folder), name)


def read_dataset(root: str) -> Dataset:
    """Return what there is in ``sub-*/[ses-*/]<datatype>/``, but for what ``.bidsignore`` names.

    Links to folders and files are followed, dangling ones to files too: those images fail when they are read.

    Raises:
        InputMissingError: there is no such folder, or a part of it cannot be read, or it has no subjects.
        DataError: it is no BIDS dataset.
    """
    description = _description(root)
    ignored = _ignored(root)
    images, misnamed = list[Image](), list[str]()
    beside = {"": _said("", _files(root, ""))}
    subjects = [name for name in _folders(root, "") if name.startswith("sub-")]
    for folder in (folder for subject in subjects for folder in _with_sessions(root, subject)):
        files = _files(root, folder)
        beside[folder] = _said(folder, files)
        datatype = _datatype(folder)
        if not datatype:
            continue
        for file in (file for file in files if file.endswith(IMAGES) and not ignored(f"{folder}/{file}")):
            name = parse_name(file)
            if name is None or name.extension not in IMAGES or not _at_home(name, folder):
                misnamed.append(f"{folder}/{file}")
            else:
                images.append(Image(f"{folder}/{file}", datatype, name))
    if not subjects:
        raise InputMissingError(f"bids {visible(root)}: has no subject in it (a folder sub-<label>)")
    ordered = sorted(images, key=lambda image: image.path)
    return Dataset(root, description, tuple(ordered), tuple(sorted(misnamed)), beside)


def _description(root: str) -> dict[str, Any]:
    if "\0" in root or not os.path.isdir(root):
        raise InputMissingError(f"bids {visible(root)}: no such folder")
    path = os.path.join(root, DESCRIPTION)
    if not os.path.exists(path):
        raise DataError(
            f"bids {visible(root)}: {DESCRIPTION} is missing, so it is not the root of a BIDS dataset; give the folder "
            "that has it, or leave out --bids"
        )
    return read_object(path)


def _with_sessions(root: str, subject: str) -> Iterator[str]:
    """The folders of a subject down to those of datatypes, itself included."""
    yield subject
    for name in _folders(root, subject):
        yield f"{subject}/{name}"
        if name.startswith("ses-"):
            yield from (f"{subject}/{name}/{inner}" for inner in _folders(root, f"{subject}/{name}"))


def _datatype(folder: str) -> str:
    """The datatype whose folder it is, empty if it is that of a subject or a session."""
    last = folder.rpartition("/")[2]
    return last if _DATATYPE.fullmatch(last) else ""


def _at_home(name: Name, folder: str) -> bool:
    """Whether a name has the subject and the session of its folders."""
    said = [f"{key}-{value}" for key in ("sub", "ses") if (value := name.get(key)) is not None]
    return said == folder.split("/")[:-1]


def _said(folder: str, files: list[str]) -> tuple[str, ...]:
    return tuple(file for file in files if file.endswith(BESIDE))


def _files(root: str, folder: str) -> list[str]:
    return [entry.name for entry in entries(os.path.join(root, folder)) if not is_folder(entry)]


def _folders(root: str, folder: str) -> list[str]:
    return [entry.name for entry in entries(os.path.join(root, folder)) if is_folder(entry)]


def _ignored(root: str) -> Callable[[str], bool]:
    """What says whether ``.bidsignore`` names a path; its rules are those of .gitignore."""
    try:
        with open(os.path.join(root, ".bidsignore"), encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return lambda path: False
    except OSError as error:
        raise InputMissingError(f"bids {visible(root)}: .bidsignore cannot be read: {error.strerror}") from None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines).match_file
    except ValueError as error:
        raise DataError(f"bids {visible(root)}: .bidsignore: {visible(str(error))}; correct it") from None
