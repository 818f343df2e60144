"""Which of many named tensors is the kernel, and how do its axes run?  Names and shapes only, of any library's.

PyTorch calls a layer's tensors ``up.weight`` and ``up.bias``, Keras ``up/kernel`` and ``up/bias``.  Forward layers
have weights of five axes too; where the bias goes with the first axis only, it is one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from conv3dt.errors import DataError, InputMissingError
from conv3dt.weights.foreign import groups_by_bias
from conv3dt.weights.kernel import listed

Shape = tuple[int, ...]
LAST = re.compile(r"(?:.*[./])?(?P<last>[^./]+)", re.S)
BARE = ("kernel", "weights", "weight", "w")
"""Names under which three axes are a kernel and not, say, a weight of Conv1d."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A kernel and its bias by their names, how its axes run (``keras`` or ``torch``), and what told so."""

    kernel: str
    bias: str | None
    layout: str
    why: str


def choose(shapes: Mapping[str, Shape], wanted: str | None, path: str, layout: str | None, usual: str) -> Choice:
    """Return the tensor of that name, or the only one that can be a transposed kernel.

    Args:
        shapes: of all tensors, by name.
        wanted: the tensor's name, or that of its layer; None for the only one.
        path: the file, for errors.
        layout: ``keras`` or ``torch`` for all, if the caller knows; usual: of those whose names do not tell.

    Raises:
        InputMissingError: nothing of that name.
        DataError: there is none, or several and none is named, or it cannot be a transposed kernel.
    """
    where, wanted = f"weights {path}", (wanted or "").strip("/")
    kernels = {name: _choice(name, shapes, layout, usual) for name, shape in shapes.items() if _may_be(name, shape)}
    candidates = {name: choice for name, choice in kernels.items() if not _refusal(choice, shapes)}
    if wanted:
        named = [choice for name, choice in kernels.items() if wanted in (name, owner(name))]
        if not named:
            raise InputMissingError(f"{where}: no kernel {wanted}; there are {listed([*candidates])}")
        if len(named) == 1 and (refusal := _refusal(named[0], shapes)):
            raise DataError(f"{where}: {named[0].kernel} {refusal}")
        candidates = {choice.kernel: choice for choice in named}
    if len(candidates) > 1:
        raise DataError(f"{where}: holds several kernels: {listed([*candidates])}; name one as {path}:/name")
    if candidates:
        return next(iter(candidates.values()))
    if kernels:
        name, choice = next(iter(kernels.items()))
        raise DataError(f"{where}: holds no transposed kernel: {name} {_refusal(choice, shapes)}")
    raise DataError(f"{where}: holds no kernel of five axes; its tensors are {listed([*shapes], 5)}")


def owner(name: str) -> str:
    """Return the layer that a tensor's name belongs to.

    >>> owner("decoder.up.weight"), owner("up/kernel:0"), owner("weight")
    ('decoder.up', 'up', '')
    """
    return name[: len(name) - len(_last(name))].rstrip("./")


def _last(name: str) -> str:
    found = LAST.fullmatch(name)
    return found["last"] if found else ""


def _may_be(name: str, shape: Shape) -> bool:
    return len(shape) == 5 or (len(shape) == 3 and name in BARE)


def _choice(name: str, shapes: Mapping[str, Shape], layout: str | None, usual: str) -> Choice:
    last = _last(name)
    beside = name[: len(name) - len(last)] + ("bias:0" if last.endswith(":0") else "bias")
    bias = beside if len(shapes.get(beside, (1, 1))) <= 1 and beside != name else None
    if layout is not None:
        return Choice(name, bias, layout, "as asked for")
    if last.removesuffix(":0").endswith("kernel"):
        return Choice(name, bias, "keras", f"{name} is a name of Keras's")
    if last.endswith("weight"):
        return Choice(name, bias, "torch", f"{name} is a name of PyTorch's")
    return Choice(name, bias, usual, f"usual in such a file, {name} does not tell")


def _refusal(choice: Choice, shapes: Mapping[str, Shape]) -> str:
    """Why a tensor cannot be a transposed kernel; empty if it can."""
    stem = choice.kernel[: len(choice.kernel) - len(_last(choice.kernel))]
    if f"{stem}weight_g" in shapes or ".parametrizations." in f".{choice.kernel}":
        return "is one of two parts of a weight (weight norm); fold them in PyTorch (remove_weight_norm) and save again"
    if choice.layout == "torch" and len(shapes[choice.kernel]) == 5 and choice.bias is not None:
        size = shapes[choice.bias][0] if shapes[choice.bias] else 1
        if groups_by_bias(shapes[choice.kernel], size) is None:
            return (
                f"of shape {shapes[choice.kernel]} with a bias of {size} is a forward Conv3d's, not a "
                f"ConvTranspose3d's (channels, filters / groups, k1, k2, k3)"
            )
    return ""
