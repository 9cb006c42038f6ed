"""ClassTargetsLayer and LossSamplingLayer: what they make of labels, and what draws they make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import caffe

LABEL = np.array([[[[0, 1, 2], [255, 2, 0]]], [[[1, 1, 255], [0, 0, 2]]]], np.float32)


def net_of(
    tmp_path: Path, layer: str, shape: tuple[int, ...], phase: int = caffe.TRAIN, after: str = "", **settings: object
) -> caffe.Net:
    path = tmp_path / "net.prototxt"
    dims = " ".join(f"dim: {size}" for size in shape)
    path.write_text(
        f'layer {{ name: "label" type: "Input" top: "label" input_param {{ shape {{ {dims} }} }} }}\n'
        f'layer {{ name: "out" type: "Python" bottom: "label" top: "out" python_param {{ module: "layers" '
        f'layer: "{layer}" param_str: {json.dumps(str(settings))} }} }}\n{after}'
    )
    return caffe.Net(str(path), phase)


def out_of(net: caffe.Net, label: np.ndarray) -> np.ndarray:
    net.blobs["label"].reshape(*label.shape)
    net.blobs["label"].data[...] = label
    net.forward()
    return net.blobs["out"].data.copy()


# Targets


@pytest.mark.parametrize("background", [True, False])
def test_targets_are_one_in_the_classs_channel_and_void_in_all_of_void(tmp_path, background):
    net = net_of(tmp_path, "ClassTargetsLayer", LABEL.shape, classes=3, background=background)
    found = out_of(net, LABEL)
    channels = [0, 1, 2] if background else [1, 2]
    assert found.shape == (2, len(channels), 2, 3)
    for channel, index in enumerate(channels):
        assert np.array_equal(found[:, channel], np.where(LABEL[:, 0] == 255, 255, LABEL[:, 0] == index))


def test_targets_take_the_labels_size_each_pass(tmp_path):
    net = net_of(tmp_path, "ClassTargetsLayer", (1, 1, 2, 3), classes=21)
    assert out_of(net, np.zeros((1, 1, 4, 7), np.float32)).shape == (1, 21, 4, 7)


@pytest.mark.parametrize("wrong", [3, 254, -1, np.nan])
def test_a_label_without_a_class_is_refused(tmp_path, wrong):
    net = net_of(tmp_path, "ClassTargetsLayer", (1, 1, 1, 2), classes=3)
    with pytest.raises(ValueError, match=rf"label {wrong:g}: expected 0 to 2, and 255 for void"):
        out_of(net, np.array([[[[0, wrong]]]], np.float32))


def test_the_sigmoid_loss_of_the_targets_leaves_void_out(tmp_path):
    loss = (
        'layer { name: "score" type: "Input" top: "score" input_param { shape { dim: 2 dim: 2 dim: 2 dim: 3 } } }\n'
        'layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "score" bottom: "out" top: "loss" '
        "loss_param { ignore_label: 255 normalization: NONE } }\n"
    )
    net = net_of(tmp_path, "ClassTargetsLayer", LABEL.shape, after=loss, classes=3, background=False)
    scores = np.random.default_rng(0).normal(size=(2, 2, 2, 3)).astype(np.float32)
    net.blobs["score"].data[...] = scores
    out_of(net, LABEL)
    targets = np.concatenate([LABEL == 1, LABEL == 2], 1)
    each = np.log1p(np.exp(scores)) - scores * targets
    valid = np.broadcast_to(LABEL != 255, each.shape)
    np.testing.assert_allclose(net.blobs["loss"].data, each[valid].sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "settings", "message"),
    [
        ("ClassTargetsLayer", {}, "lacks 'classes'"),
        ("ClassTargetsLayer", {"classes": 1}, "'classes' is 1, expected the number of classes, 2 to 255"),
        ("ClassTargetsLayer", {"classes": 21, "background": "no"}, "'background' is 'no'"),
        ("LossSamplingLayer", {}, "lacks 'keep'"),
        ("LossSamplingLayer", {"keep": 0}, "'keep' is 0, expected a probability"),
        ("LossSamplingLayer", {"keep": 25}, "'keep' is 25"),
        ("LossSamplingLayer", {"keep": 0.5, "cell": 0}, "'cell' is 0"),
        ("LossSamplingLayer", {"keep": 0.5, "seed": "x"}, "'seed' is 'x'"),
        ("LossSamplingLayer", {"keep": 0.5, "kept": 1}, "unknown key 'kept'; did you mean 'keep'"),
    ],
)
def test_settings_that_are_wrong_say_what_is(tmp_path, layer, settings, message):
    with pytest.raises(ValueError, match=message):
        net_of(tmp_path, layer, LABEL.shape, **settings)


@pytest.mark.parametrize("layer", ["ClassTargetsLayer", "LossSamplingLayer"])
def test_bottoms_that_are_no_labels_are_refused(tmp_path, layer):
    settings = {"classes": 3} if layer == "ClassTargetsLayer" else {"keep": 0.5}
    with pytest.raises(ValueError, match=rf"{layer}'s bottom is \(2, 3, 4, 5\), expected labels, N x 1 x H x W"):
        net_of(tmp_path, layer, (2, 3, 4, 5), **settings)
    text = (tmp_path / "net.prototxt").read_text().replace('top: "out"', 'top: "out" top: "other"')
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(ValueError, match=rf"{layer} takes one bottom, labels, and gives one top; .* 1 and 2"):
        caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)


def test_no_gradient_passes_into_labels(tmp_path):
    for layer, settings in (("ClassTargetsLayer", {"classes": 3}), ("LossSamplingLayer", {"keep": 0.5})):
        net = net_of(tmp_path, layer, LABEL.shape, **settings)
        (tmp_path / "net.prototxt").write_text("force_backward: true\n" + (tmp_path / "net.prototxt").read_text())
        net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
        out_of(net, LABEL)
        net.blobs["label"].diff[...] = 5
        net.blobs["out"].diff[...] = 1
        net.backward()
        assert not net.blobs["label"].diff.any()


# Sampling


def labels(number: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 21, (number, 1, height, width)).astype(np.float32)


def sampling_net(tmp_path: Path, phase: int = caffe.TRAIN, **settings: object) -> caffe.Net:
    return net_of(tmp_path, "LossSamplingLayer", (1, 1, 8, 8), phase, **{"keep": 0.5, "seed": 1337, **settings})


def test_whole_cells_are_kept_or_void(tmp_path):
    net = sampling_net(tmp_path, cell=4)
    label = labels(2, 10, 9)  # three cells by three, the last ones cut
    for _ in range(5):
        found = out_of(net, label)
        for image in range(2):
            for y in range(0, 10, 4):
                for x in range(0, 9, 4):
                    cell = np.s_[image, 0, y : y + 4, x : x + 4]
                    assert (found[cell] == 255).all() or np.array_equal(found[cell], label[cell])


@pytest.mark.parametrize("keep", [0.25, 0.5, 1])
def test_so_many_cells_are_kept_as_asked_for(tmp_path, keep):
    net = sampling_net(tmp_path, keep=keep, cell=2)
    kept = np.mean([(out_of(net, labels(2, 20, 20)) != 255).mean() for _ in range(10)])  # 2000 cells
    assert abs(kept - keep) < 0.05
    if keep == 1:
        assert kept == 1


def test_each_pass_and_each_seed_draws_anew_but_the_same_again(tmp_path):
    def draws(**settings: object) -> list[bytes]:
        net = sampling_net(tmp_path, cell=2, **settings)
        return [out_of(net, labels(1, 16, 16)).tobytes() for _ in range(4)]

    assert draws() == draws()
    assert len({*draws(), *draws(seed=1338), *draws(seed=-1337), *draws(seed=None)}) == 16


def test_the_test_phase_keeps_all(tmp_path):
    label = labels(1, 16, 16)
    net = sampling_net(tmp_path, caffe.TEST, cell=2)
    assert np.array_equal(out_of(net, label), label)


def test_solvers_that_train_together_draw_each_their_own(tmp_path, monkeypatch):
    drawn = set()
    for rank in range(3):
        monkeypatch.setattr(caffe, "solver_rank", lambda rank=rank: rank)
        drawn.add(out_of(sampling_net(tmp_path, cell=2), labels(1, 16, 16)).tobytes())
    assert len(drawn) == 3


def test_a_resumed_layer_draws_what_one_that_never_stopped_does(tmp_path):
    net = sampling_net(tmp_path, cell=2, seed=None)
    label = labels(1, 16, 16)
    for _ in range(3):
        out_of(net, label)
    state = json.loads(json.dumps(net.layers[1].state()))
    after = [out_of(net, label).tobytes() for _ in range(3)]
    resumed = sampling_net(tmp_path, cell=2, seed=None)
    resumed.layers[1].set_state(state)
    assert [out_of(resumed, label).tobytes() for _ in range(3)] == after


@pytest.mark.parametrize("state", [{}, {"seed": 1}, {"seed": None, "passes": 3}, {"seed": 1, "passes": -1}])
def test_a_state_of_something_else_is_refused(tmp_path, state):
    with pytest.raises(ValueError, match="expected seed and passes"):
        sampling_net(tmp_path).layers[1].set_state(state)
