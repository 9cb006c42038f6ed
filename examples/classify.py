"""Classify images with a published ILSVRC net.

    python examples/classify.py deploy.prototxt net.caffemodel photo.jpg ... --mean 104,117,123 --labels words.txt

prints for each image the five most probable classes. The options' defaults are those of the nets that came with Caffe:
images are resized to 256 x 256, ten crops of the net's input size are averaged (the corners, the centre, and their
mirror images), channels are blue, green, red, values run from 0 to 255, and the mean is subtracted.

--mean is one value a channel (b,g,r), a .npy file or a .binaryproto file; --labels a text file with one class a line,
such as synset_words.txt. Without labels the classes are numbers, from 0.

For bvlc_googlenet.caffemodel and squeezenet_v1.1.caffemodel, whose prototxts can be made from the weights:

    python examples/deploy_from_weights.py squeezenet_v1.1.caffemodel deploy.prototxt --shape 10,3,227,227
    python examples/classify.py deploy.prototxt squeezenet_v1.1.caffemodel photo.jpg

The published counterparts are BVLC Caffe's classification notebook and python/classify.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import caffe
from caffe.proto import caffe_pb2


def read_mean(mean: str) -> np.ndarray:
    """Return the mean, C or C x H x W, from its values or from a file."""
    if mean.endswith(".npy"):
        return np.load(mean)
    if mean.endswith(".binaryproto"):
        blob = caffe_pb2.BlobProto()
        blob.ParseFromString(Path(mean).read_bytes())
        return caffe.io.blobproto_to_array(blob)[0]
    try:
        return np.array([float(value) for value in mean.split(",")])
    except ValueError:
        sys.exit(f"--mean is {mean!r}; it takes values (104,117,123), a .npy file or a .binaryproto file.")


def main() -> None:
    """Read the command line, classify, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the net's deploy prototxt")
    parser.add_argument("weights", help="its .caffemodel")
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--mean", default="104,117,123", help="b,g,r or a .npy or .binaryproto file")
    parser.add_argument("--labels", help="text file, one class a line")
    parser.add_argument("--image-dims", default="256,256", help="height,width to which images are resized")
    parser.add_argument("--raw-scale", type=float, default=255, help="by which values from 0 to 1 are multiplied")
    parser.add_argument("--channel-swap", default="2,1,0", help="order of the channels red, green, blue")
    parser.add_argument("--center-only", action="store_true", help="one crop in place of ten")
    parser.add_argument("--gpu", action="store_true", help="compute on the GPU")
    args = parser.parse_args()

    caffe.init_log(2)  # errors only; without this line, Caffe's log
    if args.gpu:
        caffe.set_mode_gpu()
    classifier = caffe.Classifier(
        args.model,
        args.weights,
        image_dims=[int(side) for side in args.image_dims.split(",")],
        mean=read_mean(args.mean),
        raw_scale=args.raw_scale,
        channel_swap=[int(channel) for channel in args.channel_swap.split(",")],
    )
    labels = Path(args.labels).read_text(encoding="utf-8").splitlines() if args.labels else None
    for image in args.images:
        probabilities = classifier.predict([caffe.io.load_image(image)], oversample=not args.center_only).ravel()
        if labels is not None and len(labels) != len(probabilities):
            sys.exit(f"{args.labels} has {len(labels)} lines, the net {len(probabilities)} classes.")
        print(image)
        for label in probabilities.argsort()[::-1][:5]:
            print(f"  {probabilities[label]:.3f}  {labels[label] if labels else f'class {label}'}")


if __name__ == "__main__":
    main()
