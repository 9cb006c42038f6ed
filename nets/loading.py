"""From a NetParameter to a net: pycaffe takes files only."""

from __future__ import annotations

import tempfile
from typing import Any

import caffe


def load(net: Any, phase: int = caffe.TEST) -> caffe.Net:
    """Make a net of a NetParameter, with nothing but its fillers' values."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt", encoding="utf-8") as prototxt:
        prototxt.write(str(net))
        prototxt.flush()
        return caffe.Net(prototxt.name, phase)
