"""How does a layer come out of a Keras archive, and into one?  ``.keras`` of Keras 2.12 and later, and ``.weights.h5``.

An archive holds ``config.json`` and ``model.weights.h5``, where each layer has a group ``vars``: kernel 0, bias 1.
Groups are called by class and number, not by the layer's name; models of their own make as attributes call them.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass
from typing import Any

import h5py

from conv3dt.errors import DataError, InputMissingError
from conv3dt.weights import archive, hdf5_tree
from conv3dt.weights.keras_config import MOST_JSON_BYTES, Layer, chosen, layers_in, parsed, translated
from conv3dt.weights.keras_written import keras3_model, layer_name
from conv3dt.weights.kernel import KERAS_AXES, Weights, check_agrees, check_layout, checked, listed, lost_alpha

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
FORWARD = re.compile(r"conv3d(_\d+)?")
WEIGHTS = "model.weights.h5"
KERAS_VERSION = "3.0.0"
"""What written archives claim: any Keras 3 reads them."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The weights of a layer: ``path`` of its group, the layer's name where the file says it."""

    path: str
    name: str
    kernel: Any
    bias: Any

    @property
    def shown(self) -> str:
        """What to call it in an error."""
        return f"{self.path} ({self.name})" if self.name else self.path

    def is_called(self, wanted: str) -> bool:
        """Whether a user may mean it."""
        return wanted == self.name or f"/{self.path}".endswith(f"/{wanted}")


def read(path: str, name: str | None, layout: str | None) -> Weights:
    """Return the weights and the configuration of a layer in a ``.keras`` archive.

    Raises:
        InputMissingError: no layer of that name.
        DataError: not clear which, or damaged.
    """
    where, wanted = f"weights {path}", (name or "").strip("/")
    check_layout(layout, "keras", path, "a Keras file")
    with archive.opened(path) as entries:
        names = entries.namelist()
        if WEIGHTS not in names:
            how = "in several pieces, which conv3dt does not read" if "model.weights.json" in names else "not there"
            raise DataError(f"{where}: the model's weights are {how}")
        config = parsed(archive.content(entries, "config.json", MOST_JSON_BYTES, where), f"{where}: config.json")
        told = parsed(archive.content(entries, "metadata.json", MOST_JSON_BYTES, where), f"{where}: metadata.json")
        version = str(told.get("keras_version", "")) if isinstance(told, dict) else ""
        with archive.seekable(entries, WEIGHTS, where) as stream, hdf5_tree.opened(stream, where) as tree:
            layers = layers_in(config)
            if not any(layer.is_transposed for layer in layers):
                return _of_tree(tree, path, wanted)  # a model that is a class of its own says nothing of its layers
            layer = chosen(layers, wanted, where)
            return _of_layer(tree, layer, layers, version, path)


def is_weights(file: Any, where: str) -> bool:
    """Whether an HDF5 file is the weights of an archive by themselves."""
    return any(
        isinstance(node, h5py.Dataset) and name.endswith("/vars/0") for name, node in hdf5_tree.walk(file, where)
    )


def read_tree(file: Any, path: str, name: str | None, layout: str | None) -> Weights:
    """Return the weights of a layer in a ``.weights.h5``, which says nothing of its configuration.

    Raises:
        InputMissingError: no layer of that name.
        DataError: not clear which, or damaged.
    """
    check_layout(layout, "keras", path, "a Keras file")
    return _of_tree(file, path, (name or "").strip("/"))


def _slots(tree: Any, where: str) -> list[Slot]:
    """All layers with a kernel of five axes."""
    found = []
    for path, group in hdf5_tree.walk(tree, where):
        if not path.endswith("/vars") or not isinstance(group, h5py.Group):
            continue
        kernel, bias = (hdf5_tree.find(group, number, where) for number in ("0", "1"))
        if isinstance(kernel, h5py.Dataset) and kernel.ndim == 5:
            name = hdf5_tree.text(group.attrs.get("name"))
            has_bias = isinstance(bias, h5py.Dataset) and bias.ndim == 1
            found.append(Slot(path.removesuffix("/vars").strip("/"), name, kernel, bias if has_bias else None))
    return found


def _of_tree(tree: Any, path: str, wanted: str) -> Weights:
    where, wanted = f"weights {path}", re.sub(r"/vars(/0)?$", "", wanted)
    slots = _slots(tree, where)
    candidates = [slot for slot in slots if not FORWARD.fullmatch(slot.path.rpartition("/")[2])]
    names = listed([slot.shown for slot in candidates])
    fitting = [slot for slot in candidates if slot.is_called(wanted)] if wanted else candidates
    if len(fitting) > 1:
        raise DataError(f"{where}: several layers have a kernel of five axes: {names}; name one as {path}:/name")
    if not fitting and any(slot.is_called(wanted) for slot in slots if wanted):
        raise DataError(f"{where}: layer {wanted} is a Conv3D, not a Conv3DTranspose; there are {names}")
    if not fitting and wanted:
        raise InputMissingError(f"{where}: no layer {wanted} with a kernel of five axes; there are {names}")
    if not fitting:
        raise DataError(f"{where}: holds no kernel of five axes that could be transposed")
    (slot,) = fitting
    kernel, bias = hdf5_tree.arrays(slot.kernel, slot.bias, where)
    kind = (
        "of a transposed layer" if "transpose" in slot.path.rpartition("/")[2] else "of a layer whose class is unknown"
    )
    text = f"{KERAS_AXES}: {slot.shown}, {kind}, in a Keras weights file"
    return checked(kernel, bias, f"{path}:/{slot.path}", "keras-weights", layout=text)


def _of_layer(tree: Any, layer: Layer, layers: list[Layer], version: str, path: str) -> Weights:
    where = f"weights {path}"
    arguments = translated(layer.config, version)
    slot = _located(tree, layer, layers, where)
    check_agrees(arguments, slot.kernel.shape, f"{where}:/{layer.path}")
    if arguments.get("use_bias", True) and slot.bias is None:
        raise DataError(f"{where}:/{layer.path}: the layer has a bias, but the file does not hold it")
    kernel, bias = hdf5_tree.arrays(slot.kernel, slot.bias, where)
    text = f"{KERAS_AXES}: layer {layer.path} of a model saved by Keras {version or 'of unknown version'}"
    return checked(kernel, bias, f"{path}:/{layer.path}", "keras", layout=text, config=arguments)


def _located(tree: Any, layer: Layer, layers: list[Layer], where: str) -> Slot:
    """The weights of a layer: where its place in the model leads, and the name, if there is one, agrees."""
    slots = _slots(tree, where)
    path = _followed(tree, layer.route, where)
    at_place = [slot for slot in slots if slot.path == path and slot.name in ("", layer.name)]
    by_name = [slot for slot in slots if slot.name == layer.name]
    others = [slot for slot in slots if not FORWARD.fullmatch(slot.path.rpartition("/")[2])]
    alone = others if sum(each.is_transposed for each in layers) == 1 else []
    for found in (at_place, by_name, alone):
        if len(found) == 1:
            return found[0]
    raise DataError(
        f"{where}: the weights of layer {layer.path} cannot be told from those of others; there are "
        f"{listed([slot.shown for slot in slots])}"
    )


def _followed(tree: Any, route: list[tuple[str, str, int]] | None, where: str) -> str | None:
    """The path of the group to which the steps lead; None if they lead nowhere."""
    if route is None:
        return None
    node, path = tree, []
    for how, name, number in route:
        if how == "layers":
            inside = [each for each in CONTAINERS if isinstance(hdf5_tree.find(node, each, where), h5py.Group)]
            if not inside:
                return None
            path.append(inside[0])
            node = hdf5_tree.find(node, inside[0], where)
            numbered = _numbered(node, name)
            name = numbered[number] if number < len(numbered) else ""
        node = hdf5_tree.find(node, name, where) if name else None
        if not isinstance(node, h5py.Group):
            return None
        path.append(name)
    return "/".join(path)


def _numbered(group: Any, kind: str) -> list[str]:
    """The layers of a class in a group, in order: ``conv3d_transpose``, ``conv3d_transpose_2``, ``..._10``."""
    found = [re.fullmatch(rf"{re.escape(kind)}(?:_(\d{{1,9}}))?", name) for name in hdf5_tree.children(group)]
    return [each[0] for each in sorted((each for each in found if each), key=lambda each: int(each[1] or 0))]


def written(weights: Weights) -> tuple[bytes, list[str]]:
    """Return the bytes of an archive of Keras 3 with a model of the one layer, and what could not be kept."""
    model, lost = keras3_model(weights)
    stream, tree = io.BytesIO(), io.BytesIO()
    with h5py.File(tree, "w") as file:
        group = file.create_group("layers/conv3d_transpose/vars")
        group.attrs["name"] = layer_name(weights)
        group["0"] = weights.kernel
        if weights.bias is not None:
            group["1"] = weights.bias
        file.create_group("vars")
    with zipfile.ZipFile(stream, "w") as entries:
        for name, content in (
            (
                "metadata.json",
                json.dumps({"keras_version": KERAS_VERSION, "date_saved": "1980-01-01@00:00:00"}).encode(),
            ),
            ("config.json", json.dumps(model).encode()),
            (WEIGHTS, tree.getvalue()),
        ):
            entries.writestr(zipfile.ZipInfo(name), content)  # dated 1980: the same weights are the same bytes
    return stream.getvalue(), lost + lost_alpha(weights, ".keras")
