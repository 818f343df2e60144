"""Is ``keras.json`` read as Keras reads it, and never written; are names counted as Keras counts them?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from conv3dt import defaults
from conv3dt.defaults import Defaults
from conv3dt.dtypes import Policy, as_dtype, as_policy
from conv3dt.errors import ArgumentError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(defaults, "_current", None)
    yield tmp_path


def test_without_a_file(home: Path) -> None:
    assert (defaults.floatx(), defaults.epsilon(), defaults.image_data_format()) == ("float32", 1e-7, "channels_last")
    assert list(home.iterdir()) == []


def test_what_the_file_says(home: Path) -> None:
    (home / "keras.json").write_text(
        '{"floatx": "float64", "epsilon": 0.5, "backend": "tensorflow", "image_data_format": "channels_first"}'
    )
    assert (defaults.floatx(), defaults.epsilon(), defaults.image_data_format()) == ("float64", 0.5, "channels_first")
    assert defaults.as_floatx(0.01) == 0.01
    assert as_dtype(None) == torch.float64


def test_the_file_in_the_home_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setattr(Path, "home", lambda: home)
    (home / ".keras").mkdir()
    (home / ".keras" / "keras.json").write_text('{"floatx": "float16"}')
    assert defaults.floatx() == "float16"


def test_it_is_read_once(home: Path) -> None:
    assert defaults.floatx() == "float32"
    (home / "keras.json").write_text('{"floatx": "float64"}')
    assert defaults.floatx() == "float32"


@pytest.mark.parametrize("content", ["", "{", "floatx: float64"])
def test_a_file_that_is_no_json_says_nothing(home: Path, content: str) -> None:
    (home / "keras.json").write_text(content)
    assert defaults.current() == Defaults()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"keras\.json must hold a JSON object, got list; correct or remove it"),
        ('{"floatx": "int8"}', r"keras\.json: floatx must be one of float16, float32, float64, got 'int8'; correct"),
        ('{"epsilon": 1}', r"keras\.json: epsilon must be a float, got 1; correct or remove it"),
        ('{"image_data_format": "first"}', r"image_data_format must be channels_first or channels_last, got 'first'"),
    ],
)
def test_values_that_keras_does_not_know(home: Path, content: str, message: str) -> None:
    (home / "keras.json").write_text(content)
    with pytest.raises(ArgumentError, match=message):
        defaults.current()


def test_values_may_be_set() -> None:
    defaults.set_floatx("float64")
    defaults.set_epsilon(0.25)
    defaults.set_image_data_format("channels_first")
    assert defaults.current() == Defaults("float64", 0.25, "channels_first")
    with pytest.raises(ArgumentError, match=r"floatx must be one of .* got 'double'"):
        defaults.set_floatx("double")
    assert defaults.floatx() == "float64"


def test_data_format_in_any_case() -> None:
    assert defaults.data_format_name("Channels_First") == "channels_first"
    assert defaults.data_format_name(None) == "channels_last"
    for value in ("first", 3, "NDHWC"):
        with pytest.raises(ArgumentError, match="data_format must be channels_first or channels_last, got "):
            defaults.data_format_name(value)


def test_names_are_counted_for_each_class() -> None:
    defaults.restart_names()
    assert [defaults.automatic_name("Up") for _ in range(3)] == ["up", "up_1", "up_2"]
    assert defaults.automatic_name("Conv3DTranspose") == "conv3d_transpose"
    assert defaults.snake_case("_Hidden") == "private__hidden"


# Number types.


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ("float32", torch.float32),
        ("half", torch.float16),
        ("double", torch.float64),
        ("bfloat16", torch.bfloat16),
        (float, torch.float32),
        (np.float64, torch.float64),
        (np.dtype("f2"), torch.float16),
        (torch.float64, torch.float64),
        ("int32", torch.int32),
        (None, torch.float32),
    ],
    ids=str,
)
def test_what_names_a_type(value: object, dtype: torch.dtype) -> None:
    assert as_dtype(value) == dtype
    assert as_policy(value) == Policy(str(dtype)[6:], dtype, dtype)


@pytest.mark.parametrize(
    "value", ["foo", "<f4", "mixed", 3, [], object, {"class_name": "Policy"}, {"config": {}}], ids=str
)
def test_what_names_none(value: object) -> None:
    with pytest.raises(TypeError, match=r"^dtype .* got "):
        as_policy(value)


def test_mixed_policies() -> None:
    mixed = as_policy("mixed_float16")
    assert (mixed.variable, mixed.compute) == (torch.float32, torch.float16)
    assert as_policy("mixed_bfloat16").compute == torch.bfloat16
    assert mixed.get_config() == {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    assert as_policy(mixed.get_config()) == mixed == as_policy(mixed)
    assert as_policy({"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float64"}}).name == "float64"
    assert as_policy("float16").get_config() == "float16"
