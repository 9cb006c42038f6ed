"""Train FCN-8s on PASCAL VOC at once, from VGG16.

    cd voc-fcn8s-atonce && python solve.py --gpu 0

Trains on the 8,498 images of SBD's train, one an iteration, for 300,000 iterations, and scores on the 736 images of
VOC 2011's seg11valid every 4,000. Starts from ILSVRC's VGG16, made convolutional; the score layers of fc7, pool4 and
pool3 start at zero and are learned together. What makes that possible are constants by which pool4 and pool3 are
multiplied before they are scored. The TPAMI paper gives it half the time of the three stages.

To expect (TPAMI paper, table 3): pixel accuracy 91.1, mean accuracy 78.5, mean IU 65.4, f.w. IU 84.4. The CVPR paper
has no such net.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take VGG16's layers by their names, and make the upsampling bilinear; the constants are there already."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
