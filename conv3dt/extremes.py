"""What are the least and the greatest value of a volume?  One pass over its voxels; NaN and infinity do not count."""

from __future__ import annotations

from contextlib import closing
from math import inf

import numpy as np

from conv3dt.io.files import open_source
from conv3dt.io.volume import VolumeInfo
from conv3dt.io.walk import boxes


def extremes(info: VolumeInfo) -> tuple[float, float]:
    """Return the least and the greatest finite value of a volume, slope applied; (0, 0) if it has none."""
    low, high = inf, -inf
    with closing(open_source(info, threads=1, in_order=info.in_file_order)) as source:
        for box in boxes(info):
            block = source.read(box)
            if not np.isfinite(block.sum(dtype=np.float64)):
                block = block[np.isfinite(block)]
            if block.size:
                low, high = min(low, float(block.min())), max(high, float(block.max()))
        source.finish()
    ends = sorted(info.slope * value + info.inter for value in ((low, high) if low <= high else (0.0, 0.0)))
    return ends[0], ends[1]
