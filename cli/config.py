"""Where does the value of an option come from?  The command line, the environment, a file, the default, in this order.

Every command gets this by `configured`, and need not know.  A file is read only where ``--config`` or
``CONV3DT_CONFIG`` names it: what a command does must not depend on a file in somebody's home.
"""

from __future__ import annotations

import os
import re
from copy import copy
from typing import TYPE_CHECKING, Any

import click

from conv3dt.errors import ArgumentError, Conv3dtError

if TYPE_CHECKING:
    from .outside import Outside

PREFIX = "CONV3DT_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
OTHER_VARIABLES = {FILE_VARIABLE, f"{PREFIX}TRACEBACK"}
"""Variables that are no option's."""
COMPLETION_VARIABLE = f"_{PREFIX}COMPLETE"
CHOSEN, OUTSIDE = f"{__name__}.chosen", f"{__name__}.outside"


def config_option(command: Any) -> Any:
    """Add ``--config`` to a command or a group."""
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(readable=False),
        expose_value=False,
        callback=_choose,
        help="Take options from a TOML file.",
    )(command)


def configured(command: click.Command) -> click.Command:
    """Return a command with ``--config`` and ``--print-config``, whose options can stand in a file or the environment.

    Of a group, the same is true for its commands.  What the command's own class overrides stays.
    """
    made = copy(command)
    kind = ConfiguredGroup if isinstance(command, click.Group) else Configured
    made.__class__ = type(kind.__name__, (kind, type(command)), {})
    made.params = list(command.params)
    config_option(made)
    if kind is Configured:
        made.params.append(
            click.Option(
                ["--print-config"],
                is_flag=True,
                expose_value=False,
                help="Print all options as such a file, with where each is from, and stop.",
            )
        )
    if COMPLETION_VARIABLE in os.environ:
        from .completion import completed

        made.params = [completed(param) for param in made.params]
    return made


class ConfiguredGroup(click.Group):
    """A group of commands that can be configured."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, made to look outside of the command line too."""
        command = super().get_command(ctx, cmd_name)
        return None if command is None else configured(command)


class Configured(click.Command):
    """A command that looks for its options outside of the command line too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; what it leaves open is taken from outside."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        help_option = self.get_help_option(ctx)
        if help_option is not None and help_option.name in given:
            return super().parse_args(ctx, args)
        outside = _outside(ctx, given.get("config"), quiet=bool(given.get("quiet")))
        ctx.meta[OUTSIDE] = outside
        ctx.default_map = {name: said.value for name, said in outside.items()}
        try:
            if given.get("print_config"):
                from .config_text import as_toml

                click.echo(as_toml(ctx, given, {name: said.source for name, said in outside.items()}))
                ctx.exit()
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            name = getattr(error.param, "name", None)
            if isinstance(error, click.MissingParameter) or name not in _used(ctx):
                raise
            raise ArgumentError(f"{outside[name].source}: {error.message.rstrip('.')}") from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, then those that it shares, under their headings."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                sections.setdefault(getattr(param, "heading", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error about an option that is not on the command line says where it is from."""
        try:
            return super().invoke(ctx)
        except Conv3dtError as error:
            if hints := _hints(ctx, str(error)):
                error.args = (f"{error}{hints}",)
            raise
        except click.UsageError as error:
            if hints := _hints(ctx, error.format_message()):
                raise click.UsageError(f"{error.format_message().rstrip('.')}{hints}", ctx) from None
            raise


def _hints(ctx: click.Context, text: str) -> str:
    """Where the options are from that an error speaks of, if they are not on the command line."""
    words = {word.strip("-").replace("-", "_") for word in re.findall(r"[\w-]+", text)}
    found = [f"{said.name} is from {said.source}" for name, said in _used(ctx).items() if words & {name, said.name}]
    return "".join(f"; {hint}" for hint in found)


def _choose(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """Note the file that a group was given, for the command."""
    if path is not None and isinstance(ctx.command, click.Group):
        if CHOSEN in ctx.meta:
            raise click.UsageError("--config is given twice; give it once", ctx)
        ctx.meta[CHOSEN] = path


def _used(ctx: click.Context) -> dict[str, Outside]:
    """What is from outside, and not replaced by the command line."""
    here = click.core.ParameterSource.DEFAULT_MAP
    return {name: said for name, said in ctx.meta.get(OUTSIDE, {}).items() if ctx.get_parameter_source(name) is here}


def _outside(ctx: click.Context, path: str | None, *, quiet: bool) -> dict[str, Outside]:
    """What is said of the command's options outside of the command line; where nothing is, nothing is imported."""
    if path is not None and CHOSEN in ctx.meta:
        raise click.UsageError("--config is given twice; give it once", ctx)
    set_here = {name: text for name, text in os.environ.items() if name.startswith(PREFIX) and text}
    file = path if path is not None else ctx.meta.get(CHOSEN, set_here.get(FILE_VARIABLE))
    variables = {name: text for name, text in set_here.items() if name not in OTHER_VARIABLES}
    if file is None and not variables:
        return {}
    from .outside import outside

    return outside(ctx, file, variables, prefix=PREFIX, quiet=quiet)
