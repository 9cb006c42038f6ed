"""The data layers: one image and its labels a pass, read from a dataset's own folders.

A prototxt names a layer and gives it a Python dict as its param_str:

    python_param {
      module: "layers"
      layer: "VOCSegDataLayer"
      param_str: "{'voc_dir': '../data/pascal/VOC2011', 'split': 'seg11valid', 'mean': (104.007, 116.669, 122.679)}"
    }

The tops are the image, 1 x 3 x H x W, BGR minus the mean, and its labels, 1 x 1 x H x W, where 255 is void; SIFT
Flow has two of labels, and NYUDv2's are chosen by param_str. Every image has a size of its own, so the net reshapes
at each pass, and a batch is one image. seg_data_layer.SegDataLayer has the settings that all share.

Paths are relative to the folder that the program runs in, as in the reference. Where the environment variable
FCN_DATA is set, a path that begins with ../data or ../../data is looked for there instead: with FCN_DATA=/big/disk,
../data/pascal/VOC2011 is /big/disk/pascal/VOC2011. The programs here run from any folder, and take --data DIR: they
give Caffe nets whose paths are absolute (reading/data_layers.py).

A new dataset is a class derived from SegDataLayer that says where its files are and how a label is read.
What cannot be read is an error with its path: FileNotFoundError if it is missing, ValueError if it is damaged
or of a kind that cannot be learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reading import context_classes
from reading.folder_files import find_images, find_labels
from reading.image_files import (
    data_path,
    network_input,
    read_ids,
    read_image,
    read_index_image,
    read_log_depth,
)
from reading.label_layers import ClassTargetsLayer, LossSamplingLayer
from reading.mat_files import read_mat_labels, read_sbd_label
from reading.param_str import Setting, is_count, is_name
from reading.seg_data_layer import SegDataLayer
from vis import VOID

# What prototxts name, and what programs take from here.
__all__ = [
    "ClassTargetsLayer",
    "FolderSegDataLayer",
    "LossSamplingLayer",
    "NYUDSegDataLayer",
    "PASCALContextSegDataLayer",
    "SBDDSegDataLayer",
    "SIFTFlowSegDataLayer",
    "SegDataLayer",
    "VOCSegDataLayer",
    "data_path",
    "network_input",
    "read_image",
]


def _fetch(names: str) -> str:
    return f"run `python -m datasets fetch {names}` in the repository"


class VOCSegDataLayer(SegDataLayer):
    """PASCAL VOC's layout: JPEGImages/ID.jpg, SegmentationClass/ID.png, ImageSets/Segmentation/SPLIT.txt.

    A label's palette index is the class, 0 the background, and 255 void. voc_dir is the folder VOC2011.
    """

    folder_key = "voc_dir"
    # The list seg11valid is VOC 2011's val without SBD's train.
    source = f"{_fetch('voc2011 sbd')}, which also makes the list seg11valid"

    def configure(self, params: Mapping[str, Any]) -> None:
        """Say how to get the year that the folder is of."""
        if self.folder.name in ("VOC2010", "VOC2012"):
            self.source = _fetch(self.folder.name.lower())

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
    source = _fetch("sbd")

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


class NYUDSegDataLayer(SegDataLayer):
    """NYUDv2, 40 classes: images, their depth and its HHA encoding, whichever tops are asked for.

    The layout: data/images, data/depth and data/hha, each with img_ID.png, segmentation/img_ID.mat, SPLIT.txt. A list
    trainval that is missing is that of train and then val. The tops are those that `tops` names, in its order:

    color   1 x 3 x H x W, BGR minus `mean`
    depth   1 x 1 x H x W, the natural logarithm of the file's value minus its mean, which `scale` does not multiply;
            a depth of 0, where nothing was measured, is an error
    hha     1 x 3 x H x W, horizontal disparity, height and angle, in this order, minus their means
    label   1 x 1 x H x W, 0 to 39; the file's 0, no class, is 255
    """

    folder_key = "nyud_dir"
    source = _fetch("nyud")
    default_mean = (116.190, 97.203, 92.318)
    has_background = False

    HHA_MEAN = (132.431, 94.076, 118.477)
    LOG_DEPTH_MEAN = 7.844
    TOPS = ("color", "depth", "hha", "label")
    CLASSES = 40

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return what param_str may hold: tops, beside what all have."""

        def is_choice(value: Any) -> bool:
            if not isinstance(value, (list, tuple)) or not all(name in cls.TOPS for name in value):
                return False
            return len(value) == len(set(value)) > 0

        kind = f"a list of some of {', '.join(map(repr, cls.TOPS))}, each once"
        return {**super().settings(), "tops": Setting(is_choice, kind)}

    def configure(self, params: Mapping[str, Any]) -> None:
        """Take the tops that are asked for."""
        self.top_names = tuple(params["tops"])

    def split_file(self) -> Path:
        """Return SPLIT.txt."""
        return self.folder / f"{self.split}.txt"

    def read_split(self) -> list[str]:
        """Return the split's ids; where trainval has no list, train's and val's."""
        parts = [self.folder / "train.txt", self.folder / "val.txt"]
        if self.split == "trainval" and not self.split_file().exists() and all(part.exists() for part in parts):
            return [image_id for part in parts for image_id in read_ids(part)]
        return super().read_split()

    def image_file(self, image_id: str) -> Path:
        """Return data/images/img_ID.png, whatever the tops are."""
        return self.folder / "data" / "images" / f"img_{image_id}.png"

    def label_file(self, image_id: str) -> Path:
        """Return segmentation/img_ID.mat."""
        return self.folder / "segmentation" / f"img_{image_id}.mat"

    def top_file(self, name: str, image_id: str) -> Path:
        """Return the file of color, depth, hha or label."""
        if name in ("depth", "hha"):
            return self.folder / "data" / name / f"img_{image_id}.png"
        return super().top_file(name, image_id)

    def read_top(self, name: str, path: Path) -> np.ndarray:
        """Return what color, depth, hha or label holds."""
        if name == "depth":
            return read_log_depth(path)[np.newaxis] - np.float32(self.LOG_DEPTH_MEAN)
        if name == "hha":
            # The channels stay in the file's order: what network_input turns round is turned before.
            return network_input(np.asarray(read_image(path))[:, :, ::-1], self.HHA_MEAN, self.scale)
        return super().read_top(name, path)

    def read_label(self, path: Path) -> np.ndarray:
        """Return the variable segmentation, its 1 to 40 as 0 to 39, its 0 as void."""
        return _from_one(read_mat_labels(path, "segmentation", 0, self.CLASSES))


class SIFTFlowSegDataLayer(SegDataLayer):
    """SIFT Flow, 33 semantic and 3 geometric classes: the tops data, sem and geo.

    The layout: Images, SemanticLabels and GeoLabels, each with the folder below, in which are ID.jpg and ID.mat;
    SPLIT.txt. In the files 1 is the first class; 0, of the geometric labels also -1, is void.
    """

    folder_key = "siftflow_dir"
    source = _fetch("siftflow")
    top_names = ("data", "sem", "geo")
    label_names = frozenset({"sem", "geo"})
    default_mean = (114.578, 115.294, 108.353)
    has_background = False

    FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"
    CLASSES = 33
    GEOMETRIC_CLASSES = 3

    def split_file(self) -> Path:
        """Return SPLIT.txt."""
        return self.folder / f"{self.split}.txt"

    def image_file(self, image_id: str) -> Path:
        """Return Images/.../ID.jpg."""
        return self.folder / "Images" / self.FOLDER / f"{image_id}.jpg"

    def label_file(self, image_id: str) -> Path:
        """Return SemanticLabels/.../ID.mat."""
        return self.folder / "SemanticLabels" / self.FOLDER / f"{image_id}.mat"

    def top_file(self, name: str, image_id: str) -> Path:
        """Return the file of data, sem or geo."""
        if name == "geo":
            return self.folder / "GeoLabels" / self.FOLDER / f"{image_id}.mat"
        return super().top_file(name, image_id)

    def read_top(self, name: str, path: Path) -> np.ndarray:
        """Return what data, sem or geo holds."""
        if name == "geo":
            geometric = read_mat_labels(path, "S", -1, self.GEOMETRIC_CLASSES)
            return _from_one(geometric.clip(min=0))[np.newaxis]
        return super().read_top(name, path)

    def read_label(self, path: Path) -> np.ndarray:
        """Return the semantic labels, the variable S, its 1 to 33 as 0 to 32, its 0 as void."""
        return _from_one(read_mat_labels(path, "S", 0, self.CLASSES))


class PASCALContextSegDataLayer(SegDataLayer):
    """PASCAL-Context, labels of VOC 2010's images: the classes of a task, and background for all else.

    voc_dir is the folder that has VOC2010 in it, with JPEGImages/ID.jpg and ImageSets/Main/SPLIT.txt. context_dir
    has the labels, the variable LabelMap of trainval/ID.mat, whose numbers labels.txt names, and the list of the
    task's classes (`classes`, by default 59_labels.txt; see context_classes). There is no void: class 0, background,
    is learned and scored as the others are. class_names has the names, in the order of the net's outputs.
    """

    folder_key = "voc_dir"
    other_folder_keys = ("context_dir",)
    source = _fetch("voc2010 pascal-context")
    default_mean = (104.007, 116.669, 122.679)

    class_names: tuple[str, ...]

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return what param_str may hold: context_dir and classes, beside what all have."""
        return {
            **super().settings(),
            "context_dir": Setting(is_name, "the folder of the annotations"),
            "classes": Setting(is_name, "the name of a list of classes in context_dir", context_classes.SHIPPED),
        }

    def configure(self, params: Mapping[str, Any]) -> None:
        """Read the classes of the task and how the dataset numbers them."""
        self.folder = self.folder / "VOC2010"
        self.context_folder = data_path(params["context_dir"])
        everything = self.context_folder / "labels.txt"
        names = self.read(context_classes.read_names, everything, "the list of all labels")
        self.class_names, self._table = self.read(
            lambda path: context_classes.read_task(path, names, everything),
            self.context_folder / params["classes"],
            "the list of the task's classes",
        )

    def split_file(self) -> Path:
        """Return ImageSets/Main/SPLIT.txt."""
        return self.folder / "ImageSets" / "Main" / f"{self.split}.txt"

    def image_file(self, image_id: str) -> Path:
        """Return JPEGImages/ID.jpg."""
        return self.folder / "JPEGImages" / f"{image_id}.jpg"

    def label_file(self, image_id: str) -> Path:
        """Return trainval/ID.mat."""
        return self.context_folder / "trainval" / f"{image_id}.mat"

    def read_label(self, path: Path) -> np.ndarray:
        """Return the task's classes, from the variable LabelMap."""
        return self._table[read_mat_labels(path, "LabelMap", 0, len(self._table) - 1)]


class FolderSegDataLayer(SegDataLayer):
    """A folder of one's own: images/ID.jpg (or .png, ...), labels/ID.png, SPLIT.txt with an ID a line.

    A label's pixels are its classes' indices, 0 to classes - 1, and 255 void; class 0 is what masks take for the
    background. That every ID of the list has one image and a label is checked before the first pass; what the label
    holds, as it is read.
    """

    folder_key = "folder"

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return what param_str may hold: classes, beside what all have."""
        few = Setting(lambda value: is_count(value) and 0 < value < 256, "the number of classes, 1 to 255")
        return {**super().settings(), "classes": few}

    def configure(self, params: Mapping[str, Any]) -> None:
        """Take the number of classes."""
        self.classes = params["classes"]

    def read_split(self) -> list[str]:
        """Return the split's ids, of each of which there are an image and a label."""
        ids = super().read_split()
        self._images = find_images(self.folder / "images", ids, self.split_file())
        self._labels = find_labels(self.folder / "labels", ids, self.split_file())
        return ids

    def split_file(self) -> Path:
        """Return SPLIT.txt."""
        return self.folder / f"{self.split}.txt"

    def image_file(self, image_id: str) -> Path:
        """Return images/ID with the suffix that it has."""
        return self._images[image_id]

    def label_file(self, image_id: str) -> Path:
        """Return labels/ID.png."""
        return self._labels[image_id]

    def read_label(self, path: Path) -> np.ndarray:
        """Return an index image's labels."""
        labels = read_index_image(path)
        beyond = labels[(labels >= self.classes) & (labels != VOID)]
        if beyond.size:
            raise ValueError(
                f"{path} has the label {beyond.max()} ({beyond.size} of {labels.size} pixels are so large), but there "
                f"are {self.classes} classes: expected 0 to {self.classes - 1}, and 255 for void. Number the classes "
                "from 0, or give the right number of them as 'classes' and to the net's score layers. If the pixels "
                "are shades or colours for the eye, vis.labels_from_colors and vis.save_labels make labels of them."
            )
        return labels


def _from_one(labels: np.ndarray) -> np.ndarray:
    """Return labels that count from 1, 0 being no class, as labels that count from 0, with void for no class."""
    return np.where(labels == 0, VOID, labels - 1).astype(np.uint8)
