"""By how much do two volumes differ, and where?  Two files in, a `Comparison` out, in the memory of a few planes.

Values are compared in float64, index by index; grids that lie elsewhere are named, and nothing is resampled.
"""

from conv3dt.compare.comparison import Comparison
from conv3dt.compare.run import compare_files

__all__ = ["Comparison", "compare_files"]
