"""How are options spelled outside of the command line, and what do values mean there?

Each long option has a name with ``_`` for ``-``, such as ``max_memory``.  A flag is true or false there; the second
name of a pair (``--use-bias/--no-bias``) and one of several flags that share a value (``--channels-last``) are names
too.  Values become the text that the command line would have had, so that click checks them in one way.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from conv3dt.errors import ArgumentError

LARGEST = 2**63
"""TOML promises whole numbers of 64 bits."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """A name of an option outside of the command line.

    Attributes:
        name: as it stands in a file.
        option: whose values it gives.
        words: of a flag, what false and true stand for, None for nothing; None where the option takes a value.
    """

    name: str
    option: click.Option
    words: tuple[Any, Any] | None

    @property
    def parameter(self) -> str:
        """The name of the value that the option sets, which other options may set too."""
        return str(self.option.name)


@dataclass(frozen=True, slots=True)
class Statement:
    """A name and its value, as they stand in the environment or in a file, and how to read it."""

    name: str
    value: Any
    source: str
    read: Callable[[Spelling, Any, str], Any]


Level = list[Statement]
"""What is said in one place; one level goes before another."""


def identifier(name: str) -> str:
    """Return the name of a command or an option as it stands in variables and tables."""
    return name.replace("-", "_").replace(" ", "_")


def meant(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a question after names like a wrong one, if there are any, to end an error with."""
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(known), n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(prefix + name for name in near)}?" if near else ""


def options(command: click.Command) -> list[click.Option]:
    """Return the options of a command that have a value to set."""
    return [option for option in command.params if isinstance(option, click.Option) and option.expose_value]


def spellings(command: click.Command) -> dict[str, Spelling]:
    """Return all names of a command's options."""
    return {spelling.name: spelling for option in options(command) for spelling in _spellings(option)}


def main_spellings(command: click.Command) -> list[Spelling]:
    """Return one name for each value that a command can be given, and one a flag where only flags give it."""
    first = [next(_spellings(option)) for option in options(command)]
    valued = {spelling.parameter for spelling in first if spelling.words is None}
    return [spelling for spelling in first if spelling.words is None or spelling.parameter not in valued]


def from_text(spelling: Spelling, text: str, where: str) -> Any:
    """Return what an environment variable means, for click to convert; None for nothing.

    Args:
        spelling: which option's.
        text: of the variable; several values are told apart as in a shell.
        where: for the error.

    Raises:
        ArgumentError: a flag is neither true nor false, or a quotation does not end.
    """
    if spelling.words is not None:
        return spelling.words[_truth(text, where)]
    option = spelling.option
    if not option.multiple and option.nargs == 1:
        return text
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArgumentError(f"{where}: {str(error).lower()} in {text!r}") from None
    if option.multiple and option.nargs > 1:
        return [words[n : n + option.nargs] for n in range(0, len(words), option.nargs)]
    return words


def from_toml(spelling: Spelling, value: Any, where: str) -> Any:
    """Return what a value of a TOML file means, for click to convert; None for nothing.

    Args:
        spelling: which option's.
        value: as the file has it.
        where: for the error.

    Raises:
        ArgumentError: the value is of a type that the option does not take.
    """
    if spelling.words is not None:
        if not isinstance(value, bool):
            raise ArgumentError(f"{where}: must be true or false, got {_shown(value)}")
        return spelling.words[value]
    option = spelling.option
    if option.multiple:
        if not isinstance(value, list):
            raise ArgumentError(f"{where}: must be a list, got {_shown(value)}")
        return [_values(option, item, where) for item in value]
    return _values(option, value, where)


def _spellings(option: click.Option) -> Iterator[Spelling]:
    words: tuple[Any, Any] | None = None
    if option.is_flag:
        words = (False, True) if option.is_bool_flag else (None, option.flag_value)
    for name in _names(option.opts):
        yield Spelling(name, option, words)
    for name in _names(option.secondary_opts):
        yield Spelling(name, option, (True, False))


def _names(opts: list[str]) -> list[str]:
    long = [opt for opt in opts if opt.startswith("--")]
    return [opt.lstrip("-").replace("-", "_").lower() for opt in long or opts]


def _truth(text: str, where: str) -> bool:
    try:
        return bool(click.BOOL.convert(text, None, None))
    except click.BadParameter:
        raise ArgumentError(f"{where}: must be 1, 0, true, false, yes, no, on or off, got {text!r}") from None


def _values(option: click.Option, value: Any, where: str) -> Any:
    """One use of an option: one text, or as many as it takes."""
    if option.nargs == 1:
        return _text(option, value, where)
    if not isinstance(value, list) or len(value) != option.nargs:
        raise ArgumentError(f"{where}: must be {option.nargs} values, got {_shown(value)}")
    return [_text(option, item, where) for item in value]


def _text(option: click.Option, value: Any, where: str) -> str:
    """The text that the command line would have; a list of numbers is numbers with commas."""
    numeric = isinstance(option.type, (type(click.INT), type(click.FLOAT)))
    if isinstance(value, list) and len(value) > 1 and not numeric and all(map(_is_number, value)):
        return ",".join(map(str, value))
    if _is_number(value) or (isinstance(value, str) and not numeric):
        return str(value)
    raise ArgumentError(f"{where}: must be {'a number' if numeric else 'text or a number'}, got {_shown(value)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a table"
    return repr(value) if isinstance(value, (str, float)) or _is_number(value) else f"a {type(value).__name__}"
