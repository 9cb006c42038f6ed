"""Train FCN-16s on NYUDv2's colour and HHA, side by side (late fusion), from FCN-32s.

    cd nyud-fcn/color-hha-16s && python solve.py --gpu 0

Trains on the 795 images of NYUDv2's trainval, one an iteration, for 100,000 iterations at a hundredth of FCN-32s's
rate, and scores on the 654 of test every 2,000. Starts from color-hha-32s; the score layers of pool4 in both streams,
which are new, start at zero, so that the first scores are FCN-32s's. No code of this net was ever released: how the
two skips are fused is said in nets/nyud.py, and the solver's settings are FCN-32s's, at the rate that the papers give
an FCN-16s.

To expect (CVPR paper, table 4): pixel accuracy 65.4, mean accuracy 46.1, mean IU 34.0, f.w. IU 49.5, with its own
recipe. The TPAMI paper has no such row.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import caffe
import surgery
import train


def start(net: caffe.Net, weights: str) -> None:
    """Take FCN-32s's layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
