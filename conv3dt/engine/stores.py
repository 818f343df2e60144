"""What becomes of a sum?  Activation, rounding, the number of the largest filter; then it is stored, once."""

from __future__ import annotations

from functools import reduce
from itertools import chain
from operator import or_

from conv3dt.engine.activation import activate
from conv3dt.engine.ir import Sheet, Type, Value, interleaved, where
from conv3dt.engine.recipe import Block, Recipe, Row
from conv3dt.plan import LINE_BYTES

PREFETCH_BYTES = 4096
"""How far ahead of the stores lines of memory are asked for: processors stop at the end of a page by themselves."""

Vectors = list[list[Value]]
"""``[phase][vector]``."""


class Stores:
    """Writes what comes after the sums of a block."""

    def __init__(self, recipe: Recipe, sheet: Sheet, size: dict[str, str]) -> None:
        """``size`` has the names of what the loops are told."""
        self.recipe, self.sheet, self.size = recipe, sheet, size
        self.clipped = sheet.variable("i64")
        sheet.put("i64", 0, self.clipped)
        if recipe.scaled:
            self.scale, self.shift = (sheet.spread(recipe.vector, "%numbers", number) for number in (0, 1))

    def values(self, row: Row, block: Block, f: str, sums: Vectors) -> None:
        """Finish and store the sums of a filter."""
        values = [[self._rounded(self._activated(each, f)) for each in of] for of in sums]
        if self.recipe.limits is not None:
            values = self._within_limits(values, block)
        out = self._at(row.out, self.sheet.product(f, self.size["out_f"]))
        self._store(row, out, block, [[self._converted(value) for value in of] for of in values])

    def race(self, block: Block) -> list[list[tuple[str, str]]]:
        """Return variables ``[phase][vector]`` for the largest value so far and the number of its filter."""
        sheet, vector, number = self.sheet, self.recipe.vector, Type("i32", self.recipe.lanes)
        places = [
            [(sheet.variable(str(vector)), sheet.variable(str(number))) for _ in range(block.vectors)]
            for _ in self.recipe.phases
        ]
        for best, winner in (pair for of in places for pair in of):
            sheet.put(vector, vector.all(float("-inf")), best)
            sheet.put(number, "zeroinitializer", winner)
        return places

    def compete(self, places: list[list[tuple[str, str]]], f: str, sums: Vectors) -> None:
        """Let the sums of a filter take the places of those that they are larger than."""
        sheet = self.sheet
        here = sheet.vector(Type("i32", self.recipe.lanes), sheet.name(f"trunc i64 {f} to i32"))
        for value, (best, winner) in zip(chain(*sums), chain(*places), strict=True):
            value = self._activated(value, f)
            largest = sheet.let(value.type, f"load {value.type}, ptr {best}")
            number = sheet.let(here.type, f"load {here.type}, ptr {winner}")
            wins = value > largest
            sheet.put(value.type, where(wins, value, largest).name, best)
            sheet.put(here.type, where(wins, here, number).name, winner)

    def labels(self, row: Row, block: Block, places: list[list[tuple[str, str]]]) -> None:
        """Store the numbers of the filters that won."""
        self._store(row, row.out, block, [[self._label(winner) for _, winner in of] for of in places])

    def _label(self, winner: str) -> Value:
        kind = Type("i32", self.recipe.lanes)
        number, out = self.sheet.name(f"load {kind}, ptr {winner}"), kind.of(self.recipe.out)
        if out.is_float:
            return self.sheet.let(out, f"uitofp {kind} {number} to {out}")
        if out == kind:
            return Value(self.sheet, out, number)
        return self.sheet.let(out, f"{'trunc' if out.bits < kind.bits else 'zext'} {kind} {number} to {out}")

    def _activated(self, value: Value, f: str) -> Value:
        if self.recipe.activation == "prelu":
            return where(value < 0.0, value * self.sheet.spread(self.recipe.vector, "%alpha", f), value)
        return activate(self.recipe.activation, value)

    def _rounded(self, value: Value) -> Value:
        """The stored number of a value, before its limits are looked at; floats stay as they are."""
        recipe = self.recipe
        if recipe.limits is None:
            return value
        if recipe.scaled:
            value = (value - self.shift) * self.scale
        return self._nearest(value)

    def _nearest(self, value: Value) -> Value:
        """To the nearest whole number, half to even."""
        rint = self.sheet.call(value.type, f"llvm.rint.{value.type.short}", (value.type, value.name))
        return Value(self.sheet, value.type, rint)

    def _within_limits(self, values: Vectors, block: Block) -> Vectors:
        """NaN becomes the value 0.  What changed is counted, if anything did, and if it was not computed before."""
        low, high = self.recipe.limits or (0.0, 0.0)
        nought = self._nought(low, high)
        within, lost = [], []
        for r, of in enumerate(values):
            near = [where(value < low, low, where(value > high, high, value)) for value in of]
            changed = [value.differs(clipped) for value, clipped in zip(of, near, strict=True)]
            if block.masks:
                changed = [each & block.masks[r] for each in changed]
            if block.again is not None:
                changed = [each & self._from(block.again, u) for u, each in enumerate(changed)]
            lost += changed
            within.append([where(value.is_nan(), nought, clipped) for value, clipped in zip(of, near, strict=True)])
        self._count(lost)
        return within

    def _nought(self, low: float, high: float) -> Value | float:
        """The stored number of the value 0."""
        if not self.recipe.scaled:
            return 0.0
        number = self._nearest(self.shift * self.scale * -1.0)
        return where(number < low, low, where(number > high, high, number))

    def _from(self, count: str, vector: int) -> Value:
        """Lanes with a number of at least ``count``, the lanes of the vectors before counted too."""
        lanes = self.recipe.lanes
        return self.sheet.lanes("sge", vector * lanes, count, lanes)

    def _count(self, lost: list[Value]) -> None:
        sheet, bits = self.sheet, f"i{lost[0].type.lanes}"
        some = reduce(or_, lost)
        some_bits = sheet.name(f"bitcast {some.type} {some.name} to {bits}")
        with sheet.when(sheet.name(f"icmp ne {bits} {some_bits}, 0")):
            for each in lost:
                mask = sheet.name(f"bitcast {each.type} {each.name} to {bits}")
                count = sheet.name(f"zext {bits} {sheet.call(bits, f'llvm.ctpop.{bits}', (bits, mask))} to i64")
                before = sheet.name(f"load i64, ptr {self.clipped}")
                sheet.put("i64", sheet.total(before, count), self.clipped)

    def _converted(self, value: Value) -> Value:
        """A number in the type in which it is stored; it is known to fit."""
        sheet, out = self.sheet, value.type.of(self.recipe.out)
        if out == value.type:
            return value
        if out.is_float:
            how = "fpext" if out.bits > value.type.bits else "fptrunc"
            return sheet.let(out, f"{how} {value.type} {value.name} to {out}")
        wide = out if out.item_bytes >= 4 else value.type.of("i32")
        how = "fptosi" if self.recipe.signed or wide != out else "fptoui"
        number = sheet.let(wide, f"{how} {value.type} {value.name} to {wide}")
        return number if wide == out else sheet.let(out, f"trunc {wide} {number.name} to {out}")

    def _store(self, row: Row, out: str, block: Block, values: Vectors) -> None:
        """Store so that the phases take turns."""
        for u, vectors in enumerate(zip(*values, strict=True)):
            first = self.sheet.total(block.q, u * self.recipe.lanes)
            if self.recipe.combed:
                self._store_comb(row, out, first, vectors[0])
            else:
                self._store_row(out, first, interleaved(list(vectors)), masked=bool(block.masks))

    def _store_row(self, out: str, q: str, pieces: list[Value], *, masked: bool) -> None:
        sheet, recipe, kind = self.sheet, self.recipe, pieces[0].type
        first = sheet.product(q, recipe.stride)
        for number, piece in enumerate(pieces):
            begin = sheet.total(first, number * recipe.lanes)
            place = self._at(out, begin)
            if masked:
                mask = sheet.lanes("slt", 0, sheet.integer("sub", self.size["width"], begin), kind.lanes)
                sheet.call("void", f"llvm.masked.store.{kind.short}.p0", (kind, piece.name), ("ptr", place),
                           ("i32", kind.item_bytes), (mask.type, mask.name))  # fmt: skip
            else:
                sheet.do(f"store {kind} {piece.name}, ptr {place}, align {kind.item_bytes}")
        if recipe.distant and not masked:
            self._prefetch(self._at(out, first), len(pieces) * kind.bits // 8)

    def _prefetch(self, place: str, count: int) -> None:
        for line in range(0, count, LINE_BYTES):
            ahead = self.sheet.at("i8", place, PREFETCH_BYTES + line)
            self.sheet.call("void", "llvm.prefetch.p0", ("ptr", ahead), ("i32", 1), ("i32", 3), ("i32", 1))

    def _store_comb(self, row: Row, out: str, q: str, value: Value) -> None:
        sheet, recipe, kind = self.sheet, self.recipe, value.type
        held = sheet.variable(str(kind))
        sheet.put(kind, value.name, held)
        count = sheet.least(sheet.integer("sub", row.groups, q), str(recipe.lanes))
        with sheet.loop(0, count) as lane:
            item = sheet.name(f"load {recipe.out}, ptr {sheet.at(recipe.out, held, lane)}")
            place = sheet.total(sheet.product(sheet.total(q, lane), recipe.stride), row.phase_x)
            sheet.put(recipe.out, item, self._at(out, place))

    def _at(self, base: str, index: str | int) -> str:
        return self.sheet.at(self.recipe.out, base, index)
