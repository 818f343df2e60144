"""How does a kernel come out of NumPy's own files, and into them?  And what do bare arrays mean?"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conv3dt.errors import Conv3dtError, DataError, InputMissingError
from conv3dt.weights.foreign import groups_by_bias, in_keras_order
from conv3dt.weights.kernel import (
    KERAS_AXES,
    MOST_BYTES,
    TORCH_AXES,
    Weights,
    check_layout,
    checked,
    listed,
    lost_alpha,
    reason,
)
from conv3dt.weights.own import KEY, layer_of, layer_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

KERNEL_NAMES = ("kernel", "weights", "weight", "w")


def read(path: str, name: str | None, layout: str | None) -> Weights:
    """Return the weights in an ``.npz`` or ``.npy`` file.

    Args:
        path: the file; name: of the kernel's array in an ``.npz``; layout: ``keras`` (the default) or ``torch``.

    Raises:
        InputMissingError: no array of that name.
        DataError: not NumPy's, damaged, too large, or not a kernel.
    """
    whole = path if name is None else f"{path}:{name}"
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                kernel, bias, told, alpha = _packed(path, (name or "").strip("/"))
                if told is None:
                    return arranged(kernel, bias, whole, "npz", layout)
                return _own(checked(kernel, bias, whole, "npz", alpha=alpha), told, layout)
            file.seek(0)
            return arranged(_array(file, path, "the array"), None, whole, "npy", layout)
    except Conv3dtError:
        raise
    except Exception as error:  # NumPy lets through whatever zipfile, zlib and its own parser of headers raise
        raise DataError(f"weights {path}: cannot be read as a NumPy file: {reason(error)}") from None


def _own(found: Weights, told: NDArray[np.generic], layout: str | None) -> Weights:
    """What `written_npz` wrote: the layer's configuration is there too."""
    check_layout(layout, "keras", found.path, "a file of conv3dt's")
    config = layer_of(str(told), found.kernel.shape, f"weights {found.path}")
    return replace(found, layout=f"{KERAS_AXES}: written by conv3dt", config=config)


def _packed(
    path: str, wanted: str
) -> tuple[NDArray[np.generic], NDArray[np.generic] | None, NDArray[np.generic] | None, NDArray[np.generic] | None]:
    """Kernel, bias, the layer's configuration and its alpha, as far as they are there."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
        if total > MOST_BYTES:
            raise DataError(f"weights {path}: unpacks to {total} bytes, more than a kernel can be ({MOST_BYTES})")
        names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
        name = _kernel_name(path, names, wanted)

        def array(entry: str) -> NDArray[np.generic]:
            with archive.open(f"{entry}.npy") as file:
                return _array(file, path, entry)

        beside = f"{name[: name.rfind('/') + 1]}bias"
        bias = array(beside) if beside in names and beside != name else None
        own = KEY in names and name == "kernel"
        return array(name), bias, array(KEY) if own else None, array("alpha") if own and "alpha" in names else None


def _array(file: Any, path: str, name: str) -> NDArray[np.generic]:
    """One array; its header is looked at before room is made for it."""
    numpy_format: Any = np.lib.format
    version = numpy_format.read_magic(file)
    read_header = {(1, 0): numpy_format.read_array_header_1_0, (2, 0): numpy_format.read_array_header_2_0}
    if version not in read_header:
        raise DataError(f"weights {path}: {name} must hold real numbers, got version {version} of NumPy's format")
    shape, _, dtype = read_header[version](file)
    size = dtype.itemsize * np.prod(shape, dtype=float)
    if size > MOST_BYTES:
        raise DataError(f"weights {path}: {name} takes {size:.0f} bytes, more than a kernel can be ({MOST_BYTES})")
    file.seek(0)
    array: NDArray[np.generic] = numpy_format.read_array(file, allow_pickle=False)
    return array


def _kernel_name(path: str, names: list[str], wanted: str) -> str:
    if wanted:
        if wanted not in names:
            raise InputMissingError(f"weights {path}: no array {wanted}; there are {listed(names)}")
        return wanted
    for name in KERNEL_NAMES:
        if name in names:
            return name
    others = [name for name in names if name not in ("bias", KEY)]
    if len(others) == 1:
        return others[0]
    raise DataError(f"weights {path}: which array is the kernel? call it 'kernel'; there are {listed(names)}")


def arranged(
    kernel: NDArray[Any], bias: NDArray[Any] | None, path: str, form: str, layout: str | None, why: str = ""
) -> Weights:
    """Return bare arrays as weights: in Keras's order unless ``layout`` says ``torch``.

    Args:
        kernel: five axes, or three for one channel; bias: ``(filters,)`` or None.
        path: for errors; form: the format; why: what told the layout, if not the caller.

    Raises:
        DataError: not a kernel.
    """
    if layout != "torch" or kernel.ndim != 5:
        text = f"{KERAS_AXES}{why}" if kernel.ndim == 5 and why else None
        return checked(kernel, bias, path, form, layout=text)
    groups = groups_by_bias(kernel.shape, None if bias is None else bias.size)
    if groups is None:
        raise DataError(
            f"weights {path}: a bias of {bias.size if bias is not None else 0} does not go with a transposed weight "
            f"{TORCH_AXES} of shape {kernel.shape}; is it a forward Conv3d?"
        )
    dense, notes = in_keras_order(kernel, groups, path)
    return checked(dense, bias, path, form, layout=f"{TORCH_AXES}{why or ': as asked for'}", notes=notes)


def written_npz(weights: Weights) -> tuple[bytes, list[str]]:
    """Return the bytes of an ``.npz`` with ``kernel`` and ``bias``, and the layer beside them; what has no place."""
    stream = io.BytesIO()
    lost: list[str] = []
    arrays: dict[str, NDArray[Any]] = dict(arrays_of(weights))
    if weights.config is not None:
        text, lost = layer_text(weights)
        arrays[KEY] = np.array(text)
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue(), lost


def written_npy(weights: Weights) -> tuple[bytes, list[str]]:
    """Return the bytes of an ``.npy`` with the kernel, and what has no place in it."""
    stream = io.BytesIO()
    np.save(stream, weights.kernel)
    lost = ["no place for the bias in .npy"] if weights.bias is not None else []
    return stream.getvalue(), lost + lost_config(weights, ".npy")


def arrays_of(weights: Weights) -> dict[str, NDArray[np.floating]]:
    """Return ``kernel`` and, as far as there are any, ``bias`` and ``alpha``."""
    found = {"kernel": weights.kernel, "bias": weights.bias, "alpha": weights.alpha}
    return {name: array for name, array in found.items() if array is not None}


def lost_config(weights: Weights, suffix: str) -> list[str]:
    """Return what to say where a format has no place for the configuration."""
    lost = [] if weights.config is None else [f"no place for the configuration in {suffix}"]
    return lost + lost_alpha(weights, suffix)
