"""Which format is a file, and who reads or writes it?  One line a format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conv3dt import paths
from conv3dt.axes import check_axes
from conv3dt.errors import ArgumentError, DataError, InputMissingError
from conv3dt.io.volume import Sink, Source, VolumeInfo

KNOWN = "known formats: .nii, .nii.gz, HDF5 (file.h5:/dataset)"


def read_info(path: str, *, axes: str | None = None, data_format: str | None = None) -> VolumeInfo:
    """Return the header facts of a volume without reading a voxel.

    Raises:
        InputMissingError: no such file or dataset.
        DataError: not a volume, or a damaged one.
    """
    module = _module(path)
    info: VolumeInfo = module.read_info(path, axes=None, data_format=data_format)
    if axes is not None:
        info = module.read_info(path, axes=check_axes(axes, len(info.shape)), data_format=data_format)
    return info


def open_source(info: VolumeInfo, *, threads: int, in_order: bool) -> Source:
    """Open for reading a volume whose header was read before.

    Args:
        info: what was read before.
        threads: for decompression.
        in_order: whether regions will be asked for in file order.
    """
    if info.format == "hdf5":
        from conv3dt.io.hdf5 import Hdf5Source

        return Hdf5Source(info.path, axes=info.axes, data_format=None, threads=threads)
    from conv3dt.io import nifti

    return nifti.open_source(info, in_order=in_order)


def create_sink(path: str, info: VolumeInfo, *, overwrite: bool, threads: int, in_order: bool) -> Sink:
    """Create the output.

    Args:
        path: where; its suffix says in which format.
        info: what is to be written, header included.
        overwrite: whether an existing file may be replaced.
        threads: for compression.
        in_order: whether regions will come in file order.

    Raises:
        OutputError: it exists already, or cannot be created.
    """
    if output_format(path) == "hdf5":
        from conv3dt.io.hdf5 import Hdf5Sink

        return Hdf5Sink(path, info, overwrite=overwrite, threads=threads)
    from conv3dt.io.nifti import PlainSink, SpooledSink, StreamSink

    if not path.lower().endswith(".gz"):
        return PlainSink(path, info, overwrite=overwrite)
    if in_order:
        return StreamSink(path, info, overwrite=overwrite, threads=threads)
    return SpooledSink(path, info, overwrite=overwrite, threads=threads)


def check_output(path: str, *, overwrite: bool) -> None:
    """Refuse an output that cannot be created, before anything else is done; nothing is written.

    Raises:
        OutputError: says why.
    """
    if output_format(path) == "hdf5":
        from conv3dt.io import hdf5

        hdf5.check_output(path, overwrite=overwrite)
    else:
        from conv3dt.pending import check_target

        check_target(path, overwrite=overwrite)


def output_format(path: str) -> str:
    """Return ``nifti`` or ``hdf5`` by the name of an output.

    Raises:
        ArgumentError: the name says neither.
    """
    if paths.is_nifti(path):
        return "nifti"
    if paths.is_hdf5(path):
        return "hdf5"
    raise ArgumentError(f"output {path}: the name does not say a format; {KNOWN}")


def _module(path: str) -> Any:
    from importlib import import_module

    file, dataset = paths.split(path)
    if not Path(file).exists():
        raise InputMissingError(f"input {file}: no such file")
    if not Path(file).is_file():
        raise DataError(f"input {file}: not a file; {KNOWN}")
    with Path(file).open("rb") as stream:
        start = stream.read(8)
    if start == b"\x89HDF\r\n\x1a\n" or dataset is not None or paths.is_hdf5(path):
        return import_module("conv3dt.io.hdf5")
    if paths.is_nifti(path) or start[:2] == b"\x1f\x8b" or start[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        return import_module("conv3dt.io.nifti")
    raise DataError(f"input {file}: not a volume that conv3dt knows; {KNOWN}")
