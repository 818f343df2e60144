"""What does torch compute for one part of a transposed convolution, and for the forward convolution?

Torch crops both sides of its result alike; Keras does not (kernel 3, stride 2, ``same``).  So torch is asked for as
much cropping as both sides have to lose, and the rest is cut off or filled up here.  Gradients and ``torch.compile``
go through.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def transposed_convolution(
    x: Tensor,
    weight: Tensor,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    first: Sequence[int],
    lengths: Sequence[int],
) -> Tensor:
    """Return ``lengths`` outputs from output ``first`` on, per axis, of the whole transposed convolution.

    Output ``o`` of an axis of the whole is the sum over ``i, t`` with ``o = stride * i + dilation * t`` of
    ``x[i] * weight[t]``; outputs that no tap reaches, before it and after it too, are 0.

    Args:
        x: ``(n, channels, z, y, x)``.
        weight: ``(channels, filters, kz, ky, kx)``, of the dtype of ``x``.
        strides: per axis, as ``dilations``, ``first`` and ``lengths``; in voxels.
        dilations: the distance of two taps.
        first: the place of the first output wanted in the whole result.
        lengths: how many outputs are wanted.

    Returns:
        ``(n, filters, *lengths)``.
    """
    padding, begin = [], []
    for n, kernel, stride, dilation, start, length in zip(
        x.shape[2:], weight.shape[2:], strides, dilations, first, lengths, strict=True
    ):
        extent = (kernel - 1) * dilation + 1
        rest = (n - 1) * stride + extent - start - length
        both = max(min(start, rest, extent - 1), 0)
        padding.append(both)
        begin.append(start - both)
    whole = F.conv_transpose3d(x, weight, stride=tuple(strides), dilation=tuple(dilations), padding=tuple(padding))
    return _section(whole, begin, lengths)


def _section(whole: Tensor, begin: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """Return ``lengths`` places from ``begin`` on; places outside ``whole`` are 0."""
    missing: list[int] = []
    for dim, (start, length) in enumerate(zip(begin, lengths, strict=True), start=2):
        n = whole.shape[dim]
        low, high = min(max(start, 0), n), min(max(start + length, 0), n)
        if high - low != n:
            whole = whole.narrow(dim, low, high - low)
        before = min(max(-start, 0), length)
        missing = [before, length - before - (high - low), *missing]  # F.pad counts from the last axis
    return F.pad(whole, missing) if any(missing) else whole


def forward_convolution(
    x: Tensor, weight: Tensor, *, strides: Sequence[int], dilations: Sequence[int], same: bool
) -> Tensor:
    """Return the ordinary convolution (a cross-correlation) with TensorFlow's padding.

    With ``same`` an axis of ``n`` becomes ``ceil(n / stride)`` long, and of the zeros that this needs the smaller half
    stands before it; else none are added.

    Args:
        x: ``(n, channels, z, y, x)``.
        weight: ``(filters, channels, kz, ky, kx)``, of the dtype of ``x``.
        strides: per axis, as ``dilations``; in voxels.
        dilations: the distance of two taps.
        same: whether zeros are added.

    Returns:
        ``(n, filters, z, y, x)``.
    """
    if same:
        zeros: list[int] = []
        for n, kernel, stride, dilation in zip(x.shape[2:], weight.shape[2:], strides, dilations, strict=True):
            total = max((-(-n // stride) - 1) * stride + (kernel - 1) * dilation + 1 - n, 0)
            zeros = [total // 2, total - total // 2, *zeros]
        x = F.pad(x, zeros)
    return F.conv3d(x, weight, stride=tuple(strides), dilation=tuple(dilations))
