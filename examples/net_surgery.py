"""Net surgery: a classifier cast into a fully convolutional net, which labels every place of a larger image.

    python examples/net_surgery.py [FOLDER]

An InnerProduct layer over C x H x W values is a Convolution with an H x W kernel: the same numbers, in another shape.
This example

1. trains a small classifier of 32 x 32 pictures (nothing, disc, square, cross), some seconds from scratch;
2. writes the same net with Convolution in place of InnerProduct, and moves the weights over by `.flat`;
3. runs it once on a 96 x 96 picture, which gives a 17 x 17 map of scores, four pixels apart;
4. proves the map: each of its 289 cells equals what the classifier says of the 32 x 32 crop at that place.

The published counterpart is BVLC Caffe's net surgery notebook, which casts CaffeNet; fully convolutional networks for
segmentation begin with this step. FOLDER keeps the prototxts and the weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import caffe
from caffe import layers as L
from caffe import params as P

CLASSES = ("nothing", "disc", "square", "cross")
SIZE, STRIDE, BATCH = 32, 4, 32


def draw_shape(canvas: ImageDraw.ImageDraw, kind: str, x: float, y: float, radius: float) -> None:
    """Draw a shape of that radius, in pixels, around (x, y)."""
    if kind == "disc":
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    elif kind == "square":
        canvas.rectangle((x - radius, y - radius, x + radius, y + radius), fill=255)
    elif kind == "cross":
        canvas.line((x - radius, y - radius, x + radius, y + radius), fill=255, width=4)
        canvas.line((x - radius, y + radius, x + radius, y - radius), fill=255, width=4)


def pictures(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one picture for each label: N x 1 x 32 x 32, values from 0 to 1, the shape in the middle.

    Most pictures of nothing show a shape at the border, so that the net learns to ask what is in the middle.
    """
    images = np.empty((len(labels), 1, SIZE, SIZE), np.float32)
    for image, label in zip(images, labels, strict=True):
        picture = Image.new("L", (SIZE, SIZE))
        kind = CLASSES[label] if label else CLASSES[rng.integers(len(CLASSES))]
        away = rng.uniform(9, 26) if label == 0 else rng.uniform(0, 3)
        angle = rng.uniform(0, 2 * np.pi)
        x, y = SIZE / 2 + away * np.cos(angle), SIZE / 2 + away * np.sin(angle)
        draw_shape(ImageDraw.Draw(picture), kind, x, y, rng.uniform(8, 11))
        image[0] = np.asarray(picture, np.float32) / 255
    return images + rng.normal(0, 0.05, images.shape).astype(np.float32)


def trunk(n: caffe.NetSpec) -> None:
    """Add the layers that both nets begin with: two convolutions, each with ReLU and pooling; 32 pixels become 5."""
    filler = {"type": "msra"}
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=8, weight_filler=filler)
    n.pool1 = L.Pooling(L.ReLU(n.conv1, in_place=True), pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=16, weight_filler=filler)
    n.pool2 = L.Pooling(L.ReLU(n.conv2, in_place=True), pool=P.Pooling.MAX, kernel_size=2, stride=2)


def classifier() -> str:
    """Return the prototxt of the classifier, with two InnerProduct layers and a loss that only training has."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [BATCH, 1, SIZE, SIZE]})
    n.label = L.Input(shape={"dim": [BATCH]}, include={"phase": caffe.TRAIN})
    trunk(n)
    n.fc1 = L.InnerProduct(n.pool2, num_output=32, weight_filler={"type": "msra"})
    n.relu_fc1 = L.ReLU(n.fc1, in_place=True)
    n.fc2 = L.InnerProduct(n.relu_fc1, num_output=len(CLASSES), weight_filler={"type": "msra"})
    n.loss = L.SoftmaxWithLoss(n.fc2, n.label, include={"phase": caffe.TRAIN})
    n.prob = L.Softmax(n.fc2, include={"phase": caffe.TEST})
    return str(n.to_proto())


def fully_convolutional() -> str:
    """Return the prototxt of the cast net; its kernels are 5 x 5, the size of pool2 in the classifier, and 1 x 1."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, SIZE, SIZE]})
    trunk(n)
    # Names of their own: by the old ones, copy_from would take the old weights and find that the shapes differ.
    n.fc1_conv = L.Convolution(n.pool2, kernel_size=5, num_output=32)
    n.relu_fc1 = L.ReLU(n.fc1_conv, in_place=True)
    n.fc2_conv = L.Convolution(n.relu_fc1, kernel_size=1, num_output=len(CLASSES))
    n.prob = L.Softmax(n.fc2_conv)
    return str(n.to_proto())


def train_classifier(folder: Path) -> None:
    """Train for 300 iterations, on new pictures each time, and write classifier.caffemodel."""
    (folder / "solver.prototxt").write_text(
        f'train_net: "{folder / "classifier.prototxt"}"\n'
        'base_lr: 0.01\nmomentum: 0.9\nweight_decay: 0.0005\nlr_policy: "fixed"\nrandom_seed: 1\n'
    )
    solver = caffe.SGDSolver(str(folder / "solver.prototxt"))
    rng = np.random.default_rng(1)
    for _ in range(300):
        labels = rng.integers(len(CLASSES), size=BATCH)
        solver.net.blobs["data"].data[...] = pictures(labels, rng)
        solver.net.blobs["label"].data[...] = labels
        solver.step(1)
    print(f"trained the classifier: loss {float(solver.net.blobs['loss'].data):.3f}")
    solver.net.save(str(folder / "classifier.caffemodel"))


def main(folder: Path) -> None:
    """Train, cast, compare."""
    caffe.init_log(2)  # errors only; without this line, Caffe's log
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classifier.prototxt").write_text(classifier())
    (folder / "fully_convolutional.prototxt").write_text(fully_convolutional())
    train_classifier(folder)
    weights = str(folder / "classifier.caffemodel")
    net = caffe.Net(str(folder / "classifier.prototxt"), weights, caffe.TEST)

    # The surgery. Loading gives the cast net conv1 and conv2, whose names and shapes are the classifier's.
    cast = caffe.Net(str(folder / "fully_convolutional.prototxt"), weights, caffe.TEST)
    for old, new in (("fc1", "fc1_conv"), ("fc2", "fc2_conv")):
        print(f"{old} {tuple(net.params[old][0].shape)} -> {new} {tuple(cast.params[new][0].shape)}")
        cast.params[new][0].data.flat[:] = net.params[old][0].data.flat
        cast.params[new][1].data[...] = net.params[old][1].data
    cast.save(str(folder / "fully_convolutional.caffemodel"))

    scene = Image.new("L", (96, 96))
    for kind, x, y in (("disc", 24, 24), ("square", 72, 28), ("cross", 48, 72)):
        draw_shape(ImageDraw.Draw(scene), kind, x, y, 10)
    image = np.asarray(scene, np.float32) / 255
    cast.blobs["data"].reshape(1, 1, *image.shape)
    cast.blobs["data"].data[...] = image
    prob = cast.forward()["prob"][0]

    # Cell (i, j) sees the 32 x 32 pixels that begin at (4 i, 4 j).
    rows, columns = prob.shape[1:]
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    crops = np.stack([image[None, STRIDE * i :, STRIDE * j :][:, :SIZE, :SIZE] for i, j in cells])
    by_crop = net.forward_all(data=crops)["prob"].T.reshape(prob.shape)
    print(f"{len(cells)} crops one by one and one pass over the image: they differ by {abs(by_crop - prob).max():.1e}")

    print("the class of each cell (. nothing, d disc, s square, x cross):")
    for row in prob.argmax(0):
        print("   ", " ".join(".dsx"[label] for label in row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="keeps the prototxts and the weights")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(args.folder or Path(scratch))
