"""Which scans is conv3dt measured on?  Synthetic heads that pack as a real T1 does: to about half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def make(path: Path, shape: tuple[int, int, int], dtype: str) -> None:
    """Write a head, in another process: the peak of one is never less than what its parent held at its start."""
    command = [sys.executable, "-m", "tests.benchmarks.scans", str(path), dtype, *map(str, shape)]
    subprocess.run(command, check=True)


def head(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a head of 0 to 255: folded tissue, a skull, uneven light, and the noise of a magnitude image all over."""
    import numpy as np

    rng = np.random.default_rng(0)
    places = [(np.arange(n, dtype=np.float32) + 0.5) / n * 2 - 1 for n in shape]
    radius = sum(np.square(place) for place in np.ix_(*places)) / 0.8 + 0.06 * _smooth(shape, 30, rng)
    brain = 125 + 30 * np.tanh(4 * _smooth(shape, 7, rng))
    signal = np.select([radius < 0.6, radius < 0.7, radius < 0.8, radius < 1], [brain, 45, 15, 180], 0)
    signal = signal.astype(np.float32) * (1 + 0.06 * _smooth(shape, 60, rng))
    real, imaginary = (rng.standard_normal(shape, np.float32) * 1.5 for _ in range(2))
    noisy: NDArray[np.float32] = np.hypot(signal + real, imaginary).clip(0, 255)
    return noisy


def _smooth(shape: tuple[int, ...], step: int, rng: Any) -> NDArray[np.float32]:
    """Noise that changes over ``step`` voxels."""
    import numpy as np

    field = rng.standard_normal([n // step + 2 for n in shape], np.float32)
    for axis, n in enumerate(shape):
        hats = 1 - np.abs(np.arange(n, dtype=np.float32)[:, None] / step - np.arange(n // step + 2, dtype=np.float32))
        field = np.moveaxis(np.tensordot(hats.clip(0), field, (1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _save(path: str, dtype: str, shape: tuple[int, int, int]) -> None:
    import nibabel as nib
    import numpy as np

    nib.save(nib.Nifti1Image(np.rint(head(shape)).astype(dtype), np.diag([1.0, 1.0, 1.2, 1.0])), path)


if __name__ == "__main__":
    name, kind, i, j, k = sys.argv[1:]
    _save(name, kind, (int(i), int(j), int(k)))
