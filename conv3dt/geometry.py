"""Which input voxels make which output voxels?  The law of one axis, in whole numbers; units are voxels.

The law, with ``extent = (kernel - 1) * dilation + 1``::

    out[o] = sum over i, t of in[i] * kernel[t]    where    o = stride * i + dilation * t - crop

Lengths and crops are those of TensorFlow 2.9 (``deconv_output_length`` and the SAME padding of the forward
convolution whose gradient the layer is).  All ranges are half-open.

Examples:
    >>> axis = Axis(kernel=3, stride=2, padding="same")
    >>> axis.length(10), axis.crop, axis.drift
    (20, 0, 0.5)
    >>> axis.sources(4, 8)
    (1, 4)
"""

from __future__ import annotations

from dataclasses import dataclass

from conv3dt.errors import ArgumentError

BOUNDARIES = ("zero", "edge", "reflect")


@dataclass(frozen=True, slots=True)
class Phase:
    """The outputs ``o`` with ``o % stride == remainder``: an ordinary small correlation.

    Output ``stride * q + remainder`` is the sum over ``j < count`` of
    ``in[q + base + j * step] * kernel[taps[j]]``; taps are listed in reading order of the input.
    """

    remainder: int
    base: int
    step: int
    taps: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many taps the phase has; zero where the stride is wider than the kernel."""
        return len(self.taps)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a transposed convolution.

    Raises:
        ArgumentError: for a combination that the layer refuses.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: str = "valid"
    output_padding: int | None = None

    def __post_init__(self) -> None:
        for name in ("kernel", "stride", "dilation"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be a positive whole number, got {getattr(self, name)}")
        if self.padding not in ("valid", "same"):
            raise ArgumentError(f"padding must be 'valid' or 'same', got {self.padding!r}")
        if self.stride > 1 and self.dilation > 1:
            raise ArgumentError(
                f"strides > 1 cannot go with dilation_rate > 1, got strides {self.stride}, "
                f"dilation_rate {self.dilation}; set one of them to 1"
            )
        if self.output_padding is not None:
            self._check_output_padding(self.output_padding)

    def _check_output_padding(self, extra: int) -> None:
        if not 0 <= extra < self.stride:
            raise ArgumentError(
                f"output_padding must be at least 0 and less than strides, got output_padding {extra}, "
                f"strides {self.stride}"
            )
        if self.padding == "same" and self.extent % 2 == 0 and extra == 0:
            raise ArgumentError(
                f"output_padding 0 with padding 'same' has no meaning for an even kernel extent, got "
                f"{self.extent}; leave output_padding out or make it at least 1"
            )

    @property
    def extent(self) -> int:
        """How many output voxels one input voxel reaches: ``(kernel - 1) * dilation + 1``."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def crop(self) -> int:
        """How many outputs are dropped before the first one kept."""
        if self.padding == "valid":
            return 0
        if self.output_padding is None:
            return max(self.extent - self.stride, 0) // 2
        return max(self.extent - self.extent % 2 - self.output_padding, 0) // 2

    def length(self, n: int) -> int:
        """Return how many output voxels ``n`` input voxels become.

        >>> [Axis(3, 2, padding="same", output_padding=p).length(5) for p in (None, 0, 1)]
        [10, 9, 10]
        """
        if n < 1:
            raise ArgumentError(f"an axis must hold at least 1 voxel, got {n}")
        if self.output_padding is not None:
            reach = self.extent if self.padding == "valid" else self.extent % 2
            return (n - 1) * self.stride + reach + self.output_padding
        return n * self.stride + (max(self.extent - self.stride, 0) if self.padding == "valid" else 0)

    def tail(self, n: int) -> int:
        """Return how many outputs are dropped after the last one kept; negative where voxels are appended."""
        return (n - 1) * self.stride + self.extent - self.crop - self.length(n)

    def sources(self, start: int, stop: int) -> tuple[int, int]:
        """Return the input range that outputs ``[start, stop)`` need; it may reach outside the volume."""
        low = -((self.extent - 1 - self.crop - start) // self.stride)
        return low, (stop - 1 + self.crop) // self.stride + 1

    def phases(self) -> tuple[Phase, ...]:
        """Return the ``stride`` phases of the axis, by remainder.

        >>> [phase.taps for phase in Axis(3, 2).phases()]
        [(2, 0), (1,)]
        """
        return tuple(self._phase(remainder) for remainder in range(self.stride))

    def _phase(self, remainder: int) -> Phase:
        # One formula serves both cases: dilation > 1 implies stride 1, where every tap is in phase 0.
        first = (remainder + self.crop) % self.stride
        taps = tuple(range(first, self.kernel, self.stride))[::-1]
        newest = (remainder + self.crop - first) // self.stride
        return Phase(remainder, newest - self.dilation * (len(taps) - 1), self.dilation, taps)

    @property
    def shift(self) -> float:
        """The input index at which output voxel 0 lies: ``(crop - (extent - 1) / 2) / stride``."""
        return (2 * self.crop - self.extent + 1) / (2 * self.stride)

    @property
    def drift(self) -> float:
        """How many output voxels a voxel lies ahead of its place on the grid that keeps the first face."""
        return (self.extent - self.stride - 2 * self.crop) / 2


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open box of voxels: ``start <= index < stop`` on every axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many voxels the box has on each axis; never negative."""
        return tuple(max(stop - start, 0) for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index into an array."""
        return tuple(slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))


def reflect(index: int, n: int, boundary: str) -> int | None:
    """Return the voxel of ``0 .. n-1`` that stands in for ``index``; None where it is zero.

    ``edge`` repeats the outermost voxel, ``reflect`` mirrors at its centre (NumPy's names for both).

    >>> [reflect(i, 3, "reflect") for i in range(-4, 5)]
    [0, 1, 2, 1, 0, 1, 2, 1, 0]
    """
    if 0 <= index < n:
        return index
    return None if boundary == "zero" else mirrored(index, n, boundary)


def mirrored(index: int, n: int, boundary: str) -> int:
    """Return the voxel of ``0 .. n-1`` that stands in for an ``index`` outside, under ``edge`` or ``reflect``."""
    if boundary == "edge":
        return min(max(index, 0), n - 1)
    if n == 1:
        return 0
    folded = index % (2 * n - 2)
    return min(folded, 2 * n - 2 - folded)


def covering(low: int, high: int, n: int, boundary: str) -> tuple[int, int]:
    """Return the in-volume range that holds every voxel standing in for ``[low, high)``; it may be empty.

    >>> covering(-2, 1, 8, "reflect"), covering(-2, 0, 8, "zero")
    ((0, 3), (0, 0))
    """
    if high - low > 4 * n:  # a tiny volume under a huge kernel: everything is needed, do not enumerate
        return 0, n
    first, last = max(low, 0), min(high, n)
    found = [first, last - 1] if first < last else []
    if boundary != "zero":
        found += [mirrored(index, n, boundary) for index in (*range(low, min(0, high)), *range(max(n, low), high))]
    return (min(found), max(found) + 1) if found else (0, 0)
