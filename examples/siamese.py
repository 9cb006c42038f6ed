"""A siamese net: two branches with the same weights learn which pictures show the same digit.

    python examples/siamese.py [FOLDER]

Layers whose parameters bear the same name share them. Each branch is written out in the prototxt, and

    param { name: "conv1_w" lr_mult: 1 }   param { name: "conv1_b" lr_mult: 2 }

stands in both: there is one weight, its gradient is the sum of both branches', and the solver updates it once. A pair
comes in as one picture of two channels, which Slice cuts in two. ContrastiveLoss pulls the features of a pair with
similarity 1 together, and pushes those of a pair with similarity 0 apart until their distance is the margin.

The example draws the digits, trains on pairs, and then classifies single pictures by the nearest of ten mean features,
with the plain net that has one branch only and takes its weights by layer name.

The published counterpart is BVLC Caffe's siamese net on MNIST; the idea is Hadsell, Chopra and LeCun, CVPR 2006. FOLDER
keeps the prototxts and the weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import caffe
from caffe import layers as L
from caffe import params as P

BATCH, FEATURES, STEPS = 64, 4, 250


def draw(character: str, rng: np.random.Generator) -> np.ndarray:
    """Return a character as 28 x 28 values from 0 to 1, with random size, angle, place and noise."""
    canvas = Image.new("L", (60, 60))
    ImageDraw.Draw(canvas).text((20, 20), character, fill=255, font=ImageFont.load_default())
    glyph = canvas.crop(canvas.getbbox())
    height = int(rng.integers(16, 21))
    glyph = glyph.resize((max(4, glyph.width * height // glyph.height), height), Image.Resampling.BILINEAR)
    picture = Image.new("L", (28, 28))
    left, upper = (int((28 - side) / 2 + rng.integers(-2, 3)) for side in glyph.size)
    picture.paste(glyph, (left, upper))
    picture = picture.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.float32) / 255 + rng.normal(0, 0.1, (28, 28)).astype(np.float32)


def pictures(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures of the ten digits in turn, N x 1 x 28 x 28, and which digits they are."""
    labels = np.arange(number) % 10
    return np.stack([draw(str(label), rng)[None] for label in labels]), labels


def branch(n: caffe.NetSpec, bottom: Any, ending: str) -> None:
    """Add one branch; its layers' names end in `ending`, their parameters' names are the same in every branch."""

    def shared(layer: str) -> dict[str, object]:
        param = [{"name": f"{layer}_w", "lr_mult": 1}, {"name": f"{layer}_b", "lr_mult": 2}]
        return {"param": param, "weight_filler": {"type": "msra"}}

    def name(layer: str) -> str:
        return f"{layer}{ending}"

    n[name("conv1")] = L.Convolution(bottom, kernel_size=5, num_output=12, **shared("conv1"))
    n[name("relu1")] = L.ReLU(n[name("conv1")], in_place=True)
    n[name("pool1")] = L.Pooling(n[name("relu1")], pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n[name("conv2")] = L.Convolution(n[name("pool1")], kernel_size=5, num_output=24, **shared("conv2"))
    n[name("relu2")] = L.ReLU(n[name("conv2")], in_place=True)
    n[name("pool2")] = L.Pooling(n[name("relu2")], pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n[name("fc")] = L.InnerProduct(n[name("pool2")], num_output=64, **shared("fc"))
    n[name("relu3")] = L.ReLU(n[name("fc")], in_place=True)
    n[name("feature")] = L.InnerProduct(n[name("relu3")], num_output=FEATURES, **shared("feature"))


def pair_net() -> str:
    """Return the prototxt of the net that is trained: two branches and the loss."""
    n = caffe.NetSpec()
    n.pair = L.Input(shape={"dim": [BATCH, 2, 28, 28]})
    n.similarity = L.Input(shape={"dim": [BATCH]})
    n.data, n.data_p = L.Slice(n.pair, ntop=2, axis=1, slice_point=1)
    branch(n, n.data, "")
    branch(n, n.data_p, "_p")
    n.loss = L.ContrastiveLoss(n.feature, n.feature_p, n.similarity, margin=1)
    return str(n.to_proto())


def feature_net() -> str:
    """Return the prototxt of one branch alone, for pictures one by one."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [BATCH, 1, 28, 28]})
    branch(n, n.data, "")
    return str(n.to_proto())


def pairs(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch of pairs, N x 2 x 28 x 28, half of them of one digit, and their similarity, 1 or 0."""
    first = rng.integers(len(images), size=BATCH)
    second = np.array([rng.choice(np.flatnonzero((labels == labels[i]) == (k % 2 == 0))) for k, i in enumerate(first)])
    return np.concatenate([images[first], images[second]], axis=1), labels[first] == labels[second]


def main(folder: Path) -> None:
    """Train on pairs, show that the branches are one, and classify by the nearest mean."""
    caffe.init_log(2)  # errors only; without this line, Caffe's log
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pairs.prototxt").write_text(pair_net())
    (folder / "feature.prototxt").write_text(feature_net())
    (folder / "solver.prototxt").write_text(
        f'train_net: "{folder / "pairs.prototxt"}"\nbase_lr: 0.01\nmomentum: 0.9\nlr_policy: "fixed"\nrandom_seed: 1\n'
    )
    rng = np.random.default_rng(1)
    images, labels = pictures(500, rng)
    solver = caffe.SGDSolver(str(folder / "solver.prototxt"))
    net = solver.net
    for step in range(STEPS):
        net.blobs["pair"].data[...], net.blobs["similarity"].data[...] = pairs(images, labels, rng)
        solver.step(1)
        if step in (0, STEPS - 1):
            print(f"step {step + 1}: loss {float(net.blobs['loss'].data):.4f}")
    same = all(
        np.array_equal(net.params[layer][i].data, net.params[f"{layer}_p"][i].data)
        for layer in ("conv1", "conv2", "fc", "feature")
        for i in (0, 1)
    )
    net.params["feature"][1].data[0] += 1  # to write into one is to write into the other
    shared = net.params["feature"][1].data[0] == net.params["feature_p"][1].data[0]
    net.params["feature"][1].data[0] -= 1
    print(f"the branches have equal weights: {same}; one memory: {shared}")
    net.save(str(folder / "siamese.caffemodel"))

    alone = caffe.Net(str(folder / "feature.prototxt"), str(folder / "siamese.caffemodel"), caffe.TEST)
    means = alone.forward_all(data=images)["feature"].reshape(-1, 10, FEATURES).mean(0)  # digits come in turn
    others, truth = pictures(300, rng)
    features = alone.forward_all(data=others)["feature"]
    distances = np.linalg.norm(features[:, None] - means[None], axis=2)
    print(f"300 other pictures, the nearest of ten means: accuracy {np.mean(distances.argmin(1) == truth):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="keeps the prototxts and the weights")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(args.folder or Path(scratch))
