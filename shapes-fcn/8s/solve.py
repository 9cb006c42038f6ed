"""Train FCN-8s on the generated shapes, from FCN-16s: the demo's third stage.

    cd shapes-fcn/8s && python solve.py

Trains a thin VGG16 on 1,200 images of 160 x 160 pixels, one an iteration, for 1,600 iterations (some 60 seconds on
two CPU cores), and scores on 200 others. Starts from FCN-16s; the score layer of pool3, which is new, starts at zero,
so that the first scores are FCN-16s's.

To expect: a mean IU between 66 and 69, as the seed will have it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take FCN-16s's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
