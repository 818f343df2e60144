"""What does a BIDS file name say, and what is a derivative of it called?  Strings only.

A name is entities (``key-value``, joined by ``_``), a suffix and an extension: BIDS specification, Filenames.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from conv3dt.errors import ArgumentError

ENTITIES = {
    "sub": "subject",
    "tpl": "template",
    "ses": "session",
    "cohort": "cohort",
    "sample": "sample",
    "task": "task",
    "tracksys": "tracksys",
    "acq": "acquisition",
    "nuc": "nucleus",
    "voi": "volume",
    "ce": "ceagent",
    "trc": "tracer",
    "stain": "stain",
    "rec": "reconstruction",
    "dir": "direction",
    "run": "run",
    "mod": "modality",
    "echo": "echo",
    "flip": "flip",
    "inv": "inversion",
    "mt": "mtransfer",
    "part": "part",
    "proc": "processing",
    "hemi": "hemisphere",
    "space": "space",
    "split": "split",
    "recording": "recording",
    "chunk": "chunk",
    "atlas": "atlas",
    "seg": "segmentation",
    "scale": "scale",
    "res": "resolution",
    "den": "density",
    "label": "label",
    "desc": "description",
}
"""The entities of BIDS 1.11 by key, with their long names, in the order in which they stand in a file name."""

INDICES = frozenset(("run", "echo", "flip", "inv", "split", "chunk"))
"""Entities whose values are numbers, which zeros in front do not change."""

DERIVED = ("space", "res", "den", "label", "desc")
"""Entities that only derivatives have."""

_ORDER = {key: place for place, key in enumerate(ENTITIES)}
_LABEL = re.compile(r"[0-9a-zA-Z+]+")
_NAME = re.compile(r"(?P<entities>(?:[a-zA-Z]+-[0-9a-zA-Z+]+_)*)(?P<suffix>[0-9a-zA-Z]+)(?P<extension>\.[0-9a-zA-Z.]+)")


@dataclass(frozen=True, slots=True)
class Name:
    """A file name in its parts: entities as (key, value) in the order of the name, extension with its dot."""

    entities: tuple[tuple[str, str], ...]
    suffix: str
    extension: str

    def __str__(self) -> str:
        return "_".join([*(f"{key}-{value}" for key, value in self.entities), self.suffix]) + self.extension

    def get(self, key: str) -> str | None:
        """Return the value of an entity, None if the name has none."""
        return dict(self.entities).get(key)


def parse_name(name: str) -> Name | None:
    """Return the parts of a file name, None if it is no BIDS name.

    >>> parse_name("sub-01_task-rest_bold.nii.gz")
    Name(entities=(('sub', '01'), ('task', 'rest')), suffix='bold', extension='.nii.gz')
    >>> parse_name("scan 1.nii"), parse_name("sub-01_sub-02_T1w.nii")
    (None, None)
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    entities = tuple((key, value) for key, _, value in (pair.partition("-") for pair in found[1].split("_")[:-1]))
    if len(dict(entities)) < len(entities):
        return None
    return Name(entities, found["suffix"], found["extension"])


def output_name(source: Name, *, res: str, desc: str, extension: str | None = None) -> Name:
    """Return the name of the upsampled image: other ``res-`` and ``desc-``, in the order of BIDS.

    Args:
        source: of the input; what it says of resolution and description is replaced.
        res: the new label of resolution; desc: of description.
        extension: ``.nii`` or ``.nii.gz``; that of the source if None.

    >>> str(output_name(parse_name("sub-01_ses-a_space-MNI305_desc-preproc_T1w.nii.gz"), res="up2", desc="conv3dt"))
    'sub-01_ses-a_space-MNI305_res-up2_desc-conv3dt_T1w.nii.gz'
    """
    entities = dict(source.entities) | {"res": check_label("res", res), "desc": check_label("desc", desc)}
    # An entity that BIDS does not know keeps its place among those of the source, before the two.
    ordered = sorted(entities, key=lambda key: _ORDER.get(key, _ORDER["res"] - 0.5))
    return Name(tuple((key, entities[key]) for key in ordered), source.suffix, extension or source.extension)


def scale_label(strides: Sequence[int]) -> str:
    """Return the label of resolution for strides, in the order of the file's axes.

    >>> scale_label((2, 2, 2)), scale_label((2, 2, 1))
    ('up2', 'up2x2x1')
    """
    return "up" + (str(strides[0]) if len(set(strides)) == 1 else "x".join(map(str, strides)))


def check_label(what: str, label: str) -> str:
    """Return a label, if it is one.

    Raises:
        ArgumentError: BIDS allows letters, digits and ``+`` only.
    """
    if not _LABEL.fullmatch(label):
        raise ArgumentError(f"{what} label must be letters and digits only, got {label!r}")
    return label


def same_value(key: str, one: str, other: str) -> bool:
    """Whether two values of an entity mean the same.

    >>> same_value("run", "1", "01"), same_value("ses", "1", "01")
    (True, False)
    """
    if key in INDICES and one.isdigit() and other.isdigit():
        return one.lstrip("0") == other.lstrip("0")
    return one == other


def short_key(key: str) -> str:
    """Return the key of an entity that may be given by its long name.

    >>> short_key("acquisition"), short_key("acq"), short_key("mine")
    ('acq', 'acq', 'mine')
    """
    return {long: short for short, long in ENTITIES.items()}.get(key, key)
