"""How does a kernel come out of NumPy's own files?"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from conv3dt.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KERNEL_NAMES = ("kernel", "weights", "weight", "w")
MOST_BYTES = 2**30


def read(path: str) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """Return kernel and bias of an ``.npz`` or ``.npy`` file."""
    import numpy as np

    try:
        if zipfile.is_zipfile(path):
            _check_size(path)
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, None
            name = _kernel_name(path, loaded.files)
            return loaded[name], loaded["bias"] if "bias" in loaded.files else None
    except DataError:
        raise
    except Exception as error:  # NumPy lets through whatever zipfile, zlib and its own parser of headers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"weights {path}: cannot be read as a NumPy file: {reason}") from None


def _check_size(path: str) -> None:
    with zipfile.ZipFile(path) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    if total > MOST_BYTES:
        raise DataError(f"weights {path}: unpacks to {total} bytes, more than a kernel can be ({MOST_BYTES})")


def _kernel_name(path: str, names: list[str]) -> str:
    for name in KERNEL_NAMES:
        if name in names:
            return name
    others = [name for name in names if name != "bias"]
    if len(others) == 1:
        return others[0]
    raise DataError(f"weights {path}: which array is the kernel? call it 'kernel'; there are {', '.join(names)}")
