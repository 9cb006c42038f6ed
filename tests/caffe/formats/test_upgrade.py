"""Nets and solvers of old Caffe versions become what Caffe's own upgrade tools make of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from google.protobuf.message import Message

from caffe.errors import NetError, SolverError
from caffe.formats.prototxt import parse_text, read_net, read_solver
from caffe.formats.upgrade import V0_TYPES, V1_TYPES, upgrade_net, upgrade_solver
from caffe.proto import caffe_pb2

GOLDEN = Path(__file__).parents[2] / "golden" / "upgrade"
NETS = sorted(path.name for path in GOLDEN.glob("*.upgraded.prototxt") if "solver" not in path.name)


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter())


def upgraded(text: str) -> caffe_pb2.NetParameter:
    message = net(text)
    upgrade_net(message)
    return message


@pytest.mark.parametrize("name", NETS)
def test_nets_upgrade_as_in_caffe(name: str) -> None:
    ours = net((GOLDEN / name.replace(".upgraded", "")).read_text())
    assert upgrade_net(ours)
    assert ours == net((GOLDEN / name).read_text())
    assert not upgrade_net(ours), "an upgraded net has nothing left to upgrade"


def test_every_golden_case_is_run() -> None:
    assert len(NETS) == 4
    assert len(list(GOLDEN.glob("*.upgraded.prototxt"))) == 5


def test_solver_upgrades_as_in_caffe() -> None:
    ours = parse_text((GOLDEN / "solver_old_enum.prototxt").read_text(), caffe_pb2.SolverParameter())
    assert upgrade_solver(ours)
    expected = (GOLDEN / "solver_old_enum.upgraded.prototxt").read_text()
    assert ours == parse_text(expected, caffe_pb2.SolverParameter())
    assert not upgrade_solver(ours)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ],
)
def test_solver_types(old: str, new: str) -> None:
    solver = parse_text(f"solver_type: {old}", caffe_pb2.SolverParameter())
    assert upgrade_solver(solver)
    assert solver.type == new
    assert not solver.HasField("solver_type")


def test_solver_with_both_types_is_refused() -> None:
    solver = caffe_pb2.SolverParameter(type="SGD", solver_type=caffe_pb2.SolverParameter.ADAM)
    with pytest.raises(SolverError, match="solver_type"):
        upgrade_solver(solver)


def test_nets_inside_a_solver_are_upgraded() -> None:
    text = 'net_param { layers { name: "a" type: RELU } } test_net_param { input: "x" input_dim: [1, 2, 3, 4] }'
    solver = parse_text(text, caffe_pb2.SolverParameter())
    assert upgrade_solver(solver)
    assert solver.net_param.layer[0].type == "ReLU"
    assert solver.test_net_param[0].layer[0].type == "Input"


def test_snapshot_prefix(tmp_path: Path) -> None:
    path = tmp_path / "my.solver.prototxt"
    path.write_text("base_lr: 1")
    assert read_solver(path).snapshot_prefix == str(tmp_path / "my.solver")
    path.write_text(f'snapshot_prefix: "{tmp_path}"')
    assert read_solver(path).snapshot_prefix == str(tmp_path / "my.solver")
    path.write_text(f'snapshot_prefix: "{tmp_path}/snap"')
    assert read_solver(path).snapshot_prefix == f"{tmp_path}/snap"


def test_every_v1_type_has_todays_name() -> None:
    assert set(V1_TYPES) == set(caffe_pb2.V1LayerParameter.LayerType.values())
    for number, name in caffe_pb2.V1LayerParameter.LayerType.items():
        ours = V1_TYPES[name]
        # Today's names are the enum's words, but for two.
        exceptions = {"NONE": "", "SOFTMAX_LOSS": "SoftmaxWithLoss"}
        assert ours.lower() == exceptions.get(number, number.replace("_", "")).lower()
    assert V1_TYPES[caffe_pb2.V1LayerParameter.RELU] == "ReLU"
    assert V1_TYPES[caffe_pb2.V1LayerParameter.IM2COL] == "Im2col"


def sample(message: Message) -> None:
    """Set each singular scalar field to a value that is not its default."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None or hasattr(getattr(message, field.name), "append"):
            continue
        value = getattr(message, field.name)
        if field.enum_type is not None:
            value = field.enum_type.values[-1].number
        elif isinstance(value, bool):
            value = not value
        else:
            value = "text" if isinstance(value, str) else value + 2
        setattr(message, field.name, value)


def test_every_v1_parameter_block_is_carried_over() -> None:
    v1 = caffe_pb2.V1LayerParameter(name="a", type=caffe_pb2.V1LayerParameter.RELU)
    blocks = [f.name for f in v1.DESCRIPTOR.fields if f.name.endswith("_param")]
    assert len(blocks) == 30
    for name in blocks:
        getattr(v1, name).SetInParent()
        sample(getattr(v1, name))
    expected = {name: getattr(v1, name).SerializeToString() for name in blocks}
    layer = caffe_pb2.NetParameter(layers=[v1])
    upgrade_net(layer)
    assert {name: getattr(layer.layer[0], name).SerializeToString() for name in blocks} == expected


def test_v1_rules_weights_and_multipliers_are_carried_over() -> None:
    layer = upgraded(
        'layers { name: "c" type: CONVOLUTION bottom: "x" top: "y" top: "z" loss_weight: [1, 0] '
        'param: ["w", ""] blob_share_mode: [PERMISSIVE, STRICT] blobs_lr: [3, 4, 5] weight_decay: 6 '
        "include { phase: TEST stage: 's' } exclude { min_level: 2 } blobs { num: 1 data: [7] } }"
    ).layer[0]
    expected = net(
        'layer { name: "c" type: "Convolution" bottom: "x" top: "y" top: "z" loss_weight: [1, 0] '
        'param { name: "w" share_mode: PERMISSIVE lr_mult: 3 decay_mult: 6 } '
        'param { name: "" share_mode: STRICT lr_mult: 4 } param { lr_mult: 5 } '
        "include { phase: TEST stage: 's' } exclude { min_level: 2 } blobs { num: 1 data: [7] } }"
    ).layer[0]
    assert layer == expected


@pytest.mark.parametrize(
    ("kind", "block"),
    [("DATA", "data_param"), ("IMAGE_DATA", "image_data_param"), ("WINDOW_DATA", "window_data_param")],
)
def test_v1_data_layers_hand_their_transformation_over(kind: str, block: str) -> None:
    old = 'scale: 0.5 mean_file: "m" crop_size: 7 mirror: true'
    layer = upgraded(f'layers {{ type: {kind} {block} {{ source: "s" batch_size: 2 {old} }} }}').layer[0]
    assert layer.transform_param == parse_text(old, caffe_pb2.TransformationParameter())
    assert getattr(layer, block) == type(getattr(layer, block))(source="s", batch_size=2)


# A V0 field, in a layer of a V0 type, and where Caffe puts it in a V1 layer.
V0_PLACES = [
    ("conv", "num_output: 3", "convolution_param { num_output: 3 }"),
    ("innerproduct", "num_output: 3", "inner_product_param { num_output: 3 }"),
    ("conv", "biasterm: false", "convolution_param { bias_term: false }"),
    ("innerproduct", "biasterm: false", "inner_product_param { bias_term: false }"),
    ("conv", 'weight_filler { type: "a" }', 'convolution_param { weight_filler { type: "a" } }'),
    ("innerproduct", 'bias_filler { type: "a" }', 'inner_product_param { bias_filler { type: "a" } }'),
    (
        "conv",
        "pad: 2 kernelsize: 5 group: 4 stride: 3",
        "convolution_param { pad: 2 kernel_size: 5 group: 4 stride: 3 }",
    ),
    ("pool", "pad: 2 kernelsize: 5 stride: 3 pool: AVE", "pooling_param { pad: 2 kernel_size: 5 stride: 3 pool: AVE }"),
    ("pool", "pool: STOCHASTIC", "pooling_param { pool: STOCHASTIC }"),
    ("dropout", "dropout_ratio: 0.25", "dropout_param { dropout_ratio: 0.25 }"),
    ("lrn", "local_size: 3 alpha: 2 beta: 4 k: 5", "lrn_param { local_size: 3 alpha: 2 beta: 4 k: 5 }"),
    ("data", 'source: "s" batchsize: 4 rand_skip: 5', 'data_param { source: "s" batch_size: 4 rand_skip: 5 }'),
    ("hdf5_data", 'source: "s" batchsize: 4', 'hdf5_data_param { source: "s" batch_size: 4 }'),
    (
        "images",
        'source: "s" batchsize: 4 rand_skip: 5 shuffle_images: true new_height: 6 new_width: 7',
        'image_data_param { source: "s" batch_size: 4 rand_skip: 5 shuffle: true new_height: 6 new_width: 7 }',
    ),
    ("infogain_loss", 'source: "s"', 'infogain_loss_param { source: "s" }'),
    ("concat", "concat_dim: 0", "concat_param { concat_dim: 0 }"),
    (
        "window_data",
        'source: "s" batchsize: 4 det_fg_threshold: 0.1 det_bg_threshold: 0.2 det_fg_fraction: 0.3 '
        'det_context_pad: 6 det_crop_mode: "square"',
        'window_data_param { source: "s" batch_size: 4 fg_threshold: 0.1 bg_threshold: 0.2 fg_fraction: 0.3 '
        'context_pad: 6 crop_mode: "square" }',
    ),
    ("hdf5_output", 'hdf5_output_param { file_name: "f" }', 'hdf5_output_param { file_name: "f" }'),
    (
        "data",
        'scale: 0.5 meanfile: "m" cropsize: 7 mirror: true',
        'transform_param { scale: 0.5 mean_file: "m" crop_size: 7 mirror: true }',
    ),
    ("conv", "blobs_lr: [1, 2] weight_decay: [3, 4]", "blobs_lr: [1, 2] weight_decay: [3, 4]"),
    ("conv", "blobs { num: 1 data: 5 }", "blobs { num: 1 data: 5 }"),
]


@pytest.mark.parametrize(("kind", "old", "new"), V0_PLACES)
def test_v0_fields(kind: str, old: str, new: str) -> None:
    as_v1 = caffe_pb2.V1LayerParameter.LayerType.Name(V0_TYPES[kind])
    from_v0 = upgraded(f'layers {{ layer {{ name: "a" type: "{kind}" {old} }} top: "t" }}')
    assert from_v0 == upgraded(f'layers {{ name: "a" type: {as_v1} {new} top: "t" }}')


def test_v0_field_that_its_type_has_not_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="caffe"):
        logging.getLogger("caffe").addHandler(caplog.handler)
        try:
            ours = upgraded('layers { layer { name: "r" type: "relu" kernelsize: 3 new_num: 2 } }')
        finally:
            logging.getLogger("caffe").removeHandler(caplog.handler)
    assert ours == upgraded('layers { name: "r" type: RELU }')
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "no kernelsize" in said
    assert "no new_num" in said


PADDED = """
input: "x"
layers {{ layer {{ name: "p" type: "padding" pad: 2 }} bottom: "x" top: "px" }}
layers {{ layer {{ name: "c" type: "{}" }} bottom: "px" top: "y" }}
"""


def test_padding_goes_into_the_layer_that_reads_it() -> None:
    conv, pool = upgraded(PADDED.format("conv")).layer[0], upgraded(PADDED.format("pool")).layer[0]
    assert list(conv.convolution_param.pad) == [2]
    assert pool.pooling_param.pad == 2
    assert conv.bottom == pool.bottom == ["x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PADDED.format("relu"), 'reads the padding layer "p"'),
        (PADDED.format("conv") + 'layers { layer { type: "conv" } bottom: "px" bottom: "y" }', "one bottom"),
        ('layers { layer { name: "c" type: "conv" } bottom: "nope" }', '"nope"'),
        ('layers { layer { name: "c" type: "convolution" } }', 'unknown type "convolution"'),
        ('layers { name: "a" } layer { name: "b" }', "both layer and layers"),
        ('input: "a" input: "b" input_dim: [1, 2, 3, 4]', "2 inputs and shapes for 1"),
        ('input: "a" input: "b" input_shape { dim: 1 }', "2 inputs and shapes for 1"),
    ],
)
def test_nets_that_cannot_be_upgraded(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(NetError, match=words):
        upgraded(text)
    path = tmp_path / "old.prototxt"
    path.write_text(text)
    with pytest.raises(RuntimeError, match="old.prototxt.*" + words):
        read_net(path)


def test_inputs_without_shapes_are_dropped() -> None:
    # As a weights file of an old net has them.
    assert upgraded('input: "data" layers { name: "r" type: RELU }') == net('layer { name: "r" type: "ReLU" }')


def test_todays_net_is_left_alone() -> None:
    text = 'layer { name: "d" type: "Data" data_param { scale: 2 } } layer { type: "BatchNorm" param { lr_mult: 0 } }'
    message = net(text)
    assert not upgrade_net(message)
    assert message == net(text)
