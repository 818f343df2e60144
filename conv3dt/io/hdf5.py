"""How do voxels come out of HDF5 datasets?  Axes in array order, with attributes, chunks and filters."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import h5py
from numpy.typing import NDArray

from conv3dt import paths
from conv3dt.affine import spacing
from conv3dt.axes import name_axes
from conv3dt.errors import DataError, InputMissingError
from conv3dt.io import hdf5_attributes
from conv3dt.io.hdf5_file import opened, reason
from conv3dt.io.hdf5_sink import Hdf5Sink
from conv3dt.io.hdf5_target import begin, check_output
from conv3dt.io.hdf5_unpack import ChunkUnpacker
from conv3dt.io.volume import Index, VolumeInfo, check_numbers
from conv3dt.trial import attempt

__all__ = ["Hdf5Sink", "Hdf5Source", "begin", "check_output", "read_info"]


def read_info(path: str, *, axes: str | None = None, data_format: str | None = None) -> VolumeInfo:
    """Return the header facts of a dataset without reading a voxel."""
    attempt(paths.split(path)[0], __name__, "facts_of", path, axes, data_format)
    return facts_of(path, axes, data_format)


def facts_of(path: str, axes: str | None, data_format: str | None) -> VolumeInfo:
    """The same, without another process to try it first."""
    with opened(path) as file:
        return _info(_dataset(file, path), path, axes, data_format)


class Hdf5Source:
    """A dataset: any box at any time."""

    sequential = False

    def __init__(self, path: str, *, axes: str | None, data_format: str | None, threads: int = 1) -> None:
        with opened(path) as file:
            self.info = _info(_dataset(file, path), path, axes, data_format)
        self._file = h5py.File(paths.split(path)[0], "r", locking=False)
        self._dataset = _dataset(self._file, path)
        _check_filters(self._dataset, path)
        self._unpacker = ChunkUnpacker.of(self._dataset, threads)

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box."""
        try:
            block: NDArray[Any] = self._dataset[index] if self._unpacker is None else self._unpacker.read(index)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self.info.path}: damaged: {reason(error)}; get the file again") from None
        return block

    def finish(self) -> None:
        """Nothing is left to check: HDF5 checks chunk by chunk."""

    def close(self) -> None:
        """Let go of threads and the file."""
        if self._unpacker is not None:
            self._unpacker.close()
        self._file.close()


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
            raise DataError(
                f"{path}: is packed by the filter {hdf5_attributes.text(name) or code}; pip install hdf5plugin"
            )


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
    attributes = {name: dataset.attrs[name] for name in dataset.attrs if hdf5_attributes.is_own(dataset, name)}
    names = axes or name_axes(hdf5_attributes.labels(dataset, data_format), dataset.ndim, data_format, path)
    header = hdf5_attributes.stored_header(attributes)
    stated = attributes.get("affine")
    matrix = hdf5_attributes.matrix_of(stated)
    size, unit = hdf5_attributes.voxel_size(attributes, names)
    if matrix is not None:
        size = spacing(matrix)
    return VolumeInfo(
        path=path,
        format="hdf5",
        shape=tuple(int(n) for n in dataset.shape),
        axes=names,
        dtype=dataset.dtype,
        slope=hdf5_attributes.number(attributes, hdf5_attributes.SCALING_NAMES[0], 1.0) or 1.0,
        inter=hdf5_attributes.number(attributes, hdf5_attributes.SCALING_NAMES[1], 0.0),
        affine=matrix,
        spacing=size,
        unit=unit or ("mm" if matrix is not None else ""),
        compressed=dataset.compression is not None,
        header=header,
        attributes=attributes,
        foreign=tuple(str(name) for name in dataset.attrs if not hdf5_attributes.is_own(dataset, name)),
        layout=hdf5_attributes.layout(dataset),
    )
