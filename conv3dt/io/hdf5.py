"""How do voxels come out of and go into HDF5 datasets?  Axes in array order; attributes, chunks and filters kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from conv3dt import paths
from conv3dt.affine import Placement, spacing
from conv3dt.axes import SPATIAL, name_axes
from conv3dt.errors import Conv3dtError, DataError, InputMissingError, OutputError
from conv3dt.io.pending import PendingFile, check_target, writing
from conv3dt.io.volume import Index, VolumeInfo, check_numbers

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

DEFAULT_DATASET = "/data"
CHUNK = 64
MOST_ATTRIBUTE_BYTES = 60000


def read_info(path: str, *, axes: str | None = None, data_format: str | None = None) -> VolumeInfo:
    """Return the header facts of a dataset without reading a voxel."""
    with _opened(path) as file:
        return _info(_dataset(file, path), path, axes, data_format)


class Hdf5Source:
    """A dataset: any box at any time."""

    sequential = False

    def __init__(self, path: str, *, axes: str | None, data_format: str | None) -> None:
        with _opened(path) as file:
            self.info = _info(_dataset(file, path), path, axes, data_format)
        self._file = h5py.File(paths.split(path)[0], "r", locking=False)
        self._dataset = _dataset(self._file, path)
        _check_filters(self._dataset, path)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box."""
        try:
            block: NDArray[Any] = self._dataset[index]
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self.info.path}: damaged: {_reason(error)}; get the file again") from None
        return block

    def finish(self) -> None:
        """Nothing is left to check: HDF5 checks chunk by chunk."""

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Hdf5Sink:
    """A new dataset: any box at any time.  A file that exists is copied first, and keeps its other datasets."""

    sequential = False

    def __init__(self, path: str, info: VolumeInfo, *, overwrite: bool) -> None:
        target, name = paths.split(path)
        self._path, name = path, name if name and name != "/" else DEFAULT_DATASET
        existing = _check_target(target, name, overwrite=overwrite)
        self._pending = PendingFile(target, overwrite=overwrite or existing)
        self._file: Any = None
        self._bytes: Any = None
        try:
            with writing(path):
                self._original = _identity(self._pending.path) if existing else None
                if existing:
                    shutil.copyfile(self._pending.path, self._pending.work)
                self._bytes = _Bytes(self._pending.work)
                self._file = h5py.File(self._bytes, "r+" if existing else "w")
                self._dataset = self._create(name, info)
                self._bytes.check()
        except (ValueError, TypeError, RuntimeError) as error:
            self.abort()
            raise OutputError(f"output {path}: cannot be created: {_reason(error)}") from None
        except BaseException:
            self.abort()
            raise

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        with self._guarded():
            self._dataset[index] = np.ascontiguousarray(block)
            self._bytes.check()

    def commit(self) -> None:
        """Make the file durable and give it its name."""
        with self._guarded():
            self._file.close()
            self._bytes.check()
            self._bytes.close()
        if self._original is not None and self._original != _identity(self._pending.path):
            raise OutputError(f"output {self._path}: the file was changed by another run meanwhile; run again")
        self._pending.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._bytes is not None:
            self._bytes.give_up()
            with suppress(OSError, RuntimeError, ValueError, AttributeError):
                self._file.close()
            self._bytes.close()
        self._pending.abort()

    def _create(self, name: str, info: VolumeInfo) -> Any:
        if name in self._file:
            if not isinstance(self._file[name], h5py.Dataset):
                raise OutputError(f"output {self._path}: is a group of its own; name a dataset in it")
            del self._file[name]
        dataset = self._file.create_dataset(name, info.shape, info.dtype, fill_time="never", **info.layout)
        for key, value in info.attributes.items():
            dataset.attrs[key] = value
        return dataset

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with writing(self._path):
            try:
                yield
            except RuntimeError as error:
                raise OSError(_reason(error)) from None


def check_output(path: str, *, overwrite: bool) -> None:
    """Refuse an output that cannot be created; nothing is written."""
    target, name = paths.split(path)
    _check_target(target, name or DEFAULT_DATASET, overwrite=overwrite)


def _check_target(target: str, name: str, *, overwrite: bool) -> bool:
    """Whether the file is there already; a dataset that is there may be replaced only on request."""
    existing = check_target(target, overwrite=True).is_file()
    if not existing:
        return False
    try:
        with _opened(target) as file:
            taken = name in file
    except DataError as error:
        raise OutputError(f"output {target}: cannot be added to: {error}; choose another name") from None
    if taken and not overwrite:
        raise OutputError(
            f"output {target}:{name}: exists already; say --overwrite (overwrite=True) or choose another name"
        )
    return True


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Bytes:
    """The file under HDF5, which cannot close a file that it cannot write: a failure is kept, and told by `check`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self._failure: OSError | None = None
        self._given_up = False

    def check(self) -> None:
        """Raise what went wrong while writing."""
        if self._failure is not None:
            raise self._failure

    def give_up(self) -> None:
        """From now on nothing is written."""
        self._given_up = True

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def write(self, data: Any) -> int:
        """Write all of ``data``, or remember why not."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and not self._given_up and self._failure is None:
            try:
                done += self._file.write(view[done:]) or 0
            except OSError as error:
                self._failure = error
        return len(view)

    def read(self, size: int = -1) -> bytes:
        """As of a file: h5py takes nothing for a file that cannot be read."""
        return self._file.read(size) or b""

    def readinto(self, data: Any) -> int:
        """As of a file."""
        return self._file.readinto(data) or 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """As of a file, failures remembered."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return size or 0

    def flush(self) -> None:
        """As of a file."""
        self._file.flush()


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    file = paths.split(path)[0]
    if not Path(file).is_file():
        raise InputMissingError(f"input {file}: no such file")
    try:
        with h5py.File(file, "r", locking=False) as opened:
            yield opened
    except Conv3dtError:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{file}: not an HDF5 file, or damaged: {_reason(error)}") from None


def _dataset(file: Any, path: str) -> Any:
    name = paths.split(path)[1]
    if name and name != "/":
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise InputMissingError(f"input {path}: no dataset {name}; {_listing(file)}")
        return found
    found = _candidates(file)
    if len(found) != 1:
        raise DataError(f"{path}: name the dataset as {path.rstrip(':/')}:/name; {_listing(file)}")
    return found[0]


def _check_filters(dataset: Any, path: str) -> None:
    """Say which filter is missing, rather than that the file is damaged."""
    packing = dataset.id.get_create_plist()
    for n in range(packing.get_nfilters()):
        code, _, _, name = packing.get_filter(n)
        if not h5py.h5z.filter_avail(code):
            with suppress(ImportError):
                import hdf5plugin  # noqa: F401  (registers its filters)
        if not h5py.h5z.filter_avail(code):
            raise DataError(f"{path}: is packed by the filter {_text(name) or code}; pip install hdf5plugin")


def _candidates(file: Any) -> list[Any]:
    found: list[Any] = []

    def visit(_: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and 3 <= node.ndim <= 5 and node.dtype.kind in "iufb":
            found.append(node)

    file.visititems(visit)
    return found


def _listing(file: Any) -> str:
    found = [f"{node.name} {'x'.join(map(str, node.shape))} {node.dtype}" for node in _candidates(file)]
    return f"volumes in it: {', '.join(found[:12])}" if found else "there is no numeric dataset of 3 to 5 axes in it"


def _info(dataset: Any, path: str, axes: str | None, data_format: str | None) -> VolumeInfo:
    check_numbers(dataset.dtype, path)
    if dataset.ndim and min(dataset.shape) < 1:
        raise DataError(f"{path}: the dataset is empty ({'x'.join(map(str, dataset.shape))})")
    attributes = {name: dataset.attrs[name] for name in dataset.attrs if _is_own(dataset, name)}
    names = axes or name_axes(_labels(dataset, data_format), dataset.ndim, data_format, path)
    header = _header(attributes)
    stated = attributes.get("affine")
    matrix = _matrix(stated)
    size, unit = _spacing(attributes, names)
    if matrix is not None:
        size = spacing(matrix)
    return VolumeInfo(
        path=path,
        format="hdf5",
        shape=tuple(int(n) for n in dataset.shape),
        axes=names,
        dtype=dataset.dtype,
        slope=_number(attributes, SCALING_NAMES[0], 1.0) or 1.0,
        inter=_number(attributes, SCALING_NAMES[1], 0.0),
        affine=matrix,
        spacing=size,
        unit=unit or ("mm" if matrix is not None else ""),
        compressed=dataset.compression is not None,
        header=header,
        attributes=attributes,
        layout=_layout(dataset),
    )


def _labels(dataset: Any, data_format: str | None) -> str:
    """The letters that a file gives its axes (dimension labels, ``axes``, or ilastik's ``axistags``), if it does."""
    # Not dataset.dims: HDF5 reads out of bounds where there are fewer labels than axes.
    found = "".join(_text(label) for label in np.atleast_1d(dataset.attrs.get("DIMENSION_LABELS", "")))
    stated = dataset.attrs.get("axes", "")
    if not found and isinstance(stated, (str, bytes)):
        found = _text(stated)
    if not found and "axistags" in dataset.attrs:
        with suppress(ValueError, KeyError, TypeError):
            found = "".join(axis["key"] for axis in json.loads(dataset.attrs["axistags"])["axes"])
    found = found.lower()
    whole = len(found) == dataset.ndim == len(set(found)) and sum(letter in SPATIAL for letter in found) == 3
    if not whole or (data_format and "c" not in found):
        return "012"
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_own(dataset: Any, name: str) -> bool:
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


def _spacing(attributes: dict[str, Any], axes: str) -> tuple[tuple[float, float, float] | None, str]:
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


def _matrix(value: Any) -> NDArray[np.float64] | None:
    with suppress(ValueError, TypeError):
        matrix = np.asarray(value, np.float64)
        if matrix.shape == (4, 4) and np.isfinite(matrix).all():
            return matrix
    return None


def _number(attributes: dict[str, Any], name: str, otherwise: float) -> float:
    found = _numbers(attributes.get(name))
    return found[0] if found and len(found) == 1 and np.isfinite(found[0]) else otherwise


def _header(attributes: dict[str, Any]) -> Any:
    raw = attributes.get("nifti_header")
    if raw is None:
        return None
    from conv3dt.io import nifti_header

    data = np.asarray(raw).tobytes()
    with suppress(DataError):
        header, offset = nifti_header.parse(data, "nifti_header")
        return nifti_header.with_extensions(header, data[header.sizeof_hdr : offset])
    return None


def _layout(dataset: Any) -> dict[str, Any]:
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


def upsampled_layout(info: VolumeInfo, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return how the output is stored: like the input where that was HDF5; in 64-voxel blocks where it was not."""
    layout = dict(info.layout)
    if info.format != "hdf5":
        blocks = [CHUNK if letter in SPATIAL else 1 for letter in info.axes] + [1] * (len(shape) - len(info.axes))
        layout = {"chunks": tuple(blocks)}
        if info.compressed:
            layout |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    if "chunks" in layout:
        chunks = tuple(layout["chunks"]) + (1,) * (len(shape) - len(layout["chunks"]))
        layout["chunks"] = tuple(min(chunk, n) for chunk, n in zip(chunks[: len(shape)], shape, strict=True))
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
            attributes[name] = np.array([*map(_text, value), *new[len(old) :]], dtype=h5py.string_dtype())


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


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
