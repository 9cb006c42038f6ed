"""Fine-tuning: a net trained on the digits learns the capital letters from four pictures of each.

    python examples/fine_tuning.py [FOLDER]

Three things make a fine-tuning in Caffe:

* The weights are copied by layer name: `solver.net.copy_from(weights)`, or `weights: "..."` in the solver, or
  `caffe train -weights`. Layers that the file does not know keep what their fillers gave them.
* The last layer has another name than in the file, since the classes are others. Under the old name its shape would
  not fit, and that is an error.
* `lr_mult` says how fast each parameter learns: here the copied layers at 0.1 of the solver's rate, the new one at its
  full rate. 0 freezes a parameter, and nothing below the lowest one that learns is computed backward.

This example draws digits, trains a net on them, and trains a second net on four pictures of each letter, once from the
digits' weights and once from nothing. It prints the accuracy of both on 520 other pictures.

The published counterpart is BVLC Caffe's fine-tuning of CaffeNet on photos of Flickr's styles. FOLDER keeps the
prototxts and the weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import caffe
from caffe import layers as L
from caffe import params as P

DIGITS, LETTERS = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BATCH = 40


def draw(character: str, rng: np.random.Generator) -> np.ndarray:
    """Return a character as 28 x 28 values from 0 to 1, with random size, angle, place and noise."""
    canvas = Image.new("L", (60, 60))
    ImageDraw.Draw(canvas).text((20, 20), character, fill=255, font=ImageFont.load_default())
    glyph = canvas.crop(canvas.getbbox())
    height = int(rng.integers(15, 21))
    glyph = glyph.resize((max(4, glyph.width * height // glyph.height), height), Image.Resampling.BILINEAR)
    picture = Image.new("L", (28, 28))
    left, upper = (int((28 - side) / 2 + rng.integers(-3, 4)) for side in glyph.size)
    picture.paste(glyph, (left, upper))
    picture = picture.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.float32) / 255 + rng.normal(0, 0.1, (28, 28)).astype(np.float32)


def pictures(characters: str, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return `number` pictures, N x 1 x 28 x 28, of the characters in turn, and their labels, N."""
    labels = np.arange(number) % len(characters)
    return np.stack([draw(characters[label], rng)[None] for label in labels]), labels


def classifier(classes: int, last_layer: str, copied_lr: float) -> str:
    """Return the prototxt of a classifier whose layers but the last learn at `copied_lr` of the solver's rate."""
    copied = {"param": [{"lr_mult": copied_lr}] * 2, "weight_filler": {"type": "msra"}}
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [BATCH, 1, 28, 28]})
    n.label = L.Input(shape={"dim": [BATCH]})
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=12, **copied)
    n.pool1 = L.Pooling(L.ReLU(n.conv1, in_place=True), pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=24, **copied)
    n.pool2 = L.Pooling(L.ReLU(n.conv2, in_place=True), pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.fc = L.InnerProduct(n.pool2, num_output=64, **copied)
    n.relu = L.ReLU(n.fc, in_place=True)
    n[last_layer] = L.InnerProduct(n.relu, num_output=classes, weight_filler={"type": "xavier"})
    n.loss = L.SoftmaxWithLoss(n[last_layer], n.label)
    n.accuracy = L.Accuracy(n[last_layer], n.label)
    return str(n.to_proto())


def make_solver(folder: Path, name: str, net: str, base_lr: float) -> caffe.SGDSolver:
    """Write a net and its solver, and build it."""
    (folder / f"{name}.prototxt").write_text(net)
    (folder / f"{name}_solver.prototxt").write_text(
        f'train_net: "{folder / name}.prototxt"\nbase_lr: {base_lr}\nmomentum: 0.9\nweight_decay: 0.0005\n'
        'lr_policy: "fixed"\nrandom_seed: 1\n'
    )
    return caffe.SGDSolver(str(folder / f"{name}_solver.prototxt"))


def train(solver: caffe.SGDSolver, images: np.ndarray, labels: np.ndarray, steps: int) -> None:
    """Take `steps` steps, each on a random batch of the pictures."""
    rng = np.random.default_rng(2)
    for _ in range(steps):
        batch = rng.permutation(len(images))[:BATCH]
        solver.net.blobs["data"].data[...] = images[batch]
        solver.net.blobs["label"].data[...] = labels[batch]
        solver.step(1)


def accuracy(net: caffe.Net, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the part of the pictures that the net classifies rightly; their number is a multiple of the batch."""
    right = []
    for i in range(0, len(images), BATCH):
        outputs = net.forward(data=images[i : i + BATCH], label=labels[i : i + BATCH])
        right.append(float(outputs["accuracy"]))  # a number: the array itself is overwritten by the next forward
    return float(np.mean(right))


def main(folder: Path) -> None:
    """Train on digits; train on letters, with and without what was learned there."""
    caffe.init_log(2)  # errors only; without this line, Caffe's log
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)

    digits = make_solver(folder, "digits", classifier(len(DIGITS), "score", copied_lr=1), base_lr=0.02)
    train(digits, *pictures(DIGITS, 1000, rng), steps=200)
    print(f"digits, trained on 1000 pictures: accuracy {accuracy(digits.net, *pictures(DIGITS, 400, rng)):.3f}")
    digits.net.save(str(folder / "digits.caffemodel"))

    few, others = pictures(LETTERS, 104, rng), pictures(LETTERS, 520, rng)
    net = classifier(len(LETTERS), "score_letters", copied_lr=0.1)
    tuned = make_solver(folder, "letters", net, base_lr=0.02)
    tuned.net.copy_from(str(folder / "digits.caffemodel"))
    assert np.array_equal(tuned.net.params["conv1"][0].data, digits.net.params["conv1"][0].data)
    train(tuned, *few, steps=60)
    print(f"letters, fine-tuned on 104 pictures: accuracy {accuracy(tuned.net, *others):.3f}")

    net = classifier(len(LETTERS), "score_letters", copied_lr=1)
    scratch = make_solver(folder, "letters_from_scratch", net, base_lr=0.02)
    train(scratch, *few, steps=60)
    print(f"letters, from scratch on the same 104: accuracy {accuracy(scratch.net, *others):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="keeps the prototxts and the weights")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(args.folder or Path(scratch))
