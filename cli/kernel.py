"""``conv3dt kernel``: make, convert and examine kernel files."""

from __future__ import annotations

from typing import Any

import click

from conv3dt.kernels import KERNELS
from conv3dt.request import LAYOUTS

from .options import NUMBERS, Command

layout_option = click.option(
    "--layout", type=click.Choice(LAYOUTS), help="Axes of the file's array.  [default: the format's]"
)
GEOMETRY = (
    click.option("--strides", type=NUMBERS, help="Of the layer.  [default: what the file says, else 1]"),
    click.option("--padding", metavar="[valid|same]", help="Likewise.  [default: what the file says, else valid]"),
    click.option("--output-padding", type=NUMBERS, help="Likewise."),
    click.option("--dilation-rate", type=NUMBERS, help="Likewise."),
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing files.")


def geometry_options(command: Command) -> Command:
    """What the layer is, where the file does not say it or says it wrong."""
    for option in reversed(GEOMETRY):
        command = option(command)
    return command


@click.group()
def kernel() -> None:
    """Make, convert and examine kernels.

    \b
    Examples:
      conv3dt kernel make cubic.keras --kernel cubic --scale 2,2,1
      conv3dt kernel convert net.keras:/up up.pt
      conv3dt kernel inspect cubic.keras --png cubic.png
    """


@kernel.command(short_help="Write a named or a drawn kernel.")
@click.argument("out")
@click.option("--kernel", type=click.Choice(KERNELS), help="Named kernel.  [default: linear]")
@click.option("--scale", type=NUMBERS, help="Output voxels per input voxel, for named kernels.  [default: 2]")
@click.option("--kernel-initializer", metavar="NAME", help="Draw the taps as Keras does.  [default: glorot_uniform]")
@click.option("--bias-initializer", metavar="NAME", help="With a bias.  [default: none]")
@click.option("--seed", type=click.IntRange(min=0), help="Of what is drawn.  [default: another each time]")
@click.option("--kernel-size", type=NUMBERS, help="Taps per axis, of a drawn kernel.")
@click.option("--filters", type=click.IntRange(min=1), help="Output channels, likewise.  [default: 1]")
@click.option("--channels", type=click.IntRange(min=1), help="Input channels, likewise.  [default: 1]")
@click.option("--strides", type=NUMBERS, help="Output voxels per input voxel, likewise.  [default: 1]")
@click.option("--padding", metavar="[valid|same]", help="As in Keras.  [default: valid; same for named kernels]")
@click.option("--output-padding", type=NUMBERS, help="As in Keras: fixes the output's length.")
@click.option("--dilation-rate", type=NUMBERS, help="Distance of taps, where all strides are 1.  [default: 1]")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True, help="Type of the taps."
)
@overwrite_option
def make(out: str, **options: Any) -> None:
    """Write a named or a drawn kernel, with its layer's arguments, into OUT.

    A named kernel interpolates, each phase sums to one; use it with --boundary edge.  A drawn one is what an
    initializer of Keras gives a Conv3DTranspose before it is trained.

    \b
    Examples:
      conv3dt kernel make linear.keras
      conv3dt kernel make cubic.keras --kernel cubic --scale 2,2,1
      conv3dt kernel make start.safetensors --kernel-initializer he_normal --kernel-size 4 --filters 8 --channels 16 \\
        --strides 2 --padding same --seed 7
    """
    from conv3dt.kernel_files import make_kernel

    from .console_kernel import print_written

    print_written(make_kernel(out, **options))


@kernel.command(short_help="Write a kernel in another format.")
@click.argument("source")
@click.argument("out")
@geometry_options
@layout_option
@overwrite_option
def convert(source: str, out: str, **options: Any) -> None:
    """Write the kernel of SOURCE into OUT, in the format that its name says; no tap changes.

    What the other format cannot hold is said in one line.  A format that holds the layer too, such as .onnx, takes
    strides and padding from the options where SOURCE does not say them.

    \b
    Examples:
      conv3dt kernel convert net.keras:/up up.npz
      conv3dt kernel convert up.npy up.pt --layout torch
      conv3dt kernel convert up.npz up.onnx --strides 2 --padding same
    """
    from conv3dt.kernel_files import convert_kernel

    from .console_kernel import print_written

    print_written(convert_kernel(source, out, **options))


@kernel.command(short_help="Say what a kernel does to a volume.")
@click.argument("file")
@geometry_options
@layout_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option("--png", metavar="PICTURE", help="Draw the kernel and its phases.")
@click.option("--filter", type=click.IntRange(min=0), default=0, show_default=True, help="Which one to draw.")
@click.option("--channel", type=click.IntRange(min=0), default=0, show_default=True, help="Which one to draw.")
@click.option("--normalize-gain", "repaired", metavar="REPAIRED", help="Write the kernel with every phase of gain 1.")
@overwrite_option
def inspect(file: str, as_json: bool, **options: Any) -> None:
    """Say what the kernel in FILE does to a volume: gain, checkerboard, place, symmetry, range, and what to do.

    \b
    Examples:
      conv3dt kernel inspect up.npz --strides 2 --padding same
      conv3dt kernel inspect net.keras:/up --png up.png
      conv3dt kernel inspect up.npz --strides 2 --normalize-gain even.npz
    """
    from conv3dt.kernel_files import inspect_kernel

    from .console import print_json
    from .console_kernel import print_inspection

    found = inspect_kernel(file, **options)
    if as_json:
        print_json(found.as_dict())
    else:
        print_inspection(found)
