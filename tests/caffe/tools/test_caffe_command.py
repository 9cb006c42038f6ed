"""The `caffe` command as a process: which engine it runs, how signals stop it, and how it ends."""

import importlib.machinery
import os
import signal
import subprocess
import sys
import time

import pytest

import caffe_command
from tests import forked

COMMAND = [sys.executable, "-m", "caffe_command"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
NET = """
name: "endless"
layer { name: "data" type: "DummyData" top: "data" top: "target"
        dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 }
                           data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "target" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.0001 lr_policy: "fixed" max_iter: 1000000000 display: 100 snapshot_prefix: "at"
random_seed: 2 solver_mode: CPU
"""


class Training:
    """A `caffe train` that goes on until it is told to stop; `lines` is its log so far."""

    def __init__(self, folder, *flags):
        (folder / "net.prototxt").write_text(NET)
        (folder / "solver.prototxt").write_text(SOLVER)
        self.folder = folder
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            words = ("-m", "caffe_command", "train", "-solver", "solver.prototxt", *flags)
            self.process = forked.start(*words, cwd=folder, env=ENVIRONMENT, stderr=log)

    def wait_for(self, text, times=1):
        self.wait_until(lambda: self.log.read_text().count(text) >= times)

    def wait_until(self, done):
        end = time.monotonic() + 60
        while not done():
            assert self.process.exitcode is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def send(self, number):
        os.kill(self.process.pid, number)

    def snapshots(self):
        return sorted(path.name for path in self.folder.glob("at_iter_*.solverstate"))


@pytest.fixture
def training(tmp_path):
    started = []

    def start(*flags):
        started.append(Training(tmp_path, *flags))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.join()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_sighup_snapshots_and_goes_on_and_sigint_snapshots_and_stops(training):
    run = training()
    run.wait_for("Iteration 100 ")
    run.send(signal.SIGHUP)
    run.wait_for("Snapshotting solver state")
    displayed = run.log.read_text().count("iter/s")
    run.wait_for("iter/s", displayed + 2)
    run.send(signal.SIGINT)
    run.process.join(30)
    assert run.process.exitcode == 0
    assert len(run.snapshots()) == 2, "each signal wrote one"
    lines = run.log.read_text().splitlines()
    assert lines[-2].endswith("] Optimization stopped early.")
    assert lines[-1].endswith("] Optimization Done.")


def test_the_effects_of_signals_can_be_chosen(training):
    run = training("-sigint_effect", "snapshot")
    run.wait_for("Iteration 100 ")
    for count in (1, 2):
        run.send(signal.SIGINT)
        run.wait_until(lambda count=count: len(run.snapshots()) == count)
    displayed = run.log.read_text().count("iter/s")
    run.wait_for("iter/s", displayed + 2)


@pytest.mark.slow
def test_a_broken_pipe_is_silent():
    process = subprocess.Popen(
        [*COMMAND, "help", "train"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()  # before it has said a word
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
    process.stderr.close()


def other(folder, **files):
    """Make a package caffe that is not the engine, and return its folder."""
    (folder / "caffe" / "tools").mkdir(parents=True)
    for name, text in files.items():
        (folder / "caffe" / f"{name}.py").write_text(text)
    return folder


def test_another_caffe_on_pythonpath_is_named_and_never_imported(tmp_path):
    folder = other(tmp_path / "bvlc" / "python", __init__="raise SystemExit('it was imported')")
    ran = subprocess.run(
        [sys.executable, "-c", "import sys, caffe_command; sys.exit(caffe_command.main())"],
        env={**ENVIRONMENT, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr == (
        f"caffe: Python's `import caffe` finds {folder}/caffe/__init__.py, which is another caffe than the engine of "
        f"this command. Take {folder} out of PYTHONPATH to run this one. To use that other caffe, run its own "
        "programs.\n"
    )


@pytest.fixture
def path_without_the_engine(monkeypatch):
    """Let `import caffe` be looked up anew, with nothing on the path but what the test puts there."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])  # none of an editable install
    monkeypatch.delitem(sys.modules, "caffe", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)


def complaint(capsys):
    assert caffe_command.main() == 1
    return capsys.readouterr().err


def test_another_caffe_in_the_working_folder(path_without_the_engine, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sys.path.append(str(other(tmp_path, __init__="")))
    assert "Run the command from another folder to run this one." in complaint(capsys)


def test_another_caffe_that_is_installed(path_without_the_engine, tmp_path, capsys):
    sys.path.append(str(other(tmp_path, __init__="")))
    assert "pip uninstall caffe" in complaint(capsys)


def test_a_package_that_was_installed_over_the_engine(path_without_the_engine, tmp_path, capsys):
    sys.path.append(str(other(tmp_path, **{"__init__": "", "tools/cli": ""})))
    said = complaint(capsys)
    assert "installed over this command's engine" in said and "--force-reinstall" in said
    sys.modules.pop("caffe")


def test_a_folder_that_only_has_the_name(path_without_the_engine, tmp_path, capsys):
    sys.path.append(str(other(tmp_path)))
    assert "a folder without an __init__.py" in complaint(capsys)


def test_no_caffe_at_all(path_without_the_engine, capsys):
    assert "finds no module caffe" in complaint(capsys)


def test_the_engine_is_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["caffe", "--version"])
    assert caffe_command.main() == 0
    assert capsys.readouterr().out.startswith("caffe version 1.0.0\n")
