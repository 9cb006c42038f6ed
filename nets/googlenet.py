"""The GoogLeNet trunk to inception_5b, under BVLC's layer names, so that bvlc_googlenet.caffemodel copies in.

The classifier's average pooling is dropped (paper section 4.1): what is left has one window for each 32
pixels. conv1 keeps its own pad of 3. VGG16's pad of 100 is there for fc6's 7x7 window, and no layer here
has such a one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from caffe import layers as L
from caffe import params as P
from nets import heads
from nets.multipliers import LEARNED

# With a kernel of 63 the crop's offset is whole: 1; with 64 it would be 1.5.
fcn32s = partial(heads.fcn32s, kernel_size=63, crop=heads.crop_through_concat)

# After each pooling layer the modules that follow, and the channels of their convolutions:
# 1x1; 3x3_reduce, 3x3; 5x5_reduce, 5x5; pool_proj.
MODULES = {
    "pool2": {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64)},
    "pool3": {
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    "pool4": {"5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)},
}


def trunk(n: Any, bottom: Any, dropout: bool, *, thin: int = 1, **filler: Any) -> Any:
    """Add conv1 ... inception_5b to the NetSpec ``n``; gives the last top, 1024 channels divided by ``thin``.

    ``filler`` goes to every convolution. The paper keeps dropout where the classifier had it, which is here: 0.4, once,
    before the scores. The classifier dropped averages over the image, this one drops at every place by itself.
    """
    top = conv_relu(n, "conv1", "7x7_s2", bottom, 64 // thin, kernel_size=7, stride=2, pad=3, **filler)
    n["pool1/3x3_s2"] = halve(top)
    n["pool1/norm1"] = normalise(n["pool1/3x3_s2"])
    top = conv_relu(n, "conv2", "3x3_reduce", n["pool1/norm1"], 64 // thin, kernel_size=1, **filler)
    top = conv_relu(n, "conv2", "3x3", top, 192 // thin, kernel_size=3, pad=1, **filler)
    n["conv2/norm2"] = top = normalise(top)
    for pool, modules in MODULES.items():
        n[f"{pool}/3x3_s2"] = top = halve(top)
        for module, widths in modules.items():
            top = inception(n, f"inception_{module}", top, *(width // thin for width in widths), **filler)
    if dropout:
        n["inception_5b/drop"] = top = L.Dropout(top, dropout_ratio=0.4, in_place=True)
    return top


def inception(
    n: Any,
    module: str,
    bottom: Any,
    w1: int,
    w3_reduce: int,
    w3: int,
    w5_reduce: int,
    w5: int,
    w_pool: int,
    **filler: Any,
) -> Any:
    """Four branches side by side, none of which moves a pixel, concatenated as ``<module>/output``."""
    a = conv_relu(n, module, "1x1", bottom, w1, kernel_size=1, **filler)
    b = conv_relu(n, module, "3x3_reduce", bottom, w3_reduce, kernel_size=1, **filler)
    b = conv_relu(n, module, "3x3", b, w3, kernel_size=3, pad=1, **filler)
    c = conv_relu(n, module, "5x5_reduce", bottom, w5_reduce, kernel_size=1, **filler)
    c = conv_relu(n, module, "5x5", c, w5, kernel_size=5, pad=2, **filler)
    n[f"{module}/pool"] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=1, pad=1)
    d = conv_relu(n, module, "pool_proj", n[f"{module}/pool"], w_pool, kernel_size=1, **filler)
    n[f"{module}/output"] = L.Concat(a, b, c, d)
    return n[f"{module}/output"]


def conv_relu(n: Any, module: str, name: str, bottom: Any, num_output: int, **options: Any) -> Any:
    """The convolution ``<module>/<name>`` and its ReLU, ``<module>/relu_<name>`` without a stride's _s2."""
    conv = L.Convolution(bottom, num_output=num_output, param=LEARNED, **options)
    relu = L.ReLU(conv, in_place=True)
    n[f"{module}/{name}"], n[f"{module}/relu_{name.replace('_s2', '')}"] = conv, relu
    return relu


def halve(bottom: Any) -> Any:
    """3x3 max pooling at stride 2, unpadded: it shifts by half a pixel, and Caffe rounds the size up."""
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)


def normalise(bottom: Any) -> Any:
    """Local response normalisation across five channels."""
    return L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)
