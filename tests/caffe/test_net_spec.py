"""NetSpec, L, P: what they write, in which order and under which names, and what a wrong call says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from google.protobuf.internal import api_implementation

from caffe.net_spec import Function, NetSpec, Top, assign_proto, param_name_dict, to_proto
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2


def data(*dims):
    return L.Input(shape={"dim": list(dims)})


def names(net):
    return [layer.name for layer in net.layer]


# --- what is written -------------------------------------------------------------------------------------------


@pytest.mark.skipif(api_implementation.Type() == "python", reason="protobuf in pure Python prints 1.0 for Caffe's 1")
def test_text_is_caffe_s():
    n = NetSpec()
    n.data, n.label = L.Python(module="m", layer="D", ntop=2, param_str=str({"split": "train"}))
    n.conv = L.Convolution(
        n.data,
        kernel_size=3,
        stride=1,
        num_output=21,
        pad=1,
        param=[{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
    )
    n.relu = L.ReLU(n.conv, in_place=True)
    n.drop = L.Dropout(n.relu, dropout_ratio=0.5, in_place=True)
    n.up = L.Deconvolution(
        n.drop,
        convolution_param={"num_output": 21, "kernel_size": 4, "stride": 2, "bias_term": False},
        param=[{"lr_mult": 0}],
    )
    n.loss = L.SoftmaxWithLoss(n.up, n.label, loss_param={"normalize": False, "ignore_label": 255})
    assert str(n.to_proto()) == (
        "layer {\n"
        '  name: "data"\n'
        '  type: "Python"\n'
        '  top: "data"\n'
        '  top: "label"\n'
        "  python_param {\n"
        '    module: "m"\n'
        '    layer: "D"\n'
        "    param_str: \"{\\'split\\': \\'train\\'}\"\n"
        "  }\n"
        "}\n"
        "layer {\n"
        '  name: "conv"\n'
        '  type: "Convolution"\n'
        '  bottom: "data"\n'
        '  top: "conv"\n'
        "  param {\n"
        "    lr_mult: 1\n"
        "    decay_mult: 1\n"
        "  }\n"
        "  param {\n"
        "    lr_mult: 2\n"
        "    decay_mult: 0\n"
        "  }\n"
        "  convolution_param {\n"
        "    num_output: 21\n"
        "    pad: 1\n"
        "    kernel_size: 3\n"
        "    stride: 1\n"
        "  }\n"
        "}\n"
        "layer {\n"
        '  name: "relu"\n'
        '  type: "ReLU"\n'
        '  bottom: "conv"\n'
        '  top: "conv"\n'
        "}\n"
        "layer {\n"
        '  name: "drop"\n'
        '  type: "Dropout"\n'
        '  bottom: "conv"\n'
        '  top: "conv"\n'
        "  dropout_param {\n"
        "    dropout_ratio: 0.5\n"
        "  }\n"
        "}\n"
        "layer {\n"
        '  name: "up"\n'
        '  type: "Deconvolution"\n'
        '  bottom: "conv"\n'
        '  top: "up"\n'
        "  param {\n"
        "    lr_mult: 0\n"
        "  }\n"
        "  convolution_param {\n"
        "    num_output: 21\n"
        "    bias_term: false\n"
        "    kernel_size: 4\n"
        "    stride: 2\n"
        "  }\n"
        "}\n"
        "layer {\n"
        '  name: "loss"\n'
        '  type: "SoftmaxWithLoss"\n'
        '  bottom: "up"\n'
        '  bottom: "label"\n'
        '  top: "loss"\n'
        "  loss_param {\n"
        "    ignore_label: 255\n"
        "    normalize: false\n"
        "  }\n"
        "}\n"
    )


def test_layers_come_in_the_order_of_assignment_each_after_what_it_reads():
    n = NetSpec()
    inner = L.ReLU(data(1, 2))
    n.late = L.Eltwise(L.Sigmoid(inner), inner)
    n.data = data(1, 2)
    n.early = inner
    assert names(n.to_proto()) == ["Input1", "early", "Sigmoid1", "late", "data"]


def test_names_made_up_count_each_type():
    a, b = L.DummyData(ntop=2)
    net = to_proto(L.Eltwise(L.ReLU(a), L.ReLU(b)), L.TanH(a))
    assert names(net) == ["DummyData1", "ReLU1", "ReLU2", "Eltwise1", "TanH1"]
    assert list(net.layer[0].top) == ["DummyData1", "DummyData2"]


def test_a_layer_bears_the_name_of_its_first_top():
    n = NetSpec()
    _, n.second = L.DummyData(ntop=2)
    layer = n.to_proto().layer[0]
    assert (layer.name, list(layer.top)) == ("DummyData1", ["DummyData1", "second"])


def test_a_layer_written_twice_is_one_layer():
    n = NetSpec()
    n.data = data(1, 2)
    n.again = n.data
    assert names(n.to_proto()) == ["again"]


def test_in_place_layers_pass_on_the_blob_of_their_bottom():
    n = NetSpec()
    n.data = data(1, 2)
    n.relu = L.ReLU(n.data, in_place=True)
    n.ip = L.InnerProduct(n.relu, num_output=3)
    _, relu, ip = n.to_proto().layer
    assert (relu.name, list(relu.top), list(ip.bottom)) == ("relu", ["data"], ["data"])
    unnamed = L.ReLU(data(1, 2), in_place=True).to_proto().layer[1]
    assert (unnamed.name, list(unnamed.top)) == ("ReLU1", ["Input1"])


def test_layers_without_tops():
    n = NetSpec()
    n.a, n.b = L.DummyData(shape={"dim": 3}, ntop=2)
    n.hush = L.Silence(n.a, ntop=0)
    other = L.Silence(n.b, ntop=0)
    assert isinstance(other, Function)
    net = n.to_proto()
    assert (net.layer[1].name, list(net.layer[1].top)) == ("hush", [])
    assert names(to_proto(other)) == ["DummyData1", "Silence1"]


def test_names_with_slashes_go_by_item():
    n = NetSpec()
    n["conv1/7x7_s2"] = L.Convolution(data(1, 3, 9, 9), num_output=1, kernel_size=7)
    assert n["conv1/7x7_s2"].fn.type_name == "Convolution"
    assert names(n.to_proto())[-1] == "conv1/7x7_s2"
    del n["conv1/7x7_s2"]
    assert len(n.to_proto().layer) == 0


def test_name_as_a_parameter_names_the_layer_and_not_the_top():
    n = NetSpec()
    n.data = L.Input(name="input", shape={"dim": [1, 3, 5, 5]})
    layer = n.to_proto().layer[0]
    assert (layer.name, list(layer.top)) == ("input", ["data"])


def test_a_net_deeper_than_python_recurses():
    top = data(1, 2)
    for _ in range(3000):
        top = L.ReLU(top)
    assert len(top.to_proto().layer) == 3001


def test_types_that_nobody_knows_are_written():
    layer = L.Mine(data(1, 2), python_param={"module": "m", "layer": "x"}, loss_weight=2).to_proto().layer[1]
    assert (layer.type, layer.python_param.module, list(layer.loss_weight)) == ("Mine", "m", [2])


# --- values ----------------------------------------------------------------------------------------------------


def test_parameters_go_to_the_type_s_own_message_else_to_the_layer():
    layer = L.Convolution(
        data(1, 3, 9, 9),
        num_output=2,
        kernel_size=[3, 5],
        weight_filler={"type": "gaussian", "std": 0.01},
        include={"phase": caffe_pb2.TEST, "stage": ["a", "b"]},
        propagate_down=True,
        transform_param={"mean_value": (1, 2, 3)},
    ).to_proto().layer[1]  # fmt: skip
    assert list(layer.convolution_param.kernel_size) == [3, 5]
    assert layer.convolution_param.weight_filler.type == "gaussian"
    assert [(rule.phase, list(rule.stage)) for rule in layer.include] == [(caffe_pb2.TEST, ["a", "b"])]
    assert list(layer.propagate_down) == [True]
    assert list(layer.transform_param.mean_value) == [1, 2, 3]


def test_assign_proto_takes_dicts_lists_single_values_and_messages():
    layer = caffe_pb2.LayerParameter()
    assign_proto(layer, "name", "x")
    assign_proto(layer, "top", "one")
    assign_proto(layer, "top", ["two", "three"])
    assign_proto(layer, "param", [{"lr_mult": 1}, caffe_pb2.ParamSpec(name="shared")])
    assign_proto(layer, "pooling_param", {"pool": P.Pooling.AVE, "kernel_size": 2})
    assert layer == caffe_pb2.LayerParameter(
        name="x",
        top=["one", "two", "three"],
        param=[caffe_pb2.ParamSpec(lr_mult=1), caffe_pb2.ParamSpec(name="shared")],
        pooling_param=caffe_pb2.PoolingParameter(pool=caffe_pb2.PoolingParameter.AVE, kernel_size=2),
    )


def test_numpy_numbers_are_numbers():
    given = {"num_output": np.int64(4), "kernel_size": [np.int32(3)], "loss_weight": np.float32(0.5)}
    layer = L.Convolution(data(1, 3), bias_term=np.bool_(False), **given).to_proto().layer[1]
    assert (layer.convolution_param.num_output, list(layer.convolution_param.kernel_size)) == (4, [3])
    assert (list(layer.loss_weight), layer.convolution_param.bias_term) == ([0.5], False)


def test_param_name_dict():
    known = param_name_dict()
    assert known["Convolution"] == "convolution"
    assert (known["Softmax"], known["Python"]) == ("softmax", "python")
    assert (known["LRN"], known["Transformation"], known["InnerProduct"]) == ("lrn", "transform", "inner_product")


def test_params_are_the_enum_constants():
    assert (P.Pooling.MAX, P.Pooling.AVE, P.Eltwise.SUM, P.Data.LMDB) == (0, 1, 1, 1)
    assert P.Loss.BATCH_SIZE == caffe_pb2.LossParameter.BATCH_SIZE


def test_tops_and_functions_show_what_they_were_made_from():
    bottom = data(1, 2)
    a, b = L.Slice(bottom, ntop=2, slice_point=1)
    assert isinstance(a, Top)
    assert a.fn is b.fn
    assert (a.n, b.n, a.fn.ntop, a.fn.in_place) == (0, 1, 2, False)
    assert (a.fn.type_name, a.fn.inputs, a.fn.params) == ("Slice", (bottom,), {"slice_point": 1})
    assert a.fn.tops == (a, b)


def test_netspec_keeps_its_tops_in_order():
    n = NetSpec()
    n.a, n.b = data(1), data(2)
    assert list(n.tops) == ["a", "b"]
    assert hasattr(n, "a")
    assert not hasattr(n, "c")
    del n.a
    assert list(copy.copy(n).tops) == ["b"]


# --- wrong calls -----------------------------------------------------------------------------------------------


def test_a_bottom_that_is_no_top():
    tops = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(tops, ntop=0)
    L.Silence(*tops, ntop=0)


def test_a_tuple_of_tops_under_one_name():
    n = NetSpec()
    with pytest.raises(TypeError, match=r"'data' must be a Top .* not 'tuple'; .* assigned to two names"):
        n.data = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"'data' must be a Top .* not 'int'"):
        n.data = 3


def test_a_top_that_is_not_there():
    n = NetSpec()
    n.conv1 = data(1)
    for error in (AttributeError, KeyError):
        with pytest.raises(error, match=r"^no top is named 'conv_1'; did you mean 'conv1'\?$"):
            _ = n.conv_1
        with pytest.raises(error):
            _ = n["conv_1"]
        with pytest.raises(error):
            del n.conv_1


@pytest.mark.parametrize(
    ("top", "sentence"),
    [
        (
            lambda x: L.Convolution(x, kernelsize=3),
            r"^Convolution layer 'n': neither convolution_param nor the layer has a field 'kernelsize';"
            r" did you mean 'kernel_size'\?$",
        ),
        (
            lambda x: L.Convolution(x, weight_filler={"typ": "msra"}),
            r"^Convolution layer 'n': FillerParameter has no field 'typ'; did you mean 'type'\?$",
        ),
        (lambda x: L.ReLU(x, paramm=1), "nor the layer has a field 'paramm'"),
        (lambda x: L.ReLU(x, relu_parm={}), "nor the layer has a field 'relu_parm'"),
        (
            lambda x: L.Convolution(x, convolutin_param={}),
            r"neither convolution_param nor the layer has a field 'convolutin_param'"
            r"; did you mean 'convolution_param'\?",
        ),
        (
            lambda x: L.Deconvolution(x, kernel_size=4),
            r"^Deconvolution layer 'n': Deconvolution has no message of its own, and a layer no field"
            r" 'kernel_size'; it is a field of convolution_param, .*: write"
            r" convolution_param=dict\(kernel_size=\.\.\.\)$",
        ),
        (lambda x: L.SoftmaxWithLoss(x, loss_wait=1), r"'loss_wait'; did you mean 'loss_weight'\?$"),
    ],
)
def test_a_field_that_is_not_there(top, sentence):
    n = NetSpec()
    n.n = top(data(1, 3, 5, 5))
    with pytest.raises(AttributeError, match=sentence):
        n.to_proto()


@pytest.mark.parametrize(
    ("top", "sentence"),
    [
        (lambda x: L.Convolution(x, kernel_size="3"), "^Convolution layer 'n': ConvolutionParameter.kernel_size"),
        (lambda x: L.Convolution(x, num_output=[1, 2]), r"num_output takes one value, not the list \[1, 2\]$"),
        (
            lambda x: L.Convolution(x, weight_filler="msra"),
            "weight_filler is a FillerParameter: give its fields as a dict, not 'msra'$",
        ),
        (lambda x: L.Convolution(x, param=[1, 2]), "param is a ParamSpec: give its fields as a dict, not 1$"),
        (lambda x: L.Convolution(x, num_output=-1), "ConvolutionParameter.num_output cannot be -1: "),
    ],
)
def test_a_value_that_a_field_does_not_take(top, sentence):
    n = NetSpec()
    n.n = top(data(1, 3, 5, 5))
    with pytest.raises((TypeError, ValueError), match=sentence):
        n.to_proto()


def test_a_constant_that_is_not_there():
    with pytest.raises(AttributeError, match=r"^PoolingParameter has no constant 'MEX'; did you mean 'MAX'\?$"):
        _ = P.Pooling.MEX
    with pytest.raises(AttributeError, match=r"no message PolingParameter; did you mean 'Pooling'\?$"):
        _ = P.Poling.MAX
    with pytest.raises(AttributeError, match=r"has no constant 'MAX'; it has none$"):
        _ = P.Crop.MAX


def test_python_s_own_questions_are_not_layer_types():
    assert not hasattr(L, "__wrapped__")
    assert copy.copy(L) is not None
    assert copy.copy(P.Pooling).MAX == 0
