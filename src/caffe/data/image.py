"""Images as Caffe's data layers see them: what OpenCV's imread, imdecode, imencode and resize give, without OpenCV.

Arrays are uint8, H x W x 3 in the order blue, green, red, or H x W for gray.
"""

from __future__ import annotations

import io
import os

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import CaffeError, FileFormatError, why_not_opened

# What OpenCV reads. Pillow knows more, of which some start programs (EPS) or reach for other files.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "PPM", "TIFF", "WEBP", "GIF", "JPEG2000", "SUN")
_ENCODINGS = {
    "jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF", "tiff": "TIFF", "webp": "WEBP",
    "ppm": "PPM", "pgm": "PPM", "jp2": "JPEG2000",
}  # fmt: skip
_JPEG_QUALITY = 95  # OpenCV's
# Pillow's modes of 8 bits a value.
_GRAY = ("1", "L", "LA", "La")
_COLOR = ("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_WIDENED = ("PNG", "PPM")  # formats whose 16 bits Pillow (some versions) gives as 32


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return a file's content. Raises CaffeError `Could not load ...` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise CaffeError(f"Could not load {os.fspath(path)}: {why_not_opened(error)}.") from None


def read(path: str | os.PathLike[str], color: bool | None = True) -> np.ndarray:
    """Read an image file; the result and `color` are decode's. Raises CaffeError, with the path, if that fails."""
    return decode(read_file(path), os.fspath(path), color)


def decode(content: bytes, where: str, color: bool | None = True) -> np.ndarray:
    """Decode an image file's bytes: H x W x 3 if `color`, H x W if not, as it is stored if None.

    As in OpenCV: a palette is resolved, transparency dropped, 16 bits a value cut to the upper 8, and the picture
    turned as its EXIF data say. With `color` None (imdecode's -1) it is not turned, an alpha channel is kept as the
    fourth, and 16 bits are refused, as Caffe's data transformer does.

    Raises FileFormatError, with `where` in front, for what is no image, damaged, not of 8 or 16 bits, or of more
    pixels than PIL.Image.MAX_IMAGE_PIXELS.
    """
    if not content:
        raise FileFormatError(f"{where} is no image: it is empty.")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            width, height = picture.size
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and width * height > limit:
                raise FileFormatError(
                    f"{where} is an image of {width} x {height} pixels; above {limit} it is not decoded. Set "
                    "PIL.Image.MAX_IMAGE_PIXELS if it is what it says."
                )
            return _array(picture, where, color)
    except FileFormatError:
        raise
    except UnidentifiedImageError:
        raise FileFormatError(
            f"{where} is no image of a kind that can be read; it begins with {content[:8]!r}."
        ) from None
    except Exception as error:  # on damaged files Pillow raises whatever its parsers stumble over
        raise FileFormatError(f"{where} is an image that does not decode: {error}.") from error


def _array(picture: Image.Image, where: str, color: bool | None) -> np.ndarray:
    """Return an open picture's pixels; `color` is decode's."""
    if picture.mode in ("P", "PA"):
        has_alpha = picture.mode == "PA" or "transparency" in picture.info
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    deep = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in _WIDENED)
    if picture.mode not in (*_GRAY, *_COLOR) and (color is None or not deep):
        raise FileFormatError(
            f"{where} has pixels of a kind that cannot be read ({picture.mode} in Pillow's terms); "
            f"{'8' if color is None else '8 or 16'} bits a value are expected, gray or in colours."
        )
    if color is None:
        if picture.mode in ("LA", "La", "RGBA", "RGBa"):
            return np.ascontiguousarray(np.asarray(picture.convert("RGBA"))[:, :, [2, 1, 0, 3]])
        return np.array(picture.convert("L")) if picture.mode in _GRAY else _bgr(picture)
    if not color and picture.mode == "RGB":
        picture.draft("L", picture.size)  # a JPEG's own luminance, as OpenCV takes it
    ImageOps.exif_transpose(picture, in_place=True)
    if color and picture.mode in _COLOR:
        return _bgr(picture)
    gray = (np.asarray(picture) >> 8).astype(np.uint8) if deep else np.array(picture.convert("L"))
    return np.repeat(gray[:, :, None], 3, axis=2) if color else gray


def _bgr(picture: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])


def planes(pixels: np.ndarray) -> np.ndarray:
    """Return an image, H x W x C or H x W, as a net's blobs hold it: a view, C x H x W."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def encode(pixels: np.ndarray, encoding: str) -> bytes:
    """Encode an image, H x W x 3 BGR or H x W, as "jpg", "png" and so on. Raises CaffeError for an unknown encoding."""
    kind = _ENCODINGS.get(encoding.lower().lstrip("."))
    if kind is None:
        raise CaffeError(f"Image encoding {encoding!r} is not known; choose one of {', '.join(sorted(_ENCODINGS))}.")
    stream = io.BytesIO()
    picture = Image.fromarray(pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, ::-1]))
    picture.save(stream, kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {}))
    return stream.getvalue()


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an H x W or H x W x C image as OpenCV's INTER_LINEAR does; uint8 stays uint8, to the nearest level.

    Pixel centres are at halves, each result mixes its four neighbours however much smaller it is (no antialiasing),
    and beyond the edge lies the edge.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if min(*pixels.shape[:2], height, width) < 1:
        raise CaffeError(f"An image of {pixels.shape[0]} x {pixels.shape[1]} cannot be resized to {height} x {width}.")
    planes = torch.from_numpy(np.array(pixels, np.float32, ndmin=3).reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    resized = torch.nn.functional.interpolate(planes[None], (height, width), mode="bilinear", align_corners=False)[0]
    result = resized.permute(1, 2, 0).reshape(height, width, *pixels.shape[2:])
    if pixels.dtype == np.uint8:
        return result.round_().to(torch.uint8).numpy()
    return result.numpy().astype(pixels.dtype, copy=False)
