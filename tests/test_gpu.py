"""Does a GPU say what the CPU says?  Runs where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import conv3dt

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "strides"), [(1, 1, 4, 2), (1, 1, 3, 2), (8, 4, 3, (2, 1, 3))]
)
@pytest.mark.parametrize("boundary", ["zero", "edge"])
def test_cuda_is_the_cpu_to_rounding(channels: int, filters: int, kernel: int, strides: object, boundary: str) -> None:
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(20, 17, 12, channels)).astype(np.float32)
    taps = rng.normal(size=(kernel, kernel, kernel, filters, channels)).astype(np.float32)
    arguments: dict[str, Any] = {"weights": taps, "strides": strides, "padding": "same", "boundary": boundary}
    on_cpu, on_gpu, again = (
        conv3dt.upsample(volume, device=device, data_format="channels_last", **arguments)
        for device in ("cpu", "cuda", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-5, atol=1e-5 * np.abs(on_cpu).max())
    np.testing.assert_array_equal(on_gpu, again)
