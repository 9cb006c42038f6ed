"""reading/data_layers.py: a net's data layers, and their folders from wherever a program runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

import layers
from caffe.proto import caffe_pb2
from nets import experiments
from reading.data_layers import class_of, data_layers, placed, settings_of

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = [
    kind
    for kind in vars(layers).values()
    if isinstance(kind, type) and issubclass(kind, layers.SegDataLayer) and kind is not layers.SegDataLayer
]


def net(settings: object, layer: str = "VOCSegDataLayer", module: str = "layers") -> caffe_pb2.NetParameter:
    param = caffe_pb2.NetParameter()
    param.layer.add(name="data", type="Python", top=["data", "label"])
    param.layer[0].python_param.module, param.layer[0].python_param.layer = module, layer
    param.layer[0].python_param.param_str = repr(settings)
    return param


@pytest.mark.parametrize("kind", OURS)
def test_a_data_layer_says_which_of_its_settings_are_folders(kind: type[layers.SegDataLayer]) -> None:
    folders = {key for key in kind.settings() if key == "folder" or key.endswith("_dir")}
    assert folders == {kind.folder_key, *kind.other_folder_keys}


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_an_experiment_s_nets_find_their_data_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FCN_DATA", raising=False)
    for file in ("train", "trainval", "val", "test"):
        path = ROOT / name / f"{file}.prototxt"
        if not path.is_file():
            continue
        param = text_format.Parse(path.read_text(), caffe_pb2.NetParameter())
        for data, expected in ((None, ROOT / "data"), (tmp_path, tmp_path)):
            found = placed(param, ROOT / name, data)
            (layer,) = data_layers(found)
            kind = class_of(layer)
            assert kind is not None
            own, settings = settings_of(data_layers(param)[0]), settings_of(layer)
            for key in (kind.folder_key, *kind.other_folder_keys):
                assert settings[key] == str(expected / own[key].partition("data/")[2])
                own[key] = settings[key]
            # All else is as it was, in the layer and in the net.
            assert settings == own
            layer.python_param.param_str = data_layers(param)[0].python_param.param_str
            assert found == param


def test_where_a_folder_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path("/experiments/own")

    def folder(path: object, data: Path | None = None) -> object:
        return settings_of(placed(net({"voc_dir": path, "split": "val"}), home, data).layer[0])["voc_dir"]

    monkeypatch.delenv("FCN_DATA", raising=False)
    assert folder("../data/voc") == "/experiments/data/voc"
    assert folder("voc") == "/experiments/own/voc"
    assert folder("/disk/voc") == "/disk/voc"
    assert folder("../data/voc", Path("/big")) == "/big/voc"
    assert folder("../others/voc", Path("/big")) == "/experiments/others/voc"
    monkeypatch.setenv("HOME", "/home/me")
    assert folder("~/voc") == "/home/me/voc"
    monkeypatch.setenv("FCN_DATA", "relative")
    assert folder("../data/voc") == str(Path.cwd() / "relative/voc")
    assert folder("../data/voc", Path("/big")) == "/big/voc"
    # What is wrong is for the layer itself to refuse.
    assert folder(7) == 7
    assert "voc_dir" not in settings_of(placed(net({"split": "val"}), home).layer[0])


def test_a_stranger_s_layer_is_left_alone() -> None:
    for param in (net({"voc_dir": "../data"}, module="theirs"), net({"voc_dir": "../data"}, layer="Unknown")):
        assert class_of(param.layer[0]) is None
        assert placed(param, Path("/experiments/own")) == param
