"""How does an array in memory take the place of a file?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import spacing
from conv3dt.axes import check_axes, name_axes
from conv3dt.errors import ArgumentError, DataError
from conv3dt.io.volume import Index, VolumeInfo, check_numbers


class ArraySource:
    """An array as a source."""

    sequential = False

    def __init__(self, array: NDArray[Any], info: VolumeInfo) -> None:
        self._array, self.info = array, info

    def read(self, index: Index) -> NDArray[Any]:
        """Return a view of a box."""
        return self._array[index]

    def finish(self) -> None:
        """Nothing is left to check."""

    def close(self) -> None:
        """Nothing to let go."""


class ArraySink:
    """An array as a sink."""

    sequential = False

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def room(self, index: Index) -> NDArray[Any] | None:
        """Return a box as a view; None where items do not lie as the processor wants them."""
        return self.array[index] if self.array.flags.aligned else None

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        self.array[index] = block

    def checkpoint(self) -> dict[str, Any]:
        """Memory does not outlive its process."""
        return {}

    def finish(self) -> None:
        """Nothing to make durable."""

    def publish(self) -> None:
        """Nothing to name."""

    def abort(self, *, keep: bool = False) -> None:
        """Nothing was named yet."""


def info(array: NDArray[Any], axes: str | None, data_format: str | None) -> VolumeInfo:
    """Return what an array says about itself."""
    check_numbers(array.dtype, "volume")
    names = check_axes(axes, array.ndim) if axes else name_axes("012", array.ndim, data_format, "volume")
    if 0 in array.shape:
        raise DataError(f"volume: the array is empty ({'x'.join(map(str, array.shape))})")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return VolumeInfo("array", "array", array.shape, names, array.dtype, fortran=fortran)


def image(volume: Any, axes: str | None, data_format: str | None) -> tuple[NDArray[Any], VolumeInfo]:
    """Return the real values of a nibabel image, and what its header says; other kinds of image get a NIfTI header."""
    if not hasattr(volume, "dataobj") or not hasattr(volume, "affine"):
        raise ArgumentError(f"volume must be a NumPy array or a nibabel image, got {type(volume).__name__}")
    from nibabel.nifti1 import Nifti1Header

    from conv3dt.io import nifti_header

    array = np.asanyarray(volume.dataobj)
    facts = info(array, axes or name_axes("ijk", array.ndim, data_format, "image"), None)
    matrix = None if volume.affine is None else np.asarray(volume.affine, np.float64)
    if isinstance(volume.header, Nifti1Header):
        header = volume.header.copy()
    else:
        header = nifti_header.fresh(None, matrix, "mm")
    return array, replace(
        facts,
        fortran=True,
        header=header,
        affine=matrix,
        spacing=None if matrix is None else spacing(matrix),
        unit="mm",
    )


def matching(out: NDArray[Any] | None, target: VolumeInfo) -> NDArray[Any]:
    """Return ``out`` if it can hold the output, or new memory in the order in which it will be written."""
    if out is None:
        return np.empty(target.shape, target.dtype, order="F" if target.fortran else "C")
    if not isinstance(out, np.ndarray):
        raise ArgumentError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != target.shape or out.dtype != target.dtype or not out.flags.writeable:
        raise ArgumentError(
            f"out must be a writeable array of shape {target.shape} and type {target.dtype}, "
            f"got {out.shape} {out.dtype}"
        )
    return out
