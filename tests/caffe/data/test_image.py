"""Images decode, encode and resize as in OpenCV, to one grey level, and what is no image is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import caffe
from caffe.data import image
from caffe.errors import FileFormatError

Y, X = np.mgrid[:37, :53]
RGB = Image.fromarray(np.stack([X * 255 // 53, Y * 255 // 37, X * Y % 256], 2).astype(np.uint8))
DEEP = Image.fromarray((X * 1200).astype(np.uint16))


def saved(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def with_alpha():
    picture = RGB.copy()
    picture.putalpha(Image.fromarray((X * 4).astype(np.uint8)))
    return picture


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def deep_color():
    cv2 = pytest.importorskip("cv2")
    return cv2.imencode(".png", np.asarray(RGB).astype(np.uint16) * 257 + 100)[1].tobytes()


FILES = {
    "png": lambda: saved(RGB, "PNG"),
    "jpeg": lambda: saved(RGB, "JPEG"),
    "jpeg, progressive, full chroma": lambda: saved(RGB, "JPEG", quality=95, subsampling=0, progressive=True),
    "bmp": lambda: saved(RGB, "BMP"),
    "ppm": lambda: saved(RGB, "PPM"),
    "tiff": lambda: saved(RGB, "TIFF"),
    "webp": lambda: saved(RGB, "WEBP", lossless=True),
    "gif": lambda: saved(RGB.convert("P"), "GIF"),
    "jpeg 2000": lambda: saved(RGB, "JPEG2000"),
    "gray png": lambda: saved(RGB.convert("L"), "PNG"),
    "gray jpeg": lambda: saved(RGB.convert("L"), "JPEG"),
    "1 bit": lambda: saved(RGB.convert("1"), "PNG"),
    "palette": lambda: saved(RGB.convert("P"), "PNG"),
    "palette with one clear entry": lambda: saved(RGB.convert("P"), "PNG", transparency=3),
    "palette with alpha": lambda: saved(RGB.convert("P"), "PNG", transparency=bytes(range(256))),
    "alpha": lambda: saved(with_alpha(), "PNG"),
    "gray with alpha": lambda: saved(RGB.convert("LA"), "PNG"),
    "turned jpeg": lambda: saved(RGB, "JPEG", exif=turned(6)),
    "mirrored png": lambda: saved(RGB, "PNG", exif=turned(2)),
    "16 bit png": lambda: saved(DEEP, "PNG"),
    "16 bit tiff": lambda: saved(DEEP, "TIFF"),
    "16 bit colour": deep_color,
    "cmyk": lambda: saved(RGB.convert("CMYK"), "JPEG"),
}
# OpenCV makes gray of CMYK by another formula; natively it gives 16 bits, which Caffe refuses.
NOT_COMPARED = {("cmyk", False), ("16 bit png", None), ("16 bit tiff", None), ("16 bit colour", None)}


@pytest.mark.parametrize(
    ("name", "color"),
    [(name, color) for name in FILES for color in (True, False, None) if (name, color) not in NOT_COMPARED],
)
def test_decoding_gives_what_opencv_gives(name, color):
    cv2 = pytest.importorskip("cv2")
    flag = {True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE, None: cv2.IMREAD_UNCHANGED}[color]
    content = FILES[name]()
    wanted = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    if name == "gif" and wanted is None:
        pytest.skip(f"OpenCV {cv2.__version__} reads no GIF")
    found = image.decode(content, name, color)
    assert found.dtype == np.uint8 and found.shape == wanted.shape and found.flags.c_contiguous
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_the_channels_are_blue_green_red(tmp_path):
    Image.new("RGB", (2, 1), (10, 20, 30)).save(tmp_path / "x.png")
    assert image.read(tmp_path / "x.png").tolist() == [[[30, 20, 10], [30, 20, 10]]]
    assert image.read(str(tmp_path / "x.png"), color=False).tolist() == [[18, 18]]


def refused(content, match, color=True):
    with pytest.raises(FileFormatError, match=match):
        image.decode(content, "x.img", color)


def test_what_is_no_image_is_refused(tmp_path):
    refused(b"", "x.img is no image: it is empty")
    refused(b"<html>not found</html>", r"x.img is no image of a kind that can be read; it begins with b'<html>no'")
    refused(saved(RGB, "EPS"), "no image of a kind that can be read")
    refused(saved(RGB.convert("F"), "TIFF"), r"\(F in Pillow's terms\); 8 or 16 bits")
    refused(saved(RGB.convert("I"), "TIFF"), r"\(I in Pillow's terms\)")
    refused(saved(DEEP, "PNG"), "8 bits a value are expected", color=None)
    with pytest.raises(caffe.CaffeError, match=r"Could not load .*none\.png: No such file"):
        image.read(tmp_path / "none.png")
    with pytest.raises(caffe.CaffeError, match="Could not load a\0b"):
        image.read("a\0b")


def claims(width, height):
    """Return the bytes of a small PNG whose header says that it is of another size."""
    content = bytearray(saved(RGB, "PNG"))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch):
    refused(claims(40_000, 4_000), r"40000 x 4000 pixels; above \d+ it is not decoded")
    refused(claims(40_000, 40_000), "does not decode: .*decompression bomb")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1900)
    refused(saved(RGB, "PNG"), "53 x 37 pixels; above 1900")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert image.decode(saved(RGB, "PNG"), "x").shape == (37, 53, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"])
def test_a_file_that_is_cut_off_is_refused(kind):
    content = saved(RGB.convert("P") if kind == "GIF" else RGB, kind)
    refused(content[: len(content) // 2], "x.img is (an image that does not decode|no image)")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["png", "jpeg", "palette", "tiff", "gif", "bmp", "webp"]), st.data())
def test_damaged_bytes_give_an_image_or_an_error(name, data):
    content = bytearray(FILES[name]())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    try:
        found = image.decode(bytes(content), name, data.draw(st.sampled_from([True, False, None])))
    except caffe.CaffeError:
        return
    assert found.dtype == np.uint8 and found.ndim in (2, 3)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@example((2, 2), (1, 1), True, 0)
@example((1, 1), (40, 3), False, 1)
@example((90, 64), (45, 32), True, 2)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)), st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_resizing_is_opencvs_inter_linear_to_one_grey_level(old, new, color, seed):
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(seed).integers(0, 256, (*old, 3) if color else old).astype(np.uint8)
    wanted = cv2.resize(pixels, new[::-1], interpolation=cv2.INTER_LINEAR).reshape(*new, *pixels.shape[2:])
    found = image.resize(pixels, *new)
    assert found.dtype == np.uint8 and found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_resizing_uses_half_pixel_centres_clamped_edges_and_no_antialiasing():
    row = np.array([[0.0, 100.0]], np.float32)
    np.testing.assert_allclose(image.resize(row, 1, 4), [[0, 25, 75, 100]])
    impulse = np.zeros((1, 9), np.float32)
    impulse[0, 4] = 90
    np.testing.assert_allclose(image.resize(impulse, 1, 3), [[0, 90, 0]])
    assert image.resize(np.arange(6, dtype=np.uint8).reshape(2, 3)[:, ::-1], 2, 6).shape == (2, 6)
    with pytest.raises(caffe.CaffeError, match="2 x 3 cannot be resized to 0 x 4"):
        image.resize(np.zeros((2, 3), np.uint8), 0, 4)


@pytest.mark.parametrize(("encoding", "close"), [("png", 0), ("BMP", 0), (".tif", 0), ("webp", 40), ("jpeg", 40)])
def test_what_is_encoded_decodes_in_opencv(encoding, close):
    cv2 = pytest.importorskip("cv2")
    smooth = np.stack([Y * 4, X * 3, Y * 2 + X], 2).astype(np.uint8)
    for pixels, flag in ((smooth, cv2.IMREAD_COLOR), (smooth[:, :, 0], cv2.IMREAD_GRAYSCALE)):
        found = cv2.imdecode(np.frombuffer(image.encode(pixels, encoding), np.uint8), flag)
        assert np.abs(found.astype(int) - pixels).max() <= close


def test_an_unknown_encoding_is_an_error():
    with pytest.raises(caffe.CaffeError, match="Image encoding 'xyz' is not known; choose one of bmp, jp2"):
        image.encode(np.zeros((2, 2), np.uint8), "xyz")
