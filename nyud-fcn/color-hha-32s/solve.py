"""Train FCN-32s on NYUDv2's colour and HHA, side by side (late fusion), from the two nets of one each.

    cd nyud-fcn/color-hha-32s && python solve.py --gpu 0

Trains on the 795 images of NYUDv2's trainval, one an iteration, for 100,000 iterations at a hundredth of their rate,
and scores on the 654 of test every 2,000. Two trunks, whose scores are averaged, are trained together. Starts from
color-32s and hha-32s. (The reference's own two were snapshots at 28,000 and 60,000 iterations, by their names; here
they are the last.)

To expect: pixel accuracy 65.3, mean accuracy 44.0, mean IU 33.3, f.w. IU 48.6 (TPAMI paper, table 5); 64.3, 44.9, 32.8
and 48.0 with the CVPR paper's own recipe (table 4).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import caffe
import surgery
import train


def start(net: caffe.Net, color: str, hha: str) -> None:
    """Take each net's layers into its stream, and make the upsampling bilinear."""
    surgery.copy_stream(net, color, suffix="color")
    surgery.copy_stream(net, hha, suffix="hha")
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
