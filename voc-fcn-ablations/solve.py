"""Train one of the nets that the papers compare FCN-32s on PASCAL VOC with.

    cd voc-fcn-ablations && python solve.py                          (what there is)
    cd voc-fcn-ablations && python solve.py null-background --gpu 0

Each is FCN-32s with one thing changed, in the net, the data or the solver. Its files are written into a folder of its
name (nets/ablations.py has them), which then is an experiment like any other. Numbers are mean IU in per cent; where
nothing else is said they are on seg11valid, where FCN-32s has 63.6.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import caffe
import score
import train
from nets import variants


def balanced(start: Callable[..., object]) -> Callable[..., None]:
    """A start that also fills class_weights, from the labels of all images that the net trains on."""

    def start_balanced(net: caffe.Net, *weights: str) -> None:
        start(net, *weights)
        matrix = net.params["class_weights"][0].data
        found = score.data_layer(net)
        assert found is not None
        reader = found[1]
        print(f"Counting the labels of {len(reader.ids)} images, for the classes' weights ...", flush=True)
        counts = np.zeros(256, np.int64)
        for image_id in reader.ids:
            counts += np.bincount(reader.truth(image_id).ravel(), minlength=256)
        matrix[...] = np.diag(inverse_frequencies(counts[: len(matrix)]))

    return start_balanced


def inverse_frequencies(counts: np.ndarray) -> np.ndarray:
    """Return weights in inverse proportion to the classes' pixels, whose mean over all pixels is 1.

    counts: each class's pixels. A class that has none gets 0: no label asks for its weight.
    """
    present = np.count_nonzero(counts)
    weights = np.divide(counts.sum(), present * counts, out=np.zeros(len(counts)), where=counts > 0)
    return np.asarray(weights)


if __name__ == "__main__":
    settings = variants.chosen(__file__, __doc__)
    if settings["folder"].name == "class-balanced":
        settings["start"] = balanced(settings["start"])
    train.run(**settings)
