"""What does a derivative say of itself?  Its description and its README, as values; nothing is written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from conv3dt.bids.dataset import Dataset

BIDS_VERSION = "1.10.0"
"""The oldest version that a derivative claims; the source may ask for a newer one."""

INHERITED = (
    "License",
    "Authors",
    "Acknowledgements",
    "HowToAcknowledge",
    "Funding",
    "EthicsApprovals",
    "ReferencesAndLinks",
)
"""What a dataset says that is as true of what was made from it."""


def link_name(dataset: Dataset) -> str:
    """Return what a derivative calls its source dataset, the ``name`` in ``bids:<name>:<path>``."""
    return "source" if dataset.is_derivative else "raw"


def uri(dataset: Dataset, path: str) -> str:
    """Return the BIDS URI of a file of the source dataset; ``path`` from its root, with ``/``."""
    return f"bids:{link_name(dataset)}:{quote(path, errors='surrogateescape')}"


def dataset_description(dataset: Dataset, out_dir: str, *, version: str) -> dict[str, Any]:
    """Return the ``dataset_description.json`` of the derivative; the same for every run that makes it.

    Args:
        dataset: what it is made from.
        out_dir: its root; the way from there to the dataset is told, so that both can be moved together.
        version: of conv3dt.
    """
    source = dataset.description
    name = str(source.get("Name") or os.path.basename(os.path.realpath(dataset.root)))
    return {
        "Name": f"{name}: upsampled by conv3dt",
        "BIDSVersion": max(BIDS_VERSION, str(source.get("BIDSVersion", "")), key=_version),
        "DatasetType": "derivative",
        **{key: source[key] for key in INHERITED if source.get(key)},
        "GeneratedBy": [
            {
                "Name": "conv3dt",
                "Version": version,
                "Description": "Upsampling by transposed convolution, the Conv3DTranspose of Keras 2.9.",
            }
        ],
        "SourceDatasets": [_source_dataset(dataset, out_dir)],
        "DatasetLinks": _links(dataset, out_dir),
    }


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("."))) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){2}", text) else ()


def way(out_dir: str, folder: str) -> str:
    """Return the way from one folder to another as part of a URL."""
    seen = os.path.relpath(os.path.realpath(folder), os.path.realpath(out_dir))
    return quote(seen.replace(os.sep, "/"), errors="surrogateescape") + "/"


def _source_dataset(dataset: Dataset, out_dir: str) -> dict[str, Any]:
    told = {"URL": way(out_dir, dataset.root)}
    if doi := dataset.description.get("DatasetDOI"):
        told["DOI"] = str(doi)
    return told


def _links(dataset: Dataset, out_dir: str) -> dict[str, str]:
    """The dataset's own links, as seen from the derivative, and that to the dataset."""
    found = {}
    given = dataset.description.get("DatasetLinks")
    for name, target in given.items() if isinstance(given, Mapping) else ():
        if isinstance(target, str):
            is_path = ":" not in target.split("/")[0] and not target.startswith("/")
            found[name] = quote(os.path.normpath(way(out_dir, dataset.root) + target), "/%") if is_path else target
    return found | {link_name(dataset): way(out_dir, dataset.root)}


def readme(dataset: Dataset) -> str:
    """Return the README of a derivative."""
    return (
        "# Upsampled images\n\n"
        "Made by conv3dt from the images of another dataset, by transposed convolution; the way to that dataset stands "
        f"in dataset_description.json, under DatasetLinks as `{link_name(dataset)}`.\n\n"
        "* The label `res-` tells the strides: `up2` is twice as many voxels along each axis, `up2x2x1` twice as many "
        "along the first two.\n"
        "* The sidecar of an image tells its source, its voxels, what of its source's metadata is still true, and with "
        "which options it was made.\n"
        "* Gradients of diffusion (.bval, .bvec) are copies, under the names that they have in the source; they apply "
        "by inheritance.\n"
    )
