"""Are a batch's inputs all found, once and in order, and does each output get a name of its own?"""

from __future__ import annotations

import glob
import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv3dt import paths
from conv3dt.discover import Scan, check_outputs, parse_shard, scans_of, shard
from conv3dt.errors import ArgumentError, InputMissingError

OUT = "out"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def pairs(scans: tuple[Scan, ...]) -> dict[str, str]:
    """Inputs and the outputs that they get."""
    return {scan.input: scan.output for scan in scans}


# Files and folders.


def test_a_file_goes_straight_into_the_output_folder() -> None:
    touch("a/b/scan.nii.gz", "other.nii")
    assert pairs(scans_of(["a/b/scan.nii.gz", "other.nii"], out_dir=OUT)) == {
        "a/b/scan.nii.gz": "out/scan.nii.gz",
        "other.nii": "out/other.nii",
    }


def test_a_folder_keeps_its_tree() -> None:
    touch("in/s1/t1.nii.gz", "in/s1/deep/er/t2.NII", "in/s2/t1.nii.gz", "in/stack.h5", "in/notes.txt", "in/s1/t1.json")
    scans = scans_of(["in"], out_dir=OUT)
    assert [(scan.name, scan.input, scan.output) for scan in scans] == [
        (name, f"in/{name}", f"out/{name}")
        for name in ("s1/deep/er/t2.NII", "s1/t1.nii.gz", "s2/t1.nii.gz", "stack.h5")
    ]
    assert all(scan.entities == () for scan in scans)


@pytest.mark.parametrize("folder", [".", "in", "in/", "./in", "absolute"])
def test_a_folder_can_be_spelled_in_many_ways(here: Path, folder: str) -> None:
    touch("in/s1/t1.nii")
    (scan,) = scans_of([str(here / "in") if folder == "absolute" else folder], out_dir=OUT)
    assert Path(scan.input).samefile("in/s1/t1.nii")
    assert scan.output == ("out/in/s1/t1.nii" if folder == "." else "out/s1/t1.nii")


def test_what_is_no_scan_is_left_out_of_a_folder() -> None:
    touch("in/a.nii", "in/.hidden.nii", "in/.git/b.nii", "in/.conv3dt-part-a.nii", "in/a.nii.json", "in/a.json")
    touch("in/x.dtseries.nii", "in/x.dlabel.nii", "in/a.nii.gz.part", "in/net.npz", "in/nii")
    assert list(pairs(scans_of(["in"], out_dir=OUT))) == ["in/a.nii"]


@pytest.mark.parametrize("pattern", ["in", "in/*", "in/**", "in/**/*.nii", "i*"])
def test_outputs_are_not_inputs_of_the_next_run(pattern: str) -> None:
    touch("in/a.nii", "in/derived/a.nii", "in/derived/deep/a.nii", "in/derivedtoo/b.nii")
    assert list(pairs(scans_of([pattern], out_dir="in/derived"))) == ["in/a.nii", "in/derivedtoo/b.nii"]


def test_the_output_folder_may_not_be_the_input_folder() -> None:
    touch("in/a.nii")
    with pytest.raises(ArgumentError, match=r"out_dir in/\.: is the input folder itself"):
        scans_of(["in"], out_dir="in/.", label="_up")


def test_the_output_folder_may_lie_above() -> None:
    touch("data/raw/a.nii")
    assert pairs(scans_of(["data/raw"], out_dir="data")) == {"data/raw/a.nii": "data/a.nii"}


@pytest.mark.parametrize(
    ("given", "out_format", "label", "output"),
    [
        ("scan.nii.gz", None, "", "out/scan.nii.gz"),
        ("scan.nii.gz", "nii", "", "out/scan.nii"),
        ("scan.v1.nii", "nii.gz", "_up2", "out/scan.v1_up2.nii.gz"),
        ("SCAN.NII.GZ", None, "_x", "out/SCAN_x.NII.GZ"),
        ("scan.nii", "h5", "", "out/scan.h5"),
        ("stack.h5", None, "", "out/stack.h5"),
        ("stack.hdf5", "nii.gz", "", "out/stack.nii.gz"),
        ("stack.h5:/raw/t1", None, "_up", "out/stack_raw_t1_up.h5"),
        ("stack.h5:/raw", "nii", "", "out/stack_raw.nii"),
        ("export", None, "", "out/export.nii.gz"),
        ("export", "h5", "", "out/export.h5"),
    ],
)
def test_output_names(given: str, out_format: str | None, label: str, output: str) -> None:
    touch(paths.split(given)[0])
    (scan,) = scans_of([given], out_dir=OUT, out_format=out_format, label=label)
    assert (scan.input, scan.output, scan.name) == (given, output, given)


def test_datasets_of_one_file_are_scans_of_their_own() -> None:
    touch("a/stack.h5")
    assert pairs(scans_of(["a/stack.h5:/one", "a/stack.h5:/two"], out_dir=OUT)) == {
        "a/stack.h5:/one": "out/stack_one.h5",
        "a/stack.h5:/two": "out/stack_two.h5",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_format": "mgz"}, "out_format must be one of nii, nii.gz, h5, got 'mgz'"),
        ({"out_dir": ""}, "out_dir must be the name of a folder, got ''"),
        ({"out_dir": "a\0b"}, r"out_dir must be the name of a folder, got 'a\\x00b'"),
        ({"label": "a/b"}, "label must be part of a file name, got 'a/b'"),
        ({"label": "a\nb"}, r"label must be part of a file name, got 'a\\nb'"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, str], message: str) -> None:
    touch("a.nii")
    with pytest.raises(ArgumentError, match=message):
        scans_of(["a.nii"], **{"out_dir": OUT, **arguments})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.nii", "input nowhere.nii: no such file or folder"),
        ("nowhere.h5:/raw", "input nowhere.h5:/raw: no such file or folder"),
        ("empty", "input empty: the folder has no .nii, .nii.gz or HDF5 file in it"),
        ("empty/*.nii", "input empty/*.nii: matches no .nii, .nii.gz or HDF5 file"),
        ("nowhere/**/x.nii", "input nowhere/**/x.nii: matches no"),
        ("", "is not the name of a file"),
        ("a\0b", r"input 'a\x00b': is not the name of a file"),
        ("a\nb.nii", r"input a\x0ab.nii: no such file or folder"),
    ],
)
def test_inputs_that_are_not_there(given: str, message: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(InputMissingError) as caught:
        scans_of([given], out_dir=OUT)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


# Patterns.


def test_a_pattern_keeps_the_tree_below_its_fixed_part() -> None:
    touch("data/s1/t1.nii.gz", "data/s1/t2.nii.gz", "data/s2/t1.nii.gz", "data/s2/t1.json")
    assert pairs(scans_of(["data/*/t1.*"], out_dir=OUT)) == {
        "data/s1/t1.nii.gz": "out/s1/t1.nii.gz",
        "data/s2/t1.nii.gz": "out/s2/t1.nii.gz",
    }


def test_a_pattern_may_match_folders_and_name_datasets() -> None:
    touch("data/s1/x/t1.nii", "data/s2/t1.nii", "data/a.h5", "data/b.h5")
    assert pairs(scans_of(["data/s*"], out_dir=OUT)) == {
        "data/s1/x/t1.nii": "out/s1/x/t1.nii",
        "data/s2/t1.nii": "out/s2/t1.nii",
    }
    assert pairs(scans_of(["data/*.h5:/raw"], out_dir=OUT)) == {
        "data/a.h5:/raw": "out/a_raw.h5",
        "data/b.h5:/raw": "out/b_raw.h5",
    }


def test_a_name_with_brackets_is_itself_if_it_is_there() -> None:
    touch("scan[1].nii", "scan1.nii", "s[ab]/x.nii")
    assert list(pairs(scans_of(["scan[1].nii"], out_dir=OUT))) == ["scan[1].nii"]
    assert list(pairs(scans_of(["s[ab]"], out_dir=OUT))) == ["s[ab]/x.nii"]


TREE = (
    "top.nii", "a/one.nii", "a/two.nii.gz", "a/b/one.nii", "a/b/c/one.nii", "ab/one.nii", "b/b/two.nii", "b/.h/one.nii"
)  # fmt: skip


@pytest.mark.parametrize(
    "pattern",
    ["*.nii", "**", "**/*.nii", "a/**/one.nii", "**/b/*.nii", "*/*/*.nii", "[ab]/*.nii*", "a?/one.nii", "**/b/**/*.nii",
  "./*/one.nii"],
)  # fmt: skip
def test_patterns_match_as_the_standard_library_has_it(pattern: str) -> None:
    touch(*TREE)
    expected = {os.path.normpath(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}
    assert expected
    assert {os.path.normpath(path) for path in pairs(scans_of([pattern], out_dir=OUT))} == expected


def test_a_pattern_does_not_lead_out_of_its_tree() -> None:
    touch("a/b/one.nii", "top.nii")
    assert pairs(scans_of(["a/b/../../*.nii"], out_dir=OUT)) == {"a/b/../../top.nii": "out/top.nii"}
    with pytest.raises(ArgumentError, match=r"input a/\*/\.\./\.\./top\.nii: must not go up"):
        scans_of(["a/*/../../top.nii"], out_dir=OUT)


# Lists.


def test_a_list_names_inputs_and_outputs() -> None:
    touch("s1/t1.nii.gz", "s2/t1.nii.gz", "s3/x/t1.nii", "s4.nii", "st.h5")
    Path("list.txt").write_bytes(
        b"\xef\xbb\xbf# subjects\r\n\r\ns1/t1.nii.gz\tone/t1\r\n  s2/t1.nii.gz \t two.nii \n\ns3\n"
        b"s4.nii\t\nst.h5:/raw\ts.h5:/up\n"
    )
    assert pairs(scans_of([], listed="list.txt", out_dir=OUT)) == {
        "s1/t1.nii.gz": "out/one/t1.nii.gz",
        "s2/t1.nii.gz": "out/two.nii",
        "s3/x/t1.nii": "out/x/t1.nii",
        "s4.nii": "out/s4.nii",
        "st.h5:/raw": "out/s.h5:/up",
    }


def test_names_in_a_list_stand_as_they_are() -> None:
    touch("a.nii", "b.nii")
    Path("list").write_text("a.nii\tone.nii\nb.nii\ttwo\n")
    scans = scans_of([], listed="list", out_dir=OUT, out_format="nii.gz", label="_up")
    assert [scan.output for scan in scans] == ["out/one.nii", "out/two.nii.gz"]


def test_a_list_comes_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("a.nii", "b.nii")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.nii\n")))
    assert list(pairs(scans_of(["b.nii"], listed="-", out_dir=OUT))) == ["a.nii", "b.nii"]


def test_a_closed_stdin_lists_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputMissingError, match="list -: cannot be read: stdin is closed"):
        scans_of([], listed="-", out_dir=OUT)


def test_a_listed_file_that_is_not_there_is_a_scan_that_will_fail() -> None:
    touch("a.nii")
    Path("list").write_text("gone/b.nii\na.nii\ngone.h5:/raw\nfolder that never was\n")
    assert pairs(scans_of([], listed="list", out_dir=OUT)) == {
        "a.nii": "out/a.nii",
        "gone/b.nii": "out/b.nii",
        "gone.h5:/raw": "out/gone_raw.h5",
        "folder that never was": "out/folder that never was.nii.gz",
    }


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", InputMissingError, "list list: names no input"),
        (b"# nothing\n\n", InputMissingError, "list list: names no input"),
        (b"\na\0b\n", InputMissingError, "list list line 2: holds a NUL"),
        (b"a.nii\t../b.nii\n", ArgumentError, "list list line 1: the output's name must be a file below --out-dir"),
        (b"a.nii\t/b.nii\n", ArgumentError, "must be a file below --out-dir, got /b.nii"),
        (b"a.nii\tx/../../b.nii\n", ArgumentError, "must be a file below --out-dir"),
        (b"a.nii\tfolder/\n", ArgumentError, "must be a file below --out-dir"),
        (b"a.nii\t.\n", ArgumentError, "must be a file below --out-dir"),
        (b"folder\tb.nii\n", ArgumentError, "line 1: an output's name goes with one file, got folder"),
        (b"*.nii\tb.nii\n", ArgumentError, "line 1: an output's name goes with one file"),
        (b"x*.nii\n", InputMissingError, "matches no"),
        (b"a.nii\tb.nii\na.nii\tb.nii.gz\n", ArgumentError, "would both become"),
    ],
)
def test_lists_that_cannot_be(content: bytes, error: type[Exception], message: str) -> None:
    touch("a.nii")
    Path("folder").mkdir()
    Path("list").write_bytes(content)
    with pytest.raises(error) as caught:
        scans_of([], listed="list", out_dir=OUT)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", ".", "a\0b"])
def test_a_list_that_cannot_be_read(name: str) -> None:
    with pytest.raises(InputMissingError, match="cannot be read"):
        scans_of([], listed=name, out_dir=OUT)


# Outputs.


@pytest.mark.parametrize(
    ("names", "inputs", "arguments"),
    [
        (("a/x.nii", "b/x.nii"), ("a/x.nii", "b/x.nii"), {}),
        (("a/x.nii", "b/x.nii"), ("a", "b"), {}),
        (("a/x.nii", "a/x.nii.gz"), ("a",), {"out_format": "nii"}),
        (("a/x.nii", "a/x.nii.gz"), ("a",), {}),
        (("a/x.nii", "a/x.h5"), ("a",), {}),
    ],
    ids=["files", "folders", "one format", "one sidecar", "one sidecar, two formats"],
)
def test_two_that_would_get_one_output(
    names: tuple[str, ...], inputs: tuple[str, ...], arguments: dict[str, str]
) -> None:
    touch(*names)
    with pytest.raises(ArgumentError, match="would both become out/x") as caught:
        scans_of(inputs, out_dir=OUT, **arguments)
    assert all(name in str(caught.value) for name in names)


def test_one_file_named_twice_is_one_scan(here: Path) -> None:
    touch("a/x.nii")
    scans = scans_of(["a/x.nii", "./a/x.nii", "a", str(here / "a/x.nii"), "a/*"], out_dir=OUT)
    assert pairs(scans) == {"a/x.nii": "out/x.nii"}


@pytest.mark.parametrize("given", ["x.nii", "./x.nii", "link.nii"])
def test_an_input_is_never_written_over(given: str) -> None:
    touch("x.nii")
    Path("link.nii").symlink_to("x.nii")
    Path("list").write_text(f"{given}\tx.nii\n")
    with pytest.raises(ArgumentError, match="would be written over"):
        scans_of([], listed="list", out_dir=".")


def test_nor_by_the_output_of_another() -> None:
    touch("a.nii", "b.nii")
    Path("list").write_text("a.nii\tb.nii\nb.nii\tc.nii\n")
    with pytest.raises(ArgumentError, match=r"input b\.nii: would be written over by the output of a\.nii"):
        scans_of([], listed="list", out_dir=".")


def test_outputs_of_others_are_checked_the_same_way() -> None:
    fine = [Scan("a.nii", "out/a.nii", "a"), Scan("b.nii", "out/b.nii", "b")]
    assert check_outputs(fine) == tuple(fine)
    with pytest.raises(ArgumentError, match=r"inputs a\.nii and c\.nii would both become out/a\.nii"):
        check_outputs([*fine, Scan("c.nii", "out/a.nii", "c")])


# What file systems have in store.


def test_links_are_followed_once_each() -> None:
    touch("store/x.nii", "in/real/y.nii")
    Path("in/a-link").symlink_to("real")
    Path("in/b-link").symlink_to("../store")
    Path("in/loop").symlink_to(".")
    Path("in/real/up").symlink_to("..")
    Path("in/top").symlink_to("/")
    Path("in/self.nii").symlink_to("self.nii")
    Path("in/dangling.nii.gz").symlink_to("nowhere")
    assert list(pairs(scans_of(["in"], out_dir=OUT))) == [
        "in/b-link/x.nii",
        "in/dangling.nii.gz",
        "in/real/y.nii",
        "in/self.nii",
    ]
    assert list(pairs(scans_of(["in/**/*.nii"], out_dir=OUT))) == ["in/b-link/x.nii", "in/real/y.nii", "in/self.nii"]


@pytest.mark.parametrize("pattern", ["in", "in/**/x.nii", "in/*/x.nii"])
def test_a_folder_that_cannot_be_read_is_told(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/open/x.nii", "in/shut/x.nii")
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path) == ("in" if pattern == "in/*/x.nii" else "in/shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputMissingError, match=r"input folder in.*: cannot be read: Permission denied; permit it"):
        scans_of([pattern], out_dir=OUT)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_any_name_is_found_and_shown_in_one_line() -> None:
    names = [b"new\nline.nii", b"not\xfftext.nii", "käse.nii".encode(), b" space .nii", b"tab\t.nii", b"-o.nii"]
    for name in names:
        Path(os.fsdecode(b"in/" + name)).parent.mkdir(exist_ok=True)
        Path(os.fsdecode(b"in/" + name)).touch()
    scans = scans_of(["in"], out_dir=OUT)
    assert {os.fsencode(scan.input) for scan in scans} == {b"in/" + name for name in names}
    assert {os.fsencode(scan.output) for scan in scans} == {b"out/" + name for name in names}
    for scan in scans:
        assert scan.name.isprintable()
        scan.name.encode()
    assert [scan for scan in scans if scan.name == "käse.nii"]
    Path("list").write_bytes(b"in/not\xfftext.nii\tx\xfe\n")
    (scan,) = scans_of([], listed="list", out_dir=OUT)
    assert os.fsencode(scan.output) == b"out/x\xfe.nii"


def test_the_order_of_arguments_does_not_matter() -> None:
    touch("b/2.nii", "a/1.nii", "3.nii")
    assert scans_of(["b", "a", "3.nii"], out_dir=OUT) == scans_of(["3.nii", "a", "b"], out_dir=OUT)
    assert [scan.name for scan in scans_of(["b", "a", "3.nii"], out_dir=OUT)] == ["1.nii", "2.nii", "3.nii"]


# Shards.


@given(st.lists(st.integers(), max_size=50), st.integers(1, 60))
def test_shards_deal_out_everything_once_and_evenly(items: list[int], count: int) -> None:
    numbered = list(enumerate(items))
    shares = [shard(numbered, index, count) for index in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == numbered
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(list(share) == sorted(share) for share in shares)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_shard_is_read_as_it_is_written(index: int, count: int) -> None:
    if index <= count:
        assert parse_shard(f"{index}/{count}") == (index, count)
    else:
        with pytest.raises(ArgumentError, match="shard must be i/n"):
            parse_shard(f"{index}/{count}")


@pytest.mark.parametrize(
    "text",
    ["", "1", "0/3", "4/3", "-1/3", "1/0", "a/b", "1/3/5", "1.0/3", pytest.param("1/" + "9" * 5000, id="long"), "²/3"],
)
def test_shards_that_cannot_be(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"shard must be i/n with 1 <= i <= n"):
        parse_shard(text)
