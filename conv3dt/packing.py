"""How small will a packed output be?  A rule of thumb, from how small the input is and what the layer does to noise."""

from __future__ import annotations

import os
from math import prod

from conv3dt import paths
from conv3dt.io.volume import VolumeInfo
from conv3dt.job import Job

UNKNOWN = {"i": 0.5, "u": 0.5, "f": 0.9, "b": 0.05}
"""The share of an input that is not packed: noise fills half of most integers, and nearly all of a float."""

LABELS = 0.05
"""The share of labels."""

MOST_FLOAT, MOST_INTEGER, MOST_ROUNDED = 0.93, 0.7, 0.5
"""Noise packs to no more, as floats, as integers, and as integers that were floats."""

FEW_TAPS = 8
"""What so few taps of a named kernel make of whole numbers has few digits."""

FEW_DIGITS, MANY_DIGITS, ROUNDED = 0.95, 1.75, 0.85
"""How the share changes where a float has few digits more than what it came from, where it has all, and in integers."""

SHUFFLED = 0.75
"""The same where HDF5 sorts the bytes of all numbers by their place in the number."""

CHEAP = ("linear", "relu")
"""Activations that leave digits as they are."""


def packed_share(job: Job) -> float:
    """Return the expected size of the packed output as a part of its unpacked size.

    Interpolation makes values in between, which hold as much noise for each as the input: its share stays about the
    same.  Within a factor of two for head scans with and without the air around them, fMRI, smooth maps and labels.
    """
    source, target = job.source, job.target
    share, most = _changed(job, _share(source))
    if source.compressed and _is_shuffled(target) != _is_shuffled(source):
        share *= SHUFFLED if _is_shuffled(target) else 1 / SHUFFLED
    return min(share, most)


def _changed(job: Job, share: float) -> tuple[float, float]:
    """What the layer makes of a share, and the most it can be."""
    before, after, axes = job.source.dtype, job.target.dtype, job.walked.config.axes
    if job.layer.argmax:
        return LABELS, LABELS
    if job.layer.name == "nearest":  # copies in a row and in the row behind are found, those in the next plane not
        return share * (0.1 + 0.9 / prod(axis.stride for axis in axes[1:])), 1.0
    if after.kind != "f":
        return share * ROUNDED * before.itemsize / after.itemsize, MOST_ROUNDED if before.kind == "f" else MOST_INTEGER
    few = prod(axis.kernel / axis.stride for axis in axes) <= FEW_TAPS and job.layer.config.activation in CHEAP
    if few and after.itemsize == 8 and before.itemsize < 8:
        share *= 0.55  # half of each number is zeros
    return share * (FEW_DIGITS if few else MANY_DIGITS), MOST_FLOAT


def _share(source: VolumeInfo) -> float:
    """The size of the input's file as a part of its voxels' bytes."""
    file = paths.split(source.path)[0]
    if source.compressed and os.path.isfile(file):
        share = os.path.getsize(file) / source.nbytes
        if share < 1:  # else the file holds more than this volume
            return share
    return UNKNOWN[source.dtype.kind]


def _is_shuffled(info: VolumeInfo) -> bool:
    return bool(info.layout.get("shuffle"))
