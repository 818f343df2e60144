"""Does the ledger say what became of each field?  Held against the bytes of the files, before and after."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

import conv3dt
from conv3dt.errors import DataError
from conv3dt.io.files import read_info
from conv3dt.io.volume import VolumeInfo
from conv3dt.job import make_job
from conv3dt.ledger import check_strict, ledger, losses
from conv3dt.report import HeaderFact
from conv3dt.request import LayerRequest
from conv3dt.resources import resources
from tests.conftest import Run, listing, save_nifti, whole_numbers

PLACE = np.array([[2.0, 0, 0, -30], [0, 1.5, 0, 12], [0, 0, 4, 7], [0, 0, 0, 1]])
EVERYTHING: dict[str, Any] = {
    "descrip": b"what a scan", "aux_file": b"aux.txt", "toffset": 12.5, "cal_min": -3, "cal_max": 99,
    "intent_code": 3, "intent_p1": 12, "intent_p2": 13, "intent_p3": 14, "intent_name": b"t map", "xyzt_units": 18,
    "slice_code": 3, "slice_start": 0, "slice_end": 4, "slice_duration": 0.06, "dim_info": 0b111001,
    "pixdim": [-1, 2, 1.5, 4, 2500, 7, 8, 9], "sform_code": 4, "scl_slope": 2, "scl_inter": 10,
}  # fmt: skip
ANALYZE: dict[str, Any] = {
    "data_type": b"a type", "db_name": b"a name", "extents": 5, "session_error": 6, "regular": b"q", "glmax": 7,
    "glmin": 8,
}  # fmt: skip
KEYS = {
    "datatype": ("datatype", "bitpix"),
    "qform": ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "pixdim 0"),
    "sform": ("srow_x", "srow_y", "srow_z"),
    "pixdim[1..3]": ("pixdim 1", "pixdim 2", "pixdim 3"),
    **{f"pixdim[{n}]": (f"pixdim {n}",) for n in range(4, 8)},
}
"""The fields behind a fact that is not called after them."""

Facts = dict[str, HeaderFact]


def by_name(facts: tuple[HeaderFact, ...]) -> Facts:
    found = {fact.field: fact for fact in facts}
    assert len(found) == len(facts), "no field is told twice"
    return found


def planned(source: VolumeInfo, path: Path, **options: Any) -> VolumeInfo:
    """What a run would write, before it is run."""
    form = {".nii": "nii", ".gz": "nii.gz"}.get(path.suffix, "hdf5")
    dtype = options.pop("dtype", None)
    job = make_job(
        source, LayerRequest(**options).concrete(source.channels), path=str(path), form=form, align="kernel",
        dtype=dtype, device="cpu", tile=None, limits=resources(),
    )  # fmt: skip
    return job.target


def told(source: VolumeInfo, path: Path, **options: Any) -> Facts:
    return by_name(ledger(source, planned(source, path, **options)))


def lost(facts: Facts) -> set[str]:
    return {fact.field for fact in losses(facts.values())}


def raw_fields(path: Path) -> dict[str, NDArray[Any]]:
    """Every field of a header as it stands in the file, little-endian; ``pixdim`` one by one."""
    raw = path.read_bytes()
    size = 348 if 348 in (int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big")) else 540
    header = (Nifti1Header if size == 348 else Nifti2Header)(raw[:size], check=False)
    found = {name: np.atleast_1d(header[name]) for name in header.keys()}
    found |= {f"pixdim {n}": found["pixdim"][n : n + 1] for n in range(8)}
    return {name: values.astype(values.dtype.newbyteorder("<")) for name, values in found.items() if name != "pixdim"}


def kind_of(path: Path) -> str:
    return "NIfTI-1" if "glmax" in raw_fields(path) else "NIfTI-2"


def covered(facts: Facts) -> Iterator[tuple[HeaderFact, str]]:
    """Facts with the fields they speak of, one at a time."""
    for name, fact in facts.items():
        for key in KEYS.get(name, tuple(name.split(", "))):
            yield fact, key


def silent(name: str, fields: dict[str, NDArray[Any]]) -> bool:
    """Whether a field is as one of which nothing needs to be said."""
    if name not in fields:
        return True
    if name in ("scl_slope", "scl_inter"):
        slope, inter = float(fields["scl_slope"][0]), float(fields["scl_inter"][0])
        return np.isnan(slope) or slope == 0 or (slope == 1 and (inter == 0 or np.isnan(inter)))
    usual: dict[str, tuple[Any, ...]] = {"extents": (0, 16384), "regular": (b"", b"r", b"0")}
    return bool(fields[name][0] in usual.get(name, (0, b"")))


def assert_true(facts: Facts, before: Path, after: Path) -> None:
    """Hold a ledger against two files."""
    old, new = raw_fields(before), raw_fields(after)
    spoken: dict[str, HeaderFact] = {}
    for fact, key in covered(facts):
        if key not in old and key not in new:
            continue
        spoken[key] = fact
        if fact.status == "kept":
            assert key not in new or old[key].astype(new[key].dtype).tobytes() == new[key].tobytes(), fact
            assert (key in new) == (key in old), fact
    for key in (old.keys() | new.keys()) - {"sizeof_hdr", "magic", "eol_check", "vox_offset"}:
        here, there = old.get(key), new.get(key)
        same = here is not None and there is not None and here.astype(there.dtype).tobytes() == there.tobytes()
        if not same and not (silent(key, old) and silent(key, new)):
            assert key in spoken, f"{key} differs, and nothing is said"
    for fact in facts.values():
        assert fact.status in ("kept", "recomputed", "dropped")
        assert fact.status == "kept" or fact.why, f"{fact} has no reason"
        assert fact.before or fact.after, f"{fact} says nothing"


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
def test_every_field_of_a_header_is_told_as_it_is(run: Run, tmp_path: Path, kind: Any, endian: str) -> None:
    source = save_nifti(
        tmp_path / "in.nii", whole_numbers(6, 7, 5, 3), PLACE, header=kind(endianness=endian), **EVERYTHING,
        **(ANALYZE if kind is Nifti1Header else {"unused_str": b"unused"}),
        extensions=[Nifti1Extension(6, b"a comment"), Nifti1Extension(44, b"{}")],
    )  # fmt: skip
    target = tmp_path / "out.nii"
    facts = told(read_info(str(source)), target, scale=2)
    assert run("upsample", source, target, "--scale", "2").code == 0
    assert_true(facts, source, target)
    assert by_name(ledger(read_info(str(source)), read_info(str(target)))) == facts, "as promised"
    said = {key for _, key in covered(facts)}
    assert said >= raw_fields(source).keys() - {"sizeof_hdr", "magic", "eol_check", "vox_offset"}, "nothing is left out"
    kept = {name for name, fact in facts.items() if fact.status == "kept"}
    assert kept >= {
        "format", "qform_code", "sform_code", "pixdim[4]", "pixdim[5]", "pixdim[7]", "xyzt_units", "dim_info",
        "intent_code", "intent_p1, intent_p2, intent_p3", "intent_name", "cal_min, cal_max", "toffset", "descrip",
        "aux_file", "extension 1 (ecode 6)", "extension 2 (ecode 44)",
    }  # fmt: skip
    assert lost(facts) == {"slice_code, slice_start, slice_end, slice_duration"}
    assert facts["byte order"].status == ("kept" if endian == "<" else "recomputed")
    assert (facts["dim"].before, facts["dim"].after) == ("6x7x5x3", "12x14x10x3")
    assert (facts["scl_slope, scl_inter"].before, facts["scl_slope, scl_inter"].after) == ("2, 10", "")
    assert facts["pixdim[4]"].before == "2500 ms"
    assert facts["xyzt_units"].before == "mm, ms"
    assert facts["dim_info"].before == "frequency 1, phase 2, slice 3"
    assert facts["sform"].after == "1 0 0 -30.5; 0 0.75 0 11.625; 0 0 2 6"
    assert facts["descrip"].after == "what a scan"


reals = st.floats(width=32, allow_nan=False, min_value=-1000, max_value=1000)
anything = st.one_of(reals, st.just(0.0), st.just(float("nan")))
small = st.integers(0, 255)
words = st.integers(-(2**15), 2**15 - 1)
fields = st.fixed_dictionaries(
    {},
    optional={
        "descrip": st.binary(max_size=80),
        "aux_file": st.binary(max_size=24),
        "intent_name": st.binary(max_size=16),
        "intent_code": words,
        **dict.fromkeys(("intent_p1", "intent_p2", "intent_p3", "cal_min", "cal_max", "toffset"), anything),
        "xyzt_units": small,
        "dim_info": small,
        "slice_code": small,
        **dict.fromkeys(("slice_start", "slice_end"), words),
        "slice_duration": anything,
        "qform_code": st.integers(0, 5),
        "sform_code": st.integers(0, 5),
        **dict.fromkeys(("quatern_b", "quatern_c", "quatern_d"), st.floats(-1, 1, width=32)),
        **dict.fromkeys(("qoffset_x", "qoffset_y", "qoffset_z"), reals),
        **dict.fromkeys(("srow_x", "srow_y", "srow_z"), st.lists(reals, min_size=4, max_size=4)),
        "pixdim": st.lists(reals, min_size=8, max_size=8),
        "scl_slope": anything,
        "scl_inter": anything,
        **dict.fromkeys(("extents", "glmax", "glmin"), words),
        "data_type": st.binary(max_size=10),
        "regular": st.binary(max_size=1),
    },
)
contents = st.lists(st.tuples(st.sampled_from((0, 4, 6, 44)), st.binary(max_size=40)), max_size=3)


@given(
    told_fields=fields,
    extensions=contents,
    kind=st.sampled_from((Nifti1Header, Nifti2Header)),
    endian=st.sampled_from("<>"),
    scale=st.sampled_from(((2, 2, 2), (2, 3, 1), (1, 1, 1), (1, 1, 2))),
    kernel=st.sampled_from(("linear", "nearest")),
)
@settings(deadline=None, max_examples=40)
def test_any_header_is_told_as_it_is(
    told_fields: dict[str, Any], extensions: list[Any], kind: Any, endian: str, scale: Any, kernel: str
) -> None:
    names = set(kind().keys())
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "in.nii", Path(folder) / "out.nii"
        save_nifti(
            before, whole_numbers(4, 3, 5), header=kind(endianness=endian),
            extensions=[Nifti1Extension(code, content + b".") for code, content in extensions],
            **{name: value for name, value in told_fields.items() if name in names},
        )  # fmt: skip
        facts = told(read_info(str(before)), after, scale=scale, kernel=kernel)
        conv3dt.upsample_file(before, after, scale=scale, kernel=kernel)
        assert_true(facts, before, after)
        assert by_name(ledger(read_info(str(before)), read_info(str(after)))) == facts
        assert sum(name.startswith("extension") for name in facts) == len(extensions)


def test_a_ledger_that_lies_would_be_seen(run: Run, tmp_path: Path) -> None:
    """The twin of the tests above."""
    source = save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), PLACE, **EVERYTHING)
    target = tmp_path / "out.nii"
    assert run("upsample", source, target).code == 0
    facts = told(read_info(str(source)), target)
    dim = facts["dim"]
    with pytest.raises(AssertionError, match="dim"):
        assert_true(facts | {"dim": HeaderFact("dim", "kept", dim.before, dim.after, "")}, source, target)
    del facts["sform"]
    with pytest.raises(AssertionError, match=r"srow_. differs, and nothing is said"):
        assert_true(facts, source, target)


def test_an_empty_header_has_little_to_tell(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(4, 4, 4, dtype=np.float32))
    facts = told(read_info(str(source)), tmp_path / "out.nii")
    assert set(facts) == {"format", "byte order", "dim", "datatype", "pixdim[1..3]"}
    assert {name for name, fact in facts.items() if fact.status == "recomputed"} == {"dim", "pixdim[1..3]"}


@pytest.mark.parametrize(("scale", "status"), [((2, 2, 1), "kept"), ((1, 1, 2), "dropped")], ids=str)
def test_slice_timing_is_lost_with_its_slices(tmp_path: Path, scale: tuple[int, ...], status: str) -> None:
    source = read_info(str(save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), PLACE, **EVERYTHING)))
    fact = told(source, tmp_path / "out.nii", scale=scale)["slice_code, slice_start, slice_end, slice_duration"]
    assert (fact.status, fact.before) == (status, "code 3, slices 0 to 4, 0.06 each")
    assert fact.after == (fact.before if status == "kept" else "")


def test_labels_replace_an_intent(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(4, 4, 4, 3), PLACE, intent_code=3, cal_max=9)
    info = read_info(str(source), data_format="channels_last")
    facts = told(info, tmp_path / "out.nii", per_channel=True, reduce="argmax")
    assert lost(facts) == {"intent_code", "cal_min, cal_max"}
    assert (facts["intent_code"].before, facts["intent_code"].after) == ("3", "1002")
    plain = save_nifti(tmp_path / "plain.nii", whole_numbers(4, 4, 4, 3), PLACE)
    info = read_info(str(plain), data_format="channels_last")
    facts = told(info, tmp_path / "out.nii", per_channel=True, reduce="argmax")
    assert facts["intent_code"].status == "recomputed"
    assert lost(facts) == set()


def test_a_scaling_that_is_kept_is_kept(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(4, 4, 4), PLACE, scl_slope=0.5, scl_inter=-10)
    name, info = "scl_slope, scl_inter", read_info(str(source))
    assert told(info, tmp_path / "out.nii", kernel="nearest", dtype="same")[name].status == "kept"
    fact = told(info, tmp_path / "out.nii")[name]
    assert (fact.status, fact.before, fact.after) == ("recomputed", "0.5, -10", "")


def test_an_axis_that_outgrows_nifti1_costs_what_only_analyze_had(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(20000, 1, 1), PLACE, **(EVERYTHING | ANALYZE))
    target = tmp_path / "out.nii"
    facts = told(read_info(str(source)), target, scale=(2, 1, 1), kernel="nearest")
    assert run("upsample", source, target, "--scale", "2,1,1", "--kernel", "nearest").code == 0
    assert (kind_of(source), kind_of(target)) == ("NIfTI-1", "NIfTI-2")
    assert_true(facts, source, target)
    assert facts["format"] == HeaderFact(
        "format", "recomputed", "NIfTI-1", "NIfTI-2", "NIfTI-1 cannot say more than 32767 voxels an axis"
    )
    analyze = {"data_type, db_name", "extents, session_error, regular, glmax, glmin"}
    assert lost(facts) == analyze
    assert facts["data_type, db_name"].before == "a type, a name"
    usual = save_nifti(tmp_path / "usual.nii", whole_numbers(20000, 1, 1), PLACE, regular=b"r", extents=16384)
    facts = told(read_info(str(usual)), target, scale=(2, 1, 1), kernel="nearest")
    assert lost(facts) == set(), "the usual filling says nothing"


def test_what_a_header_says_twice_and_differently_is_told(tmp_path: Path) -> None:
    header = Nifti1Header()
    header.set_qform(PLACE, code=1)
    other = PLACE.copy()
    other[:3, 3] += [3, 0, 4]
    header.set_sform(other, code=2)
    source = save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), header=header)
    facts = told(read_info(str(source)), tmp_path / "out.nii")
    fact = facts["qform against sform"]
    assert (fact.status, fact.before, fact.after) == ("kept", *["5 mm apart at the farthest corner"] * 2)
    assert "pixdim against sform" not in facts
    header["pixdim"][1:4] = 2, 2, 2
    header["qform_code"] = 0
    source = save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), header=header)
    facts = told(read_info(str(source)), tmp_path / "out.nii")
    assert facts["pixdim against sform"].before == "2, 2, 2 against 2, 1.5, 4"
    assert facts["pixdim against sform"].after == "1, 1, 1 against 1, 0.75, 2"
    assert "qform against sform" not in facts
    assert lost(facts) == set()


# HDF5.


def stack(path: Path, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", data=whole_numbers(4, 6, 8))
        for name, value in attributes.items():
            dataset.attrs[name] = value
    return path


def test_attributes_of_hdf5_are_kept_or_recomputed(run: Run, tmp_path: Path) -> None:
    source = stack(
        tmp_path / "in.h5", element_size_um=[4.0, 1.5, 2.0], affine=PLACE, notes="a stack", history=["a", "b"],
        scl_slope=2.0, axes="zyx", empty="", code=np.float32(7),
    )  # fmt: skip
    facts = told(read_info(f"{source}:/raw"), tmp_path / "out.h5")
    assert run("upsample", f"{source}:/raw", tmp_path / "out.h5").code == 0
    after = by_name(ledger(read_info(f"{source}:/raw"), read_info(str(tmp_path / "out.h5"))))
    assert after == facts
    status = {name: fact.status for name, fact in facts.items() if name.startswith("attribute")}
    assert status == {
        "attribute element_size_um": "recomputed", "attribute affine": "recomputed", "attribute notes": "kept",
        "attribute history": "kept", "attribute scl_slope": "recomputed", "attribute axes": "kept",
        "attribute empty": "kept", "attribute code": "kept",
    }  # fmt: skip
    assert lost(facts) == set()
    assert (facts["attribute element_size_um"].before, facts["attribute element_size_um"].after) == (
        "4, 1.5, 2",
        "2, 0.75, 1",
    )
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].attrs["notes"] == "a stack"
        assert "scl_slope" not in file["data"].attrs


def test_labels_that_no_longer_count_the_axes_are_lost(tmp_path: Path) -> None:
    source = read_info(f"{stack(tmp_path / 'in.h5', axistags='[]', DIMENSION_LABELS=['z', 'y', 'x'])}:/raw")
    facts = told(source, tmp_path / "out.h5", weights=np.ones((2, 2, 2, 3, 1)), strides=2)
    assert facts["attribute DIMENSION_LABELS"].status == "recomputed"
    assert facts["attribute axistags"].status == "dropped"


def test_nifti_has_no_place_for_most_attributes(tmp_path: Path) -> None:
    source = read_info(
        f"{stack(tmp_path / 'in.h5', element_size_um=[4.0, 1.5, 2.0], notes='a stack', axes='zyx', scl_slope=2.0)}:/raw"
    )
    facts = told(source, tmp_path / "out.nii")
    assert lost(facts) == {"attribute notes", "attribute axes"}
    assert facts["attribute element_size_um"].after == "pixdim"
    assert facts["attribute notes"].why == "NIfTI has no field for it"
    assert facts["attribute scl_slope"].status == "recomputed"
    placed = read_info(f"{stack(tmp_path / 'in.h5', affine=PLACE, spacing=[9.0, 9, 9], axes='zyx')}:/raw")
    facts = told(placed, tmp_path / "out.nii")
    assert facts["attribute affine"].after == "sform"
    assert lost(facts) == {"attribute spacing"}, "the affine says otherwise"
    assert facts["attribute axes"].after == "sform"


def test_references_into_a_file_are_named_if_they_are_known(tmp_path: Path) -> None:
    source = read_info(f"{stack(tmp_path / 'in.h5')}:/raw")
    facts = by_name(ledger(source, planned(source, tmp_path / "out.h5"), foreign=["DIMENSION_LIST"]))
    assert lost(facts) == {"attribute DIMENSION_LIST"}


def test_a_header_keeps_everything_on_its_way_through_hdf5(run: Run, tmp_path: Path) -> None:
    source = save_nifti(
        tmp_path / "in.nii", whole_numbers(6, 7, 5), PLACE, **(EVERYTHING | ANALYZE),
        extensions=[Nifti1Extension(6, b"a comment")],
    )  # fmt: skip
    there, back = tmp_path / "there.h5", tmp_path / "back.nii"
    facts = told(read_info(str(source)), there, scale=(2, 2, 1))
    assert lost(facts) == set()
    assert (facts["format"].status, facts["format"].after) == ("recomputed", "HDF5")
    assert run("upsample", source, there, "--scale", "2,2,1").code == 0
    assert by_name(ledger(read_info(str(source)), read_info(str(there)))) == facts
    facts = told(read_info(str(there)), back, scale=(2, 2, 1))
    assert run("upsample", there, back, "--scale", "2,2,1").code == 0
    assert lost(facts) == set()
    assert facts["attribute affine"].after == "sform"
    both = by_name(ledger(read_info(str(source)), read_info(str(back))))
    assert_true(both, source, back)
    assert both["descrip"].status == both["extension 1 (ecode 6)"].status == "kept"


def test_an_affine_that_the_stored_header_contradicts_is_lost(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), PLACE)
    assert run("upsample", source, tmp_path / "there.h5").code == 0
    with h5py.File(tmp_path / "there.h5", "r+") as file:
        file["data"].attrs["affine"] = PLACE + 1
    facts = told(read_info(str(tmp_path / "there.h5")), tmp_path / "back.nii")
    assert lost(facts) == {"attribute affine"}


def test_extensions_too_large_for_an_attribute_are_lost(tmp_path: Path) -> None:
    long = [Nifti1Extension(6, b"x" * 70000), Nifti1Extension(44, b"{}")]
    source = read_info(str(save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), PLACE, extensions=long)))
    facts = told(source, tmp_path / "out.h5")
    assert lost(facts) == {"extension 1 (ecode 6)", "extension 2 (ecode 44)"}
    assert facts["extension 1 (ecode 6)"].before == "70016 bytes"
    assert lost(told(source, tmp_path / "out.nii")) == set()


# A reference.


def test_what_comes_from_a_reference_says_so(tmp_path: Path) -> None:
    source = read_info(str(save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), PLACE, **EVERYTHING)))
    facts = by_name(ledger(source, planned(source, tmp_path / "out.nii"), like="ref.nii"))
    reasons = {name for name, fact in facts.items() if fact.why == "taken from ref.nii"}
    assert reasons == {"qform", "sform", "pixdim[1..3]"}


# Strictly.


def test_strict_names_what_would_be_lost_and_why() -> None:
    kept = HeaderFact("descrip", "kept", "a", "a", "")
    gone = [HeaderFact(f"attribute {n}", "dropped", "x", "", "no field for it") for n in range(10)]
    check_strict([kept])
    with pytest.raises(DataError) as failure:
        check_strict([kept, *gone])
    text = str(failure.value)
    assert text.startswith("strict header: the output would lack attribute 0 (no field for it); attribute 1 (")
    assert text.endswith("attribute 7 (no field for it); and 2 more; leave --strict-header out to go without")
    assert "descrip" not in text
    assert failure.value.exit_code == 65


def test_strict_fails_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "in.nii", whole_numbers(6, 7, 5), PLACE, **EVERYTHING)
    done = run("upsample", source, tmp_path / "out.nii", "--strict-header")
    assert done.code == 65
    assert "slice_code, slice_start, slice_end, slice_duration (slices of the output were not" in done.complaint
    assert listing(tmp_path) == ["in.nii"]
    assert run("upsample", source, tmp_path / "out.nii", "--strict-header", "--scale", "2,2,1").code == 0


def test_strict_speaks_of_attributes_too(run: Run, tmp_path: Path) -> None:
    source = stack(tmp_path / "in.h5", notes="a stack")
    done = run("upsample", source, tmp_path / "out.nii", "--strict-header")
    assert done.code == 65
    assert "attribute notes (NIfTI has no field for it)" in done.complaint
    assert run("upsample", source, tmp_path / "out.h5", "--strict-header").code == 0
