"""Is this the same work on the same data?  Hashes of files and of jobs, but for what only changes how."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conv3dt import paths
from conv3dt.errors import InputMissingError
from conv3dt.version import __version__

if TYPE_CHECKING:
    from conv3dt.io.volume import VolumeInfo
    from conv3dt.job import Job

PIECE = 2**20
GLANCE = 2**16


def file_hash(path: str, stop: threading.Event | None = None) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits; of an HDF5 dataset that of its whole file.

    Args:
        path: of the file, or of a dataset.
        stop: when set, the hash of what was read so far is returned: nobody wants it any more.

    Raises:
        InputMissingError: it cannot be read.
    """
    found = hashlib.sha256()
    file_path = paths.split(path)[0]
    if os.path.exists(file_path) and not os.path.isfile(file_path):  # one may wait for ever for a pipe
        raise InputMissingError(f"{path}: is not a regular file")
    try:
        with open(file_path, "rb", buffering=0) as file:
            piece = memoryview(bytearray(PIECE))
            while (stop is None or not stop.is_set()) and (count := file.readinto(piece)):
                found.update(piece[:count])
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read: {error.strerror}") from None
    return found.hexdigest()


def glance(path: str) -> str:
    """Return what tells a file from an older or newer one without reading it all: length, time, both ends."""
    file = paths.split(path)[0]
    try:
        with open(file, "rb", buffering=0) as opened:
            facts = os.fstat(opened.fileno())
            start = opened.read(GLANCE)
            opened.seek(max(facts.st_size - GLANCE, 0))
            ends = hashlib.sha256(start + opened.read(GLANCE)).hexdigest()
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read: {error.strerror}") from None
    return f"{facts.st_size} {facts.st_mtime_ns} {ends}"


def job_hash(job: Job) -> str:
    """Return a hash of all that decides the output, but for the input's voxels and the rounding of an engine."""
    layer = job.layer
    told = {
        "version": __version__,
        "config": asdict(layer.config),
        "weights": [_array(layer.kernel), _array(layer.bias), _array(layer.alpha)],
        "rules": [layer.boundary, layer.per_channel, layer.reduce, job.nan],
        "storage": [job.storage.dtype.str, job.storage.slope, job.storage.inter],
        "source": _volume(job.source),
        "target": _volume(job.target),
    }
    if job.precision != "fp32":
        told["precision"] = job.precision
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _volume(info: VolumeInfo) -> list[Any]:
    attributes = {name: _array(np.asarray(value)) for name, value in info.attributes.items()}
    header = None
    if info.header is not None:
        from conv3dt.io.nifti_header import serialised

        header = hashlib.sha256(serialised(info.header)).hexdigest()
    numbers = [info.slope, info.inter, info.fortran, info.compressed]
    return [info.format, info.shape, info.axes, info.dtype.str, numbers, header, attributes, info.layout]


def _array(array: NDArray[Any] | None) -> str | None:
    if array is None:
        return None
    content = repr(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).tobytes()
    return f"{array.dtype.str} {array.shape} {hashlib.sha256(content).hexdigest()}"
