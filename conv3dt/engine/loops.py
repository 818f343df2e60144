"""Which loops compute a transposed convolution without one wasted step?  Writes them as Python text for numba.

A phase of an axis has its own taps, so every row of output voxels is a sum over its own few source rows ("lines")
and, along x, over its own few taps.  Two forms of row:

* *few taps*: all lines of a row are in flight at once and every output voxel is one expression, written once;
* *many taps*: lines are taken one after the other into one row of sums per x-phase, which stays in the first cache;
  very many taps along x are taken in a loop too.

Text, because the number of taps differs from phase to phase (a kernel of 3 at stride 2 has 2, 1, 2, 1 ...): written
out, no tap is padded with a zero, so a NaN reaches exactly as far as the kernel does.  Text also fixes the order of
each sum, so the bits of a voxel depend on nothing but its inputs: not on tiles, threads or the place of a region.

Arrays seen by the loops: ``source (channels, z, y, x)``, ``weights (sz * sy, filters, taps)`` from `phases.pack`,
``bias (filters,)``, ``alpha (filters,)`` for PReLU, ``out (filters, z, y, x)``.  *Per channel*, one kernel of one
filter makes output channel f from input channel f alone, and ``bias`` has a value a channel.  Under *argmax*
``out (1, z, y, x)`` gets the number of the filter that is largest: of each row only the best values so far are held,
never all filters of a voxel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conv3dt.geometry import Axis, Phase

MOST_WRITTEN = 24
"""Up to this many taps along x are written out; above, compiling them takes longer than it saves."""

NAME = "region"
FEW_TAPS = 32
"""Up to this many taps in a pair of neighbouring output voxels the *few taps* form is used (measured)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the text of the loops depends on.

    ``axes`` are z, y, x with x contiguous in memory; ``activation`` is ``linear``, ``relu`` or any other (then a
    function called ``activate`` is expected beside the loops); ``limits`` are the ends of an integer output type.
    ``one_channel`` says that a filter looks at one input channel, ``per_channel`` that it is the filter's own.
    """

    axes: tuple[Axis, Axis, Axis]
    one_channel: bool
    activation: str
    limits: tuple[int, int] | None
    per_channel: bool = False
    argmax: bool = False

    @property
    def tap(self) -> str:
        """Where the weights of filter f begin."""
        return "weights[phase, 0" if self.per_channel else "weights[phase, f"

    @property
    def written_out(self) -> bool:
        """Whether the taps along x stand in the text one by one."""
        return self.axes[2].kernel <= MOST_WRITTEN and self.axes[2].stride <= MOST_WRITTEN // 2

    @property
    def few(self) -> bool:
        """Whether a whole output voxel is one expression."""
        lines = max(p.count for p in self.axes[0].phases()) * max(p.count for p in self.axes[1].phases())
        return self.one_channel and self.written_out and lines * self.axes[2].kernel <= FEW_TAPS


def write(recipe: Recipe) -> str:
    """Return the text of the function ``region``.

    ``region(source, weights, bias, alpha, scale, shift, sums, best, winner, out, begin, end) -> clipped``

    It computes the groups ``begin`` to ``end`` of output planes, ``stride`` planes a group.  Arrays come whole and
    C-contiguous: a slice of one with several channels is no longer known to have its x voxels side by side.

    ``sums``, ``best`` and ``winner`` (whole numbers) are rows to work in, ``(x stride, ceil(width / stride))``.

    An output is ``activation(sum + bias)``; for integers it is then ``(value - shift) * scale``, rounded half to
    even, clipped to the limits, NaN to 0.  The count returned is that of clipped voxels and NaNs.
    """
    z, y, x = recipe.axes
    lines = [
        f"def {NAME}(source, weights, bias, alpha, scale, shift, sums, best, winner, out, begin, end):",
        "    zero = weights.dtype.type(0)",
        "    clipped = 0",
        "    filters = bias.shape[0]",
        "    depth, height, width = out.shape[1:]",
        f"    full = width // {x.stride}",
        "    for qz in range(begin, end):",
        f"        for rz in range(min({z.stride}, depth - qz * {z.stride})):",
        f"            for qy in range(-(-height // {y.stride})):",
        f"                for ry in range(min({y.stride}, height - qy * {y.stride})):",
        "                    first_z, first_y = qz + base_z[rz], qy + base_y[ry]",
        f"                    out_z, out_y = qz * {z.stride} + rz, qy * {y.stride} + ry",
        f"                    phase = rz * {y.stride} + ry",
        "                    best[:], winner[:] = -np.inf, 0" if recipe.argmax else "",
        "                    for f in range(filters):",
        "                        b = bias[f]",
        "                        a = alpha[f]" if recipe.activation == "prelu" else "",
    ]
    lines += ["                        " + line for line in (_by_counts(recipe) if recipe.few else _many(recipe))]
    if recipe.argmax:
        lines += ["                    " + line for line in _winners(x)]
    return "\n".join(line for line in [*lines, "    return clipped"] if line) + "\n"


def tables(recipe: Recipe) -> dict[str, list[int]]:
    """Return the numbers that the text reads by name: of each phase its first line, its taps and their place."""
    found: dict[str, list[int]] = {}
    for letter, axis in zip("zyx", recipe.axes, strict=True):
        found[f"base_{letter}"] = [phase.base - _first(axis) for phase in axis.phases()]
        found[f"count_{letter}"] = [phase.count for phase in axis.phases()]
    found["place_x"] = [place for _, place in _x_phases(recipe.axes[2])]
    return found


def _by_counts(recipe: Recipe) -> list[str]:
    """One piece of text for each number of taps that the phases of z and y have."""
    z, y, _ = recipe.axes
    text = []
    for count_z, count_y in sorted({(a.count, b.count) for a in z.phases() for b in y.phases()}):
        text.append(f"if count_z[rz] == {count_z} and count_y[ry] == {count_y}:")
        text += ["    " + line for line in _few(recipe, count_z, count_y)]
    return text


def _few(recipe: Recipe, count_z: int, count_y: int) -> list[str]:
    z, y, x = recipe.axes
    channel = "f" if recipe.per_channel else "0"
    pairs = [(jz, jy) for jz in range(count_z) for jy in range(count_y)]

    def term(line: int, jz: int, jy: int, tap: int, offset: int) -> str:
        voxel = f"source[{channel}, first_z + {jz * z.dilation}, first_y + {jy * y.dilation}, q + {offset}]"
        return f"{recipe.tap}, {line * x.kernel + tap}] * {voxel}"

    def total(phase: Phase, tap: int) -> str:
        terms = [
            term(line, jz, jy, tap + j, phase.base - _first(x) + j * phase.step)
            for line, (jz, jy) in enumerate(pairs)
            for j in range(phase.count)
        ]
        return " + ".join(terms) or "zero"

    return _store(recipe, total)


def _many(recipe: Recipe) -> list[str]:
    z, y, x = recipe.axes
    text = [
        "for r in range(sums.shape[0]):",
        "    for q in range(sums.shape[1]):",
        "        sums[r, q] = zero",
        "n = 0",
        "for c in (f,):" if recipe.per_channel else "for c in range(source.shape[0]):",
        "    for jz in range(count_z[rz]):",
        "        for jy in range(count_y[ry]):",
        f"            line_z, line_y = first_z + jz * {z.dilation}, first_y + jy * {y.dilation}",
    ]
    inner = "            "
    text += [inner + line for line in (_line_written_out if recipe.written_out else _line_in_loops)(recipe)]
    text.append(f"{inner}n += {x.kernel}")
    if recipe.written_out:
        return text + _store(recipe, lambda phase, _: f"sums[{phase.remainder}, q]")
    finish = _finish(recipe, "sums[r, q]", "r")
    return [
        *text,
        f"for r in range({x.stride}):",
        f"    for q in range(full + (width - full * {x.stride} > r)):",
        *("        " + line for line in finish),
    ]


def _line_written_out(recipe: Recipe) -> list[str]:
    """Add one source row to the sums of each x-phase, all of the phase's taps at once."""
    x, text = recipe.axes[2], []
    for phase, tap in _x_phases(x):
        offsets = [phase.base - _first(x) + j * phase.step for j in range(phase.count)]
        text += [f"w{j} = {recipe.tap}, n + {tap + j}]" for j in range(phase.count)]
        terms = " + ".join(f"w{j} * source[c, line_z, line_y, q + {offset}]" for j, offset in enumerate(offsets))
        if terms:
            text += [
                f"for q in range(full + (width - full * {x.stride} > {phase.remainder})):",
                f"    sums[{phase.remainder}, q] += {terms}",
            ]
    return text


def _line_in_loops(recipe: Recipe) -> list[str]:
    """The same tap by tap, for kernels so large that machine code written out would take minutes to make."""
    x = recipe.axes[2]
    return [
        f"for r in range({x.stride}):",
        "    for j in range(count_x[r]):",
        f"        t = {recipe.tap}, n + place_x[r] + j]",
        f"        line = source[c, line_z, line_y, base_x[r] + j * {x.dilation}:]",
        f"        for q in range(full + (width - full * {x.stride} > r)):",
        "            sums[r, q] += t * line[q]",
    ]


def _store(recipe: Recipe, total: Callable[[Phase, int], str]) -> list[str]:
    """The last pass over a row: whole groups of x-phases in a loop, then what is left of one group."""
    x = recipe.axes[2]
    text = ["for q in range(full):"]
    for phase, tap in _x_phases(x):
        text += ["    " + line for line in _finish(recipe, total(phase, tap), phase.remainder)]
    if x.stride > 1:
        text.append("q = full")
    for phase, tap in _x_phases(x)[:-1]:
        text.append(f"if width - full * {x.stride} > {phase.remainder}:")
        text += ["    " + line for line in _finish(recipe, total(phase, tap), phase.remainder)]
    return text


def _finish(recipe: Recipe, total: str, remainder: int | str) -> list[str]:
    """What becomes of the sum of output voxel ``q * stride + remainder`` of the row."""
    text = [f"t = {total} + b"]
    index = f"q * {recipe.axes[2].stride} + {remainder}"
    if recipe.activation == "relu":
        text.append("t = zero if t < zero else t")
    elif recipe.activation == "prelu":
        text.append("t = t * a if t < zero else t")
    elif recipe.activation != "linear":
        text.append("t = activate(t)")
    if recipe.argmax:  # both are read before either is written, and written in any case: then there is no jump
        place = f"[{remainder}, q]"
        return [
            *text,
            f"largest, number = best{place}, winner{place}",
            "wins = t > largest",
            f"best{place} = t if wins else largest",
            f"winner{place} = np.int32(f) if wins else number",
        ]
    if recipe.limits is None:
        return [*text, f"out[f, out_z, out_y, {index}] = t"]
    return [
        *text,
        "t = np.rint((t - shift) * scale)",
        "clipped += (t < low) | (t > high) | (t != t)",
        "t = low if t < low else high if t > high else zero if t != t else t",
        f"out[f, out_z, out_y, {index}] = t",
    ]


def _winners(x: Axis) -> list[str]:
    """Write the row of labels when every filter was met."""
    text = [f"for q in range(full + (width > full * {x.stride})):"]
    for r in range(x.stride):
        within = f"    if q * {x.stride} + {r} < width:"
        text += [within, f"        out[0, out_z, out_y, q * {x.stride} + {r}] = winner[{r}, q]"]
    return text


def _x_phases(x: Axis) -> list[tuple[Phase, int]]:
    """Pair each phase with the place of its first tap in the packed x taps."""
    places, place = [], 0
    for phase in x.phases():
        places.append((phase, place))
        place += phase.count
    return places


def _first(axis: Axis) -> int:
    """The first input that output 0 needs: where a region's source begins."""
    return axis.sources(0, 1)[0]
