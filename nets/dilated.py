"""Filter rarefaction (papers section 3.2; "dilation" in TPAMI): a net of a finer stride with the same parameters.

Where a layer loses its stride, what comes after it finds its input finer by that factor. It computes what it did if
its window is spread as far: a convolution by `dilation`, which puts zeros between a filter's values.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from itertools import product
from typing import Any

from caffe.proto import caffe_pb2


def rarefy(net: Any, strided: Collection[str], margin: int = 0) -> Any:
    """A net's layers with the strides of those named ``strided`` removed, and the later filters rarefied.

    ``net`` is a NetParameter; so is the result. All parameters are those of ``net``, under the same names, but for a
    deconvolution's: it up-samples by what is left of its stride, its kernel divided alike, and that stride ends its
    name (upscore becomes upscore8, into the top upscore).

    Each cell whose window lies within the image is as before; between two of the old cells are new ones, as
    shift-and-stitch gives them (scoring/stitch.py). What differs is at the edges: a convolution's pad after a removed
    stride is as many pixels wide as before, but begins elsewhere, and of Caffe's pooling windows those that reach past
    the far edge are gone, since at a stride of 1 there are none.

    The first cell stays at the centre of its window, where a finer interpolation no longer reaches the image's edge,
    so that a Crop would begin outside of it. ``margin`` is for that: pixels added to the first convolution's pad.

    Raises ValueError for layers that cannot be rarefied: pooling that is padded or no maximum, a deconvolution whose
    stride is not a multiple of the dilation, a window that strides further, a sum of blobs that differ in stride.
    """
    result = caffe_pb2.NetParameter(name=net.name)
    finer: dict[str, int] = {}  # of each blob, by which factor its cells are closer to each other than before
    moved: dict[str, int] = {}  # of each deconvolution's top, by how many pixels it lies further left and up
    first = next((layer.name for layer in net.layer if layer.type == "Convolution"), None)
    for original in net.layer:
        layer = copy.deepcopy(original)
        # A Crop takes nothing but its size from its second bottom.
        bottoms = layer.bottom[:1] if layer.type == "Crop" else layer.bottom
        factors = {finer.get(bottom, 1) for bottom in bottoms} or {1}
        if len(factors) > 1:
            raise ValueError(f"{layer.name} joins blobs that would differ in stride: {', '.join(bottoms)}.")
        factor = factors.pop()
        layers = [layer]
        if layer.type == "Convolution":
            stride = _rarefy_convolution(layer, factor, layer.name in strided)
            if layer.name == first:
                layer.convolution_param.pad[:] = [(list(layer.convolution_param.pad) or [0])[0] + margin]
        elif layer.type == "Pooling":
            stride = layer.pooling_param.stride if layer.name in strided else 1
            if factor > 1 or stride > 1:
                layers = list(_rarefied_pooling(layer, factor, layer.name in strided))
        elif layer.type == "Deconvolution":
            stride = 1
            if factor > 1:
                moved[layer.top[0]] = _refine_deconvolution(layer, factor)
                factor = 1
        else:
            stride = 1
            if layer.type == "Crop" and layer.bottom[0] in moved:
                _move_crop(layer, margin - moved[layer.bottom[0]])
        finer.update(dict.fromkeys(layer.top, factor * stride))
        result.layer.extend(layers)
    return result


def _rarefy_convolution(layer: Any, factor: int, loses_stride: bool) -> int:
    """Spread a convolution's filters; gives the stride that it loses."""
    param = layer.convolution_param
    kernel, stride = param.kernel_size[0], (list(param.stride) or [1])[0]
    if factor > 1 and kernel > 1:
        param.dilation[:] = [factor * (list(param.dilation) or [1])[0]]
        param.pad[:] = [factor * (list(param.pad) or [0])[0]]
    if loses_stride:
        param.stride[:] = [1]
        return int(stride)
    if factor > 1 and stride > 1:
        raise ValueError(f"{layer.name} has a stride of {stride} after a layer that loses its own: remove both.")
    return 1


def _rarefied_pooling(layer: Any, factor: int, loses_stride: bool) -> Iterator[Any]:
    """Pooling at stride 1 over every factor-th cell, by layers that any Caffe has: its own windows have no gaps.

    The maximum over a window is that over its cells, and each cell's values for all windows are the bottom, cropped.
    Crop takes the size from another blob, and nothing else: that of a pooling layer as wide as the window.
    """
    param = layer.pooling_param
    kernel = param.kernel_size
    if param.pool != param.MAX or param.pad or (param.stride > 1 and not loses_stride):
        raise ValueError(
            f"{layer.name} cannot be rarefied: only maximum pooling without pad can, whose stride is removed too."
        )
    if factor == 1:
        param.stride = 1
        yield layer
        return
    name, bottom, top = layer.name, layer.bottom[0], layer.top[0]
    size = caffe_pb2.LayerParameter(name=f"{name}_size", type="Pooling", bottom=[bottom], top=[f"{name}_size"])
    # Nothing is propagated into it; a mean does not even have to keep where its maxima were.
    size.pooling_param.pool = size.pooling_param.AVE
    size.pooling_param.kernel_size, size.pooling_param.stride = factor * (kernel - 1) + 1, 1
    yield size
    largest = caffe_pb2.LayerParameter(name=name, type="Eltwise", top=[top])
    largest.eltwise_param.operation = largest.eltwise_param.MAX
    for row, column in product(range(kernel), repeat=2):
        cell = caffe_pb2.LayerParameter(name=f"{name}_{row}{column}", type="Crop", bottom=[bottom, size.top[0]])
        cell.top.append(cell.name)
        cell.crop_param.axis = 2
        cell.crop_param.offset.extend([row * factor, column * factor])
        largest.bottom.append(cell.name)
        yield cell
    yield largest


def _refine_deconvolution(layer: Any, factor: int) -> int:
    """Divide a deconvolution's stride and kernel; gives by how many pixels its top moves left and up."""
    param = layer.convolution_param
    kernel, stride = param.kernel_size[0], (list(param.stride) or [1])[0]
    if stride % factor or kernel % factor or (kernel - kernel // factor) % 2:
        raise ValueError(f"{layer.name}'s stride {stride} and kernel {kernel} cannot be divided by {factor}.")
    param.stride[:], param.kernel_size[:] = [stride // factor], [kernel // factor]
    # Its weights have another shape: under the old name, a net's that has it could not be copied in.
    layer.name = f"{layer.name}{stride // factor}"
    # Cell i is interpolated around pixel s i + (k - 1) / 2.
    return int(kernel - kernel // factor) // 2


def _move_crop(layer: Any, by: int) -> None:
    offsets = [offset + by for offset in layer.crop_param.offset]
    if min(offsets) < 0:
        raise ValueError(
            f"{layer.name} would have to crop from {min(offsets)}: the finer scores begin within the image. Give the "
            f"net a margin, of {-min(offsets)} pixels or more."
        )
    layer.crop_param.offset[:] = offsets
