"""Labels of an image that has none: what an experiment's deploy net sees in it.

The net is reshaped to each image; mean and scale are those that the experiment's evaluation net reads images with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import caffe
from layers import NYUDSegDataLayer, network_input, read_image
from nets.folders import data_settings, experiment_name, filled_net, read_net
from reading.data_layers import class_of, data_layers
from reading.image_files import read_log_depth

# Blue, green and red of the ILSVRC images that the trunks were trained on.
MEAN = (104.00699, 116.66877, 122.67892)


@dataclass(frozen=True)
class Reading:
    """How an experiment's evaluation net reads images, which its deploy net is to be given in the same way.

    settings: its data layer's param_str. inputs: what each of the deploy net's inputs holds, "color", "hha" or
    "depth", in order.
    """

    settings: Mapping[str, Any]
    mean: Sequence[float]
    scale: float
    inputs: tuple[str, ...]

    @classmethod
    def of(cls, prototxt: Path) -> Reading:
        """Return what the data layer in an experiment's val.prototxt or test.prototxt does."""
        settings = data_settings(prototxt)
        found = data_layers(read_net(prototxt))
        layer = class_of(found[0]) if found else None
        mean = settings.get("mean") or (layer.default_mean if layer else None) or MEAN
        inputs = tuple(name for name in settings.get("tops", ["color"]) if name != "label")
        return cls(settings, mean, settings.get("scale", 1.0), inputs)

    def read(self, kind: str, path: Path) -> np.ndarray:
        """Return what an input of that kind holds: C x H x W, float32."""
        if kind == "depth":
            return read_log_depth(path)[np.newaxis] - np.float32(NYUDSegDataLayer.LOG_DEPTH_MEAN)
        rgb = np.asarray(read_image(path))
        if kind == "hha":  # The channels stay in the file's order.
            return network_input(rgb[:, :, ::-1], NYUDSegDataLayer.HHA_MEAN, self.scale)
        return network_input(rgb, self.mean, self.scale)


def segment(
    net: caffe.Net,
    image: Image.Image | np.ndarray,
    mean: Sequence[float] = MEAN,
    scale: float = 1.0,
    layer: str = "score",
) -> np.ndarray:
    """Return an image's labels, H x W, uint8: the class of the highest score at each pixel.

    net: one with the input `data`, which is reshaped to the image. image: RGB, H x W x 3, uint8, or a Pillow
    image, of which transparency and EXIF orientation are `layers.read_image`'s business. mean, scale: what the
    net was trained with, see layers.py. layer: the blob of scores, 1 x classes x H x W. Raises ValueError for
    another kind of image.
    """
    rgb = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"An image to segment is H x W x 3, uint8, not {rgb.shape} {rgb.dtype}.")
    return run(net, {"data": network_input(rgb, mean, scale)}, [layer])[layer]


def run(net: caffe.Net, inputs: Mapping[str, np.ndarray], heads: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the labels, H x W, uint8, that each of the blobs `heads` gives for inputs of C x H x W each."""
    for name, values in inputs.items():
        net.blobs[name].reshape(1, *values.shape)
        net.blobs[name].data[...] = values
    net.forward()
    return {head: net.blobs[head].data[0].argmax(0).astype(np.uint8) for head in heads}


def deploy_net(experiment: Path, weights: Path) -> caffe.Net:
    """Return an experiment's deploy net with its weights; FileNotFoundError if there is no deploy.prototxt.

    Raises ValueError where the weights are damaged or another net's.
    """
    prototxt = experiment / "deploy.prototxt"
    if not prototxt.is_file():
        raise FileNotFoundError(f"{prototxt} is missing: `python -m nets {experiment_name(experiment)}` writes it.")
    return filled_net(prototxt, weights)
