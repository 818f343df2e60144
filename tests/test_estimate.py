"""Is what a run takes foreseen, and only refused what cannot be?  Against runs, and on a disk made for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conv3dt
from conv3dt import fits
from conv3dt.disk import DiskUse, disk_use, left_behind
from conv3dt.errors import DoesNotFitError, OutputError
from conv3dt.estimate import Estimate, estimate
from conv3dt.file_run import FileRun, resolve
from conv3dt.fits import check_fits, foresee
from conv3dt.io.volume import VolumeInfo
from conv3dt.job import Job, make_job
from conv3dt.packing import packed_share
from conv3dt.pending import PendingFile
from conv3dt.request import LayerRequest
from conv3dt.resources import resources
from conv3dt.settings import Settings
from tests.conftest import Run, command, save_nifti

MIB = 2**20
SHAPE = (40, 30, 20)


def noise(*shape: int, dtype: Any = np.int16) -> Any:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a scan as ``scan.nii``, ``scan.nii.gz``, ``scan.h5`` and ``packed.h5``, and ``series.nii.gz``."""
    for name in ("scan.nii", "scan.nii.gz"):
        save_nifti(tmp_path / name, noise(*SHAPE), np.eye(4))
    save_nifti(tmp_path / "series.nii.gz", noise(*SHAPE, 3), np.eye(4))
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["raw"] = noise(*SHAPE)
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.create_dataset("raw", data=noise(*SHAPE), chunks=(16, 16, 16), compression="gzip", shuffle=True)
    return tmp_path


def job_of(folder: Path, source: str, target: str, **options: Any) -> Job:
    """What would be done with a file of the folder."""
    layer = {
        name: options.pop(name) for name in ("kernel", "scale", "weights", "strides", "padding") if name in options
    }
    limits = resources(threads=options.pop("threads", 2), max_memory=options.pop("max_memory", None))
    wanted = (str(folder / source), target if target == "-" else str(folder / target))
    return resolve(FileRun(*wanted, LayerRequest(**layer), Settings(**options), limits))


def run(folder: Path, source: str, target: str, **options: Any) -> int:
    """Do it, and return the bytes of the file."""
    conv3dt.upsample_file(folder / source, folder / target, threads=2, overwrite=True, **options)
    return (folder / target.partition(":/")[0]).stat().st_size


@pytest.mark.parametrize("options", [{}, {"dtype": "int16"}, {"scale": (3, 1, 2)}, {"tile": 16}], ids=str)
@pytest.mark.parametrize("source", ["scan.nii", "series.nii.gz", "packed.h5"])
def test_a_plain_output_has_the_bytes_foreseen(folder: Path, source: str, options: Any) -> None:
    use = disk_use(job_of(folder, source, "up.nii", **options))
    assert run(folder, source, "up.nii", **options) == use.file_bytes == use.least_bytes
    assert not use.packed and use.passing_bytes == 0 and use.folder == folder.resolve()


HDF5_BYTES, SMALL = 16 * 2**10, 32 * 2**10
"""What HDF5 adds to the voxels of so few chunks; and to so small ones if they are packed."""


@pytest.mark.parametrize("source", ["scan.nii", "scan.h5:/raw"])
def test_an_hdf5_file_has_little_more(folder: Path, source: str) -> None:
    use = disk_use(job_of(folder, source, "up.h5"))
    assert use.least_bytes <= run(folder, source, "up.h5") <= use.least_bytes + HDF5_BYTES


def test_what_an_hdf5_file_holds_already_counts(folder: Path) -> None:
    with h5py.File(folder / "up.h5", "w") as file:
        file["other"] = np.zeros(100_000)
        file["data"] = np.zeros(50_000)
    use = disk_use(job_of(folder, "scan.h5", "up.h5"))
    assert 800_000 < use.least_bytes - 4 * 8 * np.prod(SHAPE) < 800_000 + HDF5_BYTES
    assert run(folder, "scan.h5", "up.h5") >= use.least_bytes
    with h5py.File(folder / "up.h5", "a") as file:
        del file["other"]
    again = disk_use(job_of(folder, "scan.h5", "up.h5"))  # a file with nothing else in it is written anew
    assert again.least_bytes == 4 * 8 * np.prod(SHAPE)
    assert run(folder, "scan.h5", "up.h5") <= again.least_bytes + HDF5_BYTES


@pytest.mark.parametrize("value", ["zeros", "noise"])
@pytest.mark.parametrize("target", ["up.nii.gz", "up.h5"])
def test_no_packed_output_is_smaller_than_the_least(folder: Path, target: str, value: str) -> None:
    volume = np.zeros((60, 60, 60), np.uint8) if value == "zeros" else noise(60, 60, 60, dtype=np.uint8)
    save_nifti(folder / "v.nii.gz", volume, np.eye(4))
    job = job_of(folder, "v.nii.gz", target)
    use = disk_use(job)
    assert use.packed and 0 < use.least_bytes <= job.target.nbytes / 500
    assert use.least_bytes <= run(folder, "v.nii.gz", target) <= 1.01 * job.target.nbytes


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("head.nii.gz", {}),
        ("head.nii.gz", {"kernel": "cubic"}),
        ("head.nii.gz", {"dtype": "same"}),
        ("head.nii.gz", {"dtype": "float64"}),
        ("labels.nii.gz", {"kernel": "nearest"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("target", ["up.nii.gz", "up.h5"])
def test_a_packed_output_is_guessed_to_a_factor_of_two(
    tmp_path: Path, sample: Path, source: str, target: str, options: Any
) -> None:
    shutil.copy(sample / source, tmp_path)
    guess = disk_use(job_of(tmp_path, source, target, **options)).file_bytes
    assert guess / 2 <= run(tmp_path, source, target, **options) <= 2 * guess + SMALL


def test_boxes_wait_for_their_turn_in_a_stream(folder: Path) -> None:
    slabs = disk_use(job_of(folder, "scan.nii.gz", "up.nii.gz"))
    assert (slabs.passing_bytes, slabs.unpacked_bytes) == (0, 0)
    job = job_of(folder, "scan.nii.gz", "up.nii.gz", tile=16)
    boxes = disk_use(job)
    assert (boxes.passing_bytes, boxes.unpacked_bytes) == (job.target.nbytes, job.source.nbytes)
    assert boxes.least_bytes == slabs.least_bytes + job.target.nbytes
    pipe = disk_use(job_of(folder, "scan.nii.gz", "-", tile=16))
    assert (pipe.file_bytes, pipe.passing_bytes) == (0, job.target.nbytes)


def test_chunks_in_pieces_wait_unpacked(folder: Path) -> None:
    whole = disk_use(job_of(folder, "packed.h5", "up.h5", tile=16))
    pieces = disk_use(job_of(folder, "packed.h5", "up.h5", tile=8))
    assert whole.passing_bytes == whole.file_bytes < pieces.passing_bytes == 4 * 80 * 64 * 48
    assert whole.least_bytes == pieces.least_bytes


def volume(shape: tuple[int, ...], dtype: str, *, packed: bool = False) -> VolumeInfo:
    axes = "ijkt"[: len(shape)]
    return VolumeInfo("given.nii", "nifti1", shape, axes, np.dtype(dtype), fortran=True, compressed=packed)


def made(source: VolumeInfo, form: str, *, threads: int = 2, dtype: str | None = None, **layer: Any) -> Job:
    return make_job(
        source, LayerRequest(**layer).concrete(1), path="up", form=form, align="kernel", dtype=dtype, device="auto",
        tile=None, limits=resources(threads=threads),
    )  # fmt: skip


JOBS: dict[str, Any] = {
    "shape": st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 3)),
    "dtype": st.sampled_from(["uint8", "int16", "float32", "float64", "bool"]),
    "packed": st.booleans(),
    "form": st.sampled_from(["nii", "nii.gz", "hdf5"]),
    "kernel": st.sampled_from(["nearest", "linear", "cubic"]),
    "to": st.sampled_from(["float32", "float64", "uint8", "same"]),
}


@settings(max_examples=40, deadline=None)
@given(**JOBS)
def test_more_is_never_expected_to_take_less(
    shape: tuple[int, ...], dtype: str, packed: bool, form: str, kernel: str, to: str
) -> None:
    def of(*shape: int, threads: int) -> Estimate:
        return estimate(made(volume(shape, dtype, packed=packed), form, threads=threads, dtype=to, kernel=kernel))

    once, thrice = of(*shape, threads=2), of(*shape[:3], 3 * shape[3], threads=2)
    assert 0 < once.seconds < thrice.seconds
    assert once.disk.file_bytes < thrice.disk.file_bytes
    assert once.growth_bytes <= thrice.growth_bytes < thrice.memory_bytes
    assert of(*shape, threads=8).seconds <= once.seconds <= of(*shape, threads=1).seconds


@settings(max_examples=40, deadline=None)
@given(**JOBS)
def test_a_share_is_a_share(shape: tuple[int, ...], dtype: str, packed: bool, form: str, kernel: str, to: str) -> None:
    assert 0 < packed_share(made(volume(shape, dtype, packed=packed), form, dtype=to, kernel=kernel)) <= 1


def test_functions_take_time_and_comparisons_do_not() -> None:
    def of(activation: str) -> float:
        return estimate(made(volume((256, 256, 256), "int16"), "nii", activation=activation)).seconds

    assert of("relu") == of("relu(max_value=6)") == of("linear") < of("tanh")


def test_arithmetic_takes_time() -> None:
    few, many = (np.ones((k, k, k, 1, 1)) for k in (2, 21))
    many[0, 0, 0] = 2  # no outer product: all taps are met
    source = volume((256, 256, 256), "uint8")
    plain, heavy = (estimate(made(source, "nii", dtype="uint8", weights=taps, strides=2)) for taps in (few, many))
    assert heavy.seconds > 1.5 * plain.seconds


@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        ("large.nii", "up.nii", []),
        ("large.nii.gz", "up.nii.gz", []),
        ("large.nii.gz", "up.h5", []),
        ("large.nii", "up.nii", ["--tile", "400"]),
    ],
    ids=str,
)
def test_memory_is_foreseen_to_a_quarter_or_40_mib(
    spawn: Run, tmp_path: Path, source: str, target: str, options: list[str]
) -> None:
    save_nifti(tmp_path / source, noise(128, 128, 128, dtype=np.uint8), np.eye(4))
    words = (
        "upsample",
        tmp_path / source,
        tmp_path / target,
        "-q",
        "--threads",
        2,
        "--report",
        tmp_path / "r",
        *options,
    )
    assert spawn(*words).code == 0
    report = json.loads((tmp_path / "r").read_text())
    expected, found = report["plan"]["memory_bytes"], report["run"]["peak_bytes"]
    assert abs(expected - found) <= max(found / 4, 40 * MIB)


Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make so many bytes free on every disk."""
    return lambda count: monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(2**60, 0, count))


def test_the_last_byte_of_a_disk_decides(folder: Path, free: Callable[[int], None]) -> None:
    job = job_of(folder, "scan.nii", "up.nii")
    need = 352 + 4 * 8 * 40 * 30 * 20
    free(need)
    assert check_fits(job, estimate(job)) == ()
    free(need - 1)
    with pytest.raises(OutputError, match=rf"needs {need} bytes and cannot have them \({need - 1} bytes are free\)"):
        check_fits(job, estimate(job))


def test_a_folder_that_is_not_there_yet_will_be_on_the_disk_above_it(folder: Path, free: Callable[[int], None]) -> None:
    job = job_of(folder, "scan.nii", "new/deep/up.nii")
    assert foresee(job).doubts == ()
    free(1000)
    with pytest.raises(OutputError, match="make room"):
        foresee(job)


def test_between_the_least_and_the_likely_there_is_doubt(folder: Path, free: Callable[[int], None]) -> None:
    job = job_of(folder, "scan.nii.gz", "up.nii.gz")
    use = disk_use(job)
    free(use.file_bytes)
    assert foresee(job).doubts == ()
    for count in (use.file_bytes - 1, use.least_bytes):
        free(count)
        (doubt,) = foresee(job).doubts
        assert "will be written" in doubt and str(folder.resolve()) in doubt
    free(use.least_bytes - 1)
    with pytest.raises(OutputError, match="needs at least"):
        foresee(job)


def test_passing_files_need_room_too(
    folder: Path, free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(folder, "scan.nii.gz", "up.nii.gz", tile=16)
    use = disk_use(job)
    monkeypatch.setattr(fits, "_disk_of", lambda path: 1)
    free(use.least_bytes + use.unpacked_bytes)
    check_fits(job, estimate(job))
    free(use.least_bytes + use.unpacked_bytes - 1)
    with pytest.raises(OutputError, match="needs at least"):
        check_fits(job, estimate(job))
    monkeypatch.setattr(fits, "_disk_of", lambda path: path)
    check_fits(job, estimate(job))
    free(use.unpacked_bytes - 1)
    with pytest.raises(OutputError, match=r"have to be unpacked in .*TMPDIR"):
        check_fits(job, estimate(job))


def test_an_output_that_is_there_keeps_its_room_until_the_end(folder: Path, free: Callable[[int], None]) -> None:
    need = run(folder, "scan.nii", "up.nii")
    job = job_of(folder, "scan.nii", "up.nii")
    free(need - 1)
    with pytest.raises(OutputError, match="make room"):
        check_fits(job, estimate(job))


def test_what_a_killed_run_left_is_room(folder: Path, free: Callable[[int], None]) -> None:
    """The next run goes on with it, or sweeps it away."""
    assert left_behind(str(folder / "up.nii")) == 0
    pending = PendingFile(str(folder / "up.nii"), overwrite=False)
    pending.work.write_bytes(bytes(10**5))
    pending.sibling("journal").write_bytes(bytes(10**5))
    pending.abort(keep=True)
    left = left_behind(str(folder / "up.nii"))
    assert left >= 2 * 10**5
    assert left_behind(str(folder / "other.nii")) == 0
    job = job_of(folder, "scan.nii", "up.nii")
    free(disk_use(job).file_bytes - left)
    check_fits(job, estimate(job))


def expected_with(memory: int) -> Estimate:
    """An estimate of that much memory beyond what there is, and no disk."""
    here = Path(".")
    return Estimate(memory, memory, DiskUse(here, 0, False, 0, 0, here, 0), 1.0)


def test_memory_is_refused_where_the_estimate_is_sure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(folder, "scan.nii", "up.nii")
    monkeypatch.setattr(fits, "available", lambda: 600 * MIB)
    monkeypatch.setattr(fits, "_swap", lambda: 0)
    assert check_fits(job, expected_with(600 * MIB)) == ()
    (doubt,) = check_fits(job, expected_with(800 * MIB))
    assert "800 MiB of memory" in doubt and "only 600 MiB are free" in doubt
    with pytest.raises(DoesNotFitError, match=r"900 MiB of memory.*600 MiB are free; give a smaller --tile") as refusal:
        check_fits(job, expected_with(900 * MIB))
    assert refusal.value.exit_code == 75
    monkeypatch.setattr(fits, "_swap", lambda: 500 * MIB)
    assert check_fits(job, expected_with(900 * MIB))


ON_A_SMALL_DISK = """
mount -t tmpfs -o size="$1" none "$2" && echo mounted && shift 2 && exec "$@"
"""


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="makes a disk as Linux does")
@pytest.mark.parametrize("spare", [0, -1])
def test_a_disk_of_just_the_size_is_enough(folder: Path, spare: int) -> None:
    """A file system in memory, which only the command sees; it counts in pages."""
    disk = folder / "disk"
    disk.mkdir()
    pages = -(-disk_use(job_of(folder, "scan.nii", "up.nii")).file_bytes // 4096)
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", ON_A_SMALL_DISK, "sh"]
    words = command("upsample", folder / "scan.nii", disk / "up.nii", "-q")
    done = subprocess.run(
        [*inside, str(4096 * (pages + spare)), disk, *words], capture_output=True, text=True, check=False
    )
    if "mounted" not in done.stdout:
        pytest.skip("may not mount here")
    assert done.returncode == (0 if spare == 0 else 73), done.stderr
    assert ("make room" in done.stderr) == bool(spare)
