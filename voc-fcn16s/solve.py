"""Train FCN-16s on PASCAL VOC, from FCN-32s.

    cd voc-fcn16s && python solve.py --gpu 0

Trains on the 8,498 images of SBD's train, one an iteration, for 100,000 iterations at a hundredth of FCN-32s's rate,
and scores on the 736 images of VOC 2011's seg11valid every 4,000. Starts from FCN-32s; the score layer of pool4, which
is new, starts at zero, so that the first scores are FCN-32s's. The TPAMI paper gives all three strides together 36
hours on one Titan X.

To expect (TPAMI paper, table 3): pixel accuracy 91.0, mean accuracy 78.1, mean IU 65.0, f.w. IU 84.3. The CVPR paper's
own recipe (cvpr-recipe) gave 90.0, 75.7, 62.4 and 83.0.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take FCN-32s's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
