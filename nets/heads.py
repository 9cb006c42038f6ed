"""From a trunk's features to scores for every pixel: FCN-32s, 16s and 8s (paper section 4.2, figure 3).

A head scores features with a 1x1 convolution, up-samples the scores bilinearly, and crops them to the
image. The skip heads do it in stages, and add the scores of a finer pooling layer at each. Where the trunk
has shifted and padded its input, the crop's offset undoes it; coord_map works it out.

Fillers are left at Caffe's constant 0: score layers start at zero by design (the papers saw no gain from
random ones), and surgery.interp fills the deconvolutions with bilinear kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from caffe import coord_map
from caffe import layers as L
from caffe import params as P
from nets.multipliers import FIXED, LEARNED


def fcn32s(
    n: Any,
    features: Any,
    classes: int,
    kernel_size: int = 64,
    crop: Callable[[Any, Any], Any] = coord_map.crop,
) -> None:
    """Score at stride 32 and up-sample at once."""
    n.score_fr = score(features, classes)
    n.upscore = upsample(n.score_fr, classes, kernel_size=kernel_size, stride=32)
    n.score = crop(n.upscore, n.data)


def fcn16s(n: Any, features: Any, classes: int) -> None:
    """Score at stride 32, add the scores of pool4 at stride 16, up-sample the rest of the way."""
    n.score_fr = score(features, classes)
    n.upscore2 = upsample(n.score_fr, classes, kernel_size=4, stride=2)

    n.score_pool4 = score(n.pool4, classes)
    n.score_pool4c = coord_map.crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = add(n.upscore2, n.score_pool4c)
    n.upscore16 = upsample(n.fuse_pool4, classes, kernel_size=32, stride=16)

    n.score = coord_map.crop(n.upscore16, n.data)


def fcn8s(n: Any, features: Any, classes: int) -> None:
    """Score at stride 32, add pool4's scores at stride 16 and pool3's at stride 8, up-sample the rest."""
    n.score_fr = score(features, classes)
    n.upscore2 = upsample(n.score_fr, classes, kernel_size=4, stride=2)

    n.score_pool4 = score(n.pool4, classes)
    n.score_pool4c = coord_map.crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = add(n.upscore2, n.score_pool4c)
    n.upscore_pool4 = upsample(n.fuse_pool4, classes, kernel_size=4, stride=2)

    n.score_pool3 = score(n.pool3, classes)
    n.score_pool3c = coord_map.crop(n.score_pool3, n.upscore_pool4)
    n.fuse_pool3 = add(n.upscore_pool4, n.score_pool3c)
    n.upscore8 = upsample(n.fuse_pool3, classes, kernel_size=16, stride=8)

    n.score = coord_map.crop(n.upscore8, n.data)


def score(features: Any, classes: int) -> Any:
    """A 1x1 convolution: each class's score at each place."""
    return L.Convolution(features, num_output=classes, kernel_size=1, pad=0, param=LEARNED)


def upsample(scores: Any, classes: int, kernel_size: int, stride: int) -> Any:
    """A deconvolution for bilinear interpolation, without group as in the reference: classes x classes kernels."""
    return L.Deconvolution(
        scores,
        convolution_param={
            "num_output": classes,
            "kernel_size": kernel_size,
            "stride": stride,
            "bias_term": False,
        },
        param=FIXED,
    )


def add(scores: Any, finer_scores: Any) -> Any:
    """The sum of two sets of scores of one size."""
    return L.Eltwise(scores, finer_scores, operation=P.Eltwise.SUM)


def crop_through_concat(top_from: Any, top_to: Any) -> Any:
    """coord_map.crop for a trunk with Concat layers, through which BVLC's does not see.

    ``top_from`` must stem from ``top_to``. Raises ValueError if the branches of a Concat do not lie alike,
    or if the two tops differ in scale or by part of a pixel: no Crop could then bring them into line.
    """
    maps = {top_to: (None, 1, 0)}

    def map_to(top: Any) -> Any:  # the (axis, scale, shift) that takes top_to's coordinates to those of `top`
        if top not in maps:
            own = (None, 1, 0) if top.fn.type_name == "Concat" else coord_map.coord_map(top.fn)
            branches = [coord_map.compose(own, map_to(bottom)) for bottom in top.fn.inputs]
            _, scale, shift = maps[top] = branches[0]
            if not all(np.all(a == scale) and np.all(b == shift) for _, a, b in branches):
                raise ValueError(f"the bottoms of a {top.fn.type_name} layer do not lie alike: {branches}")
        return maps[top]

    axis, scale, shift = map_to(top_from)
    if np.any(scale != 1) or np.any(shift < 0) or np.any(shift != np.round(shift)):
        raise ValueError(f"no crop brings these tops into line: scale {scale}, offset {shift}")
    return L.Crop(top_from, top_to, crop_param={"axis": axis + 1, "offset": [int(b) for b in shift]})
