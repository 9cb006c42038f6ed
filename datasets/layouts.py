"""Writers of the folder layouts that the data layers read: PASCAL VOC's and SBD's.

Both hold one JPEG and one label map an image, and text files that list the ids of each split:

    VOC    JPEGImages/ID.jpg    SegmentationClass/ID.png    ImageSets/Segmentation/SPLIT.txt
    SBD    img/ID.jpg           cls/ID.mat                  SPLIT.txt

A label map is H x W, uint8: the class's index, or 255 (vis.VOID) where a pixel is neither trained nor scored.
The files' bytes depend on nothing but the arguments and the versions of the libraries that encode them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from vis import make_palette

# High, with chroma at full resolution: what is a few pixels wide should look the same after compression.
_JPEG_QUALITY = 92
_JPEG_SUBSAMPLING = "4:4:4"

# savemat writes the date into this text, and then no two runs' files would be equal. Readers skip it.
_MAT_HEADER = b"MATLAB 5.0 MAT-file"
_MAT_HEADER_SIZE = 116


def write_voc(root: Path, ident: str, image: np.ndarray, label: np.ndarray) -> None:
    """Write one image and its label map in the VOC layout under `root`, the folder that VOC calls VOC2011.

    image: H x W x 3 RGB, uint8. label: H x W, uint8. Raises ValueError where they do not fit together and
    OSError where a file cannot be written.
    """
    _check(ident, image, label)
    _write_jpeg(_made(root / "JPEGImages") / f"{ident}.jpg", image)
    png = Image.fromarray(label)
    png.putpalette(make_palette(256).tobytes())
    png.save(_made(root / "SegmentationClass") / f"{ident}.png", format="PNG")


def write_voc_split(root: Path, split: str, idents: Sequence[str]) -> None:
    """List `idents`, in their order, as a split of the VOC layout under `root`."""
    _write_list(_made(root / "ImageSets" / "Segmentation") / f"{split}.txt", idents)


def write_sbd(root: Path, ident: str, image: np.ndarray, label: np.ndarray) -> None:
    """Write one image and its label map in the SBD layout under `root`, the folder that SBD calls dataset.

    The label map is read back as ``loadmat(path)["GTcls"][0]["Segmentation"][0]``. image: H x W x 3 RGB,
    uint8. label: H x W, uint8. Raises ValueError where they do not fit together and OSError where a file
    cannot be written.
    """
    _check(ident, image, label)
    _write_jpeg(_made(root / "img") / f"{ident}.jpg", image)
    mat = io.BytesIO()
    savemat(mat, {"GTcls": {"Segmentation": label}}, do_compression=True)
    header = _MAT_HEADER.ljust(_MAT_HEADER_SIZE)
    (_made(root / "cls") / f"{ident}.mat").write_bytes(header + mat.getvalue()[_MAT_HEADER_SIZE:])


def write_sbd_split(root: Path, split: str, idents: Sequence[str]) -> None:
    """List `idents`, in their order, as a split of the SBD layout under `root`."""
    _write_list(_made(root) / f"{split}.txt", idents)


def _check(ident: str, image: np.ndarray, label: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image {ident}: expected H x W x 3 uint8, found {image.shape} {image.dtype}.")
    if label.dtype != np.uint8 or label.shape != image.shape[:2]:
        raise ValueError(
            f"label map of {ident}: expected {image.shape[:2]} uint8 to fit its image, "
            f"found {label.shape} {label.dtype}."
        )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path, format="JPEG", quality=_JPEG_QUALITY, subsampling=_JPEG_SUBSAMPLING)


def _write_list(path: Path, idents: Sequence[str]) -> None:
    path.write_text("".join(f"{ident}\n" for ident in idents), encoding="ascii")
