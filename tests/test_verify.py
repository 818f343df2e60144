"""Does `verify` say yes to what is right, and no to everything else?"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest

import conv3dt
from tests.conftest import SAMPLES, Run, listing, save_nifti, whole_numbers


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Path:
    """A scan and what was made of it, with its sidecar."""
    source = save_nifti(tmp_path / "a.nii.gz", whole_numbers(14, 12, 10), np.diag([1.0, 2, 3, 1]))
    done = run("upsample", source, tmp_path / "up.nii", "--kernel", "cubic", "--sidecar", "--self-check")
    assert done.code == 0, done.err
    assert "self-check" in done.err
    return tmp_path / "up.nii"


def findings(run: Run, *words: object, code: int) -> dict[str, bool | None]:
    done = run("verify", *words, "--json")
    assert done.code == code, done.err
    assert done.json["passed"] == (code == 0)
    return {finding["name"]: finding["passed"] for finding in done.json["findings"]}


def rehash(path: Path) -> None:
    """Make a record name the file that is there: so that voxels and header have to speak for themselves."""
    import hashlib

    sidecar = path.with_suffix(".json")
    told = json.loads(sidecar.read_text())
    told["Conv3dt"]["output"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar.write_text(json.dumps(told))


def test_yes(run: Run, made: Path) -> None:
    assert findings(run, made, code=0) == dict.fromkeys(["output", "input", "arguments", "header", "voxels"], True)
    told = run("verify", made)
    assert told.code == 0
    assert f"verified: {made}" in told.out


def test_a_tree_that_moved_is_still_proved(run: Run, made: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.nii.gz", "up.nii", "up.json"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    assert run("verify", tmp_path / "elsewhere" / "up.nii").code == 0
    shutil.move(tmp_path / "elsewhere" / "a.nii.gz", tmp_path / "b.nii.gz")
    missing = run("verify", tmp_path / "elsewhere" / "up.nii")
    assert (missing.code, "--source" in missing.complaint) == (66, True)
    assert run("verify", tmp_path / "elsewhere" / "up.nii", "--source", tmp_path / "b.nii.gz").code == 0


def test_a_changed_voxel(run: Run, made: Path) -> None:
    raw = bytearray(made.read_bytes())
    raw[352:356] = np.float32(
        np.frombuffer(raw, "<f4", 1, 352)[0] + 1
    ).tobytes()  # the first corner is always looked at
    made.write_bytes(raw)
    assert findings(run, made, code=1) == {
        "output": False, "input": True, "arguments": True, "header": True, "voxels": False
    }  # fmt: skip
    rehash(made)
    assert findings(run, made, code=1)["voxels"] is False
    assert "NO" in run("verify", made).out


def test_a_changed_header(run: Run, made: Path) -> None:
    raw = bytearray(made.read_bytes())
    raw[280:284] = np.float32(0.6).tobytes()  # srow_x
    made.write_bytes(raw)
    rehash(made)
    assert findings(run, made, code=1) == {
        "output": True, "input": True, "arguments": True, "header": False, "voxels": True
    }  # fmt: skip


def test_another_input(run: Run, made: Path, tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii.gz", whole_numbers(14, 12, 10, seed=5), np.diag([1.0, 2, 3, 1]))
    found = findings(run, made, code=1)
    assert (found["input"], found["voxels"]) == (False, False)


def test_an_output_of_another_shape(run: Run, made: Path) -> None:
    image = nibabel.load(made)
    nibabel.save(nibabel.Nifti1Image(np.array(image.dataobj)[:-1], image.affine), made)
    assert findings(run, made, code=1)["shape"] is False


@pytest.mark.parametrize("target", ["up.nii.gz", "up.h5", "up.h5:/deep/er"])
@pytest.mark.parametrize(
    "options",
    [
        ("--dtype", "int16", "--rescale"),
        ("--weights", SAMPLES / "blur.npz", "--strides", "2", "--padding", "same", "--align", "centroid"),
        ("--kernel", "lanczos3", "--scale", "3,1,2", "--activation", "relu"),
        ("--nan", "zero",),
    ],
    ids=["rescale", "weights", "lanczos", "nan"],
)  # fmt: skip
def test_options_and_formats(run: Run, tmp_path: Path, target: str, options: tuple[object, ...]) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(9, 8, 7).astype(np.float32), np.eye(4))
    done = run("upsample", source, tmp_path / target, "--sidecar", "--self-check", *options)
    assert done.code == 0, done.err
    assert False not in findings(run, tmp_path / target, code=0).values()


def test_weights_that_changed_since(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(9, 8, 7), np.eye(4))
    np.save(tmp_path / "k.npy", np.ones((2, 2, 2)))
    words = ("--weights", tmp_path / "k.npy", "--strides", "2", "--sidecar")
    assert run("upsample", source, tmp_path / "up.nii", *words).code == 0
    np.save(tmp_path / "k.npy", np.full((2, 2, 2), 1.5))
    found = findings(run, tmp_path / "up.nii", code=1)
    assert (found["output"], found["arguments"], found["voxels"]) == (True, False, False)


def test_a_dataset_in_hdf5_that_was_changed(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(9, 8, 7), np.eye(4))
    assert run("upsample", source, tmp_path / "up.h5:/up", "--sidecar").code == 0
    with h5py.File(tmp_path / "up.h5", "r+") as file:
        file["up"][-1, -1, -1] += 3
    assert findings(run, f"{tmp_path}/up.h5:/up", code=1)["voxels"] is False


def record(**options: object) -> str:
    """A sidecar whose record has these options, and files that nobody looked at."""
    files = {name: {"path": path, "bytes": 1, "sha256": ""} for name, path in FILES.items()}
    return json.dumps({"Conv3dt": {"version": "1", "job": "", "options": options, **files}})


FILES = {"input": "a.nii.gz", "output": "up.nii"}


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (None, 66, "no record"),
        ("{}", 66, "no record"),
        ("{", 65, "not a JSON object"),
        ("[" * 99999, 65, "not a JSON object"),
        ('{"Conv3dt": {"version": 3}}', 66, "no record"),
        (record(weights={"not recorded": "ndarray"}), 65, "given in memory"),
        (record(warp=9), 65, "does not know"),
        (record(kernel="magic"), 65, "cannot be followed"),
        (record(scale="a"), 65, "cannot be followed"),
        (record(tile=2.5), 65, "cannot be followed"),
    ],
    ids=["none", "empty", "broken", "deep", "short", "in memory", "unknown", "impossible", "text", "number"],
)
def test_records_that_cannot_be_followed(run: Run, made: Path, content: str | None, code: int, text: str) -> None:
    sidecar = made.with_suffix(".json")
    sidecar.unlink() if content is None else sidecar.write_text(content)
    done = run("verify", made)
    assert done.code == code
    assert text in done.complaint


def test_a_sidecar_of_others_is_not_replaced(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4), np.eye(4))
    (tmp_path / "up.json").write_text('{"EchoTime": 0.03}')
    done = run("upsample", source, tmp_path / "up.nii", "--sidecar")
    assert (done.code, "not conv3dt's" in done.complaint) == (73, True)
    assert listing(tmp_path) == ["a.nii", "up.json"]


def test_an_engine_that_is_wrong_is_caught_before_its_output_has_a_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(6, 6, 6), np.eye(4))
    from conv3dt.engine.direct import DirectEngine

    compute = DirectEngine.compute

    def wrong(self: DirectEngine, block: np.ndarray, out: np.ndarray) -> int:  # type: ignore[type-arg]
        lost = compute(self, block, out)
        out[..., 0] += 0.01
        return lost

    monkeypatch.setattr(DirectEngine, "compute", wrong)
    done = run("upsample", source, tmp_path / "up.nii.gz", "--self-check")
    assert (done.code, "self-check failed" in done.complaint) == (65, True)
    assert listing(tmp_path) == ["a.nii"]


def test_a_record_does_not_depend_on_when_it_was_made(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(6, 6, 6), np.eye(4))
    found = []
    for threads in (1, 2):
        words = ("--sidecar", "--overwrite", "--threads", threads)
        assert run("upsample", source, tmp_path / "up.nii.gz", *words).code == 0
        found.append((tmp_path / "up.json").read_bytes() + gzip.decompress((tmp_path / "up.nii.gz").read_bytes()))
    assert found[0] == found[1]


def test_weights_in_memory_are_told_of_but_cannot_be_verified(run: Run, tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "a.nii", whole_numbers(5, 6, 7), np.eye(4))
    taps = np.ones((2, 2, 2, 1, 1), np.float32)
    conv3dt.upsample_file(source, tmp_path / "b.nii", weights=taps, strides=2, sidecar=True)
    told = run("verify", tmp_path / "b.nii")
    assert told.code == 65
    assert told.complaint.endswith("weights was given in memory and is not recorded; it cannot be verified")
