"""Which keywords does every Keras layer take besides its own, and what do they mean?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from conv3dt.defaults import automatic_name
from conv3dt.dtypes import Policy, as_policy

IGNORED = ("implementation", "conv_op", "kernel_layout", "bias_layout")
"""Keywords that Keras takes and that say nothing here."""
KEYWORDS = (
    "name", "trainable", "dtype", "dynamic", "input_shape", "batch_input_shape", "batch_size", "input_dim", "weights",
    "autocast", "groups", *IGNORED,
)  # fmt: skip

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class LayerOptions:
    """What the keywords say; ``batch_input_shape`` is None where no shape was given."""

    name: str
    trainable: bool
    policy: Policy
    dynamic: bool
    autocast: bool
    groups: int
    batch_input_shape: Shape | None
    weights: Any


def layer_options(owner: str, given: Mapping[str, Any]) -> LayerOptions:
    """Return the options of a layer of class ``owner``.

    Raises:
        TypeError: a keyword that no layer takes, or a value of another type than Keras takes.
    """
    for keyword in given:
        if keyword not in KEYWORDS:
            near = get_close_matches(keyword, KEYWORDS, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "leave it out"
            raise TypeError(f"{owner} got an unexpected keyword argument {keyword!r}; {hint}")
    name = given.get("name")
    return LayerOptions(
        name=automatic_name(owner) if name is None else _typed("name", name, str),
        trainable=_typed("trainable", given.get("trainable", True), bool),
        policy=as_policy(given.get("dtype")),
        dynamic=_typed("dynamic", given.get("dynamic", False), bool),
        autocast=bool(given.get("autocast", True)),
        groups=given.get("groups") or 1,
        batch_input_shape=_batch_input_shape(given),
        weights=given.get("weights"),
    )


def _typed(keyword: str, value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"{keyword} must be a {wanted.__name__}, got {value!r}")
    return value


def _batch_input_shape(given: Mapping[str, Any]) -> Shape | None:
    """Return the shape with the batch in front; ``batch_input_shape`` goes before ``input_shape``, as in Keras."""
    if given.get("batch_input_shape") is not None:
        return _shape("batch_input_shape", given["batch_input_shape"])
    inner = given.get("input_shape")
    if inner is None and "input_dim" in given:
        inner = (given["input_dim"],)
    return None if inner is None else (given.get("batch_size"), *_shape("input_shape", inner))


def _shape(keyword: str, value: Any) -> Shape:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{keyword} must be a tuple of lengths (None where one is unknown), got {value!r}")
    return tuple(None if n is None else int(n) for n in value)
