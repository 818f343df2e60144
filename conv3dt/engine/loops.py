"""Which loops compute a transposed convolution without one wasted step?  Writes them in LLVM's language.

A phase of an axis has its own taps, so every row of output voxels is a sum over its own few source rows (*lines*) and,
along x, over its own few taps.  Which lines a row needs is a table; only x stands in the text: its taps are written
out, so no tap is padded with a zero, and a NaN reaches exactly as far as the kernel does.

The sums of a *block* of neighbouring output voxels stay in registers while all lines are met: of some filters, of every
x-phase, of some vectors of voxels.  What touches an output voxel last (bias, activation, rounding) is done there, the
phases are interleaved in registers, and each voxel is stored once.  The end of a row is one vector at a time, with
the lanes beyond the row masked; each lane has the same operations in the same order everywhere, so the bits of a voxel
depend on nothing but its inputs: not on tiles, threads or the place of a region.

Where x has too many taps or phases to write out, rows are *combed*: one x-phase after the other, each tap a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from conv3dt.engine.activation import activate
from conv3dt.engine.ir import Sheet, Type, Value, module, where

SIZES = (
    "source_z", "source_y", "source_f", "lines_phase", "weights_phase", "weights_f", "out_z", "out_y", "out_f",
    "height", "width", "filters", "stride_z", "stride_y", "stride_x",
)  # fmt: skip
"""The whole numbers that the loops are told, in this order; steps between items, counted in items."""

PREFETCH_BYTES = 4096
"""How far ahead of the stores lines of memory are asked for: processors stop at the end of a page by themselves."""

LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the text of the loops depends on.

    Attributes:
        phases: for each x-phase the offsets of its taps in a source row, for the first voxel of the phase; combed
            rows have one phase of one tap.
        stride: along x.
        combed: whether rows are combed.
        compute: ``float`` or ``double``; out: the type of an output item, such as ``float`` or ``i16``.
        signed: whether whole numbers have a sign.
        limits: the ends of a whole type, as numbers of ``compute``.
        scaled: whether stored numbers are ``(value - shift) * scale``.
        activation: as `conv3dt.layer.activation` writes it, ``linear`` or ``prelu``.
        argmax: whether the output is the number of the largest filter.
        filters: that are summed side by side; vectors: of neighbouring voxels that are; lanes: of a vector.
        fused: whether the processor multiplies and adds in one step.
        distant: whether the output goes to memory, not to something that the caches hold anyway.
    """

    phases: tuple[tuple[int, ...], ...]
    stride: int
    combed: bool
    compute: str
    out: str
    signed: bool
    limits: tuple[float, float] | None
    scaled: bool
    activation: str
    argmax: bool
    filters: int
    vectors: int
    lanes: int
    fused: bool
    distant: bool = True

    @property
    def taps(self) -> list[tuple[int, int, int]]:
        """``(offset, phase, number of the tap in its phase)`` in the order in which they are added."""
        return sorted((offset, r, n) for r, offsets in enumerate(self.phases) for n, offset in enumerate(offsets))

    @property
    def vector(self) -> Type:
        """Neighbouring sums."""
        return Type(self.compute, self.lanes)


def write(recipe: Recipe) -> str:
    """Return the text of a module with the function ``region``, see `sheet`."""
    return module({head("region"): sheet(recipe)}, recipe.vector.bits)


def head(name: str) -> str:
    """The beginning of a function written by `sheet`."""
    names = ("source", "weights", "bias", "alpha", "numbers", "lines", "sizes", "out")
    return f"i64 @{name}({', '.join(f'ptr noalias %{name}' for name in names)}, i64 %begin, i64 %end)"


def sheet(recipe: Recipe) -> Sheet:
    """Return the body of ``region(source, weights, bias, alpha, numbers, lines, sizes, out, begin, end) -> clipped``.

    All but the last two are addresses.  It computes the output planes ``begin`` to ``end``.

    ``source (channels, z, y, x)`` and ``out (filters, z, y, x)`` have their x side by side; ``weights`` and ``lines``
    come from `phases`; ``bias`` and ``alpha`` have an item for each filter, up to a whole number of blocks;
    ``numbers`` are scale and shift.  The count returned is that of clipped voxels and NaNs.
    """
    written = Sheet()
    _Writer(recipe, written).planes()
    return written


@dataclass(slots=True)
class _Row:
    """Addresses of what the current row is made of; names of the sheet."""

    source: str
    out: str
    lines: str
    weights: str
    phase_x: str | int
    groups: str
    full: str


@dataclass(slots=True)
class _Block:
    """Neighbouring voxels that are summed side by side.

    Attributes:
        q: the first; vectors: how many follow it.
        masks: for each x-phase the lanes within the row, if not all are.
        again: how many of the first lanes were computed before, if there may be some.
    """

    q: str
    vectors: int
    masks: list[Value] = field(default_factory=list)
    again: str | None = None


class _Writer:
    """Writes the loops from the outermost to the innermost."""

    def __init__(self, recipe: Recipe, sheet: Sheet) -> None:
        self.recipe, self.sheet = recipe, sheet
        self.size = {name: sheet.item("%sizes", number) for number, name in enumerate(SIZES)}
        self.clipped = sheet.variable("i64")
        sheet.put("i64", 0, self.clipped)
        if recipe.scaled:
            self.scale, self.shift = (self._spread("%numbers", number) for number in (0, 1))

    def planes(self) -> None:
        """All planes, rows and, if they are combed, x-phases."""
        sheet, size = self.sheet, self.size
        with sheet.loop("%begin", "%end") as z:
            group_z, phase_z = (sheet.integer(how, z, size["stride_z"]) for how in ("udiv", "urem"))
            source = self._at("%source", sheet.product(group_z, size["source_z"]))
            out = self._out("%out", sheet.product(z, size["out_z"]))
            with sheet.loop(0, self._groups(size["height"], size["stride_y"])) as group:
                row = self._at(source, sheet.product(group, size["source_y"]))
                first = sheet.product(group, size["stride_y"])
                last = sheet.least(size["stride_y"], sheet.integer("sub", size["height"], first))
                with sheet.loop(0, last) as phase_y:
                    phase = sheet.total(sheet.product(phase_z, size["stride_y"]), phase_y)
                    target = self._out(out, sheet.product(sheet.total(first, phase_y), size["out_y"]))
                    self._row(row, target, phase)
        sheet.do(f"ret i64 {sheet.name(f'load i64, ptr {self.clipped}')}")

    def _row(self, source: str, out: str, phase: str) -> None:
        sheet, size = self.sheet, self.size
        width, stride = size["width"], self.recipe.stride
        if not self.recipe.combed:
            groups, full = self._groups(width, stride), sheet.integer("udiv", width, stride)
            self._phase(source, out, phase, 0, groups, full)
            return
        with sheet.loop(0, sheet.least(str(stride), width)) as phase_x:
            number = sheet.total(sheet.product(phase, stride), phase_x)
            count = self._groups(sheet.integer("sub", width, phase_x), stride)
            self._phase(source, out, number, phase_x, count, count)

    def _phase(self, source: str, out: str, phase: str, phase_x: str | int, groups: str, full: str) -> None:
        sheet, size = self.sheet, self.size
        lines = sheet.at("i64", "%lines", sheet.product(phase, size["lines_phase"]))
        weights = self._at("%weights", sheet.product(phase, size["weights_phase"]))
        row = _Row(source, out, lines, weights, phase_x, groups, full)
        if self.recipe.argmax:
            for block in self._blocks(row):
                self._labels(row, block)
        else:
            with sheet.loop(0, size["filters"], self.recipe.filters) as f:
                for block in self._blocks(row):
                    self._values(row, block, f)

    def _blocks(self, row: _Row) -> Iterator[_Block]:
        """Whole blocks, then half blocks, of which the last may begin again in what was done, then single vectors."""
        sheet, recipe, lanes = self.sheet, self.recipe, self.recipe.lanes
        step, half = recipe.vectors * lanes, max(recipe.vectors // 2, 1)
        done = sheet.integer("sub", row.full, sheet.integer("urem", row.full, step))
        with sheet.loop(0, done, step) as q:
            yield _Block(q, recipe.vectors)
        # A half block is worth it for more than a vector; in rows shorter than one there is none.
        enough = sheet.name(f"icmp sge i64 {row.full}, {half * lanes}")
        most = sheet.integer("sub", row.full, lanes if half > 1 else 0)
        end = sheet.name(f"select i1 {enough}, i64 {most}, i64 0")
        with sheet.loop(done, end, half * lanes) as q:
            first = sheet.least(q, sheet.integer("sub", row.full, half * lanes))
            yield _Block(first, half, again=sheet.integer("sub", q, first))
        rest = sheet.integer("sub", end, done)
        some = sheet.name(f"icmp sgt i64 {rest}, 0")
        more = sheet.product(self._groups(rest, half * lanes), half * lanes)
        begin = sheet.least(sheet.total(done, sheet.name(f"select i1 {some}, i64 {more}, i64 0")), row.full)
        with sheet.loop(begin, row.groups, lanes) as q:
            yield _Block(q, 1, self._masks(row, q))

    def _values(self, row: _Row, block: _Block, f: str) -> None:
        """Sum a block of some filters, finish it and store it."""
        sheet = self.sheet
        sums = self._sums(row, block, f)
        for number, of_filter in enumerate(sums):
            filter_number = sheet.total(f, number)
            if number == 0:
                self._store_filter(row, block, filter_number, of_filter)
            else:  # the last block may have fewer filters
                with sheet.when(sheet.name(f"icmp slt i64 {filter_number}, {self.size['filters']}")):
                    self._store_filter(row, block, filter_number, of_filter)

    def _store_filter(self, row: _Row, block: _Block, f: str, sums: list[list[Value]]) -> None:
        sheet, recipe = self.sheet, self.recipe
        out = self._out(row.out, sheet.product(f, self.size["out_f"]))
        values = [[self._rounded(self._activated(each, f)) for each in of] for of in sums]
        if recipe.limits is not None:
            values = self._clipped(values, block)
        self._store(row, out, block, [[self._converted(value) for value in of] for of in values])

    def _labels(self, row: _Row, block: _Block) -> None:
        """Meet all filters of a block; the best value so far and its number stay in registers."""
        sheet, recipe = self.sheet, self.recipe
        vector, number = recipe.vector, Type("i32", recipe.lanes)
        places = [[(sheet.variable(str(vector)), sheet.variable(str(number))) for _ in range(block.vectors)]
                  for _ in recipe.phases]  # fmt: skip
        for best, winner in (pair for of in places for pair in of):
            sheet.put(vector, vector.all(float("-inf")), best)
            sheet.put(number, "zeroinitializer", winner)
        with sheet.loop(0, self.size["filters"], recipe.filters) as f:
            for n, of_filter in enumerate(self._sums(row, block, f)):
                filter_number = sheet.total(f, n)
                here = sheet.vector(number, sheet.name(f"trunc i64 {filter_number} to i32"))
                for of_phase, of_places in zip(of_filter, places, strict=True):
                    for value, (best, winner) in zip(of_phase, of_places, strict=True):
                        self._compare(self._activated(value, filter_number), here, best, winner)
        self._store(row, row.out, block, [[self._label(winner) for _, winner in of] for of in places])

    def _compare(self, value: Value, here: Value, best: str, winner: str) -> None:
        sheet = self.sheet
        largest = sheet.let(value.type, f"load {value.type}, ptr {best}")
        number = sheet.let(here.type, f"load {here.type}, ptr {winner}")
        wins = value > largest
        sheet.put(value.type, where(wins, value, largest).name, best)
        sheet.put(here.type, where(wins, here, number).name, winner)

    def _label(self, winner: str) -> Value:
        kind = Type("i32", self.recipe.lanes)
        number, out = self.sheet.name(f"load {kind}, ptr {winner}"), kind.of(self.recipe.out)
        if out.is_float:
            return self.sheet.let(out, f"uitofp {kind} {number} to {out}")
        bits = int(out.scalar[1:])
        if bits == 32:
            return Value(self.sheet, out, number)
        return self.sheet.let(out, f"{'trunc' if bits < 32 else 'zext'} {kind} {number} to {out}")

    def _masks(self, row: _Row, q: str) -> list[Value]:
        """For each x-phase the lanes that are within the row."""
        sheet, recipe = self.sheet, self.recipe
        masks = []
        for r in range(len(recipe.phases)):
            count = row.groups
            if not recipe.combed:
                count = self._groups(sheet.integer("sub", self.size["width"], r), recipe.stride)
            masks.append(self._below(sheet.integer("sub", count, q), recipe.lanes))
        return masks

    def _below(self, count: str, lanes: int) -> Value:
        """Lanes with a number less than ``count``."""
        return self._lanes("slt", 0, count, lanes)

    def _from(self, count: str, vector: int) -> Value:
        """Lanes with a number of at least ``count``; those of the vectors before count too."""
        return self._lanes("sge", vector * self.recipe.lanes, count, self.recipe.lanes)

    def _lanes(self, how: str, first: int, count: str, lanes: int) -> Value:
        sheet, number = self.sheet, Type("i32", lanes)
        counted = ", ".join(f"i32 {first + lane}" for lane in range(lanes))
        limit = sheet.vector(number, sheet.name(f"trunc i64 {count} to i32"))
        return sheet.let(number.of("i1"), f"icmp {how} {number} <{counted}>, {limit.name}")

    def _sums(self, row: _Row, block: _Block, f: str) -> list[list[list[Value]]]:
        """The sums of a block, ``[filter][phase][vector]``, the bias included."""
        sheet, recipe = self.sheet, self.recipe
        vector = recipe.vector
        places = []
        for number in range(recipe.filters):
            bias = self._spread("%bias", sheet.total(f, number)).name
            places.append([[sheet.variable(str(vector)) for _ in range(block.vectors)] for _ in recipe.phases])
            for place in (place for of in places[-1] for place in of):
                sheet.put(vector, bias, place)
        source = self._at(self._at(row.source, sheet.product(f, self.size["source_f"])), block.q)
        weights = self._at(row.weights, sheet.product(f, self.size["weights_f"]))
        with sheet.loop(0, sheet.item(row.lines, 0)) as n:
            line = self._at(source, sheet.item(sheet.at("i64", row.lines, 1), n))
            taps = self._at(weights, sheet.product(n, len(recipe.taps) * recipe.filters))
            self._add_line(line, taps, places, block.masks)
        return [[[sheet.let(vector, f"load {vector}, ptr {place}") for place in of] for of in each] for each in places]

    def _add_line(self, line: str, taps: str, places: list[list[list[str]]], masks: list[Value]) -> None:
        """Add one source row to the sums of a block, all its taps along x."""
        recipe = self.recipe
        voxels: list[Value] = []
        first: tuple[int, list[Value]] = (0, [])
        for number, (offset, r, _) in enumerate(recipe.taps):
            if number == 0 or offset != recipe.taps[number - 1][0]:
                voxels = self._voxels(line, offset, len(places[0][0]), masks[r : r + 1], first)
                first = first if number else (offset, voxels)
            for n in range(recipe.filters):
                weight = self._spread(taps, number * recipe.filters + n)
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
            voxels = [_shuffled(ready[u], ready[u + 1], list(range(ahead, ahead + lanes))) for u in inner]
        else:
            voxels = [self._load(self._at(line, offset + u * lanes), mask) for u in inner]
        return [*voxels, self._load(self._at(line, offset + (count - 1) * lanes), mask)]

    def _accumulate(self, weight: Value, voxel: Value, place: str) -> None:
        sheet, vector = self.sheet, self.recipe.vector
        before = sheet.let(vector, f"load {vector}, ptr {place}")
        if self.recipe.fused:
            arguments = [(vector, value.name) for value in (weight, voxel, before)]
            after = sheet.call(vector, f"llvm.fma.{vector.short}", *arguments)
        else:
            after = (weight * voxel + before).name
        sheet.put(vector, after, place)

    def _load(self, place: str, mask: list[Value]) -> Value:
        sheet, vector = self.sheet, self.recipe.vector
        size = 4 if self.recipe.compute == "float" else 8
        if not mask:
            return sheet.let(vector, f"load {vector}, ptr {place}, align {size}")
        return Value(sheet, vector, sheet.call(
            vector, f"llvm.masked.load.{vector.short}.p0", ("ptr", place), ("i32", size),
            (mask[0].type, mask[0].name), (vector, "zeroinitializer"),
        ))  # fmt: skip

    def _activated(self, value: Value, f: str) -> Value:
        if self.recipe.activation == "prelu":
            return where(value < 0.0, value * self._spread("%alpha", f), value)
        return activate(self.recipe.activation, value)

    def _rounded(self, value: Value) -> Value:
        """The stored number of a value, before its limits are looked at; floats stay as they are."""
        sheet, recipe = self.sheet, self.recipe
        if recipe.limits is None:
            return value
        if recipe.scaled:
            value = (value - self.shift) * self.scale
        rint = sheet.call(value.type, f"llvm.rint.{value.type.short}", (value.type, value.name))
        return Value(sheet, value.type, rint)

    def _clipped(self, values: list[list[Value]], block: _Block) -> list[list[Value]]:
        """``[phase][vector]`` within the limits, NaN as 0.  What changed is counted, if anything did."""
        low, high = self.recipe.limits or (0.0, 0.0)
        within, lost = [], []
        for r, of in enumerate(values):
            near = [where(value < low, low, where(value > high, high, value)) for value in of]
            changed = [value.differs(clipped) for value, clipped in zip(of, near, strict=True)]
            if block.masks:
                changed = [each & block.masks[r] for each in changed]
            if block.again is not None:
                changed = [each & self._from(block.again, u) for u, each in enumerate(changed)]
            lost += changed
            within.append([where(value.is_nan(), 0.0, clipped) for value, clipped in zip(of, near, strict=True)])
        self._count(lost)
        return within

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
            how = "fpext" if (self.recipe.compute, self.recipe.out) == ("float", "double") else "fptrunc"
            return sheet.let(out, f"{how} {value.type} {value.name} to {out}")
        bits = int(out.scalar[1:])
        how = "fptosi" if self.recipe.signed or bits < 32 else "fptoui"
        if bits >= 32:
            return sheet.let(out, f"{how} {value.type} {value.name} to {out}")
        wide = value.type.of("i32")
        number = sheet.name(f"{how} {value.type} {value.name} to {wide}")
        return sheet.let(out, f"trunc {wide} {number} to {out}")

    def _store(self, row: _Row, out: str, block: _Block, values: list[list[Value]]) -> None:
        """Store ``[phase][vector]`` so that the phases take turns."""
        for u, vectors in enumerate(zip(*values, strict=True)):
            first = self.sheet.total(block.q, u * self.recipe.lanes)
            if self.recipe.combed:
                self._store_comb(row, out, first, vectors[0])
            else:
                self._store_row(out, first, _interleaved(list(vectors)), masked=bool(block.masks))

    def _store_row(self, out: str, q: str, pieces: list[Value], *, masked: bool) -> None:
        sheet, recipe, kind = self.sheet, self.recipe, pieces[0].type
        size = _bytes(kind.scalar)
        first = sheet.product(q, recipe.stride)
        for number, piece in enumerate(pieces):
            begin = sheet.total(first, number * recipe.lanes)
            place = self._out(out, begin)
            if masked:
                mask = self._below(sheet.integer("sub", self.size["width"], begin), kind.lanes)
                sheet.call("void", f"llvm.masked.store.{kind.short}.p0", (kind, piece.name), ("ptr", place),
                           ("i32", size), (mask.type, mask.name))  # fmt: skip
            else:
                sheet.do(f"store {kind} {piece.name}, ptr {place}, align {size}")
        for line in range(0, 0 if masked or not recipe.distant else len(pieces) * recipe.lanes * size, LINE_BYTES):
            ahead = sheet.at("i8", self._out(out, first), PREFETCH_BYTES + line)
            sheet.call("void", "llvm.prefetch.p0", ("ptr", ahead), ("i32", 1), ("i32", 3), ("i32", 1))

    def _store_comb(self, row: _Row, out: str, q: str, value: Value) -> None:
        sheet, recipe, kind = self.sheet, self.recipe, value.type
        held = sheet.variable(str(kind))
        sheet.put(kind, value.name, held)
        count = sheet.least(sheet.integer("sub", row.groups, q), str(recipe.lanes))
        with sheet.loop(0, count) as lane:
            item = sheet.name(f"load {recipe.out}, ptr {sheet.at(recipe.out, held, lane)}")
            place = sheet.total(sheet.product(sheet.total(q, lane), recipe.stride), row.phase_x)
            sheet.put(recipe.out, item, self._out(out, place))

    def _groups(self, count: str, step: str | int) -> str:
        """How many steps cover ``count``."""
        sheet = self.sheet
        return sheet.integer("udiv", sheet.total(count, sheet.integer("sub", step, 1)), step)

    def _at(self, base: str, index: str | int) -> str:
        return self.sheet.at(self.recipe.compute, base, index)

    def _out(self, base: str, index: str | int) -> str:
        return self.sheet.at(self.recipe.out, base, index)

    def _spread(self, base: str, index: str | int) -> Value:
        """Item ``index`` of an array in each lane."""
        scalar = self.recipe.compute
        return self.sheet.vector(self.recipe.vector, self.sheet.name(f"load {scalar}, ptr {self._at(base, index)}"))


def _interleaved(values: list[Value]) -> list[Value]:
    """Vectors in which the values take turns: a0 b0 c0 a1 b1 c1 ..., as many as there were."""
    lanes, count = values[0].type.lanes, len(values)
    found = []
    for piece in range(count):
        places = [divmod(piece * lanes + lane, count) for lane in range(lanes)]  # (lane of a value, which value)
        mixed = values[0]
        for number, value in enumerate(values[1:], 1):
            kept = range(lanes) if number > 1 else [place for place, _ in places]
            mask = [lanes + place if of == number else kept[lane] for lane, (place, of) in enumerate(places)]
            mixed = _shuffled(mixed, value, mask)
        found.append(mixed)
    return found


def _shuffled(a: Value, b: Value, places: list[int]) -> Value:
    kind = Type(a.type.scalar, len(places))
    mask = ", ".join(f"i32 {place}" for place in places)
    text = f"shufflevector {a.type} {a.name}, {b.type} {b.name}, <{len(places)} x i32> <{mask}>"
    return a.sheet.let(kind, text)


def _bytes(scalar: str) -> int:
    return {"float": 4, "double": 8, "half": 2}.get(scalar) or int(scalar[1:]) // 8
