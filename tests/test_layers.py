"""Do imports point down, and is every folder of code packed?  Read from the text; nothing is imported."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = [
    "conv3dt.errors",
    "conv3dt.unbroken",
    "conv3dt.pending",
    "conv3dt.version",
    "conv3dt.paths",
    "conv3dt.visible",
    "conv3dt.trial",
    "conv3dt.axes",
    "conv3dt.geometry",
    "conv3dt.affine",
    "conv3dt.kernels",
    "conv3dt.plan",
    "conv3dt.report",
    "conv3dt.defaults",
    "conv3dt.dtypes",
    "conv3dt.identifiers",
    "conv3dt.initializers",
    "conv3dt.regularizers",
    "conv3dt.constraints",
    "conv3dt.activations",
    "conv3dt.layer",
    "conv3dt.matching",
    "conv3dt.doctor",
    "conv3dt.picture",
    "conv3dt.weights",
    "conv3dt.draw",
    "conv3dt.request",
    "conv3dt.kernel_files",
    "conv3dt.cgroup",
    "conv3dt.resources",
    "conv3dt.engine",
    "conv3dt.io",
    "conv3dt.settings",
    "conv3dt.grids",
    "conv3dt.landing",
    "conv3dt.like",
    "conv3dt.ledger",
    "conv3dt.bound",
    "conv3dt.job",
    "conv3dt.packing",
    "conv3dt.disk",
    "conv3dt.estimate",
    "conv3dt.fits",
    "conv3dt.digest",
    "conv3dt.journal",
    "conv3dt.extremes",
    "conv3dt.record",
    "conv3dt.pipeline",
    "conv3dt.proof",
    "conv3dt.describe",
    "conv3dt.file_run",
    "conv3dt.single",
    "conv3dt.verify",
    "conv3dt.compare",
    "conv3dt.slices",
    "conv3dt.preview",
    "conv3dt.page",
    "conv3dt.discover",
    "conv3dt.bids",
    "conv3dt.batch",
    "conv3dt.inquire",
    "conv3dt.api",
    "conv3dt",
    "conv3dt_cli",
]
"""Files and folders from the bottom up: each imports only from what stands before it, or from its own folder."""

FORBIDDEN = [
    ("conv3dt.engine", "conv3dt.io"),
    ("conv3dt.io", "conv3dt.plan"),
    ("conv3dt.io", "conv3dt.engine"),
    ("conv3dt.io", "conv3dt.job"),
    ("conv3dt.io", "conv3dt.pipeline"),
    ("conv3dt.layer", "conv3dt.weights"),
]
"""Pairs that must not meet, whatever the order comes to be."""

Sources = dict[str, str]


def sources() -> Sources:
    """Every module of the program by its import name."""
    found = {}
    for folder, package in (("conv3dt", "conv3dt"), ("cli", "conv3dt_cli")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(name: str, text: str, modules: set[str], packages: set[str]) -> set[str]:
    """Return the modules of the program that a module imports, anywhere in it but under TYPE_CHECKING."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                home = name.split(".") if name in packages else name.split(".")[:-1]
                base = ".".join([*home[: len(home) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in modules else base)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "import_module" and node.args:
            if isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return {module for module in found if module.split(".")[0] in ("conv3dt", "conv3dt_cli")} - {name}


def graph(code: Sources) -> dict[str, set[str]]:
    modules = set(code)
    packages = {module for module in modules if any(other.startswith(module + ".") for other in modules)}
    return {name: imports(name, text, modules, packages) for name, text in code.items()}


def rank(module: str) -> int:
    """The place of a module in the order; the longest name that fits counts."""
    fitting = [entry for entry in ORDER if module == entry or (module + ".").startswith(entry + ".")]
    best = max(fitting, key=len)
    if best == "conv3dt" and module != "conv3dt":
        raise LookupError(f"{module} has no place in the order; give it one")
    return ORDER.index(best)


def upward(code: Sources) -> list[str]:
    """Return the imports that point up."""
    return [
        f"{name} imports {module}"
        for name, found in graph(code).items()
        for module in sorted(found)
        if rank(module) > rank(name)
    ]


def meetings(code: Sources) -> list[str]:
    """Return the imports that are forbidden."""
    return [
        f"{name} imports {module}"
        for name, found in graph(code).items()
        for module in sorted(found)
        for here, there in FORBIDDEN
        if (name + ".").startswith(here + ".") and (module + ".").startswith(there + ".")
    ]


def circle(code: Sources) -> list[str]:
    """Return the modules of a circle of imports, if there is one."""
    try:
        TopologicalSorter(graph(code)).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_point_down() -> None:
    assert upward(sources()) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert circle(sources()) == []


def test_engines_know_no_files_and_files_know_no_engines() -> None:
    assert meetings(sources()) == []


def test_every_entry_of_the_order_is_there() -> None:
    assert set(ORDER) <= set(sources())


def test_the_text_that_is_read_is_the_program() -> None:
    edges = graph(sources())
    assert "conv3dt.errors" in edges["conv3dt.geometry"]
    assert "conv3dt.pipeline" in edges["conv3dt.api"], "imports inside functions count"
    assert "conv3dt.version" in edges["conv3dt"]
    assert "conv3dt_cli.options" in edges["conv3dt_cli.upsample"], "relative imports count"
    assert "conv3dt.io.nifti" in edges["conv3dt.io.files"]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("conv3dt.geometry", "import conv3dt.plan"),
        ("conv3dt.geometry", "from conv3dt.plan import Plan"),
        ("conv3dt.geometry", "from conv3dt import plan"),
        ("conv3dt.engine.direct", "def f():\n    from conv3dt.io.volume import Sink"),
        ("conv3dt.engine.direct", "def f():\n    from ..io import volume"),
        ("conv3dt.io.nifti", "if x:\n    from conv3dt.pipeline import run"),
        ("conv3dt.plan", "import_module('conv3dt.job')"),
        ("conv3dt.plan", "importlib.import_module('conv3dt.job')"),
        ("conv3dt.report", "if TYPE_CHECKING:\n    pass\nelse:\n    from conv3dt import api"),
        ("conv3dt.api", "import conv3dt_cli.options"),
        ("conv3dt.errors", "import conv3dt"),
    ],
)
def test_an_import_that_points_up_would_be_seen(module: str, line: str) -> None:
    changed = sources()
    changed[module] += f"\n{line}\n"
    (complaint,) = upward(changed)
    assert complaint.startswith(f"{module} imports conv3dt")


def test_an_import_for_types_only_is_let_through() -> None:
    changed = sources()
    changed["conv3dt.geometry"] += "\nif TYPE_CHECKING:\n    from conv3dt.plan import Plan\n"
    assert upward(changed) == upward(sources())


@pytest.mark.parametrize(("here", "there"), FORBIDDEN)
def test_a_forbidden_meeting_would_be_seen(here: str, there: str) -> None:
    changed = sources()
    changed[here] += f"\nfrom {there} import something\n"
    assert f"{here} imports {there}" in meetings(changed)


def test_a_circle_would_be_seen() -> None:
    changed = sources()
    changed["conv3dt.engine.finish"] += "\nfrom conv3dt.engine import direct\n"
    assert {"conv3dt.engine.finish", "conv3dt.engine.direct"} <= set(circle(changed))


def test_a_module_without_a_place_would_be_seen() -> None:
    with pytest.raises(LookupError, match=r"conv3dt\.helpers has no place in the order"):
        upward(sources() | {"conv3dt.helpers": "import conv3dt.errors"})


# What is packed.


def listed(pyproject: str) -> list[str]:
    """Return the packages that pyproject lists."""
    (found,) = re.findall(r"^packages = (\[.*?\])$", pyproject, re.MULTILINE | re.DOTALL)
    packages = ast.literal_eval(found)
    assert isinstance(packages, list)
    return packages


def folders(root: Path) -> list[str]:
    """Return the packages that are there: folders with Python in them."""
    inside = {path.parent.relative_to(root).parts for path in (root / "conv3dt").rglob("*.py")}
    return sorted([".".join(parts) for parts in inside] + ["conv3dt_cli"])


def test_the_packages_listed_are_the_folders() -> None:
    assert sorted(listed((ROOT / "pyproject.toml").read_text(encoding="utf-8"))) == folders(ROOT)


def test_each_folder_of_code_is_a_package() -> None:
    modules = [*(ROOT / "conv3dt").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    assert all((path.parent / "__init__.py").is_file() for path in modules)


def test_a_folder_that_is_not_listed_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "conv3dt" / "new").mkdir(parents=True)
    for name in ("__init__.py", "new/__init__.py"):
        (tmp_path / "conv3dt" / name).touch()
    assert folders(tmp_path) == ["conv3dt", "conv3dt.new", "conv3dt_cli"]
    assert listed('[tool.setuptools]\npackages = [\n  "conv3dt",\n  "conv3dt_cli",\n]\n') == ["conv3dt", "conv3dt_cli"]
