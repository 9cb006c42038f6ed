"""Nets at the limits: absurd extents, no memory, nothing in the net or in the batch, hundreds of layers, NaN.

The answer is a result or a CaffeError that names the layer; BVLC Caffe aborts, and no case may take this process along.
"""

import sys

import numpy as np
import pytest

import caffe
from tests import forked

CONV = 'convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" std: 0.1 } }'


def input_layer(*dims, name="data"):
    shape = " ".join(f"dim: {d}" for d in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


def layer(type_, bottoms="data", top="y", setting=""):
    ends = " ".join([f'bottom: "{b}"' for b in bottoms.split()] + ([f'top: "{top}"'] if top else []))
    return f'layer {{ name: "l" type: "{type_}" {ends} {setting} }}\n'


def test_a_net_of_nothing_but_a_name_runs(write, tmp_path):
    net = caffe.Net(write('name: "nothing"'), caffe.TRAIN)
    assert net.forward() == {} and net.backward() == {} and not net.blobs and not net.params
    assert net.forward_pass() == 0
    net.reshape()
    net.save(str(tmp_path / "w.caffemodel"))


def test_hundreds_of_layers_above_and_beside_each_other(write):
    count = 300
    text = "force_backward: true\n" + input_layer(1, 2)
    for i in range(count):
        text += layer("Power", "data" if i == 0 else f"x{i - 1}", f"x{i}").replace('"l"', f'"p{i}"')
        text += layer("Power", "data", f"z{i}").replace('"l"', f'"q{i}"')
    net = caffe.Net(write(text), caffe.TEST)
    net.blobs["data"].data[...] = [1, 2]
    assert net.forward()[f"x{count - 1}"].tolist() == [[1, 2]] and len(net.outputs) == count + 1
    for name in net.outputs:
        net.blobs[name].diff[...] = 1
    assert (net.backward()["data"] == count + 1).all()


def test_parameters_that_are_not_numbers_give_results_that_are_not(write):
    text = input_layer(1, 3, 6, 6) + layer("Convolution", top="conv", setting=CONV)
    text += layer("Pooling", "conv", setting="pooling_param { kernel_size: 2 stride: 2 }").replace('"l"', '"p"')
    net = caffe.Net(write("force_backward: true\n" + text), caffe.TEST)
    net.params["l"][0].data[...] = np.nan
    assert np.isnan(net.forward()["y"]).all()
    assert np.isnan(net.backward(y=np.ones((1, 2, 2, 2)))["data"]).any()


ABSURD = {
    "an input of 30 G values": (input_layer(1, 100000, 100000, 3), r"'data'.*100000.*limit"),
    "extents beyond 64 bits": (input_layer(2**62, 2**62), "limit"),
    "33 axes": (input_layer(*[1] * 33), "up to 32 axes; 33"),
    "a kernel above 2^31": (
        layer("Convolution", setting="convolution_param { num_output: 2 kernel_size: 3000000000 pad: 3000000000 }"),
        "'l'.*3000000000.*limit",
    ),
    "4 G outputs": (
        layer("Convolution", setting="convolution_param { num_output: 4000000000 kernel_size: 1 }"),
        "'l'.*4000000000.*limit",
    ),
    "4 G inner products": (
        layer("InnerProduct", setting="inner_product_param { num_output: 4000000000 }"),
        "'l'.*4000000000.*limit",
    ),
    "a stride of 2 G": (
        layer("Deconvolution", setting="convolution_param { num_output: 3 kernel_size: 4 stride: 2000000000 }"),
        "'l'.*limit",
    ),
    "a padding of 3 M": (
        layer("Pooling", setting="pooling_param { kernel_size: 3000000 pad: 2999999 }"),
        "'l'.*limit",
    ),
    "2 G tiles": (layer("Tile", setting="tile_param { tiles: 2000000000 }"), "'l'.*limit"),
    "a pyramid 4 G high": (layer("SPP", setting="spp_param { pyramid_height: 4000000000 }"), "'l'.*too many"),
    "a table of 10^12": (
        layer("Embed", setting="embed_param { num_output: 1000000 input_dim: 1000000 }"),
        "'l'.*limit",
    ),
    "a negative shape": (layer("Reshape", setting="reshape_param { shape { dim: -5 dim: -15 } }"), "'l'.*negative"),
    "a shape beyond 64 bits": (
        layer("Reshape", setting="reshape_param { shape { dim: 9223372036854775807 dim: -1 } }"),
        "'l'.*cannot be divided",
    ),
    "itself for a bottom": (layer("ReLU", "y"), r"bottom blob 'y'.*order"),
    "one top twice": (
        'layer { name: "l" type: "Input" top: "y" top: "y" input_param { shape { dim: 1 } } }',
        "'y' of layer 'l' is made by",
    ),
    "over its second bottom": (
        input_layer(1, 3, 5, 5, name="b") + layer("Eltwise", "data b", "b"),
        "'b' of layer 'l' is made by",
    ),
    "no type": ('layer { name: "l" }', "Unknown layer type"),
    "a mean of nothing": (
        input_layer(1, 0, name="none")
        + layer("Reduction", "none", setting="reduction_param { operation: MEAN axis: 1 }"),
        "'l'.*1 x 0",
    ),
}


@pytest.mark.parametrize("case", ABSURD)
def test_what_cannot_be_is_told_before_memory_is_taken_for_it(write, case):
    text, said = ABSURD[case]
    start = "" if '"data" type: "Input"' in text else input_layer(1, 3, 5, 5)
    with pytest.raises(caffe.CaffeError, match=said):
        caffe.Net(write(start + text), caffe.TEST).forward()


# In a process of its own, since a crash would take this one along.
WITH_LITTLE_MEMORY = """
import resource, sys
import caffe
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
for path in sys.argv[1:]:
    try:
        net = caffe.Net(path, caffe.TEST)
        net.forward()
        net.blobs["data"].data
        print("ran")
    except caffe.CaffeError as error:
        print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and reads the process's memory as Linux does")
def test_memory_that_is_not_there_is_told_with_the_layer_and_the_shape(write):
    big, conv = input_layer(1, 1, 40000, 50000), "convolution_param { num_output: 2000000000 kernel_size: 1 %s }"
    texts = [
        big,
        big + layer("ReLU"),
        input_layer(1, 1, 1, 1) + layer("Convolution", setting=conv % 'weight_filler { type: "xavier" }'),
        input_layer(1, 1, 5, 5)
        + layer("Deconvolution", setting="convolution_param { num_output: 1 kernel_size: 4 stride: 10000 }"),
        input_layer(1, 3),
    ]
    paths = [write(text, f"{i}.prototxt") for i, text in enumerate(texts)]
    ran = forked.run("-c", WITH_LITTLE_MEMORY, *paths)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    no_memory = "There is no memory on cpu for a blob of 1 x 1 x 40000 x 50000 (7.5 GiB)."
    assert said[0] == f"Layer 'data': blob 'data' cannot be shown. {no_memory}"
    assert said[1] == f"Layer 'l' (ReLU): {no_memory}"
    assert said[2] == "Layer 'l' (Convolution): there is not enough memory to run it on its bottoms (1 x 1 x 1 x 1)."
    assert said[3] == "Layer 'l' (Deconvolution): there is not enough memory to run it on its bottoms (1 x 1 x 5 x 5)."
    assert said[4] == "ran"


# Every type over a batch of nothing, forward and backward in both phases; also in a process of its own.
EMPTY = {"x": (0, 3, 5, 5), "row": (0, 3), "label": (0, 1, 5, 5), "one": (0,), "H": (3, 3)}
EMPTY |= {"cell": (1, 0, 3), "gates": (1, 0, 12), "step": (1, 0)}
NEEDS = {
    "Accuracy": ("", "x label"),
    "BatchReindex": ("", "x one"),
    "Clip": ("clip_param { min: 0 max: 1 }", "x"),
    "ContrastiveLoss": ("", "row row one"),
    "Convolution": ("convolution_param { num_output: 2 kernel_size: 3 }", "x"),
    "Crop": ("", "x x"),
    "Deconvolution": ("convolution_param { num_output: 3 kernel_size: 3 }", "x"),
    "DummyData": ('dummy_data_param { shape { dim: 0 dim: 3 } data_filler { type: "gaussian" } }', ""),
    "Eltwise": ("", "x x"),
    "Embed": ("embed_param { num_output: 2 input_dim: 3 }", "one"),
    "EuclideanLoss": ("", "x x"),
    "Filter": ("", "x one"),
    "HingeLoss": ("", "row one"),
    "Im2col": ("convolution_param { kernel_size: 3 }", "x"),
    "InfogainLoss": ("", "row one H"),
    "InnerProduct": ("inner_product_param { num_output: 2 }", "x"),
    "Input": ("input_param { shape { dim: 0 dim: 3 } }", ""),
    "LSTM": ("recurrent_param { num_output: 2 }", "x row"),
    "LSTMUnit": ('top: "h"', "cell gates step"),
    "MultinomialLogisticLoss": ("", "row one"),
    "Parameter": ("parameter_param { shape { dim: 0 dim: 3 } }", ""),
    "Pooling": ("pooling_param { kernel_size: 3 }", "x"),
    "Reshape": ("reshape_param { shape { dim: 0 dim: 75 } }", "x"),
    "RNN": ("recurrent_param { num_output: 2 }", "x row"),
    "SigmoidCrossEntropyLoss": ("", "x x"),
    "SoftmaxWithLoss": ("", "x label"),
    "SPP": ("spp_param { pyramid_height: 2 }", "x"),
    "Tile": ("tile_param { tiles: 2 }", "x"),
}
VARIANTS = [
    ("Pooling", "pooling_param { kernel_size: 3 pool: AVE pad: 2 }", "x"),
    ("Pooling", "pooling_param { kernel_size: 3 pool: STOCHASTIC }", "x"),
    ("Pooling", "pooling_param { global_pooling: true }", "x"),
    ("LRN", "lrn_param { norm_region: WITHIN_CHANNEL }", "x"),
    ("Eltwise", "eltwise_param { operation: MAX }", "x x"),
    ("Eltwise", "eltwise_param { operation: PROD }", "x x"),
    ("Reduction", "reduction_param { operation: MEAN }", "x"),
    ("SoftmaxWithLoss", "loss_param { ignore_label: 1 normalization: FULL }", "x label"),
    ("Convolution", "convolution_param { num_output: 20000 kernel_size: 5 }", "x"),
    ("Deconvolution", "convolution_param { num_output: 3 kernel_size: 3 group: 3 }", "x"),
]
OVER_NOTHING = """
import sys
import caffe
for path in sys.argv[1:]:
    for phase in (caffe.TRAIN, caffe.TEST):
        try:
            net = caffe.Net(path, phase)
            for _ in range(2):
                net.forward()
                net.backward()
            print("ran")
        except caffe.CaffeError as error:
            print(error)
"""
# Those that have nothing to say of nothing; the rest give an empty result, or a loss of 0 or NaN.
REFUSES = {
    "BatchNorm": "at least one element",
    "Convolution": "failed on its bottoms (0 x 3 x 5 x 5)",  # only where it runs as a matrix product
    "Pooling": "STOCHASTIC",  # in TEST, where it has no gradient
    "Reduction": "division by zero",  # a mean of no values
}


@pytest.mark.slow
def test_a_batch_of_nothing_through_every_type_is_a_result_or_an_error(write):
    files = {"Data", "HDF5Data", "HDF5Output", "ImageData", "MemoryData", "WindowData"}  # each has its own tests
    special = {"Python", "Silence", *files}
    cases = [(t, *NEEDS.get(t, ("", "x"))) for t in caffe.layer_type_list() if t not in special] + VARIANTS
    paths = []
    for i, (type_, setting, bottoms) in enumerate(cases):
        inputs = "".join(input_layer(*EMPTY[b], name=b) for b in dict.fromkeys(bottoms.split()))
        paths.append(write("force_backward: true\n" + inputs + layer(type_, bottoms, "y", setting), f"{i}.prototxt"))
    ran = forked.run("-c", OVER_NOTHING, *paths)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    assert len(said) == 2 * len(cases)
    for (type_, _, _), *lines in zip(cases, said[::2], said[1::2], strict=True):
        for line in lines:
            assert line == "ran" or (f"Layer 'l' ({type_})" in line and type_ in REFUSES and REFUSES[type_] in line), (
                line
            )
