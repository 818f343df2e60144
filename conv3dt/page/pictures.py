"""How do the pictures of many scans go into one page?  As they are, or smaller step by step, which takes Pillow."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence

SMALLER = ((1.0, 45), (0.75, 50), (0.5, 50), (0.375, 45))
"""Scale and WebP quality, step by step; step 0 is as given."""
DECENT = 2
"""Whole reports give way before pictures go beyond this step."""
SAMPLED = 12
MAGIC = ((b"\x89PNG\r\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"RIFF", "webp"))
Pair = tuple[bytes | None, bytes | None]


def told(step: int) -> str:
    """Return what was done to pictures at a step.

    >>> told(1), told(3)
    ('packed more tightly (quality 45)', 'made 0.5 times as large and packed more tightly (quality 50)')
    """
    scale, quality = SMALLER[step - 1]
    size = "" if scale == 1 else f"made {scale:g} times as large and "
    return f"{size}packed more tightly (quality {quality})"


class Pairs:
    """The pictures of all rows before and after, as HTML at one step or another."""

    def __init__(
        self, rows: Sequence[tuple[str, bytes | None, bytes | None]], write: Callable[[str, str, str], str]
    ) -> None:
        """Take name and pictures of each row, and what writes a pair of them as HTML."""
        self._rows = rows
        self._write = write
        drawn = [row for row in rows if row[1] or row[2]]
        stride = max(len(drawn) // SAMPLED, 1)
        self._sample = drawn[stride // 2 :: stride][:SAMPLED]
        self.count = len(drawn)

    def expected(self, step: int) -> int:
        """Return about how many bytes all of them take at a step: all are counted at step 0, then a sample is."""
        if not self.count:
            return 0
        if step == 0:
            return sum(len(self._html(row, 0)) for row in self._rows)
        total = sum(len(self._html(row, step)) for row in self._sample)
        return total * self.count * 21 // (20 * len(self._sample))

    def step(self, room: int) -> int:
        """Return the first step at which all fit, or the last."""
        return next((step for step in range(len(SMALLER)) if self.expected(step) <= room), len(SMALLER))

    def drawn(self, step: int, room: int) -> list[str]:
        """Return the HTML of each row; no more pictures are packed than there are bytes for."""
        parts = []
        for row in self._rows:
            parts.append(self._html(row, step) if room > 0 else "")
            room -= len(parts[-1])
        return parts

    def _html(self, row: tuple[str, bytes | None, bytes | None], step: int) -> str:
        name, before, after = row
        first, second = map(_address, _packed((before, after), step))
        return str(self._write(name, first, second)) if first or second else ""


def _packed(pair: Pair, step: int) -> Pair:
    """A pair packed again, both in one way; as it was where that helps nothing."""
    if step == 0:
        return pair
    try:
        fresh = [raw and _smaller(raw, *SMALLER[step - 1]) for raw in pair]
    except Exception:  # without Pillow, or of a picture that is none
        return pair
    less = sum(len(raw or b"") for raw in fresh) < sum(len(raw or b"") for raw in pair)
    return (fresh[0], fresh[1]) if less else pair


def _smaller(raw: bytes, scale: float, quality: int) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(raw)) as image:
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        small = image.convert("RGB").resize(size, Image.Resampling.BOX)
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=quality, method=2)
    return stream.getvalue()


def _address(raw: bytes | None) -> str:
    """A picture as an address that holds it; nothing for what no browser would show."""
    kind = next((kind for magic, kind in MAGIC if raw and raw.startswith(magic)), None)
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}" if raw and kind else ""
