"""What can be said without reading a voxel?  Shapes, places and headers, for ``conv3dt shape`` and ``conv3dt info``."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

from conv3dt import paths
from conv3dt.affine import place
from conv3dt.axes import SPATIAL, check_axes, name_axes, upsampled_axes
from conv3dt.engine.choose import choose
from conv3dt.errors import ArgumentError, Conv3dtError, DataError, InputMissingError
from conv3dt.layer.config import DTYPES, LayerConfig, check_choice
from conv3dt.matching import label_type
from conv3dt.plan import Demand, make_plan
from conv3dt.report import LayerFacts, PlanFacts, Report, VolumeFacts, axis_facts
from conv3dt.request import LayerRequest
from conv3dt.resources import DEFAULT_BYTES, resources
from conv3dt.version import __version__
from conv3dt.visible import visible

if TYPE_CHECKING:
    from conv3dt.io.volume import VolumeInfo
    from conv3dt.layer.concrete import Layer

ITEMSIZE = {"float32": 4, "float64": 8, "int16": 2, "uint8": 1, "uint16": 2, "uint32": 4}


def shape_of_numbers(
    shape: tuple[int, ...], *, align: str, axes: str | None, data_format: str | None, dtype: str | None, **layer: Any
) -> Report:
    """Return the report of a run on a float32 volume of ``shape``; imports neither NumPy nor nibabel without weights.

    Raises:
        ArgumentError: for a shape or a layer that cannot be.
    """
    if not 3 <= len(shape) <= 7 or min(shape) < 1:
        raise ArgumentError(f"shape must be three to seven numbers of at least 1, got {'x'.join(map(str, shape))}")
    if dtype is not None:
        check_choice("dtype", dtype, DTYPES)
    request = LayerRequest(**layer)
    loaded = request.concrete() if request.weights is not None else None
    if loaded is None and request.adds_zeros:
        loaded = request.stand_in(1)
    config = request.config() if loaded is None else loaded.config
    data_format = data_format or request.data_format
    names = check_axes(axes, len(shape)) if axes else name_axes("012", len(shape), data_format, "shape")
    channels = shape[names.index("c")] if "c" in names else 1
    space = [n for n, letter in zip(shape, names, strict=True) if letter in SPATIAL]
    after, output = upsampled_axes(names, shape, config.output_shape(space), request.filters_of(config, names, shape))
    kind = _kind(request, dtype, channels if request.per_channel else config.filters)
    placement = place(config.axes, align, None if loaded is None else loaded.kernel)
    return Report(
        version=__version__,
        input=VolumeFacts("(given)", "shape", shape, names, "float32", 4 * prod(shape), None, "", None),
        output=VolumeFacts("(given)", "shape", output, after, kind, ITEMSIZE[kind] * prod(output), None, "", None),
        layer=_layer_facts(request, config, loaded, channels, align),
        axes=tuple(
            axis_facts(axis, n, shift=shift, drift=drift)
            for axis, n, shift, drift in zip(config.axes, space, placement.shift, placement.drift, strict=True)
        ),
        plan=_plan_facts(request, config, channels, space, output, after, ITEMSIZE[kind]),
    )


def _kind(request: LayerRequest, dtype: str | None, labels: int) -> str:
    """The type that would be written."""
    if request.reduce == "argmax":
        return label_type(labels, dtype)
    return "float32" if dtype in (None, "same") else str(dtype)


def _layer_facts(
    request: LayerRequest, config: LayerConfig, loaded: Layer | None, channels: int, align: str
) -> LayerFacts:
    return LayerFacts(
        name=request.kernel_name if request.is_named else str(request.weights or "kernel"),
        kernel_size=config.kernel_size,
        filters=config.filters,
        channels=1 if request.per_channel else channels,
        strides=config.strides,
        padding=config.padding,
        output_padding=config.output_padding,
        dilation_rate=config.dilation_rate,
        activation=config.activation,
        use_bias=request.has_bias if loaded is None else loaded.bias is not None,
        boundary=request.outside,
        align=align,
        layout="" if loaded is None else loaded.layout,
        per_channel=request.per_channel,
        reduce=request.reduce,
        notes=() if loaded is None else loaded.notes,
    )


def _plan_facts(
    request: LayerRequest, config: LayerConfig, channels: int, space: list[int], output: tuple[int, ...], axes: str,
    size: int,
) -> PlanFacts:  # fmt: skip
    filters = output[axes.index("c")] if "c" in axes else 1
    voxels = prod(output) // filters
    inner = 1 if request.per_channel else channels
    choice = choose(config, inner, voxels * (channels // inner), device="cpu", threads=resources().threads)
    scratch = choice.scratch(4, config.activation)
    demand = Demand(channels, filters, stored=4, computed=max(size, 4), written=size, scratch=scratch)
    plan = make_plan(
        config.axes,
        tuple(space),
        boundary=request.outside,
        batch=1,
        demand=demand,
        budget=DEFAULT_BYTES,
        tile=None,
        chunks=(1, 1, 1),
        slabs=True,
    )
    volumes = voxels // prod(plan.output_shape)
    return PlanFacts(
        choice.engine, choice.device, choice.threads, choice.reason, plan.tile, plan.count * volumes, volumes,
        plan.peak_bytes,
    )  # fmt: skip


def shape_of_file(
    path: str, *, align: str, axes: str | None, data_format: str | None, dtype: str | None, **layer: Any
) -> Report:
    """Return the report of a run on a volume, from its header only; neither torch nor LLVM is imported."""
    from conv3dt.describe import job_report
    from conv3dt.io.files import read_info
    from conv3dt.job import make_job

    request = LayerRequest(**layer)
    source = read_info(path, axes=axes, data_format=data_format or request.data_format)
    job = make_job(
        source,
        request.concrete(source.channels) if request.has_weights else request.stand_in(source.channels),
        path="(output)",
        form="hdf5" if source.format == "hdf5" else "nii.gz" if source.compressed else "nii",
        align=align,
        dtype=dtype,
        device="cpu",
        tile=None,
        limits=resources(),
    )
    return job_report(job)


def devices() -> list[dict[str, Any]]:
    """Return the facts of all that there is to compute on as plain values; the CPU comes first."""
    from dataclasses import asdict

    from conv3dt.engine.devices import facts

    return [asdict(each) for each in facts()]


def facts_of_file(path: str, *, axes: str | None = None, data_format: str | None = None) -> dict[str, Any]:
    """Return the header facts of a volume or a kernel file as plain values.

    Raises:
        Conv3dtError: a child that says what is wrong with the file.
    """
    if _is_kernel(path):
        return _kernel_facts(path)
    from conv3dt.io.files import read_info

    try:
        return _volume_facts(read_info(path, axes=axes, data_format=data_format))
    except (DataError, InputMissingError):
        if not paths.is_hdf5(path):
            raise
        with suppress(Conv3dtError):  # a layer of a Keras model is no dataset
            return _kernel_facts(path)
        raise


def _is_kernel(path: str) -> bool:
    file, inside = paths.split_weights(path)
    if not paths.is_hdf5(file):
        return file.lower().endswith((*paths.WEIGHTS_SUFFIXES, ".npy"))
    return (inside or "").rsplit("/", 1)[-1].lower() in ("kernel", "kernel:0")


def _kernel_facts(path: str) -> dict[str, Any]:
    from conv3dt.weights import read_weights

    found = read_weights(path)
    k1, k2, k3, filters, channels = found.kernel.shape
    return {
        "path": path,
        "format": found.format,
        "layout": found.layout,
        "kernel_size": [k1, k2, k3],
        "filters": filters,
        "channels": channels,
        "dtype": found.kernel.dtype.name,
        "bias": "none" if found.bias is None else f"{found.bias.size} values",
        "sum_per_filter": [float(value) for value in found.kernel.sum(axis=(0, 1, 2, 4))][:16],
        "range": [float(found.kernel.min()), float(found.kernel.max())],
        "bytes": found.kernel.nbytes,
        "notes": list(found.notes),
        "layer": found.config,
    }


def _volume_facts(info: VolumeInfo) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "path": info.path,
        "format": info.format,
        "axes": info.axes,
        "shape": list(info.shape),
        "dtype": info.dtype.newbyteorder("=").name,
        "byte_order": "big" if info.dtype.byteorder == ">" else "little",
        "bytes": info.nbytes,
        "compressed": info.compressed,
        "voxel_size": None if info.spacing is None else list(info.spacing),
        "unit": info.unit,
        "slope": info.slope,
        "inter": info.inter,
        "affine": None if info.affine is None else info.affine.tolist(),
    }
    if info.affine is not None:
        from nibabel.orientations import aff2axcodes

        with suppress(ValueError, ArithmeticError):  # a matrix that is singular or not finite points nowhere
            facts["orientation"] = "".join(code or "?" for code in aff2axcodes(info.affine))
    if info.header is not None:
        facts |= _nifti_facts(info.header)
    if info.format == "hdf5":
        facts |= {name: value for name, value in info.layout.items()}
        facts["attributes"] = sorted(map(visible, info.attributes))
    return facts


def _nifti_facts(header: Any) -> dict[str, Any]:
    def text(name: str) -> str:
        return visible(bytes(header[name].tobytes()).rstrip(b"\0").decode("latin-1").strip())

    return {
        "sform_code": int(header["sform_code"]),
        "qform_code": int(header["qform_code"]),
        "repetition_time": float(header["pixdim"][4]) if int(header["dim"][0]) > 3 else None,
        "time_unit": {8: "s", 16: "ms", 24: "us"}.get(int(header["xyzt_units"]) & 56, ""),
        "intent_code": int(header["intent_code"]) or None,
        "intent_name": text("intent_name"),
        "description": text("descrip"),
        "extensions": len(header.extensions),
    }
