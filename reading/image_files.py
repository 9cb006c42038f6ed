"""The files of a dataset: where they are, lists of ids, images, depth images and label images.

What cannot be read is an error with its path: FileNotFoundError if it is missing, ValueError if it is damaged
or of a kind that cannot be learned from.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

# EXIF's orientation tag (274): how the stored picture is turned into the one that was taken.
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def data_path(path: str, home: Path | None = None, data: Path | None = None) -> Path:
    """Return where a path of an experiment is.

    home: the experiment's folder, in which relative paths begin; None is the folder that the program runs in, as for
    the reference. data: what a path in ../data or ../../data is in instead, by default FCN_DATA if that is set.
    """
    root = data or os.environ.get("FCN_DATA")
    parts = PurePosixPath(path).parts
    up = sum(part == ".." for part in parts)
    if root and up and parts[: up + 1] == ("..",) * up + ("data",):
        found = Path(root, *parts[up + 1 :])
    else:
        found = Path(path).expanduser() if home is None else home / Path(path).expanduser()
    return found if home is None else Path(os.path.abspath(found))


def read_lines(path: Path, what: str) -> list[str]:
    """Return the lines of a text file without the blank ones; `what` says in errors what the lines are."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of {what}: {error}.") from None
    if not lines:
        raise ValueError(f"{path} is empty: expected {what}, one a line.")
    return lines


def read_ids(path: Path) -> list[str]:
    """Return the image ids that a split's file lists, one a line; blank lines do not count."""
    return read_lines(path, "image ids")


def read_image(path: Path | str) -> Image.Image:
    """Return an image as a person sees it: RGB, 8 bits, turned the way that its EXIF orientation says.

    Grey is repeated in the three channels. Transparency lies over white, as viewers show it: what hides under
    a transparent pixel is arbitrary. 16-bit values are scaled to 8 bits. CMYK is converted without a colour
    profile. Raises FileNotFoundError, and ValueError for what cannot be decoded or has floating-point pixels.
    """
    image = _decode(Path(path))
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 0xFFFF:
            raise ValueError(f"{path} has pixels of more than 16 bits: save it with 8 bits a channel.")
        image = Image.fromarray(((levels.astype(np.int64) + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError(f"{path} has floating-point pixels of unknown range: save it with 8 bits a channel.")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert("RGB")


def network_input(rgb: np.ndarray, mean: Sequence[float], scale: float = 1.0) -> np.ndarray:
    """Return an image as a net takes it: (BGR - mean) * scale, 3 x H x W, float32.

    rgb: H x W x 3, uint8. mean: blue, green, red.
    """
    bgr = rgb[:, :, ::-1].astype(np.float32)
    # In double precision and rounded once, as the reference's subtraction in place is.
    bgr -= np.asarray(mean, np.float64)
    bgr *= scale
    return bgr.transpose(2, 0, 1)


def read_index_image(path: Path) -> np.ndarray:
    """Return the labels in a palette or grey image, whose pixels are the class indices: H x W, uint8.

    Raises FileNotFoundError, and ValueError for colour pictures, one-bit images and values beyond 255.
    """
    image = _decode(path)
    if image.mode not in ("P", "L") and not image.mode.startswith("I"):
        raise ValueError(
            f"{path} is an image of mode {image.mode}, but a label is one channel of class indices: save it "
            "as an 8-bit palette or grey PNG (vis.labels_from_colors and vis.save_labels turn a picture in "
            "VOC's colours into one)."
        )
    labels = np.asarray(image)
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"{path} has labels from {labels.min()} to {labels.max()}: expected 0 to 255.")
    return labels.astype(np.uint8)


def read_log_depth(path: Path) -> np.ndarray:
    """Return the natural logarithm of a depth image's values: H x W, float32.

    The file is a grey image of 8 or 16 bits. A value of 0 says that nothing was measured there; it has no
    logarithm, and NYUDv2's prepared images hold none, since their holes are filled. Raises FileNotFoundError, and
    ValueError for holes, colours and values that are no depth.
    """
    image = _decode(path)
    if image.mode != "L" and not image.mode.startswith("I"):
        raise ValueError(f"{path} is an image of mode {image.mode}, but depth is one channel of 8 or 16 bits.")
    depth = np.asarray(image)
    if depth.min() <= 0:
        raise ValueError(
            f"{path} has {np.count_nonzero(depth <= 0)} pixels whose depth is {depth.min()}: nothing was measured "
            "there, and the logarithm is infinite. Fill the holes first (the nets learn from filled depth)."
        )
    return np.log(depth.astype(np.float32))


def sizes_differ(image: Path, size: tuple[int, ...], kind: str, other: Path, other_size: tuple[int, ...]) -> str:
    """Return the sentence for an image and a file of another size, its label for example (kind: "label").

    The sizes are (width, height), the image's as it is seen.
    """
    text = (
        f"{image} is {size[0]} x {size[1]} pixels (width x height), but its {kind} {other} is "
        f"{other_size[0]} x {other_size[1]}."
    )
    with Image.open(image) as stored:
        turned = stored.size != size
    if turned and other_size == size[::-1]:
        text += (
            f" The image's EXIF data says that it is to be shown turned by a quarter, and the {kind} fits it "
            f"unturned: turn the {kind} too, or remove the orientation from the image."
        )
    return text


def _decode(path: Path) -> Image.Image:
    """Return an image file's pixels, turned as its EXIF orientation says, in the file's own mode."""
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise
    except Exception as error:  # Decoders raise OSError, SyntaxError, ValueError and more for damaged files.
        raise ValueError(f"{path} cannot be read as an image: {error}. It is damaged, or no image.") from None
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # Damaged EXIF is no reason to refuse a sound picture; viewers ignore it too.
        orientation = None
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
