"""The nets of NYUDv2, SIFT Flow and PASCAL-Context, as VOC's, which test_nets.py holds equal to the reference."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from nets import heads, nyud, pascalcontext, siftflow, voc
from nets.experiments import ROOT

STAGES = ["32s", "16s", "8s"]


def committed(name: str, file: str) -> Any:
    return text_format.Parse((ROOT / name / file).read_text(), caffe_pb2.NetParameter())


def named(net: Any) -> dict[str, Any]:
    return {layer.name: layer for layer in net.layer}


def of_voc(stage: str, file: str, classes: int) -> list[Any]:
    """The layers of VOC's net but its data, for another number of classes."""
    layers = list(committed(f"voc-fcn{stage}", file).layer[1:])
    for layer in layers:
        if layer.convolution_param.num_output == voc.CLASSES:
            layer.convolution_param.num_output = classes
    return layers


def renamed(layer: Any, names: dict[str, str]) -> Any:
    """A copy of the layer, with its own name and its blobs' changed."""
    copy = type(layer)()
    copy.CopyFrom(layer)
    copy.name = names.get(copy.name, copy.name)
    copy.bottom[:] = [names.get(blob, blob) for blob in copy.bottom]
    copy.top[:] = [names.get(blob, blob) for blob in copy.top]
    return copy


def data(name: str, file: str) -> tuple[str, list[str], dict[str, Any]]:
    """The kind of a net's data layer, its tops and its settings."""
    layer = committed(name, file).layer[0]
    assert (layer.type, layer.name, layer.python_param.module) == ("Python", layer.top[0], "layers")
    return layer.python_param.layer, list(layer.top), ast.literal_eval(layer.python_param.param_str)


def inputs(name: str) -> dict[str, list[int]]:
    """A deploy net's inputs and their shapes."""
    return {
        layer.top[0]: list(layer.input_param.shape[0].dim)
        for layer in committed(name, "deploy.prototxt").layer
        if layer.type == "Input"
    }


# NYUDv2


@pytest.mark.parametrize("modality", ["color", "hha"])
def test_nyud_s_single_nets_are_voc_s_in_40_classes(modality: str) -> None:
    name = f"nyud-fcn/{modality}-32s"
    for file, voc_file, split in (("trainval", "train", "trainval"), ("test", "val", "test")):
        assert list(committed(name, f"{file}.prototxt").layer[1:]) == of_voc("32s", f"{voc_file}.prototxt", 40)
        settings = {"nyud_dir": "../../data/nyud", "split": split, "tops": [modality, "label"], "seed": 1337}
        assert data(name, f"{file}.prototxt") == ("NYUDSegDataLayer", ["data", "label"], settings)
    assert list(committed(name, "deploy.prototxt").layer[1:]) == of_voc("32s", "deploy.prototxt", 40)
    assert inputs(name) == {"data": [1, 3, 425, 560]}


def test_early_fusion_is_that_net_on_colour_beside_depth() -> None:
    name = "nyud-fcn/color-d-32s"
    first = {"conv1_1": "conv1_1_bgrd"}
    for file, skipped in (("trainval.prototxt", 2), ("test.prototxt", 2), ("deploy.prototxt", 3)):
        net = committed(name, file)
        concat = named(net)["data"]
        assert (concat.type, list(concat.bottom), list(concat.top)) == ("Concat", ["color", "depth"], ["data"])
        assert not concat.HasField("concat_param")  # along the channels
        single = committed("nyud-fcn/color-32s", file).layer[1:]
        assert list(net.layer[skipped:]) == [renamed(layer, first) for layer in single]
    tops = ["color", "depth", "label"]
    settings = {"nyud_dir": "../../data/nyud", "split": "trainval", "tops": tops, "seed": 1337}
    assert data(name, "trainval.prototxt") == ("NYUDSegDataLayer", tops, settings)
    assert inputs(name) == {"color": [1, 3, 425, 560], "depth": [1, 1, 425, 560]}


@pytest.mark.parametrize("file", ["trainval.prototxt", "test.prototxt", "deploy.prototxt"])
def test_late_fusion_is_two_such_nets_whose_scores_are_averaged(file: str) -> None:
    single = named(committed("nyud-fcn/color-32s", file))
    trunk = [
        layer for name, layer in single.items() if name[:4] in ("conv", "relu", "pool", "drop") or name[:2] == "fc"
    ]
    fused = committed("nyud-fcn/color-hha-32s", file)
    expected = []
    for stream in ("color", "hha"):
        names = {blob: blob + stream for layer in trunk for blob in (layer.name, *layer.top)}
        names |= {"data": stream, "score_fr": f"score_fr{stream}"}
        expected += [renamed(layer, names) for layer in [*trunk, single["score_fr"]]]
    average = 'name: "score_fused" type: "Eltwise" bottom: "score_frcolor" bottom: "score_frhha" top: "score_fused"'
    average += " eltwise_param { operation: SUM coeff: 0.5 coeff: 0.5 }"
    expected.append(text_format.Parse(average, caffe_pb2.LayerParameter()))
    ends = [single[name] for name in ("upscore", "score", "loss") if name in single]
    expected += [renamed(layer, {"score_fr": "score_fused", "data": "color"}) for layer in ends]
    assert [layer for layer in fused.layer if layer.type not in ("Python", "Input")] == expected
    if file == "deploy.prototxt":
        assert inputs("nyud-fcn/color-hha-32s") == {"color": [1, 3, 425, 560], "hha": [1, 3, 425, 560]}
    else:
        kind, tops, settings = data("nyud-fcn/color-hha-32s", file)
        assert (kind, tops) == ("NYUDSegDataLayer", ["color", "hha", "label"])
        assert (settings["tops"], settings["split"]) == (tops, file.removesuffix(".prototxt"))


def test_late_fusion_s_skip_scores_pool4_in_both_streams_and_averages() -> None:
    fused, fcn16s = named(committed("nyud-fcn/color-hha-16s", "trainval.prototxt")), of_voc("16s", "train.prototxt", 40)
    for stream in ("color", "hha"):
        skip = fused[f"score_pool4{stream}"]
        assert (list(skip.bottom), skip.convolution_param.num_output) == ([f"pool4{stream}"], 40)
    assert list(fused["score_pool4"].bottom) == ["score_pool4color", "score_pool4hha"]
    assert fused["score_pool4"].eltwise_param == fused["score_fused"].eltwise_param
    # From there on it is FCN-16s.
    ends = ("upscore2", "score_pool4c", "fuse_pool4", "upscore16", "score", "loss")
    changes = {"score_fr": "score_fused", "data": "color"}
    assert [fused[name] for name in ends] == [renamed(layer, changes) for layer in fcn16s if layer.name in ends]
    # And with it left out, FCN-32s.
    fcn32s = named(committed("nyud-fcn/color-hha-32s", "trainval.prototxt"))
    assert set(fcn32s) - set(fused) == {"upscore"}
    shared = set(fcn32s) & set(fused) - {"score"}
    assert all(fused[name] == fcn32s[name] for name in shared)


# SIFT Flow


@pytest.mark.parametrize("stage", STAGES)
def test_siftflow_s_nets_are_voc_s_with_two_heads(stage: str) -> None:
    name = f"siftflow-fcn/{stage}"
    for file, voc_file in (("trainval", "train"), ("test", "val"), ("deploy", "deploy")):
        net = named(committed(name, f"{file}.prototxt"))
        expected = {}
        for suffix, classes, label in (("_sem", 33, "sem"), ("_geo", 3, "geo")):
            layers = of_voc(stage, f"{voc_file}.prototxt", classes)
            head = [layer.name for layer in layers if layer.name.startswith(("score", "upscore", "fuse"))]
            names = {blob: f"{blob.removesuffix('c')}{suffix}{'c' * blob.endswith('c')}" for blob in head}
            names["label"] = label
            if suffix == "_geo":
                names["loss"] = "loss_geo"
            expected |= {names.get(layer.name, layer.name): renamed(layer, names) for layer in layers}
        assert {key: layer for key, layer in net.items() if key not in ("data", "input")} == expected
        if file != "deploy":
            settings = {"siftflow_dir": "../../data/sift-flow", "split": file, "seed": 1337}
            found = data(name, f"{file}.prototxt")
            assert found == ("SIFTFlowSegDataLayer", ["data", "sem", "geo"], settings)
    assert inputs(name) == {"data": [1, 3, 256, 256]}
    assert {"score_sem", "score_geo"} <= set(named(committed(name, "deploy.prototxt")))


# PASCAL-Context


@pytest.mark.parametrize("stage", STAGES)
def test_context_s_nets_are_voc_s_in_60_classes(stage: str) -> None:
    name = f"pascalcontext-fcn/{stage}"
    for split in ("train", "val"):
        file = f"{split}.prototxt"
        assert list(committed(name, file).layer[1:]) == of_voc(stage, file, 60)
        folders = {"voc_dir": "../../data/pascal", "context_dir": "../../data/pascal-context"}
        expected = ("PASCALContextSegDataLayer", ["data", "label"], {**folders, "split": split, "seed": 1337})
        assert data(name, file) == expected
    assert list(committed(name, "deploy.prototxt").layer[1:]) == of_voc(stage, "deploy.prototxt", 60)
    assert inputs(name) == {"data": [1, 3, 500, 500]}


# What variants ask of the generators


def test_context_s_classes_are_a_choice() -> None:
    net = pascalcontext.fcn("val", heads.fcn8s, 16, classes=34, classes_file="33_labels.txt", data_dir="../data")
    settings = ast.literal_eval(net.layer[0].python_param.param_str)
    assert (settings["classes"], settings["voc_dir"]) == ("33_labels.txt", "../data/pascal")
    layers = named(net)
    for name in ("score_fr", "score_pool3", "upscore8"):
        assert layers[name].convolution_param.num_output == 34


@pytest.mark.parametrize(
    ("net", "folders"),
    [
        (voc.fcn_vgg16("train", heads.fcn32s, 16, data_dir="D", normalize=True), {"sbdd_dir": "D/sbdd/dataset"}),
        (voc.fcn_googlenet("val", 16, data_dir="D", normalize=True), {"voc_dir": "D/pascal/VOC2011"}),
        (nyud.fcn("test", "hha", 16, data_dir="D", normalize=True), {"nyud_dir": "D/nyud"}),
        (nyud.fcn_early("test", 16, data_dir="D", normalize=True), {"nyud_dir": "D/nyud"}),
        (nyud.fcn_late("test", 16, skip=True, data_dir="D", normalize=True), {"nyud_dir": "D/nyud"}),
        (siftflow.fcn("test", heads.fcn16s, 16, data_dir="D", normalize=True), {"siftflow_dir": "D/sift-flow"}),
        (
            pascalcontext.fcn("val", heads.fcn16s, 16, data_dir="D", normalize=True),
            {"voc_dir": "D/pascal", "context_dir": "D/pascal-context"},
        ),
    ],
)
def test_data_may_be_elsewhere_and_losses_be_means(net: Any, folders: dict[str, str]) -> None:
    settings = ast.literal_eval(net.layer[0].python_param.param_str)
    assert {key: value for key, value in settings.items() if key.endswith("_dir")} == folders
    losses = [layer for layer in net.layer if layer.type == "SoftmaxWithLoss"]
    assert losses and all(layer.loss_param.normalize and layer.loss_param.ignore_label == 255 for layer in losses)


def test_voc_s_own_training_images_and_options_of_the_data_layer() -> None:
    for net in (
        voc.fcn_vgg16("train", heads.fcn32s, sbdd=False, mirror=True),
        voc.fcn_alexnet("train", sbdd=False, mirror=True),
        voc.fcn_googlenet("train", sbdd=False, mirror=True),
    ):
        param = net.layer[0].python_param
        settings = ast.literal_eval(param.param_str)
        assert (param.layer, settings["voc_dir"], settings["split"]) == (
            "VOCSegDataLayer",
            "../data/pascal/VOC2011",
            "train",
        )
        assert settings["mirror"] is True
