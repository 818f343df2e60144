"""Which images of a dataset are wanted, and what will their outputs be called?  Values only."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from conv3dt.bids.dataset import Dataset, Image
from conv3dt.bids.names import ENTITIES, output_name, same_value, short_key
from conv3dt.discover import Scan, check_name, check_outputs
from conv3dt.errors import ArgumentError, InputMissingError
from conv3dt.visible import visible

LABELS = frozenset(("mask", "dseg", "probseg", "defacemask"))
"""Suffixes of label images, which a mixing kernel would spoil; they come only when named."""

DATATYPE = "datatype"
"""What a filter may name beside entities: the folder."""

MOST_LISTED = 12


@dataclass(frozen=True, slots=True)
class BidsFilter:
    """What is wanted of a dataset; what is empty does not choose.

    Attributes:
        participant_label, session: labels, without ``sub-`` and ``ses-``.
        suffix: such as ``T1w``, ``bold``.
        filters: values by entity, or by ``datatype``; an empty value is an image without that entity.
    """

    participant_label: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse_filter(
    participant_label: Iterable[str] = (),
    session: Iterable[str] = (),
    suffix: Iterable[str] = (),
    filters: Iterable[str] = (),
) -> BidsFilter:
    """Return a filter from words, each of which may be a list with commas.

    Args:
        participant_label, session: with or without ``sub-`` and ``ses-``.
        suffix: such as ``T1w,T2w``.
        filters: ``entity=value``, by the entity's short or long name; ``acq=`` is an image without it.

    >>> parse_filter(["sub-01,02"], filters=["task=rest,nback", "acquisition="]).filters
    {'task': ('rest', 'nback'), 'acq': ('',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in filters:
        key, sign, values = (part.strip() for part in text.partition("="))
        if not sign or not key:
            raise ArgumentError(f"filter must be entity=value, such as task=rest, got {text!r}")
        key = short_key(key)
        found[key] = found.get(key, ()) + tuple(value.strip().removeprefix(f"{key}-") for value in values.split(","))
    return BidsFilter(
        tuple(label.removeprefix("sub-") for label in _words(participant_label)),
        tuple(label.removeprefix("ses-") for label in _words(session)),
        tuple(_words(suffix)),
        found,
    )


def _words(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (word.strip() for word in text.split(",") if word.strip())


def choose(dataset: Dataset, wanted: BidsFilter) -> tuple[Image, ...]:
    """Return the images that are wanted, by path.

    Without a suffix these are images of ``anat/``, or of the datatypes that a filter names, but no masks and
    segmentations; with one, all of that suffix.

    Raises:
        ArgumentError: a filter names what is neither an entity of BIDS nor of this dataset.
        InputMissingError: a participant is not there, or nothing is wanted; it says what there is.
    """
    _check_entities(dataset, wanted)
    _check_participants(dataset, wanted)
    chosen = tuple(image for image in dataset.images if _is_wanted(image, wanted))
    if not chosen:
        raise InputMissingError(f"bids {visible(dataset.root)}: no image is {_said(wanted)}; {_there(dataset)}")
    return chosen


def bids_scans(
    dataset: Dataset, wanted: BidsFilter, *, out_dir: str, res: str, desc: str, out_format: str | None = None
) -> tuple[Scan, ...]:
    """Return the scans of a batch over a dataset; ``name`` is the image's path from the root, with ``/``.

    Args:
        dataset: which images there are.
        wanted: which of them are meant.
        out_dir: the root of the derivative; each output lies in it as its image does in the dataset.
        res: the label of resolution, see `scale_label`.
        desc: the label of description.
        out_format: ``nii`` or ``nii.gz``; by default that of the image.

    Raises:
        ArgumentError: an argument cannot be, or two outputs would get one name.
        InputMissingError: nothing is wanted.
    """
    if out_format not in (None, "nii", "nii.gz"):
        raise ArgumentError(f"out_format must be nii or nii.gz, the formats of BIDS, got {out_format!r}")
    check_name("out_dir", out_dir)
    if os.path.realpath(out_dir) == os.path.realpath(dataset.root):
        raise ArgumentError(f"out_dir {visible(out_dir)}: is the dataset itself; choose one in its derivatives/")
    extension = None if out_format is None else f".{out_format}"
    scans = []
    for image in choose(dataset, wanted):
        name = output_name(image.name, res=res, desc=desc, extension=extension)
        output = os.path.join(out_dir, *image.folder.split("/"), str(name))
        scans.append(Scan(os.path.join(dataset.root, image.path), output, image.path, image.name.entities))
    return check_outputs(scans)


def _is_wanted(image: Image, wanted: BidsFilter) -> bool:
    datatypes = wanted.filters.get(DATATYPE, () if wanted.suffix else ("anat",))
    if datatypes and image.datatype not in datatypes:
        return False
    if wanted.suffix and image.name.suffix not in wanted.suffix:
        return False
    if not wanted.suffix and image.name.suffix in LABELS:
        return False
    entities = {key: values for key, values in wanted.filters.items() if key != DATATYPE}
    asked = [("sub", wanted.participant_label), ("ses", wanted.session), *entities.items()]
    return all(_has(image, key, values) for key, values in asked if values)


def _has(image: Image, key: str, values: tuple[str, ...]) -> bool:
    return any(same_value(key, image.name.get(key) or "", value) for value in values)


def _check_entities(dataset: Dataset, wanted: BidsFilter) -> None:
    there = {key for image in dataset.images for key, _ in image.name.entities}
    for key in wanted.filters:
        if key not in ENTITIES and key not in there and key != DATATYPE:
            raise ArgumentError(
                f"filter {visible(key)}=: no such entity; this dataset has {_some(sorted(there))}, and {DATATYPE}"
            )


def _check_participants(dataset: Dataset, wanted: BidsFilter) -> None:
    there = _labels(dataset, "sub")
    missing = [label for label in wanted.participant_label if label not in there]
    if missing:
        raise InputMissingError(
            f"bids {visible(dataset.root)}: participant {_some(missing)} is not there; there are {_some(there)}"
        )


def _labels(dataset: Dataset, key: str) -> list[str]:
    return sorted({value for image in dataset.images if (value := image.name.get(key))})


def _said(wanted: BidsFilter) -> str:
    """A filter in words."""
    parts = {"participant": wanted.participant_label, "session": wanted.session, "suffix": wanted.suffix}
    told = [f"{name} {','.join(values)}" for name, values in parts.items() if values]
    told += [f"{key}={','.join(values)}" for key, values in wanted.filters.items()]
    return visible(" and ".join(told)) if told else "in anat/"


def _there(dataset: Dataset) -> str:
    """What there is to choose from."""
    kinds = Counter(f"{image.datatype}/{image.name.suffix}" for image in dataset.images)
    told = [f"subjects {_some(_labels(dataset, 'sub'))}" if dataset.images else "no image with a BIDS name"]
    if sessions := _labels(dataset, "ses"):
        told.append(f"sessions {_some(sessions)}")
    if kinds:
        told.append(f"images {_some([f'{kind} ({count})' for kind, count in sorted(kinds.items())])}")
    if dataset.misnamed:
        told.append(f"{len(dataset.misnamed)} NIfTI files without a BIDS name, such as {visible(dataset.misnamed[0])}")
    return "there are " + "; ".join(told)


def _some(words: Sequence[str]) -> str:
    listed = visible(", ".join(words[:MOST_LISTED]))
    return listed if len(words) <= MOST_LISTED else f"{listed} and {len(words) - MOST_LISTED} more"
