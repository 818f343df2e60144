"""Which taps interpolate?  Named kernels that land edge-aligned under padding ``same``; plain floats.

A kernel for stride ``s`` is a continuous interpolation function ``h`` (unit: input voxels) sampled at the centres of
the output voxels, ``s`` or more of them per input voxel, and scaled so that every phase sums to one: a constant stays
the same constant.  An even stride takes an even number of taps and an odd stride an odd one, so that ``same`` crops
both sides alike.  At stride 1 every kernel is the single tap 1: an axis that is not scaled is left alone.

* ``nearest``: the box; the input voxel itself.
* ``linear``: the triangle ``1 - |x|``; equals ``align_corners=False`` interpolation.
* ``cubic``: Keys (1981), IEEE ASSP 29(6), 1153-1160, a = -1/2; reproduces quadratics.
* ``lanczos3``: ``sinc(x) sinc(x/3)``, Duchon (1979).
* ``gaussian``: standard deviation half an input voxel, cut at two input voxels; smooths a little, never rings.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, pi, sin

from conv3dt.errors import ArgumentError


def _box(x: float) -> float:
    return 1.0 if abs(x) < 0.5 else 0.0


def _triangle(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _keys(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1.0
    return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2 else 0.0


def _lanczos(x: float) -> float:
    if x == 0:
        return 1.0
    return 3 * sin(pi * x) * sin(pi * x / 3) / (pi * x) ** 2 if abs(x) < 3 else 0.0


def _bell(x: float) -> float:
    return exp(-2.0 * x * x) if abs(x) < 2 else 0.0


_FUNCTIONS: dict[str, tuple[Callable[[float], float], int]] = {
    "nearest": (_box, 1),
    "linear": (_triangle, 2),
    "cubic": (_keys, 4),
    "lanczos3": (_lanczos, 6),
    "gaussian": (_bell, 4),
}
KERNELS = tuple(_FUNCTIONS)


def size(name: str, stride: int) -> int:
    """Return the number of taps of a named kernel along an axis of ``stride``.

    >>> [size("cubic", s) for s in (1, 2, 3)]
    [1, 8, 11]
    """
    width = _function(name)[1] * stride
    if stride == 1 or name == "nearest":
        return stride
    return width if stride % 2 == 0 else width - 1


def taps(name: str, stride: int) -> list[float]:
    """Return the taps of a named kernel along an axis of ``stride``; each phase sums to one.

    >>> taps("linear", 2)
    [0.25, 0.75, 0.75, 0.25]
    """
    function, _ = _function(name)
    count = size(name, stride)
    raw = [function((t - (count - 1) / 2) / stride) for t in range(count)]
    return [value / sum(raw[t % stride :: stride]) for t, value in enumerate(raw)]


def _function(name: str) -> tuple[Callable[[float], float], int]:
    if name not in _FUNCTIONS:
        raise ArgumentError(f"kernel must be one of {', '.join(KERNELS)}, got {name!r}; for your own use weights")
    return _FUNCTIONS[name]
