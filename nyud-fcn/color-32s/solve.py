"""Train FCN-32s on NYUDv2's colour images, from VGG16.

    cd nyud-fcn/color-32s && python solve.py --gpu 0

Trains on the 795 images of NYUDv2's trainval, one an iteration, for 100,000 iterations, and scores on the 654 of test
every 2,000. Starts from ILSVRC's VGG16, made convolutional; the score layer starts at zero.

To expect: pixel accuracy 61.8, mean accuracy 44.7, mean IU 31.6, f.w. IU 46.0 (TPAMI paper, table 5); 60.0, 42.2, 29.2
and 43.9 with the CVPR paper's own recipe (table 4).
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
