"""Does ``conv3dt kernel`` make, convert and examine kernel files, and draw them?"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import conv3dt
from conv3dt import kernels
from conv3dt.doctor import examine, normalized, phase_sums
from conv3dt.kernel_files import convert_kernel, inspect_kernel, make_kernel
from conv3dt.layer.config import layer_config
from conv3dt.picture import MOST_PANELS, MOST_SIDE, colours, phases_png
from conv3dt.weights import WRITERS, read_weights
from tests.conftest import Run, imported_by, listing

SAME_2 = ("--strides", "2", "--padding", "same")


def save(path: Path, *shape: int, seed: int = 0) -> Path:
    """Write a bare kernel that says nothing of its layer."""
    np.savez(path, kernel=np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    return path


def picture(path: Path) -> NDArray[np.uint8]:
    """The pixels of a file that is a PNG and nothing else."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.verify()
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


# make


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_named_kernel_goes_into_every_format_that_can_be_written(run: Run, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cubic{suffix}"
    done = run("kernel", "make", path, "--kernel", "cubic", "--scale", "2,3,1")
    assert (done.code, done.out) == (0, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"{path}: 8x11x1, float32, cubic")
    found = read_weights(str(path))
    first, second, third = (np.array(kernels.taps("cubic", stride)) for stride in (2, 3, 1))
    expected = np.einsum("i,j,k->ijk", first, second, third).astype(np.float32)
    assert np.array_equal(found.kernel[..., 0, 0], expected)
    told = run("kernel", "inspect", path, "--json").json
    if not told["assumed"]:
        assert (told["strides"], told["padding"]) == ([2, 3, 1], "same")
        assert told["gain"] == pytest.approx(1)
    else:
        assert "not kept" in line


def test_a_made_kernel_upsamples_as_the_named_one(run: Run, tmp_path: Path) -> None:
    assert run("kernel", "make", tmp_path / "k.npz", "--kernel", "cubic", "--dtype", "float64").code == 0
    x = np.random.default_rng(0).normal(size=(4, 5, 3))
    layer = {"strides": 2, "padding": "same", "boundary": "edge"}
    layers: list[dict[str, Any]] = [{"weights": str(tmp_path / "k.npz"), **layer}, {"kernel": "cubic", "scale": 2}]
    made, named = (conv3dt.upsample(x, dtype="float64", threads=1, **each) for each in layers)
    assert np.array_equal(made, named)


def test_a_drawn_kernel_is_that_of_its_seed(run: Run, tmp_path: Path) -> None:
    drawn = (
        "--kernel-initializer",
        "he_normal",
        "--kernel-size",
        "3,3,2",
        "--filters",
        "4",
        "--channels",
        "2",
        *SAME_2,
    )
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        done = run("kernel", "make", tmp_path / f"{name}.npz", *drawn, "--seed", seed)
        assert done.code == 0
        assert "3x3x2, 2 -> 4 channels, float32, HeNormal, seed" in done.err
    a, b, c = (read_weights(str(tmp_path / f"{name}.npz")).kernel for name in "abc")
    assert a.shape == (3, 3, 2, 4, 2)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_what_is_drawn_without_a_seed_can_be_drawn_again(run: Run, tmp_path: Path) -> None:
    done = run("kernel", "make", tmp_path / "a.npz", "--kernel-size", "3")
    found = re.search(r"GlorotUniform, seed (\d+)", done.err)
    assert found
    assert run("kernel", "make", tmp_path / "b.npz", "--kernel-size", "3", "--seed", found[1]).code == 0
    a, b = (read_weights(str(tmp_path / f"{name}.npz")) for name in "ab")
    assert np.array_equal(a.kernel, b.kernel)
    assert a.bias is None


def test_a_bias_is_made_where_one_is_asked_for(run: Run, tmp_path: Path) -> None:
    done = run("kernel", "make", tmp_path / "a.npz", "--kernel-size", 2, "--filters", 3, "--bias-initializer", "ones")
    assert ", bias, " in done.err
    bias = read_weights(str(tmp_path / "a.npz")).bias
    assert bias is not None
    assert bias.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("--kernel", "linear", "--seed", "3"),
            "kernel cannot go with seed: a kernel is named or drawn; leave one out",
        ),
        (("--scale", "2", "--channels", "3"), "scale cannot go with channels"),
        (("--filters", "3"), "kernel_size is missing"),
        (("--kernel-initializer", "nothing", "--kernel-size", "3"), "nothing"),
        (("--kernel-size", "3", "--strides", "2", "--dilation-rate", "2"), "strides > 1 cannot go with dilation_rate"),
        (("--kernel-size", "3", "--padding", "full"), "padding must be one of valid, same, got 'full'"),
        (("--kernel-size", "9999"), "taps"),
    ],
)
def test_kernels_that_cannot_be_made(run: Run, tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    done = run("kernel", "make", tmp_path / "a.npz", *arguments)
    assert done.code == 2
    assert complaint in done.complaint
    assert listing(tmp_path) == []


def test_files_are_not_replaced_unawares(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", 3, 3, 3, 1, 1)
    before = path.read_bytes()
    for command in (("make", path), ("convert", path, path), ("inspect", path, "--strides", "1")):
        more = ("--normalize-gain", path) if command[0] == "inspect" else ()
        done = run("kernel", *command, *more)
        assert (done.code, path.read_bytes()) == (73, before)
        assert "exists already; say --overwrite" in done.complaint
    assert run("kernel", "make", path, "--overwrite").code == 0
    assert path.read_bytes() != before
    assert listing(tmp_path) == ["a.npz"]


def test_a_name_that_says_no_format(run: Run, tmp_path: Path) -> None:
    done = run("kernel", "make", tmp_path / "kernel.txt")
    assert done.code == 2
    assert "kernel.txt" in done.complaint


# convert


@pytest.mark.parametrize("suffix", WRITERS)
def test_there_and_back_no_bit_changes(run: Run, tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 4, 2, 3, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", kernel=kernel, bias=rng.normal(size=3).astype(np.float32))
    first = run("kernel", "convert", tmp_path / "a.npz", tmp_path / f"b{suffix}", *SAME_2)
    second = run("kernel", "convert", tmp_path / f"b{suffix}", tmp_path / "c.npz")
    assert (first.code, first.out, second.code) == (0, "", 0)
    (line,) = first.err.splitlines()
    assert line.startswith(f"{tmp_path}/b{suffix}: 3x4x2, 2 -> 3 channels, float32, bias, from {tmp_path}/a.npz")
    before, after = (read_weights(f"{tmp_path}/{name}.npz") for name in "ac")
    assert np.array_equal(before.kernel, after.kernel)
    if after.bias is None:
        assert "bias" in line.partition("not kept")[2]
    else:
        assert before.bias is not None
        assert np.array_equal(before.bias, after.bias)


def test_the_layer_travels_along(run: Run, tmp_path: Path) -> None:
    run("kernel", "make", tmp_path / "a.keras", "--kernel-size", 4, "--filters", 2, *SAME_2)
    assert run("kernel", "convert", tmp_path / "a.keras", tmp_path / "b.h5").code == 0
    told = run("kernel", "inspect", tmp_path / "b.h5", "--json").json
    assert (told["strides"], told["padding"], told["assumed"]) == ([2, 2, 2], "same", [])
    assert not any("strides" in finding["what"] for finding in told["findings"])


def test_options_say_of_the_layer_what_the_file_does_not(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", 4, 4, 4, 1, 1)
    assert run("kernel", "convert", path, tmp_path / "b.onnx").code == 2
    assert run("kernel", "convert", path, tmp_path / "b.onnx", "--strides", "2,2,1", "--padding", "same").code == 0
    told = run("kernel", "inspect", tmp_path / "b.onnx", "--json").json
    assert (told["strides"], told["padding"]) == ([2, 2, 1], "same")


def test_layout_says_how_bare_arrays_run(run: Run, tmp_path: Path) -> None:
    theirs = np.random.default_rng(0).normal(size=(4, 8, 3, 3, 3)).astype(np.float32)
    np.save(tmp_path / "torch.npy", theirs)
    done = run("kernel", "convert", tmp_path / "torch.npy", tmp_path / "keras.npz", "--layout", "torch")
    assert done.code == 0
    assert np.array_equal(read_weights(f"{tmp_path}/keras.npz").kernel, theirs.transpose(2, 3, 4, 1, 0))
    suspicions = [
        any("looks like PyTorch's" in finding["what"] for finding in run(*inspect, "--json").json["findings"])
        for inspect in (
            ("kernel", "inspect", tmp_path / "torch.npy"),
            ("kernel", "inspect", tmp_path / "torch.npy", "--layout", "keras"),
            ("kernel", "inspect", tmp_path / "torch.npy", "--layout", "torch"),
            ("kernel", "inspect", tmp_path / "keras.npz"),
        )
    ]
    assert suspicions == [True, False, False, False]


# inspect


def test_json_is_what_the_doctor_says(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", 3, 4, 2, 2, 3)
    told = run("kernel", "inspect", path, "--strides", "2,3,1", "--padding", "same", "--json").json
    kernel = read_weights(str(path)).kernel
    config = layer_config(filters=2, kernel_size=(3, 4, 2), strides=(2, 3, 1), padding="same")
    expected = examine(kernel, None, config.axes).as_dict()
    assert (told["path"], told["format"], told["layer"], told["notes"]) == (str(path), "npz", None, [])
    assert (told["kernel_size"], told["filters"], told["channels"]) == ([3, 4, 2], 2, 3)
    for name in ("gain", "checkerboard", "rank_one_error", "bound", "low", "high", "separable"):
        assert told[name] == expected[name]
    assert [phase["gain"] for phase in told["by_phase"]] == [phase["gain"] for phase in expected["by_phase"]]
    assert told["assumed"] == []


def test_the_table_goes_to_stdout(run: Run, tmp_path: Path) -> None:
    done = run("kernel", "inspect", save(tmp_path / "a.npz", 3, 3, 3, 2, 1), *SAME_2)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == str(tmp_path / "a.npz")
    for name in ("format", "layout", "kernel", "layer", "taps", "gain", "checkerboard", "rank-one error",
                 "largest output", "axis", "phase", "filter", "warning"):  # fmt: skip
        assert re.search(rf"^  {name}  +\S", done.out, re.MULTILINE), name
    assert re.search(r"^  1,1,1  +1  ", done.out, re.MULTILINE)
    assert "strides 2x2x2, padding same" in done.out


def test_on_a_terminal_the_same_is_said_in_tables(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    path = save(tmp_path / "a.npz", 3, 3, 3, 2, 1)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "160")
    assert run("kernel", "inspect", path, *SAME_2).code == 0
    for word in ("checkerboard", "rank-one error", "1,1,1", "warning", "off edge grid"):
        assert word in screen.getvalue()


def test_many_phases_and_filters_are_cut_and_json_has_all(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", 4, 4, 4, 40, 1)
    text = run("kernel", "inspect", path, "--strides", "4").out
    for count in (64, 40):
        assert re.search(rf"^  \.\.\. of {count}  +--json  +has all$", text, re.MULTILINE)
    told = run("kernel", "inspect", path, "--strides", "4", "--json").json
    assert (len(told["by_phase"]), len(told["by_filter"])) == (64, 40)


def test_strides_that_are_unknown_are_told(run: Run, sample: Path) -> None:
    done = run("kernel", "inspect", sample / "blur.npz")
    assert "strides 1x1x1 (assumed), padding valid (assumed)" in done.out
    assert "strides unknown, taken as 1; the sum of the taps fits strides 2; give --strides 2" in done.out
    assert "unknown" not in run("kernel", "inspect", sample / "blur.npz", *SAME_2).out


def test_gain_is_made_1(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", kernel=np.random.default_rng(0).uniform(0.1, 1, (3, 3, 3, 2, 1)).astype(np.float32))
    done = run("kernel", "inspect", tmp_path / "a.npz", *SAME_2, "--normalize-gain", tmp_path / "b.h5", "--json")
    assert done.code == 0
    assert done.json["repaired"]["path"] == str(tmp_path / "b.h5")
    told = run("kernel", "inspect", tmp_path / "b.h5", "--json").json
    assert (told["strides"], told["padding"]) == ([2, 2, 2], "same")
    assert [facts["gain"] for facts in told["by_filter"]] == pytest.approx([1, 1])
    assert told["checkerboard"] < 1e-6
    axes = layer_config(filters=2, kernel_size=3, strides=2, padding="same").axes
    before, after = (read_weights(f"{tmp_path}/{name}").kernel for name in ("a.npz", "b.h5"))
    assert np.array_equal(after, normalized(before, axes))
    np.testing.assert_allclose(phase_sums(after, axes), 1, rtol=1e-6)


def test_gains_that_cannot_be_made_1(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", kernel=np.array([1.0, -1.0]).reshape(2, 1, 1))
    for strides, complaint in (("1", "it finds edges and does not interpolate"), ("3,1,1", "smaller than the strides")):
        done = run(
            "kernel", "inspect", tmp_path / "a.npz", "--strides", strides, "--normalize-gain", tmp_path / "b.npz",
            "--png", tmp_path / "a.png",
        )  # fmt: skip
        assert done.code == 65
        assert complaint in done.complaint
    done = run("kernel", "inspect", tmp_path / "a.npz", "--normalize-gain", tmp_path / "b.npz")
    assert done.code == 2
    assert "give --strides" in done.complaint
    assert listing(tmp_path) == ["a.npz"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("nowhere.npz",), 66, "nowhere.npz: no such file"),
        (("text.npz",), 65, "not a kernel file"),
        (("flat.npz",), 65, "must have 5 axes"),
        (("nan.npz",), 65, "NaN or infinite"),
        (("a.npz", "--strides", "2", "--dilation-rate", "2"), 2, "strides > 1 cannot go with dilation_rate > 1"),
        (("a.npz", "--padding", "full"), 2, "padding must be one of"),
        (("a.npz", "--png", "a.jpg"), 2, "png must be a name that ends in .png, got 'a.jpg'"),
        (("a.npz", "--png", "b.png", "--filter", "2"), 2, "filter must be 0 to 1, got 2"),
        (("a.npz", "--png", "b.png", "--channel", "1"), 2, "channel must be 0, got 1"),
        (("a.npz", "--png", "there.png"), 73, "there.png: exists already"),
        (("a.npz", "--png", "nowhere/b.png"), 73, "does not exist"),
        (("a.npz", "--strides", "1000"), 2, "strides must make at most 262144 phases"),
    ],
)
def test_what_cannot_be_inspected(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.npz", 3, 3, 3, 2, 1)
    (tmp_path / "text.npz").write_text("kernel\n")
    np.savez("flat.npz", kernel=np.ones((3, 3)))
    np.savez("nan.npz", kernel=np.full((3, 3, 3), np.nan))
    (tmp_path / "there.png").touch()
    before = listing(tmp_path)
    done = run("kernel", "inspect", *arguments)
    assert done.code == code
    assert complaint in done.complaint
    assert listing(tmp_path) == before


def test_words_that_click_refuses(run: Run, tmp_path: Path) -> None:
    for arguments in (("inspect",), ("inspect", "a", "--strides", "1,2"), ("make",), ("melt",), ("convert", "a")):
        done = run("kernel", *arguments)
        assert (done.code, done.out) == (2, "")


# The picture.


def test_a_picture_is_drawn(run: Run, tmp_path: Path) -> None:
    run("kernel", "make", tmp_path / "k.keras", "--kernel", "lanczos3")
    done = run("kernel", "inspect", tmp_path / "k.keras", "--png", tmp_path / "k.png", "--json")
    assert (done.code, done.json["picture"]) == (0, {"path": str(tmp_path / "k.png"), "cut": []})
    pixels = picture(tmp_path / "k.png")
    assert {tuple(colour) for colour in pixels.reshape(-1, 3)} >= {(103, 0, 31), (5, 48, 97), (255, 255, 255)}
    assert run("kernel", "inspect", tmp_path / "k.keras", "--png", tmp_path / "k.png").code == 73
    again = run("kernel", "inspect", tmp_path / "k.keras", "--png", tmp_path / "k.png", "--overwrite")
    assert again.err.startswith(f"{tmp_path}/k.png: picture of {tmp_path}/k.keras")
    assert np.array_equal(picture(tmp_path / "k.png"), pixels)
    assert listing(tmp_path) == ["k.keras", "k.png"]


def test_filter_and_channel_choose_what_is_drawn(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", 3, 3, 3, 2, 2)
    pictures = set()
    for number, (filter_, channel) in enumerate([(0, 0), (0, 1), (1, 0)]):
        png = tmp_path / f"{number}.png"
        run("kernel", "inspect", path, *SAME_2, "--png", png, "--filter", filter_, "--channel", channel)
        pictures.add(png.read_bytes())
    assert len(pictures) == 3


def test_a_picture_is_bounded_and_says_what_is_cut() -> None:
    kernel = np.random.default_rng(0).normal(size=(2, 300, 40, 1, 1))
    axes = layer_config(filters=1, kernel_size=(2, 300, 40), strides=(1, 9, 40), padding="same").axes
    drawn = phases_png(kernel, axes, title="a very long name " * 60)
    assert drawn.cut == (
        f"only the middle {MOST_SIDE} taps of long axes are shown",
        f"only the first {MOST_PANELS} of 360 phases are shown",
    )
    assert max(drawn.width, drawn.height) < 3000
    with Image.open(io.BytesIO(drawn.png)) as image:
        assert image.size == (drawn.width, drawn.height)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((1, 1, 1), (1, 1, 1)), ((2, 1, 1), (3, 1, 1)), ((1, 1, 1), (5, 5, 5)), ((7, 1, 3), (2, 1, 2))],
)
def test_every_shape_can_be_drawn(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    axes = layer_config(filters=1, kernel_size=shape, strides=strides).axes
    for kernel in (np.zeros((*shape, 1, 1)), np.ones((*shape, 1, 1), np.float32), np.full((*shape, 1, 1), 1e-300)):
        assert phases_png(kernel, axes).png.startswith(b"\x89PNG\r\n\x1a\n")


def test_colours_run_from_blue_over_white_to_red() -> None:
    blue, pale, white, _, red = colours(np.array([-3.0, -1.0, 0.0, 1.0, 3.0]), 3.0).astype(int)
    assert blue[2] > blue[0]
    assert pale.sum() > blue.sum()
    assert white.tolist() == [255, 255, 255]
    assert red[0] > red[2]


def test_without_pillow_a_picture_names_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.npz", 3, 3, 3, 1, 1)
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    done = run("kernel", "inspect", path, *SAME_2, "--png", tmp_path / "a.png")
    assert done.code == 2
    assert done.complaint == "conv3dt: a picture needs Pillow; install it with: pip install 'conv3dt[png]'"
    assert run("kernel", "inspect", path, *SAME_2).code == 0
    assert listing(tmp_path) == ["a.npz"]


def test_a_picture_takes_no_kernel_files_place(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", 3, 3, 3, 1, 1)
    (tmp_path / "a.png").symlink_to(path)
    before = path.read_bytes()
    done = run("kernel", "inspect", path, *SAME_2, "--png", tmp_path / "a.png", "--overwrite")
    assert (done.code, path.read_bytes()) == (2, before)
    assert "is a kernel file of this command" in done.complaint


# As a library, and what is imported.


def test_the_functions_are_the_commands(tmp_path: Path) -> None:
    made = make_kernel(str(tmp_path / "a.keras"), kernel="linear", scale=(2, 2, 1))
    assert (made.path, made.origin, made.weights.kernel.shape) == (f"{tmp_path}/a.keras", "linear", (4, 4, 1, 1, 1))
    assert convert_kernel(made.path, str(tmp_path / "b.npz")).origin == f"from {made.path}"
    found = inspect_kernel(made.path, png=str(tmp_path / "a.png"))
    assert found.config.strides == (2, 2, 1)
    assert found.examination.gain == pytest.approx(1)
    assert found.picture == str(tmp_path / "a.png")
    with pytest.raises(TypeError, match="stride is none of strides, padding"):
        inspect_kernel(made.path, stride=2)


def test_help_needs_neither_numpy_nor_torch() -> None:
    for command in ((), ("make",), ("convert",), ("inspect",)):
        modules = imported_by("kernel", *command, "--help")
        assert not modules & {"numpy", "torch", "llvmlite", "h5py", "nibabel", "rich", "PIL"}


def test_examining_needs_neither_torch_nor_pillow(sample: Path) -> None:
    assert not imported_by("kernel", "inspect", sample / "blur.npz", "--strides", 2) & {
        "torch",
        "llvmlite",
        "PIL",
        "h5py",
    }


@pytest.mark.parametrize("command", ["make", "convert", "inspect"])
def test_commands_are_explained_with_examples(run: Run, command: str) -> None:
    done = run("kernel", command, "--help")
    assert done.code == 0
    assert f"conv3dt kernel {command}" in done.out
