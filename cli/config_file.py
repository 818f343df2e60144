"""What does a file of options say?  TOML: keys at the top for every command, tables for one, each name checked.

``[kernel.make]`` and ``[kernel-make]`` are the same table; the second can stand beside a key ``kernel``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from conv3dt.errors import ArgumentError, DataError, InputMissingError

from .spellings import Level, Statement, from_toml, identifier, meant, spellings

MOST_BYTES = 2**15
"""Of a file; the standard library takes seconds for a key of as many dots."""


def read_levels(path: str, command: str, commands: dict[str, click.Command]) -> list[Level]:
    """Return what a file says at its top, and in the table of a command; the second goes before the first.

    Args:
        path: of the file.
        command: the identifier of one of the commands, such as ``kernel_make``.
        commands: all that there are, because every name in the file is checked.

    Raises:
        InputMissingError: the file cannot be read.
        DataError: it is not TOML.
        ArgumentError: no command has an option of that name.
    """
    names = {at: set(spellings(inner)) for at, inner in commands.items()}
    names[""] = set().union(*names.values())
    tables: dict[str, Level] = {"": [], command: []}
    for table, statement in _statements(_read(path), path, list(commands)):
        if statement.name not in names[table]:
            raise _unknown(statement, table, names[table], commands)
        tables.setdefault(table, []).append(statement)
    return [tables[""], tables[command]]


def _read(path: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise InputMissingError(f"config {path}: no such file") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputMissingError(f"config {path}: cannot be read: {why}") from None
    if len(text) > MOST_BYTES:
        raise DataError(f"config {path}: is longer than {MOST_BYTES} bytes, and no list of options")
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        why = "is nested too deep" if isinstance(error, RecursionError) else f"is not TOML: {error}"
        hint = (
            "; beside a key kernel, [kernel.make] is written [kernel-make]" if "overwrite a value" in str(error) else ""
        )
        raise DataError(f"config {path}: {why}{hint}") from None


def _statements(
    tree: dict[str, Any], path: str, commands: list[str], table: str = "", shown: str = ""
) -> Iterator[tuple[str, Statement]]:
    """Yield what a file says, with the identifier of the table's command; at the top that is empty."""
    seen: set[str] = set()
    for key, value in tree.items():
        name, source = identifier(key), f"{path}: {shown}{key}"
        if name in seen:
            raise ArgumentError(f"{source}: is there twice, with - and with _; keep one")
        seen.add(name)
        inner = f"{table}_{name}" if table else name
        if isinstance(value, dict):
            if not any(at == inner or at.startswith(f"{inner}_") for at in commands):
                raise ArgumentError(f"{source}: is a table, and no command is called so{meant(inner, commands)}")
            yield from _statements(value, path, commands, inner, f"{shown}{key}.")
        elif table and table not in commands:
            under = [f"[{table}.{at.removeprefix(table)[1:]}]" for at in sorted(commands) if at.startswith(f"{table}_")]
            raise ArgumentError(f"{source}: options stand under a command, {' or '.join(under)}")
        else:
            yield table, Statement(name, value, source, from_toml)


def _unknown(statement: Statement, table: str, names: set[str], commands: dict[str, click.Command]) -> ArgumentError:
    """The error for a name that is no option's."""
    params = [param for at, command in commands.items() if table in ("", at) for param in command.params]
    if any(isinstance(param, click.Argument) and param.name == statement.name for param in params):
        return ArgumentError(f"{statement.source}: is an argument, and stands on the command line only")
    none = f"{table.replace('_', ' ')} has no such option" if table else "no command has such an option"
    return ArgumentError(f"{statement.source}: {none}{meant(statement.name, names)}")
