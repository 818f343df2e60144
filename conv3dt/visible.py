"""How is text from outside shown?  File names and messages as one line of text that hides nothing; strings only."""

from __future__ import annotations

import unicodedata

HIDDEN = frozenset(["Cc", "Cf", "Cs", "Co", "Zl", "Zp"])
"""Unicode's categories of what cannot be seen, or turns what stands beside it around."""


def visible(text: str, most: int | None = None) -> str:
    r"""Return text with all that is hidden in it spelled out; of long text the beginning and the end.

    Control and format characters (those that change the direction of writing among them), line ends, private and
    lone surrogate characters become ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``.

    Args:
        text: from a file system, a header or an error.
        most: characters to keep, at least 8; None keeps all.

    >>> visible("a\u202egnp.nii\n"), visible("scan-0123456789.nii.gz", 12)
    ('a\\u202egnp.nii\\x0a', 'sca…9.nii.gz')
    """
    shown = "".join(_spelled(character) if _is_hidden(character) else character for character in text)
    if most is None or len(shown) <= most:
        return shown
    head = max(most // 3 - 1, 0)
    return f"{shown[:head]}…{shown[len(shown) - (most - head - 1) :]}"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in HIDDEN or ord(character) & 0xFFFE == 0xFFFE


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
