"""Do the loops stay within their arrays, and are they the same on processors with less?

Machine code has no fences of its own: arrays are laid against pages that may not be touched, in a process that may die.
"""

from __future__ import annotations

import gc
import math
import os
import platform
import subprocess
import sys
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import conv3dt
from conv3dt.engine import machine, passes
from conv3dt.engine.ir import Sheet, Type, module
from conv3dt.engine.machine import Processor
from tests.conftest import whole_numbers
from tests.oracle import Law, transposed

FENCED = """
import ctypes, mmap, sys
import numpy as np
from conv3dt.engine.direct import DirectEngine
from conv3dt.engine.finish import Storage
from conv3dt.layer.concrete import Layer
from conv3dt.layer.config import layer_config

libc, page, kept = ctypes.CDLL(None), mmap.PAGESIZE, []

def fenced(shape, dtype, at_the_end):
    '''An array that begins where touchable memory begins, or ends where it ends.'''
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    inner = -(-size // page) * page
    whole = mmap.mmap(-1, inner + 2 * page)
    kept.append(whole)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    for fence in (begin, begin + page + inner):
        assert libc.mprotect(ctypes.c_void_p(fence), page, 0) == 0
    offset = page + (inner - size if at_the_end else 0)
    return np.frombuffer(whole, dtype, int(np.prod(shape)), offset).reshape(shape)

def run(kernel, strides, shape, channels, filters, storage, at_the_end, extra=None):
    config = layer_config(
        filters=filters, kernel_size=kernel, strides=strides, padding="same", output_padding=extra
    )
    taps = np.ones((*config.kernel_size, filters, channels), np.float32)
    engine = DirectEngine(Layer(config, taps, None, "zero", "ones"), Storage(np.dtype(storage)), threads=1)
    ranges = [axis.sources(0, axis.length(n)) for axis, n in zip(config.axes, shape)]
    source = fenced((channels, *[b - a for a, b in ranges]), engine.compute_dtype, at_the_end)
    source[...] = 1
    out = fenced((filters, *[axis.length(n) for axis, n in zip(config.axes, shape)]), storage, at_the_end)
    if sys.argv[1] == "beyond":
        source = np.lib.stride_tricks.as_strided(source, (channels, *[b - a for a, b in ranges[:2]], page))
        out = np.lib.stride_tricks.as_strided(out, (*out.shape[:3], 2 * page))
    engine.compute(source, out)
    assert out.min() > 0
    engine.close()

for at_the_end in (False, True):
    for width in (*range(1, 36), 63, 64, 65, 100, 129):
        run((1, 2, 4), (1, 1, 2), (1, 2, width), 1, 1, "float32", at_the_end)
    for width in (1, 2, 5, 8, 17, 33, 70):
        run((2, 1, 3), (2, 1, 2), (2, 1, width), 2, 3, "float64", at_the_end)
        run((1, 1, 3), (1, 1, 3), (1, 1, width), 1, 1, "uint8", at_the_end)
        run((1, 1, 7), (1, 1, 1), (1, 1, width), 1, 1, "int16", at_the_end)
        run((8, 7, 8), (2, 1, 2), (2, 3, width), 1, 1, "float32", at_the_end)  # three passes
        run((9, 9, 9), (3, 3, 3), (2, 6, width), 1, 1, "float32", at_the_end, (0, 0, 0))
        run((7, 9, 9), (2, 4, 1), (2, 130, width), 1, 1, "float32", at_the_end, (1, 3, 0))
        run((1, 1, 9), (1, 1, 9), (1, 1, width), 1, 1, "float32", at_the_end)
        run((1, 1, 30), (1, 1, 2), (1, 1, width), 1, 1, "float16", at_the_end)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="fences are set by mprotect")
@pytest.mark.parametrize("how", ["within", "beyond"])
def test_no_load_or_store_leaves_its_array(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", FENCED, how], capture_output=True, text=True, check=False)
    if how == "within":
        assert done.returncode == 0, done.stderr
    else:  # the fence holds
        assert done.returncode < 0


LESS = {
    "x86-64 of 2003": Processor("x86-64", "", 16, 16, False, False),
    "x86-64 with AVX2": Processor("haswell", "+avx2,+fma,+f16c", 32, 16, True, True),
    "vectors of four": Processor("", "", 16, 32, True, True),
}


@pytest.mark.parametrize("processor", LESS.values(), ids=LESS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int16", "uint32"])
def test_processors_with_less_compute_the_same(
    monkeypatch: pytest.MonkeyPatch, processor: Processor, dtype: str
) -> None:
    if platform.machine() not in ("x86_64", "AMD64") or machine.processor().vector_bytes < 32:
        pytest.skip("needs a processor that can do what these can")
    if not processor.name:
        host = machine.processor()
        processor = replace(processor, name=host.name, features=host.features)
    monkeypatch.setattr(machine, "processor", lambda: processor)
    passes._compiled.cache_clear()
    x, kernel = whole_numbers(3, 2, 37, 2) % 12, whole_numbers(2, 3, 4, 3, 2) % 3
    out = conv3dt.upsample(
        x.astype(dtype), weights=kernel, strides=(1, 1, 2), data_format="channels_last", dtype="same", activation="relu"
    )
    passes._compiled.cache_clear()
    expected = transposed(x, kernel, (Law(2), Law(3), Law(4, 2)))
    if dtype == "uint8":
        expected = expected.clip(0, 255)
    np.testing.assert_array_equal(out, expected.astype(dtype))


def compiled(write: Any, kind: Type, values: NDArray[Any]) -> NDArray[Any]:
    """Run one vector through an expression."""
    sheet = Sheet()
    result = write(sheet.let(kind, f"load {kind}, ptr %source, align 4"))
    sheet.do(f"store {result.type} {result.name}, ptr %out, align 4")
    sheet.do("ret i64 0")
    text = module({"i64 @one(ptr %source, ptr %out)": sheet}, kind.bits)
    out = np.empty_like(values)
    machine.compiled(text, "one", 2)(values.ctypes.data, out.ctypes.data)
    return out


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_values_are_written_as_python_writes_them(scalar: str) -> None:
    values: NDArray[Any] = np.array([-2.5, -0.0, 0.1, 3.0], np.float32 if scalar == "float" else np.float64)
    found = compiled(lambda x: (2.0 - x) / (0.1 * x + 7.0) - (-x) * 3.0, Type(scalar, 4), values)
    np.testing.assert_allclose(found, (2 - values) / (values / 10 + 7) + values * 3, rtol=1e-6)


@pytest.mark.parametrize("name", machine.MATHS)
@pytest.mark.parametrize("scalar", ["float", "double"])
def test_the_mathematical_library_is_found(scalar: str, name: str) -> None:
    values = np.array([0.1, 0.5, 0.9, 2.0], np.float32 if scalar == "float" else np.float64)
    function = name + ("f" if scalar == "float" else "")
    found = compiled(lambda x: x.sheet.lanewise(function, x), Type(scalar, 4), values)
    np.testing.assert_allclose(found, [getattr(math, name)(value) for value in values.tolist()], rtol=1e-6)


def test_code_goes_with_the_last_who_can_call_it() -> None:
    sheet = Sheet()
    sheet.do("ret i64 7")
    function: Any = machine.compiled(module({"i64 @seven()": sheet}, 64), "seven", 0)
    engine = weakref.ref(function.engine)
    assert function() == 7
    del function
    gc.collect()
    assert engine() is None


FORKING = """
import os, sys, threading, time
import numpy as np
import conv3dt

def compile_on():
    for n in range(10**6):
        conv3dt.upsample(np.ones((2, 2, 2)), activation=f"leaky_relu(alpha={0.1 + n / 1e6})", threads=1)

threading.Thread(target=compile_on, daemon=True).start()
time.sleep(0.5)
for n in range(4):
    child = os.fork()
    if child == 0:
        out = conv3dt.upsample(np.ones((2, 2, 2)), activation=f"elu(alpha={1 + n / 7})", threads=1)
        os._exit(0 if out.sum() == 64 else 1)
    assert os.waitpid(child, 0)[1] == 0
print("done")
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_made_while_code_is_made_can_make_its_own() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["done"], done.stderr
