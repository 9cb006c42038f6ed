"""How the coordinates of one blob lie in another's, so that the two can be cropped into line.

A map is a triple (axis, scale, shift): coordinate i of a layer's bottom is at ``scale * i + shift`` in its
top, on every spatial axis. ``axis`` is the channel axis, the one before the first spatial axis, or None
where a layer moves nothing; scale and shift are then 1 and 0, else arrays with one number an axis (or a
single one for all).

The algebra is exact for the centres of receptive fields. It does not know of sizes: pooling's ceil mode,
which can add a cell at the far end, changes no map. Behaviour: BVLC Caffe's python/caffe/coord_map.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np

from .net_spec import Function, Top
from .net_spec import layers as L

CoordMap: TypeAlias = tuple[Any, Any, Any]

IDENTITY: CoordMap = (None, 1, 0)

# Layers that leave every coordinate where it is. The list is BVLC's, and programs append to it.
PASS_THROUGH_LAYERS = [
    "AbsVal",
    "BatchNorm",
    "Bias",
    "BNLL",
    "Dropout",
    "Eltwise",
    "ELU",
    "Log",
    "LRN",
    "Exp",
    "MVN",
    "Power",
    "ReLU",
    "PReLU",
    "Scale",
    "Sigmoid",
    "Split",
    "TanH",
    "Threshold",
]

# Layers that leave coordinates where they are too, but that BVLC's coord_map does not see through. They are
# tried only when its own list connects nothing, so that no map that BVLC finds can come out otherwise.
_ALSO_PASS_THROUGH = ["Clip", "Concat", "Slice", "Softmax", "Swish"]


class UndefinedMapException(Exception):
    """The layer has no coordinate map (InnerProduct, Flatten, a Python layer, global pooling, ...)."""


class AxisMismatchException(Exception):
    """Two maps whose spatial axes begin at different places cannot follow each other."""


def conv_params(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """(axis, stride, kernel extent, pad) of a layer that slides a window; the extent counts the dilation.

    Raises UndefinedMapException where there is no kernel size (global pooling), and AssertionError for the
    old kernel_h, stride_w, ... fields.
    """
    params = fn.params.get("convolution_param", fn.params.get("pooling_param", fn.params))
    legacy = {f"{field}_{side}" for field in ("kernel", "stride", "pad") for side in "hw"} & set(params)
    if legacy:
        raise AssertionError(
            f"cropping does not support legacy _h/_w params ({fn.type_name} has {', '.join(sorted(legacy))})"
        )
    if "kernel_size" not in params:
        raise UndefinedMapException(f"{fn.type_name} has no kernel_size")
    kernel = np.array(params["kernel_size"], ndmin=1)
    dilation = np.array(params.get("dilation", 1), ndmin=1)
    stride = np.array(params.get("stride", 1), ndmin=1)
    pad = np.array(params.get("pad", 0), ndmin=1)
    return params.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """(axis, offset) of a Crop layer; the axis is the first that is cropped, by default 2."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> CoordMap:
    """The map from a layer's bottoms to its tops. Raises UndefinedMapException where it has none."""
    return _coord_map(fn, PASS_THROUGH_LAYERS)


def compose(base_map: CoordMap, next_map: CoordMap) -> CoordMap:
    """``base_map`` of ``next_map``: first the latter, then the former. Raises AxisMismatchException."""
    (base_axis, base_scale, base_shift), (next_axis, next_scale, next_shift) = base_map, next_map
    if base_axis is not None and next_axis is not None and base_axis != next_axis:
        raise AxisMismatchException(f"spatial axes begin after axis {base_axis} and after axis {next_axis}")
    axis = next_axis if base_axis is None else base_axis
    return axis, base_scale * next_scale, base_scale * next_shift + base_shift


def inverse(coord_map: CoordMap) -> CoordMap:
    """The map the other way: from tops to bottoms."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordMap:
    """The map that takes coordinates of ``top_from`` to those of ``top_to``.

    It goes by way of the nearest blob that both stem from. Raises RuntimeError if no such blob is reached
    through layers that have a map, TypeError for what is no Top.
    """
    for top in (top_from, top_to):
        if not isinstance(top, Top):
            raise TypeError(f"A coordinate map goes from a Top to a Top, made by L.<Type>(...); {top!r} is none.")
    for pass_through in (PASS_THROUGH_LAYERS, [*PASS_THROUGH_LAYERS, *_ALSO_PASS_THROUGH]):
        from_maps = _maps_from_ancestors(top_from, pass_through)
        to_maps = _maps_from_ancestors(top_to, pass_through)
        for ancestor, to_map in to_maps.items():
            if ancestor in from_maps:
                return compose(to_map, inverse(from_maps[ancestor]))
    raise RuntimeError("Could not compute map between tops; are they connected by spatial layers?")


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that cuts ``top_from`` to ``top_to``'s size and place, its offset worked out.

    Raises AssertionError if the two differ in scale, or if the offset is negative or not whole.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    if not np.all(scale == 1):
        raise AssertionError(f"scale mismatch on crop (a = {scale})")
    if not np.all(shift <= 0):
        raise AssertionError(f"cannot crop negative offset (b = {shift})")
    if not np.all(np.round(shift) == shift):
        raise AssertionError(f"cannot crop noninteger offset (b = {shift})")
    offset = [int(-b) for b in np.atleast_1d(shift)]
    cropped: Top = L.Crop(top_from, top_to, crop_param={"axis": 2 if axis is None else axis + 1, "offset": offset})
    return cropped


def _coord_map(fn: Function, pass_through: Collection[str]) -> CoordMap:
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in pass_through:
        return IDENTITY
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset  # the channel axis is the one before the first that is cropped
    raise UndefinedMapException(f"{fn.type_name} has no coordinate map")


def _maps_from_ancestors(top: Top, pass_through: Collection[str]) -> dict[Top, CoordMap]:
    """For every blob that ``top`` stems from through layers with a map: the map from it to ``top``.

    Breadth first, so the nearest come first. A blob reached over several paths keeps the map of the shortest:
    in a net whose blobs fit together they are all the same.
    """
    maps = {top: IDENTITY}
    pending = deque([top])
    while pending:
        current = pending.popleft()
        # A Crop takes only sizes from its second bottom: that one's coordinates lead nowhere.
        bottoms = current.fn.inputs[:1] if current.fn.type_name == "Crop" else current.fn.inputs
        try:
            for bottom in bottoms:
                if bottom not in maps:
                    maps[bottom] = compose(maps[current], _coord_map(current.fn, pass_through))
                    pending.append(bottom)
        except UndefinedMapException:
            continue
    return maps
