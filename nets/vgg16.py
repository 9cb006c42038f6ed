"""The VGG16 trunk, its fully connected layers cast into convolutions (paper section 4.1)."""

from __future__ import annotations

from typing import Any

from caffe import layers as L
from caffe import params as P
from nets.multipliers import LEARNED

# Of each of the five groups of 3x3 convolutions: how many there are, and how many channels they make.
DEPTHS = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)
FC_WIDTH = 4096


def trunk(
    n: Any,
    bottom: Any,
    dropout: bool,
    widths: tuple[int, ...] = WIDTHS,
    fc_width: int = FC_WIDTH,
    **filler: Any,
) -> Any:
    """Add conv1_1 ... pool5, fc6 and fc7 to the NetSpec ``n``; gives the last top, 1/32 of ``bottom``'s size.

    ``bottom`` is padded by 100 pixels, so that fc6's 7x7 window fits on an image of any size. ``filler``
    goes to every convolution, for training from scratch.
    """
    top = bottom
    for group, (depth, width) in enumerate(zip(DEPTHS, widths, strict=True), start=1):
        for i in range(1, depth + 1):
            pad = 100 if top is bottom else 1
            n[f"conv{group}_{i}"] = conv(top, width, kernel_size=3, pad=pad, **filler)
            n[f"relu{group}_{i}"] = top = L.ReLU(n[f"conv{group}_{i}"], in_place=True)
        n[f"pool{group}"] = top = L.Pooling(top, pool=P.Pooling.MAX, kernel_size=2, stride=2)

    for name, kernel_size in (("6", 7), ("7", 1)):
        n["fc" + name] = conv(top, fc_width, kernel_size=kernel_size, pad=0, **filler)
        n["relu" + name] = top = L.ReLU(n["fc" + name], in_place=True)
        if dropout:
            n["drop" + name] = top = L.Dropout(top, dropout_ratio=0.5, in_place=True)
    return top


def conv(bottom: Any, num_output: int, kernel_size: int, pad: int, **filler: Any) -> Any:
    """A convolution of stride 1 that learns."""
    return L.Convolution(
        bottom, num_output=num_output, kernel_size=kernel_size, stride=1, pad=pad, param=LEARNED, **filler
    )
