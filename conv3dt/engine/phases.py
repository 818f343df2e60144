"""A kernel as small kernels: how are the taps laid out so that each output row finds its own?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conv3dt.geometry import Axis


def pack(kernel: NDArray[np.floating], axes: tuple[Axis, Axis, Axis]) -> NDArray[np.floating]:
    """Return the taps of each phase in reading order of the input.

    Args:
        kernel: Keras layout ``(kz, ky, kx, filters, channels)``, axes in the order of memory.
        axes: the laws of z, y, x.

    Returns:
        ``(sz * sy, filters, taps)``, C-contiguous: for each pair of a z-phase and a y-phase (y faster) the taps in the
        order channel, z, y, x, the x taps phase by phase.  Pairs with fewer taps end in zeros that nobody reads.
    """
    z, y, x = axes
    columns = [tap for phase in x.phases() for tap in phase.taps]
    taps = np.moveaxis(kernel, (3, 4), (0, 1))[..., columns]
    filters = len(taps)
    rows = [
        taps[:, :, list(pz.taps)][:, :, :, list(py.taps)].reshape(filters, -1) for pz in z.phases() for py in y.phases()
    ]
    packed = np.zeros((len(rows), filters, max(row.shape[1] for row in rows)), kernel.dtype)
    for target, row in zip(packed, rows, strict=True):
        target[:, : row.shape[1]] = row
    return packed
