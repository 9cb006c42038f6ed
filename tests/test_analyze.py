"""The papers' analyses: structure against Table 1 and the engine, upper bounds of small label maps, momenta."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from google.protobuf import text_format

import analyze
import caffe
import vis
from caffe.proto import caffe_pb2
from nets import forward_time
from nets.experiments import EXPERIMENTS, all_names, lookup
from nets.structure import structure
from scoring.upper_bounds import resampled

# Table 1 (facts of both papers), with the exact counts of trunk and score layer.
TABLE_1 = [("voc-fcn-alexnet", 355, 8, 56_954_261), ("voc-fcn32s", 404, 16, 134_346_581)]


def parsed(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


@pytest.mark.parametrize(("name", "field", "layers", "parameters"), TABLE_1)
def test_the_structure_is_that_of_table_1(name, field, layers, parameters):
    s = structure(analyze.deploy_net(name))
    assert (s.receptive_field, s.stride, s.layers, s.parameters) == (field, 32, layers, parameters)
    assert s.learnable == parameters


def test_googlenet_has_table_1s_field_with_the_pooling_that_it_leaves_out():
    net = analyze.deploy_net("voc-fcn-googlenet")
    s = structure(net)
    assert (s.stride, s.layers, round(s.parameters / 1e6)) == (32, 22, 6)
    assert s.receptive_field == 715
    pooled = caffe_pb2.NetParameter()
    for layer in net.layer:
        if layer.name == "score_fr":
            pooled.layer.add(
                name="pool5", type="Pooling", bottom=list(layer.bottom), top=["pool5"]
            ).pooling_param.MergeFrom(caffe_pb2.PoolingParameter(pool="AVE", kernel_size=7, stride=1))
            layer.bottom[0] = "pool5"
        pooled.layer.add().CopyFrom(layer)
    assert structure(pooled).receptive_field == 907


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("voc-fcn16s", 134_357_354), ("voc-fcn8s", 134_362_751), ("voc-fcn8s-atonce", 134_362_751)],
)
def test_skip_nets_have_the_known_learnable_parameters(name, parameters):
    s = structure(analyze.deploy_net(name))
    assert s.learnable == parameters
    # The scales of the at-once net are parameters, but stay as they are.
    assert s.parameters == parameters + (256 + 512 if name.endswith("atonce") else 0)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_parameters_are_those_that_the_engine_makes(name, tmp_path):
    experiment = lookup(name)
    net = experiment.net("deploy", thin=16)
    s = structure(net, 64)
    for layer in net.layer:
        for shape in layer.input_param.shape:
            shape.dim[2:] = [64, 64]
    path = tmp_path / "deploy.prototxt"
    path.write_text(text_format.MessageToString(net))
    made = caffe.Net(str(path), caffe.TEST)
    counts = [blob.count for blobs in made.params.values() for blob in blobs]
    assert s.parameters + s.upsampling_parameters == sum(counts)
    assert s.receptive_field in (355, 404, 715) and s.stride == 32


@pytest.mark.parametrize("name", sorted(set(all_names()) - set(EXPERIMENTS)))
def test_every_variant_has_a_structure(name):
    s = structure(lookup(name).net("deploy", thin=16))
    assert s.receptive_field > s.stride >= 8 and s.learnable > 0


# Odd windows, strides, pads and dilation, two branches and a crop; averages and positive weights, so that every pixel
# of the receptive field has its part in the gradient.
BRANCHES = """
force_backward: true
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 61 dim: 61 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
        convolution_param { num_output: 3 kernel_size: 5 stride: 2 pad: 3
                            weight_filler { type: "constant" value: 1 } } }
layer { name: "p" type: "Pooling" bottom: "a" top: "p" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "b" type: "Convolution" bottom: "p" top: "b"
        convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "constant" value: 1 } } }
layer { name: "c" type: "Convolution" bottom: "p" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 dilation: 2 pad: 2
                            weight_filler { type: "constant" value: 1 } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "cat" type: "Concat" bottom: "b" bottom: "c" top: "cat" }
layer { name: "d" type: "Convolution" bottom: "cat" top: "d"
        convolution_param { num_output: 6 kernel_size: 2 group: 2 weight_filler { type: "constant" value: 1 } } }
layer { name: "cut" type: "Crop" bottom: "d" bottom: "d" top: "cut" crop_param { axis: 2 offset: 0 } }
"""


def test_the_receptive_field_is_what_the_gradient_reaches(tmp_path):
    s = structure(parsed(BRANCHES), 61)
    path = tmp_path / "net.prototxt"
    path.write_text(BRANCHES)
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["data"].data[...] = 1
    reached = []
    for column in (6, 7):
        net.forward()
        net.blobs["cut"].diff[...] = 0
        net.blobs["cut"].diff[0, 0, 6, column] = 1
        net.backward()
        reached.append(np.flatnonzero(net.blobs["data"].diff[0].any(axis=(0, 1))))
    assert reached[0].tolist() == list(range(reached[0][0], reached[0][0] + s.receptive_field))
    assert reached[1][0] - reached[0][0] == s.stride
    assert s.layers == 3


def test_work_is_counted_by_hand():
    net = parsed("""
        layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
        layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { lr_mult: 0 }
                convolution_param { num_output: 4 kernel_size: 3 stride: 2 } }
        layer { name: "up" type: "Deconvolution" bottom: "a" top: "up" param { lr_mult: 0 }
                convolution_param { num_output: 4 kernel_size: 4 stride: 2 group: 4 bias_term: false } }
    """)
    s = structure(net, 9)
    assert s.multiply_adds == 4 * 4 * 4 * 3 * 9
    assert s.upsampling_multiply_adds == 4 * 4 * 4 * 16
    assert (s.parameters, s.upsampling_parameters, s.learnable) == (4 * 27 + 4, 64, 4)


SLICED = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 6 dim: 9 dim: 9 } } }
layer { name: "s" type: "Slice" bottom: "data" top: "l" top: "r" }
layer { name: "cl" type: "Convolution" bottom: "l" top: "cl" convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "cr" type: "Convolution" bottom: "r" top: "cr" convolution_param { num_output: 10 kernel_size: 1 } }
layer { name: "q" type: "Silence" bottom: "cr" }
"""


def test_channels_are_sliced_at_points_or_evenly():
    net = parsed(SLICED)
    assert structure(net, 9).parameters == (3 + 1) + 10 * (3 + 1)
    net.layer[1].slice_param.slice_point[:] = [1]
    assert structure(net, 9).parameters == (1 + 1) + 10 * (5 + 1)
    net.layer[1].slice_param.slice_point[:] = [1, 2]
    with pytest.raises(ValueError, match="as many parts"):
        structure(net, 9)


def test_parameters_shared_by_name_count_once():
    layer = """layer { name: "%s" type: "Convolution" bottom: "data" top: "%s" param { name: "w" } param { name: "b" }
                       convolution_param { num_output: 4 kernel_size: 3 } }"""
    first = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }'
    s = structure(parsed(first + layer % ("a", "a") + layer % ("b", "b")), 9)
    assert s.parameters == s.learnable == 4 * 27 + 4


INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }'


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ("", "no layer of type Input"),
        ('layer { name: "d" type: "Python" top: "data" }', "'d' is of type Python and makes data"),
        ('layer { name: "c" type: "ReLU" bottom: "x" top: "x" }', "reads 'x', which no layer"),
        (INPUT + 'layer { name: "r" type: "Reshape" bottom: "data" top: "x" }', "type Reshape, whose effect"),
        (
            INPUT + 'layer { name: "c" type: "Convolution" bottom: "data" top: "x" '
            "convolution_param { num_output: 1 kernel_h: 1 kernel_w: 3 } }",
            "not square",
        ),
        (
            INPUT
            + 'layer { name: "p" type: "Pooling" bottom: "data" top: "x" pooling_param { global_pooling: true } }',
            "other windows",
        ),
        (
            INPUT + 'layer { name: "c" type: "Convolution" bottom: "data" top: "x" '
            "convolution_param { num_output: 1 kernel_size: 11 } }",
            "nothing left of an image of 9 x 9",
        ),
        (
            INPUT
            + 'layer { name: "k" type: "Concat" bottom: "data" bottom: "data" top: "x" concat_param { axis: 2 } }',
            "channels",
        ),
        (
            INPUT + 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 3 } }'
            'layer { name: "e" type: "Eltwise" bottom: "data" bottom: "p" top: "x" }',
            "unequal shapes",
        ),
        ('layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 3 } } }', "1 dimensions"),
        ('layer { name: "in" type: "Input" top: "data" }', "not as many shapes"),
        (
            INPUT + 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
            "pooling_param { kernel_size: 3 stride: 2 pad: 1 } }"
            'layer { name: "c" type: "Crop" bottom: "data" bottom: "p" top: "c" }'
            'layer { name: "e" type: "Eltwise" bottom: "c" bottom: "p" top: "x" }',
            "strides",
        ),
    ],
)
def test_what_cannot_be_worked_out_is_said(layers, says):
    with pytest.raises(ValueError, match=says):
        structure(parsed(layers), 9)


def test_the_nets_program_prints_the_papers_figures_beside(capsys, tmp_path):
    assert analyze.main(["nets"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert {line.split()[0] for line in lines if line and line[0] != " "} > set(EXPERIMENTS)
    for name, published in (("voc-fcn-alexnet", "355 32 8 57M"), ("voc-fcn-googlenet", "907 32 22 6M")):
        at = next(i for i, line in enumerate(lines) if line.startswith(name))
        assert lines[at + 1].split() == ["Table", "1", *published.split()]
    assert "907 is what the classifier's final 7x7 average pooling would" in printed

    own = tmp_path / "own.prototxt"
    own.write_text(BRANCHES)
    assert analyze.main(["nets", str(own), "--size", "61"]) == 0
    assert str(structure(parsed(BRANCHES), 61).receptive_field) in capsys.readouterr().out


def test_the_nets_program_says_what_is_wrong(capsys, tmp_path):
    (tmp_path / "bad.prototxt").write_text("layer {")
    for name, says in (
        ("voc-fcn9s", "voc-fcn8s"),
        (str(tmp_path / "bad.prototxt"), "is no prototxt"),
        (str(tmp_path / "none.prototxt"), "none.prototxt"),
    ):
        assert analyze.main(["nets", name]) == 1
        assert says in capsys.readouterr().err


# Forward time


def test_the_time_program_names_the_device_and_the_passes(capsys, tmp_path):
    own = tmp_path / "own.prototxt"
    own.write_text(BRANCHES)
    assert analyze.main(["time", str(own), "--size", "64", "--trials", "3"]) == 0
    device, timed = capsys.readouterr().out.splitlines()
    assert device.startswith("CPU ") and "threads" in device
    assert "64 x 64, the mean of 3 passes" in timed and f"{own}: " in timed
    assert len(analyze.forward_times(str(own), 32, 4)) == 4
    assert analyze.main(["time", str(own), "--trials", "0"]) == 1
    assert "--trials 0" in capsys.readouterr().err


def test_a_gpu_is_named_by_what_its_driver_says(monkeypatch):
    asked = []

    def run(command, **_):
        asked.append(command[1])
        return type("Done", (), {"stdout": "Tesla K40c\n"})

    monkeypatch.setattr(forward_time.subprocess, "run", run)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert analyze.device_name(1) == "GPU 1, Tesla K40c"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert analyze.device_name(0) == "GPU 0, Tesla K40c"
    assert asked == ["--id=5", "--id=0"]

    def missing(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(forward_time.subprocess, "run", missing)
    assert analyze.device_name(0) == "GPU 0, of unknown make"


# Upper bounds


def blobs(size=(90, 121), classes=4, seed=0):
    """A label map of overlapping discs, some of them void."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    label = np.zeros(size, np.uint8)
    for i in range(12):
        cy, cx, r = random.integers(0, size[0]), random.integers(0, size[1]), random.integers(4, 20)
        label[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = 255 if i == 5 else i % classes
    return label


@pytest.mark.parametrize("kind", analyze.INTERPOLATIONS)
def test_what_resampling_does_not_touch_scores_100(kind):
    label = blobs()
    assert analyze.upper_bounds([label], 4, [1], kind)[1].mean_iu == 1
    bounds = analyze.upper_bounds([np.full((50, 70), 2, np.uint8)], 4, [4, 32, 128], kind)
    assert all(scores.mean_iu == 1 and scores.images == 1 for scores in bounds.values())
    # Squares of 8 pixels, with edges where the cells have theirs.
    halves = np.repeat(np.repeat(np.array([[0, 1], [0, 1]], np.uint8), 8, 0), 8, 1)
    assert analyze.upper_bounds([halves], 2, [8], kind)[8].mean_iu == 1


def test_what_lies_between_the_samples_is_lost():
    # Of each 4 x 4 cell the nearest is the pixel right below its centre: 2, 2.
    label = np.zeros((8, 8), np.uint8)
    label[0, 0] = 1
    scores = analyze.upper_bounds([label], 2, [4], "nearest")[4]
    assert scores.confusion.tolist() == [[63, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert scores.mean_iu == pytest.approx((63 / 64 + 0) / 2)
    label[0, 0], label[2, 2] = 0, 1
    scores = analyze.upper_bounds([label], 2, [4], "nearest")[4]
    assert scores.confusion.tolist() == [[48, 15, 0], [0, 1, 0], [0, 0, 0]]
    assert scores.mean_iu == pytest.approx((48 / 63 + 1 / 16) / 2)


def test_pixels_that_come_out_void_count_as_missed_and_void_ones_not_at_all():
    label = np.zeros((8, 8), np.uint8)
    label[2, 2] = 255
    scores = analyze.upper_bounds([label], 1, [4], "nearest")[4]
    assert scores.confusion.tolist() == [[48, 15], [0, 0]]
    assert scores.mean_iu == pytest.approx(48 / 63)  # the mean is over class 0 alone
    narrow = np.zeros((32, 32), np.uint8)
    narrow[:, 13:19] = 255  # a border as VOC's: it comes out wider or narrower, never as a class
    scores = analyze.upper_bounds([narrow], 1, [8])[8]
    assert scores.confusion.sum() == (narrow == 0).sum() and scores.confusion[1].sum() == 0


def test_finer_strides_lose_less_and_masks_less_than_samples():
    labels = [blobs(seed=i) for i in range(4)]
    curves = {}
    for kind in analyze.INTERPOLATIONS:
        bounds = analyze.upper_bounds(labels, 4, [32, 16, 8, 4], kind)
        curves[kind] = [bounds[f].mean_iu for f in (32, 16, 8, 4)]
        assert curves[kind] == sorted(curves[kind]) and curves[kind][-1] < 1
    # Where a cell is finer than what is drawn; of coarser ones either may have the luck.
    assert all(curves["bilinear"][i] > curves["nearest"][i] for i in (2, 3))


def test_the_set_is_summed_before_it_is_divided():
    labels = [blobs(seed=i) for i in range(3)]
    together = analyze.upper_bounds(iter(labels), 4, [8])[8]
    alone = [analyze.upper_bounds([label], 4, [8])[8] for label in labels]
    np.testing.assert_array_equal(together.confusion, sum(scores.confusion for scores in alone))
    assert together.images == 3


def test_wrong_labels_factors_and_kinds_are_refused():
    with pytest.raises(ValueError, match="map 2 has the label 7: expected 0 to 3"):
        analyze.upper_bounds([blobs(), np.full((4, 4), 7, np.uint8)], 4, [2])
    with pytest.raises(ValueError, match="factors"):
        analyze.upper_bounds([blobs()], 4, [0])
    with pytest.raises(ValueError, match="cubic"):
        resampled(blobs(), 4, 4, "cubic")


def test_the_upper_bounds_program_writes_a_result(tmp_path, capsys):
    voc = tmp_path / "data" / "pascal" / "VOC2011"
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    (voc / "SegmentationClass").mkdir()
    labels = {f"2007_00000{i}": blobs((150, 200), 21, seed=i) for i in range(2)}
    for ident, label in labels.items():
        vis.save_labels(voc / "SegmentationClass" / f"{ident}.png", label)
    (voc / "ImageSets" / "Segmentation" / "some.txt").write_text("".join(f"{ident}\n" for ident in labels))

    out = tmp_path / "results"
    command = ["upper-bounds", "--split", "some", "--data", str(tmp_path / "data"), "--out", str(out)]
    assert analyze.main(command) == 0
    printed = capsys.readouterr().out
    result = json.loads((out / "some.json").read_text())
    assert result["split"] == "some" and result["images"] == 2 and result["analysis"] == "upper-bounds"
    assert result["split_sha256"] == hashlib.sha256(b"2007_000000\n2007_000001\n").hexdigest()
    assert result["code_version"] and len(result["classes"]) == 22
    for kind in analyze.INTERPOLATIONS:
        bounds = analyze.upper_bounds(labels.values(), 21, interpolation=kind)
        for factor in analyze.UPPER_BOUNDS:
            assert result[kind][str(factor)]["mean_iu"] == bounds[factor].mean_iu
    line = next(line for line in printed.splitlines() if line.split()[:1] == ["32"])
    assert line.split() == ["32", "86.1", *(f"{100 * result[k]['32']['mean_iu']:.1f}" for k in analyze.INTERPOLATIONS)]

    assert analyze.main([*command[:2], "other", *command[3:]]) == 1
    assert "There is no list" in capsys.readouterr().err


# Momentum


@pytest.mark.parametrize(
    ("momentum", "batch", "to", "equivalent"),
    [(0.9, 20, 1, 0.99475), (0.99, 1, 20, 0.81791), (0.9, 20, 20, 0.9), (0.81, 2, 1, 0.9), (0.0, 20, 1, 0.0)],
)
def test_equivalent_momenta(momentum, batch, to, equivalent):
    assert analyze.equivalent_momentum(momentum, batch, to) == pytest.approx(equivalent, abs=5e-6)


def test_the_solver_steps_unroll_to_the_powers_of_the_paper():
    j = np.arange(70)
    np.testing.assert_allclose(analyze.gradient_weights(0.9, 20, 70), 0.9 ** (j // 20), rtol=1e-12)
    np.testing.assert_allclose(analyze.gradient_weights(0.99, 1, 70), 0.99**j, rtol=1e-12)
    alone = analyze.equivalent_momentum(0.9, 20, 1)
    np.testing.assert_allclose(
        analyze.gradient_weights(alone, 1, 70)[::20], analyze.gradient_weights(0.9, 20, 70)[::20]
    )


def test_the_momentum_program(capsys):
    assert analyze.main(["momentum"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "0.99475"] in rows and ["20", "0.90000"] in rows
    assert ["19", "1.00000", "0.90475"] in rows and ["100", "0.59049", "0.59049"] in rows
    for wrong in (["--momentum", "1"], ["--batch", "0"]):
        assert analyze.main(["momentum", *wrong]) == 1
        assert "expected 0 <= momentum < 1" in capsys.readouterr().err


def test_an_interrupt_writes_nothing(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(analyze, "momentum_table", interrupted)
    assert analyze.main(["momentum"]) == 130
    assert "nothing was written" in capsys.readouterr().err
