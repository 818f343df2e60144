"""What is a transposed convolution?  The definition as plain loops in float64; knows nothing of conv3dt.

For one axis with ``extent = (kernel - 1) * dilation + 1``, input ``i``, output ``o``, tap ``t``::

    out[o, f] = bias[f] + sum over i, t, c with o = stride * i + dilation * t - crop  of  x[i, c] * kernel[t, f, c]

Lengths and crops are the table of what TensorFlow 2.9.3 was seen to do, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Law:
    """One axis of the layer."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: str = "valid"
    output_padding: int | None = None

    @property
    def extent(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def crop(self) -> int:
        match self.padding, self.output_padding:
            case "valid", _:
                return 0
            case "same", None:
                return max(self.extent - self.stride, 0) // 2
            case "same", int(extra):
                return max(self.extent - self.extent % 2 - extra, 0) // 2
        raise ValueError(self)

    def length(self, n: int) -> int:
        match self.padding, self.output_padding:
            case "valid", None:
                return n * self.stride + max(self.extent - self.stride, 0)
            case "valid", int(extra):
                return (n - 1) * self.stride + self.extent + extra
            case "same", None:
                return n * self.stride
            case "same", int(extra):
                return (n - 1) * self.stride + self.extent - 2 * (self.extent // 2) + extra
        raise ValueError(self)


Laws = tuple[Law, Law, Law]
PAD_MODES: dict[str, Any] = {"zero": "constant", "edge": "edge", "reflect": "reflect"}


def transposed(
    x: ArrayLike, kernel: ArrayLike, laws: Laws, *, bias: ArrayLike | None = None, boundary: str = "zero"
) -> NDArray[np.float64]:
    """Return ``(o1, o2, o3, filters)`` from ``x (n1, n2, n3, channels)``; kernel as Keras has it, channels last.

    What lies outside the volume is written out around it, far enough that no tap can reach further; the outputs that
    belong to the volume are then cut out of the whole.
    """
    values, taps = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    margins = [law.extent + 1 for law in laws]
    padded = np.pad(values, [*((m, m) for m in margins), (0, 0)], PAD_MODES[boundary])
    whole = np.zeros(
        [(n - 1) * law.stride + law.extent for n, law in zip(padded.shape, laws, strict=False)] + [taps.shape[3]]
    )
    for t in np.ndindex(*taps.shape[:3]):
        # All inputs at once: input i, tap t lands at stride * i + dilation * t.
        landing = tuple(
            slice(law.dilation * tap, law.dilation * tap + law.stride * (n - 1) + 1, law.stride)
            for law, tap, n in zip(laws, t, padded.shape, strict=False)
        )
        whole[landing] += np.einsum("zyxc,fc->zyxf", padded, taps[t])
    kept = tuple(
        slice(first := law.crop + law.stride * margin, first + law.length(n))
        for law, margin, n in zip(laws, margins, values.shape, strict=False)
    )
    out: NDArray[np.float64] = whole[kept]
    assert out.shape[:3] == tuple(law.length(n) for law, n in zip(laws, values.shape, strict=False))
    return out if bias is None else out + np.asarray(bias, np.float64)
