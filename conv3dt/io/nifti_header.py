"""What does a NIfTI header say, and what must it say after upsampling?  nibabel holds the fields."""

from __future__ import annotations

import io
from collections.abc import Collection
from copy import deepcopy
from math import prod
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from conv3dt.affine import Placement
from conv3dt.axes import SPATIAL, name_axes
from conv3dt.errors import DataError
from conv3dt.io.volume import VolumeInfo, check_numbers

MOST_DIM_NIFTI1 = 32767
MOST_VOXELS = 2**62
MOST_EXTENSION_BYTES = 2**24
MOST_EXTENSIONS = 4096
UNSAFE = {"int64": "int32", "uint64": "uint32", "float16": "float32", "bool": "uint8"}
"""Types that other tools cannot read in NIfTI, and what is written in their place."""


def parse(start: bytes, path: str) -> tuple[Any, int]:
    """Return a header without extensions and the offset of the first voxel.

    Args:
        start: the first 540 bytes of the file, unpacked (fewer if the file is shorter).
        path: for messages.

    Raises:
        DataError: not NIfTI, or a header that cannot be.
    """
    sizes = {int.from_bytes(start[:4], order): order for order in ("little", "big")}
    kind = Nifti1Header if 348 in sizes else Nifti2Header if 540 in sizes else None
    if kind is None:
        raise DataError(f"{path}: not a NIfTI file (its first four bytes are {start[:4]!r}); is it damaged?")
    length = 348 if kind is Nifti1Header else 540
    if len(start) < length:
        raise DataError(f"{path}: damaged or cut short inside the header, at {len(start)} bytes")
    header = kind(start[:length], check=False)
    magic = bytes(header["magic"].tobytes())[:4]
    if magic != (b"n+1\0" if kind is Nifti1Header else b"n+2\0"):
        what = "the header of a .hdr/.img pair" if magic[:3] in (b"ni1", b"ni2") else "not NIfTI but Analyze or damaged"
        raise DataError(f"{path}: {what}; convert it to a single .nii file first")
    if kind is Nifti2Header and header["eol_check"].tobytes() not in (b"\0" * 4, b"\r\n\x1a\n"):
        raise DataError(f"{path}: damaged: its line ends were changed, as if it were a text; get the file again")
    offset = float(header["vox_offset"])
    if not length + 4 <= offset <= MOST_EXTENSION_BYTES:
        if offset != 0:
            raise DataError(f"{path}: the header puts the first voxel at byte {offset:.0f}, which cannot be")
        offset = length + 4
    _check(header, path)
    return header, int(offset)


def _check(header: Any, path: str) -> None:
    rank = int(header["dim"][0])
    if not 1 <= rank <= 7:
        raise DataError(f"{path}: the header claims {rank} axes; NIfTI has 1 to 7")
    shape = [int(n) for n in header["dim"][1 : rank + 1]]
    if prod(shape) > MOST_VOXELS:
        raise DataError(f"{path}: the header claims {'x'.join(map(str, shape))} voxels, which no file holds")
    if min(shape) < 1:
        raise DataError(f"{path}: the header claims {'x'.join(map(str, shape))} voxels; each axis needs at least 1")
    try:
        dtype = header.get_data_dtype()
    except Exception as error:  # nibabel raises a KeyError of its own for codes it does not know
        raise DataError(f"{path}: unknown NIfTI data type code {int(header['datatype'])} ({error})") from None
    check_numbers(dtype, path)


def with_extensions(header: Any, between: bytes) -> Any:
    """Return the header with the extensions that stand between it and the voxels, byte for byte.

    Damaged ones are nobody's reason to refuse a scan: those before them are kept, and ``vox_offset`` minus the sizes of
    header and extensions is how many bytes were left (zeros do not count).
    """
    header = header.copy()
    header.extensions.clear()
    place, end = 4, len(between) if between[:1] not in (b"", b"\0") else 0
    while place + 8 <= end:  # nibabel's own reader cuts zeros off, refuses all for one, and has pydicom parse some
        size, code = (int(n) for n in np.frombuffer(between, f"{header.endianness}i4", 2, place))
        if not 8 <= size <= end - place or len(header.extensions) == MOST_EXTENSIONS:
            break
        header.extensions.append(Nifti1Extension(code, between[place + 8 : place + size]))
        place += size
    header["vox_offset"] = header.sizeof_hdr + (len(between) if between[place:].strip(b"\0") else place)
    return header


def info(header: Any, path: str, *, compressed: bool, axes: str | None, data_format: str | None) -> VolumeInfo:
    """Return what a header says about its volume."""
    rank = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : rank + 1])
    if rank < 3:
        raise DataError(f"{path}: a volume must have 3 to 7 axes, got {rank} ({'x'.join(map(str, shape))})")
    slope, inter = _scaling(header)
    names = axes or name_axes("ijk", rank, data_format, path)
    zooms = [float(abs(z)) for z in _sizes(header, names)]
    return VolumeInfo(
        path=path,
        format="nifti2" if isinstance(header, Nifti2Header) else "nifti1",
        shape=shape,
        axes=names,
        dtype=header.get_data_dtype(),
        slope=slope,
        inter=inter,
        fortran=True,
        affine=world(header, names),
        spacing=(zooms[0], zooms[1], zooms[2]),
        unit={1: "m", 2: "mm", 3: "um"}.get(int(header["xyzt_units"]) & 7, ""),
        compressed=compressed,
        header=header,
    )


def _scaling(header: Any) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, inter if np.isfinite(inter) else 0.0


def world(header: Any, axes: str = "ijk") -> NDArray[np.float64]:
    """Return the voxel-to-world matrix by NIfTI's order: sform, else qform, else voxel sizes alone.

    Args:
        header: of any kind; axes: what its axes mean, if space does not come first.
    """
    if int(header["sform_code"]) > 0:
        matrix = np.eye(4)
        matrix[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
        return matrix
    if int(header["qform_code"]) > 0:
        return qform(header, axes)
    return np.diag([*(abs(float(z)) or 1.0 for z in _sizes(header, axes)), 1.0])


def _sizes(header: Any, axes: str) -> list[Any]:
    """The entries of pixdim that are voxel sizes."""
    return [size for size, letter in zip(header["pixdim"][1:], axes, strict=False) if letter in SPATIAL]


def qform(header: Any, axes: str = "ijk") -> NDArray[np.float64]:
    """Return the matrix of the quaternion fields, from the formula in nifti1.h; no orthonormality is demanded."""
    b, c, d = (float(header[f"quatern_{letter}"]) for letter in "bcd")
    a = np.sqrt(max(1.0 - (b * b + c * c + d * d), 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    sizes = np.abs(np.asarray(_sizes(header, axes), np.float64))
    sizes[2] *= -1.0 if float(header["pixdim"][0]) < 0 else 1.0
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * sizes
    matrix[:3, 3] = [float(header[f"qoffset_{letter}"]) for letter in "xyz"]
    return matrix


def upsampled(
    header: Any,
    axes: str,
    placement: Placement,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    scaling: tuple[float, float],
) -> Any:
    """Return the header of the output: what depends on the grid recomputed, all else kept.

    sform and qform are each transformed by the same change of index; the quaternion itself is untouched.  NIfTI-2 is
    chosen where an axis is longer than NIfTI-1 can say.

    Args:
        header: the input's; axes: what its axes mean.
        placement: where the output grid lies, axes ``i, j, k``.
        shape: output voxels per axis, space first.
        dtype: of the stored numbers.
        scaling: slope and intercept of the stored numbers.
    """
    new = _converted(header, big=max(shape) > MOST_DIM_NIFTI1)
    matrix = placement.matrix()
    if int(header["qform_code"]) > 0:
        corner = qform(header, axes) @ matrix[:, 3]
        for letter, value in zip("xyz", corner[:3], strict=True):
            new[f"qoffset_{letter}"] = value
    if int(header["sform_code"]) > 0:
        world_matrix = np.eye(4)
        world_matrix[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
        new["srow_x"], new["srow_y"], new["srow_z"] = (world_matrix @ matrix)[:3]
    steps = list(zip(header["pixdim"][1:], axes, strict=False))
    sizes = [size / stride for size, stride in zip(_of(steps, SPATIAL), placement.strides, strict=True)]
    sizes += _of(steps, set(axes) - SPATIAL - {"c"}) + _of(steps, "c")
    new["pixdim"][1 : 1 + len(sizes)] = sizes
    new["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    new.set_data_dtype(dtype)
    new["scl_slope"], new["scl_inter"] = scaling
    new["vox_offset"] = 0
    _drop_slice_timing(new, header, axes)
    return new


def _of(steps: list[tuple[Any, str]], letters: Collection[str]) -> list[Any]:
    return [size for size, letter in steps if letter in letters]


def _converted(header: Any, *, big: bool) -> Any:
    """A little-endian copy; NIfTI-2 if asked for, field by field (nibabel's own conversion keeps only the shape)."""
    copy = header.as_byteswapped("<")
    copy.extensions = type(header.extensions)(deepcopy(list(header.extensions)))
    if not big or isinstance(copy, Nifti2Header):
        return copy
    new = Nifti2Header()
    for name in new.keys():
        if name in copy.keys() and name not in ("sizeof_hdr", "magic", "dim"):
            new[name] = copy[name]
    new.extensions = copy.extensions
    return new


def _drop_slice_timing(new: Any, old: Any, axes: str) -> None:
    """Slice times belong to acquired slices; an upsampled slice axis has none, nor one that stands elsewhere."""
    moved = not SPATIAL.issuperset(axes[:3])
    axis = old.get_dim_info()[2]
    if moved:
        new["dim_info"] = 0
    if moved or (axis is not None and int(new["dim"][axis + 1]) != int(old["dim"][axis + 1])):
        for name in ("slice_code", "slice_start", "slice_end", "slice_duration"):
            new[name] = 0


def fresh(spacing: tuple[float, float, float] | None, affine: NDArray[np.float64] | None, unit: str) -> Any:
    """Return a header for a volume that never had one: its place if it is known, else its voxel sizes only."""
    header = Nifti1Header()
    header["pixdim"][1:4] = spacing or (1.0, 1.0, 1.0)
    header.set_xyzt_units({"m": "meter", "mm": "mm", "um": "micron"}.get(unit, "unknown"))
    if affine is not None:
        header.set_sform(affine, code=2)
        header["pixdim"][1:4] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return header


def serialised(header: Any, *, extensions: bool = True) -> bytes:
    """Return all bytes before the first voxel: header, extensions, and padding to a multiple of 16."""
    header = header.copy()
    if not extensions:
        header.extensions.clear()
    header["vox_offset"] = 0
    stream = io.BytesIO()
    header.write_to(stream)
    raw = stream.getvalue()
    offset = int(type(header)(raw[: header.sizeof_hdr], check=False)["vox_offset"])
    return raw.ljust(offset, b"\0")
