"""What do the attributes of an HDF5 dataset say, and what must they say after upsampling?  Chunks and filters too."""

from __future__ import annotations

import json
from contextlib import suppress
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import Placement
from conv3dt.axes import SPATIAL
from conv3dt.errors import DataError
from conv3dt.io.volume import VolumeInfo

SPACING_NAMES = {
    "element_size_um": "um",
    "voxel_size_um": "um",
    "element_size_mm": "mm",
    "voxel_size_mm": "mm",
    "element_size": "",
    "voxel_size": "",
    "voxelsize": "",
    "voxel_spacing": "",
    "spacing": "",
    "pixel_spacing": "",
    "pixel_size": "",
    "pixdim": "",
}
"""Attributes that give a voxel size, one number an axis in array order, and the unit in their name."""

SCALING_NAMES = ("scl_slope", "scl_inter")
"""Attributes, called as in NIfTI, that give stored numbers their meaning: ``value = slope * stored + inter``."""

CHUNK = 64
MOST_ATTRIBUTE_BYTES = 60000


def labels(dataset: Any, data_format: str | None) -> str:
    """The letters that a file gives its axes (dimension labels, ``axes``, or ilastik's ``axistags``), if it does."""
    # Not dataset.dims: HDF5 reads out of bounds where there are fewer labels than axes.
    found = "".join(text(label) for label in np.atleast_1d(dataset.attrs.get("DIMENSION_LABELS", "")))
    stated = dataset.attrs.get("axes", "")
    if not found and isinstance(stated, (str, bytes)):
        found = text(stated)
    if not found and "axistags" in dataset.attrs:
        with suppress(ValueError, KeyError, TypeError):
            found = "".join(axis["key"] for axis in json.loads(dataset.attrs["axistags"])["axes"])
    found = found.lower()
    whole = len(found) == dataset.ndim == len(set(found)) and sum(letter in SPATIAL for letter in found) == 3
    if not whole or (data_format and "c" not in found):
        return "012"
    return found


def text(value: Any) -> str:
    """Return bytes or text as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def is_own(dataset: Any, name: str) -> bool:
    """Whether an attribute stands for itself: references into the file mean nothing in another one."""
    if name in ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME"):
        return False
    try:
        kind = dataset.attrs.get_id(name).dtype
    except TypeError:  # a type that NumPy does not have
        return False
    return kind.kind != "O" or (
        h5py.check_ref_dtype(kind) is None and h5py.check_vlen_dtype(kind) in (None, str, bytes)
    )


def voxel_size(attributes: dict[str, Any], axes: str) -> tuple[tuple[float, float, float] | None, str]:
    """Return the voxel size of the three spatial axes that the attributes state, and its unit; None if they do not."""
    for name, unit in SPACING_NAMES.items():
        numbers = _numbers(attributes.get(name))
        if numbers is None:
            continue
        if len(numbers) == len(axes) > 3:
            numbers = [number for number, letter in zip(numbers, axes, strict=True) if letter in SPATIAL]
        if len(numbers) == 1:
            numbers = numbers * 3
        if len(numbers) == 3:
            return (numbers[0], numbers[1], numbers[2]), unit
    return None, ""


def _numbers(value: Any) -> list[float] | None:
    try:
        found = [float(number) for number in np.atleast_1d(value).reshape(-1)] if value is not None else None
    except (TypeError, ValueError):
        return None
    return found


def matrix_of(value: Any) -> NDArray[np.float64] | None:
    """Return an attribute as a 4x4 matrix, if it is one."""
    with suppress(ValueError, TypeError):
        matrix = np.asarray(value, np.float64)
        if matrix.shape == (4, 4) and np.isfinite(matrix).all():
            return matrix
    return None


def number(attributes: dict[str, Any], name: str, otherwise: float) -> float:
    """Return an attribute as one finite number, or what else it is."""
    found = _numbers(attributes.get(name))
    return found[0] if found and len(found) == 1 and np.isfinite(found[0]) else otherwise


def stored_header(attributes: dict[str, Any]) -> Any:
    """Return the NIfTI header that travels with a volume that once was NIfTI, if there is a sound one."""
    raw = attributes.get("nifti_header")
    if raw is None:
        return None
    from conv3dt.io import nifti_header

    data = np.asarray(raw).tobytes()
    with suppress(DataError):
        header, offset = nifti_header.parse(data, "nifti_header")
        return nifti_header.with_extensions(header, data[header.sizeof_hdr : offset])
    return None


def layout(dataset: Any) -> dict[str, Any]:
    """Chunks and filters, as far as h5py can apply them again."""
    layout: dict[str, Any] = {}
    if dataset.chunks is not None:
        layout["chunks"] = tuple(int(n) for n in dataset.chunks)
    if dataset.compression in ("gzip", "lzf", "szip"):
        layout["compression"] = dataset.compression
        if dataset.compression_opts is not None:
            layout["compression_opts"] = dataset.compression_opts
    for name in ("shuffle", "fletcher32"):
        if getattr(dataset, name):
            layout[name] = True
    return layout


def upsampled_layout(info: VolumeInfo, axes: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return how the output is stored: like the input where that was HDF5; in 64-voxel blocks where it was not.

    Args:
        info: the input; axes, shape, dtype: of the output, which may have lost or won an axis of channels.
    """
    layout = dict(info.layout)
    if info.format != "hdf5":
        layout = {"chunks": tuple(CHUNK if letter in SPATIAL else 1 for letter in axes)}
        if info.compressed:
            layout |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    elif "chunks" in layout:
        before = dict(zip(info.axes, layout["chunks"], strict=True))
        layout["chunks"] = tuple(before.get(letter, 1) for letter in axes)
    if "chunks" in layout:
        layout["chunks"] = tuple(min(chunk, n) for chunk, n in zip(layout["chunks"], shape, strict=True))
        if prod(layout["chunks"]) * dtype.itemsize >= 2**32:
            del layout["chunks"]
    return layout


def upsampled_attributes(
    info: VolumeInfo,
    axes: str,
    placement: Placement,
    affine: NDArray[np.float64] | None,
    header: Any,
    scaling: tuple[float, float],
) -> dict[str, Any]:
    """Return the attributes of the output: voxel sizes, affine and stored NIfTI header recomputed, all else kept."""
    attributes = dict(info.attributes)
    _relabel(attributes, info.axes, axes)
    for name in SPACING_NAMES:
        if (numbers := _numbers(attributes.get(name))) is not None:
            attributes[name] = _rescaled(attributes[name], numbers, info.axes, placement)
    for name, value, plain in zip(SCALING_NAMES, scaling, (1.0, 0.0), strict=True):
        attributes.pop(name, None)
        if scaling != (1.0, 0.0):
            attributes[name] = value if value != plain else plain
    if affine is not None:
        attributes["affine"] = affine
    if header is not None:
        from conv3dt.io.nifti_header import serialised

        raw = serialised(header)
        if len(raw) > MOST_ATTRIBUTE_BYTES:  # HDF5 keeps no larger attribute; without extensions a header always fits
            raw = serialised(header, extensions=False)
        attributes["nifti_header"] = np.frombuffer(raw, np.uint8)
    return attributes


def _relabel(attributes: dict[str, Any], old: str, new: str) -> None:
    """Labels of axes stay true where filters add an axis: one more label, or none at all."""
    if len(new) == len(old):
        return
    for name in ("DIMENSION_LABELS", "axes", "axistags"):
        value = attributes.pop(name, None)
        if isinstance(value, str) and len(value) == len(old):
            attributes[name] = value + new[len(old) :]
        elif isinstance(value, np.ndarray) and value.shape == (len(old),):
            attributes[name] = np.array([*map(text, value), *new[len(old) :]], dtype=h5py.string_dtype())


def _rescaled(value: Any, numbers: list[float], axes: str, placement: Placement) -> Any:
    strides = list(placement.strides)
    if len(numbers) == len(axes):
        per_axis = iter(strides)
        strides = [next(per_axis) if letter in SPATIAL else 1 for letter in axes]
    if len(numbers) == 1 and len(set(strides)) == 1:
        strides = strides[:1]
    if len(numbers) == 1 and len(numbers) != len(strides):
        numbers = numbers * 3
    if len(numbers) != len(strides):
        return value
    kind = np.asarray(value).dtype
    scaled = np.asarray([n / s for n, s in zip(numbers, strides, strict=True)], kind if kind.kind == "f" else "f8")
    return scaled if np.ndim(value) or len(scaled) > 1 else scaled[0]
