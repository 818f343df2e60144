"""How is a file damaged?  Bytes in, bytes out; a generator chooses how and where, so one seed always damages alike."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Span = tuple[int, int]
"""Half-open range of bytes."""

NUMBERS = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1,
           2**63, 2**64 - 1)  # fmt: skip
"""Whole numbers at which programs stumble."""
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, -1e38, 3e38, 1e10, 1e300, 5e-324, float("nan"), float("inf"),
          float("-inf"))  # fmt: skip
DEEP = 20_000
"""Levels of nesting that no parser follows by recursion."""


def damaged(raw: bytes, chance: random.Random, spans: Sequence[Span] = ()) -> bytes:
    """Return bytes damaged once to three times, most often within ``spans``."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        raw = chance.choice(WAYS)(raw, chance, _span(raw, chance, spans))
    return raw


def _span(raw: bytes, chance: random.Random, spans: Sequence[Span]) -> Span:
    start, stop = chance.choice(spans) if spans and chance.random() < 0.85 else (0, len(raw))
    return min(start, len(raw)), min(stop, len(raw))


def _part(span: Span, chance: random.Random, most: int) -> Span:
    start = chance.randint(*span)
    return start, min(start + chance.randint(1, most), span[1])


def flipped(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """Turn a few bits."""
    found = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16)) if span[0] < span[1] else 0):
        found[chance.randrange(*span)] ^= 1 << chance.randrange(8)
    return bytes(found)


def cut(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """End early."""
    return raw[: chance.randint(*span)]


def zeroed(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """Overwrite a stretch by zeros, or by ones."""
    start, stop = _part(span, chance, 64)
    return raw[:start] + chance.choice((b"\0", b"\xff")) * (stop - start) + raw[stop:]


def random_bytes(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """Overwrite a stretch by noise."""
    start, stop = _part(span, chance, 32)
    return raw[:start] + chance.randbytes(stop - start) + raw[stop:]


def swapped(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """Exchange two stretches that follow one another."""
    a, b, c = sorted(chance.randint(*span) for _ in range(3))
    return raw[:a] + raw[b:c] + raw[a:b] + raw[c:]


def repeated(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """Say a stretch twice."""
    start, stop = _part(span, chance, 256)
    return raw[:stop] + raw[start:stop] + raw[stop:]


def left_out(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """Leave a stretch out."""
    start, stop = _part(span, chance, 64)
    return raw[:start] + raw[stop:]


def numbered(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """Write an extreme number over what is there, in either byte order."""
    size = chance.choice((1, 2, 4, 8))
    number: bytes = (chance.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
    start = chance.randint(*span)
    return raw[:start] + (number if chance.random() < 0.5 else number[::-1]) + raw[start + size :]


def floated(raw: bytes, chance: random.Random, span: Span) -> bytes:
    """Write a float that is extreme, or none, over what is there."""
    with np.errstate(over="ignore"):
        number = np.array(chance.choice(FLOATS)).astype(chance.choice(("<f4", ">f4", "<f8", ">f8"))).tobytes()
    start = chance.randint(*span)
    return raw[:start] + number + raw[start + len(number) :]


WAYS: tuple[Callable[[bytes, random.Random, Span], bytes], ...] = (
    flipped, flipped, flipped, cut, cut, zeroed, random_bytes, swapped, repeated, left_out, numbered, numbered, floated,
)  # fmt: skip


# What has fields.


def with_fields(raw: bytes, chance: random.Random, dtype: np.dtype[Any], names: Sequence[str] = ()) -> bytes:
    """Return bytes that begin with a header of ``dtype``, of which a few fields are extreme.

    Args:
        raw: the file; dtype: of its header.
        chance: chooses.
        names: fields to choose from; all if there are none.
    """
    header = np.frombuffer(raw, dtype, 1).copy()
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        field = header[chance.choice(list(names) or list(dtype.names or ()))].reshape(-1)
        place = chance.randrange(len(field))
        with np.errstate(all="ignore"):
            if field.dtype.kind == "f":
                field[place] = np.array(chance.choice(FLOATS)).astype(field.dtype)
            elif field.dtype.kind in "iu":
                number = chance.choice((*NUMBERS, 348, 540, 352, 1002, 128, 512, 1024)) % 2 ** (8 * field.itemsize)
                field[place] = np.array(number, np.uint64).astype(field.dtype)
            else:
                field[place] = chance.randbytes(chance.randint(0, field.itemsize))
    return header.tobytes() + raw[dtype.itemsize :]


# What is packed.


def repacked(raw: bytes, chance: random.Random) -> bytes:
    """Return a gzip file of the same bytes, packed otherwise: in members, with names and comments, not at all."""
    parts = sorted(chance.randint(0, len(raw)) for _ in range(chance.randint(0, 4)))
    pieces = [raw[a:b] for a, b in zip([0, *parts], [*parts, len(raw)], strict=True)]
    return b"".join(gzip.compress(piece, chance.choice((0, 1, 9)), mtime=0) for piece in pieces)


def bomb(start: bytes, count: int, *, sound: bool = True) -> bytes:
    """Return a gzip file of ``start`` and then ``count`` MiB of zeros, of a thousandth of their size.

    Args:
        start: what comes first; count: how much is behind it.
        sound: whether checksum and length are right.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = zlib.crc32(start) ^ (0 if sound else 1)
    if sound:
        from isal import isal_zlib

        zeros = zlib.crc32(bytes(2**20))
        for _ in range(count):
            crc = isal_zlib.crc32_combine(crc, zeros, 2**20)
    end = b"\x03\0" + struct.pack("<II", crc, (len(start) + count * 2**20) % 2**32)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + first + block * count + end


def repacked_archive(raw: bytes, chance: random.Random, *, json_too: bool = True) -> bytes:
    """Return a zip archive of which one entry is damaged, so that its checksum is right all the same."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as before, zipfile.ZipFile(stream, "w") as after:
        entries = before.infolist()
        chosen = chance.choice(entries)
        for entry in entries:
            content = before.read(entry)
            if entry is chosen:
                as_json = json_too and entry.filename.endswith(".json")
                content = damaged_json(content, chance) if as_json else damaged(content, chance, [(0, 200)])
            after.writestr(zipfile.ZipInfo(entry.filename), content, entry.compress_type)
    return stream.getvalue()


# What is text.

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 2**31, 2**63, 2**64, -(2**64), 10**400, 0.5, 1e308, float("nan"), float("inf"),
    "", "same", "linear", "x" * 5000, "\0", "\ud800", "\x1b[31m", "..", "/", "../../x", "nan", [], {}, [[]], [1, 2],
    [2, 2, 2], [0, 0, 0], [-1, 2, 2], [1e9, 1, 1], ["a"] * 50, {"a": 1},
    {"class_name": "Conv3DTranspose", "config": {}}, {"class_name": "Zeros"}, {"class_name": None},
    "@deep[", "@deep{",
)  # fmt: skip


def damaged_json(text: bytes, chance: random.Random) -> bytes:
    """Return JSON of which bytes are damaged, or values and keys exchanged for others."""
    if chance.random() < 0.3:
        return damaged(text, chance)
    value = json.loads(text)
    for _ in range(chance.choice((1, 1, 2, 4))):
        value = _with_another(value, chance)
    found = json.dumps(value).encode()
    found = found.replace(b'"@deep["', b"[" * DEEP + b"]" * DEEP)
    return found.replace(b'"@deep{"', b'{"a":' * DEEP + b"1" + b"}" * DEEP)


def _with_another(value: Any, chance: random.Random) -> Any:
    """The same tree with one node exchanged, left out, or said under another name."""
    if isinstance(value, dict) and value and chance.random() < 0.93:
        key, how = chance.choice(list(value)), chance.random()
        if how < 0.08:
            return {name: inner for name, inner in value.items() if name != key}
        if how < 0.14:
            return {(chance.choice(("", "x", "kernel", "name")) if name == key else name): inner
                    for name, inner in value.items()}  # fmt: skip
        return value | {key: _with_another(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], _with_another(value[place], chance), *value[place + 1 :]]
    return chance.choice(VALUES)


WORDS = (b"", b"\0", b"[", b"[[a]]", b'"', b"nan", b"-inf", b"1979-05-27T07:32:00Z", b"0x7fffffffffffffff", b"{}",
         b"''", b"[1, 2]", b"[2, 2.5, 2]", b"9" * 400, b"[" * 2000, b"a.b.c = 1", b"\xff\xfe", b"true",
         b"\x1b[2J", b"=")  # fmt: skip


def damaged_text(text: bytes, chance: random.Random) -> bytes:
    """Return text of which bytes or words are damaged, or lines exchanged or said twice."""
    how = chance.random()
    if how < 0.5:
        return damaged(text, chance)
    lines = text.split(b"\n")
    if how < 0.7:
        chance.shuffle(lines)
        return b"\n".join(lines + lines[: chance.randint(0, 2)])
    words = text.split(b" ")
    words[chance.randrange(len(words))] = chance.choice(WORDS)
    return b" ".join(words)
