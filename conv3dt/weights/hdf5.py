"""How does a kernel come out of an HDF5 file?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conv3dt.errors import DataError, InputMissingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_BYTES = 2**30


def read(path: str, name: str | None) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """Return kernel and bias: a dataset and the ``bias`` beside it, or a group that holds ``kernel`` and ``bias``."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            node = _named(file, path, name) if name and name != "/" else _only(file, path)
            if isinstance(node, h5py.Group):
                found = _child(node, "kernel")
                if found is None:
                    raise DataError(f"weights {path}:{name}: a group without a dataset 'kernel'; name the dataset")
                node = found
            beside = _child(node.parent, "bias")
            bias = beside if beside is not None and beside.name != node.name else None
            return _array(node, path), None if bias is None else _array(bias, path)
    except (OSError, KeyError, RuntimeError) as error:
        if isinstance(error, (DataError, InputMissingError)):
            raise
        raise DataError(f"weights {path}: cannot be read as HDF5: {str(error).splitlines()[0]}") from None


def _child(group: Any, name: str) -> Any:
    """A dataset of a group; Keras writes ``:0`` behind its name."""
    import h5py

    found = (group.get(each) for each in (name, f"{name}:0"))
    return next((node for node in found if isinstance(node, h5py.Dataset)), None)


def _named(file: Any, path: str, name: str) -> Any:
    if name not in file:
        raise InputMissingError(f"weights {path}: no dataset {name}; there are {', '.join(_kernels(file)) or 'none'}")
    return file[name]


def _only(file: Any, path: str) -> Any:
    names = _kernels(file)
    if len(names) != 1:
        raise DataError(
            f"weights {path}: name the kernel's dataset as {path}:/name; candidates: {', '.join(names) or 'none'}"
        )
    return file[names[0]]


def _kernels(file: Any) -> list[str]:
    import h5py

    found: list[str] = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim in (3, 5) and node.dtype.kind in "iuf":
            found.append("/" + name)

    file.visititems(visit)
    return found


def _array(node: Any, path: str) -> NDArray[np.generic]:
    if node.shape is None or node.dtype.kind not in "iufb":
        raise DataError(f"weights {path}:{node.name}: must hold real numbers, got {node.dtype}")
    if node.nbytes > MOST_BYTES:
        raise DataError(f"weights {path}:{node.name}: {node.nbytes} bytes, more than a kernel can be ({MOST_BYTES})")
    array: NDArray[np.generic] = node[()]
    return array
