"""What is a kernel as it came out of a file?  Five axes in Keras's order, real numbers, finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conv3dt.errors import ArgumentError, Conv3dtError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MOST_TAPS = 2**27
MOST_BYTES = 2**30
"""What an array in a file may take; no format may make us hold more than a few times as much."""

MOST_LETTERS = 2000
"""In a line about a file."""

KERAS_AXES = "(k1, k2, k3, filters, channels)"
TORCH_AXES = "(channels, filters, k1, k2, k3)"
LAYOUTS = ("keras", "torch")


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A kernel as it came out of a file.

    Attributes:
        kernel: Keras layout ``(k1, k2, k3, filters, channels)``, float32 or float64, finite.
        bias: ``(filters,)`` or None.
        path: where it came from; format: in which format; layout: how the array was understood, and why.
        config: what the file says of the layer, in the names and spellings of Keras 2.9's ``get_config`` (any part of
            it: a PyTorch state dict says nothing, a Keras archive everything); None where it says nothing.
        notes: what was done to bring the kernel into Keras's terms, for the report.
        alpha: ``(filters,)``, the slopes below zero of an activation PReLU; None where it is another.
    """

    kernel: NDArray[np.floating]
    bias: NDArray[np.floating] | None
    path: str
    format: str
    layout: str
    config: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    alpha: NDArray[np.floating] | None = None

    @property
    def is_zero(self) -> bool:
        """Whether the kernel can only give zeros."""
        return not self.kernel.any()


def checked(
    kernel: NDArray[np.generic],
    bias: NDArray[np.generic] | None,
    path: str,
    form: str,
    *,
    layout: str | None = None,
    config: dict[str, Any] | None = None,
    notes: tuple[str, ...] = (),
    alpha: NDArray[np.generic] | None = None,
) -> Weights:
    """Return the arrays of a file, already in Keras's order, as weights, or say what is wrong with them.

    Args:
        kernel: ``(k1, k2, k3, filters, channels)``, or three axes for one channel; any real type.
        bias: ``(filters,)``; one number may be without axes.
        path: for errors and the report; form: the format; layout: how the array was understood.
        config: what the file says of the layer.
        notes: what was done.
        alpha: of an activation PReLU: one number, or one a filter, with axes of 1 for space.

    Raises:
        DataError: wrong rank, too large, empty, not finite, a bias of another length, slopes that differ from voxel
            to voxel, or a config of another size.
    """
    import numpy as np

    for name, given in (("kernel", kernel), ("bias", bias), ("alpha", alpha)):
        if given is not None and np.asarray(given).dtype.kind not in "iufb":
            raise DataError(f"weights {path}: the {name} must hold real numbers, got {np.asarray(given).dtype}")
    if kernel.ndim not in (3, 5):
        raise DataError(
            f"weights {path}: the kernel must have 5 axes (k1, k2, k3, filters, channels), or 3 for one channel, "
            f"got shape {kernel.shape}"
        )
    check_size(kernel.shape, f"weights {path}")
    wide = kernel.dtype.kind in "iu" or kernel.dtype.itemsize > 4
    values: NDArray[np.floating] = kernel.astype(np.float64 if wide else np.float32)
    layout = layout or (KERAS_AXES if kernel.ndim == 5 else "(k1, k2, k3), one channel")
    if values.ndim == 3:
        values = values[..., None, None]
    values = np.ascontiguousarray(values)
    extra = None if bias is None else np.atleast_1d(np.asarray(bias)).astype(values.dtype)
    if extra is not None and extra.shape != values.shape[3:4]:
        raise DataError(f"weights {path}: the bias must have {values.shape[3]} values, one a filter, got {extra.shape}")
    slopes = None if alpha is None else _slopes(np.asarray(alpha).astype(values.dtype), values.shape[3], path)
    for name, array in (("kernel", values), ("bias", extra), ("alpha", slopes)):
        if array is not None and not np.isfinite(array).all():
            bad = int(np.count_nonzero(~np.isfinite(array)))
            raise DataError(f"weights {path}: the {name} holds {bad} values that are NaN or infinite; mend the file")
    return Weights(values, extra, path, form, printable(layout), config or None, notes, slopes)


def _slopes(alpha: NDArray[np.floating], filters: int, path: str) -> NDArray[np.floating]:
    """One slope a filter, if they are the same all over space: only then can the layer run over any volume."""
    import numpy as np

    if alpha.size not in (1, filters) or alpha.size != (alpha.shape[-1] if alpha.ndim else 1):
        raise DataError(
            f"weights {path}: PReLU's alpha of shape {alpha.shape} differs from voxel to voxel and fits one size of "
            f"volume only; train with shared_axes=[1, 2, 3]"
        )
    return np.array(np.broadcast_to(alpha.reshape(-1), (filters,)))


def lost_alpha(weights: Weights, suffix: str) -> list[str]:
    """Return what to say where a format has no place for the slopes of PReLU."""
    return [] if weights.alpha is None else [f"no place for PReLU's alpha in {suffix}"]


def check_size(shape: tuple[int, ...], where: str) -> None:
    """Refuse a kernel that nobody can hold, or that holds nothing, by its shape alone.

    Raises:
        DataError: says how many taps it has.
    """
    from math import prod

    if prod(shape) > MOST_TAPS:
        raise DataError(f"{where}: {prod(shape)} taps are more than a kernel can have ({MOST_TAPS})")
    if 0 in shape:
        raise DataError(f"{where}: the kernel is empty, got shape {shape}")


def check_layout(layout: str | None, found: str, path: str, what: str) -> None:
    """Refuse another layout than the one that a format lays down.

    Raises:
        ArgumentError: ``layout`` contradicts.
    """
    if layout not in (None, found):
        raise ArgumentError(
            f"weights {path}: layout {layout} cannot be: {what} says itself how its axes run; leave layout out"
        )


def bfloat16(bits: NDArray[Any]) -> NDArray[np.generic]:
    """Return the float32 of bfloat16 numbers, given as 16-bit whole numbers: they are its upper half."""
    return (bits.astype("u4") << 16).view("f4")


def reason(error: BaseException) -> str:
    """Return what a library complains of, in one line of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0] if lines else type(error).__name__, 300)


def printable(text: str, most: int = MOST_LETTERS) -> str:
    """Return a text that may quote a file, in one line, without codes for the terminal, and not endless.

    >>> printable("a\\nb"), printable("abc", 2)
    ('a?b', 'ab...')
    """
    cut = text if len(text) <= most else f"{text[:most]}..."
    return cut if cut.isprintable() else "".join(each if each.isprintable() else "?" for each in cut)


@contextmanager
def quoting(path: str) -> Iterator[None]:
    """Make every refusal fit for a terminal, whatever names the file at ``path`` has in it."""
    try:
        yield
    except Conv3dtError as error:
        told = str(error)
        text = printable(told, MOST_LETTERS + len(path))
        if text == told:
            raise
        raise type(error)(text) from None


def listed(names: list[str], most: int = 20) -> str:
    """Return names for an error message; of very many only the first.

    >>> listed(["a", "b", "c"], most=2), listed([])
    ('a, b and 1 more', 'none')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "none"


def check_writable(weights: Weights) -> None:
    """Refuse weights whose configuration is that of another layer.

    Raises:
        DataError: says what contradicts.
    """
    check_agrees(weights.config or {}, weights.kernel.shape, f"weights {weights.path}")


def check_agrees(config: dict[str, Any], shape: tuple[int, ...], where: str) -> None:
    """Refuse a kernel ``shape`` of five axes that a layer's configuration contradicts.

    Raises:
        DataError: says what contradicts.
    """
    size, filters = config.get("kernel_size"), config.get("filters")
    wanted = size if isinstance(size, (tuple, list)) else (size,) * 3
    if size is not None and tuple(wanted) != tuple(shape[:3]):
        raise DataError(
            f"{where}: the kernel is {'x'.join(map(str, shape[:3]))}, but its layer says kernel_size {size}"
        )
    if filters is not None and filters != shape[3]:
        raise DataError(f"{where}: the kernel has {shape[3]} filters, but its layer says filters {filters}")
