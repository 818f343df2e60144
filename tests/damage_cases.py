"""Which damaged files does the command meet, and with which words?  Sound files of every kind, and cases by number."""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Header
from nibabel.nifti2 import Nifti2Header

import conv3dt
from conv3dt import journal
from conv3dt.pending import PREFIX, PendingFile
from conv3dt.weights import Weights, write_weights
from tests import damage
from tests.conftest import save_nifti, whole_numbers

Words = tuple[str, ...]
Chance = random.Random

KEPT = Path(__file__).resolve().parent / "data" / "weights"
WHEN = 10**18
"""The time of an input that was being read when its run was killed, in nanoseconds: journals tell files by it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A command and the files around it.

    Attributes:
        words: of the command line; paths are seen from the case's folder, sound files are in ``../sound``.
        files: by name, what is in the folder.
        output: that the command is to make, if it makes one.
        stdin: which of the files is standard input.
        changed: whether `verify` may not say yes.
        whole: the output to the byte, if it is known.
    """

    words: Words
    files: dict[str, bytes] = field(default_factory=dict)
    output: str | None = None
    stdin: str | None = None
    changed: bool = False
    whole: bytes | None = None


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound files: their folder, and the content of each by name; ``meta`` says where what is not voxels lies."""

    folder: Path
    files: dict[str, bytes] = field(repr=False)
    meta: dict[str, list[damage.Span]] = field(repr=False)


# --- sound files -----------------------------------------------------------------------------------------------------


def sound_files(folder: Path) -> Sound:
    """Make the sound files in a new folder."""
    folder.mkdir()
    _volumes(folder)
    _stacks(folder)
    _kernels(folder)
    _texts(folder)
    _proved(folder)
    _dataset(folder)
    _journal(folder)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    meta = {name: _spans(raw) for name, raw in files.items() if name.endswith((".h5", ".weights.h5"))}
    return Sound(folder, files, meta)


AFFINE = np.array([[-1.9, 0.1, 0.2, 3], [0.1, 2.1, 0, -5], [0.2, 0.1, 4.0, 7], [0, 0, 0, 1]])


def _volumes(folder: Path) -> None:
    volume, words = whole_numbers(7, 6, 5), b"a comment, which any tool may add"
    save_nifti(folder / "a.nii", volume, AFFINE, scl_slope=0.5, scl_inter=-3, descrip=b"made by a scanner")
    save_nifti(
        folder / "b.nii", volume.astype(np.float32), AFFINE, header=Nifti1Header(endianness=">"),
        extensions=[Nifti1Extension("comment", words), Nifti1Extension("afni", b"<AFNI_attributes/>")],
        intent_name=b"z score", slice_code=1, xyzt_units=10,
    )  # fmt: skip
    save_nifti(folder / "c.nii", whole_numbers(5, 4, 4, 3, dtype=np.uint8), AFFINE, header=Nifti2Header(), pixdim=[
        1, 2, 2, 2, 2.5, 1, 1, 1])  # fmt: skip
    save_nifti(folder / "d.nii", whole_numbers(4, 3, 4, 2, 2).astype(np.float64), None)
    for name in "abcd":
        (folder / f"{name}.nii.gz").write_bytes(gzip.compress((folder / f"{name}.nii").read_bytes(), mtime=0))


def _stacks(folder: Path) -> None:
    volume = whole_numbers(9, 8, 7, dtype=np.uint16)
    header = np.frombuffer((folder / "a.nii").read_bytes()[:352], np.uint8)
    with h5py.File(folder / "a.h5", "w", libver="earliest") as file:
        raw = file.create_dataset("raw", data=volume, chunks=(4, 4, 4), compression="gzip", shuffle=True)
        raw.attrs["element_size_um"] = [1.2, 0.4, 0.4]
        raw.dims[0].label, raw.dims[1].label, raw.dims[2].label = "zyx"
        file.create_group("deep/er")
    with h5py.File(folder / "b.h5", "w", libver="latest") as file:
        raw = file.create_dataset("t1", data=volume.astype(np.float32), chunks=(3, 8, 7), fletcher32=True)
        raw.attrs.update({"affine": AFFINE, "nifti_header": header, "scl_slope": 2.0, "axes": "zyx"})
    with h5py.File(folder / "c.h5", "w", libver="earliest") as file:
        raw = file.create_dataset("c", data=whole_numbers(3, 5, 4, 4, dtype=np.int32))
        raw.attrs.update({"axes": np.bytes_("czyx"), "voxel_size": np.float32(0.5), "scl_inter": -1})
        raw.attrs["axistags"] = np.bytes_(json.dumps({"axes": [{"key": letter} for letter in "czyx"]}))
    with h5py.File(folder / "d.h5", "w", libver="latest") as file:
        file.create_dataset("big", data=np.arange(40 * 32 * 16, dtype=">i4").reshape(40, 32, 16), chunks=(20, 32, 16),
                            compression="gzip")  # fmt: skip
        file["other"] = np.zeros((2, 3))


KERNEL = np.random.default_rng(3).normal(0, 0.2, (3, 3, 3, 2, 1)).astype(np.float32)
CONFIG = {
    "name": "up", "filters": 2, "kernel_size": (3, 3, 3), "strides": (2, 2, 2), "padding": "same",
    "activation": "relu", "use_bias": True, "dilation_rate": (1, 1, 1), "output_padding": None,
}  # fmt: skip
SUFFIXES = (".npz", ".npy", ".safetensors", ".pt", ".onnx", ".keras", ".h5")


def _kernels(folder: Path) -> None:
    import torch

    weights = Weights(KERNEL, np.array([0.5, -0.5], np.float32), "memory", "array", "", CONFIG)
    for suffix in SUFFIXES:
        write_weights(weights, f"{folder}/k{suffix}")
    (folder / "k.h5").rename(folder / "model.h5")
    np.savez_compressed(folder / "plain.npz", kernel=KERNEL, bias=np.zeros(2))
    torch.save(torch.nn.Sequential(torch.nn.ConvTranspose3d(1, 2, 3, 2, 1, 1)), folder / "module.pt")
    torch.save({"state_dict": {"up.weight": torch.ones(1, 2, 3, 3, 3), "up.bias": torch.ones(2)}},
               folder / "old.pt", _use_new_zipfile_serialization=False)  # fmt: skip
    with h5py.File(folder / "bare.h5", "w") as file:
        file["up/kernel"], file["up/bias"] = KERNEL, np.zeros(2, np.float32)
    for name in (
        "tf29_plain.h5",
        "tf29_nested.h5",
        "tf212_plain.keras",
        "tf212_nested.keras",
        "tf29_single.weights.h5",
    ):
        (folder / name).write_bytes((KEPT / name).read_bytes())


def _texts(folder: Path) -> None:
    layer = {
        "class_name": "Conv3DTranspose",
        "config": {
            **CONFIG, "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": 3}},
            "bias_initializer": "zeros", "data_format": "channels_last", "activation": "selu",
            "kernel_regularizer": None, "batch_input_shape": [None, 7, 6, 5, 1], "dtype": "float32",
        },
    }  # fmt: skip
    (folder / "layer.json").write_text(json.dumps(layer))
    (folder / "options.toml").write_text(
        'scale = [2, 2, 1]\nmax_memory = "1GiB"\nthreads = 2\n\n[upsample]\nkernel = "cubic"\ndtype = "int16"\n'
        'rescale = true\nalign = "edge"\nnan = "zero"\n\n[kernel.make]\ndtype = "float64"\n\n[batch]\njobs = 2\n'
    )
    (folder / "list.txt").write_text("# scans\n../sound/a.nii\tone\n../sound/b.nii.gz\n\n../sound/a.h5:/raw\ttwo.h5\n")


def _proved(folder: Path) -> None:
    (folder / "proved").mkdir()
    save_nifti(folder / "proved" / "scan.nii", whole_numbers(7, 6, 5), AFFINE)
    for name in ("up.nii", "up2.nii.gz"):
        options: dict[str, Any] = {"kernel": "cubic", "scale": (2, 2, 1), "dtype": "int16"}
        conv3dt.upsample_file(folder / "proved" / "scan.nii", folder / "proved" / name, sidecar=True, **options)


DESCRIPTION = {"Name": "a study", "BIDSVersion": "1.9.0", "DatasetType": "raw", "GeneratedBy": [{"Name": "hand"}]}


def _dataset(folder: Path) -> None:
    anat = folder / "bids" / "sub-01" / "anat"
    anat.mkdir(parents=True)
    (folder / "bids" / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    (folder / "bids" / "T1w.json").write_text(json.dumps({"Manufacturer": "Acme", "EchoTime": 0.003}))
    (folder / "bids" / ".bidsignore").write_text("*_scratch*\n!keep\n/extra/**\n")
    (anat / "sub-01_T1w.json").write_text(json.dumps({"RepetitionTime": 2.5, "SliceTiming": [0, 0.5, 1.0]}))
    (anat / "sub-01_T1w.nii").write_bytes((folder / "a.nii").read_bytes())


RESUMED: dict[str, Any] = {"scale": 2, "tile": (14, 12, 4), "kernel": "nearest"}
RESUMED_WORDS = ("--scale", "2", "--tile", "14,12,4", "--kernel", "nearest")


def _journal(folder: Path) -> None:
    """What runs leave that were killed: passing files and journals, made by interrupting them."""
    (folder / "killed").mkdir()
    (folder / "whole").mkdir()
    source = folder / "killed" / "scan.nii"
    source.write_bytes((folder / "a.nii").read_bytes())
    os.utime(source, ns=(WHEN, WHEN))
    first, name = journal.FIRST_S, PendingFile._name

    def killed(self: PendingFile) -> None:
        raise KeyboardInterrupt

    journal.FIRST_S, PendingFile._name = 0.0, killed  # type: ignore[method-assign]
    try:
        for target in ("up.nii", "up.nii.gz", "up.h5"):
            try:
                conv3dt.upsample_file(source, folder / "killed" / target, resume=True, **RESUMED)
            except KeyboardInterrupt:
                continue
    finally:
        journal.FIRST_S, PendingFile._name = first, name  # type: ignore[method-assign]
    for target in ("up.nii", "up.nii.gz", "up.h5"):
        conv3dt.upsample_file(source, folder / "whole" / target, **RESUMED)


SIGNATURES = (
    b"TREE",
    b"HEAP",
    b"SNOD",
    b"OHDR",
    b"OCHK",
    b"FRHP",
    b"BTHD",
    b"BTLF",
    b"FADB",
    b"FAHD",
    b"EAHD",
    b"GCOL",
)


def _spans(raw: bytes) -> list[damage.Span]:
    """Where an HDF5 file says what it holds: superblock and first object headers, and all that has a signature."""
    found = [(0, 96), (96, 900)]
    for signature in SIGNATURES:
        place = raw.find(signature)
        while place >= 0:
            found.append((place, place + 160))
            place = raw.find(signature, place + 1)
    return [(start, min(stop, len(raw))) for start, stop in found if start < len(raw)]


# --- cases -----------------------------------------------------------------------------------------------------------

HEADERS = {"a": (Nifti1Header, "<"), "b": (Nifti1Header, ">"), "c": (Nifti2Header, "<"), "d": (Nifti1Header, "<")}
LOUD = ("dim", "datatype", "bitpix", "vox_offset", "pixdim", "scl_slope", "scl_inter", "sizeof_hdr", "magic",
        "xyzt_units", "qform_code", "sform_code", "srow_x", "quatern_b", "intent_code", "dim_info")  # fmt: skip

OPTIONS: tuple[Words, ...] = (
    (), (), (), ("--kernel", "nearest"), ("--kernel", "cubic", "--scale", "2,2,1"), ("--scale", "3", "--dtype", "same"),
    ("--dtype", "int16", "--rescale"), ("--nan", "zero"), ("--nan", "error"), ("--channels-last",), ("--sidecar",),
    ("--align", "edge", "--strict-header"), ("--self-check",), ("--max-memory", "1500MB"), ("--dtype", "uint8"),
    ("--per-channel", "--reduce", "argmax", "--channels-last"), ("--tile", "8"),
)  # fmt: skip


def _volume_case(name: str, raw: bytes, chance: Chance) -> Case:
    """A damaged volume under one of the commands that read volumes."""
    files, shown, how = {name: raw}, name, chance.random()
    if name.endswith(".h5") and chance.random() < 0.4:
        shown += chance.choice((":/raw", ":/t1", ":/c", ":/big"))
    if how < 0.58:
        output = chance.choice(("up.nii", "up.nii", "up.nii.gz", "up.h5:/up"))
        words = ("upsample", shown, output, "--json", "--threads", "2", *chance.choice(OPTIONS))
        return Case(words, files, output)
    if how < 0.70:
        return Case(("info", shown, *chance.choice(((), ("--json",)))), files)
    if how < 0.80:
        return Case(("shape", shown, *chance.choice(((), ("--json",), ("-v",)))), files)
    if how < 0.87:
        return Case(("plan", shown, "--json", "--scale", "2"), files)
    if how < 0.92:
        words = ("upsample", "../sound/a.nii", "up.nii", "--json", "--like", shown)
        return Case(words, files, "up.nii")
    if how < 0.97:
        return Case(("compare", *chance.sample((shown, "../sound/a.nii"), 2), "--json"), files)
    return Case(("preview", shown, "-o", "up.png"), files, "up.png")


def nifti(chance: Chance, sound: Sound) -> Case:
    """NIfTI with a damaged header, packed behind it or not."""
    letter = chance.choice("aabbccd")
    raw, (kind, order) = sound.files[f"{letter}.nii"], HEADERS[letter]
    dtype = kind.template_dtype.newbyteorder(order)
    start = int(np.frombuffer(raw, dtype, 1)["vox_offset"][0])
    how = chance.random()
    if how < 0.08:
        raw = _claiming(raw, dtype, chance)
    elif how < 0.5:
        raw = damage.with_fields(raw, chance, dtype, LOUD if chance.random() < 0.7 else ())
    elif how < 0.6 and start > dtype.itemsize + 4:
        raw = damage.damaged(raw, chance, [(dtype.itemsize, dtype.itemsize + 16), (dtype.itemsize, start)])
    else:
        raw = damage.damaged(raw, chance, [(0, 128), (0, dtype.itemsize), (dtype.itemsize - 4, start + 4)])
    if chance.random() < 0.3:
        return _volume_case("x.nii.gz", gzip.compress(raw, 1, mtime=0), chance)
    return _volume_case(chance.choice(("x.nii", "x.nii", "x.NII", "x")), raw, chance)


def _claiming(raw: bytes, dtype: np.dtype[Any], chance: Chance) -> bytes:
    """A header that claims more voxels than there are, up to 2^440."""
    header = np.frombuffer(raw, dtype, 1).copy()
    most = np.iinfo(header["dim"].dtype).max
    number = chance.choice([most, 2**40, 2**20, 32767, 1000])
    header["dim"][0, 0] = chance.choice((3, 4, 5, 7))
    header["dim"][0, 1 : chance.choice((2, 4, 8))] = min(number, most)
    return header.tobytes() + raw[dtype.itemsize :]


def gzipped(chance: Chance, sound: Sound) -> Case:
    """gzip streams: damaged, cut, in members, with more behind them, bombs."""
    name = chance.choice(("a.nii.gz", "b.nii.gz", "c.nii.gz"))
    raw, how = sound.files[name], chance.random()
    plain = gzip.decompress(raw)
    if how < 0.45:
        raw = damage.damaged(raw, chance, [(0, 12), (0, len(raw)), (len(raw) - 8, len(raw))])
    elif how < 0.6:
        raw = damage.cut(raw, chance, (0, len(raw)))
    elif how < 0.7:
        raw += chance.choice((b"\0" * 64, chance.randbytes(32), b"\x1f\x8b", raw, raw[:40], gzip.compress(b"")))
    elif how < 0.78:
        raw = damage.repacked(plain, chance)
    elif how < 0.84:
        raw = damage.damaged(damage.repacked(plain, chance), chance)
    elif how < 0.9:
        raw = gzip.compress(plain[: chance.randint(0, len(plain))], mtime=0)
    elif how < 0.96:
        raw = _with_flags(plain, chance)
    else:
        return _bomb(plain, chance)
    return _volume_case("x.nii.gz", raw, chance)


def _bomb(plain: bytes, chance: Chance) -> Case:
    """Zeros without end behind the voxels, or 8 GB of voxels that are zeros, which is a volume like any other."""
    if chance.random() < 0.7:
        start = chance.choice((plain, plain[:300]))
        raw = damage.bomb(start, chance.choice((64, 2048, 10240)), sound=chance.random() < 0.5)
        return _volume_case("x.nii.gz", raw, chance)
    dtype = Nifti1Header.template_dtype
    header = np.frombuffer(plain, dtype, 1).copy()
    header["dim"][0, 0], header["dim"][0, 1:5], header["datatype"] = 4, (512, 512, 512, 32), 4
    raw = damage.bomb(header.tobytes() + plain[dtype.itemsize : 352], 8 * 2**10)
    words = chance.choice((("info", "x.nii.gz"), ("shape", "x.nii.gz"), ("plan", "x.nii.gz")))
    return Case(("upsample", "x.nii.gz", "up.nii") if chance.random() < 0.5 else words, {"x.nii.gz": raw})


def _with_flags(plain: bytes, chance: Chance) -> bytes:
    """A member whose header has extra fields, names and comments, which may not end."""
    flags = chance.randrange(256)
    extra = struct.pack("<H", chance.choice((0, 4, 65535))) + b"abcd"
    text = chance.choice((b"a\0", b"a" * 70000 + b"\0", b"\0", b"never ends"))
    packed = gzip.compress(plain, mtime=0)[10:]
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + chance.choice((b"", extra)) + text + packed


def stacks(chance: Chance, sound: Sound) -> Case:
    """HDF5 volumes."""
    name = chance.choice(("a.h5", "a.h5", "b.h5", "c.h5", "d.h5"))
    raw = damage.damaged(sound.files[name], chance, sound.meta[name])
    if chance.random() < 0.12:  # a file to write into
        output = chance.choice(("x.h5:/new", "x.h5:/new", "x.h5:/raw", "x.h5:/deep/er/new", "x.h5"))
        words = ("upsample", "../sound/a.nii", output, "--json", *chance.choice(((), ("--overwrite",))))
        return Case(words, {"x.h5": raw}, output)
    return _volume_case("x.h5", raw, chance)


KERNEL_FILES = (
    "k.npz", "plain.npz", "k.npy", "k.safetensors", "k.safetensors", "k.pt", "module.pt", "old.pt", "k.onnx", "k.onnx",
    "k.keras", "tf212_plain.keras", "tf212_nested.keras", "model.h5", "bare.h5", "tf29_plain.h5", "tf29_nested.h5",
    "tf29_single.weights.h5",
)  # fmt: skip


def kernels(chance: Chance, sound: Sound) -> Case:
    """Files of weights."""
    name = chance.choice(KERNEL_FILES)
    raw, suffix = sound.files[name], os.path.splitext(name)[1]
    if raw[:2] == b"PK" and chance.random() < 0.6:
        raw = damage.repacked_archive(raw, chance)
    elif suffix == ".safetensors" and chance.random() < 0.5:
        size = int.from_bytes(raw[:8], "little")
        text = damage.damaged_json(raw[8 : 8 + size], chance)
        raw = len(text).to_bytes(8, "little") + text + raw[8 + size :]
    else:
        spans = sound.meta.get(name, [(0, 64), (0, 200), (max(len(raw) - 200, 0), len(raw))])
        raw = damage.damaged(raw, chance, spans)
    file = f"x{chance.choice((suffix, suffix, '.npz', '.h5'))}"
    layer = chance.choice(("", "", ":/up", ":/decoder/up", ":/kernel"))
    shown, how = file + layer, chance.random()
    if how < 0.5:
        options = chance.choice(
            ((), ("--strides", "2"), ("--strides", "2", "--padding", "same"), ("--layout", "torch"))
        )
        words = ("upsample", "../sound/a.nii", "up.nii", "--json", "--weights", shown, *options)
        return Case(words, {file: raw}, "up.nii")
    if how < 0.68:
        return Case(("info", shown, *chance.choice(((), ("--json",)))), {file: raw})
    if how < 0.84:
        return Case(("kernel", "inspect", shown, *chance.choice(((), ("--json",)))), {file: raw})
    output = f"out{chance.choice(SUFFIXES)}"
    return Case(("kernel", "convert", shown, output), {file: raw}, output)


def layers(chance: Chance, sound: Sound) -> Case:
    """Configurations of layers."""
    raw = damage.damaged_json(sound.files["layer.json"], chance)
    how = chance.random()
    if how < 0.3:
        return Case(("shape", "7,6,5", "--layer", "x.json", "--json"), {"x.json": raw})
    weights = chance.choice(((), (), ("--weights", "../sound/plain.npz"), ("--seed", "3")))
    words = ("upsample", "../sound/a.nii", "up.nii", "--json", "--layer", "x.json", *weights)
    return Case(words, {"x.json": raw}, "up.nii")


def sidecars(chance: Chance, sound: Sound) -> Case:
    """Records, and outputs and inputs that they speak of."""
    stem, suffix = chance.choice((("up", ".nii"), ("up2", ".nii.gz")))
    files = {name: sound.files[f"proved/{name}"] for name in (f"{stem}{suffix}", f"{stem}.json", "scan.nii")}
    chosen = chance.choice((f"{stem}.json",) * 3 + (f"{stem}{suffix}", "scan.nii"))
    before = files[chosen]
    is_text = chosen.endswith(".json")
    files[chosen] = damage.damaged_json(before, chance) if is_text else damage.damaged(before, chance, [(0, 352)])
    words = ("verify", f"{stem}{suffix}", *chance.choice(((), ("--json",), ("--source", "scan.nii"))))
    if is_text and chance.random() < 0.25:  # a batch asks the record too
        files["out/" + f"{stem}{suffix}"], files[f"out/{stem}.json"] = files.pop(f"{stem}{suffix}"), files.pop(chosen)
        files[f"in/{stem}{suffix}"] = files.pop("scan.nii")
        return Case(("batch", "in", "--out-dir", "out", "--kernel", "cubic"), files)
    return Case(words, files, changed=not is_text and files[chosen] != before)


def configurations(chance: Chance, sound: Sound) -> Case:
    """Files of options."""
    raw = damage.damaged_text(sound.files["options.toml"], chance)
    words = chance.choice((
        ("upsample", "../sound/a.nii", "up.nii", "--json"), ("shape", "7,6,5"), ("upsample", "--print-config"),
        ("kernel", "make", "k.npz", "--kernel", "linear"),
    ))  # fmt: skip
    output = {"upsample": "up.nii", "kernel": "k.npz"}.get(words[0]) if len(words) > 2 else None
    return Case((*words, "--config", "x.toml"), {"x.toml": raw}, output)


def lists(chance: Chance, sound: Sound) -> Case:
    """Lists of inputs."""
    raw = damage.damaged_text(sound.files["list.txt"], chance)
    how = chance.choice((("--dry-run",), ("--json",), ()))
    return Case(("batch", "--list", "x.txt", "--out-dir", "out", "--kernel", "nearest", *how), {"x.txt": raw})


def datasets(chance: Chance, sound: Sound) -> Case:
    """BIDS datasets whose texts are damaged."""
    files = {name: raw for name, raw in sound.files.items() if name.startswith("bids/")}
    name = chance.choice([name for name in files if name.endswith((".json", ".bidsignore"))])
    change = damage.damaged_json if name.endswith(".json") else damage.damaged_text
    files[name] = change(files[name], chance)
    return Case(("batch", "bids", "--bids", "--out-dir", "out", "--kernel", "nearest"), files)


def pipes(chance: Chance, sound: Sound) -> Case:
    """What comes through standard input."""
    case = nifti(chance, sound) if chance.random() < 0.7 else gzipped(chance, sound)
    (raw,) = case.files.values()
    if chance.random() < 0.7:
        output = chance.choice(("up.nii", "up.nii.gz", "up.h5"))
        return Case(("upsample", "-", output, "--json", *chance.choice(OPTIONS[:8])), {"x": raw}, output, stdin="x")
    return Case((chance.choice(("shape", "info")), "-"), {"x": raw}, stdin="x")


def journals(chance: Chance, sound: Sound) -> Case:
    """What a killed run left, damaged."""
    target = chance.choice(("up.nii", "up.nii.gz", "up.h5"))
    files = {name.removeprefix("killed/"): raw for name, raw in sound.files.items() if name.startswith("killed/")}
    files = {name: raw for name, raw in files.items() if name == "scan.nii" or _is_of(name, target)}
    name = chance.choice([name for name in files if name != "scan.nii"] + [f"{PREFIX}{target}-journal"] * 3)
    if name.endswith("-journal"):
        files[name] = damage.damaged_text(files[name], chance)
    else:  # no checksum guards what was made durable; but it may not be there
        files[name] = damage.cut(files[name], chance, (0, len(files[name])))
    whole = sound.files[f"whole/{target}"]
    return Case(("upsample", "scan.nii", target, "--json", *RESUMED_WORDS), files, target, whole=whole)


def _is_of(name: str, target: str) -> bool:
    rest = name.removeprefix(f"{PREFIX}{target}")
    return rest != name and (not rest or rest.startswith("-"))


MAKERS: dict[str, Callable[[Chance, Sound], Case]] = {
    "nifti": nifti, "gzip": gzipped, "hdf5": stacks, "weights": kernels, "layer": layers, "sidecar": sidecars,
    "config": configurations, "list": lists, "bids": datasets, "pipe": pipes, "journal": journals,
}  # fmt: skip


def case_of(kind: str, number: int, seed: int, sound: Sound) -> Case:
    """Return a case by its number."""
    return MAKERS[kind](random.Random(f"{seed} {kind} {number}"), sound)


def scans(count: int, seed: int, sound: Sound) -> dict[str, bytes]:
    """Return damaged volumes by name, for a batch, and sound ones between them; HDF5 has checksums or is cut."""
    found = {}
    for number in range(count):
        chance = random.Random(f"{seed} batch {number}")
        case = chance.choice((nifti, gzipped))(chance, sound)
        (raw,) = case.files.values()
        suffix = ".nii.gz" if raw[:2] == b"\x1f\x8b" else ".nii"
        found[f"{number:03}{suffix}"] = raw
    return found
