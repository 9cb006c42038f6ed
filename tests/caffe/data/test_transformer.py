"""transform_param: crop, mirror, mean and scale by the rules of data_transformer.cpp."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffe
from caffe.data.data_transformer import DataTransformer
from caffe.errors import FileFormatError
from caffe.formats.binaryproto import read_mean, write_mean
from caffe.formats.prototxt import parse_text
from caffe.proto import caffe_pb2


def transformer(text="", phase=caffe.TEST):
    return DataTransformer(parse_text(text, caffe_pb2.TransformationParameter()), phase)


def result(made, image, seed=0):
    out = np.full(made.shape(image.shape), np.nan, np.float32)
    made.transform(image, out, np.random.default_rng(seed) if made.draws else None)
    return out


def drawn(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def by_loops(image, mean, scale, top, left, height, width, mirror):
    """Compute each value as data_transformer.cpp's loop does."""
    out = np.empty((image.shape[0], height, width), np.float32)
    for c in range(image.shape[0]):
        for h in range(height):
            for w in range(width):
                at = (c, top + h, left + w)
                out[c, h, width - 1 - w if mirror else w] = (np.float32(image[at]) - mean[at]) * np.float32(scale)
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)), st.integers(0, 5), st.booleans(),
    st.sampled_from(["file", "one", "each", "none"]), st.sampled_from([1.0, 0.25, 0.1]), st.booleans(), st.booleans(),
    st.integers(0, 2**31),
)  # fmt: skip
def test_every_value_is_caffes(tmp_path_factory, shape, crop, mirrors, means, scale, floats, train, seed):
    crop = min(crop, *shape[1:])
    image = drawn(shape, seed)
    image = image.astype(np.float32) / 7 if floats else image.transpose(1, 2, 0).copy().transpose(2, 0, 1)
    text = f"scale: {scale} crop_size: {crop} mirror: {str(mirrors).lower()} "
    mean = np.zeros(shape, np.float32)
    if means == "file":
        mean = drawn(shape, seed + 1).astype(np.float32) / 3
        path = tmp_path_factory.mktemp("mean") / "mean.binaryproto"
        write_mean(path, mean)
        text += f'mean_file: "{path}"'
    elif means != "none":
        values = np.arange(shape[0] if means == "each" else 1) * 10 + 5.5
        mean = mean + values.reshape(-1, 1, 1).astype(np.float32)
        text += "".join(f"mean_value: {value} " for value in values)
    found = result(transformer(text, caffe.TRAIN if train else caffe.TEST), image, seed)

    height, width = (crop, crop) if crop else shape[1:]
    places = [((shape[1] - height) // 2, (shape[2] - width) // 2)]
    if train and crop:
        places = [(top, left) for top in range(shape[1] - crop + 1) for left in range(shape[2] - crop + 1)]
    choices = [
        by_loops(image, mean, scale, *place, height, width, mirror)
        for place in places
        for mirror in ((False, True) if mirrors else (False,))
    ]
    assert any(np.array_equal(found, choice) for choice in choices)


def corners(made, image, times=2000):
    """Count the crops of an image whose pixels are numbered."""
    generator = np.random.default_rng(1)
    counts = {}
    for _ in range(times):
        out = np.empty(made.shape(image.shape), np.float32)
        made.transform(image, out, generator)
        key = (out[0, 0, 0], out[0, 0, -1])
        counts[key] = counts.get(key, 0) + 1
    return counts


NUMBERED = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)


def test_in_train_every_place_is_as_likely_as_any_other():
    counts = corners(transformer("crop_size: 2", caffe.TRAIN), NUMBERED)
    assert set(counts) == {(float(p), p + 1.0) for p in (0, 1, 2, 4, 5, 6)}
    assert min(counts.values()) > 2000 / 6 - 6 * np.sqrt(2000 / 6)


def test_in_test_the_crop_is_in_the_middle_rounded_down_and_nothing_is_drawn():
    made = transformer("crop_size: 2")
    assert not made.draws
    assert result(made, NUMBERED).tolist() == [[[1, 2], [5, 6]]]


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_mirror_turns_one_in_two_in_both_phases(phase):
    counts = corners(transformer("mirror: true", phase), NUMBERED)
    assert set(counts) == {(0.0, 3.0), (3.0, 0.0)}
    assert abs(counts[0.0, 3.0] - 1000) < 6 * np.sqrt(500)


def test_a_seed_gives_the_same_result_again():
    made = transformer("crop_size: 3 mirror: true", caffe.TRAIN)
    image = drawn((3, 20, 20))
    assert np.array_equal(result(made, image, 5), result(made, image, 5))
    assert len({result(made, image, seed).tobytes() for seed in range(20)}) > 10


def test_color_says_how_encoded_images_are_decoded():
    made = [transformer(text).color for text in ("", "force_color: true", "force_gray: true")]
    assert made == [None, True, False]


def test_settings_that_contradict_each_other_are_errors(tmp_path):
    write_mean(tmp_path / "m", np.zeros((1, 2, 2), np.float32))
    with pytest.raises(caffe.CaffeError, match="both mean_file and mean_value"):
        transformer(f'mean_file: "{tmp_path / "m"}" mean_value: 1')
    with pytest.raises(caffe.CaffeError, match="both force_color and force_gray"):
        transformer("force_color: true force_gray: true")


def test_an_image_that_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(caffe.CaffeError, match="crop_size is 5; an image of 9 x 4 is smaller"):
        transformer("crop_size: 5").shape((3, 9, 4))
    with pytest.raises(caffe.CaffeError, match="mean_value is given 2 times; for 3 channels it is once or 3 times"):
        transformer("mean_value: 1 mean_value: 2").shape((3, 4, 4))
    write_mean(tmp_path / "m", np.zeros((1, 2, 2), np.float32))
    with pytest.raises(
        caffe.CaffeError, match=r"m is of 1 x 2 x 2 .*, an image of 1 x 2 x 3; they must be of one size"
    ):
        transformer(f'mean_file: "{tmp_path / "m"}"').shape((1, 2, 3))


def test_a_mean_is_written_and_read_as_caffe_does(tmp_path):
    mean = np.random.default_rng(0).random((3, 4, 5), np.float32)
    write_mean(tmp_path / "folder" / "m.binaryproto", mean)
    proto = caffe_pb2.BlobProto.FromString((tmp_path / "folder" / "m.binaryproto").read_bytes())
    assert (proto.num, proto.channels, proto.height, proto.width) == (1, 3, 4, 5) and not proto.HasField("shape")
    assert np.array_equal(read_mean(tmp_path / "folder" / "m.binaryproto"), mean)


def test_a_mean_of_todays_shape_or_of_doubles_is_read(tmp_path):
    proto = caffe_pb2.BlobProto(double_data=range(6))
    proto.shape.dim.extend([1, 2, 3])
    (tmp_path / "m").write_bytes(proto.SerializeToString())
    assert read_mean(tmp_path / "m").tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"\x93NUMPY\x01", r"is a NumPy array"),
        (b"\x08\x01\x10\x03\x18\x04 \x04*\x08abcdefgh", "48 values|2 values|damaged"),
        (b"\xff\xff\xff", "damaged"),
        (caffe_pb2.BlobProto(num=2, channels=1, height=1, width=1, data=[1, 2]).SerializeToString(), "1 x C x H x W"),
        (caffe_pb2.BlobProto(num=1, channels=3, height=0, width=2).SerializeToString(), "1 x C x H x W"),
    ],
    ids=["empty", "html", "npy", "too few", "junk", "two", "none"],
)
def test_a_file_that_is_no_mean_is_refused(tmp_path, content, match):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(FileFormatError, match=match) as raised:
        transformer(f'mean_file: "{tmp_path / "m"}"')
    assert str(tmp_path / "m") in str(raised.value)


def test_a_missing_mean_is_named():
    with pytest.raises(caffe.CaffeError, match=r"Could not open the mean file /no/mean: No such file"):
        transformer('mean_file: "/no/mean"')
