"""Train FCN on PASCAL-Context in 33 classes and background: 34 outputs.

    cd pascalcontext-fcn-33 && python solve.py               (what there is)
    cd pascalcontext-fcn-33 && python solve.py 32s --gpu 0

Trains on the 4,998 images of VOC 2010's train and scores on the 5,105 of its val. The names of the classes do not come
with the dataset: write them into data/pascal-context/33_labels.txt, a line for each, as 59_labels.txt has them. The
files are written into a folder for each stage (nets/context33.py has them), which then is an experiment like any other;
16s starts from 32s, and 8s from 16s. Numbers are mean IU in per cent.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import caffe
import surgery
import train
from nets import variants


def start(net: caffe.Net, weights: str) -> None:
    """Take the layers of what it starts from by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(**variants.chosen(__file__, __doc__), start=start)
