"""When was a group last changed?  As its file said before a dataset was added: what is made alike is the same bytes.

HDF5 notes the time of day in every group that a dataset is added to, if the group was made to keep such times (as
newer versions of the file format do), and cannot be asked not to.  In its specification (version 3.0, IV.A.1.b) such a
group begins with ``OHDR``, a version, flags, four times of four bytes and the size of what follows, and ends with a
checksum: Bob Jenkins's lookup3 of all bytes before it.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py

from conv3dt.io.hdf5_file import opened

SIGNATURE, VERSION = b"OHDR", 2
HAS_TIMES, HAS_PHASES, SIZE_BITS = 0x20, 0x10, 0x03
TIMES = slice(6, 22)
MASK = 0xFFFFFFFF


def copy_times(before: Path, after: Path, name: str) -> None:
    """Give the groups on the way to a dataset the times that they had.

    Args:
        before: the file as it was; after: the copy that the dataset was added to.
        name: of the dataset.
    """
    old, new = _headers(before, name), _headers(after, name)
    with before.open("rb", buffering=0) as source, after.open("r+b", buffering=0) as target:
        for group, at in old.items():
            times = _times(source.fileno(), at)
            if times is not None:
                _put_times(target.fileno(), new[group], times)


def _headers(path: Path, name: str) -> dict[str, int]:
    """Where the groups on the way to a dataset begin, those that are there."""
    found = {}
    with opened(str(path)) as file:
        node, names = file["/"], name.strip("/").split("/")
        for child in names:
            found[node.name] = h5py.h5o.get_info(node.id).addr + file.userblock_size
            node = node.get(child)
            if not isinstance(node, h5py.Group):
                break
    return found


def _times(descriptor: int, at: int) -> bytes | None:
    """The times of the group that begins there, if it keeps any."""
    start = os.pread(descriptor, TIMES.stop, at)
    return start[TIMES] if start[:5] == SIGNATURE + bytes([VERSION]) and start[5] & HAS_TIMES else None


def _put_times(descriptor: int, at: int, times: bytes) -> None:
    flags = os.pread(descriptor, 1, at + 5)[0]
    place = TIMES.stop + (4 if flags & HAS_PHASES else 0)
    width = 1 << (flags & SIZE_BITS)
    length = place + width + int.from_bytes(os.pread(descriptor, width, at + place), "little")
    header = bytearray(os.pread(descriptor, length, at))
    header[TIMES] = times
    os.pwrite(descriptor, header + lookup3(bytes(header)).to_bytes(4, "little"), at)


def lookup3(data: bytes) -> int:
    """Return Bob Jenkins's hash of bytes (2006, ``hashlittle`` with an initial value of 0), 32 bits.

    >>> hex(lookup3(b"Four score and seven years ago"))
    '0x17770551'
    """
    a = b = c = (0xDEADBEEF + len(data)) & MASK
    while len(data) > 12:
        a, b, c = _mixed(*_added(data[:12], a, b, c))
        data = data[12:]
    return _final(*_added(data, a, b, c)) if data else c


def _added(data: bytes, a: int, b: int, c: int) -> tuple[int, int, int]:
    first, second, third = (int.from_bytes(data[start : start + 4], "little") for start in (0, 4, 8))
    return (a + first) & MASK, (b + second) & MASK, (c + third) & MASK


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for shift in (4, 6, 8, 16, 19, 4):
        a = (a - c) & MASK ^ _turned(c, shift)
        a, b, c = b, (c + b) & MASK, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turned(b, shift)) & MASK
        a, b, c = b, c, a
    return b


def _turned(value: int, shift: int) -> int:
    return (value << shift | value >> (32 - shift)) & MASK
