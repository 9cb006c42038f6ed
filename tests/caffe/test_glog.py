"""Caffe's log: the form of its lines, what hides them, and where they go."""

import ast
import io
import logging
import re
import sys
from pathlib import Path

import pytest

import caffe
from caffe import glog
from caffe.formats import upgrade
from caffe.proto import caffe_pb2

LINE = re.compile(r"^([IWE])(\d{4}) (\d\d:\d\d:\d\d\.\d{6}) +(\d+) (\S+:\d+)\] (.*)$")


@pytest.fixture(autouse=True)
def as_at_start(monkeypatch):
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    yield
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    glog._level.chosen = None
    caffe.init_log(stderr=True)


def texts(captured):
    return [LINE.match(line).group(6) for line in captured.err.splitlines()]


def test_a_line_has_glogs_form(capsys):
    glog.info("Iteration 100, lr = 0.01", "sgd_solver.cpp:112")
    glog.warning("look")
    glog.error("failed")
    captured = capsys.readouterr()
    assert captured.out == ""
    found = [LINE.match(line) for line in captured.err.splitlines()]
    assert [m.group(1) for m in found] == ["I", "W", "E"]
    assert found[0].group(5) == "sgd_solver.cpp:112"
    assert found[0].group(6) == "Iteration 100, lr = 0.01"
    month, day = int(found[0].group(2)[:2]), int(found[0].group(2)[2:])
    assert 1 <= month <= 12 and 1 <= day <= 31


def test_a_text_that_caffe_does_not_log_has_the_line_that_logs_it_here(capsys):
    glog.info("i")
    glog.info_at_root("r")
    glog.warning("w")
    glog.error("e")
    logging.getLogger("caffe").warning("from a program")
    places = [LINE.match(line).group(5) for line in capsys.readouterr().err.splitlines()]
    first = int(places[0].removeprefix("test_glog.py:"))
    assert places == [f"test_glog.py:{first + i}" for i in range(5)]
    caffe.log("from a program")
    assert "_caffe.cpp:68] from a program" in capsys.readouterr().err


def test_text_is_not_taken_for_a_format(capsys):
    caffe.log("100 % of {x} and %s\nsecond line")
    assert capsys.readouterr().err.endswith("] 100 % of {x} and %s\nsecond line\n")


@pytest.mark.parametrize(
    ("level", "shown"), [("0", ["i", "w", "e"]), ("1", ["w", "e"]), ("2", ["e"]), ("3", []), ("x", ["i", "w", "e"])]
)
def test_the_environment_hides_at_every_call(capsys, monkeypatch, level, shown):
    monkeypatch.setenv("GLOG_minloglevel", level)
    glog.info("i")
    glog.warning("w")
    glog.error("e")
    assert texts(capsys.readouterr()) == shown


def test_the_last_word_holds(capsys, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    glog.info("hidden")
    caffe.init_log(0)
    glog.info("shown")
    caffe.init_log()  # names no level: nothing changes
    glog.info("shown still")
    monkeypatch.setenv("GLOG_minloglevel", "1")
    glog.info("hidden again")
    caffe.init_log(3)
    glog.error("and again")
    assert texts(capsys.readouterr()) == ["shown", "shown still"]


def test_without_stderr_only_errors_are_seen_but_handlers_get_all(capsys):
    kept = io.StringIO()
    handler = logging.StreamHandler(kept)
    logging.getLogger("caffe").addHandler(handler)
    try:
        caffe.init_log(0, False)
        glog.info("to the handler")
        glog.error("to both")
    finally:
        logging.getLogger("caffe").removeHandler(handler)
    assert texts(capsys.readouterr()) == ["to both"]
    assert kept.getvalue().splitlines() == ["to the handler", "to both"]


def test_nothing_is_printed_twice_when_a_program_uses_logging(capsys):
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    root.addHandler(handler)
    try:
        glog.info("once")
    finally:
        root.removeHandler(handler)
    assert capsys.readouterr().err.count("once") == 1


def test_the_level_hides_what_upgrading_an_old_net_has_to_say(capsys):
    for level, shown in ((1, True), (2, False)):
        caffe.init_log(level)
        net = caffe_pb2.NetParameter(layers=[{"layer": {"name": "r", "type": "relu", "kernelsize": 3}}])
        upgrade.upgrade_net(net)
        found = capsys.readouterr().err
        assert ("no kernelsize" in found) == shown
        assert "upgrade.py:" in found or not shown


def test_only_glog_has_a_logger():
    for path in Path(caffe.__file__).parent.rglob("*.py"):
        assert "getLogger" not in path.read_text() or path.name == "glog.py", f"{path} logs past the level"


# The places of Caffe's source that the engine's lines name. conftest.py holds what is logged in any test to the same
# facts.

PLACE = re.compile(r"\w+\.(cpp|hpp|cu|py):\d+")


def modules():
    """Yield the name and the tree of every module of the engine."""
    for path in sorted(Path(caffe.__file__).parent.rglob("*.py")):
        yield path.name, ast.parse(path.read_text())


def places_in(node):
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and PLACE.fullmatch(str(n.value))}


def assigned(name, tree):
    """Return all that a module assigns to a name anywhere."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Assign)]
    return [n.value for n in nodes if isinstance(n.targets[0], ast.Name) and n.targets[0].id == name]


def resolved(node, tree):
    """Return a node, or what it stands for where it is a variable, or an entry of one."""
    name = node.value if isinstance(node, ast.Subscript) else node
    return assigned(name.id, tree) or [node] if isinstance(name, ast.Name) else [node]


def template(node):
    """Return a text with {} for values, or None for what is no text in quotes."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def calls_with_a_place():
    """Yield, for every call of the log that names a place: where it stands, its text, and the places."""
    for name, tree in modules():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or len(call.args) != 2:
                continue
            function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if (
                function not in ("info", "info_at_root", "warning", "error")
                or ast.unparse(call.func) == "glog.logger.error"
            ):
                continue
            places = set().union(*(places_in(node) for node in resolved(call.args[1], tree)))
            yield f"{name}:{call.lineno}", template(call.args[0]), places


def fit(text, line):
    """Tell whether a text of ours, {} for values, can be what Caffe logs."""
    known, pattern = line
    own = re.escape(text).replace(re.escape("{}"), ".*")
    return bool(pattern.match(text) or re.match(own, known, re.DOTALL))


@pytest.mark.slow
def test_every_place_that_is_named_is_one_where_caffe_logs(caffes_lines):
    named = {place: name for name, tree in modules() for place in places_in(tree)}
    unknown = {place: name for place, name in named.items() if place not in caffes_lines}
    assert not unknown, f"not in caffe_log_lines.txt: {unknown}"
    assert set(caffes_lines) == set(named), "facts that no line of the engine's needs any longer"


@pytest.mark.slow
def test_every_call_logs_what_caffe_logs_at_its_place(caffes_lines):
    calls = list(calls_with_a_place())
    assert len(calls) > 70
    for where, text, places in calls:
        assert places and text, f"{where}: write the text and Caffe's place so that this test can read them"
        # Where a place is one of several, as a file's kind has it, conftest.py sees which it is when it is logged.
        assert any(fit(text, caffes_lines[place]) for place in places), f"{where}: {text!r} is not logged at {places}"


def test_a_wrong_claim_is_found(caffes_lines):
    line = caffes_lines["solver.cpp:239"]
    assert fit("Iteration {} ({} iter/s, {}s/{} iters), loss = {}", line)
    assert not fit("Iteration {}, lr = {}", line)
    with pytest.raises(AssertionError, match="Caffe does not log"):
        glog.info("Optimization stopped early.", "solver.cpp:239")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-10, "1e-10"), (0.1, "0.1"), (570845.6875, "570846"), (1234567.0, "1.23457e+06"), (1.0, "1"), (0.0, "0")],
)
def test_numbers_are_spelled_as_by_a_c_stream(value, text):
    assert glog.number(value) == text
