"""Summary: parameters, multiply-adds, shapes and memory of known nets, worked out by hand; the table; errors."""

from pathlib import Path

import pytest

import caffe
from caffe.errors import CaffeError, NetError, PrototxtError
from caffe.tools.summary import counts, summarize

ROOT = Path(__file__).resolve().parents[3]


def one(name, type_, bottoms, tops, setting=""):
    """Return the text of one layer."""
    ends = " ".join([f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()])
    return f'layer {{ name: "{name}" type: "{type_}" {ends} {setting} }}\n'


def source(name, *dims):
    """Return the text of an input."""
    shape = " ".join(f"dim: {d}" for d in dims)
    return one(name, "Input", "", name, f"input_param {{ shape {{ {shape} }} }}")


def conv(name, bottom, number, kernel, more=""):
    setting = f"convolution_param {{ num_output: {number} kernel_size: {kernel} {more} }}"
    return one(name, "Convolution", bottom, name, setting) + one(f"relu_{name}", "ReLU", name, name)


def pool(name, bottom):
    return one(name, "Pooling", bottom, name, "pooling_param { kernel_size: 3 stride: 2 }")


def dense(name, bottom, number):
    return one(name, "InnerProduct", bottom, name, f"inner_product_param {{ num_output: {number} }}")


def rows(summary):
    return {row.layer: row for row in summary.rows}


ALEXNET = (
    'name: "AlexNet"\n'
    + source("data", 1, 3, 227, 227)
    + conv("conv1", "data", 96, 11, "stride: 4")
    + one("norm1", "LRN", "conv1", "norm1")
    + pool("pool1", "norm1")
    + conv("conv2", "pool1", 256, 5, "pad: 2 group: 2")
    + pool("pool2", "conv2")
    + conv("conv3", "pool2", 384, 3, "pad: 1")
    + conv("conv4", "conv3", 384, 3, "pad: 1 group: 2")
    + conv("conv5", "conv4", 256, 3, "pad: 1 group: 2")
    + pool("pool5", "conv5")
    + dense("fc6", "pool5", 4096)
    + dense("fc7", "fc6", 4096)
    + dense("fc8", "fc7", 1000)
)


def test_alexnet(write):
    summary = summarize(write(ALEXNET))
    assert summary.parameters == summary.learnable_parameters == 60_965_224
    multiply_adds = {
        "conv1": 55 * 55 * 96 * (3 * 11 * 11),
        "conv2": 27 * 27 * 256 * (48 * 5 * 5),
        "conv3": 13 * 13 * 384 * (256 * 3 * 3),
        "conv4": 13 * 13 * 384 * (192 * 3 * 3),
        "conv5": 13 * 13 * 256 * (192 * 3 * 3),
        "fc6": 256 * 6 * 6 * 4096,
        "fc7": 4096 * 4096,
        "fc8": 4096 * 1000,
    }
    assert {row.layer: row.multiply_adds for row in summary.rows if row.multiply_adds} == multiply_adds
    assert summary.multiply_adds == sum(multiply_adds.values()) == 724_406_816
    assert rows(summary)["pool5"].shapes == ((1, 256, 6, 6),)
    assert rows(summary)["conv2"].parameters == 256 * 48 * 25 + 256
    assert summary.parameter_memory == 4 * 60_965_224


def test_vgg16_as_a_dense_net():
    path = ROOT / "voc-fcn32s" / "deploy.prototxt"
    summary = summarize(path, shapes={"data": (1, 3, 300, 400)})
    assert summary.learnable_parameters == 134_346_581
    frozen = 21 * 21 * 64 * 64  # the upsampling, whose lr_mult is 0
    assert summary.parameters == 134_346_581 + frozen
    found = rows(summary)
    assert found["score"].shapes == ((1, 21, 300, 400),)
    assert found["conv1_1"].shapes == ((1, 64, 300 + 198, 400 + 198),)
    assert found["conv1_1"].multiply_adds == 498 * 598 * 64 * 27
    height, width = found["score_fr"].shapes[0][2:]
    assert found["upscore"].multiply_adds == height * width * frozen
    assert (found["upscore"].parameters, found["upscore"].learnable_parameters) == (frozen, 0)


def test_memory_counts_each_array_once(write):
    text = source("data", 2, 3, 8, 8) + one("relu", "ReLU", "data", "data")
    text += one("flat", "Flatten", "data", "flat") + one("tanh", "TanH", "data", "y")
    text += one("cut", "Slice", "y", "a b", "slice_param { slice_point: 1 }")
    summary = summarize(write(text))
    whole = 4 * 2 * 3 * 8 * 8
    assert {row.type: row.memory for row in summary.rows} == {
        "Input": whole,
        "ReLU": 0,
        "Split": 0,
        "Flatten": 0,
        "TanH": whole,
        "Slice": whole,
    }
    assert summary.memory == 3 * whole
    assert rows(summary)["cut"].tops == ("a", "b")
    assert rows(summary)["cut"].shapes == ((2, 1, 8, 8), (2, 2, 8, 8))


def test_shared_parameters_are_their_owners(write):
    shared = 'convolution_param { num_output: 3 kernel_size: 3 pad: 1 } param { name: "w" } param { lr_mult: 0 }'
    text = source("x", 1, 3, 8, 8) + one("one", "Convolution", "x", "y", shared)
    summary = summarize(write(text + one("two", "Convolution", "y", "z", shared)))
    assert [row.parameters for row in summary.rows] == [0, 81 + 3, 3]
    assert [row.learnable_parameters for row in summary.rows] == [0, 81, 0]
    assert rows(summary)["two"].multiply_adds == 8 * 8 * 3 * 27


def test_multiply_adds_of_the_other_products(write):
    text = source("x", 2, 6, 5, 5) + source("steps", 4, 2, 3) + source("cont", 4, 2) + source("word", 7)
    text += one("up", "Deconvolution", "x", "up", "convolution_param { num_output: 4 kernel_size: 3 group: 2 }")
    inner = "inner_product_param { num_output: 3 axis: 2 transpose: true }"
    text += one("rows", "InnerProduct", "x", "rows", inner)
    text += one("embed", "Embed", "word", "embed", "embed_param { input_dim: 9 num_output: 5 }")
    text += one("lstm", "LSTM", "steps cont", "h", "recurrent_param { num_output: 5 }")
    text += source("still", 2, 8) + one("rnn", "RNN", "steps cont still", "o", "recurrent_param { num_output: 5 }")
    found = rows(summarize(write(text)))
    assert found["up"].multiply_adds == (2 * 6 * 5 * 5) * (2 * 3 * 3)
    assert found["rows"].multiply_adds == (2 * 6) * (5 * 5) * 3
    assert found["embed"].multiply_adds == 0
    assert found["lstm"].multiply_adds == 4 * 2 * (4 * 5) * (3 + 5)
    assert found["rnn"].multiply_adds == 4 * 2 * (5 * 3 + 5 * 5 + 5 * 5) + 2 * (5 * 8)


def test_phase_and_fillers(write):
    text = source("x", 1, 4) + one(
        "fc",
        "InnerProduct",
        "x",
        "y",
        """inner_product_param { num_output: 2
        weight_filler { type: "gaussian" std: 1 } }""",
    )
    text += one("drop", "Dropout", "y", "y", "include { phase: TRAIN }")
    text += one("noise", "DummyData", "", "z", 'dummy_data_param { shape { dim: 3 } data_filler { type: "xavier" } }')
    path = write(text)
    caffe.set_random_seed(3)
    assert "drop" in rows(summarize(path, phase=caffe.TRAIN))
    assert "drop" not in rows(summarize(path))
    drawn = caffe.Net(path, caffe.TEST).params["fc"][0].data.copy()
    caffe.set_random_seed(3)
    assert (caffe.Net(path, caffe.TEST).params["fc"][0].data == drawn).all()  # a summary draws nothing


def test_the_table(write):
    text = 'name: "Small"' + source("data", 1, 3, 8, 8) + conv("conv", "data", 4, 3)
    text += one("cut", "Slice", "conv", "a b", "slice_param { slice_point: 1 }")
    text += one("halves", "Slice", "a", "c d", "slice_param { axis: 2 }") + one("end", "Silence", "b c d", "")
    assert str(summarize(write(text))).splitlines() == [
        "Small, TEST",
        "layer      type         top                 parameters  multiply-adds   memory",
        "------------------------------------------------------------------------------",
        "data       Input        1 x 3 x 8 x 8                0              0    768 B",
        "conv       Convolution  1 x 4 x 6 x 6              112          3,888    576 B",
        "relu_conv  ReLU         1 x 4 x 6 x 6                0              0      0 B",
        "cut        Slice        1 x 1 x 6 x 6                0              0    576 B",
        "                        1 x 3 x 6 x 6",
        "halves     Slice        2 of 1 x 1 x 3 x 6           0              0    144 B",
        "end        Silence                                   0              0      0 B",
        "------------------------------------------------------------------------------",
        "total                                              112          3,888  2.0 KiB",
        "112 of 112 parameters are learnable; all take 448 B.",
    ]


def test_the_table_fits_120_columns(write):
    long = "a_rather_long_name_of_a_layer_as_generated_nets_have_them/" * 3
    text = source("data", *[1] * 20, 64, 64) + one(long, "TanH", "data", "y")
    lines = str(summarize(write(text))).splitlines()
    assert max(map(len, lines)) == 120
    assert any("a_rather_long" in line and "..." in line for line in lines)
    assert str(summarize(write(source("x", 1)), phase=caffe.TRAIN)).startswith("net, TRAIN\n")


def test_shapes_must_be_an_inputs_and_possible(write):
    path = write(source("data", 1, 3, 8, 8) + dense("fc", "data", 2))
    with pytest.raises(CaffeError, match=r"'image', which is no input of .*net.prototxt. Its inputs are: data"):
        summarize(path, shapes={"image": (1, 3, 9, 9)})
    with pytest.raises(NetError, match=r"'fc'.*its weights are for 192 values"):
        summarize(path, shapes={"data": (1, 3, 9, 9)})
    with pytest.raises(NetError, match="beyond Caffe's limit"):
        summarize(path, shapes={"data": (1, 3, 10**6, 10**6)})
    assert summarize(path, shapes={"data": (5, 3, 8, 8)}).multiply_adds == 5 * 192 * 2


def test_a_data_layer_without_its_data_says_why_it_is_wanted(write, tmp_path, monkeypatch):
    (tmp_path / "own_layers.py").write_text(
        "import caffe\nclass Reader(caffe.Layer):\n    def setup(self, bottom, top):\n        open('nowhere.txt')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = one("images", "Python", "", "data", 'python_param { module: "own_layers" layer: "Reader" }')
    with pytest.raises(CaffeError, match=r"layer 'images' \(Python\) cannot give them: .*nowhere.txt'. Put the data"):
        summarize(write(text + dense("fc", "data", 2)))
    with pytest.raises(NetError, match=r"^Layer 'fc' \(InnerProduct\): inner_product_param needs num_output"):
        summarize(write(source("x", 2, 3) + dense("fc", "x", 0)))
    with pytest.raises(PrototxtError, match="Could not open file"):
        summarize(tmp_path / "none.prototxt")


def test_a_rule_can_be_given_for_another_type(write, monkeypatch):
    monkeypatch.setattr("caffe.tools.summary._multiply_adds", {})
    counts("TanH")(lambda node: 7 * node.top[0].count)
    assert summarize(write(source("x", 2, 3) + one("t", "TanH", "x", "y"))).multiply_adds == 42
