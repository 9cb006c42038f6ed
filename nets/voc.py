"""PASCAL VOC 2011: trained on SBD's images, scored on seg11valid (papers section 4.3; README of the reference).

A net is made for a split: "train", "seg11valid", or DEPLOY, which has an input in place of the data layer, no
dropout and no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import caffe
from caffe import layers as L
from nets import alexnet, googlenet, heads, vgg16

DEPLOY = "deploy"

CLASSES = 21  # 20 and background
VOID = 255  # the label of pixels that count neither in the loss nor in the scores
MEAN = (104.00699, 116.66877, 122.67892)  # of the ILSVRC images that the trunks were trained on: B, G, R


def fcn_vgg16(split: str, head: Callable[[Any, Any, int], None], thin: int = 1) -> Any:
    """FCN-32s, 16s or 8s, whichever ``head`` is, on VGG16, its channels divided by ``thin``."""
    n = caffe.NetSpec()
    data(n, split)
    features = vgg16.trunk(n, n.data, dropout=split != DEPLOY, thin=thin)
    head(n, features, CLASSES)
    loss(n, split, normalize=False)
    return n.to_proto()


def fcn_alexnet(split: str, thin: int = 1) -> Any:
    """FCN-AlexNet at stride 32. With a kernel of 63 the crop's offset is whole: 18; with 64 it would be 18.5.

    Its loss is the mean over the pixels, and its solver's the papers' first recipe: 20 images an iteration.
    """
    n = caffe.NetSpec()
    data(n, split)
    features = alexnet.trunk(n, n.data, dropout=split != DEPLOY, thin=thin)
    heads.fcn32s(n, features, CLASSES, kernel_size=63)
    loss(n, split, normalize=True)
    return n.to_proto()


def fcn_googlenet(split: str, thin: int = 1) -> Any:
    """FCN-GoogLeNet at stride 32. With a kernel of 63 the crop's offset is whole: 1; with 64 it would be 1.5."""
    n = caffe.NetSpec()
    data(n, split)
    features = googlenet.trunk(n, n.data, dropout=split != DEPLOY, thin=thin)
    heads.fcn32s(n, features, CLASSES, kernel_size=63, crop=heads.crop_through_concat)
    loss(n, split, normalize=False)
    return n.to_proto()


def data(
    n: Any,
    split: str,
    sbdd_dir: str = "../data/sbdd/dataset",
    voc_dir: str = "../data/pascal/VOC2011",
    size: int = 500,
    **options: Any,
) -> None:
    """Add data (1 x 3 x H x W: B, G, R, less the mean) and, but for DEPLOY, label (1 x 1 x H x W).

    The folders are relative to the experiment's. Each image has its own size; ``size`` is only what a
    deploy net is made with. ``options`` are further settings of the data layer (layers.SegDataLayer).
    """
    if split == DEPLOY:
        n.data = L.Input(name="input", shape={"dim": [1, 3, size, size]})
        return
    if split == "train":
        layer, folder = "SBDDSegDataLayer", {"sbdd_dir": sbdd_dir}
    else:
        layer, folder = "VOCSegDataLayer", {"voc_dir": voc_dir}
    settings = {**folder, "split": split, "mean": MEAN, "seed": 1337, **options}
    n.data, n.label = L.Python(module="layers", layer=layer, param_str=str(settings), ntop=2)


def loss(n: Any, split: str, normalize: bool) -> None:
    """Add the softmax loss, but for DEPLOY: summed over the pixels that are not void, or their mean."""
    if split != DEPLOY:
        n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param={"ignore_label": VOID, "normalize": normalize})
