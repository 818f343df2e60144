"""What does a batch do?  From arguments to scans, what their sidecars say, and the files around them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conv3dt.batch.run import Batch
from conv3dt.discover import Scan, parse_shard, scans_of, shard
from conv3dt.errors import ArgumentError
from conv3dt.job import Job
from conv3dt.request import LayerRequest
from conv3dt.resources import resources
from conv3dt.settings import NAMES, Settings
from conv3dt.version import __version__

DEFAULT_JOBS = 2
"""While one scan is packed or made durable, another is read and computed."""
LOG, PAGE = "conv3dt.jsonl", "conv3dt.html"


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """A batch with what is done around it.

    Attributes:
        batch: itself.
        log: path of its log; page: of its page, None if there is to be none.
        stop_on_first_failure: whether a failure ends it.
        begin: writes what a dataset needs before its first scan.
    """

    batch: Batch
    log: str
    page: str | None
    stop_on_first_failure: bool
    begin: Callable[[], None]


def gather(
    inputs: Sequence[str],
    *,
    out_dir: str,
    layer: Mapping[str, Any],
    listed: str | None = None,
    bids: bool = False,
    participant_label: Sequence[str] = (),
    session: Sequence[str] = (),
    suffix: Sequence[str] = (),
    filters: Sequence[str] = (),
    desc: str = "conv3dt",
    out_format: str | None = None,
    jobs: int | None = None,
    shard: str | None = None,
    skip_existing: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    self_check: bool = False,
    stop_on_first_failure: bool = False,
    log: str | None = None,
    html: bool = False,
    dry_run: bool = False,
    **settings: Any,
) -> Gathered:
    """Return the batch that arguments mean.

    Args:
        inputs: files, folders and patterns, or with ``bids`` one dataset.
        out_dir: where the outputs go.
        layer: as in `LayerRequest`.
        listed: a file that names inputs.
        bids, participant_label, session, suffix, filters, desc: see `conv3dt.bids`.
        out_format: ``nii``, ``nii.gz`` or ``h5``; by default that of each input.
        jobs: how many scans at once; shard: which share of them, ``i/n`` from 1.
        skip_existing, overwrite: what happens where an output is there already; by default it is proved.
        resume, self_check: as in `upsample_file`.
        stop_on_first_failure, log, html, dry_run: see `Gathered` and `Batch`.
        **settings: as in `Settings`.

    Raises:
        Conv3dtError: a child that says what is wrong; nothing was written.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        if name not in NAMES:
            raise TypeError(f"unexpected keyword argument {name!r}")
    if not inputs and listed is None:
        raise ArgumentError("INPUT is missing; name files, folders or patterns, or a --list of them")
    request, wanted = LayerRequest(**layer), Settings(**given)
    request.config()  # reads the weights: what is wrong with them is wrong with every scan
    count = DEFAULT_JOBS if jobs is None else jobs
    batch = Batch(
        scans=(),
        request=request,
        settings=wanted,
        options={**layer, **given},
        limits=_shares(wanted, count),
        jobs=count,
        existing="overwrite" if overwrite else "skip" if skip_existing else "prove",
        keep=resume,
        self_check=self_check,
        dry_run=dry_run,
    )
    if bids:
        root = _dataset(inputs, listed, request)
        wanted_images = (participant_label, session, suffix, filters)
        batch, begin = _of_dataset(batch, root, wanted_images, out_dir=out_dir, desc=desc, out_format=out_format)
    else:
        if participant_label or session or suffix or filters:
            raise ArgumentError("participant-label, session, suffix and filter choose from a BIDS dataset; say --bids")
        batch = replace(batch, scans=scans_of(inputs, out_dir=out_dir, listed=listed, out_format=out_format))
        begin = _nothing
    return Gathered(
        replace(batch, scans=_share(batch.scans, shard)),
        log or os.path.join(out_dir, LOG),
        os.path.join(out_dir, _page_name(shard)) if html else None,
        stop_on_first_failure,
        begin,
    )


def _dataset(inputs: Sequence[str], listed: str | None, request: LayerRequest) -> str:
    """The root of the one dataset, if its derivative can be one."""
    if listed is not None or len(inputs) != 1:
        raise ArgumentError("bids takes one INPUT, the folder of a dataset; leave out the others")
    if request.reduce is None and not request.per_channel and request.config().filters > 1:
        raise ArgumentError(
            "bids takes one filter: an image with a further axis has another name in BIDS; leave it out"
        )
    return inputs[0]


def _of_dataset(
    batch: Batch, root: str, wanted: Sequence[Sequence[str]], *, out_dir: str, desc: str, out_format: str | None
) -> tuple[Batch, Callable[[], None]]:
    """The batch over a dataset's images, and what is written before it."""
    from conv3dt import bids

    dataset = bids.read_dataset(root)
    bids.check_out_dir(dataset, out_dir)
    strides = batch.request.config().strides
    res = bids.scale_label(strides) if batch.settings.like is None else "like"
    scans = bids.bids_scans(
        dataset, bids.parse_filter(*wanted), out_dir=out_dir, res=res, desc=desc, out_format=out_format
    )

    def content(scan: Scan, job: Job) -> Mapping[str, Any]:
        """The sidecar's; gradients and the like are copied before there is one that would prove the scan."""
        image = bids.image_at(scan.name)
        name = bids.parse_name(os.path.basename(scan.output))
        assert name is not None
        bids.copy_companions(bids.companions(dataset, image, name), out_dir)
        told = bids.metadata(dataset, image)
        return bids.sidecar(told, dataset=dataset, image=image, upsampling=bids.upsampling_of(job))

    def begin() -> None:
        bids.prepare(dataset, out_dir, version=__version__, ignored=(LOG, PAGE.replace(".", "*.")))

    _check_labels(batch.request, scans)
    return replace(batch, scans=scans, content=content), begin


def _check_labels(request: LayerRequest, scans: Sequence[Scan]) -> None:
    """Refuse to mix labels: BIDS says by a suffix which images hold some."""
    from conv3dt.bids.choose import LABELS

    if request.is_named and request.kernel_name == "nearest":
        return
    for scan in scans:
        suffix = os.path.basename(scan.input).split(".")[0].rpartition("_")[2]
        if suffix in LABELS - {"probseg"}:
            raise ArgumentError(f"{scan.name}: holds labels, which this kernel would mix; say --kernel nearest")


def _nothing() -> None:
    """Plain folders need nothing before their first scan."""


def _shares(settings: Settings, jobs: int) -> Any:
    """What each of the jobs may take, once the libraries that all need are in memory."""
    limits = resources(threads=settings.threads, max_memory=settings.max_memory, max_vram=settings.max_vram)
    import conv3dt.engine.direct
    import conv3dt.io.files
    import conv3dt.io.nifti  # noqa: F401

    return limits.shared(jobs)


def _page_name(text: str | None) -> str:
    """Each shard has a page of its own."""
    return PAGE if text is None else PAGE.replace(".", f"-{'-of-'.join(map(str, parse_shard(text)))}.")


def _share(scans: Sequence[Scan], text: str | None) -> Sequence[Scan]:
    return scans if text is None else shard(scans, *parse_shard(text))
