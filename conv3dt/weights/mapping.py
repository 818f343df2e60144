"""Which Keras layer crops and appends as another library's does?  Plain ints, in units of output voxels.

PyTorch and ONNX say how much is cropped before and after; Keras says ``valid`` or ``same`` and an output padding.  Most
of what is used can be said either way, some of it only with zero taps around the kernel: ``kernel 3, stride 2,
padding 1, output_padding 1`` of PyTorch is a Keras kernel of 4 whose last tap is zero, ``same``.

Examples:
    >>> mapping((Foreign(3, 2, before=1, after=0),) * 3)
    Mapping(padding='same', output_padding=None, before=(0, 0, 0), after=(1, 1, 1))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import Axis

MOST_ADDED = 16
"""Zero taps that may be put around the kernel on an axis; each makes the layer slower."""

Triple = tuple[int, int, int]
Choice = tuple[int, "int | None", int, int]
"""Of one axis: taps added in all, output padding, taps added before, taps added after."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """One axis of a transposed convolution that says what it crops; ``after`` may be negative: voxels are appended."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def extent(self) -> int:
        """How many output voxels one input voxel reaches."""
        return (self.kernel - 1) * self.dilation + 1

    def length(self, n: int) -> int:
        """Return how many output voxels ``n`` input voxels become."""
        return (n - 1) * self.stride + self.extent - self.before - self.after


@dataclass(frozen=True, slots=True)
class Mapping:
    """The words that Keras has for it, and the zero taps to add to the kernel on each axis."""

    padding: str
    output_padding: Triple | None
    before: Triple
    after: Triple

    @property
    def adds(self) -> bool:
        """Whether the kernel grows."""
        return any(self.before + self.after)


def in_numbers(padding: Any) -> Any:
    """Return a padding in numbers, which is PyTorch's; None for one in Keras's words.

    >>> in_numbers("1"), in_numbers("1,1,2"), in_numbers((0, 1, 1)), in_numbers("SAME")
    (1, [1, 1, 2], (0, 1, 1), None)
    """
    if not isinstance(padding, str):
        return padding
    if not re.fullmatch(r"\s*\d{1,9}(\s*[,xX]\s*\d{1,9})*\s*", padding):
        return None
    numbers = [int(number) for number in re.split("[,xX]", padding)]
    return numbers[0] if len(numbers) == 1 else numbers


def torch_mapping(
    *, kernel_size: Triple, strides: Triple, dilations: Triple, padding: Triple, output_padding: Triple
) -> Mapping:
    """Return Keras's words for the arguments of a ``torch.nn.ConvTranspose3d``.

    Raises:
        ArgumentError: there are none.
    """
    axes = [
        Foreign(kernel, stride, dilation, crop, crop - more)
        for kernel, stride, dilation, crop, more in zip(
            kernel_size, strides, dilations, padding, output_padding, strict=True
        )
    ]
    try:
        return mapping(axes)
    except DataError as error:
        raise ArgumentError(f"padding {padding}, output_padding {output_padding}: {error}") from None


def grown(kernel_size: Triple, found: Mapping) -> Triple:
    """Return the size of a kernel with its zero taps."""
    first, second, third = (n + b + a for n, b, a in zip(kernel_size, found.before, found.after, strict=True))
    return first, second, third


def mapping(axes: Sequence[Foreign]) -> Mapping:
    """Return the Keras layer that does the same on all three axes, with as few zero taps as can be.

    Raises:
        DataError: there is none; the text says on which axis, and its numbers.
    """
    found = [
        each
        for padding in ("valid", "same")
        for explicit in (False, True)
        if (each := _common(axes, padding, explicit)) is not None
    ]
    if found:
        return min(found, key=lambda each: (sum(each.before + each.after), each.output_padding is not None))
    raise DataError(_refusal(axes))


def _common(axes: Sequence[Foreign], padding: str, explicit: bool) -> Mapping | None:
    choices = [_axis(axis, padding, explicit) for axis in axes]
    if None in choices:
        return None
    first, second, third = (choice for choice in choices if choice is not None)
    extra = None if first[1] is None or second[1] is None or third[1] is None else (first[1], second[1], third[1])
    return Mapping(padding, extra, (first[2], second[2], third[2]), (first[3], second[3], third[3]))


def _axis(axis: Foreign, padding: str, explicit: bool) -> Choice | None:
    """The fewest zero taps with which one axis can be said."""
    if axis.stride < 1 or axis.dilation < 1 or axis.kernel < 1 or axis.before < 0:
        return None
    for added in range(MOST_ADDED + 1):
        for before in range(added + 1):
            extra = _output_padding(axis, padding, added) if explicit else None
            if _is_same(axis, padding, extra, added, before):
                return added, extra, before, added - before
    return None


def _output_padding(axis: Foreign, padding: str, added: int) -> int:
    """The only output padding that can give the right length."""
    extent = axis.extent + added * axis.dilation
    return axis.length(1) - (extent if padding == "valid" else extent % 2)


def _is_same(axis: Foreign, padding: str, extra: int | None, added: int, before: int) -> bool:
    try:
        keras = Axis(axis.kernel + added, axis.stride, axis.dilation, padding, extra)
    except ArgumentError:
        return False
    crops_alike = keras.crop == axis.before + before * axis.dilation
    return crops_alike and all(keras.length(n) == axis.length(n) for n in (1, 2, 5))


def _refusal(axes: Sequence[Foreign]) -> str:
    def can(axis: Foreign, padding: str) -> bool:
        return any(_axis(axis, padding, explicit) is not None for explicit in (False, True))

    hopeless = [axis for axis in axes if not can(axis, "valid") and not can(axis, "same")]
    rule = "Keras's padding is valid or same, each with or without an output padding"
    if hopeless:
        axis = hopeless[0]
        return (
            f"no Conv3DTranspose of Keras crops like that: kernel {axis.kernel}, stride {axis.stride}, dilation "
            f"{axis.dilation}, {axis.before} voxels cropped before and {axis.after} after ({rule})"
        )
    crops = ", ".join(f"{axis.before} and {axis.after}" for axis in axes)
    return (
        f"no Conv3DTranspose of Keras crops like that on all axes at once: before and after {crops} ({rule}, for all)"
    )
