"""How is a program for LLVM written?  A sheet to write instructions on, and values with the usual signs.

Nothing here knows of convolutions.  The language: LLVM Language Reference Manual, https://llvm.org/docs/LangRef.html.
Variables live on the stack; LLVM's first pass (``sroa``) moves them into registers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Union

BITS = {"float": 32, "double": 64, "half": 16}


@dataclass(frozen=True, slots=True)
class Type:
    """A number, or ``lanes`` of them side by side."""

    scalar: str
    lanes: int

    def __str__(self) -> str:
        return f"<{self.lanes} x {self.scalar}>"

    @property
    def short(self) -> str:
        """As it stands in names of LLVM's own functions: ``v16f32``."""
        scalar = f"f{BITS[self.scalar]}" if self.scalar in BITS else self.scalar
        return f"v{self.lanes}{scalar}"

    @property
    def bits(self) -> int:
        """Of all lanes."""
        return self.lanes * (BITS.get(self.scalar) or int(self.scalar[1:]))

    @property
    def item_bytes(self) -> int:
        """Of one lane."""
        return self.bits // self.lanes // 8

    @property
    def is_float(self) -> bool:
        """Whether its numbers are floats."""
        return self.scalar in BITS

    def of(self, scalar: str) -> Type:
        """As many lanes of another type."""
        return Type(scalar, self.lanes)

    def all(self, value: float) -> str:
        """The constant that has ``value`` in each lane."""
        if value == 0:
            return "zeroinitializer"
        return "<" + ", ".join([f"{self.scalar} {self._literal(value)}"] * self.lanes) + ">"

    def _literal(self, value: float) -> str:
        if not self.is_float:
            return str(int(value))
        if self.scalar == "float":  # written as the double that is the same number
            value = struct.unpack("f", struct.pack("f", value))[0]
        return f"0x{struct.pack('>d', value).hex().upper()}"


Operand = Union["Value", float]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """Floats, or truths, computed on a sheet; Python's signs write the instruction, numbers count as constants."""

    sheet: Sheet
    type: Type
    name: str

    def __add__(self, other: Operand) -> Value:
        return self._with("fadd", other)

    def __sub__(self, other: Operand) -> Value:
        return self._with("fsub", other)

    def __mul__(self, other: Operand) -> Value:
        return self._with("fmul", other)

    def __truediv__(self, other: Operand) -> Value:
        return self._with("fdiv", other)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float) -> Value:
        return self.constant(other) - self

    def __rtruediv__(self, other: float) -> Value:
        return self.constant(other) / self

    def __neg__(self) -> Value:
        return self.sheet.let(self.type, f"fneg {self.type} {self.name}")

    def __lt__(self, other: Operand) -> Value:
        return self._compare("olt", other)

    def __gt__(self, other: Operand) -> Value:
        return self._compare("ogt", other)

    def is_nan(self) -> Value:
        """Lanes that are not a number."""
        return self._compare("uno", self)

    def differs(self, other: Operand) -> Value:
        """Lanes that are not equal; NaN equals nothing."""
        return self._compare("une", other)

    def __or__(self, other: Value) -> Value:
        return self._with("or", other)

    def __and__(self, other: Value) -> Value:
        return self._with("and", other)

    def constant(self, value: float) -> Value:
        """A value of the same type with the same number in each lane."""
        return Value(self.sheet, self.type, self.type.all(value))

    def _operand(self, other: Operand) -> str:
        return other.name if isinstance(other, Value) else self.type.all(other)

    def _with(self, operation: str, other: Operand) -> Value:
        return self.sheet.let(self.type, f"{operation} {self.type} {self.name}, {self._operand(other)}")

    def _compare(self, how: str, other: Operand) -> Value:
        return self.sheet.let(self.type.of("i1"), f"fcmp {how} {self.type} {self.name}, {self._operand(other)}")


def where(condition: Value, yes: Operand, no: Operand) -> Value:
    """Choose lane by lane; both are computed, so there is no jump."""
    like = next(each for each in (yes, no) if isinstance(each, Value))
    sheet, kind = like.sheet, like.type
    texts = [each.name if isinstance(each, Value) else kind.all(each) for each in (yes, no)]
    return sheet.let(kind, f"select {condition.type} {condition.name}, {kind} {texts[0]}, {kind} {texts[1]}")


def shuffled(a: Value, b: Value, places: list[int]) -> Value:
    """Lanes of two vectors by their numbers, those of ``b`` counted after those of ``a``."""
    kind = Type(a.type.scalar, len(places))
    mask = ", ".join(f"i32 {place}" for place in places)
    text = f"shufflevector {a.type} {a.name}, {b.type} {b.name}, <{len(places)} x i32> <{mask}>"
    return a.sheet.let(kind, text)


def interleaved(values: list[Value]) -> list[Value]:
    """Vectors in which the values take turns: a0 b0 c0 a1 b1 c1 ..., as many as there were."""
    lanes, count = values[0].type.lanes, len(values)
    found = []
    for piece in range(count):
        places = [divmod(piece * lanes + lane, count) for lane in range(lanes)]  # (lane of a value, which value)
        mixed = values[0]
        for number, value in enumerate(values[1:], 1):
            kept = range(lanes) if number > 1 else [place for place, _ in places]
            mask = [lanes + place if of == number else kept[lane] for lane, (place, of) in enumerate(places)]
            mixed = shuffled(mixed, value, mask)
        found.append(mixed)
    return found


@dataclass(slots=True)
class Sheet:
    """The body of one function, written from top to bottom; whole numbers and addresses are texts (``%7``)."""

    lines: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    declared: set[str] = field(default_factory=set)
    helpers: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def fresh(self) -> str:
        """A name not used before."""
        self.count += 1
        return f"v{self.count}"

    def do(self, text: str) -> None:
        """Write an instruction that gives nothing."""
        self.lines.append(f"  {text}")

    def name(self, text: str) -> str:
        """Write an instruction; return the name of what it gives."""
        name = f"%{self.fresh()}"
        self.do(f"{name} = {text}")
        return name

    def let(self, kind: Type, text: str) -> Value:
        """Write an instruction that gives a vector."""
        return Value(self, kind, self.name(text))

    def integer(self, operation: str, a: str | int, b: str | int) -> str:
        """Write an operation on whole numbers."""
        return self.name(f"{operation} i64 {a}, {b}")

    def total(self, a: str | int, b: str | int) -> str:
        """Return a + b."""
        return self.integer("add", a, b)

    def product(self, a: str | int, b: str | int) -> str:
        """Return a * b."""
        return self.integer("mul", a, b)

    def least(self, a: str, b: str) -> str:
        """Return the lesser of two."""
        less = self.name(f"icmp slt i64 {a}, {b}")
        return self.name(f"select i1 {less}, i64 {a}, i64 {b}")

    def at(self, scalar: str, base: str, index: str | int) -> str:
        """The address of item ``index`` of an array."""
        return self.name(f"getelementptr {scalar}, ptr {base}, i64 {index}")

    def item(self, base: str, index: str | int) -> str:
        """Item ``index`` of an array of whole numbers."""
        return self.name(f"load i64, ptr {self.at('i64', base, index)}, align 8")

    def variable(self, kind: str) -> str:
        """A place on the stack."""
        name = f"%{self.fresh()}"
        self.variables.append(f"  {name} = alloca {kind}")
        return name

    def put(self, kind: object, value: str | int, place: str) -> None:
        """Write to a place."""
        self.do(f"store {kind} {value}, ptr {place}")

    def call(self, kind: object, function: str, *arguments: tuple[object, object]) -> str:
        """Call a function, each argument with its type; it is declared if that is the first time."""
        self.declared.add(f"declare {kind} @{function}({', '.join(str(of) for of, _ in arguments)})")
        text = f"call {kind} @{function}({', '.join(f'{of} {name}' for of, name in arguments)})"
        if kind == "void":
            self.do(text)
            return ""
        return self.name(text)

    def lanewise(self, function: str, value: Value) -> Value:
        """Call a function of one number, such as ``expf``, for each lane."""
        helper = f"{function}_{value.type.short}"
        if helper not in self.helpers:
            sheet = _lane_by_lane(function, value.type)
            self.declared |= sheet.declared
            self.helpers[helper] = sheet.function(f"internal {value.type} @{helper}({value.type} %x) noinline")
        return self.let(value.type, f"call {value.type} @{helper}({value.type} {value.name})")

    def vector(self, kind: Type, scalar: str) -> Value:
        """The vector that has a number of the sheet in each lane."""
        one = self.name(f"insertelement {kind} poison, {kind.scalar} {scalar}, i64 0")
        return self.let(kind, f"shufflevector {kind} {one}, {kind} poison, <{kind.lanes} x i32> zeroinitializer")

    def spread(self, kind: Type, base: str, index: str | int) -> Value:
        """Item ``index`` of an array in each lane."""
        return self.vector(kind, self.name(f"load {kind.scalar}, ptr {self.at(kind.scalar, base, index)}"))

    def steps(self, count: str, step: str | int) -> str:
        """How many steps cover ``count``."""
        return self.integer("udiv", self.total(count, self.integer("sub", step, 1)), step)

    def lanes(self, how: str, first: int, count: str, lanes: int) -> Value:
        """Lanes whose number, counted from ``first``, is less (``slt``) than ``count`` or at least that (``sge``)."""
        number = Type("i32", lanes)
        counted = ", ".join(f"i32 {first + lane}" for lane in range(lanes))
        limit = self.vector(number, self.name(f"trunc i64 {count} to i32"))
        return self.let(number.of("i1"), f"icmp {how} {number} <{counted}>, {limit.name}")

    def function(self, head: str) -> str:
        """The sheet as the body of a function."""
        return "\n".join([f"define {head} #0 {{", *self.variables, *self.lines, "}"])

    @contextmanager
    def loop(self, begin: str | int, end: str | int, step: int = 1) -> Iterator[str]:
        """Count from ``begin`` while less than ``end``; yields the name of the number."""
        counter, label = self.variable("i64"), self.fresh()
        self.put("i64", begin, counter)
        self.do(f"br label %{label}.head")
        self.lines.append(f"{label}.head:")
        number = self.name(f"load i64, ptr {counter}")
        more = self.name(f"icmp slt i64 {number}, {end}")
        self.do(f"br i1 {more}, label %{label}.body, label %{label}.end")
        self.lines.append(f"{label}.body:")
        yield number
        self.put("i64", self.total(number, step), counter)
        self.do(f"br label %{label}.head")
        self.lines.append(f"{label}.end:")

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """What follows happens only if ``condition`` is true."""
        label = self.fresh()
        self.do(f"br i1 {condition}, label %{label}.then, label %{label}.end")
        self.lines.append(f"{label}.then:")
        yield
        self.do(f"br label %{label}.end")
        self.lines.append(f"{label}.end:")


def _lane_by_lane(function: str, kind: Type) -> Sheet:
    """The body of a function that calls another for each lane of ``%x``: a loop, for many places call it."""
    sheet, scalar = Sheet(), kind.scalar
    place = sheet.variable(str(kind))
    sheet.put(kind, "%x", place)
    with sheet.loop(0, kind.lanes) as lane:
        item = sheet.at(scalar, place, lane)
        sheet.put(scalar, sheet.call(scalar, function, (scalar, sheet.name(f"load {scalar}, ptr {item}"))), item)
    sheet.do(f"ret {kind} {sheet.name(f'load {kind}, ptr {place}')}")
    return sheet


def module(functions: dict[str, Sheet], bits: int) -> str:
    """Return functions, by their heads, and all they call as one text; their vectors are up to ``bits`` wide."""
    declared = sorted(set().union(*(sheet.declared for sheet in functions.values())))
    helpers = {name: text for sheet in functions.values() for name, text in sheet.helpers.items()}
    # Without the attributes, LLVM splits the widest vectors of some processors in two.
    widths = f'"min-legal-vector-width"="{bits}" "prefer-vector-width"="{bits}"'
    bodies = [sheet.function(head) for head, sheet in functions.items()]
    return "\n".join([*declared, *helpers.values(), *bodies, f"attributes #0 = {{ nounwind {widths} }}", ""])
