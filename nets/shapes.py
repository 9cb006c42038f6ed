"""The demo: images of textured shapes, written by ``python -m datasets make shapes`` in the VOC and SBD layouts.

The nets are VOC's, thin enough to train from scratch on a CPU in minutes: a sixteenth of VGG16's channels
and none of its dropout. Nothing is transplanted, so that they differ in what that asks for: random weights,
an input near unit scale for them, and a loss whose size (and so the learning rate) does not depend on the
image's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import caffe
from caffe import layers as L
from nets import vgg16, voc

CLASSES = 6  # 5 and background
THIN = 16


def fcn(split: str, head: Callable[[Any, Any, int], None], thin: int = THIN) -> Any:
    """FCN-32s, 16s or 8s, whichever ``head`` is, on a VGG16 of a sixteenth of its channels, or less."""
    n = caffe.NetSpec()
    voc.data(
        n,
        split,
        sbdd_dir="../../data/shapes/sbdd/dataset",
        voc_dir="../../data/shapes/pascal/VOC2011",
        size=160,
    )
    # Scaled within the net, so that it takes the same input as every other: B, G, R, less the mean.
    n.scaled = L.Power(n.data, scale=1 / 64)
    features = vgg16.trunk(
        n,
        n.scaled,
        dropout=False,
        thin=max(thin, THIN),
        weight_filler={"type": "msra"},
    )
    head(n, features, CLASSES)
    voc.loss(n, split, normalize=True)
    return n.to_proto()
