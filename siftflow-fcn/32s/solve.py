"""Train FCN-32s on SIFT Flow, from VGG16.

    cd siftflow-fcn/32s && python solve.py --gpu 0

Trains on the 2,486 images of SIFT Flow's trainval, one an iteration, for 100,000 iterations, and scores on the 200 of
test every 2,000. One trunk has two heads, for 33 semantic and for 3 geometric classes, whose losses add up; the means
are over the classes that test has. Starts from ILSVRC's VGG16, made convolutional; the score layers start at zero.

To expect: less than FCN-16s (CVPR paper, table 5: mean IU 39.5); neither paper gives FCN-32s's own score.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take VGG16's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
