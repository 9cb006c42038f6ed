"""Get a deploy prototxt out of a .caffemodel, which holds the settings of the layers that it was trained with.

    python examples/deploy_from_weights.py net.caffemodel deploy.prototxt --shape 10,3,224,224

Where the weights are there but the prototxt is lost, most of it is in the weights: Caffe writes each layer with its
name, type, bottoms, tops and settings. What is made of them:

* the data layers go, and an Input of the given shape (N,C,H,W) takes the place of the first one's first top;
* splits go, since Caffe makes them anew;
* what needs a label goes with it: losses and accuracies. A SoftmaxWithLoss becomes the Softmax that it begins with, a
  SigmoidCrossEntropyLoss its Sigmoid;
* weights, fillers' results, learning rates and phases go.

The input's size is not in the file where a data layer cropped to it; the net's paper says it. Weights of V1 nets are
brought to today's form first: `caffe upgrade old.caffemodel new.caffemodel`.
"""

from __future__ import annotations

import argparse
import sys

from google.protobuf.message import DecodeError

from caffe.proto import caffe_pb2

# What a loss computes before it looks at the label.
ACTIVATION = {"SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid"}


def read(weights: str) -> caffe_pb2.NetParameter:
    """Return what a binary .caffemodel holds. Ends the program for a file that cannot be used."""
    net = caffe_pb2.NetParameter()
    try:
        with open(weights, "rb") as file:
            net.ParseFromString(file.read())
    except (OSError, DecodeError) as error:
        sys.exit(f"{weights} cannot be read as a binary .caffemodel: {error}")
    if net.layers:
        sys.exit(f"{weights} holds V1 layers; write them anew first: caffe upgrade {weights} NEW")
    if not net.layer:
        sys.exit(f"{weights} holds no layers.")
    return net


def deploy(net: caffe_pb2.NetParameter, shape: list[int]) -> caffe_pb2.NetParameter:
    """Return the net that computes from an input of that shape what the weights' net computed from its data."""
    made = caffe_pb2.NetParameter()
    if net.name:
        made.name = net.name
    # What a blob of the old net is called in the new one; blobs that are missing there cannot be computed.
    names: dict[str, str] = {}
    for layer in net.layer:
        if not layer.bottom:
            if not names and layer.top:
                entry = made.layer.add(name=layer.top[0], type="Input", top=[layer.top[0]])
                entry.input_param.shape.add(dim=shape)
                names[layer.top[0]] = layer.top[0]
            continue
        if layer.type in ACTIVATION and layer.bottom[0] in names:
            top = "prob" if "prob" not in names.values() else f"{layer.name}_prob"
            activation = made.layer.add(name=top, type=ACTIVATION[layer.type], bottom=[names[layer.bottom[0]]])
            activation.top.append(top)
            if layer.HasField("softmax_param"):
                activation.softmax_param.CopyFrom(layer.softmax_param)
            names[top] = top
            continue
        if layer.type == "Silence" or any(bottom not in names for bottom in layer.bottom):
            continue
        if layer.type == "Split":
            names.update(dict.fromkeys(layer.top, names[layer.bottom[0]]))
            continue
        kept = made.layer.add()
        kept.CopyFrom(layer)
        for field in ("blobs", "param", "phase", "include", "exclude", "loss_weight", "propagate_down"):
            kept.ClearField(field)
        kept.bottom[:] = [names[bottom] for bottom in layer.bottom]
        names.update(zip(layer.top, layer.top, strict=True))
    return made


def main() -> None:
    """Read the command line, write the prototxt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a binary .caffemodel")
    parser.add_argument("prototxt", help="the file to write")
    parser.add_argument("--shape", required=True, help="of the input: N,C,H,W; N is the batch, 10 for ten crops")
    args = parser.parse_args()
    net = deploy(read(args.weights), [int(extent) for extent in args.shape.split(",")])
    with open(args.prototxt, "w", encoding="utf-8") as file:
        file.write(str(net))
    print(f"{args.prototxt}: {len(net.layer)} layers, input {net.layer[0].top[0]}, output {net.layer[-1].top[0]}")


if __name__ == "__main__":
    main()
