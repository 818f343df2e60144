"""How much memory do control groups leave this process?  Its own group and each above it, of version 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

FILES = {
    2: ("memory.max", "memory.current", ("inactive_file", "active_file")),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
}
"""By version: the limit, what is used of it, and what of that is only a copy of files, given up when room is needed."""


def memory_left(process: Path = Path("/proc/self")) -> int | None:
    """Return the bytes that the process may still take before a limit of a control group is met; None without one.

    Args:
        process: its folder in ``/proc``: ``cgroup`` names its groups, ``mountinfo`` where they are to be found.
    """
    with suppress(OSError, ValueError, IndexError):
        return min((left for version, group in _groups(process) for left in _left(version, group)), default=None)
    return None


def _groups(process: Path) -> Iterator[tuple[int, Path]]:
    """The folder of each group that the process is in, with its version."""
    own = _own(process / "cgroup")
    for line in (process / "mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, behind = line.partition(" - ")
        kind, _, options = behind.split(" ")[:3]
        version = 2 if kind == "cgroup2" else 1 if kind == "cgroup" and "memory" in options.split(",") else 0
        if version in own:
            root, mount = (_plain(field) for field in fields.split(" ")[3:5])
            for group in _upwards(own[version], root):
                yield version, Path(mount) / group


def _own(path: Path) -> dict[int, str]:
    """The process's group in each version, from lines such as ``0::/user.slice`` and ``4:memory:/docker/1f``."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        number, controllers, group = line.split(":", 2)
        if (number, controllers) == ("0", ""):
            found[2] = group
        elif "memory" in controllers.split(","):
            found[1] = group
    return found


def _upwards(group: str, root: str) -> Iterator[PurePosixPath]:
    """A group and those above it, as paths below a mount that shows the groups from ``root`` on."""
    path = PurePosixPath(group)
    # A container may see its own group as the root, or be told of groups outside that it cannot see.
    inside = path.relative_to(root) if path.is_relative_to(root) and ".." not in path.parts else PurePosixPath()
    yield inside
    yield from inside.parents


def _left(version: int, group: Path) -> Iterator[int]:
    """What one group leaves; nothing where it sets no limit."""
    limit, used, given_up = FILES[version]
    with suppress(OSError, ValueError):  # "max", or no limit can be set on this group
        room = int((group / limit).read_text()) - int((group / used).read_text())
        lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        files = sum(int(line[1]) for line in lines if line[0] in given_up)
        yield max(room + files, 0)


def _plain(field: str) -> str:
    r"""A path as the system writes it, with ``\040`` for a blank."""
    return field.encode("ascii", "backslashreplace").decode("unicode_escape")
