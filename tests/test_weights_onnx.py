"""Does a ConvTranspose node come out of an ONNX file as ONNX means it?  Its reference runs beside ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.reference
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conv3dt.errors import ArgumentError, DataError, InputMissingError
from conv3dt.geometry import Axis
from conv3dt.weights import Weights, read_weights, write_weights
from tests import oracle
from tests.test_weights import check, pattern

SHAPE = (4, 3, 2, 3, 4)
"""Of an ONNX weight: 4 channels, 3 filters."""


def model(
    weight: NDArray[Any] | Any, bias: NDArray[Any] | None = None, *, constant: bool = False, count: int = 1, **said: Any
) -> Any:
    """A model of ``count`` nodes that take the same volume, the first called up, with the weight w."""
    tensors = [("w", weight)] + ([] if bias is None else [("b", bias)])
    stored = [each if isinstance(each, onnx.TensorProto) else onnx.numpy_helper.from_array(each, name)
              for name, each in tensors]  # fmt: skip
    names = [tensor.name for tensor in stored]
    nodes = [onnx.helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in stored if constant]
    for n in range(count):
        called = "/net/up" + str(n or "")
        nodes.append(onnx.helper.make_node("ConvTranspose", ["x", *names], [f"y{n}"], called, **said))
    ends = [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("x", *(f"y{n}" for n in range(count)))]
    graph = onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:], [] if constant else stored)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)


def save(content: Any, path: Path) -> str:
    path.write_bytes(content.SerializeToString())
    return str(path)


def weight(shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return pattern(*shape, seed=1)


def laws(config: Any) -> tuple[oracle.Law, oracle.Law, oracle.Law]:
    extra, dilation = config["output_padding"] or (None,) * 3, config.get("dilation_rate", (1, 1, 1))
    first, second, third = (
        oracle.Law(k, s, d, config["padding"], more)
        for k, s, d, more in zip(config["kernel_size"], config["strides"], dilation, extra, strict=True)
    )
    return first, second, third


def check_same_numbers(proto: Any, found: Weights) -> None:
    volume = np.random.default_rng(0).integers(-9, 9, (3, 2, 4, found.kernel.shape[4])).astype(np.float32)
    (wanted,) = onnx.reference.ReferenceEvaluator(proto).run(None, {"x": volume.transpose(3, 0, 1, 2)[None]})
    got = oracle.transposed(volume, found.kernel, laws(found.config), bias=found.bias)
    np.testing.assert_array_equal(got, np.asarray(wanted)[0].transpose(1, 2, 3, 0))


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("name", ["", ":/net/up", ":/w", ":/y0"])
def test_a_node_brings_its_configuration(tmp_path: Path, constant: bool, name: str) -> None:
    bias = np.arange(3, dtype=np.float32)
    path = save(model(weight(), bias, constant=constant, strides=[2, 3, 4]), tmp_path / "net.onnx")
    found = read_weights(path + name)
    check(found, weight().transpose(2, 3, 4, 1, 0), bias)
    assert found.layout == "(channels, filters, k1, k2, k3): onnx's order for a transposed convolution"
    assert found.config == {
        "name": "up", "filters": 3, "kernel_size": (2, 3, 4), "strides": (2, 3, 4), "padding": "valid",
        "activation": "linear", "use_bias": True, "output_padding": None,
    }  # fmt: skip


@st.composite
def attributes(draw: Any) -> tuple[tuple[int, ...], dict[str, Any]]:
    kernel, strides, extra, dilations = (
        draw(st.lists(st.integers(low, high), min_size=3, max_size=3)) for low, high in ((1, 4), (1, 3), (0, 2), (1, 2))
    )
    pads = draw(st.lists(st.integers(0, 2), min_size=6, max_size=6))
    assume(all(more < stride for more, stride in zip(extra, strides, strict=True)))
    return tuple(kernel), {"strides": strides, "output_padding": extra, "dilations": dilations, "pads": pads}


@given(attributes())
@settings(max_examples=150, deadline=None)
def test_pads_mean_what_onnx_means(tmp_path_factory: pytest.TempPathFactory, said: Any) -> None:
    kernel, attributes = said
    proto = model(weight((2, 2, *kernel)), np.array([5, 7], np.float32), **attributes)
    try:
        found = read_weights(save(proto, tmp_path_factory.mktemp("onnx") / "net.onnx"))
    except DataError as refusal:
        assert "no Conv3DTranspose of Keras crops like that" in str(refusal)
        return
    lengths = [law.length(n) for law, n in zip(laws(found.config), (3, 2, 4), strict=True)]
    assume(min(lengths) > 0)
    check_same_numbers(proto, found)


@pytest.mark.parametrize(
    ("kernel", "said", "padding", "extra"),
    [
        ((2, 2, 2), {"strides": [2, 2, 2], "auto_pad": "VALID"}, "valid", None),
        ((4, 4, 2), {"strides": [2, 2, 2], "auto_pad": "SAME_UPPER"}, "same", None),
        ((4, 4, 2), {"strides": [2, 2, 2], "auto_pad": "SAME_LOWER"}, "same", None),
        ((3, 3, 3), {"strides": [2, 2, 2], "pads": [0, 0, 0, 1, 1, 1]}, "same", None),
        ((3, 3, 3), {"strides": [2, 2, 2], "pads": [1, 1, 1, 1, 1, 1], "output_padding": [1, 1, 1]}, "same", None),
        ((3, 3, 3), {"strides": [2, 2, 2], "pads": [1, 1, 1, 1, 1, 1]}, "same", (0, 0, 0)),
    ],
)
def test_paddings(tmp_path: Path, kernel: Any, said: Any, padding: str, extra: Any) -> None:
    proto = model(weight((2, 2, *kernel)), **said)
    found = read_weights(save(proto, tmp_path / "net.onnx"))
    assert found.config is not None
    assert (found.config["padding"], found.config["output_padding"]) == (padding, extra)
    if "auto_pad" not in said:
        check_same_numbers(proto, found)


def test_groups_are_written_out(tmp_path: Path) -> None:
    """By PyTorch: ONNX's reference cannot run groups."""
    bias = np.arange(6, dtype=np.float32)
    found = read_weights(save(model(weight(), bias, group=2, strides=[2, 2, 2]), tmp_path / "net.onnx"))
    assert found.notes == ("2 groups written out as one kernel with zeros between them",)
    volume = np.random.default_rng(0).integers(-9, 9, (3, 2, 4, 4)).astype(np.float32)
    first, second, third = (torch.from_numpy(each) for each in (volume.transpose(3, 0, 1, 2).copy(), weight(), bias))
    wanted = torch.nn.functional.conv_transpose3d(first, second, third, stride=2, groups=2)
    got = oracle.transposed(volume, found.kernel, laws(found.config), bias=found.bias)
    np.testing.assert_array_equal(got, wanted.permute(1, 2, 3, 0))


@pytest.mark.parametrize("kind", ["float16", "float64", "bfloat16"])
def test_types(tmp_path: Path, kind: str) -> None:
    if kind == "bfloat16":
        halves = (weight().view(np.uint32) >> 16).astype(np.uint16)
        stored: Any = onnx.helper.make_tensor("w", onnx.TensorProto.BFLOAT16, SHAPE, halves.tobytes(), raw=True)
    else:
        stored = weight().astype(kind)
    found = read_weights(save(model(stored), tmp_path / "net.onnx"))
    assert found.kernel.dtype == ("float64" if kind == "float64" else "float32")
    check(found, weight().transpose(2, 3, 4, 1, 0), None)


def test_of_several_nodes_one_must_be_named(tmp_path: Path) -> None:
    path = save(model(weight(), count=2), tmp_path / "net.onnx")
    with pytest.raises(DataError, match=r"several ConvTranspose nodes: net/up, net/up1; name one as .*net\.onnx:/name"):
        read_weights(path)
    check(read_weights(f"{path}:/net/up1"), weight().transpose(2, 3, 4, 1, 0), None)
    with pytest.raises(InputMissingError, match="no ConvTranspose node or weight none; there are net/up, net/up1"):
        read_weights(f"{path}:/none")
    with pytest.raises(ArgumentError, match="layout keras cannot be: an ONNX file says itself"):
        read_weights(path, "keras")


def external(tensor: Any) -> Any:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    return tensor


def of_shape(*dims: int) -> Any:
    return onnx.TensorProto(name="w", data_type=1, dims=dims, raw_data=b"1234")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (model(weight(), output_shape=[4, 4, 4]), "a fixed output_shape cannot be said in Keras"),
        (model(weight(), pads=[0, 0]), "pads must be 6 whole numbers"),
        (model(weight(), strides=[2, 2]), "strides must be 3 whole numbers"),
        (model(weight(), strides=[0, 2, 2]), "strides must be at least 1"),
        (model(weight(), strides=[1.5, 2, 2]), "strides must be 3 whole numbers|cannot be read as ONNX"),
        (model(weight(), pads=[-1, 0, 0, 0, 0, 0]), "padding must not be negative"),
        (model(weight(), dilations=[2**40] * 3, strides=[2, 2, 2]), "taps, more than can be"),
        (model(weight(), kernel_shape=[3, 3, 3]), r"kernel_shape \[3, 3, 3\] is not that of the weight"),
        (model(weight(), auto_pad="SAME"), "auto_pad must be one of NOTSET, VALID, SAME_UPPER, SAME_LOWER, got 'SAME'"),
        (model(weight(), auto_pad="SAME_UPPER"), "versions of ONNX disagree on which side takes the odd one"),
        (model(weight(), auto_pad="SAME_LOWER", strides=[3, 3, 4]), "wider than the kernel is not defined"),
        (model(weight(), group=3), "3 groups do not divide the 4 channels"),
        (model(weight(), group=-1), "-1 groups do not divide"),
        (model(weight(), np.zeros(5, np.float32)), "the bias must have 3 values"),
        (model(weight((4, 3, 2, 3))), "holds no ConvTranspose node with three axes of voxels"),
        (model(of_shape(1, 1, 1, 1, 2)), "cannot be read as ONNX"),
        (model(of_shape(2**40, 1, 1, 1, 1)), "taps are more than a kernel can have"),
        (model(of_shape(-1, 1, 1, 1, 1)), "cannot be; the file is damaged"),
        (model(of_shape(0, 1, 1, 1, 1)), "the kernel is empty"),
        (model(external(of_shape(1, 1, 1, 1, 1))), "its weights are in another file"),
        (model(np.full(SHAPE, np.nan, np.float32)), "the kernel holds 288 values that are NaN"),
    ],
)
def test_nodes_that_have_no_words_in_keras(tmp_path: Path, content: Any, text: str) -> None:
    path = save(content, tmp_path / "net.onnx")
    with pytest.raises(DataError, match=text) as refusal:
        read_weights(path)
    assert str(refusal.value).startswith(f"weights {path}")
    assert len(str(refusal.value).splitlines()) == 1


def test_weights_that_are_computed(tmp_path: Path) -> None:
    for tensor, text in (("w", "its weight is computed"), ("b", "its bias is computed")):
        proto = model(weight(), np.zeros(3, np.float32))
        kept = [each for each in proto.graph.initializer if each.name != tensor]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
        with pytest.raises(DataError, match=text):
            read_weights(save(proto, tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    "content", [b"\x08\x08\x12" + b"\xff" * 100, b"\x08\x08\x3a\x00", b"\x08\x08\x3a\xff\xff\xff\x7f"]
)
def test_garbage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.onnx: (cannot be read as ONNX|holds no ConvTranspose)"):
        read_weights(f"{tmp_path}/a.onnx")


def test_a_damaged_file(tmp_path: Path) -> None:
    raw = model(weight(), np.zeros(3, np.float32)).SerializeToString()
    for count in (3, 40, len(raw) // 2, len(raw) - 3):
        (tmp_path / "a.onnx").write_bytes(raw[:count])
        with pytest.raises(DataError):
            read_weights(f"{tmp_path}/a.onnx")


def test_without_the_package_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(model(weight()), tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DataError, match=r"ONNX files need the onnx package; pip install 'conv3dt\[onnx\]'"):
        read_weights(path)


# Into ONNX files.


def own(**config: Any) -> Weights:
    return Weights(pattern(4, 3, 2, 3, 4, seed=1), pattern(3, seed=2), "memory", "array", "", config)


LAYERS: list[dict[str, Any]] = [
    {"strides": 2},
    {"strides": (2, 3, 1), "padding": "same"},
    {"strides": (4, 4, 5)},
    {"strides": (3, 3, 3), "output_padding": (0, 1, 2)},
    {"strides": (2, 4, 3), "padding": "same", "output_padding": (1, 3, 2)},
    {"dilation_rate": (2, 1, 3), "padding": "same"},
    {"dilation_rate": 2},
    {},
]


@pytest.mark.parametrize("config", LAYERS)
def test_what_is_written_computes_the_same(tmp_path: Path, config: dict[str, Any]) -> None:
    weights = own(name="up", **config)
    path = f"{tmp_path}/a.onnx"
    assert write_weights(weights, path) == []
    onnx.checker.check_model(path, full_check=True)
    found = read_weights(path)
    check_kept = found.kernel[tuple(slice(0, n) for n in weights.kernel.shape)]
    np.testing.assert_array_equal(check_kept, weights.kernel)
    proto = onnx.load_model(path)
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "x"
    check_same_numbers(proto, found)
    asked: dict[str, Any] = {"strides": 1, "padding": "valid", "output_padding": None, "dilation_rate": 1} | config
    extra = asked["output_padding"] or (None,) * 3
    wanted = [
        Axis(k, s, d, asked["padding"], more)
        for k, s, d, more in zip(
            weights.kernel.shape, three(asked["strides"]), three(asked["dilation_rate"]), extra, strict=False
        )
    ]
    for axis, law in zip(wanted, laws(found.config), strict=True):
        assert [axis.length(n) for n in (1, 2, 5)] == [law.length(n) for n in (1, 2, 5)]
        assert axis.crop == law.crop


def three(value: Any) -> Any:
    return (value,) * 3 if isinstance(value, int) else value


def test_torch_computes_what_is_written(tmp_path: Path) -> None:
    """The node's numbers are PyTorch's where PyTorch can say them."""
    write_weights(own(strides=2, padding="same"), f"{tmp_path}/a.onnx")
    proto = onnx.load_model(f"{tmp_path}/a.onnx")
    volume = np.random.default_rng(0).integers(-9, 9, (1, 4, 3, 3, 3)).astype(np.float32)
    (got,) = onnx.reference.ReferenceEvaluator(proto).run(None, {"volume": volume})
    kernel = torch.from_numpy(own().kernel.transpose(4, 3, 0, 1, 2).copy())
    whole = torch.nn.functional.conv_transpose3d(torch.from_numpy(volume), kernel, torch.from_numpy(own().bias), 2)
    np.testing.assert_array_equal(got, whole.numpy()[:, :, 1:7, 0:6, 0:6])


def test_what_has_no_place_is_told(tmp_path: Path) -> None:
    lost = write_weights(own(activation="relu", kernel_initializer="zeros", name="up"), f"{tmp_path}/a.onnx")
    assert lost == [
        "the activation relu is not part of a ConvTranspose node and is left out",
        "no place for kernel_initializer in .onnx",
    ]
    with pytest.raises(ArgumentError, match=r"needs strides and padding, of which these weights say nothing"):
        write_weights(Weights(own().kernel, None, "", "", "", None), f"{tmp_path}/b.onnx")
    with pytest.raises(ArgumentError, match=r"padding must be one of valid, same, got 'full'"):
        write_weights(own(padding="full"), f"{tmp_path}/b.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
