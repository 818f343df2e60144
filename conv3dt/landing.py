"""Which setting would put a layer's output on a grid that it misses?  Alignments, paddings and kernel sizes, tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from conv3dt.affine import ALIGNMENTS, Placement, place
from conv3dt.errors import ArgumentError
from conv3dt.geometry import Axis
from conv3dt.grids import PLACE, Array, Offset, Triple, offset, signed
from conv3dt.kernels import KERNELS

if TYPE_CHECKING:
    from conv3dt.layer.concrete import Layer

MOST_MORE = 8
"""How many taps more than the layer's own a kernel may have to be named."""


@dataclass(frozen=True, slots=True, eq=False)
class Miss:
    """A layer whose output is not on the grid that is wanted.

    Attributes:
        layer: axes as the source lists them; align: of its output, see `affine.place`.
        space: of the source; matrix: of the source.
        wanted_space, wanted: the grid, in the source's unit.
        offset: of the grid against the output.
    """

    layer: Layer
    align: str
    space: Triple
    matrix: Array
    wanted_space: Triple
    wanted: Array
    offset: Offset

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """The laws of the layer's axes."""
        return self.layer.config.axes

    def lands(self, n: int, axis: Axis, moved: float) -> bool:
        """Whether axis ``n`` under another law, by which voxels lie ``moved`` output voxels further, is the grid's."""
        right = abs(moved - self.offset.mean[n]) <= self.offset.allowed[n]
        return bool(right) and axis.length(self.space[n]) == self.wanted_space[n]


def hints(miss: Miss) -> Iterator[str]:
    """Yield what would make the output the grid that is wanted, or make only its header agree."""
    if _has_settings(miss.layer) and miss.offset.is_rigid and miss.align in ("kernel", "centroid"):
        found = _padding(miss) or _padding_in_numbers(miss) or _kernel_size(miss)
        if found:
            yield f"{found} would land on it"
    if miss.layer.config.output_shape(miss.space) == miss.wanted_space:
        yield from _alignments(miss)
    if miss.offset.is_whole:
        yield "crop or pad the result"


def _has_settings(layer: Layer) -> bool:
    """Whether a layer was given as it is: not a named kernel, nor one with planes of zeros around it for a padding."""
    ends = [layer.kernel.take(end, axis=axis) for axis in range(3) for end in (0, -1)]
    return layer.name not in KERNELS and all(plane.any() for plane in ends)


def _alignments(miss: Miss) -> Iterator[str]:
    for align in ALIGNMENTS:
        placement = None if align == miss.align else _placement(miss, align)
        if placement is None or not offset(miss.matrix @ placement.matrix(), miss.wanted, miss.wanted_space).fits:
            continue
        said, drift = f"--align {align} would make the header agree", signed(np.array(placement.drift))
        if max(map(abs, placement.drift)) <= PLACE:
            yield f"{said}, and is where this kernel's weight lies"
        else:
            off = f"({drift}) output voxels off where this kernel's weight lies"
            yield f"{said}, but moves only the header: it then places voxels {off}"
        return


def _placement(miss: Miss, align: str) -> Placement | None:
    try:
        return place(miss.axes, align, miss.layer.kernel)
    except ArgumentError:  # a kernel without a centre of mass
        return None


def _padding(miss: Miss) -> str | None:
    """Keras's padding, and output padding if it takes one, with which the same kernel lands on the grid."""
    for padding in ("same", "valid"):
        if all(_crops(miss, n, padding, None) for n in range(3)):
            return f"--padding {padding}"
        extras = [
            next((extra for extra in range(axis.stride) if _crops(miss, n, padding, extra)), None)
            for n, axis in enumerate(miss.axes)
        ]
        if None not in extras:
            return f"--padding {padding} --output-padding {','.join(map(str, extras))}"
    return None


def _crops(miss: Miss, n: int, padding: str, extra: int | None) -> bool:
    try:
        axis = replace(miss.axes[n], padding=padding, output_padding=extra)
    except ArgumentError:
        return False
    return miss.lands(n, axis, axis.crop - miss.axes[n].crop)


def _padding_in_numbers(miss: Miss) -> str | None:
    """The same in PyTorch's words."""
    if not miss.offset.is_whole:
        return None
    crops = [axis.crop + round(float(moved)) for axis, moved in zip(miss.axes, miss.offset.mean, strict=True)]
    extras = [
        wanted - (n - 1) * axis.stride - axis.extent + 2 * crop
        for axis, crop, n, wanted in zip(miss.axes, crops, miss.space, miss.wanted_space, strict=True)
    ]
    inside = all(0 <= extra < max(axis.stride, axis.dilation) for extra, axis in zip(extras, miss.axes, strict=True))
    if min(crops) < 0 or not inside or not _can_be_said(miss.layer, crops, extras):
        return None
    return f"--padding {','.join(map(str, crops))} --output-padding {','.join(map(str, extras))}"


def _can_be_said(layer: Layer, crops: list[int], extras: list[int]) -> bool:
    """Whether Keras has words for PyTorch's."""
    from conv3dt.weights.mapping import torch_mapping

    config = layer.config
    try:
        torch_mapping(
            kernel_size=config.kernel_size, strides=config.strides, dilations=config.dilation_rate,
            padding=(crops[0], crops[1], crops[2]), output_padding=(extras[0], extras[1], extras[2]),
        )  # fmt: skip
    except ArgumentError:
        return False
    return True


def _kernel_size(miss: Miss) -> str | None:
    """The size nearest to the kernel's own, all its taps counted, with which Keras's layer lands on the grid."""
    if miss.align != "kernel":
        return None
    shift = place(miss.axes, "kernel", miss.layer.kernel).shift
    for padding in ("same", "valid"):
        sizes = [_size(miss, n, padding, shift[n]) for n in range(3)]
        if None not in sizes:
            return f"a kernel of {'x'.join(map(str, sizes))} with --padding {padding}"
    return None


def _size(miss: Miss, n: int, padding: str, shift: float) -> int | None:
    own = miss.axes[n]
    nearest = sorted(range(1, own.kernel + MOST_MORE + 1), key=lambda size: abs(size - own.kernel))
    for size in nearest:
        axis = Axis(size, own.stride, own.dilation, padding)
        if miss.lands(n, axis, (axis.shift - shift) * axis.stride):
            return size
    return None
