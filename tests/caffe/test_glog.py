"""Caffe's log: the form of its lines, what hides them, and where they go."""

import io
import logging
import re
import sys

import pytest

import caffe
from caffe import glog

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


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-10, "1e-10"), (0.1, "0.1"), (570845.6875, "570846"), (1234567.0, "1.23457e+06"), (1.0, "1"), (0.0, "0")],
)
def test_numbers_are_spelled_as_by_a_c_stream(value, text):
    assert glog.number(value) == text
