"""What exactly will a run do?  All arguments resolved against a header, before a voxel is read; a job is a value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from conv3dt.affine import Placement, place
from conv3dt.axes import SPATIAL, upsampled_axes
from conv3dt.engine.choose import Choice, choose
from conv3dt.engine.finish import Storage
from conv3dt.engine.precision import check_precision
from conv3dt.errors import ArgumentError, DataError
from conv3dt.io.volume import LABEL_INTENT, VolumeInfo
from conv3dt.layer.concrete import Layer
from conv3dt.layer.config import DTYPES, check_choice, triple
from conv3dt.matching import check_channels, label_type
from conv3dt.plan import Demand, Plan, make_plan
from conv3dt.resources import Resources

MOST_BYTES = 2**60
NAN_RULES = ("keep", "zero", "error")
NIFTI = ("nii", "nii.gz")
HDF5_BYTES = 32 * 2**20
STREAM_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Everything that is decided before voxels move.

    Attributes:
        source: the input's header; target: the output's, whole.
        layer: axes as the volume lists them; walked: the same with axes in walk order.
        placement: where the output lies.
        storage: what an output voxel becomes.
        choice: engine and device.
        plan: regions, in walk order.
        backwards: whether walk order is the listed order reversed (first axis fastest).
        precision: that was asked for, of a device.
        align: the convention of ``placement``; nan: one of `NAN_RULES`; rescaled: whether the
            slope was chosen for what can come out.
        like: the volume whose grid the target has; notes: what could not be compared with it.
    """

    source: VolumeInfo
    target: VolumeInfo
    layer: Layer
    walked: Layer
    placement: Placement
    storage: Storage
    choice: Choice
    plan: Plan
    backwards: bool
    align: str = "kernel"
    nan: str = "keep"
    precision: str = "fp32"
    rescaled: bool = False
    like: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """How many input channels a voxel has."""
        return self.source.channels if self.layer.per_channel else self.layer.channels

    @property
    def filters(self) -> int:
        """How many output channels a voxel has in the file."""
        return self.target.channels


def make_job(
    source: VolumeInfo,
    layer: Layer,
    *,
    path: str,
    form: str,
    align: str,
    dtype: str | None,
    device: str,
    tile: Any,
    limits: Resources,
    precision: str = "fp32",
    nan: str = "keep",
    spread: tuple[float, float] | None = None,
    reference: VolumeInfo | None = None,
) -> Job:
    """Resolve a run.

    Args:
        source: the input's header.
        layer: axes as the input lists them.
        path: of the output.
        form: ``nii``, ``nii.gz``, ``hdf5`` or ``array``.
        align: see `affine.place`.
        dtype: one of `DTYPES`, or None: ``same`` for the kernel ``nearest``, which makes no new values, the smallest
            unsigned type that holds the labels for an argmax, else float32.
        device: one of `devices.NAMES`.
        tile: output voxels per axis of a region, one number or three as listed; None chooses.
        limits: threads and memory.
        precision: in which many channels are multiplied on a device, one of `precision.PRECISIONS`.
        nan: what becomes of NaN and infinite voxels: they stay, become zero, or end the run.
        spread: least and greatest value of the input, for integers with a slope that lets nothing be clipped.
        reference: a volume whose grid the output must have.
    """
    check_choice("nan", nan, NAN_RULES)
    check_precision(precision)
    check_channels(
        layer.channels, per_channel=layer.per_channel, name=layer.name, path=source.path, shape=source.shape,
        axes=source.axes,
    )  # fmt: skip
    computed = source.channels if layer.per_channel else layer.filters
    storage = Storage(np.dtype(label_type(computed, dtype))) if layer.argmax else _storage(source, layer, dtype, form)
    if spread is not None:
        storage = _rescaled(storage, layer, spread)
    _check_taps(layer, storage)
    placement = place(layer.config.axes, align, layer.kernel)
    target = _target(source, layer, placement, storage, path, form)
    notes: tuple[str, ...] = ()
    if reference is not None:
        from conv3dt.like import check_like, pinned

        notes = check_like(target, reference, source=source, layer=layer, align=align)
        target = pinned(target, reference)
    backwards = source.fortran or target.fortran
    walked = layer.reversed() if backwards else layer
    if max(source.nbytes, target.nbytes) > MOST_BYTES:
        raise DataError(f"{source.path}: {'x'.join(map(str, target.shape))} output voxels are more than any file holds")
    batch = prod(source.shape[axis] for axis in source.batch)
    voxels = batch * prod(target.space)
    many = computed if layer.per_channel else 1
    choice = choose(
        layer.config, layer.channels, voxels * many, device=device, threads=limits.threads, precision=precision,
        max_vram=limits.max_vram,
    )  # fmt: skip
    choice = choice.tried_out(walked, storage)
    demand = Demand(
        channels=layer.channels * many,
        filters=target.channels,
        stored=source.dtype.itemsize,
        computed=storage.compute_dtype.itemsize,
        written=storage.dtype.itemsize,
        scratch=_engine_scratch(choice, layer, storage) * computed // target.channels
        + _writer_scratch(target, storage, backwards),
        in_flight=choice.in_flight,
        **_suited(choice, layer, storage, computed),
    )
    turn = _reversed if backwards else tuple
    plan = make_plan(
        walked.config.axes,
        turn(source.space),
        boundary=layer.boundary,
        batch=batch,
        demand=demand,
        budget=limits.budget(
            choice.library_bytes
            + 3 * layer.kernel.nbytes
            + _format_bytes(source, unpacking=limits.threads)
            + _format_bytes(target)
        ),
        tile=None if tile is None else turn(triple("tile", tile)),
        chunks=turn(_chunks(target)),
        slabs=source.is_stream or target.is_stream,
    )
    return Job(
        source, target, layer, walked, placement, storage, choice, plan, backwards, align, nan,
        precision=precision, rescaled=spread is not None,
        like=None if reference is None else reference.path, notes=notes,
    )  # fmt: skip


def _check_taps(layer: Layer, storage: Storage) -> None:
    top = np.finfo(storage.compute_dtype).max
    if np.abs(layer.kernel).max() > top or (layer.bias is not None and np.abs(layer.bias).max(initial=0) > top):
        raise DataError(f"weights {layer.name}: hold taps beyond {storage.compute_dtype}; say --dtype float64")


def _storage(source: VolumeInfo, layer: Layer, dtype: str | None, form: str) -> Storage:
    dtype = dtype or ("same" if layer.name == "nearest" else "float32")
    check_choice("dtype", dtype, DTYPES)
    if dtype != "same":
        return Storage(np.dtype(dtype))
    kind = source.dtype.newbyteorder("=")
    if form in NIFTI:
        from conv3dt.io.nifti_header import UNSAFE

        kind = np.dtype(UNSAFE.get(kind.name, kind.name))
    elif kind.kind == "b":
        kind = np.dtype(np.uint8)
    if kind.kind == "f":
        return Storage(kind)
    return Storage(kind, source.slope, source.inter)


def _rescaled(storage: Storage, layer: Layer, spread: tuple[float, float]) -> Storage:
    """The same integers with the finest slope that holds whatever can come out of inputs in ``spread``."""
    if storage.limits is None:
        raise ArgumentError(f"rescale is for integers, got dtype {storage.dtype}; say --dtype int16, uint16 or uint8")
    from conv3dt.bound import output_bounds, scaling

    low, high = output_bounds(layer, *spread)
    if low == high:  # one value, such as an empty scan's: it is stored as 1, or 0
        return Storage(storage.dtype, float(np.float32(low)) or 1.0)
    return Storage(storage.dtype, *scaling(storage.dtype, low, high))


def _target(
    source: VolumeInfo, layer: Layer, placement: Placement, storage: Storage, path: str, form: str
) -> VolumeInfo:
    axes, shape = _target_axes(source, layer, form)
    affine = None if source.affine is None else source.affine @ placement.matrix()
    common = replace(
        source,
        path=path,
        shape=shape,
        axes=axes,
        dtype=storage.dtype,
        slope=storage.slope,
        inter=storage.inter,
        affine=affine,
        spacing=_divided(source.spacing, placement.strides),
        header=None,
        foreign=(),
        attributes={},
        layout={},
    )
    header = _header(source, placement, axes, shape, storage, form)
    if header is not None and layer.reduce is not None:
        header["cal_min"], header["cal_max"] = 0, 0
    if header is not None and layer.argmax:
        if int(header["intent_code"]) not in (0, LABEL_INTENT):
            header["intent_p1"], header["intent_p2"], header["intent_p3"], header["intent_name"] = 0, 0, 0, b""
        header["intent_code"] = LABEL_INTENT
    if form in NIFTI:
        from conv3dt.io import nifti_header

        version = "nifti2" if header.sizeof_hdr == 540 else "nifti1"
        packed = form == "nii.gz"
        place = nifti_header.world(header)  # as the file can say it: without sform and qform it has no origin
        return replace(common, format=version, fortran=True, compressed=packed, header=header, affine=place)
    if form == "array":
        return replace(common, format="array", header=header)
    from conv3dt.io.hdf5_attributes import upsampled_attributes, upsampled_layout

    return replace(
        common,
        format="hdf5",
        fortran=False,
        header=header,
        attributes=upsampled_attributes(source, axes, placement, affine, header, (storage.slope, storage.inter)),
        layout=upsampled_layout(source, axes, shape, storage.dtype),
    )


def _header(
    source: VolumeInfo, placement: Placement, target_axes: str, shape: tuple[int, ...], storage: Storage, form: str
) -> Any:
    header = source.header
    if header is None and form not in NIFTI:
        return None
    from conv3dt.io import nifti_header

    if header is None:
        header = nifti_header.fresh(source.spacing, source.affine, source.unit)
    axes = source.axes if source.header is not None else "ijk"
    if source.format == "hdf5" and source.header is not None:  # a stored header lists space first, as NIfTI does
        axes = _space_first(source.axes, source.shape)[0]
    shape = _space_first(target_axes, shape)[1]
    return nifti_header.upsampled(header, axes, placement, shape, storage.dtype, (storage.slope, storage.inter))


def _target_axes(source: VolumeInfo, layer: Layer, form: str) -> tuple[str, tuple[int, ...]]:
    filters = None if layer.argmax else source.channels if layer.per_channel else layer.filters
    axes, shape = upsampled_axes(source.axes, source.shape, layer.config.output_shape(source.space), filters)
    if form in NIFTI:
        axes, shape = _space_first(axes, shape)
    if form in NIFTI and len(axes) > 7:
        raise DataError(f"{source.path}: the output would have {len(axes)} axes; NIfTI has at most 7, write HDF5")
    return axes, shape


def _format_bytes(info: VolumeInfo, *, unpacking: int = 0) -> int:
    """Memory that a format takes whatever the size of regions: libraries, blocks, what threads unpack for a reader."""
    if info.format == "hdf5" and unpacking:
        from conv3dt.io.hdf5_unpack import unpacking_bytes

        return HDF5_BYTES + unpacking_bytes(info, unpacking)
    if info.format == "hdf5":
        return HDF5_BYTES + 2 * prod(int(n) for n in info.layout.get("chunks", (0,))) * info.dtype.itemsize
    return STREAM_BYTES if info.compressed else 0


def _divided(size: tuple[float, float, float] | None, by: tuple[int, int, int]) -> tuple[float, float, float] | None:
    return None if size is None else (size[0] / by[0], size[1] / by[1], size[2] / by[2])


def _reversed(values: tuple[int, ...]) -> tuple[int, ...]:
    return values[::-1]


def _space_first(axes: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The order that NIfTI's header can speak of: space, then volumes, then channels."""
    order = sorted(range(len(axes)), key=lambda n: (axes[n] not in SPATIAL, axes[n] == "c"))
    return "".join(axes[n] for n in order), tuple(shape[n] for n in order)


def _chunks(target: VolumeInfo) -> tuple[int, int, int]:
    chunks = target.layout.get("chunks")
    if chunks is None:
        return 1, 1, 1
    first, second, third = (int(chunks[axis]) for axis in target.spatial)
    return first, second, third


def _engine_scratch(choice: Choice, layer: Layer, storage: Storage) -> int:
    activation = "linear" if layer.argmax else layer.config.activation
    return choice.scratch(storage.compute_dtype.itemsize, activation)


def _suited(choice: Choice, layer: Layer, storage: Storage, computed: int) -> dict[str, int]:
    """The size of regions that suits an accelerator, and the most that it has room for; nothing for the CPU."""
    if choice.preferred_bytes is None:
        return {}
    most = choice.most_values(
        channels=computed if layer.per_channel else layer.channels,
        filters=computed,
        strides=prod(layer.config.strides),
        computed=storage.compute_dtype.itemsize,
        written=storage.dtype.itemsize,
    )
    return {"preferred": choice.preferred_bytes, "most_values": most}


def _writer_scratch(target: VolumeInfo, storage: Storage, backwards: bool) -> int:
    """Bytes per voxel of the copies a writer makes: where memory order is not file order, and of packed chunks."""
    turned = (backwards and not target.fortran) or target.channel is not None
    return storage.dtype.itemsize * (turned + (target.layout.get("compression") is not None))
