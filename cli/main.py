"""Which command is meant, and with which exit code does it end?  Commands are imported only when they are called."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import warnings
from importlib import import_module
from typing import Any, NoReturn

import click

from conv3dt.errors import Conv3dtError, ReaderGoneError
from conv3dt.version import __version__

from .config import COMPLETION_VARIABLE, config_option, configured

COMMANDS = {
    "upsample": "Upsample a volume by a transposed convolution.",
    "batch": "Upsample many scans, unattended.",
    "plan": "Say what a run would take, and whether it fits.",
    "shape": "Say what a volume would become, without reading a voxel.",
    "devices": "List what there is to compute on.",
    "info": "Show the header facts of volumes and kernels.",
    "verify": "Say whether an output is what its record says.",
    "compare": "Compare two volumes voxel by voxel.",
    "preview": "Draw slices of volumes, one beside another at the same places.",
    "kernel": "Make, convert and examine kernels.",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{cmd_name}", __package__), cmd_name)
        return configured(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="conv3dt")
@config_option
def conv3dt() -> None:
    """Volumetric upsampling by transposed convolution: exactly Keras's Conv3DTranspose, with the right header.

    \b
    Examples:
      conv3dt upsample scan.nii.gz up.nii.gz
      conv3dt upsample scan.nii.gz up.nii.gz --scale 2,2,1 --kernel cubic
      conv3dt upsample scan.nii.gz up.h5:/up --weights kernel.npz --strides 2 --padding same
      conv3dt batch scans/ --out-dir up/ --html
      conv3dt shape 64,64,32 --kernel-size 3 --strides 2 --padding same --filters 8

    Every option can also stand in a TOML file (--config FILE) or in the environment (CONV3DT_THREADS); --print-config
    shows what holds, and why.

    Exit codes: 0 done, 1 failed or different, 2 usage, 65 bad data, 66 no input, 73 cannot create output, 74 I/O error,
    75 does not fit (other limits may), 130 interrupted, 141 the pipe was closed, 143 terminated.
    """


def main() -> NoReturn:
    """Run the command line and exit."""
    atexit.register(_leave)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if not os.environ.get("CONV3DT_TRACEBACK"):
        warnings.simplefilter("ignore")  # what matters is counted, and told in the report
    if COMPLETION_VARIABLE in os.environ:
        import_module(".completion", __package__)
    try:
        code = conv3dt.main(standalone_mode=False)
        _flush()
    except click.ClickException as error:
        code = _misused(error)
    except (_Stopped, KeyboardInterrupt, click.Abort) as stop:
        code = _say("interrupted; no output was left", stop.args[0] if isinstance(stop, _Stopped) else 130)
    except ReaderGoneError as error:  # as any tool that SIGPIPE ends: without a word
        code = error.exit_code
    except Conv3dtError as error:
        code = _say(str(error), error.exit_code)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")
        code = 74
    except MemoryError:
        code = _say("memory ran out; give --max-memory or a smaller --tile", 75)
    except OSError as error:
        code = _say(f"{error.filename or 'input or output'}: {error.strerror or error}", 74)
    except Exception as error:
        if os.environ.get("CONV3DT_TRACEBACK"):
            raise
        code = _say(f"unexpected {type(error).__name__}: {error}; CONV3DT_TRACEBACK=1 shows where", 1)
    sys.exit(code if isinstance(code, int) else 0)


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM, with the exit code that a shell expects; click would turn a KeyboardInterrupt into its own."""


def _stop(number: int, frame: Any) -> NoReturn:
    del frame
    for every in (signal.SIGINT, signal.SIGTERM):  # a second one would break off the cleaning up
        signal.signal(every, signal.SIG_IGN)
    raise _Stopped(128 + number)


def _leave() -> None:
    """The process ends: to look through all that it holds for garbage would be lost time; but Triton tells of it."""
    if "triton" not in sys.modules:
        gc.freeze()


def _flush() -> None:
    if sys.stdout is not None:  # None where the shell closed it
        sys.stdout.flush()


def _misused(error: click.ClickException) -> int:
    """One line, as for any other error; but who says nothing at all is shown what there is to say."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context is not None else ""
    return _say(error.format_message().rstrip(".") + hint, error.exit_code)


def _say(text: str, code: int) -> int:
    click.echo(f"conv3dt: {' '.join(text.split())}", err=True)
    return code
