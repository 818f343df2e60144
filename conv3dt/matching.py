"""Does a layer go with a volume?  Channels, labels and types, by their numbers alone."""

from __future__ import annotations

from conv3dt.errors import ArgumentError, DataError
from conv3dt.layer.config import DTYPES, check_choice

REDUCTIONS = ("argmax", "softmax")
LARGEST = {"uint8": 2**8 - 1, "uint16": 2**16 - 1, "uint32": 2**32 - 1, "int16": 2**15 - 1}
"""What the whole-numbered types hold; the unsigned ones in the order in which labels take them."""


def check_channels(
    channels: int, *, per_channel: bool, name: str, path: str, shape: tuple[int, ...], axes: str
) -> None:
    """Refuse a volume whose channels are not those of the kernel.

    Args:
        channels: that the kernel takes; per_channel: whether it is meant for each of the volume's by itself.
        name: of the kernel; path, shape, axes: of the volume.

    Raises:
        DataError: says what came and what to do.
    """
    there = shape[axes.index("c")] if "c" in axes else 1
    volume = f"{path}: has {there} channel{'s' * (there > 1)} ({'x'.join(map(str, shape))}, axes {axes})"
    if per_channel and "c" not in axes:
        raise DataError(
            f"{volume}; per-channel needs an axis of channels: say which it is (--channels-last, --channels-first)"
        )
    if per_channel or there == channels:
        return
    if "c" not in axes:
        hint = "say which axis is channels (--channels-last, --channels-first)"
        hint = "use a kernel made for it" if len(axes) == 3 else hint
    elif channels == 1:
        hint = "say --per-channel, or do not call an axis channels: then each volume is treated for itself"
    else:
        hint = "use a kernel made for them"
    raise DataError(f"{volume}, the kernel {name} takes {channels}; {hint}")


def check_reduction(reduce: str | None, *, per_channel: bool, name: str, channels: int, filters: int) -> None:
    """Refuse a kernel that makes no sense for what is done with channels.

    Raises:
        DataError, ArgumentError: says what to do.
    """
    if per_channel and (channels, filters) != (1, 1):
        raise DataError(
            f"per-channel takes a kernel of one channel and one filter, got {channels} -> {filters} ({name}); leave "
            f"--per-channel out to use it as it is"
        )
    if reduce and not per_channel and filters == 1:
        raise ArgumentError(
            f"reduce {reduce} needs several filters, the kernel {name} has one; say --per-channel to upsample the "
            f"channels of the volume by themselves"
        )


def label_type(labels: int, dtype: str | None) -> str:
    """Return the type for so many labels: the smallest unsigned one that holds them, or the one asked for.

    Raises:
        ArgumentError: the type asked for cannot hold them, or there is none of that name.

    >>> label_type(256, None), label_type(257, None), label_type(300, "int16")
    ('uint8', 'uint16', 'int16')
    """
    if dtype in (None, "same"):
        return next(name for name, most in LARGEST.items() if labels - 1 <= most)
    name = check_choice("dtype", dtype, DTYPES)
    if labels - 1 > LARGEST.get(name, labels):
        raise ArgumentError(f"dtype {name} cannot hold {labels} labels; leave it out to get the smallest that can")
    return name
