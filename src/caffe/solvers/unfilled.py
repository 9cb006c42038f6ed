"""A check of a net that starts to train: which layers have zero weights that no gradient will ever change.

A layer without a weight_filler starts at zero. If nothing is loaded into it, its output is zero, a ReLU after it
passes no gradient, and the loss stays where it is: at ln(classes) a pixel, for a softmax. Caffe trains on in silence.
"""

from __future__ import annotations

import torch

from .. import glog
from ..layer import Layer
from ..net import Net

_WEIGHTED = ("Convolution", "InnerProduct", "Deconvolution")
_SHOWN = 6


def warn_of_unfilled_layers(net: Net) -> list[str]:
    """Log one warning if layers of a net were never filled, and return their names.

    To be called after a backward pass, before the update: a layer whose weights are zero and whose gradient is not
    will learn.
    """
    names = unfilled_layers(net)
    if names:
        shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        upsampling = [name for name in names if net.layer_dict[name].type == "Deconvolution"]
        advice = (
            f" A Deconvolution that upsamples ('{upsampling[0]}') needs its interpolation kernel: fill it with a "
            'weight_filler of type "bilinear" and group = num_output, or in the program before training.'
            if upsampling
            else ""
        )
        glog.warning(
            f"The weights of {len(names)} layer(s) are all zero and get no gradient: {shown}{more}. They will not "
            "learn, and the loss will stay where it is. Load trained weights (net.copy_from, or `weights:` in the "
            f"solver), or give the layers a weight_filler.{advice}"
        )
    return names


def unfilled_layers(net: Net) -> list[str]:
    """Return the names of the layers whose weights are zero and will stay zero.

    A layer that scores is not among them: one whose output comes to the loss without passing another layer with
    parameters, deconvolutions apart, starts at zero by design.
    """
    found = []
    layers = net.layer_dict
    for param in net.learnable:
        layer = layers[param.layer_name]
        if param.index == 0 and layer.type in _WEIGHTED and _is_zero(layer):
            frozen = param.lr_mult == 0
            by_design = not frozen and layer.type != "Deconvolution" and not _feeds_weights(net, param.layer_name)
            if frozen or (not by_design and not param.blob.diff_tensor().any()):
                found.append(param.layer_name)
    return found


def _is_zero(layer: Layer) -> bool:
    """Tell whether weight and bias are zero throughout; a bias with values makes an output on purpose."""
    return not any(_any(blob.data_tensor()) for blob in layer.blobs)


def _any(values: torch.Tensor) -> bool:
    flat = values.reshape(-1)  # a filled layer is known by its first values
    return bool(flat[:1024].any()) or bool(flat.any())


def _feeds_weights(net: Net, name: str) -> bool:
    """Tell whether a layer's output passes another layer with parameters, other than a Deconvolution."""
    bottoms, tops, names = net.bottom_names, net.top_names, list(net._layer_names)
    start = names.index(name)
    reached = set(tops[name])
    for after, layer in zip(names[start + 1 :], net.layers[start + 1 :], strict=True):
        if reached.intersection(bottoms[after]):
            if layer.blobs and layer.type != "Deconvolution":
                return True
            reached.update(tops[after])
    return False
