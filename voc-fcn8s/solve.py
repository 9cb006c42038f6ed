"""Train FCN-8s on PASCAL VOC, from FCN-16s.

    cd voc-fcn8s && python solve.py --gpu 0

Trains on the 8,498 images of SBD's train, one an iteration, for 100,000 iterations at a hundredth of FCN-16s's rate,
and scores on the 736 images of VOC 2011's seg11valid every 4,000. Starts from FCN-16s; the score layer of pool3, which
is new, starts at zero, so that the first scores are FCN-16s's. The TPAMI paper gives all three strides together 36
hours on one Titan X.

To expect (TPAMI paper, table 3): pixel accuracy 91.2, mean accuracy 77.6, mean IU 65.5, f.w. IU 84.5. The CVPR paper's
own recipe (cvpr-recipe) gave 90.3, 75.9, 62.7 and 83.2.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take FCN-16s's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
