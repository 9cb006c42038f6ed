"""Writers of the folder layouts that the data layers read.

    VOC               JPEGImages/ID.jpg       SegmentationClass/ID.png    ImageSets/Segmentation/SPLIT.txt
    SBD               img/ID.jpg              cls/ID.mat                  SPLIT.txt
    NYUDv2            data/images/img_ID.png  data/depth/img_ID.png       data/hha/img_ID.png
                      segmentation/img_ID.mat                             SPLIT.txt
    SIFT Flow         Images/OUTDOOR/ID.jpg   SemanticLabels/OUTDOOR/ID.mat
                      GeoLabels/OUTDOOR/ID.mat                            SPLIT.txt
    PASCAL-Context    trainval/ID.mat         labels.txt  59_labels.txt   (images and lists are VOC 2010's)

An image is H x W x 3 RGB, uint8; its labels are H x W. Every writer raises ValueError where what it is given does not
fit together, and OSError where a file cannot be written. The files' bytes depend on nothing but the arguments and the
versions of the libraries that encode them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from files.writing import write_text
from vis import make_palette

# The folder that SIFT Flow has in each of its three.
OUTDOOR = "spatial_envelope_256x256_static_8outdoorcategories"

# High, with chroma at full resolution: what is a few pixels wide should look the same after compression.
_JPEG_QUALITY = 92
_JPEG_SUBSAMPLING = "4:4:4"

# savemat writes the date into this text, and then no two runs' files would be equal. Readers skip it.
_MAT_HEADER = b"MATLAB 5.0 MAT-file"
_MAT_HEADER_SIZE = 116


def write_voc(root: Path, ident: str, image: np.ndarray, label: np.ndarray) -> None:
    """Write one image and its label map in the VOC layout under `root`, the folder that VOC calls VOC2011.

    label: uint8, the class's index, or 255 (vis.VOID) where a pixel is neither trained nor scored.
    """
    _check_image(ident, image)
    _check_map("label map", ident, label, np.uint8, image)
    _write_jpeg(root / "JPEGImages" / f"{ident}.jpg", image)
    png = Image.fromarray(label)
    png.putpalette(make_palette(256).tobytes())
    _write_png(root / "SegmentationClass" / f"{ident}.png", png)


def write_sbd(root: Path, ident: str, image: np.ndarray, label: np.ndarray) -> None:
    """Write one image and its label map in the SBD layout under `root`, the folder that SBD calls dataset.

    label: as VOC's; it is read back as ``loadmat(path)["GTcls"][0]["Segmentation"][0]``.
    """
    _check_image(ident, image)
    _check_map("label map", ident, label, np.uint8, image)
    _write_jpeg(root / "img" / f"{ident}.jpg", image)
    _write_mat(root / "cls" / f"{ident}.mat", "GTcls", {"Segmentation": label})


def write_nyud(
    root: Path, ident: str, image: np.ndarray, depth: np.ndarray, hha: np.ndarray, label: np.ndarray
) -> None:
    """Write one image, its depth, its HHA encoding and its labels in NYUDv2's layout under `root`.

    depth: uint16, more than 0, as data layers take its logarithm. hha: H x W x 3, uint8. label: uint8, the class's
    index + 1, or 0 for void; it is read back as ``loadmat(path)["segmentation"]``.
    """
    _check_image(ident, image)
    _check_map("depth", ident, depth, np.uint16, image)
    _check_map("label map", ident, label, np.uint8, image)
    if hha.dtype != np.uint8 or hha.shape != image.shape:
        raise ValueError(
            f"HHA of {ident}: expected {image.shape} uint8 to fit its image, found {hha.shape} {hha.dtype}."
        )
    if not depth.all():
        raise ValueError(f"depth of {ident}: it is 0 somewhere, and the data layer takes its logarithm.")
    for folder, pixels in (("images", image), ("depth", depth), ("hha", hha)):
        _write_png(root / "data" / folder / f"img_{ident}.png", Image.fromarray(pixels))
    _write_mat(root / "segmentation" / f"img_{ident}.mat", "segmentation", label)


def write_sift_flow(root: Path, ident: str, image: np.ndarray, semantic: np.ndarray, geometric: np.ndarray) -> None:
    """Write one image and its two label maps in SIFT Flow's layout under `root`.

    semantic: uint8, the class's index + 1, or 0 where not labelled. geometric: int16, the same, and -1 as 0. Both are
    read back as ``loadmat(path)["S"]``.
    """
    _check_image(ident, image)
    _check_map("semantic labels", ident, semantic, np.uint8, image)
    _check_map("geometric labels", ident, geometric, np.int16, image)
    _write_jpeg(root / "Images" / OUTDOOR / f"{ident}.jpg", image)
    _write_mat(root / "SemanticLabels" / OUTDOOR / f"{ident}.mat", "S", semantic)
    _write_mat(root / "GeoLabels" / OUTDOOR / f"{ident}.mat", "S", geometric)


def write_context(voc_root: Path, context_root: Path, ident: str, image: np.ndarray, label_map: np.ndarray) -> None:
    """Write one image under `voc_root`, the folder that VOC calls VOC2010, and its label map in PASCAL-Context's.

    label_map: uint16, the name's number in labels.txt; it is read back as ``loadmat(path)["LabelMap"]``.
    """
    _check_image(ident, image)
    _check_map("label map", ident, label_map, np.uint16, image)
    _write_jpeg(voc_root / "JPEGImages" / f"{ident}.jpg", image)
    _write_mat(context_root / "trainval" / f"{ident}.mat", "LabelMap", label_map)


def write_list(path: Path, lines: Sequence[str]) -> None:
    """Write a list, such as a split's ids, one a line."""
    _made(path.parent)
    write_text(path, "".join(f"{line}\n" for line in lines), encoding="ascii")


def _check_image(ident: str, image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image {ident}: expected H x W x 3 uint8, found {image.shape} {image.dtype}.")


def _check_map(what: str, ident: str, values: np.ndarray, dtype: type[np.generic], image: np.ndarray) -> None:
    if values.dtype != dtype or values.shape != image.shape[:2]:
        raise ValueError(
            f"{what} of {ident}: expected {image.shape[:2]} {np.dtype(dtype)} to fit its image, "
            f"found {values.shape} {values.dtype}."
        )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    _made(path.parent)
    Image.fromarray(image).save(path, format="JPEG", quality=_JPEG_QUALITY, subsampling=_JPEG_SUBSAMPLING)


def _write_png(path: Path, image: Image.Image) -> None:
    _made(path.parent)
    image.save(path, format="PNG")


def _write_mat(path: Path, name: str, value: object) -> None:
    mat = io.BytesIO()
    savemat(mat, {name: value}, do_compression=True)
    header = _MAT_HEADER.ljust(_MAT_HEADER_SIZE)
    _made(path.parent)
    path.write_bytes(header + mat.getvalue()[_MAT_HEADER_SIZE:])
