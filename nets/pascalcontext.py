"""PASCAL-Context: VOC 2010's images with labels for the whole scene (CVPR paper's appendix, PAMI section 5).

A net is made for a split, "train" (4,998 images) or "val" (5,105), or for voc.DEPLOY.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import caffe
from nets import vgg16, voc

# The papers' 59 classes, and a background that is every other one. It is learned and scored, as in the reference;
# whether the published means count it is not said.
CLASSES = 60


def fcn(
    split: str,
    head: Callable[..., None],
    thin: int = 1,
    *,
    classes: int = CLASSES,
    classes_file: str | None = None,
    data_dir: str = "../../data",
    normalize: bool = False,
) -> Any:
    """FCN-32s, 16s or 8s, whichever ``head`` is, on VGG16.

    ``classes`` counts the background; ``classes_file`` names the file of the dataset's folder that lists them, where
    it is not the 59 classes' own. ``thin`` divides the trunk's channels; ``data_dir`` is the folder of datasets, from
    the experiment's; ``normalize``: the loss is the mean over the pixels, not their sum.
    """
    n = caffe.NetSpec()
    if split == voc.DEPLOY:
        voc.image(n, "data", 500, 500, name="input")
    else:
        settings = {
            "voc_dir": f"{data_dir}/pascal",
            "context_dir": f"{data_dir}/pascal-context",
            "split": split,
            "seed": 1337,
            **({"classes": classes_file} if classes_file else {}),
        }
        voc.read(n, "PASCALContextSegDataLayer", ["data", "label"], settings)
    features = vgg16.trunk(n, n.data, dropout=split != voc.DEPLOY, thin=thin)
    head(n, features, classes)
    voc.loss(n, split, normalize)
    return n.to_proto()
