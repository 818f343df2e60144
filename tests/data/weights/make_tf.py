"""Which files did real Keras 2 write?  Run under TensorFlow 2.9 and under 2.12, each in turn: ``python make_tf.py``.

Kernels and biases are `pattern` of their shape and of the number beside them, so that tests need no copy of them.
"""

# mypy: ignore-errors
from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

HERE = Path(__file__).resolve().parent
L = tf.keras.layers


def pattern(shape, seed):
    """Whole numbers from -50 to 50 in an order that no transposition keeps."""
    return ((np.arange(np.prod(shape)) * 37 + seed * 11) % 101 - 50).astype(np.float32).reshape(shape)


def fill(*layers):
    """Give each layer (layer, seed) the pattern of its seed; the bias has that of seed + 50."""
    for layer, seed in layers:
        layer.set_weights([pattern(w.shape, seed + 50 * n) for n, w in enumerate(layer.get_weights())])


def plain():
    """A forward convolution, then the only transposed one."""
    model = tf.keras.Sequential(
        [
            L.InputLayer((None, None, None, 1), name="scan"),
            L.Conv3D(2, 3, padding="same", name="down"),
            L.Conv3DTranspose(3, (2, 3, 4), strides=2, padding="same", activation="relu", name="up"),
        ],
        name="plain",
    )
    fill((model.layers[0], 1), (model.layers[1], 2))
    return model


def nested():
    """Transposed convolutions inside and outside of an inner model, two of one name."""
    tail = tf.keras.Input((None, None, None, 2), name="tail")
    inner_up = L.Conv3DTranspose(2, (1, 2, 3), strides=(1, 2, 3), name="up")
    inner_more = L.Conv3DTranspose(2, 2, use_bias=False, activation="hard_sigmoid", name="more")
    inner = tf.keras.Model(tail, inner_more(L.Conv3D(2, 1, name="mix")(inner_up(tail))), name="decoder")
    scan = tf.keras.Input((None, None, None, 1), name="scan")
    outer_up = L.Conv3DTranspose(2, (2, 1, 2), strides=(2, 1, 2), name="up")
    last = L.Conv3DTranspose(1, 1, kernel_regularizer="l2", name="last")
    model = tf.keras.Model(scan, last(inner(outer_up(scan))), name="nested")
    fill((inner_up, 3), (inner.get_layer("mix"), 4), (inner_more, 5), (outer_up, 6), (last, 7))
    return model


class Subclassed(tf.keras.Model):
    """Layers as attributes, one in a list."""

    def __init__(self):
        super().__init__(name="net")
        self.a = L.Conv3DTranspose(2, (1, 2, 2), name="first")
        self.blocks = [L.Conv3D(2, 1, name="mix"), L.Conv3DTranspose(3, (2, 1, 1), name="second")]

    def call(self, x):
        """Run them one after another."""
        x = self.a(x)
        for block in self.blocks:
            x = block(x)
        return x


def subclassed():
    """Names begin with the model's."""
    model = Subclassed()
    model(np.zeros((1, 2, 2, 2, 1), np.float32))
    fill((model.a, 8), (model.blocks[0], 9), (model.blocks[1], 10))
    return model


def single():
    """One layer and nothing else."""
    model = tf.keras.Sequential([L.Conv3DTranspose(2, 2, input_shape=(2, 2, 2, 3), name="up")], name="single")
    fill((model.layers[0], 11))
    return model


def many():
    """Six layers of one class: Keras 2.12 counts them 0, 2, 4, ... 10."""
    scan = x = tf.keras.Input((None, None, None, 1), name="scan")
    layers = [L.Conv3DTranspose(1, (1, 1, 2), name=f"z{n}") for n in range(6)]
    for layer in layers:
        x = layer(x)
    model = tf.keras.Model(scan, x, name="many")
    fill(*((layer, 20 + n) for n, layer in enumerate(layers)))
    return model


def prelu():
    """A layer whose activation has a weight of its own: slopes 0.5, -0.25 and 2."""
    layer = L.Conv3DTranspose(3, 2, strides=2, activation=L.PReLU(shared_axes=[1, 2, 3]), name="up")
    model = tf.keras.Sequential([tf.keras.Input((4, 4, 4, 2)), layer])
    taps = np.arange(48.0).reshape(2, 2, 2, 3, 2)
    layer.set_weights([taps, np.array([1.0, 2.0, 3.0]), np.array([0.5, -0.25, 2.0]).reshape(1, 1, 1, 3)])
    return model


if __name__ == "__main__":
    if tf.__version__.startswith("2.9"):
        plain().save(HERE / "tf29_plain.h5", include_optimizer=False)
        nested().save(HERE / "tf29_nested.h5", include_optimizer=False)
        prelu().save(HERE / "tf29_prelu.h5", include_optimizer=False)
        plain().save_weights(HERE / "tf29_plain.weights.h5")
        single().save_weights(HERE / "tf29_single.weights.h5")
        subclassed().save_weights(HERE / "tf29_subclassed.weights.h5")
    else:
        plain().save(HERE / "tf212_hdf5.keras", include_optimizer=False)
        plain().save(HERE / "tf212_plain.keras", save_format="keras_v3")
        nested().save(HERE / "tf212_nested.keras", save_format="keras_v3")
        many().save(HERE / "tf212_many.keras", save_format="keras_v3")
        subclassed().save_weights(HERE / "tf212_subclassed.weights.h5")
