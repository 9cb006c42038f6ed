"""The loss of a net's last pass: as Caffe logs it, and per pixel, so that losses of different images compare."""

from __future__ import annotations

from typing import Any

import caffe


class Loss:
    """Reads the loss of a net's last pass: a scalar or two, so that doing it every iteration costs nothing."""

    def __init__(self, net: caffe.Net, layers: Any) -> None:
        """Find the net's losses; `layers` are the layers of its prototxt (LayerParameter messages)."""
        made_by = {top: layer for layer in layers for top in layer.top}
        self._terms: list[tuple[Any, float, Any]] = []  # loss blob, weight, label blob or None
        for name, weight in net.blob_loss_weights.items():
            if weight:
                label = _summed_over(made_by.get(name))
                self._terms.append((net.blobs[name], weight, net.blobs.get(label) if label else None))
        self.summed = any(label is not None for _, _, label in self._terms)

    def read(self) -> tuple[float, float]:
        """Return the weighted sum of the losses, as Caffe logs it, and the same with each loss per pixel.

        A loss that Caffe has already divided by its pixels (normalize: true, the default) is the same in both;
        one that is a sum over the image (normalize: false) is divided by the label map's height x width.
        """
        total = per_pixel = 0.0
        for blob, weight, label in self._terms:
            value = weight * float(blob.data.sum())
            total += value
            per_pixel += value / (label.height * label.width) if label is not None else value
        return total, per_pixel


def _summed_over(layer: Any) -> str | None:
    """Return the label blob of a loss that is a sum over the pixels of one; None for any other layer.

    Which normalization a loss has is softmax_loss_layer.cpp's and sigmoid_cross_entropy_loss_layer.cpp's word.
    """
    if layer is None or layer.type not in ("SoftmaxWithLoss", "SigmoidCrossEntropyLoss"):
        return None
    settings = layer.loss_param
    if settings.HasField("normalization"):
        summed = settings.normalization == settings.BATCH_SIZE
    elif settings.HasField("normalize"):
        summed = not settings.normalize
    else:
        summed = layer.type == "SigmoidCrossEntropyLoss"
    return str(layer.bottom[1]) if summed else None
