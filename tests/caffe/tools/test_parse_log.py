"""The log of a real `caffe train` gives Caffe's parse_log.py its rows: read here by a parser of the same rules."""

import datetime
import os
import re

import pytest

from tests import forked

NET = """
name: "logged"
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 4 dim: 5 } shape { dim: 4 }
                           data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.00002 lr_policy: "step" gamma: 0.1 stepsize: 20 max_iter: 40 display: 10
test_iter: 2 test_interval: 20 random_seed: 5 solver_mode: CPU
"""
# What parse_log.py searches each line for.
ITERATION = re.compile(r"Iteration (\d+)")
OUTPUT = {kind: re.compile(kind + r" net output #(\d+): (\S+) = ([\.\deE+-]+)") for kind in ("Train", "Test")}
RATE = re.compile(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)")


def when(line):
    """Read the time that a line begins with, as extract_seconds.py does: a letter, month, day, clock, microseconds."""
    date, clock = line.split()[:2]
    whole, micros = clock.rsplit(".", 1)
    hour, minute, second = map(int, whole.split(":"))
    return datetime.datetime(2000, int(date[1:3]), int(date[3:]), hour, minute, second, int(micros))


def rows(lines):
    """Return the rows of training and of testing: (iteration, learning rate so far, outputs by name)."""
    begun = next(n for n, line in enumerate(lines) if "Solving" in line)
    start = when(lines[begun])
    iteration, rate = -1, None
    found = {"Train": [], "Test": []}
    for line in lines[begun + 1 :]:
        if match := ITERATION.search(line):
            iteration = int(match[1])
        if iteration == -1:
            continue
        assert datetime.timedelta(0) <= when(line) - start < datetime.timedelta(minutes=10), line
        if match := RATE.search(line):
            rate = float(match[1])
        for kind, pattern in OUTPUT.items():
            if match := pattern.search(line):
                table = found[kind]
                if not table or table[-1][0] != iteration:
                    table.append((iteration, rate, {}))
                table[-1][2][match[2]] = float(match[3])
    return found


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)
    command = ("-m", "caffe_command", "train", "--solver=solver.prototxt")
    ran = forked.run(*command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "", "the log goes to stderr"
    return ran.stderr.splitlines()


def test_training_gives_a_row_at_every_display(lines):
    train = rows(lines)["Train"]
    assert [iteration for iteration, _, _ in train] == [0, 10, 20, 30]
    assert [rate for _, rate, _ in train] == [None, 2e-5, 2e-5, pytest.approx(2e-6)]
    assert all(list(outputs) == ["loss"] and 0 < outputs["loss"] < 10 for _, _, outputs in train)


def test_testing_gives_a_row_at_every_test(lines):
    test = rows(lines)["Test"]
    assert [iteration for iteration, _, _ in test] == [0, 20, 40]
    assert all(list(outputs) == ["accuracy", "loss"] for _, _, outputs in test)
    assert all(outputs["accuracy"] * 8 % 1 == 0 for _, _, outputs in test), "the mean of two batches of four"


def test_the_losses_match_their_parts(lines):
    pattern = re.compile(r"(\S+) = (\S+) \(\* 1 = (\S+) loss\)")
    weighted = [match for line in lines if (match := pattern.search(line))]
    assert len(weighted) == 4 + 3
    assert all(match[2] == match[3] for match in weighted)


def test_a_line_ends_the_log(lines):
    assert lines[-1].endswith("] Optimization Done.")
