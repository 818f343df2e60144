"""Does a kernel come out of its file as it was put in, and is what cannot be a kernel refused by name?"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from conv3dt.errors import DataError, InputMissingError
from conv3dt.weights import Weights, read_weights
from tests.conftest import Run, listing, load, save_nifti, whole_numbers

DATA = Path(__file__).parent / "data" / "weights"
KERNEL = whole_numbers(3, 2, 4, 5, 6, dtype=np.float32)
BIAS = np.arange(5, dtype=np.float32)


def pattern(*shape: int, seed: int) -> NDArray[np.float32]:
    """What the scripts in ``tests/data/weights`` put into kernels: whole numbers in an order that no flip keeps."""
    numbers = (np.arange(np.prod(shape)) * 37 + seed * 11) % 101 - 50
    return numbers.astype(np.float32).reshape(shape)


def save_h5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def save_npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def check(found: Weights, kernel: NDArray[Any], bias: NDArray[Any] | None) -> None:
    np.testing.assert_array_equal(found.kernel, kernel)
    assert (found.bias is None) == (bias is None)
    if bias is not None and found.bias is not None:
        np.testing.assert_array_equal(found.bias, bias)


@pytest.mark.parametrize("name", ["kernel", "weights", "weight", "w", "anything"])
def test_npz(tmp_path: Path, name: str) -> None:
    check(read_weights(str(save_npz(tmp_path / "k.npz", **{name: KERNEL, "bias": BIAS}))), KERNEL, BIAS)
    check(read_weights(str(save_npz(tmp_path / "k.npz", **{name: KERNEL}))), KERNEL, None)


def test_npz_with_several_arrays_takes_the_kernel_or_asks(tmp_path: Path) -> None:
    check(read_weights(str(save_npz(tmp_path / "k.npz", other=BIAS, kernel=KERNEL))), KERNEL, None)
    with pytest.raises(DataError, match=r"which array is the kernel.*there are one, two"):
        read_weights(str(save_npz(tmp_path / "k.npz", one=KERNEL, two=KERNEL)))


def test_npy(tmp_path: Path) -> None:
    check(read_weights(str(save_npy(tmp_path / "k.npy", KERNEL))), KERNEL, None)
    check(read_weights(str(save_npy(tmp_path / "k.npy", np.asfortranarray(KERNEL)))), KERNEL, None)


@pytest.mark.parametrize("path", ["k.h5:/up/kernel", "k.h5:/up"])
def test_hdf5_takes_the_bias_beside_the_kernel(tmp_path: Path, path: str) -> None:
    save_h5(tmp_path / "k.h5", up__kernel=KERNEL, up__bias=BIAS, down__kernel=KERNEL + 1)
    check(read_weights(f"{tmp_path}/{path}"), KERNEL, BIAS)
    check(read_weights(f"{tmp_path}/k.h5:/down/kernel"), KERNEL + 1, None)


def test_hdf5_takes_the_only_kernel_or_asks(tmp_path: Path) -> None:
    check(read_weights(str(save_h5(tmp_path / "one.h5", deep__kernel=KERNEL, deep__bias=BIAS))), KERNEL, BIAS)
    several = save_h5(tmp_path / "two.h5", a__kernel=KERNEL, b__kernel=KERNEL)
    with pytest.raises(DataError, match="candidates: /a/kernel, /b/kernel"):
        read_weights(str(several))
    with pytest.raises(InputMissingError, match="no dataset /c/kernel; there are /a/kernel, /b/kernel"):
        read_weights(f"{several}:/c/kernel")
    with pytest.raises(DataError, match="a group without a dataset 'kernel'"):
        read_weights(f"{save_h5(tmp_path / 'three.h5', a__taps=KERNEL)}:/a")


@pytest.mark.parametrize(
    ("stored", "kept"),
    [("float16", "float32"), ("float32", "float32"), (">f4", "float32"), ("float64", "float64"), (">f8", "float64"),
     ("int16", "float64"), ("uint8", "float64"), ("int64", "float64")],
)  # fmt: skip
def test_types_lose_nothing(tmp_path: Path, stored: str, kept: str) -> None:
    found = read_weights(str(save_npz(tmp_path / "k.npz", kernel=KERNEL.astype(stored), bias=BIAS.astype(stored))))
    assert found.kernel.dtype == kept
    check(found, KERNEL, BIAS)


def test_three_axes_are_one_channel(tmp_path: Path) -> None:
    taps = KERNEL[..., 0, 0]
    found = read_weights(str(save_npz(tmp_path / "k.npz", kernel=taps, bias=np.float32(3))))
    check(found, taps[..., None, None], np.array([3]))


def test_the_samples_are_what_they_say(sample: Path) -> None:
    blur = read_weights(str(sample / "blur.npz"))
    assert blur.kernel.shape == (4, 4, 4, 1, 1)
    assert blur.bias is not None
    assert read_weights(str(sample / "features.h5")).kernel.shape == (3, 3, 3, 8, 4)
    taps = read_weights(str(sample / "asymmetric.npy")).kernel[..., 0, 0]
    assert taps.shape == (3, 2, 4)
    assert all((np.flip(taps, axis) != taps).any() for axis in range(3))


def test_three_axes_and_five_upsample_alike(run: Run, tmp_path: Path, sample: Path) -> None:
    scan = save_nifti(tmp_path / "scan.nii", whole_numbers(5, 6, 7))
    taps = np.load(sample / "asymmetric.npy")
    five = save_npy(tmp_path / "five.npy", taps[..., None, None])
    for target, weights in (("a.nii", sample / "asymmetric.npy"), ("b.nii", five)):
        assert run("upsample", scan, tmp_path / target, "--weights", weights, "--strides", "2").code == 0
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    assert load(tmp_path / "a.nii").any()


def test_the_bias_is_added_unless_it_is_left_out(run: Run, tmp_path: Path) -> None:
    scan = save_nifti(tmp_path / "scan.nii", whole_numbers(5, 6, 7))
    taps = np.ones((2, 2, 2), np.float32)
    both = save_npz(tmp_path / "both.npz", kernel=taps, bias=np.array([7], np.float32))
    bare = save_npz(tmp_path / "bare.npz", kernel=taps)
    used = {}
    for name, weights, more in (
        ("default", both, ()), ("use", both, ("--use-bias",)), ("no", both, ("--no-bias",)), ("bare", bare, ()),
    ):  # fmt: skip
        done = run("upsample", scan, tmp_path / f"{name}.nii", "--weights", weights, "--strides", "2", "--json", *more)
        assert done.code == 0
        used[name] = done.json["layer"]["use_bias"]
    assert used == {"default": True, "use": True, "no": False, "bare": False}
    without = load(tmp_path / "no.nii")
    np.testing.assert_array_equal(load(tmp_path / "bare.nii"), without)
    np.testing.assert_array_equal(load(tmp_path / "default.nii"), without + 7)
    np.testing.assert_array_equal(load(tmp_path / "use.nii"), without + 7)


def test_a_bias_that_is_not_there_cannot_be_insisted_on(run: Run, tmp_path: Path, sample: Path) -> None:
    scan, bare = sample / "head.nii.gz", sample / "asymmetric.npy"
    done = run("upsample", scan, tmp_path / "out.nii", "--weights", bare, "--use-bias")
    assert done.code == 65
    assert "hold no bias, but use_bias asks for one" in done.complaint


def test_a_kernel_of_zeros_is_warned_of(run: Run, tmp_path: Path) -> None:
    scan = save_nifti(tmp_path / "scan.nii", whole_numbers(3, 3, 3))
    zeros = save_npz(tmp_path / "k.npz", kernel=np.zeros((2, 2, 2), np.float32))
    ones = save_npz(tmp_path / "one.npz", kernel=np.ones((2, 2, 2), np.float32))
    done = run("upsample", scan, tmp_path / "out.nii", "--weights", zeros, "--strides", "2")
    assert done.code == 0
    assert "all zeros" in done.err
    assert not load(tmp_path / "out.nii").any()
    assert "all zeros" not in run("upsample", scan, tmp_path / "one.nii", "--weights", ones, "--strides", "2").err


def with_value(value: float) -> NDArray[np.float32]:
    kernel = KERNEL.copy()
    kernel[0, 1, 2, 0, 0] = kernel[2, 0, 0, 0, 0] = value
    return kernel


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"kernel": with_value(np.nan)}, "the kernel holds 2 values that are NaN or infinite"),
        ({"kernel": with_value(np.inf)}, "the kernel holds 2 values that are NaN or infinite"),
        ({"kernel": with_value(-np.inf)}, "the kernel holds 2 values that are NaN or infinite"),
        ({"kernel": KERNEL, "bias": BIAS * np.nan}, "the bias holds 5 values that are NaN or infinite"),
        ({"kernel": KERNEL[0]}, r"must have 5 axes \(k1, k2, k3, filters, channels\), or 3 .* shape \(2, 4, 5, 6\)"),
        ({"kernel": KERNEL[0, 0, 0]}, r"got shape \(5, 6\)"),
        ({"kernel": KERNEL[None]}, r"got shape \(1, 3, 2, 4, 5, 6\)"),
        ({"kernel": KERNEL[:0]}, r"the kernel is empty, got shape \(0, 2, 4, 5, 6\)"),
        ({"kernel": KERNEL, "bias": BIAS[:4]}, r"the bias must have 5 values, one a filter, got \(4,\)"),
        ({"kernel": KERNEL, "bias": BIAS[None]}, r"the bias must have 5 values, one a filter, got \(1, 5\)"),
        ({"kernel": KERNEL, "bias": np.float32(1)}, r"the bias must have 5 values, one a filter, got \(1,\)"),
        ({"kernel": KERNEL.astype(complex)}, "must hold real numbers, got complex128"),
        ({"kernel": KERNEL.astype("S8")}, "must hold real numbers"),
        ({"kernel": KERNEL, "bias": BIAS.astype(complex)}, "must hold real numbers"),
        ({"kernel": KERNEL, "bias": np.array([b"a"] * 5)}, "must hold real numbers"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_what_cannot_be_a_kernel_is_refused(tmp_path: Path, suffix: str, arrays: dict[str, Any], text: str) -> None:
    path = tmp_path / f"k{suffix}"
    name = str(save_npz(path, **arrays)) if suffix == ".npz" else f"{save_h5(path, **arrays)}:/kernel"
    with pytest.raises(DataError, match=text) as refusal:
        read_weights(name)
    assert str(refusal.value).startswith(f"weights {path}")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["npy", "npz", "pickle", "pickle named npz"])
def test_nothing_in_a_file_is_executed(tmp_path: Path, how: str) -> None:
    trap = np.empty((1, 1, 1), object)
    trap[0, 0, 0] = Trap(tmp_path / "sprung")
    path = tmp_path / {"npy": "k.npy", "npz": "k.npz", "pickle": "k.npy"}.get(how, "k.npz")
    if how == "npy":
        np.save(path, trap, allow_pickle=True)
    elif how == "npz":
        np.savez(path, kernel=trap, allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(trap))
    with pytest.raises(DataError, match=r"Object arrays cannot be loaded|not a kernel file"):
        read_weights(str(path))
    assert listing(tmp_path) == [path.name]
    loaded = np.load(path, allow_pickle=True)  # the trap works, where it is stepped into
    _ = loaded["kernel"] if how == "npz" else loaded
    assert (tmp_path / "sprung").is_dir()


@pytest.mark.parametrize("name", ["k.npz", "k.npy", "k.h5"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    if name == "k.h5":
        save_h5(path, kernel=KERNEL, bias=BIAS)
    else:
        save_npz(path, kernel=KERNEL, bias=BIAS) if name == "k.npz" else save_npy(path, KERNEL)
    check(read_weights(str(path)), KERNEL, None if name == "k.npy" else BIAS)
    raw = path.read_bytes()
    path.write_bytes({"cut": raw[: len(raw) // 2], "garbage": b"\x01garbage" * 50, "empty": b""}[damage])
    with pytest.raises(DataError, match=r"cannot be read as|not a kernel file"):
        read_weights(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "k.npz", tmp_path):
        with pytest.raises(InputMissingError, match="no such file"):
            read_weights(str(path))


@pytest.mark.parametrize(("name", "module"), [("k.npz", "arrays"), ("k.h5", "hdf5_tree")])
def test_a_small_file_that_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    path = save_npz(tmp_path / name, kernel=KERNEL) if module == "arrays" else save_h5(tmp_path / name, kernel=KERNEL)
    monkeypatch.setattr(f"conv3dt.weights.{module}.MOST_BYTES", KERNEL.nbytes - 1)
    with pytest.raises(DataError, match="more than a kernel can be"):
        read_weights(str(path))


def test_a_group_called_vars_does_not_make_it_keras(tmp_path: Path) -> None:
    path = save_h5(tmp_path / "a.h5", kernel=KERNEL, bias=BIAS, vars__0=BIAS)
    check(read_weights(f"{path}:/kernel"), KERNEL, BIAS)


@pytest.mark.parametrize("layout", ["keras", "torch"])
def test_the_layout_of_bare_arrays_can_be_said(tmp_path: Path, layout: str) -> None:
    kernel = KERNEL if layout == "keras" else KERNEL.transpose(4, 3, 0, 1, 2)
    for path in (
        f"{save_npz(tmp_path / 'k.npz', kernel=kernel, bias=BIAS)}:/kernel",
        f"{save_h5(tmp_path / 'k.h5', kernel=kernel, bias=BIAS)}:/kernel",
    ):
        found = read_weights(path, layout)
        check(found, KERNEL, BIAS)
        assert found.layout.startswith("(k1, k2, k3" if layout == "keras" else "(channels, filters, k1, k2, k3): as")
    check(read_weights(str(save_npy(tmp_path / "k.npy", kernel)), layout), KERNEL, None)
    with pytest.raises(
        DataError, match=r"a bias of 4 does not go with a transposed weight .* is it a forward Conv3d\?"
    ):
        read_weights(
            str(save_npz(tmp_path / "bad.npz", kernel=KERNEL.transpose(4, 3, 0, 1, 2), bias=BIAS[:4])), "torch"
        )


def test_an_array_in_an_npz_can_be_named(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "k.npz", **{"a/kernel": KERNEL, "a/bias": BIAS, "b": KERNEL + 1})
    check(read_weights(f"{path}:/a/kernel"), KERNEL, BIAS)
    check(read_weights(f"{path}:/b"), KERNEL + 1, None)
    with pytest.raises(InputMissingError, match="no array c; there are a/kernel, a/bias, b"):
        read_weights(f"{path}:/c")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="no such file but a folder; of a SavedModel make a"):
        read_weights(str(tmp_path))


def test_keras_writes_colon_zero_behind_its_names(tmp_path: Path) -> None:
    kernel, bias = np.ones((2, 2, 2, 3, 1), np.float32), np.arange(3, dtype=np.float32)
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["up/up/kernel:0"], file["up/up/bias:0"] = kernel, bias
    for name in ("/up/up", "/up/up/kernel:0"):
        found = read_weights(f"{tmp_path}/model.h5:{name}")
        np.testing.assert_array_equal(found.kernel, kernel)
        assert found.bias is not None
        np.testing.assert_array_equal(found.bias, bias)
