"""SIFT Flow: 33 semantic classes and 3 geometric ones, learned together by one net with two heads (papers section 5).

A net is made for a split, "trainval" (2,486 images) or "test" (200), or for voc.DEPLOY. The two losses add up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import caffe
from nets import vgg16, voc

SEMANTIC_CLASSES = 33
GEOMETRIC_CLASSES = 3  # sky, horizontal, vertical
SIZE = 256  # of every image, in pixels each way


def fcn(
    split: str,
    head: Callable[..., None],
    thin: int = 1,
    *,
    data_dir: str = "../../data",
    normalize: bool = False,
) -> Any:
    """FCN-32s, 16s or 8s, whichever ``head`` is, twice on one trunk: score_sem and score_geo.

    ``thin`` divides the trunk's channels; ``data_dir`` is the folder of datasets, from the experiment's;
    ``normalize``: each loss is the mean over the pixels, not their sum. The semantic loss is called loss, as
    in every other net, and the geometric one loss_geo.
    """
    n = caffe.NetSpec()
    if split == voc.DEPLOY:
        voc.image(n, "data", SIZE, SIZE, name="input")
    else:
        settings = {"siftflow_dir": f"{data_dir}/sift-flow", "split": split, "seed": 1337}
        voc.read(n, "SIFTFlowSegDataLayer", ["data", "sem", "geo"], settings)
    features = vgg16.trunk(n, n.data, dropout=split != voc.DEPLOY, thin=thin)
    head(n, features, SEMANTIC_CLASSES, suffix="_sem")
    voc.loss(n, split, normalize, score="score_sem", label="sem")
    head(n, features, GEOMETRIC_CLASSES, suffix="_geo")
    voc.loss(n, split, normalize, score="score_geo", label="geo", name="loss_geo")
    return n.to_proto()
