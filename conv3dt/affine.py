"""Where does each output voxel lie in the world?  Voxel-to-world matrices after upsampling.

Output index ``j`` of an axis lies at input index ``shift + j / stride``, so the matrix of the output is the matrix of
the input times ``[[1/stride, shift], [0, 1]]`` per axis.  ``shift`` follows from the layer (``geometry.Axis.shift``)
or from one of the other conventions of the field, which place the same voxels a fraction of a voxel elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conv3dt.errors import ArgumentError
from conv3dt.geometry import Axis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIGNMENTS = ("kernel", "centroid", "edge", "origin")
Axes = tuple[Axis, Axis, Axis]
Triple = tuple[int, int, int]
Shift = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the output grid lies on the input grid, axes in the order in which the volume lists them.

    Attributes:
        strides: output voxels per input voxel.
        shift: the input index at which output voxel (0, 0, 0) is said to lie.
        drift: output voxels between there and where the layer puts it; zero unless another alignment was asked for.
    """

    strides: Triple
    shift: Shift
    drift: Shift

    def matrix(self) -> NDArray[np.float64]:
        """Return the 4x4 matrix from output indices to input indices."""
        import numpy as np

        matrix = np.diag([*(1 / stride for stride in self.strides), 1.0])
        matrix[:3, 3] = self.shift
        return matrix

    def reversed(self) -> Placement:
        """The same for axes listed the other way round."""
        (a, b, c), (d, e, f), (g, h, i) = self.strides, self.shift, self.drift
        return Placement((c, b, a), (f, e, d), (i, h, g))


def place(axes: Axes, align: str, kernel: NDArray[np.floating] | None = None) -> Placement:
    """Return where the outputs of a layer lie.

    Args:
        axes: the laws of the three axes, as the volume lists them.
        align: ``kernel`` (the middle of the taps: exact for symmetric kernels), ``centroid`` (their centre of mass:
            exact for any), ``edge`` (first faces coincide, as in mrgrid and c3d) or ``origin`` (first voxel centres
            coincide, as in ANTs and dipy).
        kernel: ``(k1, k2, k3, filters, channels)``, needed for ``centroid``.  Outer planes of it that are zero do not
            count for ``kernel``: nothing comes from there (kernels from PyTorch may have been given such).
    """
    if not isinstance(align, str) or align not in ALIGNMENTS:
        raise ArgumentError(f"align must be one of {', '.join(ALIGNMENTS)}, got {align!r}")
    middle = truth = [axis.shift for axis in axes] if kernel is None else _middle(axes, kernel)
    # Where taps change sign their centre of mass says little (it may lie outside them), unless it was asked for.
    if kernel is not None and (align == "centroid" or kernel.min() >= 0):
        middles = _centroid(kernel, strict=align == "centroid")
        if middles is not None:
            truth = [
                (axis.crop - middle * axis.dilation) / axis.stride for axis, middle in zip(axes, middles, strict=True)
            ]
    said = {
        "kernel": middle,
        "centroid": truth,
        "edge": [(1 - axis.stride) / (2 * axis.stride) for axis in axes],
        "origin": [0.0, 0.0, 0.0],
    }
    if align == "centroid" and kernel is None:
        raise ArgumentError("align 'centroid' needs the taps of a kernel; give weights or a named kernel")
    drift = [(there - here) * axis.stride for there, here, axis in zip(said[align], truth, axes, strict=True)]
    strides = (axes[0].stride, axes[1].stride, axes[2].stride)
    return Placement(strides, _three(said[align]), _three([round(value, 9) + 0.0 for value in drift]))


def _middle(axes: Axes, kernel: NDArray[np.floating]) -> list[float]:
    """The input index of output 0 by the middle of the taps, from the first that is not zero to the last."""
    import numpy as np

    shifts = []
    for number, axis in enumerate(axes):
        planes = np.flatnonzero(kernel.any(axis=tuple(other for other in range(kernel.ndim) if other != number)))
        ends = int(planes[0] + planes[-1]) if len(planes) else axis.kernel - 1
        shifts.append((2 * axis.crop - ends * axis.dilation) / (2 * axis.stride))
    return shifts


def _centroid(kernel: NDArray[np.floating], *, strict: bool) -> list[float] | None:
    """The first moment of the taps per axis, in taps; None where they sum to nearly nothing."""
    import numpy as np

    taps = kernel.astype(np.float64).sum(axis=(3, 4))
    total = taps.sum()
    if abs(total) <= 1e-6 * np.abs(taps).sum() or total == 0:
        if strict:
            raise ArgumentError("align 'centroid' needs a kernel whose taps do not sum to zero; use align 'kernel'")
        return None
    return [float((grid * taps).sum() / total) for grid in np.indices(taps.shape)]


def spacing(matrix: NDArray[np.float64]) -> Shift:
    """Return the voxel size of a 4x4 voxel-to-world matrix: the lengths of its columns, in its unit."""
    import numpy as np

    return _three(np.sqrt((matrix[:3, :3] ** 2).sum(axis=0)).tolist())


def _three(values: list[float]) -> Shift:
    first, second, third = (float(value) for value in values)
    return first, second, third
