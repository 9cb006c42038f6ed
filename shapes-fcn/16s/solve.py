"""Train FCN-16s on the generated shapes, from FCN-32s: the demo's second stage.

    cd shapes-fcn/16s && python solve.py

Trains a thin VGG16 on 1,200 images of 160 x 160 pixels, one an iteration, for 2,000 iterations (some 70 seconds on
two CPU cores), and scores on 200 others. Starts from FCN-32s; the score layer of pool4, which is new, starts at zero,
so that the first scores are FCN-32s's.

To expect: a mean IU between 58 and 62, as the seed will have it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take FCN-32s's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
