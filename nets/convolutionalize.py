"""``python -m nets convolutionalize``: from ILSVRC's classifiers to the nets that experiments start from (section 3.1).

    python -m nets convolutionalize vgg16       VGG_ILSVRC_16_layers.caffemodel -> vgg16-fcn.caffemodel
    python -m nets convolutionalize alexnet     bvlc_reference_caffenet.caffemodel -> alexnet-fcn.caffemodel

both in data/ilsvrc-nets, unless a source and an output are named. An inner product over a window's features is a
convolution by filters of the window's size: the values stay, in their order, and only the shapes of fc6 and fc7
change. fc8, which scores ImageNet's classes, is left out. GoogLeNet's layers are convolutions already.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import caffe
import surgery
from caffe import layers as L
from files.writing import replaced
from nets.bases import BASES, Base
from nets.folders import data_folder
from nets.loading import load


def convolutionalize(base: Base, source: Path | None = None, out: Path | None = None, thin: int = 1) -> Path:
    """Write the convolutional net of a classifier's weights; gives the file's path.

    ``source`` and ``out`` are files, by default the base's own in data/ilsvrc-nets (or where FCN_DATA says).
    ``thin`` divides the channels of both nets. The file is written whole or not at all. Raises FileNotFoundError
    where there is no source, and ValueError where it is another net's.
    """
    source = source or in_data(base.source)
    out = out or in_data(base.weights)
    if not source.is_file():
        raise FileNotFoundError(
            f"There is no {source} to make convolutional: `python -m datasets fetch {base.fetch}` gets it, "
            "or name the file of the classifier's weights."
        )
    if out.resolve() == source.resolve():
        raise ValueError(f"{out} would be written over the classifier that it is made of: name another file.")
    net = load(convolutional_net(base, thin))
    surgery.transplant(net, classifier(base, source, thin))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replaced(out) as partial:
        net.save(str(partial))
    return out


def classifier(base: Base, weights: Path, thin: int = 1) -> caffe.Net:
    """Load a classifier to fc7, its fully connected layers as they were trained.

    The file may be any Caffe's; the oldest hold weights of four dimensions. Raises ValueError where it is another
    net's: Caffe itself would take the layers whose names it knows, be there any or none.
    """
    net = load(classifier_net(base, thin))
    for name in net.params:
        net.params[name][0].data[...] = np.nan  # and stays so if the file has not this layer
    wrong = f"{weights} does not hold the classifier that {base.source} is"
    try:
        net.copy_from(str(weights))
    except RuntimeError as error:
        raise ValueError(f"{wrong}: {error}") from error
    missing = [name for name in net.params if np.isnan(net.params[name][0].data).all()]
    if missing:
        raise ValueError(f"{wrong}: it has no layer {', '.join(missing)}.")
    return net


def convolutional_net(base: Base, thin: int = 1) -> Any:
    """The trunk of a fully convolutional net, to its last features: fc7, or GoogLeNet's inception_5b."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, base.image, base.image]})
    base.trunk(n, n.data, dropout=False, thin=thin)
    return n.to_proto()


def classifier_net(base: Base, thin: int = 1) -> Any:
    """The same as a classifier: padded as it was, with inner products for fc6 and fc7."""
    net = convolutional_net(base, thin)
    for layer in net.layer:
        if list(layer.convolution_param.pad) == [100]:
            layer.convolution_param.pad[:] = [base.pad]
        if layer.name in base.inner_products:
            layer.type = "InnerProduct"
            layer.inner_product_param.num_output = layer.convolution_param.num_output
            layer.ClearField("convolution_param")
    return net


def in_data(file: str) -> Path:
    """Where a base net's file is: in data/ilsvrc-nets, or in that of the folder that FCN_DATA names."""
    return data_folder() / "ilsvrc-nets" / file


def main(argv: Sequence[str]) -> int:
    """Do what a command line asks; SystemExit with a sentence where it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m nets convolutionalize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", choices=BASES)
    parser.add_argument("source", nargs="?", type=Path, help="the classifier's weights (data/ilsvrc-nets/...)")
    parser.add_argument("out", nargs="?", type=Path, help="the file to write (data/ilsvrc-nets/BASE-fcn.caffemodel)")
    options = parser.parse_args(argv)
    base = BASES[options.base]
    if not base.inner_products:
        raise SystemExit(
            f"{base.title}'s layers are convolutions already: training starts from {base.weights} as it is, which "
            f"`{base.obtain}` gets."
        )
    try:
        print(convolutionalize(base, options.source, options.out))
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(str(error)) from error
    return 0
