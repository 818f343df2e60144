"""How does a kernel come out of a file, and into one?  One format a module; nothing in a file is ever executed.

What a file is, its first bytes tell, never its name; what it is to be written as, the name tells.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from conv3dt import paths
from conv3dt.errors import ArgumentError, DataError, InputMissingError
from conv3dt.trial import attempt
from conv3dt.weights.kernel import LAYOUTS, MOST_TAPS, Weights, check_writable, checked, listed, quoting, reason

__all__ = ["MOST_TAPS", "WRITERS", "Weights", "checked", "read_weights", "write_weights"]

KNOWN = (
    "give a Keras model (.keras, .h5), a PyTorch file (.pt, .pth), .safetensors, .onnx, .npz, .npy or HDF5 "
    "(file.h5:/kernel)"
)
LEGACY_TORCH = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
"""The number with which `torch.save` began before it wrote archives, as a pickle holds it."""

WRITERS = {
    ".npz": ("arrays", "written_npz"),
    ".npy": ("arrays", "written_npy"),
    ".safetensors": ("safetensors_file", "written"),
    ".h5": ("keras_legacy", "written"),
    ".hdf5": ("keras_legacy", "written"),
    ".keras": ("keras_archive", "written"),
    ".pt": ("pytorch", "written"),
    ".pth": ("pytorch", "written"),
    ".onnx": ("onnx_file", "written"),
}
"""What makes the bytes of a file, by the extension of its name: a module here and a function in it."""


def read_weights(path: str, layout: str | None = None) -> Weights:
    """Read a kernel and, if there are any, its bias and what the file says of its layer.

    Args:
        path: a saved Keras model or its weights, a PyTorch file, ``.safetensors``, ``.onnx``, ``.npz`` (arrays
            ``kernel`` and ``bias``), ``.npy``, or HDF5.  Of several layers or arrays ``file:/name`` chooses one.
        layout: ``keras`` or ``torch``: how the five axes of bare arrays run, ``(k1, k2, k3, filters, channels)`` or
            ``(channels, filters, k1, k2, k3)``; None takes what is usual in the format.  Three axes are a kernel from
            one channel to one.

    Raises:
        InputMissingError: no such file, or nothing of that name in it.
        DataError: not a kernel: wrong rank, not finite, a bias of another length; or not clear which.
        ArgumentError: another ``layout`` than the format lays down.
    """
    if layout not in (None, *LAYOUTS):
        raise ArgumentError(f"layout must be keras or torch, got {layout!r}")
    with quoting(path):
        return _read(path, layout)


def _read(path: str, layout: str | None) -> Weights:
    file, name = paths.split_weights(path)
    module = _module(file)
    if module == "hdf5":
        attempt(file, f"{__name__}.hdf5", "read", file, name, layout)
    try:
        found = import_module(f"conv3dt.weights.{module}").read(file, name, layout)
    except OSError as error:
        if isinstance(error, InputMissingError):
            raise
        raise InputMissingError(f"weights {file}: cannot be read: {reason(error)}") from None
    except MemoryError:
        raise DataError(f"weights {file}: asks for more memory than there is; is it damaged?") from None
    assert isinstance(found, Weights)
    return found


def _module(file: str) -> str:
    """The module that reads a file, by the file's first bytes."""
    try:
        if not Path(file).is_file():
            what = " but a folder; of a SavedModel make a .keras or .h5 file in Keras" if Path(file).is_dir() else ""
            raise InputMissingError(f"weights {file}: no such file{what}")
        with Path(file).open("rb") as stream:
            start = stream.read(64)
    except (OSError, ValueError) as error:  # a name may also be too long, or hold a zero
        if isinstance(error, InputMissingError):
            raise
        raise InputMissingError(f"weights {file}: cannot be opened: {reason(error)}") from None
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if start[:6] == b"\x93NUMPY":
        return "arrays"
    if start[:4] == b"PK\x03\x04":
        from conv3dt.weights.archive import module_of

        return module_of(file)
    if LEGACY_TORCH in start:
        return "pytorch"
    if start[8:9] == b"{" and start[6:8] == b"\0\0":  # the length of a header, then the header
        return "safetensors_file"
    if (
        start[:1] == b"\x08"
        and b"\0" < start[1:2] < b"\x20"
        and start[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x3a", b"\x42")
    ):
        return "onnx_file"
    raise DataError(f"weights {file}: not a kernel file{_guess(start)}; {KNOWN}")


def _guess(start: bytes) -> str:
    """What a file may be that is no kernel."""
    if not start:
        return ": it is empty"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return ": a Python pickle, which could run anything and is not opened"
    if start.lstrip()[:1] == b"{":
        return ": JSON may describe a layer but holds no weights"
    return ""


def write_weights(weights: Any, path: str, *, overwrite: bool = False) -> list[str]:
    """Write a kernel with its bias, and its layer's configuration where the format has a place for it.

    Args:
        weights: what `read_weights` returned, a built `Conv3DTranspose`, or anything else that `upsample` takes as
            weights; the kernel comes out of the file bit for bit.
        path: whose extension names the format: ``.safetensors``, ``.npz``, ``.npy``, ``.h5`` or ``.hdf5`` (as Keras 2
            writes a model), ``.keras`` (as Keras 3 does), ``.pt`` or ``.pth`` (a state dict), ``.onnx``.
        overwrite: replace a file that is there.

    Returns:
        What could not be kept, a line each.

    Raises:
        ArgumentError: the extension says no format, or the format cannot express the layer.
        DataError: configuration and kernel contradict.
        OutputError, StreamError: the file cannot be created or written; what was there stays.
    """
    from conv3dt.pending import PendingFile, check_target, writing

    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ArgumentError(f"output {path}: the name does not say a format of weights; known are {listed([*WRITERS])}")
    check_target(path, overwrite=overwrite)
    if not isinstance(weights, Weights):
        from conv3dt.weights.given import weights_in_memory

        weights = weights_in_memory(weights)
    check_writable(weights)
    module, function = WRITERS[suffix]
    content, lost = getattr(import_module(f"conv3dt.weights.{module}"), function)(weights)
    pending = PendingFile(path, overwrite=overwrite)
    try:
        with writing(path):
            pending.work.write_bytes(content)
        pending.commit()
    except BaseException:
        pending.abort()
        raise
    return list(lost)
