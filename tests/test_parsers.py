"""What do the parsers do with bytes that nobody would write?  Refuse them in one line, or understand them.

HDF5 is left to `test_damaged`: its library meets damage in another process.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conv3dt import paths
from conv3dt.bids.names import output_name, parse_name
from conv3dt.errors import Conv3dtError, DataError
from conv3dt.io import gzip_stream, nifti_header
from conv3dt.record import KEY, recalled, record_of, to_folder_of
from conv3dt.weights import read_weights
from conv3dt.weights.keras_config import parsed
from tests.conftest import Run
from tests.damage_cases import sound_files


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_files(tmp_path_factory.mktemp("parsers") / "sound").folder


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
PATCHES = st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def patched(raw: bytes, patches: list[tuple[int, bytes]], length: int | None = None) -> bytes:
    """Overwrite bytes here and there; beyond the end, at the end."""
    for place, new in patches:
        place = min(place, len(raw))
        raw = raw[:place] + new + raw[place + len(new) :]
    return raw[:length]


@QUICK
@given(st.sampled_from("abcd"), PATCHES, st.none() | st.integers(0, 1400))
def test_nifti_headers(sound: Path, letter: str, patches: list[tuple[int, bytes]], length: int | None) -> None:
    """Refused as bad data, or understood, and written again so that it is understood alike."""
    raw = patched((sound / f"{letter}.nii").read_bytes(), patches, length)
    try:
        header, offset = nifti_header.parse(raw[:540], "x")
        header = nifti_header.with_extensions(header, raw[header.sizeof_hdr : offset])
        found = nifti_header.info(header, "x", compressed=False, axes=None, data_format=None)
    except DataError as refusal:
        assert len(str(refusal).splitlines()) == 1
        return
    assert min(found.shape) >= 1
    assert found.dtype.itemsize <= 8
    again = nifti_header.serialised(header)
    back, place = nifti_header.parse(again[:540], "x")
    back = nifti_header.with_extensions(back, again[back.sizeof_hdr : place])
    assert _contents(back) == _contents(header)
    assert nifti_header.serialised(back) == again


def _contents(header: Any) -> list[bytes]:
    """What extensions say; zeros fill them up to a multiple of 16 bytes."""
    return [bytes(extension.get_content()).rstrip(b"\0") for extension in header.extensions]


@QUICK
@given(st.lists(st.binary(max_size=60) | st.binary(max_size=600), min_size=1, max_size=5), PATCHES, st.booleans())
def test_gzip_streams(tmp_path: Path, pieces: list[bytes], patches: Any, harmed: bool) -> None:
    """What is sound comes out as it went in, in however many members; of what is not, a beginning at most."""
    whole = b"".join(pieces)
    raw = b"".join(gzip.compress(piece, mtime=0) for piece in pieces)
    path = tmp_path / "x.gz"
    path.write_bytes(patched(raw, patches) if harmed else raw)
    view = memoryview(bytearray(len(whole)))
    try:
        start = gzip_stream.beginning(str(path), 40)
        reader = gzip_stream.GzipReader(str(path), "x")
        try:
            count = reader.read_up_to(view)
            reader.finish()
        finally:
            reader.close()
    except DataError as refusal:
        assert harmed and "damaged or cut short" in str(refusal)
        return
    if not harmed:
        assert (bytes(view[:count]), start) == (whole, whole[:40])


def test_gzip_members_of_nothing_are_not_unpacked_for_ever(sound: Path, tmp_path: Path) -> None:
    raw, path = (sound / "a.nii").read_bytes(), tmp_path / "x.nii.gz"
    nothing = gzip.compress(b"", mtime=0)
    path.write_bytes(nothing * 1000 + gzip.compress(raw[:9]) + nothing * 1000 + gzip.compress(raw[9:]) + nothing * 5000)
    assert gzip_stream.beginning(str(path), 540) == raw[:540]
    path.write_bytes(gzip.compress(raw[:9]) + nothing * 5000 + gzip.compress(raw[9:]))
    with pytest.raises(DataError, match="more than 4096 gzip members before its first voxel"):
        gzip_stream.beginning(str(path), 540)


KERNEL_NAMES = ("k.npz", "plain.npz", "k.npy", "k.safetensors", "k.pt", "module.pt", "old.pt", "k.onnx")


@QUICK
@given(st.sampled_from(KERNEL_NAMES), PATCHES, st.none() | st.integers(0, 3200))
def test_kernel_files(
    sound: Path, tmp_path: Path, name: str, patches: list[tuple[int, bytes]], length: int | None
) -> None:
    """Refused in one line, or a kernel that is one.  HDF5 meets its damage in another process, above."""
    (tmp_path / "x").write_bytes(patched((sound / name).read_bytes(), patches, length))
    try:
        found = read_weights(str(tmp_path / "x"))
    except Conv3dtError as refusal:
        assert len(str(refusal).splitlines()) == 1
        assert str(refusal).isprintable()
        return
    assert found.kernel.ndim == 5
    assert np.isfinite(found.kernel).all()


@QUICK
@given(st.binary(max_size=24))
def test_short_files_are_no_kernels(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError):
        read_weights(str(tmp_path / "x"))


FACTS = st.fixed_dictionaries({"path": JSON, "bytes": JSON, "sha256": JSON})


@QUICK
@given(st.fixed_dictionaries({"version": JSON, "job": JSON, "options": JSON, "input": FACTS | JSON, "output": FACTS}))
def test_records(tmp_path: Path, told: dict[str, Any]) -> None:
    """None, or one whose values can be used and shown."""
    sidecar = tmp_path / "up.json"
    sidecar.write_text(json.dumps({KEY: told}))
    record = record_of(str(sidecar))
    if record is None:
        return
    for facts in (record.input, record.output):
        assert isinstance(facts.bytes, int)
        os.path.exists(to_folder_of(str(sidecar), facts.path))
        assert facts.sha256.isprintable()
    assert (record.version + record.job).isprintable()
    with suppress(DataError):
        assert recalled(record.options, str(sidecar)).keys() == record.options.keys()


def test_a_sound_record_is_one(tmp_path: Path) -> None:
    facts = {"path": "b\udcae.nii", "bytes": 3, "sha256": "0" * 64}
    told = {"version": "0.1.0", "job": "1" * 64, "options": {"scale": 2}, "input": facts, "output": facts}
    (tmp_path / "up.json").write_text(json.dumps({KEY: told}))
    assert record_of(str(tmp_path / "up.json")) is not None
    for name, value in (("version", 3), ("version", "\x1b[2J"), ("job", None), ("options", []), ("input", {})):
        (tmp_path / "up.json").write_text(json.dumps({KEY: told | {name: value}}))
        assert record_of(str(tmp_path / "up.json")) is None
    for name, wrong in (("path", "a\0b"), ("path", "\ud800"), ("path", 3), ("bytes", "3"), ("sha256", ["0"])):
        (tmp_path / "up.json").write_text(json.dumps({KEY: told | {"output": facts | {name: wrong}}}))
        assert record_of(str(tmp_path / "up.json")) is None


OPTIONS = ("scale", "kernel", "threads", "dtype", "[upsample]", "[[kernel]]", "x.y", "max-memory", "nan", "= 2", "é",
           "=", " = [2, 2]", '= "cubic"', "= nan", "= 1979-05-27", "= {a = 1}", "\n", "\n", '"', "# ", "\0",
           "[kernel.make]", " = 9" + "9" * 400, "= true")  # fmt: skip
ENDINGS = (".h5", ":/", "/", "a", ".H5:/x", "\n", ".keras", ".hdf")
PARTS = ("sub-01", "_", "T1w", ".nii", ".gz", "-", "ses-", "run-1", "x", "+", "\n", "é")


def words(*known: str) -> st.SearchStrategy[str]:
    """Text of words that mean something, in any order, or any text at all."""
    return st.lists(st.sampled_from(known), max_size=9).map("".join) | st.text(max_size=30)


@QUICK
@given(words(*OPTIONS))
def test_files_of_options(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    done = run("shape", "4,4,4", "--config", tmp_path / "x.toml")
    assert done.code in (0, 2, 65, 75), done.err
    if done.code:
        assert "unexpected " not in done.complaint or "unexpected char" in done.complaint


@QUICK
@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from([".h5", ":/", "/", "a", ".H5:/x", "\n", ".keras", ".hdf"])).map("".join)
)
def test_paths_are_split_and_nothing_is_lost(path: str) -> None:
    for split in (paths.split, paths.split_weights):
        file, inside = split(path)
        assert (file if inside is None else f"{file}:{inside}") == path
        assert inside is None or (inside.startswith("/") and file)
        assert split(file) == (file, None)


@QUICK
@given(words(*PARTS))
def test_bids_names(name: str) -> None:
    """None, or its parts, which make the name again."""
    found = parse_name(name)
    if found is not None:
        assert str(found) == name
        assert parse_name(str(output_name(found, res="up2", desc="conv3dt"))) is not None


@pytest.mark.parametrize(
    ("letter", "place", "new", "text"),
    [
        ("a", 344, b"n+1N", "not NIfTI but Analyze or damaged"),
        ("a", 344, b"n+2\0", "not NIfTI but Analyze or damaged"),
        ("a", 344, b"ni1\0", "a .hdr/.img pair"),
        ("c", 4, b"n+1\0", "not NIfTI but Analyze or damaged"),
        ("c", 8, b"\n\x1a\n\0", "its line ends were changed"),
    ],
)
def test_a_magic_that_others_refuse(sound: Path, letter: str, place: int, new: bytes, text: str) -> None:
    with pytest.raises(DataError, match=re.escape(text)):
        nifti_header.parse(patched((sound / f"{letter}.nii").read_bytes(), [(place, new)])[:540], "x")


def test_whole_numbers_in_json_that_no_program_holds() -> None:
    assert parsed("[9223372036854775807, -9223372036854775808]", "x") == [2**63 - 1, -(2**63)]
    with pytest.raises(DataError, match="a whole number of 401 digits"):
        parsed('{"strides": 1' + "0" * 400 + "}", "x")
