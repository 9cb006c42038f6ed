"""What the data layers share: settings, the order of images, augmentation and masks, and the way to the tops."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import caffe
from reading import augmentation, image_files
from reading.image_order import ImageOrder
from reading.param_str import REQUIRED, Setting, is_color, is_count, is_flag, is_name, is_number, is_seed, parse
from vis import VOID

Read = TypeVar("Read")
# What a layer is given as bottom and top: blobs to index, of a class that pycaffe does not name.
Blobs = Sequence[Any]

# How to get the generated dataset, which all layouts but a user's own hold.
_SHAPES = "run `python -m datasets make shapes` in the repository"

# What a top of each name holds, for errors; the others are images.
_KINDS = {
    "label": "label",
    "depth": "depth image",
    "hha": "HHA image",
    "sem": "semantic label",
    "geo": "geometric label",
}
_MASKS = (None, augmentation.FOREGROUND, augmentation.BACKGROUND, augmentation.BOTH)


class SegDataLayer(caffe.Layer):
    """One image and its labels a pass, as blobs of batch size 1 that take the image's own size.

    A dataset gives folder_key, source, split_file, image_file, label_file and read_label. One that has other tops
    than image and label gives top_names, label_names, top_file and read_top; one with settings of its own, settings
    and configure.

    The keys of param_str: the dataset's folder (folder_key); split, the list of images to read; mean, for
    blue, green and red; randomize (True) and seed (None), see ImageOrder. These are the reference's. Ours are:

    scale (1)       pixels are multiplied by it once the mean is subtracted
    mirror (False)  TRAIN only: every other image, by chance, is flipped left to right, with its labels
    jitter (0)      TRAIN only: image and labels are moved by chance, up to so many pixels each way on both axes; what
                    is left uncovered is 0, the mean colour, and void
    mask (None)     in both phases, for the cue analysis (PAMI table 8): "foreground" or "background" hides their
                    pixels, and those of void, behind the mean colour; "both" leaves the shapes, the foreground white
                    and all else black before the mean is subtracted. The labels stay as they are

    What is drawn for an image depends on the seed and on how many images came before it, so that it is the same
    whether the layer runs ahead or not, and whether the run was resumed or not. A seed of None draws one for the
    order; where that is the list's own, mirror and jitter then draw from the seed 0.
    """

    # Lets the engine run this layer ahead on a thread, in the same order; BVLC Caffe pays no attention to it.
    prefetch = True

    # The key of param_str that holds the dataset's folder, and how to get what is missing in it.
    folder_key = ""
    source = ""
    # The keys that hold other folders of the dataset.
    other_folder_keys: tuple[str, ...] = ()
    top_names: tuple[str, ...] = ("data", "label")
    label_names = frozenset({"label"})
    # The mean where param_str gives none; where this is None, it has to.
    default_mean: tuple[float, float, float] | None = None
    # Whether class 0 is the background, without which nothing can be masked.
    has_background = True

    folder: Path
    split: str
    ids: list[str]
    order: ImageOrder
    # The image that the last forward gave, None before the first.
    current_id: str | None

    # What a dataset says of itself

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return what param_str may hold."""
        mean = REQUIRED if cls.default_mean is None else cls.default_mean
        return {
            cls.folder_key: Setting(is_name, "the dataset's folder"),
            "split": Setting(is_name, "the name of a list of images"),
            "mean": Setting(is_color, "three numbers: blue, green, red", mean),
            "randomize": Setting(is_flag, "True or False", True),
            "seed": Setting(is_seed, "a whole number or None", None),
            "scale": Setting(lambda value: is_number(value) and value != 0, "a number other than 0", 1.0),
            "mirror": Setting(is_flag, "True or False", False),
            "jitter": Setting(is_count, "a whole number of pixels, 0 or more", 0),
            "mask": Setting(lambda value: value in _MASKS, "None, 'foreground', 'background' or 'both'", None),
        }

    def configure(self, params: Mapping[str, Any]) -> None:
        """Take the dataset's own settings, checked; folder, split, mean and scale are there already."""

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

    def top_file(self, name: str, image_id: str) -> Path:
        """Return the path of what one of top_names holds."""
        return self.label_file(image_id) if name in self.label_names else self.image_file(image_id)

    def read_top(self, name: str, path: Path) -> np.ndarray:
        """Return what one of top_names holds: C x H x W, float32, or, of labels, 1 x H x W, uint8."""
        if name in self.label_names:
            return self.read_label(path)[np.newaxis]
        return image_files.network_input(np.asarray(image_files.read_image(path)), self.mean, self.scale)

    # What Caffe calls

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        """Read the settings and the list of images, and pick the first image."""
        params = parse(self.param_str, self.settings())
        self.folder = image_files.data_path(params[self.folder_key])
        self.split = params["split"]
        self.mean = params["mean"]
        self.scale = params["scale"]
        self.configure(params)
        if len(top) != len(self.top_names) or len(bottom) != 0:
            raise ValueError(
                f"{type(self).__name__} has {len(self.top_names)} tops ({', '.join(self.top_names)}) and no "
                f"bottom; the prototxt gives it {len(top)} and {len(bottom)}."
            )
        self.mask = params["mask"]
        if self.mask is not None and not self.has_background:
            raise ValueError(f"{type(self).__name__} cannot mask by 'mask': the dataset has no background class.")
        training = self.phase == caffe.TRAIN
        self.mirror = bool(params["mirror"]) and training
        self.jitter = params["jitter"] if training else 0
        self.ids = self.read_split()
        # Evaluation goes through a list in its order, whatever the prototxt says.
        shuffle = params["randomize"] and "train" in self.split
        # Of several solvers each trains on images of its own; only the root has test nets.
        rank, ranks = (caffe.solver_rank(), caffe.solver_count()) if training else (0, 1)
        self.order = ImageOrder(len(self.ids), shuffle, params["seed"], rank, ranks)
        self._seed = params["seed"] or 0
        self.current_id = None
        self._loaded: tuple[int, tuple[np.ndarray, ...]] | None = None

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Load the image whose turn it is and give the tops its size."""
        for i, values in enumerate(self._load_next()):
            top[i].reshape(1, *values.shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Copy image and labels to the tops and pick the next image."""
        loaded = self._load_next()
        if self.mirror or self.jitter:
            loaded = self._augmented(loaded)
        for i, values in enumerate(loaded):
            top[i].data[...] = values
        self.current_id = self.ids[self.order.index]
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

    # Reading

    def read_split(self) -> list[str]:
        """Return the ids of the split's images, in the list's order."""
        return self.read(image_files.read_ids, self.split_file(), f"the list of the split '{self.split}'")

    def load(self, image_id: str) -> tuple[np.ndarray, ...]:
        """Return what the tops hold for an image, masked if that is asked for, but not augmented.

        One array a top: C x H x W, float32, or, of labels, 1 x H x W, uint8. Raises FileNotFoundError and ValueError
        for files that are missing, damaged or do not fit each other.
        """
        tops = {name: self._load_top(name, image_id) for name in self.top_names}
        image = next((name for name in tops if name not in self.label_names), self.top_names[0])
        size = tops[image].shape[:0:-1]  # (width, height)
        for name, values in tops.items():
            if values.shape[:0:-1] != size:
                files = self.top_file(image, image_id), self.top_file(name, image_id)
                kind = _KINDS.get(name, "image")
                raise ValueError(image_files.sizes_differ(files[0], size, kind, files[1], values.shape[:0:-1]))
        if self.mask is not None:
            tops["data"] = self._masked(tops["data"], tops["label"][0])
        return tuple(tops.values())

    def truth(self, image_id: str, name: str = "label") -> np.ndarray:
        """Return an image's labels, H x W, uint8; name: that of the top, where there are several of labels."""
        return self._load_top(name, image_id)[0]

    def read(self, reader: Callable[[Path], Read], path: Path, what: str) -> Read:
        """Return what `reader` reads from a file; if that is missing, raise the error that says how to get it."""
        try:
            return reader(path)
        except FileNotFoundError as error:
            if error.errno is None:  # A reader's own sentence, and no system call's.
                raise
            source = _SHAPES if "shapes" in self.folder.parts else self.source
            raise FileNotFoundError(
                f"{what[0].upper()}{what[1:]} is missing: there is no {os.path.abspath(path)}."
                f"{self._splits_there(path)} If the data is elsewhere, name its folder with --data (or FCN_DATA)."
                f"{f' To get it: {source}.' if source else ''}"
            ) from None

    def _load_top(self, name: str, image_id: str) -> np.ndarray:
        of = f"image {image_id}"
        what = f"the {_KINDS[name]} of {of}" if name in _KINDS else f"{of} of the split '{self.split}'"
        return self.read(lambda path: self.read_top(name, path), self.top_file(name, image_id), what)

    def _load_next(self) -> tuple[np.ndarray, ...]:
        """Return what `load` does for the image whose turn it is."""
        if self._loaded is None or self._loaded[0] != self.order.index:
            self._loaded = (self.order.index, self.load(self.ids[self.order.index]))
        return self._loaded[1]

    def _augmented(self, loaded: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        seed = self._seed if self.order.seed is None else self.order.seed
        change = augmentation.draw_change(seed, self.order.draws, self.mirror, self.jitter)
        fills = (VOID if name in self.label_names else 0 for name in self.top_names)
        return tuple(augmentation.changed(values, change, fill) for values, fill in zip(loaded, fills, strict=True))

    def _masked(self, data: np.ndarray, label: np.ndarray) -> np.ndarray:
        if self.mask == augmentation.BOTH:
            return image_files.network_input(augmentation.shape_picture(label), self.mean, self.scale)
        return np.where(augmentation.hidden(label, self.mask), np.float32(0), data)

    def _splits_there(self, path: Path) -> str:
        """Return the sentence that names the splits there are, where `path` is the list of one that is not."""
        splits = sorted(p.stem for p in path.parent.glob("*.txt")) if path == self.split_file() else []
        return f" The folder has the splits {', '.join(splits)}." if splits else ""
