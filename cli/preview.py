"""``conv3dt preview``: slices of volumes, one beside another at the same places."""

from __future__ import annotations

from typing import Any

import click

from .options import axes_options


class Three(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """Three numbers between commas."""

    def __init__(self, name: str, kind: type[int] | type[float]) -> None:
        """Take how the three are called, and what each is."""
        self.name = name
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple of three numbers."""
        if not isinstance(value, str):
            return value
        try:
            first, second, third = (self._kind(part) for part in value.split(","))
        except ValueError:
            kind = "whole numbers" if self._kind is int else "numbers"
            self.fail(f"three {kind} such as 20,30,9, got {value!r}", param, ctx)
        return first, second, third


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", metavar="PNG", required=True, help="The picture to write.")
@click.option("--at", type=Three("X,Y,Z", float), help="The point in mm.  [default: the middle of the first volume]")
@click.option("--voxel", type=Three("I,J,K", int), help="Or as a voxel of the first volume, counted from 0.")
@click.option("--volume", type=click.IntRange(min=0), default=0, show_default=True, help="Which of several volumes.")
@click.option("--channel", type=click.IntRange(min=0), default=0, show_default=True, help="Which of several channels.")
@axes_options
@click.option(
    "--pixels", type=click.IntRange(16, 4096), default=480, show_default=True, help="Of a slice's longest side, about."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing picture.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def preview(files: tuple[str, ...], output: str, quiet: bool, **options: Any) -> None:
    """Draw three slices of each FILE, one file beside another, all at the same places of the world.

    All share one scale and the grey window of the first; voxels are drawn as they are.  Scans with a place in the
    world are shown as radiologists see them: axial, coronal, sagittal, the patient's right on the left.

    \b
    Examples:
      conv3dt preview scan.nii.gz up.nii.gz -o both.png
      conv3dt preview scan.nii.gz up.nii.gz -o both.png --at -12.5,20,8
      conv3dt preview stack.h5:/raw up.h5:/raw -o both.png --voxel 12,40,40
    """
    from conv3dt.preview import preview_file

    told = preview_file(files, output, **options)
    if not quiet:
        click.echo(told, err=True)
