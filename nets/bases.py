"""The classifiers of ILSVRC that fully convolutional nets are made of, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nets import alexnet, googlenet, heads, vgg16


@dataclass(frozen=True, kw_only=True)
class Base:
    """A classifier, as a trunk."""

    name: str
    """What `python -m nets` calls it."""
    title: str
    """What the papers call it."""
    trunk: Callable[..., Any]
    heads: Mapping[str, Callable[..., None]]
    """The heads that there are for it, by their strides: 32s, and where the trunk has skips 16s and 8s."""
    rate: float
    """At 32s on VOC's images, one an iteration, the loss a sum over the pixels, with momentum 0.99."""
    image: int
    """The classifier's input's height and width, in pixels."""
    fetch: str
    """What `python -m datasets fetch` calls its weights."""
    source: str
    """The file of its weights, in data/ilsvrc-nets."""
    weights: str
    """The file of the weights that training starts from, in data/ilsvrc-nets."""
    inner_products: tuple[str, ...] = ()
    """Its layers that are convolutions in the trunk; () where the classifier is convolutional, and starts as it is."""
    least: int = 1
    """The least height and width of an image, in pixels, that leaves the last layers anything to see."""
    pad: int = 0
    """The classifier's first convolution's padding, where the trunk has 100 pixels for the first inner product."""

    @property
    def obtain(self) -> str:
        """The commands that put the weights that training starts from in their place, for the repository's root."""
        made = f" && python -m nets convolutionalize {self.name}" if self.inner_products else ""
        return f"python -m datasets fetch {self.fetch}{made}"


# The papers' rates are 1e-4 for VGG16, ten times that for AlexNet and half of it for GoogLeNet, with the loss as a mean
# over the pixels; the reference's for VGG16 with a sum is 1e-10, and the others keep their distance from it.
_BASES = (
    Base(
        name="vgg16",
        title="VGG16",
        trunk=vgg16.trunk,
        heads={"32s": heads.fcn32s, "16s": heads.fcn16s, "8s": heads.fcn8s},
        rate=1e-10,
        image=224,
        fetch="vgg16",
        source="VGG_ILSVRC_16_layers.caffemodel",
        weights="vgg16-fcn.caffemodel",
        inner_products=("fc6", "fc7"),
        pad=1,
    ),
    Base(
        name="alexnet",
        title="AlexNet",
        trunk=alexnet.trunk,
        heads={"32s": alexnet.fcn32s},
        rate=1e-9,
        image=227,
        fetch="caffenet",
        source="bvlc_reference_caffenet.caffemodel",
        weights="alexnet-fcn.caffemodel",
        inner_products=("fc6", "fc7"),
        pad=0,
    ),
    Base(
        name="googlenet",
        title="GoogLeNet",
        trunk=googlenet.trunk,
        heads={"32s": googlenet.fcn32s},
        rate=5e-11,
        image=224,
        fetch="googlenet",
        source="bvlc_googlenet.caffemodel",
        weights="bvlc_googlenet.caffemodel",
        least=31,
    ),
)

BASES = {base.name: base for base in _BASES}
