"""Is a library that crashes or hangs on a file found out before it takes the program with it?"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conv3dt import trial
from conv3dt.errors import DataError


def sound(path: str) -> None:
    Path(path + ".tried").touch()


def raising(path: str) -> None:
    raise ValueError("no matter")


def crashing(path: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hanging(path: str) -> None:
    time.sleep(60)


@pytest.fixture(params=["fork", "helper"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Alone, or beside another thread."""
    monkeypatch.setattr(threading, "active_count", lambda: 1 if request.param == "fork" else 2)
    monkeypatch.setattr(trial, "MOST_S", 2.0)
    yield request.param
    trial._dismiss()


def test_what_is_sound_is_tried_once(way: str, tmp_path: Path) -> None:
    file, mark = tmp_path / "a.h5", tmp_path / "a.h5.tried"
    file.write_bytes(b"a")
    trial.attempt(str(file), __name__, "sound", str(file))
    assert mark.exists()
    mark.unlink()
    trial.attempt(str(file), __name__, "sound", str(file))
    assert not mark.exists()
    file.write_bytes(b"another")
    trial.attempt(str(file), __name__, "sound", str(file))
    assert mark.exists()


def test_errors_are_left_to_who_reads(way: str, tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    trial.attempt(str(tmp_path / "a.h5"), __name__, "raising", "x")
    trial.attempt(str(tmp_path / "a.h5"), __name__, "missing", "x")
    trial.attempt(str(tmp_path / "nowhere.h5"), __name__, "crashing", "x")


@pytest.mark.parametrize(("name", "word"), [("crashing", "crashed on"), ("hanging", "came to no end with")])
def test_a_crash_and_a_hang_are_errors_and_the_next_file_is_not_their_fault(
    way: str, tmp_path: Path, name: str, word: str
) -> None:
    for file in ("a.h5", "b.h5"):
        (tmp_path / file).touch()
    for _ in range(2 if name == "crashing" else 1):
        with pytest.raises(DataError, match=f"damaged: the HDF5 library {word} it"):
            trial.attempt(str(tmp_path / "a.h5"), __name__, name, "x")
    trial.attempt(str(tmp_path / "b.h5"), __name__, "sound", str(tmp_path / "b.h5"))
    assert (tmp_path / "b.h5.tried").exists()
