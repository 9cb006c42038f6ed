"""TensorLayer: plans of the types that tests/golden/layers has no case of, and writing a blob in place.

test_layers_golden.py holds the same of all others.
"""

import contextlib
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe
from caffe.blob import Blob
from caffe.errors import NetError
from caffe.formats.prototxt import parse_text
from caffe.proto import caffe_pb2

DOC = Path(__file__).parents[2] / "docs" / "adding-a-layer-type.md"

CELL, GATES, STEP = (1, 2, 3), (1, 2, 12), (1, 2)
# Of each type: its settings and tops, and its bottoms' shapes.
NETS = {
    "Split": ('top: "y" top: "z"', [(2, 3)]),
    "Silence": ("", [(2, 3), (4,)]),
    "Dropout": ('top: "y"', [(4, 5)]),
    "LSTMUnit": ('top: "c" top: "h"', [CELL, GATES, STEP]),
    "Parameter": ('top: "y" parameter_param { shape { dim: 2 dim: 3 } }', []),
    "DummyData": (
        'top: "y" top: "z" dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: "gaussian" } }',
        [],
    ),
}
# What else a refused shape may be.
OTHERS = [(5,), (2, 3, 4), (1, 2, 3, 4, 5), ()]


def built(type_):
    settings, shapes = NETS[type_]
    text = "force_backward: true state { phase: TRAIN }\n"
    for i, shape in enumerate(shapes):
        dims = " ".join(f"dim: {extent}" for extent in shape)
        text += f'layer {{ name: "{i}" type: "Input" top: "{i}" input_param {{ shape {{ {dims} }} }} }}\n'
    bottoms = " ".join(f'bottom: "{i}"' for i in range(len(shapes)))
    net = caffe.Net.from_proto(
        parse_text(f'{text} layer {{ name: "l" type: "{type_}" {bottoms} {settings} }}', caffe_pb2.NetParameter())
    )
    return net, shapes


def outcome(net, shapes):
    caffe.set_random_seed(5)
    for i, shape in enumerate(shapes):
        net.blobs[str(i)].reshape(*shape)
        net.blobs[str(i)].data[...] = np.arange(np.prod(shape)).reshape(shape) % 5 / 4
    net.forward()
    for name in net.outputs:
        net.blobs[name].diff[...] = 1
    net._backward(len(net.layers) - 1, 0)
    return {name: (blob.data.copy(), blob.diff.copy()) for name, blob in net.blobs.items()}


@pytest.mark.parametrize("type_", NETS)
def test_shapes_that_are_asked_for_or_refused_leave_a_layer_as_it_was(type_):
    net, shapes = built(type_)
    wanted = outcome(net, shapes)
    layer = net.layer_dict["l"]
    for other in OTHERS:
        for asked in [[other] * len(shapes), [*shapes[:-1], other][: len(shapes)]]:
            before = {key: (id(value), repr(value)) for key, value in vars(layer).items()}
            with contextlib.suppress(NetError):
                layer.plan(asked)
            assert {key: (id(value), repr(value)) for key, value in vars(layer).items()} == before
            for i, shape in enumerate(asked):
                net.blobs[str(i)].reshape(*shape)
            with contextlib.suppress(NetError):
                net.forward()
    found = outcome(net, shapes)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


# docs/adding-a-layer-type.md


@pytest.fixture
def square(monkeypatch):
    """Register the type that the page makes, for one test."""
    page = DOC.read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if '@register("Square")' in block]
    monkeypatch.setattr(caffe.layer, "_types", dict(caffe.layer._types))
    spec = importlib.util.spec_from_loader("caffe.layer_types.square", loader=None)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where a dataclass looks its annotations up
    exec(compile(code, str(DOC), "exec"), vars(module))


@pytest.mark.parametrize("in_place", [False, True])
def test_the_type_that_the_page_makes_computes_and_learns(square, in_place):
    top = "x" if in_place else "y"
    net = caffe.Net.from_proto(
        parse_text(
            f"""force_backward: true state {{ phase: TRAIN }}
            layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 dim: 4 }} }} }}
            layer {{ name: "l" type: "Square" bottom: "x" top: "{top}" }}""",
            caffe_pb2.NetParameter(),
        )
    )
    x, dy = (torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    gain = torch.tensor([1.0, 2.0, -3.0])
    net.params["l"][0].data[...] = gain.numpy()
    net.blobs["x"].data[...] = x.numpy()
    np.testing.assert_allclose(net.forward()[top], x.square() * gain.view(3, 1), rtol=1e-6)
    net.blobs[top].diff[...] = dy.numpy()
    net._backward(1, 1)
    np.testing.assert_allclose(net.blobs["x"].diff, 2 * x * dy * gain.view(3, 1), rtol=1e-6)
    np.testing.assert_allclose(net.params["l"][0].diff, (x.square() * dy).sum((0, 2)), rtol=1e-5)
    net.blobs["x"].reshape(2, 4, 4)
    with pytest.raises(NetError, match=r"'l' .*gains for 3 channels; its bottom is 2 x 4 x 4"):
        net.forward()


# Writing in place


def test_each_side_of_a_blob_is_marked_as_written_by_itself():
    blob = Blob(2)
    versions = blob.data_version, blob.diff_memory.version
    with blob.writing_diff() as diff:
        diff.fill_(3)
    assert blob.data_version == versions[0] and blob.diff_memory.version != versions[1]
    versions = blob.data_version, blob.diff_memory.version
    with blob.writing_data() as data:
        data.fill_(4)
    assert blob.data_version != versions[0] and blob.diff_memory.version == versions[1]
    assert blob.data.tolist() == [4, 4] and blob.diff.tolist() == [3, 3]


def test_a_blob_that_an_error_left_half_written_counts_as_written():
    blob = Blob(2)
    version = blob.data_version
    with pytest.raises(ZeroDivisionError), blob.writing_data() as data:
        data[0] = 1 / 0
    assert blob.data_version != version


def test_the_memory_is_laid_out_as_what_it_is_written_from():
    x = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    blob = Blob(2, 3, 4, 5)
    with blob.writing_data(like=x) as out:
        assert out.stride() == x.stride()
        out.copy_(x)
    np.testing.assert_array_equal(blob.data, x.numpy())
    view = blob.data
    with blob.writing_data(like=x) as out:
        out.fill_(7)
    assert (view == 7).all() and view is not None
