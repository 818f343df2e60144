"""How does a ConvTranspose node come out of an ONNX file, and into one?  The model is read, never run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conv3dt.errors import ArgumentError, Conv3dtError, DataError, InputMissingError
from conv3dt.layer.config import layer_config
from conv3dt.weights.foreign import Geometry, Triple, in_keras_terms
from conv3dt.weights.kernel import MOST_BYTES, Weights, check_layout, check_size, listed, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class Node:
    """A ConvTranspose node with the tensors that it takes; None for one that is computed, not stored."""

    node: Any
    weight: Any
    bias: Any

    @property
    def names(self) -> tuple[str, ...]:
        """What a user may call it: by its node, its weight, the layer of its weight, or its output."""
        weight = str(self.node.input[1])
        named = (str(self.node.name), weight, weight.removesuffix(".weight"), *map(str, self.node.output))
        return tuple(name.strip("/") for name in named if name)


def read(path: str, name: str | None, layout: str | None) -> Weights:
    """Return the weights of a ConvTranspose node and the Keras configuration that computes the same.

    Args:
        path: the file; name: of the node, its weight or its output; layout: nothing but ``torch`` can be asked for.

    Raises:
        InputMissingError: no node of that name.
        DataError: damaged, not clear which, or Keras has no words for it.
    """
    onnx = _library(path)
    check_layout(layout, "torch", path, "an ONNX file")
    if Path(path).stat().st_size > MOST_BYTES:
        raise DataError(
            f"weights {path}: an ONNX file of more than {MOST_BYTES} bytes is too large to be looked through"
        )
    try:
        graph = onnx.load_model(path, load_external_data=False).graph
        return _of_node(onnx, _chosen(_nodes(graph), path, (name or "").strip("/")), path)
    except Conv3dtError:
        raise
    except Exception as error:  # protobuf's own errors, and what NumPy makes of hostile tensors
        raise DataError(f"weights {path}: cannot be read as ONNX: {reason(error)}") from None


def _library(path: str) -> Any:
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError:
        raise DataError(f"weights {path}: ONNX files need the onnx package; pip install 'conv3dt[onnx]'") from None
    return onnx


def _nodes(graph: Any) -> list[Node]:
    """All ConvTranspose nodes with three axes of voxels, as far as the file tells."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            stored.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
    found = []
    for node in graph.node:
        if node.op_type == "ConvTranspose" and len(node.input) >= 2:
            bias = node.input[2] if len(node.input) > 2 else ""
            found.append(Node(node, stored.get(node.input[1]), stored.get(bias)))
    return [each for each in found if each.weight is None or len(each.weight.dims) == 5]


def _chosen(nodes: list[Node], path: str, wanted: str) -> Node:
    names = listed([each.names[0] for each in nodes])
    found = [each for each in nodes if wanted in each.names] if wanted else nodes
    if len(found) == 1:
        return found[0]
    if not nodes:
        raise DataError(f"weights {path}: holds no ConvTranspose node with three axes of voxels")
    if not found:
        raise InputMissingError(f"weights {path}: no ConvTranspose node or weight {wanted}; there are {names}")
    raise DataError(f"weights {path}: holds several ConvTranspose nodes: {names}; name one as {path}:/name")


def _of_node(onnx: Any, found: Node, path: str) -> Weights:
    where = f"{path}:/{found.names[0]}"
    for name, tensor, is_asked in (("weight", found.weight, True), ("bias", found.bias, _has_bias(found.node))):
        if tensor is None and is_asked:
            raise DataError(f"weights {where}: its {name} is computed when the model runs, not stored in the file")
    weight = _array(onnx, found.weight, where)
    bias = None if found.bias is None else _array(onnx, found.bias, where)
    geometry = _geometry(onnx, found.node, weight.shape, where)
    return in_keras_terms(weight, bias, geometry, where, "onnx", found.names[0].rpartition("/")[2])


def _has_bias(node: Any) -> bool:
    return len(node.input) > 2 and bool(node.input[2])


def _array(onnx: Any, tensor: Any, where: str) -> NDArray[Any]:
    if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise DataError(f"weights {where}: its weights are in another file; save the model with them inside")
    if any(size < 0 for size in tensor.dims):
        raise DataError(f"weights {where}: a tensor of shape {tuple(tensor.dims)} cannot be; the file is damaged")
    check_size(tuple(tensor.dims), f"weights {where}")
    array: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    return array.astype(np.float32) if tensor.data_type == onnx.TensorProto.BFLOAT16 else array


def _geometry(onnx: Any, node: Any, shape: tuple[int, ...], where: str) -> Geometry:
    said = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if "output_shape" in said:
        raise DataError(f"weights {where}: a fixed output_shape cannot be said in Keras; export the model with pads")
    if tuple(said.get("kernel_shape", shape[2:])) != shape[2:]:
        raise DataError(f"weights {where}: kernel_shape {said['kernel_shape']} is not that of the weight {shape}")
    strides, dilations = (_numbers(said, name, [1] * 3, where) for name in ("strides", "dilations"))
    extra = _numbers(said, "output_padding", [0] * 3, where)
    pads = _numbers(said, "pads", [0] * 6, where)
    automatic = said.get("auto_pad", b"NOTSET").decode("ascii", "replace")
    if automatic not in AUTO_PADS:
        raise DataError(f"weights {where}: auto_pad must be one of {', '.join(AUTO_PADS)}, got {automatic!r}")
    if automatic == "VALID":
        pads = [0] * 6
    elif automatic != "NOTSET":
        pads = _same(automatic, shape, strides, dilations, extra, where)
    after = [end - more for end, more in zip(pads[3:], extra, strict=True)]
    groups = said.get("group", 1)
    return Geometry(_triple(strides), _triple(pads), _triple(after), _triple(dilations), int(groups))


def _numbers(said: dict[str, Any], name: str, usual: list[int], where: str) -> list[int]:
    value = list(said.get(name, usual))
    if len(value) != len(usual) or not all(isinstance(each, int) for each in value):
        raise DataError(f"weights {where}: {name} must be {len(usual)} whole numbers, got {value}")
    return value


def _triple(values: list[int]) -> Triple:
    return values[0], values[1], values[2]


def _same(
    automatic: str, shape: tuple[int, ...], strides: list[int], dilations: list[int], extra: list[int], where: str
) -> list[int]:
    """The pads with which ``n`` voxels become ``n * stride``."""
    axes = zip(shape[2:], strides, dilations, extra, strict=True)
    totals = [(size - 1) * dilation + 1 + more - stride for size, stride, dilation, more in axes]
    if min(totals) < 0:
        raise DataError(f"weights {where}: auto_pad {automatic} where strides {strides} are wider than the kernel is "
                        f"not defined; export the model with pads")  # fmt: skip
    if any(total % 2 for total in totals):
        raise DataError(f"weights {where}: auto_pad {automatic} has {totals} voxels to crop, and versions of ONNX "
                        f"disagree on which side takes the odd one; export the model with pads")  # fmt: skip
    halves = [total // 2 for total in totals]
    return halves + halves


def written(weights: Weights) -> tuple[bytes, list[str]]:
    """Return the bytes of a model with one ConvTranspose node, channels first, and what has no place in it.

    Raises:
        ArgumentError: nobody knows the layer's strides and padding, or they are not Keras's.
    """
    onnx = _library(weights.path)
    if weights.config is None:
        raise ArgumentError(
            "a .onnx file needs strides and padding, of which these weights say nothing; write .safetensors or .npz"
        )
    kernel, told = weights.kernel, weights.config
    config = layer_config(
        filters=int(kernel.shape[3]),
        kernel_size=tuple(map(int, kernel.shape[:3])),
        **{key: told[key] for key in ("strides", "padding", "output_padding", "dilation_rate") if key in told},
    )
    ends = [axis.tail(1) for axis in config.axes]
    tensors = {"weight": np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2))}
    if weights.bias is not None:
        tensors["bias"] = weights.bias
    node = onnx.helper.make_node(
        "ConvTranspose", ["volume", *tensors], ["upsampled"], name=str(told.get("name") or "conv3d_transpose"),
        kernel_shape=config.kernel_size, strides=config.strides, dilations=config.dilation_rate, group=1,
        pads=[axis.crop for axis in config.axes] + [max(end, 0) for end in ends],
        output_padding=[max(-end, 0) for end in ends],
    )  # fmt: skip
    kind = onnx.helper.np_dtype_to_tensor_dtype(kernel.dtype)
    ends_of_graph = [
        onnx.helper.make_tensor_value_info(name, kind, ["batch", channels, f"{name}1", f"{name}2", f"{name}3"])
        for name, channels in (("volume", int(kernel.shape[4])), ("upsampled", int(kernel.shape[3])))
    ]
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph([node], "conv3dt", ends_of_graph[:1], ends_of_graph[1:], stored)
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="conv3dt")
    return model.SerializeToString(), _lost(told)


def _lost(config: dict[str, Any]) -> list[str]:
    lost = []
    if config.get("activation") not in (None, "linear"):
        lost.append(f"the activation {config['activation']} is not part of a ConvTranspose node and is left out")
    drawn = [key for key in config if key.endswith(("_initializer", "_regularizer", "_constraint")) and config[key]]
    if drawn:
        lost.append(f"no place for {', '.join(drawn)} in .onnx")
    return lost
