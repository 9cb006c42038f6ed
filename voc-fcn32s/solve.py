"""Train FCN-32s on PASCAL VOC, from VGG16.

    cd voc-fcn32s && python solve.py --gpu 0

Trains on the 8,498 images of SBD's train, one an iteration, for 100,000 iterations, and scores on the 736 images of
VOC 2011's seg11valid every 4,000. Starts from ILSVRC's VGG16, made convolutional; the score layer starts at zero. The
TPAMI paper gives all three strides together 36 hours on one Titan X.

To expect (TPAMI paper, table 3): pixel accuracy 90.5, mean accuracy 76.5, mean IU 63.6, f.w. IU 83.5. The CVPR paper's
own recipe (cvpr-recipe) gave 89.1, 73.3, 59.4 and 81.4.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take VGG16's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
