"""Learning rates, clipping, decay and each solver type's update, by their formulas (facts of sgd_solver.cpp)."""

import math

import numpy as np
import pytest

import caffe
from caffe.errors import NonFiniteError, SolverError
from caffe.proto import caffe_pb2
from caffe.solvers import update_rules

INPUT = """
layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 5 } shape { dim: 4 } } }
"""
NET = f"""{INPUT}
layer {{ name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
        inner_product_param {{ num_output: 6 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }}
"""
TYPES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def start(settings, net=NET):
        lr = "" if "lr_policy" in settings else 'lr_policy: "fixed"'
        base = "" if "base_lr" in settings else "base_lr: 0.1"
        (tmp_path / "solver.prototxt").write_text(f"{base} {lr} random_seed: 3 {settings} net_param {{ {net} }}")
        solver = caffe.get_solver("solver.prototxt")
        solver.net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal((4, 5))
        return solver

    return start


# Learning rates

RATES = {
    "fixed": ("", lambda i: 1.0),
    "step": ("gamma: 0.5 stepsize: 3", lambda i: 0.5 ** (i // 3)),
    "exp": ("gamma: 0.9", lambda i: 0.9**i),
    "inv": ("gamma: 0.3 power: 0.75", lambda i: (1 + 0.3 * i) ** -0.75),
    "multistep": ("gamma: 0.1 stepvalue: 2 stepvalue: 5", lambda i: 0.1 ** ((i >= 2) + (i >= 5))),
    "poly": ("power: 0.9 max_iter: 10", lambda i: (1 - i / 10) ** 0.9),
    "sigmoid": ("gamma: -0.5 stepsize: 4", lambda i: 1 / (1 + math.exp(0.5 * (i - 4)))),
}


@pytest.mark.parametrize("policy", RATES)
def test_learning_rate_policies(make, policy):
    settings, factor = RATES[policy]
    solver = make(f'lr_policy: "{policy}" base_lr: 0.2 {settings}')
    for i in range(8):
        assert solver.lr == pytest.approx(0.2 * factor(i), rel=1e-6)
        solver.step(1)


def test_multistep_moves_on_one_step_an_update(make, capsys):
    solver = make('lr_policy: "multistep" gamma: 0.1 stepvalue: 0 stepvalue: 0')
    rates = []
    for _ in range(3):
        rates.append(round(solver.lr, 6))
        solver.step(1)
    assert rates == [0.01, 0.001, 0.001]
    status = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines() if "MultiStep" in line]
    assert status == [f"MultiStep Status: Iteration {i}, step = {i + 1}" for i in range(2)]


@pytest.mark.parametrize("policy", ["multistep", "step"])
def test_asking_for_the_rate_changes_nothing(make, policy, capsys):
    settings = f'lr_policy: "{policy}" gamma: 0.1 stepsize: 1 display: 1 stepvalue: 0 stepvalue: 1 stepvalue: 1'

    def logged(reads):
        solver = make(settings)
        for _ in range(4):
            assert len({solver.lr for _ in range(reads)}) <= 1
            solver.step(1)
        assert solver.current_step == 3
        lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
        return [line for line in lines if "lr = " in line or "MultiStep Status" in line]

    assert logged(reads=3) == logged(reads=0)


def test_rates_that_do_not_exist(make):
    with pytest.raises(SolverError, match="Unknown learning rate policy: cosine"):
        make('lr_policy: "cosine"').step(1)
    with pytest.raises(SolverError, match="stepsize"):
        make('lr_policy: "step" gamma: 0.1').step(1)
    solver = make('lr_policy: "poly" power: 0.9 max_iter: 2')
    solver.step(2)
    assert solver.lr == 0
    solver.step(1)
    with pytest.raises(SolverError, match=r"iteration 3.*max_iter"):
        solver.step(1)
    with pytest.raises(SolverError, match="no learning rate"):
        make('lr_policy: "poly" power: 0.9').step(1)
    settings = caffe_pb2.SolverParameter(base_lr=1, lr_policy="sigmoid", gamma=-10, stepsize=0)
    assert update_rules.learning_rate(settings, 1000, 0)[0] == 0  # no overflow


# Updates


def reference(kind, g, w, history, rate, p, t):
    """One update in float64 as Caffe's solvers' formulas say; returns the update."""
    m, m2, delta = p.momentum, p.momentum2, p.delta
    if kind == "SGD":
        history[0] = m * history[0] + rate * g
        return history[0]
    if kind == "Nesterov":
        before = history[0]
        history[0] = m * before + rate * g
        return (1 + m) * history[0] - m * before
    if kind == "AdaGrad":
        history[0] = history[0] + g**2
        return rate * g / (np.sqrt(history[0]) + delta)
    if kind == "RMSProp":
        history[0] = p.rms_decay * history[0] + (1 - p.rms_decay) * g**2
        return rate * g / (np.sqrt(history[0]) + delta)
    if kind == "AdaDelta":
        history[0] = m * history[0] + (1 - m) * g**2
        step = g * np.sqrt((history[1] + delta) / (history[0] + delta))
        history[1] = m * history[1] + (1 - m) * step**2
        return rate * step
    history[0] = m * history[0] + (1 - m) * g
    history[1] = m2 * history[1] + (1 - m2) * g**2
    return rate * math.sqrt(1 - m2**t) / (1 - m**t) * history[0] / (np.sqrt(history[1]) + delta)


LARGE = f"""{INPUT}
layer {{ name: "large" type: "InnerProduct" bottom: "data" top: "large"
        param {{ lr_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
        inner_product_param {{ num_output: 15000 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "small" type: "InnerProduct" bottom: "data" top: "small" param {{ lr_mult: 0.5 decay_mult: 3 }}
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "shared" type: "InnerProduct" bottom: "data" top: "shared" param {{ name: "w" }} param {{ name: "b" }}
        inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "sharer" type: "InnerProduct" bottom: "data" top: "sharer" param {{ name: "w" }} param {{ name: "b" }}
        inner_product_param {{ num_output: 2 }} }}
"""


@pytest.mark.parametrize("decay", ["L1", "L2"])
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_updates_by_its_formula_large_and_small_parameters_alike(make, kind, decay):
    momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    solver = make(
        f'type: "{kind}" {momentum} base_lr: 0.02 delta: 1e-6 iter_size: 2 '
        f'weight_decay: 0.3 regularization_type: "{decay}"',
        net=LARGE,
    )
    params = solver.net.learnable
    assert [(p.layer_name, p.index) for p in params] == [
        ("large", 0), ("large", 1), ("small", 0), ("small", 1), ("shared", 0), ("shared", 1),
    ]  # fmt: skip
    assert params[0].blob.count > 2 * update_rules.PIECE and params[0].blob.count % update_rules.PIECE
    rng = np.random.default_rng(0)
    weights = [p.blob.data.astype(np.float64) for p in params]
    history = [[0.0, 0.0] for _ in params]
    for t in (1, 2, 3):
        for i, p in enumerate(params):
            g = rng.uniform(2, 4, p.blob.data.shape) * rng.choice([-1, 1], p.blob.data.shape)  # decay cannot cancel it
            p.blob.diff[...] = g
            g = g / 2
            g += 0.3 * p.decay_mult * (weights[i] if decay == "L2" else np.sign(weights[i]))
            step = reference(kind, g, weights[i], history[i], 0.02 * p.lr_mult, solver._param, t)
            weights[i] = weights[i] - step
            weights[i] = weights[i].astype(np.float32).astype(np.float64)
            history[i].append(step)
        solver.apply_update()
        for i, p in enumerate(params):
            np.testing.assert_allclose(p.blob.diff, history[i].pop(), rtol=1e-5, atol=2e-7)
            np.testing.assert_allclose(p.blob.data, weights[i], rtol=1e-5, atol=1e-6)
    assert np.array_equal(solver.net.params["sharer"][0].data, solver.net.params["shared"][0].data)


def test_unknown_regularization(make):
    with pytest.raises(SolverError, match="Unknown regularization type: L3"):
        make('regularization_type: "L3" weight_decay: 1').step(1)


def test_gradients_are_clipped_together_before_anything_else(make, capsys):
    solver = make("clip_gradients: 5 base_lr: 1 iter_size: 2")
    params = solver.net.learnable
    for p in params:
        p.blob.diff[...] = 1
    count = sum(p.blob.count for p in params)
    solver.apply_update()
    scale = 5 / math.sqrt(count)
    for p in params:
        np.testing.assert_allclose(p.blob.diff, scale / 2 * p.lr_mult, rtol=1e-6)
    norm = f"L2 norm {math.sqrt(count):g} > 5"
    assert f"Gradient clipping: scaling down gradients ({norm}) by scale factor {scale:g}" in capsys.readouterr().err
    for p in params:
        p.blob.diff[...] = 0.1
    solver.apply_update()
    assert "clipping" not in capsys.readouterr().err
    params[2].blob.diff.flat[1] = np.inf
    with pytest.raises(NonFiniteError, match="layer 'ip2', parameter 0"):
        solver.apply_update()


def test_a_rate_of_zero_updates_nothing_whatever_the_decay(make):
    frozen = NET.replace("param { lr_mult: 1 }", "param { lr_mult: 0 }")
    for kind in TYPES:
        solver = make(f'type: "{kind}" weight_decay: 10', net=frozen)
        blob = solver.net.params["ip1"][0]
        before, version = blob.data.copy(), blob.data_version
        solver.step(2)
        blob.diff[...] = 3  # a gradient from elsewhere
        solver.apply_update()
        if kind == "SGD":
            assert blob.data_version == version  # what is derived from frozen weights stays valid
        assert np.array_equal(blob.data, before) and not blob.diff.any(), kind
