"""What the generated set holds in each layout: which files, which lists, and how one image of it is drawn.

Split "train" is what is trained on and "val" what is scored, whatever a layout's own lists call them.
"""

from __future__ import annotations

import hashlib
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

import vis
from datasets import landscapes, rooms, scenes
from datasets.layouts import OUTDOOR, write_context, write_nyud, write_sbd, write_sift_flow, write_voc

TRAIN, VAL = "train", "val"


class Layout(ABC):
    """One layout of the generated set, in a folder of the shape that data/ has."""

    manifest: str
    """The file that says that the layout is there, whole."""
    trees: tuple[str, ...]
    """The folders that are this layout's and no other's."""
    classes: str
    """The classes' key in vis.CLASSES."""
    # Unless the user says otherwise: how many images of each split there are, and their longer side in pixels.
    train = 120
    val = 24
    size = 160

    @abstractmethod
    def ident(self, split: str, index: int) -> str:
        """The id of an image: it does not depend on how many there are."""

    @abstractmethod
    def lists(self, train: Sequence[str], val: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """The text files and their lines, given the ids of the images."""

    @abstractmethod
    def files(self, split: str, index: int) -> Sequence[str]:
        """The files of an image."""

    @abstractmethod
    def draw(self, root: Path, rng: np.random.Generator, split: str, index: int, size: int) -> bytes:
        """Draw an image and write its files; returns the SHA-256 of its labels' bytes."""


class Voc(Layout):
    """VOC 2011 and SBD: one set, trained on in SBD's layout and scored in VOC's.

    VOC's own training list and SBD's validation list are short ones: the first of the images, once more. Unlike SBD's
    own, the labels in SBD's layout have void borders (255), as VOC's have.
    """

    manifest = "shapes.json"
    trees = ("sbdd", "pascal/VOC2011")
    classes = "shapes"
    train = 1200
    val = 200

    # How many images of the other layout a layout holds, at most.
    shared = 100

    sbd = "sbdd/dataset"
    voc = "pascal/VOC2011"

    def ident(self, split: str, index: int) -> str:
        """train_00000, ..."""
        return f"{split}_{index:05d}"

    def lists(self, train: Sequence[str], val: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """seg11valid is all of val, as the validation images are none of SBD's training images."""
        segmentation = f"{self.voc}/ImageSets/Segmentation"
        return {
            f"{self.sbd}/train.txt": train,
            f"{self.sbd}/val.txt": val[: self.shared],
            f"{segmentation}/train.txt": train[: self.shared],
            f"{segmentation}/val.txt": val,
            f"{segmentation}/seg11valid.txt": val,
        }

    def files(self, split: str, index: int) -> Sequence[str]:
        """In SBD's layout, in VOC's, or in both."""
        ident = self.ident(split, index)
        files = []
        if self._in_sbd(split, index):
            files += [f"{self.sbd}/img/{ident}.jpg", f"{self.sbd}/cls/{ident}.mat"]
        if self._in_voc(split, index):
            files += [f"{self.voc}/JPEGImages/{ident}.jpg", f"{self.voc}/SegmentationClass/{ident}.png"]
        return files

    def draw(self, root: Path, rng: np.random.Generator, split: str, index: int, size: int) -> bytes:
        """Objects on a background."""
        scene = scenes.draw(rng, size)
        label, ident = scene.label, self.ident(split, index)
        if self._in_sbd(split, index):
            write_sbd(root / self.sbd, ident, scene.image, label)
        if self._in_voc(split, index):
            write_voc(root / self.voc, ident, scene.image, label)
        return _digest(label)

    def _in_sbd(self, split: str, index: int) -> bool:
        return split == TRAIN or index < self.shared

    def _in_voc(self, split: str, index: int) -> bool:
        return split == VAL or index < self.shared


class Nyud(Layout):
    """NYUDv2: rooms, in colour, as depth and as HHA. Every sixth id from 5001 on is a test image's."""

    manifest = "shapes-nyud.json"
    trees = ("nyud",)
    classes = "nyud"

    def ident(self, split: str, index: int) -> str:
        """5001, ...: what the real set's are."""
        return str(5001 + index + index // 5 if split == TRAIN else 5006 + 6 * index)

    def lists(self, train: Sequence[str], val: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """trainval is train and val, half of it each; test is the rest."""
        half = (len(train) + 1) // 2
        splits = {"train": train[:half], "val": train[half:], "trainval": train, "test": val}
        return {f"nyud/{split}.txt": idents for split, idents in splits.items()}

    def files(self, split: str, index: int) -> Sequence[str]:
        """Three pictures and a label map."""
        ident = self.ident(split, index)
        pictures = [f"nyud/data/{folder}/img_{ident}.png" for folder in ("images", "depth", "hha")]
        return [*pictures, f"nyud/segmentation/img_{ident}.mat"]

    def draw(self, root: Path, rng: np.random.Generator, split: str, index: int, size: int) -> bytes:
        """A room, a third wider than high, as the real set's are about."""
        room = rooms.draw(rng, _shorter(size), size)
        write_nyud(root / "nyud", self.ident(split, index), room.image, room.depth, room.hha, room.label)
        return _digest(room.label)


class SiftFlow(Layout):
    """SIFT Flow: square outdoor scenes of its eight categories in turn, with semantic and geometric labels."""

    manifest = "shapes-siftflow.json"
    trees = ("sift-flow",)
    classes = "siftflow"
    size = 256

    def ident(self, split: str, index: int) -> str:
        """coast_train00000, ...: the category comes first, as in the real set."""
        return f"{_category(index)}_{split}{index:05d}"

    def lists(self, train: Sequence[str], val: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """The splits, and the archive's own list of the test images, which is of file names as Windows has them."""
        return {
            "sift-flow/trainval.txt": train,
            "sift-flow/test.txt": val,
            "sift-flow/TestSet1.txt": [f"{OUTDOOR}\\{ident}.jpg" for ident in val],
        }

    def files(self, split: str, index: int) -> Sequence[str]:
        """A picture and two label maps."""
        ident = self.ident(split, index)
        maps = [f"sift-flow/{folder}/{OUTDOOR}/{ident}.mat" for folder in ("SemanticLabels", "GeoLabels")]
        return [f"sift-flow/Images/{OUTDOOR}/{ident}.jpg", *maps]

    def draw(self, root: Path, rng: np.random.Generator, split: str, index: int, size: int) -> bytes:
        """A landscape."""
        scene = landscapes.draw(rng, size, size, _category(index))
        semantic, geometric = scene.semantic(), scene.geometric()
        write_sift_flow(root / "sift-flow", self.ident(split, index), scene.image, semantic, geometric)
        return _digest(semantic, geometric)


class PascalContext(Layout):
    """PASCAL-Context: outdoor scenes, wide and high in turn, in VOC 2010's layout; every pixel has one of 459 names.

    33_labels.txt is not the papers' list, which was never published with them: it is 33 of the 59 names, those that
    the scenes show and others, so that the 33-class task can be rehearsed.
    """

    manifest = "shapes-pascalcontext.json"
    trees = ("pascal/VOC2010", "pascal-context")
    classes = "pascalcontext"

    voc = "pascal/VOC2010"

    def ident(self, split: str, index: int) -> str:
        """train_00000, ..."""
        return f"{split}_{index:05d}"

    def lists(self, train: Sequence[str], val: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """VOC's lists, and the names of the labels and of the tasks' classes."""
        names = {"labels": all_names(), "59_labels": task_names(59), "33_labels": task_names(33)}
        return {
            f"{self.voc}/ImageSets/Main/train.txt": train,
            f"{self.voc}/ImageSets/Main/val.txt": val,
            **{
                f"pascal-context/{file}.txt": [f"{number}: {name}" for number, name in enumerate(listed, 1)]
                for file, listed in names.items()
            },
        }

    def files(self, split: str, index: int) -> Sequence[str]:
        """A picture and a label map."""
        ident = self.ident(split, index)
        return [f"{self.voc}/JPEGImages/{ident}.jpg", f"pascal-context/trainval/{ident}.mat"]

    def draw(self, root: Path, rng: np.random.Generator, split: str, index: int, size: int) -> bytes:
        """A landscape, upright every other time."""
        height, width = (size, _shorter(size)) if index % 2 else (_shorter(size), size)
        scene = landscapes.draw(rng, height, width, _category(index))
        label_map = scene.context({name: number for number, name in enumerate(all_names(), 1)})
        write_context(root / self.voc, root / "pascal-context", self.ident(split, index), scene.image, label_map)
        return _digest(label_map)


# By how the folders of the experiments begin that the layout is for.
LAYOUTS: dict[str, Layout] = {
    "voc": Voc(),
    "nyud": Nyud(),
    "siftflow": SiftFlow(),
    "pascalcontext": PascalContext(),
}

# The names of the 59 classes that are others among the 459.
RENAMED = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


@cache
def all_names() -> tuple[str, ...]:
    """The 459 names, in alphabetical order as the real ones.

    They are those of the 59 classes, what else the scenes show, and invented ones, with spaces in them.
    """
    real = {RENAMED.get(name, name) for name in task_names(59)}
    drawn = {landscapes.CONTEXT_NAMES.get(kind, kind) for kind in landscapes.LOOKS}
    known = real | drawn
    letters = string.ascii_lowercase
    invented = [f"{letters[i % 26]} thing {i // 26 + 1}" for i in range(459 - len(known))]
    return tuple(sorted([*known, *invented]))


@cache
def task_names(count: int) -> tuple[str, ...]:
    """The first `count` of PASCAL-Context's 59 classes in their order, of those that the scenes show and others."""
    names = vis.CLASSES["pascalcontext"][1:]
    drawn = {landscapes.CONTEXT_NAMES.get(kind, kind) for kind in landscapes.LOOKS}
    shown_first = sorted(names, key=lambda name: RENAMED.get(name, name) not in drawn)
    chosen = set(shown_first[:count])
    return tuple(name for name in names if name in chosen)


def _category(index: int) -> str:
    return tuple(landscapes.CATEGORIES)[index % len(landscapes.CATEGORIES)]


def _shorter(size: int) -> int:
    """The shorter side of an image that is not square."""
    return 3 * size // 4


def _digest(*labels: np.ndarray) -> bytes:
    return hashlib.sha256(b"".join(label.tobytes() for label in labels)).digest()
