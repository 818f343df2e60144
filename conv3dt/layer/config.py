"""What does a Keras ``Conv3DTranspose`` say about itself before it has weights?  Plain ints and strings.

Names, defaults and refusals are those of Keras 2.9, with two departures: ``dilation_rate`` is honoured where all
strides are 1, and strides > 1 together with a dilation > 1 are refused at once, as the layer's documentation promises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from conv3dt.errors import ArgumentError
from conv3dt.geometry import Axis
from conv3dt.layer.activation import activation_text

Triple = tuple[int, int, int]

PADDINGS = ("valid", "same")
DTYPES = ("float32", "float64", "int16", "uint8", "uint16", "same")
"""Types that can be written; ``same`` is the input's."""


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """The layer's arguments that decide shapes and meaning; axes in the order in which the volume lists them.

    ``activation`` is a text of `activation_text`.

    Raises:
        ArgumentError: for what Keras refuses, at construction.
    """

    filters: int
    kernel_size: Triple
    strides: Triple = (1, 1, 1)
    padding: str = "valid"
    output_padding: Triple | None = None
    dilation_rate: Triple = (1, 1, 1)
    activation: str = "linear"

    def __post_init__(self) -> None:
        if not isinstance(self.filters, int) or self.filters < 1:
            raise ArgumentError(f"filters must be a positive whole number, got {self.filters!r}")
        object.__setattr__(self, "activation", activation_text(self.activation))
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(
                f"strides > 1 cannot go with dilation_rate > 1 (on any axis), got strides {self.strides}, "
                f"dilation_rate {self.dilation_rate}; set one of them to 1"
            )
        _ = self.axes  # each axis checks itself

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """The laws of the three axes."""
        extra = self.output_padding or (None, None, None)
        first, second, third = (
            Axis(kernel, stride, dilation, self.padding, more)
            for kernel, stride, dilation, more in zip(
                self.kernel_size, self.strides, self.dilation_rate, extra, strict=True
            )
        )
        return first, second, third

    def output_shape(self, shape: Iterable[int]) -> tuple[int, ...]:
        """Return the voxels per axis that a volume of ``shape`` (three axes) becomes."""
        return tuple(axis.length(n) for axis, n in zip(self.axes, shape, strict=True))


def layer_config(
    *,
    filters: int,
    kernel_size: object,
    strides: object = 1,
    padding: object = "valid",
    output_padding: object = None,
    dilation_rate: object = 1,
    activation: object = None,
) -> LayerConfig:
    """Return the configuration from arguments in any of the spellings that Keras accepts."""
    return LayerConfig(
        filters=filters,
        kernel_size=triple("kernel_size", kernel_size),
        strides=triple("strides", strides),
        padding=padding_name(padding),
        output_padding=None if output_padding is None else triple("output_padding", output_padding, least=0),
        dilation_rate=triple("dilation_rate", dilation_rate),
        activation=activation_text(activation),
    )


def triple(name: str, value: object, *, least: int = 1) -> Triple:
    """Return ``value`` as three whole numbers; one number stands for all three axes.

    >>> triple("strides", 2), triple("strides", [2, 2.0, 1])
    ((2, 2, 2), (2, 2, 1))
    """
    items = _items(value)
    rule = f"{name} must be one whole number or three, each at least {least}, got {value!r}"
    if len(items) != 3:
        raise ArgumentError(rule)
    try:
        numbers = [int(item) for item in items]
        whole = all(number == item for number, item in zip(numbers, items, strict=True))
    except (TypeError, ValueError, OverflowError):
        raise ArgumentError(rule) from None
    if not whole or min(numbers) < least:
        raise ArgumentError(rule)
    return numbers[0], numbers[1], numbers[2]


def _items(value: Any) -> list[Any]:
    try:
        return [value] * 3 if isinstance(value, (str, bytes)) else list(value)
    except TypeError:  # not iterable, or an array without axes
        return [value] * 3


def padding_name(value: object) -> str:
    """Return ``valid`` or ``same`` for any case of them."""
    name = value.lower() if isinstance(value, str) else value
    if name == "causal":
        raise ArgumentError("padding 'causal' is only for Conv1D and SeparableConv1D; use 'valid' or 'same'")
    return check_choice("padding", name, PADDINGS)


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``; else say what is near it."""
    if isinstance(value, str) and value in choices:
        return value
    from difflib import get_close_matches

    near = get_close_matches(value, list(choices), 3) if isinstance(value, str) else []
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}{hint}")
