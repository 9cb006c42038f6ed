"""HDF5Data and HDF5Output: rows in order, shuffled, divided and resumed; files complete after each forward; errors."""

import signal

import h5py
import numpy as np
import pytest

import caffe
from caffe import world
from tests import forked

DATA = """layer {{ name: "{name}" type: "HDF5Data" {tops}
    hdf5_data_param {{ source: "{source}" batch_size: {batch} shuffle: {shuffle} }} }}
"""
OUTPUT = 'layer {{ name: "out" type: "HDF5Output" {bottoms} hdf5_output_param {{ file_name: "{file}" }} }}\n'


def input_layer(*dims, name="data"):
    shape = " ".join(f"dim: {d}" for d in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


@pytest.fixture
def put(tmp_path):
    """Write an HDF5 file of the datasets given, and return its path."""

    def write(name, **datasets):
        with h5py.File(tmp_path / name, "w") as file:
            for key, values in datasets.items():
                file[key] = values
        return str(tmp_path / name)

    return write


@pytest.fixture
def reader(write):
    """Build a net of one HDF5Data layer over a list of files."""

    def build(paths, batch=2, shuffle=False, tops=("data",), phase=caffe.TEST, name="in", listed=None):
        source = write("\n".join(paths) + "\n" if listed is None else listed, "list.txt")
        text = DATA.format(
            name=name,
            tops=" ".join(f'top: "{top}"' for top in tops),
            source=source,
            batch=batch,
            shuffle=str(shuffle).lower(),
        )
        return caffe.Net(write(text), phase)

    return build


@pytest.fixture
def ranks():
    """Let a test be a rank of several solvers, and be alone again."""

    def be(rank, count):
        world.set_solver_count(count)
        world.set_solver_rank(rank)

    yield be
    be(0, 1)


@pytest.fixture
def three(put):
    """Three files of 3, 0 and 4 rows, which hold 0 to 6."""
    rows = np.arange(7, dtype=np.float32)
    return [put("a.h5", data=rows[:3]), put("b.h5", data=rows[:0]), put("c.h5", data=rows[3:])]


def take(net, passes, top="data"):
    return [float(v) for _ in range(passes) for v in net.forward()[top].copy().ravel()]


# HDF5Data


def test_rows_come_in_order_over_all_files_and_round_again(reader, three):
    assert take(reader(three, batch=2), 8) == [float(i % 7) for i in range(16)]
    assert take(reader(three[:1], batch=7), 2) == [float(i % 3) for i in range(14)]


def test_tops_are_the_datasets_of_their_names_of_any_number_of_axes(reader, put):
    rng = np.random.default_rng(0)
    arrays = {
        "volume": rng.standard_normal((3, 2, 1, 4, 5, 2)),
        "image": rng.standard_normal((3, 2, 4, 5)),
        "label": np.array([3.0, 1.0, 2.0]),
        "group/row": rng.standard_normal((3, 4)),
        "unused": np.array(["text"], dtype="S4"),
    }
    names = ["group/row", "volume", "image", "label"]
    net = reader([put("a.h5", **arrays)], batch=2, tops=names)
    assert [list(net.blobs[n].shape) for n in names] == [[2, 4], [2, 2, 1, 4, 5, 2], [2, 2, 4, 5], [2]]
    for rows in ([0, 1], [2, 0]):
        out = net.forward()
        for name in names:
            assert out[name].dtype == np.float32 and (out[name] == arrays[name][rows].astype(np.float32)).all(), name


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8", "u1", "i1", "i2", "i4", ">i8", "u8"])
def test_numbers_of_every_type_become_float32(reader, put, dtype):
    values = np.array([[0, 1], [100, 7]], dtype=dtype)
    if dtype in ("f8", "f4"):
        values[0] = [1 / 3, -2.5]
    out = reader([put("a.h5", data=values)]).forward()["data"]
    assert (out == values.astype(np.float32)).all()


@pytest.mark.slow
def test_compressed_and_chunked_data_is_read(reader, tmp_path):
    values = np.zeros((4000, 6000), np.float32)  # 96 MB, of which 98 KB are in the file
    values[-1] = 3
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=values, chunks=(500, 6000), compression="gzip")
        file.create_dataset("label", (4000,), "f4")  # never written: it reads as zeros
    net = reader([str(tmp_path / "a.h5")], batch=4000, tops=("data", "label"))
    out = net.forward()
    assert (out["data"][-1] == 3).all() and out["data"].sum() == 18000 and not out["label"].any()


def test_a_path_with_spaces_has_a_line_of_its_own_and_others_may_share_one(reader, put):
    spaced, a, b = (put(n, data=np.full(1, v)) for n, v in (("with space.h5", 1.0), ("a.h5", 2.0), ("b.h5", 3.0)))
    assert take(reader([], listed=f"\n{spaced}\n  {a}\t{b}\r\n\n", batch=3), 1) == [1, 2, 3]


def test_shuffled_rounds_hold_every_row_once_file_by_file_each_in_an_order_of_its_own(reader, put):
    files = [put(f"{i}.h5", data=np.arange(100 * i, 100 * i + 20, dtype=np.float32)) for i in range(6)]
    caffe.set_random_seed(5)
    rounds = np.reshape(take(reader(files, batch=24, shuffle=True), 5 * 4), (4, 120))
    for drawn in rounds:
        assert sorted(drawn) == sorted(100.0 * i + j for i in range(6) for j in range(20))
        assert all(len(set(part // 100)) == 1 for part in drawn.reshape(6, 20))
        assert any((np.diff(part) < 0).any() for part in drawn.reshape(6, 20))
    assert len({tuple(drawn[::20] // 100) for drawn in rounds}) > 1
    assert len({tuple(drawn[drawn < 100]) for drawn in rounds}) == 4
    caffe.set_random_seed(5)
    again = reader(files, batch=40, shuffle=True)
    assert take(again, 12) == rounds.ravel().tolist()  # the batch size does not matter
    caffe.set_random_seed(6)
    assert take(reader(files, batch=24, shuffle=True), 20) != rounds.ravel().tolist()
    caffe.set_random_seed(5)
    assert take(reader(files, batch=24, shuffle=True, name="other"), 20) != rounds.ravel().tolist()


def test_datasets_are_shuffled_alike(reader, put):
    path = put("a.h5", data=np.arange(30.0).reshape(10, 3), label=np.arange(10))
    net = reader([path], batch=4, shuffle=True, tops=("label", "data"))
    for _ in range(6):
        out = net.forward()
        assert (out["data"][:, 0] == 3 * out["label"]).all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_rank_takes_its_share_of_the_one_sequence(reader, three, ranks, shuffle):
    caffe.set_random_seed(3)
    whole = take(reader(three, batch=1, shuffle=shuffle, phase=caffe.TRAIN), 42)
    for count in (2, 3):
        for rank in range(count):
            ranks(rank, count)
            assert take(reader(three, batch=2, shuffle=shuffle, phase=caffe.TRAIN), 7) == whole[rank::count][:14]
    ranks(1, 2)
    assert take(reader(three, batch=2, shuffle=shuffle, phase=caffe.TEST), 7) == whole[:14]  # a test net is alone


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_position_is_that_of_the_last_batch_consumed_and_any_rank_can_go_on_from_it(reader, three, ranks, shuffle):
    caffe.set_random_seed(3)
    whole = take(reader(three, batch=1, shuffle=shuffle, phase=caffe.TRAIN), 60)
    ranks(0, 2)
    net = reader(three, batch=3, shuffle=shuffle, phase=caffe.TRAIN)
    take(net, 3)
    [(name, source)] = net.data_sources()
    state = source.state()
    assert name == "in" and state == {"seed": 3, "next": 18}
    caffe.set_random_seed(77)
    for rank in range(2):
        ranks(rank, 2)
        net = reader(three, batch=3, shuffle=shuffle, phase=caffe.TRAIN)
        take(net, 1)
        net.data_sources()[0][1].set_state(state)
        assert take(net, 7) == whole[18 + rank :: 2][:21]


def test_a_state_of_another_kind_is_refused(reader, three):
    source = reader(three).data_sources()[0][1]
    for state in (None, [1, 2], {"seed": 1}, {"seed": "x", "next": 2}):
        with pytest.raises(caffe.CaffeError, match=r"'in'.*no position in HDF5 data"):
            source.set_state(state)


def test_a_resumed_training_is_bit_identical(write, put, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    files = [put(f"{i}.h5", data=rng.standard_normal((5, 4)), label=rng.standard_normal((5, 1))) for i in range(3)]
    write("\n".join(files), "list.txt")
    net = (
        DATA.format(name="in", tops='top: "data" top: "label"', source="list.txt", batch=4, shuffle="true")
        + """
    layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 1
            weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "label" top: "loss" }"""
    )
    write(net, "net.prototxt")
    write('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" random_seed: 5 snapshot_prefix: "s"', "solver.prototxt")
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(3)
    solver.snapshot()
    solver.step(9)
    caffe.set_random_seed(1)
    resumed = caffe.SGDSolver("solver.prototxt")
    resumed.restore("s_iter_3.solverstate")
    resumed.step(9)
    for ours, theirs in zip(solver.net.params["ip"], resumed.net.params["ip"], strict=True):
        assert (ours.data == theirs.data).all() and np.abs(ours.data).max() > 0.01


# What cannot be


def test_a_list_that_cannot_be_is_told_by_name(write, reader, three):
    with pytest.raises(caffe.CaffeError, match=r"'in'.*at least 1 HDF5 filename listed in .*list.txt"):
        reader([])
    with pytest.raises(caffe.CaffeError, match=r"Failed opening HDF5 file: gone\.h5.*list\.txt lists"):
        reader([three[0], "gone.h5"])
    text = DATA.format(name="in", tops='top: "data"', source="nowhere.txt", batch=2, shuffle="false")
    with pytest.raises(caffe.CaffeError, match=r"Failed to open source file: 'nowhere\.txt'"):
        caffe.Net(write(text), caffe.TEST)
    with pytest.raises(caffe.CaffeError, match=r"a\.h5 is an HDF5 file\. Write the file's path into a text file"):
        caffe.Net(write(text.replace("nowhere.txt", three[0])), caffe.TEST)


def test_settings_that_cannot_be_are_told(write, reader, three):
    with pytest.raises(caffe.CaffeError, match="batch_size of 1 or more"):
        reader(three, batch=0)
    with pytest.raises(caffe.CaffeError, match="limit"):
        reader(three, batch=4000000000)
    source = write("\n".join(three), "list.txt")
    text = DATA.format(name="in", tops='top: "data"', source=source, batch=2, shuffle="false")
    with pytest.raises(caffe.CaffeError, match="does not transform data"):
        caffe.Net(write(text.replace("hdf5_data_param", "transform_param { scale: 2 } hdf5_data_param")), caffe.TEST)
    with pytest.raises(caffe.CaffeError, match="takes 1 or more top"):
        caffe.Net(write(text.replace('top: "data"', "")), caffe.TEST)
    with pytest.raises(caffe.CaffeError, match="takes 0 bottom"):
        caffe.Net(write(input_layer(1, name="x") + text.replace("top:", 'bottom: "x" top:')), caffe.TEST)


FILES = {
    "no such dataset": ({"image": np.zeros(3)}, "Failed to find HDF5 dataset data in .*a.h5, which has: image"),
    "a group": ({"data/x": np.zeros(3)}, "Failed to find HDF5 dataset data"),
    "text": ({"data": np.array([b"a", b"b"])}, "dataset 'data' of .*a.h5 has the type .*integers or floats"),
    "bool": ({"data": np.array([True, False])}, "type bool; it takes integers or floats"),
    "complex": ({"data": np.array([1j])}, "type complex128"),
    "a single value": ({"data": 3.0}, "'data' of .*a.h5 is a single value"),
    "nothing": ({"data": h5py.Empty("f4")}, "has the type float32|single value"),
    "no rows": ({"data": np.zeros((0, 3))}, "hold no rows"),
    "different numbers": (
        {"data": np.zeros((3, 2)), "label": np.zeros(4)},
        "datasets of .*a.h5 have different numbers of rows: data 3, label 4",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_read_as_rows_is_told_with_its_dataset(reader, put, case):
    datasets, said = FILES[case]
    tops = ("data", "label") if "label" in datasets else ("data",)
    with pytest.raises(caffe.CaffeError, match=said):
        reader([put("a.h5", **datasets)], tops=tops)


def test_files_must_agree_in_the_shape_of_a_row(reader, put):
    paths = [put("a.h5", data=np.zeros((3, 2, 4))), put("b.h5", data=np.zeros((3, 2, 5)))]
    with pytest.raises(caffe.CaffeError, match=r"'data' are 2 x 5 in .*b\.h5, and 2 x 4 in .*a\.h5"):
        reader(paths)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_a_file_that_is_no_hdf5_is_told(reader, tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(caffe.CaffeError, match=r"a\.h5 cannot be read as HDF5"):
        reader([str(tmp_path / "a.h5")])


def test_damaged_files_are_an_error_or_are_read_but_end_nothing(reader, put, tmp_path):
    path = put("a.h5", data=np.arange(40.0).reshape(10, 4))
    content = (tmp_path / "a.h5").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        damaged = bytearray(content)
        if trial % 2:
            del damaged[int(rng.integers(len(content))) :]
        else:
            for at in rng.integers(len(content), size=20):
                damaged[at] = rng.integers(256)
        (tmp_path / "a.h5").write_bytes(damaged)
        try:
            net = reader([path])
            net.forward()
            net.data_sources()[0][1].state()
        except caffe.CaffeError:
            refused += 1
    assert refused > 30  # all that were cut off, at least


def test_a_shape_that_the_file_cannot_hold_takes_no_memory(reader, tmp_path):
    for setting in ({"chunks": (1, 1000)}, {}):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("data", (1000000, 1000), "f4", **setting)
        with pytest.raises(caffe.CaffeError, match="1000000 x 1000, and the file does not hold so many values"):
            reader([str(tmp_path / "a.h5")])


def test_a_file_that_goes_or_changes_later_is_told_at_the_forward_that_needs_it(reader, three, put, tmp_path):
    net = reader(three, batch=3)
    (tmp_path / "c.h5").unlink()
    assert take(net, 1) == [0, 1, 2]  # the next batch, made ahead, has met the error already
    with pytest.raises(caffe.CaffeError, match=r"'in'.*c\.h5"):
        net.forward()
    put("c.h5", data=np.zeros((4, 2)))
    with pytest.raises(caffe.CaffeError, match=r"'data' of .*c\.h5 is 4 x 2 now, and was 4 when the net was built"):
        net.forward()
    put("c.h5", data=np.arange(3.0, 7.0))
    assert take(net, 1) == [3, 4, 5]


# HDF5Output


@pytest.fixture
def writer(write, tmp_path):
    """Build a net that writes two inputs, and return it with the file's path."""

    def build(data=(2, 3, 4, 5), label=(2,), file="out.h5", phase=caffe.TEST, before=""):
        path = str(tmp_path / file)
        text = before + input_layer(*data) + input_layer(*label, name="label")
        return caffe.Net(write(text + OUTPUT.format(bottoms='bottom: "data" bottom: "label"', file=path)), phase), path

    return build


def test_each_forward_appends_its_rows_and_leaves_a_complete_file(writer):
    net, path = writer()
    assert net.outputs == []
    rng = np.random.default_rng(0)
    data, label = rng.standard_normal((6, 3, 4, 5)).astype(np.float32), np.arange(6, dtype=np.float32)
    for end in (2, 4, 6):
        net.blobs["data"].data[...] = data[end - 2 : end]
        net.blobs["label"].data[...] = label[end - 2 : end]
        assert net.forward() == {}
        with h5py.File(path, "r") as file:
            assert set(file) == {"data", "label"} and file["data"].dtype == np.float32
            assert (file["data"][()] == data[:end]).all()
            assert file["label"].shape == (end, 1, 1, 1) and (file["label"][:, 0, 0, 0] == label[:end]).all()


@pytest.mark.parametrize(
    "dims, written",
    [((), (2, 1, 1, 1)), ((3,), (2, 3, 1, 1)), ((3, 1, 2), (2, 3, 1, 2)), ((3, 1, 2, 2), (2, 3, 1, 2, 2))],
)
def test_datasets_have_caffes_four_axes_unless_a_bottom_has_more(writer, dims, written):
    net, path = writer(data=(2, *dims))
    net.blobs["data"].data.flat = values = np.arange(2 * int(np.prod(dims)))
    net.forward()
    with h5py.File(path, "r") as file:
        assert file["data"].shape == written and (file["data"][()].ravel() == values).all()


def test_batches_may_differ_in_number_but_not_in_the_shape_of_a_row(writer):
    net, path = writer()
    for number in (2, 5, 0, 1):
        net.blobs["data"].reshape(number, 3, 4, 5)
        net.blobs["label"].reshape(number)
        net.forward()
    net.blobs["data"].reshape(1, 3, 4, 6)
    with pytest.raises(caffe.CaffeError, match=r"rows of 'data' in .*out\.h5 are 3 x 4 x 5, and now 3 x 4 x 6 came"):
        net.forward()
    net.blobs["data"].reshape(1, 3, 4, 5)
    net.blobs["label"].reshape(1, 2)
    with pytest.raises(caffe.CaffeError, match=r"rows of 'label' in .*out\.h5 are 1 x 1 x 1, and now 2 x 1 x 1 came"):
        net.forward()
    net.blobs["label"].reshape(3)
    with pytest.raises(caffe.CaffeError, match="must have the same batch size, not 1 x 3 x 4 x 5 and 3"):
        net.forward()
    with h5py.File(path, "r") as file:
        assert len(file["data"]) == len(file["label"]) == 8


def test_building_the_net_begins_the_file_anew_and_makes_its_folder(writer):
    net, path = writer(file="new/folder/out.h5")
    net.forward()
    net, path = writer(file="new/folder/out.h5")
    with h5py.File(path, "r") as file:
        assert not len(file)
    net.forward()
    with h5py.File(path, "r") as file:
        assert len(file["data"]) == 2


def test_a_file_that_another_net_has_begun_anew_is_not_mixed(writer):
    first, path = writer()
    second, _ = writer()
    second.forward()
    with pytest.raises(caffe.CaffeError, match=r"'out'.*another net has begun .*out\.h5 anew.*include"):
        first.forward()
    with h5py.File(path, "r") as file:
        assert len(file["data"]) == 2


def test_ranks_write_files_of_their_own(writer, ranks):
    ranks(1, 2)
    net, path = writer()
    net.forward()
    with h5py.File(path + ".rank1", "r") as file:
        assert len(file["data"]) == 2


def test_what_was_written_can_be_read_by_hdf5data(writer, reader):
    net, path = writer()
    net.blobs["data"].data.flat = np.arange(120)
    net.blobs["label"].data[...] = [4, 9]
    net.forward()
    out = reader([path], tops=("data", "label")).forward()
    assert (out["data"].ravel() == np.arange(120)).all() and out["label"].ravel().tolist() == [4, 9]


def test_it_has_no_gradient_and_stops_none(write, tmp_path):
    text = "force_backward: true\n" + input_layer(2, 3) + input_layer(2, name="label")
    text += 'layer { name: "p" type: "Power" bottom: "data" top: "y" power_param { scale: 3 } }'
    text += 'layer { name: "s" type: "Reduction" bottom: "y" top: "sum" loss_weight: 1 }'
    text += OUTPUT.format(bottoms='bottom: "y" bottom: "label"', file=tmp_path / "out.h5")
    net = caffe.Net(write(text), caffe.TRAIN)
    net.forward()
    assert (net.backward()["data"] == 3).all()


def test_a_file_that_cannot_be_written_is_told(writer, write, tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(caffe.CaffeError, match=r"'out'.*Failed to open HDF5 file .*plain/out\.h5"):
        writer(file="plain/out.h5")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(caffe.CaffeError, match=r"Failed to open HDF5 file .*folder\.h5"):
        writer(file="folder.h5")
    net, path = writer()
    (tmp_path / "out.h5").unlink()
    (tmp_path / "out.h5").mkdir()
    with pytest.raises(caffe.CaffeError, match=r"could not write .*out\.h5"):
        net.forward()
    text = input_layer(2) + input_layer(2, name="label")
    with pytest.raises(caffe.CaffeError, match="needs a file_name"):
        caffe.Net(write(text + OUTPUT.format(bottoms='bottom: "data" bottom: "label"', file="")), caffe.TEST)
    with pytest.raises(caffe.CaffeError, match="takes 2 bottom"):
        caffe.Net(write(text + OUTPUT.format(bottoms='bottom: "data"', file=path)), caffe.TEST)


KILLED = """
import os, signal, sys
import caffe
net = caffe.Net(sys.argv[1], caffe.TEST)
for i in range(4):
    net.blobs["label"].data[...] = i
    net.forward()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_process_killed_between_forwards_leaves_a_whole_file(write, tmp_path):
    text = input_layer(2, 3) + input_layer(2, name="label")
    path = write(text + OUTPUT.format(bottoms='bottom: "data" bottom: "label"', file=tmp_path / "out.h5"))
    ran = forked.run("-c", KILLED, path)
    assert ran.returncode == -9, ran.stderr
    with h5py.File(tmp_path / "out.h5", "r") as file:
        assert file["label"][:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and file["data"].shape == (8, 3, 1, 1)
