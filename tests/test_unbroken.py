"""What does a stop do that comes while HDF5 calls back?"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from conv3dt.io.hdf5_file import WrittenFile
from conv3dt.unbroken import unbroken

STOPS = [signal.SIGINT, signal.SIGTERM]


class Stopped(BaseException):
    """As the command line raises it."""


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_waits_for_the_end_of_the_block(number: int) -> None:
    done = []
    with pytest.raises(Stopped), unbroken():
        os.kill(os.getpid(), number)
        done.append("all of it")
    assert done == ["all of it"]
    with pytest.raises(Stopped):  # and none does behind it
        os.kill(os.getpid(), number)


def test_a_stop_is_not_lost_to_another_error() -> None:
    with pytest.raises(Stopped), unbroken():
        os.kill(os.getpid(), signal.SIGTERM)
        raise OSError("full")


def test_where_no_handler_runs_there_is_nothing_to_do() -> None:
    def run() -> None:
        with unbroken():
            found.append(signal.getsignal(signal.SIGINT))

    found: list[object] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize("moment", ["write", "flush", "truncate", "seek"])
def test_a_stop_within_a_callback_of_hdf5_comes_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Raised there, it would come as another error, or not at all."""
    (tmp_path / "a.h5").touch()
    done = getattr(type(WrittenFile(None, fresh=True)._bytes), moment)

    def stopped(self: object, *args: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return done(self, *args)

    monkeypatch.setattr(f"conv3dt.io.hdf5_file._Bytes.{moment}", stopped)
    with pytest.raises(Stopped), WrittenFile(tmp_path / "a.h5", fresh=True) as written:
        with unbroken():
            written.file["a"] = [1, 2, 3]
    with h5py.File(tmp_path / "b.h5", "w"):  # the library is sound
        pass
