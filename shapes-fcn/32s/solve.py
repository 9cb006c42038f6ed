"""Train FCN-32s on the generated shapes, from nothing: the demo's first stage.

    python -m datasets make shapes
    cd shapes-fcn/32s && python solve.py

Trains a thin VGG16 on 1,200 images of 160 x 160 pixels, one an iteration, for 4,800 iterations (some 3 minutes on
two CPU cores), and scores on 200 others. The weights start at random (MSRA), the score layer at zero. The first
2,000 iterations look hopeless; they are not.

To expect: a mean IU between 40 and 46, as the seed will have it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import caffe
import surgery
import train


def start(net: caffe.Net) -> None:
    """Make the upsampling bilinear; the prototxt's fillers have done the rest."""
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
