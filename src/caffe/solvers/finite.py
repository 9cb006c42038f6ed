"""Finding the first layer of a net whose values are infinite or not numbers."""

from __future__ import annotations

import math

from ..blob import Blob
from ..net import Net


def is_finite(blob: Blob) -> bool:
    """Tell whether every value of a blob's data is finite."""
    values = blob.data_tensor()
    if not values.numel():
        return True
    low, high = values.aminmax()  # one pass and no copy; both are NaN if any value is
    return math.isfinite(float(low)) and math.isfinite(float(high))


def describe_first_not_finite(net: Net) -> str:
    """Say, in a sentence, which parameter or blob is not finite in the first layer that has one."""
    tops = net.top_names
    for name, layer in zip(net._layer_names, net.layers, strict=True):
        for index, blob in enumerate(layer.blobs):
            if not is_finite(blob):
                return (
                    f"The first values that are not finite are in parameter {index} of layer '{name}' ({layer.type})."
                )
        for top in tops[name]:
            if not is_finite(net.blobs[top]):
                return f"The first values that are not finite are in blob '{top}', from layer '{name}' ({layer.type})."
    return "Every blob and parameter is finite: the weighted sum of the losses is too large."
