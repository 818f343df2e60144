"""What will a kernel do to a volume?  Brightness, pattern, place, shape and range, from its taps alone; NumPy only.

With padding, strides and dilation as in the layer, and far from the borders:

* **gain**: what a constant 1 becomes.  Each of the ``s1 * s2 * s3`` phases (outputs of the same remainder) has its own
  gain, the sum of its taps over all channels; that of a filter is the mean over its phases.  1 keeps brightness.
* **checkerboard**: ``(max - min) / |mean|`` of a filter's gains over its phases.  A constant comes out with a pattern
  of the strides' period unless it is 0: Odena, Dumoulin, Olah (2016), Deconvolution and checkerboard artifacts,
  Distill, doi:10.23915/distill.00003.
* **asymmetry**: ``max |w - w flipped| / max |w|`` along an axis.
* **centroid**: the first moment of the taps, filters and channels summed, in taps; where content comes to lie.
* **rank-one error**: ``|w - a x b x c| / |w|`` for the best vectors a, b, c of a filter and a channel, by higher-order
  orthogonal iteration: De Lathauwer, De Moor, Vandewalle (2000), SIAM J. Matrix Anal. Appl. 21(4), 1324-1342.
* **bound**: ``|out| <= bound * max |in| + max |bias|``, the largest sum of ``|w|`` over phases and filters; an input
  of the taps' signs attains it.

Examples:
    >>> import numpy as np
    >>> from conv3dt.layer.config import layer_config
    >>> axes = layer_config(filters=1, kernel_size=3, strides=2, padding="same").axes
    >>> found = examine(np.ones((3, 3, 3, 1, 1)), None, axes)
    >>> found.gain, found.checkerboard, [axis.from_edge_grid for axis in found.axes]
    (3.375, 2.074074074074074, [0.5, 0.5, 0.5])
"""

from conv3dt.doctor.advice import looks_like_torch
from conv3dt.doctor.examine import examine, normalized, phase_sums
from conv3dt.doctor.facts import LEVEL, SAME, Examination, Finding
from conv3dt.doctor.rank_one import rank_one_error

__all__ = [
    "LEVEL", "SAME", "Examination", "Finding", "examine", "looks_like_torch", "normalized", "phase_sums",
    "rank_one_error",
]  # fmt: skip
