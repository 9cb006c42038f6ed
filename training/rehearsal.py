"""Rehearsals: a whole experiment, end to end, in a minute, before anything is fetched (solve.py --rehearse).

A rehearsal trains the experiment's own nets, a sixteenth as wide, on the generated data, from random weights in the
place of the files that it starts from, at a learning rate found for it. All else is the experiment's: how its nets are
filled, its data layers, its solver, its scoring. It lies in one folder, which the next one replaces:

    OUT/rehearsal.json              what was rehearsed, and the loss that it began with
    OUT/EXPERIMENT/*.prototxt       the nets and the solver as rehearsed; those of the experiments that it starts from
    OUT/starts-from/*.caffemodel    the random weights
    OUT/...                         what every run leaves, see train.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from datasets import shapes
from datasets.generated import LAYOUTS
from files.writing import write_text
from nets import experiments
from nets.bases import BASES
from nets.convolutionalize import convolutional_net
from nets.definition import Experiment
from nets.folders import REHEARSAL, ROOT, data_folder, read_net
from nets.loading import load
from reading.data_layers import data_layers
from training.settings import Settings, read_prototxt

# What the trunks' channels are divided by.
THIN = 16

ITERATIONS = 200

# The most passes of an iteration: a solver that accumulates over 20 images does so over these.
PASSES = 2

# By how much of itself the loss is to fall in a rehearsal, as far as the gradient at its start can tell, and over how
# many images that gradient is measured.
FALL = 0.8
MEASURED = 4

# The root mean square of an image's pixels, and of every random layer's values. Features of the order of pixels, as
# VGG16's are, let the score layers learn faster than the trunk: with smaller ones, the first layers run away.
NOISE = 60
FEATURES = 30

# The layout of the generated data that each data layer reads.
LAYOUT_OF = {
    "SBDDSegDataLayer": "voc",
    "VOCSegDataLayer": "voc",
    "NYUDSegDataLayer": "nyud",
    "SIFTFlowSegDataLayer": "siftflow",
    "PASCALContextSegDataLayer": "pascalcontext",
}


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal that is ready to run: in `folder`, from `files`, with the datasets in `data`."""

    folder: Path
    files: list[str]
    data: Path


def prepare(name: str, out: Path, seed: int, data: Path | None = None) -> Rehearsal:
    """Write the nets, the solver (without its rate yet) and the random weights of an experiment's rehearsal.

    name: one of nets.experiments. out: the folder; a rehearsal that is there is removed, anything else stays. seed: of
    the weights. data: the folder of data; the generated data is made in it if it is not there. Raises ValueError where
    the experiment cannot be rehearsed, OSError and DatasetError where something cannot be written.
    """
    experiment = experiments.lookup(name)
    if (out / REHEARSAL).is_file():
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    write_note(out, experiment=name)
    folder = out / name
    prototxts = experiments.write(name, out, THIN)
    solver = folder / "solver.prototxt"
    if experiment.solver is None:
        shutil.copyfile(ROOT / name / "solver.prototxt", solver)
    made = _generated_data(prototxts, data_folder(data).resolve())

    rng = np.random.default_rng(seed)
    files = []
    for origin in experiment.starts_from:
        if origin in experiments.all_names():
            experiments.write(origin, out, THIN)  # A start may look at the nets of the experiments before.
        net = load(_base_net(origin))
        _fill(net, rng)
        path = out / "starts-from" / f"{origin.replace('/', '-')}.caffemodel"
        path.parent.mkdir(exist_ok=True)
        net.save(str(path))
        files.append(str(path))
    return Rehearsal(folder, files, made)


def choose_rate(start: Callable[..., object], rehearsal: Rehearsal, iterations: int, seed: int) -> tuple[float, float]:
    """Put a rate for thin nets into a rehearsal's solver.prototxt; return it and the loss.

    Published rates are for trained trunks, losses of their own normalisation, and 100,000 iterations. This one is
    measured. In N iterations of momentum m, at a constant gradient g (each parameter's times the root of its lr_mult),
    the parameters move by rate * d * g,

        d = (N - m (1 - m^N) / (1 - m)) / (1 - m)

    and the loss falls by rate * d * |g|^2, to first order. The rate is the one with which that is FALL of the loss at
    the start, in whatever unit the loss and so the gradient are: a sum over an image, a mean, or two losses. |g|^2 is
    the mean over some images, so that images that contradict each other make the rate smaller. Raises ValueError where
    nothing has a gradient.
    """
    settings = Settings(rehearsal.folder, rehearsal.data)
    solver = settings.solver
    caffe.set_random_seed(seed)
    net = load(settings.train_net, caffe.TRAIN)
    start(net, *rehearsal.files)
    learned = list(_learned(net, settings.train_net))
    loss = square = 0.0
    for _ in range(MEASURED):
        loss += _loss(net) / MEASURED
        net.backward()
        for blob, multiplier in learned:
            square += multiplier * float((blob.diff.astype(np.float64) ** 2).sum()) / MEASURED
            blob.diff[...] = 0  # What the next pass has is added.
    if not square > 0:
        learning = rehearsal.folder / (solver.train_net or solver.net)
        raise ValueError(f"Nothing in {learning} has a gradient: there is nothing to learn.")
    m = solver.momentum
    steps = max(iterations, 1)
    distance = (steps - m * (1 - m**steps) / (1 - m)) / (1 - m)
    solver.base_lr = FALL * loss / (distance * square)
    solver.iter_size = min(solver.iter_size, PASSES)
    solver.random_seed = seed  # A rehearsal is the same each time.
    write_text(rehearsal.folder / "solver.prototxt", text_format.MessageToString(solver))
    return solver.base_lr, loss


def _loss(net: caffe.Net) -> float:
    """Return a net's loss on its next image."""
    net.forward()
    return sum(weight * float(net.blobs[blob].data.sum()) for blob, weight in net.blob_loss_weights.items())


def conclude(out: Path, weights: Path) -> str:
    """Measure the loss once more, on the images that it was measured on before; note it, and return it in words."""
    solver = read_prototxt(out / "solver.prototxt", caffe_pb2.SolverParameter())
    net = caffe.Net(solver.train_net or solver.net, caffe.TRAIN, weights=str(weights))
    facts = json.loads((out / REHEARSAL).read_text(encoding="utf-8"))
    facts["loss_after"] = sum(_loss(net) for _ in range(MEASURED)) / MEASURED
    write_note(out, **facts)
    before, after = facts["loss"], facts["loss_after"]
    return f"Rehearsed: the loss {'fell' if after < before else 'DID NOT FALL'}, from {before:.5g} to {after:.5g}."


def write_note(out: Path, **facts: Any) -> None:
    """Write rehearsal.json, by which the folder is known for one that the next rehearsal may replace."""
    write_text(out / REHEARSAL, json.dumps(facts, indent=1) + "\n")


def _learned(net: caffe.Net, param: Any) -> Iterable[tuple[Any, float]]:
    """Give each parameter blob that learns, with its lr_mult; param: the NetParameter that the net was made of."""
    for layer in param.layer:
        for i in range(len(net.params[layer.name]) if layer.name in net.params else 0):
            multiplier = layer.param[i].lr_mult if i < len(layer.param) else 1.0
            if multiplier:
                yield net.params[layer.name][i], multiplier


def _generated_data(prototxts: Iterable[Path], data: Path) -> Path:
    """Make the generated data that nets read in `data`, where it is not there; return what stands for data/."""
    layers = [layer for path in prototxts if path.name != "solver.prototxt" for layer in data_layers(read_net(path))]
    if all(layer.python_param.layer == "FolderSegDataLayer" for layer in layers):
        return data  # A dataset of one's own stands for itself.
    for layer in layers:
        if layer.python_param.layer not in LAYOUT_OF:
            raise ValueError(
                f"There is no generated data in the layout of {layer.python_param.layer}, so that this experiment "
                "cannot be rehearsed."
            )
    for layout in sorted({LAYOUT_OF[layer.python_param.layer] for layer in layers}):
        if not (data / "shapes" / LAYOUTS[layout].manifest).is_file():
            print(f"The generated images, which are not there yet, are made in {data / 'shapes'}.", flush=True)
            shapes.make(data / "shapes", layout=layout)
    # The demo's own nets look for it in data/shapes, all others are to take it for data/.
    return data if any("data/shapes" in layer.python_param.param_str for layer in layers) else data / "shapes"


def _base_net(origin: str) -> Any:
    """Return the net, thin, of what an experiment starts from: a classifier's trunk, or another experiment's net."""
    if origin in BASES:
        return convolutional_net(BASES[origin], THIN)
    earlier: Experiment = experiments.lookup(origin)
    return earlier.net(earlier.splits["deploy.prototxt"], thin=THIN)


def _fill(net: caffe.Net, rng: np.random.Generator) -> None:
    """Fill a net's convolutions at random; score layers stay at zero, as the experiments start them.

    Filters are scaled so that, of an image of noise, each layer's values are of one size: in nets of a few channels,
    chance would else have features grow a thousandfold or die out. A channel that is hardly ever positive, and so dead
    behind its ReLU, is turned round.
    """
    for name in net.inputs:
        _, channels, _, _ = net.blobs[name].shape
        cells = NOISE * rng.standard_normal((channels, 12, 12))
        image = np.kron(cells, np.ones((8, 8)))
        net.blobs[name].reshape(1, *image.shape)
        net.blobs[name].data[...] = image
    names = list(net.top_names)
    done = -1
    for i, name in enumerate(names):
        if net.layers[i].type != "Convolution" or name.startswith("score"):
            continue
        weights = net.params[name][0]
        weights.data[...] = rng.standard_normal(tuple(weights.shape))
        net.forward(start=names[done + 1], end=name)
        values = net.blobs[net.top_names[name][0]].data
        # Of the padding around an image comes nothing but zeros, which say nothing of the image.
        weights.data[...] *= FEATURES / np.sqrt(np.mean(values[values != 0] ** 2))
        alive = (values > 0).sum((0, 2, 3)) > 0.1 * (values != 0).sum((0, 2, 3))
        weights.data[~alive] *= -1
        net.forward(start=name, end=name)
        done = i
