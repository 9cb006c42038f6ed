"""Train FCN-32s on PASCAL-Context, from VGG16.

    cd pascalcontext-fcn/32s && python solve.py --gpu 0

Trains on the 4,998 images of VOC 2010's train with PASCAL-Context's labels, one an iteration, for 400,000 iterations,
and scores on the 5,105 of val every 8,000. The 59 classes and a background, which is every other one, are learned and
scored; means are given with it and without. Starts from ILSVRC's VGG16, made convolutional; the score layer starts at
zero.

To expect: pixel accuracy 65.5, mean accuracy 49.1, mean IU 36.7, f.w. IU 50.9 (TPAMI paper, table 7); 63.8, 42.7, 31.8
and 48.3 in the CVPR paper's appendix, 65.4, 47.2, 35.1 and 50.3 in its authors' later copy. Neither says whether the
background counts.
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
