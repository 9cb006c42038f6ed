"""The experiments' solvers, what is said of them, how they start, and that their nets learn."""

from __future__ import annotations

import ast
import math
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import published
import surgery
import train
from caffe.proto import caffe_pb2
from datasets.catalogue import CATALOGUE
from nets import folders, starts
from nets.bases import BASES
from nets.convolutionalize import convolutional_net
from nets.experiments import EXPERIMENTS, ROOT, all_names, lookup
from nets.recipes import Variant

THIN = 16
HEIGHT, WIDTH = 40, 56
HEADS = {"score": "label", "score_sem": "sem", "score_geo": "geo"}
BASE_FILES = {"vgg16": "vgg16-fcn", "alexnet": "alexnet-fcn", "googlenet": "bvlc_googlenet"}


def solver(name: str) -> Any:
    return text_format.Parse((ROOT / name / "solver.prototxt").read_text(), caffe_pb2.SolverParameter())


def training_file(name: str) -> str:
    return next(iter(EXPERIMENTS[name].splits))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """What an experiment's solve.py asks train.run for."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # each solve.py puts the root before it
    kept: dict[str, Any] = {}
    monkeypatch.setattr(
        train, "run", lambda script, manual, **asked: kept.update(script=script, manual=manual, **asked)
    )

    def ask(name: str) -> dict[str, Any]:
        kept.clear()
        runpy.run_path(str(ROOT / name / "solve.py"), run_name="__main__")
        return dict(kept)

    return ask


# The solvers


@pytest.mark.parametrize(
    ("name", "base_lr", "max_iter", "snapshot", "test_iter"),
    [
        ("voc-fcn32s", 1e-10, 100_000, 4000, 736),
        ("voc-fcn16s", 1e-12, 100_000, 4000, 736),
        ("voc-fcn8s", 1e-14, 100_000, 4000, 736),
        ("voc-fcn8s-atonce", 1e-10, 300_000, 4000, 736),
        ("voc-fcn-alexnet", 1e-4, 100_000, 4000, 736),
        ("voc-fcn-googlenet", 5e-11, 100_000, 4000, 736),
        ("nyud-fcn/color-32s", 1e-10, 300_000, 2000, 654),
        ("nyud-fcn/hha-32s", 1e-10, 300_000, 2000, 654),
        ("nyud-fcn/color-d-32s", 1e-10, 300_000, 2000, 654),
        ("nyud-fcn/color-hha-32s", 1e-12, 300_000, 2000, 654),
        ("nyud-fcn/color-hha-16s", 1e-14, 300_000, 2000, 654),
        ("siftflow-fcn/32s", 1e-10, 300_000, 2000, 200),
        ("siftflow-fcn/16s", 1e-12, 300_000, 2000, 200),
        ("siftflow-fcn/8s", 1e-12, 300_000, 2000, 200),
        ("pascalcontext-fcn/32s", 1e-10, 300_000, 4000, 5105),
        ("pascalcontext-fcn/16s", 1e-12, 300_000, 4000, 5105),
        ("pascalcontext-fcn/8s", 1e-14, 300_000, 4000, 5105),
    ],
)
def test_solvers_are_the_reference_s(name: str, base_lr: float, max_iter: int, snapshot: int, test_iter: int) -> None:
    accumulated = name == "voc-fcn-alexnet"
    expected = caffe_pb2.SolverParameter(
        train_net=training_file(name),
        test_net=[list(EXPERIMENTS[name].splits)[1]],
        test_iter=[test_iter],
        test_interval=999999999,
        test_initialization=False,
        display=20,
        average_loss=20,
        lr_policy="fixed",
        base_lr=base_lr,
        momentum=0.9 if accumulated else 0.99,
        iter_size=20 if accumulated else 1,
        max_iter=max_iter,
        weight_decay=0.0005,
        snapshot=snapshot,
        snapshot_prefix="snapshot/train",
    )
    assert solver(name) == expected


@pytest.mark.parametrize(
    ("name", "base_lr", "max_iter"),
    [("shapes-fcn/32s", 0.01, 4800), ("shapes-fcn/16s", 0.005, 2000), ("shapes-fcn/8s", 0.005, 1600)],
)
def test_demo_solvers_take_poly_steps_and_snapshot_at_the_end(name: str, base_lr: float, max_iter: int) -> None:
    param = solver(name)
    assert (param.lr_policy, param.max_iter) == ("poly", max_iter)
    assert (param.base_lr, param.power, param.momentum, param.weight_decay) == pytest.approx(
        (base_lr, 0.9, 0.9, 0.0005)
    )
    assert param.max_iter % param.snapshot == 0  # step() writes no snapshot of its own at the end
    assert (param.random_seed >= 0, list(param.test_iter), param.test_initialization) == (True, [200], False)


# What an experiment is, and what its solve.py says of it


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_scores_the_split_of_its_test_net_and_its_solve_py_says_what_it_does(
    name: str, asked: Callable[[str], dict[str, Any]]
) -> None:
    run = asked(name)
    settings = solver(name)
    iterations = EXPERIMENTS[name].iterations
    loops = {"nyud-fcn": 100_000, "siftflow-fcn": 100_000, "pascalcontext-fcn": 400_000}
    assert iterations == loops.get(name.split("/", 1)[0], settings.max_iter)
    assert settings.max_iter == (EXPERIMENTS[name].max_iter or iterations)
    assert EXPERIMENTS[name].total(settings.max_iter) == iterations
    assert run["script"] == str(ROOT / name / "solve.py")
    reads = folders.data_settings(ROOT / name / settings.test_net[0])
    assert EXPERIMENTS[name].split == reads["split"]
    assert EXPERIMENTS[name].score_every % settings.snapshot == 0 and iterations % settings.snapshot == 0
    assert f"cd {name} && python solve.py" in run["manual"]
    said = " ".join(run["manual"].split())
    assert f"{iterations:,} iterations" in said
    if not name.startswith("shapes-fcn"):
        assert f"every {EXPERIMENTS[name].score_every:,}" in said
    assert "To expect" in run["manual"]


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if not name.startswith("shapes-fcn")])
def test_how_long_an_experiment_is_trained_is_the_same_wherever_it_is_said(name: str) -> None:
    iterations = EXPERIMENTS[name].iterations
    lines = (ROOT / name / "solver.prototxt").read_text(encoding="utf-8").splitlines()
    many = "iterations of 20 images" if name == "voc-fcn-alexnet" else "images, one at a time"
    assert f": {iterations:,} {many}." in lines[0]
    loops = [re.search(r"loop (?:stops at|goes on to) ([\d,]+) iterations", line) for line in lines]
    said = [int(loop[1].replace(",", "")) for loop in loops if loop]
    assert said in ([iterations], []) if EXPERIMENTS[name].max_iter else said == []


def test_the_rows_of_one_sequence_of_images_see_as_many() -> None:
    table = published.TABLES["pami2"]
    assert "100,000 images" in table.note
    for row in table.rows:
        experiment = lookup(row.experiment)
        iter_size = experiment.solver["iter_size"] if experiment.solver else solver(row.experiment).iter_size
        assert experiment.iterations * iter_size == 100_000


def test_a_solver_that_somebody_changed_is_heeded() -> None:
    assert EXPERIMENTS["voc-fcn32s"].total(50_000) == 50_000
    assert EXPERIMENTS["nyud-fcn/color-32s"].total(300_000) == 100_000
    assert EXPERIMENTS["nyud-fcn/color-32s"].total(20_000) == 20_000


@pytest.mark.parametrize("name", BASES)
def test_a_base_s_files_are_those_that_are_fetched(name: str) -> None:
    base = BASES[name]
    assert base.name == name
    assert CATALOGUE[base.fetch].path == f"ilsvrc-nets/{base.source}"
    assert (base.source == base.weights) == (not base.inner_products)
    layers = {layer.name for layer in convolutional_net(base, THIN).layer}
    assert set(base.inner_products) <= layers


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_solve_py_has_its_manual_its_start_and_one_call(name: str, asked: Callable[[str], dict[str, Any]]) -> None:
    """No fact: all of them are the Experiment's."""
    assert set(asked(name)) == {"script", "manual", "start"}
    tree = ast.parse((ROOT / name / "solve.py").read_text(encoding="utf-8"))
    (start,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert start.name == "start"
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, int)]
    assert numbers == [0, len(Path(name).parts)]  # of sys.path.insert: how many folders lie between it and the root


def test_nobody_reads_a_solve_py_to_learn_facts() -> None:
    """A package may name it in a command or write one, but neither parses nor runs it."""
    for package in ("nets", "published", "training", "scoring", "reading", "datasets"):
        for path in (ROOT / package).glob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.Name))}
            imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            assert not used & {"ast.parse", "exec", "eval", "compile", "__import__"}, path
            assert not imported & {"runpy", "importlib", "importlib.util"}, path


@pytest.mark.parametrize("name", [name for name in all_names() if lookup(name).published])
def test_what_an_experiment_s_text_expects_is_its_published_row(
    name: str, asked: Callable[[str], dict[str, Any]]
) -> None:
    experiment = lookup(name)
    ((table, row),) = published.find(experiment.published)
    assert row.experiment == name
    if isinstance(experiment, Variant):
        # Every number of one decimal place is that of a row, and the row's own mean IU is among them.
        said = re.findall(r"(?<![\d.])\d\d\.\d(?!\d)", experiment.about)
        rows = [other for other in table.rows if other.experiment in (name, row.experiment)]
        known = {f"{value:.1f}" for other in rows for value in other.published.values()}
        assert set(said) <= known
        assert not said or f"{row.published['mean_iu']:.1f}" in said
    else:
        said = " ".join(asked(name)["manual"].split()).partition("To expect")[2]
        for column in table.columns:
            if column.key in row.published:
                assert f"{row.published[column.key]:.1f}" in said, column.key


@pytest.mark.parametrize("name", all_names())
def test_what_an_experiment_starts_from_has_its_place_and_how_to_get_it_is_true(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FCN_DATA", raising=False)
    monkeypatch.delenv("FCN_RESULTS", raising=False)
    folder = ROOT / name
    expected = []
    for source in lookup(name).starts_from:
        if source in BASE_FILES:
            path = ROOT / f"data/ilsvrc-nets/{BASE_FILES[source]}.caffemodel"
        else:
            path = ROOT / source / f"snapshot/train_iter_{lookup(source).iterations}.caffemodel"
        expected.append(path)
    assert starts.files(lookup(name), folder) == expected
    obtain = starts.obtain(lookup(name), folder)
    assert bool(obtain) == bool(expected)
    for path in re.findall(r"cd (\S+)", obtain):
        assert (folder / path / "nets").is_dir() or (folder / path / "solve.py").is_file()
    for command in re.findall(r"datasets fetch ([^&,]+?)(?: &&|,|$)", obtain):
        sources = [CATALOGUE[source] for source in command.split()]
        for named in re.findall(r"--weights (.+)", obtain):
            released = [ROOT / "data" / source.path for source in sources]
            assert [(folder / file).resolve() for file in named.split()] == released


# How they start


def with_inputs(net: Any) -> Any:
    """A training net whose data layer is replaced by inputs of one small image."""
    param = caffe_pb2.NetParameter()
    for layer in net.layer:
        if layer.type == "Python":
            for top in layer.top:
                channels = {"data": 3, "color": 3, "hha": 3}.get(top, 1)
                shape = caffe_pb2.BlobShape(dim=[1, channels, HEIGHT, WIDTH])
                param.layer.add(name=top, type="Input", top=[top]).input_param.shape.append(shape)
        else:
            param.layer.add().CopyFrom(layer)
    return param


def made(net: Any, folder: Path, phase: int = caffe.TEST) -> caffe.Net:
    path = folder / "net.prototxt"
    path.write_text(text_format.MessageToString(net))
    return caffe.Net(str(path), phase)


def training_net(name: str, folder: Path) -> caffe.Net:
    experiment = EXPERIMENTS[name]
    return made(with_inputs(experiment.net(experiment.splits[training_file(name)], thin=THIN)), folder, caffe.TRAIN)


def source_net(name: str, folder: Path) -> caffe.Net:
    """A base net or an experiment's, with random weights by which signals keep their size and few ReLUs are dead."""
    if name in BASES:
        net = made(convolutional_net(BASES[name], THIN), folder)
    else:
        net = training_net(name, folder)
    rng = np.random.default_rng(len(name))
    for blobs in net.params.values():
        shape = blobs[0].data.shape
        blobs[0].data[...] = rng.normal(0, math.sqrt(0.25 / np.prod(shape[1:])), shape)
        if len(blobs) > 1:
            blobs[1].data[...] = rng.uniform(1, 2, blobs[1].data.shape)
    return net


Started = Callable[[str], tuple[caffe.Net, list[caffe.Net]]]


@pytest.fixture
def started(asked: Callable[[str], dict[str, Any]], tmp_path: Path) -> Started:
    """A thin training net of an experiment as its solve.py starts it, and the nets that it starts from."""

    def begin(name: str) -> tuple[caffe.Net, list[caffe.Net]]:
        sources, files = [], []
        for i, source in enumerate(EXPERIMENTS[name].starts_from):
            sources.append(source_net(source, tmp_path))
            files.append(str(tmp_path / f"{i}.caffemodel"))
            sources[-1].save(files[-1])
        net = training_net(name, tmp_path)
        asked(name)["start"](net, *files)
        return net, sources

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_run_starts_with_its_source_s_layers_new_scores_of_zero_and_bilinear_upsampling(
    name: str, started: Started
) -> None:
    net, sources = started(name)
    suffixes = ("color", "hha") if len(sources) == 2 else ("",)
    kept = {
        layer + suffix: blobs
        for source, suffix in zip(sources, suffixes, strict=False)
        for layer, blobs in source.params.items()
    }
    for layer, blobs in net.params.items():
        values = [blob.data for blob in blobs]
        if "up" in layer:
            for i, kernels in enumerate(values[0]):
                assert np.array_equal(kernels[i], surgery.upsample_filt(kernels.shape[-1]).astype(np.float32))
                assert not np.delete(kernels, i, axis=0).any()
        elif layer in kept:
            assert values[0].any()
            assert all(np.array_equal(a, b.data) for a, b in zip(values, kept[layer], strict=True))
        elif layer == "conv1_1_bgrd":
            filters, bias = (blob.data for blob in kept["conv1_1"])
            assert np.array_equal(values[0][:, :3], filters)
            np.testing.assert_allclose(values[0][:, 3], (filters[:, 0] + filters[:, 1] + filters[:, 2]) / 3, atol=1e-6)
            assert np.array_equal(values[1], bias)
        elif layer.startswith("scale_"):
            assert set(values[0]) == {np.float32({"scale_pool4": 0.01, "scale_pool3": 0.0001}[layer])}
        elif layer.startswith("score"):
            assert not any(value.any() for value in values)
        else:
            assert not EXPERIMENTS[name].starts_from, f"{layer} starts from nothing"
            assert values[0].any()  # the demo's own fillers


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_thin_net_of_every_experiment_runs_forward_and_backward(name: str, started: Started) -> None:
    net, _ = started(name)
    rng = np.random.default_rng(1)
    heads = {score: label for score, label in HEADS.items() if score in net.blobs}
    for blob in ("data", "color", "hha", "depth"):
        if blob in net.inputs:
            net.blobs[blob].data[...] = rng.normal(0, 1, net.blobs[blob].data.shape)
    for score, label in heads.items():
        assert net.blobs[score].data.shape[2:] == (HEIGHT, WIDTH)
        net.blobs[label].data[...] = rng.integers(0, net.blobs[score].data.shape[1], net.blobs[label].data.shape)
        net.blobs[label].data[:, :, :4] = 255
    scoring = [blobs for layer, blobs in net.params.items() if layer.startswith("score")]
    # With scores of zero, with which a run begins that starts from no FCN, every class is as likely.
    for blobs in scoring:
        for blob in blobs:
            blob.data[...] = 0
    out = net.forward()
    pixels = (HEIGHT - 4) * WIDTH
    means = name == "voc-fcn-alexnet" or name.startswith("shapes")
    for score, loss in zip(heads, sorted(out), strict=True):
        wanted = math.log(net.blobs[score].data.shape[1]) * (1 if means else pixels)
        assert out[loss] == pytest.approx(wanted, rel=1e-4)

    for blobs in scoring:
        blobs[0].data[...] = rng.normal(0, 0.01, blobs[0].data.shape)
    out = net.forward()
    assert all(np.isfinite(loss) and loss > 0 for loss in out.values())
    net.backward()
    for layer, blobs in net.params.items():
        fixed = "up" in layer or layer.startswith("scale_")
        for blob in blobs:
            assert np.isfinite(blob.diff).all()
            assert blob.diff.any() != fixed, layer
