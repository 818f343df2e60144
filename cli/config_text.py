"""Which options hold, and where is each from?  As a TOML file that says the same again."""

from __future__ import annotations

import re
from typing import Any

import click

from conv3dt.errors import ArgumentError

from .spellings import Spelling, main_spellings, options


def as_toml(ctx: click.Context, given: dict[str, Any], sources: dict[str, str]) -> str:
    """Return the options that hold, and where each is from, as the text of a file that says the same.

    Args:
        ctx: of the command, with its ``default_map``; the options are processed, and an error of click's is raised.
        given: what the parser found on the command line.
        sources: where the values are from that neither the command line nor the command gives.
    """
    for option in options(ctx.command):
        try:
            option.handle_parse_result(ctx, given, [])
        except click.MissingParameter:
            pass  # is told as not set
    rows = []
    for spelling in main_spellings(ctx.command):
        value = _value(ctx, spelling, given)
        text = f"# {spelling.name} =" if value is None else f"{spelling.name} = {_literal(value)}"
        rows.append(f"{text:<30}  # {_origin(ctx, spelling, sources)}")
    return "\n".join([f"# {ctx.command_path}", *rows])


def _origin(ctx: click.Context, spelling: Spelling, sources: dict[str, str]) -> str:
    source = ctx.get_parameter_source(spelling.parameter)
    if source is click.core.ParameterSource.COMMANDLINE:
        return "command line"
    if source is click.core.ParameterSource.DEFAULT_MAP:
        return "".join(c if c.isprintable() else "?" for c in sources[spelling.parameter])
    told = re.search(r"\[(default: .*)\]", spelling.option.help or "")
    return told[1] if told else "default"


def _value(ctx: click.Context, spelling: Spelling, given: dict[str, Any]) -> Any:
    """The value that holds, as one that TOML knows; text as it was given where click makes something else of it."""
    option, name = spelling.option, spelling.parameter
    source = ctx.get_parameter_source(name)
    if source is click.core.ParameterSource.COMMANDLINE:
        raw = given[name]
    elif source is click.core.ParameterSource.DEFAULT_MAP:
        raw = (ctx.default_map or {})[name]
    else:
        raw = option.to_info_dict()["default"]
    if spelling.words is not None:
        return None if raw is None and None not in spelling.words else raw == spelling.words[True]
    if raw is None:
        return None
    made = option.type_cast_value(ctx, raw)
    if option.multiple:
        return [_plain(option, new, old) for new, old in zip(made, raw, strict=True)]
    return _plain(option, made, raw)


def _plain(option: click.Option, made: Any, raw: Any) -> Any:
    if option.nargs != 1:
        return [_scalar(new, old) for new, old in zip(made, raw, strict=True)]
    if isinstance(made, (tuple, list)) and made and all(type(item) in (int, float) for item in made):
        return list(made)
    return _scalar(made, raw)


def _scalar(made: Any, raw: Any) -> Any:
    return made if type(made) in (bool, int, float, str) else str(raw)


def _literal(value: Any) -> str:
    """A value as TOML spells it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    import json

    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ArgumentError(f"print_config: {value!r} is not text that a TOML file can hold")
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
