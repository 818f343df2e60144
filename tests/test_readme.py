"""Does the README tell the truth?  Its commands are run, and CI runs the one it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import conv3dt
from conv3dt.weights import Weights
from tests.conftest import ROOT, Run, save_nifti, whole_numbers

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(after: str, language: str) -> str:
    """The first fenced block of a language behind a text."""
    found = re.search(rf"{re.escape(after)}.*?```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"no {language} block behind {after!r}"
    return found[1]


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the README's examples speak of, in the current folder."""
    for name in ("scan", "labels", "huge"):
        save_nifti(tmp_path / f"{name}.nii.gz", whole_numbers(6, 5, 4, dtype=np.uint8), np.diag([2.0, 2.0, 3.0, 1.0]))
    save_nifti(tmp_path / "features.nii.gz", whole_numbers(4, 4, 4, 3), np.eye(4))
    np.savez(tmp_path / "kernel.npz", kernel=np.ones((2, 2, 2, 1, 1)), bias=np.zeros(1))
    with h5py.File(tmp_path / "stack.h5", "w") as file:
        file["raw"] = whole_numbers(4, 5, 6)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["up/kernel"] = np.ones((3, 3, 3, 2, 3))
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["x"] = whole_numbers(4, 5, 6, 3)
    save_nifti(tmp_path / "logits.nii.gz", whole_numbers(4, 4, 4, 3), np.eye(4))
    config = {"name": "up", "strides": 2, "padding": "same", "activation": "relu", "use_bias": False}
    (tmp_path / "config.json").write_text(json.dumps({"filters": 1, "kernel_size": 2, **config}), encoding="utf-8")
    kernel = np.ones((3, 3, 3, 2, 3), np.float32)
    layout = "(k1, k2, k3, filters, channels)"
    conv3dt.write_weights(Weights(kernel, None, "", "", layout, config), str(tmp_path / "net.keras"))
    np.savez(tmp_path / "up.npz", kernel=np.ones((2, 2, 2, 1, 1)))
    torch.save({"decoder.up.weight": torch.ones(1, 1, 4, 4, 4)}, tmp_path / "net.pt")
    for name in ("template", "reference"):
        conv3dt.upsample_file(tmp_path / "scan.nii.gz", tmp_path / f"{name}.nii.gz")
    for path in ("scans/a.nii.gz", "more/deep/b_T1w.nii.gz", "dataset/sub-01/anat/sub-01_T1w.nii.gz"):
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copy(tmp_path / "scan.nii.gz", tmp_path / path)
    (tmp_path / "dataset" / "dataset_description.json").write_text('{"Name": "heads", "BIDSVersion": "1.10.0"}')
    (tmp_path / "scans.txt").write_text("\n".join(f"scan.nii.gz\tscan{n}.nii.gz" for n in range(20)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (extract,) = re.findall(r"^command=\$\((.*)\)$", script, re.MULTILINE)
    found = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found == block("<!-- test command -->", "sh")
    assert 'bash -euc "$command"' in script


@pytest.mark.parametrize("marker", ["<!-- sample command -->", "<!-- test command -->"])
def test_set_up_is_one_command_with_the_pinned_versions(marker: str) -> None:
    (line,) = block(marker, "sh").splitlines()
    assert "-m venv .venv" in line
    assert "-c tests/constraints.txt" in line
    assert "torch==2.13.0" in (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8")
    for file in re.findall(r"(?:sample_data|tests)/\S+", line):
        assert (ROOT / file).exists()


@pytest.mark.parametrize("section", ["## Use", "## Unattended", "## Kernels and layers"])
def test_every_example_runs(scans: Path, section: str) -> None:
    """In a real shell, with what a user would have on the path; outputs of one example are in the way of another."""
    around = {"CONV3DT_OVERWRITE": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shell = ["bash", "-eo", "pipefail", "-c"]
    lines = block(section, "sh").splitlines()
    assert lines
    for line in lines:
        assert "conv3dt " in line
        done = subprocess.run([*shell, line], env=os.environ | around, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def test_the_settings_hold(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(block("## Settings", "toml"), encoding="utf-8")
    for command, key in {"upsample": "upsample.kernel", "shape": "scale", "kernel make": "kernel.make.dtype"}.items():
        done = run(*command.split(), "--config", tmp_path / "c.toml", "--print-config")
        assert done.code == 0
        assert f": {key}\n" in done.out
    from tests.test_completion import SOURCES

    assert all(line in README for line in SOURCES.values())


def test_the_python_example_runs(scans: Path) -> None:
    names = {"volume": whole_numbers(4, 4, 4), "kernel": np.ones((2, 2, 2, 1, 1))}
    example = block("From Python:", "python").replace(', max_memory="500MB"', "")  # pytest itself holds more
    exec(example, names)
    assert names["fine"].shape == (8, 8, 8)


def test_the_layers_example_trains_and_upsamples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = torch.rand(1, 4, 4, 4, 2)
    names: dict[str, Any] = {
        "conv3dt": conv3dt, "x": x, "y": torch.zeros(1, 8, 8, 8, 8), "criterion": torch.nn.MSELoss(),
        "volume": x[0].numpy(),
    }  # fmt: skip
    exec(block("## Kernels and layers", "python"), names)
    names["loss"].backward()
    assert names["layer"].kernel.grad is not None
    assert names["fine"].shape == (8, 8, 8, 8)


def test_every_command_is_named(run: Run) -> None:
    commands = re.findall(r"^  (\w+)  ", run("--help").out.split("Commands:")[1], re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        assert f"conv3dt {command}" in README


def test_exit_codes_are_those_of_the_errors() -> None:
    from conv3dt import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Conv3dtError)]
    assert len(kinds) > 5
    stated = README.split("**Exit codes**:")[1].split("\n\n")[0]
    for kind in kinds:
        assert re.search(rf"\b{kind.exit_code} ", stated), kind


def test_nothing_of_this_machine_is_told() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if name.endswith((".py", ".md", ".toml", ".txt")):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not re.search(r"/(?:root|home|work|tmp)/\w", text), name
