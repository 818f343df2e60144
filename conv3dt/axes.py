"""What do the axes of a volume mean?  One letter each, in the order in which the file lists them; strings only.

Three of ``ijkxyz012`` are space (``012`` where a file does not name them), ``c`` is channels, any other letter is one
volume after another (``t`` first).
"""

from __future__ import annotations

from collections.abc import Sequence

from conv3dt.errors import ArgumentError, DataError

SPATIAL = frozenset("ijkxyz012")
DATA_FORMATS = ("channels_last", "channels_first")


def name_axes(names: str, ndim: int, data_format: str | None, path: str) -> str:
    """Return one letter per axis.

    Args:
        names: the letters of three spatial axes, in order (``ijk``), or of all axes if the file names them.
        ndim: how many axes there are.
        data_format: ``channels_last`` or ``channels_first`` says that an axis is channels, else further axes are
            one volume after another.
        path: for messages.

    With channels, arrays put volumes first, as Keras does; NIfTI (``ijk``) puts them behind space.

    >>> name_axes("ijk", 4, None, ""), name_axes("ijk", 4, "channels_first", ""), name_axes("012", 5, None, "")
    ('ijkt', 'cijk', '012tu')
    >>> name_axes("ijk", 5, "channels_last", ""), name_axes("012", 5, "channels_last", "")
    ('ijktc', 't012c')
    """
    if not 3 <= ndim <= 7:
        raise DataError(f"{path}: a volume must have 3 to 7 axes, got {ndim}; reshape it or choose another dataset")
    if data_format is not None and data_format not in DATA_FORMATS:
        raise ArgumentError(f"data_format must be one of {', '.join(DATA_FORMATS)}, got {data_format!r}")
    if len(names) == ndim > 3:
        return names
    others = "tuvw"
    if data_format is None or ndim == 3:
        return names + others[: ndim - 3]
    volumes = others[: ndim - 4]
    if names == "ijk":
        return names + volumes + "c" if data_format == "channels_last" else "c" + names + volumes
    return volumes + names + "c" if data_format == "channels_last" else volumes + "c" + names


def upsampled_axes(
    axes: str, shape: Sequence[int], space: Sequence[int], filters: int | None
) -> tuple[str, tuple[int, ...]]:
    """Return axes and shape of what a volume becomes.

    Args:
        axes: of the volume; shape: its voxels per axis.
        space: what its spatial axes become.
        filters: what its channels become: a new last axis where it has none; None if they become one label.

    >>> upsampled_axes("t012", (5, 8, 8, 8), (16, 16, 16), 3)
    ('t012c', (5, 16, 16, 16, 3))
    >>> upsampled_axes("c012", (9, 8, 8, 8), (16, 16, 16), None)
    ('012', (16, 16, 16))
    """
    lengths = iter(space)
    sizes = [
        (letter, (filters or 0) if letter == "c" else next(lengths) if letter in SPATIAL else n)
        for letter, n in zip(axes, shape, strict=True)
    ]
    if filters is None:
        sizes = [(letter, n) for letter, n in sizes if letter != "c"]
    elif "c" not in axes and filters > 1:
        sizes.append(("c", filters))
    return "".join(letter for letter, _ in sizes), tuple(n for _, n in sizes)


def check_axes(axes: object, ndim: int) -> str:
    """Return axes given by the user, if they can be."""
    letters = axes.lower().replace(",", "") if isinstance(axes, str) else ""
    if len(letters) != ndim or len(set(letters)) != ndim or sum(letter in SPATIAL for letter in letters) != 3:
        raise ArgumentError(
            f"axes must name each of {ndim} axes once, three of them x, y, z, with c for channels and t for one "
            f"volume after another, got {axes!r}"
        )
    return letters
