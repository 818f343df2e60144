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
    device: str = "auto",
    threads: int | None = None,
    max_memory: Any = None,
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
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: how many compute at once; all processors by default.
        max_memory: bytes, or a text such as ``8GiB``, beside which the regions in flight must fit.
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
    from conv3dt.pipeline import run

    request = _request(layer)
    source, info = _in_memory(volume, axes, data_format or request.data_format)
    is_array = isinstance(volume, np.ndarray)
    form = "array" if is_array else "nifti"
    job = _job(
        info, request, "the result", form, align=align, dtype=dtype, device=device, threads=threads,
        max_memory=max_memory, tile=tile,
    )  # fmt: skip
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
    axes: str | None = None,
    data_format: str | None = None,
    align: str = "kernel",
    dtype: Any = None,
    device: str = "auto",
    threads: int | None = None,
    max_memory: Any = None,
    tile: Any = None,
    overwrite: bool = False,
    dry_run: bool = False,
    start: Any = None,
    **layer: Any,
) -> Report:
    """Upsample a volume from a file into a file, region by region.

    Args:
        input: ``.nii``, ``.nii.gz`` or ``file.h5:/dataset``.
        output: likewise; written under another name and renamed when it is whole.
        overwrite: whether an existing output may be replaced.
        dry_run: resolve and report everything, write nothing.
        start: called with the number of output voxels, returns a function that is told how many are written.
        axes, data_format, align, dtype, device, threads, max_memory, tile, **layer: as in `upsample`.

    Returns:
        The report; without ``run`` for a dry run.

    Raises:
        Conv3dtError: a child that says what is wrong; nothing is left under the output's name then.
    """
    from conv3dt.describe import job_report
    from conv3dt.io.files import check_output, output_format, read_info

    input, output = os.fspath(input), os.fspath(output)
    form = output_format(output)
    request = _request(layer)
    info = read_info(input, axes=axes, data_format=data_format or request.data_format)
    check_output(output, overwrite=overwrite)
    job = _job(
        info, request, output, form, align=align, dtype=dtype, device=device, threads=threads, max_memory=max_memory,
        tile=tile,
    )  # fmt: skip
    if dry_run:
        return job_report(job, align)
    return _run_files(job, align, overwrite, start)


def _request(layer: dict[str, Any]) -> LayerRequest:
    """The arguments that choose a layer; a wrong name is answered like any function's."""
    known = [each.name for each in fields(LayerRequest)]
    for name in layer:
        if name not in known:
            raise TypeError(f"unexpected keyword argument {name!r}; a layer is chosen by {', '.join(known)}")
    return LayerRequest(**layer)


def _run_files(job: Job, align: str, overwrite: bool, start: Any) -> Report:
    from contextlib import closing
    from math import prod
    from time import perf_counter

    from conv3dt.describe import job_report
    from conv3dt.io.files import create_sink, open_source
    from conv3dt.pipeline import run
    from conv3dt.resources import peak

    in_order = job.plan.in_slabs and job.source.in_file_order and job.target.in_file_order
    sink = create_sink(job.target.path, job.target, overwrite=overwrite, threads=job.choice.threads, in_order=in_order)
    try:
        with closing(open_source(job.source, threads=job.choice.threads, in_order=in_order)) as source:
            tally = run(job, source, sink, start(prod(job.target.space) * job.plan.batch) if start else None)
            source.finish()
        clock = perf_counter()
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    tally.write_s += perf_counter() - clock
    tally.wall_s += perf_counter() - clock
    return job_report(job, align, tally, peak())


def _job(
    info: VolumeInfo, request: LayerRequest, path: str, form: str, *, align: str, dtype: Any, device: str,
    threads: int | None, max_memory: Any, tile: Any,
) -> Job:  # fmt: skip
    from conv3dt.job import make_job
    from conv3dt.resources import resources

    if isinstance(dtype, type) or hasattr(dtype, "name"):  # NumPy's own ways to say a type
        import numpy as np

        dtype = np.dtype(dtype).name

    return make_job(
        info,
        request.concrete(info.channels),
        path=path,
        form=form,
        align=align,
        dtype=dtype,
        device=device,
        tile=tile,
        limits=resources(threads=threads, max_memory=max_memory),
    )


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
