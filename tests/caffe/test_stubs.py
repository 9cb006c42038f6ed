"""The type stubs of the package: every public name, and what a type checker says of right and of wrong calls."""

import ast
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import caffe

STUB = Path(caffe.__file__).with_suffix(".pyi")

# What a program writes; `# error: CODE` ends the lines that mypy refuses, `# reveals: T` those whose value it knows.
PROGRAM = """
import caffe
from caffe import layers as L, params as P
from caffe.proto import caffe_pb2

net = caffe.Net("net.prototxt", caffe.TEST, weights="net.caffemodel")
caffe.Net("net.prototxt", "net.caffemodel", caffe.TEST)
caffe.Net("net.prototxt")  # error: call-overload
caffe.Net("net.prototxt", "TEST")  # error: call-overload
caffe.Net("net.prototxt", caffe.TRAIN, stages="deploy", level="0")  # error: call-overload
net.blobs["data"].reshape(1, 3, 224, 224)
net.blobs["data"].reshape("1")  # error: arg-type
net.blobs["data"].count = 3  # error: misc
net.forward(start="conv1", blobs=["conv1"])["prob"].argmax()
net.forward(start=1)  # error: arg-type
net.share_with(3)  # error: arg-type
reveal_type(net.params["conv1"][0])  # reveals: caffe.blob.Blob
reveal_type(net.layers)  # reveals: caffe.layer.LayerVec
reveal_type(caffe.layer_type_list())  # reveals: caffe.blob.StringVec

solver = caffe.get_solver("solver.prototxt")
solver.step("1")  # error: arg-type
solver.param.base_lr = 0.1
solver.param.max_iter = 3  # error: misc
reveal_type(solver.net)  # reveals: caffe.net.Net
nccl = caffe.NCCL(solver, caffe.NCCL.new_uid())
solver.add_callback(nccl)
solver.net.after_backward(nccl)
reveal_type(caffe.NCCL.new_uid())  # reveals: bytes
caffe.NCCL("solver", b"")  # error: arg-type

n = caffe.NetSpec()
n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
n.pool = L.Pooling(n.data, pool=P.Pooling.MAX, kernel_size=2)
reveal_type(n.to_proto())  # reveals: caffe.proto.caffe_pb2.NetParameter
layer = caffe_pb2.LayerParameter(name="conv", bottom=["data"])
layer.convolution_param.num_output = "64"  # error: assignment
layer.botom.append("data")  # error: attr-defined
caffe_pb2.NetParameter(nam="net")  # error: call-arg
reveal_type(layer.pooling_param.pool)  # reveals: caffe.proto.caffe_pb2.PoolingParameter.PoolMethod
timer = caffe.Timer()
timer.begin()  # error: attr-defined
reveal_type(timer.ms)  # reveals: float

class Double(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

@caffe.layer_type("Twice")
def twice(bottoms, params, layer):
    return 2 * bottoms[0]

@caffe.layer_type("Thrice", bottom=1)  # error: call-arg
def thrice(bottoms, params, layer):
    return 3 * bottoms[0]

caffe.set_device("0")  # error: arg-type
caffe.set_random_seed(None)  # error: arg-type
caffe.init_log(2, stderr=False)
caffe.log(3)  # error: arg-type
caffe.io.load_image("cat.jpg", False).mean()
caffe.Classifier("net.prototxt")  # error: call-arg
caffe.Detector("net.prototxt", "net.caffemodel", context_pad="16")  # error: arg-type
caffe.to_proto(3)  # error: arg-type
caffe.set_mode_tpu()  # error: attr-defined
caffe_pb2.NetParameter(name="net")
reveal_type(caffe.TEST)  # reveals: Literal[1]?
reveal_type(caffe.__version__)  # reveals: str
"""

# Without PyTorch's and protobuf's own types, which take mypy half a minute.
CONFIG = """
[mypy]
follow_imports = silent
[mypy-torch.*,google.*,PIL.*,scipy.*,h5py.*,lmdb.*]
follow_imports = skip
"""


def names_of_the_stub():
    """Return the names that the stub gives to others: assigned, or imported `as` themselves."""
    found = set()
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.AnnAssign):
            found.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.asname == alias.name}
    return found


def test_the_stub_has_every_public_name_and_no_other():
    own = {
        name
        for name in dir(caffe)
        if not name.startswith("_") and not isinstance(caffe.__dict__[name], types.ModuleType)
    }
    stub = names_of_the_stub()
    assert set(caffe.__all__) | own <= stub
    assert {"_caffe", "classifier", "detector", "io", "net_spec", "proto", "pycaffe"} <= stub
    assert stub <= set(dir(caffe))


@pytest.mark.slow
def test_mypy_knows_right_calls_from_wrong_ones(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", f"--cache-dir={os.devnull}", "program.py"]
    env = {**os.environ, "MYPYPATH": str(STUB.parent.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    errors = re.findall(r"^program\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.M)
    revealed = re.findall(r'^program\.py:(\d+): note: Revealed type is "(.*)"$', done.stdout, re.M)
    said = {int(line): f"error: {code}" for line, code in errors} | {int(line): f"reveals: {t}" for line, t in revealed}
    for number, line in enumerate(PROGRAM.splitlines(), 1):
        assert said.get(number, "") == line.partition("  # ")[2], f"{line}\n{done.stdout}{done.stderr}"
