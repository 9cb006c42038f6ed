"""Nets and weights in other programs' formats.

`exporters` says what is written, refused and checked; `onnx/` says how each layer type is written in ONNX, one file a
family. A type of a program's own is added with `caffe.export.onnx.translates`.
"""

from .exporters import to_onnx, to_safetensors

__all__ = ["to_onnx", "to_safetensors"]
