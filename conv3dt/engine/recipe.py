"""What do the loops of a layer depend on?  Everything that their text is written from, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from conv3dt.engine.ir import Type, Value

SIZES = (
    "source_z", "source_y", "source_f", "lines_phase", "weights_phase", "weights_f", "out_z", "out_y", "out_f",
    "height", "width", "filters", "stride_z", "stride_y", "stride_x",
)  # fmt: skip
"""The whole numbers that the loops are told, in this order; steps between items, counted in items."""


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
    def taps(self) -> list[tuple[int, int]]:
        """``(offset, phase)`` of each tap along x, in the order in which they are added."""
        return sorted((offset, r) for r, offsets in enumerate(self.phases) for offset in offsets)

    @property
    def vector(self) -> Type:
        """Neighbouring sums."""
        return Type(self.compute, self.lanes)


@dataclass(frozen=True, slots=True)
class Row:
    """Where the current row of output voxels and what it is made of lie; names of the sheet.

    Attributes:
        source, out: its first voxels, of filter 0; lines, weights: its tables.
        phase_x: which x-phase, if rows are combed.
        groups: how many voxels its longest x-phase has; full: how many voxels every phase has.
    """

    source: str
    out: str
    lines: str
    weights: str
    phase_x: str | int
    groups: str
    full: str


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring voxels of a row that are summed side by side.

    Attributes:
        q: the first; vectors: how many follow it.
        masks: for each x-phase the lanes within the row, if not all are.
        again: how many of the first lanes were computed before, if there may be some.
    """

    q: str
    vectors: int
    masks: list[Value] = field(default_factory=list)
    again: str | None = None
