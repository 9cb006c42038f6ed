"""The nets that nets/ writes: the reference's structure, sizes, parameter counts and crops, and the files."""

from __future__ import annotations

import ast
import math

import pytest
from google.protobuf import text_format

import caffe
from caffe import coord_map
from caffe import layers as L
from caffe.proto import caffe_pb2
from nets import googlenet, heads
from nets.__main__ import main
from nets.experiments import EXPERIMENTS, ROOT, outdated, to_text, write

FILES = [(name, file) for name, experiment in EXPERIMENTS.items() for file in experiment.splits]
VOC_VGG16 = ["voc-fcn32s", "voc-fcn16s", "voc-fcn8s", "voc-fcn8s-atonce"]
SHAPES = ["shapes-fcn/32s", "shapes-fcn/16s", "shapes-fcn/8s"]


def committed(name, file):
    return text_format.Parse((ROOT / name / file).read_text(), caffe_pb2.NetParameter())


def named(net):
    return {layer.name: layer for layer in net.layer}


def walk(net, height, width=None):
    """Each blob's (channels, height, width) for an image, and each layer's parameter count: Caffe's arithmetic.

    Written out here, apart from the engine, from the formulas of pooling_layer.cpp and conv_layer.cpp.
    """
    shapes, counts = {}, {}
    for layer in net.layer:
        bottoms = [shapes[name] for name in layer.bottom]
        if layer.type in ("Input", "Python"):
            channels = [3 if top in ("data", "color", "hha") else 1 for top in layer.top]
            tops = [(c, height, width or height) for c in channels]
        elif layer.type in ("Convolution", "Deconvolution"):
            p = layer.convolution_param
            (c, h, w), k, s = bottoms[0], p.kernel_size[0], (list(p.stride) or [1])[0]
            pad = (list(p.pad) or [0])[0]
            if layer.type == "Convolution":
                tops = [(p.num_output, *((x + 2 * pad - k) // s + 1 for x in (h, w)))]
            else:
                tops = [(p.num_output, *(s * (x - 1) + k - 2 * pad for x in (h, w)))]
            counts[layer.name] = c // p.group * p.num_output * k * k + p.num_output * p.bias_term
        elif layer.type == "Pooling":
            p = layer.pooling_param
            c, *size = bottoms[0]
            out = [math.ceil((x + 2 * p.pad - p.kernel_size) / p.stride) + 1 for x in size]
            if p.pad:
                out = [o - ((o - 1) * p.stride >= x + p.pad) for o, x in zip(out, size, strict=True)]
            tops = [(c, *out)]
        elif layer.type == "Concat":
            assert len({shape[1:] for shape in bottoms}) == 1, layer.name
            tops = [(sum(shape[0] for shape in bottoms), *bottoms[0][1:])]
        elif layer.type == "Crop":
            assert layer.crop_param.axis == 2
            (offset,) = layer.crop_param.offset
            assert all(offset + r <= x for x, r in zip(bottoms[0][1:], bottoms[1][1:], strict=True)), layer.name
            tops = [(bottoms[0][0], *bottoms[1][1:])]
        elif layer.type == "Scale":
            counts[layer.name] = bottoms[0][0]
            tops = bottoms
        elif layer.type == "SoftmaxWithLoss":
            assert bottoms[0][1:] == bottoms[1][1:]
            tops = [()]
        else:
            assert layer.type in ("ReLU", "Dropout", "LRN", "Power", "Eltwise"), layer.type
            assert len(set(bottoms)) == 1, layer.name
            tops = [bottoms[0]]
        assert all(size > 0 for top in tops for size in top), f"{layer.name} makes nothing: {tops}"
        shapes.update(zip(layer.top, tops, strict=True))
    return shapes, counts


def learnable(net, counts):
    """How many parameters learn: those of layers whose first lr_mult is not 0; without one it is 1."""
    layers = named(net)
    return sum(n for name, n in counts.items() if not layers[name].param or layers[name].param[0].lr_mult != 0)


# --- the files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_committed_prototxts_are_what_the_generators_write(name):
    assert outdated(name) == []


def test_check_finds_a_changed_a_missing_and_a_broken_file(tmp_path):
    train, val, deploy = write("voc-fcn32s", tmp_path)
    assert outdated("voc-fcn32s", tmp_path) == []
    train.write_text(train.read_text().replace("lr_mult: 2", "lr_mult: 1", 1))
    val.unlink()
    deploy.write_text("layer {")
    assert outdated("voc-fcn32s", tmp_path) == [train, val, deploy]


def test_command_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nets", "--check", "voc-fcn8s", "shapes-fcn/8s"])
    assert main() == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("nets.__main__.outdated", lambda name: [ROOT / name / "val.prototxt"])
    assert main() == 1
    assert "voc-fcn8s/val.prototxt is not what nets/ writes" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["nets", "voc-fcn9s"])
    with pytest.raises(SystemExit):
        main()
    assert "No experiment is called 'voc-fcn9s'; there are voc-fcn8s" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "file"), FILES)
def test_text_parses_back_to_the_net(name, file):
    net = committed(name, file)
    assert text_format.Parse(to_text(net), caffe_pb2.NetParameter()) == net


def test_text_does_not_depend_on_how_protobuf_prints_floats():
    printed = "lr_mult: 1.0\nalpha: 9.99999974738e-05\nnum_output: 4096\nparam_str: \"{'mean': 104.00699}\"\n"
    assert to_text(printed) == "lr_mult: 1\nalpha: 0.0001\nnum_output: 4096\nparam_str: \"{'mean': 104.00699}\"\n"


# --- FCN on VGG16, against the reference -----------------------------------------------------------------------


CONVS_3X3 = [
    ("conv1_1", "data", 64),
    ("conv1_2", "conv1_1", 64),
    ("conv2_1", "pool1", 128),
    ("conv2_2", "conv2_1", 128),
    ("conv3_1", "pool2", 256),
    ("conv3_2", "conv3_1", 256),
    ("conv3_3", "conv3_2", 256),
    ("conv4_1", "pool3", 512),
    ("conv4_2", "conv4_1", 512),
    ("conv4_3", "conv4_2", 512),
    ("conv5_1", "pool4", 512),
    ("conv5_2", "conv5_1", 512),
    ("conv5_3", "conv5_2", 512),
]
LAST_OF_GROUP = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
LEARNED = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"


def layer(text):
    return text_format.Parse(text, caffe_pb2.LayerParameter())


def conv(name, bottom, window):
    return layer(
        f'name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {LEARNED}'
        f" convolution_param {{ {window} }}"
    )


def in_place(kind, name, blob, param=""):
    return layer(f'name: "{name}" type: "{kind}" bottom: "{blob}" top: "{blob}" {param}')


def up(name, bottom, k, s):
    return layer(
        f'name: "{name}" type: "Deconvolution" bottom: "{bottom}" top: "{name}" param {{ lr_mult: 0 }}'
        f" convolution_param {{ num_output: 21 kernel_size: {k} stride: {s} bias_term: false }}"
    )


def cut(name, bottom, size_of, offset):
    return layer(
        f'name: "{name}" type: "Crop" bottom: "{bottom}" bottom: "{size_of}" top: "{name}"'
        f" crop_param {{ axis: 2 offset: {offset} }}"
    )


def add(name, a, b):
    return layer(
        f'name: "{name}" type: "Eltwise" bottom: "{a}" bottom: "{b}" top: "{name}" eltwise_param {{ operation: SUM }}'
    )


def scale(pool, value):
    return layer(
        f'name: "scale_{pool}" type: "Scale" bottom: "{pool}" top: "scale_{pool}" param {{ lr_mult: 0 }}'
        f' scale_param {{ filler {{ type: "constant" value: {value} }} }}'
    )


def reference_trunk(dropout):
    layers = []
    for name, bottom, width in CONVS_3X3:
        pad = 100 if name == "conv1_1" else 1
        layers.append(conv(name, bottom, f"num_output: {width} pad: {pad} kernel_size: 3 stride: 1"))
        layers.append(in_place("ReLU", name.replace("conv", "relu"), name))
        if name in LAST_OF_GROUP:
            pool = f"pool{LAST_OF_GROUP.index(name) + 1}"
            layers.append(
                layer(
                    f'name: "{pool}" type: "Pooling" bottom: "{name}" top: "{pool}"'
                    " pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
                )
            )
    for i, bottom, k in ((6, "pool5", 7), (7, "fc6", 1)):
        layers.append(conv(f"fc{i}", bottom, f"num_output: 4096 pad: 0 kernel_size: {k} stride: 1"))
        layers.append(in_place("ReLU", f"relu{i}", f"fc{i}"))
        if dropout:
            layers.append(in_place("Dropout", f"drop{i}", f"fc{i}", "dropout_param { dropout_ratio: 0.5 }"))
    return layers


SCORE = "num_output: 21 pad: 0 kernel_size: 1"
REFERENCE_HEADS = {
    "voc-fcn32s": [
        conv("score_fr", "fc7", SCORE),
        up("upscore", "score_fr", 64, 32),
        cut("score", "upscore", "data", 19),
    ],
    "voc-fcn16s": [
        conv("score_fr", "fc7", SCORE),
        up("upscore2", "score_fr", 4, 2),
        conv("score_pool4", "pool4", SCORE),
        cut("score_pool4c", "score_pool4", "upscore2", 5),
        add("fuse_pool4", "upscore2", "score_pool4c"),
        up("upscore16", "fuse_pool4", 32, 16),
        cut("score", "upscore16", "data", 27),
    ],
    "voc-fcn8s": [
        conv("score_fr", "fc7", SCORE),
        up("upscore2", "score_fr", 4, 2),
        conv("score_pool4", "pool4", SCORE),
        cut("score_pool4c", "score_pool4", "upscore2", 5),
        add("fuse_pool4", "upscore2", "score_pool4c"),
        up("upscore_pool4", "fuse_pool4", 4, 2),
        conv("score_pool3", "pool3", SCORE),
        cut("score_pool3c", "score_pool3", "upscore_pool4", 9),
        add("fuse_pool3", "upscore_pool4", "score_pool3c"),
        up("upscore8", "fuse_pool3", 16, 8),
        cut("score", "upscore8", "data", 31),
    ],
    "voc-fcn8s-atonce": [
        conv("score_fr", "fc7", SCORE),
        up("upscore2", "score_fr", 4, 2),
        scale("pool4", 0.01),
        conv("score_pool4", "scale_pool4", SCORE),
        cut("score_pool4c", "score_pool4", "upscore2", 5),
        add("fuse_pool4", "upscore2", "score_pool4c"),
        up("upscore_pool4", "fuse_pool4", 4, 2),
        scale("pool3", 0.0001),
        conv("score_pool3", "scale_pool3", SCORE),
        cut("score_pool3c", "score_pool3", "upscore_pool4", 9),
        add("fuse_pool3", "upscore_pool4", "score_pool3c"),
        up("upscore8", "fuse_pool3", 16, 8),
        cut("score", "upscore8", "data", 31),
    ],
}
REFERENCE_LOSS = layer(
    'name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"'
    " loss_param { ignore_label: 255 normalize: false }"
)
MEAN = (104.00699, 116.66877, 122.67892)


@pytest.mark.parametrize("name", VOC_VGG16)
@pytest.mark.parametrize("file", ["train.prototxt", "val.prototxt"])
def test_train_and_val_nets_equal_the_reference_layer_by_layer(name, file):
    data, *rest = committed(name, file).layer
    expected = [*reference_trunk(dropout=True), *REFERENCE_HEADS[name], REFERENCE_LOSS]
    for ours, theirs in zip(rest, expected, strict=True):
        assert ours == theirs
    assert (data.name, data.type, list(data.top)) == ("data", "Python", ["data", "label"])
    assert data.python_param.module == "layers"


@pytest.mark.parametrize("name", VOC_VGG16)
def test_deploy_nets_have_an_input_and_neither_dropout_nor_loss(name):
    data, *rest = committed(name, "deploy.prototxt").layer
    assert list(rest) == [*reference_trunk(dropout=False), *REFERENCE_HEADS[name]]
    assert data == layer(
        'name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 500 dim: 500 } }'
    )


@pytest.mark.parametrize("name", [*VOC_VGG16, "voc-fcn-alexnet", "voc-fcn-googlenet", *SHAPES])
def test_data_layers_say_where_which_split_and_the_reference_s_mean_and_seed(name):
    up_to_root = "../" * (name.count("/") + 1)
    sbdd, voc2011 = ("data/shapes/sbdd/dataset", "data/shapes/pascal/VOC2011")
    if name.startswith("voc"):
        sbdd, voc2011 = ("data/sbdd/dataset", "data/pascal/VOC2011")
    for file, kind, folder in (
        ("train.prototxt", "SBDDSegDataLayer", {"sbdd_dir": up_to_root + sbdd, "split": "train"}),
        ("val.prototxt", "VOCSegDataLayer", {"voc_dir": up_to_root + voc2011, "split": "seg11valid"}),
    ):
        param = committed(name, file).layer[0].python_param
        assert param.layer == kind
        assert ast.literal_eval(param.param_str) == {**folder, "mean": MEAN, "seed": 1337}


# VGG16 to fc7. A class adds 4,096 + 1 in score_fr, 512 + 1 in score_pool4 and 256 + 1 in score_pool3.
VGG16 = 134_260_544
FR, POOL4, POOL3 = 4097, 513, 257


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("voc-fcn32s", 134_346_581),
        ("voc-fcn16s", 134_357_354),
        ("voc-fcn8s", 134_362_751),
        ("voc-fcn8s-atonce", 134_362_751),
        ("voc-fcn-alexnet", 56_954_261),
        ("nyud-fcn/color-32s", VGG16 + 40 * FR),
        ("nyud-fcn/hha-32s", VGG16 + 40 * FR),
        ("nyud-fcn/color-d-32s", VGG16 + 64 * 9 + 40 * FR),
        ("nyud-fcn/color-hha-32s", 2 * (VGG16 + 40 * FR)),
        ("nyud-fcn/color-hha-16s", 2 * (VGG16 + 40 * (FR + POOL4))),
        ("siftflow-fcn/32s", VGG16 + 36 * FR),
        ("siftflow-fcn/16s", VGG16 + 36 * (FR + POOL4)),
        ("siftflow-fcn/8s", VGG16 + 36 * (FR + POOL4 + POOL3)),
        ("pascalcontext-fcn/32s", VGG16 + 60 * FR),
        ("pascalcontext-fcn/16s", VGG16 + 60 * (FR + POOL4)),
        ("pascalcontext-fcn/8s", VGG16 + 60 * (FR + POOL4 + POOL3)),
    ],
)
def test_learnable_parameters_are_the_reference_s(name, parameters):
    for file in EXPERIMENTS[name].splits:
        net = committed(name, file)
        assert learnable(net, walk(net, 500)[1]) == parameters


def test_deconvolution_is_dense():
    net = committed("voc-fcn32s", "train.prototxt")
    assert walk(net, 500)[1]["upscore"] == 21 * 21 * 64 * 64


@pytest.mark.parametrize(
    ("size", "conv1", "pools", "fc7", "up32", "up8"),
    [
        (500, 698, [349, 175, 88, 44, 22], 16, 544, 568),
        (375, 573, [287, 144, 72, 36, 18], 12, 416, None),
        (425, 623, [312, 156, 78, 39, 20], 14, None, None),
        (560, 758, [379, 190, 95, 48, 24], 18, None, None),
        (256, 454, [227, 114, 57, 29, 15], 9, None, None),
    ],
)
def test_blob_sizes(size, conv1, pools, fc7, up32, up8):
    shapes, _ = walk(committed("voc-fcn32s", "deploy.prototxt"), size)
    assert shapes["conv1_1"][1] == conv1
    assert [shapes[f"pool{i}"][1] for i in range(1, 6)] == pools
    assert shapes["fc7"][1] == fc7
    assert up32 in (None, shapes["upscore"][1])
    shapes, _ = walk(committed("voc-fcn8s", "deploy.prototxt"), size)
    assert up8 in (None, shapes["upscore8"][1])


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "voc-fcn-googlenet"])
def test_padded_nets_cover_images_of_every_size(name):
    net = committed(name, "deploy.prototxt")
    for size in (*range(1, 130), 375, 500, 512, 1000):
        shapes, _ = walk(net, size, 500)  # which holds each crop inside its bottom
        scores = [shape for blob, shape in shapes.items() if blob in ("score", "score_sem", "score_geo")]
        assert scores and all(shape[1:] == (size, 500) for shape in scores)


# --- FCN-AlexNet -----------------------------------------------------------------------------------------------


def test_alexnet_equals_the_reference_layer_by_layer():
    def plain(name, bottom, window):  # no word of learning rates, so that biases learn and decay as weights do
        text = f'name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{ {window} }}'
        return [layer(text), in_place("ReLU", name.replace("conv", "relu").replace("fc", "relu"), name)]

    def pool(number, bottom):
        return layer(
            f'name: "pool{number}" type: "Pooling" bottom: "{bottom}" top: "pool{number}"'
            " pooling_param { pool: MAX kernel_size: 3 stride: 2 }"
        )

    def norm(number):
        return layer(
            f'name: "norm{number}" type: "LRN" bottom: "pool{number}" top: "norm{number}"'
            " lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
        )

    expected = [
        *plain("conv1", "data", "num_output: 96 pad: 100 kernel_size: 11 group: 1 stride: 4"),
        *(pool(1, "conv1"), norm(1)),
        *plain("conv2", "norm1", "num_output: 256 pad: 2 kernel_size: 5 group: 2 stride: 1"),
        *(pool(2, "conv2"), norm(2)),
        *plain("conv3", "norm2", "num_output: 384 pad: 1 kernel_size: 3 group: 1 stride: 1"),
        *plain("conv4", "conv3", "num_output: 384 pad: 1 kernel_size: 3 group: 2 stride: 1"),
        *plain("conv5", "conv4", "num_output: 256 pad: 1 kernel_size: 3 group: 2 stride: 1"),
        pool(5, "conv5"),
        *plain("fc6", "pool5", "num_output: 4096 pad: 0 kernel_size: 6 group: 1 stride: 1"),
        in_place("Dropout", "drop6", "fc6", "dropout_param { dropout_ratio: 0.5 }"),
        *plain("fc7", "fc6", "num_output: 4096 pad: 0 kernel_size: 1 group: 1 stride: 1"),
        in_place("Dropout", "drop7", "fc7", "dropout_param { dropout_ratio: 0.5 }"),
        conv("score_fr", "fc7", SCORE),
        up("upscore", "score_fr", 63, 32),
        cut("score", "upscore", "data", 18),
        layer(
            'name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"'
            " loss_param { ignore_label: 255 normalize: true }"
        ),
    ]
    for file in ("train.prototxt", "val.prototxt"):
        for ours, theirs in zip(committed("voc-fcn-alexnet", file).layer[1:], expected, strict=True):
            assert ours == theirs


def test_alexnet_s_blob_sizes():
    shapes, _ = walk(committed("voc-fcn-alexnet", "deploy.prototxt"), 500)
    names = ("conv1", "pool1", "pool2", "pool5", "fc7", "upscore")
    assert [shapes[name][1] for name in names] == [173, 86, 43, 21, 16, 543]


# --- FCN-GoogLeNet ---------------------------------------------------------------------------------------------


def test_googlenet_s_parameters_and_layer_names():
    net = committed("voc-fcn-googlenet", "train.prototxt")
    shapes, counts = walk(net, 500)
    assert learnable(net, counts) == 5_973_552 + 21 * (1024 + 1)
    assert counts["upscore"] == 21 * 21 * 63 * 63
    names = named(net)
    assert len([name for name in names if name.startswith("inception_") and name.endswith("/output")]) == 9
    for name in ("conv1/7x7_s2", "conv1/relu_7x7", "pool1/3x3_s2", "pool1/norm1", "conv2/3x3_reduce"):
        assert name in names
    for part in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool", "pool_proj", "output"):
        assert f"inception_4e/{part}" in names
        assert part in ("pool", "output") or f"inception_4e/relu_{part}" in names
    assert shapes["inception_5b/output"] == (1024, 15, 15)
    assert names["pool4/3x3_s2"].pooling_param.pad == 0
    assert names["inception_5b/drop"].dropout_param.dropout_ratio == pytest.approx(0.4)
    assert names["loss"] == REFERENCE_LOSS
    assert not any(layer.convolution_param.HasField("weight_filler") for layer in net.layer)


@pytest.mark.slow
def test_googlenet_s_crop_offset_is_whole_and_covers_every_image_from_31_pixels():
    net = committed("voc-fcn-googlenet", "deploy.prototxt")
    assert named(net)["score"] == cut("score", "upscore", "data", 1)
    for size in (*range(31, 300), *range(300, 1200, 7)):
        assert walk(net, size, 500)[0]["score"][1:] == (size, 500)
    with pytest.raises(AssertionError, match="makes nothing"):  # pool4 is left with a single row
        walk(net, 30, 500)


def googlenet_scores(kernel_size):
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 224, 224]})
    features = googlenet.trunk(n, n.data, dropout=True)
    n.upscore = heads.upsample(heads.score(features, 21), 21, kernel_size=kernel_size, stride=32)
    return n


def test_crop_through_concat_agrees_with_the_engine_s_coord_map():
    n = googlenet_scores(63)
    ours = heads.crop_through_concat(n.upscore, n.data)
    assert ours.fn.params == coord_map.crop(n.upscore, n.data).fn.params
    assert ours.fn.params == {"crop_param": {"axis": 2, "offset": [1]}}


def test_crop_through_concat_refuses_what_no_crop_brings_into_line():
    n = googlenet_scores(64)
    with pytest.raises(ValueError, match=r"offset \[1.5\]"):
        heads.crop_through_concat(n.upscore, n.data)
    with pytest.raises(ValueError, match="do not lie alike"):
        shifted = L.Pooling(n.data, kernel_size=3, stride=1)  # unpadded: lies one pixel off its neighbour
        heads.crop_through_concat(L.Concat(n.data, shifted), n.data)


# --- the demo's nets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_thin_nets_have_vgg16_s_topology_at_a_sixteenth_of_its_channels(name):
    thin = committed(name, "train.prototxt")
    full = committed(name.replace("shapes-fcn/", "voc-fcn"), "train.prototxt")
    ours = [layer for layer in thin.layer if layer.name != "scaled"]
    theirs = [layer for layer in full.layer if layer.type != "Dropout"]
    assert [(layer.name, layer.type) for layer in ours] == [(layer.name, layer.type) for layer in theirs]
    for a, b in zip(ours, theirs, strict=True):
        p, q = a.convolution_param, b.convolution_param
        classes = a.type == "Deconvolution" or a.name.startswith("score")
        if a.type in ("Convolution", "Deconvolution"):
            assert p.num_output == (6 if classes else q.num_output // 16)
            assert p.weight_filler.type == ("constant" if classes else "msra")
        assert (p.kernel_size, p.stride, p.pad) == (q.kernel_size, q.stride, q.pad)
        assert (a.crop_param, a.param) == (b.crop_param, b.param)
    assert named(thin)["loss"].loss_param.normalize is True


@pytest.mark.parametrize("name", SHAPES)
def test_thin_nets_scale_the_mean_free_image_inside_the_net(name):
    for file in ("train.prototxt", "val.prototxt", "deploy.prototxt"):
        net = named(committed(name, file))
        assert net["scaled"] == layer(
            'name: "scaled" type: "Power" bottom: "data" top: "scaled" power_param { scale: 0.015625 }'
        )
        assert list(net["conv1_1"].bottom) == ["scaled"]
        assert list(net["score"].bottom)[1] == "data"
