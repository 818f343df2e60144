"""What went in, what came out, where did the time go?  Plain values that print as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from conv3dt.geometry import Axis


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """A volume in a report; axes as the file lists them, spacing and affine of its three spatial axes."""

    path: str
    format: str
    shape: tuple[int, ...]
    axes: str
    dtype: str
    bytes: int
    spacing: tuple[float, ...] | None
    unit: str
    affine: list[list[float]] | None
    slope: float = 1.0
    inter: float = 0.0


@dataclass(frozen=True, slots=True)
class AxisFacts:
    """The geometry of one axis; ``shift`` in input voxels, ``drift`` and lengths in voxels.

    ``shift`` is the input index at which the header puts output voxel 0; ``from_edge_grid`` how many output voxels
    further along the axis the content then lies than on the grid that keeps the first face; ``drift`` how many output
    voxels the header lies off the kernel's own grid.
    """

    kernel: int
    stride: int
    dilation: int
    crop_before: int
    crop_after: int
    input: int
    output: int
    shift: float
    from_edge_grid: float
    drift: float


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """The layer of a run; ``layout`` says how the weights' array was understood, ``notes`` what was done to it."""

    name: str
    kernel_size: tuple[int, ...]
    filters: int
    channels: int
    strides: tuple[int, ...]
    padding: str
    output_padding: tuple[int, ...] | None
    dilation_rate: tuple[int, ...]
    activation: str
    use_bias: bool
    boundary: str
    align: str
    layout: str = ""
    per_channel: bool = False
    reduce: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """How the work is cut up; ``tile`` in output voxels, axes as the file lists them.

    ``memory_bytes`` (of the process at its peak), ``disk_bytes`` (of the output file, a guess if it is ``packed``),
    ``passing_bytes`` (on the disk until the run ends) and ``seconds`` are what is expected.  On an accelerator ``way``
    is one of `ways.WAYS`, and ``precision`` that of the products, which few channels do not lower.
    """

    engine: str
    device: str
    threads: int
    why: str
    tile: tuple[int, ...]
    regions: int
    volumes: int
    region_bytes: int
    memory_bytes: int = 0
    disk_bytes: int = 0
    packed: bool = False
    passing_bytes: int = 0
    seconds: float = 0.0
    way: str | None = None
    precision: str | None = None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run took: seconds spent reading, computing and writing, side by side, and from first to last.

    ``first_not_finite`` is the index of the first NaN or infinite input voxel, ``resumed_regions`` how many an earlier
    run had written, ``headroom`` the part of an integer type's range that its slope left unused, ``halved_regions`` how
    often a device had no room for a region.
    """

    start_s: float
    read_s: float
    compute_s: float
    write_s: float
    total_s: float
    voxels_per_s: float
    peak_bytes: int
    clipped: int
    not_finite: int
    first_not_finite: tuple[int, ...] | None = None
    resumed_regions: int = 0
    disk_bytes: int = 0
    headroom: float | None = None
    halved_regions: int = 0


@dataclass(frozen=True, slots=True)
class HeaderFact:
    """A field of the input's header: ``kept``, ``recomputed`` or ``dropped``, its values as text, and why."""

    field: str
    status: str
    before: str
    after: str
    why: str


@dataclass(frozen=True, slots=True)
class ProofFacts:
    """What became of a sample of the output, computed again from the source in float64.

    ``worst`` is the largest difference as a part of what rounding allows (at most 1 where the output is right), and
    ``worst_at`` where it lies: an index into the output, axes as its file lists them.
    """

    passed: bool
    regions: int
    voxels: int
    worst: float
    worst_at: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A run, done (``run`` is there) or only planned (it is None)."""

    version: str
    input: VolumeFacts
    output: VolumeFacts
    layer: LayerFacts
    axes: tuple[AxisFacts, ...]
    plan: PlanFacts | None = None
    run: RunFacts | None = None
    header: tuple[HeaderFact, ...] = ()
    proof: ProofFacts | None = None
    warnings: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, lists, strings and numbers."""
        return asdict(self)


def axis_facts(axis: Axis, n: int, *, shift: float, drift: float) -> AxisFacts:
    """Return the geometry of an axis of ``n`` voxels, placed at ``shift``."""
    return AxisFacts(
        kernel=axis.kernel,
        stride=axis.stride,
        dilation=axis.dilation,
        crop_before=axis.crop,
        crop_after=axis.tail(n),
        input=n,
        output=axis.length(n),
        shift=shift,
        from_edge_grid=(1 - axis.stride) / 2 - shift * axis.stride,
        drift=drift,
    )
