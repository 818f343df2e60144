"""Where does an output dataset go, and may it?  Into a new file, or beside whatever else an existing one holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from conv3dt import paths
from conv3dt.errors import DataError, OutputError
from conv3dt.io.hdf5_chunks import ChunkGrid, Packing
from conv3dt.io.hdf5_file import WrittenFile, opened, reason
from conv3dt.io.hdf5_times import copy_times
from conv3dt.io.volume import VolumeInfo
from conv3dt.pending import PendingFile, check_target
from conv3dt.unbroken import unbroken

DEFAULT_DATASET = "/data"


def begin(path: str, *, overwrite: bool, going_on: bool) -> PendingFile:
    """Take the passing file of an output; an existing file is replaced by one that holds all else that it did.

    Args:
        path: ``file.h5:/dataset``; overwrite: whether a dataset of that name may be replaced.
        going_on: leave what a killed run left there.

    Raises:
        OutputError: it exists already, or cannot be created.
    """
    file, name = split(path)
    existing = _check(file, name, overwrite=overwrite)
    return PendingFile(file, overwrite=overwrite or existing, going_on=going_on)


def check_output(path: str, *, overwrite: bool) -> None:
    """Refuse an output that cannot be created; nothing is written.

    Raises:
        OutputError: says why.
    """
    _check(*split(path), overwrite=overwrite)


def split(path: str) -> tuple[str, str]:
    """Return the file and the dataset in it, whether its name is given or not.

    >>> split("a.h5")
    ('a.h5', '/data')
    """
    file, name = paths.split(path)
    return file, name if name and name.strip("/") else DEFAULT_DATASET


def _check(file: str, name: str, *, overwrite: bool) -> bool:
    """Whether the file is there already; a dataset that is there may be replaced only on request."""
    existing = check_target(file, overwrite=True).is_file()
    if not existing:
        return False
    try:
        with opened(file) as found:
            _check_groups(found, file, name)
            taken = name in found
    except DataError as error:
        raise OutputError(f"output {file}: cannot be added to: {error}; choose another name") from None
    if taken and not overwrite:
        raise OutputError(
            f"output {file}:{name}: exists already; say --overwrite (overwrite=True) or choose another name"
        )
    return True


def _check_groups(found: Any, file: str, name: str) -> None:
    """Refuse a way to a dataset that leads through another dataset, or into another file."""
    *groups, _ = name.strip("/").split("/")
    node = found["/"]
    for group in groups:
        node = node.get(group)
        if node is None:
            return
        if not isinstance(node, h5py.Group):
            raise OutputError(f"output {file}:{name}: {node.name} is a dataset; choose another name")
        if h5py.h5o.get_info(node.id).fileno != h5py.h5o.get_info(found["/"].id).fileno:
            raise OutputError(f"output {file}:{name}: {group} is a link into another file; name that one")


@dataclass(frozen=True, slots=True)
class Storage:
    """How HDF5 stores a dataset.

    Attributes:
        grid: how it is cut up, if it is.
        packing: its filters, if they are gzip and known to be packed alike by us; filtered: whether it has any.
        shifted: whether places in the file are counted from behind a block that belongs to somebody else.
    """

    grid: ChunkGrid | None
    packing: Packing | None
    filtered: bool
    shifted: bool


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A dataset to be.

    Attributes:
        path: what the user calls it.
        work: the passing file that it goes into; kept: the file whose other content goes there too, if any.
        name: of the dataset.
        info: what it will be.
    """

    path: str
    work: Path
    kept: Path | None
    name: str
    info: VolumeInfo

    @classmethod
    def of(cls, path: str, info: VolumeInfo, pending: PendingFile) -> Target:
        """Return what a passing file is to become."""
        name = split(path)[1]
        alone = not pending.path.is_file() or holds_only(pending.path, name)  # HDF5 does not give back what it took
        return cls(path, pending.work, None if alone else pending.path, name, info)

    def storage(self) -> Storage:
        """Return how the dataset will be stored: it is created, but nothing is written.

        Raises:
            OutputError: it cannot be created.
        """
        with unbroken(), self._creating(), WrittenFile(self.kept, fresh=self.kept is None, dry=True) as written:
            dataset = self._create(written.file, early=False)
            packing = Packing.of(dataset)
            return Storage(
                ChunkGrid.of(dataset),
                packing if packing is not None and 1 <= packing.level <= 9 else None,
                dataset.id.get_create_plist().get_nfilters() > 0,
                written.file.userblock_size > 0,
            )

    @contextmanager
    def created(self, *, early: bool) -> Iterator[tuple[Any, WrittenFile]]:
        """Fill the passing file with whatever is kept and the dataset; within the block, voxels may be written.

        Args:
            early: whether it has room for all voxels at once, in the order of chunks.

        Raises:
            OutputError: it cannot be created.
        """
        with self.work.open("wb"):
            pass
        if self.kept is not None:
            shutil.copyfile(self.kept, self.work)
        with WrittenFile(self.work, fresh=self.kept is None) as written:
            with unbroken(), self._creating():
                dataset = self._create(written.file, early=early)
            written.check()
            yield dataset, written
        if self.kept is not None:
            copy_times(self.kept, self.work, self.name)

    def _create(self, file: Any, *, early: bool) -> Any:
        if self.name in file:
            if not isinstance(file[self.name], h5py.Dataset):
                raise OutputError(f"output {self.path}: is a group of its own; name a dataset in it")
            del file[self.name]
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        if early:
            created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        info = self.info
        dataset = file.create_dataset(
            self.name, info.shape, info.dtype, dcpl=created, track_times=False, **info.layout
        )  # fmt: skip
        for key, value in info.attributes.items():
            dataset.attrs[key] = value
        return dataset

    @contextmanager
    def _creating(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, RuntimeError, KeyError, OSError) as error:
            raise OutputError(f"output {self.path}: cannot be created: {reason(error)}") from None


def holds_only(file: Path, name: str) -> bool:
    """Whether there is nothing in a file but one dataset and the groups on the way to it."""
    with opened(str(file)) as found:
        node = found
        for part in name.strip("/").split("/"):
            if not isinstance(node, h5py.Group) or node.attrs or list(node) != [part]:
                return False
            node = node[part]
        return isinstance(node, h5py.Dataset)
