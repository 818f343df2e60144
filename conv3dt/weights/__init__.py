"""How does a kernel come out of a file?  One format a module; nothing in a file is ever executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conv3dt import paths
from conv3dt.errors import DataError, InputMissingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MOST_TAPS = 2**27


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A kernel as it came out of a file.

    Attributes:
        kernel: Keras layout ``(k1, k2, k3, filters, channels)``, float32 or float64, finite.
        bias: ``(filters,)`` or None.
        path: where it came from; format: in which format; layout: how the array was understood.
        config: what the file says of the layer, in the names and spellings of Keras 2.9's ``get_config`` (any part of
            it: a PyTorch state dict says nothing, a Keras archive everything); None where it says nothing.
        notes: what was done to bring the kernel into Keras's terms, for the report.
    """

    kernel: NDArray[np.floating]
    bias: NDArray[np.floating] | None
    path: str
    format: str
    layout: str
    config: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_zero(self) -> bool:
        """Whether the kernel can only give zeros."""
        return not self.kernel.any()


def read_weights(path: str) -> Weights:
    """Read a kernel and, if there is one, its bias.

    Args:
        path: ``.npz`` (arrays ``kernel`` and ``bias``), ``.npy``, or HDF5 as ``file.h5:/kernel`` (the bias is the
            dataset ``bias`` beside it).  Five axes are ``(k1, k2, k3, filters, channels)``; three are a kernel from
            one channel to one.

    Raises:
        InputMissingError: no such file or dataset.
        DataError: not a kernel: wrong rank, not finite, or a bias of another length.
    """
    file, dataset = paths.split(path)
    if not Path(file).is_file():
        raise InputMissingError(f"weights {file}: no such file")
    with Path(file).open("rb") as stream:
        start = stream.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        from conv3dt.weights.hdf5 import read

        kernel, bias = read(file, dataset)
        return checked(kernel, bias, path, "hdf5")
    if start[:6] == b"\x93NUMPY" or start[:4] == b"PK\x03\x04":
        from conv3dt.weights.arrays import read as read_arrays

        kernel, bias = read_arrays(file)
        return checked(kernel, bias, path, "npy" if start[0] == 0x93 else "npz")
    raise DataError(f"weights {file}: not a kernel file; give .npz, .npy or HDF5 (file.h5:/kernel)")


def checked(kernel: NDArray[np.generic], bias: NDArray[np.generic] | None, path: str, form: str) -> Weights:
    """Return the arrays of a file as weights, or say what is wrong with them."""
    import numpy as np

    for name, given in (("kernel", kernel), ("bias", bias)):
        if given is not None and np.asarray(given).dtype.kind not in "iufb":
            raise DataError(f"weights {path}: the {name} must hold real numbers, got {np.asarray(given).dtype}")
    if kernel.ndim not in (3, 5):
        raise DataError(
            f"weights {path}: the kernel must have 5 axes (k1, k2, k3, filters, channels), or 3 for one channel, "
            f"got shape {kernel.shape}"
        )
    if kernel.size > MOST_TAPS:
        raise DataError(f"weights {path}: {kernel.size} taps are more than a kernel can have ({MOST_TAPS})")
    if 0 in kernel.shape:
        raise DataError(f"weights {path}: the kernel is empty, got shape {kernel.shape}")
    wide = kernel.dtype.kind in "iu" or kernel.dtype.itemsize > 4
    values: NDArray[np.floating] = kernel.astype(np.float64 if wide else np.float32)
    layout = "(k1, k2, k3, filters, channels)" if kernel.ndim == 5 else "(k1, k2, k3), one channel"
    if values.ndim == 3:
        values = values[..., None, None]
    extra = None if bias is None else np.atleast_1d(np.asarray(bias)).astype(values.dtype)
    if extra is not None and extra.shape != values.shape[3:4]:
        raise DataError(f"weights {path}: the bias must have {values.shape[3]} values, one a filter, got {extra.shape}")
    for name, array in (("kernel", values), ("bias", extra)):
        if array is not None and not np.isfinite(array).all():
            bad = int(np.count_nonzero(~np.isfinite(array)))
            raise DataError(f"weights {path}: the {name} holds {bad} values that are NaN or infinite; mend the file")
    return Weights(values, extra, path, form, layout)
