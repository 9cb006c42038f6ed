"""NYUDv2 in 40 classes: FCN on colour, on HHA, on colour with depth, and on colour beside HHA (papers section 5).

HHA is depth in three channels: horizontal disparity, height above ground, and the angle of the surface's normal with
gravity. A net is made for a split, "trainval" (795 images) or "test" (654), or for voc.DEPLOY.
"""

from __future__ import annotations

from typing import Any

import caffe
from caffe import coord_map
from caffe import layers as L
from caffe import params as P
from nets import heads, vgg16, voc

CLASSES = 40  # and no background: what is none of them is void
SIZE = (425, 560)  # of every image, in pixels: height, width
CHANNELS = {"color": 3, "hha": 3, "depth": 1}


def fcn(split: str, modality: str, thin: int = 1, *, data_dir: str = "../../data", normalize: bool = False) -> Any:
    """FCN-32s on one ``modality``, "color" or "hha", whose top is called data.

    ``thin`` divides the trunk's channels; ``data_dir`` is the folder of datasets, from the experiment's;
    ``normalize``: the loss is the mean over the pixels, not their sum.
    """
    n = caffe.NetSpec()
    if split == voc.DEPLOY:
        voc.image(n, "data", *SIZE, name="input")
    else:
        read(n, split, ["data", "label"], modality, data_dir=data_dir)
    features = vgg16.trunk(n, n.data, dropout=split != voc.DEPLOY, thin=thin)
    heads.fcn32s(n, features, CLASSES)
    voc.loss(n, split, normalize)
    return n.to_proto()


def fcn_early(split: str, thin: int = 1, *, data_dir: str = "../../data", normalize: bool = False) -> Any:
    """FCN-32s on four channels: B, G, R and the logarithm of depth (early fusion).

    The first convolution, which VGG16 does not have, is called conv1_1_bgrd.
    """
    n = caffe.NetSpec()
    streams(n, split, "color", "depth", data_dir=data_dir)
    n.data = L.Concat(n.color, n.depth)
    features = vgg16.trunk(n, n.data, dropout=split != voc.DEPLOY, thin=thin, first="conv1_1_bgrd")
    heads.fcn32s(n, features, CLASSES)
    voc.loss(n, split, normalize)
    return n.to_proto()


def fcn_late(
    split: str, thin: int = 1, *, skip: bool = False, data_dir: str = "../../data", normalize: bool = False
) -> Any:
    """Two trunks, of colour and of HHA, whose scores are averaged (late fusion): FCN-32s, or with ``skip`` FCN-16s.

    Layers of a trunk end in the name of what it sees. The 16s is in the CVPR paper alone (table 4), which does not say
    where its skip leaves the two streams. Here pool4 is scored in both (score_pool4color, score_pool4hha), averaged
    as the last scores are (score_pool4), cropped, and added: fusion late, at either stride.
    """
    n: Any = caffe.NetSpec()
    streams(n, split, "color", "hha", data_dir=data_dir)
    for stream in ("color", "hha"):
        features = vgg16.trunk(n, n[stream], dropout=split != voc.DEPLOY, thin=thin, suffix=stream)
        n["score_fr" + stream] = heads.score(features, CLASSES)
    n.score_fused = mean(n.score_frcolor, n.score_frhha)
    if skip:
        for stream in ("color", "hha"):
            n["score_pool4" + stream] = heads.score(n["pool4" + stream], CLASSES)
        n.score_pool4 = mean(n.score_pool4color, n.score_pool4hha)
        n.upscore2 = heads.upsample(n.score_fused, CLASSES, kernel_size=4, stride=2)
        n.score_pool4c = coord_map.crop(n.score_pool4, n.upscore2)
        n.fuse_pool4 = heads.add(n.upscore2, n.score_pool4c)
        n.upscore16 = heads.upsample(n.fuse_pool4, CLASSES, kernel_size=32, stride=16)
        n.score = coord_map.crop(n.upscore16, n.color)
    else:
        n.upscore = heads.upsample(n.score_fused, CLASSES, kernel_size=64, stride=32)
        n.score = coord_map.crop(n.upscore, n.color)
    voc.loss(n, split, normalize)
    return n.to_proto()


def streams(n: Any, split: str, *modalities: str, data_dir: str) -> None:
    """Add a top for each of the modalities, under its name, and but for DEPLOY label (1 x 1 x H x W)."""
    if split == voc.DEPLOY:
        for modality in modalities:
            voc.image(n, modality, *SIZE, channels=CHANNELS[modality])
    else:
        read(n, split, [*modalities, "label"], *modalities, data_dir=data_dir)


def read(n: Any, split: str, tops: list[str], *modalities: str, data_dir: str) -> None:
    """Add the data layer of these modalities and the label, under the names ``tops``."""
    settings = {"nyud_dir": f"{data_dir}/nyud", "split": split, "tops": [*modalities, "label"], "seed": 1337}
    voc.read(n, "NYUDSegDataLayer", tops, settings)


def mean(color: Any, hha: Any) -> Any:
    """The mean of two sets of scores. (The CVPR paper speaks of their sum, PAMI and the reference net of the mean.)"""
    return L.Eltwise(color, hha, operation=P.Eltwise.SUM, coeff=[0.5, 0.5])
