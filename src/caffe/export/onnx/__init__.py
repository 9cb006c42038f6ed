"""How each layer type is written in ONNX, one file a family; importing this package registers them all.

`OnnxGraph` (onnx_graph.py) collects what the translations make. A type of a program's own is added with `translates`.
"""

from . import activation, choice, convolution, normalization, pooling, structure  # noqa: F401  registers them
from .onnx_graph import OPSET, OnnxGraph, Site, Translation, translates, translation, translations

__all__ = ["OPSET", "OnnxGraph", "Site", "Translation", "translates", "translation", "translations"]
