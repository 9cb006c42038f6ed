"""The warning about layers that were never filled, and the nets that must not be warned about."""

import numpy as np
import pytest

import caffe
from caffe.solvers.unfilled import unfilled_layers

FILLED = 'weight_filler { type: "xavier" }'


def conv(name, bottom, filler="", outputs=4, extra=""):
    return f"""layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {extra}
        convolution_param {{ num_output: {outputs} kernel_size: 3 pad: 1 {filler} }} }}"""


def relu(name):
    return f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}'


def up(name, bottom, filler="", lr_mult=0):
    return f"""layer {{ name: "{name}" type: "Deconvolution" bottom: "{bottom}" top: "{name}"
        param {{ lr_mult: {lr_mult} }}
        convolution_param {{ num_output: 4 kernel_size: 4 stride: 2 pad: 1 bias_term: false {filler} }} }}"""


def fcn(trunk=FILLED, score="", upsampling='group: 4 weight_filler { type: "bilinear" }', lr_mult=0):
    """Two convolutions, a score layer, upsampling and crop: FCN's order of layers."""
    return "\n".join(
        [
            """layer { name: "in" type: "Input" top: "data" top: "label"
                input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } shape { dim: 1 dim: 1 dim: 8 dim: 8 } } }""",
            conv("conv1", "data", trunk), relu("conv1"),
            """layer { name: "pool" type: "Pooling" bottom: "conv1" top: "pool"
                pooling_param { kernel_size: 2 stride: 2 } }""",
            conv("fc6", "pool", trunk), relu("fc6"),
            conv("score_fr", "fc6", score),
            up("upscore", "score_fr", upsampling, lr_mult),
            """layer { name: "score" type: "Crop" bottom: "upscore" bottom: "data" top: "score"
                crop_param { axis: 2 offset: 0 } }""",
            'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }',
        ]
    )  # fmt: skip


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def start(net):
        (tmp_path / "net.prototxt").write_text(net)
        (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" random_seed: 1')
        solver = caffe.SGDSolver("solver.prototxt")
        rng = np.random.default_rng(0)
        solver.net.blobs["data"].data[...] = rng.standard_normal((1, 3, 8, 8))
        solver.net.blobs["label"].data[...] = rng.integers(0, 4, (1, 1, 8, 8))
        solver.net.forward()
        solver.net.clear_param_diffs()
        solver.net.backward()
        return solver, unfilled_layers(solver.net)

    return start


def test_a_net_that_was_never_filled_is_warned_about_once(train, capsys):
    solver, found = train(fcn(trunk=""))
    assert found == ["conv1", "fc6"]  # but not score_fr, whose zeros are meant
    capsys.readouterr()
    solver.step(2)
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W")]
    assert len(warned) == 1
    assert "2 layer(s) are all zero and get no gradient: 'conv1', 'fc6'. " in warned[0]
    assert "copy_from" in warned[0] and "weight_filler" in warned[0] and "Deconvolution" not in warned[0]


def test_a_score_layer_that_starts_at_zero_is_not(train, capsys):
    solver, found = train(fcn())
    assert found == []
    solver.step(1)
    assert "all zero" not in capsys.readouterr().err
    assert solver.net.params["score_fr"][0].data.any()  # and it learns


def test_weights_that_a_program_wrote_or_loaded_are_filled(train, tmp_path):
    solver, _ = train(fcn())
    solver.net.save("filled.caffemodel")
    empty, found = train(fcn(trunk=""))
    assert found
    empty.net.copy_from("filled.caffemodel")
    assert unfilled_layers(empty.net) == []


def test_one_layer_forgotten_in_the_middle(train):
    net = fcn(score=FILLED).replace(conv("fc6", "pool", FILLED), conv("fc6", "pool"))
    assert train(net)[1] == ["fc6"]


def test_a_frozen_deconvolution_that_was_never_interpolated(train, capsys):
    solver, found = train(fcn(upsampling=""))
    assert found == ["upscore"]
    solver.step(1)
    assert "A Deconvolution that upsamples ('upscore')" in capsys.readouterr().err


def test_a_deconvolution_that_learns_is_dead_only_behind_a_zero_score(train):
    assert train(fcn(score=FILLED, upsampling="", lr_mult=1))[1] == []
    assert train(fcn(score="", upsampling="", lr_mult=1))[1] == ["upscore"]


def test_a_frozen_score_layer_will_never_score(train):
    net = fcn().replace(conv("score_fr", "fc6"), conv("score_fr", "fc6", extra="param { lr_mult: 0 }"))
    assert train(net)[1] == ["score_fr"]


def test_a_residual_branch_that_starts_at_zero_learns(train):
    branch = "\n".join(
        [
            conv("branch", "conv1"),
            'layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "branch" top: "sum" }',
            'layer { name: "pool" type: "Pooling" bottom: "sum"',
        ]
    )
    net = fcn(score=FILLED).replace('layer { name: "pool" type: "Pooling" bottom: "conv1"', branch)
    assert train(net)[1] == []


def test_zero_weights_with_a_bias_are_meant(train):
    biased = 'bias_filler { type: "constant" value: 1 }'
    net = fcn(score=FILLED).replace(conv("fc6", "pool", FILLED), conv("fc6", "pool", biased))
    assert train(net)[1] == []
