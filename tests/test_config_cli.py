"""Can every option of every command stand in the environment and in a file, with one order and no silent mistake?"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Result, Run, imported_by, listing, load, save_nifti, whole_numbers

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROPERTY = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
NOT_SETTINGS = {"config", "print_config", "help"}


def commands() -> dict[str, click.Command]:
    """Return every command that does something, by the words that call it."""
    (point,) = entry_points(group="console_scripts", name="conv3dt")
    root = sys.modules[point.load().__module__].conv3dt
    found: dict[str, click.Command] = {}
    waiting: list[tuple[tuple[str, ...], click.Command]] = [((), root)]
    while waiting:
        words, command = waiting.pop(0)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                waiting.append(((*words, name), inner))
        else:
            found[" ".join(words)] = command
    return found


COMMANDS = commands()


def own_options(command: str) -> list[click.Option]:
    """Return the options of a command that a user can set, those of the value's own first."""
    found = [param for param in COMMANDS[command].params if isinstance(param, click.Option)]
    return [option for option in found if key(option) not in NOT_SETTINGS]


def key(option: click.Option) -> str:
    """The name of an option in a file."""
    return next((opt for opt in option.opts if opt.startswith("--")), option.opts[0]).lstrip("-").replace("-", "_")


def rivals(command: str) -> set[str]:
    """The names of flags that only say in another way what an option with a value says."""
    valued = {option.name for option in own_options(command) if not option.is_flag}
    return {key(o) for o in own_options(command) if o.is_flag and not o.is_bool_flag and o.name in valued}


SAMPLES = ("word", "7", "7,8,9", "7/9", "a=b", "1GiB", "a.nii")


def sample(command: str, option: click.Option) -> Any:
    """A value for an option, as TOML has it, that is not the default."""
    if option.is_flag:
        return True
    if isinstance(option.type, click.Choice):
        one: Any = next(choice for choice in reversed(option.type.choices) if choice != option.default)
    elif isinstance(option.type, (type(click.INT), type(click.FLOAT))):
        one = next(number for number in (3, 64) if accepts(command, option, str(number)))
    else:
        one = next(text for text in SAMPLES if accepts(command, option, text))
        one = {"7": 7, "7,8,9": [7, 8, 9]}.get(one, one)
    many = one if option.nargs == 1 else [one] * option.nargs
    return [many] if option.multiple else many


def accepts(command: str, option: click.Option, text: str) -> bool:
    try:
        option.process_value(click.Context(COMMANDS[command]), (text,) if option.multiple else text)
    except click.BadParameter:
        return False
    return True


def as_text(value: Any) -> str:
    """A value as the environment has it."""
    if isinstance(value, bool):
        return str(int(value))
    between = " " if isinstance(value, list) and isinstance(value[0], str) else ","
    return between.join(map(as_text, value)) if isinstance(value, list) else str(value)


def as_toml(value: Any) -> str:
    """A value as a file has it; samples hold nothing that wants care."""
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def identifier(command: str) -> str:
    return re.sub("[ -]", "_", command)


def table(command: str) -> str:
    return ".".join(command.split())


def write(folder: Path, text: str, name: str = "c.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def printed(done: Result) -> dict[str, Any]:
    """What --print-config has printed, read as TOML."""
    assert (done.code, done.err) == (0, "")
    return tomllib.loads(done.out)


def origin(done: Result, name: str) -> str:
    """Where --print-config says that an option is from."""
    (line,) = re.findall(rf"^(?:# )?{name} =.*?  # (.*)$", done.out, re.MULTILINE)
    assert isinstance(line, str)
    return line


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the developer's."""
    for name in [name for name in os.environ if name.startswith("CONV3DT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that are read at once."""
    return tmp_path_factory.mktemp("shelf")


# Every option, from everywhere.


@pytest.mark.parametrize("command", COMMANDS)
def test_options_stand_in_a_file_at_the_top_and_in_a_table(run: Run, here: Path, command: str) -> None:
    values = {key(o): sample(command, o) for o in own_options(command) if key(o) not in rivals(command)}
    assert values or not own_options(command)
    text = "\n".join(f"{name} = {as_toml(value)}" for name, value in values.items())
    for name, file in {"top": write(here, text), "own": write(here, f"[{table(command)}]\n{text}", "d.toml")}.items():
        done = run(*command.split(), "--print-config", "--config", file)
        found = printed(done)
        assert {key: found[key] for key in values} == values
        for key_ in values:
            prefix = f"{table(command)}." if name == "own" else ""
            assert origin(done, key_) == f"{file}: {prefix}{key_}"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("own", [False, True], ids=["any", "own"])
def test_options_stand_in_the_environment(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, command: str, own: bool
) -> None:
    values = {key(o): sample(command, o) for o in own_options(command) if key(o) not in rivals(command)}
    prefix = f"CONV3DT_{identifier(command).upper()}_" if own else "CONV3DT_"
    for name, value in values.items():
        monkeypatch.setenv(f"{prefix}{name.upper()}", as_text(value))
    done = run(*command.split(), "--print-config")
    found = printed(done)
    assert {name: found[name] for name in values} == values
    for name in values:
        assert origin(done, name) == f"{prefix}{name.upper()}"


@pytest.mark.parametrize(
    ("command", "option"), [(command, option.opts[-1]) for command in COMMANDS for option in own_options(command)]
)
def test_an_option_alone_says_the_same_from_everywhere(
    run: Run, shelf: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: str
) -> None:
    (param,) = [o for o in own_options(command) if option in o.opts]
    name, value = key(param), sample(command, param)
    words = [[option]] if param.is_flag else [[option, as_text(one)] for one in (value if param.multiple else [value])]
    spoken = printed(run(*command.split(), *(word for use in words for word in use), "--print-config"))
    assert spoken != printed(run(*command.split(), "--print-config"))
    file = write(shelf, f"{name.replace('_', '-')} = {as_toml(value)}")
    assert printed(run("--config", file, *command.split(), "--print-config")) == spoken
    monkeypatch.setenv(f"CONV3DT_{name.upper()}", as_text(value))
    assert printed(run(*command.split(), "--print-config")) == spoken


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_printed_is_all_options_and_says_the_same_again(run: Run, here: Path, command: str) -> None:
    done = run(*command.split(), "--print-config")
    names = re.findall(r"^(?:# )?(\w+) =", done.out, re.MULTILINE)
    assert sorted(names) == sorted({key(o) for o in own_options(command)} - rivals(command))
    again = run(*command.split(), "--print-config", "--config", write(here, done.out))
    assert printed(again) == printed(done)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_two_options_have_one_value(command: str) -> None:
    valued = [option.name for option in own_options(command) if not option.is_flag]
    assert sorted(valued) == sorted(set(valued))


def test_no_variable_means_two_things() -> None:
    meanings: dict[str, set[tuple[str, str]]] = {}
    for command in COMMANDS:
        for option in own_options(command):
            meanings.setdefault(key(option).upper(), set()).add(("", key(option)))
            own = f"{identifier(command)}_{key(option)}".upper()
            meanings.setdefault(own, set()).add((command, key(option)))
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}
    assert not meanings.keys() & {"CONFIG", "TRACEBACK"}


# The order.


@PROPERTY
@given(said=st.sets(st.sampled_from(["top", "table", "any", "own", "line"])))
def test_the_nearest_word_holds(run: Run, here: Path, said: set[str]) -> None:
    order = ["top", "table", "any", "own", "line"]
    value = {name: n + 2 for n, name in enumerate(order)}
    file = write(
        here,
        (f"threads = {value['top']}\n" if "top" in said else "")
        + (f"[upsample]\nthreads = {value['table']}\n" if "table" in said else ""),
    )
    line = ["--threads", value["line"]] if "line" in said else []
    with pytest.MonkeyPatch.context() as patch:
        for name, variable in {"any": "CONV3DT_THREADS", "own": "CONV3DT_UPSAMPLE_THREADS"}.items():
            if name in said:
                patch.setenv(variable, str(value[name]))
        done = run("upsample", "--config", file, *line, "--print-config")
    expected = [value[name] for name in order if name in said]
    assert printed(done).get("threads") == (expected[-1] if expected else None)


def test_a_table_and_a_variable_are_for_their_command_only(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here, "[upsample]\nscale = 3\n[kernel.make]\nscale = 4\n")
    monkeypatch.setenv("CONV3DT_CONFIG", "c.toml")
    monkeypatch.setenv("CONV3DT_SHAPE_SEED", "5")
    found = {command: printed(run(*command.split(), "--print-config")) for command in ("upsample", "kernel make")}
    assert [found[command].get("scale") for command in found] == [3, 4]
    assert [found[command].get("seed") for command in found] == [None, None]
    assert printed(run("shape", "--print-config")).get("scale") is None
    assert printed(run("shape", "--print-config"))["seed"] == 5


def test_a_table_beside_a_key_of_the_same_name(run: Run, here: Path) -> None:
    file = write(here, 'kernel = "cubic"\n[kernel-make]\nkernel = "nearest"\n')
    assert printed(run("kernel", "--config", file, "make", "--print-config"))["kernel"] == "nearest"
    assert printed(run("shape", "--config", file, "--print-config"))["kernel"] == "cubic"
    done = run("shape", "--config", write(here, 'kernel = "cubic"\n[kernel.make]\n'), "--print-config")
    assert done.code == 65
    assert "[kernel-make]" in done.complaint


def test_no_file_is_read_that_nobody_names(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "conv3dt").mkdir()
    for name in ("config.toml", "conv3dt.toml", ".conv3dt.toml", "conv3dt/config.toml", "pyproject.toml"):
        write(here, "thredas = 3\n", name)
    for variable in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert run("shape", "3,3,3").code == 0


# What a command then does.


def test_a_file_makes_the_bytes_that_the_command_line_makes(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_nifti(here / "scan.nii", whole_numbers(5, 6, 7), np.diag([2.0, 2, 4, 1]))
    options = ("--scale", "2,2,1", "--kernel", "cubic", "--dtype", "int16", "--boundary", "reflect")
    assert run("upsample", "scan.nii", "line.nii", *options).code == 0
    file = write(here, 'scale = [2, 2, 1]\nboundary = "reflect"\ndtype = "uint8"\n[upsample]\nkernel = "cubic"\n')
    monkeypatch.setenv("CONV3DT_DTYPE", "int16")
    for n, words in enumerate([("--config", file, "upsample"), ("upsample", "--config", file)]):
        assert run(*words, "scan.nii", f"file{n}.nii").code == 0
        assert (here / f"file{n}.nii").read_bytes() == (here / "line.nii").read_bytes()
    assert run("upsample", "scan.nii", "plain.nii").code == 0
    assert load(here / "plain.nii").shape == (10, 12, 14)


@pytest.mark.parametrize(
    "text",
    ["scale = [2, 2, 1]", "scale = '2,2,1'", "scale = '2x2x1'", "[shape]\nscale = [2,2,1]", "[shape]\nscale=[2,2,1]\n"],
)
def test_triples_are_lists_or_text(run: Run, here: Path, text: str) -> None:
    done = run("shape", "4,4,4", "--json", "--config", write(here, text))
    assert done.json["output"]["shape"] == [8, 8, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data_format = 'channels_last'", "channels_last"),
        ("channels_last = true", "channels_last"),
        ("channels-first = true", "channels_first"),
        ("channels_last = false\nchannels_first = true", "channels_first"),
        ("channels_last = false", None),
        ("data_format = 'channels_last'\n[shape]\nchannels_first = true", "channels_first"),
        ("data_format = 'channels_last'\n[shape]\nchannels_last = false", None),
    ],
)
def test_flags_that_share_a_value(run: Run, here: Path, text: str, expected: str | None) -> None:
    done = run("shape", "--config", write(here, text), "--print-config")
    assert printed(done).get("data_format") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("use_bias = true", True), ("use_bias = false", False), ("no_bias = true", False), ("no-bias = false", True)],
)
def test_flags_of_a_pair(run: Run, here: Path, text: str, expected: bool) -> None:
    assert printed(run("shape", "--config", write(here, text), "--print-config"))["use_bias"] is expected
    for option, other in (("--use-bias", True), ("--no-bias", False)):
        assert printed(run("shape", "--config", "c.toml", option, "--print-config"))["use_bias"] is other


@pytest.mark.parametrize("text", ["1", "true", "yes", "on", "TRUE", "On"])
@pytest.mark.parametrize("opposite", [False, True])
def test_flags_of_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch, text: str, opposite: bool) -> None:
    no = {"1": "0", "true": "false", "yes": "no", "on": "off", "TRUE": "FALSE", "On": "Off"}
    monkeypatch.setenv("CONV3DT_JSON", no[text] if opposite else text)
    assert run("shape", "3,3,3").out.startswith("{") is not opposite


def test_an_empty_variable_says_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONV3DT_SCALE", "CONV3DT_CONFIG", "CONV3DT_JSON", "CONV3DT_THREDAS"):
        monkeypatch.setenv(name, "")
    done = run("shape", "3,3,3")
    assert (done.code, done.err) == (0, "")


def test_several_values_are_told_apart_as_in_a_shell(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = [
        (c, o) for c in COMMANDS for o in own_options(c) if o.multiple and isinstance(o.type, type(click.STRING))
    ]
    for command, option in repeated:
        if accepts(command, option, "a b=c"):
            monkeypatch.setenv(f"CONV3DT_{identifier(command)}_{key(option)}".upper(), "'a b=c' d=e")
            assert printed(run(*command.split(), "--print-config"))[key(option)] == ["a b=c", "d=e"]


def test_paths_are_from_the_current_folder(run: Run, here: Path) -> None:
    (here / "there").mkdir()
    np.savez(here / "k.npz", kernel=np.ones((2, 2, 2)))
    file = write(here / "there", "weights = 'k.npz'\nstrides = 2\n")
    assert run("shape", "3,3,3", "--json", "--config", file).json["output"]["shape"] == [6, 6, 6]


def test_help_is_there_whatever_is_wrong(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {command: run(*command.split(), "--help") for command in COMMANDS}
    for name, text in {"CONFIG": "nowhere.toml", "THREADS": "many", "THREDAS": "1", "JSON": "maybe"}.items():
        monkeypatch.setenv(f"CONV3DT_{name}", text)
    for command in COMMANDS:
        done = run(*command.split(), "--help")
        assert done == before[command]
        assert done.code == 0
        assert "--config FILE" in done.out
        assert "--print-config" in done.out
    assert "CONV3DT_THREADS" in run("--help").out


# Printing.


@st.composite
def choices(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A command and some of its options, with values that it takes."""
    command = draw(st.sampled_from(list(COMMANDS)))
    words = []
    chosen = draw(st.lists(st.sampled_from(own_options(command)), unique_by=lambda o: o.name, max_size=8))
    for option in chosen:
        spelling = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
        if option.is_flag:
            words += [spelling]
            continue
        for _ in range(draw(st.integers(1, 3)) if option.multiple else 1):
            words += [spelling, *(draw(texts(command, option)) for _ in range(option.nargs))]
    return command, words


def texts(command: str, option: click.Option) -> st.SearchStrategy[str]:
    """Values that an option takes, as text of the command line."""
    if isinstance(option.type, click.Choice):
        return st.sampled_from(list(option.type.choices))
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    any_text = st.one_of(
        st.text(characters, max_size=8),
        st.sampled_from(["1", "3", "2,2,1", "1.5,-2,3e9", "1x2x3", "1GiB", "0.5", "7/9", "a=b", " "]),
    )
    return any_text.filter(lambda text: not text.startswith("-") and accepts(command, option, text))


@settings(PROPERTY, max_examples=40)
@given(choice=choices())
def test_what_is_printed_can_be_given_back(run: Run, here: Path, choice: tuple[str, list[str]]) -> None:
    command, words = choice
    first = run(*command.split(), *words, "--print-config")
    second = run(*command.split(), "--print-config", "--config", write(here, first.out, "first.toml"))
    third = run(*command.split(), "--print-config", "--config", write(here, second.out, "second.toml"))
    assert repr(printed(first)) == repr(printed(second)) == repr(printed(third))  # NaN is not equal to itself
    assert third.out == second.out.replace("first.toml", "second.toml")


@PROPERTY
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_text_is_printed_as_what_it_is(run: Run, text: str) -> None:
    assert printed(run("shape", f"--activation={text}", "--print-config"))["activation"] == text


def test_bytes_that_are_no_text_are_refused(run: Run) -> None:
    done = run("shape", "--activation=\udcff", "--print-config")
    assert done.code == 2
    assert "TOML" in done.complaint


def test_nothing_is_run_and_nothing_is_needed(run: Run, here: Path) -> None:
    save_nifti(here / "scan.nii", whole_numbers(3, 3, 3))
    assert run("upsample", "scan.nii", "up.nii", "--print-config").code == 0
    for command in COMMANDS:
        assert run(*command.split(), "--print-config").code == 0
    assert listing(here) == ["scan.nii"]


def test_a_wrong_command_line_is_refused_as_ever(run: Run) -> None:
    for words in (("--thredas", "3"), ("--threads", "x"), ("--threads",)):
        wrong = run("upsample", "a.nii", "b.nii", *words)
        assert wrong.code == 2
        assert run("upsample", "--print-config", *words).complaint == wrong.complaint


# What is wrong.

WRONG_FILES = [
    ("thredas = 3", 2, ["thredas", "did you mean threads?"]),
    ("[upsample]\nboundry = 'edge'", 2, ["upsample.boundry", "did you mean boundary?"]),
    ("[upsmaple]\nscale = 2", 2, ["upsmaple", "did you mean upsample?"]),
    ("[upsmaple]", 2, ["upsmaple"]),
    ("[kernel]\nscale = 2", 2, ["kernel.scale", "[kernel.make]"]),
    ("[kernel.maek]\nscale = 2", 2, ["kernel.maek"]),
    ("[info]\nscale = 2", 2, ["info.scale", "info has no such option"]),
    ("[upsample.more]\nscale = 2", 2, ["upsample.more"]),
    ("[upsample]\noutput = 'up.nii'", 2, ["upsample.output", "is an argument"]),
    ("config = 'd.toml'", 2, ["config"]),
    ("print_config = true", 2, ["print_config"]),
    ("help = true", 2, ["help"]),
    ("data_format = 'channels_lsat'", 2, ["data_format", "channels_lsat", "channels_last"]),
    ("max-memory = '1GB'\nmax_memory = '2GB'", 2, ["max_memory", "twice"]),
    ("data_format = 'channels_last'\nchannels_first = true", 2, ["data_format", "channels_first", "keep one"]),
    ("use_bias = true\nno_bias = true", 2, ["use_bias", "no_bias"]),
    ("threads = 0", 2, ["threads", "0 is not in the range"]),
    ("threads = 2.5", 2, ["threads", "'2.5'"]),
    ("threads = true", 2, ["threads", "must be a number, got true"]),
    ("threads = '4'", 2, ["threads", "must be a number, got '4'"]),
    ("threads = [4]", 2, ["threads", "must be a number, got a list"]),
    ("scale = [2, 2]", 2, ["scale", "got two"]),
    ("scale = [2, true, 2]", 2, ["scale", "got a list"]),
    ("scale = [[2, 2, 2]]", 2, ["scale", "got a list"]),
    ("scale = [2]", 2, ["scale", "got a list"]),
    ("scale = []", 2, ["scale", "got a list"]),
    ("scale = -2", 2, ["scale", "'-2'"]),
    ("scale = 0xffffffffffffffffffffffffffffffff", 2, ["scale"]),
    ("kernel = 'cubik'", 2, ["kernel", "cubik"]),
    ("kernel = 3", 2, ["kernel", "'3'"]),
    ("kernel = ['cubic']", 2, ["kernel", "got a list"]),
    ("kernel = {name = 'cubic'}", 2, ["kernel"]),
    ("padding = true", 2, ["padding", "must be text or a number, got true"]),
    ("axes = 2024-01-01", 2, ["axes", "got a date"]),
    ("dry_run = 1", 2, ["dry_run", "must be true or false, got 1"]),
    ("dry_run = 'yes'", 2, ["dry_run", "must be true or false, got 'yes'"]),
    ("[[upsample]]\nscale = 2", 2, ["upsample"]),
    ("scale = ", 65, ["TOML"]),
    ("scale", 65, ["TOML"]),
    ("scale = 2\nscale = 3", 65, ["TOML"]),
    ("scale = " + "[" * 9000 + "]" * 9000, 65, []),
    ("a." * 3000 + "b = 1", 2, []),
    ("scale = " + "9" * 9000, 65, []),
    ("#" * 2**15 + "\n", 65, ["longer"]),
]


@pytest.mark.parametrize(("text", "code", "words"), WRONG_FILES, ids=[text[:24] for text, _, _ in WRONG_FILES])
def test_a_wrong_file_is_refused_in_one_line(run: Run, here: Path, text: str, code: int, words: list[str]) -> None:
    save_nifti(here / "scan.nii", whole_numbers(3, 3, 3))
    write(here, text)
    for arguments in (("scan.nii", "up.nii"), ("--print-config",)):
        done = run("upsample", *arguments, "--config", "c.toml")
        assert done.code == code
        assert all(word in done.complaint for word in ["c.toml", *words])
        assert len(done.complaint) < 400
    assert listing(here) == ["c.toml", "scan.nii"]


def test_what_is_wrong_for_another_command_is_not_wrong_here(run: Run, here: Path) -> None:
    write(here, "channels = 4\n[shape]\nscale = 'q'\n[kernel.make]\ndtype = 'float64'\n")
    assert printed(run("upsample", "--config", "c.toml", "--print-config")).get("scale") is None


@pytest.mark.parametrize("name", ["nowhere.toml", "", ".", "/dev/zero", "binary.toml"])
@pytest.mark.parametrize("way", ["group", "command", "variable"])
def test_a_file_that_is_none(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, name: str, way: str) -> None:
    (here / "binary.toml").write_bytes(bytes(range(256)))
    if way == "variable":
        monkeypatch.setenv("CONV3DT_CONFIG", name)
    before = ("--config", name) if way == "group" else ()
    behind = ("--config", name) if way == "command" else ()
    done = run(*before, "shape", "3,3,3", *behind)
    if way == "variable" and not name:
        assert done.code == 0
        return
    assert done.code == (65 if name in ("/dev/zero", "binary.toml") else 66)
    assert f"config {name}: " in done.complaint


def test_a_file_given_twice(run: Run, here: Path) -> None:
    file = write(here, "")
    for words in (
        ("--config", file, "shape", "--config", file),
        ("--config", file, "kernel", "--config", file, "make"),
    ):
        done = run(*words, "3,3,3")
        assert done.code == 2
        assert "given twice" in done.complaint
    other = write(here, "scale = 3", "other.toml")
    with pytest.MonkeyPatch.context() as patch:  # the command line goes before the environment, whole
        patch.setenv("CONV3DT_CONFIG", "c.toml")
        assert printed(run("shape", "--config", other, "--print-config"))["scale"] == 3


@PROPERTY
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_file_or_are_refused(run: Run, here: Path, data: bytes) -> None:
    (here / "any.toml").write_bytes(data)
    done = run("shape", "3,3,3", "--config", "any.toml")
    assert done.code in (0, 2, 65)
    if done.code:
        assert "any.toml" in done.complaint


WRONG_VARIABLES = {
    "CONV3DT_THREADS": "many", "CONV3DT_UPSAMPLE_THREADS": "0", "CONV3DT_SCALE": "2,2", "CONV3DT_KERNEL": "cubik",
    "CONV3DT_DRY_RUN": "maybe", "CONV3DT_UPSAMPLE_CHANNELS_LAST": "2", "CONV3DT_DATA_FORMAT": "last",
    "CONV3DT_NO_BIAS": "none",
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), WRONG_VARIABLES.items())
def test_a_wrong_variable_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    for arguments in (("a.nii", "b.nii"), ("--print-config",)):
        done = run("upsample", *arguments)
        assert done.code == 2
        assert name in done.complaint
        assert repr(text) in done.complaint or text in done.complaint


def test_an_error_of_the_layer_names_who_said_it(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONV3DT_KERNEL", "cubic")
    file = write(here, "[shape]\nscale = 3\n")
    done = run("shape", "3,3,3", "--config", file, "--weights", "k.npz")
    assert done.code == 2
    assert "kernel is from CONV3DT_KERNEL" in done.complaint
    assert f"scale is from {file}: shape.scale" in done.complaint
    assert "is from" not in run("shape", "3,3,3", "--scale", 2, "--kernel", "linear", "--weights", "k.npz").complaint


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [("json", "1", 2), ("max_memory", "1kB", 75), ("weights", "nowhere.npz", 66)],
)
def test_an_error_of_the_run_names_who_said_it(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, code: int
) -> None:
    save_nifti(here / "scan.nii", whole_numbers(3, 3, 3))
    monkeypatch.setenv(f"CONV3DT_{name.upper()}", text)
    done = run("upsample", "scan.nii", "-")
    assert done.code == code
    assert f"{name} is from CONV3DT_{name.upper()}" in done.complaint


def heard(done: Result) -> Iterator[str]:
    """The lines on stderr that speak of variables."""
    return (line for line in done.err.splitlines() if "is ignored" in line)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CONV3DT_THREDAS", "CONV3DT_THREADS"),
        ("CONV3DT_UPSAMPLE_SCALES", "CONV3DT_UPSAMPLE_SCALE"),
        ("CONV3DT_INPUT", None),
        ("CONV3DT_HOUSE", None),
    ],
)
def test_a_variable_of_no_option_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    monkeypatch.setenv(name, "1")
    done = run("shape", "3,3,3")
    assert done.code == 0
    (line,) = heard(done)
    assert name in line
    assert (f"did you mean {meant}" in line) if meant else True
    assert list(heard(run("upsample", "nowhere.nii", "b.nii", "-q"))) == []


@pytest.mark.parametrize("name", ["CONV3DT_OVERWRITE", "CONV3DT_KERNEL_MAKE_SEED", "CONV3DT_TRACEBACK", "XCONV3DT_A"])
def test_a_variable_of_another_command_is_not_told(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert run("shape", "3,3,3").err == ""


# What it costs.


def test_nothing_is_imported_for_it_unless_it_is_used(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heavy = {"tomllib", "tomli", "difflib", "numpy", "torch"}
    assert not imported_by("shape", "3,3,3") & heavy
    write(here, "scale = 3\n")
    assert imported_by("shape", "3,3,3", "--config", "c.toml") & heavy <= {"tomllib", "tomli"}
    monkeypatch.setenv("CONV3DT_SCALE", "3")
    assert not imported_by("shape", "3,3,3") & heavy
