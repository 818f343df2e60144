"""What do the axes of a volume mean?  One letter each, in the order in which the file lists them; strings only.

Three of ``ijkxyz012`` are space (``012`` where a file does not name them), ``c`` is channels, any other letter is one
volume after another (``t`` first).
"""

from __future__ import annotations

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


def check_axes(axes: object, ndim: int) -> str:
    """Return axes given by the user, if they can be."""
    letters = axes.lower().replace(",", "") if isinstance(axes, str) else ""
    if len(letters) != ndim or len(set(letters)) != ndim or sum(letter in SPATIAL for letter in letters) != 3:
        raise ArgumentError(
            f"axes must name each of {ndim} axes once, three of them x, y, z, with c for channels and t for one "
            f"volume after another, got {axes!r}"
        )
    return letters
