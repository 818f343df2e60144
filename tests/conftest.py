"""How do tests call the program, and on which files?  As a user does: through the entry point, on the sample data."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import settings
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from conv3dt.engine.choose import Choice
from tests import oracle

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_data"


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stands on stdout, all of it, as JSON."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on stderr; there may be no other, and nothing on stdout."""
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("conv3dt: ")
        return line


Run = Callable[..., Result]

HAS_GPU = os.path.exists("/proc/driver/nvidia/version")
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported; the fused way runs on the CPU then


def chosen(way: str, threads: int = 1) -> Choice:
    """The CPU's loops, or what a GPU does, on the CPU."""
    if way == "direct":
        return Choice("direct", "cpu", threads, "a test")
    return Choice("tensor", "cpu", threads, "a test", way=way)


settings.register_profile("steady", derandomize=True)
"""The same examples in every run; ``--hypothesis-profile=default`` looks for others."""
settings.load_profile("steady")


def content_hash(path: Path) -> str:
    """The SHA-256 of a file, or of what it unpacks to.

    isal was seen, once in tens of thousands of blocks, to pack the same megabyte one byte longer.
    """
    content = path.read_bytes()
    return hashlib.sha256(gzip.decompress(content) if path.suffix == ".gz" else content).hexdigest()


@contextmanager
def only(way: str) -> Iterator[None]:
    """Compute in one way, whatever would be chosen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conv3dt.job.choose", lambda *_, threads, **__: chosen(way, threads))
        yield


@pytest.fixture
def sample() -> Path:
    """The folder of sample data."""
    return SAMPLES


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the installed command in this process."""
    (point,) = entry_points(group="console_scripts", name="conv3dt")
    main = point.load()

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["conv3dt", *map(str, arguments)])
        capsys.readouterr()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as stop:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        code = stop.value.code
        assert isinstance(code, int)
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def spawn() -> Run:
    """Call the command in a process of its own."""

    def call(*arguments: object, **options: Any) -> Result:
        done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, **options)
        return Result(done.returncode, done.stdout, done.stderr)

    return call


def command(*arguments: object) -> list[str]:
    """Return the words that start the command in a process of its own."""
    return [sys.executable, "-m", "conv3dt_cli", *map(str, arguments)]


def listing(folder: Path) -> list[str]:
    """Return the names of everything in a folder, hidden files too."""
    return sorted(os.listdir(folder))


def save_nifti(
    path: Path,
    array: NDArray[Any],
    affine: NDArray[np.float64] | None = None,
    *,
    header: Any = None,
    extensions: Sequence[Any] = (),
    **fields: Any,
) -> Path:
    """Write a NIfTI file whose stored numbers are those of ``array``, and whose fields are as named, whatever they say.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        array: stored numbers.
        affine: of sform (code 1) and qform (code 1); none is set without it.
        header: an empty one of the kind and byte order wanted; little-endian NIfTI-1 by default.
        extensions: of nibabel's kind.
        **fields: header fields, set last.
    """
    header = Nifti1Header(endianness="<") if header is None else header
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    if affine is not None:
        header.set_qform(affine, code=1)
        header.set_sform(affine, code=1)
    header.extensions.extend(extensions)
    for name, value in fields.items():
        header[name] = value
    stream = io.BytesIO()
    header.write_to(stream)
    offset = int(type(header)(stream.getvalue()[: header.sizeof_hdr], header.endianness, check=False)["vox_offset"])
    raw = stream.getvalue().ljust(offset, b"\0")
    raw += array.astype(array.dtype.newbyteorder(header.endianness)).tobytes(order="F")
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return path


def load(path: Path) -> NDArray[Any]:
    """Return the real values of a NIfTI file, by nibabel."""
    return np.asarray(nibabel.load(path).dataobj)


def whole_numbers(*shape: int, seed: int = 0, dtype: Any = np.int16) -> NDArray[Any]:
    """Return small whole numbers, so that sums of products are exact and results can be compared bit for bit."""
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def transposed(volume: NDArray[Any], kernel: NDArray[Any], strides: tuple[int, int, int]) -> NDArray[np.float64]:
    """The definition for padding ``valid``: ``(n1, n2, n3, channels)`` in, filters out."""
    first, second, third = (oracle.Law(k, s) for k, s in zip(kernel.shape, strides, strict=False))
    return oracle.transposed(volume, kernel, (first, second, third))


MODULES = """
import sys
from importlib.metadata import entry_points
(point,) = entry_points(group="console_scripts", name="conv3dt")
sys.argv = ["conv3dt", *sys.argv[1:]]
try:
    point.load()()
except SystemExit as stop:
    print(stop.code, *sys.modules, file=sys.stderr)
"""


def imported_by(*arguments: object, code: int = 0) -> set[str]:
    """Return the top-level modules that a command has imported by its end, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    ended, *names = done.stderr.splitlines()[-1].split()
    assert int(ended) == code
    return {name.partition(".")[0] for name in names}
