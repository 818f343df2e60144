"""What can go wrong, and with which exit code does the command line say so?  Codes follow sysexits.h."""


class Conv3dtError(Exception):
    """Anything conv3dt refuses or fails at; its text is one line that says what to do."""

    exit_code = 1


class ArgumentError(Conv3dtError, ValueError):
    """An argument breaks a rule that can be checked without reading data."""

    exit_code = 2


class DataError(Conv3dtError, ValueError):
    """A file is not what it claims to be, or does not go with the layer."""

    exit_code = 65


class InputMissingError(Conv3dtError, FileNotFoundError):
    """An input file or a dataset in it is not there or cannot be opened."""

    exit_code = 66


class OutputError(Conv3dtError, OSError):
    """The output cannot be created: it exists, or its folder refuses it, or the disk is too small."""

    exit_code = 73


class StreamError(Conv3dtError, OSError):
    """Reading or writing broke off half-way."""

    exit_code = 74


class DeviceError(Conv3dtError, RuntimeError):
    """A device was lost or its driver failed half-way."""

    exit_code = 74


class ReaderGoneError(Conv3dtError, OSError):
    """Who read the pipe that was written into has closed it: enough, which is no one's fault and needs no word."""

    exit_code = 141


class DoesNotFitError(Conv3dtError, MemoryError):
    """The limits given leave no room for the smallest step; other limits may."""

    exit_code = 75
