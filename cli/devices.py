"""``conv3dt devices``: what is there to compute on?"""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def devices(as_json: bool) -> None:
    """List the devices that --device can name, with their memory and what they would be used for.

    \b
    Examples:
      conv3dt devices
      conv3dt upsample scan.nii.gz up.nii.gz --device cuda:1
    """
    from conv3dt.inquire import devices as found

    from .console import print_devices, print_json

    if as_json:
        print_json(found())
    else:
        print_devices(found())
