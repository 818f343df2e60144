"""What is a volume before its voxels are read?  Its shape, the meaning of its axes and numbers, its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from conv3dt.errors import ArgumentError, DataError
from conv3dt.layer.config import DATA_FORMATS

SPATIAL = frozenset("ijkxyz012")
Index = tuple[slice, ...]


@dataclass(frozen=True, slots=True, eq=False)
class VolumeInfo:
    """Header facts of a volume; axes always in the order in which its file lists them.

    Attributes:
        path: what the user calls it.
        format: ``nifti1``, ``nifti2``, ``hdf5`` or ``array``.
        shape: voxels per axis.
        axes: one letter per axis: three of ``ijkxyz012`` in space, ``c`` channels, any other one volume after another.
        dtype: the type of the stored numbers.
        slope, inter: ``value = slope * stored + inter``.
        fortran: whether the first axis is the fastest in memory.
        affine: voxel to world, 4x4, of the three spatial axes; None where the file does not say.
        spacing: voxel size of the three spatial axes, in ``unit``; None where the file does not say.
        compressed: whether the voxels are packed in the file.
        header: the nibabel header, if the volume has one.
        attributes: HDF5 attributes.
        layout: HDF5 chunks and filters, as `h5py.Group.create_dataset` names them.
    """

    path: str
    format: str
    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    slope: float = 1.0
    inter: float = 0.0
    fortran: bool = False
    affine: NDArray[np.float64] | None = None
    spacing: tuple[float, float, float] | None = None
    unit: str = ""
    compressed: bool = False
    header: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)
    layout: dict[str, Any] = field(default_factory=dict)

    @property
    def spatial(self) -> tuple[int, int, int]:
        """Which axes are space."""
        first, second, third = (n for n, letter in enumerate(self.axes) if letter in SPATIAL)
        return first, second, third

    @property
    def channel(self) -> int | None:
        """Which axis is channels, if one is."""
        return self.axes.index("c") if "c" in self.axes else None

    @property
    def batch(self) -> tuple[int, ...]:
        """Which axes are one volume after another."""
        return tuple(n for n, letter in enumerate(self.axes) if letter not in SPATIAL and letter != "c")

    @property
    def channels(self) -> int:
        """How many channels a voxel has."""
        return 1 if self.channel is None else self.shape[self.channel]

    @property
    def space(self) -> tuple[int, int, int]:
        """Voxels per spatial axis."""
        first, second, third = (self.shape[axis] for axis in self.spatial)
        return first, second, third

    @property
    def nbytes(self) -> int:
        """Bytes of the stored numbers, unpacked."""
        return int(np.prod([int(n) for n in self.shape], dtype=object)) * self.dtype.itemsize


class Source(Protocol):
    """A volume that can be read region by region."""

    info: VolumeInfo
    sequential: bool
    """Whether regions must be asked for in file order."""

    def read(self, index: Index) -> NDArray[Any]:
        """Return the stored numbers of a box, axes as the file lists them."""
        ...

    def finish(self) -> None:
        """Check what can only be checked at the end of the file."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Sink(Protocol):
    """A volume that can be written region by region; it appears under its name only when it is whole."""

    sequential: bool
    """Whether regions must come in file order."""

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write the stored numbers of a box, axes as the file lists them."""
        ...

    def commit(self) -> None:
        """Make the whole file durable and give it its name."""
        ...

    def abort(self) -> None:
        """Leave nothing behind."""
        ...


def name_axes(names: str, ndim: int, data_format: str | None, path: str) -> str:
    """Return one letter per axis.

    Args:
        names: the letters of three spatial axes, in order (``ijk``), or of all axes if the file names them.
        ndim: how many axes there are.
        data_format: ``channels_last`` or ``channels_first`` says that an axis is channels, else further axes are
            one volume after another.
        path: for messages.

    >>> name_axes("ijk", 4, None, ""), name_axes("ijk", 4, "channels_first", ""), name_axes("012", 5, None, "")
    ('ijkt', 'cijk', '012tu')
    """
    if not 3 <= ndim <= 7:
        raise DataError(f"{path}: a volume must have 3 to 7 axes, got {ndim}; reshape it or choose another dataset")
    if data_format is not None and data_format not in DATA_FORMATS:
        raise ArgumentError(f"data_format must be one of {', '.join(DATA_FORMATS)}, got {data_format!r}")
    if len(names) == ndim > 3:
        return names
    others = "tuvw"
    if data_format is None or ndim == 3:
        return names + others[: ndim - 3]
    if data_format == "channels_last":
        return names + others[: ndim - 4] + "c"
    return others[: ndim - 4] + "c" + names


def check_axes(axes: str, ndim: int) -> str:
    """Return axes given by the user, if they can be."""
    letters = axes.lower().replace(",", "")
    if len(letters) != ndim or len(set(letters)) != ndim or sum(letter in SPATIAL for letter in letters) != 3:
        raise ArgumentError(
            f"axes must name each of {ndim} axes once, three of them x, y, z, with c for channels and t for one "
            f"volume after another, got {axes!r}"
        )
    return letters


def check_numbers(dtype: np.dtype[Any], path: str) -> None:
    """Refuse what is not a real number of at most 64 bits."""
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise DataError(
            f"{path}: voxels of type {dtype} are not real numbers of at most 64 bits; split or convert them"
        )
