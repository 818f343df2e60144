"""Which options do commands share?  One decorator a group; names as Keras and the field's tools spell them.

* `layer_options`: upsample, plan, shape
* `axes_options`: upsample, plan, shape, info
* `run_options`: upsample, plan (types, device, threads, memory, tiles)
* `output_options`: upsample, plan, shape (``--json``, ``--report``, ``-q``, ``-v``)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from conv3dt.affine import ALIGNMENTS
from conv3dt.engine.precision import PRECISIONS
from conv3dt.geometry import BOUNDARIES
from conv3dt.kernels import KERNELS
from conv3dt.matching import REDUCTIONS
from conv3dt.request import LAYOUTS

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]
DTYPES = ("float32", "float64", "int16", "uint8", "uint16", "same")
LAYER_NAMES = (
    "scale",
    "kernel",
    "weights",
    "filters",
    "kernel_size",
    "strides",
    "padding",
    "output_padding",
    "dilation_rate",
    "activation",
    "use_bias",
    "boundary",
    "layer",
    "layout",
    "kernel_initializer",
    "bias_initializer",
    "seed",
    "per_channel",
    "reduce",
)


class Numbers(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.5
    """One whole number or three: ``2``, ``2,2,1`` or ``2x2x1``."""

    name = "N or N,N,N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int or a tuple of three."""
        if not isinstance(value, str):
            return value
        if not re.fullmatch(r"\s*\d{1,9}(\s*[,xX]\s*\d{1,9}){0,2}\s*", value):
            self.fail(f"one whole number or three, such as 2, 2,2,1 or 2x2x1, got {value!r}", param, ctx)
        numbers = tuple(int(number) for number in re.split(r"[,xX]", value))
        if len(numbers) == 2:
            self.fail(f"one whole number or three, one an axis, got two: {value!r}", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers


NUMBERS = Numbers()


def layer_options(command: Command) -> Command:
    """Which layer: a named kernel and a scale, or weights and the arguments of Keras's Conv3DTranspose."""
    return _all(
        command,
        "Kernel and layer",
        click.option("--scale", type=NUMBERS, help="Output voxels per input voxel, for named kernels.  [default: 2]"),
        click.option("--kernel", type=click.Choice(KERNELS), help="Named kernel.  [default: linear]"),
        click.option(
            "--weights",
            metavar="FILE",
            help="Kernel: .npz, .npy, .safetensors, PyTorch .pt, ONNX, Keras .keras and .h5; FILE:/name chooses one.",
        ),
        click.option("--layout", type=click.Choice(LAYOUTS), help="Axes of the weights.  [default: the format's]"),
        click.option("--layer", metavar="FILE", help="The layer's arguments as JSON, from Keras's get_config()."),
        click.option("--kernel-initializer", metavar="NAME", help="Draw the weights, as Keras does."),
        click.option("--bias-initializer", metavar="NAME", help="Draw the bias too.  [default: zeros]"),
        click.option("--seed", type=click.IntRange(min=0), help="Of what is drawn."),
        click.option("--kernel-size", type=NUMBERS, help="Kernel size, where no weights say it."),
        click.option("--filters", type=click.IntRange(min=1), help="Output channels, likewise.  [default: 1]"),
        click.option("--strides", type=NUMBERS, help="Output voxels per input voxel, for weights.  [default: 1]"),
        click.option(
            "--padding", metavar="[valid|same|N]", help="As in Keras; numbers as in PyTorch.  [default: valid]"
        ),
        click.option("--output-padding", type=NUMBERS, help="As in Keras, or as in PyTorch beside a number."),
        click.option("--dilation-rate", type=NUMBERS, help="Distance of taps, where all strides are 1.  [default: 1]"),
        click.option("--activation", metavar="NAME", help="As in Keras; with numbers: 'relu(max_value=6)'."),
        click.option("--use-bias/--no-bias", default=None, help="Insist on the bias or leave it out."),
        click.option(
            "--boundary", type=click.Choice(BOUNDARIES), help="Outside the volume.  [default: edge; zero for weights]"
        ),
        click.option(
            "--align",
            type=click.Choice(ALIGNMENTS),
            default="kernel",
            show_default=True,
            help="What fixes the header's grid.",
        ),
        click.option("--per-channel", is_flag=True, help="A kernel of one channel for each channel by itself."),
        click.option(
            "--reduce",
            type=click.Choice(REDUCTIONS),
            help="Of the channels keep the number of the largest, or make them probabilities.",
        ),
    )


def axes_options(command: Command) -> Command:
    """What the axes of a volume mean."""
    return _all(
        command,
        "Axes",
        click.option(
            "--data-format", type=click.Choice(["channels_last", "channels_first"]), help="One axis is channels."
        ),
        click.option("--channels-last", "data_format", flag_value="channels_last", help="The last axis is channels."),
        click.option(
            "--channels-first", "data_format", flag_value="channels_first", help="The first axis is channels."
        ),
        click.option("--axes", metavar="LETTERS", help="Axes as listed: xyz space, c channels, t volumes (tzyx)."),
    )


def run_options(command: Command) -> Command:
    """How a run is done: the type written, where it is computed, with how much memory, in what regions."""
    command = _all(command, "Machine", *_machine())
    return _all(
        command,
        "Output",
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            help="Type written; rounds and clips.  [default: float32; same for nearest]",
        ),
        click.option("--rescale", is_flag=True, help="Give integers a slope with which nothing is clipped."),
        click.option(
            "--nan",
            type=click.Choice(("keep", "zero", "error")),
            default="keep",
            show_default=True,
            help="What becomes of NaN and infinite voxels.",
        ),
        click.option("--like", metavar="REF", help="Take the strides from this volume's grid, and land on it exactly."),
        click.option("--strict-header", is_flag=True, help="Fail if a field of the header would be lost."),
        click.option("--self-check", is_flag=True, help="Compute a sample again in float64 before naming the output."),
        click.option("--resume", is_flag=True, help="When interrupted, leave what is done for the next run to go on."),
        click.option("--overwrite", is_flag=True, help="Replace an existing output."),
    )


def _machine() -> tuple[Decorator, ...]:
    return (
        click.option(
            "--device",
            metavar="[auto|cpu|cuda[:N]|cuda:all|mps]",
            default="auto",
            show_default=True,
            help="Where to compute; 'conv3dt devices' lists what is there.",
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default="fp32",
            show_default=True,
            help="In which many channels are multiplied on a GPU.",
        ),
        click.option("--max-vram", metavar="SIZE", help="Memory of each GPU.  [default: most of what is free]"),
        click.option("--threads", type=click.IntRange(min=1), help="Threads that compute.  [default: all processors]"),
        click.option(
            "--max-memory",
            metavar="SIZE",
            help="Memory of the whole process, such as 1GiB.  [default: 2GiB for regions]",
        ),
        click.option("--tile", type=NUMBERS, help="Output voxels of a region per axis.  [default: what fits]"),
    )


def output_options(command: Command) -> Command:
    """Where the report goes."""
    return _all(
        command,
        "Report",
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout."),
        click.option("--report", metavar="FILE", help="Write the report as JSON to a file."),
        click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
        click.option("-v", "--verbose", is_flag=True, help="Print matrices and reasons too."),
    )


def split_layer(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that choose the layer, and the others."""
    layer = {name: options[name] for name in LAYER_NAMES if options.get(name) is not None}
    return layer, {name: value for name, value in options.items() if name not in LAYER_NAMES}


def _all(command: Command, heading: str, *decorators: Decorator) -> Command:
    """Give options to a command, under a heading of their own in its help (`config.Configured`)."""
    known = len(getattr(command, "__click_params__", ()))
    for decorate in reversed(decorators):
        command = decorate(command)
    for option in getattr(command, "__click_params__", ())[known:]:
        option.heading = heading
    return command
