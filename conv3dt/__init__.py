"""Upsampling of volumes by transposed convolution, exactly Keras 2.9's ``Conv3DTranspose``: fast, placed, streamed.

Names are imported when they are first used, so that asking for a shape imports neither NumPy nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from conv3dt.version import __version__

if TYPE_CHECKING:
    from conv3dt.api import output_shape, upsample, upsample_file
    from conv3dt.errors import Conv3dtError
    from conv3dt.io.files import read_info

_HOMES = {
    "Conv3dtError": "conv3dt.errors",
    "output_shape": "conv3dt.api",
    "read_info": "conv3dt.io.files",
    "upsample": "conv3dt.api",
    "upsample_file": "conv3dt.api",
}

__all__ = ["Conv3dtError", "__version__", "output_shape", "read_info", "upsample", "upsample_file"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'conv3dt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
