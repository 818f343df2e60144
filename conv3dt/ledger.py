"""What became of each field of a header?  What was read is compared with what will be written; nothing is assumed.

A field is ``kept`` (the same bytes, in the output's byte order and width), ``recomputed`` (it says the same of another
grid or type: no loss) or ``dropped`` (what it said is nowhere in the output).  Fields that say nothing in the input and
nothing in the output are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.axes import SPATIAL
from conv3dt.errors import DataError
from conv3dt.io.nifti_fields import FIELDS, contradictions, join, scaling, short
from conv3dt.report import HeaderFact

if TYPE_CHECKING:
    from conv3dt.io.volume import VolumeInfo

FORMATS = {"nifti1": "NIfTI-1", "nifti2": "NIfTI-2", "hdf5": "HDF5", "array": "an array"}
LABELS = ("DIMENSION_LABELS", "axes", "axistags")
GRID = "said of the output's grid"
FIELD = "NIfTI's own field for it"
APPLIED = "applied on reading; stored numbers are new"
MOST_NUMBERS = 16
MOST_NAMED = 8


def ledger(
    source: VolumeInfo, target: VolumeInfo, *, like: str | None = None, foreign: Iterable[str] = ()
) -> tuple[HeaderFact, ...]:
    """Return what became of each field of the input's header, and of each attribute.

    Args:
        source: what was read.
        target: what will be written, or what was.
        like: the reference from which the output has its place, if there is one.
        foreign: attributes of the input that mean nothing outside of its file (references into it).
    """
    found = list(_formats(source, target))
    before, after = source.header, _written(target)
    if before is not None and after is not None:
        found += _fields(before, after, like)
        found += _extensions(before, after)
        found += _contradictions(before, after)
    if source.format == "hdf5":
        found += _attributes(source, target) if target.format == "hdf5" else _homeless(source, after)
        found += [HeaderFact(f"attribute {name}", "dropped", "", "", "refers into its own file") for name in foreign]
    return tuple(found)


def losses(facts: Iterable[HeaderFact]) -> tuple[HeaderFact, ...]:
    """Return what was dropped."""
    return tuple(fact for fact in facts if fact.status == "dropped")


def check_strict(facts: Iterable[HeaderFact]) -> None:
    """Refuse a run whose output would lack something that the input's header says.

    Raises:
        DataError: names the fields and says why.
    """
    lost = losses(facts)
    if not lost:
        return
    named = "; ".join(f"{fact.field} ({fact.why})" for fact in lost[:MOST_NAMED])
    more = f"; and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
    raise DataError(f"strict header: the output would lack {named}{more}; leave --strict-header out to go without")


def _written(info: VolumeInfo) -> Any:
    """The header as a reader of the output will find it; None if it will have none."""
    if info.format == "hdf5":
        from conv3dt.io.hdf5_attributes import stored_header

        return stored_header(info.attributes)
    if info.header is None:
        return None
    from conv3dt.io import nifti_header

    raw = nifti_header.serialised(info.header)
    header, offset = nifti_header.parse(raw, info.path)
    return nifti_header.with_extensions(header, raw[header.sizeof_hdr : offset])


def _fact(field: str, before: str, after: str, *, same: bool, why: str, lost: bool | None = None) -> HeaderFact:
    """A fact; what says nothing any more is lost, unless the caller knows better."""
    if same:
        return HeaderFact(field, "kept", before, after, "")
    lost = bool(before) and not after if lost is None else lost
    return HeaderFact(field, "dropped" if lost else "recomputed", before, after, why)


# The file itself.


def _formats(source: VolumeInfo, target: VolumeInfo) -> Iterator[HeaderFact]:
    before, after = _format(source), _format(target)
    why = "the output was given this format"
    if {before, after} == {"NIfTI-1", "NIfTI-2"}:
        why = "NIfTI-1 cannot say more than 32767 voxels an axis"
    yield _fact("format", before, after, same=before == after, why=why, lost=False)
    before, after = _order(source), _order(target)
    if before and after:
        why = "written as the processors of today read it"
        yield _fact("byte order", before, after, same=before == after, why=why)


def _format(info: VolumeInfo) -> str:
    if info.format == "array" and info.header is not None:
        return FORMATS["nifti1" if int(info.header["sizeof_hdr"]) == 348 else "nifti2"]
    return FORMATS[info.format]


def _order(info: VolumeInfo) -> str:
    """Of the header where the file is one, else of the voxels; empty where bytes have no order."""
    if info.format == "hdf5" or info.header is None:
        order = info.dtype.byteorder
    else:
        order = info.header.endianness
    return {"<": "little-endian", ">": "big-endian", "=": f"{sys.byteorder}-endian"}.get(order, "")


# Fields of a NIfTI header.


def _fields(before: Any, after: Any, like: str | None) -> Iterator[HeaderFact]:
    for field in FIELDS:
        old, new = field.tell(before), field.tell(after)
        if not old and not new:
            continue
        taken = like is not None and field.placed
        why = f"taken from {like}" if taken else field.why
        lost = False if taken else field.is_lost(old, new)  # the place is said by the reference's fields
        yield _fact(field.name, old, new, same=field.same(before, after), why=why, lost=lost)


def _extensions(before: Any, after: Any) -> Iterator[HeaderFact]:
    """Each extension, in the input's order, and bytes before the voxels that are none."""
    left = [_content(extension) for extension in after.extensions]
    for number, extension in enumerate(before.extensions, start=1):
        content, size = _content(extension), f"{extension.get_sizeondisk()} bytes"
        same = content in left
        if same:
            left.remove(content)
        why = "it makes the header larger than an HDF5 attribute may be"
        yield _fact(f"extension {number} (ecode {content[0]})", size, size if same else "", same=same, why=why)
    known = sum(extension.get_sizeondisk() for extension in before.extensions)
    stray = int(before["vox_offset"]) - int(before["sizeof_hdr"]) - 4 - known
    if stray > 0:
        yield HeaderFact("bytes before the voxels", "dropped", f"{stray} bytes", "", "they are no sound extension")


def _content(extension: Any) -> tuple[int, bytes]:
    return int(extension.get_code()), bytes(extension.content)


def _contradictions(before: Any, after: Any) -> Iterator[HeaderFact]:
    old = {name: (text, why) for name, text, why in contradictions(before)}
    new = {name: (text, why) for name, text, why in contradictions(after)}
    for name, (_, why) in (old | new).items():
        yield HeaderFact(
            name, "kept" if name in old and name in new else "recomputed", old.get(name, ("",))[0],
            new.get(name, ("",))[0], why,
        )  # fmt: skip


# Attributes of an HDF5 dataset.


def _attributes(source: VolumeInfo, target: VolumeInfo) -> Iterator[HeaderFact]:
    """From HDF5 to HDF5: by name.  Of a stored NIfTI header each field has a fact of its own."""
    from conv3dt.io.hdf5_attributes import SCALING_NAMES

    for name, value in source.attributes.items():
        if name == "nifti_header" and source.header is not None:
            continue
        after = target.attributes.get(name)
        if name in SCALING_NAMES:
            why, lost = APPLIED, False
        else:
            why, lost = "the output's axes are others" if name in LABELS else GRID, after is None
        same = after is not None and _identical(value, after)
        yield _fact(f"attribute {name}", _plain(value), _plain(after), same=same, why=why, lost=lost)


def _homeless(source: VolumeInfo, header: Any) -> Iterator[HeaderFact]:
    """From HDF5 to NIfTI: attributes become fields where there are any for them."""
    for name, value in source.attributes.items():
        if name == "nifti_header" and source.header is not None:
            continue
        after, why = _home(name, source, header)
        yield _fact(f"attribute {name}", _plain(value), after, same=False, why=why)


def _home(name: str, source: VolumeInfo, header: Any) -> tuple[str, str]:
    """Which fields say now what an attribute said, none if that is empty, and why."""
    from conv3dt.io.hdf5_attributes import SCALING_NAMES, SPACING_NAMES

    space = "".join(letter for letter in source.axes if letter in SPATIAL)
    if name in SCALING_NAMES:
        return scaling(header) or "1, 0", APPLIED
    if name == "affine" and source.affine is not None:
        if source.header is not None and not _lies_at(source.header, source.affine):
            return "", "the stored NIfTI header places voxels elsewhere, and is believed"
        return "sform" if int(header["sform_code"]) else "qform" if int(header["qform_code"]) else "pixdim", FIELD
    if name in SPACING_NAMES and source.spacing is not None:
        return ("pixdim", FIELD) if _is_spacing(name, source, header) else ("", "pixdim says otherwise")
    if name in LABELS and source.affine is not None:
        return "sform", "the matrix says which axis is which"
    if name in LABELS and space in ("xyz", "ijk"):
        return "dim", "NIfTI lists axes in this order"
    return "", "NIfTI has no field for it"


def _lies_at(header: Any, matrix: NDArray[np.float64]) -> bool:
    from conv3dt.io.nifti_header import world

    found = world(header)
    return bool(np.allclose(found, matrix, rtol=1e-5, atol=1e-5 * np.abs(matrix).max()))


def _is_spacing(name: str, source: VolumeInfo, header: Any) -> bool:
    """Whether all numbers of an attribute are in pixdim, those of space up to the stride and the unit."""
    from conv3dt.io.hdf5_attributes import voxel_size

    size, _ = voxel_size({name: source.attributes[name]}, source.axes)
    if size is None or source.spacing is None:
        return False
    ratios = [a / b if b else 0.0 for a, b in zip(size, source.spacing, strict=True)]
    numbers = np.ravel(source.attributes[name])
    steps = [float(n) for n, letter in zip(numbers, source.axes, strict=False) if letter not in SPATIAL | {"c"}]
    steps = steps if len(numbers) == len(source.axes) else []
    same_steps = np.allclose(steps, header["pixdim"][4 : 4 + len(steps)], rtol=1e-5, atol=0)
    return same_steps and any(np.allclose(ratios, unit, rtol=1e-5) for unit in (1, 1000, 0.001))


def _identical(one: Any, other: Any) -> bool:
    first, second = np.asarray(one), np.asarray(other)
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(first.tolist() == second.tolist() if first.dtype.hasobject else first.tobytes() == second.tobytes())


def _plain(value: Any) -> str:
    """An attribute as short text."""
    if value is None:
        return ""
    found = np.asarray(value)
    if found.dtype.kind in "biuf":
        return short(join(np.ravel(found))) if found.size <= MOST_NUMBERS else f"{found.size} numbers"
    return short(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
