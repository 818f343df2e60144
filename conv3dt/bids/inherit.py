"""What is said of an image in the files beside and above it?  Metadata, gradients, labels of volumes.

The inheritance principle (BIDS specification, Common principles): a file applies to the images at its level and below
whose suffix is its own and whose entities include all of its own.  What stands nearer to the image wins.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conv3dt.bids.dataset import Dataset, Image
from conv3dt.bids.names import DERIVED, Name, parse_name
from conv3dt.bids.small_files import read_object

COMPANIONS = {
    "dwi": ((".bval", None), (".bvec", None)),
    "epi": ((".bval", None), (".bvec", None)),
    "asl": ((".tsv", "aslcontext"),),
}
"""What an image of a suffix is of no use without: extensions, and suffixes where they differ from the image's."""


@dataclass(frozen=True, slots=True)
class Companion:
    """A file to be copied as it is: where it is, and its path from the root of the derivative, with ``/``."""

    source: str
    target: str


def metadata(dataset: Dataset, image: Image) -> dict[str, Any]:
    """Return what sidecars say of an image, the nearest one last; what is null says nothing.

    Raises:
        InputMissingError: a sidecar cannot be read.
        DataError: one is not a JSON object.
    """
    found: dict[str, Any] = {}
    for path in _applicable(dataset, image, ".json", image.name.suffix):
        found |= read_object(os.path.join(dataset.root, path))
    return {key: value for key, value in found.items() if value is not None}


def companions(dataset: Dataset, image: Image, output: Name) -> tuple[Companion, ...]:
    """Return what must be copied for an image: gradients of diffusion (which scaling does not turn), labels of volumes.

    A name that raw datasets may have is kept, and applies to the upsampled image by inheritance; BIDS has no other for
    such files yet.  One that only derivatives have is replaced by that of the output.

    Args:
        dataset: of the image.
        image: what is upsampled.
        output: the name that it gets.
    """
    found = []
    for extension, suffix in COMPANIONS.get(image.name.suffix, ()):
        paths = list(_applicable(dataset, image, extension, suffix or image.name.suffix))
        if not paths:
            continue
        name = parse_name(paths[-1].rpartition("/")[2])
        if name is not None and any(name.get(key) for key in DERIVED):
            renamed = Name(output.entities, name.suffix, extension)
            target = f"{image.folder}/{renamed}"
        else:
            target = paths[-1]
        found.append(Companion(os.path.join(dataset.root, paths[-1]), target))
    return tuple(found)


def _applicable(dataset: Dataset, image: Image, extension: str, suffix: str) -> Iterator[str]:
    """The paths of the files that apply, the nearest and most special last."""
    said = set(image.name.entities)
    parts = image.folder.split("/")
    for depth in range(len(parts) + 1):
        folder = "/".join(parts[:depth])
        names = [(name, file) for file in dataset.beside.get(folder, ()) if (name := parse_name(file)) is not None]
        fitting = [
            (len(name.entities), file)
            for name, file in names
            if (name.suffix, name.extension) == (suffix, extension) and said.issuperset(name.entities)
        ]
        yield from (f"{folder}/{file}" if folder else file for _, file in sorted(fitting))
