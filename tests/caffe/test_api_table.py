"""docs/api.md: a row for every public name, a test for every row, and every test that it names is there."""

import ast
import functools
import re
import types
from pathlib import Path

import pytest

import caffe
import caffe.coord_map
import caffe.draw
from caffe import _caffe

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"


def rows():
    """Return the page's rows: (heading, first cell, behaviour, marker, tests)."""
    heading, found = "", []
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip("`")
        elif line.startswith("|") and not line.startswith(("| name |", "|---")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 4, f"not four cells: {line}"
            found.append((heading, *cells))
    return found


def names_of(heading):
    """Return the names in the first cells of a section: `forward(blobs=None)` is forward."""
    spans = [span for head, cell, *_ in rows() if head == heading for span in re.findall("`([^`]+)`", cell)]
    return {re.search(r"\w+", span).group() for span in spans}


@functools.cache
def functions_in(path):
    return {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_row_says_what_it_does_how_it_relates_to_caffe_and_what_test_holds_it():
    assert len(rows()) > 150
    for heading, name, does, marker, tests in rows():
        assert name and does, f"{heading}: {name}"
        assert marker in ("kept", "fixed", "new"), f"{heading}: {name} is {marker!r}"
        assert re.fullmatch(r"(`tests/[\w/]+\.py::test_\w+` ?)+", tests), f"{heading}: {name} names no test: {tests!r}"


@pytest.mark.slow
def test_every_test_that_is_named_is_there():
    named = {t for *_, tests in rows() for t in re.findall("`([^`]+)`", tests)}
    missing = [t for t in sorted(named) if t.split("::")[1] not in functions_in(t.split("::")[0])]
    assert not missing


def test_no_row_stands_twice():
    keys = [(heading, name) for heading, name, *_ in rows()]
    assert len(keys) == len(set(keys))


def public(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def made_in(module):
    """Return what a module defines itself: functions, classes and constants, not what it imports."""
    return {
        name
        for name in public(module)
        if getattr(getattr(module, name), "__module__", None) == module.__name__
        or (name.isupper() and isinstance(getattr(module, name), (str, list, dict, tuple)))
    }


def package():
    """Return caffe's names but for the engine's own modules, which are no one's to import."""
    modules = {name for name in public(caffe) if isinstance(getattr(caffe, name), types.ModuleType)}
    pycaffes = {"_caffe", "classifier", "detector", "io", "net_spec", "proto", "pycaffe"}
    return set(caffe.__all__) | (public(caffe) - modules) | pycaffes


@pytest.fixture
def solver(write):
    net = write('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }')
    return caffe.SGDSolver(write(f'net: "{net}" base_lr: 1 lr_policy: "fixed" max_iter: 1', "solver.prototxt"))


@pytest.fixture
def things(solver, tmp_path):
    net, weights = str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel")
    solver.net.save(weights)
    return {
        "caffe": package(),
        "caffe.Net": public(solver.net),
        "caffe._caffe.Blob": public(_caffe.Blob(1)),
        "caffe.Layer": public(caffe.Layer()) - {"layer_param"},
        "The solvers": public(solver),
        "caffe._caffe.SolverParameter": public(solver.param),
        "caffe.NCCL": public(caffe.NCCL),
        "caffe.Timer": public(caffe.Timer()),
        "caffe.io": made_in(caffe.io),
        "caffe.io.Transformer": public(caffe.io.Transformer),
        "caffe.Classifier": public(caffe.Classifier(net, weights)) - public(solver.net),
        "caffe.Detector": public(caffe.Detector(net, weights)) - public(solver.net),
        "caffe.draw": made_in(caffe.draw),
        "caffe.coord_map": made_in(caffe.coord_map),
        "caffe.net_spec": made_in(caffe.net_spec) | {"layers", "params", "tops"},
        "caffe.errors": {name for name in made_in(caffe.errors) if name.endswith("Error")},
    }


def test_every_public_name_has_a_row(things):
    for heading, names in things.items():
        listed = names_of(heading)
        assert names <= listed, f"{heading}: no row for {sorted(names - listed)}"


def test_the_compiled_modules_names_have_rows():
    everywhere = {name for heading in {row[0] for row in rows()} for name in names_of(heading)}
    everywhere |= {name for _, _, does, *_ in rows() for name in re.findall(r"`(\w+)`", does)}
    assert set(_caffe.__all__) <= everywhere


def test_every_name_that_has_a_row_is_there(things):
    """What is no attribute of the thing itself: constructors, and words of prototxt and environment."""
    other = {
        "caffe": {"GLOG_minloglevel", *_caffe.__all__},
        "caffe.Net": {"Net", "_batch"},
        "caffe.Layer": {"loss_weight", "share_in_parallel", "prefetch", "state", "set_state"},
        "The solvers": {"SGDSolver", "average_loss", "weights", "snapshot_prefix", "random_seed", "learned_net", "type"}
        | {"lr_policy"},
        "caffe.NCCL": {"NCCL"},
        "caffe.Timer": {"Timer"},
        "caffe.Classifier": {"Classifier"},
        "caffe.Detector": {"Detector"},
        "caffe.coord_map": {"CoordMap"},
    }
    for heading, names in things.items():
        listed = {name for name in names_of(heading) if not name.startswith("_")}
        assert listed <= names | other.get(heading, set()), f"{heading}: {sorted(listed - names)} are not there"
