"""What labels look like and are called: class names, palettes, palette PNGs, overlays, legends and panels.

A label map is H x W, uint8: each pixel holds its class's index, or VOID (255) where it has none. Images are
H x W x 3 RGB, uint8. Nothing here needs Caffe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from files.writing import replaced
from reading.image_files import read_lines

# The label of a pixel that is neither trained nor scored.
VOID = 255

_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

# Each dataset's classes, in the order of the score layer's channels. A key begins as the folders of the dataset's
# experiments do, up to the first hyphen: voc-fcn8s, shapes-fcn/8s. SIFT Flow's two sets differ in their number.
CLASSES: dict[str, tuple[str, ...]] = {
    "voc": _VOC,
    "nyud": (
        *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
        *("counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat"),
        *("clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain"),
        *("box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag"),
        *("otherstructure", "otherfurniture", "otherprop"),
    ),
    "siftflow": (
        *("awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk", "desert"),
        *("door", "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole", "river", "road"),
        *("rock", "sand", "sea", "sidewalk", "sign", "sky", "staircase", "streetlight", "sun", "tree", "window"),
    ),
    "siftflow-geometric": ("sky", "horizontal", "vertical"),
    "pascalcontext": (
        *_VOC,
        *("bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "clothes", "computer", "cup", "door"),
        *("fence", "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain", "mouse"),
        *("curtain", "platform", "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky", "snow"),
        *("bedcloth", "track", "tree", "truck", "wall", "water", "window", "wood"),
    ),
    "shapes": ("background", "disc", "square", "triangle", "ring", "cross"),
}

# What a pixel of an error map says.
RIGHT = (196, 214, 196)
WRONG = (200, 32, 32)
UNJUDGED = (255, 255, 255)

# Pixels, in legends and panels.
_MARGIN = 6
_SWATCH = 14
_LINE = 18


def class_names(experiment: str | Path | None, count: int) -> tuple[str, ...]:
    """Return the names of an experiment's `count` classes.

    experiment: the experiment's folder, such as voc-fcn8s or shapes-fcn/8s, from where the program runs or from the
    root of the repository. A classes.txt in it, a name a line, gives the names if it has so many. Else the dataset
    does by which the folder, or one that it is in, is called. Where that has another number of classes, they are
    called "class 0", "class 1", ... Raises ValueError for a classes.txt that cannot be read.
    """
    if experiment is None:
        return tuple(f"class {i}" for i in range(count))
    for folder in (Path(experiment), Path(__file__).resolve().parent / experiment):
        listed = folder / "classes.txt"
        if listed.is_file():
            names = tuple(read_lines(listed, "class names"))
            if len(names) == count:
                return names
    for part in reversed(Path(experiment).parts):
        for key, names in CLASSES.items():
            if key.split("-")[0] == part.split("-")[0] and len(names) == count:
                return names
    return tuple(f"class {i}" for i in range(count))


def make_palette(num_classes: int) -> np.ndarray:
    """Return PASCAL VOC's colours for labels 0 to num_classes - 1: num_classes x 3 RGB, uint8.

    A label's bits are dealt to red, green and blue in turn, the lowest three to each channel's highest bit,
    and so on downwards (the VOC development kit's colour map). Raises ValueError beyond 256 classes.
    """
    if not 0 < num_classes <= 256:
        raise ValueError(f"A palette has 1 to 256 colours, not {num_classes}: a label is one byte.")
    labels = np.arange(num_classes)
    palette = np.zeros((num_classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def color_seg(seg: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return a label map in its palette's colours, H x W x 3 RGB, uint8.

    VOID takes VOC's cream where the palette does not reach so far; any other label beyond the palette is a
    ValueError.
    """
    colors = make_palette(256)
    colors[: len(palette)] = palette
    seg = _label_map(seg)
    beyond = seg[(seg >= len(palette)) & (seg != VOID)]
    if beyond.size:
        raise ValueError(f"Label {beyond.max()} has no colour: the palette has {len(palette)}.")
    return colors[seg]


def vis_seg(img: np.ndarray, seg: np.ndarray, palette: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Return an image with its label map painted over it, H x W x 3 RGB, uint8.

    alpha: the paint's share, from 0 (image alone) to 1. Background (label 0) and VOID stay unpainted.
    Raises ValueError where image and labels differ in size.
    """
    img = np.asarray(img)
    seg = _label_map(seg)
    if img.shape != (*seg.shape, 3):
        raise ValueError(f"The image is {img.shape}, but its labels {seg.shape}: expected {(*seg.shape, 3)}.")
    painted = img.astype(np.float32)
    mask = (seg > 0) & (seg != VOID)
    painted[mask] *= 1 - alpha
    painted[mask] += alpha * color_seg(seg, palette)[mask]
    return np.rint(painted).astype(np.uint8)


def label_image(seg: np.ndarray) -> Image.Image:
    """Return a label map as a palette image (mode P): its pixels are the labels, its colours VOC's."""
    image = Image.fromarray(_label_map(seg))
    image.putpalette(make_palette(256).tobytes())
    return image


def save_labels(path: str | Path, seg: np.ndarray) -> None:
    """Write a label map as a palette PNG, VOC's own label format, whole or not at all, making its folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replaced(Path(path)) as partial:
        label_image(seg).save(partial, format="PNG")


def labels_from_colors(rgb: np.ndarray, palette: np.ndarray | None = None) -> np.ndarray:
    """Return the label map behind a picture of coloured labels: the way back from `color_seg`.

    rgb: H x W x 3, uint8; of a fourth channel, transparency, nothing is read. palette: by default VOC's 256 colours.
    Raises ValueError for what is no colour picture, and for a colour that is not in the palette, as resized or
    JPEG-compressed pictures have: such a picture's labels are lost.
    """
    rgb = np.asarray(rgb)
    if rgb.ndim != 3 or rgb.shape[2] not in (3, 4):
        raise ValueError(
            f"A picture of coloured labels has the shape H x W x 3, not {rgb.shape}: open it with "
            "Image.open(...).convert('RGB'). One whose pixels are class indices already is saved by vis.save_labels."
        )
    palette = make_palette(256) if palette is None else np.asarray(palette)
    weights = np.array([1 << 16, 1 << 8, 1])
    codes = palette.astype(np.int64) @ weights
    order = np.argsort(codes)
    wanted = rgb[:, :, :3].astype(np.int64) @ weights
    found = order[np.searchsorted(codes, wanted, sorter=order).clip(max=len(codes) - 1)]
    strange = np.argwhere(codes[found] != wanted)
    if strange.size:
        y, x = strange[0]
        raise ValueError(
            f"The colour {tuple(int(v) for v in rgb[y, x, :3])} at row {y}, column {x} is not in the palette "
            f"({len(strange)} such pixels): make the labels again without resizing, smoothing or JPEG."
        )
    return found.astype(np.uint8)


def legend(labels: Sequence[int], names: Sequence[str], palette: np.ndarray) -> Image.Image:
    """Return a column of colour swatches and class names, one a label, as an RGB image."""
    texts = ["void" if label == VOID else names[label] for label in labels]
    height = 2 * _MARGIN + _LINE * max(1, len(texts))
    width = 3 * _MARGIN + _SWATCH + max([_text_width(text) for text in texts], default=0)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for i, (label, text) in enumerate(zip(labels, texts, strict=True)):
        color = color_seg(np.full((1, 1), label, np.uint8), palette)[0, 0]
        y = _MARGIN + i * _LINE
        box = (_MARGIN, y, _MARGIN + _SWATCH, y + _SWATCH)
        draw.rectangle(box, fill=tuple(int(v) for v in color), outline="black")
        draw.text((2 * _MARGIN + _SWATCH, y + 1), text, fill="black", font=ImageFont.load_default())
    return image


def overlay(
    img: np.ndarray, seg: np.ndarray, names: Sequence[str], palette: np.ndarray, alpha: float = 0.5
) -> Image.Image:
    """Return `vis_seg`'s picture with, at its right, the legend of the classes in it (background aside)."""
    present = [int(label) for label in np.unique(seg) if label not in (0, VOID)]
    pictures = [Image.fromarray(vis_seg(img, seg, palette, alpha))]
    if present:
        pictures.append(legend(present, names, palette))
    return side_by_side(pictures)


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return where a prediction is right, wrong, or not judged (void truth): H x W x 3 RGB, uint8."""
    truth, prediction = _label_map(truth), _label_map(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(f"The truth is {truth.shape}, but the prediction {prediction.shape}.")
    picture = np.empty((*truth.shape, 3), np.uint8)
    picture[...] = WRONG
    picture[truth == prediction] = RIGHT
    picture[truth == VOID] = UNJUDGED
    return picture


def panel(
    img: np.ndarray,
    truth: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    palette: np.ndarray,
    errors: bool = False,
) -> Image.Image:
    """Return image, predictions and truth side by side, captioned, as the paper's figures 4 and 6 do.

    predictions: caption -> label map, in order from left to right. errors: each prediction is followed by its
    error map. The truth comes last.
    """
    pictures = {"image": Image.fromarray(np.asarray(img))}
    for caption, prediction in predictions.items():
        pictures[caption] = Image.fromarray(color_seg(prediction, palette))
        if errors:
            pictures[f"{caption}: errors"] = Image.fromarray(error_map(truth, prediction))
    pictures["ground truth"] = Image.fromarray(color_seg(truth, palette))
    return side_by_side(list(pictures.values()), list(pictures))


def side_by_side(pictures: Sequence[Image.Image], captions: Sequence[str] = ()) -> Image.Image:
    """Return pictures in one row on white, each under its caption if there are any, as an RGB image."""
    if captions and len(captions) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures, but {len(captions)} captions.")
    head = _LINE if captions else 0
    widths = [
        max(picture.width, _text_width(caption))
        for picture, caption in zip(pictures, captions or [""] * len(pictures), strict=True)
    ]
    gaps = _MARGIN * (len(pictures) - 1)
    row = Image.new("RGB", (sum(widths) + gaps, head + max(p.height for p in pictures)), "white")
    draw = ImageDraw.Draw(row)
    x = 0
    for i, (picture, width) in enumerate(zip(pictures, widths, strict=True)):
        row.paste(picture.convert("RGB"), (x, head))
        if captions:
            draw.text((x, 2), captions[i], fill="black", font=ImageFont.load_default())
        x += width + _MARGIN
    return row


def _label_map(seg: np.ndarray) -> np.ndarray:
    """Return labels of any integer type as H x W, uint8; raise ValueError for what cannot be labels."""
    seg = np.asarray(seg)
    if seg.ndim != 2:
        raise ValueError(f"A label map has two dimensions, height and width, not the shape {seg.shape}.")
    if seg.size and not (seg.min() >= 0 and seg.max() <= VOID):
        raise ValueError(f"Labels are 0 to 255, not {seg.min()} to {seg.max()}.")
    return np.ascontiguousarray(seg, dtype=np.uint8)


def _text_width(text: str) -> int:
    return int(np.ceil(ImageFont.load_default().getlength(text))) if text else 0
