"""How does a kernel look?  A PNG of its middle slices and of its phases, blue below 0 and red above; by Pillow.

The upper row cuts the kernel through its middle along each axis.  Below stand its phases, each the weights of the
input voxels that make the outputs of one remainder, seen along the three axes: each square is the largest weight
behind it, with its sign.  All share one scale of colours, up to the largest tap of the filter and channel shown.

Small images are put beside and below each other, so nothing has to be measured.  Pillow comes with ``conv3dt[png]``
and is imported only here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import Axes
from conv3dt.doctor import LEVEL, phase_sums
from conv3dt.errors import ArgumentError

Array = NDArray[np.float64]
Colour = tuple[int, int, int]
Image = Any  # of Pillow, which may not be installed

MOST_PANELS = 64
MOST_SIDE = 160
"""Squares along a side of a tile; of more, those in the middle are shown."""
WIDTH = 1560
SLICE, SEEN = 176, 50
"""Pixels along the longest side of a tile, unless it has more taps."""

# Brewer's RdBu from blue to red, with a white middle; it survives the usual kinds of colour blindness.
COLOURS = np.array(
    [(5, 48, 97), (33, 102, 172), (67, 147, 195), (146, 197, 222), (209, 229, 240), (255, 255, 255),
     (253, 219, 199), (244, 165, 130), (214, 96, 77), (178, 24, 43), (103, 0, 31)]
)  # fmt: skip
INK: Colour = (30, 30, 36)
GREY: Colour = (108, 108, 118)
FRAME: Colour = (150, 150, 160)
GRID: Colour = (226, 226, 230)
HOLE: Colour = (216, 216, 222)
RED: Colour = (190, 0, 40)
PAPER: Colour = (255, 255, 255)
SMALL, MIDDLE, LARGE = 12, 14, 20


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn kernel: the bytes of a PNG file, its size in pixels, and what did not fit into it."""

    png: bytes
    width: int
    height: int
    cut: tuple[str, ...] = ()


def check_pillow() -> None:
    """Refuse before any work is done, if Pillow is not installed.

    Raises:
        ArgumentError: naming what to install.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise ArgumentError("a picture needs Pillow; install it with: pip install 'conv3dt[png]'") from None


def check_choice_of_taps(shape: tuple[int, ...], *, filter: int, channel: int) -> None:
    """Refuse a filter or channel that a kernel of ``shape`` does not have.

    Raises:
        ArgumentError: with those that there are.
    """
    for name, number, count in (("filter", filter, shape[3]), ("channel", channel, shape[4])):
        if not 0 <= number < count:
            raise ArgumentError(f"{name} must be 0{f' to {count - 1}' if count > 1 else ''}, got {number}")


def phases_png(
    kernel: NDArray[np.floating], axes: Axes, *, filter: int = 0, channel: int = 0, title: str = "kernel"
) -> Picture:
    """Return a picture of one filter and channel of a kernel.

    Args:
        kernel: ``(k1, k2, k3, filters, channels)``, finite.
        axes: the laws of the three axes; their strides make the phases.
        filter: which filter; the gains told are its own, over all channels.
        channel: which channel.
        title: the first line.

    Raises:
        ArgumentError: no such filter or channel, or Pillow is not installed.
    """
    check_pillow()
    check_choice_of_taps(kernel.shape, filter=filter, channel=channel)
    taps = kernel[..., filter, channel].astype(np.float64)
    gains = phase_sums(kernel[..., filter : filter + 1, :], axes)[..., 0]
    limit = float(np.abs(taps).max()) or 1.0
    cut = []
    if max(taps.shape) > MOST_SIDE:
        cut.append(f"only the middle {MOST_SIDE} taps of long axes are shown")
    if gains.size > MOST_PANELS:
        cut.append(f"only the first {MOST_PANELS} of {gains.size} phases are shown")
    sheet = below(
        [
            below([words(_fitting(title), LARGE), words(_subtitle(kernel, axes, filter, channel), MIDDLE, GREY)], 6),
            _slices(taps, limit),
            below(
                [words(f"{gains.size} phase{'s' * (gains.size > 1)}: the weights of the input voxels that make the "
                        "outputs of one remainder, seen along axes 0, 1 and 2", MIDDLE),
                 _phases(taps, gains, axes, limit),
                 *(words(text, MIDDLE, RED) for text in cut)], 16),
        ],
        26,
    )  # fmt: skip
    image = bordered(sheet, 28)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return Picture(stream.getvalue(), image.width, image.height, tuple(cut))


def _subtitle(kernel: NDArray[np.floating], axes: Axes, filter: int, channel: int) -> str:
    text = f"{_by(kernel.shape[:3])} taps, strides {_by(axis.stride for axis in axes)}, padding {axes[0].padding}"
    if max(axis.dilation for axis in axes) > 1:
        text += f", dilation {_by(axis.dilation for axis in axes)}"
    if kernel.shape[3] > 1:
        text += f", filter {filter} (0 to {kernel.shape[3] - 1})"
    if kernel.shape[4] > 1:
        text += f", channel {channel} (0 to {kernel.shape[4] - 1}); gains are over all channels"
    return text


def _slices(taps: Array, limit: float) -> Image:
    """The three slices through the middle, and the scale."""
    cell = _cell(taps.shape, SLICE)
    blocks = []
    for axis, count in enumerate(taps.shape):
        at = (count - 1) // 2
        down, right = (other for other in range(3) if other != axis)
        lines = [
            words(f"axis {axis} at tap {at} (0 to {count - 1})" if count > 1 else f"axis {axis}, its one tap", MIDDLE),
            words(f"axis {down} down, axis {right} to the right", SMALL, GREY),
        ]
        cut: Array = np.take(taps, [at], axis).squeeze(axis)
        blocks.append(below([*lines, _blank(1, 2), _tile(_middle(cut), cell, limit, numbers=True)], 4))
    tallest = max(block.height for block in blocks)
    return beside([*blocks, _scale(limit, max(tallest, 120))], 36)


def _phases(taps: Array, gains: Array, axes: Axes, limit: float) -> Image:
    """The phases in rows; a row begins with a remainder of 0 on the last axis where that leaves it a decent length."""
    laws = [axis.phases() for axis in axes]
    indices = [index for _, index in zip(range(MOST_PANELS), np.ndindex(*gains.shape), strict=False)]
    parts = []
    for index in indices:
        chosen = [np.array(law[remainder].taps, np.intp) for law, remainder in zip(laws, index, strict=True)]
        parts.append(taps[np.ix_(*chosen)])
    cell = _cell(np.max([part.shape for part in parts], axis=0).tolist(), SEEN)
    mean = float(gains.mean())
    panels = []
    for index, part in zip(indices, parts, strict=True):
        gain = float(gains[index])
        even = abs(gain - mean) <= LEVEL * abs(mean) and part.size > 0
        told = words(f"gain {gain:.4g}" if part.size else "no taps", MIDDLE, INK if even else RED)
        name = words(f"phase {','.join(map(str, index))}", MIDDLE, GREY)
        tiles = [_tile(_middle(_seen(part, axis)), cell, limit) if part.size else _hole(cell) for axis in range(3)]
        panels.append(below([beside([name, told], 10), beside(tiles, 8)], 7))
    width, height = max(panel.width for panel in panels), max(panel.height for panel in panels)
    columns = _columns(len(panels), gains.shape[2], max((WIDTH + 26) // (width + 26), 1))
    rows = [panels[n : n + columns] for n in range(0, len(panels), columns)]
    return below([beside([sized(panel, width, height) for panel in row], 26) for row in rows], 20)


def _columns(count: int, last: int, most: int) -> int:
    """How many panels a row has: about twice as many as there are rows, and a multiple of ``last`` if that fits.

    >>> _columns(8, 2, 7), _columns(27, 3, 7), _columns(64, 4, 8), _columns(20, 10, 7)
    (4, 6, 8, 7)
    """
    most = min(most, max(last, isqrt(2 * count - 1) + 1))
    choices = range(last, most + 1, last) if last <= most else [most]
    return min(choices, key=lambda columns: (-(-count // columns), columns))


def _seen(part: Array, axis: int) -> Array:
    """The taps of a phase as they are seen along an axis: the largest in size of those behind each other."""
    at = np.expand_dims(np.abs(part).argmax(axis), axis)
    seen: Array = np.take_along_axis(part, at, axis).squeeze(axis)
    return seen


def _middle(values: Array) -> Array:
    """The part of a tile that is shown."""
    starts = [max(count - MOST_SIDE, 0) // 2 for count in values.shape]
    return values[tuple(slice(start, start + MOST_SIDE) for start in starts)]


def _cell(shape: Iterable[int], pixels: int) -> int:
    """How many pixels a tap is wide, so that the longest side takes about ``pixels``."""
    return max(min(pixels // max(*shape, 1), 44), 1)


def _tile(values: Array, cell: int, limit: float, *, numbers: bool = False) -> Image:
    """An image of taps with a frame, and with their numbers where these fit into the squares."""
    from PIL import Image, ImageDraw

    pixels = colours(values, limit).repeat(cell, 0).repeat(cell, 1)
    if cell >= 6:  # lines between squares, so that those alike can be counted
        pixels[cell::cell] = pixels[:, cell::cell] = GRID
    image = Image.new("RGB", (pixels.shape[1] + 2, pixels.shape[0] + 2), FRAME)
    image.paste(Image.fromarray(pixels), (1, 1))
    face = font(SMALL)
    texts = [[f"{value:.2g}" for value in row] for row in values] if numbers and cell >= 24 else []
    if not texts or max(face.getlength(text) for row in texts for text in row) > cell - 3:
        return image
    draw = ImageDraw.Draw(image)
    for (row, column), value in np.ndenumerate(values):
        ink = PAPER if abs(value) > 0.62 * limit else INK
        at = (1 + (column + 0.5) * cell, 1 + (row + 0.5) * cell)
        draw.text(at, texts[row][column], ink, font=face, anchor="mm")
    return image


def _hole(cell: int) -> Image:
    """What stands for a phase without taps."""
    from PIL import Image

    return Image.new("RGB", (cell + 2, cell + 2), HOLE)


def colours(values: NDArray[np.floating], limit: float) -> NDArray[np.uint8]:
    """Return red, green and blue for values between minus and plus ``limit``; 0 is white.

    >>> colours(np.array([-2.0, 0.0, 2.0]), 2.0).tolist()
    [[5, 48, 97], [255, 255, 255], [103, 0, 31]]
    """
    at = (np.asarray(values, np.float64) / limit + 1) / 2 * (len(COLOURS) - 1)
    stops = np.arange(len(COLOURS))
    return np.stack([np.interp(at, stops, COLOURS[:, n]) for n in range(3)], axis=-1).round().astype(np.uint8)


def _scale(limit: float, height: int) -> Image:
    """The scale of colours, the largest tap on top."""
    from PIL import Image, ImageDraw

    bar, inset = 18, 10
    length = height - 2 * inset
    ramp = colours(np.linspace(limit, -limit, length)[:, None].repeat(bar, 1), limit)
    image = Image.new("RGB", (120, height), PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, inset - 1, bar + 1, inset + length), outline=FRAME)
    image.paste(Image.fromarray(ramp), (1, inset))
    for part in (1, 0.5, 0, -0.5, -1):
        y = inset + round((1 - part) / 2 * (length - 1))
        draw.line((bar + 2, y, bar + 7, y), FRAME)
        draw.text((bar + 12, y), f"{limit * part:.3g}" if part else "0", INK, font=font(MIDDLE), anchor="lm")
    return image


def words(text: str, size: int, colour: Colour = INK) -> Image:
    """A line of text."""
    from PIL import Image, ImageDraw

    face = font(size)
    image = Image.new("RGB", (int(face.getlength(text)) + 2, round(size * 1.3)), PAPER)
    ImageDraw.Draw(image).text((0, image.height / 2), text, colour, font=face, anchor="lm")
    return image


def _fitting(text: str) -> str:
    """The end of a title that would be wider than the picture."""
    face = font(LARGE)
    if face.getlength(text) <= WIDTH:
        return text
    while face.getlength(f"...{text}") > WIDTH:
        text = text[max(len(text) // 20, 1) :]
    return f"...{text}"


def font(size: int) -> Any:
    """Pillow's own font, so that pictures are the same everywhere."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _blank(width: int, height: int) -> Image:
    from PIL import Image

    return Image.new("RGB", (width, height), PAPER)


def below(images: list[Image], gap: int) -> Image:
    """Images below each other, their left sides in line."""
    sheet = _blank(
        max(image.width for image in images), sum(image.height for image in images) + gap * (len(images) - 1)
    )
    y = 0
    for image in images:
        sheet.paste(image, (0, y))
        y += image.height + gap
    return sheet


def beside(images: list[Image], gap: int) -> Image:
    """Images beside each other, their upper sides in line."""
    sheet = _blank(
        sum(image.width for image in images) + gap * (len(images) - 1), max(image.height for image in images)
    )
    x = 0
    for image in images:
        sheet.paste(image, (x, 0))
        x += image.width + gap
    return sheet


def sized(image: Image, width: int, height: int) -> Image:
    """An image in the upper left corner of a sheet."""
    sheet = _blank(width, height)
    sheet.paste(image, (0, 0))
    return sheet


def bordered(image: Image, border: int) -> Image:
    """An image with paper around it."""
    sheet = _blank(image.width + 2 * border, image.height + 2 * border)
    sheet.paste(image, (border, border))
    return sheet


def _by(numbers: Iterable[int]) -> str:
    return "x".join(map(str, numbers))
