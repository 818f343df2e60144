"""How does a text in LLVM's language become a function?  And what does this processor have that the text can use?"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

Function = Callable[..., int]

MATHS = ("exp", "expm1", "log1p", "tanh", "erf")
"""What the loops call of C's mathematical library, in both precisions."""


@dataclass(frozen=True, slots=True)
class Processor:
    """What matters of a processor.

    Attributes:
        name: LLVM's for its kind; features: LLVM's list of what it has.
        vector_bytes: of a register that holds several numbers; registers: how many there are.
        fused: whether it multiplies and adds in one step; halves: whether it knows float16.
    """

    name: str
    features: str
    vector_bytes: int
    registers: int
    fused: bool
    halves: bool


@cache
def processor() -> Processor:
    """Return what this processor has."""
    has = llvm.get_host_cpu_features()
    host = (llvm.get_host_cpu_name(), has.flatten())
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        return Processor(*host, 16, 32, True, True)
    if all(has.get(f"avx512{part}") for part in ("f", "bw", "dq", "vl")):
        return Processor(*host, 64, 32, True, True)
    wide, fused, halves = (bool(has.get(name)) for name in ("avx2", "fma", "f16c"))
    return Processor(*host, 32 if wide else 16, 16, fused, halves)


_compiling = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child that is made while LLVM is at work would wait for it for ever
    os.register_at_fork(
        before=_compiling.acquire, after_in_parent=_compiling.release, after_in_child=_compiling.release
    )


def compiled(text: str, name: str, arguments: int) -> Function:
    """Compile a module and return one of its functions; it lets other threads run.

    Args:
        text: the module; name: of the function.
        arguments: how many it takes, all addresses or whole numbers of 64 bits; it returns such a number.
    """
    with _compiling:  # LLVM's own state is shared
        engine = _engine(text)
        address = engine.get_function_address(name)
    native = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)
    found: Any = native(address)
    found.engine = engine  # machine code lives as long as the engine that loaded it
    function: Function = found
    return function


def _engine(text: str) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    _know_maths()
    module = llvm.parse_assembly(text)
    module.triple = llvm.get_process_triple()
    module.verify()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=processor().name, features=processor().features, opt=3
    )
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    passes = llvm.create_new_module_pass_manager()
    for add in ("sroa", "simplify_cfg", "instruction_combine"):
        getattr(passes, f"add_{add}_pass")()
    passes.run(module, llvm.create_pass_builder(target, options))
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    return engine


def _know_maths() -> None:
    """Tell LLVM where C's mathematical library is, if the program does not have it in plain sight."""
    missing = [name for name in (*MATHS, *(f"{name}f" for name in MATHS)) if llvm.address_of_symbol(name) is None]
    if missing:
        library = ctypes.CDLL(ctypes.util.find_library("m") or "ucrtbase")
        for name in missing:
            llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
