"""How does a kernel come out of a safetensors file, and into one?  Our own, which hold the layer too, and others'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conv3dt.errors import Conv3dtError, DataError, InputMissingError
from conv3dt.weights.arrays import arranged, arrays_of
from conv3dt.weights.keras_config import MOST_JSON_BYTES, parsed
from conv3dt.weights.kernel import (
    KERAS_AXES,
    Weights,
    bfloat16,
    check_layout,
    check_size,
    checked,
    listed,
    reason,
)
from conv3dt.weights.own import KEY, layer_of, layer_text
from conv3dt.weights.tensors import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

Header = dict[str, Any]

TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def read(path: str, name: str | None, layout: str | None) -> Weights:
    """Return the weights in a ``.safetensors`` file.

    Args:
        path: the file; name: a tensor, or the layer that it belongs to.
        layout: of a tensor's five axes; by its name where it is None.

    Raises:
        InputMissingError: nothing of that name.
        DataError: damaged, not clear which, or not a kernel.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:  # which checks the header
            header = _header(path)
            told = header.pop("__metadata__", {})
            if KEY in told:
                return _own(file, header, path, told[KEY], (name or "").strip("/"), layout)
            shapes = {key: tuple(entry["shape"]) for key, entry in header.items()}
            choice = choose(shapes, name, path, layout, "torch" if told.get("format") == "pt" else "keras")
            kernel = _array(file, header, path, choice.kernel)
            bias = None if choice.bias is None else _array(file, header, path, choice.bias)
            whole = path if name is None else f"{path}:{name}"
            return arranged(kernel, bias, whole, "safetensors", choice.layout, f": {choice.kernel}, {choice.why}")
    except Conv3dtError:
        raise
    except Exception as error:  # the library's own errors, and what NumPy makes of hostile headers
        raise DataError(f"weights {path}: cannot be read as safetensors: {reason(error)}") from None


def _header(path: str) -> Header:
    """What the file says of its tensors: ``dtype``, ``shape`` and ``data_offsets`` of each."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MOST_JSON_BYTES:
            raise DataError(f"weights {path}: a header of {size} bytes is more than weights have ({MOST_JSON_BYTES})")
        header = parsed(file.read(size), f"weights {path}")
    assert isinstance(header, dict)
    return header


def _own(file: Any, header: Header, path: str, told: str, wanted: str, layout: str | None) -> Weights:
    where, names = f"weights {path}", list(header)
    check_layout(layout, "keras", path, "a file of conv3dt's")
    config = layer_of(told, tuple(header["kernel"]["shape"]) if "kernel" in names else (), where)
    if "kernel" not in names:
        raise DataError(f"{where}: says that conv3dt wrote it, but holds no Conv3DTranspose; there are {listed(names)}")
    kernel = _array(file, header, path, "kernel")
    if wanted not in ("", "kernel", config.get("name")):
        raise InputMissingError(f"{where}: no layer {wanted}; there is {config.get('name') or 'kernel'}")
    bias, alpha = (_array(file, header, path, each) if each in names else None for each in ("bias", "alpha"))
    text = f"{KERAS_AXES}: written by conv3dt"
    return checked(kernel, bias, path, "safetensors", layout=text, config=config, alpha=alpha)


def _array(file: Any, header: Header, path: str, name: str) -> NDArray[Any]:
    shape, kind = tuple(header[name]["shape"]), header[name]["dtype"]
    if kind not in TYPES:
        raise DataError(f"weights {path}:/{name}: must hold real numbers, got {kind}")
    check_size(shape, f"weights {path}:/{name}")
    if kind != "BF16":
        array: NDArray[Any] = file.get_tensor(name)
        return array
    start, stop = header[name]["data_offsets"]  # of a type that NumPy does not have
    with open(path, "rb") as stream:
        stream.seek(8 + int.from_bytes(stream.read(8), "little") + start)
        return bfloat16(np.frombuffer(stream.read(stop - start), "<u2").reshape(shape))


def written(weights: Weights) -> tuple[bytes, list[str]]:
    """Return the bytes of a file of our own, and what of the configuration is not plain data."""
    from safetensors.numpy import save

    told, lost = layer_text(weights)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays_of(weights).items()}
    return save(arrays, {KEY: told}), lost
