"""``conv3dt upsample``: a scan and a kernel in, the upsampled scan out."""

from __future__ import annotations

from typing import Any

import click

from .options import axes_options, layer_options, output_options, run_options, split_layer


@click.command()
@click.argument("input")
@click.argument("output")
@layer_options
@axes_options
@run_options
@click.option("--out-format", type=click.Choice(("nii", "nii.gz")), help="Of standard output.  [default: the input's]")
@click.option("--sidecar", is_flag=True, help="Write OUTPUT's record beside it as JSON, for `conv3dt verify`.")
@click.option("--dry-run", is_flag=True, help="Check and report everything, write nothing.")
@output_options
def upsample(
    input: str, output: str, as_json: bool, report: str | None, quiet: bool, verbose: bool, **options: Any
) -> None:
    """Upsample the volume INPUT into OUTPUT by a transposed convolution.

    Volumes are .nii, .nii.gz or file.h5:/dataset; - is NIfTI from standard input or to standard output.  Numbers for
    axes (2, or 2,2,1) are in the order in which the file lists its axes.  A fourth axis is one volume after another,
    unless it is said to be channels.

    \b
    Examples:
      conv3dt upsample scan.nii.gz up.nii.gz
      conv3dt upsample scan.nii.gz up.nii --scale 2,2,1 --kernel cubic --dtype same
      conv3dt upsample labels.nii.gz up.nii.gz --kernel nearest
      conv3dt upsample stack.h5:/raw up.h5:/raw --weights k.npz --strides 2 --padding same
      conv3dt upsample scan.nii.gz up.nii.gz --like template.nii.gz --sidecar
      cat scan.nii.gz | conv3dt upsample - - --out-format nii > up.nii
    """
    import conv3dt
    from conv3dt.record import sidecar_path

    from .console import check_report, progress, publish

    if output == "-" and as_json:
        raise click.UsageError("--json and the volume both want standard output; say --report FILE")
    layer, rest = split_layer(options)
    sidecar = sidecar_path(output) if rest["sidecar"] else None
    check_report(report, input, output, sidecar, layer.get("weights"), layer.get("layer"))
    with progress(shown=not quiet and not rest["dry_run"]) as start:
        done = conv3dt.upsample_file(input, output, start=start, **rest, **layer)
    if rest["dry_run"] and not quiet:
        click.echo("dry run: nothing was written", err=True)
    publish(done, as_json=as_json, path=report, quiet=quiet, verbose=verbose)
