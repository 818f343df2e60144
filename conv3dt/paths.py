"""What does a path name: a file, or a dataset inside one?  Strings only."""

from __future__ import annotations

import re
from functools import cache

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".nxs", ".ims")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
WEIGHTS_SUFFIXES = (*HDF5_SUFFIXES, ".keras", ".npz", ".safetensors", ".pt", ".pth", ".ckpt", ".onnx", ".json")


def split(path: str) -> tuple[str, str | None]:
    """Return the file and the dataset of a volume ``file.h5:/dataset``; None where no dataset is named.

    The cut is the first ``:/`` behind a known suffix, so drive letters and URLs stay whole.

    >>> split("C:/scans/a.h5:/raw/t1"), split("a.nii.gz")
    (('C:/scans/a.h5', '/raw/t1'), ('a.nii.gz', None))
    """
    return _cut(path, HDF5_SUFFIXES)


def split_weights(path: str) -> tuple[str, str | None]:
    """Return the file and what is named in it, of weights or a layer's configuration; more formats have names inside.

    >>> split_weights("net.keras:/up"), split_weights("net.pt:/decoder.up"), split_weights("k.npy")
    (('net.keras', '/up'), ('net.pt', '/decoder.up'), ('k.npy', None))
    """
    return _cut(path, WEIGHTS_SUFFIXES)


def _cut(path: str, suffixes: tuple[str, ...]) -> tuple[str, str | None]:
    found = _inside(suffixes).match(path)
    return (found["file"], found["inside"]) if found else (path, None)


@cache
def _inside(suffixes: tuple[str, ...]) -> re.Pattern[str]:
    known = "|".join(re.escape(suffix) for suffix in suffixes)
    return re.compile(rf"^(?P<file>.+?(?:{known})):(?P<inside>/.*)$", re.I | re.S)


def is_hdf5(path: str) -> bool:
    """Whether the name says HDF5."""
    return split(path)[0].lower().endswith(HDF5_SUFFIXES)


def is_nifti(path: str) -> bool:
    """Whether the name says NIfTI."""
    return path.lower().endswith(NIFTI_SUFFIXES)


def is_gzip(path: str) -> bool:
    """Whether the file, if there is one, begins like gzip."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError:
        return path.lower().endswith(".gz")
