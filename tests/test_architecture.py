"""The wings of the package, held: who may import whom, what a module exports, what importing the package costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import schoenbat_theory

ROOT = Path(schoenbat_theory.__file__).parent
PACKAGE = "schoenbat_theory"

# Storeys, from the ground up: a module imports from its own storey and from those below it in its wing. A module that
# is missing here fails; so does one on a wrong storey. A package stands for all of its modules.
GROUND = ["arrays", "files", "markup", "environment", "activations", "references", "threads"]
MATHEMATICS = [
    ["coefficients", "series", "kernels", "scaling", "enumeration"],
    ["bounds", "degrees", "features", "ratio"],
    ["attention"],
]
EVIDENCE = [["confidence", "sampling"], ["propositions"], ["checks"], ["declare"]]
ROOF = [
    ["chapters", "ledger", "loading", "results", "plots", "report", "systems", "testing", "timings"],
    ["cells"],
    ["cluster", "sweep"],
    ["verify", "compare", "benchmark", "power", "lab", "site"],
    ["commands"],
    ["cli", "__main__"],
]
WING = (
    dict.fromkeys(GROUND, "ground")
    | {name: "mathematics" for storey in MATHEMATICS for name in storey}
    | {name: "evidence" for storey in EVIDENCE for name in storey}
    | {name: "roof" for storey in ROOF for name in storey}
)
STOREY = {name: i for wing in (MATHEMATICS, EVIDENCE, ROOF) for i, storey in enumerate(wing) for name in storey}
MAY_IMPORT = {
    "ground": {"ground"},
    "mathematics": {"ground", "mathematics"},
    "evidence": {"ground", "evidence"},
    "roof": {"ground", "mathematics", "evidence", "roof"},
}


def path_to_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {path_to_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Return dotted names that a file imports; those inside functions only where ``lazy``."""
    tree, skipped, found = ast.parse(path.read_text()), set(), set()
    for node in ast.walk(tree):
        inside = isinstance(node, ast.FunctionDef) and not lazy
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if inside or typing:
            skipped |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inner(path: Path, *, lazy: bool = True) -> set[str]:
    """Return the modules of this package that a file imports, as keys of MODULES."""
    found = set()
    for name in imports(path, lazy=lazy):
        if name.split(".")[0] == PACKAGE:
            name = name.removeprefix(PACKAGE).removeprefix(".")
            while name not in MODULES:
                name = name.rpartition(".")[0]
            found.add(name)
    return found


def top(name: str) -> str:
    return name.split(".")[0]


def test_every_module_has_a_place():
    assert {top(name) for name in MODULES} - set(WING) == {""}


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_imports_point_down_or_sideways(name):
    mine = WING[top(name)]
    for other in inner(MODULES[name]):
        if other == "":
            assert mine == "roof", f"{name} imports the package itself"
            continue
        assert WING[top(other)] in MAY_IMPORT[mine], f"{name} ({mine}) imports {other} ({WING[top(other)]})"
        if WING[top(other)] == mine and mine != "ground":
            assert STOREY[top(other)] <= STOREY[top(name)], f"{name} imports {other}, which stands above it"


def test_there_is_no_cycle():
    graph = {name: inner(path, lazy=False) - {name} for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("cupy", {"arrays"}),
        ("torch", {"arrays"}),
        ("matplotlib", {"plots"}),
        ("jinja2", {"report"}),
        ("joblib", {"cluster", "power", "sweep"}),
        ("distributed", {"cluster"}),
    ],
)
def test_some_libraries_have_one_owner(library, owners):
    users = {top(name) for name, path in MODULES.items() if any(top(found) == library for found in imports(path))}
    assert users <= owners


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_all_lists_what_a_module_defines(name):
    module = importlib.import_module(f"{PACKAGE}.{name}".rstrip("."))
    tree = ast.parse(MODULES[name].read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    public = {one for one in defined if not one.startswith("_")}
    exported = set(module.__all__)
    assert len(module.__all__) == len(exported)
    if name.startswith("testing."):  # the laws of the exam are exported through their tables
        public = set()
    assert public - exported == set(), "public, and not in __all__"
    for one in exported:
        assert hasattr(module, one), f"{one} is in __all__ and does not exist"
    imported = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    if MODULES[name].name != "__init__.py" and name not in REEXPORTS:
        assert exported & imported == set(), "exported from where it is not defined"


REEXPORTS = {"features.maclaurin"}  # a law is imported together with its draw


def test_the_package_exports_what_it_imports():
    tree = ast.parse(MODULES[""].read_text())
    names = {a.asname or a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    public = {name for name in names - {"annotations"} if not name.startswith("_")}
    assert public == set(schoenbat_theory.__all__)


def test_importing_the_package_is_cheap():
    heavy = ["matplotlib", "scipy.stats", "joblib", "cupy", "torch", "jinja2", "latex2mathml", "tqdm", "distributed"]
    code = f"import sys, {PACKAGE}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PROPOSITIONS = sorted((ROOT.parent / "proofs_checks").glob("*.py"))


@pytest.mark.parametrize("path", PROPOSITIONS, ids=lambda path: path.stem)
def test_propositions_use_public_names_only(path):
    for name in imports(path):
        assert name == PACKAGE or top(name) == "numpy" or top(name) in sys.stdlib_module_names, f"{path.name}: {name}"
    tree = ast.parse(path.read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "st"
    }
    assert used <= set(schoenbat_theory.__all__)


def test_propositions_are_imported_by_verify_alone():
    users = set()
    for name, path in MODULES.items():
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        dynamic = any("import_module" in ast.unparse(c.func) and "proofs_checks" in ast.unparse(c) for c in calls)
        if dynamic or any(top(found) == "proofs_checks" for found in imports(path)):
            users.add(name)
    assert users == {"verify"}
