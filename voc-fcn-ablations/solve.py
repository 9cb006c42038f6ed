"""Train one of the nets that the papers compare FCN-32s on PASCAL VOC with.

    cd voc-fcn-ablations && python solve.py                          (what there is)
    cd voc-fcn-ablations && python solve.py null-background --gpu 0

Each is FCN-32s with one thing changed, in the net, the data or the solver. Its files are written into a folder of its
name (nets/ablations.py has them), which then is an experiment like any other. Numbers are mean IU in per cent; where
nothing else is said they are on seg11valid, where FCN-32s has 63.6.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import caffe
import surgery
import train
from nets import variants
from scoring import passes


def start(net: caffe.Net, *weights: str) -> None:
    """Take the layers of what it starts from by their names, if it does; make the upsampling bilinear."""
    for file in weights:
        net.copy_from(file)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])
    if "class_weights" in net.params:
        balance(net)


def balance(net: caffe.Net) -> None:
    """Fill class_weights, from the labels of all images that the net trains on."""
    found = passes.data_layer(net)
    assert found is not None
    reader = found[1]
    print(f"Counting the labels of {len(reader.ids)} images, for the classes' weights ...", flush=True)
    counts = np.zeros(256, np.int64)
    for image_id in reader.ids:
        counts += np.bincount(reader.truth(image_id).ravel(), minlength=256)
    matrix = net.params["class_weights"][0].data
    matrix[...] = np.diag(inverse_frequencies(counts[: len(matrix)]))


def inverse_frequencies(counts: np.ndarray) -> np.ndarray:
    """Return weights in inverse proportion to the classes' pixels, whose mean over all pixels is 1.

    counts: each class's pixels. A class that has none gets 0: no label asks for its weight.
    """
    present = np.count_nonzero(counts)
    weights = np.divide(counts.sum(), present * counts, out=np.zeros(len(counts)), where=counts > 0)
    return np.asarray(weights)


if __name__ == "__main__":
    train.run(**variants.chosen(__file__, __doc__), start=start)
