"""Is the output on the grid of a reference?  Strides from it, what differs from it, its own words for the place."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor, inf
from typing import TYPE_CHECKING, Any

import numpy as np

from conv3dt.affine import spacing
from conv3dt.errors import DataError
from conv3dt.grids import (
    UNITS,
    Array,
    Offset,
    Triple,
    by,
    directions,
    letters,
    misdirection,
    offset,
    place_of,
    scaled,
    signed,
    unit_of,
    unit_ratio,
)

if TYPE_CHECKING:
    from conv3dt.io.volume import VolumeInfo
    from conv3dt.layer.concrete import Layer

WHOLE = 1e-3
"""By which part a ratio of voxel sizes may miss a whole number."""
PART = 1e-6
"""By which part voxel sizes that are alike may differ before it is worth saying."""
ALIGNED = 2
"""NIfTI's code of a place that was taken from another scan."""


def strides_like(source: VolumeInfo, reference: VolumeInfo) -> Triple:
    """Return how many voxels of the reference one voxel of the source becomes, axes as the source lists them.

    From the two matrices where both volumes have one, else from their voxel sizes, else from their shapes.

    Raises:
        DataError: these are not whole numbers of at least 1, or the axes do not run alike.
    """
    _check_axes(source, reference)
    here, there = place_of(source), place_of(reference)
    sizes: tuple[float, ...]
    others: tuple[float, ...]
    if here is not None and there is not None:
        sizes, others = spacing(here), spacing(scaled(there, reference, source))
    elif _has_sizes(source) and _has_sizes(reference):
        sizes, others = source.spacing or (), _sizes_in(reference, source)
    else:
        sizes, others = reference.space, source.space
    return _whole([a / b for a, b in zip(sizes, others, strict=True)], source, reference)


def _has_sizes(info: VolumeInfo) -> bool:
    return info.spacing is not None and all(0 < size < inf for size in info.spacing)


def _sizes_in(info: VolumeInfo, other: VolumeInfo) -> tuple[float, ...]:
    """Voxel sizes of one volume in the unit of another."""
    return tuple(size * unit_ratio(info, other) for size in info.spacing or ())


def _whole(ratios: list[float], source: VolumeInfo, reference: VolumeInfo) -> Triple:
    names = letters(source)
    first, second, third = (max(round(ratio), 1) for ratio in ratios)
    whole = (first, second, third)
    wrong = [n for n in range(3) if abs(ratios[n] / whole[n] - 1) > WHOLE]
    if not wrong:
        return whole
    listed = ", ".join(f"{ratio:.6g}" for ratio in ratios)
    text = f"like {reference.path}: a voxel of {source.path} is {listed} of its voxels along {', '.join(names)}"
    coarser = [names[n] for n in wrong if ratios[n] < 1]
    if coarser:
        raise DataError(
            f"{text}: it is coarser along {' and '.join(coarser)}, and nothing is made coarser here; give a reference "
            f"that is at least as fine along every axis"
        )
    nearest = [
        ",".join(str(rule(ratios[n]) if n in wrong else whole[n]) for n in range(3))
        for rule in (floor, ceil)
    ]  # fmt: skip
    raise DataError(
        f"{text}, and no transposed convolution makes {' or '.join(f'{ratios[n]:.6g}' for n in wrong)} of one; the "
        f"nearest grids are those of --strides {nearest[0]} and {nearest[1]}: make one of them and resample that"
    )


def _check_axes(source: VolumeInfo, reference: VolumeInfo) -> None:
    """Refuse a reference whose axes do not run along the source's: by their matrices, else by their names."""
    here, there = place_of(source), place_of(reference)
    if here is not None and there is not None:
        first, second = directions(here, source.path), directions(there, reference.path)
        wrong = misdirection(first, second, letters(source), source.path)
        if wrong:
            advice = "upsample along the scan's own axes and resample that"
            if wrong.startswith("its axes run") and " and it is " not in wrong:
                advice = "store one of them with the axes of the other first"
            raise DataError(f"like {reference.path}: {wrong}; {advice}")
        return
    one, other = letters(source), letters(reference)
    if _plain(one) != _plain(other) and "0" not in one + other:
        raise DataError(
            f"like {reference.path}: lists its axes as {', '.join(other)}, {source.path} as {', '.join(one)}; store "
            f"one of them with the axes of the other first"
        )


def _plain(names: list[str]) -> list[str]:
    return [dict(zip("ijk", "xyz", strict=True)).get(name, name) for name in names]


# The output against the reference.


def check_like(
    target: VolumeInfo, reference: VolumeInfo, *, source: VolumeInfo, layer: Layer, align: str
) -> tuple[str, ...]:
    """Refuse an output that is not on the reference's grid.

    Args:
        target: the output as the layer and ``align`` make it; reference: what it should be.
        source: the input; layer: axes as the input lists them; align: see `affine.place`.

    Returns:
        What could not be compared, for the report.

    Raises:
        DataError: says what differs, by how many voxels and by how much in the world, and what would help.
    """
    _check_axes(source, reference)
    here, there, origin = place_of(target), place_of(reference), place_of(source)
    parts = _shapes(target, reference)
    if here is None or there is None or origin is None:
        if _has_sizes(target) and _has_sizes(reference):
            parts += _sizes(target.spacing or (), _sizes_in(reference, target), unit_of(target))
        _refuse(parts, reference, [])
        silent = " and ".join(each.path for each in (source, reference) if place_of(each) is None)
        return (f"where voxels lie was not compared with {reference.path}: {silent} does not say it",)
    there = scaled(there, reference, target)
    found = offset(here, there, reference.space)
    if not parts and found.fits:
        return ()
    unit = unit_of(target) or "mm"
    if sizes := _sizes(spacing(here), spacing(there), unit):
        _refuse(parts + sizes, reference, ["leave out what says other strides"])
    if not found.is_rigid:
        parts += _sizes(spacing(here), spacing(there), unit, part=PART)
    parts += _places(found, target) + _ends(found, target, reference)
    from conv3dt.landing import Miss, hints

    miss = Miss(layer, align, source.space, origin, reference.space, there, found)
    _refuse(parts, reference, list(hints(miss)))
    return ()


def _refuse(parts: list[str], reference: VolumeInfo, advice: list[str]) -> None:
    if parts:
        what = "; or ".join(advice) or "leave --like out to keep the layer's own grid"
        raise DataError(f"like {reference.path}: {'; '.join(parts)}; {what}")


def _shapes(target: VolumeInfo, reference: VolumeInfo) -> list[str]:
    if target.space == reference.space:
        return []
    more = [
        f"{there - here:+d}" if there != here else "" for here, there in zip(target.space, reference.space, strict=True)
    ]
    here, there = ("x".join(map(str, each.space)) for each in (target, reference))
    told = ", ".join(f"{text} along {names}" for names, text in _by_axes(more, target))
    return [f"it has {there} voxels, the output {here} ({told})"]


def _by_axes(texts: list[str], info: VolumeInfo) -> list[tuple[str, str]]:
    """Texts of the three axes, each with the names of those that have it; empty ones are left out."""
    names = letters(info)
    return [
        (", ".join(name for name, other in zip(names, texts, strict=True) if other == text), text)
        for text in dict.fromkeys(filter(None, texts))
    ]


def _sizes(here: tuple[float, ...], there: tuple[float, ...], unit: str, *, part: float = WHOLE) -> list[str]:
    """Voxel sizes that differ; by more than `WHOLE`, the strides are others than the reference's, whoever said them."""
    if all(abs(a / b - 1) <= part for a, b in zip(here, there, strict=True)):
        return []
    return [f"its voxels are {by(there)} {unit}".rstrip() + f", the output's {by(here)} {unit}".rstrip()]


def _places(found: Offset, target: VolumeInfo) -> list[str]:
    if found.fits:
        return []
    unit, names = unit_of(target) or "mm", ", ".join(letters(target))
    text = f"it lies ({signed(found.mean)}) output voxels or ({signed(found.mean * found.sizes)}) {unit} along {names}"
    if found.is_rigid:
        return [f"{text} off the output, everywhere"]
    farthest, length = found.farthest
    far = f"({signed(farthest)}) voxels or {length:.4g} {unit} at the farthest corner"
    return [f"{text} off the output in the middle, {far}"]


def _ends(found: Offset, target: VolumeInfo, reference: VolumeInfo) -> list[str]:
    """What a reference whose voxels lie on the output's has more than it, at either end of an axis."""
    if not found.is_whole:
        return []
    texts = []
    for moved, here, there in zip(found.mean, target.space, reference.space, strict=True):
        start = -round(float(moved))
        told = [
            f"{abs(n)} voxel{'s' * (abs(n) > 1)} {'more' if n > 0 else 'fewer'} at the {end}"
            for n, end in ((start, "start"), (there - here - start, "end"))
            if n
        ]
        texts.append(" and ".join(told))
    return [f"along {names} it has {text}" for names, text in _by_axes(texts, target)]


# Its place taken over.

SPATIAL_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z",
)  # fmt: skip
"""NIfTI's fields for where voxels lie, beside the first four of ``pixdim`` and the unit."""


def pinned(target: VolumeInfo, reference: VolumeInfo) -> VolumeInfo:
    """Return the output with the reference's own words for where voxels lie; all else stays.

    Where both are NIfTI these are its fields, bit for bit (float64 of NIfTI-2 as near as NIfTI-1 can hold it), else
    its matrix.  A reference that does not say where it lies leaves the output as it is.

    Args:
        target: that `check_like` let pass; reference: the same.
    """
    matrix = place_of(reference)
    if matrix is None:
        return target
    matrix = scaled(matrix, reference, target)
    if target.header is None:
        placed = replace(target, affine=matrix, spacing=spacing(matrix))
    else:
        from conv3dt.io.nifti_header import world

        header = _header(target.header, reference, matrix)
        found, unit = world(header), UNITS.get(int(header["xyzt_units"]) & 7, "")
        first, second, third = (abs(float(size)) for size in header["pixdim"][1:4])
        placed = replace(target, header=header, affine=found, spacing=(first, second, third), unit=unit)
    return replace(placed, attributes=_attributes(placed, reference)) if placed.format == "hdf5" else placed


def _header(header: Any, reference: VolumeInfo, matrix: Array) -> Any:
    """A header with the reference's fields for where voxels lie, or with its matrix where it has no such fields."""
    from conv3dt.io.nifti_header import world

    header, other = header.copy(), reference.header
    if other is not None and reference.affine is not None and np.allclose(world(other), reference.affine, rtol=1e-5):
        for name in SPATIAL_FIELDS:
            header[name] = other[name]
        header["pixdim"][:4] = other["pixdim"][:4]
        if unit := int(other["xyzt_units"]) & 7:
            header["xyzt_units"] = (int(header["xyzt_units"]) & ~7) | unit
        return header
    header["srow_x"], header["srow_y"], header["srow_z"] = matrix[:3]
    header["sform_code"] = int(header["sform_code"]) or int(header["qform_code"]) or ALIGNED
    header["pixdim"][1:4] = spacing(matrix)
    return header


def _attributes(target: VolumeInfo, reference: VolumeInfo) -> dict[str, Any]:
    """HDF5 attributes with the new matrix and header, and the reference's own voxel sizes where it has them alike."""
    from conv3dt.io.hdf5_attributes import MOST_ATTRIBUTE_BYTES, SPACING_NAMES

    attributes: dict[str, Any] = target.attributes | {"affine": target.affine}
    for name in SPACING_NAMES:
        if name in attributes and name in reference.attributes:
            if np.shape(attributes[name]) == np.shape(reference.attributes[name]):
                attributes[name] = reference.attributes[name]
    if target.header is not None:
        from conv3dt.io.nifti_header import serialised

        raw = serialised(target.header)
        if len(raw) > MOST_ATTRIBUTE_BYTES:
            raw = serialised(target.header, extensions=False)
        attributes["nifti_header"] = np.frombuffer(raw, np.uint8)
    return attributes
