"""How is machine code kept between runs?  As the object file that numba made, which LLVM loads by itself.

Importing numba takes 0.3 s, half of a short run; loading an object takes 5 ms.  An object is kept under a name that
tells everything it was made from, the processor too, and with a checksum: a damaged one is as good as none.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

FOLDER = "CONV3DT_CACHE_DIR"
MAGIC = b"conv3dt object 1\n"

# What numba's code names but ours never reaches: it raises nothing and allocates nothing.
UNREACHED = (
    "NRT_Allocate", "NRT_Free", "NRT_MemInfo_alloc_safe_aligned", "NRT_MemInfo_call_dtor", "numba_do_raise",
    "numba_gil_ensure", "numba_gil_release", "numba_runtime_build_excinfo_struct", "numba_unpickle",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes, in order: arrays as ``(dtype, axes)``, numbers as a dtype alone."""

    arguments: tuple[tuple[str, int] | str, ...]

    def ctypes(self) -> list[Any]:
        """The types of the native function: where its result and its error go, then pointers, extents and numbers."""
        found: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]
        for argument in self.arguments:
            if isinstance(argument, tuple):
                found += [ctypes.c_void_p, *[ctypes.c_ssize_t] * argument[1]]
            else:
                found.append(np.ctypeslib.as_ctypes_type(np.dtype(argument)))
        return found


def identity() -> str:
    """What machine code depends on beside its text: the processor, and who compiles."""
    features = llvm.get_host_cpu_features().flatten()
    return f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features} {llvmlite.__version__}"


def can_stand_alone(names: Sequence[str]) -> bool:
    """Whether all that an object names will be there without numba: LLVM ends the program over a name that is not.

    Asked of the system, not of LLVM, which knows numba's own functions while numba is at work.
    """
    return all(name in UNREACHED or name.startswith("llvm.") or _is_of_the_system(name) for name in names)


def _is_of_the_system(name: str) -> bool:
    try:
        return hasattr(ctypes.CDLL(None), name)
    except (OSError, TypeError):  # Windows cannot ask a whole program
        return False


def kept(key: str, signature: Signature) -> Callable[..., int] | None:
    """Return the function that was kept under ``key``; None if there is none, or a damaged one."""
    for folder in _folders():
        with suppress(OSError):
            content = (folder / f"{key}.o").read_bytes()
            payload = content[len(MAGIC) + 32 :]
            if content[: len(MAGIC) + 32] == MAGIC + sha256(payload).digest():
                symbol, _, code = payload.partition(b"\0")
                return loaded(symbol.decode(), code, signature)
    return None


def keep(key: str, symbol: str, code: bytes) -> None:
    """Keep an object for later runs, in the first folder that takes it; no folder is no reason to fail."""
    payload = symbol.encode() + b"\0" + code
    for folder in _folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, work = tempfile.mkstemp(".part", "object-", folder)
            os.chmod(work, 0o644)  # as Python's own compiled files: whoever runs the program may read them
            with os.fdopen(descriptor, "wb") as file:
                file.write(MAGIC + sha256(payload).digest() + payload)
            os.replace(work, folder / f"{key}.o")
            return


def _folders() -> list[Path]:
    """Where objects are looked for: where the user says, else beside this file, else among the user's caches."""
    if os.environ.get(FOLDER):
        return [Path(os.environ[FOLDER])]
    found = [Path(__file__).parent / "__pycache__"]
    with suppress(RuntimeError):  # a user without a home, as containers have
        caches = os.environ.get("XDG_CACHE_HOME")
        found.append((Path(caches) if caches else Path.home() / ".cache") / "conv3dt")
    return found


def _engine() -> Any:
    """An engine of LLVM's without any code."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    nowhere = ctypes.cast(ctypes.pythonapi.Py_FatalError, ctypes.c_void_p).value
    for name in UNREACHED:
        if llvm.address_of_symbol(name) is None:  # else numba is at work in this program, and means it
            llvm.add_symbol(name, nowhere)
    return llvm.create_mcjit_compiler(
        llvm.parse_assembly(""), llvm.Target.from_default_triple().create_target_machine()
    )


_engines: list[Any] = []
"""Machine code lives as long as the engine that loaded it."""


def loaded(symbol: str, code: bytes, signature: Signature) -> Callable[..., int]:
    """Return a function of an object, ready to be called with NumPy arrays and numbers; it lets other threads run."""
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    native = ctypes.CFUNCTYPE(ctypes.c_int, *signature.ctypes())(engine.get_function_address(symbol))

    def call(*arguments: NDArray[Any] | float) -> int:
        result, error = ctypes.c_ssize_t(0), ctypes.c_void_p()
        status = native(ctypes.byref(result), ctypes.byref(error), *_flat(arguments))
        if status:
            raise RuntimeError(f"machine code ended with status {status}")
        return result.value

    return call


def _flat(arguments: Sequence[NDArray[Any] | float]) -> list[Any]:
    """Arrays as pointers and extents; they must be C-contiguous and of the signature's types."""
    found: list[Any] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            found += [argument.ctypes.data, *argument.shape]
        else:
            found.append(argument)
    return found
