"""Is PReLU, the one activation with weights, computed over volumes of any size like any other?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import conv3dt
from conv3dt.errors import ArgumentError, DataError
from conv3dt.request import LayerRequest
from conv3dt.weights import Weights, read_weights, write_weights
from tests.conftest import only
from tests.oracle import Law, transposed

VOLUME = np.random.default_rng(0).normal(size=(4, 5, 6, 2)).astype(np.float32)
SLOPES = np.array([0.5, -1.0, 0.0], np.float32)
KERAS = Path(__file__).parent / "data" / "weights"


def layer(shared: Any = (1, 2, 3), **arguments: Any) -> conv3dt.Conv3DTranspose:
    made = conv3dt.Conv3DTranspose(
        3, 3, strides=2, padding="same", activation=conv3dt.activations.PReLU(shared_axes=shared), **arguments
    )
    made(torch.zeros(1, 4, 5, 6, 2))
    made.set_weights([np.asarray(array) for array in _values(made)])
    return made


def _values(made: conv3dt.Conv3DTranspose) -> list[Any]:
    draw = np.random.default_rng(1)
    *others, alpha = made.get_weights()
    slopes = np.broadcast_to(SLOPES, alpha.shape) if alpha.shape[-1] == 3 else np.full(alpha.shape, 0.25)
    return [*(draw.normal(size=array.shape).astype(np.float32) for array in others), slopes.astype(np.float32)]


@pytest.mark.parametrize("way", ["direct", "phased", "transposed"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_the_engine_computes_what_the_layer_does(way: str, use_bias: bool) -> None:
    made = layer(use_bias=use_bias)
    with only(way):
        out = conv3dt.upsample(VOLUME, layer=made, threads=1)
    with torch.no_grad():
        np.testing.assert_allclose(out, made(torch.from_numpy(VOLUME)[None])[0].numpy(), rtol=1e-4, atol=1e-5)
    kernel, *bias = made.get_weights()[: 1 + use_bias]
    sums = transposed(VOLUME, kernel, (Law(3, 2, padding="same"),) * 3, bias=bias[0] if bias else None)
    np.testing.assert_allclose(out, np.where(sums < 0, sums * SLOPES, sums), rtol=1e-4, atol=1e-5)


def test_one_slope_for_all_is_one_for_each() -> None:
    made = layer((1, 2, 3, 4))
    with torch.no_grad():
        wanted = made(torch.from_numpy(VOLUME)[None])[0].numpy()
    np.testing.assert_allclose(conv3dt.upsample(VOLUME, layer=made), wanted, rtol=1e-4, atol=1e-5)


def test_slopes_that_differ_from_voxel_to_voxel_are_refused() -> None:
    with pytest.raises(DataError, match=r"alpha of shape .* differs from voxel to voxel .* shared_axes"):
        conv3dt.upsample(VOLUME, layer=layer(None))


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])
def test_slopes_come_back_out_of_our_files(tmp_path: Path, name: str) -> None:
    made = layer()
    assert write_weights(made, f"{tmp_path}/{name}") == []
    found = read_weights(f"{tmp_path}/{name}")
    assert found.alpha is not None
    assert found.alpha.tolist() == SLOPES.tolist()
    out = conv3dt.upsample(VOLUME, weights=f"{tmp_path}/{name}", data_format="channels_last")
    assert np.array_equal(out, conv3dt.upsample(VOLUME, layer=made))


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a.npy", "a.pt"])
def test_slopes_that_are_lost_are_told_of(tmp_path: Path, name: str) -> None:
    assert any("PReLU's alpha" in line for line in write_weights(layer(), f"{tmp_path}/{name}"))


def test_slopes_come_out_of_a_model_of_keras_29() -> None:
    """tf29_prelu.h5: its alphas are 0.5, -0.25 and 2."""
    found = read_weights(f"{KERAS}/tf29_prelu.h5")
    assert found.alpha is not None
    assert found.alpha.tolist() == [0.5, -0.25, 2.0]
    assert LayerRequest(weights=f"{KERAS}/tf29_prelu.h5").concrete().config.activation == "prelu"


def test_prelu_without_its_slopes_is_refused() -> None:
    config = layer().get_config()
    kernel, bias, _ = layer().get_weights()
    with pytest.raises(DataError, match="PReLU has weights of its own, alpha, which are not there; say --activation"):
        conv3dt.upsample(VOLUME, layer=config, weights=kernel, bias=bias)
    with pytest.raises(ArgumentError, match="PReLU has weights of its own, which are not drawn"):
        conv3dt.upsample(VOLUME, layer=config, seed=1)
    out = conv3dt.upsample(VOLUME, layer=config, weights=kernel, bias=bias, activation="relu")
    assert out.min() == 0


def test_weights_say_what_alpha_is() -> None:
    assert Weights(np.ones((1, 1, 1, 1, 1)), None, "", "", "").alpha is None
