"""What does the command do with damaged files?  Of two thousand it refuses each in one line, or makes what is whole."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from conv3dt.pending import PREFIX
from conv3dt.record import sidecar_path
from conv3dt.visible import visible
from tests import damage
from tests.damage_cases import WHEN, Case, Sound, case_of, scans, sound_files
from tests.damage_worker import Ended, Worker

SEED = int(os.environ.get("CONV3DT_DAMAGE_SEED", "1"))
"""Another one makes other damage; its name begins so that the command's own variables do not."""
COUNTS = {"nifti": 500, "gzip": 250, "hdf5": 350, "weights": 350, "layer": 60, "sidecar": 100, "config": 60, "list": 25,
          "bids": 25, "pipe": 60, "journal": 20}  # fmt: skip
BATCH = 200
GROUP = 100
GROUPS = [
    (kind, start, min(GROUP, count - start)) for kind, count in COUNTS.items() for start in range(0, count, GROUP)
]

CODES = (0, 1, 2, 65, 66, 73, 74, 75)
MOST_CPU_S = 10.0
MOST_GROWN = 400 * 2**20
"""Bytes that a case may take beyond what the process held before it, libraries that it imports among them."""
MOST_LETTERS = 2500
MOST_FILES = 2
"""Open at the end, of all cases together: the pipes to the process that tries HDF5 files."""
TRACEBACK = re.compile(r"Traceback|Exception ignored|unexpected [A-Za-z.]+(Error|Exception|Exit|Interrupt|Iteration)?:")


def test_there_are_two_thousand() -> None:
    assert sum(COUNTS.values()) + BATCH == 2000


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return sound_files(tmp_path_factory.mktemp("damaged") / "sound")


def fault_of(case: Case, folder: Path, ended: Ended, left: list[str]) -> str | None:
    """Why a case did not end as it must; None if it did."""
    out, err = ended.out.decode("utf-8", "replace"), ended.err.decode("utf-8", "replace")
    if ended.code is None:
        return f"died: {ended.signal}"
    if ended.code not in CODES:
        return f"exit code {ended.code!r}"
    if TRACEBACK.search(err):
        return "traceback"
    if ended.cpu_s > MOST_CPU_S:
        return f"took {ended.cpu_s:.1f} s"
    if ended.grown > MOST_GROWN:
        return f"took {ended.grown / 2**20:.0f} MiB"
    if ended.files > MOST_FILES:
        return f"left {ended.files} files open"
    if left or (parts := [str(path) for path in folder.rglob(".conv3dt-part-*")]):
        return f"left passing files: {left or parts}"
    if (said := (out + err).replace("\n", "")) != visible(said):
        return "says what is not to be seen"
    return _lines(case, ended.code, out, err) or _outputs(case, folder, ended.code, out)


def _lines(case: Case, code: int, out: str, err: str) -> str | None:
    """What is wrong with what was said."""
    lines = err.splitlines()
    if code == 0 or (case.words[0] == "batch" and code == 1):
        return None
    if case.words[0] == "verify" and code == 1:
        return None if err == "" else "says no, and something else"
    if code == 1 or len(lines) != 1 or not lines[0].startswith("conv3dt: ") or len(lines[0]) > MOST_LETTERS:
        return "does not say in one line what is wrong"
    if out and "--json" not in case.words:
        return "says something on stdout"
    return "memory ran out" if "memory ran out" in err else None


def _outputs(case: Case, folder: Path, code: int, out: str) -> str | None:
    """What is wrong with what was made."""
    if case.words[0] == "batch":
        return None
    if code and (other := [name for name, raw in case.files.items() if _is_other(folder / name, raw)]):
        return f"changed {other}"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - set(case.files)
    wanted = {case.output} if case.output and code == 0 else set()
    if code == 0 and case.output is not None and "--sidecar" in case.words:
        wanted.add(sidecar_path(case.output))
    if found != {name.split(":")[0] for name in wanted if name} - set(case.files):
        return f"made {sorted(found)}, not {sorted(map(str, wanted))}"
    if case.changed and code == 0:
        return "says yes to what was changed"
    if code == 0 and case.whole is not None and (folder / str(case.output)).read_bytes() != case.whole:
        return "made other bytes than a run that was not killed"
    if code or case.words[0] != "upsample" or case.output is None:
        return None
    report = json.loads(out, parse_constant=_refused)
    shape, dtype = read(folder, case.output)
    if list(shape) != report["output"]["shape"] or dtype != report["output"]["dtype"]:
        return f"made {dtype} {shape}, and says {report['output']}"
    return None


def _is_other(path: Path, raw: bytes) -> bool:
    """Whether a file was changed; what a killed run left may go."""
    return not path.name.startswith(PREFIX) and path.read_bytes() != raw


def _refused(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def read(folder: Path, output: str) -> tuple[tuple[int, ...], str]:
    """Read all of an output by the libraries that others use; return its shape and its type."""
    file, _, name = output.partition(":")
    if file.endswith(".h5"):
        with h5py.File(folder / file) as opened:
            stack: NDArray[Any] = opened[name or "data"][...]
        return stack.shape, stack.dtype.name
    try:
        image: Any = nibabel.load(folder / file)
    except ValueError as error:  # the damaged turn of the input, kept as it was: nibabel opens neither
        assert "w2 should be positive" in str(error)
        return _without_turn(folder / file)
    return image.shape, np.asanyarray(image.dataobj.get_unscaled()).dtype.name


def _without_turn(path: Path) -> tuple[tuple[int, ...], str]:
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    kind = Nifti1Header if raw[:1] == b"\x5c" else Nifti2Header
    header = kind(raw[: kind.template_dtype.itemsize], check=False)
    return header.raw_data_from_fileobj(io.BytesIO(raw)).shape, header.get_data_dtype().name


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Write files; an input that a journal speaks of has the time that it is to have."""
    for name, raw in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        if name == "scan.nii":
            os.utime(path, ns=(WHEN, WHEN))


# --- one at a time ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("worker"))
    yield worker
    worker.close()


@pytest.mark.parametrize(("kind", "start", "count"), GROUPS, ids=[f"{kind}-{start}" for kind, start, _ in GROUPS])
def test_damaged_files(sound: Sound, worker: Worker, kind: str, start: int, count: int) -> None:
    faults, codes, files = [], Counter[Any](), 0
    for number in range(start, start + count):
        case, folder = case_of(kind, number, SEED, sound), sound.folder.parent / f"{kind}-{number}"
        folder.mkdir()
        put(folder, case.files)
        ended = worker.call(case.words, folder, None if case.stdin is None else folder / case.stdin)
        fault = fault_of(case, folder, ended, worker.left())
        codes[ended.code] += 1
        files += ended.files
        if fault is not None:
            said = ended.err.decode("utf-8", "backslashreplace")[-500:]
            faults.append(f"{folder}: {fault}: conv3dt {' '.join(case.words)}\n{said}")
        else:
            shutil.rmtree(folder)
    assert not faults, "\n".join(faults)
    assert files <= MOST_FILES
    if kind != "journal":  # a damaged one is left aside, and the run begins afresh
        assert len(codes) > 1, "nothing was damaged, or everything beyond use"


# --- all at once -----------------------------------------------------------------------------------------------------


def test_a_batch_of_damaged_scans(sound: Sound, worker: Worker, tmp_path: Path) -> None:
    """What is wrong with one scan does nothing to another; each is told, and done or not there."""
    put(tmp_path, {f"in/{name}": raw for name, raw in scans(BATCH, SEED, sound).items()})
    words = ("batch", "in", "--out-dir", "out", "--kernel", "nearest", "--json", "--max-memory", "2GiB")
    ended = worker.call(words, tmp_path)
    assert (ended.code, worker.left()) == (1, []), ended.err
    assert ended.files <= MOST_FILES
    assert ended.grown < MOST_GROWN
    outcomes = json.loads(ended.out, parse_constant=_refused)
    assert len(outcomes) == BATCH
    counts = Counter(outcome["status"] for outcome in outcomes)
    assert counts.keys() == {"done", "failed"}
    assert min(counts.values()) > BATCH // 10
    made = {"conv3dt.jsonl"}
    for outcome in outcomes:
        if outcome["status"] == "done":
            name = os.path.basename(outcome["output"])
            made |= {name, sidecar_path(name)}
            assert read(tmp_path / "out", name)[0] == tuple(outcome["report"]["output"]["shape"])
        else:
            assert outcome["exit_code"] in (65, 73), outcome
            assert not TRACEBACK.search(outcome["error"])
    assert set(os.listdir(tmp_path / "out")) == made
    assert not TRACEBACK.search(ended.err.decode())
    log = [json.loads(line) for line in (tmp_path / "out" / "conv3dt.jsonl").read_text().splitlines()]
    assert Counter(line["status"] for line in log) == counts


# --- bombs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [0, 512, 1024])
def test_zeros_behind_the_voxels_are_passed_over_but_not_for_ever(
    sound: Sound, worker: Worker, tmp_path: Path, behind: int
) -> None:
    """As much as a gigabyte; 10 GB of them, in 10 MB, are not unpacked."""
    put(tmp_path, {"x.nii.gz": damage.bomb(sound.files["a.nii"], behind if behind < 1024 else 10 * 2**10)})
    ended = worker.call(("upsample", "x.nii.gz", "up.nii", "-q"), tmp_path)
    assert ended.code == (65 if behind == 1024 else 0)
    assert (b"goes on for more than 1073741824 bytes behind the last voxel" in ended.err) == (behind == 1024)
    assert ended.cpu_s < MOST_CPU_S
    assert ended.grown < 100 * 2**20
    assert (tmp_path / "up.nii").exists() == (behind < 1024)
