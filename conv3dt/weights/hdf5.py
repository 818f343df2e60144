"""How does a kernel come out of an HDF5 file?  Keras's models have their own readers; here are bare datasets."""

from __future__ import annotations

from typing import Any

import h5py

from conv3dt.errors import DataError, InputMissingError
from conv3dt.weights import hdf5_tree
from conv3dt.weights.arrays import arranged
from conv3dt.weights.kernel import Weights, listed


def read(path: str, name: str | None, layout: str | None) -> Weights:
    """Return the weights in an HDF5 file, of Keras or not.

    Args:
        path: the file; name: a layer of a Keras model, a dataset, or a group that holds ``kernel`` and ``bias``.
        layout: of a bare dataset: ``keras`` or ``torch``.

    Raises:
        InputMissingError: nothing of that name.
        DataError: not a kernel.
    """
    from conv3dt.weights import keras_archive, keras_legacy

    where = f"weights {path}"
    with hdf5_tree.opened(path, where) as file:
        node = hdf5_tree.find(file, name, where) if name else None
        if isinstance(node, h5py.Dataset) and not node.name.endswith("/vars/0"):  # whatever is around it
            return read_dataset(file, path, name, layout)
        if keras_legacy.is_legacy(file, where):
            found = keras_legacy.read(file, path, name, layout)
        elif keras_archive.is_weights(file, where):
            found = keras_archive.read_tree(file, path, name, layout)
        else:
            found = None
        return found or read_dataset(file, path, name, layout)


def read_dataset(file: Any, path: str, name: str | None, layout: str | None) -> Weights:
    """Return a dataset and the ``bias`` beside it, or those of a group that holds ``kernel`` and ``bias``."""
    where = f"weights {path}"
    node = _named(file, path, name) if name and name.strip("/") else _only(file, path)
    group = node if isinstance(node, h5py.Group) else node.parent
    if isinstance(node, h5py.Group):
        found = hdf5_tree.child(node, "kernel", where)
        if found is None:
            raise DataError(f"{where}:{name}: a group without a dataset 'kernel'; name the dataset")
        node = found
    beside = hdf5_tree.child(group, "bias", where)
    bias = beside if beside is not None and beside.name != node.name else None
    kernel, extra = hdf5_tree.arrays(node, bias, where)
    return arranged(kernel, extra, path if name is None else f"{path}:{name}", "hdf5", layout)


def _named(file: Any, path: str, name: str) -> Any:
    node = hdf5_tree.find(file, name, f"weights {path}")
    if node is None:
        raise InputMissingError(f"weights {path}: no dataset {name}; there are {listed(_kernels(file, path))}")
    return node


def _only(file: Any, path: str) -> Any:
    names = _kernels(file, path)
    if len(names) != 1:
        raise DataError(f"weights {path}: name the kernel's dataset as {path}:/name; candidates: {listed(names)}")
    return hdf5_tree.find(file, names[0], f"weights {path}")


def _kernels(file: Any, path: str) -> list[str]:
    return [
        name
        for name, node in hdf5_tree.walk(file, f"weights {path}")
        if isinstance(node, h5py.Dataset) and node.ndim in (3, 5) and node.dtype.kind in "iuf"
    ]
