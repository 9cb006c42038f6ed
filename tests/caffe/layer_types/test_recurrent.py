"""RNN, LSTM and LSTMUnit: against the net that Caffe unrolls them into, over passes, files, and what cannot be."""

import base64
import json

import numpy as np
import pytest

import caffe
from caffe.errors import NetError
from caffe.formats.prototxt import parse_text
from caffe.proto import caffe_pb2

T, N, H, X, S = 4, 3, 5, (2, 3), 4  # steps, streams, outputs, a step's x, a stream's static input
GATES = {"RNN": 1, "LSTM": 4}
STATES = {"RNN": ["h_0"], "LSTM": ["h_0", "c_0"]}
LASTS = {"RNN": ["h_T"], "LSTM": ["h_T", "c_T"]}
FILLERS = 'weight_filler { type: "gaussian" std: 0.4 } bias_filler { type: "uniform" min: -0.5 max: 0.5 }'


def layer(type_, name, bottoms, tops, setting=""):
    ends = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return f'layer {{ name: "{name}" type: "{type_}" {ends} {setting} }}\n'


def inputs(**shapes):
    def shape(dims):
        return f"input_param {{ shape {{ {' '.join(f'dim: {d}' for d in dims)} }} }}"

    return "".join(layer("Input", name, [], [name], shape(dims)) for name, dims in shapes.items())


def build(text, phase=caffe.TRAIN, seed=3, force=True):
    caffe.set_random_seed(seed)
    param = parse_text(f"force_backward: {str(force).lower()}\n{text}", caffe_pb2.NetParameter())
    param.state.phase = phase
    return caffe.Net.from_proto(param)


def recurrent(type_, static=False, exposed=False, steps=T, **options):
    """Build a net of one recurrent layer, l, over inputs of its own."""
    shapes = {"x": (steps, N, *X), "cont": (steps, N)}
    shapes |= {"static": (N, S)} if static else {}
    shapes |= dict.fromkeys(STATES[type_], (1, N, H)) if exposed else {}
    setting = f"recurrent_param {{ num_output: {H} expose_hidden: {str(exposed).lower()} {FILLERS} }}"
    tops = ["y", *(LASTS[type_] if exposed else [])]
    return build(inputs(**shapes) + layer(type_, "l", shapes, tops, setting), **options)


def unrolled(type_, static=False, steps=T):
    """Build the net that Caffe unrolls a recurrent layer into, with exposed states (lstm_layer.cpp, rnn_layer.cpp)."""
    width = GATES[type_] * H
    shapes = {"x": (steps, N, *X), "cont": (steps, N)} | ({"static": (N, S)} if static else {})
    text = inputs(**shapes, **dict.fromkeys(STATES[type_], (1, N, H)))

    def product(name, bottom, top, outputs, axis, *params):
        shared = " ".join(f'param {{ name: "{p}" }}' for p in params)
        bias = str(len(params) > 1).lower()
        setting = f"num_output: {outputs} axis: {axis} bias_term: {bias}"
        return layer("InnerProduct", name, [bottom], [top], f"{shared} inner_product_param {{ {setting} }}")

    text += product("x", "x", "z", width, 2, "W_x", "b")
    sums = []
    if static:
        text += product("static", "static", "flat", width, 1, "W_static")
        text += layer(
            "Reshape", "unflat", ["flat"], ["zs"], f"reshape_param {{ shape {{ dim: 1 dim: -1 dim: {width} }} }}"
        )
        sums = ["zs"]
    times = range(1, steps + 1)
    text += layer("Slice", "slice z", ["z"], [f"z_{t}" for t in times], "slice_param { axis: 0 }")
    text += layer("Slice", "slice c", ["cont"], [f"cont_{t}" for t in times], "slice_param { axis: 0 }")
    for t in times:
        text += layer("Scale", f"go {t}", [f"h_{t - 1}", f"cont_{t}"], [f"go_{t}"], "scale_param { axis: 0 }")
        text += product(f"h{t}", f"go_{t}", f"zh_{t}", width, 2, "W_h")
        text += layer("Eltwise", f"sum {t}", [f"zh_{t}", f"z_{t}", *sums], [f"sum_{t}"])
        if type_ == "LSTM":
            unit = [f"c_{t - 1}", f"sum_{t}", f"cont_{t}"]
            text += layer("LSTMUnit", f"unit {t}", unit, [f"c_{t}", f"h_{t}"])
        else:
            text += layer("TanH", f"h {t}", [f"sum_{t}"], [f"h_{t}"])
            text += product(f"o{t}", f"h_{t}", f"zo_{t}", H, 2, "W_o", "b_o")
            text += layer("TanH", f"o {t}", [f"zo_{t}"], [f"o_{t}"])
    out = "h" if type_ == "LSTM" else "o"
    text += layer("Concat", "all", [f"{out}_{t}" for t in times], ["y"], "concat_param { axis: 0 }")
    for name in STATES[type_]:  # a copy, which has a diff of its own as an exposed top has
        text += layer("Power", f"last {name}", [f"{name[0]}_{steps}"], [f"{name[0]}_T"])
    return build(text)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def fill(net, seed=0):
    """Give every input values; cont is 0 and 1."""
    for i, name in enumerate(net.inputs):
        values = normal(*net.blobs[name].data.shape, seed=[seed, i])
        net.blobs[name].data[...] = values > -0.5 if name == "cont" else values


def run(net, seed=0):
    """Run both passes, and return every output, every input's gradient and every parameter's."""
    out = {name: values.copy() for name, values in net.forward().items()}
    net.clear_param_diffs()
    diffs = {name: normal(*net.blobs[name].data.shape, seed=[7, seed, i]) for i, name in enumerate(sorted(net.outputs))}
    back = net.backward(**diffs)
    return out, {name: back[name].copy() for name in net.inputs if name != "cont"}


def gradients(net):
    return [p.blob.diff.copy() for p in net.learnable]


def close(found, wanted, tolerance=2e-6):
    assert np.abs(found - wanted).max() <= tolerance * max(1, np.abs(wanted).max())


# What it computes


@pytest.mark.parametrize("static", [False, True], ids=["", "static"])
@pytest.mark.parametrize("type_", GATES)
def test_it_is_the_net_that_caffe_unrolls_it_into(type_, static):
    net, wanted = recurrent(type_, static, exposed=True), unrolled(type_, static)
    assert [p.blob.data.shape for p in net.learnable] == [p.blob.data.shape for p in wanted.learnable]
    for ours, theirs in zip(net.learnable, wanted.learnable, strict=True):
        theirs.blob.data[...] = ours.blob.data
    for net_ in (net, wanted):
        fill(net_)
    (out, back), (out_wanted, back_wanted) = run(net), run(wanted)
    assert set(out) == {"y", *LASTS[type_]} and set(back) == set(back_wanted) >= {"x", *STATES[type_]}
    for name in out:
        close(out[name], out_wanted[name])
    for name in back:
        assert np.abs(back_wanted[name]).max() > 0.01
        close(back[name], back_wanted[name])
    for found, theirs in zip(gradients(net), gradients(wanted), strict=True):
        close(found, theirs)
    assert not net.blobs["cont"].diff.any()


@pytest.mark.parametrize("static", [False, True], ids=["", "static"])
@pytest.mark.parametrize(("type_", "rows"), [("RNN", H), ("LSTM", 4 * H)])
def test_parameters_are_in_caffes_order_and_shapes(type_, rows, static, tmp_path):
    net = recurrent(type_, static)
    shapes = [(rows, 6), (rows,), *([(rows, S)] if static else []), (rows, H)]
    shapes += [(H, H), (H,)] if type_ == "RNN" else []
    assert [blob.data.shape for blob in net.params["l"]] == shapes
    assert all(blob.data.any() for blob in net.params["l"])
    net.save(str(tmp_path / "w.caffemodel"))
    other = recurrent(type_, static, seed=9)
    assert not np.array_equal(other.params["l"][0].data, net.params["l"][0].data)
    other.copy_from(str(tmp_path / "w.caffemodel"))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(net.params["l"], other.params["l"], strict=True))


def test_the_gates_are_input_forget_output_and_cell_in_this_order():
    net = recurrent("LSTM", exposed=True, steps=1)
    fill(net)
    net.blobs["cont"].data[...] = 1
    for blob in net.params["l"]:
        blob.data[...] = 0
    on, off = 20, -20
    for i, f, o, g, c in ((off, on, on, 0, 1), (on, off, on, 20, 1), (on, on, on, 20, 1), (on, on, off, 20, 1)):
        net.params["l"][1].data[...] = np.repeat([i, f, o, g], H)
        net.blobs["c_0"].data[...] = c
        net.forward()
        cell = (f > 0) * c + (i > 0) * np.tanh(g)
        close(net.blobs["c_T"].data, np.full((1, N, H), cell), 1e-6)
        close(net.blobs["y"].data, np.full((1, N, H), (o > 0) * np.tanh(cell)), 1e-6)


@pytest.mark.parametrize("type_", GATES)
def test_a_sequence_begins_where_cont_is_0(type_):
    net = recurrent(type_)
    fill(net)
    net.blobs["cont"].data[...] = 1
    net.blobs["cont"].data[2, 1] = 0
    first = net.forward()["y"].copy()
    net.blobs["x"].data[:2] += 1
    second = net.forward()["y"].copy()  # and the state before the first step is another one, too
    same = (first == second).all(-1)
    assert same.tolist() == [[False] * 3, [False] * 3, [False, True, False], [False, True, False]]


# From one pass to the next


@pytest.mark.parametrize("type_", GATES)
def test_the_next_pass_goes_on_where_the_last_one_ended_but_for_the_gradient(type_):
    long, short, cut = recurrent(type_, steps=2 * T), recurrent(type_), recurrent(type_, exposed=True)
    fill(long)
    for net in (short, cut):
        net.share_with(long)
    wanted = long.forward()["y"].copy()
    for half in (0, T):
        for name in ("x", "cont"):
            short.blobs[name].data[...] = cut.blobs[name].data[...] = long.blobs[name].data[half : half + T]
        close(short.forward()["y"], wanted[half : half + T])
        if half:
            for state, last in zip(STATES[type_], LASTS[type_], strict=True):
                cut.blobs[state].data[...] = cut.blobs[last].data
        cut.forward()
    dy = normal(T, N, H)
    short.clear_param_diffs()
    cut.clear_param_diffs()
    short.backward(y=dy)
    for name in cut.outputs:
        cut.blobs[name].diff[...] = dy if name == "y" else 0
    cut.backward()
    assert np.array_equal(short.blobs["x"].diff, cut.blobs["x"].diff)
    for found, theirs in zip(gradients(short), gradients(cut), strict=True):
        assert np.array_equal(found, theirs)


def test_exposed_states_join_two_layers_into_one_gradient_included():
    """Beyond BVLC Caffe, where no gradient passes an exposed state: an encoder learns from its decoder."""
    halves = inputs(x1=(T, N, *X), c1=(T, N), h=(1, N, H), c=(1, N, H), x2=(T, N, *X), c2=(T, N))
    params = " ".join(f'param {{ name: "p{i}" }}' for i in range(3))
    setting = f"{params} recurrent_param {{ num_output: {H} expose_hidden: true {FILLERS} }}"
    halves += layer("LSTM", "first", ["x1", "c1", "h", "c"], ["y1", "hm", "cm"], setting)
    halves += layer("LSTM", "then", ["x2", "c2", "hm", "cm"], ["y2", "hT", "cT"], setting)
    two, one = build(halves), recurrent("LSTM", exposed=True, steps=2 * T)
    assert len(two.learnable) == 3
    fill(one)
    for ours, theirs in zip(one.learnable, two.learnable, strict=True):
        theirs.blob.data[...] = ours.blob.data
    for name, parts in {"x": ("x1", "x2"), "cont": ("c1", "c2")}.items():
        for part, values in zip(parts, np.split(one.blobs[name].data, 2), strict=True):
            two.blobs[part].data[...] = values
    two.blobs["h"].data[...], two.blobs["c"].data[...] = one.blobs["h_0"].data, one.blobs["c_0"].data
    y = one.forward()["y"]
    two.forward()
    close(np.concatenate([two.blobs["y1"].data, two.blobs["y2"].data]), y)
    dy, dh, dc = normal(2 * T, N, H), normal(1, N, H, seed=1), normal(1, N, H, seed=2)
    one.backward(y=dy, h_T=dh, c_T=dc)
    two.backward(y1=dy[:T], y2=dy[T:], hT=dh, cT=dc)
    for name, other in {"h_0": "h", "c_0": "c"}.items():
        close(two.blobs[other].diff, one.blobs[name].diff)
    close(np.concatenate([two.blobs["x1"].diff, two.blobs["x2"].diff]), one.blobs["x"].diff)
    for found, theirs in zip(gradients(two), gradients(one), strict=True):
        close(found, theirs)


def test_fewer_streams_keep_their_states_and_more_than_ever_start_anew():
    net = recurrent("LSTM")
    fill(net)
    net.blobs["cont"].data[...] = 1
    net.forward()
    after = net.blobs["y"].data[-1].copy()
    wanted = [base64.b64decode(s["data"]) for s in net.layer_dict["l"].state()]
    assert np.array_equal(np.frombuffer(wanted[0], np.float32).reshape(N, H), after)

    def begin(streams):
        net.blobs["x"].reshape(T, streams, *X)
        net.blobs["cont"].reshape(T, streams)
        net.blobs["x"].data[...], net.blobs["cont"].data[...] = 1, 1
        return net.forward()["y"][0].copy()

    two = begin(2)
    assert np.ptp(two, 0).max() > 1e-3  # the same input, other states
    three = begin(3)
    assert np.ptp(three, 0).max() > 1e-3  # the third stream's state waited, as in Caffe
    five = begin(5)
    assert np.ptp(five, 0).max() == 0
    fresh = recurrent("LSTM")
    fresh.blobs["x"].data[...], fresh.blobs["cont"].data[...] = 1, 0
    close(five[0], fresh.forward()["y"][0, 0])


def test_the_number_of_steps_may_change_where_caffe_ends_the_process():
    net, wanted = recurrent("RNN"), recurrent("RNN", steps=2 * T)
    fill(wanted)
    net.share_with(wanted)
    net.forward()
    net.blobs["x"].reshape(2 * T, N, *X)
    net.blobs["cont"].reshape(2 * T, N)
    for name in ("x", "cont"):
        net.blobs[name].data[...] = wanted.blobs[name].data
    net.blobs["cont"].data[0] = 0
    wanted.blobs["cont"].data[0] = 0
    for found, theirs in zip(run(net), run(wanted), strict=True):
        for name in theirs:
            assert np.array_equal(found[name], theirs[name])


@pytest.mark.parametrize("type_", GATES)
def test_backward_without_a_forward_pass_is_that_of_the_blobs_as_they_are(type_):
    net, wanted = recurrent(type_), recurrent(type_)
    for net_ in (net, wanted):
        fill(net_)
    wanted.forward()
    dy = normal(T, N, H)
    assert np.array_equal(net.backward(y=dy)["x"], wanted.backward(y=dy)["x"])
    assert np.array_equal(net.forward()["y"], wanted.blobs["y"].data)  # no state has moved


@pytest.mark.parametrize("type_", GATES)
def test_what_is_written_over_the_outputs_leaves_the_gradient_alone(type_):
    """A dropout works in place on an LSTM's top as a rule; the gradient needs what was there before."""
    net = recurrent(type_)
    fill(net)
    net.forward()
    wanted = net.backward(y=normal(T, N, H))["x"].copy()
    net.blobs["y"].data[...] = 5
    assert np.array_equal(net.backward(y=normal(T, N, H))["x"], wanted)


@pytest.mark.parametrize("type_", GATES)
def test_large_products_by_onednn_give_the_same(type_, monkeypatch):
    found = []
    for least in (0, 1 << 60):
        monkeypatch.setattr("caffe.kernels.matrix_product.WORTH", least)
        net = recurrent(type_, static=True, exposed=True)
        fill(net)
        out, back = run(net)
        found.append([*out.values(), *back.values(), *gradients(net)])
    for one, other in zip(*found, strict=True):
        close(one, other)


def test_flattening_the_outputs_keeps_the_gradient():
    """In BVLC Caffe, Flatten cuts the diff that a recurrent layer shares with its unrolled net."""
    text = inputs(x=(T, N, *X), cont=(T, N))
    text += layer("LSTM", "l", ["x", "cont"], ["y"], f"recurrent_param {{ num_output: {H} {FILLERS} }}")
    flat = build(text + layer("Flatten", "f", ["y"], ["z"], "flatten_param { axis: 0 end_axis: 1 }"))
    plain = build(text)
    for net in (flat, plain):
        fill(net)
        net.forward()
    dy = normal(T, N, H)
    wanted = plain.backward(y=dy)["x"]
    assert wanted.any() and np.array_equal(flat.backward(z=dy.reshape(T * N, H))["x"], wanted)


def test_a_test_net_keeps_nothing_for_a_gradient_and_has_states_of_its_own():
    text = inputs(x=(T, N, *X), cont=(T, N))
    text += layer("LSTM", "l", ["x", "cont"], ["y"], f"recurrent_param {{ num_output: {H} {FILLERS} }}")
    train, test = build(text, force=False), build(text, caffe.TEST, force=False)
    test.share_with(train)
    for net in (train, test):
        fill(net)
        net.blobs["cont"].data[...] = 1
    first = train.forward()["y"].copy()
    assert not np.array_equal(train.forward()["y"], first)
    assert np.array_equal(test.forward()["y"], first)
    assert test.layer_dict["l"].steps == []


@pytest.mark.parametrize("static", [False, True], ids=["", "static"])
def test_frozen_parameters_and_inputs_get_no_gradient(static):
    shapes = {"x": (T, N, *X), "cont": (T, N)} | ({"static": (N, S)} if static else {})
    frozen = "param { lr_mult: 0 } param { } " + ("param { lr_mult: 0 } " if static else "") + "param { lr_mult: 0 }"
    text = inputs(**shapes) + layer(
        "RNN", "l", shapes, ["y"], f"{frozen} loss_weight: 1 recurrent_param {{ num_output: {H} {FILLERS} }}"
    )
    net = build(text, force=False)
    fill(net)
    net.forward()
    net.backward()
    assert [blob.diff.any() for blob in net.params["l"]] == [
        False,
        True,
        *([False] if static else []),
        False,
        True,
        True,
    ]
    assert not net.blobs["x"].diff.any()


# Snapshots

SOLVER = """
net: "net.prototxt" base_lr: 0.5 lr_policy: "fixed" momentum: 0.9 random_seed: 5 max_iter: 100
test_iter: 2 test_interval: 2 test_initialization: false snapshot_prefix: "snap" snapshot_format: %s
"""


def text_of_training(type_):
    dummy = 'dummy_data_param { shape { dim: 4 dim: 3 dim: 2 } data_filler { type: "gaussian" std: 1 } }'
    text = layer("DummyData", "x", [], ["x"], dummy)
    text += layer("DummyData", "goal", [], ["goal"], dummy)
    text += layer(
        "DummyData", "cont", [], ["cont"], "dummy_data_param { shape { dim: 4 dim: 3 } data_filler { value: 1 } }"
    )
    text += layer(type_, "l", ["x", "cont"], ["y"], f"recurrent_param {{ num_output: 2 {FILLERS} }}")
    return text + layer("EuclideanLoss", "loss", ["y", "goal"], ["loss"])


@pytest.mark.parametrize(("type_", "form"), [("LSTM", "BINARYPROTO"), ("RNN", "HDF5")])
def test_a_resumed_run_goes_on_from_the_same_states_bit_by_bit(type_, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(text_of_training(type_))
    (tmp_path / "solver.prototxt").write_text(SOLVER % form)
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(3)
    solver.snapshot()
    saved = next(str(path) for path in tmp_path.glob("snap_iter_3.solverstate*"))
    solver.step(3)
    resumed = caffe.SGDSolver("solver.prototxt")
    resumed.restore(saved)
    resumed.step(3)
    for net, other in ((solver.net, resumed.net), (solver.test_nets[0], resumed.test_nets[0])):
        assert net.layer_dict["l"].state() == other.layer_dict["l"].state()
        assert np.array_equal(net.blobs["y"].data, other.blobs["y"].data)
    assert solver.net.layer_dict["l"].state() != solver.test_nets[0].layer_dict["l"].state()


def test_a_state_goes_through_json_and_sets_another_layer_to_it():
    net, other = recurrent("LSTM"), recurrent("LSTM")
    for net_ in (net, other):
        fill(net_)
        net_.blobs["cont"].data[...] = 1
    assert net.data_sources()[0][0] == "l"
    before = json.loads(json.dumps(net.layer_dict["l"].state()))
    first = net.forward()["y"].copy()
    after = json.loads(json.dumps(net.layer_dict["l"].state()))
    other.layer_dict["l"].set_state(after)
    assert np.array_equal(other.forward()["y"], net.forward()["y"])
    other.layer_dict["l"].set_state(before)
    assert np.array_equal(other.forward()["y"], first)


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ([], "not its own: none, where 1 of"),
        ([{"shape": [1, 3, 6], "data": base64.b64encode(bytes(72)).decode()}], "1 x 3 x 6.*1 x streams x 5"),
        ([{"shape": [1, 3, 5], "data": "AAAA"}], "damaged"),
        ([{"data": "AAAA"}], "damaged"),
        ([3], "damaged"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state, match):
    with pytest.raises(NetError, match=rf"Layer 'l' \(RNN\).*{match}"):
        recurrent("RNN").layer_dict["l"].set_state(state)


# LSTMUnit


def unit_net(top="C"):
    text = inputs(x0=(1, N, H), X=(1, N, 4 * H), cont=(1, N)) + layer("Power", "p", ["x0"], ["c0"])
    return build(text + layer("LSTMUnit", "l", ["c0", "X", "cont"], [top, "H"]))


def test_the_unit_is_one_step_also_where_cont_is_between_0_and_1():
    net = unit_net()
    fill(net)
    net.blobs["cont"].data[...] = [[0, 1, 0.25]]
    net.forward()
    c, x, cont = (net.blobs[name].data.astype(np.float64) for name in ("c0", "X", "cont"))
    i, f, o = (1 / (1 + np.exp(-part)) for part in np.split(x, 4, -1)[:3])
    cell = cont[..., None] * f * c + i * np.tanh(x[..., 3 * H :])
    close(net.blobs["C"].data, cell, 1e-6)
    close(net.blobs["H"].data, o * np.tanh(cell), 1e-6)


def test_the_unit_in_place_gives_the_same():
    found = []
    for top in ("C", "c0"):
        net = unit_net(top)
        fill(net)
        net.blobs["cont"].data[...] = 1
        net.forward()
        net.backward(**{top: normal(1, N, H), "H": normal(1, N, H, seed=1)})
        found.append([net.blobs[top].data.copy(), *(net.blobs[name].diff.copy() for name in ("x0", "X"))])
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


# What cannot be


def fails(match, text):
    with pytest.raises(NetError, match=rf"Layer 'l'.*{match}"):
        build(text).forward()


PARAM = "recurrent_param { num_output: 5 }"
EXPOSED = "recurrent_param { num_output: 5 expose_hidden: true }"


@pytest.mark.parametrize(
    ("shapes", "tops", "setting", "match"),
    [
        ({"x": (4, 3, 2), "c": (4, 3)}, ["y"], "", "num_output of 1 or more"),
        ({"x": (4,), "c": (4,)}, ["y"], PARAM, "T x N x ... values and T x N indicators.* not 4 and 4"),
        ({"x": (4, 3, 2), "c": (4, 3, 1)}, ["y"], PARAM, "not 4 x 3 x 2 and 4 x 3 x 1"),
        ({"x": (4, 3, 2), "c": (4, 2)}, ["y"], PARAM, "not 4 x 3 x 2 and 4 x 2"),
        ({"x": (4, 3, 2), "c": (4, 3), "s": (4, 2)}, ["y"], PARAM, "2 values for each of 3 streams; it is 4 x 2"),
        ({"x": (4, 3, 2), "c": (4, 3), "s": ()}, ["y"], PARAM, "static input .* it is a scalar"),
        ({"x": (4, 3, 2)}, ["y"], PARAM, "takes 2 to 3 bottom"),
        ({"x": (4, 3, 2), "c": (4, 3), "h": (1, 3, 5), "k": (1, 3, 5)}, ["y"], PARAM, "takes 2 to 3 bottom"),
        ({"x": (4, 3, 2), "c": (4, 3)}, ["y", "h"], PARAM, "takes 1 top"),
        ({"x": (4, 3, 2), "c": (4, 3)}, ["y", "h", "k"], EXPOSED, "takes 4 to 5 bottom"),
        ({"x": (4, 3, 2), "c": (4, 3), "h": (1, 3, 5), "k": (1, 3, 5)}, ["y"], EXPOSED, "takes 3 top"),
        (
            {"x": (4, 3, 2), "c": (4, 3), "h": (1, 3, 5), "k": (1, 3, 4)},
            ["y", "hT", "kT"],
            EXPOSED,
            "hidden state must be 1 x 3 x 5, not 1 x 3 x 4",
        ),
        ({"x": (4, 3, 2), "c": (4, 3)}, ["x"], PARAM, "cannot work in place"),
        ({"x": (4, 3, 2), "c": (4, 3)}, ["y"], "recurrent_param { num_output: 4000000000 }", "limit"),
    ],
)
def test_bottoms_tops_and_settings_that_cannot_be(shapes, tops, setting, match):
    fails(match, inputs(**shapes) + layer("LSTM", "l", shapes, tops, setting))


def test_weights_for_other_inputs_are_told():
    net = recurrent("LSTM", static=True)
    net.blobs["x"].reshape(T, N, 7)
    with pytest.raises(NetError, match="weights are for 6 values a step; its bottom is 4 x 3 x 7"):
        net.forward()
    net.blobs["x"].reshape(T, N, 6)
    net.blobs["static"].reshape(N, 2)
    with pytest.raises(NetError, match="4 values for each of 3 streams; it is 3 x 2"):
        net.forward()
    fails("1 x N x D, 1 x N x 4D and 1 x N, not 1 x 3 x 5 and 1 x 3 x 10 and 1 x 3", inputs(
        c=(1, 3, 5), x=(1, 3, 10), cont=(1, 3)) + layer("LSTMUnit", "l", ["c", "x", "cont"], ["C", "H"]))  # fmt: skip


@pytest.mark.parametrize("type_", ["RNN", "LSTMUnit"])
def test_the_indicators_have_no_gradient(type_):
    if type_ == "RNN":
        text = inputs(x=(T, N, 2), cont=(T, N))
        text += layer(
            type_, "l", ["x", "cont"], ["y"], f"loss_weight: 1 propagate_down: true propagate_down: true {PARAM}"
        )
    else:
        text = inputs(c=(1, N, H), X=(1, N, 4 * H), cont=(1, N))
        text += layer(type_, "l", ["c", "X", "cont"], ["C", "H"], "loss_weight: 1 " * 2 + "propagate_down: true " * 3)
    net = build(text)
    net.forward()
    with pytest.raises(NetError, match="cannot backpropagate to its sequence indicators"):
        net.backward()


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("type_", GATES)
def test_no_steps_and_no_streams_are_no_error(type_, exposed):
    net = recurrent(type_, static=True, exposed=exposed)
    for steps, streams in ((0, N), (T, 0)):
        net.blobs["x"].reshape(steps, streams, *X)
        net.blobs["cont"].reshape(steps, streams)
        net.blobs["static"].reshape(streams, S)
        for name in STATES[type_] if exposed else []:
            net.blobs[name].reshape(1, streams, H)
            net.blobs[name].data[...] = 2
        assert net.forward()["y"].shape == (steps, streams, H)
        net.clear_param_diffs()
        net.backward()
        assert not any(g.any() for g in gradients(net))
        if exposed and streams:
            assert (net.blobs["h_T"].data == 2).all()
