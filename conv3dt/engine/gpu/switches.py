"""Which of torch's switches decide what a device computes?  They are of the whole process, and are put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_switched = Lock()
"""Held while they are as this engine wants them: batches run several engines at once."""


@contextmanager
def switched(*, tf32: bool) -> Iterator[None]:
    """Nothing is tried out, nothing is random, sums are of float32, and float32 is cut off only on request."""
    with _switched, torch.inference_mode():
        wanted = list(_wanted(tf32))
        before = [(owner, name, _found(owner, name)) for owner, name, _ in wanted]
        try:
            for owner, name, value in wanted:
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)


def _wanted(tf32: bool) -> Iterator[tuple[Any, str, Any]]:
    """Each switch's owner, name and value.

    From torch 2.9 on float32's are texts; to ask for the old ones where somebody has set the new is an error.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    yield cudnn, "enabled", True
    yield cudnn, "benchmark", False
    yield cudnn, "deterministic", True
    if hasattr(matmul, "fp32_precision"):
        yield matmul, "fp32_precision", "tf32" if tf32 else "ieee"
        yield cudnn.conv, "fp32_precision", "tf32" if tf32 else "ieee"  # type: ignore[attr-defined]
    else:
        yield matmul, "allow_tf32", tf32
        yield cudnn, "allow_tf32", tf32
    for name in ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"):
        yield matmul, name, False  # of parts of a sum, which are of 16 bits by default
    if hasattr(matmul, "allow_fp16_accumulation"):
        yield matmul, "allow_fp16_accumulation", False


def _found(owner: Any, name: str) -> Any:
    """What a switch is set to, in words that set it so again."""
    value, beside = getattr(owner, name), f"{name}_split_k"
    return (value, getattr(owner, beside)) if hasattr(owner, beside) else value
