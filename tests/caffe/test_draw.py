"""Drawings of nets: their labels, nodes and edges, and the files that Graphviz makes of them."""

import builtins
import re
import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format

import caffe
from caffe import draw
from caffe.errors import CaffeError, NetError
from caffe.proto import caffe_pb2

pydot = pytest.importorskip("pydot", reason="needs pydot, of the extra draw")
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's program dot")

GOLDEN = Path(__file__).parents[1] / "golden"
NET = """
name: "drawn"
layer { name: "data" type: "Data" top: "data" data_param { batch_size: 64 } include { phase: TRAIN } }
layer { name: "data" type: "Data" top: "data" data_param { batch_size: 9 } include { phase: TEST } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 }
        convolution_param { num_output: 20 kernel_size: 5 stride: 2 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 10 } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
        include { phase: TEST stage: "val" } }
layer { name: "noise" type: "Silence" bottom: "fc" exclude { phase: TEST } }
"""


def parsed(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def layer(text):
    return text_format.Parse(text, caffe_pb2.LayerParameter())


def node_labels(graph):
    return [node.get_label().strip('"') for node in graph.get_nodes()]


def edges(graph):
    """Return (from, to, label) of each edge, by the names of layers and blobs."""
    return {
        (e.get_source().strip('"'), e.get_destination().strip('"'), (e.get_label() or "").strip('"'))
        for e in graph.get_edges()
    }


def test_pooling_types_by_number():
    assert draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('type: "Data" data_param { batch_size: 64 }', "Batch 64"),
        ('type: "Convolution" convolution_param { num_output: 20 }', "20"),
        ('type: "Deconvolution" convolution_param { num_output: 21 }', "21"),
        ('type: "InnerProduct" inner_product_param { num_output: 10 }', "10"),
        ('type: "ReLU"', '""'),
    ],
)
def test_edges_say_how_many_channels_are_made(text, label):
    assert draw.get_edge_label(layer(text)) == label


@pytest.mark.parametrize(
    ("params", "multipliers"),
    [
        ("", (1, 1)),
        ("param { lr_mult: 3 }", (3, 1)),
        ("param { } param { lr_mult: 2 }", (1, 2)),
        ("param { lr_mult: 0 } param { lr_mult: 0 }", (0, 0)),
    ],
)
def test_learning_rate_multipliers(params, multipliers):
    assert draw.get_layer_lr_mult(layer(f'type: "Convolution" {params}')) == multipliers


def test_learning_rate_multipliers_of_others_are_refused():
    with pytest.raises(ValueError, match="ReLU layers do not have a learning rate multiplier"):
        draw.get_layer_lr_mult(layer('type: "ReLU"'))
    with pytest.raises(ValueError, match="Could not parse the learning rate multiplier: layer 'c' has 3 param"):
        draw.get_layer_lr_mult(layer('name: "c" type: "Convolution" param { } param { } param { }'))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('name: "r" type: "ReLU"', '"r (ReLU)"'),
        ('name: "c" type: "Convolution"', '"c (Convolution) kernel size: 1 stride: 1 pad: 0"'),
        (
            'name: "c" type: "Convolution" convolution_param { kernel_size: 5 kernel_size: 3 stride: 2 pad: 1 }',
            '"c (Convolution) kernel size: 5x3 stride: 2 pad: 1"',
        ),
        (
            'name: "c" type: "Deconvolution" convolution_param { kernel_h: 1 kernel_w: 7 stride_h: 2 stride_w: 2 '
            "pad_h: 0 pad_w: 3 }",
            '"c (Deconvolution) kernel size: 1x7 stride: 2 pad: 0x3"',
        ),
        (
            'name: "p" type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
            '"p (Pooling AVE) kernel size: 3 stride: 2 pad: 0"',
        ),
        ('name: "p" type: "Pooling" pooling_param { global_pooling: true }', '"p (Pooling MAX) global"'),
    ],
)
def test_a_layers_label_says_type_and_window(text, label):
    assert draw.get_layer_label(layer(text), "TB") == label
    assert draw.get_layer_label(layer(text), "LR").count(r"\n") == len(
        re.findall(r" (?=\(|kernel|stride|pad|global)", label)
    )


def test_a_label_names_learning_rate_multipliers_if_asked_and_not_all_zero():
    learning = layer('name: "f" type: "InnerProduct" param { lr_mult: 1 } param { lr_mult: 2 }')
    frozen = layer('name: "f" type: "InnerProduct" param { lr_mult: 0 } param { lr_mult: 0 }')
    assert draw.get_layer_label(learning, "TB") == '"f (InnerProduct)"'
    assert draw.get_layer_label(learning, "TB", display_lrm=True) == '"f (InnerProduct) lr mult: 1.0, 2.0"'
    assert draw.get_layer_label(frozen, "TB", display_lrm=True) == '"f (InnerProduct)"'
    assert draw.get_layer_label(layer('name: "r" type: "ReLU"'), "TB", display_lrm=True) == '"r (ReLU)"'


def test_colors_tell_kinds_apart():
    kinds = ("Convolution", "Pooling", "InnerProduct", "ReLU")
    assert len({draw.choose_color_by_layertype(kind) for kind in kinds}) == 4
    assert draw.choose_color_by_layertype("Deconvolution") == draw.choose_color_by_layertype("Convolution")


def test_a_graph_has_every_layer_and_blob_once_and_their_edges():
    graph = draw.get_pydot_graph(parsed(NET), "TB")
    assert sorted(node_labels(graph)) == sorted(
        [
            "data (Data)", "data", "conv (Convolution) kernel size: 5 stride: 2 pad: 1", "conv", "relu (ReLU)",
            "pool (Pooling AVE) kernel size: 3 stride: 2 pad: 0", "pool", "fc (InnerProduct)", "fc", "label",
            "accuracy (Accuracy)", "accuracy", "noise (Silence)",
        ]
    )  # fmt: skip
    assert {
        ("data_blob", "conv_Convolution", ""),
        ("conv_Convolution", "conv_blob", "20"),
        ("conv_blob", "relu_ReLU", ""),
        ("relu_ReLU", "conv_blob", ""),
        ("fc_InnerProduct", "fc_blob", "10"),
        ("label_blob", "accuracy_Accuracy", ""),
    } <= edges(graph)
    assert len(graph.get_edges()) == 13, "data's two layers are one node, with one edge"
    assert graph.get_rankdir() == "TB" and graph.get_name() == '"drawn"'


def test_an_in_place_layer_has_a_color_of_its_own():
    colors = {n.get_name(): n.get_fillcolor() for n in draw.get_pydot_graph(parsed(NET), "LR").get_nodes()}
    assert colors['"relu_ReLU"'] == "#90EE90"
    assert colors['"conv_Convolution"'] == "#FF5050"
    assert {colors[f'"{blob}_blob"'] for blob in ("data", "conv", "accuracy")} == {"#E0E0E0"}


def test_edges_may_go_without_labels():
    assert {label for _, _, label in edges(draw.get_pydot_graph(parsed(NET), "LR", label_edges=False))} == {""}


@pytest.mark.parametrize(
    ("phase", "there", "absent", "batch"),
    [(caffe.TRAIN, "noise", "accuracy", "Batch 64"), (caffe.TEST, "accuracy", "noise", "Batch 9")],
)
def test_with_a_phase_only_its_layers_are_drawn(phase, there, absent, batch):
    graph = draw.get_pydot_graph(parsed(NET), "TB", phase=phase)
    names = " ".join(node_labels(graph))
    assert f"{there} (" in names and f"{absent} (" not in names
    assert ("data_Data", "data_blob", batch) in edges(graph)


def test_a_rule_without_a_phase_admits_both():
    net = parsed('layer { name: "a" type: "ReLU" include { stage: "s" } } layer { name: "b" type: "ReLU" '
                 'exclude { stage: "s" } }')  # fmt: skip
    for phase in (caffe.TRAIN, caffe.TEST):
        assert len(draw.get_pydot_graph(net, "LR", phase=phase).get_nodes()) == 2


def test_include_and_exclude_together_are_refused():
    net = parsed('layer { name: "a" type: "ReLU" include { phase: TEST } exclude { phase: TRAIN } }')
    draw.get_pydot_graph(net, "LR")
    with pytest.raises(NetError, match="'a' has both include and exclude"):
        draw.get_pydot_graph(net, "LR", phase=caffe.TEST)


@pytest.mark.parametrize("name", ["v0", "v1", "input_shape", "old_data_and_input"])
def test_old_nets_are_drawn_as_what_they_are_today_and_stay_as_they_are(name):
    old = parsed((GOLDEN / "upgrade" / f"{name}.prototxt").read_text())
    today = parsed((GOLDEN / "upgrade" / f"{name}.upgraded.prototxt").read_text())
    before = caffe_pb2.NetParameter()
    before.CopyFrom(old)
    assert draw.draw_net(old, "LR", "dot") == draw.draw_net(today, "LR", "dot")
    assert old == before


@needs_dot
def test_awkward_names_are_drawn_as_they_are():
    net = parsed(
        r"""layer { name: "a\"b\\c" type: "ReLU" bottom: "x:0" top: "{y|z}<w>" }
        layer { name: "inception/1x1" type: "Convolution" bottom: "{y|z}<w>" top: "node" }"""
    )
    svg = draw.draw_net(net, "LR", "svg").decode()
    for text in ("a&quot;b\\c", "x:0", "{y|z}&lt;w&gt;", "inception/1x1", ">node<"):
        assert text in svg


@needs_dot
@pytest.mark.parametrize("name", ["upgrade/v1", "layers/pool_hw", "solvers/adagrad.net"])
def test_draw_net_gives_a_png_of_a_prototxt_that_was_only_parsed(name):
    net = parsed((GOLDEN / f"{name}.prototxt").read_text())
    assert draw.draw_net(net, "LR").startswith(b"\x89PNG")


@needs_dot
def test_a_file_is_written_in_the_format_of_its_ending(tmp_path):
    draw.draw_net_to_file(parsed(NET), tmp_path / "net.svg", phase=caffe.TEST, display_lrm=True)
    svg = (tmp_path / "net.svg").read_text()
    assert "<svg" in svg and "lr mult: 1.0, 2.0" in svg and "Batch 9" in svg


@needs_dot
def test_an_unknown_format_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "net.nothing"
    path.write_text("before")
    with pytest.raises(CaffeError, match=r"could not draw a \.nothing"):
        draw.draw_net_to_file(parsed(NET), str(path))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_an_ending_is_refused(tmp_path):
    with pytest.raises(CaffeError, match="no ending"):
        draw.draw_net_to_file(parsed(NET), str(tmp_path / "picture"))


def test_dot_is_written_without_graphviz_and_the_rest_says_that_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    draw.draw_net_to_file(parsed(NET), str(tmp_path / "net.dot"))
    assert (tmp_path / "net.dot").read_text().startswith('digraph "drawn"')
    with pytest.raises(CaffeError, match=r"Graphviz's program `dot`.*not on PATH"):
        draw.draw_net(parsed(NET), "LR")


def test_without_pydot_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "pydot":
            raise ModuleNotFoundError("No module named 'pydot'", name="pydot")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pycaffe-on-torch\[draw\]"):
        draw.get_pydot_graph(parsed(NET), "LR")
