"""What can a Python program ask for?  Upsampling of arrays, images and files, and shapes; one function each."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from conv3dt.request import LayerRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conv3dt.io.volume import VolumeInfo
    from conv3dt.job import Job
    from conv3dt.report import Report
    from conv3dt.resources import Resources


def output_shape(
    shape: tuple[int, ...],
    *,
    data_format: str | None = None,
    **layer: Any,
) -> tuple[int, ...]:
    """Return the shape that a volume of ``shape`` becomes; whole numbers only, neither NumPy nor torch is imported.

    Args:
        shape: three spatial axes, and possibly further ones: at the end, where they stay as they are, or with
            ``data_format`` ``channels_last`` or ``channels_first`` one of channels, which becomes ``filters``.
        data_format: whether and where there are channels.
        **layer: as in `upsample`, with ``kernel_size`` and ``filters`` in the place of weights.

    Raises:
        ArgumentError: for what the layer refuses.

    Examples:
        >>> output_shape((64, 64, 32), scale=(2, 2, 1))
        (128, 128, 32)
        >>> output_shape((64, 64, 32), kernel_size=3, strides=2, padding="same", filters=8)
        (128, 128, 64, 8)
        >>> output_shape((1, 32, 32, 32), kernel_size=3, strides=2, filters=8, data_format="channels_first")
        (8, 65, 65, 65)
    """
    from conv3dt.axes import SPATIAL, name_axes, upsampled_axes
    from conv3dt.errors import ArgumentError

    request = _request(layer)
    config = request.config()
    try:
        sizes = tuple(int(n) for n in shape)
        whole = sizes == tuple(shape)
    except (TypeError, ValueError):
        sizes, whole = (), False
    if len(sizes) < 3 or not whole or min(sizes) < 1:
        raise ArgumentError(f"shape must be at least three whole numbers of at least 1, got {shape!r}")
    names = name_axes("012", len(sizes), data_format or request.data_format, "shape")
    space = config.output_shape(n for n, letter in zip(sizes, names, strict=True) if letter in SPATIAL)
    return upsampled_axes(names, sizes, space, request.filters_of(config, names, sizes))[1]


def upsample(
    volume: Any,
    *,
    out: NDArray[Any] | None = None,
    axes: str | None = None,
    data_format: str | None = None,
    align: str = "kernel",
    dtype: Any = None,
    nan: str = "keep",
    precision: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    max_memory: Any = None,
    max_vram: Any = None,
    tile: Any = None,
    **layer: Any,
) -> Any:
    """Upsample a volume in memory by a transposed convolution.

    Args:
        volume: a NumPy array or a nibabel image with 3 axes, or with 4: then each volume along the last axis by
            itself, unless ``data_format`` says that an axis is channels.
        out: array of the output's shape and type to fill; for arrays only.
        axes: letters for the axes, if they are not space first: ``txyz``, ``cxyz``.
        data_format: ``channels_last`` or ``channels_first``: one axis is channels.
        align: how an image's affine follows: ``kernel``, ``centroid``, ``edge`` or ``origin`` (`affine.place`).
        dtype: ``float32``, ``float64``, ``int16``, ``uint8``, ``uint16`` or ``same``.  Integers are rounded half to
            even and clipped, never wrapped.  Default: ``same`` for kernel ``nearest``, else ``float32``.
        nan: ``keep``, ``zero`` or ``error``: what becomes of NaN and infinite voxels.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``: in which many channels are multiplied on a GPU; sums are
            of float32 in all of them.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``cuda:all`` (every GPU takes regions) or ``mps``.
        threads: how many compute at once; all processors by default.
        max_memory: bytes, or a text such as ``8GiB``, beside which the regions in flight must fit.
        max_vram: the same of each GPU's memory; most of what is free by default.
        tile: output voxels per axis of a region, one number or three.
        **layer: either ``scale`` (2 by default) and ``kernel`` (``nearest``, ``linear``, ``cubic``, ``lanczos3``,
            ``gaussian``), or ``weights`` (a file or an array ``(k1, k2, k3, filters, channels)``), ``bias``,
            ``strides``, ``padding``, ``output_padding``, ``dilation_rate``, ``activation`` and ``use_bias`` as in
            Keras's ``Conv3DTranspose``; or ``layer`` with all of them (a JSON file, a ``get_config()`` dict, or a
            layer, which brings its weights); ``kernel_initializer`` and ``seed`` draw weights.  ``boundary``:
            ``zero``, ``edge`` or ``reflect``.  ``per_channel``: a kernel of one channel for every channel by itself;
            ``reduce``: ``argmax`` keeps only the number of the largest channel, ``softmax`` makes probabilities.

    Returns:
        An array for an array, a nibabel image for an image.  Filters, if there are several, are the last axis.

    Raises:
        Conv3dtError: a child that says what is wrong; see `conv3dt.errors`.

    Examples:
        >>> import numpy as np
        >>> upsample(np.arange(4.0).reshape(1, 1, 4), scale=(1, 1, 2))[0, 0].tolist()
        [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
    """
    import numpy as np

    from conv3dt.errors import ArgumentError
    from conv3dt.io import array as arrays
    from conv3dt.job import make_job
    from conv3dt.pipeline import run

    request = _request(layer)
    source, info = _in_memory(volume, axes, data_format or request.data_format)
    is_array = isinstance(volume, np.ndarray)
    job = make_job(
        info,
        request.concrete(info.channels),
        path="the result",
        form="array" if is_array else "nii",
        align=align,
        dtype=np.dtype(dtype).name if isinstance(dtype, type) or hasattr(dtype, "name") else dtype,
        device=device,
        tile=tile,
        limits=_limits(threads, max_memory, max_vram),
        precision=precision,
        nan=nan,
    )
    result = arrays.matching(out, job.target)
    if out is not None and np.may_share_memory(out, volume):
        raise ArgumentError("out must not share memory with the volume; give an array of its own")
    run(job, source, arrays.ArraySink(result))
    if is_array:
        return result
    return _image(result, job)


def upsample_file(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    out_format: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    resume: bool = False,
    sidecar: bool = False,
    self_check: bool = False,
    start: Any = None,
    **options: Any,
) -> Report:
    """Upsample a volume from a file into a file, region by region.

    A run that was killed leaves what it had made durable, and the next one for the same output, with the same
    arguments, goes on from there; the bytes of the output are the same as without the kill.

    Args:
        input: ``.nii``, ``.nii.gz`` or ``file.h5:/dataset``; ``-`` is NIfTI from standard input, packed or not.
        output: likewise; written under another name and renamed when it is whole.
        out_format: ``nii`` or ``nii.gz``, for standard output; like the input if not given.
        overwrite: whether an existing output may be replaced.
        dry_run: resolve and report everything, write nothing.
        resume: leave what is done also where the run is interrupted or fails, for the next to go on from.
        sidecar: write a JSON file beside the output, with a record that `verify_file` can prove the output by.
        self_check: compute a sample of the output again in float64 before it gets its name.
        start: called with the number of output voxels, returns a function that is told how many are written.
        **options: as in `upsample`; and ``like``: a volume that says the strides, and whose grid the output must
            have; ``rescale``: integers get a slope with which nothing is clipped; ``nan``: ``keep``, ``zero`` or
            ``error``; ``strict_header``: refuse if a header field would be lost.

    Returns:
        The report; without ``run`` for a dry run.

    Raises:
        Conv3dtError: a child that says what is wrong; nothing is left under the output's name then.
    """
    from conv3dt.file_run import FileRun
    from conv3dt.settings import split
    from conv3dt.single import report_of

    settings, layer = split(options)
    wanted = FileRun(
        os.fspath(input),
        os.fspath(output),
        _request(layer),
        settings,
        _limits(settings.threads, settings.max_memory, settings.max_vram),
        out_format=out_format,
        overwrite=overwrite,
        keep=resume,
        self_check=self_check,
    )
    return report_of(wanted, options if sidecar else None, dry_run=dry_run, start=start)


def _request(layer: dict[str, Any]) -> LayerRequest:
    """The arguments that choose a layer; a wrong name is answered like any function's."""
    known = [each.name for each in fields(LayerRequest)]
    for name in layer:
        if name not in known:
            raise TypeError(f"unexpected keyword argument {name!r}; a layer is chosen by {', '.join(known)}")
    return LayerRequest(**layer)


def _limits(threads: Any, max_memory: Any, max_vram: Any) -> Resources:
    from conv3dt.resources import resources

    return resources(threads=threads, max_memory=max_memory, max_vram=max_vram)


def _in_memory(volume: Any, axes: str | None, data_format: str | None) -> tuple[Any, VolumeInfo]:
    """An array or an image as a source, with what is known of it."""
    import numpy as np

    from conv3dt.io import array as arrays

    if isinstance(volume, np.ndarray):
        info = arrays.info(volume, axes, data_format)
        return arrays.ArraySource(volume, info), info
    array, info = arrays.image(volume, axes, data_format)
    return arrays.ArraySource(array, info), info


def _image(result: NDArray[Any], job: Job) -> Any:
    """The output as a nibabel image of NIfTI's, with the header the file would have had."""
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    header = job.target.header
    kind = Nifti1Image if header.sizeof_hdr == 348 else Nifti2Image
    return kind(result, header.get_best_affine(), header)
