"""How does time grow with size, as a picture?  One line for each who was measured."""

from __future__ import annotations

from collections.abc import Iterable

from .measure import Point


def draw(points: Iterable[Point], path: str, title: str) -> None:
    """Draw time against size, both in powers, into a PNG file."""
    from matplotlib.figure import Figure

    lines: dict[str, list[Point]] = {}
    for point in points:
        lines.setdefault(point.who, []).append(point)
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for who, line in lines.items():
        ours = who.startswith("conv3dt")
        axes.plot([p.edge for p in line], [p.seconds for p in line], "o-" if ours else "s--", label=who)
    edges = sorted({point.edge for line in lines.values() for point in line})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(edges, [f"{edge}$^3$" for edge in edges])
    axes.set(xlabel="input voxels", ylabel="seconds, x2 linear, float32", title=title)
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, format="png", dpi=120)
