"""Train FCN-16s on SIFT Flow, from FCN-32s.

    cd siftflow-fcn/16s && python solve.py --gpu 0

Trains on the 2,486 images of SIFT Flow's trainval, one an iteration, for 100,000 iterations at a hundredth of
FCN-32s's rate, and scores on the 200 of test every 2,000. One trunk has two heads, for 33 semantic and for 3 geometric
classes, whose losses add up; the means are over the classes that test has. Starts from FCN-32s; the score layers of
pool4, which are new, start at zero, so that the first scores are FCN-32s's.

To expect (CVPR paper, table 5, with its own recipe): pixel accuracy 85.2, mean accuracy 51.7, mean IU 39.5, f.w. IU
76.1, and geometric pixel accuracy 94.3. The TPAMI paper has FCN-8s in its place.
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
