"""What does Keras take where nothing is said: number type, epsilon, order of the axes, name?

The first three come from ``keras.json`` in ``$KERAS_HOME`` or ``~/.keras``, read once, when first asked for; without
that file they are float32, 1e-7 and channels last.  The file is never written.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from conv3dt.errors import ArgumentError

FLOATX = ("float16", "float32", "float64")
DATA_FORMATS = ("channels_first", "channels_last")


@dataclass(frozen=True, slots=True)
class Defaults:
    """The values of ``keras.json`` that matter here.

    Raises:
        ArgumentError: for a value that Keras does not know.
    """

    floatx: str = "float32"
    epsilon: float = 1e-7
    image_data_format: str = "channels_last"

    def __post_init__(self) -> None:
        if self.floatx not in FLOATX:
            raise ArgumentError(f"floatx must be one of {', '.join(FLOATX)}, got {self.floatx!r}")
        if not isinstance(self.epsilon, float):
            raise ArgumentError(f"epsilon must be a float, got {self.epsilon!r}")
        if self.image_data_format not in DATA_FORMATS:
            raise ArgumentError(
                f"image_data_format must be {' or '.join(DATA_FORMATS)}, got {self.image_data_format!r}"
            )


def read_defaults() -> Defaults:
    """Return what ``keras.json`` says; a file that is missing or is no JSON says nothing, as in Keras.

    Raises:
        ArgumentError: the file holds something else than an object, or a value that Keras does not know.
    """
    home = os.environ.get("KERAS_HOME")
    try:
        path = (Path(home) if home else Path.home() / ".keras") / "keras.json"
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # the last: a user without a home
        return Defaults()
    if not isinstance(content, dict):
        raise ArgumentError(f"{path} must hold a JSON object, got {type(content).__name__}; correct or remove it")
    known = {name: content[name] for name in ("floatx", "epsilon", "image_data_format") if name in content}
    try:
        return Defaults(**known)
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error}; correct or remove it") from None


_current: Defaults | None = None


def current() -> Defaults:
    """Return the defaults in force."""
    global _current
    if _current is None:
        _current = read_defaults()
    return _current


def floatx() -> str:
    """Return the number type of layers that name none."""
    return current().floatx


def epsilon() -> float:
    """Return the small number that keeps norms from dividing by zero."""
    return current().epsilon


def image_data_format() -> str:
    """Return the order of the axes of layers that name none."""
    return current().image_data_format


def set_floatx(value: str) -> None:
    """Set the number type of layers made from now on."""
    _change(floatx=value)


def set_epsilon(value: float) -> None:
    """Set the small number of constraints."""
    _change(epsilon=value)


def set_image_data_format(value: str) -> None:
    """Set the order of the axes of layers made from now on."""
    _change(image_data_format=value)


def _change(**values: object) -> None:
    global _current
    _current = replace(current(), **values)  # type: ignore[arg-type]


def data_format_name(value: object) -> str:
    """Return ``channels_first`` or ``channels_last`` for any case of them; None is the default in force."""
    name = image_data_format() if value is None else value
    if not isinstance(name, str) or name.lower() not in DATA_FORMATS:
        raise ArgumentError(f"data_format must be {' or '.join(DATA_FORMATS)}, got {value!r}")
    return name.lower()


def as_floatx(value: float) -> float:
    """Return the number as Keras keeps it: rounded to the default number type.

    >>> as_floatx(0.01)
    0.009999999776482582
    """
    return float(np.dtype(floatx()).type(value))


def snake_case(name: str) -> str:
    """Return the name that Keras makes from a class's.

    >>> [snake_case(name) for name in ("Conv3DTranspose", "PReLU", "ELU", "GlorotUniform")]
    ['conv3d_transpose', 'p_re_lu', 'elu', 'glorot_uniform']
    """
    parted = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", name)).lower()
    return f"private{parted}" if parted.startswith("_") else parted


_numbers: Counter[str] = Counter()


def automatic_name(kind: str) -> str:
    """Return the name of the next layer of a class: ``conv3d_transpose``, ``conv3d_transpose_1`` and so on."""
    stem = snake_case(kind)
    number = _numbers[stem]
    _numbers[stem] += 1
    return f"{stem}_{number}" if number else stem


def restart_names() -> None:
    """Count automatic names from the beginning again."""
    _numbers.clear()
