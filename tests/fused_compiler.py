"""Compile texts of the fused kernel for real GPUs, none of which need be there: ``python -m tests.fused_compiler``.

In a process of its own: where the tests run, Triton interprets.  Prints what each text became, as JSON.
"""

from __future__ import annotations

import json
import re
import sys
from math import prod
from typing import Any

import numpy as np

from conv3dt.engine.gpu.fused import loaded
from conv3dt.engine.gpu.fused_text import Recipe, kernel_text
from conv3dt.geometry import Axis
from conv3dt.layer.activation import ACTIVATIONS, activation_text

ALIGNED = ("source", "out", "table", "ox")
"""Arguments of which Triton sees that they are multiples of 16, where volumes are even, as most are."""


def recipes() -> dict[str, tuple[Recipe, str]]:
    """Every kind of text, by name, with the type of what is stored."""

    def recipe(
        kernel: int, stride: int, *, one: bool = True, compute: str = "fp32", activation: str = "linear",
        bias: bool = False, integer: bool = False,
    ) -> Recipe:  # fmt: skip
        axes = tuple(Axis(kernel, stride, padding="same") for _ in range(3))
        numbers = np.random.default_rng(0).normal(size=kernel**3).astype(np.float32)
        taps = tuple(float(value) for value in numbers) if one else None
        return Recipe(axes, taps, compute, activation, bias, integer)  # type: ignore[arg-type]

    found = {
        "k2 s2": (recipe(2, 2), "fp32"),
        "k3 s2": (recipe(3, 2), "fp32"),
        "k4 s2": (recipe(4, 2), "fp32"),
        "k8 s2": (recipe(8, 2), "fp32"),
        "k3 s3": (recipe(3, 3), "fp32"),
        "k8 s4": (recipe(8, 4), "fp32"),
        "k3 s1": (recipe(3, 1), "fp32"),
        "k1 s2": (recipe(1, 2), "fp32"),
        "channels": (recipe(3, 2, one=False, bias=True), "fp32"),
        "channels s4": (recipe(4, 4, one=False), "fp32"),
        "float64": (recipe(4, 2, one=False, compute="fp64"), "fp64"),
        "int32": (recipe(3, 2, one=False, compute="fp64", integer=True), "i32"),
        "int16": (recipe(4, 2, bias=True, integer=True), "i16"),
        "uint8": (recipe(4, 2, integer=True), "u8"),
        "prelu": (recipe(2, 2, one=False, activation="prelu"), "fp32"),
        "relu, clipped": (recipe(2, 2, activation="relu(alpha=0.1, max_value=6.0, threshold=0.5)"), "fp32"),
        "gelu, tanh": (recipe(2, 2, activation="gelu(approximate=1.0)"), "fp32"),
    }
    for name in ACTIVATIONS:
        if "softmax" not in name:
            found[name] = recipe(2, 2, activation=activation_text(name), bias=True), "fp32"
    return found


def compiled(recipe: Recipe, stored: str, architecture: int) -> dict[str, Any]:
    """Compile one text; return how much it needs."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = loaded(kernel_text(recipe))
    names = list(kernel.arg_names)
    width = 128
    constants = {
        "BX": width, "CELLS": recipe.cells, "STRIDE": recipe.strides[2],
        "TAPS": prod(axis.kernel for axis in recipe.axes),
    }  # fmt: skip
    pointers = dict.fromkeys(("source", "table", "bias", "alpha", "numbers"), f"*{recipe.compute}")
    kinds = pointers | {"out": f"*{stored}", "lost": "*i32"} | dict.fromkeys(constants, "constexpr")
    made = triton.compile(
        ASTSource(
            fn=kernel,
            signature={name: kinds.get(name, "i32") for name in names},
            constexprs={(names.index(name),): value for name, value in constants.items()},
            attrs={(names.index(name),): [["tt.divisibility", 16]] for name in ALIGNED},
        ),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": width // 32, "enable_fp_fusion": False},
    )
    text = made.asm["ptx"]
    return {
        "stores": sorted(set(re.findall(r"st\.global\S*", text))),
        "loads": len(re.findall(r"\bld\.global", text)),
        "fused": len(re.findall(r"\bfma\.rn", text)),
        "local": len(re.findall(r"\b(?:ld|st)\.local", text)),
        "shared": made.metadata.shared,
        "bytes": len(made.asm["cubin"]),
    }


if __name__ == "__main__":
    wanted = recipes()
    found = {name: compiled(*wanted[name], int(sys.argv[1])) for name in (sys.argv[2:] or wanted)}
    print(json.dumps(found))
