"""How is a kernel file made, turned into another, and looked at?  One function a command of ``conv3dt kernel``."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conv3dt import paths
from conv3dt.errors import ArgumentError, DataError
from conv3dt.layer.config import LayerConfig, check_choice, layer_config
from conv3dt.pending import check_target, write_whole
from conv3dt.request import LayerRequest
from conv3dt.weights import Weights, read_weights, write_weights

if TYPE_CHECKING:
    from conv3dt.doctor import Examination

DTYPES = ("float32", "float64")
WHOLE = (".keras", ".onnx")
"""Formats that cannot hold weights without their layer."""
GEOMETRY = ("strides", "padding", "output_padding", "dilation_rate")


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A kernel file that was written: its weights, what they are, where, and what the format could not keep."""

    weights: Weights
    origin: str
    path: str
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """A kernel file that was looked at.

    Attributes:
        weights: what stands in it; config: the layer that its taps were taken for; examination: of them.
        picture: where a PNG was written, cut: what did not fit into it.
        repaired: the file of gain 1, if one was asked for.
    """

    weights: Weights
    config: LayerConfig
    examination: Examination
    picture: str | None = None
    cut: tuple[str, ...] = ()
    repaired: Written | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what was found as plain values for JSON; taps are left in the file."""
        found = {
            "path": self.weights.path,
            "format": self.weights.format,
            "notes": list(self.weights.notes),
            "layer": self.weights.config,
            **self.examination.as_dict(),
        }
        if self.picture is not None:
            found["picture"] = {"path": self.picture, "cut": list(self.cut)}
        if self.repaired is not None:
            found["repaired"] = {"path": self.repaired.path, "lost": list(self.repaired.lost)}
        return found


def make_kernel(
    path: str, *, channels: int | None = None, dtype: str = "float32", overwrite: bool = False, **layer: Any
) -> Written:
    """Write a built-in interpolation kernel, or one drawn by an initializer, together with its layer's arguments.

    Args:
        path: of any format that can be written.
        channels: of a drawn kernel; 1 if not given.
        dtype: float32 or float64.
        overwrite: replace an existing file.
        **layer: as in `LayerRequest`: ``kernel`` and ``scale``, or ``kernel_size``, ``filters``, ``strides``,
            ``padding``, ``output_padding``, ``dilation_rate``, ``kernel_initializer``, ``bias_initializer``, ``seed``
            and ``use_bias``.  The kernel is ``(k1, k2, k3, filters, channels)``.

    Raises:
        ArgumentError: arguments that do not go together, or a format that cannot be written.
        OutputError, StreamError: the file exists, or cannot be written.
    """
    check_choice("dtype", dtype, DTYPES)
    request = LayerRequest(**_drawn_arguments(layer, channels))
    made = request.concrete(channels or 1)
    bias = None if made.bias is None else made.bias.astype(dtype)
    config = _keras_config(made.config, use_bias=bias is not None, dtype=dtype)
    weights = Weights(made.kernel.astype(dtype), bias, made.name, "made", "(k1, k2, k3, filters, channels)", config)
    return _write(weights, made.name, path, overwrite=overwrite)


def _drawn_arguments(layer: dict[str, Any], channels: int | None) -> dict[str, Any]:
    """The arguments, an initializer among them if they speak of a kernel that has no name."""
    given = {name: value for name, value in layer.items() if value is not None}
    named = [name for name in ("kernel", "scale") if name in given]
    others = [name for name in given if name not in named] + ["channels"] * (channels is not None)
    if named and others:
        raise ArgumentError(
            f"{' and '.join(named)} cannot go with {' and '.join(others)}: a kernel is named or drawn; leave one out"
        )
    if not others:
        return given
    return {"kernel_initializer": "glorot_uniform", "use_bias": "bias_initializer" in given} | given


def _keras_config(config: LayerConfig, *, use_bias: bool, dtype: str) -> dict[str, Any]:
    """A layer's arguments as Keras 2.9's ``get_config`` spells them; no dilation where there is none."""
    dilation = {} if config.dilation_rate == (1, 1, 1) else {"dilation_rate": config.dilation_rate}
    return {
        "dtype": dtype,
        "filters": config.filters,
        "kernel_size": config.kernel_size,
        "strides": config.strides,
        "padding": config.padding,
        "data_format": "channels_last",
        "activation": config.activation,
        "use_bias": use_bias,
        "output_padding": config.output_padding,
    } | dilation


def convert_kernel(
    source: str, path: str, *, layout: str | None = None, overwrite: bool = False, **geometry: Any
) -> Written:
    """Write the kernel of one file into another of any format that can be written; no tap changes.

    Args:
        source: a kernel file as for `read_weights`.
        path: the new file.
        layout: ``keras`` or ``torch``, for files that do not say how their axes run.
        overwrite: replace an existing file.
        **geometry: ``strides``, ``padding``, ``output_padding`` and ``dilation_rate`` of the layer, for source files
            that do not say them and new ones that do; they go before what the source says.

    Raises:
        ArgumentError: arguments that do not go together, or a format that cannot be written or needs more of them.
        InputMissingError, DataError: there is no such file, or it holds no kernel.
        OutputError, StreamError: the new file exists, or cannot be written.
    """
    weights = read_weights(source, layout)
    config, assumed = _layer_of(weights, geometry)
    if any(value is not None for value in geometry.values()):
        weights = _with_layer(weights, config)
    if "strides" in assumed and Path(path).suffix.lower() in WHOLE:
        raise ArgumentError(
            f"output {path}: holds a whole layer, and {source} does not say its strides; give --strides"
        )
    return _write(weights, f"from {source}", path, overwrite=overwrite)


def inspect_kernel(
    path: str,
    *,
    layout: str | None = None,
    png: str | None = None,
    filter: int = 0,
    channel: int = 0,
    repaired: str | None = None,
    overwrite: bool = False,
    **geometry: Any,
) -> Inspection:
    """Examine the kernel of a file; on request draw its phases and write a copy of gain 1.

    Args:
        path: a kernel file as for `read_weights`.
        layout: ``keras`` or ``torch``, for files that do not say how their axes run.
        png: where to draw; filter, channel: which taps.
        repaired: where to write the kernel with each phase of each filter scaled to sum to one.
        overwrite: replace existing files.
        **geometry: ``strides``, ``padding``, ``output_padding`` and ``dilation_rate``; they go before what the file
            says, and that before Keras's defaults.

    Raises:
        ArgumentError: arguments that do not go together, or Pillow is missing.
        InputMissingError, DataError: there is no such file, it holds no kernel, or its gain cannot be made 1.
        OutputError, StreamError: a file exists, or cannot be written.
    """
    from conv3dt import doctor

    _check_targets(path, png, repaired, overwrite=overwrite)
    weights = read_weights(path, layout)
    config, assumed = _layer_of(weights, geometry)
    if repaired is not None and "strides" in assumed:
        raise ArgumentError(f"gain depends on the strides, which {path} does not say; give --strides")
    told = weights.config or {}
    found = Inspection(
        weights,
        config,
        doctor.examine(
            weights.kernel,
            weights.bias,
            config.axes,
            layout=weights.layout,
            layout_known=layout is not None or "kernel_size" in told or not weights.layout.startswith("(k1, k2, k3"),
            assumed=assumed,
        ),
    )
    mended = None if repaired is None else _repaired(weights, config)
    if png is not None:
        from conv3dt.picture import phases_png

        drawn = phases_png(weights.kernel, config.axes, filter=filter, channel=channel, title=_title(path))
    # Everything is checked and made by now; only then are files written.
    if mended is not None and repaired is not None:
        found = replace(found, repaired=_write(mended, f"{path} with gain 1", repaired, overwrite=overwrite))
    if png is not None:
        write_whole(png, drawn.png, overwrite=overwrite)
        found = replace(found, picture=png, cut=drawn.cut)
    return found


def _check_targets(path: str, png: str | None, repaired: str | None, *, overwrite: bool) -> None:
    """Refuse what would not be written, or would be written over what is read."""
    if repaired is not None:
        check_target(repaired, overwrite=overwrite)
    if png is not None:
        from conv3dt.picture import check_pillow

        check_pillow()
        if not png.lower().endswith(".png"):
            raise ArgumentError(f"png must be a name that ends in .png, got {png!r}")
        check_target(png, overwrite=overwrite)
        taken = [paths.split_weights(other)[0] for other in (path, repaired) if other is not None]
        if os.path.realpath(png) in map(os.path.realpath, taken):
            raise ArgumentError(f"png {png}: is a kernel file of this command; choose another name")


def _layer_of(weights: Weights, geometry: dict[str, Any]) -> tuple[LayerConfig, tuple[str, ...]]:
    """The layer that the file and the arguments make together, and which of its arguments nobody said."""
    given = {name: value for name, value in geometry.items() if value is not None}
    unknown = [name for name in given if name not in GEOMETRY]
    if unknown:
        raise TypeError(f"{unknown[0]} is none of {', '.join(GEOMETRY)}")
    said = {name: value for name in GEOMETRY if (value := (weights.config or {}).get(name)) is not None}
    kernel_size, filters = weights.kernel.shape[:3], int(weights.kernel.shape[3])
    try:
        config = layer_config(filters=filters, kernel_size=kernel_size, **said | given)
    except ArgumentError as error:
        if given:
            raise
        raise DataError(f"weights {weights.path}: its layer cannot be: {error}") from None
    return config, tuple(name for name in ("strides", "padding") if name not in said | given)


def _repaired(weights: Weights, config: LayerConfig) -> Weights:
    """The kernel of gain 1, in a file that says for which strides."""
    from conv3dt.doctor import normalized

    return _with_layer(replace(weights, kernel=normalized(weights.kernel, config.axes)), config)


def _with_layer(weights: Weights, config: LayerConfig) -> Weights:
    """The weights with a configuration that says the geometry, beside what it said before."""
    geometry = {"strides": config.strides, "padding": config.padding, "output_padding": config.output_padding}
    if max(config.dilation_rate) > 1:
        geometry["dilation_rate"] = config.dilation_rate
    told = {name: value for name, value in (weights.config or {}).items() if name not in GEOMETRY}
    return replace(weights, config=told | geometry)


def _write(weights: Weights, origin: str, path: str, *, overwrite: bool) -> Written:
    return Written(weights, origin, path, tuple(write_weights(weights, path, overwrite=overwrite)))


def _title(path: str) -> str:
    """The name of a kernel without its folder."""
    file, inside = paths.split_weights(path)
    return Path(file).name + (f":{inside}" if inside else "")
