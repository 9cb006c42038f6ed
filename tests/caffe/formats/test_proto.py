"""The protobuf schema: the numbers, types and defaults that files of every Caffe rely on."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from caffe.formats.prototxt import _is_repeated
from caffe.proto import caffe_pb2

GOLDEN = Path(__file__).parents[2] / "golden" / "solvers"

# message.field: number, and the default where there is one other than protobuf's
FIELDS = """
BlobShape.dim 1
BlobProto.num 1, BlobProto.channels 2, BlobProto.height 3, BlobProto.width 4, BlobProto.data 5, BlobProto.diff 6
BlobProto.shape 7, BlobProto.double_data 8, BlobProto.double_diff 9
Datum.channels 1, Datum.data 4, Datum.label 5, Datum.float_data 6, Datum.encoded 7
FillerParameter.type 1 constant, FillerParameter.max 4 1.0, FillerParameter.std 6 1.0, FillerParameter.sparse 7 -1
NetParameter.name 1, NetParameter.layers 2, NetParameter.input 3, NetParameter.input_dim 4, NetParameter.state 6
NetParameter.input_shape 8, NetParameter.layer 100
SolverParameter.base_lr 5, SolverParameter.solver_mode 17 1, SolverParameter.random_seed 20 -1
SolverParameter.net 24, SolverParameter.snapshot_after_train 28 True, SolverParameter.solver_type 30 0
SolverParameter.delta 31 1e-08, SolverParameter.average_loss 33 1, SolverParameter.clip_gradients 35 -1.0
SolverParameter.iter_size 36 1, SolverParameter.snapshot_format 37 1, SolverParameter.rms_decay 38 0.99
SolverParameter.momentum2 39 0.999, SolverParameter.type 40 SGD, SolverParameter.weights 42
SolverState.iter 1, SolverState.learned_net 2, SolverState.history 3, SolverState.current_step 4
NetState.phase 1 1, ParamSpec.name 1, ParamSpec.lr_mult 3 1.0, ParamSpec.decay_mult 4 1.0
LayerParameter.name 1, LayerParameter.type 2, LayerParameter.bottom 3, LayerParameter.top 4
LayerParameter.loss_weight 5, LayerParameter.param 6, LayerParameter.blobs 7, LayerParameter.include 8
LayerParameter.exclude 9, LayerParameter.phase 10, LayerParameter.propagate_down 11
LayerParameter.transform_param 100, LayerParameter.loss_param 101, LayerParameter.convolution_param 106
LayerParameter.pooling_param 121, LayerParameter.python_param 130, LayerParameter.input_param 143
LayerParameter.crop_param 144, LayerParameter.clip_param 148
LossParameter.ignore_label 1, LossParameter.normalize 2, LossParameter.normalization 3 1
ConvolutionParameter.num_output 1, ConvolutionParameter.bias_term 2 True, ConvolutionParameter.pad 3
ConvolutionParameter.kernel_size 4, ConvolutionParameter.group 5 1, ConvolutionParameter.stride 6
ConvolutionParameter.axis 16 1, ConvolutionParameter.dilation 18
PoolingParameter.pool 1 0, PoolingParameter.stride 3 1, PoolingParameter.round_mode 13 0
LRNParameter.local_size 1 5, LRNParameter.alpha 2 1.0, LRNParameter.beta 3 0.75, LRNParameter.k 5 1.0
DropoutParameter.dropout_ratio 1 0.5, EltwiseParameter.operation 1 1, CropParameter.axis 1 2, CropParameter.offset 2
BatchNormParameter.moving_average_fraction 2 0.999, BatchNormParameter.eps 3 1e-05
PythonParameter.module 1, PythonParameter.layer 2, PythonParameter.param_str 3, PythonParameter.share_in_parallel 4
V1LayerParameter.layer 1, V1LayerParameter.name 4, V1LayerParameter.type 5, V1LayerParameter.blobs 6
V1LayerParameter.param 1001, V1LayerParameter.blob_share_mode 1002
V0LayerParameter.name 1, V0LayerParameter.type 2, V0LayerParameter.blobs 50, V0LayerParameter.hdf5_output_param 1001
"""


def rows() -> list[list[str]]:
    return [entry.split() for line in FIELDS.strip().splitlines() for entry in line.split(", ")]


@pytest.mark.parametrize(
    ("path", "number", "default"), [(r[0], int(r[1]), r[2] if len(r) > 2 else None) for r in rows()]
)
def test_field(path: str, number: int, default: str | None) -> None:
    message, name = path.split(".")
    field = caffe_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name[name]
    assert field.number == number
    if default is not None:
        assert str(field.default_value) == default or field.default_value == pytest.approx(float(default))


@pytest.mark.parametrize(
    ("enum", "values"),
    [
        ("Phase", {"TRAIN": 0, "TEST": 1}),
        ("FillerParameter.VarianceNorm", {"FAN_IN": 0, "FAN_OUT": 1, "AVERAGE": 2}),
        ("SolverParameter.SnapshotFormat", {"HDF5": 0, "BINARYPROTO": 1}),
        ("SolverParameter.SolverMode", {"CPU": 0, "GPU": 1}),
        ("LossParameter.NormalizationMode", {"FULL": 0, "VALID": 1, "BATCH_SIZE": 2, "NONE": 3}),
        ("PoolingParameter.PoolMethod", {"MAX": 0, "AVE": 1, "STOCHASTIC": 2}),
        ("EltwiseParameter.EltwiseOp", {"PROD": 0, "SUM": 1, "MAX": 2}),
        ("ReductionParameter.ReductionOp", {"SUM": 1, "ASUM": 2, "SUMSQ": 3, "MEAN": 4}),
    ],
)
def test_enum(enum: str, values: dict[str, int]) -> None:
    found = caffe_pb2
    for part in enum.split("."):
        found = getattr(found, part)
    assert dict(found.items()) == values


def test_the_schema_is_whole() -> None:
    messages = caffe_pb2.DESCRIPTOR.message_types_by_name
    assert len(messages) == 63
    assert sum(len(message.fields) for message in messages.values()) == 423
    assert len(messages["LayerParameter"].fields) == 11 + 49
    assert len(messages["V1LayerParameter"].fields) == 43
    assert len(caffe_pb2.V1LayerParameter.LayerType.values()) == 40


def test_only_the_bulk_is_packed() -> None:
    # A packed field that Caffe has unpacked, or the other way round, still parses, but its bytes differ from Caffe's.
    packed = {
        f"{message.name}.{field.name}"
        for message in caffe_pb2.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if field.GetOptions().packed
    }
    assert packed == {
        "BlobShape.dim",
        *(f"BlobProto.{name}" for name in ("data", "diff", "double_data", "double_diff")),
    }


@pytest.mark.parametrize("name", ["fcn_skip_heavy_iter_4", "adam_iter_4"])
def test_caffes_own_files_come_back_byte_for_byte(name: str) -> None:
    weights = (GOLDEN / f"{name}.caffemodel").read_bytes()
    net = caffe_pb2.NetParameter.FromString(weights)
    assert net.SerializeToString() == weights
    assert net.layer[0].type == "Python"
    assert net.layer[0].python_param.module == "golden_feed"
    state = (GOLDEN / f"{name}.solverstate").read_bytes()
    assert caffe_pb2.SolverState.FromString(state).SerializeToString() == state


def test_generated_for_every_supported_protobuf() -> None:
    # Code that a newer protoc generates refuses the older runtimes that pyproject.toml allows.
    head = Path(caffe_pb2.__file__).read_text().splitlines()[:6]
    assert any(line.startswith("# Protobuf Python Version: 4.25.") for line in head)


STUB = Path(caffe_pb2.__file__).with_suffix(".pyi")


def in_the_stub(body: list[ast.stmt]) -> tuple[dict[str, ast.ClassDef], dict[str, str]]:
    """Return the classes of a stub's or class's body, and its annotated names with their types."""
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    named = {node.target.id: ast.unparse(node.annotation) for node in body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    return classes, named


def type_in_python(field: FieldDescriptor) -> str:
    """Return the type that a field has in Python, as protoc writes it."""
    kinds = {
        FieldDescriptor.CPPTYPE_BOOL: "bool",
        FieldDescriptor.CPPTYPE_DOUBLE: "float",
        FieldDescriptor.CPPTYPE_FLOAT: "float",
    }
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        name = "bytes" if field.type == FieldDescriptor.TYPE_BYTES else "str"
    elif field.message_type is not None or field.enum_type is not None:
        name = (field.message_type or field.enum_type).full_name.removeprefix("caffe.")
    else:
        name = kinds.get(field.cpp_type, "int")
    if not _is_repeated(field):
        return name
    return f"_containers.Repeated{'Composite' if field.message_type else 'Scalar'}FieldContainer[{name}]"


def hold_enums(
    enums: dict[str, EnumDescriptor], classes: dict[str, ast.ClassDef], named: dict[str, str], at: str
) -> None:
    for name, enum in enums.items():
        values = {value.name for value in enum.values}
        assert set(in_the_stub(classes[name].body)[1]) == values
        assert {named[value] for value in values} == {f"{at}{name}"}  # a value is also a name of the enum's scope


def test_the_stub_has_every_message_field_and_enum_of_the_descriptor_and_no_other() -> None:
    file = caffe_pb2.DESCRIPTOR
    classes, named = in_the_stub(ast.parse(STUB.read_text()).body)
    assert set(classes) == {*file.message_types_by_name, *file.enum_types_by_name}
    hold_enums(file.enum_types_by_name, classes, named, "")
    for message in file.message_types_by_name.values():
        assert not message.nested_types  # such a class would have to be walked too
        inner, fields = in_the_stub(classes[message.name].body)
        enums = message.enum_types_by_name
        hold_enums(enums, inner, fields, f"{message.name}.")
        assert set(inner) == set(enums), message.name
        values = {value.name for enum in enums.values() for value in enum.values}
        numbers = {f"{name.upper()}_FIELD_NUMBER" for name in message.fields_by_name}
        assert set(fields) == {*message.fields_by_name, *values, *numbers}, message.name
        for field in message.fields:
            assert fields[field.name] == type_in_python(field), f"{message.name}.{field.name}"
        init = next(n for n in classes[message.name].body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
        assert [arg.arg for arg in init.args.args[1:]] == list(message.fields_by_name), message.name


def test_the_generator_writes_what_is_committed(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools, which has protoc, is not installed")
    source = Path(caffe_pb2.__file__).parents[2]
    made = tmp_path / "caffe" / "proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(source), f"--python_out={tmp_path}"]
    done = subprocess.run(
        [*command, f"--pyi_out={tmp_path}", str(source / "caffe/proto/caffe.proto")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "4.25." not in (made / "caffe_pb2.py").read_text()[:300]:
        pytest.skip("this protoc is of another version than 25, which caffe.proto asks for")
    for name in ("caffe_pb2.py", "caffe_pb2.pyi"):
        assert (made / name).read_text() == Path(caffe_pb2.__file__).with_name(name).read_text()
