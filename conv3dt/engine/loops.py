"""Which loops compute a transposed convolution without one wasted step?  Writes them in LLVM's language.

A phase of an axis has its own taps, so every row of output voxels is a sum over its own few source rows (*lines*) and,
along x, over its own few taps.  Which lines a row needs is a table; only x stands in the text: its taps are written
out, so no tap is padded with a zero, and a NaN reaches exactly as far as the kernel does.

The sums of a *block* of neighbouring output voxels stay in registers while all lines are met (`sums`): of some filters,
of every x-phase, of some vectors of voxels.  What touches an output voxel last is done there too, the phases are
interleaved in registers, and each voxel is stored once (`stores`).  Each lane has the same operations in the same order
in every block, so the bits of a voxel depend on nothing but its inputs: not on tiles, threads or the place of a region.

Where x has too many taps or phases to write out, rows are *combed*: one x-phase after the other, each tap a line.
"""

from __future__ import annotations

from collections.abc import Iterator

from conv3dt.engine.ir import Sheet, Value, module
from conv3dt.engine.recipe import SIZES, Block, Recipe, Row
from conv3dt.engine.stores import Stores
from conv3dt.engine.sums import Sums


def write(recipe: Recipe) -> str:
    """Return the text of a module with the function ``region``, see `body`."""
    return module({head("region"): body(recipe)}, recipe.vector.bits)


def head(name: str) -> str:
    """The beginning of a function written by `body`."""
    names = ("source", "weights", "bias", "alpha", "numbers", "lines", "sizes", "out")
    return f"i64 @{name}({', '.join(f'ptr noalias %{name}' for name in names)}, i64 %begin, i64 %end)"


def body(recipe: Recipe) -> Sheet:
    """Return the body of ``region(source, weights, bias, alpha, numbers, lines, sizes, out, begin, end) -> clipped``.

    All but the last two are addresses.  It computes the output planes ``begin`` to ``end``.

    ``source (channels, z, y, x)`` and ``out (filters, z, y, x)`` have their x side by side; ``weights`` and ``lines``
    come from `phases`; ``bias`` and ``alpha`` have an item for each filter, up to a whole number of blocks;
    ``numbers`` are scale and shift.  The count returned is that of clipped voxels and NaNs.
    """
    sheet = Sheet()
    _Loops(recipe, sheet).planes()
    return sheet


class _Loops:
    """Writes the loops from the outermost to the innermost."""

    def __init__(self, recipe: Recipe, sheet: Sheet) -> None:
        self.recipe, self.sheet = recipe, sheet
        self.size = {name: sheet.item("%sizes", number) for number, name in enumerate(SIZES)}
        self.sums, self.stores = Sums(recipe, sheet, self.size), Stores(recipe, sheet, self.size)

    def planes(self) -> None:
        """All planes and rows."""
        sheet, size, recipe = self.sheet, self.size, self.recipe
        with sheet.loop("%begin", "%end") as z:
            group_z, phase_z = (sheet.integer(how, z, size["stride_z"]) for how in ("udiv", "urem"))
            source = sheet.at(recipe.compute, "%source", sheet.product(group_z, size["source_z"]))
            out = sheet.at(recipe.out, "%out", sheet.product(z, size["out_z"]))
            with sheet.loop(0, sheet.steps(size["height"], size["stride_y"])) as group:
                row = sheet.at(recipe.compute, source, sheet.product(group, size["source_y"]))
                first = sheet.product(group, size["stride_y"])
                last = sheet.least(size["stride_y"], sheet.integer("sub", size["height"], first))
                with sheet.loop(0, last) as phase_y:
                    phase = sheet.total(sheet.product(phase_z, size["stride_y"]), phase_y)
                    place = sheet.product(sheet.total(first, phase_y), size["out_y"])
                    self._row(row, sheet.at(recipe.out, out, place), phase)
        sheet.do(f"ret i64 {sheet.name(f'load i64, ptr {self.stores.clipped}')}")

    def _row(self, source: str, out: str, phase: str) -> None:
        """A row, or its x-phases one after the other."""
        sheet, width, stride = self.sheet, self.size["width"], self.recipe.stride
        if not self.recipe.combed:
            groups, full = sheet.steps(width, stride), sheet.integer("udiv", width, stride)
            self._filters(self._with_tables(source, out, phase, 0, groups, full))
            return
        with sheet.loop(0, sheet.least(str(stride), width)) as phase_x:
            number = sheet.total(sheet.product(phase, stride), phase_x)
            count = sheet.steps(sheet.integer("sub", width, phase_x), stride)
            self._filters(self._with_tables(source, out, number, phase_x, count, count))

    def _with_tables(self, source: str, out: str, phase: str, phase_x: str | int, groups: str, full: str) -> Row:
        sheet, size = self.sheet, self.size
        lines = sheet.at("i64", "%lines", sheet.product(phase, size["lines_phase"]))
        weights = sheet.at(self.recipe.compute, "%weights", sheet.product(phase, size["weights_phase"]))
        return Row(source, out, lines, weights, phase_x, groups, full)

    def _filters(self, row: Row) -> None:
        """All filters of a row, or, for labels, of a block: then the largest so far stays in registers."""
        sheet, recipe = self.sheet, self.recipe
        if not recipe.argmax:
            with sheet.loop(0, self.size["filters"], recipe.filters) as f:
                for block in self._blocks(row):
                    self._values(row, block, f)
            return
        for block in self._blocks(row):
            places = self.stores.race(block)
            with sheet.loop(0, self.size["filters"], recipe.filters) as f:
                for number, of_filter in enumerate(self.sums.of(row, block, f)):
                    self.stores.compete(places, sheet.total(f, number), of_filter)
            self.stores.labels(row, block, places)

    def _values(self, row: Row, block: Block, f: str) -> None:
        """Some filters of a block."""
        sheet = self.sheet
        for number, of_filter in enumerate(self.sums.of(row, block, f)):
            filter_number = sheet.total(f, number)
            if number == 0:
                self.stores.values(row, block, filter_number, of_filter)
            else:  # the last block may have fewer filters
                with sheet.when(sheet.name(f"icmp slt i64 {filter_number}, {self.size['filters']}")):
                    self.stores.values(row, block, filter_number, of_filter)

    def _blocks(self, row: Row) -> Iterator[Block]:
        """Whole blocks, then half blocks, of which the last may begin again in what was done, then single vectors."""
        sheet, recipe, lanes = self.sheet, self.recipe, self.recipe.lanes
        step, half = recipe.vectors * lanes, max(recipe.vectors // 2, 1)
        done = sheet.integer("sub", row.full, sheet.integer("urem", row.full, step))
        with sheet.loop(0, done, step) as q:
            yield Block(q, recipe.vectors)
        # A half block is worth it for more than a vector; in rows shorter than one there is none.
        enough = sheet.name(f"icmp sge i64 {row.full}, {half * lanes}")
        most = sheet.integer("sub", row.full, lanes if half > 1 else 0)
        end = sheet.name(f"select i1 {enough}, i64 {most}, i64 0")
        with sheet.loop(done, end, half * lanes) as q:
            first = sheet.least(q, sheet.integer("sub", row.full, half * lanes))
            yield Block(first, half, again=sheet.integer("sub", q, first))
        rest = sheet.integer("sub", end, done)
        some = sheet.name(f"icmp sgt i64 {rest}, 0")
        more = sheet.product(sheet.steps(rest, half * lanes), half * lanes)
        begin = sheet.least(sheet.total(done, sheet.name(f"select i1 {some}, i64 {more}, i64 0")), row.full)
        with sheet.loop(begin, row.groups, lanes) as q:
            yield Block(q, 1, self._masks(row, q))

    def _masks(self, row: Row, q: str) -> list[Value]:
        """For each x-phase the lanes that are within the row."""
        sheet, recipe = self.sheet, self.recipe
        masks = []
        for r in range(len(recipe.phases)):
            count = (
                row.groups if recipe.combed else sheet.steps(sheet.integer("sub", self.size["width"], r), recipe.stride)
            )
            masks.append(sheet.lanes("slt", 0, sheet.integer("sub", count, q), recipe.lanes))
        return masks
