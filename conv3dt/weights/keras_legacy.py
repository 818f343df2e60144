"""How does a layer come out of Keras's HDF5 files, and into one?  Whole models and weights alone, of Keras 1 to 3.

Each layer of the outermost model has a group; its attribute ``weight_names`` says which datasets are weights, those of
inner models among them.  The component before the last of such a name is the layer's.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from conv3dt.errors import DataError, InputMissingError
from conv3dt.weights import hdf5_tree
from conv3dt.weights.keras_config import Layer, chosen, layers_in, parsed, translated
from conv3dt.weights.keras_written import keras2_model, layer_name
from conv3dt.weights.kernel import KERAS_AXES, Weights, check_agrees, check_layout, checked, listed, lost_alpha

KERNELS, ALPHAS = ("kernel", "kernel:0"), ("alpha", "alpha:0")


@dataclass(frozen=True, slots=True)
class Slot:
    """A kernel of five axes: ``top`` is the group it is in, ``owner`` its name in there, less the last component.

    ``alpha`` is that of an activation PReLU.
    """

    top: str
    owner: str
    kernel: Any
    bias: Any
    alpha: Any = None

    def is_of(self, name: str) -> bool:
        """Whether a layer of that name owns it; the owner may begin with the names of models."""
        return f"/{self.owner}".endswith(f"/{name}")


def is_legacy(file: Any, where: str) -> bool:
    """Whether Keras wrote the file, as it did before its archives."""
    return "model_config" in file.attrs or hdf5_tree.names(file, "layer_names", where) is not None


def read(file: Any, path: str, name: str | None, layout: str | None) -> Weights | None:
    """Return the weights of a layer; None where ``name`` is a group that holds a kernel, which is read as it is.

    Raises:
        InputMissingError: no layer of that name.
        DataError: not clear which, or damaged.
    """
    where, wanted = f"weights {path}", (name or "").strip("/")
    check_layout(layout, "keras", path, "a Keras file")
    slots = _slots(file, where)
    if wanted and _is_bare(file, wanted, slots, where):
        return None
    if "model_config" in file.attrs:
        return _of_model(file, path, wanted, slots)
    slot = _by_name(slots, wanted, where)
    told = "named" if wanted else "the only kernel of five axes"
    kernel, bias = hdf5_tree.arrays(slot.kernel, slot.bias, where)
    text = f"{KERAS_AXES}: {slot.owner}, {told} in a Keras weights file, which does not say that it is transposed"
    return checked(kernel, bias, f"{path}:/{slot.owner}", "keras-hdf5", layout=text)


def _is_bare(file: Any, wanted: str, slots: list[Slot], where: str) -> bool:
    """Whether a name is the path of the group right around a kernel, and not also a layer's name."""
    node = hdf5_tree.find(file, wanted, where)
    holds = isinstance(node, h5py.Group) and any(hdf5_tree.find(node, each, where) for each in KERNELS)
    return holds and not any(slot.is_of(wanted) for slot in slots)


def _of_model(file: Any, path: str, wanted: str, slots: list[Slot]) -> Weights:
    where = f"weights {path}"
    config = hdf5_tree.text(file.attrs["model_config"])
    layer = chosen(layers_in(parsed(config, f"{where}: model_config")), wanted, where)
    version = hdf5_tree.text(file.attrs.get("keras_version"))
    arguments = translated(layer.config, version)
    slot = _of_layer(slots, layer, where)
    check_agrees(arguments, slot.kernel.shape, f"{where}:/{layer.path}")
    if arguments.get("use_bias", True) and slot.bias is None:
        raise DataError(f"{where}:/{layer.path}: the layer has a bias, but the file does not hold it")
    kernel, bias = hdf5_tree.arrays(slot.kernel, slot.bias, where)
    alpha = None if slot.alpha is None else hdf5_tree.array(slot.alpha, where)
    text = f"{KERAS_AXES}: layer {layer.path} of a model saved by Keras {version or 'of unknown version'}"
    return checked(kernel, bias, f"{path}:/{layer.path}", "keras-hdf5", layout=text, config=arguments, alpha=alpha)


def _slots(file: Any, where: str) -> list[Slot]:
    """All kernels of five axes in the file."""
    root = hdf5_tree.find(file, "model_weights", where) if "model_config" in file.attrs else file
    if not isinstance(root, h5py.Group):
        raise DataError(f"{where}: holds a model without its weights; save it with them")
    found = []
    for top in hdf5_tree.names(root, "layer_names", where) or []:
        group = hdf5_tree.find(root, top, where) if top else None
        names = hdf5_tree.names(group, "weight_names", where) if isinstance(group, h5py.Group) else None
        for each in names or []:
            owner, _, last = each.rpartition("/")
            if last in KERNELS and (slot := _slot(group, top, owner, last, where)) is not None:
                found.append(replace(slot, alpha=_alpha(group, owner, names or [], where)))
    return found


def _alpha(group: Any, owner: str, names: list[str], where: str) -> Any:
    """The weight of an activation, which stands below its layer: ``up/p_re_lu/alpha:0``."""
    inner = [each for each in names if each.startswith(f"{owner}/") and each.rpartition("/")[2] in ALPHAS]
    found = hdf5_tree.find(group, inner[0], where) if len(inner) == 1 and owner else None
    return found if isinstance(found, h5py.Dataset) else None


def _slot(group: Any, top: str, owner: str, last: str, where: str) -> Slot | None:
    kernel = hdf5_tree.find(group, f"{owner}/{last}", where)
    if not isinstance(kernel, h5py.Dataset):
        raise DataError(f"{where}: the weights {owner}/{last} are listed but are not there; the file is damaged")
    if kernel.ndim != 5:
        return None
    bias = hdf5_tree.find(group, f"{owner}/{last.replace('kernel', 'bias')}", where)
    return Slot(top, owner or top, kernel, bias if isinstance(bias, h5py.Dataset) else None)


def _of_layer(slots: list[Slot], layer: Layer, where: str) -> Slot:
    outermost = (*layer.parents[1:], layer.name)[0]
    inside = [slot for slot in slots if slot.top == outermost]
    found = [slot for slot in inside if slot.is_of(layer.name)] or inside  # a wrapper gives its own name to weights
    if len(found) != 1:
        raise DataError(
            f"{where}: the weights of layer {layer.path} are not there: {len(found)} kernels could be its; there are "
            f"{listed([slot.owner for slot in slots])}"
        )
    return found[0]


def _by_name(slots: list[Slot], wanted: str, where: str) -> Slot:
    """The kernel of a layer in a file that knows no classes."""
    owners = listed([slot.owner for slot in slots])
    fitting = slots
    if wanted:
        fitting = [slot for slot in slots if slot.is_of(wanted)] or [slot for slot in slots if slot.top == wanted]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and wanted:
        raise InputMissingError(f"{where}: no layer {wanted} with a kernel of five axes; there are {owners}")
    if not fitting:
        raise DataError(f"{where}: holds no kernel of five axes")
    raise DataError(
        f"{where}: a weights file does not say which kernels are transposed; name one as {where[8:]}:/name; there are "
        f"{owners}"
    )


def written(weights: Weights) -> tuple[bytes, list[str]]:
    """Return the bytes of a model as Keras 2.9 saves it, or of bare datasets where no configuration is known."""
    stream = io.BytesIO()
    lost: list[str] = []
    with h5py.File(stream, "w") as file:
        if weights.config is None:
            _put(file, "", weights)
        else:
            model, lost = keras2_model(weights)
            name = layer_name(weights)
            file.attrs.update({"keras_version": "2.9.0", "backend": "tensorflow", "model_config": json.dumps(model)})
            group = file.create_group("model_weights")
            group.attrs.update({"keras_version": "2.9.0", "backend": "tensorflow", "layer_names": _bytes([name])})
            own = group.create_group(name)
            own.attrs["weight_names"] = _bytes(_put(own, f"{name}/", weights, ":0"))
            group.create_group("top_level_model_weights").attrs["weight_names"] = np.empty(0, "S1")
    return stream.getvalue(), lost + lost_alpha(weights, ".h5")


def _put(group: Any, before: str, weights: Weights, behind: str = "") -> list[str]:
    """Write kernel and bias, and return their names."""
    names = [f"{before}kernel{behind}"]
    group[names[0]] = weights.kernel
    if weights.bias is not None:
        names.append(f"{before}bias{behind}")
        group[names[1]] = weights.bias
    return names


def _bytes(names: list[str]) -> Any:
    return np.array([name.encode() for name in names])
