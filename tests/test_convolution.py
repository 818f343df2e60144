"""Are the outputs that were asked for those of the whole transposed convolution, wherever they lie?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conv3dt.layer.convolution import forward_convolution, transposed_convolution
from tests.keras29 import whole


def three(low: int, high: int) -> Any:
    return st.tuples(*[st.integers(low, high)] * 3)


def transposed(x: Any, w: Any, strides: Any, dilations: Any, first: Any, lengths: Any) -> Any:
    """The definition, one tap of one voxel at a time; places outside are left out."""
    out = np.zeros((x.shape[0], w.shape[1], *lengths))
    for i in np.ndindex(*x.shape[2:]):
        for t in np.ndindex(*w.shape[2:]):
            place = tuple(s * n + d * k - f for s, n, d, k, f in zip(strides, i, dilations, t, first, strict=True))
            if all(0 <= o < length for o, length in zip(place, lengths, strict=True)):
                out[(..., *place)] += x[(..., *i)] @ w[(..., *t)]
    return out


@given(three(1, 3), three(1, 3), three(1, 3), three(1, 2), three(-3, 6), three(1, 8))
@settings(deadline=None, max_examples=60)
def test_the_definition(shape: Any, kernel: Any, strides: Any, dilations: Any, first: Any, lengths: Any) -> None:
    x, w = whole((2, 2, *shape)).astype(np.float64), whole((2, 3, *kernel), 3).astype(np.float64)
    found = transposed_convolution(
        torch.from_numpy(x),
        torch.from_numpy(w),
        strides=strides,
        dilations=dilations,
        first=first,
        lengths=lengths,
    )
    assert np.array_equal(found.numpy(), transposed(x, w, strides, dilations, first, lengths))


@pytest.mark.parametrize("first", [-9, 9], ids=["before", "behind"])
def test_outputs_that_no_tap_reaches_are_0(first: int) -> None:
    ones = torch.ones(1, 1, 2, 2, 2)
    found = transposed_convolution(
        ones, ones, strides=(1, 1, 1), dilations=(1, 1, 1), first=(0, first, 0), lengths=(2, 3, 4)
    )
    assert torch.equal(found, torch.zeros(1, 1, 2, 3, 4))


@pytest.mark.parametrize(("first", "lengths"), [((0, 1, 2), (3, 4, 2)), ((1, 1, 1), (3, 3, 3)), ((0, 0, 4), (9, 9, 9))])
def test_gradients(first: Any, lengths: Any) -> None:
    x = torch.from_numpy(whole((1, 2, 2, 2, 2))).double().requires_grad_()
    w = torch.from_numpy(whole((2, 1, 3, 2, 3), 3)).double().requires_grad_()

    def part(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return transposed_convolution(x, w, strides=(2, 1, 2), dilations=(1, 2, 1), first=first, lengths=lengths)

    assert torch.autograd.gradcheck(part, (x, w))
    assert torch.autograd.gradgradcheck(part, (x, w))


def test_no_copy_where_torch_crops() -> None:
    """Equal losses on both sides are torch's own cropping: the result is as dense as torch makes it."""
    x, w = torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1, 3, 3, 3)
    part = transposed_convolution(x, w, strides=(1,) * 3, dilations=(1,) * 3, first=(1,) * 3, lengths=(4,) * 3)
    assert part.is_contiguous()
    assert part.untyped_storage().nbytes() == part.nbytes


def forward(x: Any, w: Any, strides: Any, dilations: Any, same: bool) -> Any:
    """The definition in TensorFlow's words: ceil(n / stride) outputs, the smaller half of the zeros before."""
    reaches = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    if same:
        lengths = [-(-n // s) for n, s in zip(x.shape[2:], strides, strict=True)]
        zeros = [
            max((length - 1) * s + reach - n, 0)
            for length, s, reach, n in zip(lengths, strides, reaches, x.shape[2:], strict=True)
        ]
        x = np.pad(x, [(0, 0), (0, 0), *((total // 2, total - total // 2) for total in zeros)])
    else:
        lengths = [(n - reach) // s + 1 for n, s, reach in zip(x.shape[2:], strides, reaches, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *lengths))
    for o in np.ndindex(*lengths):
        for t in np.ndindex(*w.shape[2:]):
            place = tuple(s * n + d * k for s, n, d, k in zip(strides, o, dilations, t, strict=True))
            target: Any = (..., *o)
            out[target] += x[(..., *place)] @ w[(..., *t)].T
    return out


@given(three(3, 6), three(1, 3), three(1, 3), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_forward_convolution(shape: Any, kernel: Any, strides: Any, same: bool, dilated: bool) -> None:
    if dilated:
        strides, shape = (1, 1, 1), tuple(n + 2 for n in shape)
    dilations = (2, 1, 2) if dilated else (1, 1, 1)
    x, w = whole((1, 2, *shape)).astype(np.float64), whole((3, 2, *kernel), 3).astype(np.float64)
    found = forward_convolution(
        torch.from_numpy(x), torch.from_numpy(w), strides=strides, dilations=dilations, same=same
    )
    assert np.array_equal(found.numpy(), forward(x, w, strides, dilations, same))
