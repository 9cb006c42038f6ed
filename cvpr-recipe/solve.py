"""Train one of the CVPR 2015 paper's nets by its own recipe: 20 images a step, momentum 0.9, a mean loss.

    cd cvpr-recipe && python solve.py                        (what there is)
    cd cvpr-recipe && python solve.py voc-fcn32s --gpu 0

The other folders have the TPAMI paper's recipe. The nets are the same but for the loss, which is divided by the number
of its pixels. Their files are written into a folder of their name (nets/cvpr.py has them), which then is an experiment
like any other; 16s starts from the 32s of this folder. Numbers are mean IU in per cent.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import caffe
import surgery
import train
from nets import variants


def start(net: caffe.Net, *weights: str) -> None:
    """Take the layers of what it starts from by their names, and make the upsampling bilinear.

    Of NYUDv2's nets, color-hha-32s takes two nets, each into its stream, and color-d-32s has a first layer of its own.
    """
    if len(weights) == 2:
        surgery.copy_stream(net, weights[0], suffix="color")
        surgery.copy_stream(net, weights[1], suffix="hha")
    else:
        net.copy_from(weights[0])
    if "conv1_1_bgrd" in net.params:
        surgery.add_channels(net, "conv1_1_bgrd", weights[0], "conv1_1")
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(**variants.chosen(__file__, __doc__), start=start)
