"""``conv3dt info``: what do the headers of these files say?"""

from __future__ import annotations

import click

from .options import axes_options


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@axes_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def info(files: tuple[str, ...], axes: str | None, data_format: str | None, as_json: bool) -> None:
    """Show the header facts of volumes and kernel files; no voxel is read.

    \b
    Examples:
      conv3dt info scan.nii.gz stack.h5:/raw
      conv3dt info kernel.npz --json
    """
    from conv3dt.errors import Conv3dtError
    from conv3dt.inquire import facts_of_file

    from .console import print_facts, print_json

    found, code = [], 0
    for file in files:
        try:
            found.append(facts_of_file(file, axes=axes, data_format=data_format))
        except Conv3dtError as error:
            click.echo(f"conv3dt: {error}", err=True)
            code = error.exit_code
    if as_json:
        print_json(found)
    else:
        for facts in found:
            print_facts(facts)
    click.get_current_context().exit(code)
