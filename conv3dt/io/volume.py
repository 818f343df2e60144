"""What is a volume before its voxels are read?  Its shape, the meaning of its axes and numbers, its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from conv3dt.axes import SPATIAL
from conv3dt.errors import DataError

Index = tuple[slice, ...]

PIPE = "-"
"""The path of standard input, and of standard output."""

LABEL_INTENT = 1002
"""NIfTI's intent code of a volume whose numbers name things."""


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
        attributes: HDF5 attributes; foreign: the names of those that mean nothing outside of their file.
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
    foreign: tuple[str, ...] = ()

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
    def in_file_order(self) -> bool:
        """Whether volumes follow one another in a NIfTI file, each by planes of its third axis."""
        return self.channel is None and self.spatial == (0, 1, 2)

    @property
    def is_stream(self) -> bool:
        """Whether the file can only be met from first to last: packed NIfTI, or a pipe."""
        return self.fortran and (self.compressed or self.path == PIPE)

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

    def room(self, index: Index) -> NDArray[Any] | None:
        """Return memory in which a box may be computed, which is then written; None where there is none."""
        ...

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write the stored numbers of a box, axes as the file lists them."""
        ...

    def checkpoint(self) -> dict[str, Any]:
        """Make all that was written durable; return what a sink needs to go on from there, as values for JSON."""
        ...

    def finish(self) -> None:
        """Put everything into the passing file and make it durable; nothing can be written any more."""
        ...

    def publish(self) -> None:
        """Give the finished file its name."""
        ...

    def abort(self, *, keep: bool = False) -> None:
        """Leave nothing behind; or what the last checkpoint stands on, for the next run to go on from."""
        ...


class FileSink:
    """What sinks that are files have in common."""

    def room(self, index: Index) -> None:
        """A file is not memory."""

    sequential = False

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        raise NotImplementedError

    def checkpoint(self) -> dict[str, Any]:
        """Make durable what was written."""
        raise NotImplementedError

    def finish(self) -> None:
        """Put everything into the passing file."""
        raise NotImplementedError

    def publish(self) -> None:
        """Give the finished file its name."""
        raise NotImplementedError

    def abort(self, *, keep: bool = False) -> None:
        """Leave nothing behind, or what was made durable."""
        raise NotImplementedError

    def commit(self) -> None:
        """Finish, and give the file its name at once."""
        self.finish()
        self.publish()


def check_numbers(dtype: np.dtype[Any], path: str) -> None:
    """Refuse what is not a real number of at most 64 bits."""
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise DataError(
            f"{path}: voxels of type {dtype} are not real numbers of at most 64 bits; split or convert them"
        )
