"""Segment images: a label map as a palette PNG, and an overlay with its legend, for each.

    python infer.py photo.jpg --net voc-fcn8s --weights voc-fcn8s/voc-fcn8s.caffemodel --out segmented
    python infer.py folder/of/photos --net voc-fcn8s --gpu 0

Writes OUT/NAME.png, whose pixels are the classes' indices in VOC's colours, and OUT/NAME_overlay.png. The net is the
experiment's deploy.prototxt, reshaped to each image; mean and scale are those that its evaluation net reads images
with.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import caffe
import vis
from experiment import (
    add_options,
    data_settings,
    evaluation_prototxt,
    experiment_name,
    find_experiment,
    find_weights,
    unfilled_layers,
    use_device,
)
from layers import network_input, read_image

# Blue, green and red of the ILSVRC images that the trunks were trained on.
MEAN = (104.00699, 116.66877, 122.67892)

# What is taken for an image in a folder.
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


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
    values = network_input(rgb, mean, scale)
    net.blobs["data"].reshape(1, *values.shape)
    net.blobs["data"].data[...] = values
    net.forward()
    return net.blobs[layer].data[0].argmax(0).astype(np.uint8)


def deploy_net(experiment: Path, weights: Path) -> caffe.Net:
    """Return an experiment's deploy net with its weights; FileNotFoundError if there is no deploy.prototxt."""
    prototxt = experiment / "deploy.prototxt"
    if not prototxt.is_file():
        raise FileNotFoundError(f"{prototxt} is missing: `python -m nets {experiment_name(experiment)}` writes it.")
    return caffe.Net(str(prototxt), caffe.TEST, weights=str(weights))


def find_images(path: Path) -> list[Path]:
    """Return the image itself, or a folder's images by name; FileNotFoundError if there are none."""
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if images:
            return images
        raise FileNotFoundError(f"There is no image in {path}: looked for {', '.join(sorted(SUFFIXES))}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no image {path}.")
    return [path]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status: 0, or 1 with the reason on stderr if an image failed."""
    parser = argparse.ArgumentParser(prog="infer.py", description="Segment an image, or a folder of images.")
    parser.add_argument("path", type=Path, metavar="IMAGE_OR_DIR")
    add_options(parser)
    parser.add_argument("--out", type=Path, default=Path("segmented"), help="where to write (default: segmented)")
    parser.add_argument("--alpha", type=float, default=0.5, help="the colours' share of the overlay (default: .5)")
    options = parser.parse_args(argv)
    try:
        return _run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"infer.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    if not 0 <= options.alpha <= 1:
        raise ValueError(f"--alpha is {options.alpha}, expected 0 (the image alone) to 1 (the colours alone).")
    images = find_images(options.path)
    if options.out.resolve() == images[0].parent.resolve():
        raise ValueError(f"{options.out} is where the images are: name another folder with --out.")
    experiment = find_experiment(options.net)
    weights = find_weights(experiment, options.weights)
    settings = data_settings(evaluation_prototxt(experiment))
    use_device(options.gpu)
    net = deploy_net(experiment, weights)
    zero = unfilled_layers(net)
    if zero:
        print(f"Beware: the weights of {', '.join(zero)} are all zero in {weights}.", file=sys.stderr)
    classes = tuple(net.blobs["score"].shape)[1]
    names, palette = vis.class_names(experiment_name(experiment), classes), vis.make_palette(classes)
    stems = Counter(path.stem for path in images)
    failed = 0
    for path in images:
        try:
            image = np.asarray(read_image(path))
        except ValueError as error:  # One bad file does not end a folder.
            print(f"infer.py: {error}", file=sys.stderr)
            failed += 1
            continue
        labels = segment(net, image, settings.get("mean", MEAN), settings.get("scale", 1.0))
        name = path.stem if stems[path.stem] == 1 else path.name
        vis.save_labels(options.out / f"{name}.png", labels)
        vis.overlay(image, labels, names, palette, options.alpha).save(options.out / f"{name}_overlay.png")
        found = [names[label] for label in np.unique(labels)]
        print(f"{path}: {', '.join(found)} -> {options.out / name}.png")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
