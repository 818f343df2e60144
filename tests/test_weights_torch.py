"""Does a kernel come out of PyTorch's and safetensors' files, and is nothing in them ever run?"""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray

from conv3dt.errors import ArgumentError, DataError, InputMissingError
from conv3dt.weights import Weights, read_weights, write_weights
from tests.conftest import listing
from tests.test_weights import KERNEL, Trap, check, pattern

nn = torch.nn
SHAPE = (2, 3, 2, 3, 4)
"""Of a PyTorch weight: 2 channels, 3 filters."""


def weight(seed: int = 1, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.from_numpy(pattern(*shape, seed=seed))


def keras_order(tensor: torch.Tensor) -> NDArray[Any]:
    return np.asarray(tensor.float().numpy().transpose(2, 3, 4, 1, 0))


def bias(count: int = 3) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)


def save(content: Any, path: Path, **options: Any) -> str:
    torch.save(content, path, **options)
    return str(path)


STATE = OrderedDict([("up.weight", weight()), ("up.bias", bias())])


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        dict(STATE),
        {"state_dict": STATE, "epoch": 3, "lr": 0.1},
        {"model_state_dict": STATE},
        {"model": STATE},
        {"network_weights": STATE, "init_args": {"plans": ["3d"]}, "trainer_name": "nnUNetTrainer"},
    ],
)
@pytest.mark.parametrize("name", ["", ":/up", ":/up.weight"])
@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_state_dicts(tmp_path: Path, content: Any, name: str, options: dict[str, Any]) -> None:
    found = read_weights(save(content, tmp_path / "net.pt", **options) + name)
    check(found, keras_order(weight()), bias().numpy())
    assert found.layout.startswith("(channels, filters, k1, k2, k3): up.weight of a PyTorch state dict")
    assert (found.config, found.format) == (None, "pytorch")


def test_a_bare_tensor_runs_as_pytorch_has_it_unless_told(tmp_path: Path) -> None:
    path = save(weight(), tmp_path / "up.pt")
    found = read_weights(path)
    check(found, keras_order(weight()), None)
    assert found.layout == "(channels, filters, k1, k2, k3): a bare tensor, as PyTorch has it"
    check(read_weights(path, "keras"), weight().numpy(), None)
    check(read_weights(save(weight()[0, 0], tmp_path / "taps.pt")), weight()[0, 0, ..., None, None].numpy(), None)
    check(read_weights(save(nn.Parameter(weight()), tmp_path / "parameter.pt")), keras_order(weight()), None)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int16])
def test_types(tmp_path: Path, kind: torch.dtype) -> None:
    found = read_weights(save({"weight": weight().to(kind)}, tmp_path / "up.pt"))
    assert found.kernel.dtype == (np.float64 if kind in (torch.float64, torch.int16) else np.float32)
    check(found, keras_order(weight()), None)


def test_a_view_is_read_as_it_looks(tmp_path: Path) -> None:
    wide = weight(shape=(2, 3, 4, 6, 8))
    found = read_weights(save({"weight": wide[:, :, ::2, ::2, ::2]}, tmp_path / "up.pt"))
    check(found, keras_order(wide[:, :, ::2, ::2, ::2]), None)


def test_of_several_kernels_those_that_can_be_transposed_are_listed(tmp_path: Path) -> None:
    forward = {"down.weight": weight(2, (5, 2, 3, 3, 3)), "down.bias": bias(5), "norm.weight": bias(3)}
    found = read_weights(save({**forward, **STATE}, tmp_path / "one.pt"))
    check(found, keras_order(weight()), bias().numpy())
    two = {**forward, **STATE, "top.weight": weight(3), "top.bias": bias(3)}
    with pytest.raises(DataError, match=r"several kernels: up\.weight, top\.weight; name one as .*two\.pt:/name"):
        read_weights(save(two, tmp_path / "two.pt"))
    check(read_weights(f"{tmp_path}/two.pt:/top"), keras_order(weight(3)), bias().numpy())
    with pytest.raises(DataError, match=r"down\.weight of shape \(5, 2, 3, 3, 3\) with a bias of 5 is a forward"):
        read_weights(f"{tmp_path}/two.pt:/down")
    with pytest.raises(InputMissingError, match=r"no kernel none; there are up\.weight, top\.weight"):
        read_weights(f"{tmp_path}/two.pt:/none")
    with pytest.raises(DataError, match=r"holds no transposed kernel: down\.weight of shape .* is a forward Conv3d"):
        read_weights(save(forward, tmp_path / "forward.pt"))
    with pytest.raises(DataError, match=r"holds no kernel of five axes; its tensors are norm\.weight"):
        read_weights(save({"norm.weight": bias(3)}, tmp_path / "norm.pt"))


def test_groups_are_told_by_the_bias(tmp_path: Path) -> None:
    module = nn.ConvTranspose3d(4, 6, 2, groups=2)
    found = read_weights(save(module.state_dict(), tmp_path / "up.pt"))
    assert found.notes == ("2 groups written out as one kernel with zeros between them",)
    assert "a bias of 6 for 3 filters a group says groups" in found.layout
    full = np.zeros((2, 2, 2, 6, 4), np.float32)
    full[..., :3, :2] = keras_order(module.weight.detach()[:2])
    full[..., 3:, 2:] = keras_order(module.weight.detach()[2:])
    check(found, full, module.bias.detach().numpy() if module.bias is not None else None)


def test_weight_norm_is_refused(tmp_path: Path) -> None:
    state = {"up.weight_g": weight(1, (2, 1, 1, 1, 1)), "up.weight_v": weight(), "up.bias": bias()}
    with pytest.raises(DataError, match=r"up\.weight_\w is one of two parts of a weight \(weight norm\); fold them"):
        read_weights(save(state, tmp_path / "up.pt"))
    module = nn.utils.parametrizations.weight_norm(nn.ConvTranspose3d(2, 3, 2))
    with pytest.raises(DataError, match="one of two parts of a weight"):
        read_weights(save(module.state_dict(), tmp_path / "up.pt"))


# Modules.


def up(**options: Any) -> nn.ConvTranspose3d:
    module = nn.ConvTranspose3d(2, 3, (2, 3, 4), **options)
    with torch.no_grad():
        module.weight.copy_(weight())
        if module.bias is not None:
            module.bias.copy_(bias())
    return module


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (up(stride=2), ""),
        (nn.Sequential(up(stride=2)), ""),
        (nn.Sequential(nn.Sequential(up(stride=2)), nn.ModuleList([up()])), ":/0.0"),
        (nn.ModuleDict({"a": up(), "b": nn.ModuleList([up(stride=2)])}), ":/b.0"),
        ({"model": nn.Sequential(up(stride=2)), "epoch": 1}, ":/0"),
    ],
)
def test_modules_bring_their_configuration(tmp_path: Path, module: Any, name: str) -> None:
    found = read_weights(save(module, tmp_path / "net.pth") + name)
    check(found, keras_order(weight()), bias().numpy())
    assert found.config is not None
    assert found.config["strides"] == (2, 2, 2)
    assert found.config["padding"] == "valid"
    assert found.layout == "(channels, filters, k1, k2, k3): pytorch's order for a transposed convolution"


def test_modules_in_old_files_are_refused(tmp_path: Path) -> None:
    """They would bring their source along."""
    path = save(up(), tmp_path / "net.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=r"file: Only persistent_load of storage is allowed.*; save the state_dict\(\)"):
        read_weights(path)


def test_a_kind_of_pickle_that_torch_does_not_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="as a PyTorch file: Unsupported operand 149; save the state_dict"):
        read_weights(save(STATE, tmp_path / "net.pt", pickle_protocol=4))


def test_of_several_modules_one_must_be_named(tmp_path: Path) -> None:
    path = save(nn.ModuleDict({"a": up(), "b": up()}), tmp_path / "net.pt")
    with pytest.raises(DataError, match=r"several ConvTranspose3d: a, b; name one as .*net\.pt:/name"):
        read_weights(path)
    with pytest.raises(InputMissingError, match="no ConvTranspose3d c; there are a, b"):
        read_weights(f"{path}:/c")
    with pytest.raises(DataError, match="holds no ConvTranspose3d"):
        read_weights(save(nn.Sequential(), tmp_path / "empty.pt"))
    with pytest.raises(ArgumentError, match="layout keras cannot be: a PyTorch module says itself"):
        read_weights(path, "keras")


@pytest.mark.parametrize(
    "changes", [{"stride": "2"}, {"stride": (2, 2)}, {"groups": None}, {"padding": (1.5, 1, 1)}, {"bias": 5}]
)
def test_modules_with_strange_attributes(tmp_path: Path, changes: dict[str, Any]) -> None:
    module = up()
    module._parameters.pop("bias")
    module.__dict__.update({"bias": None} | changes)
    with pytest.raises(DataError, match=r"net\.pt") as refusal:
        read_weights(save(module, tmp_path / "net.pt"))
    assert len(str(refusal.value).splitlines()) == 1


# Nothing is run.


class Anything(nn.Module):
    """A class of a user's own."""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (Anything(), r"asks for \S*Anything, which is not opened since it could run anything"),
        (nn.Sequential(nn.ReLU()), r"asks for torch\.nn\.modules\.activation\.ReLU"),
        ({"up.weight": weight(), "config": Path("a")}, r"asks for pathlib\S*Path"),
        ([1, 2], "holds a list, not weights; save a state dict"),
        ({}, "holds no kernel of five axes"),
        ({"weight": [1.0]}, "holds no kernel of five axes"),
        ({"weight": weight().to_sparse()}, "must hold real numbers one by one"),
        ({"weight": weight().to(torch.complex64)}, "must hold real numbers"),
        (
            lambda: {"weight": torch.quantize_per_tensor(weight(), 1.0, 0, torch.qint8)},
            "must hold real numbers one by one",
        ),
        ({"weight": torch.zeros(SHAPE, device="meta")}, "must hold real numbers one by one|cannot be read"),
        (
            {"weight": torch.zeros(1, 1, 1, 1, 1).expand(2**9, 2**9, 2**9, 2**9, 2**9)},
            "taps are more than a",
        ),
        ({"weight": torch.full(SHAPE, float("nan"))}, "the kernel holds 144 values that are NaN or infinite"),
        ({"weight": torch.zeros(0, 3, 2, 2, 2)}, "the kernel is empty"),
        ({5: weight(), "other": None}, "holds no kernel of five axes"),
        (weight()[0], r"must have 5 axes"),
        ({"up.weight": weight(), "up.bias": torch.zeros(3, 1)}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated:UserWarning")
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
def test_contents_that_are_no_weights(tmp_path: Path, content: Any, text: str | None) -> None:
    path = save(content() if isinstance(content, FunctionType) else content, tmp_path / "net.pt")
    if text is None:  # a tensor called bias that cannot be one is not the bias
        assert read_weights(path).bias is None
        return
    with pytest.raises(DataError, match=text) as refusal:
        read_weights(path)
    assert str(refusal.value).startswith(f"weights {path}")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_that_would_run_code(tmp_path: Path, options: dict[str, Any], inside: bool) -> None:
    trap = Trap(tmp_path / "sprung")
    path = save({"up.weight": weight(), "x": trap} if inside else trap, tmp_path / "trap.pt", **options)
    with pytest.raises(DataError, match=r"asks for (posix|nt|os)\.mkdir, which is not opened"):
        read_weights(path)
    assert listing(tmp_path) == ["trap.pt"]
    torch.load(path, weights_only=False)
    assert (tmp_path / "sprung").is_dir()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(up()), tmp_path / "net.pt")
    with pytest.raises(DataError, match=r"is TorchScript, a program; save the state_dict\(\) of the model instead"):
        read_weights(f"{tmp_path}/net.pt")


def repacked(path: Path, *, compress: int = zipfile.ZIP_STORED, replace: dict[str, bytes] | None = None) -> str:
    """A real file whose entries are written anew."""
    raw = io.BytesIO()
    torch.save(dict(STATE), raw)
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(path, "w", compress) as new:
        for name in old.namelist():
            new.writestr(name, (replace or {}).get(name.partition("/")[2], old.read(name)))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"compress": zipfile.ZIP_DEFLATED}, "its entries are packed, which torch.save never does"),
        ({"replace": {"data.pkl": b""}}, "cannot be read as a PyTorch file"),
        ({"replace": {"data.pkl": b"\x80\x02" + b"(" * 10**6}}, "cannot be read as a PyTorch file"),
        ({"replace": {"data.pkl": pickle.dumps(b"x" * 10**6, 2) * 2}}, "holds a bytes|cannot be read|asks for"),
        ({"replace": {"data/0": b"1234"}}, "cannot be read as a PyTorch file"),
    ],
)
def test_archives_that_torch_did_not_write(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    check(read_weights(repacked(tmp_path / "good.pt")), keras_order(weight()), bias().numpy())
    with pytest.raises(DataError, match=text) as refusal:
        read_weights(repacked(tmp_path / "bad.pt", **changes))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_damaged_files(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "net.pt"
    raw = Path(save(STATE, path, **options)).read_bytes()
    for count in (20, 100, len(raw) // 2, len(raw) - 10):
        path.write_bytes(raw[:count])
        with pytest.raises(DataError, match=r"net\.pt: (cannot be read|not a kernel file)"):
            read_weights(str(path))


def test_what_is_written_is_read_by_torch(tmp_path: Path) -> None:
    kernel = (pattern(2, 3, 4, 3, 2, seed=4) / np.float32(7)).astype(np.float64)
    weights = Weights(kernel, np.arange(3.0), "memory", "array", "", {"strides": (2, 2, 2)})
    for name in ("a.pt", "a.pth"):
        assert write_weights(weights, f"{tmp_path}/{name}") == [
            "no place for the configuration in a PyTorch state dict"
        ]
        state = torch.load(tmp_path / name, weights_only=True)
        module = nn.ConvTranspose3d(2, 3, (2, 3, 4), dtype=torch.float64)
        module.load_state_dict(state)
        np.testing.assert_array_equal(module.weight.detach().permute(2, 3, 4, 1, 0), kernel)
        check(read_weights(f"{tmp_path}/{name}"), kernel, np.arange(3.0))


# Safetensors.


def save_st(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> str:
    named = {name: np.ascontiguousarray(each) for name, each in tensors.items()}
    safetensors.numpy.save_file(named, path, metadata)
    return str(path)


def test_safetensors_of_pytorch(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file({**STATE, "norm.weight": bias()}, path, {"format": "pt"})
    for name in ("", ":/up", ":/up.weight"):
        found = read_weights(f"{path}{name}")
        check(found, keras_order(weight()), bias().numpy())
        assert found.layout == "(channels, filters, k1, k2, k3): up.weight, up.weight is a name of PyTorch's"
    half = {name: tensor.bfloat16() for name, tensor in STATE.items()}
    safetensors.torch.save_file({"first": bias(5).half(), **half, "zlast": bias(7)}, path)
    found = read_weights(str(path))
    assert found.kernel.dtype == np.float32
    check(found, keras_order(weight()), bias().numpy())


def test_safetensors_of_keras_names(tmp_path: Path) -> None:
    path = save_st(tmp_path / "a.safetensors", {"up/kernel": KERNEL, "up/bias": np.zeros(5, np.float32)})
    found = read_weights(path)
    check(found, KERNEL, np.zeros(5))
    assert found.layout == "(k1, k2, k3, filters, channels): up/kernel, up/kernel is a name of Keras's"
    check(read_weights(save_st(tmp_path / "b.safetensors", {"w": KERNEL})), KERNEL, None)
    torch_order = KERNEL.transpose(4, 3, 0, 1, 2)
    check(read_weights(save_st(tmp_path / "c.safetensors", {"w": torch_order}, {"format": "pt"})), KERNEL, None)
    check(read_weights(save_st(tmp_path / "d.safetensors", {"w": torch_order}), "torch"), KERNEL, None)
    check(read_weights(save_st(tmp_path / "e.safetensors", {"kernel": KERNEL[..., 0, 0]})), KERNEL[..., :1, :1], None)


CONFIG = {
    "name": "up", "strides": (2, 1, 2), "padding": "same", "output_padding": (1, 0, 1), "dilation_rate": (1, 2, 1),
    "activation": {"class_name": "LeakyReLU", "config": {"alpha": 0.1}}, "kernel_regularizer": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_our_own_files_hold_everything(tmp_path: Path, kind: Any) -> None:
    kernel, extra = (pattern(2, 3, 4, 3, 2, seed=4) / 7).astype(kind), np.arange(3, dtype=kind)
    path = str(tmp_path / "a.safetensors")
    assert write_weights(Weights(kernel, extra, "memory", "array", "", CONFIG), path) == []
    for name in ("", ":/up", ":/kernel"):
        found = read_weights(path + name)
        assert found.config == CONFIG
        assert found.kernel.dtype == kind
        check(found, kernel, extra)
    before = Path(path).read_bytes()
    assert write_weights(found, path, overwrite=True) == []
    assert Path(path).read_bytes() == before
    with pytest.raises(InputMissingError, match="no layer down; there is up"):
        read_weights(f"{path}:/down")
    with pytest.raises(ArgumentError, match="layout torch cannot be"):
        read_weights(path, "torch")


def header(text: bytes, size: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def entry(shape: list[int], stop: int, kind: str = "F32") -> bytes:
    return f'{{"kernel":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{stop}]}}}}'.encode()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (header(b"{}"), "holds no kernel of five axes; its tensors are none"),
        (header(b"{}", 2**40), "cannot be read as safetensors"),
        (header(b"{" * 1000), "cannot be read as safetensors"),
        (header(b'{"a":' * 10_000), "cannot be read as safetensors"),
        (header(b"{\xff}"), "cannot be read as safetensors"),
        (header(entry([1, 1, 1, 1, 1], 4)), "cannot be read as safetensors"),
        (header(entry([2**40, 1, 1, 1, 1], 4), data=b"1234"), "cannot be read as safetensors"),
        (header(entry([1, 1, 1, 1, 4], 4, "F8_E5M2"), data=b"1234"), "must hold real numbers, got F8_E5M2"),
        (
            header(entry([1, 1, 1, 1, 1], 4), data=np.float32(np.nan).tobytes()),
            "the kernel holds 1 values",
        ),
        (header(entry([0, 1, 1, 1, 1], 0)), "the kernel is empty"),
        (header(b'{"__metadata__":{"conv3dt":"{"}}'), "metadata conv3dt: cannot be read as JSON"),
        (header(b'{"__metadata__":{"conv3dt":"[]"}}'), "but holds no Conv3DTranspose"),
        (header(b'{"__metadata__":{"conv3dt":"' + b"[" * 10**5 + b'"}}'), "nested too deeply"),
    ],
)
def test_safetensors_that_are_none(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=text) as refusal:
        read_weights(str(path))
    assert str(refusal.value).startswith(f"weights {path}")
    assert len(str(refusal.value).splitlines()) == 1


def test_torch_is_imported_for_its_own_files_only(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", KERNEL)
    write_weights(read_weights(f"{tmp_path}/k.npy"), f"{tmp_path}/k.safetensors")
    write_weights(Weights(KERNEL, None, "", "", "", CONFIG), f"{tmp_path}/k.keras")
    write_weights(Weights(KERNEL, None, "", "", "", CONFIG), f"{tmp_path}/k.h5")
    code = "import sys; from conv3dt.weights import read_weights; read_weights(sys.argv[1]); print(*sys.modules)"
    for name in ("k.npy", "k.safetensors", "k.keras", "k.h5"):
        words = [sys.executable, "-c", code, f"{tmp_path}/{name}"]
        modules = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        assert "numpy" in modules
        assert not {"torch", "onnx", "keras", "ml_dtypes"} & set(modules)
        assert ("h5py" in modules) == (name in ("k.keras", "k.h5"))
