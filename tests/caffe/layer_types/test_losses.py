"""Losses, and the other layers that read labels: normalisation, ignored labels, and labels out of range."""

import math

import numpy as np
import pytest

import caffe
from caffe.errors import NetError
from caffe.formats.prototxt import parse_text
from caffe.proto import caffe_pb2


def layer(type_, setting="", tops="y", **arrays):
    """Build a net of one layer, l, over the arrays, in their order; force_backward, so that gradients can be seen."""
    text = "force_backward: true\n"
    for name, values in arrays.items():
        dims = " ".join(f"dim: {extent}" for extent in np.shape(values))
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    ends = " ".join([*(f'bottom: "{name}"' for name in arrays), *(f'top: "{top}"' for top in tops.split())])
    param = parse_text(text + f'layer {{ name: "l" type: "{type_}" {ends} {setting} }}', caffe_pb2.NetParameter())
    param.state.phase = caffe.TRAIN
    net = caffe.Net.from_proto(param)
    for name, values in arrays.items():
        net.blobs[name].data[...] = values
    return net


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Labels


@pytest.mark.parametrize(("type_", "param"), [("SoftmaxWithLoss", "loss_param"), ("Accuracy", "accuracy_param")])
@pytest.mark.parametrize("bad", [3, -1, 255])
def test_a_label_out_of_range_is_named_with_the_range(type_, param, bad):
    label = np.zeros((2, 1, 2, 2))
    label[1, 0, 0, 1] = bad
    for ignore, said in (("", "no ignore_label is set"), (f"{param} {{ ignore_label: 7 }}", "ignore_label is 7")):
        net = layer(type_, ignore, x=normal(2, 3, 2, 2), label=label)
        with pytest.raises(NetError, match=rf"Layer 'l'.*label {bad} \(value 5 of 8\).*3 classes.*0 to 2.*{said}"):
            net.forward()


def test_a_label_that_is_no_number_is_refused():
    with pytest.raises(NetError, match="out of range"):
        layer("SoftmaxWithLoss", x=normal(1, 3), label=[np.nan]).forward()


@pytest.mark.parametrize("type_", ["HingeLoss", "MultinomialLogisticLoss"])
def test_other_losses_check_their_labels_too(type_):
    with pytest.raises(NetError, match=r"label 3 \(value 1 of 2\)"):
        layer(type_, x=normal(2, 3), label=[0, 3]).forward()


def test_labels_of_another_number_are_refused_with_both_shapes():
    with pytest.raises(NetError, match=r"Layer 'l'.*number of labels.*2 x 3 x 2 x 2.*2 x 1 x 2 x 3"):
        layer("SoftmaxWithLoss", x=normal(2, 3, 2, 2), label=np.zeros((2, 1, 2, 3)))
    with pytest.raises(NetError, match="same first dimension"):
        layer("SoftmaxWithLoss", x=normal(2, 3, 2, 2), label=np.zeros((1, 1, 2, 4)))


def test_a_label_gets_no_gradient():
    net = layer("SoftmaxWithLoss", x=normal(1, 3), label=[0])
    net.forward()
    net.backward()
    assert not net.blobs["label"].diff.any()
    with pytest.raises(NetError, match="cannot backpropagate to its label"):
        net.layer_dict["l"].backward([net.blobs["y"]], [True, True], [net.blobs["x"], net.blobs["label"]])


# SoftmaxWithLoss


def softmax_loss_by_hand(x, label, ignore):
    """Return the summed loss, its gradient and the number of labels that count."""
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    loss, dx, count = 0.0, p.copy(), 0
    for n, h, w in np.ndindex(label.shape):
        k = int(label[n, h, w])
        if k == ignore:
            dx[n, :, h, w] = 0
        else:
            loss, count = loss - np.log(p[n, k, h, w]), count + 1
            dx[n, k, h, w] -= 1
    return loss, dx, count


@pytest.mark.parametrize("shape", [(2, 1, 2, 2), (2, 2, 2), (2, 4)], ids=["N x 1 x H x W", "N x H x W", "N x HW"])
@pytest.mark.parametrize(
    ("setting", "divisor"),
    [
        ("", 5),
        ("normalize: true", 5),
        ("normalize: false", 2),
        ("normalization: VALID", 5),
        ("normalization: FULL", 8),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
        ("normalization: NONE normalize: true", 1),
    ],
)
def test_softmax_loss_normalisations(setting, divisor, shape):
    x, label = normal(2, 3, 2, 2), np.array([[[0, 1.9], [255, 2]], [[255, 0], [255, 2]]])
    loss, dx, counted = softmax_loss_by_hand(x, label, 255)
    assert counted == 5
    text = f"loss_weight: 0.5 loss_param {{ ignore_label: 255 {setting} }}"
    net = layer("SoftmaxWithLoss", text, x=x, label=label.reshape(shape))
    assert float(net.forward()["y"]) == pytest.approx(loss / divisor, rel=1e-5)
    for _ in range(2):  # the probabilities outlive the first backward
        net.backward()
        assert np.allclose(net.blobs["x"].diff, 0.5 * dx / divisor, atol=1e-6)


def test_softmax_loss_along_another_axis():
    x, label = normal(2, 3, 4), np.random.default_rng(1).integers(0, 4, (2, 3))
    net = layer("SoftmaxWithLoss", "softmax_param { axis: -1 }", x=x, label=label)
    loss, dx, _ = softmax_loss_by_hand(x.transpose(0, 2, 1)[..., None], label[..., None], None)
    assert float(net.forward()["y"]) == pytest.approx(loss / 6, rel=1e-5)
    net.backward()
    assert np.allclose(net.blobs["x"].diff, dx[..., 0].transpose(0, 2, 1) / 6, atol=1e-6)


def test_a_probability_that_vanishes_costs_log_flt_min():
    net = layer("SoftmaxWithLoss", x=[[0, 1000]], label=[0])
    assert float(net.forward()["y"]) == pytest.approx(-math.log(np.finfo(np.float32).tiny), rel=1e-6)
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[-1, 1]]


def test_softmax_loss_second_top_holds_the_probabilities():
    net = layer("SoftmaxWithLoss", tops="loss prob", x=normal(2, 3, 2, 2), label=np.zeros((2, 1, 2, 2)))
    net.forward()
    assert net.blobs["prob"].data.shape == (2, 3, 2, 2) and np.allclose(net.blobs["prob"].data.sum(1), 1)


def test_a_loss_without_a_top_is_a_loss_all_the_same():
    net = layer("SoftmaxWithLoss", tops="", x=[[0, 0]], label=[1])
    net.forward()
    net.backward()
    assert 1.0 in net.blob_loss_weights.values() and net.blobs["x"].diff.tolist() == [[0.5, -0.5]]


# The other losses


@pytest.mark.parametrize(
    ("setting", "divisor"),
    [
        ("", 2),
        ("normalize: false", 2),
        ("normalization: VALID", 5),
        ("normalize: true", 5),
        ("normalization: FULL", 8),
        ("normalization: NONE", 1),
    ],
)
def test_sigmoid_loss_ignores_and_divides(setting, divisor):
    x, target = normal(2, 4), np.array([[0, 1, 9, 0.5], [1, 9, 9, 0]])
    s = 1 / (1 + np.exp(-x.astype(np.float64)))
    losses = -(target * np.log(s) + (1 - target) * np.log(1 - s))
    net = layer("SigmoidCrossEntropyLoss", f"loss_param {{ ignore_label: 9 {setting} }}", x=x, t=target)
    assert float(net.forward()["y"]) == pytest.approx(losses[target != 9].sum() / divisor, rel=1e-5)
    net.backward()
    assert np.allclose(net.blobs["x"].diff, np.where(target == 9, 0, s - target) / divisor, atol=1e-6)


def test_sigmoid_loss_of_large_scores_is_finite():
    net = layer("SigmoidCrossEntropyLoss", x=[[1000, -1000]], t=[[0, 1]])
    assert float(net.forward()["y"]) == 2000


@pytest.mark.parametrize(
    "settings",
    [
        {"data": np.eye(3).ravel()},
        {"double_data": np.eye(3).ravel()},
        {"data": np.eye(3).ravel(), "shape": {"dim": [3, 3]}},
        {"double_data": np.eye(3).ravel(), "num": 1, "channels": 1, "height": 3, "width": 3},
    ],
    ids=["no shape", "doubles", "shape", "legacy"],
)
def test_infogain_with_the_identity_is_the_softmax_loss(tmp_path, settings):
    identity = tmp_path / "h.binaryproto"
    identity.write_bytes(caffe_pb2.BlobProto(**settings).SerializeToString())
    x, label = normal(2, 3, 2, 2), np.random.default_rng(0).integers(0, 3, (2, 1, 2, 2))
    found = []
    for type_, setting in (
        ("SoftmaxWithLoss", ""),
        ("InfogainLoss", f'infogain_loss_param {{ source: "{identity}" }}'),
    ):
        net = layer(type_, setting, x=x, label=label)
        net.forward()
        net.backward()
        found.append((net.blobs["y"].data.copy(), net.blobs["x"].diff.copy()))
    assert np.allclose(found[0][0], found[1][0]) and np.allclose(found[0][1], found[1][1], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot read H from"),
        (b"\xff\xff", "holds no BlobProto"),
        (b"", "H has 0 values; 3 classes need 9"),
        (caffe_pb2.BlobProto(data=range(9), shape={"dim": [3, 2]}).SerializeToString(), "6 values; the file holds 9"),
        (caffe_pb2.BlobProto(data=range(4), shape={"dim": [2, 2]}).SerializeToString(), "H has 4 values"),
    ],
)
def test_infogain_files_that_cannot_be(content, match, tmp_path):
    path = tmp_path / "h.binaryproto"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NetError, match=match):
        layer("InfogainLoss", f'infogain_loss_param {{ source: "{path}" }}', x=normal(2, 3), label=[0, 1])


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive_loss(legacy):
    a, b, similar = normal(4, 3), normal(4, 3, seed=1), np.array([1, 0, 0, 1])
    square = ((a - b) ** 2).sum(1)
    gap = np.maximum(2.5 - square, 0) if legacy else np.maximum(2.5 - np.sqrt(square), 0) ** 2
    setting = f"contrastive_loss_param {{ margin: 2.5 legacy_version: {str(legacy).lower()} }}"
    net = layer("ContrastiveLoss", setting, a=a, b=b, s=similar)
    assert float(net.forward()["y"]) == pytest.approx(np.where(similar, square, gap).sum() / 8, rel=1e-5)
    net.backward()
    assert np.allclose(net.blobs["a"].diff, -net.blobs["b"].diff)
    pull = -1.0 * (gap > 0) if legacy else -np.sqrt(gap) / np.sqrt(square)
    assert np.allclose(net.blobs["a"].diff, (a - b) * np.where(similar, 1, pull)[:, None] / 4, atol=1e-4)


@pytest.mark.parametrize(
    ("type_", "arrays", "match"),
    [
        ("EuclideanLoss", {"x": (2, 4), "z": (2, 5)}, "same dimension, not 2 x 4 and 2 x 5"),
        ("SigmoidCrossEntropyLoss", {"x": (2, 4), "z": (2, 5)}, "a target for each score"),
        ("HingeLoss", {"x": (2, 4), "z": (2, 2)}, "number of labels"),
        ("ContrastiveLoss", {"x": (2, 4), "z": (2, 5), "s": (2,)}, "one shape and N similarities"),
    ],
)
def test_bottoms_that_do_not_fit(type_, arrays, match):
    with pytest.raises(NetError, match=f"Layer 'l'.*{match}"):
        layer(type_, **{name: np.zeros(shape) for name, shape in arrays.items()})


# Accuracy and ArgMax


def test_accuracy_counts_ties_against_the_label_and_nothing_as_zero():
    x, label = [[1, 1, 0], [0, 2, 1], [3, 2, 1], [0, 0, 1]], [0, 1, 2, 9]
    net = layer("Accuracy", "accuracy_param { ignore_label: 9 }", "y each", x=x, label=label)
    net.forward()
    assert float(net.blobs["y"].data) == pytest.approx(1 / 3)
    assert net.blobs["each"].data.tolist() == [0, 1, 0]
    net.blobs["label"].data[...] = 9
    assert float(net.forward()["y"]) == 0


@pytest.mark.parametrize(("k", "wanted"), [(1, 0), (2, 2 / 3), (3, 1)])
def test_accuracy_top_k(k, wanted):
    x, label = [[3, 2, 1], [1, 2, 3], [2, 2, 1]], [1, 0, 1]
    net = layer("Accuracy", f"accuracy_param {{ top_k: {k} }}", x=x, label=label)
    assert float(net.forward()["y"]) == pytest.approx(wanted)


def test_accuracy_of_more_classes_than_there_are_is_refused():
    with pytest.raises(NetError, match="top_k 4 is above the number of classes, 3"):
        layer("Accuracy", "accuracy_param { top_k: 4 }", x=normal(2, 3), label=[0, 1])


@pytest.mark.parametrize(("k", "places"), [(1, [2]), (3, [2, 1, 0])])
def test_argmax_puts_the_last_of_equal_values_first(k, places):
    x = [[[1, 5, 5, 0]]]
    net = layer("ArgMax", f"argmax_param {{ top_k: {k} out_max_val: true }}", x=x)
    assert net.forward()["y"].tolist() == [[places, [[5, 5, 1][i] for i in range(k)]]]
    assert layer("ArgMax", f"argmax_param {{ top_k: {k} axis: 2 }}", x=x).forward()["y"].tolist() == [[places]]


@pytest.mark.parametrize("type_", ["ArgMax", "Threshold"])
def test_layers_without_a_gradient_say_so(type_):
    net = layer(type_, x=normal(2, 3))
    net.forward()
    net.backward()  # force_backward passes them by
    with pytest.raises(NetError, match="has no gradient"):
        net.layer_dict["l"].backward([net.blobs["y"]], [True], [net.blobs["x"]])
