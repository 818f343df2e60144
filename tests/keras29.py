"""What did the real Keras 2.9 answer?  The recorded values, and the whole numbers on which they were recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECORDED: Any = json.loads((Path(__file__).parent / "data" / "keras29.json").read_text(encoding="utf-8"))


def whole(shape: tuple[int, ...], start: int = 0) -> NDArray[np.float32]:
    """Small whole numbers; ``data/make_keras29.py`` has the same."""
    values: NDArray[np.float32] = ((np.arange(start, start + math.prod(shape)) * 7) % 11 - 5).astype(np.float32)
    return values.reshape(shape)


def plain(value: Any) -> Any:
    """Return a configuration as JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(value))
