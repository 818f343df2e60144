"""Does an identifier mean the same as in Keras, and does a refusal say what is near?"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from conv3dt import activations, constraints, initializers, regularizers
from conv3dt.errors import ArgumentError
from conv3dt.identifiers import Registry

FAMILIES = [activations, initializers, regularizers, constraints]
CLASSES = [(activations, "LeakyReLU"), (initializers, "HeNormal"), (regularizers, "L1L2"), (constraints, "MaxNorm")]
families = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
classes = pytest.mark.parametrize(("family", "name"), CLASSES, ids=lambda value: getattr(value, "__name__", value))


def nothing(x: Any) -> Any:
    return x


class Half:
    def __init__(self, part: float = 0.5) -> None:
        self.part = part

    def get_config(self) -> dict[str, Any]:
        return {"part": self.part}


REGISTRY = Registry("fraction", {"Half": Half, "half": Half}, {"nothing": nothing})


def test_a_name_is_a_class_without_arguments_or_a_function() -> None:
    assert REGISTRY.get("half").part == 0.5
    assert REGISTRY.get("half") is not REGISTRY.get("half")
    assert REGISTRY.get("nothing") is nothing


def test_a_dict_is_a_class_with_arguments() -> None:
    assert REGISTRY.get({"class_name": "Half", "config": {"part": 0.25}}).part == 0.25
    assert REGISTRY.get({"class_name": "Half", "config": {}, "registered_name": None}).part == 0.5


def test_a_dict_of_a_function_is_a_type_error() -> None:
    with pytest.raises(
        TypeError, match=r"fraction 'nothing' is a function and takes no config, .* give the name alone"
    ):
        REGISTRY.get({"class_name": "nothing", "config": {}})


def test_what_is_written_is_read_again() -> None:
    written = REGISTRY.serialize(Half(0.75))
    assert written == {"class_name": "Half", "config": {"part": 0.75}}
    assert REGISTRY.deserialize(written).part == 0.75
    assert REGISTRY.serialize(nothing) == "nothing"
    assert REGISTRY.serialize(None) is None
    assert REGISTRY.deserialize(None) is None
    assert REGISTRY.deserialize(nothing) is nothing


def test_reading_does_not_change_the_dict() -> None:
    class Emptying(Half):
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Emptying:
            return cls(config.pop("part"))

    written = {"class_name": "Emptying", "config": {"part": 0.25}}
    assert REGISTRY.deserialize(written, {"Emptying": Emptying}).part == 0.25
    assert written == {"class_name": "Emptying", "config": {"part": 0.25}}


@families
def test_custom_objects_go_first(family: ModuleType) -> None:
    assert family.deserialize("mine", custom_objects={"mine": nothing}) is nothing
    assert family.deserialize("mine", {"mine": Half}).part == 0.5
    assert family.deserialize({"class_name": "mine", "config": {"part": 2}}, {"mine": Half}).part == 2
    with pytest.raises(ArgumentError, match="'mine' is unknown"):
        family.get("mine")


@families
def test_a_callable_is_itself(family: ModuleType) -> None:
    assert family.get(nothing) is nothing
    assert family.get(abs) is abs
    assert family.serialize(nothing) == "nothing"


@families
@pytest.mark.parametrize("value", [3, 1.5, True, ["relu"], ("l1",)], ids=repr)
def test_another_type_is_a_type_error_for_activations_and_a_value_error_for_the_rest(
    family: ModuleType, value: object
) -> None:
    wanted = TypeError if family is activations else ValueError
    with pytest.raises(wanted, match=r"must be a name, a dict with class_name and config, or a callable, got "):
        family.get(value)


@families
def test_none_is_nothing_or_linear(family: ModuleType) -> None:
    assert family.get(None) is (activations.linear if family is activations else None)


@classes
def test_lookups_are_case_sensitive_and_say_what_is_near(family: ModuleType, name: str) -> None:
    assert type(family.get(name)).__name__ == name
    with pytest.raises(ValueError, match=f"^[a-z]+ '{name.swapcase()}' is unknown; did you mean {name}"):
        family.get(name.swapcase())


@pytest.mark.parametrize(
    ("family", "name", "near"),
    [
        (activations, "sotfmax", "did you mean softmax"),
        (activations, "Relu", "did you mean ReLU or relu"),
        (initializers, "glorotuniform", "glorot_uniform"),
        (initializers, "he_norml", "did you mean he_normal"),
        (regularizers, "l3", "use one of L1, l1, L2, l2, "),
        (constraints, "minmaxnorm", "min_max_norm"),
        (constraints, "?", "use one of MaxNorm, max_norm, "),
    ],
)
def test_an_unknown_name_lists_what_is_near(family: ModuleType, name: str, near: str) -> None:
    with pytest.raises(ArgumentError, match=near):
        family.get(name)


@classes
@pytest.mark.parametrize("rest", [{}, {"config": None}, {"config": [1]}, {"configuration": {}}], ids=repr)
def test_a_dict_needs_class_name_and_config(family: ModuleType, name: str, rest: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="as a dict must have class_name and config"):
        family.get({"class_name": name, **rest})
    with pytest.raises(ValueError, match="as a dict must have class_name and config"):
        family.get({"config": {}})


@classes
def test_an_unknown_argument_is_a_type_error_that_lists_the_known(family: ModuleType, name: str) -> None:
    with pytest.raises(TypeError, match=rf"^[a-z]+ '{name}' takes [a-z0-9_, ]+, got \{{'foo': 1\}}: .*'foo'"):
        family.get({"class_name": name, "config": {"foo": 1}})


@classes
def test_an_unknown_class_in_a_dict_is_a_value_error(family: ModuleType, name: str) -> None:
    with pytest.raises(ValueError, match="is unknown"):
        family.get({"class_name": f"{name}X", "config": {}})
    with pytest.raises(ValueError, match="3 is unknown"):
        family.get({"class_name": 3, "config": {}})


@pytest.mark.parametrize(
    ("family", "cls"),
    [(activations, activations.ReLU), (regularizers, regularizers.L1), (constraints, constraints.NonNeg)],
)
def test_a_class_is_returned_as_it_is_and_cannot_be_written(family: ModuleType, cls: Callable[..., Any]) -> None:
    assert family.get(cls) is cls
    with pytest.raises(TypeError, match=r"must be an instance to be written down, got the class \w+; call it: \w+\(\)"):
        family.serialize(cls)


def test_a_class_of_initializer_becomes_an_instance() -> None:
    assert type(initializers.get(initializers.Ones)) is initializers.Ones


def test_what_has_neither_configuration_nor_name_cannot_be_written() -> None:
    with pytest.raises(ArgumentError, match="regularizer must have get_config or a __name__ to be written down, got "):
        regularizers.serialize(object())
