"""debug_info logs the mean magnitude of what is computed, in the words of net.cpp."""

from __future__ import annotations

import re

import numpy as np

import caffe

NET = """
debug_info: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" param { name: "w" } param { lr_mult: 0 }
        inner_product_param { num_output: 1 weight_filler { type: "constant" value: 0.5 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


def lines(captured: str) -> dict[str, str]:
    """Return the log's texts up to the last colon, with the value behind it."""
    found = re.findall(r"net\.cpp:\d+\] {5}(\[.*)", captured)
    return dict(line.rsplit(": ", 1) if "norm" not in line else (line, "") for line in found)


def make(tmp_path, text=NET):
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    net.blobs["x"].data[...] = [[1, -2, 3], [0, 0, 4]]
    net.blobs["t"].data[...] = 0
    return net


def test_every_pass_is_logged(tmp_path, capfd):
    net = make(tmp_path)
    net.forward()
    found = lines(capfd.readouterr().err)
    assert found["[Forward] Layer x, top blob x data"] == f"{10 / 6:g}"
    assert found["[Forward] Layer ip, top blob ip data"] == "1.5"
    assert found["[Forward] Layer ip, param blob w data"] == "0.5"
    assert found["[Forward] Layer ip, param blob 1 data"] == "0"
    net.backward_pass()
    found = lines(capfd.readouterr().err)
    # The loss is 1/2N sum (ip - t)^2, so the gradient of ip is ip / N = (0.5, 1).
    assert found["[Backward] Layer loss, bottom blob ip diff"] == "0.75"
    assert found["[Backward] Layer ip, param blob 0 diff"] == f"{(0.5 + 1 + 5.5) / 3:g}"
    assert "[Backward] Layer ip, param blob 1 diff" not in found  # lr_mult: 0
    assert "[Backward] Layer ip, bottom blob x diff" not in found
    norms = "[Backward] All net params (data, diff): L1 norm = (1.5, 7); L2 norm = "
    gradient = np.array([0.5, -1, 5.5])
    assert f"{norms}({np.sqrt(0.75):g}, {np.linalg.norm(gradient):g})" in found


def test_without_it_nothing_is_logged(tmp_path, capfd):
    net = make(tmp_path, NET.replace("debug_info: true", ""))
    net.forward()
    net.backward()
    assert not lines(capfd.readouterr().err)
    net.debug_info = True
    net.forward(start="ip")
    assert lines(capfd.readouterr().err)
