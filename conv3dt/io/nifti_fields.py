"""What does each field of a NIfTI header say, in a few words?  And where does a header contradict itself?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.affine import spacing

Tell = Callable[[Any], str]

MOST_TEXT = 60
APART = 0.01
"""Voxels by which qform and sform, and parts by which pixdim and sform, may differ before it is worth saying."""


def changed(before: str, after: str) -> bool:
    """Whether it is a loss if this was said of the scan and not of its grid: any other text is."""
    return bool(before)


def emptied(before: str, after: str) -> bool:
    """Whether it is a loss if this was said of the grid, and is said again of another: only silence is."""
    return bool(before) and not after


def applied(before: str, after: str) -> bool:
    """It is no loss if the voxels were changed by it."""
    return False


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that a header says.

    Attributes:
        name: what it is called.
        parts: the fields that say it, as nibabel names them; ``name[n]`` and ``name[first:stop]`` are parts of a field.
        tell: says in a few words what a header has there; an empty text where it says nothing.
        why: the reason if it changes.
        is_lost: whether a change, from one text to another, loses something.
        placed: whether a reference grid decides it, where there is one.
    """

    name: str
    parts: tuple[str, ...]
    tell: Tell
    why: str
    is_lost: Callable[[str, str], bool] = changed
    placed: bool = False

    def same(self, before: Any, after: Any) -> bool:
        """Whether two headers hold the same, bit for bit in the byte order and width of the second."""
        pairs = [(_values(before, part), _values(after, part)) for part in self.parts]
        return all(_identical(old, new) for old, new in pairs)


def _values(header: Any, part: str) -> NDArray[Any] | None:
    """Numbers or text as NumPy holds them; None where this kind of header has no such field."""
    name, _, index = part.rstrip("]").partition("[")
    if name not in header.keys():
        return None
    first, _, stop = index.partition(":")
    values = np.atleast_1d(header[name])
    return values[int(first) : int(stop or int(first) + 1)] if index else values


def _identical(old: NDArray[Any] | None, new: NDArray[Any] | None) -> bool:
    if old is None or new is None:
        return old is new
    return bool(old.astype(new.dtype).tobytes() == new.tobytes())


def number(value: Any) -> str:
    """Return a number as short text."""
    return f"{float(value):.6g}"


def join(values: Iterable[Any]) -> str:
    """Return numbers as text."""
    return ", ".join(map(number, values))


def short(text: str) -> str:
    """Return one line of a length to be read at a glance; what cannot be printed stands as in Python's text."""
    line = text if text.isprintable() else repr(text)[1:-1]
    return line if len(line) <= MOST_TEXT else f"{line[: MOST_TEXT - 3]}..."


# What fields say.


def _numbers(*names: str) -> Tell:
    """Numbers; nothing where all are zero, or there is no such field."""

    def tell(header: Any) -> str:
        values = [float(header[name]) for name in names if name in header.keys()]
        return join(values) if any(values) else ""

    return tell


def _text(*names: str) -> Tell:
    def tell(header: Any) -> str:
        raw = [header[name].tobytes().rstrip(b"\0") for name in names if name in header.keys()]
        return ", ".join(short(text.decode("latin-1")) for text in raw if text)

    return tell


def _dim(header: Any) -> str:
    rank = int(header["dim"][0])
    return "x".join(str(int(n)) for n in header["dim"][1 : rank + 1])


def _datatype(header: Any) -> str:
    return str(header.get_data_dtype().name)


def scaling(header: Any) -> str:
    """Slope and intercept; nothing where stored numbers are the values."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    inter = inter if np.isfinite(inter) else 0.0
    return "" if not np.isfinite(slope) or slope == 0 or (slope, inter) == (1, 0) else join((slope, inter))


def _code(name: str) -> Tell:
    meanings = {1: "1 (scanner)", 2: "2 (aligned)", 3: "3 (Talairach)", 4: "4 (MNI)"}

    def tell(header: Any) -> str:
        code = int(header[name])
        return meanings.get(code, str(code)) if code else ""

    return tell


def _qform(header: Any) -> str:
    turn = [float(header[f"quatern_{letter}"]) for letter in "bcd"]
    offset = [float(header[f"qoffset_{letter}"]) for letter in "xyz"]
    idle = int(header["qform_code"]) == 0
    if idle and not any(turn) and not any(offset):
        return ""
    text = f"quaternion {join(turn)}, offset {join(offset)}, qfac {number(header['pixdim'][0])}"
    return f"{text} (not in use)" if idle else text


def _sform(header: Any) -> str:
    rows = [header[f"srow_{letter}"] for letter in "xyz"]
    idle = int(header["sform_code"]) == 0
    if idle and not any(map(np.any, rows)):
        return ""
    text = "; ".join(" ".join(map(number, row)) for row in rows)
    return f"{text} (not in use)" if idle else text


def _sizes(header: Any) -> str:
    return join(header["pixdim"][1:4])


def _step(axis: int) -> Tell:
    """The step of a further axis; nothing where it has no voxels and the usual filling."""

    def tell(header: Any) -> str:
        step, used = float(header["pixdim"][axis]), int(header["dim"][0]) >= axis
        unit = {8: " s", 16: " ms", 24: " us"}.get(int(header["xyzt_units"]) & 56, "") if axis == 4 else ""
        return "" if step == 0 or (step == 1 and not used) else number(step) + unit

    return tell


def _units(header: Any) -> str:
    code = int(header["xyzt_units"])
    space = {0: "", 1: "m", 2: "mm", 3: "um"}.get(code & 7, f"code {code & 7}")
    time = {0: "", 8: "s", 16: "ms", 24: "us", 32: "Hz", 40: "ppm", 48: "rad/s"}.get(code & 56, f"code {code & 56}")
    return ", ".join(filter(None, (space, time, f"code {code}" if code & ~63 else "")))


def _dim_info(header: Any) -> str:
    code = int(header["dim_info"])
    axes = {"frequency": code & 3, "phase": code >> 2 & 3, "slice": code >> 4 & 3, "code": code if code > 63 else 0}
    return ", ".join(f"{name} {axis}" for name, axis in axes.items() if axis)


def _slices(header: Any) -> str:
    code, first, last = (int(header[f"slice_{name}"]) for name in ("code", "start", "end"))
    duration = float(header["slice_duration"])
    if not (code or first or last or duration):
        return ""
    return f"code {code}, slices {first} to {last}, {number(duration)} each"


def _analyze(header: Any) -> str:
    """What NIfTI-1 has from Analyze and calls unused, where there is more in it than the usual filling."""
    usual = {"extents": (0, 16384), "session_error": (0,), "regular": (b"", b"r", b"0"), "glmax": (0,), "glmin": (0,)}
    found = {name: header[name].item() for name in usual if name in header.keys()}
    return ", ".join(f"{name} {value}" for name, value in found.items() if value not in usual[name])


# All of them.

_GRID = "said of the output's grid"
_VALUES = "said of values that the layer replaced"
_PLACE = "NIfTI-2 has no such field"
_TIMES = "slices of the output were not acquired and have no times"


def _grid(name: str, parts: tuple[str, ...], tell: Tell, why: str = _GRID, *, placed: bool = True) -> Field:
    return Field(name, parts, tell, why, emptied, placed)


def _scan(*parts: str, tell: Tell | None = None, why: str = "") -> Field:
    return Field(", ".join(parts), parts, tell or _numbers(*parts), why)


FIELDS = (
    _grid("dim", ("dim",), _dim, "what the layer makes of it", placed=False),
    _grid("datatype", ("datatype", "bitpix"), _datatype, "the type of the output", placed=False),
    Field(
        "scl_slope, scl_inter",
        ("scl_slope", "scl_inter"),
        scaling,
        "applied on reading; stored numbers are new",
        applied,
    ),
    _grid("qform_code", ("qform_code",), _code("qform_code")),
    _grid(
        "qform",
        ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "pixdim[0]"),
        _qform,
    ),
    _grid("sform_code", ("sform_code",), _code("sform_code")),
    _grid("sform", ("srow_x", "srow_y", "srow_z"), _sform),
    _grid("pixdim[1..3]", ("pixdim[1:4]",), _sizes),
    *(_grid(f"pixdim[{n}]", (f"pixdim[{n}]",), _step(n), "axes stand elsewhere", placed=False) for n in range(4, 8)),
    _grid("xyzt_units", ("xyzt_units",), _units),
    _scan("dim_info", tell=_dim_info, why="axes stand elsewhere"),
    _scan("slice_code", "slice_start", "slice_end", "slice_duration", tell=_slices, why=_TIMES),
    _scan("intent_code", why=_VALUES),
    _scan("intent_p1", "intent_p2", "intent_p3", why=_VALUES),
    _scan("intent_name", tell=_text("intent_name"), why=_VALUES),
    _scan("cal_min", "cal_max", why=_VALUES),
    _scan("toffset"),
    _scan("descrip", tell=_text("descrip")),
    _scan("aux_file", tell=_text("aux_file"), why=_VALUES),
    _scan("data_type", "db_name", tell=_text("data_type", "db_name"), why=_PLACE),
    _scan("extents", "session_error", "regular", "glmax", "glmin", tell=_analyze, why=_PLACE),
    _scan("unused_str", tell=_text("unused_str")),
)
"""All that a header says but its own size, its magic and the offset of the first voxel, which follow from its kind."""


# What a header says twice.


def contradictions(header: Any) -> Iterator[tuple[str, str, str]]:
    """Yield what a header says in two ways that differ: its name, by how much, and what is believed."""
    if int(header["sform_code"]) <= 0:
        return
    matrix = np.eye(4)
    matrix[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    if not np.isfinite(matrix).all():
        return
    sizes, stated = spacing(matrix), [abs(float(size)) for size in header["pixdim"][1:4]]
    if int(header["qform_code"]) > 0 and (distance := _distance(header, matrix)) > APART * min(sizes):
        text = f"{distance:.3g} mm apart at the farthest corner"
        yield "qform against sform", text, "they place voxels differently; the sform is believed"
    if any(abs(a - b) > APART * b for a, b in zip(stated, sizes, strict=True)):
        text = f"{join(stated)} against {join(sizes)}"
        yield "pixdim against sform", text, "voxel sizes differ; those of the sform are believed"


def _distance(header: Any, matrix: NDArray[np.float64]) -> float:
    """How far apart qform and sform put the centre of a corner voxel, at most."""
    from conv3dt.io.nifti_header import qform

    ends = [(0, max(int(n), 1) - 1) for n in header["dim"][1:4]]
    corners = np.array([(*corner, 1.0) for corner in product(*ends)])
    return float(np.linalg.norm(corners @ (qform(header) - matrix).T, axis=1).max())
