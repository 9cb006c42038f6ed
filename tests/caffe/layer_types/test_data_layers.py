"""Data, ImageData and WindowData: what they read, in which order, by chance, over ranks and over a resume."""

import json

import numpy as np
import pytest
from PIL import Image

import caffe
from caffe import world
from caffe.data import image
from caffe.data.ahead import Ahead
from caffe.data.database import DatabaseWriter
from caffe.formats.binaryproto import write_mean
from caffe.proto import caffe_pb2

COUNT = 7
PICTURES = np.random.default_rng(4).integers(0, 256, (COUNT, 9, 11, 3)).astype(np.uint8)  # BGR
PIXELS = PICTURES.transpose(0, 3, 1, 2)  # as nets hold them


@pytest.fixture
def one_process():
    """Put the world back to one process, whatever the test told."""
    yield
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a folder with 7 images of noise, 9 x 11, as files, as a list, as databases and as windows."""
    monkeypatch.chdir(tmp_path)
    put("db", [raw(picture, number) for number, picture in enumerate(PICTURES)])
    put("encoded", [encoded(picture, number) for number, picture in enumerate(PICTURES)])
    names, windows = "", ""
    for number, picture in enumerate(PICTURES):
        for name in (f"im {number}.png", f"w{number}.png"):
            Image.fromarray(picture[:, :, ::-1]).save(name)
        names += f"im {number}.png {number}\n"
        windows += f"# {number}\nw{number}.png\n3\n9\n11\n3\n"
        windows += f"{number + 1} 0.9 1 2 6 7\n2 0.55 0 0 10 8\n5 0.1 3 3 9 6\n"
    (tmp_path / "list").write_text(names)
    (tmp_path / "windows").write_text(windows)
    return tmp_path


def raw(picture, label):
    channels, height, width = picture.shape[2], *picture.shape[:2]
    data = picture.transpose(2, 0, 1).tobytes()
    return caffe_pb2.Datum(channels=channels, height=height, width=width, data=data, label=label)


def encoded(picture, label, kind="png"):
    return caffe_pb2.Datum(encoded=True, data=image.encode(picture, kind), label=label)


def put(name, datums, backend="lmdb"):
    with DatabaseWriter(name, backend) as db:
        for number, datum in enumerate(datums):
            db.put(b"%08d" % number, datum if isinstance(datum, bytes) else datum.SerializeToString())


def net_of(type_, settings, transform="", phase=caffe.TRAIN, tops="data label", name="data", seed=11):
    tops = " ".join(f'top: "{top}"' for top in tops.split())
    text = f'layer {{ name: "{name}" type: "{type_}" {tops} {settings} transform_param {{ {transform} }} }}'
    with open("net.prototxt", "w") as file:
        file.write(text)
    caffe.set_random_seed(seed)
    return caffe.Net("net.prototxt", phase)


def data_net(source, transform="", batch=1, more="", **options):
    backend = "" if "backend" in more else "backend: LMDB"
    return net_of(
        "Data", f'data_param {{ source: "{source}" batch_size: {batch} {backend} {more} }}', transform, **options
    )


def image_net(more="", transform="", batch=1, **options):
    return net_of(
        "ImageData", f'image_data_param {{ source: "list" batch_size: {batch} {more} }}', transform, **options
    )


def window_net(more="", transform="crop_size: 6", batch=4, **options):
    return net_of(
        "WindowData", f'window_data_param {{ source: "windows" batch_size: {batch} {more} }}', transform, **options
    )


def batches(net, times):
    """Return the data and labels of some forward passes, one after the other."""
    found = [
        {name: blob.data.copy() for name, blob in net.blobs.items()} for _ in range(times) if net.forward() or True
    ]
    return np.concatenate([f["data"] for f in found]), np.concatenate([f["label"] for f in found])


def fails(match, make, *args, **kwargs):
    with pytest.raises(caffe.CaffeError, match=match) as raised:
        make(*args, **kwargs).forward()
    assert "Layer 'data'" in str(raised.value) and str(raised.value).count("Layer 'data'") == 1


KINDS = {
    "Data": lambda **o: data_net("db", "crop_size: 5 mirror: true mean_value: 3 scale: 0.5", **o),
    "encoded Data": lambda **o: data_net("encoded", "crop_size: 5 mirror: true", **o),
    "Data, rand_skip": lambda **o: data_net("db", "crop_size: 5", more="rand_skip: 5", **o),
    "ImageData": lambda **o: image_net("shuffle: true rand_skip: 4", "crop_size: 5 mirror: true", **o),
    "WindowData": lambda **o: window_net("fg_fraction: 0.5 context_pad: 1", "crop_size: 6 mirror: true", **o),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


# Data


@pytest.mark.parametrize("source", ["db", "encoded"])
def test_data_gives_the_records_in_order_and_round_again(folder, source):
    net = data_net(source, batch=3)
    assert list(net.blobs["data"].shape) == [3, 3, 9, 11] and list(net.blobs["label"].shape) == [3]
    data, labels = batches(net, 5)
    assert np.array_equal(data, np.concatenate([PIXELS] * 3)[:15])
    assert labels.tolist() == [n % COUNT for n in range(15)]


def test_data_from_a_leveldb_which_is_the_default_backend(folder):
    pytest.importorskip("plyvel", reason="the extra leveldb is not installed")
    put("lv", [raw(picture, number) for number, picture in enumerate(PICTURES)], "leveldb")
    for backend in ("", "backend: LEVELDB"):
        net = net_of("Data", f'data_param {{ source: "lv" batch_size: 3 {backend} }}')
        data, labels = batches(net, 5)
        assert np.array_equal(data, np.concatenate([PIXELS] * 3)[:15])
        assert labels.tolist() == [n % COUNT for n in range(15)]
        del net


def test_data_may_leave_out_the_labels(folder):
    net = data_net("db", tops="data")
    net.forward()
    assert list(net.blobs) == ["data"] and np.array_equal(net.blobs["data"].data, PIXELS[:1])


def test_data_of_floats(folder):
    put("floats", [caffe_pb2.Datum(channels=2, height=1, width=2, float_data=[0.5, -1, 2, 1e9], label=3)])
    data, labels = batches(data_net("floats", "mean_value: 1 mean_value: 2 scale: 2"), 1)
    assert data.tolist() == [[[[-1, -4]], [[0, np.float32(np.float32(1e9) - 2) * 2]]]] and labels.tolist() == [3]


def test_data_of_a_mean_file(folder):
    mean = PIXELS.mean(0, dtype=np.float64).astype(np.float32)
    write_mean("mean", mean)
    data, _ = batches(data_net("db", 'mean_file: "mean" crop_size: 4 scale: 0.1', phase=caffe.TEST), 1)
    assert np.array_equal(data[0], (PIXELS[0] - mean)[:, 2:6, 3:7] * np.float32(0.1))


def test_a_batch_of_one_takes_images_of_any_size(folder):
    sizes = [(2, 3, 3), (5, 4, 3), (1, 7, 3)]
    put("sizes", [raw(np.full(size, number, np.uint8), number) for number, size in enumerate(sizes)])
    net = data_net("sizes")
    for number in (0, 1, 2, 0):
        net.forward()
        height, width, _ = sizes[number]
        assert list(net.blobs["data"].shape) == [1, 3, height, width] and (net.blobs["data"].data == number).all()
    fails(
        r"'00000001' gives 3 x 5 x 4, the batch's first image 3 x 2 x 3\..*crop_size.*batch_size: 1",
        data_net,
        "sizes",
        batch=2,
    )
    assert batches(data_net("sizes", "crop_size: 1", batch=3), 1)[0].shape == (3, 3, 1, 1)


def test_encoded_images_are_decoded_as_told(folder):
    gray = image.read("im 0.png", color=False)
    put("gray", [encoded(gray, 0)])
    assert np.array_equal(batches(data_net("gray"), 1)[0][0, 0], gray)
    for options in ({"transform": "force_color: true"}, {"more": "force_encoded_color: true"}):
        assert np.array_equal(batches(data_net("gray", **options), 1)[0][0], [gray] * 3)
    assert np.array_equal(batches(data_net("encoded", "force_gray: true"), 1)[0][0, 0], gray)


def test_records_that_are_no_datum_name_source_and_key(folder):
    put("junk", [b"\xff\xff\xff"])
    fails(r"junk, record '00000000' is no Datum: protobuf cannot parse its 3 bytes", data_net, "junk")
    other = caffe_pb2.NetParameter(name="a net", layer=[caffe_pb2.LayerParameter(name="x")])
    put("other", [other])
    fails(r"other, record '00000000' holds no image: .*another kind than Datum", data_net, "other")
    short = caffe_pb2.Datum(channels=3, height=100_000, width=100_000, data=b"x" * 10)
    put("short", [short])
    fails(r"short, record '00000000' has 10 bytes; an image of 3 x 100000 x 100000 has 30000000000", data_net, "short")
    put("none", [caffe_pb2.Datum(channels=3, height=1, width=1)])
    fails(r"none, record '00000000' has 0 floats; an image of 3 x 1 x 1 has 3", data_net, "none")
    put("negative", [caffe_pb2.Datum(channels=-3, height=-1, width=1, data=b"xxx")])
    fails("channels, height and width are -3, -1 and 1", data_net, "negative")
    put("web", [caffe_pb2.Datum(encoded=True, data=b"<html>")])
    fails(r"web, record '00000000' is no image of a kind that can be read", data_net, "web")


def test_an_error_comes_at_the_forward_that_meets_it_and_comes_again(folder):
    put("bad", [raw(PICTURES[0], 0), raw(PICTURES[1], 1), b"\xff"])
    net = data_net("bad")
    assert batches(net, 2)[1].tolist() == [0, 1]
    for _ in range(2):
        with pytest.raises(caffe.CaffeError, match=r"Layer 'data'.*'00000002' is no Datum"):
            net.forward()


def test_settings_that_data_needs(folder):
    fails("batch_size is missing or 0", net_of, "Data", 'data_param { source: "db" backend: LMDB }')
    fails("4000000000 x 3 x 9 x 11", data_net, "db", batch=4_000_000_000)
    fails("needs a source", net_of, "Data", "data_param { batch_size: 1 }")
    fails("Could not open the database 'none': it does not exist", data_net, "none")
    fails("takes 1 to 2 top", data_net, "db", tops="a b c")
    fails(r"'00000000': crop_size is 10; an image of 9 x 11 is smaller", data_net, "db", "crop_size: 10")
    fails("both mean_file and mean_value", data_net, "db", 'mean_file: "x" mean_value: 1')


def test_old_settings_outside_transform_param_warn(folder, capfd):
    data_net("db", more="scale: 2")
    assert "Layer 'data' (Data): scale has no effect outside transform_param" in capfd.readouterr().err


def test_a_v1_net_with_its_transform_in_data_param(folder):
    with open("net.prototxt", "w") as file:
        file.write(
            'layers { name: "data" type: DATA top: "data" top: "label" '
            'data_param { source: "db" backend: LMDB batch_size: 2 scale: 0.5 crop_size: 3 } }'
        )
    data, _ = batches(caffe.Net("net.prototxt", caffe.TEST), 1)
    assert np.array_equal(data, PIXELS[:2, :, 3:6, 4:7] * 0.5)


def test_wrapping_is_logged_as_caffe_logs_it(folder, capfd):
    batches(data_net("db", batch=2), 5)
    assert capfd.readouterr().err.count("] Restarting data prefetching from start.") in (1, 2)


# ImageData


def test_image_data_reads_a_list_whose_paths_may_have_spaces(folder):
    net = image_net(batch=3)
    assert list(net.blobs["data"].shape) == [3, 3, 9, 11] and list(net.blobs["label"].shape) == [3]
    data, labels = batches(net, 5)
    assert np.array_equal(data, np.concatenate([PIXELS] * 3)[:15])
    assert labels.tolist() == [n % COUNT for n in range(15)]


def test_image_data_resizes_and_makes_gray(folder):
    cv2 = pytest.importorskip("cv2")
    data, _ = batches(image_net("new_height: 5 new_width: 17 is_color: false"), 1)
    wanted = cv2.resize(cv2.imread("im 0.png", cv2.IMREAD_GRAYSCALE), (17, 5))
    assert data.shape == (1, 1, 5, 17) and np.abs(data[0, 0] - wanted).max() <= 2  # one for gray, one for resizing


def test_image_data_shuffles_anew_every_time_round(folder):
    _, labels = batches(image_net("shuffle: true", batch=COUNT), 6)
    orders = labels.reshape(6, COUNT)
    assert all(sorted(order) == list(range(COUNT)) for order in orders.tolist())
    assert len({tuple(order) for order in orders.tolist()}) == 6
    again = batches(image_net("shuffle: true", batch=COUNT), 6)[1]
    other = batches(image_net("shuffle: true", batch=COUNT, seed=12), 6)[1]
    elsewhere = batches(image_net("shuffle: true", batch=COUNT, name="another"), 6)[1]
    assert np.array_equal(labels, again)
    assert not np.array_equal(labels, other) and not np.array_equal(labels, elsewhere)


@pytest.mark.parametrize(
    "make", [lambda **o: image_net("rand_skip: 5", **o), lambda **o: data_net("db", more="rand_skip: 5", **o)]
)
def test_rand_skip_leaves_out_up_to_so_many_at_the_start(folder, make):
    starts = []
    for seed in range(25):
        labels = batches(make(seed=seed), 3)[1]
        assert np.array_equal(labels, (labels[0] + np.arange(3)) % COUNT)
        starts.append(int(labels[0]))
    assert set(starts) == set(range(5))


def test_root_folder_goes_in_front(folder, monkeypatch):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "list").write_bytes((folder / "list").read_bytes())
    monkeypatch.chdir(folder / "elsewhere")
    assert batches(image_net(f'root_folder: "{folder}/"'), 2)[1].tolist() == [0, 1]
    fails(r"im 0\.png exists: end root_folder with a slash", image_net, f'root_folder: "{folder}"')
    fails(r"Could not load im 0\.png: No such file", image_net)


def test_settings_that_image_data_needs(folder):
    fails("new_height is 5 and new_width 0; give both", image_net, "new_height: 5")
    fails("needs a source", net_of, "ImageData", "image_data_param { batch_size: 1 }")
    fails("takes 2 top", image_net, tops="data")
    (folder / "list").write_text("im 0.png\n")
    fails("line 1", image_net)
    (folder / "list").write_text("")
    fails("list list is empty", image_net)
    (folder / "list").unlink()
    fails("Could not open the image list list: No such file", image_net)
    (folder / "list").write_text("list 3\n")
    fails("list is no image", image_net)


# WindowData


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_window_data_gives_background_first_and_warps_each_window(folder, phase):
    net = window_net("fg_fraction: 0.25 fg_threshold: 0.8 bg_threshold: 0.3", batch=8, phase=phase)
    assert list(net.blobs["data"].shape) == [8, 3, 6, 6] and list(net.blobs["label"].shape) == [8]
    data, labels = batches(net, 8)
    windows = {
        True: [image.resize(picture[2:8, 1:7], 6, 6).transpose(2, 0, 1) for picture in PICTURES],
        False: [image.resize(picture[3:7, 3:10], 6, 6).transpose(2, 0, 1) for picture in PICTURES],
    }
    seen = {True: set(), False: set()}
    for place, (item, label) in enumerate(zip(data, labels, strict=True)):
        is_object = place % 8 >= 6
        found = [number for number, window in enumerate(windows[is_object]) if np.array_equal(window, item)]
        assert len(found) == 1 and label == (found[0] + 1 if is_object else 0)
        seen[is_object].add(found[0])
    assert len(seen[True]) > 3 and len(seen[False]) == COUNT


def test_thresholds_part_the_windows(folder):
    every = window_net("fg_fraction: 1 fg_threshold: 0.55", batch=40)
    assert set(batches(every, 2)[1]) == set(range(1, COUNT + 1))
    _, labels = batches(window_net("fg_fraction: 0 bg_threshold: 0.2", batch=40), 1)
    assert set(labels) == {0}
    fails("has no background window, of overlap below 0.1", window_net, "bg_threshold: 0.1")
    fails("has no object window, of overlap 0.95 or more", window_net, "fg_threshold: 0.95")


def context_net(box, picture, more, transform="crop_size: 8"):
    image_file = f"{picture.shape[1]}.png"
    Image.fromarray(picture).save(image_file)
    with open("windows", "w") as file:
        file.write(f"# 0 {image_file} 3 {picture.shape[0]} {picture.shape[1]} 1 1 1.0 {box}")
    return window_net(f"fg_fraction: 1 {more}", transform, batch=1)


def test_context_beyond_the_image_is_zero(folder):
    # By hand: half the window is 2, twice that with context; columns -2 to 6 (9, of which 2 before) and rows 0 to 8 (9,
    # of which 1 after). So 7 of 9 columns are 7 * 8 / 9 = 6 of the crop's, after 2 * 8 / 9 = 2; and 8 of 9 rows are 7.
    picture = np.random.default_rng(0).integers(1, 256, (8, 8)).astype(np.uint8)
    net = context_net("0 2 3 5", picture, "context_pad: 2", "crop_size: 8 mean_value: 10 scale: 0.5 mirror: true")
    wanted = np.zeros((8, 8), np.float32)
    wanted[:7, 2:] = (image.resize(picture[:8, :7], 7, 6) - np.float32(10)) / 2
    mirrored = np.zeros((8, 8), np.float32)
    mirrored[:7, :6] = wanted[:7, :1:-1]
    data, labels = batches(net, 24)
    kinds = [np.array_equal(item, [wanted] * 3) + 2 * np.array_equal(item, [mirrored] * 3) for item in data]
    assert set(kinds) == {1, 2} and set(labels) == {1}


@pytest.mark.parametrize(("mode", "across"), [("warp", 8), ("square", 16)])
def test_square_keeps_the_shape_and_context_pad_is_the_rim(folder, mode, across):
    # On a ramp whose value is the column, a crop's columns are the positions that it was taken from.
    picture = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    data, _ = batches(context_net("28 24 35 39", picture, f'context_pad: 4 crop_mode: "{mode}"', "crop_size: 24"), 1)
    found = data[0, 0, 12]
    step = across / (24 - 2 * 4)
    assert np.abs(found - (31.5 + step * (np.arange(24) - 11.5))).max() < 1.6 * max(step, 1)


def test_the_mean_file_of_windows_is_cut_in_the_middle(folder):
    mean = np.random.default_rng(2).random((3, 10, 10), np.float32) * 100
    write_mean("mean", mean)
    picture = np.full((8, 8), 50, np.uint8)
    data, _ = batches(context_net("0 0 7 7", picture, "scale: 2", 'crop_size: 6 mean_file: "mean"'), 1)
    assert np.array_equal(data[0], (50 - mean[:, 2:8, 2:8]) * 2)
    fails("its middle to cover crop_size, 11", window_net, "", 'crop_size: 11 mean_file: "mean"')


def test_scale_in_transform_param_or_in_window_data_param(folder):
    plain = batches(window_net(), 1)[0]
    for more, transform in (("scale: 0.5", ""), ("", "scale: 0.5"), ("scale: 9", "scale: 0.5")):
        assert np.array_equal(batches(window_net(more, f"crop_size: 6 {transform}"), 1)[0], plain * 0.5)


def test_cached_images_are_the_same_and_are_read_once(folder):
    wanted = batches(window_net(batch=30), 2)[0]
    net = window_net("cache_images: true", batch=30)
    net.forward()
    for number in range(COUNT):
        (folder / f"w{number}.png").unlink()
    net.forward()
    assert np.array_equal(net.blobs["data"].data, wanted[30:])


def test_settings_that_window_data_needs(folder):
    fails("needs a crop_size", window_net, "", "")
    fails("context_pad is 3 on each side; crop_size, 6, leaves no window", window_net, "context_pad: 3")
    fails("crop_mode is 'crop'; it is 'warp' or 'square'", window_net, 'crop_mode: "crop"')
    fails("fg_fraction is 1.5", window_net, "fg_fraction: 1.5")
    fails("batch_size is missing", window_net, batch=0)
    fails("mean_value is given 2 times", window_net, "", "crop_size: 6 mean_value: 1 mean_value: 2")
    fails("needs a source", net_of, "WindowData", "window_data_param { batch_size: 2 }", "crop_size: 2")
    fails("Could not open the window file windows", lambda: (folder / "windows").unlink() or window_net())


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("w0.png 3 9 11 0", "line 1: the next image should begin here, with '# 0'"),
        ("# 1\nw0.png\n3\n9\n11\n0\n", "'# 0'"),
        ("# 0\nw0.png\n3\n9\n11\n2\n1 0.9 0 0 3 3\n", "line 7: the file ends after 1 of an image's 2 windows"),
        ("# 0\nw0.png\n3\n9\n", "the file ends where an image's width should be"),
        ("# 0\nw0.png\n3\nhigh\n", "line 4: an image's height should be here, 0 to 16777216, but there is 'high'"),
        ("# 0\nw0.png\n3\n9\n11\n99999999999999999999\n", "number of windows should be here"),
        ("# 0\nw0.png\n3\n9\n11\n16000000\n1 0.9 0 0 3 3", "ends after 1 of"),
        ("# 0\nw0.png\n3\n9\n11\n1\n1 x 0 0 3 3\n", "is no six numbers"),
        ("# 0\nw0.png\n3\n9\n11\n1\n1 0.9 0 0 3.5 3\n", "no whole number"),
        ("# 0\nw0.png\n3\n9\n11\n1\n1 0.9 0 0 nan 3\n", "no whole number"),
        ("# 0\nw0.png\n3\n9\n11\n1\n0 0.9 0 0 3 3\n", "whose class must be 1 or more"),
        ("# 0\nw0.png\n3\n9\n11\n1\n1 0.9 0 0 11 3\n", r"0 0 11 3 \(x1 y1 x2 y2\) of w0\.png does not lie in its 11"),
        ("# 0\nw0.png\n3\n9\n11\n1\n1 0.9 5 0 3 3\n", "does not lie"),
        ("# 0\nnone.png\n3\n9\n11\n1\n1 0.9 0 0 3 3\n", r"Could not load none\.png"),
    ],
)  # fmt: skip
def test_a_window_file_that_is_none_is_refused(folder, text, match):
    (folder / "windows").write_text(text)
    fails(match, window_net, "fg_fraction: 1")


def test_a_window_beyond_the_image_is_refused_with_context_too(folder):
    fails("does not lie", context_net, "30 30 35 35", np.zeros((8, 8), np.uint8), "context_pad: 1")
    # Of the 21 columns with context, 7 to 27, one is in the image: 1 * 4 / 21 rounds to none of the crop's.
    net = context_net("12 0 21 7", np.full((8, 8), 9, np.uint8), "context_pad: 1", "crop_size: 4")
    assert (batches(net, 1)[0] == 0).all()


# Order, ranks, resume


@every_kind
def test_running_ahead_gives_what_running_in_place_gives(folder, monkeypatch, kind):
    ahead = batches(KINDS[kind](batch=2), 8)
    monkeypatch.setattr(Ahead, "allowed", staticmethod(lambda layer, bottom: False))
    net = KINDS[kind](batch=2)
    in_place = batches(net, 8)
    assert [np.array_equal(a, b) for a, b in zip(ahead, in_place, strict=True)] == [True, True]
    assert len({item.tobytes() for item in ahead[0]}) > 6


@every_kind
def test_two_ranks_take_in_turn_what_one_process_takes(folder, one_process, kind):
    alone = batches(KINDS[kind](batch=4), 6)
    caffe.set_solver_count(2)
    ranks = []
    for rank in range(2):
        caffe.set_solver_rank(rank)
        ranks.append(batches(KINDS[kind](batch=2), 6))
    for one, of_rank_0, of_rank_1 in zip(alone, *ranks, strict=True):
        assert np.array_equal(one[0::2], of_rank_0) and np.array_equal(one[1::2], of_rank_1)


def test_test_nets_take_all_records_on_any_rank(folder, one_process):
    caffe.set_solver_count(2)
    caffe.set_solver_rank(1)
    assert world.solver_rank() == 1
    assert batches(data_net("db", phase=caffe.TEST), 3)[1].tolist() == [0, 1, 2]


@every_kind
def test_a_state_goes_on_where_it_was_taken(folder, kind):
    net = KINDS[kind](batch=2)
    batches(net, 3)
    ((_, source),) = net.data_sources()
    state = json.loads(json.dumps(source.state()))
    assert state["next"] == 6
    wanted = batches(net, 6)
    other = KINDS[kind](batch=2, seed=99)
    batches(other, 5)
    ((_, source),) = other.data_sources()
    source.set_state(state)
    assert all(np.array_equal(a, b) for a, b in zip(batches(other, 6), wanted, strict=True))


@pytest.mark.parametrize("state", [None, [], {}, {"seed": 1}, {"seed": 1, "next": "2"}, {"seed": 1, "next": -2}])
def test_a_state_of_something_else_is_refused(folder, state):
    with pytest.raises(caffe.CaffeError, match=r"Layer 'data'.* saved position is"):
        data_net("db").layers[0].set_state(state)


SOLVER_NET = """
name: "net"
layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "encoded" batch_size: 3 backend: LMDB }
        transform_param { crop_size: 5 mirror: true scale: 0.01 } }
layer { name: "files" type: "ImageData" top: "files" top: "unused" image_data_param { source: "list" batch_size: 3
        shuffle: true } transform_param { crop_size: 5 mirror: true scale: 0.01 } }
layer { name: "silence" type: "Silence" bottom: "unused" }
layer { name: "windows" type: "WindowData" top: "windows" top: "classes" window_data_param { source: "windows"
        batch_size: 3 fg_fraction: 0.5 } transform_param { crop_size: 5 mirror: true scale: 0.01 } }
layer { name: "silence2" type: "Silence" bottom: "classes" }
layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "files" bottom: "windows" top: "sum" }
layer { name: "score" type: "InnerProduct" bottom: "sum" top: "score"
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""


def test_a_resumed_run_is_bit_identical_to_one_that_was_not_stopped(folder):
    (folder / "net.prototxt").write_text(SOLVER_NET)
    (folder / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 random_seed: 5 max_iter: 100 '
        'snapshot_prefix: "snap"'
    )

    def weights(solver):
        return [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]

    solver = caffe.SGDSolver("solver.prototxt")
    start = weights(solver)
    solver.step(4)
    solver.snapshot()
    solver.step(5)

    caffe.set_random_seed(99)
    resumed = caffe.SGDSolver("solver.prototxt")
    resumed.step(2)
    resumed.restore("snap_iter_4.solverstate")
    resumed.step(5)
    assert all(np.array_equal(a, b) for a, b in zip(weights(solver), weights(resumed), strict=True))
    assert not np.array_equal(start[0], weights(solver)[0])
