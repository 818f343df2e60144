"""``conv3dt batch``: many scans, unattended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .options import axes_options, layer_options, run_options, split_layer

if TYPE_CHECKING:
    from conv3dt.batch.run import Outcome


@click.command()
@click.argument("input", nargs=-1)
@click.option("--out-dir", metavar="DIR", required=True, help="Where the outputs go; made if it is not there.")
@click.option("--list", "listed", metavar="FILE", help="One input a line, - for stdin; a name for it behind a tab.")
@click.option("--bids", is_flag=True, help="INPUT is a BIDS dataset; the outputs become a derivative.")
@click.option("--participant-label", multiple=True, metavar="LABEL", help="Only these subjects of a BIDS dataset.")
@click.option("--session", multiple=True, metavar="LABEL", help="Only these sessions.")
@click.option(
    "--suffix", multiple=True, metavar="NAME", help="Only these suffixes, such as T1w.  [default: all of anat]"
)
@click.option(
    "--filter", "having", multiple=True, metavar="ENTITY=VALUE", help="Only images with it, such as task=rest."
)
@click.option("--desc", metavar="LABEL", default="conv3dt", show_default=True, help="The desc- of BIDS outputs.")
@layer_options
@axes_options
@run_options
@click.option(
    "--out-format", type=click.Choice(("nii", "nii.gz", "h5")), help="Of the outputs.  [default: the inputs']"
)
@click.option("--jobs", type=click.IntRange(min=1), help="Scans at once, which share the memory.  [default: 2]")
@click.option("--shard", metavar="I/N", help="Only the I-th of N shares, for job arrays; counted from 1.")
@click.option("--skip-existing", is_flag=True, help="Leave what is there alone, without proving that it is done.")
@click.option("--stop-on-first-failure", is_flag=True, help="Begin no further scan when one has failed.")
@click.option("--log", metavar="FILE", help="Lines of JSON, one a scan.  [default: conv3dt.jsonl in DIR]")
@click.option("--html", is_flag=True, help="Write a page with before and after of each scan: conv3dt.html in DIR.")
@click.option("--dry-run", is_flag=True, help="Check and report everything, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of the scans as JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def batch(input: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Upsample all scans of INPUT (files, folders, patterns) into DIR.

    A scan whose output is there already counts as done if the record in its sidecar proves it: the same input, options,
    version and output.  So the same command, run again after whatever happened in the night, finishes what is left.
    Folders keep their tree.  Of a BIDS dataset the images of anat/ are taken, unless --suffix or --filter say more.

    Ends with exit code 1 if a scan failed; the others are done nevertheless.

    \b
    Examples:
      conv3dt batch scans/ --out-dir up/ --scale 2 --html
      conv3dt batch 'scans/**/*_T1w.nii.gz' --out-dir up/ --kernel cubic --jobs 4 --max-memory 4GiB
      conv3dt batch dataset/ --bids --suffix T1w,T2w --out-dir dataset/derivatives/conv3dt --scale 2,2,1
      conv3dt batch --list scans.txt --out-dir up/ --shard 3/16
    """
    from conv3dt.batch.gather import gather
    from conv3dt.batch.unattended import unattended

    from .console import print_json
    from .console_batch import Watch

    layer, rest = split_layer(options)
    if rest.pop("skip_existing") and rest["overwrite"]:
        raise click.UsageError("--skip-existing cannot go with --overwrite; leave one of them out")
    plan = gather(input, layer=layer, filters=rest.pop("having"), skip_existing=options["skip_existing"], **rest)

    def ended(outcomes: Sequence[Outcome]) -> None:
        watch.summary(outcomes)
        if as_json:
            print_json([outcome.as_dict() for outcome in outcomes])

    watch = Watch(len(plan.batch.scans), quiet=quiet)
    try:
        with watch:
            outcomes = unattended(
                plan, told=watch.told, moved=watch.moved, ended=ended, reports=as_json or plan.batch.dry_run
            )
    except Exception:
        raise
    except BaseException as stop:  # Ctrl-C or SIGTERM; what is done is done
        click.echo("conv3dt: interrupted; the same command finishes what is left", err=True)
        sys.exit(stop.args[0] if stop.args and isinstance(stop.args[0], int) else 130)
    if any(outcome.status in ("failed", "cancelled") for outcome in outcomes):
        sys.exit(1)
