"""The AlexNet trunk (Caffe's reference CaffeNet), its fully connected layers cast into convolutions (section 4.1).

Unlike the other trunks its layers say nothing of learning rates, as in the reference: biases learn and decay as weights
do, though the papers speak of doubled biases.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from caffe import layers as L
from caffe import params as P
from nets import heads

FC_WIDTH = 4096

# With a kernel of 63 the crop's offset is whole: 18; with 64 it would be 18.5.
fcn32s = partial(heads.fcn32s, kernel_size=63)


def trunk(n: Any, bottom: Any, dropout: bool, *, thin: int = 1, **options: Any) -> Any:
    """Add conv1 ... pool5, fc6 and fc7 to the NetSpec ``n``; gives the last top, 1/32 of ``bottom``'s size.

    ``bottom`` is padded by 100 pixels, so that fc6's 6x6 window fits on an image of any size. ``thin`` divides the
    channels; ``options`` go to every convolution.
    """
    top = conv_relu(n, "1", bottom, 96 // thin, kernel_size=11, stride=4, pad=100, **options)
    top = pool_norm(n, "1", top)
    top = conv_relu(n, "2", top, 256 // thin, kernel_size=5, pad=2, group=2, **options)
    top = pool_norm(n, "2", top)
    top = conv_relu(n, "3", top, 384 // thin, kernel_size=3, pad=1, **options)
    top = conv_relu(n, "4", top, 384 // thin, kernel_size=3, pad=1, group=2, **options)
    top = conv_relu(n, "5", top, 256 // thin, kernel_size=3, pad=1, group=2, **options)
    n.pool5 = top = pool(top)
    for number, kernel_size in (("6", 6), ("7", 1)):
        top = conv_relu(n, number, top, FC_WIDTH // thin, "fc", kernel_size=kernel_size, **options)
        if dropout:
            n["drop" + number] = top = L.Dropout(top, dropout_ratio=0.5, in_place=True)
    return top


def conv_relu(
    n: Any,
    number: str,
    bottom: Any,
    num_output: int,
    kind: str = "conv",
    *,
    kernel_size: int,
    stride: int = 1,
    pad: int = 0,
    group: int = 1,
    **options: Any,
) -> Any:
    """The convolution ``<kind><number>`` and its ReLU."""
    n[kind + number] = L.Convolution(
        bottom, num_output=num_output, kernel_size=kernel_size, stride=stride, pad=pad, group=group, **options
    )
    n["relu" + number] = L.ReLU(n[kind + number], in_place=True)
    return n["relu" + number]


def pool_norm(n: Any, number: str, bottom: Any) -> Any:
    """Pooling, then local response normalisation across five channels: CaffeNet's order, not AlexNet's own."""
    n["pool" + number] = pool(bottom)
    n["norm" + number] = L.LRN(n["pool" + number], local_size=5, alpha=1e-4, beta=0.75)
    return n["norm" + number]


def pool(bottom: Any) -> Any:
    """Overlapping max pooling, 3x3 at stride 2."""
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)
