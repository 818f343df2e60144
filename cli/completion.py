"""Which words could stand here?  What click's completion for shells does not know; imported only when a shell asks.

Names of files are plain text for the commands, because of ``file.h5:/dataset``: here they are paths.  Bash splits words
at ``=`` and ``:``, and zsh and fish replace the whole of ``--option=value``, which click does not see.
"""

from __future__ import annotations

import re
from copy import copy
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete, add_completion_class

FILES = click.Path(readable=False)
FOLDERS = click.Path(readable=False, file_okay=False)


def completed(param: click.Parameter) -> click.Parameter:
    """Return a parameter that completes the names of files, or the words that its metavar lists, if it takes such."""
    if not isinstance(param.type, type(click.STRING)) or getattr(param, "is_flag", False):
        return param
    made = copy(param)
    metavar = param.metavar or ""
    if isinstance(param, click.Argument) or re.search("FILE|PICTURE|PNG|REPAIRED|REF|PAGE", metavar):
        made.type = FILES
    elif "DIR" in metavar:
        made.type = FOLDERS
    elif metavar.startswith("["):
        made.type = click.Choice(re.findall(r"[\[|]([a-z][\w:]*)", metavar))
    return made


@add_completion_class
class Bash(BashComplete):
    """Completion that puts together what bash has split."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the one that it is in."""
        words, incomplete = super().get_completion_args()
        glued: list[str] = []
        open_end = False
        for word in [*words, incomplete]:
            mark = bool(word) and set(word) <= {"=", ":"}
            if glued and (mark or (open_end and word)):
                glued[-1] += word
            else:
                glued.append(word)
            open_end = mark
        return glued[:-1], glued[-1]


class _Whole:
    """Items that replace ``--option=value``, not the value alone."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        items: list[CompletionItem[Any]] = super().get_completions(args, incomplete)  # type: ignore[misc]
        option, sign, _ = incomplete.partition("=")
        if not sign or not option.startswith("-"):
            return items
        return [CompletionItem(f"{option}={item.value}", item.type, item.help) for item in items]


@add_completion_class
class Zsh(_Whole, ZshComplete):
    """Completion for zsh."""


@add_completion_class
class Fish(_Whole, FishComplete):
    """Completion for fish."""
