"""Net surgery: bring a classifier's weights into a fully convolutional net, and fill its upsampling layers.

    transplant    copy parameters from net to net by layer name; reshape an inner product into a convolution
    interp        make deconvolution layers do bilinear interpolation
    expand_score  start a score layer of more classes from one of fewer
    copy_stream   fill one of several streams of layers from a weights file (late fusion)
    add_channels  start a convolution from a weights file's that takes fewer channels (early fusion)

"Fully Convolutional Networks for Semantic Segmentation", sections 3.1 (convolutionalising), 3.3 and 4.2
(upsampling, skips), 5 (fusion). The nets are `caffe.Net`s; what cannot be done is a ValueError, raised before
anything is changed.
"""

from __future__ import annotations

import numbers
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import caffe
from caffe import layers as L

Shape = tuple[int, ...]


@dataclass
class Transplant:
    """What a transplant did, blob by blob; `str()` of it is a summary to read.

    A blob is named "layer[i]", with i = 0 the weights and 1 the bias. copied and untouched name the new net's
    blobs, dropped the old net's; coerced maps the new net's to (old shape, new shape).
    """

    copied: list[str] = field(default_factory=list)
    coerced: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"copied     {_listed(self.copied)}",
            *(f"coerced    {name}: {_by(old)} -> {_by(new)}" for name, (old, new) in self.coerced.items()),
            f"dropped    {_listed(self.dropped)}",
            f"untouched  {_listed(self.untouched)}",
        ]
        return "\n".join(lines)


def transplant(new_net: caffe.Net, net: caffe.Net, suffix: str = "") -> Transplant:
    """Copy net's parameters into new_net, layer by layer of the same name, and print what was done.

    A blob of equal shape is copied. One of another shape but as many values is coerced: its values are
    taken in their order, which is how an inner product's 4096 x 25088 weights become a convolution's
    4096 x 512 x 7 x 7. net's layers and blobs that new_net has not are dropped; new_net's that net has not
    stay untouched.

    suffix: what new_net's layer names have more than net's, for two copies of a net in one (conv1_1 of net
    goes to conv1_1color of new_net where the suffix is "color").

    Returns the report that it prints. Raises ValueError where a blob has another number of values, or where
    the nets have no layer in common.
    """
    report = Transplant()
    pairs = []
    misfits = []
    for name in net.params:
        new_name = name + suffix
        held = _blobs(new_net, new_name)
        for i, blob in enumerate(_blobs(net, name)):
            if i >= len(held):
                report.dropped.append(f"{name}[{i}]")
                continue
            old, new = tuple(blob.shape), tuple(held[i].shape)
            if old == new:
                report.copied.append(f"{new_name}[{i}]")
            elif np.prod(old) == np.prod(new):
                report.coerced[f"{new_name}[{i}]"] = (old, new)
            else:
                misfits.append(f"{new_name}[{i}] is {_by(new)}, but {name}[{i}] to be put there is {_by(old)}")
            pairs.append((held[i], blob))
    if misfits:
        raise ValueError(
            f"The nets' layers do not fit: {'; '.join(misfits)}. Give a layer that is to be learned anew "
            "another name in the new net."
        )
    if not pairs:
        raise ValueError(
            "The nets have no layer with parameters in common, so that nothing would be transplanted: "
            f"the old net has {_listed(list(net.params))}, the new one {_listed(list(new_net.params))}"
            + (f", looked for with the suffix '{suffix}'." if suffix else ".")
        )
    for target, source in pairs:
        target.data[...] = source.data.reshape(target.data.shape)
    given = {*report.copied, *report.coerced}
    for name in new_net.params:
        names = [f"{name}[{i}]" for i in range(len(new_net.params[name]))]
        report.untouched += [blob for blob in names if blob not in given]
    print(f"transplant:\n{report}")
    return report


def upsample_filt(size: float) -> np.ndarray:
    """Return the kernel of bilinear upsampling: size x size, float64, of the factor (size + 1) // 2.

    size: a whole number of any type, so that 4.0 does as well as 4. Raises ValueError for any other.
    """
    whole = isinstance(size, numbers.Real) and not isinstance(size, bool) and float(size).is_integer()
    if not whole or size < 1:
        raise ValueError(f"A kernel's size is a whole number of pixels, 1 or more, not {size!r}.")
    size = int(size)
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 == 1 else factor - 0.5
    tent = 1 - np.abs(np.arange(size) - center) / factor
    return np.outer(tent, tent)


def interp(net: caffe.Net, layers: Iterable[str]) -> None:
    """Fill deconvolution layers so that each output channel is its input channel, bilinearly upsampled.

    layers: the layers' names. A dense layer (no `group`) gets the kernel on the diagonal of its channel pairs
    and zero elsewhere; a grouped one the same within its groups. Raises ValueError for a layer that has no
    weights, kernels that are not square, or unequal numbers of input and output channels.
    """
    for name in [layers] if isinstance(layers, str) else layers:
        blobs = _blobs(net, name)
        if not blobs:
            raise ValueError(f"There is no layer '{name}' with weights to interpolate; {_parametric(net)}.")
        weight = blobs[0].data
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
            raise ValueError(f"Layer '{name}' has weights {_by(weight.shape)}: interp fills square kernels only.")
        channels, per_group, size, _ = weight.shape
        source, target = net.blobs[net.bottom_names[name][0]], net.blobs[net.top_names[name][0]]
        c_in, c_out = tuple(source.shape)[1], tuple(target.shape)[1]
        if c_in != c_out or c_in != channels:
            raise ValueError(
                f"Layer '{name}' takes {c_in} channels to {c_out} (weights {_by(weight.shape)}): "
                "interpolation needs as many output channels as input channels."
            )
        weight[...] = 0
        every = np.arange(channels)
        weight[every, every % per_group] = upsample_filt(size)


def expand_score(new_net: caffe.Net, new_layer: str, net: caffe.Net, layer: str) -> None:
    """Start a score layer of k classes from one of k' <= k, so that the first k' classes are the old ones.

    The other classes' weights and biases stay as they are. Raises ValueError where the old layer has more
    classes, other kernels or input channels, or a bias that the new one lacks.
    """
    old, new = _blobs(net, layer), _blobs(new_net, new_layer)
    for name, blobs, owner in ((layer, old, net), (new_layer, new, new_net)):
        if not blobs:
            raise ValueError(f"There is no score layer '{name}' with weights; {_parametric(owner)}.")
    old_shape, new_shape = tuple(old[0].shape), tuple(new[0].shape)
    classes = old_shape[0]
    if classes > new_shape[0] or old_shape[1:] != new_shape[1:]:
        raise ValueError(
            f"Score layer '{layer}' ({_by(old_shape)}) does not fit into '{new_layer}' ({_by(new_shape)}): "
            "the new layer needs at least as many classes, and the same input channels and kernels."
        )
    if len(old) > len(new):
        raise ValueError(f"Score layer '{layer}' has a bias and '{new_layer}' none to take it.")
    new[0].data[:classes] = old[0].data
    if len(old) > 1:
        # A bias is 1-D in today's Caffe and 1 x 1 x 1 x k in the oldest models.
        new[1].data.flat[:classes] = old[1].data.flat


def copy_stream(net: caffe.Net, weights: str, suffix: str) -> Transplant:
    """Fill the convolutions of net whose names end in `suffix` with those that a weights file has without it.

    Deconvolutions are left out: interp fills those. Returns and prints what transplant does. Raises ValueError where
    net has no such layer or the file lacks one of them, and Caffe's own error where the shapes differ.
    """
    names = [name for name in net.params if name.endswith(suffix) and len(net.params[name]) > 1]
    if not names:
        raise ValueError(f"No convolution's name ends in '{suffix}'; {_parametric(net)}.")
    shapes = {name.removesuffix(suffix): tuple(net.params[name][0].shape) for name in names}
    return transplant(net, _stored(weights, shapes), suffix)


def add_channels(net: caffe.Net, new_layer: str, weights: str, layer: str, more: int = 1) -> None:
    """Start a convolution from a weights file's that takes `more` channels fewer.

    The first channels get the file's filters, and each of the further ones their mean over the channels, so that what
    it shows (a depth image's edges) looks to the net as it would in grey. The bias is the file's. Raises ValueError
    where net or the file lacks the layer, and Caffe's own error where the shapes do not go together.
    """
    blobs = _blobs(net, new_layer)
    if not blobs:
        raise ValueError(f"There is no layer '{new_layer}' with weights; {_parametric(net)}.")
    outputs, channels, *window = blobs[0].shape
    old = _stored(weights, {layer: (outputs, channels - more, *window)}).params[layer]
    filters = old[0].data
    blobs[0].data[:, :-more] = filters
    blobs[0].data[:, -more:] = filters.mean(axis=1, keepdims=True)
    blobs[1].data[...] = old[1].data


def _stored(weights: str, shapes: Mapping[str, Shape]) -> caffe.Net:
    """Return a net of convolutions of these shapes, each with a bias and for itself, with a weights file's values.

    A .caffemodel is read into a net; this one needs nobody's prototxt. Raises ValueError where the file has not all.
    """
    n = caffe.NetSpec()
    for name, (outputs, channels, *window) in shapes.items():
        n[f"to/{name}"] = L.Input(shape={"dim": [1, channels, *window]})
        n[name] = L.Convolution(n[f"to/{name}"], num_output=outputs, kernel_size=window)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as prototxt:
        prototxt.write(str(n.to_proto()))
        prototxt.flush()
        net = caffe.Net(prototxt.name, caffe.TEST)
    for name in shapes:
        net.params[name][0].data[...] = np.nan  # and stay so if the file has not this layer
    net.copy_from(weights)
    missing = [name for name in shapes if np.isnan(net.params[name][0].data).all()]
    if missing:
        raise ValueError(f"{weights} has no layer {', '.join(missing)}: these are another net's weights.")
    return net


def _blobs(net: caffe.Net, layer: str) -> list[Any]:
    """Return a layer's parameter blobs; none if the net has no such layer or it has no parameters."""
    return [net.params[layer][i] for i in range(len(net.params[layer]))] if layer in net.params else []


def _parametric(net: caffe.Net) -> str:
    return f"the net's layers with parameters are {_listed(list(net.params))}"


def _by(shape: Iterable[int]) -> str:
    return " x ".join(str(n) for n in shape)


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"
