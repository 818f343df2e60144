"""Which regions of which layers do tests compute, each by one way by itself?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conv3dt.engine import memory
from conv3dt.engine.direct import DirectEngine
from conv3dt.engine.finish import Storage
from conv3dt.engine.gpu.tensor import TensorEngine
from conv3dt.layer.concrete import Layer
from conv3dt.request import LayerRequest
from tests.conftest import HAS_GPU
from tests.test_engines import Setting, whole_numbers

DEVICE = "cuda:0" if HAS_GPU else "cpu"
FLOAT32, FLOAT64 = Storage(np.dtype(np.float32)), Storage(np.dtype(np.float64))


def layer_of(setting: Setting, seed: int = 0, *, whole: bool = False, bias: bool = True, **more: Any) -> Layer:
    """A layer of a setting with weights of its own."""
    size = (*setting.size, setting.filters, setting.channels)
    random = np.random.default_rng(seed)
    kernel = whole_numbers(seed, size) if whole else random.normal(size=size)
    offset = whole_numbers(seed + 1, (setting.filters,)) if whole else random.normal(size=setting.filters)
    return LayerRequest(
        weights=kernel.astype(np.float32), bias=offset.astype(np.float32) if bias else None, strides=setting.strides,
        dilation_rate=setting.dilation, padding=setting.padding, output_padding=setting.extra, **more,
    ).concrete(setting.channels)  # fmt: skip


def region(
    layer: Layer, storage: Storage, shape: tuple[int, ...], *, seed: int = 0, whole: bool = False
) -> NDArray[Any]:
    """The source of a region that begins at output 0, its rows on lines of their own."""
    ranges = [axis.sources(0, n) for axis, n in zip(layer.config.axes, shape, strict=True)]
    size = (layer.channels, *(high - low for low, high in ranges))
    flat = memory.aligned(size[0] * size[1] * size[2] * (size[3] + 32), np.dtype(storage.compute_dtype))
    found = memory.in_rows(flat, size)
    found[...] = whole_numbers(seed, size) if whole else np.random.default_rng(seed).normal(size=size) * 4
    return found


def computed(
    layer: Layer, storage: Storage, source: NDArray[Any], shape: tuple[int, ...], way: str = "fused"
) -> tuple[NDArray[Any], int]:
    """A region by one way, and how many values were lost."""
    filters = 1 if layer.argmax else len(source) if layer.per_channel else layer.filters
    out = np.full((filters, *shape), 77, storage.dtype)
    engine: Any = (
        DirectEngine(layer, storage, threads=1)
        if way == "direct"
        else TensorEngine(layer, storage, devices=[DEVICE], way=way)
    )
    lost = engine.compute(source, out)
    engine.close()
    return out, lost
