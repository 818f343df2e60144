"""What is to be said about a kernel, and what is to be done?  From what was found out alone."""

from __future__ import annotations

from collections.abc import Iterator

from conv3dt.doctor.facts import LEVEL, AxisFindings, Examination, Finding


def findings(found: Examination) -> Iterator[Finding]:
    """The findings, the worst first."""
    if found.zeros == found.taps:
        yield Finding("problem", "all taps are 0: every output is the bias alone", "look for a file that was trained")
        return
    severities = ("problem", "warning", "note")
    every = [*_about_layer(found), *_about_gain(found), *_about_place(found), *_about_values(found)]
    yield from sorted(every, key=lambda finding: severities.index(finding.severity))


def _about_layer(found: Examination) -> Iterator[Finding]:
    if "strides" in found.assumed:
        likely = _likely_stride(found)
        hint = f"; the sum of the taps fits strides {likely}" if likely else ""
        yield Finding("warning", f"strides unknown, taken as 1{hint}", f"give --strides {likely or 'N'}")
    if not found.layout_known and looks_like_torch((*found.kernel_size, found.filters, found.channels)):
        yield Finding(
            "warning",
            f"a kernel of {_by(found.kernel_size)} taps, {found.filters} filters and {found.channels} channels looks "
            "like PyTorch's (in, out, k, k, k) taken for Keras's",
            "give --layout torch",
        )
    small = [n for n, axis in enumerate(found.axes) if axis.kernel < axis.stride]
    if small:
        holes = sum(phase.taps == 0 for phase in found.by_phase)
        yield Finding(
            "problem",
            f"the kernel is smaller than the stride on {_axes_named(small)}: {holes} of {len(found.by_phase)} outputs "
            "hold the bias alone",
            f"choose a kernel of at least {_by(found.strides)}",
        )


def _levelling(found: Examination) -> str:
    """What can be done about a gain; a kernel that finds edges has none to be mended."""
    if min(facts.lowest for facts in found.by_filter) <= 0:
        return "leave it as it is: with phases that sum to less than nothing it does not interpolate"
    return "--normalize-gain FILE writes a kernel of gain 1"


def looks_like_torch(shape: tuple[int, ...]) -> bool:
    """Whether a kernel's five axes look like torch's ``(in, out, k, k, k)``: three alike at the end, not all five.

    >>> looks_like_torch((4, 8, 3, 3, 3)), looks_like_torch((3, 3, 3, 8, 4))
    (True, False)
    """
    return shape[2] == shape[3] == shape[4] > 1 and len(set(shape)) > 1


def _likely_stride(found: Examination) -> int | None:
    """The stride at which every filter would have gain 1, if there is one."""
    for stride in range(2, 1 + min(4, *found.kernel_size)):
        if all(abs(facts.gain / stride**3 - 1) < LEVEL for facts in found.by_filter):
            return stride
    return None


def _about_gain(found: Examination) -> Iterator[Finding]:
    if found.dead:
        some = ", ".join(map(str, found.dead[:8])) + (", ..." if len(found.dead) > 8 else "")
        yield Finding("warning", f"filters of zeros only: {some}", "leave them out: they give the bias alone")
    gains = [facts.gain for facts in found.by_filter if facts.filter not in found.dead]
    holes = any(phase.taps == 0 for phase in found.by_phase)
    # Of several channels the gain is that of the same constant in all of them, which no network sees.
    if found.channels == 1 and "strides" not in found.assumed and max(abs(gain - 1) for gain in gains) > LEVEL:
        yield Finding(
            "warning",
            f"the gain is {_span(gains)}, not 1: a constant comes out as another",
            "none while there are holes" if holes else _levelling(found),
        )
    # Where the taps nearly cancel, their gains differ by many times a mean that is next to nothing.
    if found.checkerboard is not None and found.checkerboard > LEVEL and not holes and found.cancellation <= 0.5:
        uneven = [n for n, axis in enumerate(found.axes) if axis.kernel % axis.stride and axis.stride > 1]
        size = tuple(-(-axis.kernel // axis.stride) * axis.stride for axis in found.axes)
        ratio = found.checkerboard
        much = f"{100 * ratio:.3g} % of" if ratio < 1 else f"{ratio:.3g} times"
        yield Finding(
            "warning",
            f"checkerboard: the gains of the phases differ by {much} their mean"
            + (f" (the kernel is no multiple of the stride on {_axes_named(uneven)})" if uneven else ""),
            (f"train with a kernel of {_by(size)}" if uneven else "")
            + (" or " if uneven and found.channels == 1 else "")
            + ("level it with --normalize-gain FILE" if found.channels == 1 else "")
            or "train with weights held level: each phase of a filter to the same sum",
        )


def _about_place(found: Examination) -> Iterator[Finding]:
    off = [n for n, axis in enumerate(found.axes) if axis.from_edge_grid]
    if off and found.padding == "same" and "strides" not in found.assumed:
        size = tuple(_aligned(axis) for axis in found.axes)
        lies = sorted({found.axes[n].from_edge_grid for n in off})
        yield Finding(
            "warning",
            f"outputs lie {' or '.join(f'{value:+g}' for value in lies)} voxels off the edge-aligned grid on "
            f"{_axes_named(off)}",
            f"keep --align kernel, so that the header says so, or use a kernel of {_by(size)}",
        )
    # Where taps of both signs nearly cancel, their moment is a quotient of small numbers and says nothing.
    if found.cancellation > 0.5:
        return
    beside = [n for n, axis in enumerate(found.axes) if abs(axis.from_middle or 0.0) > 0.01]
    if beside:
        lies_at = ", ".join(f"{found.axes[n].from_middle:+.3g}" for n in beside)
        yield Finding(
            "warning",
            f"the centre of mass lies {lies_at} output voxels from the middle of the taps on {_axes_named(beside)}",
            "--align centroid puts the header where the content lies",
        )


def _aligned(axis: AxisFindings) -> int:
    """The next size that under ``same`` keeps the faces: not smaller than the stride, and odd or even as it is."""
    least = max((axis.kernel - 1) * axis.dilation + 1, axis.stride)
    return least + (least - axis.stride) % 2


def _about_values(found: Examination) -> Iterator[Finding]:
    if found.channels == 1 and found.bound > 1 + LEVEL and "strides" not in found.assumed:
        below = " (and below 0 where no input is)" if found.down > 0 else ""
        yield Finding(
            "note",
            f"outputs can reach {found.bound:.4g} times the largest input{below}",
            "integers may be clipped; --dtype float32 keeps all",
        )
    if found.separable and sum(axis.kernel > 1 for axis in found.axes) > 1:
        yield Finding("note", "separable: an outer product of three vectors", "three passes along the axes would do")


def _axes_named(numbers: list[int]) -> str:
    return ("axis " if len(numbers) == 1 else "axes ") + ", ".join(map(str, numbers))


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if high - low <= LEVEL * abs(high) else f"{low:.4g} to {high:.4g}"


def _by(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))
