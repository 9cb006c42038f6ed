"""convert_imageset and compute_image_mean: what Caffe's tools of these names write."""

import io
import os
import re

import lmdb
import numpy as np
import pytest
from PIL import Image

import caffe
from caffe.errors import FileFormatError
from caffe.formats.binaryproto import read_mean
from caffe.proto import caffe_pb2
from caffe.tools.imageset import compute_image_mean, convert_imageset


@pytest.fixture
def images(tmp_path):
    """Write five images of noise, 6 x 8, one of them under a name with a space, and a list of them."""
    rng = np.random.default_rng(3)
    names = ["a.png", "b c.png", "d.png", "e.jpg", "sub/f.JPEG"]
    (tmp_path / "sub").mkdir()
    for name in names:
        Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("".join(f"{name} {i * 3 - 1}\n" for i, name in enumerate(names)) + "\n")
    return tmp_path


def convert(images, **options):
    return convert_imageset(f"{images}/", str(images / "list.txt"), str(images / "db"), **options)


def records(images):
    """Read a database as any program does, without the engine."""
    with lmdb.open(str(images / "db"), readonly=True, lock=False) as db, db.begin() as transaction:
        return [(key.decode(), caffe_pb2.Datum.FromString(value)) for key, value in transaction.cursor()]


def bgr(path, mode="RGB"):
    return np.asarray(Image.open(path).convert(mode))[..., ::-1].transpose(2, 0, 1)


def test_records_are_caffes(images, capfd):
    assert convert(images) == 5
    found = records(images)
    assert [key for key, _ in found] == [
        "00000000_a.png", "00000001_b c.png", "00000002_d.png", "00000003_e.jpg", "00000004_sub/f.JPEG",
    ]  # fmt: skip
    assert [datum.label for _, datum in found] == [-1, 2, 5, 8, 11]
    for key, datum in found:
        assert (datum.channels, datum.height, datum.width) == (3, 6, 8)
        assert datum.HasField("encoded") and not datum.encoded
        assert datum.data == bgr(images / key[9:]).tobytes()
    log = capfd.readouterr().err
    assert "] A total of 5 images.\n" in log and "] Processed 5 files.\n" in log


def test_gray_and_resized(images):
    convert(images, gray=True, resize_width=3, resize_height=2)
    for _, datum in records(images):
        assert (datum.channels, datum.height, datum.width, len(datum.data)) == (1, 2, 3, 6)


def test_resizing_is_opencvs(images):
    cv2 = pytest.importorskip("cv2")
    convert(images, resize_width=5, resize_height=9)
    key, datum = records(images)[0]
    wanted = cv2.resize(cv2.imread(str(images / key[9:])), (5, 9)).transpose(2, 0, 1)
    found = np.frombuffer(datum.data, np.uint8).reshape(3, 9, 5)
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_encoded_keeps_the_bytes_of_files_that_need_no_change(images):
    convert(images, encoded=True)
    for key, datum in records(images):
        assert datum.encoded and datum.data == (images / key[9:]).read_bytes()
        assert not datum.HasField("channels")


@pytest.mark.parametrize(
    ("encode_type", "kept"), [("jpg", {"e.jpg", "sub/f.JPEG"}), ("PNG", {"a.png", "b c.png", "d.png"})]
)
def test_encode_type_implies_encoded_and_changes_the_others(images, encode_type, kept, capfd):
    convert(images, encode_type=encode_type)
    for key, datum in records(images):
        assert datum.encoded
        assert (datum.data == (images / key[9:]).read_bytes()) == (key[9:] in kept)
        picture = Image.open(io.BytesIO(datum.data))
        assert picture.format == {"jpg": "JPEG", "PNG": "PNG"}[encode_type] and picture.size == (8, 6)
    assert "encode_type specified, assuming encoded=true." in capfd.readouterr().err


def test_encoded_and_gray_keeps_only_gray_files(images):
    Image.open(images / "a.png").convert("L").save(images / "a.png")
    convert(images, encoded=True, gray=True)
    for key, datum in records(images):
        assert (datum.data == (images / key[9:]).read_bytes()) == (key[9:] == "a.png")
        assert Image.open(io.BytesIO(datum.data)).mode == "L"


def test_shuffling_follows_the_seed(images):
    orders = []
    for seed in (1, 1, 2, 3):
        convert(images, shuffle=True, seed=seed)
        found = records(images)
        assert [key[:8] for key, _ in found] == [f"{i:08d}" for i in range(5)]
        orders.append([(key[9:], datum.label) for key, datum in found])
        for path in (images / "db").iterdir():
            path.unlink()
        (images / "db").rmdir()
    assert orders[0] == orders[1] and len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    caffe.set_random_seed(1)
    convert(images, shuffle=True)
    assert [(key[9:], datum.label) for key, datum in records(images)] == orders[0]


def test_leveldb(images):
    pytest.importorskip("plyvel", reason="the extra leveldb is not installed")
    assert convert(images, backend="leveldb") == 5
    leveldb = compute_image_mean(str(images / "db"), backend="leveldb")
    os.rename(images / "db", images / "lv")
    convert(images)
    assert np.array_equal(leveldb, compute_image_mean(str(images / "db")))


@pytest.mark.parametrize("content", [None, b"<html>", b""], ids=["missing", "web page", "empty"])
def test_an_image_that_cannot_be_read_is_named_and_nothing_is_left(images, content):
    (images / "d.png").unlink()
    if content is not None:
        (images / "d.png").write_bytes(content)
    before = sorted(os.listdir(images))
    with pytest.raises(caffe.CaffeError, match=r"d\.png"):
        convert(images)
    assert sorted(os.listdir(images)) == before


def test_check_size_names_the_image_of_another_size(images):
    Image.new("RGB", (8, 7)).save(images / "d.png")
    with pytest.raises(caffe.CaffeError, match=r"d\.png is of 7 x 8 x 3, the first image of 6 x 8 x 3"):
        convert(images, check_size=True)
    assert convert(images) == 5


def test_wrong_calls_say_what_is_expected(images):
    with pytest.raises(caffe.CaffeError, match="resize_width is 5 and resize_height 0; give both"):
        convert(images, resize_width=5)
    with pytest.raises(caffe.CaffeError, match="encoding 'xyz' is not known"):
        convert(images, encode_type="xyz")
    with pytest.raises(caffe.CaffeError, match="Could not open the image list /no/list: No such file"):
        convert_imageset("", "/no/list", str(images / "db"))
    with pytest.raises(caffe.CaffeError, match=r"a\.png exists: end root_folder with a slash"):
        convert_imageset(str(images), str(images / "list.txt"), str(images / "db"))
    convert(images)
    with pytest.raises(caffe.CaffeError, match="db' exists already"):
        convert(images)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a.png 1\nb.png\n", r"line 2: 'b\.png' is not 'path label'"),
        ("a.png x\n", r"line 1: 'a\.png x' is not"),
        ("a.png 1.5\n", "whole number"),
        (f"a.png {2**31}\n", "whole number"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, text, match):
    (tmp_path / "list").write_text(text)
    with pytest.raises(FileFormatError, match=match):
        convert_imageset("", str(tmp_path / "list"), str(tmp_path / "db"))


def test_the_mean_is_exact_and_written_as_caffe_writes_it(images, capfd):
    convert(images)
    wanted = np.mean([bgr(images / key[9:]).astype(np.float64) for key, _ in records(images)], axis=0)
    mean = compute_image_mean(str(images / "db"), str(images / "mean.binaryproto"))
    assert mean.dtype == np.float32 and np.array_equal(mean, wanted.astype(np.float32))
    assert np.array_equal(read_mean(images / "mean.binaryproto"), mean)
    log = capfd.readouterr().err
    logged = [float(value) for value in re.findall(r"mean_value channel \[\d\]: ([\d.]+)\n", log)]
    assert logged == pytest.approx(wanted.mean((1, 2)), rel=1e-5) and "Number of channels: 3" in log


def test_the_mean_of_encoded_and_of_float_records(images):
    convert(images, encoded=True)
    wanted = np.mean([bgr(images / key[9:]).astype(np.float64) for key, _ in records(images)], axis=0)
    assert np.allclose(compute_image_mean(str(images / "db")), wanted, atol=1e-4)
    with lmdb.open(str(images / "floats")) as db, db.begin(write=True) as transaction:
        for i in range(3):
            datum = caffe_pb2.Datum(channels=1, height=1, width=2, float_data=[i, i + 0.5])
            transaction.put(b"%d" % i, datum.SerializeToString())
    assert compute_image_mean(str(images / "floats")).tolist() == [[[1, 1.5]]]


def test_a_mean_of_images_of_several_sizes_is_an_error(images):
    Image.new("RGB", (8, 7)).save(images / "d.png")
    convert(images)
    with pytest.raises(
        FileFormatError, match=r"record '00000002_d.png' is an image of 3 x 7 x 8, the first one of 3 x 6 x 8"
    ):
        compute_image_mean(str(images / "db"), str(images / "mean"))
    assert not (images / "mean").exists()


def test_long_jobs_tell_how_far_they_are(tmp_path, capfd):
    Image.new("L", (1, 1), 7).save(tmp_path / "x.png")
    (tmp_path / "list").write_text("x.png 0\n" * 2000)
    convert_imageset(f"{tmp_path}/", str(tmp_path / "list"), str(tmp_path / "db"), gray=True)
    log = capfd.readouterr().err
    assert [n for n in range(500, 3000, 500) if f"] Processed {n} files." in log] == [1000, 2000]
    assert compute_image_mean(str(tmp_path / "db")).tolist() == [[[7]]]
