"""Is machine code that is kept only ever a help?  Missing, forbidden, damaged or foreign, it changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import conv3dt
from conv3dt.defaults import read_defaults
from conv3dt.engine import machine
from conv3dt.engine.compile import compiled
from tests.conftest import Run, load, save_nifti, whole_numbers


@pytest.mark.parametrize("state", ["forbidden", "damaged", "cut", "another's"])
def test_no_cache_is_no_reason_to_fail(spawn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    cache = tmp_path / "cache"
    source = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4))
    monkeypatch.setenv("CONV3DT_CACHE_DIR", "/dev/null/x" if state == "forbidden" else str(cache))
    assert spawn("upsample", source, tmp_path / "b.nii").code == 0
    if state != "forbidden":
        (kept,) = cache.iterdir()
        content = kept.read_bytes()
        changed = {"damaged": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[:-9], "another's": b"\x7fELF" * 9}
        kept.write_bytes(changed[state])
    done = spawn("upsample", source, tmp_path / "c.nii")
    assert done.code == 0, done.err
    np.testing.assert_array_equal(load(tmp_path / "b.nii"), load(tmp_path / "c.nii"))
    if state != "forbidden":  # and it is mended
        assert kept.read_bytes() == content


def test_a_second_run_does_without_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONV3DT_CACHE_DIR", str(tmp_path))
    program = (
        "import sys, numpy, conv3dt\n"
        "out = conv3dt.upsample(numpy.arange(27.0).reshape(3, 3, 3), kernel='cubic', threads=2)\n"
        "print('numba' in sys.modules, out.tobytes().hex())"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert (first[0], second[0]) == ("True", "False")
    assert first[1] == second[1]


def test_code_that_needs_what_is_not_there_is_not_loaded() -> None:
    """LLVM would end the program."""
    assert machine.can_stand_alone(["erf", "llvm.exp.f32", "numba_gil_ensure", "Py_DecRef"])
    assert not machine.can_stand_alone(["erf", "no_such_function_anywhere"])


def test_code_that_needs_more_of_numba_is_not_kept() -> None:
    """LLVM knows numba's helpers while numba is there, but the next run will be without it."""
    program = (
        "import numba, numpy\n"
        "numba.njit(lambda n: numpy.arange(n).sum())(3)\n"
        "import llvmlite.binding as llvm\n"
        "from conv3dt.engine import machine\n"
        "name = 'numba_gil_ensure'\n"
        "assert llvm.address_of_symbol(name) is not None\n"
        "machine.UNREACHED = ()\n"
        "print(machine.can_stand_alone([name]), machine.can_stand_alone(['expm1f', 'Py_DecRef']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_numba_in_the_same_program_works_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """Its arrays are made and freed by functions of the same names that our objects mention."""
    monkeypatch.setenv("CONV3DT_CACHE_DIR", str(tmp_path))
    ours = "print(conv3dt.upsample(numpy.ones((2, 2, 2)), threads=1).sum())\n"
    theirs = (
        "import numba\n"
        "@numba.njit\n"
        "def f(n):\n"
        "    total = 0.0\n"
        "    for i in range(n):\n"
        "        total += numpy.arange(i).sum()\n"
        "    if n > 10: raise ValueError('numba')\n"
        "    return total\n"
        "print(f(5))\n"
        "try: f(11)\n"
        "except ValueError as error: print(error)\n"
    )
    program = "import numpy, conv3dt\n" + (ours + theirs + ours if first == "ours" else theirs + ours + theirs)
    for _ in range(2):  # compiled, then loaded
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.split()[:2] == (["64.0", "10.0"] if first == "ours" else ["10.0", "numba"])
        assert "numba" in done.stdout


def test_code_that_cannot_be_kept_runs_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = np.arange(60.0).reshape(3, 4, 5)
    wanted = conv3dt.upsample(volume, activation="tanh")
    monkeypatch.setenv("CONV3DT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "can_stand_alone", lambda names: False)
    compiled.cache_clear()
    np.testing.assert_allclose(conv3dt.upsample(volume, activation="tanh", threads=2), wanted, rtol=1e-6)
    compiled.cache_clear()
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("CONV3DT_CACHE_DIR", "XDG_CACHE_HOME", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    compiled.cache_clear()
    assert conv3dt.upsample(np.ones((2, 2, 2))).sum() == 64
    assert read_defaults().floatx == "float32"
