"""The variants' nets, thin, on inputs in the place of data: each starts from its weights, and its loss falls."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import caffe
import surgery
from caffe import layers as L
from caffe.proto import caffe_pb2
from nets import voc
from nets.bases import BASES
from nets.experiments import EXPERIMENTS, ROOT, VARIANTS, lookup
from scoring import passes

SIZE = (40, 48)
THIN = 16
CLASSES_OF = {"sem": 33, "geo": 3}

ABLATIONS = [name.removeprefix("voc-fcn-ablations/") for name in VARIANTS if name.startswith("voc-fcn-ablations/")]


def ablation(name: str, split: str = "train") -> Any:
    return lookup(f"voc-fcn-ablations/{name}").net(split, thin=THIN)


@cache
def random_weights(origin: str, folder: Path) -> Path:
    """A file of random weights for a thin net of what a variant starts from; a base net has no score layers."""
    if origin in BASES:
        n = caffe.NetSpec()
        n.data = L.Input(shape={"dim": [1, 3, 224, 224]})
        BASES[origin].trunk(n, n.data, dropout=False, thin=THIN)
        param = n.to_proto()
    else:
        param = lookup(origin).net(voc.DEPLOY, thin=THIN)
    net = make(param, folder)
    rng = np.random.default_rng(0)
    for name, (weights, *_) in net.params.items():
        weights.data[...] = np.sqrt(2 / weights.data[0].size) * rng.standard_normal(weights.data.shape)
        weights.data[...] *= 0.01 if name.startswith("score") else 1
    path = folder / f"{origin.replace('/', '-')}.caffemodel"
    net.save(str(path))
    return path


def make(param: Any, folder: Path, phase: int = caffe.TEST) -> caffe.Net:
    path = folder / "net.prototxt"
    path.write_text(str(param))
    return caffe.Net(str(path), phase)


def with_inputs(param: Any) -> Any:
    """A net whose data layer is replaced by inputs of its tops, of one size."""
    net = caffe_pb2.NetParameter()
    for layer in param.layer:
        if layer.type == "Python" and not layer.bottom:
            for top in layer.top:
                replacement = net.layer.add(name=top, type="Input", top=[top])
                channels = 3 if top in ("data", "color", "hha") else 1
                replacement.input_param.shape.add(dim=[1, channels, *SIZE])
        else:
            net.layer.append(layer)
    return net


def feed(net: caffe.Net) -> None:
    """Fill the inputs: pixels near unit scale; labels of all classes, most of them of one, and some of them void."""
    rng = np.random.default_rng(1)
    for name in net.inputs:
        blob = net.blobs[name]
        if name in ("label", "sem", "geo"):
            classes = CLASSES_OF[name] if name in CLASSES_OF else net.blobs["score"].shape[1]
            others = rng.random(blob.data.shape) < 0.2
            blob.data[...] = np.where(others, rng.integers(0, classes, blob.data.shape), 1)
            blob.data[0, 0, :4] = voc.VOID
        else:
            blob.data[...] = rng.standard_normal(blob.data.shape)


def loss_of(net: caffe.Net) -> float:
    caffe.set_random_seed(3)  # the same dropout each time
    net.forward()
    return sum(weight * float(net.blobs[blob].data.sum()) for blob, weight in net.blob_loss_weights.items())


def start_of(name: str) -> Any:
    """`start` of an experiment's solve.py, or of that of a variant's folder; without counting the labels of a set."""
    script = ROOT / (name if name in EXPERIMENTS else name.partition("/")[0]) / "solve.py"
    start = runpy.run_path(str(script))["start"]
    if "balance" in start.__globals__:
        start.__globals__["balance"] = lambda net: None
    return start


def drawn(param: Any) -> set[str]:
    """The layers that a random filler has filled, where no file has."""
    return {layer.name for layer in param.layer if layer.convolution_param.HasField("weight_filler")}


def learned(net: caffe.Net, param: Any) -> dict[tuple[str, int], float]:
    """The parameters that learn and their lr_mult."""
    rates = {}
    for layer in param.layer:
        for i in range(len(net.params[layer.name]) if layer.name in net.params else 0):
            rate = layer.param[i].lr_mult if i < len(layer.param) else 1.0
            if rate:
                rates[layer.name, i] = rate
    return rates


def fall(net: caffe.Net, param: Any, share: float) -> tuple[float, float]:
    """The loss before and after a step along the gradient that is to lower it by `share`."""
    before = loss_of(net)
    net.backward()
    rates = learned(net, param)
    square = sum(rate * float((net.params[name][i].diff ** 2).sum()) for (name, i), rate in rates.items())
    for (name, i), rate in rates.items():
        blob = net.params[name][i]
        blob.data[...] -= share * before / square * rate * blob.diff
    return before, loss_of(net)


def distinct() -> dict[str, str]:
    """The variants by their train nets without data, since many differ in data or solver only: the first of each."""
    found: dict[tuple[str, tuple[str, ...]], str] = {}
    for name, variant in VARIANTS.items():
        param = with_inputs(variant.net(next(iter(variant.splits.values())), thin=THIN))
        found.setdefault((str(param), variant.starts_from), name)
    return {name: name for name in found.values()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


@pytest.mark.slow
@pytest.mark.parametrize("name", distinct())
def test_a_thin_net_starts_from_its_weights_and_its_loss_falls(name: str, folder: Path) -> None:
    variant = VARIANTS[name]
    param = with_inputs(variant.net(next(iter(variant.splits.values())), thin=THIN))
    net = make(param, folder, caffe.TRAIN)
    files = [str(random_weights(origin, folder)) for origin in variant.starts_from]
    start_of(name)(net, *files)
    for layer in param.layer:
        if layer.type == "Deconvolution":
            kernels = net.params[layer.name][0].data
            assert np.allclose(kernels[0, 0], surgery.upsample_filt(kernels.shape[-1])), layer.name
        elif layer.type == "Convolution" and not layer.name.startswith("score"):
            assert net.params[layer.name][0].data.any(), layer.name
    if files:  # As the one that it varies is started, so is the variant.
        same = make(param, folder, caffe.TRAIN)
        start_of(variant.of)(same, *files)
        for layer_name, blobs in net.params.items():
            alike = [np.array_equal(a.data, b.data) for a, b in zip(blobs, same.params[layer_name], strict=True)]
            assert all(alike) or layer_name in drawn(param), layer_name
    if "class_weights" in net.params:
        net.params["class_weights"][0].data[...] = np.eye(voc.CLASSES)
    feed(net)
    before, after = fall(net, param, share=0.05)
    assert np.isfinite(before)
    assert after < 0.99 * before


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ABLATIONS if name not in ("table1-alexnet", "table1-googlenet")])
def test_fcn32s_s_weights_load_into_every_vgg16_net(name: str, folder: Path) -> None:
    variant = lookup(f"voc-fcn-ablations/{name}")
    net = make(variant.net(voc.DEPLOY, thin=THIN), folder)
    weights = str(random_weights("voc-fcn32s", folder))
    net.copy_from(weights)
    source = make(lookup("voc-fcn32s").net(voc.DEPLOY, thin=THIN), folder)
    source.copy_from(weights)
    shared = set(net.params) & set(source.params)
    assert "conv3_3" in shared
    new = {"score_pool5", "score_pool4", "score_pool3", "score_fr_objects", "fc6_14x14"}
    assert {name for name in net.params if not name.startswith("up")} - shared <= new
    for layer in shared:
        assert np.array_equal(net.params[layer][0].data, source.params[layer][0].data), layer


# One by one


def test_the_null_background_scores_0_and_the_others_learn_by_a_sigmoid(folder: Path) -> None:
    param = with_inputs(ablation("null-background"))
    net = make(param, folder, caffe.TRAIN)
    net.copy_from(str(random_weights("vgg16", folder)))
    surgery.interp(net, [layer for layer in net.params if "up" in layer])
    rng = np.random.default_rng(4)
    weights = net.params["score_fr_objects"][0].data
    weights[...] = 0.1 * rng.standard_normal(weights.shape)
    feed(net)
    loss = loss_of(net)
    net.backward()
    scores, label = net.blobs["score"].data[0], net.blobs["label"].data[0, 0]
    assert scores.shape == (21, *SIZE)
    assert not scores[0].any()
    objects = net.blobs["score_objects"].data[0].astype(np.float64)
    assert np.array_equal(scores[1:], objects.astype(np.float32))
    assert objects.std() > 0.01

    targets = label == np.arange(1, 21)[:, np.newaxis, np.newaxis]
    counted = label != voc.VOID
    assert 0 < counted.sum() < counted.size
    terms = np.logaddexp(0, objects) - targets * objects
    assert loss == pytest.approx(terms[:, counted].sum(), rel=1e-5)
    gradient = np.where(counted, 1 / (1 + np.exp(-objects)) - targets, 0)
    assert np.allclose(net.blobs["score_objects"].diff[0], gradient, atol=1e-5)


def solver_of(name: str, folder: Path, base_lr: float) -> caffe.SGDSolver:
    """The solver of an ablation at a rate of one's own; its net is thin, with inputs in the place of data."""
    (folder / "solved.prototxt").write_text(str(with_inputs(ablation(name))))
    fields = dict(lookup(f"voc-fcn-ablations/{name}").solver or {}) | {"train_net": str(folder / "solved.prototxt")}
    for field in ("test_net", "test_iter", "test_interval"):
        fields.pop(field)
    fields |= {"base_lr": base_lr, "snapshot_prefix": str(folder / "train")}
    (folder / "solver.prototxt").write_text(str(caffe_pb2.SolverParameter(**fields)))
    return caffe.get_solver(str(folder / "solver.prototxt"))


def test_32s_fixed_changes_nothing_but_its_score_layer(folder: Path) -> None:
    solver = solver_of("32s-fixed", folder, 1e-4)
    solver.net.copy_from(str(random_weights("vgg16", folder)))
    surgery.interp(solver.net, ["upscore"])
    feed(solver.net)
    before = {name: [blob.data.copy() for blob in blobs] for name, blobs in solver.net.params.items()}
    solver.step(3)
    for name, blobs in solver.net.params.items():
        for old, blob in zip(before[name], blobs, strict=True):
            assert np.array_equal(old, blob.data) == (name != "score_fr"), name


def test_the_twofold_interpolation_learns_and_the_last_does_not(folder: Path) -> None:
    variant = VARIANTS["voc-fcn-ablations/learned-interpolation"]
    solver = solver_of("learned-interpolation", folder, 1e-3)
    start_of("voc-fcn-ablations/learned-interpolation")(
        solver.net, *[str(random_weights(name, folder)) for name in variant.starts_from]
    )
    feed(solver.net)
    before = {name: solver.net.params[name][0].data.copy() for name in ("upscore2", "upscore_pool4", "upscore8")}
    for name, kernels in before.items():
        assert np.allclose(kernels[0, 0], surgery.upsample_filt(kernels.shape[-1])), name
    solver.step(1)
    moved = {name: np.abs(solver.net.params[name][0].data - kernels).max() for name, kernels in before.items()}
    assert moved["upscore8"] == 0
    assert 1e-3 < moved["upscore2"] < np.inf
    assert 1e-3 < moved["upscore_pool4"] < np.inf


@pytest.fixture
def solve() -> dict[str, Any]:
    """The names of voc-fcn-ablations/solve.py."""
    return runpy.run_path(str(ROOT / "voc-fcn-ablations/solve.py"))


def test_classes_are_balanced_by_the_inverse_of_their_frequency(
    solve: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"a": np.array([[0, 0, 0, 3]]), "b": np.array([[0, 3, 7, 255]])}
    expected = {0: 7 / (3 * 4), 3: 7 / (3 * 2), 7: 7 / (3 * 1)}  # 7 pixels of 3 classes
    param = with_inputs(ablation("class-balanced"))
    net = make(param, folder, caffe.TRAIN)
    reader = SimpleNamespace(ids=["a", "b"], truth=lambda image_id: labels[image_id].astype(np.uint8))
    monkeypatch.setattr(passes, "data_layer", lambda net: ("data", reader))
    weights = random_weights("vgg16", folder)
    solve["start"](net, str(weights))
    from_it = make(lookup("voc-fcn32s").net(voc.DEPLOY, thin=THIN), folder)
    from_it.copy_from(str(weights))
    assert np.array_equal(net.params["conv1_1"][0].data, from_it.params["conv1_1"][0].data)
    assert "labels of 2 images" in capsys.readouterr().out
    matrix = net.params["class_weights"][0].data
    assert {i: matrix[i, i] for i in range(21) if matrix[i, i]} == pytest.approx(expected)
    assert np.count_nonzero(matrix) == 3
    # Over all pixels that are not void the weights' mean is 1.
    assert 4 * matrix[0, 0] + 2 * matrix[3, 3] + matrix[7, 7] == pytest.approx(7)

    # The loss is the softmax's, each pixel's times its weight.
    feed(net)
    net.blobs["label"].data[...] = np.random.default_rng(5).choice([0, 3, 7, 255], net.blobs["label"].data.shape)
    net.params["score_fr"][1].data[...] = np.arange(21) / 10
    loss = loss_of(net)
    net.backward()
    scores, label = net.blobs["score"].data[0].astype(np.float64), net.blobs["label"].data[0, 0].astype(int)
    logs = scores - np.log(np.exp(scores).sum(0))
    weights = np.array([expected.get(i, 0) for i in range(256)])[label]
    at_label = np.take_along_axis(logs, np.minimum(label, 20)[np.newaxis], 0)[0]
    assert loss == pytest.approx(-(weights * at_label).sum(), rel=1e-5)
    onehot = label == np.arange(21)[:, np.newaxis, np.newaxis]
    assert np.allclose(net.blobs["score"].diff[0], weights * (np.exp(logs) - onehot), atol=1e-5)
    assert not net.params["class_weights"][0].diff.any()


def test_scores_fuse_by_the_maximum(folder: Path) -> None:
    net = make(ablation("max-fusion", voc.DEPLOY), folder)
    net.copy_from(str(random_weights("voc-fcn16s", folder)))
    surgery.interp(net, [layer for layer in net.params if "up" in layer])
    net.blobs["data"].reshape(1, 3, *SIZE)
    net.blobs["data"].data[...] = np.random.default_rng(6).standard_normal((1, 3, *SIZE))
    net.forward()
    a, b = net.blobs["upscore2"].data, net.blobs["score_pool4c"].data
    assert (a > b).any() and (a < b).any()
    assert np.array_equal(net.blobs["fuse_pool4"].data, np.maximum(a, b))
