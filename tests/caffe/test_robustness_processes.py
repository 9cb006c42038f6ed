"""A full disk, a folder without permission, kills, Ctrl-C, forks: files stay whole, and nothing hangs."""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import caffe
from caffe.data.database import open_database
from caffe.tools.imageset import compute_image_mean, convert_imageset
from tests import forked

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="limits, users and kills as Linux has them"
)

NET = """
layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 50 dim: 300 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 400 weight_filler { type: "gaussian" std: 0.01 } } }
"""
# Beside a folder `out`, where everything is written, whose files are there already and say OLD.
WRITERS = """
import os, resource, sys
import numpy as np
import caffe
from caffe.tools import cli
from caffe.tools.imageset import convert_imageset

caffe.init_log(3)
if sys.argv[2] == "with extras":  # imported where they are used, and by then this may be another user's process
    import onnx, onnxruntime, pydot, safetensors.numpy
    from caffe import draw, export
    from caffe.export.onnx import onnx_graph as graph
net = caffe.Net("net.prototxt", caffe.TEST)
net.forward()
out = caffe.Net("output.prototxt", caffe.TEST) if sys.argv[1] == "full" else None
ACTIONS = {
    "a.caffemodel": lambda: net.save("out/a.caffemodel"),
    "a.h5": lambda: net.save_hdf5("out/a.h5"),
    "b.caffemodel": lambda: cli.main(["upgrade", "w.caffemodel", "out/b.caffemodel"]),
    "b.prototxt": lambda: cli.main(["upgrade", "wide.prototxt", "out/b.prototxt"]),
    "c.safetensors": lambda: cli.main(["export", "w.caffemodel", "out/c.safetensors"]),
    "d.onnx": lambda: cli.main(["export", "deploy.prototxt", "w.caffemodel", "out/d.onnx"]),
    "e.binaryproto": lambda: cli.main(["mean", "db", "out/e.binaryproto"]),
    "f.dot": lambda: cli.main(["draw", "net.prototxt" if out is None else "wide.prototxt", "out/f.dot"]),
    "db": lambda: convert_imageset("", "list.txt", "out/db"),
}
if out is not None:
    ACTIONS["rows.h5"] = lambda: [out.forward() for _ in range(9)]
if sys.argv[2] == "without extras":
    for name in ("c.safetensors", "d.onnx", "f.dot"):
        del ACTIONS[name]
if sys.argv[1] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
elif os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for name, action in ACTIONS.items():
    try:
        print(name, action())
    except caffe.CaffeError as error:
        print(name, 1, error)
"""


@pytest.fixture
def workshop() -> Iterator[Path]:
    """Return a folder with nets, weights, a database and images, and `out` in it, full of old files.

    It is none of pytest's, which are closed to other users.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        _furnish(Path(folder))
        yield Path(folder)


def _furnish(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    deploy = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 300 } } }'
    (tmp_path / "deploy.prototxt").write_text(deploy + NET[NET.index('layer { name: "ip"') :])
    output = 'layer { name: "o" type: "HDF5Output" bottom: "data" bottom: "ip" hdf5_output_param '
    (tmp_path / "output.prototxt").write_text(NET + output + '{ file_name: "out/rows.h5" } }')
    wide = "".join(f'layers {{ name: "r{i}" type: RELU bottom: "data" top: "r{i}" }}\n' for i in range(600))
    shape = "dummy_data_param { num: 1 channels: 1 height: 1 width: 1 }"
    (tmp_path / "wide.prototxt").write_text(f'layers {{ name: "data" type: DUMMY_DATA top: "data" {shape} }}\n{wide}')
    caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).save(str(tmp_path / "w.caffemodel"))
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (100, 100, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{i}.png {i}\n" for i in range(3)))
    convert_imageset("", str(tmp_path / "list.txt"), str(tmp_path / "db"))
    (tmp_path / "out").mkdir()
    for name in ("a.caffemodel", "a.h5", "b.caffemodel", "b.prototxt", "c.safetensors", "d.onnx", "e.binaryproto"):
        (tmp_path / "out" / name).write_text("OLD")
    (tmp_path / "out" / "f.dot").write_text("OLD")


def write_all(workshop: Path, how: str) -> None:
    """Let every writer fail, and check that the old files are there, and nothing else."""
    before = {path.name for path in (workshop / "out").iterdir()}
    extras = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "pydot", "safetensors"))
    ran = forked.run("-c", WRITERS, how, "with extras" if extras else "without extras", cwd=workshop)
    assert ran.returncode == 0, (ran.returncode, ran.stdout, ran.stderr[-2000:])
    said = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
    assert {"a.caffemodel", "a.h5", "b.caffemodel", "b.prototxt", "e.binaryproto", "db"} <= set(said)
    for name, line in said.items():
        assert line.startswith("1"), f"{name} was written: {line}"
    assert "Traceback" not in ran.stderr
    assert {path.name for path in (workshop / "out").iterdir()} - {"rows.h5"} == before
    for path in (workshop / "out").iterdir():
        assert path.name == "rows.h5" or path.read_text() == "OLD"


@pytest.mark.slow
def test_a_full_disk_costs_no_old_file_and_leaves_no_half_a_file(workshop: Path) -> None:
    write_all(workshop, "full")
    with h5py.File(workshop / "out" / "rows.h5", "r") as file:  # rows are appended; those that fitted are whole
        assert len(file.get("data", ())) == len(file.get("label", ())) and len(file.get("data", ())) % 50 == 0


@pytest.mark.slow
def test_a_folder_without_permission_is_told_and_stays_as_it_is(workshop: Path) -> None:
    os.chmod(workshop / "out", 0o555)
    try:
        write_all(workshop, "forbidden")
    finally:
        os.chmod(workshop / "out", 0o755)


# A kill at some moments, each a little later in the work than the one before


def kill_after(text: str, delay: float, program: tuple[str, ...], folder: Path) -> None:
    """Run a program in a folder until it has written a line with the text, and kill it some seconds later."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as said:
        with os.fdopen(writing, "w") as theirs:
            process = forked.start(*program, cwd=folder, stdout=theirs, stderr=theirs)
        assert any(text in line for line in said)
        time.sleep(delay)
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL


SAVE = """
import sys
import caffe
net = caffe.Net("net.prototxt", caffe.TEST)
for number in range(10**6):
    net.params["ip"][0].data[...] = number
    net.params["ip"][1].data[...] = number
    {save}
    print("written", flush=True)
"""


@pytest.mark.parametrize("form", ["save", "save_hdf5"])
def test_weights_are_whole_whenever_the_process_that_writes_them_is_killed(workshop: Path, form: str) -> None:
    path = workshop / "k.caffemodel"
    net = caffe.Net(str(workshop / "net.prototxt"), caffe.TEST)
    program = ("-c", SAVE.format(save=f'net.{form}("k.caffemodel")'))
    for delay in (0.003, 0.031):
        kill_after("written\n", delay, program, workshop)
        net.copy_from(str(path))
        values = [blob.data for blob in net.params["ip"]]
        assert all((value == values[0].flat[0]).all() for value in values)


def test_a_database_is_whole_or_absent_whenever_the_process_that_writes_it_is_killed(workshop: Path) -> None:
    code = """
import caffe
from caffe.tools.imageset import convert_imageset
caffe.init_log(3)
for number in range(10**6):
    convert_imageset("", "list.txt", f"k{number}")
    print("written", flush=True)
"""
    for delay in (0.02, 0.05):
        kill_after("written\n", delay, ("-c", code), workshop)
        found = [path for path in workshop.glob("k*") if path.suffix != ".part"]
        assert found
        for path in found:
            assert open_database(path).count == 3
            assert compute_image_mean(str(path)).shape == (3, 100, 100)
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


@pytest.mark.slow
def test_what_training_leaves_behind_when_it_is_killed_resumes(workshop: Path) -> None:
    loss = 'layer { name: "l" type: "EuclideanLoss" bottom: "ip" bottom: "t" }\n'
    target = 'layer { name: "t" type: "DummyData" top: "t" dummy_data_param { shape { dim: 50 dim: 400 } } }\n'
    (workshop / "train.prototxt").write_text(NET + target + loss)
    settings = 'net: "train.prototxt" base_lr: 1e-9 lr_policy: "fixed" momentum: 0.9 max_iter: 100000 snapshot: 1 '
    (workshop / "solver.prototxt").write_text(settings + 'snapshot_prefix: "s/s" solver_mode: CPU display: 1')
    program = ("-m", "caffe_command", "train", "-solver", "solver.prototxt")
    for delay in (0.1, 0.157):
        kill_after("Iteration 2,", delay, program, workshop)
        states = sorted((workshop / "s").glob("*.solverstate"), key=lambda path: int(path.stem.rpartition("_")[2]))
        assert states
        folder = os.getcwd()
        os.chdir(workshop)
        try:
            solver = caffe.get_solver("solver.prototxt")
            for state in states[-2:]:
                solver.restore(str(state))
                assert solver.iter == int(state.stem.rpartition("_")[2])
        finally:
            os.chdir(folder)
        for path in (workshop / "s").iterdir():
            path.unlink()


# Threads, forks and copies

DATA = """
layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "%s/db" batch_size: 2 backend: LMDB } }
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
"""


@pytest.fixture
def reading(workshop: Path, write) -> caffe.Net:
    """Return a net whose data layer has a thread that reads ahead."""
    net = caffe.Net(write(DATA % workshop), caffe.TEST)
    net.forward()
    return net


class Interrupting(caffe.Layer):
    """A data layer whose items are their numbers; Ctrl-C comes while the net waits for items 1 and 2."""

    prefetch = True
    waiting = threading.Event()

    def setup(self, bottom, top) -> None:
        self.number = 0

    def reshape(self, bottom, top) -> None:
        top[0].reshape(1)

    def forward(self, bottom, top) -> None:
        if self.number in (1, 2):
            self.waiting.wait()
            self.waiting.clear()
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        top[0].data[...] = self.number
        self.number += 1


def test_ctrl_c_while_the_net_waits_for_its_data_loses_no_item(write, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "interrupting", sys.modules[__name__])
    setting = 'python_param { module: "interrupting" layer: "Interrupting" }'
    net = caffe.Net(write(f'layer {{ name: "d" type: "Python" top: "x" {setting} }}'), caffe.TRAIN)
    found: list[float | str] = []
    for interrupted in (False, True, False, True, False):
        try:
            if interrupted:
                Interrupting.waiting.set()
            net.forward()
            found.append(float(net.blobs["x"].data[0]))
        except KeyboardInterrupt:
            found.append("stopped")
    assert found == [0, "stopped", 1, "stopped", 2]


@pytest.mark.slow
def test_a_net_that_is_given_up_while_it_reads_ahead_leaves_no_thread(workshop: Path, write) -> None:
    before = threading.active_count()
    for _ in range(3):
        net = caffe.Net(write(DATA % workshop), caffe.TEST)
        net.forward()
        del net
        gc.collect()
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.slow
def test_a_program_that_ends_while_a_thread_reads_ahead_ends(workshop: Path, write) -> None:
    code = f"import caffe; net = caffe.Net({write(DATA % workshop)!r}, caffe.TEST); net.forward(); print('end')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0 and ran.stdout == "end\n", ran.stderr


@pytest.mark.slow
def test_a_forked_process_is_told_that_the_thread_stayed_behind(workshop: Path, write) -> None:
    code = f"""
import os, sys
import caffe
net = caffe.Net({write(DATA % workshop)!r}, caffe.TEST)
net.forward()
if os.fork() == 0:
    try:
        net.forward()
    except caffe.CaffeError as error:
        print(error, flush=True)
    sys.exit()
os.wait()
net.forward()
print("parent")
"""
    ran = forked.run("-c", code, timeout=60)
    first, last = ran.stdout.splitlines()
    assert first.startswith("Layer 'd': this process was forked while a thread read its data") and last == "parent"


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_net_is_not_pickled_or_copied(reading: caffe.Net, take) -> None:
    with pytest.raises(TypeError, match="A net cannot be pickled or copied"):
        take(reading)
    assert reading.forward()["r"].shape == (2, 3, 100, 100)
