"""Is an output what the definition says?  Boxes of it are computed again from the source, in float64, by NumPy.

Nothing of what made the output is used: no engine, no phases, no walk order.  Each box goes this way:

1. `boxes` chooses it: corners of the volume, places where the plan's tiles meet, random ones.
2. `definition` sums ``in[i] * kernel[t]`` over all ``i, t`` with ``o = stride * i + dilation * t - crop``.
3. `rounding` says how far a sum of this precision may lie from that, whatever the order it was added in.
4. `storing` follows both ends through activation, rounding and clipping to the numbers that may stand in the file.
5. `prove` reads the voxels and tells by how much the worst one misses.
"""

from conv3dt.proof.prove import prove

__all__ = ["prove"]
