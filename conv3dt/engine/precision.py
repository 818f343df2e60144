"""In which numbers do tensor cores multiply, and how far off may the result be?

Sums are of float32 in all of them.  Few channels are multiplied in float32 whatever is asked for: there the memory
sets the pace, and less precision would gain nothing.
"""

from __future__ import annotations

from conv3dt.layer.config import check_choice

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")

UNITS = {"fp32": 2.0**-24, "tf32": 2.0**-10, "bf16": 2.0**-8, "fp16": 2.0**-11}
"""Largest relative error of a factor: tf32 is cut off behind 10 bits, the others are rounded to 24, 8 and 11."""

RESULTS = {"fp32": 0.0, "tf32": 0.0, "bf16": 2.0**-8, "fp16": 2.0**-11}
"""The same of a sum that the library gives back in the type of its factors."""

LEAST = {"fp32": 0.0, "tf32": 0.0, "bf16": 0.0, "fp16": 2.0**-25}
"""Largest absolute error of a factor too small for the type: fp16 has no numbers between 0 and 2^-24."""


def check_precision(name: str) -> str:
    """Return the name of a precision.

    Raises:
        ArgumentError: there is none of that name.
    """
    check_choice("precision", name, PRECISIONS)
    return name


def cut_off(precision: str) -> float:
    """Return how far a result may be off for its factors and itself, as a part of the magnitude of its products.

    >>> cut_off("fp32"), cut_off("bf16") < 0.012
    (0.0, True)
    """
    if precision == "fp32":
        return 0.0
    unit = UNITS[precision]
    return (1 + unit) ** 2 * (1 + RESULTS[precision]) - 1
