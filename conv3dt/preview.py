"""How do volumes look beside each other?  PNGs of three slices through one point, voxels as they are; by Pillow.

All volumes of a picture share the point, the scale and the grey window, which is that of the first.  A voxel is a
rectangle of one grey, nothing is smoothed; where a pixel spans several voxels it is their mean.  Blue-grey is outside
the volume, pink is no number (NaN or infinite).  Where the planes lie and which voxel a pixel shows, `slices` says.
"""

from __future__ import annotations

import colorsys
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt import paths
from conv3dt.errors import ArgumentError, Conv3dtError, DataError
from conv3dt.io.files import open_source, read_info
from conv3dt.io.volume import LABEL_INTENT, PIPE, VolumeInfo
from conv3dt.pending import check_target, write_whole
from conv3dt.picture import (
    GREY,
    INK,
    MIDDLE,
    PAPER,
    RED,
    SMALL,
    Image,
    below,
    beside,
    bordered,
    check_pillow,
    font,
    sized,
    words,
)
from conv3dt.slices import Grid, Panel, Slice, View, grid_of, in_order, read_slices, view_of
from conv3dt.visible import visible

Pixels = NDArray[np.uint8]

PIXELS, THUMB_PIXELS = 480, 192
FEWEST, MOST = 16, 4096
MOST_SHEET = 100_000_000
"""Pixels of a whole picture."""
WINDOW = (0.5, 99.5)
"""Percentiles of the pixels of the first volume that become black and white."""
OUTSIDE = (52, 60, 78)
BROKEN = (232, 72, 168)
GUTTER, TICK, GAP = 26, 8, 26
LEAST_WIDTH = 300
QUALITY = 72


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A volume with what its panels show.

    Attributes:
        values: of each panel ``(height, width)``: means of real values, or the labels themselves.
        inside: which of these pixels lie in the volume.
        labels: whether its numbers are names.
    """

    info: VolumeInfo
    grid: Grid
    values: tuple[NDArray[np.float64], ...]
    inside: tuple[NDArray[np.bool_], ...]
    labels: bool

    @property
    def broken(self) -> int:
        """How many pixels are no number."""
        pairs = zip(self.values, self.inside, strict=True)
        return sum(int((inside & ~np.isfinite(values)).sum()) for values, inside in pairs)


def preview_file(paths: Sequence[str], out: str, *, overwrite: bool = False, **choices: Any) -> str:
    """Draw slices of volumes beside each other into a PNG file, whole or not at all.

    Args:
        paths: of the volumes.
        out: a name that ends in .png.
        overwrite: replace an existing file.
        **choices: as of `slices_png`.

    Returns:
        What was drawn, in one line.

    Raises:
        ArgumentError, InputMissingError, DataError, DoesNotFitError: as `slices_png`.
        OutputError, StreamError: the file exists, or cannot be written.
    """
    _check_out(paths, out, overwrite=overwrite)
    png, told = _drawn(paths, **choices)
    write_whole(out, png, overwrite=overwrite)
    return f"{visible(out)}: {told}"


def slices_png(
    paths: Sequence[str],
    *,
    at: Sequence[float] | None = None,
    voxel: Sequence[int] | None = None,
    volume: int = 0,
    channel: int = 0,
    axes: str | None = None,
    data_format: str | None = None,
    pixels: int = PIXELS,
) -> bytes:
    """Return a PNG of three slices of each volume, through the same point of the world and at the same scale.

    Args:
        paths: one volume or several, which become columns.
        at: the point in mm (RAS); voxel: or a voxel of the first volume, its spatial axes as listed, from 0; neither:
            the voxel in its middle.
        volume: which of several volumes in each file; channel: likewise.
        axes, data_format: what the axes of the files mean, as in `read_info`.
        pixels: about how many along the longest side of a slice.

    Raises:
        ArgumentError: the point, volume or channel is not there, the picture is too large, or Pillow is not installed.
        InputMissingError, DataError: a volume cannot be read, or has no place in the world of the first.
        DoesNotFitError: a packed file has planes too large to be held.
    """
    return _drawn(
        paths, at=at, voxel=voxel, volume=volume, channel=channel, axes=axes, data_format=data_format, pixels=pixels
    )[0]


def before_after(
    before: str,
    after: str,
    *,
    pixels: int = THUMB_PIXELS,
    before_axes: str | None = None,
    after_axes: str | None = None,
) -> tuple[bytes, bytes]:
    """Return two small pictures of the same size, place and grey window: three slices each, through the middle.

    Args:
        before, after: paths of volumes; the middle and the window are those of the first.
        pixels: about how many along the longest side of a slice.
        before_axes, after_axes: what their axes mean, as in a report.

    Returns:
        WebP files (PNG where Pillow lacks that format), the same bytes for the same volumes.

    Raises:
        Conv3dtError: whatever went wrong.
    """
    check_pillow()
    try:
        infos = [read_info(before, axes=before_axes), read_info(after, axes=after_axes)]
        _, shown = _shown(infos, at=None, voxel=None, volume=0, channel=0, pixels=pixels)
        window = _window(shown)
        first, second = (_encoded(_thumbnail(each, window), lossless=each.labels) for each in shown)
        return first, second
    except Conv3dtError:
        raise
    except Exception as error:  # one scan of a batch must not end it
        raise DataError(f"{after}: cannot be drawn: {type(error).__name__} {error}") from None


def _check_out(files: Sequence[str], out: str, *, overwrite: bool) -> None:
    """Refuse what would not be written, or would be written over what is read."""
    check_pillow()
    if not out.lower().endswith(".png"):
        raise ArgumentError(f"output must be a name that ends in .png, got {out!r}")
    check_target(out, overwrite=overwrite)
    if os.path.realpath(out) in (os.path.realpath(paths.split(file)[0]) for file in files):
        raise ArgumentError(f"output {out}: is one of the volumes; choose another name")


def _drawn(
    paths: Sequence[str], *, axes: str | None = None, data_format: str | None = None, pixels: int = PIXELS,
    at: Sequence[float] | None = None, voxel: Sequence[int] | None = None, volume: int = 0, channel: int = 0,
) -> tuple[bytes, str]:  # fmt: skip
    """The picture, and what it shows."""
    check_pillow()
    if not paths:
        raise ArgumentError("preview needs at least one volume")
    if len(paths) * 3 * pixels**2 > MOST_SHEET:
        raise ArgumentError(
            f"{len(paths)} volumes at {pixels} pixels a slice are more than {MOST_SHEET // 10**6} million pixels; "
            "give fewer"
        )
    if list(paths).count(PIPE) > 1:
        raise ArgumentError(f"{PIPE} is standard input, which can be read once; give one volume so")
    infos = [read_info(path, axes=axes, data_format=data_format) for path in paths]
    view, shown = _shown(infos, at=at, voxel=voxel, volume=volume, channel=channel, pixels=pixels)
    window = _window(shown)
    sheet = bordered(below([_columns(view, shown, window, volume, channel), _legend(view, shown, window)], GAP), 28)
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    count = f"{len(shown)} volume{'s' * (len(shown) > 1)}"
    return stream.getvalue(), f"{sheet.width}x{sheet.height} pixels, {count} {_place(view)}"


def _shown(
    infos: Sequence[VolumeInfo], *, at: Sequence[float] | None, voxel: Sequence[int] | None, volume: int, channel: int,
    pixels: int,
) -> tuple[View, list[Shown]]:  # fmt: skip
    """Read what is to be drawn."""
    if not FEWEST <= pixels <= MOST:
        raise ArgumentError(f"pixels must be {FEWEST} to {MOST}, got {pixels}")
    first = grid_of(infos[0])
    grids = [first, *(grid_of(info, (infos[0], first)) for info in infos[1:])]
    view = view_of(infos, grids, at=at, voxel=voxel, pixels=pixels)
    return view, [_read(info, grid, view, volume, channel) for info, grid in zip(infos, grids, strict=True)]


def _read(info: VolumeInfo, grid: Grid, view: View, volume: int, channel: int) -> Shown:
    source = open_source(info, threads=1, in_order=in_order(info))
    try:
        slices = read_slices(source, grid, view, volume=volume, channel=channel)
    finally:
        source.close()
    labels = info.dtype.kind in "iub" and info.header is not None and int(info.header["intent_code"]) == LABEL_INTENT
    made = [_labels(each, view.samples) if labels else _means(each, view.samples, info) for each in slices]
    return Shown(info, grid, tuple(values for values, _ in made), tuple(inside for _, inside in made), labels)


def _labels(each: Slice, samples: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of each pixel the sample in its middle."""
    middle = slice(samples // 2, None, samples)
    return each.values[middle, middle].astype(np.float64), each.inside[middle, middle]


def _means(each: Slice, samples: int, info: VolumeInfo) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of each pixel the mean of its samples in the volume, if they are at least half of it."""
    rows, columns = (side // samples for side in each.values.shape)
    blocks = (rows, samples, columns, samples)
    count = each.inside.reshape(blocks).sum(axis=(1, 3))
    with np.errstate(all="ignore"):
        real = np.where(each.inside, each.values.astype(np.float64) * info.slope + info.inter, 0.0)
        means = real.reshape(blocks).sum(axis=(1, 3)) / np.maximum(count, 1)
    return means, 2 * count >= samples**2


def _window(shown: Sequence[Shown]) -> tuple[float, float]:
    """The values that become black and white: robust limits of the first volume that is not labels."""
    for each in shown:
        if each.labels:
            continue
        pairs = zip(each.values, each.inside, strict=True)
        values = np.concatenate([values[inside] for values, inside in pairs])
        values = values[np.isfinite(values)]
        if values.size:
            low, high = (float(value) for value in np.percentile(values, WINDOW))
            if not low < high:
                low, high = float(values.min()), float(values.max())
            return (low, high) if low < high else (low - 1, high + 1)
    return 0.0, 1.0


def _colours(each: Shown, panel: int, window: tuple[float, float]) -> Pixels:
    """The pixels of a panel, ``(height, width, 3)``."""
    values, inside = each.values[panel], each.inside[panel]
    if each.labels:
        names, at = np.unique(values, return_inverse=True)
        pixels = np.array([_colour(int(name)) for name in names], np.uint8)[at.reshape(values.shape)]
    else:
        low, high = window
        with np.errstate(all="ignore"):
            shares = np.nan_to_num((values / 2 - low / 2) / (high / 2 - low / 2), nan=0.0)
        grey = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
        pixels[~np.isfinite(values)] = BROKEN
    pixels[~inside] = OUTSIDE
    return pixels


def _colour(label: int) -> tuple[int, int, int]:
    """A label's colour: hues a golden section apart, so that neighbouring numbers differ; 0 is black."""
    if label == 0:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb(label * 0.6180339887498949 % 1, 0.65 if label % 2 else 0.9, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _thumbnail(each: Shown, window: tuple[float, float]) -> Image:
    """Three panels beside each other on the colour of the outside, nothing else."""
    from PIL import Image

    parts = [Image.fromarray(_colours(each, panel, window)) for panel in range(3)]
    sheet = Image.new("RGB", (sum(part.width for part in parts) + 4, max(part.height for part in parts)), OUTSIDE)
    left = 0
    for part in parts:
        sheet.paste(part, (left, (sheet.height - part.height) // 2))
        left += part.width + 2
    return sheet


def _encoded(image: Image, *, lossless: bool) -> bytes:
    from PIL import features

    stream = io.BytesIO()
    if features.check("webp"):
        image.save(stream, "WEBP", quality=QUALITY, method=6, lossless=lossless)
    else:
        image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _columns(view: View, shown: Sequence[Shown], window: tuple[float, float], volume: int, channel: int) -> Image:
    """A column of three panels a volume, under its name; of a single volume they stand beside each other."""
    bodies = []
    for each in shown:
        panels = [_framed(view, n, _colours(each, n, window)) for n in range(3)]
        bodies.append(below(panels, 4) if len(shown) > 1 else beside(panels, 4))
    width = max(bodies[0].width, LEAST_WIDTH)
    headings = [_heading(each, volume, channel, width) for each in shown]
    height = max(heading.height for heading in headings)
    columns = [below([sized(head, head.width, height), body], 8) for head, body in zip(headings, bodies, strict=True)]
    return beside([sized(column, width, column.height) for column in columns], 12)


def _heading(each: Shown, volume: int, channel: int, width: int) -> Image:
    info = each.info
    file, inside = paths.split(info.path)
    size = "" if info.spacing is None else f" of {'x'.join(f'{value:.4g}' for value in info.spacing)} {info.unit}"
    facts = [f"{'x'.join(map(str, info.shape))} voxels{size}".rstrip() + f", {info.dtype.newbyteorder('=').name}"]
    if info.batch:
        facts.append(f"volume {volume}")
    if info.channel is not None:
        facts.append(f"channel {channel} of {info.channels}")
    if each.labels:
        facts.append("labels")
    if each.grid.oblique:
        facts.append("oblique")
    complaints = []
    if each.broken:
        complaints.append(f"{each.broken} pixels are NaN or infinite")
    if not any(part.any() for part in each.inside):
        complaints.append("lies outside this view")
    name = visible(Path(file).name + (f":{inside}" if inside else ""))
    return below(
        [
            words(_fitting(name, width, MIDDLE + 2), MIDDLE + 2),
            *(words(line, SMALL, GREY) for line in _wrapped(", ".join(facts), width, SMALL)),
            *(words(line, SMALL, RED) for line in _wrapped("; ".join(complaints), width, SMALL)),
        ],
        2,
    )


def _framed(view: View, number: int, pixels: Pixels) -> Image:
    """A panel with its name, letters at its sides, and ticks that point to the cut of the other two planes."""
    from PIL import Image, ImageDraw

    panel: Panel = view.panels[number]
    sheet = Image.new("RGB", (panel.width + 2 * GUTTER, panel.height + 2 * GUTTER), PAPER)
    sheet.paste(Image.fromarray(pixels), (GUTTER, GUTTER))
    draw = ImageDraw.Draw(sheet)
    right, low = GUTTER + panel.width, GUTTER + panel.height
    x, y = (GUTTER + 0.5 + value for value in panel.cross)
    for line in ((x, GUTTER - TICK, x, GUTTER - 2), (x, low + 1, x, low + TICK - 1),
                 (GUTTER - TICK, y, GUTTER - 2, y), (right + 1, y, right + TICK - 1, y)):  # fmt: skip
        draw.line(line, RED)
    middle, half, edge = GUTTER + panel.width / 2, GUTTER + panel.height / 2, (GUTTER - TICK) / 2
    places = ((edge, half), (right + GUTTER - edge, half), (middle, edge), (middle, low + GUTTER - edge))
    for letter, place in zip(panel.letters, places, strict=True):
        draw.text(place, letter, INK, font=font(MIDDLE), anchor="mm")
    draw.text((GUTTER, edge), panel.name, GREY, font=font(SMALL), anchor="lm")
    return sheet


def _legend(view: View, shown: Sequence[Shown], window: tuple[float, float]) -> Image:
    """What must be known to read the picture."""
    slices = [f"Slices {_place(view)}."]
    if view.oriented:
        slices.append("Radiological: the patient's right is on the left, front on the left of the sagittal slice.")
        if shown[0].grid.oblique:
            slices.append("The scan is oblique and is shown along its own axes, named by those of the patient nearest.")
    else:
        slices.append("Without a place in the world: plain axes of the file, first faces together.")
    scale = [f"1 pixel is {_length(view.pixel)}" + ("." if view.samples == 1 else ", the mean of what lies in it.")]
    if not all(each.labels for each in shown):
        low, high = window
        scale.append(f"Black is {low:.5g} and less, white {high:.5g} and more, in all columns.")
    if any(each.labels for each in shown):
        scale.append("Labels have colours by their numbers, 0 is black.")
    scale.append("Blue-grey is outside the volume" + (", pink is no number." if any(s.broken for s in shown) else "."))
    width = max(3 * LEAST_WIDTH if len(shown) == 1 else 0, len(shown) * (view.panels[0].width + 2 * GUTTER), 440)
    lines = [line for part in (slices, scale) for line in _wrapped(" ".join(part), width, SMALL)]
    return below([words(line, SMALL, GREY) for line in lines], 3)


def _place(view: View) -> str:
    voxel = f"voxel {','.join(map(str, view.voxel))} of the first"
    if not view.oriented:
        return f"through {voxel}"
    return f"at {', '.join(f'{value:.4g}' for value in view.point)} mm, {voxel}"


def _length(mm: float) -> str:
    return f"{mm:.4g} mm" if mm >= 0.01 else f"{1000 * mm:.4g} um"


def _fitting(text: str, width: int, size: int) -> str:
    """Text that fits into a width: the end of a name says most."""
    most = len(text)
    while most > 8 and font(size).getlength(visible(text, most)) > width:
        most = most * 19 // 20
    return visible(text, most)


def _wrapped(text: str, width: int, size: int) -> list[str]:
    """Text in lines that fit into a width."""
    lines: list[str] = []
    for word in text.split():
        if lines and font(size).getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
