"""Is the page of a batch whole, safe, small and of use?  Read as text, and in a real browser where there is one."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conv3dt.errors import ArgumentError
from conv3dt.page import MOST_BYTES, STATUSES, Row, check_page, render
from conv3dt.preview import before_after
from conv3dt.visible import visible
from tests.browser import PROGRAM, Browser

FACTS = {"started": "22:04", "options": "--scale 2"}
EVIL = [
    "<script>document.title = 'owned'</script>.nii",
    "\"'><img src=x onerror=\"document.title='owned'\">.nii",
    "</title></style></script><h1>owned</h1>.nii",
    "a\u202egnp.iin\u2066\n\r\t\x00\x1b[31m.nii",
    "lone \udc80\ud800 surrogates.nii",
    "{{ 7 * 7 }}{% raw %}${alert(1)}.nii",
    "&lt;&amp;&#0;&nbsp.nii",
    "\ufffe\uffff\U0010ffff.nii",
    "\u8133\u6ce2 caf\u00e9.nii",
]
REPORT: dict[str, Any] = {
    "version": "1.2",
    "input": {"path": "in.nii", "shape": (48, 56, 28), "spacing": (2.0, 2.0, 4.0), "unit": "mm", "affine": [[1.0] * 4]},
    "output": {"path": "out.nii", "shape": [96, 112, 56], "spacing": [1.0, 1.0, 2.0], "unit": "mm", "affine": None},
    "layer": {"name": "linear", "kernel_size": (4, 4, 4), "strides": (2, 2, 2), "padding": "same", "use_bias": False},
    "axes": [{"kernel": 4, "stride": 2, "shift": -0.25}] * 3,
    "run": {"total_s": 1.5, "peak_bytes": 10**8, "clipped": 0},
    "header": [
        {"field": "sform", "status": "recomputed", "before": "1", "after": "2", "why": "finer"},
        {"field": "slice_code", "status": "dropped", "before": "1", "after": "0", "why": "new slices"},
        {"field": "descrip", "status": "kept", "before": "a", "after": "a", "why": ""},
        {"field": "intent_code", "status": "kept", "before": "0", "after": "0", "why": ""},
    ],
    "proof": None,
    "warnings": [],
}


def picture(seed: int, side: int = 96) -> bytes:
    """A grey picture that does not pack to nothing."""
    coarse = np.random.default_rng(seed).integers(0, 255, (side // 8, 3 * side // 8), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((3 * side, side)).save(stream, "WEBP", quality=70)
    return stream.getvalue()


PICTURES = [(picture(n), picture(100 + n)) for n in range(4)]


def done(name: str, n: int = 0, **fields: Any) -> Row:
    """A scan that is done, with a report and pictures."""
    before, after = PICTURES[n % len(PICTURES)]
    whole = {"seconds": 1.5, "input": f"in/{name}", "output": f"out/{name}", "report": REPORT}
    return Row(name, "done", **{**whole, "before": before, "after": after, **fields})


def several() -> list[Row]:
    """Nine scans of every kind, in an order of no kind."""
    warned = REPORT | {"warnings": ["3 values were clipped"]}
    return [
        done("sub-10"),
        done("sub-2", 1, seconds=12.0),
        Row("sub-03", "failed", 0.1, "input in/sub-03: no such file", "in/sub-03"),
        Row("sub-04", "skipped", 0.0, input="in/sub-04", report=REPORT),
        done("sub-05", 2, report=warned, seconds=0.5),
        Row("sub-06", "planned"),
        Row("sub-07", "failed", 75.0, "out/sub-07: a disk is full", "in/sub-07"),
        done("sub-08", 3, after=None),
        done("sub-09", before=None, after=None, report=None),
    ]


ORDERED = ["sub-03", "sub-07", "sub-05", "sub-10", "sub-2", "sub-08", "sub-09", "sub-06", "sub-04"]


class Reader(HTMLParser):
    """The tags of a page, and the text of each cell that names a scan."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.names: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "th" and ("scope", "row") in attrs:
            self.names.append("")
            self._inside = "name"
        if tag in ("small", "td"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._inside == "name":
            self.names[-1] += data.rstrip("\n")

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


# What stands on it.


def test_each_scan_has_a_row_and_those_that_failed_come_first() -> None:
    page = Reader(render(several(), title="night", facts=FACTS))
    assert page.names == ORDERED
    assert [row["class"] for row in page.of("tbody")] == ["failed"] * 2 + ["warned"] + ["done"] * 4 + [
        "planned",
        "skipped",
    ]
    for text in ("a disk is full", "3 values were clipped", "22:04", "--scale 2", "1 min 15 s", "in/sub-07"):
        assert text in page.text
    assert "48\u00d756\u00d728 \u2192 96\u00d7112\u00d756" in page.text
    assert "2\u00d72\u00d74 \u2192 1\u00d71\u00d72 mm" in page.text
    assert re.findall(r"(failed|done with warnings|done|planned|skipped) (\d)\n", page.text) == [
        ("failed", "2"), ("done with warnings", "1"), ("done", "4"), ("planned", "1"), ("skipped", "1")
    ]  # fmt: skip


def test_reports_are_told_whole() -> None:
    page = Reader(render([done("a")], title="night", facts={})).text
    for text in ("linear", "kernel size4, 4, 4", "use biasno", "peak bytes100000000", "shift", "-0.25", "slice_code",
                 "dropped", "new slices", "descrip, intent_code", "version1.2", "affine1, 1, 1, 1"):  # fmt: skip
        assert text in page, text


@pytest.mark.parametrize(
    "report",
    [
        {}, {"input": None, "output": 3}, {"input": {"shape": "x"}, "output": {"shape": [None]}}, {"warnings": "text"},
        {"warnings": [1, None]}, {"header": [{}], "axes": [{"a": 1}, {"b": 2}]}, {"header": [{"field": 1}]},
        {"run": {"x": float("nan"), "deep": {"a": [[{"b": ()}]]}}}, {"1": True, "": [[1], 2]}, {"layer": []},
    ],
    ids=range(10),
)  # fmt: skip
def test_reports_from_elsewhere_do_no_harm(report: dict[str, Any]) -> None:
    assert Reader(render([done("a", report=report)], title="", facts={})).names == ["a"]


def test_a_row_says_what_became_of_a_scan() -> None:
    with pytest.raises(
        ArgumentError, match="status must be one of done, skipped, failed, cancelled, planned, got 'fine'"
    ):
        Row("a", "fine")
    assert all(Row("a", status).kind == status for status in STATUSES)


def test_pictures_are_held_by_the_page_as_they_are() -> None:
    rows = [done("a"), done("b", 1)]
    images = Reader(render(rows, title="night", facts={})).of("img")
    held = [base64.b64decode((image["src"] or "").removeprefix("data:image/webp;base64,")) for image in images]
    assert held == [rows[0].before, rows[0].after, rows[1].before, rows[1].after]
    assert [image["alt"] for image in images][:2] == ["before: three slices of a", "after: three slices of a"]


@pytest.mark.parametrize("bad", [b"", b"<svg onload=alert(1)>", b"GIF89a", b"\x89PNG\r\n\x1a\nbroken", b"RIFF"])
def test_what_is_no_picture_does_no_harm(bad: bytes) -> None:
    rows = [done(f"{n}", before=bad, after=bad) for n in range(3)] + [done(f"good {n}", n) for n in range(12)]
    page = render(rows, title="night", facts={}, most_bytes=100_000)
    assert len(page) <= 100_000
    assert all(
        (image["src"] or "").startswith(("data:image/webp;", "data:image/png;")) for image in Reader(page).of("img")
    )


def test_the_same_rows_give_the_same_bytes() -> None:
    rows = [done(f"{n}", n) for n in range(24)]
    pages = {hashlib.sha256(render(rows, title="night", facts=FACTS, most_bytes=150_000)).digest() for _ in range(2)}
    assert len(pages) == 1


# Safe.


def check_safe(page: bytes) -> Reader:
    """Nothing on a page is another's markup, and nothing comes from elsewhere."""
    read = Reader(page)
    tags = [tag for tag, _ in read.tags]
    assert (tags.count("script"), tags.count("style"), tags.count("title"), tags.count("h1")) == (1, 1, 1, 1)
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") or name in ("style", "href", "action", "srcset") for name in attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base", "a", "svg")
        assert (attributes.get("src") or "data:").startswith("data:")
    assert not re.search(rb"url\(|@import|https?:|//[a-z]", page.split(b"<main>")[0])
    return read


def test_hostile_text_is_only_text() -> None:
    rows = [Row(name, "failed", 1.0, name, name, name) for name in EVIL]
    rows += [done(name, report={name: name, "warnings": [name], "header": [{"field": name, "status": name}]})
             for name in EVIL]  # fmt: skip
    read = check_safe(render(rows, title=EVIL[0], facts={name: name for name in EVIL}))
    assert read.names == [visible(name) for name in EVIL + EVIL]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", read.text)


@pytest.mark.parametrize(
    "bad", [b"<script>1</script>", b"<img src=https://a.b/c.png>", b"<b onclick=x>", b"<b style=x>"]
)
def test_markup_of_others_would_be_seen(bad: bytes) -> None:
    page = render(several(), title="night", facts=FACTS)
    check_safe(page)
    with pytest.raises(AssertionError):
        check_safe(page.replace(b"sub-07", bad, 1))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.sampled_from(STATUSES), st.text(max_size=80)), max_size=6))
def test_any_text_is_only_text(rows: list[tuple[str, str, str]]) -> None:
    made = [Row(name, status, error=text, report={text: name}) for name, status, text in rows]
    read = check_safe(render(made, title="t", facts={text: name for name, _, text in rows}))
    assert sorted(read.names) == sorted(visible(name) for name, _, _ in rows)


def test_the_policy_lets_in_the_pages_own_script_and_style_and_nothing_else() -> None:
    page = render(several(), title="night", facts=FACTS).decode()
    (policy,) = [meta["content"] for meta in Reader(page.encode()).of("meta") if "http-equiv" in meta]
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in (policy or "")
    assert "default-src 'none'" in (policy or "")
    assert "unsafe" not in (policy or "")


# Small.


@cache
def many(count: int) -> tuple[list[Row], bytes]:
    """Scans of which every fiftieth failed, and their page."""
    rows = [done(f"sub-{n:05}_T1w.nii.gz", n) for n in range(count)]
    rows[::50] = [Row(row.name, "failed", 1.0, f"{row.input}: damaged or cut short; get the file again", row.input)
                  for row in rows[::50]]  # fmt: skip
    return rows, render(rows, title="night", facts=FACTS)


@pytest.mark.parametrize("count", [0, 1, 60, 400, 5000])
def test_a_page_stays_small(count: int) -> None:
    rows, page = many(count)
    assert len(page) <= MOST_BYTES == 2_000_000
    read = Reader(page)
    assert sorted(read.names) == [row.name for row in rows]
    assert read.text.count("damaged or cut short") == len(rows[::50])
    told = re.search(r"The pictures of (\d+) of (\d+) scans are left out", read.text)
    drawn = sum(1 for row in rows if row.before)
    assert len(read.of("img")) == 2 * (drawn - (int(told[1]) if told else 0))
    assert bool(told) == (count == 5000)
    assert ("Pictures are" in read.text) == (count == 400)


@pytest.mark.parametrize("most", [100_000, 120_000, 150_000, 250_000, 400_000, 1_500_000])
def test_what_gives_way_and_in_which_order(most: int) -> None:
    page = Reader(render([done(f"sub-{n:03}", n) for n in range(60)], title="n", facts={}, most_bytes=most))
    pictures, reports = len(page.of("img")) // 2, len(page.of("details"))
    assert len(page.names) == 60
    assert pictures == 0 or reports == 60, "reports are left out only when there are no pictures any more"
    assert pictures == 60 or "Reports are short" in page.text, "reports are short before pictures are left out"
    assert ("Pictures are" in page.text) == (pictures > 0 and most < 1_500_000)
    assert f"The pictures of {60 - pictures} of 60 scans" in page.text or pictures == 60
    assert f"The reports of {60 - reports} scans" in page.text or reports == 60
    if most == 1_500_000:
        assert (pictures, reports, "Reports are short" in page.text) == (60, 60, False)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100), st.integers(100_000, 300_000), st.integers(1, 3000), st.integers(0, 3000))
def test_no_rows_make_it_larger(count: int, most: int, name: int, error: int) -> None:
    rows = [
        Row("\u8133" * name, "failed", 1.0, "<" * error, "i" * name, "o" * name, {"a": "&" * error})
        for _ in range(count)
    ]
    rows += [done(f"{n}" * name, n) for n in range(min(count, 8))]
    facts = {f"{n}" * name: "'" * error for n in range(30)}
    assert len(render(rows, title="\U0001f600" * name, facts=facts, most_bytes=most)) <= most


def test_where_not_all_can_be_listed_it_is_said() -> None:
    rows = [Row(f"sub-{n:06}", "done") for n in range(4000)] + [Row("broken", "failed", error="no")] * 3
    page = render(rows, title="night", facts=FACTS, most_bytes=200_000)
    read = Reader(page)
    assert len(page) <= 200_000
    assert read.names[:3] == ["broken"] * 3
    assert f"The last {len(rows) - len(read.names)} scans" in read.text
    assert 1000 < len(read.names) < len(rows)
    with pytest.raises(ArgumentError, match="most_bytes must be at least 100000, got 5"):
        render([], title="", facts={}, most_bytes=5)


@pytest.mark.parametrize("missing", ["jinja2", "PIL.Image"])
def test_what_is_not_installed_is_said_before_the_work(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    check_page()
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delattr("PIL.Image", raising=False)
    for call in (check_page, lambda: render([], title="", facts={})):
        with pytest.raises(ArgumentError, match="a page needs Jinja and Pillow; install them with"):
            call()


# In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real one."""
    if PROGRAM is None:
        pytest.skip("no chromium on the PATH")
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `several` on disk."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_bytes(render(several(), title="night", facts=FACTS))
    return path


SHOWN = (
    "[...document.querySelectorAll('#scans > tbody')].filter(e => e.offsetHeight)"
    ".map(e => e.rows[0].cells[0].firstChild.textContent)"
)
COUNT = "document.querySelector('#shown').textContent"
OPACITY = "getComputedStyle(document.querySelector('tbody.warned .after')).opacity"


def place(selector: str) -> str:
    return f"(r => [r.x, r.y, r.width, r.height])(document.querySelector('{selector}').getBoundingClientRect())"


def test_it_needs_nothing_from_elsewhere(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.requests == [page.as_uri()]
    assert browser.complaints == []
    assert browser.ask("document.title") == "night"
    assert browser.ask("[...document.images].every(i => i.complete && i.naturalWidth == 288)") is True
    assert browser.ask(COUNT) == "9 of 9 shown"


def test_hostile_names_do_nothing_but_stand_there(browser: Browser, tmp_path: Path) -> None:
    rows = [Row(name, "failed", 1.0, name, name, name, {name: name}) for name in EVIL]
    (tmp_path / "evil.html").write_bytes(render(rows, title="night", facts={name: name for name in EVIL}))
    browser.open(tmp_path / "evil.html")
    assert browser.ask(SHOWN) == [visible(name) for name in EVIL]
    assert browser.ask("document.title") == "night"
    assert (browser.requests, browser.complaints) == ([(tmp_path / "evil.html").as_uri()], [])


def test_markup_that_came_in_all_the_same_could_not_run_or_call_home(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.ask(
        "new Promise(go => { document.body.insertAdjacentHTML('beforeend', "
        '`<img src="https://example.org/a.png" onerror="document.title=\'owned\'"><b style="color:red">`); '
        "setTimeout(go, 200); })"
    )
    assert browser.ask("document.title") == "night"
    assert browser.ask("getComputedStyle(document.querySelector('b[style]')).color") != "rgb(255, 0, 0)"
    assert sum("Content Security Policy" in text for text in browser.complaints) >= 3


def test_kinds_can_be_hidden(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click("#s-done")
    assert browser.ask(SHOWN) == ["sub-03", "sub-07", "sub-05", "sub-06", "sub-04"]
    assert browser.ask(COUNT) == "5 of 9 shown"
    browser.click("#s-done")
    assert browser.ask(COUNT) == "9 of 9 shown"


@pytest.mark.parametrize("status", STATUSES)
def test_every_kind_can_be_hidden(browser: Browser, tmp_path: Path, status: str) -> None:
    (tmp_path / "one.html").write_bytes(render([Row("a", status), Row("b", status)], title="night", facts={}))
    browser.open(tmp_path / "one.html")
    assert browser.ask(SHOWN) == ["a", "b"]
    browser.click(f"#s-{status}")
    assert browser.ask(SHOWN) == []
    assert browser.ask(COUNT) == "0 of 2 shown"


@pytest.mark.parametrize(
    ("fragment", "names"),
    [
        ("#failed", ["sub-03", "sub-07"]),
        ("#warned&planned", ["sub-05", "sub-06"]),
        ("#failed&search=07", ["sub-07"]),
        ("#search=sub-1", ["sub-10"]),
        ("#%3Cscript%3E&nonsense=1", ORDERED),
    ],
)  # fmt: skip
def test_an_address_may_say_what_is_shown(browser: Browser, page: Path, fragment: str, names: list[str]) -> None:
    browser.open(page, fragment)
    assert browser.ask(SHOWN) == names
    assert browser.ask(COUNT) == f"{len(names)} of 9 shown"
    assert browser.complaints == []


def test_names_can_be_searched(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click("#search")
    browser.type("SUB 0 7")
    assert browser.ask(SHOWN) == ["sub-07"]
    assert browser.ask(COUNT) == "1 of 9 shown"


def test_columns_sort(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click("th[data-by=name] button")
    by_name = ["sub-2", "sub-03", "sub-04", "sub-05", "sub-06", "sub-07", "sub-08", "sub-09", "sub-10"]
    assert browser.ask(SHOWN) == by_name
    browser.click("th[data-by=name] button")
    assert browser.ask(SHOWN) == by_name[::-1]
    assert browser.ask("document.querySelector('th[data-by=name]').ariaSort") == "descending"
    browser.click("th[data-by=time] button")
    assert browser.ask(SHOWN)[-2:] == ["sub-2", "sub-07"]
    browser.click("th[data-by=status] button")
    assert browser.ask(SHOWN)[:2] == ["sub-03", "sub-07"]


def test_before_stands_beside_after(browser: Browser, page: Path) -> None:
    browser.open(page)
    (x, y, width, height), (other, beside, *size) = (
        browser.ask(place(f"tbody.warned .{word} img")) for word in ("before", "after")
    )
    assert (other >= x + width or beside >= y + height) and [width, height] == size
    assert browser.ask(OPACITY) == "1"


def test_pictures_flicker_in_place(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click("#v-flicker")
    assert browser.ask(place("tbody.warned .before img")) == browser.ask(place("tbody.warned .after img"))
    seen: set[str] = set()
    until = time.monotonic() + 30
    while seen != {"0", "1"} and time.monotonic() < until:
        seen.add(browser.ask(OPACITY))
    assert seen == {"0", "1"}
    assert browser.ask("document.getAnimations()[0].effect.getTiming().duration") >= 1000, (
        "at most one change a half second"
    )


def test_pictures_switch_by_mouse_and_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page, "#hand")
    assert browser.ask(place("tbody.warned .before img")) == browser.ask(place("tbody.warned .after img"))
    assert browser.ask(OPACITY) == "0"
    browser.click("tbody.warned .pair")
    assert browser.ask(OPACITY) == "1"
    browser.press(" ", " ")
    assert browser.ask(OPACITY) == "0"
    browser.press("Tab")
    assert browser.ask("document.activeElement.closest('tbody.warned') && document.activeElement.tagName") == "SUMMARY"
    browser.press("Enter", "\r")
    assert browser.ask("document.querySelector('tbody.warned details').open") is True


def test_pictures_can_be_large(browser: Browser, page: Path) -> None:
    browser.open(page)
    before = browser.ask(place("tbody.warned .before img"))[2]
    browser.click("#large")
    assert browser.ask(place("tbody.warned .before img"))[2] == 2 * before


def test_without_script_all_but_search_and_sorting_works(browser: Browser, page: Path) -> None:
    browser.open(page, script=False)
    assert browser.ask(COUNT) == "9 scans"
    assert browser.ask("document.querySelector('#search').offsetHeight") == 0
    browser.click("#s-failed")
    assert "sub-03" not in browser.ask(SHOWN)
    browser.click("#v-hand")
    browser.click("tbody.warned .pair")
    assert browser.ask(OPACITY) == "1"
    browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_it_is_dark_at_night_and_white_on_paper(browser: Browser, page: Path) -> None:
    browser.open(page)
    colour = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    tools = "document.querySelector('.tools').offsetHeight"
    for media, scheme, dark, shown in (
        ("", "light", False, True),
        ("", "dark", True, True),
        ("print", "light", False, False),
    ):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", media=media, features=features)
        assert (browser.ask(colour) < 60) == dark
        assert bool(browser.ask(tools)) == shown
    browser.call("Emulation.setEmulatedMedia", media="", features=[])


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_narrow_and_wide_windows(browser: Browser, page: Path, width: int) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    browser.open(page)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_everything_has_a_name_for_who_cannot_see_it(browser: Browser, page: Path) -> None:
    browser.open(page, "#hand")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    found: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            found.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("checkbox", "radio", "button", "image", "searchbox", "table"):
        assert found[role] and all(found[role]), role
    assert len(found["rowheader"]) == 9
    assert set(found["columnheader"]) >= {"Scan", "Status", "Time", "Voxels"}


def test_five_thousand_scans_can_be_looked_through(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "large.html").write_bytes(many(5000)[1])
    browser.open(tmp_path / "large.html", "#search=4999")
    assert browser.ask(COUNT) == "1 of 5000 shown"
    assert browser.ask(SHOWN) == ["sub-04999_T1w.nii.gz"]


def test_real_pictures_of_a_scan(browser: Browser, sample: Path, tmp_path: Path) -> None:
    before, after = before_after(str(sample / "head.nii.gz"), str(sample / "series.nii.gz"))
    row = replace(several()[0], before=before, after=after)
    (tmp_path / "real.html").write_bytes(render([row], title="night", facts=FACTS))
    browser.open(tmp_path / "real.html")
    sizes = browser.ask("[...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes[0] == sizes[1] and min(sizes[0]) > 50
    browser.picture(tmp_path / "real.png")
    with Image.open(tmp_path / "real.png") as image:
        assert image.size == (1280, 1000)
