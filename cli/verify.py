"""``conv3dt verify``: is an output what its record says?"""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("output")
@click.option("--source", metavar="FILE", help="The input, if it is no longer where the record says.")
@click.option("--regions", type=click.IntRange(min=1), default=24, show_default=True, help="How many are computed.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses the regions.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON on stdout.")
def verify(output: str, source: str | None, regions: int, seed: int, as_json: bool) -> None:
    """Say whether OUTPUT is what the record in its sidecar says: yes (exit code 0) or no (1).

    The files are compared by their SHA-256, the header byte for byte, and a sample of the voxels is computed again from
    the source in float64, by the definition of the layer.  The sidecar is written by batch, and by upsample --sidecar.

    \b
    Examples:
      conv3dt upsample scan.nii.gz up.nii.gz --sidecar
      conv3dt verify up.nii.gz
      conv3dt verify up.nii.gz --source /archive/scan.nii.gz --regions 200 --seed 7
    """
    from conv3dt.verify import verify_file

    from .console import print_json

    verdict = verify_file(output, source=source, regions=regions, seed=seed)
    if as_json:
        print_json(verdict.as_dict())
    else:
        for finding in verdict.findings:
            word = {True: "yes", False: "NO", None: "-"}[finding.passed]
            click.echo(f"{finding.name:<12}{word:<5}{finding.text}")
        click.echo(f"{'verified' if verdict.passed else 'NOT VERIFIED'}: {output}")
    if not verdict.passed:
        sys.exit(1)
