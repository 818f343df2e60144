"""How does the text of the loops become machine code?  By numba, once; afterwards `machine` loads what it made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np

from conv3dt.engine import loops, machine
from conv3dt.engine.activation import Function, formula
from conv3dt.engine.finish import Storage, float_limits

Loops = Callable[..., int]


@lru_cache(maxsize=64)
def compiled(recipe: loops.Recipe, dtype: str, out: str) -> Loops:
    """Return the loops of a recipe as machine code, kept on disk between runs where there is a place.

    Args:
        recipe: what the loops are; dtype: in which they compute; out: the type they write.

    Returns:
        ``(source, weights, bias, alpha, scale, shift, sums, best, winner, out, begin, end) -> clipped``; arrays
        C-contiguous.  Threads may call it side by side.
    """
    text, function = loops.write(recipe), formula(recipe.activation)
    made_from = f"{text} {recipe} {loops.tables(recipe)} {dtype} {out} {_code(function)} {machine.identity()}"
    key = f"{loops.NAME}-{sha256(made_from.encode()).hexdigest()[:24]}"
    signature = _signature(dtype, out)
    found = machine.kept(key, signature)
    if found is not None:
        return found
    known = names(recipe, np.dtype(dtype))
    made = compile_entry(text, known, function, signature)
    if not machine.can_stand_alone(made.needs):
        return compile_for_now(text, known, function)
    machine.keep(key, made.symbol, made.code)
    return machine.loaded(made.symbol, made.code, signature)


@dataclass(frozen=True, slots=True)
class Made:
    """What numba made: object code, the name of the function in it, and the names it needs."""

    code: bytes
    symbol: str
    needs: tuple[str, ...]


def names(recipe: loops.Recipe, kind: np.dtype[Any]) -> dict[str, Any]:
    """Return what the text of the loops reads by name, but for ``activate``."""
    low, high = float_limits(Storage(_integer_for(recipe.limits)), kind)
    tables = {name: np.array(numbers) for name, numbers in loops.tables(recipe).items()}
    return {"np": np, "low": low, "high": high, **tables}


def compile_entry(text: str, known: dict[str, Any], function: Function | None, signature: machine.Signature) -> Made:
    """Compile the loops behind an entry that takes pointers and extents, as C would.

    numba's own way to keep code needs numba to load it.  Its names that are not public are used here alone.
    """
    from numba import carray, cfunc, njit, types

    known = dict(known) | {"carray": carray}
    if function is not None:
        known["activate"] = njit(error_model="numpy")(function)
    head, body = text.split("\n", 1)
    parameters, unpacked, native = [], [], []
    for name, argument in zip(
        head[head.index("(") + 1 : head.index(")")].split(", "), signature.arguments, strict=True
    ):
        if isinstance(argument, tuple):
            extents = [f"{name}_{axis}" for axis in range(argument[1])]
            parameters += [f"{name}_at", *extents]
            unpacked.append(f"    {name} = carray({name}_at, ({', '.join(extents)},))\n")
            native += [types.CPointer(getattr(types, argument[0])), *[types.intp] * argument[1]]
        else:
            parameters.append(name)
            native.append(getattr(types, argument))
    exec(f"def entry({', '.join(parameters)}):\n{''.join(unpacked)}{body}", known)
    made = cfunc(types.intp(*native), error_model="numpy")(known["entry"])
    library = made._library
    needs = tuple(each.name for each in library._final_module.functions if each.is_declaration)
    return Made(library._get_compiled_object(), made.native_name.removeprefix("cfunc."), needs)


def compile_for_now(text: str, known: dict[str, Any], function: Function | None) -> Loops:
    """Compile the loops as numba does for anybody; such code cannot be kept."""
    from numba import njit

    known = dict(known)
    if function is not None:
        known["activate"] = njit(function)
    exec(text, known)
    compiled: Loops = njit(nogil=True)(known[loops.NAME])
    return compiled


def _signature(dtype: str, out: str) -> machine.Signature:
    rows = (dtype, 2)
    return machine.Signature(
        (
            (dtype, 4),
            (dtype, 3),
            (dtype, 1),
            (dtype, 1),
            dtype,
            dtype,
            rows,
            rows,
            ("int32", 2),
            (out, 4),
            "intp",
            "intp",
        )
    )


def _code(function: Function | None) -> str:
    """What an activation is made of, beside its numbers."""
    if function is None:
        return ""
    code = function.__code__
    return f"{code.co_code.hex()} {code.co_consts} {code.co_names}"


def _integer_for(limits: tuple[int, int] | None) -> np.dtype[np.generic]:
    kinds = (np.dtype(f"{sign}{size}") for sign in "iu" for size in (1, 2, 4, 8))
    return next((kind for kind in kinds if Storage(kind).limits == limits), np.dtype(np.float32))
