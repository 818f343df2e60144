"""A kernel that is an outer product, along z, then y, then x, without leaving the caches.

For each output plane, in bands of rows: the source planes it needs become one (their rows lie one after the other in
memory, so that is a single long row), of which the rows that an output row needs become one, of which that is made.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine import loops, machine
from conv3dt.engine.finish import Storage
from conv3dt.engine.ir import Sheet, module
from conv3dt.engine.memory import address, aligned
from conv3dt.engine.passes import Ending, Planes, recipe_for, sizes_array
from conv3dt.engine.phases import Axes, Rows
from conv3dt.engine.recipe import Recipe
from conv3dt.geometry import Axis

BAND_BYTES = 64 * 2**10
"""What lies between the first pass and the second: with the source planes it comes from, it stays in a core's cache."""

ADDRESSES = (
    "weights_z", "lines_z", "sizes_z", "sizes_z_last", "weights_y", "lines_y", "sizes_y", "weights_x", "lines_x",
    "sizes_x", "none", "bias", "alpha", "numbers",
)  # fmt: skip
NUMBERS = (
    "source_z", "source_y", "out_z", "out_y", "height", "bands", "band", "stride_z", "stride_y", "weights_z_phase",
    "lines_z_phase", "weights_y_phase", "lines_y_phase", "columns",
)  # fmt: skip
"""What the loops are told, in this order: addresses, then whole numbers."""


class ThreePasses:
    """A kernel of one channel and one filter; the channels of a volume are met one by one."""

    def __init__(
        self,
        axes: Axes,
        vectors: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]],
        ending: Ending,
        compute: np.dtype[Any],
    ) -> None:
        """Compile the loops.

        Args:
            axes: the laws of z, y, x.
            vectors: the taps along each.
            ending: what becomes of a sum.
            compute: the type of the sums and of the source.
        """
        one, self._axes, self._compute = Axis(1), axes, np.dtype(compute)
        self._z, self._y, self._x = Rows((axes[0], one, one)), Rows((one, axes[1], one)), Rows((one, one, axes[2]))
        shapes = ((-1, 1, 1, 1, 1), (1, -1, 1, 1, 1), (1, 1, -1, 1, 1))
        taps = [np.asarray(each, compute).reshape(shape) for each, shape in zip(vectors, shapes, strict=True)]
        self._weights = [rows.weights(each, 1) for rows, each in zip((self._z, self._y, self._x), taps, strict=True)]
        between = recipe_for(Rows((one, one, one)), 1, Ending(Storage(self._compute)), self._compute, distant=False)
        self._loops = _compiled(between, recipe_for(self._x, 1, ending, self._compute))
        zero = np.zeros(1, compute)
        bias, alpha = (
            zero if values is None else np.asarray(values, compute) for values in (ending.bias, ending.alpha)
        )
        numbers = np.array([1 / ending.storage.slope, ending.storage.inter], compute)
        self._constants = {"none": zero, "bias": bias, "alpha": alpha, "numbers": numbers}
        self._scratch = threading.local()

    def bind(self, source: NDArray[np.floating], out: NDArray[Any]) -> Planes:
        """As `passes.Pass.bind`."""
        row = source.strides[2] // source.itemsize
        reach = len(range(*self._axes[1].sources(0, self._axes[1].stride)))
        groups = -(-out.shape[2] // self._axes[1].stride)
        band = min(max(BAND_BYTES // source.strides[2] - reach + 1, 8), groups)
        # The last rows of the output may need fewer of the source than a whole group.
        last_rows = source.shape[2] - (groups - 1) // band * band
        tables = self._tables(source, out, band + reach - 1, last_rows)
        told = self._told(tables, source, out, -(-groups // band), band, (band + reach - 1) * row)
        starts = [(address(source[c]), address(out[c])) for c in range(len(source))]
        size = (band + reach) * row
        return _Bound(self, told, starts, size, (source, out, *tables.values()))

    def compute(self, told: NDArray[np.int64], start: tuple[int, int], size: int, begin: int, end: int) -> int:
        """Compute the output planes of one channel."""
        held = getattr(self._scratch, "held", None)  # each thread its own, used again and again
        if held is None or held.size < size:
            held = self._scratch.held = aligned(size, self._compute)
        return self._loops(address(told), *start, address(held), begin, end)

    def _tables(self, source: NDArray[Any], out: NDArray[Any], rows: int, last_rows: int) -> dict[str, NDArray[Any]]:
        """The arrays that the loops are told of; bands have ``rows`` source rows, the last band fewer."""
        plane, row = (step // source.itemsize for step in source.strides[1:3])
        one = Rows((Axis(1),) * 3)
        lines = [each.lines(1, (0, plane, row)) for each in (self._z, self._y, self._x)]
        flat = {"source_z": 0, "source_y": 0, "source_f": 0, "lines_phase": 0, "weights_phase": 0, "weights_f": 0,
                "out_z": 0, "out_y": 0, "out_f": 0, "height": 1, "filters": 1}  # fmt: skip
        of_x = {"lines_phase": lines[2].shape[1], "weights_phase": self._weights[2][0].size, "width": out.shape[3]}
        return self._constants | {
            "weights_z": self._weights[0], "weights_y": self._weights[1], "weights_x": self._weights[2],
            "lines_z": lines[0], "lines_y": lines[1], "lines_x": lines[2],
            "sizes_z": sizes_array(one, **flat | {"width": rows * row}),
            "sizes_z_last": sizes_array(one, **flat | {"width": last_rows * row}),
            "sizes_y": sizes_array(one, **flat | {"width": row}),
            "sizes_x": sizes_array(self._x, **flat | of_x),
        }  # fmt: skip

    def _told(
        self,
        tables: dict[str, NDArray[Any]],
        source: NDArray[Any],
        out: NDArray[Any],
        bands: int,
        band: int,
        columns: int,
    ) -> NDArray[np.int64]:
        numbers = {
            "source_z": source.strides[1] // source.itemsize, "source_y": source.strides[2] // source.itemsize,
            "out_z": out.strides[1] // out.itemsize, "out_y": out.strides[2] // out.itemsize,
            "height": out.shape[2], "bands": bands, "band": band,
            "stride_z": self._axes[0].stride, "stride_y": self._axes[1].stride,
            "weights_z_phase": self._weights[0][0].size, "lines_z_phase": tables["lines_z"].shape[1],
            "weights_y_phase": self._weights[1][0].size, "lines_y_phase": tables["lines_y"].shape[1],
            "columns": columns,
        }  # fmt: skip
        return np.array(
            [*(address(tables[name]) for name in ADDRESSES), *(numbers[name] for name in NUMBERS)], np.int64
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Bound:
    """Three passes with their arrays, which live as long as this does."""

    passes: ThreePasses
    told: NDArray[np.int64]
    starts: list[tuple[int, int]]
    size: int
    arrays: tuple[NDArray[Any], ...]

    def __call__(self, begin: int, end: int) -> int:
        return sum(self.passes.compute(self.told, start, self.size, begin, end) for start in self.starts)


@lru_cache(maxsize=64)
def _compiled(between: Recipe, last: Recipe) -> machine.Function:
    functions = {
        f"internal {loops.head('between')}": loops.body(between),
        f"internal {loops.head('last')}": loops.body(last),
        "i64 @region(ptr %told, ptr %source, ptr %out, ptr %scratch, i64 %begin, i64 %end)": _bands(last),
    }
    return machine.compiled(module(functions, last.vector.bits), "region", 6)


def _bands(recipe: Recipe) -> Sheet:
    """All bands, planes and rows."""
    sheet = Sheet()
    known: dict[str, str] = {name: sheet.item("%told", n) for n, name in enumerate((*ADDRESSES, *NUMBERS))}
    known |= {name: sheet.name(f"inttoptr i64 {known[name]} to ptr") for name in ADDRESSES}
    clipped = sheet.variable("i64")
    sheet.put("i64", 0, clipped)
    columns = sheet.at(recipe.compute, "%scratch", known["columns"])
    with sheet.loop(0, known["bands"]) as number:
        _band(sheet, recipe, known, number, columns, clipped)
    sheet.do(f"ret i64 {sheet.name(f'load i64, ptr {clipped}')}")
    return sheet


def _band(sheet: Sheet, recipe: Recipe, known: dict[str, str], number: str, columns: str, clipped: str) -> None:
    kind = recipe.compute
    first, after = (sheet.product(n, known["band"]) for n in (number, sheet.total(number, 1)))
    is_last = sheet.name(f"icmp eq i64 {sheet.total(number, 1)}, {known['bands']}")
    sizes = sheet.name(f"select i1 {is_last}, ptr {known['sizes_z_last']}, ptr {known['sizes_z']}")
    begin = sheet.product(first, known["stride_y"])
    end = sheet.least(sheet.product(after, known["stride_y"]), known["height"])
    band = sheet.at(kind, "%source", sheet.product(first, known["source_y"]))
    with sheet.loop("%begin", "%end") as z:
        group, phase = (sheet.integer(how, z, known["stride_z"]) for how in ("udiv", "urem"))
        planes = sheet.at(kind, band, sheet.product(group, known["source_z"]))
        _between(sheet, recipe, known, "z", phase, planes, sizes, "%scratch")
        out = sheet.at(recipe.out, "%out", sheet.product(z, known["out_z"]))
        with sheet.loop(begin, end) as y:
            group, phase = (sheet.integer(how, y, known["stride_y"]) for how in ("udiv", "urem"))
            place = sheet.product(sheet.integer("sub", group, first), known["source_y"])
            rows = sheet.at(kind, "%scratch", place)
            _between(sheet, recipe, known, "y", phase, rows, known["sizes_y"], columns)
            target = sheet.at(recipe.out, out, sheet.product(y, known["out_y"]))
            tables = [known[name] for name in ("weights_x", "bias", "alpha", "numbers", "lines_x", "sizes_x")]
            lost = _call(sheet, "last", columns, *tables, target)
            sheet.put("i64", sheet.total(sheet.name(f"load i64, ptr {clipped}"), lost), clipped)


def _between(
    sheet: Sheet, recipe: Recipe, known: dict[str, str], axis: str, phase: str, source: str, sizes: str, target: str
) -> None:
    """One row out of those that a phase of an axis needs."""
    weights = sheet.at(recipe.compute, known[f"weights_{axis}"], sheet.product(phase, known[f"weights_{axis}_phase"]))
    lines = sheet.at("i64", known[f"lines_{axis}"], sheet.product(phase, known[f"lines_{axis}_phase"]))
    none = known["none"]
    _call(sheet, "between", source, weights, none, none, known["numbers"], lines, sizes, target)


def _call(sheet: Sheet, function: str, *addresses: str) -> str:
    arguments = ", ".join([*(f"ptr {address}" for address in addresses), "i64 0", "i64 1"])
    return sheet.name(f"call i64 @{function}({arguments})")
