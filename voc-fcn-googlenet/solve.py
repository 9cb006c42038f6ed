"""Train FCN-GoogLeNet on PASCAL VOC, from GoogLeNet.

    cd voc-fcn-googlenet && python solve.py --gpu 0

Trains on the 8,498 images of SBD's train, one an iteration, for 100,000 iterations, and scores on the 736 images of
VOC 2011's seg11valid every 4,000. Starts from ILSVRC's GoogLeNet, whose layers are convolutions already; the score
layer starts at zero.

To expect: nobody knows. The paper's FCN-GoogLeNet (table 1) was trained on VOC's own 1,112 images, with a mean loss
over 20 images an iteration and a GoogLeNet of the authors' own, and has a mean IU of 42.5 on all of VOC 2011's val.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take GoogLeNet's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
