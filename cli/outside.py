"""What is said of a command's options outside of the command line?  In a file and in the environment, nearest last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from conv3dt.errors import ArgumentError

from .config_file import read_levels
from .spellings import Level, Spelling, Statement, from_text, identifier, meant, spellings


@dataclass(frozen=True, slots=True)
class Outside:
    """What is said of an option, by which of its names, and where; a value of None says nothing."""

    value: Any
    name: str
    source: str


def outside(
    ctx: click.Context, file: str | None, variables: dict[str, str], *, prefix: str, quiet: bool
) -> dict[str, Outside]:
    """Return what is said of a command's parameters: by a variable of its own, one for all, its table, the top.

    Args:
        ctx: of the command.
        file: of options, if there is one.
        variables: those of the environment that could be options'.
        prefix: with which they begin.
        quiet: do not say on stderr which variables are not.

    Raises:
        ArgumentError: a name or a value is wrong, or the same thing is said twice in one place.
        InputMissingError: the file cannot be read.
        DataError: it is not TOML.
    """
    name, known = _name(ctx), spellings(ctx.command)
    levels = read_levels(file, name, _commands(ctx)) if file is not None else []
    levels += [_variables(variables, prefix, known), _variables(variables, f"{prefix}{name.upper()}_", known)]
    if not quiet:
        read = {statement.source for level in levels for statement in level}
        _warn(ctx, sorted(variables.keys() - read), prefix)
    found: dict[str, Outside] = {}
    for level in levels:
        found |= _said(level, known)
    return {name: said for name, said in found.items() if said.value is not None}


def _name(ctx: click.Context) -> str:
    """The command's name, with those of its groups, as it stands in variables and tables."""
    words = []
    while ctx.parent is not None:
        words.append(str(ctx.info_name))
        ctx = ctx.parent
    return identifier("_".join(reversed(words)))


def _said(level: Level, known: dict[str, Spelling]) -> dict[str, Outside]:
    """Return what one level says of the options of a command."""
    found: dict[str, Outside] = {}
    for statement in level:
        spelling = known.get(statement.name)
        if spelling is None:
            continue
        value = statement.read(spelling, statement.value, statement.source)
        said = Outside(value, statement.name, statement.source)
        before = found.setdefault(spelling.parameter, said)
        if before.value is None:
            found[spelling.parameter] = said
        elif said.value is not None and before is not said:
            raise ArgumentError(f"{before.source} and {said.source} say the same thing twice; keep one")
    return found


def _variables(variables: dict[str, str], prefix: str, known: dict[str, Spelling]) -> Level:
    names = {f"{prefix}{name.upper()}": name for name in known}
    return [Statement(names[key], text, key, from_text) for key, text in sorted(variables.items()) if key in names]


def _warn(ctx: click.Context, unread: list[str], prefix: str) -> None:
    """Say which variables are no option's of any command."""
    if not unread:
        return
    commands = _commands(ctx)
    known = {name.upper() for command in commands.values() for name in spellings(command)}
    known |= {f"{at}_{name}".upper() for at, command in commands.items() for name in spellings(command)}
    for name in unread:
        word = name.removeprefix(prefix)
        if word not in known:
            click.echo(f"conv3dt: {name} is ignored: it is no option's{meant(word, known, prefix)}", err=True)


def _commands(ctx: click.Context) -> dict[str, click.Command]:
    """Return all commands by their identifiers, imported."""
    root = ctx.find_root()
    found: dict[str, click.Command] = {}
    waiting = [("", root.command)]
    while waiting:
        name, command = waiting.pop()
        if isinstance(command, click.Group):
            inside = [(word, command.get_command(root, word)) for word in command.list_commands(root)]
            waiting += [(identifier(f"{name}_{word}" if name else word), inner) for word, inner in inside if inner]
        else:
            found[name] = command
    return found
