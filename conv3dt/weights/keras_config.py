"""What does a Keras configuration say of its Conv3DTranspose layers?  Dicts and strings; neither NumPy nor torch.

A configuration is whatever ``get_config``, ``to_json`` or a saved model gives: a layer, a model, models in models.  It
is put into the spelling of Keras 2.9; Keras 3 says some things otherwise, and calls another function hard_sigmoid.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from conv3dt import paths
from conv3dt.errors import ArgumentError, DataError, InputMissingError
from conv3dt.weights.kernel import listed, quoting, reason

Config = dict[str, Any]

TRANSPOSED = ("Conv3DTranspose", "Convolution3DTranspose")
MOST_JSON_BYTES = 2**24
"""Configurations of the largest models take a few megabytes."""

MOST_DIGITS = 20
"""Of a whole number in 64 bits, with its sign."""

TRIPLES = ("kernel_size", "strides", "dilation_rate", "output_padding", "batch_input_shape")
MARKS = ("filters", "kernel_size", "strides", "padding", "output_padding", "dilation_rate")
"""Any of these makes a dict without a class name the configuration of one layer."""

KERAS3_HARD_SIGMOID = {"class_name": "hard_sigmoid", "config": {"slope": 1 / 6}}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a configuration has it.

    Attributes:
        kind: the class; name: of the layer; parents: names of the models around it, outermost first.
        config: as it stands there.
        steps: how an archive of Keras 2.12 or later finds it, as a chain ``(steps before, last step)``, see `route`;
            None where nobody knows.
    """

    kind: str
    name: str
    parents: tuple[str, ...]
    config: Config
    steps: Any

    @property
    def path(self) -> str:
        """The name with those of the inner models around it: ``decoder/up``."""
        return "/".join((*self.parents[1:], self.name))

    @property
    def route(self) -> list[tuple[str, str, int]] | None:
        """The steps from the outermost model: ``("layers", class, n)`` is the nth of its class in a model.

        ``("attribute", name, 0)`` is a layer inside a wrapper.
        """
        if self.steps is None:
            return None
        found, steps = [], self.steps
        while steps:
            steps, last = steps
            found.append(last)
        return found[::-1]

    @property
    def is_transposed(self) -> bool:
        """Whether it is what we look for."""
        return self.kind in TRANSPOSED


def parsed(text: str | bytes, where: str) -> Any:
    """Return what a JSON text says.

    Raises:
        DataError: malformed, not UTF-8, too long or too deep.
    """
    if len(text) > MOST_JSON_BYTES:
        raise DataError(f"{where}: {len(text)} bytes of JSON, more than a configuration has ({MOST_JSON_BYTES})")
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise DataError(f"{where}: the JSON is nested too deeply for a configuration") from None
    except ValueError as error:  # also a text that is not UTF-8
        raise DataError(f"{where}: cannot be read as JSON: {reason(error)}") from None


def _whole(digits: str) -> int:
    """A whole number that any program can hold; one that no float is as large as would fail far from here."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def layers_in(config: Any) -> list[Layer]:
    """Return all layers of a configuration in the order in which it lists them, whatever their class."""
    if _is_bare(config):
        return [Layer(TRANSPOSED[0], str(config.get("name", "")), (), config, None)]
    found: list[Layer] = []
    waiting: list[tuple[Any, tuple[str, ...], Any]] = [(config, (), ())]
    while waiting:  # no recursion: a hostile file may nest as deep as it likes
        node, parents, steps = waiting.pop()
        if isinstance(node, dict) and isinstance(node.get("class_name"), str):
            inner = node.get("config")
            fields = inner if isinstance(inner, dict) else {"layers": inner}  # old Sequential: a list
            name = str(fields.get("name", node.get("name", "")))
            found.append(Layer(node["class_name"], name, parents, fields, steps))
            waiting += reversed([*_children(fields, (*parents, name), steps)])
        elif isinstance(node, dict):
            waiting += reversed([*_children(node, parents or ("",), steps)])
        elif isinstance(node, list):
            waiting += [(each, parents, None) for each in reversed(node)]
    return found


def _is_bare(config: Any) -> bool:
    return isinstance(config, dict) and "class_name" not in config and any(mark in config for mark in MARKS)


def _children(fields: Config, parents: tuple[str, ...], steps: Any) -> Iterator[tuple[Any, tuple[str, ...], Any]]:
    """What stands in a layer's configuration: layers of a model, or a layer that it wraps."""
    for key, value in fields.items():
        if key == "layers" and isinstance(value, list):
            counts: Counter[str] = Counter()
            for each in value:
                kind = snake_case(str(each.get("class_name"))) if isinstance(each, dict) else ""
                yield each, parents, None if steps is None else (steps, ("layers", kind, counts[kind]))
                counts[kind] += 1
        elif isinstance(value, dict):
            yield value, parents, None if steps is None else (steps, ("attribute", key, 0))
        elif isinstance(value, list):
            yield value, parents, None


def snake_case(name: str) -> str:
    """Return a class name as archives spell it.

    >>> snake_case("Conv3DTranspose"), snake_case("LeakyReLU")
    ('conv3d_transpose', 'leaky_re_lu')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def chosen(layers: list[Layer], wanted: str | None, where: str) -> Layer:
    """Return the Conv3DTranspose of that name, or the only one.

    Args:
        layers: of `layers_in`; wanted: a name, or a path such as ``decoder/up``; None for the only one.
        where: the file, for errors.

    Raises:
        InputMissingError: no layer of that name.
        DataError: there is none, or several and none is named.
    """
    candidates = [layer for layer in layers if layer.is_transposed]
    names = listed([layer.path for layer in candidates])
    if not candidates:
        raise DataError(f"{where}: holds no Conv3DTranspose layer; its layers are {_kinds(layers)}")
    if not wanted:
        if len(candidates) > 1:
            raise DataError(
                f"{where}: holds several Conv3DTranspose layers: {names}; name one as "
                f"{where.partition(' ')[2] or where}:/name"
            )
        return candidates[0]
    wanted = re.sub(r"/kernel(:0)?$", "", wanted)  # who asks for the kernel of a layer means the layer
    exact = [layer for layer in candidates if layer.path == wanted]
    fitting = exact or [layer for layer in candidates if f"/{layer.path}".endswith(f"/{wanted}")]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        several = listed([layer.path for layer in fitting])
        raise DataError(f"{where}: several layers are called {wanted}: {several}; name one by its whole path")
    other = next((layer for layer in layers if wanted in (layer.path, layer.name)), None)
    if other is not None:
        raise DataError(f"{where}: layer {wanted} is a {other.kind}, not a Conv3DTranspose; there are {names}")
    raise InputMissingError(f"{where}: no Conv3DTranspose layer {wanted}; there are {names}")


def _kinds(layers: list[Layer]) -> str:
    in_models = [layer for layer in layers if not layer.steps or layer.steps[1][0] == "layers"]
    return listed(list(dict.fromkeys(layer.kind for layer in in_models)))


def read_layer_config(path: str) -> Config:
    """Return the arguments of a layer from a JSON file, in Keras 2.9's spelling.

    Args:
        path: ``config.json`` with a layer's ``get_config()``, ``{"class_name", "config"}`` or a whole model's
            ``to_json()``; of several layers ``config.json:/name`` chooses.

    Raises:
        InputMissingError: no such file or layer.
        DataError: not JSON, or no Conv3DTranspose in it.
    """
    with quoting(path):
        return _read_layer_config(path)


def _read_layer_config(path: str) -> Config:
    file, wanted = paths.split_weights(path)
    try:
        if not Path(file).is_file():
            raise InputMissingError(f"layer {file}: no such file")
        with Path(file).open("rb") as stream:
            text = stream.read(MOST_JSON_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputMissingError):
            raise
        raise InputMissingError(f"layer {file}: cannot be opened: {reason(error)}") from None
    if text[:2] == b"PK" or text[:4] == b"\x89HDF":
        raise DataError(
            f"layer {file}: is a file of weights, not JSON; give it as weights, they bring their layer along"
        )
    return layer_arguments(parsed(text, f"layer {file}"), f"layer {file}", (wanted or "").strip("/"))


KNOWN = (
    "name", "trainable", "batch_input_shape", "dtype", "dynamic", "filters", "kernel_size", "strides", "padding",
    "data_format", "groups", "dilation_rate", "activation", "use_bias", "kernel_initializer", "bias_initializer",
    "kernel_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint",
    "output_padding",
)  # fmt: skip


def _check_names(config: Config, where: str) -> None:
    """Refuse what Keras would refuse: an argument that the layer does not take; Keras 3 has some more of its own."""
    for name in config:
        if name in KNOWN or name in OF_KERAS3:
            continue
        near = get_close_matches(name, KNOWN, 1)
        hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(KNOWN)}"
        raise DataError(f"{where}: Conv3DTranspose takes no argument {name}; {hint}")
    if not isinstance(config.get("use_bias", True), bool):
        raise DataError(f"{where}: use_bias must be true or false, got {config['use_bias']!r}")


OF_KERAS3 = ("module", "registered_name", "build_config", "quantization_config", "lora_rank", "lora_alpha")


def layer_config_of(layer: Any) -> Config:
    """Return the configuration of a Conv3DTranspose that a program holds, of Keras's or ours.

    Raises:
        ArgumentError: another layer, a class, or a function as activation that no configuration can say.
    """
    kinds = [kind.__name__ for kind in type(layer).__mro__]
    if not any(kind in TRANSPOSED for kind in kinds):
        what = f"the class {layer.__name__}; call it" if isinstance(layer, type) else kinds[0]
        raise ArgumentError(f"layer must be a Conv3DTranspose, got {what}")
    function = getattr(layer, "activation", None)
    if inspect.isroutine(function) and not str(function.__module__).startswith(("conv3dt.", "keras.", "tensorflow.")):
        raise ArgumentError(
            f"layer {layer.name}: its activation {function.__name__} is a function that only the layer itself can "
            f"call; say activation='linear' and apply it to the result"
        )
    config = layer.get_config()
    assert isinstance(config, dict)
    return config


def layer_arguments(told: Any, where: str, wanted: str | None = None) -> Config:
    """Return the arguments of the layer that a configuration in memory describes, in Keras 2.9's spelling.

    Args:
        told: a layer's ``get_config()``, ``{"class_name", "config"}``, or a model's.
        where: how errors begin; wanted: the layer's name, if there are several.

    Raises:
        InputMissingError: no layer of that name.
        DataError: no Conv3DTranspose in it, or several and none is named.
    """
    version = told.get("keras_version") if isinstance(told, dict) else None
    with quoting(where):
        config = chosen(layers_in(told), wanted, where).config
    _check_names(config, where)
    return translated(config, str(version or ""))


def translated(config: Config, version: str) -> Config:
    """Return a layer's configuration in Keras 2.9's spelling.

    Args:
        config: of any Keras from 2.0 on; it stays as it is.
        version: of the Keras that wrote it, empty if nobody knows; then its spelling tells whether it is Keras 3.
    """
    keras3 = version.split(".")[0] == "3" if version else is_keras3(config)
    found: Config = {}
    for key, value in config.items():
        if key in ("module", "registered_name", "build_config") or (value is None and key not in _NONE_MEANS):
            continue
        if key in TRIPLES and isinstance(value, list):
            found[key] = tuple(value)
        elif key == "dtype":
            found |= _dtype(value)
        elif key == "activation" and keras3 and _function_name(value) == "hard_sigmoid":
            found[key] = KERAS3_HARD_SIGMOID
        elif key == "activation" and _function_name(value) is not None:
            found[key] = _function_name(value)
        else:
            found[key] = _object(value)
    if found.get("dilation_rate") in (1, (1, 1, 1)):
        del found["dilation_rate"]
    return found


_NONE_MEANS = (
    "output_padding", "kernel_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint",
    "bias_constraint",
)  # fmt: skip
"""Where None is an answer, as in Keras 2.9's own configurations."""


def is_keras3(config: Config) -> bool:
    """Whether a layer's configuration reads like Keras 3's: typed dtypes, or no groups beside registered names."""
    dtype = config.get("dtype")
    if isinstance(dtype, dict) and str(dtype.get("class_name")).startswith("DTypePolicy"):
        return True
    typed = any(isinstance(value, dict) and "registered_name" in value for value in config.values())
    return typed and "groups" not in config


def _dtype(value: Any) -> Config:
    """A dtype is a name, or ``{'class_name': 'Policy'}`` where it is mixed; Keras 3 always writes a policy."""
    inner = value.get("config") if isinstance(value, dict) else {"name": value}
    name = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(name, str):
        return {}
    return {"dtype": {"class_name": "Policy", "config": {"name": name}} if name.startswith("mixed_") else name}


def _function_name(value: Any) -> str | None:
    """The name of an activation that is a function; Keras 3 wraps those that were not given by name."""
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    return value if isinstance(value, str) else None


def _object(value: Any) -> Any:
    """An initializer, a layer or the like: ``{'class_name', 'config'}`` and no more."""
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    inner = value.get("config")
    if isinstance(inner, dict):
        is_leaky = value["class_name"] == "LeakyReLU"
        fields: Config = {}
        for key, each in inner.items():
            if key == "dtype":
                fields |= _dtype(each)
            elif key == "seed":  # Keras 3's may be a generator with a state of its own
                fields[key] = each if isinstance(each, int) else None
            elif not (each is None and key in ("input_axes", "output_axes")):
                fields["alpha" if is_leaky and key == "negative_slope" else key] = each
        inner = fields
    return {"class_name": value["class_name"], "config": inner}
