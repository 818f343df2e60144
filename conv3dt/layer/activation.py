"""Which function ends the layer?  Its name and its numbers as one text, such as ``leaky_relu(alpha=0.3)``; no torch.

The text names Keras 2.9's functions and layer classes alike: ``ReLU`` with ``negative_slope`` is ``relu(alpha=...)``.
Numbers that Keras takes anyway are left out, so equal functions have equal texts.
"""

from __future__ import annotations

import math
import re
from typing import Any

from conv3dt.errors import ArgumentError

Numbers = dict[str, "float | None"]

PARAMETERS: dict[str, Numbers] = {
    "linear": {},
    "relu": {"alpha": 0.0, "max_value": None, "threshold": 0.0},
    "relu6": {},
    "leaky_relu": {"alpha": 0.2},
    "elu": {"alpha": 1.0},
    "selu": {},
    "softplus": {},
    "softsign": {},
    "swish": {},
    "silu": {},
    "gelu": {"approximate": 0.0},
    "tanh": {},
    "sigmoid": {},
    "exponential": {},
    "hard_sigmoid": {"slope": 0.2},
    "thresholded_relu": {"theta": 1.0},
    "prelu": {},
    "softmax": {},
    "log_softmax": {},
}
"""What each function takes and what it takes if nobody says (``hard_sigmoid`` of Keras 3 has slope 1/6)."""

ACTIVATIONS = tuple(name for name in PARAMETERS if name != "prelu")
"""Those that can be asked for by name; PReLU comes with weights of its own."""

_CLASSES: dict[str, tuple[str, Numbers]] = {
    "ReLU": ("relu", {}),
    "LeakyReLU": ("leaky_relu", {"alpha": 0.3}),
    "ELU": ("elu", {}),
    "ThresholdedReLU": ("thresholded_relu", {}),
    "Softmax": ("softmax", {}),
    "PReLU": ("prelu", {}),
}
"""Layer classes, the functions they are and where their numbers differ."""

_SPELLINGS = {"negative_slope": "alpha"}
_IGNORED = ("name", "trainable", "dtype", "batch_input_shape", "input_shape")


def activation_text(identifier: object) -> str:
    """Return the text of an activation in any of Keras's spellings.

    Args:
        identifier: None (``linear``), a name, a text such as ``relu(max_value=6)``, or ``{'class_name', 'config'}``.

    Raises:
        ArgumentError: unknown, or with numbers that it does not take.

    Examples:
        >>> activation_text({"class_name": "LeakyReLU", "config": {"alpha": 0.1}})
        'leaky_relu(alpha=0.1)'
        >>> activation_text("ReLU"), activation_text("gelu(approximate=1)")
        ('relu', 'gelu(approximate=1.0)')
    """
    if identifier is None:
        return "linear"
    if isinstance(identifier, str):
        name, given = _parsed(identifier)
    elif isinstance(identifier, dict) and "class_name" in identifier and isinstance(identifier.get("config"), dict):
        name, given = str(identifier["class_name"]), dict(identifier["config"])
    else:
        raise ArgumentError(
            f"activation must be a name, a text such as relu(max_value=6) or a dict of class_name and config, "
            f"got {identifier!r}"
        )
    name, defaults = _CLASSES.get(name, (name.removesuffix("_v2"), {}))
    if name not in PARAMETERS:
        raise _unknown(name)
    numbers = PARAMETERS[name] | defaults | _checked(name, given)
    told = ", ".join(f"{key}={value!r}" for key, value in numbers.items() if value != PARAMETERS[name][key])
    return f"{name}({told})" if told else name


def activation_parts(text: str) -> tuple[str, Numbers]:
    """Return name and all numbers of a text that `activation_text` made.

    >>> activation_parts("relu(max_value=6.0)")
    ('relu', {'alpha': 0.0, 'max_value': 6.0, 'threshold': 0.0})
    """
    name, given = _parsed(text)
    return name, PARAMETERS[name] | given


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    found = re.fullmatch(r"(\w+)(?:\((.*)\))?", text.strip())
    if found is None:
        raise _unknown(text)
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in (found[2] or "").split(","))):
        key, _, value = part.partition("=")
        if key.strip() in given:
            raise ArgumentError(f"activation {text}: {key.strip()} is given twice; leave one of them out")
        try:
            given[key.strip()] = None if value.strip() == "None" else float(value)
        except ValueError:
            raise ArgumentError(
                f"activation {text}: numbers are given as name=number, got {part!r}; such as leaky_relu(alpha=0.1)"
            ) from None
    return found[1], given


def _checked(name: str, given: dict[str, Any]) -> Numbers:
    """The numbers of an identifier, if the function takes them."""
    numbers: Numbers = {}
    for key, value in given.items():
        key = _SPELLINGS.get(key, key)
        if key == "axis" and name in ("softmax", "log_softmax"):
            _check_axis(name, value)
        elif key in PARAMETERS[name]:
            numbers[key] = _number(name, key, value)
        elif key not in _IGNORED and name != "prelu":
            takes = ", ".join(PARAMETERS[name]) or "no numbers"
            raise ArgumentError(f"activation {name} takes {takes}, got {key}={value!r}")
    return numbers


def _number(name: str, key: str, value: Any) -> float | None:
    if value is None and PARAMETERS[name][key] is None:
        return None
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ArgumentError(f"activation {name}: {key} must be a finite number, got {value!r}")
    if value < 0 and key in ("max_value", "theta"):
        raise ArgumentError(f"activation {name}: {key} must not be negative, got {value!r}")
    return float(value)


def _check_axis(name: str, axis: Any) -> None:
    if axis not in (-1, 4, [-1], (-1,), [4], (4,)):
        raise ArgumentError(
            f"activation {name}: only over channels (axis -1) can it be computed region by region, got axis {axis!r}"
        )


def _unknown(name: str) -> ArgumentError:
    from difflib import get_close_matches

    near = get_close_matches(name, [*ACTIVATIONS, *_CLASSES], 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return ArgumentError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}{hint}")
