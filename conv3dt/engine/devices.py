"""What is there to compute on?  Devices by torch's names, and what each is good for here."""

from __future__ import annotations

import os
import platform
import re
import warnings
from dataclasses import dataclass

from conv3dt.errors import ArgumentError

NAMES = "auto, cpu, cuda, cuda:N, cuda:all or mps"
HALF_SINCE, SHORT_SINCE = (7, 0), (8, 0)
"""CUDA's compute capabilities from which on tensor cores take fp16, and tf32 and bf16 too."""

SPARED = 0.8
"""Part of a device's free memory that regions may take unless somebody says more."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device.

    Attributes:
        name: for ``--device``; title: what its maker calls it.
        memory_bytes, free_bytes: of the device; of the machine, for the CPU.
        precisions: that many channels can be multiplied in; none if the device cannot be used.
        few, many: by which way layers of few and of many channels are computed.
        note: what is in the way, if something is.
    """

    name: str
    title: str
    memory_bytes: int
    free_bytes: int
    precisions: tuple[str, ...]
    few: str
    many: str
    note: str = ""


def check_device(device: object) -> str:
    """Return the torch name of a device option; ``gpu`` is another word for ``cuda``.

    Raises:
        ArgumentError: there can be no such device.

    >>> check_device("gpu:1"), check_device("CUDA:all")
    ('cuda:1', 'cuda:all')
    """
    name = device.lower().replace("gpu", "cuda") if isinstance(device, str) else ""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:(\d{1,4}|all))?", name):
        raise ArgumentError(f"device must be {NAMES}, got {device!r}")
    return name


def has_nvidia() -> bool:
    """Whether an NVIDIA driver is loaded; torch need not be, to say so."""
    return os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/dxg")


def cuda_count() -> int:
    """Return how many CUDA devices torch sees; what it says of a driver that is too old is told by `find`."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


def find(name: str) -> tuple[str, ...]:
    """Return the devices of a name, each with its number.

    Args:
        name: of `check_device`, but ``auto``.

    Raises:
        ArgumentError: it is not there; says what torch sees instead.
    """
    if name == "cpu":
        return ("cpu",)
    if name == "mps":
        if not _has_mps():
            raise ArgumentError("device mps is not there: torch sees no Apple GPU; use device cpu or auto")
        return ("mps",)
    count, wanted = cuda_count(), name.partition(":")[2]
    if wanted == "all" and count:
        return tuple(f"cuda:{n}" for n in range(count))
    if wanted == "all" or int(wanted or 0) >= count:
        raise ArgumentError(
            f"device {name} is not there: torch sees {count} CUDA devices{_why_none(count)}; use device cpu or auto"
        )
    return (f"cuda:{int(wanted or 0)}",)


def free_memory(name: str) -> int | None:
    """Return the free bytes of a device's own memory; None where it has none.

    Raises:
        ArgumentError: the device cannot be used: its memory is full, or it is another program's alone.
    """
    return _memory(name)[0] if name.startswith("cuda") else None


def _memory(name: str) -> tuple[int, int]:
    """Free and all bytes; the first question that a CUDA device must answer."""
    import torch

    try:
        free, total = torch.cuda.mem_get_info(name)
    except (RuntimeError, AssertionError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ArgumentError(f"device {name} cannot be used: {lines[0]}; use another device, or cpu") from error
    return int(free), int(total)


def facts() -> list[DeviceFacts]:
    """Return all that is there; the CPU comes first."""
    import psutil

    memory = psutil.virtual_memory()
    found = [DeviceFacts("cpu", _processor(), memory.total, memory.available, ("fp32",), "direct", "direct")]
    found += [_cuda(f"cuda:{n}") for n in range(cuda_count())]
    if _has_mps():
        precisions = ("fp32", "fp16", "bf16")
        found.append(DeviceFacts("mps", "Apple GPU", memory.total, memory.available, precisions, "phased", "phased"))
    return found


def _cuda(name: str) -> DeviceFacts:
    import torch

    from conv3dt.engine.gpu.ways import has_triton

    try:
        free, total = _memory(name)
    except ArgumentError as error:
        return DeviceFacts(name, "a CUDA device", 0, 0, (), "-", "-", str(error))
    capability = torch.cuda.get_device_capability(name)
    precisions = ["fp32"]
    if torch.version.hip or capability >= SHORT_SINCE:
        precisions += ["tf32", "bf16"]
    if torch.version.hip or capability >= HALF_SINCE:
        precisions.append("fp16")
    few, note = (
        ("fused", "") if has_triton() else ("phased", "with the package triton few channels have a kernel of their own")
    )
    title = str(torch.cuda.get_device_name(name))
    return DeviceFacts(name, title, total, free, tuple(precisions), few, "phased", note)


def _has_mps() -> bool:
    if platform.system() != "Darwin":
        return False
    import torch

    return bool(torch.backends.mps.is_available())


def _why_none(count: int) -> str:
    if count:
        return ""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return f" (torch {torch.__version__} was built without CUDA)"
    if not has_nvidia():
        return " (no NVIDIA driver is loaded)"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.is_available()
    return f" ({str(said[0].message).splitlines()[0]})" if said else ""


def _processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
