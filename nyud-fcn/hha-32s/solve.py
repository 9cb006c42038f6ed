"""Train FCN-32s on NYUDv2's depth, encoded as HHA, from VGG16.

    cd nyud-fcn/hha-32s && python solve.py --gpu 0

Trains on the 795 images of NYUDv2's trainval, one an iteration, for 100,000 iterations, and scores on the 654 of test
every 2,000. What it sees is horizontal disparity, height above ground, and the angle of each surface with gravity, in
the place of B, G and R; `python -m datasets hha` makes such images of depth. Starts from ILSVRC's VGG16, made
convolutional; the score layer starts at zero.

To expect: pixel accuracy 58.3, mean accuracy 35.7, mean IU 25.2, f.w. IU 41.7 (TPAMI paper, table 5); 57.1, 35.2, 24.2
and 40.4 with the CVPR paper's own recipe (table 4).
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
