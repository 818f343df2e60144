"""How do voxels come out of and go into HDF5 datasets?  Axes in array order; attributes, chunks and filters kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from conv3dt import paths
from conv3dt.affine import spacing
from conv3dt.axes import name_axes
from conv3dt.errors import Conv3dtError, DataError, InputMissingError, OutputError
from conv3dt.io import hdf5_attributes
from conv3dt.io.hdf5_pack import ChunkPacker
from conv3dt.io.hdf5_unpack import ChunkUnpacker
from conv3dt.io.volume import FileSink, Index, VolumeInfo, check_numbers
from conv3dt.pending import PendingFile, check_target, writing

DEFAULT_DATASET = "/data"


def read_info(path: str, *, axes: str | None = None, data_format: str | None = None) -> VolumeInfo:
    """Return the header facts of a dataset without reading a voxel."""
    with _opened(path) as file:
        return _info(_dataset(file, path), path, axes, data_format)


class Hdf5Source:
    """A dataset: any box at any time."""

    sequential = False

    def __init__(self, path: str, *, axes: str | None, data_format: str | None, threads: int = 1) -> None:
        with _opened(path) as file:
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
            raise DataError(f"{self.info.path}: damaged: {_reason(error)}; get the file again") from None
        return block

    def finish(self) -> None:
        """Nothing is left to check: HDF5 checks chunk by chunk."""

    def close(self) -> None:
        """Let go of threads and the file."""
        if self._unpacker is not None:
            self._unpacker.close()
        self._file.close()


class Hdf5Sink(FileSink):
    """A new dataset: any box at any time.  A file that exists is copied first, if it holds anything else to keep."""

    sequential = False

    def __init__(self, path: str, info: VolumeInfo, *, overwrite: bool, threads: int = 1) -> None:
        target, name = paths.split(path)
        self._path, name = path, name if name and name != "/" else DEFAULT_DATASET
        existing = _check_target(target, name, overwrite=overwrite)
        self._pending = PendingFile(target, overwrite=overwrite or existing)
        self._file: Any = None
        self._bytes: Any = None
        self._packer: ChunkPacker | None = None
        try:
            with writing(path):
                self._original = _identity(self._pending.path) if existing else None
                more = existing and not _holds_only(target, name)  # HDF5 does not give back what a dataset took
                if more:
                    shutil.copyfile(self._pending.path, self._pending.work)
                self._bytes = _Bytes(self._pending.work)
                self._file = h5py.File(self._bytes, "r+" if more else "w")
                self._dataset = self._create(name, info)
                self._bytes.check()
                self._packer = ChunkPacker.of(self._dataset, threads)
        except (ValueError, TypeError, RuntimeError) as error:
            self.abort()
            raise OutputError(f"output {path}: cannot be created: {_reason(error)}") from None
        except BaseException:
            self.abort()
            raise

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Write a box."""
        with self._guarded():
            if self._packer is not None and self._packer.holds(index):
                self._packer.write(index, block)
            else:
                self._dataset[index] = np.ascontiguousarray(block)
            self._bytes.check()

    def commit(self) -> None:
        """Make the file durable and give it its name."""
        self._let_go()
        with self._guarded():
            self._file.close()
            self._bytes.check()
            self._bytes.close()
        if self._original is not None and self._original != _identity(self._pending.path):
            raise OutputError(f"output {self._path}: the file was changed by another run meanwhile; run again")
        self._pending.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        self._let_go()
        if self._bytes is not None:
            self._bytes.give_up()
            with suppress(OSError, RuntimeError, ValueError, AttributeError):
                self._file.close()
            self._bytes.close()
        self._pending.abort()

    def _let_go(self) -> None:
        if self._packer is not None:
            self._packer.close()

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


def _holds_only(target: str, name: str) -> bool:
    """Whether there is nothing in a file but one dataset and the groups on the way to it."""
    with _opened(target) as file:
        node = file
        for part in name.strip("/").split("/"):
            if not isinstance(node, h5py.Group) or node.attrs or list(node) != [part]:
                return False
            node = node[part]
        return isinstance(node, h5py.Dataset)


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
        layout=hdf5_attributes.layout(dataset),
    )


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
