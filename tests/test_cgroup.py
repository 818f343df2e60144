"""Is the memory that control groups leave found, wherever in them a process stands?  On folders as Linux shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv3dt import cgroup, resources
from conv3dt.cgroup import memory_left

MIB = 2**20
UNLIMITED = 9223372036854771712


def group(folder: Path, version: int, limit: object, used: int, files: int = 0) -> None:
    """A group of that version, with its limit, and with ``files`` bytes of what it uses being copies of files."""
    maximum, current, (inactive, active) = cgroup.FILES[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / maximum).write_text(f"{limit}\n")
    (folder / current).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{inactive} {files - files // 3}\n{active} {files // 3}\nshmem 7\n")


def process(tmp_path: Path, own: str, mounts: str) -> Path:
    """A folder of a process in ``/proc``; in ``mounts`` MNT is the folder with the groups."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "cgroup").write_text(own)
    (folder / "mountinfo").write_text(mounts.replace("MNT", str(tmp_path / "sys fs").replace(" ", "\\040")))
    return folder


V2 = "30 24 0:26 / MNT rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_the_tightest_group_on_the_way_up_counts(tmp_path: Path) -> None:
    root = tmp_path / "sys fs"
    group(root / "user.slice", 2, 800 * MIB, 700 * MIB)
    group(root / "user.slice/run.scope", 2, 500 * MIB, 100 * MIB)
    group(root / "user.slice/run.scope/deep", 2, "max", 100 * MIB)
    group(root / "user.slice/other", 2, 10 * MIB, 9 * MIB)
    folder = process(tmp_path, "0::/user.slice/run.scope/deep\n", V2)
    assert memory_left(folder) == 100 * MIB
    group(root / "user.slice", 2, 8000 * MIB, 700 * MIB)
    assert memory_left(folder) == 400 * MIB


def test_copies_of_files_are_no_obstacle(tmp_path: Path) -> None:
    group(tmp_path / "sys fs/job", 2, 500 * MIB, 499 * MIB, files=300 * MIB)
    assert memory_left(process(tmp_path, "0::/job\n", V2)) == 301 * MIB


def test_no_limit_is_none(tmp_path: Path) -> None:
    group(tmp_path / "sys fs/job", 2, "max", 499 * MIB)
    assert memory_left(process(tmp_path, "0::/job\n", V2)) is None


def test_a_group_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    group(tmp_path / "sys fs/job", 2, 500 * MIB, 510 * MIB)
    assert memory_left(process(tmp_path, "0::/job\n", V2)) == 0


@pytest.mark.parametrize(
    "own", ["0::/\n", "0::/../..\n", "0::/kubepods/pod7/1f\n"], ids=["own root", "above", "host's"]
)
def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path, own: str) -> None:
    group(tmp_path / "sys fs", 2, 300 * MIB, 100 * MIB)
    assert memory_left(process(tmp_path, own, V2)) == 200 * MIB


def test_version_1_with_one_mount_for_each_controller(tmp_path: Path) -> None:
    root = tmp_path / "sys fs"
    group(root / "memory", 1, UNLIMITED, 9000 * MIB)
    group(root / "memory/batch", 1, 900 * MIB, 300 * MIB, files=200 * MIB)
    group(root / "memory/batch/job 7", 1, UNLIMITED, 100 * MIB)
    group(root / "cpu/batch", 1, 1, 0)
    own = "9:name=systemd:/\n5:cpu,cpuacct:/batch\n4:memory:/batch/job 7\n0::/\n"
    mounts = (
        "32 31 0:29 / MNT/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / MNT/memory rw,relatime - cgroup cgroup rw,memory\n"
        "41 31 0:38 / MNT/unified rw,relatime - cgroup2 cgroup2 rw\n"
    )
    assert memory_left(process(tmp_path, own, mounts)) == 800 * MIB


def test_a_mount_may_show_the_groups_from_one_on(tmp_path: Path) -> None:
    """As in containers of version 1: the process is told its place among all groups, the mount begins at its own."""
    root = tmp_path / "sys fs"
    group(root, 1, 700 * MIB, 100 * MIB)
    group(root / "inner", 1, 400 * MIB, 100 * MIB)
    mount = "35 31 0:32 /docker/1f MNT ro - cgroup cgroup rw,memory\n"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "sys fs").symlink_to(root)
    (tmp_path / "b" / "sys fs").symlink_to(root)
    assert memory_left(process(tmp_path / "a", "4:memory:/docker/1f\n", mount)) == 600 * MIB
    assert memory_left(process(tmp_path / "b", "4:memory:/docker/1f/inner\n", mount)) == 300 * MIB


@pytest.mark.parametrize("text", ["", "nonsense\n", "0:\n", "35 31 - cgroup2\n"])
def test_what_cannot_be_understood_is_no_limit(tmp_path: Path, text: str) -> None:
    assert memory_left(process(tmp_path, text, text)) is None
    assert memory_left(tmp_path / "nowhere") is None


def test_the_tighter_of_machine_and_group_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_left", lambda: None)
    whole = resources.available()
    monkeypatch.setattr(cgroup, "memory_left", lambda: 5 * MIB)
    assert resources.available() == 5 * MIB
    monkeypatch.setattr(cgroup, "memory_left", lambda: 2**60)
    assert resources.available() == pytest.approx(whole, rel=0.5)
