"""Is a layer of PyTorch the Keras layer that we say it is?  By the definition, on whole numbers, exactly."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from conv3dt.errors import ArgumentError, DataError
from conv3dt.geometry import Axis
from conv3dt.weights.foreign import groups_by_bias, in_keras_order
from conv3dt.weights.mapping import Foreign, Mapping, mapping
from conv3dt.weights.pytorch import from_module
from tests import oracle

Triple = tuple[int, int, int]


def alike(axis: Foreign) -> Mapping:
    return mapping((axis,) * 3)


@pytest.mark.parametrize(
    ("axis", "padding", "extra", "before", "after"),
    [
        (Foreign(2, 2), "valid", None, 0, 0),
        (Foreign(3, 1), "valid", None, 0, 0),
        (Foreign(4, 2, before=1, after=1), "same", None, 0, 0),  # the usual one in super-resolution
        (Foreign(3, 1, before=1, after=1), "same", None, 0, 0),
        (Foreign(3, 2, before=1, after=0), "same", None, 0, 1),  # padding 1, output_padding 1
        (Foreign(3, 2, before=1, after=1), "same", 0, 0, 0),
        (Foreign(5, 2, before=2, after=1), "same", None, 0, 1),
        (Foreign(3, 2, before=0, after=1), "same", None, 0, 0),  # Keras's own same
        (Foreign(2, 4, before=0, after=-2), "valid", None, 0, 0),  # what no tap reaches
        (Foreign(2, 4, before=0, after=-1), "valid", 1, 0, 0),
        (Foreign(3, 1, 2, before=2, after=2), "same", None, 0, 0),
        (Foreign(2, 1, 2, before=0, after=2), "same", None, 1, 0),
    ],
)
def test_what_is_used_has_its_words(axis: Foreign, padding: str, extra: int | None, before: int, after: int) -> None:
    found = alike(axis)
    assert (found.padding, found.output_padding and found.output_padding[0]) == (padding, extra)
    assert (found.before[0], found.after[0]) == (before, after)


def test_one_padding_serves_all_axes() -> None:
    found = mapping((Foreign(2, 2), Foreign(4, 2, before=1, after=1), Foreign(3, 2, before=1, after=0)))
    assert found == Mapping("same", None, (0, 0, 0), (0, 0, 1))


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        (
            (Foreign(5, 2, before=1, after=1),) * 3,
            "kernel 5, stride 2, dilation 1, 1 voxels cropped before and 1 after",
        ),
        ((Foreign(2, 2, before=10**12, after=10**12),) * 3, "no Conv3DTranspose of Keras crops like that"),
        ((Foreign(2, 10**9, before=10**9, after=0),) * 3, "no Conv3DTranspose of Keras crops like that"),
        ((Foreign(3, 2, before=1, after=1), Foreign(3, 2, before=1, after=0), Foreign(3, 1)), "all axes at once"),
    ],
)
def test_what_has_no_words_is_refused_with_its_numbers(axes: tuple[Foreign, ...], text: str) -> None:
    with pytest.raises(DataError, match=text) as refusal:
        mapping(axes)
    assert len(str(refusal.value).splitlines()) == 1


def laws(found: Mapping, axes: tuple[Foreign, ...]) -> list[Axis]:
    extra = found.output_padding or (None, None, None)
    return [
        Axis(axis.kernel + before + after, axis.stride, axis.dilation, found.padding, more)
        for axis, before, after, more in zip(axes, found.before, found.after, extra, strict=True)
    ]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 4), st.integers(-4, 5), st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_a_refusal_is_honest(kernel: int, stride: int, before: int, after: int, dilation: int) -> None:
    """Whatever Keras can say with at most four taps more, in any way, is found; and what is found is right."""
    assume(stride == 1 or dilation == 1)
    axis = Foreign(kernel, stride, dilation, before, after)
    words: list[int] = []
    for added, padding, extra in product(range(5), ("valid", "same"), (None, *range(stride))):
        try:
            keras = Axis(kernel + added, stride, dilation, padding, extra)
        except ArgumentError:
            continue
        crops = [before + front * dilation for front in range(added + 1)]
        if keras.crop in crops and all(keras.length(n) == axis.length(n) for n in range(1, 9)):
            words.append(added)
    try:
        found = alike(axis)
    except DataError:
        assert not words
        return
    first = laws(found, (axis,) * 3)[0]
    assert first.crop == before + found.before[0] * dilation
    assert all(first.length(n) == axis.length(n) for n in range(1, 9))
    assert not words or found.before[0] + found.after[0] == min(words)


# Against PyTorch.


@st.composite
def modules(draw: Any) -> torch.nn.ConvTranspose3d:
    triple = [st.tuples(*[st.integers(low, high)] * 3) for low, high in ((1, 4), (1, 3), (0, 2), (0, 2), (1, 2))]
    kernel, stride, padding, extra, dilation = (draw(each) for each in triple)
    assume(all(more < max(s, d) for more, s, d in zip(extra, stride, dilation, strict=True)))
    groups, share, filters = (draw(st.integers(1, 2)) for _ in range(3))
    module = torch.nn.ConvTranspose3d(
        groups * share, groups * filters, kernel, stride, padding, extra, groups, draw(st.booleans()), dilation
    ).double()
    return module


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(generator.integers(-9, 9, tuple(parameter.shape)).astype(float)))


def check_same_numbers(module: torch.nn.ConvTranspose3d) -> bool:
    """Whether Keras has words for the module; if so, they must give its numbers, bit for bit."""
    fill(module)
    shape = (3, 4, 2)
    try:
        with torch.no_grad():
            volume = torch.from_numpy(np.random.default_rng(1).integers(-9, 9, (1, module.in_channels, *shape)) * 1.0)
            wanted = module(volume)[0].permute(1, 2, 3, 0).numpy()
    except RuntimeError:  # everything is cropped
        return False
    try:
        found = from_module(module, "module")
    except DataError:
        return False
    told = found.config or {}
    extra = told["output_padding"] or (None, None, None)
    dilation = told.get("dilation_rate", (1, 1, 1))
    first, second, third = (
        oracle.Law(k, s, d, told["padding"], more)
        for k, s, d, more in zip(told["kernel_size"], told["strides"], dilation, extra, strict=True)
    )
    assert told["kernel_size"] == found.kernel.shape[:3]
    assert max(told["strides"]) == 1 or max(dilation) == 1
    got = oracle.transposed(
        volume[0].permute(1, 2, 3, 0).numpy(), found.kernel, (first, second, third), bias=found.bias
    )
    np.testing.assert_array_equal(got, wanted)
    return True


@given(modules())
@example(torch.nn.ConvTranspose3d(1, 1, 3, 2, 1, 1).double())
@example(torch.nn.ConvTranspose3d(4, 6, (2, 3, 4), (2, 1, 2), (0, 1, 1), groups=2).double())
@settings(max_examples=400, deadline=None)
def test_a_module_gives_the_same_numbers(module: torch.nn.ConvTranspose3d) -> None:
    check_same_numbers(module)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 3, "stride": 1, "padding": 1, "groups": 2},
        {"kernel_size": 3, "stride": 1, "padding": 2, "dilation": 2},
        {"kernel_size": 2, "stride": 2, "dilation": 3},
        {"kernel_size": (1, 2, 3), "stride": (1, 2, 3), "groups": 2, "bias": False},
        {"kernel_size": 2, "stride": 3, "output_padding": 1},
    ],
)
def test_what_networks_use_is_never_refused(arguments: dict[str, Any]) -> None:
    assert check_same_numbers(torch.nn.ConvTranspose3d(4, 6, **arguments).double())


def test_what_was_done_is_told() -> None:
    module = torch.nn.ConvTranspose3d(4, 6, 3, 2, 1, 1, groups=2, dilation=(1, 1, 1))
    found = from_module(module, "module")
    assert found.notes == (
        "2 groups written out as one kernel with zeros between them",
        "zero taps added to the kernel: (0, 0, 0) before, (1, 1, 1) behind",
    )
    assert found.kernel.shape == (4, 4, 4, 6, 4)
    assert not found.kernel[3].any()
    assert found.config == {
        "filters": 6, "kernel_size": (4, 4, 4), "strides": (2, 2, 2), "padding": "same", "activation": "linear",
        "use_bias": True, "output_padding": None,
    }  # fmt: skip
    (note,) = from_module(torch.nn.ConvTranspose3d(1, 1, 2, 2, dilation=(1, 2, 1)), "module").notes
    assert note == "dilation (1, 2, 1) written out as zero taps, since strides are (2, 2, 2)"


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (torch.nn.ConvTranspose3d(1, 1, 5, 2, 1), "no Conv3DTranspose of Keras crops like that: kernel 5, stride 2"),
        (torch.nn.Conv3d(1, 1, 3), "must be a ConvTranspose3d with its weights, got Conv3d"),
        (torch.nn.ConvTranspose2d(1, 1, 3), "must be a ConvTranspose3d with its weights, got ConvTranspose2d"),
        (torch.nn.LazyConvTranspose3d(1, 3), "must be a ConvTranspose3d with its weights"),
        (torch.nn.ReLU(), "must be a ConvTranspose3d with its weights, got ReLU"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_other_modules_are_refused(module: torch.nn.Module, text: str) -> None:
    with pytest.raises(DataError, match=text):
        from_module(module, "module")


def test_groups_that_are_too_many_are_refused() -> None:
    with pytest.raises(DataError, match="groups do not divide the 4 channels"):
        in_keras_order(np.zeros((4, 1, 1, 1, 1)), 3, "a.pt")
    with pytest.raises(DataError, match=r"60000 groups written out take \d+ taps, more than a kernel can have"):
        in_keras_order(np.zeros((60000, 1, 1, 1, 1)), 60000, "a.pt")


@pytest.mark.parametrize(
    ("shape", "bias", "groups"),
    [((4, 6), None, 1), ((4, 6), 6, 1), ((4, 6), 12, 2), ((4, 6), 18, None), ((4, 6), 4, None), ((4, 6), 0, None),
     ((8, 1), 8, 8), ((64, 32), 64, 2)],
)  # fmt: skip
def test_the_bias_tells_groups(shape: tuple[int, int], bias: int | None, groups: int | None) -> None:
    assert groups_by_bias((*shape, 3, 3, 3), bias) == groups
