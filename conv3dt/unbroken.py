"""What may a stop not break off?  Calls of a C library that calls back into Python, and what belongs together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unbroken() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect behind the block rather than within it; keep it short.

    HDF5 calls Python to write.  An exception raised there by a signal handler meets C code that does not know it: other
    callbacks run while it is pending, and it is lost, or turned into another one.
    """
    if threading.current_thread() is not threading.main_thread():  # only there do handlers run
        yield
        return
    came: list[tuple[Any, Any]] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in heeded:
            signal.signal(number, lambda *call: came.append(call))
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        for number, frame in came[:1]:
            heeded[number](number, frame)
