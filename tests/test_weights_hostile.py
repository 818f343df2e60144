"""What does a file do that means harm?  Nothing: one line, at once, in little memory, nothing outside is touched."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from conv3dt.errors import Conv3dtError, DataError, InputMissingError
from conv3dt.weights import read_weights
from conv3dt.weights.keras_config import read_layer_config
from tests.conftest import listing
from tests.test_weights import DATA, KERNEL

Make = Callable[[Path], object]


def test_names_in_a_file_are_quoted_safely(tmp_path: Path) -> None:
    evil = "up\n\x1b[31mfine: all is well\x07" + "x" * 10**5
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[f"1{evil}"] = file[f"2{evil}"] = KERNEL
        file["3"] = KERNEL
    assert "/1up??[31mfine: all is well?xxx" in refused(tmp_path / "a.h5", tmp_path)
    arrays: dict[str, Any] = {f"1{evil[:99]}": KERNEL, f"2{evil[:99]}": KERNEL}
    np.savez(tmp_path / "a.npz", **arrays)
    assert "1up??[31mfine" in refused(tmp_path / "a.npz", tmp_path)
    config = {"class_name": "Model", "config": {"layers": [{"class_name": evil, "config": {}}]}}
    (tmp_path / "a.json").write_text(json.dumps(config))
    with pytest.raises(DataError) as refusal:
        read_layer_config(f"{tmp_path}/a.json")
    assert str(refusal.value).isprintable()


def refused(path: object, folder: Path) -> str:
    """Return the one line that a file is refused with; it takes little time and leaves nothing behind."""
    before, start = listing(folder), time.monotonic()
    with pytest.raises((DataError, InputMissingError)) as refusal:
        read_weights(str(path))
    (line,) = str(refusal.value).splitlines()
    assert time.monotonic() - start < 5
    assert line.startswith("weights ")
    assert len(line) < 2500
    assert line.isprintable()
    assert listing(folder) == before
    return line


# Not files, or of no kind.


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.h5", "a.keras", "a.pt", "a.safetensors", "a.onnx", "a"])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not a kernel file: it is empty; give a Keras model"),
        (b"\0", "not a kernel file; give"),
        (b"hello\n" * 100, "not a kernel file; give"),
        (b'{"class_name": "Conv3DTranspose"}', "JSON may describe a layer but holds no weights"),
        (b"\x80\x04\x95abc", "a Python pickle, which could run anything and is not opened"),
        (b"PK\x03\x04" + b"\0" * 100, "cannot be read as an archive"),
        (b"\x89HDF\r\n\x1a\n" + b"\xff" * 500, "cannot be read as HDF5"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "cannot be read as a NumPy file"),
        (b"\x93NUMPY\x03\x00" + b"\0" * 100, "version (3, 0) of NumPy's format"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "cannot be read as a PyTorch file"),
        (struct.pack("<Q", 2**40) + b"{", "cannot be read as safetensors"),
        (b"\x08\x08\x12\xff", "cannot be read as ONNX"),
    ],
)
def test_the_first_bytes_tell(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert text in refused(tmp_path / name, tmp_path)


def test_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "loop.h5").symlink_to(tmp_path / "loop.h5")
    (tmp_path / "folder.keras").mkdir()
    for name in ("pipe.pt", "loop.h5", "folder.keras", "none.onnx", "a" * 300, "a\0.npz", "folder.keras/a.npy"):
        assert "no such file" in (line := refused(tmp_path / name, tmp_path)) or "cannot be opened" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.npz").touch(mode=0)
    assert "cannot be opened: Permission denied" in refused(tmp_path / "a.npz", tmp_path)


@pytest.mark.parametrize("source", sorted(path.name for path in DATA.iterdir() if path.suffix in (".h5", ".keras")))
def test_models_that_are_cut(tmp_path: Path, source: str) -> None:
    raw, path = (DATA / source).read_bytes(), tmp_path / source
    path.touch()
    for count in range(0, len(raw), len(raw) // 11 + 1):
        path.write_bytes(raw[:count])
        refused(path, tmp_path)


def test_archives_with_bytes_turned(tmp_path: Path) -> None:
    """Read or refused, never anything else; checksums keep damage from the HDF5 library, which may die of it."""
    raw, path = (DATA / "tf212_nested.keras").read_bytes(), tmp_path / "a.keras"
    generator = np.random.default_rng(0)
    for _ in range(40):
        turned = np.frombuffer(raw, np.uint8).copy()
        turned[generator.integers(8, len(raw), 3)] ^= generator.integers(1, 256, 3, dtype=np.uint8)
        path.write_bytes(turned.tobytes())
        for name in ("", ":/up", ":/decoder/up"):
            try:
                read_weights(f"{path}{name}")
            except Conv3dtError as refusal:
                assert len(str(refusal).splitlines()) == 1


# HDF5 that leads elsewhere.


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file beside the one that is read."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"], file["group/kernel"], file["up/kernel:0"] = KERNEL, KERNEL, KERNEL
    KERNEL.tofile(tmp_path / "secret.bin")
    yield tmp_path / "secret.h5"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "candidates: none"),
        (":/kernel", "/kernel: is a link out of the file; give the file that it points to"),
        (":/group", "is a link out of the file"),
        (":/group/kernel", "is a link out of the file"),
        (":/soft", "is a link out of the file"),
        (":/there/kernel", "is a link out of the file"),
        (":/around", "its links lead in circles"),
        (":/nowhere", "no dataset /nowhere"),
        (":/a", "kernel: is a link out of the file"),
    ],
)
def test_links_are_not_followed_out_of_the_file(tmp_path: Path, secret: Path, name: str, text: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kernel"] = h5py.ExternalLink("secret.h5", "/kernel")
        file["group"] = h5py.ExternalLink(str(secret), "/group")
        file["soft"], file["around"], file["nowhere"] = map(h5py.SoftLink, ("/group/kernel", "/around", "/none"))
        file["there"] = h5py.SoftLink("group")
        file["a/kernel"] = h5py.ExternalLink("secret.h5", "/kernel")
    assert text in refused(f"{tmp_path}/a.h5{name}", tmp_path)


def test_links_inside_the_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/kernel"] = KERNEL
        file["soft"] = h5py.SoftLink("/deep")
        file["softer"] = h5py.SoftLink("soft/kernel")
    for name in ("", ":/soft", ":/soft/kernel", ":/softer"):
        np.testing.assert_array_equal(read_weights(f"{tmp_path}/a.h5{name}").kernel, KERNEL)


def test_data_of_other_files_are_not_read(tmp_path: Path, secret: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        external = [(str(tmp_path / "secret.bin"), 0, KERNEL.nbytes)]
        file.create_dataset("external", KERNEL.shape, KERNEL.dtype, external=external)
        layout = h5py.VirtualLayout(KERNEL.shape, KERNEL.dtype)
        layout[...] = h5py.VirtualSource(str(secret), "kernel", KERNEL.shape)
        file.create_virtual_dataset("virtual", layout)
        file["up/kernel:0"] = h5py.SoftLink("/external")
    for name in ("external", "virtual", "up"):
        assert "its data are in other files" in refused(f"{tmp_path}/a.h5:/{name}", tmp_path)


def test_models_do_not_lead_elsewhere_either(tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes((DATA / "tf29_plain.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["model_weights/up/up"]
        file["model_weights/up/up"] = h5py.ExternalLink(str(secret), "/up")
    assert "is a link out of the file" in refused(path, tmp_path)


def test_hdf5_of_strange_shapes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("large", (2**20, 2**10, 2**10, 1, 1), "f4", chunks=True, compression="gzip")
        file.create_dataset("wide", (2**26, 1, 1, 1, 1), "f8", chunks=True, compression="gzip")
        file.create_dataset("bias", (2**31,), "f8", chunks=True)
        file["small/kernel"] = KERNEL
        file.create_dataset("small/bias", (2**31,), "f8", chunks=True)
        file["empty"] = h5py.Empty("f4")
        file["text"] = "kernel"
        file["type"] = np.dtype("f4")
        file["compound"] = np.zeros((1, 1, 1), [("a", "f4")])
    for name, text in (
        ("large", "taps are more than a kernel can have"), ("small", "more than a kernel can be"),
        ("empty", "must hold real numbers"), ("text", "must hold real numbers"), ("type", "no dataset /type"),
        ("compound", "must hold real numbers"),
    ):  # fmt: skip
        assert text in refused(f"{path}:/{name}", tmp_path)


def test_hdf5_of_very_many_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        node = file
        for _ in range(3000):  # deep, and in circles
            node = node.create_group("a")
            node["up"] = file
    assert "candidates: none" in refused(tmp_path / "a.h5", tmp_path)
    monkeypatch.setattr("conv3dt.weights.hdf5_tree.MOST_NODES", 1000)
    assert "holds more than 1000 groups and datasets" in refused(tmp_path / "a.h5", tmp_path)


# Archives.


def archive(entries: dict[str, bytes], compress: int = zipfile.ZIP_STORED) -> Make:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "a.bin", "w", compress) as file:
            for name, content in entries.items():
                file.writestr(name, content)
        return folder / "a.bin"

    return make


def lying(size: int) -> Make:
    """An ``.npz`` whose array is larger than its entry says."""

    def make(folder: Path) -> Path:
        stream = io.BytesIO()
        np.savez_compressed(stream, kernel=np.zeros((64, 64, 64), np.float64))
        raw = stream.getvalue()
        real = struct.pack("<L", 128 + 64**3 * 8)
        assert raw.count(real) >= 1
        (folder / "a.npz").write_bytes(raw.replace(real, struct.pack("<L", size)))
        return folder / "a.npz"

    return make


def npy(shape: str, dtype: str = "<f4") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"1234"


KERAS = {"config.json": b"{}", "metadata.json": b"{}"}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (archive({}), "not a kernel file"),
        (archive({"../../a.txt": b"x", "/etc/a": b"y"}), "not a kernel file: an archive of ../../a.txt, /etc/a"),
        (archive({"a\n\x1b[31m.txt": b"x"}), "not a kernel file: an archive of a"),
        (archive({"saved_model.pb": b"x"}), "a SavedModel in an archive; save it as .keras or .h5 in Keras"),
        (archive(KERAS), "the model's weights are not there"),
        (archive(KERAS | {"model.weights.json": b"{}"}), "in several pieces, which conv3dt does not read"),
        (archive(KERAS | {"model.weights.h5": b"text"}), "cannot be read as HDF5"),
        (archive(KERAS | {"model.weights.h5": b""}), "cannot be read as HDF5"),
        (archive({**KERAS, "config.json": b"[" * 10**6, "model.weights.h5": b""}), "nested too deeply"),
        (archive({**KERAS, "config.json": b" " * 2**25, "model.weights.h5": b""}, zipfile.ZIP_DEFLATED),
         "config.json unpacks to 33554432 bytes, more than it can have"),
        (archive({"kernel.npy": b""}), "cannot be read as a NumPy file"),
        (archive({"kernel.npy": npy("(1099511627776, 1, 1, 1, 1)")}), "kernel takes 4398046511104 bytes, more than a"),
        (archive({"kernel.npy": npy("(1, 1, 1, 1, 2)")}), "cannot be read as a NumPy file"),
        (archive({"kernel.npy": npy("(1, 1, 1, 1, 1)", "|O")}), "Object arrays cannot be loaded"),
        (archive({"kernel.npy": npy("(1, 1, -1)")}), "cannot be read as a NumPy file|must hold"),
        (archive({"../kernel.npy": npy("(1, 1)")}), "the kernel must have 5 axes"),
        (archive({"a/data.pkl": b"\x80\x02."}), "cannot be read as a PyTorch file"),
        (lying(100), "cannot be read as a NumPy file"),
    ],
)  # fmt: skip
def test_archives_that_mean_harm(tmp_path: Path, make: Make, text: str) -> None:
    line = refused(make(tmp_path), tmp_path)
    assert any(part in line for part in text.split("|")), line
    assert "\x1b" not in line


def bomb(path: Path, name: str, size: int) -> None:
    """An archive of an entry that says what it unpacks to: zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for key, content in KERAS.items():
            file.writestr(key, content)
        with file.open(name, "w", force_zip64=True) as entry:
            for _ in range(size // 2**20):
                entry.write(bytes(2**20))


MEASURE = """
import resource, sys
from conv3dt.errors import DataError
from conv3dt.weights import arrays, hdf5, keras_archive, read_weights
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_weights(sys.argv[1])
except DataError as error:
    print(error, file=sys.stderr)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""


@pytest.mark.parametrize("name", ["kernel.npy", "model.weights.h5"])
def test_bombs_are_not_unpacked(tmp_path: Path, name: str) -> None:
    """A gigabyte and more of zeros in an archive of two megabytes."""
    bomb(tmp_path / "a.zip", name, 2**30 + 2**20)
    if name == "kernel.npy":
        with zipfile.ZipFile(tmp_path / "a.zip") as file:
            assert file.getinfo(name).file_size > 2**30
        (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"config.json", b"config.jsno"))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "a.zip")], capture_output=True, text=True, check=True
    )
    assert "unpacks to" in done.stderr
    assert int(done.stdout) < 50_000, "kilobytes"


def test_a_deep_model_in_an_hdf5_file(tmp_path: Path) -> None:
    config: Any = {"class_name": "Conv3DTranspose", "config": {"name": "up"}}
    for _ in range(200):
        config = {"class_name": "Model", "config": {"name": "m", "layers": [config]}}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights").attrs["layer_names"] = [b"m"]
    assert "0 kernels could be its" in refused(tmp_path / "a.h5", tmp_path)
