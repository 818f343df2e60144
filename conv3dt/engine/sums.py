"""How is a block of output voxels summed?  All its sums stay in registers while its source rows are met."""

from __future__ import annotations

from conv3dt.engine.ir import Sheet, Value, shuffled
from conv3dt.engine.recipe import Block, Recipe, Row

Places = list[list[list[str]]]
"""Variables, ``[filter][phase][vector]``."""


class Sums:
    """Writes the sums of a block."""

    def __init__(self, recipe: Recipe, sheet: Sheet, size: dict[str, str]) -> None:
        """``size`` has the names of what the loops are told."""
        self.recipe, self.sheet, self.size = recipe, sheet, size

    def of(self, row: Row, block: Block, f: str) -> list[list[list[Value]]]:
        """Write the sums of some filters from ``f`` on, ``[filter][phase][vector]``, the bias included."""
        sheet, recipe, vector = self.sheet, self.recipe, self.recipe.vector
        places = [self._begun(block, sheet.total(f, number)) for number in range(recipe.filters)]
        source = self._at(self._at(row.source, sheet.product(f, self.size["source_f"])), block.q)
        weights = self._at(row.weights, sheet.product(f, self.size["weights_f"]))
        with sheet.loop(0, sheet.item(row.lines, 0)) as n:
            line = self._at(source, sheet.item(sheet.at("i64", row.lines, 1), n))
            taps = self._at(weights, sheet.product(n, len(recipe.taps) * recipe.filters))
            self._add_line(line, taps, places, block.masks)
        return [[[sheet.let(vector, f"load {vector}, ptr {place}") for place in of] for of in each] for each in places]

    def _begun(self, block: Block, f: str) -> list[list[str]]:
        """Variables for the sums of a filter, which begin with its bias."""
        sheet, vector = self.sheet, self.recipe.vector
        bias = sheet.spread(vector, "%bias", f)
        places = [[sheet.variable(str(vector)) for _ in range(block.vectors)] for _ in self.recipe.phases]
        for place in (place for of in places for place in of):
            sheet.put(vector, bias.name, place)
        return places

    def _add_line(self, line: str, taps: str, places: Places, masks: list[Value]) -> None:
        """Add one source row to the sums of a block, all its taps along x."""
        recipe = self.recipe
        voxels: list[Value] = []
        first: tuple[int, list[Value]] = (0, [])
        for number, (offset, r) in enumerate(recipe.taps):
            if number == 0 or offset != recipe.taps[number - 1][0]:
                voxels = self._voxels(line, offset, len(places[0][0]), masks[r : r + 1], first)
                first = first if number else (offset, voxels)
            for n in range(recipe.filters):
                weight = self.sheet.spread(recipe.vector, taps, number * recipe.filters + n)
                for voxel, place in zip(voxels, places[n][r], strict=True):
                    self._accumulate(weight, voxel, place)

    def _voxels(
        self, line: str, offset: int, count: int, mask: list[Value], first: tuple[int, list[Value]]
    ) -> list[Value]:
        """Neighbouring vectors of a source row, shifted out of those already there where that is possible.

        Most loads of shifted neighbours would straddle two lines of the cache, which takes twice as long.
        The phases of an offset come in order, and the first of them has the most voxels: ``mask`` is that one's.
        """
        lanes, (before, ready) = self.recipe.lanes, first
        ahead = offset - before
        inner = range(count - 1)
        if ready and ahead < lanes:
            voxels = [shuffled(ready[u], ready[u + 1], list(range(ahead, ahead + lanes))) for u in inner]
        else:
            voxels = [self._load(self._at(line, offset + u * lanes), mask) for u in inner]
        return [*voxels, self._load(self._at(line, offset + (count - 1) * lanes), mask)]

    def _load(self, place: str, mask: list[Value]) -> Value:
        sheet, vector = self.sheet, self.recipe.vector
        if not mask:
            return sheet.let(vector, f"load {vector}, ptr {place}, align {vector.item_bytes}")
        return Value(sheet, vector, sheet.call(
            vector, f"llvm.masked.load.{vector.short}.p0", ("ptr", place), ("i32", vector.item_bytes),
            (mask[0].type, mask[0].name), (vector, "zeroinitializer"),
        ))  # fmt: skip

    def _accumulate(self, weight: Value, voxel: Value, place: str) -> None:
        sheet, vector = self.sheet, self.recipe.vector
        before = sheet.let(vector, f"load {vector}, ptr {place}")
        if self.recipe.fused:
            arguments = [(vector, value.name) for value in (weight, voxel, before)]
            after = sheet.call(vector, f"llvm.fma.{vector.short}", *arguments)
        else:
            after = (weight * voxel + before).name
        sheet.put(vector, after, place)

    def _at(self, base: str, index: str | int) -> str:
        return self.sheet.at(self.recipe.compute, base, index)
