"""caffe.io: protobuf messages as arrays, the Transformer, reading images, resizing and cropping them."""

import io as streams
import struct
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import caffe
import caffe.io
from caffe.proto import caffe_pb2

# BlobProto


def test_blobproto_of_an_old_file_has_four_axes():
    blob = caffe_pb2.BlobProto(data=range(24), num=1, channels=2, height=3, width=4)
    found = caffe.io.blobproto_to_array(blob)
    assert found.shape == (1, 2, 3, 4) and found.dtype == np.float64 and found.ravel().tolist() == list(range(24))
    blob.shape.dim.extend([24])  # the old fields win
    assert caffe.io.blobproto_to_array(blob).shape == (1, 2, 3, 4)


def test_blobproto_of_today_has_any_axes_and_a_diff():
    blob = caffe_pb2.BlobProto(data=range(6), diff=range(6, 12))
    blob.shape.dim.extend([3, 1, 2])
    assert caffe.io.blobproto_to_array(blob).tolist() == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert caffe.io.blobproto_to_array(blob, return_diff=True).ravel().tolist() == [6, 7, 8, 9, 10, 11]
    blob = caffe_pb2.BlobProto(double_data=[1 / 3], double_diff=[2 / 3])
    assert caffe.io.blobproto_to_array(blob) == 1 / 3 and caffe.io.blobproto_to_array(blob, True) == 2 / 3


def test_a_blobproto_of_doubles_alone_keeps_their_precision_and_its_diff_needs_no_data():
    blob = caffe_pb2.BlobProto(double_diff=[1 / 3, 1e300], num=1, channels=1, height=1, width=2)
    assert caffe.io.blobproto_to_array(blob, return_diff=True).tolist() == [[[[1 / 3, 1e300]]]]


def test_blobproto_without_a_shape_is_a_single_value_or_an_error():
    found = caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[123]))
    assert found.shape == () and found == 123
    with pytest.raises(ValueError, match="data has 100 values, and its message gives it no shape"):
        caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=range(100)))
    with pytest.raises(ValueError, match="diff has 0 values"):
        caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[1]), return_diff=True)


@pytest.mark.parametrize("shape", [(2, 4), (-2, -3), (7,), (2**40, 2**40), (0,)])
def test_blobproto_whose_shape_does_not_fit_its_values_is_an_error(shape):
    blob = caffe_pb2.BlobProto(data=range(6))
    blob.shape.dim.extend(shape)
    with pytest.raises(ValueError, match="data has 6 values, and its message gives it " + str(shape[0])):
        caffe.io.blobproto_to_array(blob)


SMALL = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
FLOATS = st.floats(width=32, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, SMALL, elements=FLOATS))
def test_arrays_go_to_blobprotos_and_back(values):
    blob = caffe.io.array_to_blobproto(values, diff=-values)
    again = caffe_pb2.BlobProto.FromString(blob.SerializeToString())
    for return_diff, wanted in ((False, values), (True, -values)):
        found = caffe.io.blobproto_to_array(again, return_diff)
        assert found.shape == values.shape and (found == wanted).all()
    assert not caffe.io.array_to_blobproto(values).diff


def test_lists_of_arrays_go_to_bytes_and_back():
    values = [np.arange(6.0).reshape(2, 3), np.array(5, np.int32), np.zeros((0, 2))]
    packed = caffe.io.arraylist_to_blobprotovector_str(values)
    assert isinstance(packed, bytes) and len(caffe_pb2.BlobProtoVector.FromString(packed).blobs) == 3
    for found, wanted in zip(caffe.io.blobprotovector_str_to_arraylist(packed), values, strict=True):
        assert found.shape == wanted.shape and (found == wanted).all()


# Datum


def test_datum_of_bytes_is_bytes_and_others_are_floats():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    datum = caffe.io.array_to_datum(pixels, 7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 7)
    assert datum.data == bytes(range(24)) and not datum.float_data
    for values in (pixels.astype(np.float32) / 7, pixels.astype(np.int64)):
        datum = caffe.io.array_to_datum(values)
        assert not datum.data and list(datum.float_data) == values.astype(np.float32).ravel().tolist()


def test_datum_that_is_not_told_its_label_has_none():
    values = np.ones((10, 10, 3))
    with_label, without = (caffe.io.array_to_datum(values, label=label) for label in (0, None))
    assert with_label.HasField("label") and not without.HasField("label")
    assert len(with_label.SerializeToString()) > len(without.SerializeToString())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([np.uint8, np.float32]).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        arrays.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=4),
        elements=FLOATS if dtype is np.float32 else None,
    )
))  # fmt: skip
def test_arrays_go_to_datums_and_back(values):
    datum = caffe_pb2.Datum.FromString(caffe.io.array_to_datum(values, 3).SerializeToString())
    found = caffe.io.datum_to_array(datum)
    assert found.shape == values.shape and (found == values).all()
    assert found.dtype == (np.uint8 if values.dtype == np.uint8 and values.size else np.float64)
    found[...] = 0  # it is the program's own


def test_datum_of_other_axes_is_refused():
    for shape in ((3,), (3, 4), (1, 3, 4, 5)):
        with pytest.raises(ValueError, match=r"^Incorrect array shape\.$"):
            caffe.io.array_to_datum(np.zeros(shape))
    with pytest.raises(ValueError, match="Datum's data has 5 values, and its message gives it 2 x 3 x 1"):
        caffe.io.datum_to_array(caffe_pb2.Datum(channels=2, height=3, width=1, data=b"12345"))
    with pytest.raises(ValueError, match="Datum's float_data has 1 values"):
        caffe.io.datum_to_array(caffe_pb2.Datum(channels=2, height=3, width=1, float_data=[1]))


def encoded(image, kind="PNG", **options):
    stream = streams.BytesIO()
    image.save(stream, kind, **options)
    return caffe_pb2.Datum(encoded=True, data=stream.getvalue(), channels=3, height=9, width=9)


def test_encoded_datum_is_decoded_as_opencv_does():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    palette = Image.fromarray(rng.integers(0, 4, (5, 6), np.uint8))
    palette.putpalette([9, 8, 7, 100, 50, 25, 1, 2, 3, 250, 251, 252], "RGB")
    images = {
        "rgb": encoded(Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))),
        "rgba": encoded(Image.fromarray(rng.integers(0, 256, (5, 6, 4), np.uint8))),
        "gray": encoded(Image.fromarray(rng.integers(0, 256, (5, 6), np.uint8))),
        "palette": encoded(palette),
        "jpeg": encoded(Image.fromarray(np.full((8, 8, 3), 99, np.uint8)), "JPEG"),
    }
    for name, datum in images.items():
        wanted = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_UNCHANGED)
        found = caffe.io.datum_to_array(datum)
        assert found.dtype == np.uint8 and found.flags.c_contiguous
        assert (found == np.atleast_3d(wanted).transpose(2, 0, 1)).all(), name


def test_encoded_datum_that_is_no_image_is_told():
    with pytest.raises(caffe.errors.FileFormatError, match="image in an encoded Datum is no image"):
        caffe.io.datum_to_array(caffe_pb2.Datum(encoded=True, data=b"no image"))


# Transformer


@pytest.fixture
def transformer():
    return caffe.io.Transformer({"data": (10, 3, 4, 5)})


def test_a_new_transformer_only_makes_float32_of_the_inputs_size(transformer):
    for name in ("transpose", "channel_swap", "raw_scale", "mean", "input_scale"):
        assert getattr(transformer, name) == {}
    assert transformer.inputs == {"data": (10, 3, 4, 5)}
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    found = transformer.preprocess("data", image)
    assert found.dtype == np.float32 and (found == image).all()
    assert transformer.preprocess("data", np.ones((9, 9, 3))).shape == (4, 5, 3)


def test_preprocess_does_its_steps_in_caffes_order(transformer):
    rng = np.random.default_rng(0)
    image = rng.random((4, 5, 3)).astype(np.float32)
    kept = image.copy()
    mean = rng.random((3, 4, 5)) * 100
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", mean)
    transformer.set_input_scale("data", 0.017)
    found = transformer.preprocess("data", image)
    wanted = (image[:, :, ::-1].transpose(2, 0, 1) * 255 - mean) * 0.017  # the mean is BGR
    assert found.dtype == np.float32 and found.shape == (3, 4, 5)
    assert np.allclose(found, wanted, atol=1e-5)
    assert (image == kept).all()
    assert np.allclose(transformer.deprocess("data", found[np.newaxis]), image, atol=1e-5)


def test_preprocess_resizes_first(transformer):
    image = np.random.default_rng(0).random((9, 7, 3))
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_raw_scale("data", 10)
    wanted = caffe.io.resize_image(image.astype(np.float32), (4, 5)).transpose(2, 0, 1) * np.float32(10)
    assert (transformer.preprocess("data", image) == wanted).all()
    lists = caffe.io.Transformer({"data": [10, 3, 4, 5]})
    assert lists.preprocess("data", np.ones((4, 5, 3))).shape == (4, 5, 3)


def test_deprocess_undoes_orders_that_are_not_their_own_inverse(transformer):
    image = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (1, 2, 0))
    assert (transformer.deprocess("data", transformer.preprocess("data", image)) == image).all()
    data = transformer.preprocess("data", image)
    kept = data.copy()
    transformer.set_mean("data", np.ones(3))
    transformer.deprocess("data", data)
    assert (data == kept).all()


def test_deprocess_keeps_single_channels_and_takes_integers():
    transformer = caffe.io.Transformer({"data": (1, 1, 4, 5)})
    data = np.arange(20).reshape(1, 1, 4, 5)
    assert transformer.deprocess("data", data).shape == (4, 5)  # as in pycaffe, where nothing is set
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", np.array([0.5]))
    found = transformer.deprocess("data", data)
    assert found.shape == (4, 5, 1) and found[0, 0, 0] == 0.5 and found.dtype == np.float32


def test_means_are_values_a_channel_or_images_of_any_size(transformer):
    transformer.set_mean("data", np.array([1, 2, 3]))
    assert transformer.mean["data"].shape == (3, 1, 1)
    full = np.random.default_rng(0).random((3, 4, 5))
    transformer.set_mean("data", full)
    assert (transformer.mean["data"] == full).all()
    transformer.set_mean("data", full[0])
    assert (transformer.mean["data"] == full[:1]).all()
    large = np.random.default_rng(0).random((3, 9, 8)) * 50 + 80
    transformer.set_mean("data", large)
    wanted = caffe.io.resize_image(large.transpose(1, 2, 0), (4, 5)).transpose(2, 0, 1)
    assert np.allclose(transformer.mean["data"], wanted, atol=1e-4)
    transformer.set_mean("data", np.full((3, 9, 8), 7.0))  # in pycaffe 0 / 0
    assert (transformer.mean["data"] == 7).all()


def test_settings_that_do_not_fit_raise_what_pycaffe_says(transformer):
    outside = r"^nope is not one of the net inputs: \{'data': \(10, 3, 4, 5\)\}$"
    image = np.zeros((4, 5, 3))
    for call in (
        lambda: transformer.preprocess("nope", image),
        lambda: transformer.deprocess("nope", image),
        lambda: transformer.set_transpose("nope", (2, 0, 1)),
        lambda: transformer.set_channel_swap("nope", (2, 1, 0)),
        lambda: transformer.set_raw_scale("nope", 255),
        lambda: transformer.set_mean("nope", np.ones(3)),
        lambda: transformer.set_input_scale("nope", 2),
    ):
        with pytest.raises(Exception, match=outside):
            call()
    with pytest.raises(
        Exception, match=r"^Transpose order needs to have the same number of dimensions as the input\.$"
    ):
        transformer.set_transpose("data", (1, 0))
    with pytest.raises(
        Exception, match=r"^Channel swap needs to have the same number of dimensions as the input channels\.$"
    ):
        transformer.set_channel_swap("data", (1, 0))
    for mean in (np.ones(4), np.ones((2, 4, 5)), np.ones((2, 8, 8))):
        with pytest.raises(ValueError, match=r"^Mean channels incompatible with input\.$"):
            transformer.set_mean("data", mean)
    for mean in (np.ones((1, 3, 4, 5)), np.array(3.0)):
        with pytest.raises(ValueError, match=r"^Mean shape invalid$"):
            transformer.set_mean("data", mean)
    with pytest.raises(ValueError, match=r"takes \(height, width\)"):
        caffe.io.Transformer({"data": (1, 3)}).preprocess("data", image)


# Reading images

RGB = np.random.default_rng(3).integers(0, 256, (6, 8, 3)).astype(np.uint8)
GREY = np.array([0.2125, 0.7154, 0.0721])


@pytest.fixture
def saved(tmp_path):
    def save(image, name="image.png", **options):
        image.save(tmp_path / name, **options)
        return str(tmp_path / name)

    return save


def test_an_image_is_rgb_from_0_to_1_or_grey_by_rec_709(saved):
    path = saved(Image.fromarray(RGB))
    found = caffe.io.load_image(path)
    assert found.dtype == np.float32 and found.shape == (6, 8, 3)
    assert (found == (RGB / 255).astype(np.float32)).all()
    grey = caffe.io.load_image(path, color=False)
    assert grey.dtype == np.float32 and grey.shape == (6, 8, 1)
    assert np.allclose(grey[:, :, 0], RGB / 255 @ GREY, atol=1e-7)
    with open(path, "rb") as file:
        assert (caffe.io.load_image(file) == found).all()


def test_a_grey_image_gets_three_equal_channels_or_keeps_its_one(saved):
    path = saved(Image.fromarray(RGB[:, :, 0]))
    wanted = (RGB[:, :, :1] / 255).astype(np.float32)
    assert (caffe.io.load_image(path) == np.tile(wanted, (1, 1, 3))).all()
    assert (caffe.io.load_image(path, color=False) == wanted).all()


def test_every_kind_of_pixel_becomes_rgb(saved):
    rgb = Image.fromarray(RGB)
    alpha = Image.fromarray(RGB[:, :, 1])
    with_alpha = rgb.copy()
    with_alpha.putalpha(alpha)
    palette = rgb.quantize(200)
    grey = Image.fromarray(RGB[:, :, 0])
    two = grey.point(lambda v: 255 * (v > 99)).convert("1")
    three = (1, 1, 3)
    kinds = {
        "alpha": (saved(with_alpha, "a.png"), RGB / 255),
        "grey with alpha": (saved(Image.merge("LA", (grey, alpha)), "b.png"), np.tile(RGB[:, :, :1] / 255, three)),
        "palette": (saved(palette, "c.png"), np.array(palette.convert("RGB")) / 255),
        "transparent palette": (saved(palette, "d.png", transparency=3), np.array(palette.convert("RGB")) / 255),
        "bits": (saved(two, "e.png"), np.tile(RGB[:, :, :1] > 99, three)),
        "cmyk": (saved(rgb.convert("CMYK"), "f.tif"), np.array(rgb.convert("CMYK").convert("RGB")) / 255),
        "gif": (saved(palette, "g.gif", save_all=True, append_images=[grey]), np.array(palette.convert("RGB")) / 255),
        "floats": (
            saved(Image.fromarray(np.float32(RGB[:, :, 0] / 512)), "h.tif"),
            np.tile(RGB[:, :, :1] / 512, three),
        ),
    }
    for name, (path, wanted) in kinds.items():
        found = caffe.io.load_image(path)
        assert found.shape == (6, 8, 3) and found.dtype == np.float32, name
        assert np.allclose(found, wanted, atol=1e-6), name
        grey_found = caffe.io.load_image(path, color=False)
        assert np.allclose(grey_found[:, :, 0], wanted @ GREY, atol=1e-6), name


def test_16_bits_keep_their_digits(saved, tmp_path):
    values = np.array([[0, 1, 257], [4095, 65534, 65535]], dtype=np.uint16)
    (tmp_path / "c.pgm").write_bytes(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    for path in (saved(Image.fromarray(values)), saved(Image.fromarray(values), "b.tif"), str(tmp_path / "c.pgm")):
        found = caffe.io.load_image(path, color=False)
        assert found.shape == (2, 3, 1) and np.allclose(found[:, :, 0], values / 65535, rtol=1e-6), path
    wide = saved(Image.fromarray(np.array([[0, 2**30]], dtype=np.int32)), "d.tif")
    assert np.allclose(caffe.io.load_image(wide)[0, :, 0], [0, 0.5])


def test_the_cameras_orientation_is_not_applied(saved):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert caffe.io.load_image(saved(Image.fromarray(RGB), "a.jpg", exif=exif)).shape == (6, 8, 3)


def test_a_file_that_is_missing_or_no_image_is_told_by_name(tmp_path, saved):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        caffe.io.load_image(str(tmp_path / "gone.png"))
    for content in (b"", b"<html></html>", b"\x89PNG\r\n\x1a\n"):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(caffe.errors.FileFormatError, match=r"bad\.png is no image that Pillow can read"):
            caffe.io.load_image(tmp_path / "bad.png")
    whole = (tmp_path / saved(Image.fromarray(RGB), "x.bmp")).read_bytes()
    (tmp_path / "cut.bmp").write_bytes(whole[:-20])
    with pytest.raises(caffe.errors.FileFormatError, match=r"cut\.bmp"):
        caffe.io.load_image(tmp_path / "cut.bmp")


def test_a_small_file_of_huge_extents_is_refused(tmp_path, saved):
    content = bytearray((tmp_path / saved(Image.fromarray(RGB), "x.bmp")).read_bytes())
    content[18:26] = struct.pack("<ii", 100000, 100000)
    (tmp_path / "huge.bmp").write_bytes(content)
    with pytest.raises(caffe.errors.FileFormatError, match=r"huge\.bmp is a damaged image, or too large"):
        caffe.io.load_image(tmp_path / "huge.bmp")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tif", "a.bmp", "a.webp", "a.ppm"])
def test_damaged_images_are_an_error_or_are_read_but_end_nothing(tmp_path, saved, name):
    content = (tmp_path / saved(Image.fromarray(RGB), name)).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged metadata and large images
        for trial in range(80):
            damaged = bytearray(content)
            if trial % 2:
                del damaged[int(rng.integers(len(content))) :]
            for at in rng.integers(len(damaged) or 1, size=min(3, len(damaged))):
                damaged[at] = rng.integers(256)
            (tmp_path / name).write_bytes(damaged)
            try:
                found = caffe.io.load_image(tmp_path / name)
                assert found.ndim == 3 and found.dtype == np.float32
            except caffe.errors.FileFormatError:
                refused += 1
    assert refused > 10


# Resizing

CORNERS = np.array([[0, 1], [4, 2], [3, 8]], float)[:, :, np.newaxis]
# What scikit-image 0.26 gives for resize(CORNERS / 8, ..., mode="constant", anti_aliasing=False) * 8.
RESIZED = {
    (1, 4, 5): [
        [0.0, 0.0875, 0.4375, 0.7875, 0.6125],
        [1.75, 2.4125, 2.0625, 1.7125, 1.1375],
        [2.5375, 3.6875, 3.9375, 4.1875, 2.975],
        [1.8375, 3.0625, 4.8125, 6.5625, 4.9],
    ],
    (1, 2, 1): [[1.125], [4.875]],
    (3, 4, 5): [
        [0.0, 0.0, 0.43487, 0.93538, 0.85116],
        [2.06399, 2.63187, 2.07534, 1.07429, 0.36535],
        [2.96693, 4.68089, 5.50312, 5.14665, 3.47487],
        [1.15523, 3.23908, 6.11913, 7.68854, 6.00766],
    ],
    (0, 5, 3): [[0, 1, 1], [0, 1, 1], [4, 2, 2], [3, 8, 8], [3, 8, 8]],
}


@pytest.mark.parametrize("case", RESIZED)
def test_images_of_one_or_three_channels_are_resized_as_scikit_image_did(case):
    order, height, width = case
    wanted = np.array(RESIZED[case])[:, :, np.newaxis]
    found = caffe.io.resize_image(CORNERS, (height, width), order)
    assert found.dtype == np.float32 and np.allclose(found, wanted, atol=2e-5)
    # Beyond the border lies the least value of all, so that moving and scaling the values moves and scales the result.
    three = np.concatenate([CORNERS, CORNERS, CORNERS], axis=2) * 20 - 50
    found = caffe.io.resize_image(three.astype(np.float32), np.array([height, width]), order)
    assert np.allclose(found, wanted * 20 - 50, atol=5e-4) and found.shape == (height, width, 3)


def test_scikit_image_plays_no_part(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.transform", None)
    assert caffe.io.resize_image(CORNERS, (2, 1)).ravel().tolist() == [1.125, 4.875]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 12))
def test_linear_resizing_is_linear_within_its_bounds_and_exact_inside(height, width, channels, new_h, new_w):
    ramp = np.arange(height)[:, None, None] * 3 + np.arange(width)[None, :, None] + np.zeros(channels)
    found = caffe.io.resize_image(ramp, (new_h, new_w))
    assert found.shape == (new_h, new_w, channels)
    assert found.min() >= ramp.min() - 1e-4 and found.max() <= ramp.max() + 1e-4
    rows = (np.arange(new_h) + 0.5) * height / new_h - 0.5
    columns = (np.arange(new_w) + 0.5) * width / new_w - 0.5
    inside = np.ix_((rows >= 0) & (rows <= height - 1), (columns >= 0) & (columns <= width - 1))
    wanted = rows[:, None, None] * 3 + columns[None, :, None] + np.zeros(channels)
    assert np.allclose(found[inside], wanted[inside], atol=1e-4)


def test_other_numbers_of_channels_keep_the_corners_centres():
    ramp = np.arange(5.0)[:, None, None] * 4 + np.arange(3)[None, :, None] + np.array([0, 100])
    wanted = np.linspace(0, 16, 9)[:, None, None] + np.array([0, 2])[None, :, None] + np.array([0, 100])
    assert np.allclose(caffe.io.resize_image(ramp, (9, 2), 1), wanted, atol=1e-4)
    corners = np.ix_([0, -1], [0, -1])
    for order in range(1, 6):
        found = caffe.io.resize_image(ramp, (9, 2), order)
        assert found.dtype == np.float32 and np.allclose(found[corners], ramp[corners], atol=1e-3)
    assert set(caffe.io.resize_image(ramp, (20, 20), 0).ravel()) == set(ramp.ravel())
    for old, new in [(7, 13), (13, 7), (31, 227), (227, 31), (1, 4), (4, 1)]:  # rounding must not step over the border
        found = caffe.io.resize_image(np.full((old, old, 4), 3.0), (new, new))
        assert found.shape == (new, new, 4) and np.allclose(found, 3)


def test_constant_images_stay_constant():
    found = caffe.io.resize_image(np.full((3, 4, 3), 7, np.uint8), (9, 2))
    assert found.dtype == np.float32 and found.shape == (9, 2, 3) and (found == 7).all()


def test_an_image_of_the_size_asked_for_stays_as_it_is():
    assert (caffe.io.resize_image(RGB, (6, 8)) == RGB).all()


def test_sizes_and_orders_that_cannot_be_are_told():
    for image in (np.zeros((4, 5)), np.zeros((0, 5, 3)), np.zeros((4, 5, 0))):
        with pytest.raises(ValueError, match="takes an image H x W x K with values"):
            caffe.io.resize_image(image, (2, 2))
    for size in ((0, 3), (3, -1), (3,), (3, 3, 3)):
        with pytest.raises(ValueError, match=r"takes \(height, width\), both 1 or more"):
            caffe.io.resize_image(RGB, size)
    for order in (-1, 6, None, 1.5):
        with pytest.raises(ValueError, match="interp_order is a spline's order, 0 to 5"):
            caffe.io.resize_image(RGB, (2, 2), order)


# Crops


@pytest.mark.parametrize("crop", [(4, 5), (3, 4), (6, 8), (1, 1)])
def test_oversample_cuts_corners_centre_and_their_mirrors(crop):
    images = [RGB, 255 - RGB]
    found = caffe.io.oversample(images, crop)
    height, width = crop
    assert found.dtype == np.float32 and found.shape == (20, height, width, 3)
    places = [(0, 0), (0, 8 - width), (6 - height, 0), (6 - height, 8 - width), ((6 - height) // 2, (8 - width) // 2)]
    for i, image in enumerate(images):
        for j, (top, left) in enumerate(places):
            part = image[top : top + height, left : left + width]
            assert (found[10 * i + j] == part).all() and (found[10 * i + 5 + j] == part[:, ::-1]).all()
    assert (caffe.io.oversample(np.stack(images), np.array(crop)) == found).all()


def test_crops_that_do_not_fit_are_told():
    for crop in ((7, 8), (6, 9), (0, 3)):
        with pytest.raises(ValueError, match="do not fit into images of 6 x 8"):
            caffe.io.oversample([RGB], crop)
    for images in ([], [RGB, RGB[1:]], [RGB[:, :, 0]]):
        with pytest.raises(ValueError, match="takes images of one shape"):
            caffe.io.oversample(images, (2, 2))
