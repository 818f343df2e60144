"""``conv3dt plan``: what would a run take, and can it be had here?  All of ``upsample`` but the run itself."""

from __future__ import annotations

from typing import Any

import click

from conv3dt import paths

from .options import axes_options, layer_options, output_options, run_options, split_layer


@click.command()
@click.argument("input")
@click.argument("output", required=False)
@layer_options
@axes_options
@run_options
@output_options
def plan(
    input: str, output: str | None, as_json: bool, report: str | None, quiet: bool, verbose: bool, **options: Any
) -> None:
    """Say what upsampling INPUT into OUTPUT would take, and whether it fits; nothing is written.

    Regions, engine, memory, disk and seconds, from the header alone.  What cannot be is refused, as by `upsample`: exit
    code 75 for memory, 73 for the disk.  Seconds are those of a server core and a fast disk.  Without OUTPUT, a file of
    the same kind in this folder is meant.

    \b
    Examples:
      conv3dt plan scan.nii.gz --scale 4 --kernel cubic
      conv3dt plan stack.h5:/raw /scratch/up.h5:/raw --weights k.npz --strides 2 --max-memory 8GiB --json
    """
    import conv3dt

    from .console import check_report, publish

    layer, rest = split_layer(options)
    check_report(report, input, output, layer.get("weights"), layer.get("layer"))
    if output is None:
        output, rest["overwrite"] = _beside(input), True
    found = conv3dt.upsample_file(input, output, dry_run=True, **rest, **layer)
    if not quiet:
        click.echo("plan: nothing was written", err=True)
    publish(found, as_json=as_json, path=report, quiet=quiet, verbose=verbose, to_stdout=True)


def _beside(input: str) -> str:
    """A name in this folder for a file of the input's kind."""
    return f"(output){'.h5' if paths.is_hdf5(input) else '.nii.gz' if paths.is_gzip(input) else '.nii'}"
