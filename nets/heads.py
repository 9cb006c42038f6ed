"""From a trunk's features to scores for every pixel: FCN-32s, 16s, 8s, 8s at-once (paper section 4.2, figure 3).

A head scores features with a 1x1 convolution, up-samples the scores bilinearly, and crops them to the
image. The skip heads do it in stages, and add the scores of a finer pooling layer at each. Where the trunk
has shifted and padded its input, the crop's offset undoes it; coord_map works it out.

Fillers are left at Caffe's constant 0: score layers start at zero by design (the papers saw no gain from
random ones), and surgery.interp fills the deconvolutions with bilinear kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from caffe import coord_map
from caffe import layers as L
from caffe import params as P
from nets.multipliers import FIXED, LEARNED

# The constants by which FCN-8s at-once scales the pooling layers that it scores, so that all streams have features of
# about one size; trained all at once without them, it diverges (PAMI section 4.2; the values are the reference's).
AT_ONCE = {"pool4": 0.01, "pool3": 0.0001}


def add(scores: Any, finer_scores: Any) -> Any:
    """The sum of two sets of scores of one size."""
    return L.Eltwise(scores, finer_scores, operation=P.Eltwise.SUM)


def fcn32s(
    n: Any,
    features: Any,
    classes: int,
    *,
    image: str = "data",
    suffix: str = "",
    kernel_size: int = 64,
    crop: Callable[[Any, Any], Any] = coord_map.crop,
    **filler: Any,
) -> None:
    """Score at stride 32 and up-sample at once.

    ``image`` names the top to whose size the scores are cropped. ``suffix`` ends the name of every layer, for several
    heads on one trunk. ``filler`` goes to the score layer.
    """
    n["score_fr" + suffix] = score(features, classes, **filler)
    n["upscore" + suffix] = upsample(n["score_fr" + suffix], classes, kernel_size=kernel_size, stride=32)
    n["score" + suffix] = crop(n["upscore" + suffix], n[image])


def with_skips(
    n: Any,
    features: Any,
    classes: int,
    *,
    pools: Sequence[str],
    image: str = "data",
    suffix: str = "",
    scales: Mapping[str, float] | None = None,
    fuse: Callable[[Any, Any], Any] = add,
    interpolation: Any = FIXED,
    **filler: Any,
) -> None:
    """Score at stride 32; at each of ``pools`` up-sample by 2 and add that layer's scores; up-sample the rest.

    ``image``, ``suffix`` and ``filler`` are as in fcn32s. ``scales`` gives constants to multiply pooling layers by
    before they are scored (AT_ONCE). ``fuse`` joins two sets of scores. ``interpolation`` says how the layers that
    up-sample by 2 learn; the last one, which up-samples to the image, stays fixed.
    """
    top = n["score_fr" + suffix] = score(features, classes, **filler)
    name, stride = "upscore2", 32
    for pool in pools:
        n[name + suffix] = top = upsample(top, classes, kernel_size=4, stride=2, param=interpolation)
        finer = n[pool]
        if scales:
            constant = {"type": "constant", "value": scales[pool]}
            n[f"scale_{pool}{suffix}"] = finer = L.Scale(finer, filler=constant, param=FIXED)
        n[f"score_{pool}{suffix}"] = score(finer, classes, **filler)
        n[f"score_{pool}{suffix}c"] = coord_map.crop(n[f"score_{pool}{suffix}"], top)
        n[f"fuse_{pool}{suffix}"] = top = fuse(top, n[f"score_{pool}{suffix}c"])
        name, stride = f"upscore_{pool}", stride // 2
    n[f"upscore{stride}{suffix}"] = upsample(top, classes, kernel_size=2 * stride, stride=stride)
    n["score" + suffix] = coord_map.crop(n[f"upscore{stride}{suffix}"], n[image])


fcn16s = partial(with_skips, pools=("pool4",))
fcn8s = partial(with_skips, pools=("pool4", "pool3"))
fcn8s_atonce = partial(fcn8s, scales=AT_ONCE)


def score(features: Any, classes: int, **filler: Any) -> Any:
    """A 1x1 convolution: each class's score at each place."""
    return L.Convolution(features, num_output=classes, kernel_size=1, pad=0, param=LEARNED, **filler)


def upsample(scores: Any, classes: int, kernel_size: int, stride: int, param: Any = FIXED) -> Any:
    """A deconvolution for bilinear interpolation, without group as in the reference: classes x classes kernels."""
    return L.Deconvolution(
        scores,
        convolution_param={
            "num_output": classes,
            "kernel_size": kernel_size,
            "stride": stride,
            "bias_term": False,
        },
        param=param,
    )


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
