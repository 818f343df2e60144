"""Which format is a file, and who reads or writes it?  One line a format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conv3dt import paths
from conv3dt.axes import check_axes
from conv3dt.errors import ArgumentError, DataError, InputMissingError
from conv3dt.io.pipe import Outlet, incoming
from conv3dt.io.volume import PIPE, Sink, Source, VolumeInfo
from conv3dt.pending import PendingFile, check_target

HDF5_START = b"\x89HDF\r\n\x1a\n"
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


def begin(path: str, *, overwrite: bool, going_on: bool = False) -> PendingFile | None:
    """Take the passing file of an output; None for standard output.

    Args:
        path: where; its suffix says in which format.
        overwrite: whether an existing file may be replaced.
        going_on: leave what a killed run left there.

    Raises:
        OutputError: it exists already, or cannot be created.
    """
    if path == PIPE:
        return None
    if paths.is_hdf5(path):
        from conv3dt.io import hdf5

        return hdf5.begin(path, overwrite=overwrite, going_on=going_on)
    return PendingFile(path, overwrite=overwrite, going_on=going_on)


def create_sink(
    info: VolumeInfo,
    pending: PendingFile | None,
    *,
    threads: int,
    in_order: bool,
    resume: dict[str, Any] | None = None,
) -> Sink:
    """Create the output.

    Args:
        info: what is to be written, header included; its path says in which format.
        pending: from `begin`; given up if the output cannot be created.
        threads: for compression.
        in_order: whether regions will come in file order.
        resume: what a checkpoint of the same sink returned, to go on from there.

    Raises:
        OutputError: it cannot be created.
    """
    try:
        if info.format == "hdf5":
            from conv3dt.io.hdf5 import Hdf5Sink

            assert pending is not None
            return Hdf5Sink(info.path, info, pending=pending, threads=threads, resume=resume)
        from conv3dt.io import nifti

        return nifti.create_sink(info, pending, threads=threads, in_order=in_order, resume=resume)
    except BaseException:
        if pending is not None:
            pending.abort()
        raise


def check_output(path: str, *, overwrite: bool) -> None:
    """Refuse an output that cannot be created, before anything else is done; nothing is written.

    Raises:
        OutputError: says why.
    """
    if path == PIPE:
        Outlet()
    elif paths.is_hdf5(path):
        from conv3dt.io import hdf5

        hdf5.check_output(path, overwrite=overwrite)
    else:
        check_target(path, overwrite=overwrite)


def output_format(path: str, wanted: str | None = None, *, packed: bool = False) -> str:
    """Return ``nii``, ``nii.gz`` or ``hdf5``: by the name of an output, or for standard output as wanted.

    Args:
        path: of the output.
        wanted: ``nii`` or ``nii.gz``, for standard output.
        packed: whether the input is, which standard output follows if nothing is wanted.

    Raises:
        ArgumentError: the name says neither, or something else.
    """
    found = wanted or ("nii.gz" if packed else "nii")
    if path != PIPE:
        found = "hdf5" if paths.is_hdf5(path) else "nii.gz" if path.lower().endswith(".nii.gz") else "nii"
    if path != PIPE and found != "hdf5" and not paths.is_nifti(path):
        raise ArgumentError(f"output {path}: the name does not say a format; {KNOWN}")
    if wanted not in (None, found):
        raise ArgumentError(f"out-format {wanted} cannot go with the name {path}; leave one of them out")
    return found


def _module(path: str) -> Any:
    from importlib import import_module

    if path == PIPE:
        return _module_of_pipe()
    file, dataset = paths.split(path)
    if not Path(file).exists():
        raise InputMissingError(f"input {file}: no such file")
    if not Path(file).is_file():
        raise DataError(f"input {file}: not a file; {KNOWN}")
    with Path(file).open("rb") as stream:
        start = stream.read(8)
    if start == HDF5_START or dataset is not None or paths.is_hdf5(path):
        return import_module("conv3dt.io.hdf5")
    if paths.is_nifti(path) or start[:2] == b"\x1f\x8b" or start[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        return import_module("conv3dt.io.nifti")
    raise DataError(f"input {file}: not a volume that conv3dt knows; {KNOWN}")


def _module_of_pipe() -> Any:
    if incoming().raw_start == HDF5_START:
        raise DataError("input -: HDF5 cannot be read from a pipe; name the file")
    from conv3dt.io import nifti

    return nifti
