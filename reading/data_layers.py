"""The data layers of a net as its prototxt has them, a NetParameter: which they are, their settings, their folders."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import layers
from caffe.proto import caffe_pb2
from reading.image_files import data_path
from reading.seg_data_layer import SegDataLayer


def data_layers(net: caffe_pb2.NetParameter) -> list[caffe_pb2.LayerParameter]:
    """Return the Python layers of a net that read data: those without a bottom whose param_str is a dict."""
    return [layer for layer in net.layer if not layer.bottom and settings_of(layer)]


def settings_of(layer: caffe_pb2.LayerParameter) -> dict[str, Any]:
    """Return the dict in a Python layer's param_str, unchecked; {} for any other layer."""
    try:
        settings = ast.literal_eval(layer.python_param.param_str)
    except (ValueError, SyntaxError):
        return {}
    return settings if isinstance(settings, dict) else {}


def class_of(layer: caffe_pb2.LayerParameter) -> type[SegDataLayer] | None:
    """Return the class of a data layer that is one of layers.py, None for another."""
    if layer.python_param.module != "layers":
        return None
    found = getattr(layers, layer.python_param.layer, None)
    return found if isinstance(found, type) and issubclass(found, SegDataLayer) else None


def placed(net: caffe_pb2.NetParameter, home: Path, data: Path | None = None) -> caffe_pb2.NetParameter:
    """Return a net whose data layers find their folders wherever the program runs: their paths are absolute.

    home: the experiment's folder, in which the paths begin. data: the folder in the place of ../data, by default the
    one that FCN_DATA names, if it is set. Layers that are not of layers.py are left as they are: their paths begin
    where the program runs, as for Caffe.
    """
    found = caffe_pb2.NetParameter()
    found.CopyFrom(net)
    for layer in data_layers(found):
        kind, settings = class_of(layer), settings_of(layer)
        for key in (kind.folder_key, *kind.other_folder_keys) if kind else ():
            if isinstance(settings.get(key), str):  # What is no path is for the layer itself to refuse.
                settings[key] = str(data_path(settings[key], home, data))
        if kind:
            layer.python_param.param_str = repr(settings)
    return found
