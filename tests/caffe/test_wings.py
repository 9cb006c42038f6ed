"""The engine's wings: who may import whom, and no import circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "src" / "caffe"

# From the ground up: a module may import from its own row and from those above it in this table. "" is the package.
FLOORS = (
    {"proto", "errors", "allocator", "checked", "device", "world", "glog", "rng"},
    {"formats"},
    {"blob", "filler", "layer", "tensor_layer", "extension", "batches"},
    {"data"},
    {"kernels"},
    {"layer_types"},
    {"splits", "graph", "debug_info", "net"},
    {"solvers"},
    {"parallel"},
    {"export"},
    {
        "prototxt",
        "schema",
        "io",
        "net_spec",
        "coord_map",
        "classifier",
        "detector",
        "draw",
        "timer",
        "pycaffe",
        "_caffe",
    },
    {""},
    {"tools"},
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# caffe.layers, caffe.params and caffe.log are pycaffe's: a module of that name would take their place.
TAKEN = {"layers", "params", "log"}

FILES = sorted(ENGINE.rglob("*.py"))


def dotted(path: Path) -> str:
    """Return a file's module, relative to the package."""
    parts = list(path.relative_to(ENGINE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """Return the engine's modules that a file imports, wherever in it, for types only as well."""
    package = list(path.relative_to(ENGINE).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
        for alias in node.names:
            whole = ".".join([*base, alias.name])
            found.add(whole if whole in MODULES else ".".join(base))
    return found - {dotted(path)}


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_a_module_stands_on_what_is_below_it(path):
    module = dotted(path)
    wing = module.split(".")[0]
    assert wing in FLOOR, f"{module} has no place in FLOORS"
    upwards = {other for other in imports(path) if FLOOR[other.split(".")[0]] > FLOOR[wing]}
    assert not upwards, f"{module} imports {', '.join(sorted(upwards))}, which stand above it"


def test_no_modules_import_each_other():
    """Imports within functions and for types only count too, and so do packages that hand on their modules' names."""
    left = {dotted(path): imports(path) for path in FILES}
    while free := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in free}
    assert not left, f"these import each other, or what does: {', '.join(sorted(left))}"


def test_imports_are_relative_so_that_the_tests_above_see_them():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert not any(name.split(".")[0] == "caffe" for name in names), f"{dotted(path)}:{node.lineno}"


def test_no_module_takes_the_place_of_a_name_of_pycaffes():
    assert not {module for module in MODULES if module.split(".")[-1] in TAKEN}


def test_a_package_says_what_lives_in_it():
    silent = [dotted(p) for p in FILES if p.name == "__init__.py" and not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent
