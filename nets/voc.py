"""PASCAL VOC 2011: trained on SBD's images, scored on seg11valid (papers section 4.3; README of the reference).

A net is made for a split: "train", "seg11valid", or DEPLOY, which has an input in place of the data layer, no
dropout and no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import caffe
from caffe import layers as L
from nets import alexnet, googlenet, vgg16
from vis import VOID

DEPLOY = "deploy"

CLASSES = 21  # 20 and background
MEAN = (104.00699, 116.66877, 122.67892)  # of the ILSVRC images that the trunks were trained on: B, G, R


def fcn_vgg16(split: str, head: Callable[..., None], thin: int = 1, **options: Any) -> Any:
    """FCN-32s, 16s, 8s or 8s at-once, whichever ``head`` is, on VGG16."""
    return fcn(split, vgg16.trunk, head, thin, **options)


def fcn_alexnet(split: str, thin: int = 1, *, normalize: bool = True, **options: Any) -> Any:
    """FCN-AlexNet at stride 32.

    Its loss is the mean over the pixels, and its solver's the papers' first recipe: 20 images an iteration.
    """
    return fcn(split, alexnet.trunk, alexnet.fcn32s, thin, normalize=normalize, **options)


def fcn_googlenet(split: str, thin: int = 1, **options: Any) -> Any:
    """FCN-GoogLeNet at stride 32."""
    return fcn(split, googlenet.trunk, googlenet.fcn32s, thin, **options)


def fcn(
    split: str,
    trunk: Callable[..., Any],
    head: Callable[..., None],
    thin: int = 1,
    *,
    data_dir: str = "../data",
    normalize: bool = False,
    **options: Any,
) -> Any:
    """A trunk, its channels divided by ``thin``, under a head.

    ``data_dir`` is the folder of datasets, from the experiment's. ``normalize``: the loss is the mean over the pixels,
    not their sum. ``options`` are those of ``data``.
    """
    n = caffe.NetSpec()
    data(n, split, f"{data_dir}/sbdd/dataset", f"{data_dir}/pascal/VOC2011", **options)
    features = trunk(n, n.data, dropout=split != DEPLOY, thin=thin)
    head(n, features, CLASSES)
    loss(n, split, normalize)
    return n.to_proto()


def data(
    n: Any,
    split: str,
    sbdd_dir: str,
    voc_dir: str,
    size: int = 500,
    sbdd: bool = True,
    **options: Any,
) -> None:
    """Add data (1 x 3 x H x W: B, G, R, less the mean) and, but for DEPLOY, label (1 x 1 x H x W).

    The folders are relative to the experiment's. Each image has its own size; ``size`` is only what a
    deploy net is made with. The split "train" is SBD's, or without ``sbdd`` VOC's own; any other is VOC's.
    ``options`` are further settings of the data layer (layers.SegDataLayer).
    """
    if split == DEPLOY:
        image(n, "data", size, size, name="input")
        return
    if sbdd and split == "train":
        layer, folder = "SBDDSegDataLayer", {"sbdd_dir": sbdd_dir}
    else:
        layer, folder = "VOCSegDataLayer", {"voc_dir": voc_dir}
    read(n, layer, ["data", "label"], {**folder, "split": split, "mean": MEAN, "seed": 1337, **options})


def image(n: Any, top: str, height: int, width: int, *, channels: int = 3, **options: Any) -> None:
    """Add an input of a deploy net, which takes images of any size: height and width are what it is made with."""
    n[top] = L.Input(shape={"dim": [1, channels, height, width]}, **options)


def read(n: Any, layer: str, tops: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Add a data layer of layers.py, with its settings and its tops."""
    made = L.Python(module="layers", layer=layer, param_str=str(dict(settings)), ntop=len(tops))
    for top, name in zip(made, tops, strict=True):
        n[name] = top


def loss(
    n: Any, split: str, normalize: bool, *, score: str = "score", label: str = "label", name: str = "loss"
) -> None:
    """Add the softmax loss, but for DEPLOY: summed over the pixels that are not void, or their mean."""
    if split != DEPLOY:
        n[name] = L.SoftmaxWithLoss(n[score], n[label], loss_param={"ignore_label": VOID, "normalize": normalize})
