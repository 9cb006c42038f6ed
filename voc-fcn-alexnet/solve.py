"""Train FCN-AlexNet on PASCAL VOC, from CaffeNet.

    cd voc-fcn-alexnet && python solve.py --gpu 0

Trains on the 8,498 images of SBD's train, 20 an iteration, for 100,000 iterations, and scores on the 736 images of VOC
2011's seg11valid every 4,000. Starts from ILSVRC's CaffeNet, which is Caffe's AlexNet, made convolutional; the score
layer starts at zero. Unlike the VGG16 nets it learns as in the CVPR paper: a mean loss, and momentum 0.9 over 20
images. So it reads two million images: 235 epochs, where the papers trained for 175 at least.

To expect (both papers, in their text): mean IU 48.0. The 39.8 of their table 1 are for VOC's own 1,112 training
images, on all of VOC 2011's val.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take CaffeNet's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
