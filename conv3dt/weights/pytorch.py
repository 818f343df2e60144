"""How does a kernel come out of a PyTorch file, and into one?  Tensors, state dicts, and modules of a few classes.

A PyTorch file is a pickle, which could run anything: it is read with ``weights_only``, which makes nothing but tensors,
plain containers, and the modules named here.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conv3dt.errors import Conv3dtError, DataError, InputMissingError
from conv3dt.weights.arrays import arranged, lost_config
from conv3dt.weights.foreign import Geometry, Triple, in_keras_terms
from conv3dt.weights.kernel import MOST_BYTES, Weights, check_layout, check_size, listed, reason
from conv3dt.weights.tensors import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTAINERS = ("state_dict", "model_state_dict", "network_weights", "model")
"""Where checkpoints of the usual trainers keep the state dict."""

MOST_PICKLE_BYTES = 2**27


def read(path: str, name: str | None, layout: str | None) -> Weights:
    """Return the weights in a file of ``torch.save``.

    Args:
        path: the file; name: a tensor, or the layer that it belongs to.
        layout: of a tensor's five axes; ``torch`` unless its name says otherwise.

    Raises:
        InputMissingError: nothing of that name.
        DataError: not clear which, damaged, or something else than weights.
    """
    import torch

    whole = path if name is None else f"{path}:{name}"
    try:
        found = _inside(_loaded(path))
        sizes = _sizes(path)
        if isinstance(found, torch.nn.Module):
            check_layout(layout, "torch", path, "a PyTorch module")
            return _of_modules(found, path, (name or "").strip("/"), sizes)
        if isinstance(found, torch.Tensor):
            why = ": a bare tensor, as PyTorch has it" if layout is None else ": as asked for"
            return arranged(_array(found, path, sizes), None, whole, "pytorch", layout or "torch", why)
        if isinstance(found, Mapping):
            return _of_state(found, path, name, layout, sizes)
    except Conv3dtError:
        raise
    except Exception as error:  # the tensors of a hostile file may be anything
        raise DataError(f"weights {path}: cannot be read as a PyTorch file: {reason(error)}") from None
    raise DataError(f"weights {path}: holds a {type(found).__name__}, not weights; save a state dict")


def _loaded(path: str) -> Any:
    """What `torch.save` was given, if it is harmless."""
    import torch
    from torch import nn

    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        _check_archive(path)
    elif Path(path).stat().st_size > MOST_BYTES:
        raise DataError(f"weights {path}: an old PyTorch file of more than {MOST_BYTES} bytes; save it anew")
    harmless: list[Any] = [nn.ConvTranspose3d, nn.Sequential, nn.ModuleList, nn.ModuleDict]
    try:
        with torch.serialization.safe_globals(harmless), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's version: it is read, or it is not
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            why = re.search(r"WeightsUnpickler error:\s*(\S.*)", str(error))
            told = reason(ValueError(why[1]) if why else error)
            raise DataError(
                f"weights {path}: cannot be read as a PyTorch file: {told}; save the state_dict() of the model anew"
            ) from None
        raise DataError(
            f"weights {path}: asks for {asked[1]}, which is not opened since it could run anything; save the "
            f"state_dict() instead of the whole model"
        ) from None


def _check_archive(path: str) -> None:
    """Refuse what `torch.save` does not write: programs, and entries that unpack to more than the file has."""
    from conv3dt.weights import archive

    with archive.opened(path) as entries:
        infos = entries.infolist()
    if any(re.search(r"(^|/)(constants\.pkl|code/)", info.filename) for info in infos):
        raise DataError(f"weights {path}: is TorchScript, a program; save the state_dict() of the model instead")
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in infos):
        raise DataError(f"weights {path}: its entries are packed, which torch.save never does; save it anew")
    if any(info.filename.endswith("data.pkl") and info.file_size > MOST_PICKLE_BYTES for info in infos):
        raise DataError(f"weights {path}: its list of tensors takes more than {MOST_PICKLE_BYTES} bytes")


def _inside(loaded: Any) -> Any:
    """The state dict in a checkpoint, or what is there instead."""
    if isinstance(loaded, Mapping):
        for name in CONTAINERS:
            if name in loaded and not hasattr(loaded[name], "ndim"):
                return loaded[name]
    return loaded


def _sizes(path: str) -> set[int] | None:
    """How many bytes the storages of an archive have; None for an old file, which says so itself."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as entries:
        return {info.file_size for info in entries.infolist()}


def from_state(state: Mapping[Any, Any], name: str | None, layout: str | None) -> Weights:
    """Return the weights of a state dict that a program holds; see `read`."""
    return _of_state(_inside(state), "state dict", name, layout, None)


def _of_state(
    state: Mapping[Any, Any], path: str, name: str | None, layout: str | None, sizes: set[int] | None
) -> Weights:
    import torch

    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    choice = choose(shapes, name, path, layout, "torch")
    kernel = _array(tensors[choice.kernel], f"{path}:/{choice.kernel}", sizes)
    bias = None if choice.bias is None else _array(tensors[choice.bias], f"{path}:/{choice.bias}", sizes)
    why = f": {choice.kernel} of a PyTorch state dict, {choice.why}"
    if choice.layout == "torch" and bias is not None and kernel.ndim == 5 and bias.size != kernel.shape[1]:
        why += f"; a bias of {bias.size} for {kernel.shape[1]} filters a group says groups"
    whole = path if name is None else f"{path}:{name}"
    return arranged(kernel, bias, whole, "pytorch", choice.layout, why)


def _array(tensor: Any, where: str, sizes: set[int] | None = None) -> NDArray[Any]:
    """A tensor's numbers, if it is an ordinary one; a view of few numbers may claim to be many.

    PyTorch does not compare the size of a storage with that of its entry in the archive, so ``sizes`` tell.
    """
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta" or tensor.is_complex():
        raise DataError(f"weights {where}: must hold real numbers one by one, got {tensor.dtype} ({tensor.layout})")
    check_size(tuple(tensor.shape), f"weights {where}")
    if sizes is not None and tensor.untyped_storage().nbytes() not in sizes:
        raise DataError(f"weights {where}: cannot be read as a PyTorch file: a tensor is larger than its data")
    values = tensor.detach().cpu()
    array: NDArray[Any] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array


def _of_modules(root: Any, path: str, wanted: str, sizes: set[int] | None) -> Weights:
    found = {name: each for name, each in root.named_modules() if getattr(each, "transposed", False)}
    if wanted and wanted not in found:
        raise InputMissingError(f"weights {path}: no ConvTranspose3d {wanted}; there are {listed([*found])}")
    if not wanted and len(found) > 1:
        raise DataError(f"weights {path}: holds several ConvTranspose3d: {listed([*found])}; name one as {path}:/name")
    if not found:
        raise DataError(f"weights {path}: holds no ConvTranspose3d")
    name = wanted or next(iter(found))
    _array(found[name].weight, path, sizes)
    return from_module(found[name], f"{path}:/{name}" if name else path)


def from_module(module: Any, path: str) -> Weights:
    """Return the weights of a ``torch.nn.ConvTranspose3d`` and the Keras configuration that computes the same.

    Args:
        module: the layer; it stays as it is.
        path: how errors and the report call it.

    Raises:
        DataError: another kind of layer, or Keras has no words for it.
    """
    weight = getattr(module, "weight", None)
    if not getattr(module, "transposed", False) or getattr(weight, "ndim", 0) != 5:
        raise DataError(f"weights {path}: must be a ConvTranspose3d with its weights, got {type(module).__name__}")
    padding, extra = _triple(module, "padding", path), _triple(module, "output_padding", path)
    first, second, third = (p - more for p, more in zip(padding, extra, strict=True))
    groups = module.groups
    if not isinstance(groups, int):
        raise DataError(f"weights {path}: groups must be a whole number, got {groups!r}")
    geometry = Geometry(
        _triple(module, "stride", path), padding, (first, second, third), _triple(module, "dilation", path), groups
    )
    bias = None if module.bias is None else _array(module.bias, path)
    name = path.partition(":/")[2].rpartition(".")[2]
    return in_keras_terms(_array(weight, path), bias, geometry, path, "pytorch", name)


def _triple(module: Any, name: str, path: str) -> Triple:
    value = getattr(module, name, None)
    value = (value,) * 3 if isinstance(value, int) else value
    if not isinstance(value, tuple) or len(value) != 3 or not all(isinstance(each, int) for each in value):
        raise DataError(f"weights {path}: {name} must be three whole numbers, got {value!r}")
    return value


def written(weights: Weights) -> tuple[bytes, list[str]]:
    """Return the bytes of a state dict of ``weight (channels, filters, k1, k2, k3)`` and ``bias``, and what is lost."""
    import torch

    stream = io.BytesIO()
    state = {"weight": torch.from_numpy(np.ascontiguousarray(weights.kernel.transpose(4, 3, 0, 1, 2)))}
    if weights.bias is not None:
        state["bias"] = torch.from_numpy(weights.bias.copy())
    torch.save(state, stream)
    return stream.getvalue(), lost_config(weights, "a PyTorch state dict")
