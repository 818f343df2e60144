"""What do the activations compute on a GPU?  The formulas of `activation` once more, in Triton, on float32.

Where a difference would cancel, a short series stands in for it.  A comparison with NaN is false, so each choice is
written such that NaN takes the side that keeps it.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def relu(x, alpha: tl.constexpr, max_value: tl.constexpr, threshold: tl.constexpr):
    """x above the threshold, then clipped to 0 .. max_value if there is one; alpha * (x - threshold) below."""
    above = x
    if max_value is not None:
        above = tl.where(x < 0.0, 0.0, tl.where(x > max_value, max_value, x))
    if alpha == 0.0:
        below = tl.where(x == x, 0.0, x)
    else:
        below = alpha * (x - threshold)
    return tl.where(x > threshold, above, below)


@triton.jit
def relu6(x):
    """min(max(x, 0), 6)."""
    return tl.where(x < 0.0, 0.0, tl.where(x > 6.0, 6.0, x))


@triton.jit
def leaky_relu(x, alpha):
    """Slope alpha below zero."""
    return tl.where(x < 0.0, alpha * x, x)


@triton.jit
def exp(x):
    """e^x as 2^n * e^r with r below ln 2: the device's own rounds x / ln 2, and is as many units off as x is large.

    Cody and Waite (1980): ln 2 in two parts, of which n times the first is exact.
    """
    n = tl.floor(x * 1.4426950408889634)
    rest = (x - n * 0.693359375) + n * 0.00021219444005469057
    return tl.where(tl.abs(x) < 104.0, tl.exp2(n) * tl.exp(rest), tl.exp(x))


@triton.jit
def expm1(x):
    """e^x - 1, for x below 0."""
    series = 1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * (0.008333334 + x * 0.0013888889))))
    return tl.where(x > -0.3, x * series, exp(x) - 1.0)


@triton.jit
def elu(x, alpha: tl.constexpr):
    """alpha * (e^x - 1) below zero."""
    return tl.where(x < 0.0, alpha * expm1(x), x)


@triton.jit
def selu(x):
    """Klambauer et al. (2017)."""
    return 1.05070098735548 * tl.where(x < 0.0, 1.67326324235438 * expm1(x), x)


@triton.jit
def softplus(x):
    """log(1 + e^x), without overflow."""
    power = exp(-tl.abs(x))
    series = power * (1.0 + power * (-0.5 + power * (0.33333334 - power * 0.25)))
    return tl.where(x < 0.0, 0.0, x) + tl.where(power < 0.02, series, tl.log(1.0 + power))


@triton.jit
def softsign(x):
    """x / (1 + |x|)."""
    return x / (1.0 + tl.abs(x))


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x), without overflow."""
    power = exp(-tl.abs(x))
    return tl.where(x < 0.0, power, 1.0) / (1.0 + power)


@triton.jit
def swish(x):
    """x * sigmoid(x)."""
    return x * sigmoid(x)


@triton.jit
def tanh(x):
    """The hyperbolic tangent."""
    square = x * x
    series = x * (1.0 + square * (-0.33333334 + square * (0.13333334 + square * (-0.05396825 + square * 0.021869488))))
    power = exp(-2.0 * tl.abs(x))
    far = (1.0 - power) / (1.0 + power)
    return tl.where(tl.abs(x) < 0.25, series, tl.where(x < 0.0, -far, far))


@triton.jit
def gelu(x, approximate: tl.constexpr):
    """x times the normal distribution's integral: by erf, or by Hendrycks and Gimpel's tanh."""
    if approximate != 0.0:
        return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def exponential(x):
    """e^x."""
    return exp(x)


@triton.jit
def hard_sigmoid(x, slope: tl.constexpr):
    """clip(slope * x + 0.5, 0, 1)."""
    y = slope * x + 0.5
    return tl.where(y < 0.0, 0.0, tl.where(y > 1.0, 1.0, y))


@triton.jit
def thresholded_relu(x, theta: tl.constexpr):
    """x above theta, else 0."""
    return tl.where(x <= theta, 0.0, x)
