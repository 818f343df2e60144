"""Does a BIDS dataset become a BIDS derivative?  Names, filters, inheritance, sidecars, and the validator's word."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv3dt.batch.gather import gather
from conv3dt.batch.unattended import unattended
from conv3dt.bids import (
    BidsFilter,
    Dataset,
    Name,
    Upsampling,
    bids_scans,
    check_out_dir,
    choose,
    companions,
    copy_companions,
    dataset_description,
    image_at,
    metadata,
    output_name,
    parse_filter,
    parse_name,
    prepare,
    read_dataset,
    scale_label,
    sidecar,
)
from conv3dt.bids.names import ENTITIES, INDICES
from conv3dt.discover import Scan
from conv3dt.errors import ArgumentError, Conv3dtError, DataError, InputMissingError, OutputError
from conv3dt.record import sidecar_path

LABELS = st.text("abcXYZ0189+", min_size=1, max_size=5)
TWICE = Upsampling((2, 2, 2), "linear", (4, 4, 3), (8, 8, 6), (1.0, 1.0, 2.5), (0.5, 0.5, 1.25))
IN_PLANE = Upsampling((2, 2, 1), "linear", (4, 4, 3), (8, 8, 3), (1.0, 1.0, 2.5), (0.5, 0.5, 2.5))


def write(root: Path, files: Mapping[str, Any]) -> Path:
    """Write text as it is, objects as JSON, shapes as NIfTI images of 1 x 1 x 2.5 mm and 2 s."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            values = np.random.default_rng(len(name)).integers(0, 100, content).astype(np.int16)
            image = nibabel.Nifti1Image(values, np.diag([1, 1, 2.5, 1]))
            image.header.set_xyzt_units("mm", "sec")
            image.header["pixdim"][4] = 2 if len(content) > 3 else 0
            nibabel.save(image, path)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


DESCRIPTION = {
    "Name": "Test heads",
    "BIDSVersion": "1.10.0",
    "DatasetType": "raw",
    "License": "CC0",
    "Authors": ["A. One", "B. Two"],
    "DatasetDOI": "doi:10.0000/test",
}
VOLUME, SERIES = (4, 4, 3), (4, 4, 3, 2)
A, B, C = "sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a"
RAW: dict[str, Any] = {
    "dataset_description.json": DESCRIPTION,
    "README": "Images of random numbers, to see what becomes of names and sidecars.  " * 3,
    ".bidsignore": "# tries\n*_acq-scout_*\nsub-02/ses-a/extra\n",
    "T1w.json": {"Manufacturer": "X", "FlipAngle": 8, "EchoTime": 0.003, "SliceThickness": 2.5},
    "task-rest_bold.json": {"TaskName": "rest", "RepetitionTime": 2.0, "PhaseEncodingDirection": "j-"},
    "sub-01/sub-01_task-rest_bold.json": {"EchoTime": 0.03, "Manufacturer": "Y"},
    f"{A}/anat/sub-01_ses-a_T1w.nii.gz": VOLUME,
    f"{A}/anat/sub-01_ses-a_T1w.json": {"FlipAngle": 9, "AcquisitionVoxelSize": [1, 1, 2.5]},
    f"{A}/anat/sub-01_ses-a_acq-scout_T1w.nii.gz": VOLUME,
    f"{A}/anat/sub-01_ses-a_run-01_T2w.nii": VOLUME,
    f"{A}/anat/sub-01_ses-a_run-02_T2w.nii": VOLUME,
    f"{A}/anat/sub-01_ses-a_mod-T1w_defacemask.nii.gz": VOLUME,
    f"{A}/func/sub-01_ses-a_task-rest_bold.nii.gz": SERIES,
    f"{A}/func/sub-01_ses-a_task-rest_bold.json": {
        "SliceTiming": [0.0, 0.7, 1.4],
        "EffectiveEchoSpacing": 0.0005,
        "TotalReadoutTime": 0.0015,
    },
    f"{A}/func/sub-01_ses-a_task-rest_events.tsv": "onset\tduration\n0\t1\n3\t1\n",
    f"{A}/dwi/sub-01_ses-a_dwi.nii.gz": SERIES,
    f"{A}/dwi/sub-01_ses-a_dwi.bval": "0 1000\n",
    f"{A}/dwi/sub-01_ses-a_dwi.bvec": "0 1\n0 0\n0 0\n",
    f"{A}/fmap/sub-01_ses-a_dir-AP_epi.nii.gz": VOLUME,
    f"{A}/fmap/sub-01_ses-a_dir-AP_epi.json": {
        "PhaseEncodingDirection": "j-",
        "TotalReadoutTime": 0.05,
        "IntendedFor": ["ses-a/func/sub-01_ses-a_task-rest_bold.nii.gz"],
    },
    f"{A}/perf/sub-01_ses-a_asl.nii.gz": SERIES,
    f"{A}/perf/sub-01_ses-a_asl.json": {
        "ArterialSpinLabelingType": "PCASL",
        "PostLabelingDelay": 1.8,
        "BackgroundSuppression": False,
        "M0Type": "Absent",
        "TotalAcquiredPairs": 1,
        "LabelingDuration": 1.8,
        "MRAcquisitionType": "3D",
        "MagneticFieldStrength": 3,
        "EchoTime": 0.01,
        "RepetitionTimePreparation": 4.0,
    },
    f"{A}/perf/sub-01_ses-a_aslcontext.tsv": "volume_type\ncontrol\nlabel\n",
    f"{B}/anat/sub-01_ses-b_T1w.nii.gz": VOLUME,
    f"{C}/anat/sub-02_ses-a_T1w.nii.gz": VOLUME,
    f"{C}/dwi/sub-02_ses-a_dwi.nii.gz": SERIES,
    "sub-02/sub-02_dwi.bval": "0 700\n",
    "sub-02/sub-02_dwi.bvec": "0 0\n0 1\n0 0\n",
    f"{C}/extra/sub-02_ses-a_T1w.nii.gz": VOLUME,
    "derivatives/other/sub-01/anat/sub-01_T1w.nii.gz": VOLUME,
    "sourcedata/sub-01/anat/sub-01_T1w.nii.gz": VOLUME,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw dataset; nobody writes into it."""
    return write(tmp_path_factory.mktemp("data") / "raw heads", RAW)


@pytest.fixture(scope="module")
def raw(root: Path) -> Dataset:
    return read_dataset(str(root))


def small(tmp_path: Path, *names: str, **description: Any) -> Dataset:
    """A dataset of empty files."""
    write(tmp_path, {"dataset_description.json": {"Name": "x", "BIDSVersion": "1.10.0", **description}})
    return read_dataset(str(write(tmp_path, dict.fromkeys(names, ""))))


def paths_of(dataset: Dataset, **wanted: Any) -> list[str]:
    return [image.path for image in choose(dataset, parse_filter(**wanted))]


def scans_in(dataset: Dataset, out_dir: str | Path, **wanted: Any) -> tuple[Scan, ...]:
    return bids_scans(dataset, parse_filter(**wanted), out_dir=str(out_dir), res="up2", desc="conv3dt")


# Names.


def test_the_order_of_entities_is_that_of_the_schema() -> None:
    schema = pytest.importorskip("bidsschematools.schema").load_schema()
    official = {schema.objects.entities[name].name: name for name in schema.rules.entities}
    assert list(official.items()) == list(ENTITIES.items())
    assert {official[key] for key in INDICES} == {
        name for name in schema.rules.entities if schema.objects.entities[name].format == "index"
    }


@given(st.lists(st.tuples(st.sampled_from(list(ENTITIES)), LABELS), unique_by=lambda pair: pair[0]))
def test_a_name_is_parsed_as_it_is_written(entities: list[tuple[str, str]]) -> None:
    name = Name(tuple(entities), "T1w", ".nii.gz")
    assert parse_name(str(name)) == name
    made = output_name(name, res="up2", desc="conv3dt", extension=".nii")
    keys = [key for key, _ in made.entities]
    assert keys == sorted(keys, key=list(ENTITIES).index)
    assert dict(made.entities) == {**dict(entities), "res": "up2", "desc": "conv3dt"}
    assert output_name(made, res="up2", desc="conv3dt") == made


@pytest.mark.parametrize(
    "name",
    ["", "scan", "T1w", ".nii", "a b_T1w.nii", "sub-_T1w.nii", "sub-01_acq-a-b_T1w.nii", "sub-01__T1w.nii",
     "sub-01_sub-02_T1w.nii", "sub-01_T1w.nii\n", "sub-é_T1w.nii", "sub-01_T1w-x.nii", "sub-01/T1w.nii"],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_res-up2_desc-conv3dt_T1w.nii.gz"),
        ("sub-01_ses-a_task-x_run-02_bold.nii", "sub-01_ses-a_task-x_run-02_res-up2_desc-conv3dt_bold.nii"),
        ("sub-01_space-MNI305_res-1_desc-preproc_T1w.nii", "sub-01_space-MNI305_res-up2_desc-conv3dt_T1w.nii"),
        ("sub-01_hemi-L_label-GM_probseg.nii", "sub-01_hemi-L_res-up2_label-GM_desc-conv3dt_probseg.nii"),
        ("sub-01_run-1_mine-x_T1w.nii", "sub-01_run-1_mine-x_res-up2_desc-conv3dt_T1w.nii"),
        ("sub-01_acq-b_ses-a_T1w.nii", "sub-01_ses-a_acq-b_res-up2_desc-conv3dt_T1w.nii"),
    ],
)
def test_output_names(name: str, output: str) -> None:
    parsed = parse_name(name)
    assert parsed is not None
    assert str(output_name(parsed, res="up2", desc="conv3dt")) == output


@given(st.tuples(*[st.integers(1, 99)] * 3))
def test_labels_of_scale_are_labels_and_tell_strides_apart(strides: tuple[int, int, int]) -> None:
    label = scale_label(strides)
    assert label.isalnum()
    numbers = [int(number) for number in label.removeprefix("up").split("x")]
    assert tuple(numbers * (3 if len(numbers) == 1 else 1)) == strides


@pytest.mark.parametrize("label", ["", "up-2", "up_2", "up 2", "2,2,1", "é"])
@pytest.mark.parametrize("which", ["res", "desc"])
def test_labels_that_cannot_be(which: str, label: str) -> None:
    name = parse_name("sub-01_T1w.nii")
    assert name is not None
    with pytest.raises(ArgumentError, match=f"{which} label must be letters and digits only, got '{label}'"):
        output_name(name, **{"res": "up2", "desc": "conv3dt", which: label})


# What is in a dataset.


def test_images_are_those_of_subjects(raw: Dataset) -> None:
    assert [image.path for image in raw.images] == sorted(
        path
        for path in RAW
        if path.startswith("sub-") and ".nii" in path and "scout" not in path and "extra" not in path
    )
    assert raw.misnamed == ()
    assert not raw.is_derivative
    assert image_at(f"{A}/anat/sub-01_ses-a_T1w.nii.gz") in raw.images


def test_what_is_not_named_by_bids_is_set_apart(tmp_path: Path) -> None:
    wrong = [
        "sub-01/anat/T1w.nii",
        "sub-01/anat/sub-02_T1w.nii",
        "sub-01/anat/sub-01_T1w.dlabel.nii",
        "sub-01/anat/sub-01_ses-a_T1w.nii",
        "sub-01/ses-a/anat/sub-01_T1w.nii",
        "sub-01/ses-a/anat/sub-01_ses-b_T1w.nii",
    ]
    dataset = small(tmp_path, "sub-01/anat/sub-01_T1w.nii", "sub-01/anat/.x.nii", "sub-01/sub-01_T1w.nii", *wrong)
    assert [image.path for image in dataset.images] == ["sub-01/anat/sub-01_T1w.nii"]
    assert list(dataset.misnamed) == sorted(wrong)


def test_linked_images_count_even_where_their_content_is_elsewhere(tmp_path: Path) -> None:
    small(tmp_path / "data", "sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-02_T1w.nii")
    (tmp_path / "data/sub-01/anat/sub-01_T2w.nii.gz").symlink_to("../.git/annex/objects/nowhere")
    (tmp_path / "data/sub-03").symlink_to("sub-02")
    found = read_dataset(str(tmp_path / "data"))
    assert [image.path for image in found.images][1] == "sub-01/anat/sub-01_T2w.nii.gz"
    assert list(found.misnamed) == ["sub-03/anat/sub-02_T1w.nii"]


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"sub-01/anat/x.nii": ""}, DataError, "dataset_description.json is missing, so it is not the root"),
        ({"dataset_description.json": "[1]"}, DataError, "must hold a JSON object, got list"),
        ({"dataset_description.json": "{"}, DataError, "is not valid JSON in UTF-8"),
        ({"dataset_description.json": "{}"}, InputMissingError, "has no subject in it"),
        ({"dataset_description.json/x": ""}, DataError, "dataset_description.json: is not a file"),
    ],
)
def test_what_is_no_dataset(files: dict[str, Any], error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error) as caught:
        read_dataset(str(write(tmp_path, files)))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "file", "a\0b"])
def test_a_dataset_that_is_not_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputMissingError, match="no such folder"):
        read_dataset(str(tmp_path / name))


def test_a_part_that_cannot_be_read_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refused(path: str) -> object:
        if path.endswith("sub-01/ses-b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputMissingError, match="sub-01/ses-b: cannot be read: Permission denied"):
        read_dataset(str(root))


# Filters.


def test_by_default_images_of_anat_but_no_labels(raw: Dataset) -> None:
    assert paths_of(raw) == [
        f"{A}/anat/sub-01_ses-a_T1w.nii.gz",
        f"{A}/anat/sub-01_ses-a_run-01_T2w.nii",
        f"{A}/anat/sub-01_ses-a_run-02_T2w.nii",
        f"{B}/anat/sub-01_ses-b_T1w.nii.gz",
        f"{C}/anat/sub-02_ses-a_T1w.nii.gz",
    ]
    assert [image.path for image in choose(raw, BidsFilter())] == paths_of(raw)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"suffix": ["bold"]}, ["sub-01_ses-a_task-rest_bold"]),
        ({"suffix": ["defacemask"]}, ["sub-01_ses-a_mod-T1w_defacemask"]),
        ({"suffix": ["T1w"], "participant_label": ["sub-02"]}, ["sub-02_ses-a_T1w"]),
        ({"suffix": ["T1w"], "participant_label": ["01", "02"], "session": ["ses-a"]},
         ["sub-01_ses-a_T1w", "sub-02_ses-a_T1w"]),
        ({"session": ["b"]}, ["sub-01_ses-b_T1w"]),
        ({"suffix": ["dwi,bold"]}, ["sub-01_ses-a_dwi", "sub-01_ses-a_task-rest_bold", "sub-02_ses-a_dwi"]),
        ({"filters": ["run=1"]}, ["sub-01_ses-a_run-01_T2w"]),
        ({"filters": ["run=1", "run=02"]}, ["sub-01_ses-a_run-01_T2w", "sub-01_ses-a_run-02_T2w"]),
        ({"filters": ["run=", "ses=a", "subject=sub-01"]}, ["sub-01_ses-a_T1w"]),
        ({"filters": ["run=,2"], "participant_label": ["01"], "session": ["a"]},
         ["sub-01_ses-a_T1w", "sub-01_ses-a_run-02_T2w"]),
        ({"filters": ["datatype=fmap,func"]}, ["sub-01_ses-a_dir-AP_epi", "sub-01_ses-a_task-rest_bold"]),
        ({"filters": ["direction=AP"], "suffix": ["epi"]}, ["sub-01_ses-a_dir-AP_epi"]),
    ],
)  # fmt: skip
def test_filters(raw: Dataset, wanted: dict[str, list[str]], names: list[str]) -> None:
    assert [path.rpartition("/")[2].partition(".")[0] for path in paths_of(raw, **wanted)] == names


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"filters": ["task"]}, ArgumentError, "filter must be entity=value, such as task=rest, got 'task'"),
        ({"filters": ["a\nb=x"]}, ArgumentError, r"filter a\x0ab=: no such entity"),
        ({"participant_label": ["a\nb"]}, InputMissingError, r"participant a\x0ab is not there"),
        ({"suffix": ["a\nb"]}, InputMissingError, r"no image is suffix a\x0ab; there are"),
        ({"filters": ["=x"]}, ArgumentError, "filter must be entity=value"),
        ({"filters": ["tsk=rest"]}, ArgumentError,
         "filter tsk=: no such entity; this dataset has dir, mod, run, ses, sub, task, and datatype"),
        ({"participant_label": ["01", "99"]}, InputMissingError, "participant 99 is not there; there are 01, 02"),
        ({"suffix": ["FLAIR"], "filters": ["acq=x,y"]}, InputMissingError,
         "no image is suffix FLAIR and acq=x,y; there are subjects 01, 02; sessions a, b; images anat/T1w (3), "
         "anat/T2w (2), anat/defacemask (1), dwi/dwi (2), fmap/epi (1), func/bold (1), perf/asl (1)"),
    ],
)  # fmt: skip
def test_filters_that_fit_nothing(
    raw: Dataset, wanted: dict[str, list[str]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        paths_of(raw, **wanted)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_there_is_is_told_in_short(tmp_path: Path) -> None:
    dataset = small(tmp_path / "many", *(f"sub-{n:03}/func/sub-{n:03}_task-x_bold.nii" for n in range(40)))
    with pytest.raises(
        InputMissingError, match=r"no image is in anat/; there are subjects 000, .*, 011 and 28 more; im"
    ):
        choose(dataset, BidsFilter())
    with pytest.raises(InputMissingError, match=r"no image with a BIDS name; 1 NIfTI files .* such as sub-1/anat/T1w"):
        choose(small(tmp_path / "odd", "sub-1/anat/T1w.nii"), BidsFilter())


def test_an_entity_that_only_the_dataset_knows_can_be_named(tmp_path: Path) -> None:
    dataset = small(tmp_path, "sub-1/anat/sub-1_mine-a_T1w.nii", "sub-1/anat/sub-1_mine-b_T1w.nii")
    assert paths_of(dataset, filters=["mine=b"]) == ["sub-1/anat/sub-1_mine-b_T1w.nii"]


# Scans.


def test_scans_keep_the_tree(raw: Dataset, root: Path, tmp_path: Path) -> None:
    (scan, *_) = scans_in(raw, tmp_path / "out", suffix=["bold"])
    assert scan == Scan(
        f"{root}/{A}/func/sub-01_ses-a_task-rest_bold.nii.gz",
        f"{tmp_path}/out/{A}/func/sub-01_ses-a_task-rest_res-up2_desc-conv3dt_bold.nii.gz",
        f"{A}/func/sub-01_ses-a_task-rest_bold.nii.gz",
        (("sub", "01"), ("ses", "a"), ("task", "rest")),
    )
    (scan,) = bids_scans(raw, parse_filter(session=["b"]), out_dir="x", res="up2x2x1", desc="fine", out_format="nii")
    assert scan.output == f"x/{B}/anat/sub-01_ses-b_res-up2x2x1_desc-fine_T1w.nii"


def test_two_images_of_one_output_name_are_refused(tmp_path: Path) -> None:
    names = [f"sub-1/anat/sub-1_desc-{label}_T1w.nii" for label in ("brain", "preproc")]
    dataset = small(tmp_path, *names, DatasetType="derivative")
    with pytest.raises(ArgumentError, match=r"desc-brain_T1w.nii and .*desc-preproc_T1w.nii would both become"):
        scans_in(dataset, tmp_path / "out")
    assert len(scans_in(dataset, tmp_path / "out", filters=["desc=brain"])) == 1


def test_hdf5_is_not_bids(raw: Dataset) -> None:
    with pytest.raises(ArgumentError, match=r"out_format must be nii or nii\.gz, the formats of BIDS"):
        bids_scans(raw, BidsFilter(), out_dir="x", res="up2", desc="c", out_format="h5")


@pytest.mark.parametrize("out_dir", ["", "a\0b"])
def test_an_output_folder_has_a_name(raw: Dataset, out_dir: str) -> None:
    with pytest.raises(ArgumentError, match="out_dir must be the name of a folder"):
        scans_in(raw, out_dir)


def test_a_dataset_does_not_become_its_own_derivative(raw: Dataset, root: Path) -> None:
    with pytest.raises(ArgumentError, match="is the dataset itself; choose one in its derivatives/"):
        scans_in(raw, root / A / ".." / "..")


# Inheritance.


def test_the_nearest_sidecar_wins(raw: Dataset) -> None:
    assert metadata(raw, image_at(f"{A}/anat/sub-01_ses-a_T1w.nii.gz")) == {
        "Manufacturer": "X",
        "FlipAngle": 9,
        "EchoTime": 0.003,
        "SliceThickness": 2.5,
        "AcquisitionVoxelSize": [1, 1, 2.5],
    }
    assert metadata(raw, image_at(f"{A}/func/sub-01_ses-a_task-rest_bold.nii.gz")) == {
        "TaskName": "rest",
        "RepetitionTime": 2.0,
        "PhaseEncodingDirection": "j-",
        "EchoTime": 0.03,
        "Manufacturer": "Y",
        "SliceTiming": [0.0, 0.7, 1.4],
        "EffectiveEchoSpacing": 0.0005,
        "TotalReadoutTime": 0.0015,
    }
    assert metadata(raw, image_at(f"{A}/anat/sub-01_ses-a_run-01_T2w.nii")) == {}


def test_only_what_applies_is_inherited(tmp_path: Path) -> None:
    image = "sub-1/anat/sub-1_acq-a_run-1_T1w.nii.gz"
    write(tmp_path, {
        "dataset_description.json": {},
        image: "",
        "T1w.json": {"root": 1, "who": "root", "gone": None},
        "acq-a_T1w.json": {"acq": 1, "who": "acq"},
        "acq-b_T1w.json": {"wrong": "value"},
        "T2w.json": {"wrong": "suffix"},
        "sub-1/sub-1_T1w.json": {"subject": 1, "who": "subject"},
        "sub-1/sub-1_run-01_T1w.json": {"wrong": "another label"},
        "sub-1/anat/sub-1_acq-a_T1w.json": {"who": "less special", "near": 1},
        "sub-1/anat/sub-1_acq-a_run-1_T1w.json": {"who": "file"},
        "sub-1/anat/sub-1_acq-a_run-1_echo-1_T1w.json": {"wrong": "more entities"},
        "sub-1/func/sub-1_T1w.json": {"wrong": "folder"},
    })  # fmt: skip
    assert metadata(read_dataset(str(tmp_path)), image_at(image)) == {
        "root": 1, "acq": 1, "subject": 1, "near": 1, "who": "file"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON in UTF-8: Expecting property name"),
        (b"[]", "must hold a JSON object, got list"),
        (b'{"a": "\xff"}', "is not valid JSON in UTF-8"),
        (b"[" * 100_000, "is not valid JSON in UTF-8"),
        (b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", "is nested more than 100 deep"),
        (b'{"a": ' + b"1" * 5000 + b"}", "is not valid JSON in UTF-8"),
        (b" " * 2**24 + b"{}", "is longer than"),
        (b"", "is not valid JSON in UTF-8"),
    ],
    ids=["cut", "list", "latin", "bomb", "deep", "long number", "long", "empty"],
)
def test_a_damaged_sidecar_is_told_by_name(content: bytes, message: str, tmp_path: Path) -> None:
    dataset = small(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_T1w.json")
    (tmp_path / "sub-1/anat/sub-1_T1w.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"sub-1_T1w\.json: {message}") as caught:
        metadata(dataset, dataset.images[0])
    assert "\n" not in str(caught.value)


def test_what_is_no_json_but_python_reads_says_nothing(tmp_path: Path) -> None:
    dataset = small(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_T1w.json")
    (tmp_path / "sub-1/anat/sub-1_T1w.json").write_text('\ufeff{"a": NaN, "b": 1e999, "c": [1, -Infinity], "d": 1.5}')
    found = metadata(dataset, dataset.images[0])
    assert found == {"c": [1, None], "d": 1.5}
    json.dumps(found, allow_nan=False)


def test_a_sidecar_whose_content_is_elsewhere(tmp_path: Path) -> None:
    small(tmp_path, "sub-1/anat/sub-1_T1w.nii")
    (tmp_path / "sub-1/anat/sub-1_T1w.json").symlink_to("nowhere")
    dataset = read_dataset(str(tmp_path))
    with pytest.raises(InputMissingError, match=r"sub-1_T1w\.json: cannot be read: No such file"):
        metadata(dataset, dataset.images[0])


# What is copied along.


def output_of(image: str) -> Name:
    return output_name(image_at(image).name, res="up2", desc="conv3dt")


def test_gradients_and_labels_of_volumes_go_along(raw: Dataset, root: Path) -> None:
    def targets(path: str) -> dict[str, str]:
        found = companions(raw, image_at(path), output_of(path))
        return {os.path.relpath(companion.source, root): companion.target for companion in found}

    same = [f"{A}/dwi/sub-01_ses-a_dwi.bval", f"{A}/dwi/sub-01_ses-a_dwi.bvec"]
    assert targets(f"{A}/dwi/sub-01_ses-a_dwi.nii.gz") == dict(zip(same, same, strict=True))
    same = ["sub-02/sub-02_dwi.bval", "sub-02/sub-02_dwi.bvec"]
    assert targets(f"{C}/dwi/sub-02_ses-a_dwi.nii.gz") == dict(zip(same, same, strict=True))
    assert list(targets(f"{A}/perf/sub-01_ses-a_asl.nii.gz")) == [f"{A}/perf/sub-01_ses-a_aslcontext.tsv"]
    assert targets(f"{A}/fmap/sub-01_ses-a_dir-AP_epi.nii.gz") == {}
    assert targets(f"{A}/anat/sub-01_ses-a_T1w.nii.gz") == {}


def test_gradients_of_derivatives_are_named_like_the_output(tmp_path: Path) -> None:
    stem = "sub-1/dwi/sub-1_space-T1w_desc-preproc_dwi"
    dataset = small(tmp_path, f"{stem}.nii.gz", f"{stem}.bval", "dwi.bvec", DatasetType="derivative")
    found = companions(dataset, dataset.images[0], output_of(f"{stem}.nii.gz"))
    assert [companion.target for companion in found] == [
        "sub-1/dwi/sub-1_space-T1w_res-up2_desc-conv3dt_dwi.bval",
        "dwi.bvec",
    ]


def test_copies_are_the_same_bytes(raw: Dataset, root: Path, tmp_path: Path) -> None:
    path = f"{C}/dwi/sub-02_ses-a_dwi.nii.gz"
    found = companions(raw, image_at(path), output_of(path))
    copies = copy_companions(found, str(tmp_path / "out"))
    assert copies == tuple(f"{tmp_path}/out/{companion.target}" for companion in found)
    before = [os.stat(copy).st_mtime_ns for copy in copies]
    assert copy_companions(found, str(tmp_path / "out")) == copies
    assert [os.stat(copy).st_mtime_ns for copy in copies] == before, "what is there already is left alone"
    for companion, copy in zip(found, copies, strict=True):
        assert Path(copy).read_bytes() == (root / os.path.relpath(companion.source, root)).read_bytes()
        assert os.listdir(os.path.dirname(copy)) == sorted(os.path.basename(other) for other in copies)


def test_a_companion_that_vanished_is_told(raw: Dataset, tmp_path: Path) -> None:
    dataset = small(tmp_path, "sub-1/dwi/sub-1_dwi.nii", "sub-1/dwi/sub-1_dwi.bval")
    (tmp_path / "sub-1/dwi/sub-1_dwi.bval").unlink()
    found = companions(dataset, dataset.images[0], output_of("sub-1/dwi/sub-1_dwi.nii"))
    with pytest.raises(InputMissingError, match=r"sub-1_dwi\.bval: cannot be read"):
        copy_companions(found, str(tmp_path / "out"))


# Sidecars.


def told(dataset: Dataset, path: str, said: Mapping[str, Any], upsampling: Upsampling = TWICE) -> dict[str, Any]:
    return sidecar(said, dataset=dataset, image=image_at(path), upsampling=upsampling)


T1W, BOLD = f"{A}/anat/sub-01_ses-a_T1w.nii.gz", f"{A}/func/sub-01_ses-a_task-rest_bold.nii.gz"


def test_a_sidecar_says_what_the_image_is(raw: Dataset) -> None:
    said = metadata(raw, image_at(T1W))
    assert sidecar(said, dataset=raw, image=image_at(T1W), upsampling=TWICE, record={"version": "1"}) == {
        "Description": "T1w upsampled by transposed convolution: kernel linear, strides 2 x 2 x 2.",
        "Sources": [f"bids:raw:{T1W}"],
        "Resolution": "Upsampled 2 x 2 x 2 times: 8 x 8 x 6 of 0.5 x 0.5 x 1.25 mm voxels, "
        "from 4 x 4 x 3 of 1 x 1 x 2.5 mm voxels.",
        "SpatialReference": "orig",
        "SkullStripped": False,
        "Manufacturer": "X",
        "FlipAngle": 9,
        "EchoTime": 0.003,
        "AcquisitionVoxelSize": [1, 1, 2.5],
        "Conv3dt": {"version": "1"},
    }


def test_slices_keep_their_times_where_they_are_the_same_slices(raw: Dataset) -> None:
    said = metadata(raw, image_at(BOLD))
    assert "SliceTiming" not in told(raw, BOLD, said)
    assert told(raw, BOLD, said, IN_PLANE)["SliceTiming"] == [0.0, 0.7, 1.4]
    first = said | {"SliceEncodingDirection": "i-"}
    assert "SliceTiming" not in told(raw, BOLD, first, IN_PLANE)
    assert told(raw, BOLD, said)["RepetitionTime"] == 2.0
    longer = Upsampling((2, 2, 1), "mine", (4, 4, 3), (8, 8, 5))
    assert "SliceTiming" not in told(raw, BOLD, said, longer)


@given(
    st.integers(1, 5), st.integers(2, 300), st.integers(0, 9), st.floats(1e-5, 1e-2), st.sampled_from(["i", "j-", "k"])
)
def test_distortion_stays_what_it_is_in_mm(stride: int, n: int, extra: int, echo: float, direction: str) -> None:
    axis = "ijk".index(direction[0])

    def along(value: Any, others: Any) -> Any:
        return tuple(value if i == axis else others for i in range(3))

    after, fine = n * stride + extra, 2.0 / stride
    upsampling = Upsampling(along(stride, 1), "k", along(n, 7), along(after, 7), along(2.0, 2.0), along(fine, 2.0))
    said = {"PhaseEncodingDirection": direction, "EffectiveEchoSpacing": echo, "TotalReadoutTime": echo * (n - 1)}
    dataset = Dataset("x", {}, (), (), {})
    found = told(dataset, T1W, said, upsampling)
    assert found["EffectiveEchoSpacing"] * after * fine == pytest.approx(echo * n * 2.0, rel=1e-10)
    assert found["TotalReadoutTime"] == pytest.approx(found["EffectiveEchoSpacing"] * (after - 1), rel=1e-10)


def test_times_of_readout_are_left_out_where_their_axis_is_not_known(raw: Dataset) -> None:
    said = {"EffectiveEchoSpacing": 0.0005, "TotalReadoutTime": 0.05, "EchoTime": 0.03}
    assert not {"EffectiveEchoSpacing", "TotalReadoutTime"} & set(told(raw, BOLD, said))
    across = {**said, "PhaseEncodingDirection": "k"}
    assert told(raw, BOLD, across, IN_PLANE).items() >= across.items(), "voxels along k are the same as before"
    odd = {"PhaseEncodingDirection": "j", "EffectiveEchoSpacing": "0.1", "TotalReadoutTime": 10**400}
    assert set(odd) & set(told(raw, BOLD, odd)) == {"PhaseEncodingDirection"}


@pytest.mark.parametrize(
    ("intended", "expected"),
    [
        ("ses-a/func/x_bold.nii.gz", "bids:raw:sub-01/ses-a/func/x_bold.nii.gz"),
        (["ses-a/func/a b.nii"], ["bids:raw:sub-01/ses-a/func/a%20b.nii"]),
        (["bids::sub-01/x.nii", "bids:other:x.nii"], ["bids:raw:sub-01/x.nii", "bids:other:x.nii"]),
    ],
)
def test_references_lead_to_the_source(raw: Dataset, intended: Any, expected: Any) -> None:
    assert told(raw, BOLD, {"IntendedFor": intended})["IntendedFor"] == expected


def derived(tmp_path: Path, name: str) -> tuple[Dataset, str]:
    path = f"sub-1/anat/{name}"
    return small(tmp_path, path, DatasetType="derivative", GeneratedBy=[{"Name": "other"}]), path


def test_what_a_derivative_says_is_taken_over(tmp_path: Path) -> None:
    dataset, path = derived(tmp_path, "sub-1_space-MNI305_res-1_desc-preproc_T1w.nii.gz")
    said = {
        "SkullStripped": True,
        "SpatialReference": "bids::ref.nii",
        "Sources": ["bids:raw:sub-1/anat/sub-1_T1w.nii"],
        "RawSources": ["x"],
        "Resolution": "old",
        "Description": "old",
        "Conv3dt": {"old": 1},
    }
    found = told(dataset, path, said)
    assert found["SkullStripped"] is True
    assert found["SpatialReference"] == "bids:source:ref.nii"
    assert found["Sources"] == [f"bids:source:{path}"]
    assert not {"RawSources", "Conv3dt"} & set(found)
    assert "old" not in found.values()


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("sub-1_T1w.nii", {}, "orig"),
        ("sub-1_space-T1w_T2w.nii", {}, "bids:source:sub-1/anat/sub-1_space-T1w_T2w.nii"),
        ("sub-1_space-x_T2w.nii", {"SpatialReference": "orig"}, "orig"),
        ("sub-1_space-x_T2w.nii", {"SpatialReference": "sub-1/a b.nii"}, "bids:source:sub-1/a%20b.nii"),
        ("sub-1_space-x_T2w.nii", {"SpatialReference": "https://x.org/a"}, "https://x.org/a"),
        ("sub-1_space-x_T2w.nii", {"SpatialReference": {"V": "orig", "S": "s.gii"}},
         {"V": "orig", "S": "bids:source:s.gii"}),
    ],
)  # fmt: skip
def test_what_an_image_is_aligned_with(name: str, said: Any, expected: Any, tmp_path: Path) -> None:
    dataset, path = derived(tmp_path, name)
    assert told(dataset, path, said)["SpatialReference"] == expected


@pytest.mark.parametrize(("suffix", "expected"), [("mask", False), ("dseg", False), ("T1w", True)])
def test_labels_are_not_asked_for_their_skull(suffix: str, expected: bool, tmp_path: Path) -> None:
    dataset, path = derived(tmp_path, f"sub-1_{suffix}.nii")
    assert ("SkullStripped" in told(dataset, path, {})) is expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
READ = ("PhaseEncodingDirection", "SliceEncodingDirection", "EffectiveEchoSpacing", "TotalReadoutTime", "SliceTiming",
        "IntendedFor", "SpatialReference", "SkullStripped", "DatasetLinks", "Name", "BIDSVersion", "License",
        "DatasetDOI", "DatasetType", "GeneratedBy", "Authors")  # fmt: skip


@given(st.dictionaries(st.sampled_from(READ) | st.text(max_size=3), JSON | st.sampled_from(["i", "j-", "k"])))
def test_whatever_a_source_says_a_derivative_can_be_written(said: dict[str, Any]) -> None:
    dataset = Dataset("/x/source", said, (), (), {})
    found = told(dataset, BOLD, {key: value for key, value in said.items() if value is not None})
    described = dataset_description(dataset, "/x/out", version="1")
    assert json.loads(json.dumps([found, described], allow_nan=False)) == [found, described]
    assert described["DatasetLinks"][found["Sources"][0].split(":")[1]] == "../source/"


def test_without_voxel_sizes_only_counts_are_told(raw: Dataset) -> None:
    bare = Upsampling((2, 2, 2), "nearest", (4, 4, 3), (8, 8, 6))
    assert (
        told(raw, T1W, {}, bare)["Resolution"] == "Upsampled 2 x 2 x 2 times: 8 x 8 x 6 voxels, from 4 x 4 x 3 voxels."
    )


# The dataset.


def test_the_description_of_the_derivative(raw: Dataset, root: Path, tmp_path: Path) -> None:
    inside = dataset_description(raw, str(root / "derivatives" / "conv3dt"), version="1.2.3")
    assert inside == {
        "Name": "Test heads: upsampled by conv3dt",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "License": "CC0",
        "Authors": ["A. One", "B. Two"],
        "GeneratedBy": [
            {
                "Name": "conv3dt",
                "Version": "1.2.3",
                "Description": "Upsampling by transposed convolution, the Conv3DTranspose of Keras 2.9.",
            }
        ],
        "SourceDatasets": [{"URL": "../../", "DOI": "doi:10.0000/test"}],
        "DatasetLinks": {"raw": "../../"},
    }
    beside = dataset_description(raw, str(root.parent / "out"), version="1")
    assert beside["DatasetLinks"] == {"raw": "../raw%20heads/"}


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.4.0", "1.10.0"), ("1.11.1", "1.11.1"), ("1.9.0", "1.10.0"), ("2.0", "1.10.0"), ("", "1.10.0"), (7, "1.10.0")],
)
def test_the_version_is_new_enough_for_what_is_written(version: Any, expected: str, tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path), {"BIDSVersion": version}, (), (), {})
    assert dataset_description(dataset, str(tmp_path / "out"), version="1")["BIDSVersion"] == expected


def test_links_of_the_source_still_lead_where_they_did(tmp_path: Path) -> None:
    links = {"raw": "../..", "atlas": "../at las", "web": "https://x.org/y", "disk": "/data", "odd": 7}
    dataset = Dataset(str(tmp_path / "a/derived"), {"DatasetType": "derivative", "DatasetLinks": links}, (), (), {})
    found = dataset_description(dataset, str(tmp_path / "b/c"), version="1")["DatasetLinks"]
    assert found == {
        "raw": "../..",
        "atlas": "../../a/at%20las",
        "web": "https://x.org/y",
        "disk": "/data",
        "source": "../../a/derived/",
    }


def test_a_folder_becomes_a_derivative_once(raw: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    prepare(raw, str(out), version="1", ignored=["*.html"])
    assert sorted(os.listdir(out)) == [".bidsignore", "README.md", "dataset_description.json"]
    assert json.loads((out / "dataset_description.json").read_text()) == dataset_description(raw, str(out), version="1")
    (out / "README.md").write_text("mine")
    (out / ".bidsignore").write_text("mine\n*.html")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    prepare(raw, str(out), version="1", ignored=["*.html"])
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before, "nothing is written anew"
    prepare(raw, str(out), version="2", ignored=["*.html", "logs.txt"])
    assert (out / ".bidsignore").read_text() == "mine\n*.html\nlogs.txt\n"
    assert (out / "README.md").read_text() == "mine"
    assert '"Version": "2"' in (out / "dataset_description.json").read_text()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"dataset_description.json": DESCRIPTION}, "is another dataset, raw, named Test heads; choose another"),
        ({"dataset_description.json": {"Name": "x"}}, "is another dataset, raw, named x"),
        ({"dataset_description.json": {"DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}},
         "is another dataset, made by fMRIPrep"),
        ({"dataset_description.json": {"DatasetType": "derivative", "GeneratedBy": "conv3dt"}},
         "is another dataset, a derivative"),
        ({"dataset_description.json": "{"}, "is not valid JSON"),
        ({"sub-01/x": ""}, "has subjects in it but no dataset_description.json"),
        ({"dataset_description.json": {"DatasetType": "derivative", "GeneratedBy": [{"Name": "conv3dt"}],
                                       "DatasetLinks": {"raw": "../elsewhere/"}}},
         "was made from another dataset, ../elsewhere/"),
        ({"dataset_description.json": {"DatasetType": "derivative", "GeneratedBy": [{"Name": "conv3dt"}]}},
         "was made from another dataset, None"),
    ],
    ids=["raw", "old raw", "another tool", "odd", "damaged", "subjects", "another source", "no source"],
)  # fmt: skip
def test_another_dataset_is_never_written_into(
    raw: Dataset, files: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "out", files)
    for attempt in (check_out_dir, lambda dataset, out: prepare(dataset, out, version="1", ignored=["x"])):
        with pytest.raises(OutputError) as caught:
            attempt(raw, str(tmp_path / "out"))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    left = [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left == list(files)


def test_a_file_is_no_folder(raw: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "a\0b", "file/below"):
        with pytest.raises(OutputError):
            prepare(raw, str(tmp_path / name), version="1")


def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/k\xffse\n"))
    try:
        root.mkdir()
    except OSError:
        pytest.skip("a file system for text only")
    write(root, {"dataset_description.json": '{"Name": "\\ud800"}', "sub-1/anat/sub-1_T1w.nii": VOLUME})
    dataset = read_dataset(str(root))
    prepare(dataset, str(tmp_path / "out"), version="1")
    found = json.loads((tmp_path / "out/dataset_description.json").read_text())
    assert found["DatasetLinks"] == {"raw": "../k%FFse%0A/"}
    check_out_dir(dataset, str(tmp_path / "out"))
    with pytest.raises(Conv3dtError) as caught:
        choose(dataset, parse_filter(suffix=["x"]))
    assert str(caught.value).isprintable()


# The validator.


@cache
def installed() -> str | None:
    """The validator's command, where it is installed and runs."""
    beside = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("bids-validator-deno")
    runs = found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0
    return found if runs else None


def validator() -> str:
    found = installed()
    if found is None:
        pytest.skip("bids-validator-deno is not installed")
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the validator keeps what it compiles of itself."""
    return tmp_path_factory.mktemp("deno")


def issues(root: Path, home: Path) -> dict[str, list[dict[str, Any]]]:
    """What the validator says of a dataset, by severity."""
    done = subprocess.run(
        [validator(), str(root), "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DENO_DIR": str(home), "DENO_NO_UPDATE_CHECK": "1"},
    )
    result = json.loads(done.stdout)
    found: dict[str, list[dict[str, Any]]] = {"error": [], "warning": []}
    for issue in result["issues"]["issues"]:
        found[issue["severity"]].append(issue)
    return found


RECOMMENDED = ("SIDECAR_KEY_RECOMMENDED", "JSON_KEY_RECOMMENDED")
"""Warnings of what the source does not say either."""


def made(root: Path, out: Path, suffixes: str, **options: Any) -> list[dict[str, Any]]:
    """Upsample images of a dataset; return their sidecars."""
    plan = gather(
        [str(root)], out_dir=str(out), bids=True, suffix=[suffixes], layer={"scale": (2, 2, 1)}, dtype="int16",
        max_memory="6GB", html=True, **options,
    )  # fmt: skip
    outcomes = unattended(plan)
    assert {outcome.status for outcome in outcomes} == {"done"}, outcomes
    assert {outcome.status for outcome in unattended(plan)} == {"skipped"}
    return [json.loads(Path(sidecar_path(outcome.output)).read_text()) for outcome in outcomes]


@pytest.fixture(scope="module")
def upsampled(root: Path) -> Path:
    """The derivative of all images; nobody writes into it."""
    out = root.parent / "upsampled"
    assert len(made(root, out, "T1w,T2w,bold,dwi,epi,asl")) == 10
    return out


def test_the_derivative_is_valid(root: Path, upsampled: Path, home: Path) -> None:
    assert issues(root, home)["error"] == [], "the source itself"
    found = issues(upsampled, home)
    assert found["error"] == []
    assert [issue for issue in found["warning"] if issue["code"] not in RECOMMENDED] == []


def test_what_it_says_of_images_would_do_for_raw_ones(upsampled: Path, home: Path, tmp_path: Path) -> None:
    """Of raw datasets the validator asks more: all that scanners say."""
    out = shutil.copytree(upsampled, tmp_path / "out")
    for path in list(out.rglob("*_res-up2x2x1_desc-conv3dt_*")):
        path.rename(path.with_name(path.name.replace("_res-up2x2x1_desc-conv3dt", "")))
    description = json.loads((out / "dataset_description.json").read_text()) | {"DatasetType": "raw"}
    (out / "dataset_description.json").write_text(json.dumps(description))
    found = issues(out, home)
    assert found["error"] == []
    assert {issue["code"] for issue in found["warning"]} == {"SIDECAR_KEY_RECOMMENDED", "JSON_KEY_RECOMMENDED"}


def test_so_is_the_derivative_of_a_derivative_inside_it(upsampled: Path, home: Path, tmp_path: Path) -> None:
    validator()
    source = shutil.copytree(upsampled, tmp_path / "source")
    out = source / "derivatives" / "conv3dt"
    sidecars = made(source, out, "dwi,T1w", out_format="nii")
    assert sidecars[0]["Sources"] == [f"bids:source:{A}/anat/sub-01_ses-a_res-up2x2x1_desc-conv3dt_T1w.nii.gz"]
    names = [path.name for path in out.rglob("*.nii")]
    assert len(names) == 5 and all(name.count("_res-up2x2x1_desc-conv3dt_") == 1 for name in names)
    for dataset in (source, out):
        found = issues(dataset, home)
        assert found["error"] == []
        assert [issue for issue in found["warning"] if issue["code"] not in RECOMMENDED] == []


def test_the_validator_would_see_what_is_wrong(upsampled: Path, home: Path, tmp_path: Path) -> None:
    out = shutil.copytree(upsampled, tmp_path / "out")
    stem = out / B / "anat" / "sub-01_ses-b_res-up2x2x1_desc-conv3dt_T1w"
    Path(f"{stem}.nii.gz").rename(out / B / "anat" / "sub-01_ses-b_desc-conv3dt_res-up2_T1w.nii.gz")
    description = json.loads((out / "dataset_description.json").read_text()) | {"GeneratedBy": "conv3dt"}
    (out / "dataset_description.json").write_text(json.dumps(description))
    said = out / A / "anat" / "sub-01_ses-a_res-up2x2x1_desc-conv3dt_T1w.json"
    said.write_text(
        json.dumps({key: value for key, value in json.loads(said.read_text()).items() if key != "Resolution"})
    )
    (out / "sub-02" / "sub-02_dwi.bval").unlink()
    (out / ".bidsignore").unlink()
    found = {(issue["code"], issue["location"].rpartition("/")[2]) for issue in issues(out, home)["error"]}
    assert found >= {
        ("SIDECAR_WITHOUT_DATAFILE", f"{stem.name}.json"),
        ("JSON_SCHEMA_VALIDATION_ERROR", "dataset_description.json"),
        ("SIDECAR_KEY_REQUIRED", "sub-01_ses-a_res-up2x2x1_desc-conv3dt_T1w.nii.gz"),
        ("DWI_MISSING_BVAL", "sub-02_ses-a_res-up2x2x1_desc-conv3dt_dwi.nii.gz"),
        ("NOT_INCLUDED", "conv3dt.html"),
    }
