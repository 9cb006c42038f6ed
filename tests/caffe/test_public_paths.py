"""The module paths that pycaffe, docs/ and the engine's own messages promise, wherever the work itself is done."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

# Module: names that programs take from it. pycaffe's, but for those that docs/ or an error message gives.
PROMISED = {
    "_caffe": ("Blob", "BlobVec", "Layer", "LayerParameter", "Net", "Solver", "SolverParameter", "layer_type_list"),
    "allocator": ("keep_freed_memory",),
    "classifier": ("Classifier",),
    "coord_map": ("PASS_THROUGH_LAYERS", "coord_map_from_to", "crop"),
    "detector": ("Detector",),
    "draw": ("draw_net", "draw_net_to_file", "get_pydot_graph"),
    "errors": ("CaffeError", "FileFormatError", "NetError", "NonFiniteError", "PrototxtError", "SolverError"),
    "io": ("Transformer", "array_to_blobproto", "blobproto_to_array", "datum_to_array", "load_image", "resize_image"),
    "layer": ("Layer", "LayerVec", "TensorLayer"),
    "net_spec": ("Function", "NetSpec", "Top", "assign_proto", "layers", "param_name_dict", "params", "to_proto"),
    "parallel": ("NCCL", "join", "launch", "leave"),
    "proto": ("caffe_pb2",),
    "proto.caffe_pb2": ("BlobProto", "Datum", "NetParameter", "SolverParameter", "TEST", "TRAIN"),
    "prototxt": ("parse_text", "read_net", "read_solver", "to_text"),
    "pycaffe": ("NCCL", "Net", "SGDSolver", "Timer", "get_solver"),
    "schema": ("declare",),
}
# The rest are attributes of the package as soon as it is imported; these come when they are imported by name.
BY_NAME = {"coord_map", "draw"}


@pytest.mark.parametrize("path", PROMISED)
def test_a_promised_module_is_imported_by_its_path_and_has_its_names(path):
    module = importlib.import_module(f"caffe.{path}")
    missing = [name for name in PROMISED[path] if not hasattr(module, name)]
    assert not missing


@pytest.mark.slow
def test_import_caffe_brings_the_modules_as_attributes():
    brought = sorted(PROMISED.keys() - BY_NAME)
    program = "import caffe\n" + "".join(f"caffe.{path}.{name}\n" for path in brought for name in PROMISED[path])
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_a_layer_type_declared_by_the_public_path_is_known_to_prototxts():
    """The path and the place of the work are one module's state, not two."""
    program = (
        "import caffe\n"
        "from caffe.proto import caffe_pb2\n"
        "from caffe.prototxt import parse_text, to_text\n"
        "caffe.schema.declare('message PoolingParameter { optional bool rounded_up = 50; }')\n"
        "net = parse_text('layer { pooling_param { rounded_up: true } }', caffe_pb2.NetParameter())\n"
        "print(to_text(net))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "rounded_up: true" in ran.stdout
