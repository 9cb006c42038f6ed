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
    *,
    thin: int = 1,
    suffix: str = "",
    first: str = "conv1_1",
    until: str = "fc7",
    **filler: Any,
) -> Any:
    """Add conv1_1 ... pool5, fc6 and fc7 to the NetSpec ``n``; gives the last top, 1/32 of ``bottom``'s size.

    ``bottom`` is padded by 100 pixels, so that fc6's 7x7 window fits on an image of any size. ``thin`` divides the
    channels, for training from scratch, and ``filler`` goes to every convolution. ``suffix`` ends the name of every
    layer and top, for two trunks in one net. ``first`` names the first convolution: one that takes other channels than
    the classifier's is not to take its weights. ``until`` names the last layer, such as pool4.
    """
    top = bottom
    for group, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=1):
        for i in range(1, depth + 1):
            name = first if top is bottom else f"conv{group}_{i}"
            pad = 100 if top is bottom else 1
            n[name + suffix] = conv(top, width // thin, kernel_size=3, pad=pad, **filler)
            n[f"relu{group}_{i}{suffix}"] = top = L.ReLU(n[name + suffix], in_place=True)
        n[f"pool{group}{suffix}"] = top = L.Pooling(top, pool=P.Pooling.MAX, kernel_size=2, stride=2)
        if until == f"pool{group}":
            return top

    for number, kernel_size in ((6, 7), (7, 1)):
        n[f"fc{number}{suffix}"] = conv(top, FC_WIDTH // thin, kernel_size=kernel_size, pad=0, **filler)
        n[f"relu{number}{suffix}"] = top = L.ReLU(n[f"fc{number}{suffix}"], in_place=True)
        if dropout:
            n[f"drop{number}{suffix}"] = top = L.Dropout(top, dropout_ratio=0.5, in_place=True)
    return top


def conv(bottom: Any, num_output: int, kernel_size: int, pad: int, **filler: Any) -> Any:
    """A convolution of stride 1 that learns."""
    return L.Convolution(
        bottom, num_output=num_output, kernel_size=kernel_size, stride=1, pad=pad, param=LEARNED, **filler
    )
