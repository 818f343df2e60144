"""How is a run to be done, beside its layer?  The options as a user gives them, checked where they are used."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

LASTING = ("axes", "data_format", "align", "dtype", "rescale", "nan", "like", "precision")
"""What decides the voxels or the header; all else only how they are come by."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a run.

    Attributes:
        axes: letters for the axes, if they are not what the file says: ``txyz``.
        data_format: ``channels_last`` or ``channels_first``: one axis is channels.
        align: how the header follows: ``kernel``, ``centroid``, ``edge`` or ``origin``.
        dtype: ``float32``, ``float64``, ``int16``, ``uint8``, ``uint16`` or ``same``; None is the default.
        rescale: whether integers get a slope with which nothing can be clipped.
        nan: ``keep``, ``zero`` or ``error``: what becomes of NaN and infinite voxels.
        like: a volume that says the strides, and whose grid the output must have.
        strict_header: whether a header field that would be lost ends the run before it begins.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``: in which many channels are multiplied on a GPU.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``cuda:all`` or ``mps``; threads: that compute at once.
        max_memory: bytes, or a text such as ``8GiB``; max_vram: the same, of each GPU.
        tile: output voxels per axis of a region.
    """

    axes: str | None = None
    data_format: str | None = None
    align: str = "kernel"
    dtype: Any = None
    rescale: bool = False
    nan: str = "keep"
    like: Any = None
    strict_header: bool = False
    precision: str = "fp32"
    device: str = "auto"
    threads: int | None = None
    max_memory: Any = None
    max_vram: Any = None
    tile: Any = None


NAMES = tuple(each.name for each in fields(Settings))


def split(options: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Return the settings among the keyword arguments of a call, and what is left: the layer's."""
    mine = {name: value for name, value in options.items() if name in NAMES}
    return Settings(**mine), {name: value for name, value in options.items() if name not in NAMES}
