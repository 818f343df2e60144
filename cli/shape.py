"""``conv3dt shape``: what would a volume become?  For a shape in numbers neither NumPy nor nibabel is loaded."""

from __future__ import annotations

import re
from typing import Any

import click

from .options import axes_options, layer_options, output_options, split_layer


@click.command()
@click.argument("volume", metavar="VOLUME|SHAPE")
@layer_options
@axes_options
@click.option("--dtype", default=None, help="Type that would be written.  [default: float32]")
@output_options
def shape(volume: str, as_json: bool, report: str | None, quiet: bool, verbose: bool, **options: Any) -> None:
    """Say what VOLUME, or a volume of SHAPE, would become.

    Prints the output's shape, size, voxel size and affine, what is cropped and where voxels come to lie on each axis,
    and the memory a run would take, into a file of the same kind.

    \b
    Examples:
      conv3dt shape 64,64,32 --kernel-size 3 --strides 2 --padding same --filters 8
      conv3dt shape scan.nii.gz --scale 2
    """
    from conv3dt.inquire import shape_of_file, shape_of_numbers

    from .console import check_report, publish

    layer, rest = split_layer(options)
    check_report(report, volume, layer.get("weights"), layer.get("layer"))
    if re.fullmatch(r"\d{1,12}([,xX]\d{1,12})*", volume):
        numbers = tuple(int(number) for number in re.split(r"[,xX]", volume))
        facts = shape_of_numbers(numbers, **rest, **layer)
    else:
        facts = shape_of_file(volume, **rest, **layer)
    publish(facts, as_json=as_json, path=report, quiet=quiet, verbose=verbose, to_stdout=True)
