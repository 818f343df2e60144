"""Does a header lose nothing that nobody would miss at once?  Extensions by their bytes, axes by their steps."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from conv3dt.io import nifti_header
from conv3dt.io.files import read_info
from conv3dt.ledger import ledger, losses
from tests.conftest import Run, save_nifti, whole_numbers


def with_bytes(path: Path, between: bytes, *, kind: Any = Nifti1Header, endian: str = "<") -> Path:
    """A scan with these bytes between header and voxels."""
    header = kind(endianness=endian)
    header.set_data_shape((4, 4, 4))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = header.sizeof_hdr + len(between)
    path.write_bytes(header.binaryblock + between + whole_numbers(4, 4, 4).astype(f"{endian}i2").tobytes())
    return path


def extension(code: int, content: bytes, endian: str = "<") -> bytes:
    return np.array([8 + len(content), code], f"{endian}i4").tobytes() + content


FLAG = b"\1\0\0\0"
sound = st.lists(st.tuples(st.integers(0, 50), st.binary(min_size=8, max_size=8), st.integers(0, 3)), max_size=4)


@given(found=sound, kind=st.sampled_from((Nifti1Header, Nifti2Header)), endian=st.sampled_from("<>"))
@settings(deadline=None, max_examples=50)
def test_extensions_are_kept_byte_for_byte(found: list[tuple[int, bytes, int]], kind: Any, endian: str) -> None:
    """Zeros at the end of one too, which may be all that it holds."""
    contents = [(code, content + bytes(16 * more)) for code, content, more in found]
    between = b"".join([FLAG, *(extension(*each, endian) for each in contents)])
    header = kind(endianness=endian)
    header["dim"] = [3, 4, 4, 4, 1, 1, 1, 1]
    raw = nifti_header.serialised(nifti_header.with_extensions(header, between))
    assert raw[header.sizeof_hdr :] == (between if contents else bytes(4))


def test_an_extension_keeps_its_size(run: Run, tmp_path: Path) -> None:
    between = FLAG + extension(44, b"{}".ljust(40, b"\0")) + extension(6, b"hello".ljust(24, b"\0"))
    source = with_bytes(tmp_path / "in.nii", between)
    assert run("upsample", source, tmp_path / "out.nii").code == 0
    assert (tmp_path / "out.nii").read_bytes()[348 : 348 + len(between)] == between


def test_one_damaged_extension_does_not_cost_the_sound_ones_before_it(run: Run, tmp_path: Path) -> None:
    source = with_bytes(tmp_path / "in.nii", FLAG + extension(6, b"hello...") + extension(4, b"x" * 8)[:1] * 32)
    assert run("upsample", source, tmp_path / "out.nii").code == 0
    before, after = read_info(str(source)), read_info(str(tmp_path / "out.nii"))
    assert [each.get_code() for each in after.header.extensions] == [6]
    (fact,) = losses(ledger(before, after))
    assert (fact.field, fact.before) == ("bytes before the voxels", "32 bytes")


@pytest.mark.parametrize("between", [bytes(4), FLAG, bytes(164), FLAG + bytes(160)], ids=len)
def test_zeros_before_the_voxels_are_no_loss(tmp_path: Path, between: bytes) -> None:
    source = read_info(str(with_bytes(tmp_path / "in.nii", between)))
    assert losses(ledger(source, source)) == ()


def test_an_extension_of_an_odd_size_is_read_without_a_word(run: Run, tmp_path: Path) -> None:
    source = with_bytes(tmp_path / "in.nii", FLAG + extension(6, b"h" * 16) + bytes(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = read_info(str(source)).header.extensions
    assert found.content == b"h" * 16
    assert run("upsample", source, tmp_path / "out.nii").code == 0
    (found,) = read_info(str(tmp_path / "out.nii")).header.extensions
    assert found.content == (b"h" * 16).ljust(24, b"\0")


def test_no_scaling_is_written_as_one(run: Run, tmp_path: Path) -> None:
    """And not as NaN, which not every reader takes for none."""
    source = save_nifti(tmp_path / "in.nii", whole_numbers(4, 4, 4), scl_slope=2, scl_inter=3)
    assert run("upsample", source, tmp_path / "out.nii").code == 0
    header = Nifti1Header((tmp_path / "out.nii").read_bytes()[:348], check=False)
    assert (float(header["scl_slope"]), float(header["scl_inter"])) == (1, 0)


@pytest.mark.parametrize("by_way_of", [False, True])
def test_steps_of_axes_move_with_them(run: Run, tmp_path: Path, by_way_of: bool) -> None:
    """Channels first in the input, last in the output: the sizes of voxels stay those of voxels, in HDF5 too."""
    pixdim = [1, 9, 1, 2, 3, 1, 1, 1]
    source = save_nifti(tmp_path / "in.nii", whole_numbers(2, 4, 5, 6), pixdim=pixdim, dim_info=57, slice_end=5)
    options = ("--channels-first", "--per-channel", "--kernel", "nearest")
    assert read_info(str(source), data_format="channels_first").spacing == (1, 2, 3)
    if by_way_of:
        assert run("upsample", source, tmp_path / "there.h5", *options).code == 0
        there = read_info(str(tmp_path / "there.h5"), data_format="channels_first")
        assert there.spacing == (0.5, 1, 1.5)
        source = tmp_path / "there.h5"
    assert run("upsample", source, tmp_path / "out.nii", *options).code == 0
    found = read_info(str(tmp_path / "out.nii"))
    size = 0.25 if by_way_of else 0.5
    assert found.header["pixdim"][1:5].tolist() == [size, 2 * size, 3 * size, 9]
    assert found.spacing == (size, 2 * size, 3 * size)
    assert (int(found.header["dim_info"]), int(found.header["slice_end"])) == (0, 0), "they spoke of axes elsewhere"


def test_an_intent_goes_with_all_that_belongs_to_it(run: Run, tmp_path: Path) -> None:
    source = save_nifti(
        tmp_path / "in.nii", whole_numbers(4, 4, 4, 3), intent_code=3, intent_p1=12, intent_name=b"t map", cal_max=9
    )
    options = ("--channels-last", "--per-channel", "--reduce")
    assert run("upsample", source, tmp_path / "labels.nii", *options, "argmax").code == 0
    labels = read_info(str(tmp_path / "labels.nii")).header
    assert (int(labels["intent_code"]), float(labels["intent_p1"]), labels["intent_name"].item()) == (1002, 0, b"")
    assert run("upsample", source, tmp_path / "soft.nii", *options, "softmax").code == 0
    assert float(read_info(str(tmp_path / "soft.nii")).header["cal_max"]) == 0, "the range was that of logits"
