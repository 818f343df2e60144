"""Which object does a Keras identifier mean, and how is the object written down again?

Activations, initializers, regularizers and constraints share one protocol: an identifier is a name, a dict
``{"class_name": ..., "config": {...}}`` or a callable; names are case-sensitive.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from conv3dt.errors import ArgumentError

Names = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Registry:
    """The names of one family.

    Attributes:
        family: what the family's arguments are called in messages.
        makers: classes, and functions that make an object, by name; a name alone calls them without arguments.
        functions: functions that are the object themselves, by name.
        wrong_type: what is raised for an identifier that is neither name, dict nor callable.
    """

    family: str
    makers: Names
    functions: Names = field(default_factory=dict)
    wrong_type: type[Exception] = ArgumentError

    def get(self, identifier: Any) -> Any:
        """Return the object that ``identifier`` means; None stays None and a callable stays itself.

        Raises:
            ArgumentError: an unknown name, or a dict of another form.
            TypeError: a configuration that the class does not take.
        """
        if identifier is None or isinstance(identifier, (str, Mapping)):
            return self.deserialize(identifier)
        if callable(identifier):
            return identifier
        raise self.wrong_type(
            f"{self.family} must be a name, a dict with class_name and config, or a callable, got {identifier!r}"
        )

    def deserialize(self, config: Any, custom_objects: Names | None = None) -> Any:
        """Return the object of a name or a dict; names in ``custom_objects`` (name to class or function) go first.

        Raises:
            ArgumentError: an unknown name, or neither a name nor a dict of the right form.
            TypeError: a configuration that the class does not take.
        """
        if config is None or inspect.isfunction(config):
            return config
        if isinstance(config, str):
            found = self._find(config, custom_objects or {})
            return found() if self._makes(config, found) else found
        if isinstance(config, Mapping) and isinstance(config.get("config"), Mapping) and "class_name" in config:
            found = self._find(config["class_name"], custom_objects or {})
            return self._make(config["class_name"], found, dict(config["config"]))
        raise ArgumentError(f"{self.family} as a dict must have class_name and config (a dict itself), got {config!r}")

    def serialize(self, instance: Any) -> Any:
        """Return what `deserialize` reads: a dict for an object with ``get_config``, a name for a function.

        Raises:
            TypeError: a class instead of its instance.
            ArgumentError: an object without configuration or name.
        """
        if instance is None:
            return None
        if inspect.isclass(instance):
            raise TypeError(
                f"{self.family} must be an instance to be written down, got the class {instance.__name__}; "
                f"call it: {instance.__name__}()"
            )
        if hasattr(instance, "get_config"):
            return {"class_name": type(instance).__name__, "config": instance.get_config()}
        if hasattr(instance, "__name__"):
            return instance.__name__
        raise ArgumentError(f"{self.family} must have get_config or a __name__ to be written down, got {instance!r}")

    def _find(self, name: Any, custom: Names) -> Callable[..., Any]:
        names = {**self.makers, **self.functions, **custom}
        if isinstance(name, str) and name in names:
            return names[name]
        raise ArgumentError(f"{self.family} {name!r} is unknown; {_hint(str(name), list(names))}")

    def _makes(self, name: str, found: Callable[..., Any]) -> bool:
        return inspect.isclass(found) or self.makers.get(name) is found

    def _make(self, name: str, maker: Callable[..., Any], config: dict[str, Any]) -> Any:
        if not self._makes(name, maker):
            raise TypeError(
                f"{self.family} {name!r} is a function and takes no config, got {config}; give the name alone"
            )
        try:
            return maker.from_config(config) if hasattr(maker, "from_config") else maker(**config)
        except TypeError as error:
            takes = ", ".join(inspect.signature(maker).parameters) or "nothing"
            raise TypeError(f"{self.family} {name!r} takes {takes}, got {config}: {error}") from None


def _hint(name: str, names: list[str]) -> str:
    """Return the nearest names, or all of them where none is near."""
    alike = [other for other in names if other.lower() == name.lower()]
    near = list(dict.fromkeys(alike + get_close_matches(name, names, 3)))
    return f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(names)}"
