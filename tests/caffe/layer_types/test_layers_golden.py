"""Every layer type against what BVLC Caffe recorded, forward and backward (tests/golden/layers)."""

import contextlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe
from caffe import device
from caffe.errors import NetError
from caffe.layer import type_names
from tests.caffe.test_tensor_layer import NETS as PLANNED_ELSEWHERE

LAYERS = Path(__file__).parents[2] / "golden" / "layers"
CASES = sorted(path.stem for path in LAYERS.glob("*.npz"))
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-4}  # of max(1, the largest value)
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")


def types_of(name):
    return set(re.findall(r'type: "([A-Z]\w*)"', (LAYERS / f"{name}.prototxt").read_text()))


def unknown_types(name):
    return types_of(name) - set(caffe.layer_type_list())


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=[NO_GPU, pytest.mark.gpu])])
def mode(request):
    if request.param == "gpu":
        caffe.set_mode_gpu()
    yield
    caffe.set_mode_cpu()


@pytest.fixture(params=CASES)
def case(request, mode):
    """A recorded case: its net, with the recorded inputs and parameters set, and all that was recorded."""
    missing = unknown_types(request.param)
    if missing:
        pytest.skip(f"no layer type {', '.join(missing)} yet")
    recorded = dict(np.load(LAYERS / f"{request.param}.npz"))
    net = caffe.Net(str(LAYERS / f"{request.param}.prototxt"), caffe.TRAIN)
    for key, values in of_kind(recorded, "in"):
        net.blobs[key].data[...] = values
    for key, values in of_kind(recorded, "param"):
        parameter(net, key).data[...] = values
    return net, recorded


def of_kind(recorded, kind):
    return [(key.partition("/")[2], values) for key, values in recorded.items() if key.partition("/")[0] == kind]


def parameter(net, key):
    layer, index = key.split("/")
    return net.params[layer][int(index)]


def run(net, recorded):
    """Run both passes and return what was found: kind/name -> values."""
    net.forward()
    found = {f"blob/{name}": net.blobs[name].data.copy() for name, _ in of_kind(recorded, "blob")}
    found |= {f"param_after/{name}": parameter(net, name).data for name, _ in of_kind(recorded, "param_after")}
    if of_kind(recorded, "diff"):
        net.clear_param_diffs()
        net.backward(**dict(of_kind(recorded, "topdiff")))
        found |= {f"diff/{name}": net.blobs[name].diff for name, _ in of_kind(recorded, "diff")}
        found |= {f"paramdiff/{name}": parameter(net, name).diff for name, _ in of_kind(recorded, "paramdiff")}
    return found


def differences(found, recorded):
    """Return one line for each blob that is further from the recorded one than the tolerance."""
    lines = []
    tolerance = TOLERANCE[device.current().type]
    for key, values in found.items():
        wanted = recorded[key].astype(np.float64)
        if values.shape != wanted.shape:
            lines.append(f"{key}: shape {values.shape}, recorded {wanted.shape}")
        elif values.size and not np.abs(values - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max()):
            lines.append(f"{key}: off by {np.abs(values - wanted).max():.2e}, values up to {np.abs(wanted).max():.2g}")
    return lines


def test_the_cases_are_there():
    assert len(CASES) >= 100


def test_parity(case):
    net, recorded = case
    found = run(net, recorded)
    assert any(key.startswith("blob/") for key in found)
    assert differences(found, recorded) == []


def test_views_that_a_program_holds_follow_both_passes(case):
    net, recorded = case
    held = {f"blob/{name}": net.blobs[name].data for name, _ in of_kind(recorded, "blob")}
    held |= {f"diff/{name}": net.blobs[name].diff for name, _ in of_kind(recorded, "diff")}
    shapes_known = all(values.shape == recorded[key].shape for key, values in held.items())  # Filter's is not
    found = run(net, recorded)
    assert differences(found, recorded) == []
    if shapes_known:
        assert differences(held, recorded) == []


def test_inputs_laid_out_channels_last_give_the_same(case):
    net, recorded = case
    images = [name for name, values in of_kind(recorded, "in") if values.ndim == 4]
    for name in images:
        values = torch.from_numpy(recorded[f"in/{name}"].astype(np.float32))
        net.blobs[name].set_data(values.contiguous(memory_format=torch.channels_last))
    assert differences(run(net, recorded), recorded) == []


def test_a_second_run_over_the_same_memory_gives_the_same(case):
    net, recorded = case
    begin = [(source, source.state()) for _, source in net.data_sources()]
    run(net, recorded)
    for key, values in of_kind(recorded, "in"):
        net.blobs[key].data[...] = values
    for key, values in of_kind(recorded, "param"):
        parameter(net, key).data[...] = values  # BatchNorm's sums moved
    for source, state in begin:
        source.set_state(state)  # RNN and LSTM would go on where the first run ended
    assert differences(run(net, recorded), recorded) == []


def shapes_near(shapes):
    """Return shapes like those of a layer's bottoms: another extent, an axis more or less, for one or for all."""
    for i, shape in enumerate(shapes):
        others = [(*shape[:axis], extent, *shape[axis + 1 :]) for axis in range(len(shape)) for extent in (0, 1, 7)]
        for other in [*others, (*shape, 2), shape[1:], shape[:-1], ()]:
            yield [*shapes[:i], other, *shapes[i + 1 :]]
    for axis in range(-3, 3):
        if all(-len(shape) <= axis < len(shape) for shape in shapes):
            yield [tuple(e + 1 if i == axis % len(shape) else e for i, e in enumerate(shape)) for shape in shapes]
    yield [(*shape, 2) for shape in shapes]


def bottoms_of(net, name):
    return [net.blobs[bottom].dims for bottom in net.bottom_names[name]]


def test_a_plan_is_a_query_that_changes_nothing(case):
    net, recorded = case
    for name, layer in net.layer_dict.items():
        before = {key: (id(value), repr(value)) for key, value in vars(layer).items()}
        answers = Counter()
        for shapes in [bottoms_of(net, name), *shapes_near(bottoms_of(net, name))]:
            try:
                tops = layer.top_shapes(shapes)
                assert layer.plan(shapes) == layer.plan(shapes) and tops == list(layer.plan(shapes).tops)
                answers["made"] += 1
            except NetError as error:
                assert f"'{name}'" in str(error)
                answers["refused"] += 1
        assert answers["made"]
        assert {key: (id(value), repr(value)) for key, value in vars(layer).items()} == before
    assert differences(run(net, recorded), recorded) == []


def test_a_layer_that_was_given_other_shapes_and_refused_some_is_what_it_was(case):
    net, recorded = case
    inputs = dict(of_kind(recorded, "in"))
    begin = [(source, source.state()) for _, source in net.data_sources()]
    for shapes in shapes_near([values.shape for values in inputs.values()]):
        for name, shape in zip(inputs, shapes, strict=True):
            net.blobs[name].reshape(*shape)
        with contextlib.suppress(NetError):
            net.forward()
            net.backward()
    for name, values in inputs.items():
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    for key, values in of_kind(recorded, "param"):
        parameter(net, key).data[...] = values
    for source, state in begin:
        source.set_state(state)
    assert differences(run(net, recorded), recorded) == []


def test_every_type_of_the_engine_is_among_the_cases_or_has_tests_of_its_own():
    recorded = set().union(*(types_of(name) for name in CASES))
    read_files = {"Data", "HDF5Data", "HDF5Output", "ImageData", "MemoryData", "WindowData"}
    assert set(type_names()) - recorded <= {"Python", *read_files, *PLANNED_ELSEWHERE}


def test_no_two_blobs_share_memory_but_those_that_caffe_shares(case):
    net, recorded = case
    run(net, recorded)
    blobs = {name: blob for name, blob in net.blobs.items() if "_split_" not in name}
    shared = any(layer.type in ("Reshape", "Flatten") for layer in net.layers)
    places = {}
    for name, blob in blobs.items():
        for kind, tensor in (("data", blob.data_tensor()), ("diff", blob.diff_tensor())):
            assert 0 not in [s for s, extent in zip(tensor.stride(), tensor.shape, strict=True) if extent > 1]
            if tensor.numel() and not (shared and name == "y"):
                assert places.setdefault(tensor.data_ptr(), (name, kind)) == (name, kind)
