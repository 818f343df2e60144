"""How does a transposed convolution of PyTorch or ONNX become Keras's?  Axes, groups, crops, dilation.

Their weight is ``(channels, filters / groups, k1, k2, k3)``; the taps run the same way as Keras's, so nothing is
flipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from conv3dt.errors import DataError
from conv3dt.weights.kernel import MOST_TAPS, TORCH_AXES, Weights, check_size, checked
from conv3dt.weights.mapping import Foreign, Mapping, mapping

if TYPE_CHECKING:
    from numpy.typing import NDArray

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a layer of another library says beside its weights; ``after`` is less its output padding."""

    strides: Triple
    before: Triple
    after: Triple
    dilations: Triple
    groups: int


def in_keras_order(weight: NDArray[Any], groups: int, path: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return a weight ``(channels, filters / groups, k1, k2, k3)`` as ``(k1, k2, k3, filters, channels)``, and notes.

    Groups are written out: what a group does not see gets exact zeros.

    Raises:
        DataError: not five axes, groups that do not divide the channels, or too many taps once they are written out.
    """
    if weight.ndim != 5:
        raise DataError(f"weights {path}: the weight must have 5 axes {TORCH_AXES}, got shape {weight.shape}")
    check_size(weight.shape, f"weights {path}")
    channels, filters = weight.shape[:2]
    if groups == 1:
        return weight.transpose(2, 3, 4, 1, 0), ()
    if groups < 1 or channels % groups:
        raise DataError(f"weights {path}: {groups} groups do not divide the {channels} channels; the file is damaged")
    if weight.size * groups > MOST_TAPS:
        raise DataError(
            f"weights {path}: {groups} groups written out take {weight.size * groups} taps, more than a kernel can "
            f"have ({MOST_TAPS})"
        )
    share = channels // groups
    dense = np.zeros((*weight.shape[2:], filters * groups, channels), weight.dtype)
    for group in range(groups):
        own = weight[group * share : (group + 1) * share].transpose(2, 3, 4, 1, 0)
        dense[:, :, :, group * filters : (group + 1) * filters, group * share : (group + 1) * share] = own
    return dense, (f"{groups} groups written out as one kernel with zeros between them",)


def groups_by_bias(weight_shape: tuple[int, ...], bias_size: int | None) -> int | None:
    """Return the groups that a transposed weight with this bias has; None: it cannot be one, as a forward one cannot.

    >>> groups_by_bias((4, 6, 3, 3, 3), 6), groups_by_bias((4, 6, 3, 3, 3), 12), groups_by_bias((6, 4, 3, 3, 3), 6)
    (1, 2, None)
    """
    if bias_size is None:
        return 1
    channels, filters = weight_shape[:2]
    if filters == 0 or bias_size == 0 or bias_size % filters:
        return None
    groups = bias_size // filters
    return groups if channels % groups == 0 else None


def in_keras_terms(
    weight: NDArray[Any], bias: NDArray[Any] | None, geometry: Geometry, path: str, form: str, name: str
) -> Weights:
    """Return the layer's weights and the configuration with which Keras computes the same.

    Args:
        weight: ``(channels, filters / groups, k1, k2, k3)``; bias: ``(filters,)`` or None.
        geometry: strides, crops, dilations and groups.
        path: for errors; form: the format; name: the layer's name in its file, or empty.

    Raises:
        DataError: Keras has no words for it.
    """
    kernel, notes = in_keras_order(weight, geometry.groups, path)
    _check_positive(geometry, path)
    dilations = geometry.dilations
    if max(geometry.strides) > 1 and max(dilations) > 1:  # which Keras refuses
        kernel, dilations = _written_out(kernel, dilations, path), (1, 1, 1)
        notes += (f"dilation {geometry.dilations} written out as zero taps, since strides are {geometry.strides}",)
    kernel, found = _placed(kernel, geometry, dilations, path)
    if found.adds:
        notes += (f"zero taps added to the kernel: {found.before} before, {found.after} behind",)
    config: dict[str, Any] = {
        **({"name": name} if name else {}),
        "filters": int(kernel.shape[3]),
        "kernel_size": tuple(int(n) for n in kernel.shape[:3]),
        "strides": geometry.strides,
        "padding": found.padding,
        "activation": "linear",
        "use_bias": bias is not None,
        "output_padding": found.output_padding,
        **({"dilation_rate": dilations} if max(dilations) > 1 else {}),
    }
    layout = f"{TORCH_AXES}: {form}'s order for a transposed convolution"
    return checked(kernel, bias, path, form, layout=layout, config=config, notes=notes)


def _placed(kernel: NDArray[Any], geometry: Geometry, dilations: Triple, path: str) -> tuple[NDArray[Any], Mapping]:
    axes = [
        Foreign(int(size), *rest)
        for size, *rest in zip(
            kernel.shape[:3], geometry.strides, dilations, geometry.before, geometry.after, strict=True
        )
    ]
    try:
        found = mapping(axes)
    except DataError as error:
        raise DataError(f"weights {path}: {error}") from None
    grown = [size + b + a for size, b, a in zip(kernel.shape[:3], found.before, found.after, strict=True)]
    _check_grown(grown, kernel, path)
    added = [*zip(found.before, found.after, strict=True), (0, 0), (0, 0)]
    return np.pad(kernel, added) if found.adds else kernel, found


def _written_out(kernel: NDArray[Any], dilations: Triple, path: str) -> NDArray[Any]:
    sizes = [(size - 1) * dilation + 1 for size, dilation in zip(kernel.shape, dilations, strict=False)]
    _check_grown(sizes, kernel, path)
    wide = np.zeros((*sizes, *kernel.shape[3:]), kernel.dtype)
    wide[tuple(slice(None, None, dilation) for dilation in dilations)] = kernel
    return wide


def _check_grown(sizes: list[int], kernel: NDArray[Any], path: str) -> None:
    taps = prod(sizes) * prod(kernel.shape[3:])
    if taps > MOST_TAPS:
        raise DataError(f"weights {path}: with its zeros the kernel takes {taps} taps, more than can be ({MOST_TAPS})")


def _check_positive(geometry: Geometry, path: str) -> None:
    for name in ("strides", "dilations"):
        if min(getattr(geometry, name)) < 1:
            raise DataError(f"weights {path}: {name} must be at least 1, got {getattr(geometry, name)}")
    if min(geometry.before) < 0:
        raise DataError(f"weights {path}: padding must not be negative, got {geometry.before}")
