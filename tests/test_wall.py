"""The wall: the root is written against pycaffe and nothing else, and the engine knows of no segmentation."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "src" / "caffe"

# Folders of the root that are no part of the reproduction, or hold no code of the repository's.
NOT_THE_ROOTS = {"src", "benchmarks", "tests", "build", "dist", "data", "results"}

# What `import caffe` gives with BVLC Caffe, its submodules included (facts: python/caffe/__init__.py, _caffe.cpp).
PYCAFFE = {
    *("AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "RMSPropSolver", "SGDSolver", "get_solver"),
    *("Classifier", "Detector", "Layer", "Net", "NetSpec", "NCCL", "TEST", "TRAIN", "Timer", "has_nccl"),
    *("init_log", "layer_type_list", "layers", "log", "params", "to_proto", "__version__", "__file__"),
    *("set_device", "set_mode_cpu", "set_mode_gpu", "set_multiprocess", "set_random_seed"),
    *("set_solver_count", "set_solver_rank", "solver_count", "solver_rank"),
    *("classifier", "coord_map", "detector", "draw", "io", "net_spec", "proto"),
}

# What the root may import beside Python itself and its own modules: at once, and where it is used.
AT_ONCE = {"caffe", "google", "numpy", "PIL", "scipy"}
WHERE_USED = {"filelock", "jinja2", "matplotlib", "requests", "tensorboard", "tqdm"}
EXAMPLES = {"h5py"}  # what an example may import besides

# The programs: what several of them share lies in packages below them, and in the modules that prototxts name.
PROGRAMS = {"analyze", "infer", "paper", "report", "score", "train"}
BELOW = {"layers", "surgery", "vis"}

SEGMENTATION = {"fcn", "pascal", "sbd", "sbdd", "segmentation", "voc"}


@cache
def root_files() -> list[Path]:
    """Return the root's Python files, relative to it."""
    files = list(ROOT.glob("*.py"))
    for folder in ROOT.iterdir():
        if folder.is_dir() and folder.name not in NOT_THE_ROOTS and not folder.name.startswith("."):
            files += folder.rglob("*.py")
    return sorted(p.relative_to(ROOT) for p in files)


@cache
def root_modules() -> set[str]:
    """Return the names that `import` finds at the root: its modules and packages."""
    return {p.parts[0].removesuffix(".py") for p in root_files() if p.parts[0].removesuffix(".py").isidentifier()}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST, deferred: bool = False) -> Iterator[tuple[str, bool]]:
    """Give each absolute import as its dotted name, and whether it waits until a function is called."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((f"{node.module}.{alias.name}", deferred) for alias in node.names)
        yield from imports(node, deferred or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


@pytest.mark.parametrize("path", root_files(), ids=str)
def test_the_root_imports_what_it_may_and_no_torch(path):
    for name, deferred in imports(parsed(ROOT / path)):
        top = name.split(".")[0]
        allowed = sys.stdlib_module_names | root_modules() | AT_ONCE | (WHERE_USED if deferred else set())
        allowed |= EXAMPLES if path.parts[0] == "examples" else set()
        assert top in allowed, f"{path} imports {name}{'' if deferred else ' when it is imported'}"


@pytest.mark.parametrize("path", root_files(), ids=str)
def test_the_root_uses_what_pycaffe_has(path):
    tree = parsed(ROOT / path)
    used = [name.split(".")[1] for name, _ in imports(tree) if name.startswith("caffe.")]
    used += [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "caffe"
    ]
    assert set(used) <= PYCAFFE, f"{path} uses caffe.{', caffe.'.join(sorted(set(used) - PYCAFFE))}"


def test_the_root_s_modules_are_programs_or_lie_below_them():
    assert {path.stem for path in root_files() if len(path.parts) == 1} == PROGRAMS | BELOW


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in root_files()
        if path.stem in BELOW or (len(path.parts) > 1 and (ROOT / path.parts[0] / "__init__.py").is_file())
    ],
    ids=str,
)
def test_what_programs_share_imports_no_program(path):
    taken = {name.split(".")[0] for name, _ in imports(parsed(ROOT / path))} & PROGRAMS
    assert not taken, f"{path} imports {', '.join(taken)}: move what it takes from there into a package"


@pytest.mark.parametrize("path", sorted(PROGRAMS))
def test_a_program_is_imported_by_no_other(path):
    taken = {name.split(".")[0] for name, _ in imports(parsed(ROOT / f"{path}.py"))} & PROGRAMS
    assert not taken, f"{path}.py imports {', '.join(taken)}: move what it takes from there into a package"


def words(identifier: str) -> set[str]:
    """Return the words of an identifier: of VOCSegDataLayer voc, seg, data, layer."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value


@pytest.mark.parametrize("path", sorted(ENGINE.rglob("*.py")), ids=lambda p: str(p.relative_to(ENGINE)))
def test_the_engine_knows_neither_the_root_nor_segmentation(path):
    tree = parsed(path)
    taken = {name.split(".")[0] for name, _ in imports(tree)} & root_modules()
    assert not taken, f"the engine imports {', '.join(taken)} of the root"
    about = {name for name in identifiers(tree) if words(name) & SEGMENTATION}
    assert not about, f"the engine speaks of {', '.join(about)}"


def test_words_are_told_apart():
    assert words("VOCSegDataLayer") == {"voc", "seg", "data", "layer"}
    assert words("load_voc_labels") == {"load", "voc", "labels"}
    assert not words("invoke_provocation") & SEGMENTATION


@pytest.mark.slow
def test_the_root_is_imported_without_what_it_can_do_without(tmp_path):
    names = sorted(
        ".".join(p.with_suffix("").parts).removesuffix(".__init__")
        for p in root_files()
        if p.parts[0].removesuffix(".py") in root_modules() and p.name != "__main__.py"
    )
    program = f"""
import importlib, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(WHERE_USED)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
sys.path.insert(0, {str(ROOT)!r})
for name in {names}:
    importlib.import_module(name)
"""
    assert {"surgery", "layers", "score", "infer", "vis", "nets"} <= set(names)
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
