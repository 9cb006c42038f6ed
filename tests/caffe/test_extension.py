"""Layer types that a program adds: declared messages in text, binary and NetSpec; functions as layers; refusals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import caffe
from caffe import layer as registry
from caffe import layer_type
from caffe.errors import CaffeError, NetError, PrototxtError
from caffe.formats import schema
from caffe.formats.definitions import read_definitions
from caffe.formats.prototxt import parse_text, read_net, to_text
from caffe.formats.snapshot import read_weights
from caffe.net_spec import param_name_dict
from caffe.proto import caffe_pb2
from caffe.tensor_layer import TensorLayer

L, P = caffe.layers, caffe.params
DOC = Path(__file__).parents[2] / "docs" / "adding-a-layer-type.md"
NORM = """
    message LayerParameter { optional NormalizeParameter norm_param = 206; }
    message NormalizeParameter {
      optional bool across_spatial = 1 [default = true];
      optional FillerParameter scale_filler = 2;
      optional bool channel_shared = 3 [default = true];
      optional float eps = 4 [default = 1e-10];
    }
"""
X = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what a test declares and registers."""
    for name in ("_declared", "_type_fields"):
        monkeypatch.setattr(schema, name, {})
    monkeypatch.setattr(schema, "_classes", {})
    monkeypatch.setattr(registry, "_types", dict(registry._types))
    yield
    schema._generation += 1


def text_of(layer: str, shape: tuple[int, ...] = X.shape, extra: str = "") -> str:
    dims = " ".join(f"dim: {extent}" for extent in shape)
    data = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}'
    return f"force_backward: true {data} {extra} {layer}"


def net_of(layer: str, shape: tuple[int, ...] = X.shape, phase: int = caffe.TRAIN, extra: str = "") -> caffe.Net:
    param = parse_text(text_of(layer, shape, extra), caffe_pb2.NetParameter())
    param.state.phase = phase
    net = caffe.Net.from_proto(param)
    if shape == X.shape:
        net.blobs["x"].data[...] = X
    return net


def one(type_: str, setting: str = "", top: str = "y") -> str:
    return f'layer {{ name: "l" type: "{type_}" bottom: "x" top: "{top}" {setting} }}'


def check_gradients(net: caffe.Net, top: str = "y", step: float = 1e-2) -> None:
    """Hold the gradients of the input and of the parameters against central differences of a weighted sum."""
    net.forward()
    weights = np.random.default_rng(1).standard_normal(net.blobs[top].data.shape).astype(np.float32)
    net.clear_param_diffs()
    net.backward(**{top: weights})
    for blob in (net.blobs["x"], *net.layer_dict["l"].blobs):
        found, values = blob.diff.copy(), blob.data
        for at in list(np.ndindex(values.shape))[:: max(1, values.size // 12)]:
            kept = values[at]
            sums = []
            for change in (step, -step):
                values[at] = kept + change
                sums.append(float((net.forward()[top].astype(np.float64) * weights).sum()))
            values[at] = kept
            assert found[at] == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=2e-2, abs=2e-3)


def blocks() -> list[str]:
    section = DOC.read_text().split("\n## ")[1]
    assert section.startswith("A type of a Caffe fork")
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def run_the_page() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "my_types"}
    exec(compile(blocks()[0], str(DOC), "exec"), names)
    return names


# The page's example: SSD's Normalize


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_the_pages_normalize_computes_and_learns(across: bool, shared: bool) -> None:
    run_the_page()
    setting = f"across_spatial: {across} channel_shared: {shared} scale_filler {{ value: 20 }}".replace("T", "t")
    net = net_of(one("Normalize", f"norm_param {{ {setting.replace('F', 'f')} }}"))
    length = np.sqrt((X**2).sum((1, 2, 3) if across else 1, keepdims=True))
    np.testing.assert_allclose(net.forward()["y"], 20 * X / length, rtol=1e-5)
    assert net.params["l"][0].data.shape == (() if shared else (3,))
    net.params["l"][0].data[...] = 2 if shared else [1, 2, 3]
    check_gradients(net)


def test_the_pages_normalize_has_ssds_defaults_and_works_in_place_and_without_spatial_axes() -> None:
    run_the_page()
    net = net_of(one("Normalize", top="x"))
    net.forward()
    assert np.sqrt((net.blobs["x"].data ** 2).sum((1, 2, 3))) == pytest.approx(1, rel=1e-5)
    flat = net_of(one("Normalize"), shape=(2, 7))
    flat.blobs["x"].data[...] = 3
    assert flat.forward()["y"] == pytest.approx(7**-0.5, rel=1e-5)
    with pytest.raises(NetError, match=r"Layer 'l' .*needs 2 axes"):
        net_of(one("Normalize"), shape=(7,)).forward()


def test_the_pages_net_spec_prints_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    run_the_page()
    exec(compile(blocks()[2], str(DOC), "exec"), {"caffe": caffe})
    printed = capsys.readouterr().out
    assert "norm_param {\n    across_spatial: false\n    scale_filler {\n" in printed
    settings_ = schema.settings_of(parse_text(printed, caffe_pb2.NetParameter()).layer[1], "norm_param")
    assert (settings_.across_spatial, settings_.channel_shared, settings_.scale_filler.value) == (False, False, 20)


def test_a_text_survives_reading_writing_and_a_snapshot(tmp_path: Path) -> None:
    run_the_page()
    layer = one("Normalize", "norm_param { across_spatial: false scale_filler { value: 20 } eps: 0.5 }")
    written = to_text(parse_text(text_of(layer), caffe_pb2.NetParameter()))
    (tmp_path / "net.prototxt").write_text(written)
    assert "across_spatial: false" in written
    assert to_text(read_net(tmp_path / "net.prototxt")) == written
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.save(str(tmp_path / "net.caffemodel"))
    stored = read_weights(tmp_path / "net.caffemodel")[-1].param
    assert schema.settings_of(stored, "norm_param").eps == 0.5
    # A program that knows of no Normalize keeps what it does not know, as protobuf has it.
    other = caffe_pb2.NetParameter.FromString((tmp_path / "net.caffemodel").read_bytes())
    assert "norm_param" not in str(other)
    assert "norm_param" in to_text(caffe_pb2.NetParameter.FromString(other.SerializeToString()))
    # The fork's own file: the same message, with its field where the fork's caffe.proto has it.
    fork = schema.extended(other)
    assert fork.layer[1].norm_param.scale_filler.value == 20
    assert list(fork.layer[1].blobs[0].data) == [20]
    (tmp_path / "fork.caffemodel").write_bytes(fork.SerializeToString())
    net.params["l"][0].data[...] = 0
    net.copy_from(str(tmp_path / "fork.caffemodel"))
    assert net.params["l"][0].data == 20


def test_a_net_with_the_type_trains_and_its_snapshot_has_the_settings(tmp_path: Path) -> None:
    run_the_page()
    net = f"""
        layer {{ name: "x" type: "DummyData" top: "x" dummy_data_param {{ data_filler {{ type: "gaussian" }}
          shape {{ dim: 2 dim: 3 dim: 4 }} }} }}
        {one("Normalize", "norm_param { channel_shared: false }")}
        layer {{ name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1
          reduction_param {{ operation: SUMSQ }} }}"""
    solver = parse_text(
        f'net_param {{ {net} }} base_lr: 0.1 lr_policy: "fixed" random_seed: 1 max_iter: 2 '
        f'snapshot_prefix: "{tmp_path}/s"',
        caffe_pb2.SolverParameter(),
    )
    run = caffe.SGDSolver(solver)
    run.step(2)
    scale = run.net.params["l"][0].data
    assert ((scale < 1) & (scale > 0)).all()
    run.snapshot()
    stored = read_weights(tmp_path / "s_iter_2.caffemodel")
    assert not schema.settings_of(stored[1].param, "norm_param").channel_shared


# Declared messages


KINDS = """
    message LayerParameter { repeated KindsParameter kinds_param = 1234567; }
    message KindsParameter {
      enum Mode { option allow_alias = true; NEAREST = 0 [deprecated = true]; NEXT = 0; BILINEAR = 4; }
      message Box { required float x = 1; optional Mode mode = 2; }
      optional Mode mode = 1 [default = BILINEAR];
      repeated Box box = 2;
      optional string name = 3 [default = "a\\"\\n" 'b'];
      optional bytes raw = 4;
      repeated uint32 packed = 5 [packed = true];
      optional sint64 offset = 6 [default = -0x10];
      optional double inf = 7 [default = -inf];
      repeated fixed32 fixed = 8;
      optional caffe.Phase phase = 9;
      optional .caffe.BlobShape shape = 10;
      optional int32 octal = 11 [default = 017, deprecated = true];
      optional KindsParameter inner = 12;
    }
"""


def test_every_kind_of_field_is_read_as_protoc_reads_it() -> None:
    schema.declare(KINDS)
    kinds = schema.message_class("KindsParameter")()
    assert (kinds.mode, kinds.name, kinds.offset, kinds.inf, kinds.octal) == (4, 'a"\nb', -16, -np.inf, 15)
    descriptor = kinds.DESCRIPTOR.fields_by_name
    assert descriptor["phase"].enum_type.full_name == "caffe.Phase"
    assert descriptor["shape"].message_type.full_name == "caffe.BlobShape"
    assert descriptor["box"].message_type.fields_by_name["mode"].enum_type.full_name == "caffe.KindsParameter.Mode"
    assert kinds.BILINEAR == 4
    kinds.packed.extend([1, 2])
    assert kinds.SerializeToString() == b"\x2a\x02\x01\x02"


mode = st.sampled_from(["NEAREST", "BILINEAR", "0", "4"])
numbers = st.integers(0, 2**32 - 1)
fields = st.one_of(
    mode.map("mode: {}".format),
    st.tuples(st.floats(width=32, allow_nan=False), mode).map(lambda box: "box {{ x: {} mode: {} }}".format(*box)),
    st.text(st.characters(codec="ascii", exclude_characters='"\\', exclude_categories=["Cc"])).map('name: "{}"'.format),
    st.lists(numbers).map("packed: {}".format),
    st.integers(-(2**63), 2**63 - 1).map("offset: {}".format),
    st.floats().map("inf: {}".format),
    numbers.map(hex).map("fixed: {}".format),
    st.just("shape { dim: 1 dim: 2 }"),
)
blocks_of = st.lists(fields, max_size=6, unique_by=lambda field: field.split()[0]).map(" ".join)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(blocks_of, max_size=3))
def test_what_is_declared_prints_as_it_was_read_whatever_its_values(found: list[str]) -> None:
    schema.declare(KINDS)
    text = " ".join(f"kinds_param {{ {block} inner {{ {block} }} }}" for block in found)
    message = parse_text(f'layer {{ name: "l" {text} }}', caffe_pb2.NetParameter())
    assert type(message) is caffe_pb2.NetParameter
    again = parse_text(to_text(message), caffe_pb2.NetParameter())
    assert again.SerializeToString() == message.SerializeToString()
    assert len(schema.settings_of(message.layer[0], "kinds_param")) == len(found)


def test_faults_in_declared_fields_are_named() -> None:
    schema.declare(KINDS + NORM)
    for text, place, words in (
        ("layer { norm_param { acros: true } }", (1, 22), 'NormalizeParameter has no field "acros"; did you mean'),
        ("layer { norm_param { eps: x } }", (1, 27), '"eps" of NormalizeParameter takes a number, not "x"'),
        ("layer { nor_param { } }", (1, 9), 'did you mean "norm_param"?'),
        ("layer { kinds_param { mode: LINEAR } }", (1, 29), "NEAREST, NEXT or BILINEAR"),
        ('layer { name: "k"\nkinds_param { box { mode: NEAREST } } }', (2, 19), 'box[0].x (layer "k")'),
        ("layer { kinds_param {\n" + "inner {\n" * 10_000, (50, 7), "nested too deep"),
        ("layer { kinds_param {\n" + "inner {\n" * 10_000 + "}" * 10_002, (50, 7), "nested too deep"),
        ("layer { kinds_param {\n" + "inner {\n" * 120 + "}" * 122, (50, 7), "nested too deep"),
    ):
        with pytest.raises(PrototxtError, match=re.escape(words)) as caught:
            parse_text(text, caffe_pb2.NetParameter())
        assert (caught.value.line, caught.value.column) == place
        assert len(str(caught.value)) < 400


def test_a_forks_field_that_nobody_has_declared_is_refused_with_the_way_out() -> None:
    with pytest.raises(PrototxtError, match=r'no field "permute_param".*declare it with caffe\.layer_type'):
        parse_text("layer { permute_param { order: 0 } }", caffe_pb2.NetParameter())


def test_where_nothing_is_declared_nothing_is_converted() -> None:
    message = caffe_pb2.NetParameter()
    assert schema.extended(message) is message
    assert schema.plain(message) is message
    schema.declare(NORM)
    state = caffe_pb2.NetState()
    assert type(schema.extended(state)) is not type(state)
    assert schema.plain(schema.extended(state)) == state


def test_bytes_that_are_not_what_was_declared_are_refused() -> None:
    schema.declare(NORM)
    layer = caffe_pb2.LayerParameter.FromString(b"\x0a\x01l\xf2\x0c\x02\x0f\xff")
    with pytest.raises(NetError, match=r"Layer 'l'.*LayerParameter does not hold what was declared"):
        schema.settings_of(layer, "norm_param")
    with pytest.raises(CaffeError, match="does not hold"):
        to_text(layer)


TAKEN = [
    ("message LayerParameter { optional ReLUParameter norm_param = 206; }", "ReLUParameter norm_param = 206.*my_types"),
    ("message LayerParameter { optional ReLUParameter x_param = 206; }", "x_param.*Normalize.* = 206.*module my_types"),
    ("message LayerParameter { optional ReLUParameter x_param = 106; }", "Convolution.* = 106`, Caffe's own"),
    ("message LayerParameter { optional ReLUParameter relu_param = 999; }", "relu_param = 123`, Caffe's own"),
    ("message ReLUParameter { optional float negative_slope = 1 [default = 0.1]; }", "negative_slope = 1.*Caffe's own"),
    ("message NormalizeParameter { optional int32 axis = 1; }", "NormalizeParameter, which module .* my_types"),
    ("message BlobShape { enum Phase { A = 0; } } enum Phase { A = 0; }", "Phase, which module .*Caffe's own"),
    ("message LayerParameter { optional Missing x_param = 300; }", "x_param is of the type Missing"),
    ("message A { optional .Phase x = 1; }", "A.x is of the type .Phase"),
    ("message A { optional Phase x = 1 [default = TRIAN]; }", "protobuf refuses"),
]


@pytest.mark.parametrize(("proto", "words"), TAKEN)
def test_a_name_or_number_that_is_taken_is_refused_and_nothing_changes(proto: str, words: str) -> None:
    schema.declare(NORM, "my_types")
    before = schema.message_names()
    with pytest.raises(NetError, match=words):
        schema.declare(proto)
    assert schema.message_names() == before


def test_the_same_declared_twice_is_one_and_a_module_may_change_its_mind() -> None:
    assert schema.declare(NORM, "my_types") == schema.declare(NORM, "your_types") == ["norm_param"]
    changed = NORM.replace("float eps = 4", "float eps = 5")
    with pytest.raises(NetError, match=r"NormalizeParameter, which module (my|your)_types .* (my|your)_types"):
        schema.declare(changed, "my_types")
    schema.declare(NORM.replace("norm", "other").replace("Norm", "Other").replace("206", "207"), "my_types")
    schema.declare(NORM.replace("norm", "other").replace("Norm", "Other").replace("206", "208"), "my_types")
    assert schema.layer_fields()["other_param"].number == 208


def test_what_repeats_caffes_own_is_passed_over() -> None:
    text = (Path(caffe.__file__).parent / "proto" / "caffe.proto").read_text()
    assert schema.declare(text) == []
    found = read_definitions(text)
    assert {message.name for message in found.message_type} == set(caffe_pb2.DESCRIPTOR.message_types_by_name)
    schema.declare("message TransformationParameter { optional ReLUParameter resize_param = 15; }")
    parse_text("layer { transform_param { resize_param { negative_slope: 1 } } }", caffe_pb2.NetParameter())


@pytest.mark.parametrize(
    ("proto", "place", "words"),
    [
        ("mesage A { }", (1, 1), "a message or an enum should begin here"),
        ("message A {\n  oneof x { } }", (2, 3), "oneof, map and group are not read"),
        ("message A { bool x = 1; }", (1, 13), "optional, required or repeated"),
        ("message A { optional bool x = 0; }", (1, 31), "a field's number is 1 to"),
        ("message A { optional bool x = 19500; }", (1, 31), "19000 to 19999"),
        ("message A { optional bool x = 99999999999; }", (1, 31), "the field's number"),
        ("message A { optional bool x = 1; optional bool x = 2; }", (1, 48), '"x = 1"'),
        ("message A { optional bool x = 1 [default = 1]; }", (1, 44), "true or false"),
        ("message A { optional bool x = 1 [lazy = true]; }", (1, 33), '"lazy" is not read'),
        ("message A { optional int32 x = 1 [default = 1.5]; }", (1, 45), "is no default"),
        ("message A { optional string x = 1 [default = 1]; }", (1, 46), "a string in quotes"),
        ("message A { optional bool x = 1 }", (1, 33), '";" should stand here'),
        ("message A { optional bool 1x = 1; }", (1, 27), "a field's name"),
        ("message { }", (1, 9), "a message's name"),
        ("message A { ", (1, 13), "the end of the text"),
        ("message A { reserved 1", (1, 23), "within a definition"),
        ("enum A { }", (1, 10), "no values"),
        ("enum A { B = x; }", (1, 14), "the value's number"),
        ("enum A { B = 1 [", (1, 17), "within a definition"),
        ("message A { optional @ x = 1; }", (1, 22), "the field's type"),
        ("message A {" * 40, (1, 363), "nested more than 32 deep"),
    ],
)
def test_definitions_that_do_not_parse_are_refused_at_their_place(
    proto: str, place: tuple[int, int], words: str
) -> None:
    with pytest.raises(PrototxtError, match=re.escape(words)) as caught:
        schema.declare(proto)
    assert (caught.value.line, caught.value.column) == place


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([*re.findall(r"\w+|\S", KINDS), "/*", "//", "\n", '"']), max_size=30).map(" ".join))
def test_any_definitions_are_taken_or_refused_with_a_caffe_error(text: str) -> None:
    try:
        schema.declare(f"message A {{ {text}")
    except CaffeError as error:
        assert len(str(error)) < 600


# NetSpec


def test_net_spec_takes_declared_fields_in_every_form() -> None:
    layer_type("Normalize", proto=NORM)(lambda bottoms, params, layer: bottoms[0])
    layer_type("Upsample", settings="pooling_param")(lambda bottoms, params, layer: bottoms[0])
    x = L.Input(shape={"dim": [1, 2]})
    for top in (
        L.Normalize(x, across_spatial=False, scale_filler={"value": 2}),
        L.Normalize(x, norm_param={"across_spatial": False, "scale_filler": caffe_pb2.FillerParameter(value=2)}),
        L.Normalize(
            x, norm_param=schema.message_class("NormalizeParameter")(across_spatial=False, scale_filler={"value": 2})
        ),
    ):
        net = top.to_proto()
        assert "norm_param {\n    across_spatial: false\n    scale_filler {\n      value: 2" in str(net)
        assert caffe.to_proto(top) == net
    assert param_name_dict()["Normalize"] == "norm"
    assert param_name_dict()["Upsample"] == "pooling"
    assert param_name_dict()["LRN"] == "lrn"
    assert L.Upsample(x, kernel_size=3).to_proto().layer[1].pooling_param.kernel_size == 3
    assert type(L.ReLU(x).to_proto()) is caffe_pb2.NetParameter
    with pytest.raises(AttributeError, match="neither norm_param nor the layer has a field 'epss'; did you mean 'eps'"):
        L.Normalize(x, epss=1).to_proto()
    with pytest.raises(TypeError, match=r"LayerParameter.norm_param is a NormalizeParameter, not a ReLUParameter"):
        L.Normalize(x, norm_param=caffe_pb2.ReLUParameter()).to_proto()


def test_params_has_declared_constants() -> None:
    schema.declare(KINDS)
    assert (P.Kinds.NEAREST, P.Kinds.BILINEAR, P.Pooling.AVE) == (0, 4, 1)
    with pytest.raises(AttributeError, match="did you mean 'NEAREST'"):
        _ = P.Kinds.NEAR
    with pytest.raises(AttributeError, match="did you mean 'Kinds'"):
        _ = P.Kind.NEAREST


# Functions as layers


def test_a_function_needs_no_more_than_its_name() -> None:
    @layer_type("Twice")
    def twice(bottoms, params, layer):
        return bottoms[0] * 2

    net = net_of(one("Twice"))
    np.testing.assert_array_equal(net.forward()["y"], 2 * X)
    assert "Twice" in caffe.layer_type_list()
    assert twice([torch.ones(2)], [], None).tolist() == [2, 2]
    check_gradients(net)
    in_place = net_of(one("Twice", top="x"))
    np.testing.assert_array_equal(in_place.forward()["x"], 2 * X)
    with pytest.raises(NetError, match="declares no settings"):
        _ = net.layer_dict["l"].settings


def test_settings_of_caffes_own_message_phase_and_several_bottoms_and_tops() -> None:
    @layer_type(
        "Mix",
        settings="power_param",
        bottoms=(1, None),
        tops=2,
        top_shapes=lambda shapes, layer: [shapes[0], torch.Size([len(shapes)])],
    )
    def mix(bottoms, params, layer):
        return sum(bottoms) * layer.settings.scale, bottoms[0].new_full((len(bottoms),), float(layer.phase))

    layer = 'layer { name: "l" type: "Mix" bottom: "x" bottom: "x" top: "y" top: "z" power_param { scale: 3 } }'
    for phase in (caffe.TRAIN, caffe.TEST):
        net = net_of(layer, phase=phase)
        found = net.forward()
        np.testing.assert_allclose(found["y"], 6 * X, rtol=1e-6)
        assert list(found["z"]) == [phase, phase]
    net.blobs["y"].diff[...] = 1
    net.backward()
    assert net.blobs["x"].diff == pytest.approx(6)
    with pytest.raises(NetError, match="takes 2 top blob"):
        net_of(one("Mix"))


def test_backward_sees_the_draws_of_forward_and_seeds_repeat_them() -> None:
    @layer_type("Noise")
    def noise(bottoms, params, layer):
        x = bottoms[0]
        if layer.phase == caffe.TEST:
            return x
        return x * torch.rand(x.shape, generator=layer.generator(x)) * torch.rand(x.shape, generator=layer.generator(x))

    net = net_of(one("Noise"))
    caffe.set_random_seed(5)
    first = net.forward()["y"].copy()
    net.blobs["y"].diff[...] = 1
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff * X, first, rtol=1e-5, atol=1e-7)
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff * X, first, rtol=1e-5, atol=1e-7)
    second = net.forward()["y"].copy()
    assert not np.array_equal(first, second)
    caffe.set_random_seed(5)
    np.testing.assert_array_equal(net.forward()["y"], first)
    np.testing.assert_array_equal(net.forward()["y"], second)  # backward has drawn nothing of its own
    np.testing.assert_array_equal(net_of(one("Noise"), phase=caffe.TEST).forward()["y"], X)


def test_a_loss_has_weight_one_a_top_of_its_own_and_no_gradient_for_labels() -> None:
    @layer_type("AbsLoss", bottoms=2, tops=(1, 1), loss=True, labels=[1])
    def abs_loss(bottoms, params, layer):
        return (bottoms[0] - bottoms[1]).abs().sum()

    label = text_of("").split("true", 1)[1].replace('"x"', '"label"')
    layer = 'layer { name: "l" type: "AbsLoss" bottom: "x" bottom: "label" }'
    net = net_of(layer, extra=label)
    assert net.forward_pass() == pytest.approx(float(np.abs(X).sum()), rel=1e-5)
    net.backward()
    np.testing.assert_array_equal(net.blobs["x"].diff, np.sign(X))
    assert not net.blobs["label"].diff.any()
    weighted = net_of(layer.replace("}", 'top: "y" loss_weight: 0.5 }'), extra=label)
    assert weighted.forward_pass() == pytest.approx(0.5 * float(np.abs(X).sum()), rel=1e-5)
    with pytest.raises(NetError, match="cannot backpropagate to bottom 1"):
        net_of(layer.replace("}", "propagate_down: true propagate_down: true }"), extra=label).backward()


def test_parameters_are_filled_shared_and_named() -> None:
    @layer_type(
        "Shift",
        param_shapes=lambda shapes, layer: [(shapes[0][1:2], {"type": "uniform", "min": 1, "max": 2}), ((2,), None)],
    )
    def shift(bottoms, params, layer):
        return bottoms[0] + params[0].reshape(-1, 1, 1) + params[1].sum()

    net = net_of(one("Shift", 'param { name: "s" }'))
    assert [blob.data.shape for blob in net.params["l"]] == [(3,), (2,)]
    assert ((net.params["l"][0].data >= 1) & (net.params["l"][0].data <= 2)).all()
    assert not net.params["l"][1].data.any()
    check_gradients(net)


WRONG = {
    "its function returned the shape 3 x 2 x 4 x 5 for top 0; by its shape rule": lambda x: x.transpose(0, 1),
    "returned torch.float64 for top 0": lambda x: x.double(),
    "returned a tensor on meta for top 0": lambda x: x.to("meta"),
    "returned 2 tensor(s) for 1 top": lambda x: [x, x],
    "returned a NoneType; it must return a tensor": lambda x: None,
    "returned a list of Tensor, int": lambda x: [x, 1],
    "wrote over bottom 0": lambda x: x.mul_(2),
    "failed on its bottoms (2 x 3 x 4 x 5": lambda x: x @ x,
}


@pytest.mark.parametrize("words", WRONG)
def test_a_function_that_returns_something_else_is_refused_by_layer(words: str) -> None:
    layer_type("Wrong")(lambda bottoms, params, layer: WRONG[words](bottoms[0]))
    with pytest.raises(NetError) as caught:
        net_of(one("Wrong")).forward()
    assert "Layer 'l' (Wrong)" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"top_shapes": lambda shapes, layer: shapes * 2}, "top_shapes gives 2 shape.* for 1 top"),
        ({"top_shapes": lambda shapes, layer: None}, "top_shapes gives a list of shapes, not None"),
        ({"top_shapes": lambda shapes, layer: [(1, "a")]}, "top_shapes gives a list of shapes"),
        ({"param_shapes": lambda shapes, layer: [(3, None)]}, "param_shapes gives a list of"),
        ({"param_shapes": lambda shapes, layer: [((3,), {"typ": "x"})]}, "param_shapes gives a list of"),
        ({"param_shapes": lambda shapes, layer: [((3,), {"type": "x"})]}, "Unknown filler name: x"),
    ],
)
def test_rules_that_give_something_else_are_refused_by_layer(rules: dict[str, Any], words: str) -> None:
    layer_type("Wrong", **rules)(lambda bottoms, params, layer: bottoms[0])
    with pytest.raises(NetError, match=f"Layer 'l'.*{words}"):
        net_of(one("Wrong"))


def test_tops_never_share_memory_with_each_other_a_bottom_or_a_parameter() -> None:
    @layer_type(
        "Lend", tops=4, param_shapes=lambda shapes, layer: [(shapes[0], None)], top_shapes=lambda s, layer: s * 4
    )
    def lend(bottoms, params, layer):
        y = bottoms[0] + 1
        return y, y, bottoms[0], params[0]

    net = net_of('layer { name: "l" type: "Lend" bottom: "x" top: "a" top: "b" top: "c" top: "d" }')
    found = net.forward()
    arrays = [*found.values(), net.blobs["x"].data, net.params["l"][0].data]
    for i, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in arrays[:i])


def test_a_class_may_stand_in_the_functions_place() -> None:
    @layer_type("Normalize", proto=NORM)
    class Normalize(TensorLayer):
        """x times eps."""

        def compute(self, plan, bottoms, params):
            return bottoms[0] * self.settings.eps

    net = net_of(one("Normalize", "norm_param { eps: 2 }"))
    np.testing.assert_array_equal(net.forward()["y"], 2 * X)
    assert isinstance(net.layer_dict["l"], Normalize)
    with pytest.raises(NetError, match="a class has its own rules"):
        layer_type("Other", bottoms=2)(Normalize)


@pytest.mark.parametrize(
    "methods",
    [
        {"top_shapes": lambda self, shapes: shapes},
        {"compute": lambda self, bottoms, params: bottoms[0]},
        {"gradient": lambda self, b: b.top_diffs[0]},
    ],
)
def test_a_class_from_before_there_were_plans_is_told_what_to_define(methods: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"^Old is written .* plan\(self, shapes\)"):
        type("Old", (TensorLayer,), methods)


def test_a_type_that_exists_is_refused_unless_it_is_the_same_function_again() -> None:
    def declare(factor):
        @layer_type("Times")
        def times(bottoms, params, layer):
            return bottoms[0] * factor

        return times

    declare(2)
    declare(3)
    np.testing.assert_array_equal(net_of(one("Times")).forward()["y"], X * np.float32(3))
    for name in ("Times", "ReLU"):
        with pytest.raises(NetError, match=f"Layer type '{name}'.*is there already"):
            layer_type(name)(lambda bottoms, params, layer: bottoms[0])


@pytest.mark.parametrize(
    ("made", "options", "words"),
    [
        (3, {}, "a function or a subclass of TensorLayer, not 3"),
        (caffe.Layer, {}, "a subclass of TensorLayer"),
        (len, {}, "a function or"),
        (test_params_has_declared_constants, {"settings": "norm_param"}, "no field 'norm_param'"),
        (
            test_params_has_declared_constants,
            {"proto": "message LayerParameter { optional float a = 300; optional float b = 301; }"},
            "adds a, b to LayerParameter; say which",
        ),
    ],
)
def test_declarations_that_cannot_be(made: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(NetError, match=words):
        layer_type("New", **options)(made)
    with pytest.raises(NetError, match=r"bottoms is a number or \(least, most\)"):
        layer_type("New", bottoms=(2, 1))


# protobuf's other implementation


@pytest.mark.slow
def test_it_works_on_protobufs_pure_python_implementation(tmp_path: Path) -> None:
    program = f"""
import caffe
from caffe import layer_type
from caffe.formats import schema
from caffe.proto import caffe_pb2
from caffe.formats.prototxt import parse_text, to_text
from google.protobuf.internal import api_implementation
assert api_implementation.Type() == "python"
schema.declare({NORM + KINDS!r})
text = 'layer {{ name: "l" norm_param {{ across_spatial: false }} kinds_param {{ box {{ x: 1 }} raw: "\\\\377" }} }}'
message = parse_text(text, caffe_pb2.NetParameter())
copy = caffe_pb2.NetParameter()
copy.layer.add().CopyFrom(message.layer[0])
copy = caffe_pb2.NetParameter.FromString(copy.SerializeToString())
assert " ".join(to_text(copy).split()) == text.replace("1 }}", "1.0 }}"), to_text(copy)
assert "across_spatial" in str(caffe.layers.Normalize(across_spatial=False).to_proto())
for bad in ("inner {{ " * 300 + "}} " * 300, "box {{ }}", "mode: X"):
    try:
        parse_text("layer {{ kinds_param {{ " + bad + "}} }}", caffe_pb2.NetParameter())
    except caffe.CaffeError as error:
        assert error.line == 1 and error.column > 20, error
    else:
        raise SystemExit(bad[:40])
"""
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
