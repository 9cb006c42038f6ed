"""The data layers: one image and its labels a pass, read from a dataset's own folders.

A prototxt names a layer and gives it a Python dict as its param_str:

    python_param {
      module: "layers"
      layer: "VOCSegDataLayer"
      param_str: "{'voc_dir': '../data/VOC2011', 'split': 'seg11valid', 'mean': (104.007, 116.669, 122.679)}"
    }

The two tops are the image, 1 x 3 x H x W, BGR minus the mean, and its labels, 1 x 1 x H x W, where 255 is
void. Every image has a size of its own, so the net reshapes at each pass, and a batch is one image.

Paths are relative to the folder that the program runs in, as in the reference. Where the environment variable
FCN_DATA is set (`--data DIR` sets it), a path that begins with ../data or ../../data is looked for there
instead: with FCN_DATA=/big/disk, ../data/VOC2011 is /big/disk/VOC2011.

A new dataset is a class derived from SegDataLayer that says where its files are and how a label is read.
What cannot be read is an error with its path: FileNotFoundError if it is missing, ValueError if it is damaged
or of a kind that cannot be learned from.
"""

from __future__ import annotations

import ast
import difflib
import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import scipy.io
from PIL import Image

import caffe

Read = TypeVar("Read")
# What a layer is given as bottom and top: blobs to index, of a class that pycaffe does not name.
Blobs = Sequence[Any]

# How to get the generated dataset, which both layouts below hold.
_SHAPES = "run `python -m datasets make shapes` in the repository"

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


class SegDataLayer(caffe.Layer):
    """What the data layers share: param_str, the order of images, image and label brought to the tops.

    A dataset gives folder_key, source, split_file, image_file, label_file and read_label; one that has other
    tops than image and label gives top_names and load.

    The keys of param_str: the dataset's folder (folder_key); split, the list of images to read; mean, for
    blue, green and red; randomize (True) and seed (None), see ImageOrder; scale (1), by which pixels are
    multiplied once the mean is subtracted. The last is ours, the others are the reference's.
    """

    # Lets the engine run this layer ahead on a thread, in the same order; BVLC Caffe pays no attention to it.
    prefetch = True

    # The key of param_str that holds the dataset's folder, and how to get what is missing in that {folder}.
    folder_key = ""
    source = ""
    top_names: tuple[str, ...] = ("data", "label")

    folder: Path
    split: str
    ids: list[str]
    order: ImageOrder
    # The image that the last forward gave, None before the first.
    current_id: str | None

    def split_file(self) -> Path:
        """Return the text file that lists the split's image ids, one a line."""
        raise NotImplementedError

    def image_file(self, image_id: str) -> Path:
        """Return the path of an image."""
        raise NotImplementedError

    def label_file(self, image_id: str) -> Path:
        """Return the path of an image's labels."""
        raise NotImplementedError

    def read_label(self, path: Path) -> np.ndarray:
        """Return the labels in a file, H x W, uint8, with 255 for void."""
        raise NotImplementedError

    # What Caffe calls

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        """Read the settings and the list of images, and pick the first image."""
        if len(top) != len(self.top_names) or len(bottom) != 0:
            raise ValueError(
                f"{type(self).__name__} has {len(self.top_names)} tops ({', '.join(self.top_names)}) and no "
                f"bottom; the prototxt gives it {len(top)} and {len(bottom)}."
            )
        params = parse_param_str(self.param_str, self.folder_key)
        self.folder = data_path(params[self.folder_key])
        self.split = params["split"]
        self.mean = params["mean"]
        self.scale = params["scale"]
        self.ids = self._read(read_ids, self.split_file(), f"the list of the split '{self.split}'")
        # Evaluation goes through a list in its order, whatever the prototxt says.
        shuffle = params["randomize"] and "train" in self.split
        # Of several solvers each trains on images of its own; only the root has test nets.
        training = self.phase == caffe.TRAIN
        rank, ranks = (caffe.solver_rank(), caffe.solver_count()) if training else (0, 1)
        self.order = ImageOrder(len(self.ids), shuffle, params["seed"], rank, ranks)
        self.current_id = None
        self._loaded: tuple[int, tuple[np.ndarray, ...]] | None = None

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Load the image whose turn it is and give the tops its size."""
        if self._loaded is None or self._loaded[0] != self.order.index:
            self._loaded = (self.order.index, self.load(self.ids[self.order.index]))
        for i, values in enumerate(self._loaded[1]):
            top[i].reshape(1, *values.shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Copy image and labels to the tops and pick the next image."""
        assert self._loaded is not None
        index, loaded = self._loaded
        for i, values in enumerate(loaded):
            top[i].data[...] = values
        self.current_id = self.ids[index]
        self.order.advance()

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """Do nothing: there is nothing below data."""

    # Where the layer is in its list

    def state(self) -> dict[str, Any]:
        """Return what it takes to go on after the last forward, as JSON can hold it.

        image is the id of the last image that forward gave. A program that runs the layer ahead keeps, with
        each image, the state that followed it: what to save is the state of the last image consumed.
        """
        return {"split": self.split, "image": self.current_id, **self.order.state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state` returned; the next image is the one that would have followed.

        Raises ValueError where the state is of another split, list or order than this layer's.
        """
        missing = [key for key in self.state() if key not in state]
        if missing:
            raise ValueError(f"The saved position of {type(self).__name__} lacks {', '.join(missing)}.")
        if state["split"] != self.split:
            raise ValueError(
                f"The saved position is in the split '{state['split']}', but {type(self).__name__} reads "
                f"'{self.split}'."
            )
        self.order.restore(state)
        self.current_id = state["image"]

    def load(self, image_id: str) -> tuple[np.ndarray, ...]:
        """Return what the tops hold for an image: data, 3 x H x W, float32, and labels, 1 x H x W, uint8.

        Raises FileNotFoundError and ValueError for files that are missing, damaged or do not fit each other.
        """
        image_file, label_file = self.image_file(image_id), self.label_file(image_id)
        image = self._read(read_image, image_file, f"image {image_id} of the split '{self.split}'")
        label = self._read(self.read_label, label_file, f"the label of image {image_id}")
        if image.size != label.shape[::-1]:
            raise ValueError(_sizes_differ(image_file, image.size, label_file, label.shape[::-1]))
        return network_input(np.asarray(image), self.mean, self.scale), label[np.newaxis]

    def _read(self, reader: Callable[[Path], Read], path: Path, what: str) -> Read:
        try:
            return reader(path)
        except FileNotFoundError:
            source = _SHAPES if "shapes" in self.folder.parts else self.source
            raise FileNotFoundError(
                f"{what[0].upper()}{what[1:]} is missing: there is no {os.path.abspath(path)}."
                f"{self._splits_there(path)} If the data is elsewhere, name its folder with --data (or FCN_DATA). "
                f"To get it: {source.format(folder=os.path.abspath(self.folder))}."
            ) from None

    def _splits_there(self, path: Path) -> str:
        """Return the sentence that names the splits there are, where `path` is the list of one that is not."""
        splits = sorted(p.stem for p in path.parent.glob("*.txt")) if path == self.split_file() else []
        return f" The folder has the splits {', '.join(splits)}." if splits else ""


class VOCSegDataLayer(SegDataLayer):
    """PASCAL VOC's layout: JPEGImages/ID.jpg, SegmentationClass/ID.png, ImageSets/Segmentation/SPLIT.txt.

    A label's palette index is the class, 0 the background, and 255 void. voc_dir is the folder VOC2011.
    """

    folder_key = "voc_dir"
    source = (
        "curl -O http://host.robots.ox.ac.uk/pascal/VOC/voc2011/VOCtrainval_25-May-2011.tar; the archive's "
        "VOCdevkit/VOC2011 becomes {folder}. In its ImageSets/Segmentation, the list seg11valid is VOC's val "
        "without SBD's train: grep -vxFf SBD/train.txt val.txt > seg11valid.txt"
    )

    def split_file(self) -> Path:
        """Return ImageSets/Segmentation/SPLIT.txt."""
        return self.folder / "ImageSets" / "Segmentation" / f"{self.split}.txt"

    def image_file(self, image_id: str) -> Path:
        """Return JPEGImages/ID.jpg."""
        return self.folder / "JPEGImages" / f"{image_id}.jpg"

    def label_file(self, image_id: str) -> Path:
        """Return SegmentationClass/ID.png."""
        return self.folder / "SegmentationClass" / f"{image_id}.png"

    def read_label(self, path: Path) -> np.ndarray:
        """Return a palette PNG's indices."""
        return read_index_image(path)


class SBDDSegDataLayer(SegDataLayer):
    """The Semantic Boundaries Dataset's layout: img/ID.jpg, cls/ID.mat, SPLIT.txt.

    A label is GTcls.Segmentation of the .mat file: VOC's classes, and here and there 255, void. sbdd_dir is the
    folder that SBD calls dataset.
    """

    folder_key = "sbdd_dir"
    source = (
        "curl -O http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
        "benchmark.tgz; the archive's benchmark_RELEASE/dataset becomes {folder}"
    )

    def split_file(self) -> Path:
        """Return SPLIT.txt."""
        return self.folder / f"{self.split}.txt"

    def image_file(self, image_id: str) -> Path:
        """Return img/ID.jpg."""
        return self.folder / "img" / f"{image_id}.jpg"

    def label_file(self, image_id: str) -> Path:
        """Return cls/ID.mat."""
        return self.folder / "cls" / f"{image_id}.mat"

    def read_label(self, path: Path) -> np.ndarray:
        """Return GTcls.Segmentation."""
        return read_sbd_label(path)


class ImageOrder:
    """The order in which a list's images come.

    shuffle False: the list's own, round and round. True: each drawn from all, with replacement, exactly as
    `random.seed(seed)` and one `random.randint(0, count - 1)` an image would draw, but from a generator that
    nothing else draws from. With no seed, one is taken from the system, and kept in the state.

    Of several solvers that train together, rank r of n takes images r, r + n, r + 2n, ... of that order.
    """

    def __init__(self, count: int, shuffle: bool, seed: int | None, rank: int = 0, ranks: int = 1) -> None:
        self.count = count
        self.rank, self.ranks = rank, ranks
        self.seed = (random.SystemRandom().getrandbits(32) if seed is None else seed) if shuffle else None
        self._start()

    def _start(self) -> None:
        self._random = random.Random(self.seed)
        self.draws = 0
        # The image whose turn it is, as an index into the list.
        self.index = self.rank % self.count
        if self.seed is not None:
            for _ in range(self.rank + 1):
                self._draw()

    def _draw(self) -> None:
        self.index = self._random.randint(0, self.count - 1)
        self.draws += 1

    def advance(self) -> None:
        """Go on to the next image."""
        if self.seed is None:
            self.index = (self.index + self.ranks) % self.count
        else:
            for _ in range(self.ranks):
                self._draw()

    def state(self) -> dict[str, int | None]:
        """Return the position as JSON can hold it: the seed and how often it has been drawn from."""
        return {"images": self.count, "seed": self.seed, "draws": self.draws, "next": self.index}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state` returned, by drawing again; raise ValueError if it cannot be one."""
        if state["images"] != self.count or (state["seed"] is None) != (self.seed is None):
            raise ValueError(
                f"The saved position is in a list of {state['images']} images, "
                f"{'in order' if state['seed'] is None else 'shuffled'}, but this list has {self.count}, "
                f"{'in order' if self.seed is None else 'shuffled'}: use the list that the run began with."
            )
        self.seed = state["seed"]
        self._start()
        if self.seed is None:
            self.index = state["next"] % self.count
            return
        while self.draws < state["draws"]:
            self._draw()
        if self.index != state["next"]:
            raise ValueError(
                f"The saved position does not agree with itself: draw {self.draws} from the seed {self.seed} "
                f"is image {self.index}, not {state['next']}."
            )


# Settings


def data_path(path: str) -> Path:
    """Return where a path of a param_str is: under FCN_DATA if that is set and the path is in ../data."""
    root = os.environ.get("FCN_DATA")
    parts = PurePosixPath(path).parts
    up = sum(part == ".." for part in parts)
    if root and up and parts[: up + 1] == ("..",) * up + ("data",):
        return Path(root, *parts[up + 1 :])
    return Path(path).expanduser()


def parse_param_str(text: str, folder_key: str) -> dict[str, Any]:
    """Return the settings in a data layer's param_str, checked, with the defaults filled in.

    The text is read as a Python literal and never evaluated. Raises ValueError for what is no dict, and for
    keys that are missing, unknown or of a wrong kind.
    """
    required = (folder_key, "split", "mean")
    legal = (*required, "randomize", "seed", "scale")
    try:
        given = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"param_str is not a Python literal ({error}): expected a dict such as {{'{folder_key}': "
            f"'../data/...', 'split': 'train', 'mean': (104, 117, 123)}}, found {text[:200]!r}."
        ) from None
    if not isinstance(given, dict):
        raise ValueError(f"param_str is a {type(given).__name__}, expected a dict: {text[:200]!r}.")
    for key in given:
        if key not in legal:
            near = difflib.get_close_matches(str(key), legal, 1)
            raise ValueError(
                f"param_str has the unknown key {key!r}{f'; did you mean {near[0]!r}?' if near else '.'} "
                f"The legal keys are {', '.join(legal)}."
            )
    missing = [key for key in required if key not in given]
    if missing:
        raise ValueError(
            f"param_str lacks {', '.join(map(repr, missing))}. The legal keys are {', '.join(legal)}; "
            f"{', '.join(required)} must be there."
        )
    params = {"randomize": True, "seed": None, "scale": 1.0, **given}
    wanted: dict[str, tuple[bool, str]] = {
        folder_key: (_is_name(params[folder_key]), "the dataset's folder"),
        "split": (_is_name(params["split"]), "the name of a list of images"),
        "mean": (_is_color(params["mean"]), "three numbers: blue, green, red"),
        "randomize": (params["randomize"] in (True, False), "True or False"),
        "seed": (params["seed"] is None or type(params["seed"]) is int, "a whole number or None"),
        "scale": (_is_number(params["scale"]) and params["scale"] != 0, "a number other than 0"),
    }
    for key, (right, kind) in wanted.items():
        if not right:
            raise ValueError(f"param_str's {key!r} is {params[key]!r}, expected {kind}.")
    return params


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_color(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 3 and all(map(_is_number, value))


# Files


def read_ids(path: Path) -> list[str]:
    """Return the image ids that a split's file lists, one a line; blank lines do not count."""
    try:
        ids = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of image ids: {error}.") from None
    if not ids:
        raise ValueError(f"{path} is empty: expected image ids, one a line.")
    return ids


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


def read_sbd_label(path: Path) -> np.ndarray:
    """Return GTcls.Segmentation of an SBD .mat file: H x W, uint8.

    Raises FileNotFoundError, and ValueError for a file that is damaged or holds something else.
    """
    try:
        stored = scipy.io.loadmat(path, appendmat=False, variable_names=["GTcls"])
    except FileNotFoundError:
        raise
    except Exception as error:  # A damaged file shows as nearly any exception in scipy's reader.
        raise ValueError(f"{path} cannot be read as a MATLAB file: {error}. Fetch it again.") from None
    try:
        labels = np.asarray(stored["GTcls"][0]["Segmentation"][0])
    except (KeyError, IndexError, ValueError, TypeError):
        raise ValueError(f"{path} has no GTcls.Segmentation: expected a label file of SBD's folder cls.") from None
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "uif":
        raise ValueError(f"{path}: GTcls.Segmentation is {labels.shape} {labels.dtype}, expected H x W labels.")
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"{path} has labels from {labels.min()} to {labels.max()}: expected 0 to 255.")
    return labels.astype(np.uint8)


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


def _sizes_differ(image_file: Path, image: tuple[int, int], label_file: Path, label: tuple[int, ...]) -> str:
    """Return the sentence for an image and a label of different sizes, given as (width, height)."""
    text = (
        f"{image_file} is {image[0]} x {image[1]} pixels (width x height), but its label {label_file} is "
        f"{label[0]} x {label[1]}."
    )
    with Image.open(image_file) as stored:
        turned = stored.size != image
    if turned and label == image[::-1]:
        text += (
            " The image's EXIF data says that it is to be shown turned by a quarter, and the label fits it "
            "unturned: turn the label too, or remove the orientation from the image."
        )
    return text
