"""What stands in an HDF5 file, without leaving it?  Links and data of other files are never followed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from conv3dt.errors import Conv3dtError, DataError
from conv3dt.weights.kernel import MOST_BYTES, bfloat16, check_size, reason

MOST_NODES = 100_000
MOST_LINKS = 32
MOST_NAMES = 100_000


@contextmanager
def opened(file: Any, where: str) -> Iterator[Any]:
    """Open a file, by its path or as a stream, and turn what HDF5 says of it into one line.

    Raises:
        DataError: not HDF5, or damaged.
    """
    try:
        with h5py.File(file, "r", **({"locking": False} if isinstance(file, str) else {})) as tree:
            yield tree
    except Conv3dtError:
        raise
    except Exception as error:  # h5py lets through whatever HDF5, NumPy and its own decoding of text raise
        raise DataError(f"{where}: cannot be read as HDF5: {reason(error)}") from None


def find(root: Any, name: str, where: str) -> Any:
    """Return the node of a path below ``root``; None if there is none.

    Raises:
        DataError: the path leads out of the file, or in circles.
    """
    node, waiting = root, _parts(name)
    for _ in range(MOST_LINKS + len(waiting) + name.count("/")):
        if not waiting:
            return node
        part = waiting.pop(0)
        if not isinstance(node, h5py.Group) or not node.id.links.exists(part):
            return None
        kind = node.id.links.get_info(part).type
        if kind == h5py.h5l.TYPE_SOFT:
            target = node.id.links.get_val(part)
            node = root.file if target.startswith(b"/") else node
            waiting = [*_parts(target.decode("utf-8", "surrogateescape")), *waiting]
        elif kind == h5py.h5l.TYPE_HARD:
            node = _node(node, part)
        else:
            raise DataError(f"{where}:{name}: is a link out of the file; give the file that it points to")
    raise DataError(f"{where}:{name}: its links lead in circles")


def _parts(name: str) -> list[bytes]:
    return [part.encode("utf-8", "surrogateescape") for part in name.split("/") if part not in ("", ".")]


def _node(group: Any, part: bytes) -> Any:
    """A group or a dataset of a group; None for anything else, such as a named type."""
    found = h5py.h5o.open(group.id, part)
    if isinstance(found, h5py.h5g.GroupID):
        return h5py.Group(found)
    return h5py.Dataset(found) if isinstance(found, h5py.h5d.DatasetID) else None


def walk(root: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield path and node of everything below ``root``, sorted by path within each group; links are passed over.

    Raises:
        DataError: there is far more than a model has.
    """
    waiting, seen = [("", root)], {_address(root)}
    while waiting:
        path, group = waiting.pop()
        if path:
            yield path, group
        if not isinstance(group, h5py.Group):
            continue
        inner = []
        for part in sorted(group.id):
            if group.id.links.get_info(part).type != h5py.h5l.TYPE_HARD:
                continue
            node = _node(group, part)
            if node is None or (address := _address(node)) in seen:
                continue
            seen.add(address)
            if len(seen) > MOST_NODES:
                raise DataError(f"{where}: holds more than {MOST_NODES} groups and datasets; is not a file of weights")
            inner.append((f"{path}/{part.decode('utf-8', 'replace')}", node))
        waiting += reversed(inner)


def _address(node: Any) -> tuple[int, int]:
    info = h5py.h5o.get_info(node.id)
    return int(info.fileno), int(info.addr)


def children(group: Any) -> list[str]:
    """Return the names in a group."""
    return [part.decode("utf-8", "replace") for part in group.id]


def array(node: Any, where: str) -> NDArray[np.generic]:
    """Return the numbers of a dataset; bfloat16 as Keras stores it comes out as float32.

    Raises:
        DataError: not numbers, too many, or stored in other files.
    """
    where = f"{where}:{node.name}"
    if node.external or node.is_virtual:
        raise DataError(f"{where}: its data are in other files; give a file that holds them itself")
    is_bfloat16 = node.dtype.kind == "V" and node.dtype.itemsize == 2 and text(node.attrs.get("dtype")) == "bfloat16"
    if node.shape is None or not (node.dtype.kind in "iufb" or is_bfloat16):
        raise DataError(f"{where}: must hold real numbers, got {node.dtype}")
    if node.nbytes > MOST_BYTES:
        raise DataError(f"{where}: {node.nbytes} bytes, more than a kernel can be ({MOST_BYTES})")
    values: NDArray[np.generic] = np.asarray(node[()])
    return bfloat16(values.view("<u2")) if is_bfloat16 else values


def arrays(node: Any, bias: Any, where: str) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """Return kernel and bias of two datasets; the kernel's shape is looked at before it is read."""
    check_size(tuple(node.shape or ()), where)
    return array(node, where), None if bias is None else array(bias, where)


def child(group: Any, name: str, where: str) -> Any:
    """Return a dataset of a group; Keras writes ``:0`` behind its name."""
    found = (find(group, each, where) for each in (name, f"{name}:0"))
    return next((node for node in found if isinstance(node, h5py.Dataset)), None)


def text(value: Any) -> str:
    """Return an attribute's bytes or text as text, anything else as nothing."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def names(node: Any, key: str, where: str) -> list[str] | None:
    """Return a list of names in an attribute; Keras splits one that is too large into ``key0``, ``key1``, ...

    Raises:
        DataError: not texts, or far too many.
    """
    if key in node.attrs:
        return _texts(node, key, where)
    if f"{key}0" not in node.attrs:
        return None
    found: list[str] = []
    for n in range(MOST_NAMES):
        if f"{key}{n}" not in node.attrs:
            break
        found += _texts(node, f"{key}{n}", where)
    return found


def _texts(node: Any, key: str, where: str) -> list[str]:
    stored = node.attrs.get_id(key)
    if stored.shape is None or (np.prod(stored.shape, dtype=float) > MOST_NAMES):
        raise DataError(f"{where}: the attribute {key} is not a list of names")
    values = np.atleast_1d(node.attrs[key])
    if values.size and values.dtype.kind not in "OSU":
        raise DataError(f"{where}: the attribute {key} is not a list of names, got {values.dtype}")
    return [text(value if isinstance(value, (str, bytes)) else "") for value in values.ravel().tolist()]
