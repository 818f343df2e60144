"""What does a path name: a file, or a dataset inside one?  Strings only."""

from __future__ import annotations

import re
from pathlib import Path

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5", ".nxs", ".ims")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
_INSIDE = re.compile(rf"^(?P<file>.+?(?:{'|'.join(re.escape(s) for s in HDF5_SUFFIXES)})):(?P<dataset>/.*)$", re.I)


def split(path: str) -> tuple[str, str | None]:
    """Return the file and the dataset of ``file.h5:/dataset``; None where no dataset is named.

    The cut is the first ``:/`` behind a known suffix, so drive letters and URLs stay whole.

    >>> split("C:/scans/a.h5:/raw/t1"), split("a.nii.gz")
    (('C:/scans/a.h5', '/raw/t1'), ('a.nii.gz', None))
    """
    found = _INSIDE.match(path)
    return (found["file"], found["dataset"]) if found else (path, None)


def is_hdf5(path: str) -> bool:
    """Whether the name says HDF5."""
    return split(path)[0].lower().endswith(HDF5_SUFFIXES)


def is_nifti(path: str) -> bool:
    """Whether the name says NIfTI."""
    return path.lower().endswith(NIFTI_SUFFIXES)


def is_gzip(path: str) -> bool:
    """Whether the file, if there is one, begins like gzip."""
    try:
        with Path(path).open("rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError:
        return path.lower().endswith(".gz")
