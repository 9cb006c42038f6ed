"""Train FCN-32s on NYUDv2's colour and depth in one image (early fusion), from VGG16.

    cd nyud-fcn/color-d-32s && python solve.py --gpu 0

Trains on the 795 images of NYUDv2's trainval, one an iteration, for 100,000 iterations, and scores on the 654 of test
every 2,000. Its first convolution takes four channels: B, G, R and the logarithm of depth. Starts from ILSVRC's VGG16,
made convolutional; the filters for depth start as the mean of those for B, G and R, and the score layer at zero.

To expect: pixel accuracy 62.1, mean accuracy 44.8, mean IU 31.7, f.w. IU 46.3 (TPAMI paper, table 5); 61.5, 42.4, 30.5
and 45.5 with the CVPR paper's own recipe (table 4).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take VGG16's layers by their names, its first one for colour and depth; make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.add_channels(net, "conv1_1_bgrd", weights, "conv1_1")
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
