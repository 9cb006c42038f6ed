"""Train FCN-8s on PASCAL-Context, from FCN-16s.

    cd pascalcontext-fcn/8s && python solve.py --gpu 0

Trains on the 4,998 images of VOC 2010's train with PASCAL-Context's labels, one an iteration, for 400,000 iterations
at a hundredth of FCN-16s's rate, and scores on the 5,105 of val every 8,000. The 59 classes and a background, which is
every other one, are learned and scored; means are given with it and without. Starts from FCN-16s; the score layer of
pool3, which is new, starts at zero, so that the first scores are FCN-16s's.

To expect: pixel accuracy 67.5, mean accuracy 52.3, mean IU 39.1, f.w. IU 53.0 (TPAMI paper, table 7); 65.9, 46.5, 35.1
and 51.0 in the CVPR paper's appendix, 67.0, 50.7, 37.8 and 52.5 in its authors' later copy. Neither says whether the
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
    """Take FCN-16s's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
