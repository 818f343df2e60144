"""Does Tab complete, in the shells themselves?  Bash is needed; zsh and fish are asked where they are installed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import imported_by

ON_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
BIN = Path(sys.executable).parent
LIMIT_S = 60
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1=; bind 'set enable-bracketed-paste off'"),
    "zsh": (["zsh", "-f", "-i"], "PS1=; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D"),
    "fish": (["fish", "--no-config", "-i"], "function fish_prompt; end"),
}
"""How each starts without anybody's settings, and its first line: no prompt, and pasted keys are keys."""

SOURCES = {
    "bash": 'eval "$(_CONV3DT_COMPLETE=bash_source conv3dt)"',
    "zsh": 'eval "$(_CONV3DT_COMPLETE=zsh_source conv3dt)"',
    "fish": "_CONV3DT_COMPLETE=fish_source conv3dt | source",
}
"""What the README says to put into the settings."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files to complete the names of."""
    (tmp_path / "home").mkdir()
    (tmp_path / "files" / "derived").mkdir(parents=True)
    for name in ("scan.nii.gz", "kernel.npz", "stack.h5", "config.toml"):
        (tmp_path / "files" / name).touch()
    return tmp_path / "files"


def surroundings(folder: Path) -> dict[str, str]:
    """Variables of a user who has set nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CONV3DT_", "_CONV3DT_", "XDG_"))}
    home = str(folder.parent / "home")
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "HOME": home, "TERM": "dumb", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def typed(shell: str, folder: Path, lines: list[str]) -> list[list[str]]:
    """Type lines into a shell on a terminal, with Tabs in them, and return the words that they have become."""
    words, first = SHELLS[shell]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *words],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=surroundings(folder),
    )  # fmt: skip
    os.close(theirs)
    try:
        enter(ours, f"{first}; {SOURCES[shell]}; printf '<%s>' conv3dt ready\r")
        assert answer(ours) == ["ready"]
        found = []
        for line in lines:
            enter(ours, f"{line}\x01printf '<%s>' \x05\r")  # to the start of the line, to its end
            found.append(answer(ours))
        return found
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def enter(terminal: int, keys: str) -> None:
    os.write(terminal, keys.encode())


def answer(terminal: int) -> list[str]:
    """Wait for what printf prints: the words behind ``<conv3dt>``."""
    seen, end = b"", time.monotonic() + LIMIT_S
    while not (found := re.search(rb"<conv3dt>((?:<[^<>\r\n]*>)+)", seen)):
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], seen
        seen += os.read(terminal, 65536)
    return [word.rstrip("/") for word in re.findall("<([^>]*)>", found[1].decode())]  # zsh takes a last / away


LINES = {
    "conv3dt ups\t": ["upsample"],
    "conv3dt kernel conv\t": ["kernel", "convert"],
    "conv3dt upsample --kernel-s\t": ["upsample", "--kernel-size"],
    "conv3dt upsample --print\t": ["upsample", "--print-config"],
    "conv3dt upsample --kernel li\t": ["upsample", "--kernel", "linear"],
    "conv3dt upsample --kernel=li\t": ["upsample", "--kernel=linear"],
    "conv3dt upsample --padding sa\t": ["upsample", "--padding", "same"],
    "conv3dt upsample sc\t": ["upsample", "scan.nii.gz"],
    "conv3dt upsample scan.nii.gz der\t": ["upsample", "scan.nii.gz", "derived"],
    "conv3dt upsample stack.h5:/raw der\t": ["upsample", "stack.h5:/raw", "derived"],
    "conv3dt upsample --scale=2 stack.h5:/raw der\t": ["upsample", "--scale=2", "stack.h5:/raw", "derived"],
    "conv3dt upsample --weights ker\t": ["upsample", "--weights", "kernel.npz"],
    "conv3dt --config conf\t": ["--config", "config.toml"],
    "conv3dt shape --config conf\t": ["shape", "--config", "config.toml"],
    "conv3dt info scan.nii.gz sta\t": ["info", "scan.nii.gz", "stack.h5"],
}
"""What is typed, with a Tab, and the words that stand there then."""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_tab_in_the_shell(shell: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        assert shell != "bash"
        pytest.skip(f"{shell} is not installed")
    found = typed(shell, folder, list(LINES))
    assert dict(zip(LINES, found, strict=True)) == LINES


# What is offered.

OFFER = """
eval "$(_CONV3DT_COMPLETE=bash_source conv3dt)"
compopt() { printf 'files\n'; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_conv3dt_completion conv3dt
printf '%s\n' "${COMPREPLY[@]}"
"""


def offered(folder: Path, *words: str, **variables: str) -> list[str]:
    """Return what bash is offered for the last of the words."""
    done = subprocess.run(
        ["bash", "--norc", "-c", OFFER, "bash", *words],
        cwd=folder, env=surroundings(folder) | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_all_commands_are_offered(folder: Path) -> None:
    done = subprocess.run([BIN / "conv3dt", "--help"], capture_output=True, text=True, check=True)
    names = re.findall(r"^  (\w+)  ", done.stdout.split("Commands:")[1], re.MULTILINE)
    assert {"upsample", "shape", "info", "kernel"} <= set(names)
    assert offered(folder, "conv3dt", "") == names


def test_all_options_are_offered(folder: Path) -> None:
    done = subprocess.run([BIN / "conv3dt", "upsample", "--help"], capture_output=True, text=True, check=True)
    names = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)(?: / (--[\w-]+))?", done.stdout, re.MULTILINE))
    flat = {name for pair in names for name in pair if name}
    assert {"--scale", "--no-bias", "--config", "--print-config", "--help"} <= flat
    assert set(offered(folder, "conv3dt", "upsample", "--")) == flat


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["upsample", "--kernel", ""], ["nearest", "linear", "cubic", "lanczos3", "gaussian"]),
        (["upsample", "--kernel", "="], ["nearest", "linear", "cubic", "lanczos3", "gaussian"]),
        (["upsample", "--device", ""], ["auto", "cpu", "cuda", "cuda:all", "mps"]),
        (["upsample", "--scale", ""], []),
        (["upsample", ""], ["files"]),
        (["upsample", "a.nii", "b.nii", ""], []),
        (["upsample", "a.h5", ":", "/raw", "b.h5", ":", "/up", ""], []),
        (["kernel", "--config", "c.toml", ""], ["convert", "inspect", "make"]),
        (["upsample", "--nonsense", ""], ["files"]),
    ],
    ids=" ".join,
)
def test_what_is_offered(folder: Path, words: list[str], expected: list[str]) -> None:
    assert offered(folder, "conv3dt", *words) == expected


def test_settings_do_not_disturb(folder: Path) -> None:
    variables = {"CONFIG": "nowhere.toml", "THREADS": "many", "THREDAS": "1", "KERNEL": "cubic"}
    wrong = {f"CONV3DT_{name}": text for name, text in variables.items()}
    assert offered(folder, "conv3dt", "upsample", "--kernel", "li", **wrong) == ["linear"]


@pytest.mark.parametrize("words", ["conv3dt \n", "conv3dt\nupsample\n--kernel", "conv3dt\nkernel\nmake"])
def test_nothing_heavy_is_imported(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    for name, text in {"_CONV3DT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "1"}.items():
        monkeypatch.setenv(name, text)
    assert not imported_by() & {"numpy", "torch", "nibabel", "h5py", "llvmlite", "rich"}
