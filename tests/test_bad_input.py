"""What happens when something is wrong?  One line that says what, the right exit code, and nothing left behind."""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from tests.conftest import Result, Run, command, listing, load, save_nifti, whole_numbers

Make = Callable[[Path], object]
"""Makes a bad input in a folder and returns what the command is given to read."""

VOLUME = whole_numbers(7, 6, 5)


def refused(run: Run, folder: Path, code: int, *arguments: object) -> str:
    """Run a command that must fail, and return the one line that it says; the folder must stay as it is."""
    before = {name: os.stat(folder / name).st_mtime_ns for name in listing(folder)}
    done: Result = run("upsample", *arguments)
    after = {name: os.stat(folder / name).st_mtime_ns for name in listing(folder)}
    assert done.code == code, done.err
    assert "unexpected" not in done.complaint
    assert after == before
    return done.complaint


# --- files that are no volumes, or damaged ones ----------------------------------------------------------------------


def written(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def nifti(name: str, array: NDArray[Any] = VOLUME, *, cut: int = 0, **fields: Any) -> Make:
    """A file whose header fields are as named, and whose last ``cut`` bytes are missing."""

    def make(folder: Path) -> Path:
        path = save_nifti(folder / name, array, **fields)
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) - cut])
        return path

    return make


def folder(name: str) -> Make:
    def make(parent: Path) -> Path:
        (parent / name).mkdir()
        return parent / name

    return make


def wrong_checksum(where: int) -> Make:
    """A ``.nii.gz`` with one bit of its last eight bytes turned: the first four are the checksum, then the length."""

    def make(parent: Path) -> Path:
        raw = bytearray(gzip.compress(save_nifti(parent / "plain.nii", VOLUME).read_bytes(), mtime=0))
        raw[where] ^= 1
        (parent / "a.nii.gz").write_bytes(raw)
        return parent / "a.nii.gz"

    return make


def damaged_inside(parent: Path) -> Path:
    raw = bytearray(gzip.compress(save_nifti(parent / "plain.nii", VOLUME).read_bytes(), mtime=0))
    raw[len(raw) // 2 : len(raw) // 2 + 8] = b"\xff" * 8
    (parent / "a.nii.gz").write_bytes(raw)
    return parent / "a.nii.gz"


def pair(name: str) -> Make:
    def make(parent: Path) -> Path:
        nibabel.Nifti1Pair(VOLUME, np.eye(4)).to_filename(parent / "a.hdr")
        return parent / name

    return make


def two_axes(parent: Path) -> Path:
    path = save_nifti(parent / "a.nii", VOLUME[:, :, :1])
    raw = bytearray(path.read_bytes())
    raw[40:42] = (2).to_bytes(2, "little")
    path.write_bytes(raw)
    return path


def field(name: str, value: Any) -> Make:
    """A file of which one header field is set to nonsense."""

    def make(parent: Path) -> Path:
        path = save_nifti(parent / "a.nii", VOLUME)
        header = Nifti1Header(path.read_bytes()[:348], check=False)
        header[name] = value
        path.write_bytes(header.binaryblock + path.read_bytes()[348:])
        return path

    return make


def hdf5(*, cut: int = 0, dataset: str = "", **datasets: Any) -> Make:
    def make(parent: Path) -> str:
        with h5py.File(parent / "a.h5", "w") as file:
            file.create_group("group")
            for name, array in datasets.items():
                file[name] = array
        raw = (parent / "a.h5").read_bytes()
        (parent / "a.h5").write_bytes(raw[: len(raw) - cut])
        return f"{parent}/a.h5{dataset}"

    return make


def damaged_chunk(parent: Path) -> Path:
    with h5py.File(parent / "a.h5", "w") as file:
        chunks = file.create_dataset("raw", data=VOLUME, chunks=(7, 6, 5), fletcher32=True)
        offset = chunks.id.get_chunk_info(0).byte_offset
    raw = bytearray((parent / "a.h5").read_bytes())
    raw[offset + 10] ^= 1
    (parent / "a.h5").write_bytes(raw)
    return parent / "a.h5"


RGB = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])

INPUTS: dict[str, tuple[Make, int, str]] = {
    "missing": (lambda folder: folder / "none.nii.gz", 66, "no such file"),
    "missing folder": (lambda folder: folder / "none" / "a.nii", 66, "no such file"),
    "a file as a folder": (lambda folder: Path(str(written("f", b"")(folder))) / "a.nii", 66, "no such file"),
    "folder": (folder("a.nii"), 65, "not a file"),
    "empty .nii": (written("a.nii", b""), 65, "not a NIfTI file"),
    "empty .nii.gz": (written("a.nii.gz", b""), 65, "a.nii.gz"),
    "packed nothing": (written("a.nii.gz", gzip.compress(b"")), 65, "not a NIfTI file"),
    "empty .h5": (written("a.h5", b""), 65, "not an HDF5 file"),
    "text as .nii": (written("a.nii", b"Dear reader, this is no scan.\n" * 50), 65, "not a NIfTI file"),
    "short text as .nii": (written("a.nii", b"No\n"), 65, "not a NIfTI file"),
    "packed text": (written("a.nii.gz", gzip.compress(b"Dear reader, this is no scan.\n" * 50)), 65, "not a NIfTI"),
    "text as .nii.gz": (written("a.nii.gz", b"Dear reader, this is no scan.\n" * 50), 65, "a.nii.gz"),
    "text as .h5": (written("a.h5", b"Dear reader, this is no scan.\n" * 50), 65, "not an HDF5 file"),
    "text of another name": (written("a.txt", b"Dear reader"), 65, "known formats"),
    "cut .nii": (nifti("a.nii", cut=1), 65, "the file holds"),
    "cut .nii, header only": (nifti("a.nii", cut=VOLUME.nbytes), 65, "the file holds 0"),
    "cut .nii, half a header": (nifti("a.nii", cut=VOLUME.nbytes + 200), 65, "cut short inside the header"),
    "cut .nii.gz": (nifti("a.nii.gz", cut=30), 65, "damaged or cut short"),
    "cut .nii.gz, half": (nifti("a.nii.gz", cut=250), 65, "damaged or cut short"),
    "cut .nii.gz, trailer": (nifti("a.nii.gz", cut=8), 65, "damaged or cut short"),
    "cut .nii.gz, last byte": (nifti("a.nii.gz", cut=1), 65, "damaged or cut short"),
    "wrong checksum": (wrong_checksum(-8), 65, "damaged or cut short"),
    "wrong length": (wrong_checksum(-4), 65, "damaged or cut short"),
    "damaged inside": (damaged_inside, 65, "damaged or cut short"),
    "two axes": (two_axes, 65, "must have 3 to 7 axes, got 2"),
    "complex": (nifti("a.nii", VOLUME.astype(np.complex64)), 65, "not real numbers"),
    "complex .nii.gz": (nifti("a.nii.gz", VOLUME.astype(np.complex64)), 65, "not real numbers"),
    "RGB": (nifti("a.nii", RGB), 65, "not real numbers"),
    ".hdr of a pair": (pair("a.hdr"), 65, "pair"),
    ".img of a pair": (pair("a.img"), 65, "known formats"),
    "more voxels claimed": (field("dim", [3, 7, 6, 6, 1, 1, 1, 1]), 65, "the header promises 504 bytes"),
    "far more voxels claimed": (field("dim", [4, 32767, 32767, 32767, 32767, 1, 1, 1]), 65, "the header promises"),
    "negative axis": (field("dim", [3, 7, -6, 5, 1, 1, 1, 1]), 65, "each axis needs at least 1"),
    "empty axis": (field("dim", [3, 7, 0, 5, 1, 1, 1, 1]), 65, "each axis needs at least 1"),
    "eight axes": (field("dim", [8, 7, 6, 5, 1, 1, 1, 1]), 65, "a.nii: the header"),
    "no axes": (field("dim", [0, 7, 6, 5, 1, 1, 1, 1]), 65, "claims 0 axes"),
    "unknown type": (field("datatype", 4711), 65, "unknown NIfTI data type code 4711"),
    "voxels inside the header": (field("vox_offset", 100), 65, "which cannot be"),
    "voxels nowhere": (field("vox_offset", np.nan), 65, "which cannot be"),
    "voxels far away": (field("vox_offset", 1e30), 65, "which cannot be"),
    "wrong magic": (field("magic", b"n+7"), 65, "not NIfTI but Analyze or damaged"),
    "cut .h5": (hdf5(raw=VOLUME, cut=300), 65, "not an HDF5 file, or damaged"),
    "cut .h5, half": (hdf5(raw=VOLUME, cut=1500), 65, "not an HDF5 file, or damaged"),
    "damaged chunk": (damaged_chunk, 65, "damaged"),
    "missing dataset": (hdf5(raw=VOLUME, dataset=":/row"), 66, "no dataset /row; volumes in it: /raw"),
    "group": (hdf5(raw=VOLUME, dataset=":/group"), 66, "no dataset /group"),
    "no volume": (hdf5(raw=VOLUME[0]), 65, "no numeric dataset of 3 to 5 axes"),
    "flat dataset": (hdf5(raw=VOLUME[0], dataset=":/raw"), 65, "must have 3 to 7 axes, got 2"),
    "scalar dataset": (hdf5(raw=3.0, dataset=":/raw"), 65, "must have 3 to 7 axes, got 0"),
    "complex dataset": (hdf5(raw=VOLUME.astype(complex), dataset=":/raw"), 65, "not real numbers"),
    "text dataset": (hdf5(raw=np.full((2, 2, 2), b"a"), dataset=":/raw"), 65, "not real numbers"),
    "empty dataset": (hdf5(raw=VOLUME[:0], dataset=":/raw"), 65, "is empty"),
}


@pytest.mark.parametrize(("make", "code", "text"), INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("target", ["out.nii.gz", "out.h5"])
def test_bad_input(run: Run, tmp_path: Path, make: Make, code: int, text: str, target: str) -> None:
    source = make(tmp_path)
    line = refused(run, tmp_path, code, source, tmp_path / target)
    assert text in line
    assert str(source).split(":/")[0] in line


def test_a_good_twin_of_each_kind_of_input(run: Run, tmp_path: Path) -> None:
    """What the bad ones are made from is good."""
    for n, make in enumerate((nifti("a.nii"), nifti("a.nii.gz"), hdf5(raw=VOLUME, dataset=":/raw"))):
        assert run("upsample", make(tmp_path), tmp_path / f"out{n}.nii", "--kernel", "nearest").code == 0
        np.testing.assert_array_equal(load(tmp_path / f"out{n}.nii")[::2, ::2, ::2], VOLUME)


def test_info_and_shape_say_the_same_line(run: Run, tmp_path: Path) -> None:
    for name in ("missing", "text as .nii", "cut .nii", "RGB", "missing dataset"):
        make, code, text = INPUTS[name]
        source = make(tmp_path)
        for words in (("info",), ("shape",)):
            done = run(*words, source)
            assert done.code == code
            assert text in done.complaint


# --- layers that cannot be, or do not go with the volume -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--strides", "2", "--dilation-rate", "2"), 2, "strides > 1 cannot go with dilation_rate > 1"),
        (("--strides", "2,1,1", "--dilation-rate", "1,2,1"), 2, "strides > 1 cannot go with dilation_rate > 1"),
        (("--padding", "causal"), 2, "padding 'causal' is only for Conv1D"),
        (("--padding", "full"), 2, "padding must be one of valid, same, got 'full'"),
        (("--strides", "2", "--output-padding", "2"), 2, "less than strides, got output_padding 2, strides 2"),
        (("--strides", "2,3,4", "--output-padding", "1,2,4"), 2, "got output_padding 4, strides 4"),
        (("--output-padding", "1"), 2, "got output_padding 1, strides 1"),
        (("--strides", "0"), 2, "strides must be one whole number or three, each at least 1"),
        (("--kernel-size", "5"), 65, "kernel_size is (4, 4, 4), but 5 was asked for"),
        (("--filters", "3"), 65, "filters are 1, but 3 were asked for"),
        (("--channels-last",), 65, "has 6 channels (24x24x12x6, axes ijkc)"),
        (("--axes", "xyzx"), 2, "axes must name each of 4 axes once"),
        (("--axes", "xyz"), 2, "axes must name each of 4 axes once"),
        (("--max-memory", "lots"), 2, "max-memory must be a size such as 8GiB or 500MB, got 'lots'"),
        (("--max-memory", "0"), 2, "max-memory must be a size"),
        (("--max-memory", "1MB"), 75, "is less than the program itself takes"),
        (("--device", "abacus"), 2, "device must be auto, cpu, cuda, cuda:N, cuda:all or mps, got 'abacus'"),
    ],
)
def test_bad_layers(run: Run, tmp_path: Path, sample: Path, options: tuple[str, ...], code: int, text: str) -> None:
    layer = ("--weights", sample / "blur.npz")
    assert text in refused(run, tmp_path, code, sample / "series.nii.gz", tmp_path / "out.nii", *layer, *options)


def test_channels_that_the_volume_does_not_have(run: Run, tmp_path: Path, sample: Path) -> None:
    weights = f"{sample}/features.h5:/up/kernel"
    line = refused(run, tmp_path, 65, sample / "series.nii.gz", tmp_path / "out.nii", "--weights", weights)
    assert "has 1 channel (" in line
    assert "takes 4; say which axis is channels (--channels-last, --channels-first)" in line
    line = refused(run, tmp_path, 65, f"{sample}/cells.h5:/raw", tmp_path / "out.h5", "--weights", weights)
    assert "takes 4" in line


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_kernels_with_numbers_that_are_none(run: Run, tmp_path: Path, sample: Path, suffix: str, value: float) -> None:
    kernel, path = np.full((2, 2, 2), value), tmp_path / f"k.{suffix}"
    if suffix == "npy":
        np.save(path, kernel)
    elif suffix == "npz":
        np.savez(path, kernel=kernel)
    else:
        with h5py.File(path, "w") as file:
            file["kernel"] = kernel
    line = refused(run, tmp_path, 65, sample / "head.nii.gz", tmp_path / "out.nii", "--weights", path)
    assert "the kernel holds 8 values that are NaN or infinite" in line


@pytest.mark.parametrize(("name", "code"), [("none.npz", 66), ("none.h5:/kernel", 66), ("text.npz", 65)])
def test_kernels_that_are_none(run: Run, tmp_path: Path, sample: Path, name: str, code: int) -> None:
    (tmp_path / "text.npz").write_text("No kernel")
    weights = f"{tmp_path}/{name}"
    line = refused(run, tmp_path, code, sample / "head.nii.gz", tmp_path / "out.nii", "--weights", weights)
    assert line.startswith(f"conv3dt: weights {tmp_path}/{name.split(':')[0]}")


# --- outputs that cannot be made -------------------------------------------------------------------------------------


def existing(parent: Path) -> Path:
    (parent / "out.nii").write_text("precious")
    return parent / "out.nii"


def existing_dataset(parent: Path) -> str:
    with h5py.File(parent / "out.h5", "w") as file:
        file["up"] = [1, 2, 3]
    return f"{parent}/out.h5:/up"


def text_as_hdf5(parent: Path) -> str:
    (parent / "out.h5").write_text("precious")
    return f"{parent}/out.h5:/up"


def dataset_as_group(parent: Path) -> str:
    existing_dataset(parent)
    return f"{parent}/out.h5:/up/more"


def under_a_file(name: str) -> Make:
    def make(parent: Path) -> Path:
        (parent / "file").write_text("precious")
        return parent / "file" / name

    return make


OUTPUTS: dict[str, tuple[Make, int, str]] = {
    "existing": (existing, 73, "exists already; say --overwrite"),
    "existing dataset": (existing_dataset, 73, "/up: exists already; say --overwrite"),
    "folder": (folder("out.nii"), 73, "out.nii"),
    "folder named .h5": (folder("out.h5"), 73, "out.h5"),
    "text named .h5": (text_as_hdf5, 73, "out.h5"),
    "dataset as a group": (dataset_as_group, 73, "out.h5"),
    "missing folder": (lambda parent: parent / "none" / "out.nii", 73, "does not exist; create it first"),
    "missing folder, packed": (lambda parent: parent / "none" / "out.nii.gz", 73, "does not exist"),
    "missing folder, HDF5": (lambda parent: parent / "none" / "out.h5", 73, "does not exist"),
    "file as a folder": (under_a_file("out.nii"), 73, "out.nii"),
    "file as a folder, packed": (under_a_file("out.nii.gz"), 73, "out.nii.gz"),
    "file as a folder, HDF5": (under_a_file("out.h5"), 73, "out.h5"),
    "no suffix": (lambda parent: parent / "out", 2, "the name does not say a format; known formats"),
    "unknown suffix": (lambda parent: parent / "out.mgz", 2, "the name does not say a format; known formats"),
    "only a suffix": (lambda parent: parent / "none" / ".nii", 73, "does not exist"),
    "unending name": (lambda parent: parent / ("a" * 300 + ".nii"), 73, "cannot be created"),
}


@pytest.mark.parametrize(("make", "code", "text"), OUTPUTS.values(), ids=OUTPUTS)
def test_bad_output(run: Run, tmp_path: Path, sample: Path, make: Make, code: int, text: str) -> None:
    assert text in refused(run, tmp_path, code, sample / "labels.nii.gz", make(tmp_path), "--kernel", "nearest")


def test_the_input_is_not_replaced_unasked(run: Run, tmp_path: Path) -> None:
    scan = save_nifti(tmp_path / "a.nii", VOLUME)
    assert "exists already" in refused(run, tmp_path, 73, scan, scan)
    np.testing.assert_array_equal(load(scan), VOLUME)


def test_overwrite_does_not_replace_a_folder(run: Run, tmp_path: Path, sample: Path) -> None:
    (tmp_path / "out.nii").mkdir()
    line = refused(run, tmp_path, 73, sample / "head.nii.gz", tmp_path / "out.nii", "--overwrite")
    assert "not a regular file" in line


def test_what_was_to_be_overwritten_survives_a_failure(run: Run, tmp_path: Path, sample: Path) -> None:
    damaged = tmp_path / "cut.nii.gz"
    damaged.write_bytes((sample / "head.nii.gz").read_bytes()[:-100])
    for name in ("out.nii", "out.nii.gz"):
        (tmp_path / name).write_text("precious")
        refused(run, tmp_path, 65, damaged, tmp_path / name, "--overwrite")
        assert (tmp_path / name).read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(run: Run, tmp_path: Path, sample: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o555)
    line = refused(run, tmp_path, 73, sample / "head.nii.gz", tmp_path / "shut" / "out.nii")
    assert "cannot be created" in line


def test_a_report_that_cannot_be_written(run: Run, tmp_path: Path, sample: Path) -> None:
    done = run("upsample", sample / "labels.nii.gz", tmp_path / "out.nii", "--report", tmp_path / "none" / "r.json")
    assert done.code == 73
    assert "r.json" in done.complaint


# --- disks that are full ---------------------------------------------------------------------------------------------

BIG = ("--scale", "4", "--kernel", "linear")
"""Makes 19 MB of the sample scan, more than 2 MB when packed."""

OUTPUT_NAMES = ["out.nii", "out.nii.gz", "out.h5:/up"]


def at_most_a_megabyte() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


def room_for_all() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))


@pytest.mark.parametrize("name", OUTPUT_NAMES)
def test_a_file_that_may_not_grow(spawn: Run, run: Run, tmp_path: Path, sample: Path, name: str) -> None:
    arguments = (sample / "head.nii.gz", f"{tmp_path}/{name}", *BIG)
    assert run("upsample", *arguments).code == 0  # the loops are compiled, and their cache written, without a limit
    (tmp_path / name.split(":")[0]).unlink()
    done = spawn("upsample", *arguments, preexec_fn=at_most_a_megabyte)
    assert done.code in (73, 74)
    assert name.split(":")[0] in done.complaint
    assert listing(tmp_path) == []
    assert spawn("upsample", *arguments, "-q", preexec_fn=room_for_all).code == 0


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte, where the system lets us have one."""
    place, mount = tmp_path / "disk", shutil.which("mount")
    place.mkdir()
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if not made or made.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("name", OUTPUT_NAMES)
def test_a_disk_that_is_full(spawn: Run, full_disk: Path, sample: Path, name: str) -> None:
    done = spawn("upsample", sample / "head.nii.gz", f"{full_disk}/{name}", *BIG)
    assert done.code in (73, 74)
    assert name.split(":")[0] in done.complaint
    assert listing(full_disk) == []
    assert shutil.disk_usage(full_disk).used == 0


# --- runs that are stopped -------------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A scan of 320^3 zeros that takes no room; four times as large on each axis it takes many seconds to write."""
    path = save_nifti(tmp_path / "in.nii", np.zeros((1, 1, 1), np.uint8))
    header = Nifti1Header(path.read_bytes()[:348], check=False)
    header["dim"][:4] = 3, 320, 320, 320
    path.write_bytes(header.binaryblock + bytes(4))
    os.truncate(path, 352 + 320**3)
    return path


def heed_signals() -> None:
    """A shell that starts tests in the background makes them deaf to Ctrl-C; undo that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("name", ["out.nii.gz", "out.h5"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_leaves_nothing(
    tmp_path: Path, large: Path, name: str, number: signal.Signals, code: int
) -> None:
    words = command("upsample", large, tmp_path / name, "--scale", "4", "--kernel", "nearest", "--dtype", "float32")
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals
    ) as process:
        while process.poll() is None and not any(map(is_growing, tmp_path.glob(".*"))):
            time.sleep(0.01)
        assert process.poll() is None  # still running when the signal comes
        process.send_signal(number)
        out, err = process.communicate()
    assert Result(process.returncode, out, err).complaint == "conv3dt: interrupted; no output was left"
    assert process.returncode == code
    assert listing(tmp_path) == ["in.nii"]


def is_growing(path: Path) -> bool:
    """Whether voxels have begun to be written."""
    return path.stat().st_size > 2**12
