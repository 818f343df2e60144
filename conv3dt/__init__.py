"""Upsampling of volumes by transposed convolution, exactly Keras 2.9's ``Conv3DTranspose``: fast, placed, streamed.

Names are imported when they are first used, so that asking for a shape imports neither NumPy nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from conv3dt.version import __version__

if TYPE_CHECKING:
    from conv3dt import activations, constraints, initializers, regularizers
    from conv3dt.api import output_shape, upsample, upsample_file
    from conv3dt.compare import compare_files
    from conv3dt.errors import Conv3dtError
    from conv3dt.io.files import read_info
    from conv3dt.kernel_files import convert_kernel, inspect_kernel, make_kernel
    from conv3dt.layer.module import Conv3DTranspose, Convolution3DTranspose
    from conv3dt.preview import preview_file
    from conv3dt.verify import verify_file
    from conv3dt.weights import read_weights, write_weights

_HOMES = {
    "Conv3DTranspose": "conv3dt.layer.module",
    "Conv3dtError": "conv3dt.errors",
    "Convolution3DTranspose": "conv3dt.layer.module",
    "compare_files": "conv3dt.compare",
    "convert_kernel": "conv3dt.kernel_files",
    "inspect_kernel": "conv3dt.kernel_files",
    "make_kernel": "conv3dt.kernel_files",
    "output_shape": "conv3dt.api",
    "preview_file": "conv3dt.preview",
    "read_info": "conv3dt.io.files",
    "read_weights": "conv3dt.weights",
    "upsample": "conv3dt.api",
    "upsample_file": "conv3dt.api",
    "verify_file": "conv3dt.verify",
    "write_weights": "conv3dt.weights",
}
_MODULES = ("activations", "constraints", "initializers", "regularizers")

__all__ = [
    "Conv3DTranspose",
    "Conv3dtError",
    "Convolution3DTranspose",
    "__version__",
    "activations",
    "compare_files",
    "constraints",
    "convert_kernel",
    "initializers",
    "inspect_kernel",
    "make_kernel",
    "output_shape",
    "preview_file",
    "read_info",
    "read_weights",
    "regularizers",
    "upsample",
    "upsample_file",
    "verify_file",
    "write_weights",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"conv3dt.{name}")
    raise AttributeError(f"module 'conv3dt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
