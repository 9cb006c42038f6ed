"""The splits: which list says them, how many ids each has in the papers, and those that follow from the data.

Four lists are in no archive, and follow from what is:

    VOC 2011 seg11valid    the ids of val that SBD's train does not have
    NYUDv2 trainval        train, then val
    SIFT Flow test         TestSet1.txt, as bare ids
    SIFT Flow trainval     every other image but two that nobody annotated, by name

The rules hold for a part of the data too; the counts then differ from the papers', and that is told. A list that is
there already and names other ids is left alone: somebody may have made it on purpose.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import scipy.io

from datasets import DatasetError
from datasets.places import add_data_argument
from files.writing import write_text

# The folder that each of SIFT Flow's three folders holds.
SIFTFLOW_FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"
_NOT_ANNOTATED = {"highway_bost181", "street_urb506"}

# An image's id in NYUDv2 is its index in the labelled set, from 1, plus this.
_NYUD_FIRST = 5000
_NYUD_SPLITS = ("train", "val", "trainval", "test")


@dataclass(frozen=True)
class Split:
    """One list of images that experiments use."""

    source: str
    """The name of the source that it belongs to."""
    name: str
    list: str
    """The text file of its ids, relative to the folder of data."""
    count: int
    """How many ids it has in the papers."""
    files: tuple[str, ...]
    """What each {id} needs, relative to the folder of data."""


def _voc(year: str) -> tuple[str, tuple[str, ...]]:
    folder = f"pascal/VOC{year}"
    return f"{folder}/ImageSets", (f"{folder}/JPEGImages/{{id}}.jpg", f"{folder}/SegmentationClass/{{id}}.png")


_LISTS10, (_IMAGE10, _) = _voc("2010")
_LISTS11, _FILES11 = _voc("2011")
_LISTS12, _FILES12 = _voc("2012")
_SBD = ("sbdd/dataset/img/{id}.jpg", "sbdd/dataset/cls/{id}.mat")
_CONTEXT = (_IMAGE10, "pascal-context/trainval/{id}.mat")
_NYUD = (
    *(f"nyud/data/{kind}/img_{{id}}.png" for kind in ("images", "depth", "hha")),
    "nyud/segmentation/img_{id}.mat",
)
_SIFTFLOW = tuple(
    f"sift-flow/{folder}/{SIFTFLOW_FOLDER}/{{id}}.{kind}"
    for folder, kind in (("Images", "jpg"), ("SemanticLabels", "mat"), ("GeoLabels", "mat"))
)

SPLITS = (
    Split("voc2010", "train", f"{_LISTS10}/Main/train.txt", 4998, (_IMAGE10,)),
    Split("voc2010", "val", f"{_LISTS10}/Main/val.txt", 5105, (_IMAGE10,)),
    Split("voc2011", "train", f"{_LISTS11}/Segmentation/train.txt", 1112, _FILES11),
    Split("voc2011", "val", f"{_LISTS11}/Segmentation/val.txt", 1111, _FILES11),
    Split("voc2011", "seg11valid", f"{_LISTS11}/Segmentation/seg11valid.txt", 736, _FILES11),
    Split("voc2012", "train", f"{_LISTS12}/Segmentation/train.txt", 1464, _FILES12),
    Split("voc2012", "val", f"{_LISTS12}/Segmentation/val.txt", 1449, _FILES12),
    Split("sbd", "train", "sbdd/dataset/train.txt", 8498, _SBD),
    Split("sbd", "val", "sbdd/dataset/val.txt", 2857, _SBD),
    Split("nyud", "train", "nyud/train.txt", 381, _NYUD),
    Split("nyud", "val", "nyud/val.txt", 414, _NYUD),
    Split("nyud", "trainval", "nyud/trainval.txt", 795, _NYUD),
    Split("nyud", "test", "nyud/test.txt", 654, _NYUD),
    Split("siftflow", "trainval", "sift-flow/trainval.txt", 2486, _SIFTFLOW),
    Split("siftflow", "test", "sift-flow/test.txt", 200, _SIFTFLOW),
    Split("pascal-context", "train", f"{_LISTS10}/Main/train.txt", 4998, _CONTEXT),
    Split("pascal-context", "val", f"{_LISTS10}/Main/val.txt", 5105, _CONTEXT),
)


@dataclass
class Derived:
    """What was written, and what a person should know."""

    written: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def write(self, path: Path, idents: Sequence[str]) -> None:
        """Write a list, unless it is there; one that has other ids than these is told of."""
        if path.exists():
            there = read_list(path)
            if set(there) != set(idents):
                self.warnings.append(
                    f"{path} has {len(there)} ids, the rule gives {len(idents)} others: it is left as it is. Delete it "
                    "to have it made from the data."
                )
            return
        _write(path, idents)
        self.written.append(path)


def derive(data: Path) -> Derived:
    """Write the lists that follow from the data that is there; DatasetError where one of them cannot be read."""
    derived = Derived()
    for name, folder in (("nyud", "nyud"), ("siftflow", "sift-flow")):
        if (data / folder).is_dir():
            derive_within(name, data / folder, derived)
    lists = data / _LISTS11 / "Segmentation"
    val, train = lists / "val.txt", data / "sbdd/dataset/train.txt"
    if val.exists() and train.exists():
        trained = set(read_list(train))
        derived.write(lists / "seg11valid.txt", [ident for ident in read_list(val) if ident not in trained])
    elif val.exists() and not (lists / "seg11valid.txt").exists():
        derived.warnings.append(
            f"seg11valid is VOC 2011's val without the train list of SBD, and there is no {train}: "
            "python -m datasets fetch sbd"
        )
    if (lists / "test.txt").exists():
        derived.write(lists / "seg11test.txt", read_list(lists / "test.txt"))
    return derived


def derive_within(source: str, folder: Path, derived: Derived) -> None:
    """Write the lists of NYUDv2 or SIFT Flow that follow from what is in its folder; nothing for another source."""
    if source == "nyud":
        _derive_nyud(folder, derived)
    elif source == "siftflow":
        _derive_siftflow(folder, derived)


def count_warnings(data: Path, sources: Iterable[str]) -> list[str]:
    """Return a sentence for each list of these sources that is there with another count than the papers'."""
    warnings = []
    for split in SPLITS:
        path = data / split.list
        if split.source in sources and path.exists() and (found := len(read_list(path))) != split.count:
            warnings.append(
                f"{split.source} {split.name}: {found:,} ids, {split.count:,} in the papers ({path}). With a part of "
                "the data, scores cannot be compared with the published ones."
            )
    return warnings


def table(data: Path) -> str:
    """Return the lists that are there, their counts and those of the papers, as text."""
    lines = [f"{'split':<26}{'ids':>7}{'papers':>8}  list"]
    for split in SPLITS:
        path = data / split.list
        if path.exists():
            lines.append(f"{f'{split.source} {split.name}':<26}{len(read_list(path)):>7,}{split.count:>8,}  {path}")
    return "\n".join(lines) if len(lines) > 1 else f"There is no list of a split in {data}: fetch a dataset first."


def read_list(path: Path) -> list[str]:
    """Return the ids of a list, one a line: what is before the first blank."""
    try:
        return [line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a list of ids: {error}.") from None


def _write(path: Path, idents: Iterable[str]) -> None:
    write_text(path, "".join(f"{ident}\n" for ident in idents))


# NYUDv2


def _derive_nyud(folder: Path, derived: Derived) -> None:
    """Write train.txt, val.txt and test.txt from the lists there are in any form, and trainval.txt from them."""
    found: dict[str, list[str]] = {}
    for path in [*sorted(folder.glob("*.txt")), *sorted(folder.glob("*/*.txt"))]:
        if path.stem in _NYUD_SPLITS and (idents := _nyud_ids(read_list(path))):
            found.setdefault(path.stem, idents)
    for path in sorted([*folder.glob("*.mat"), *folder.glob("benchmarkData/metadata/*.mat")]):
        for split, idents in _read_nyud_mat(path).items():
            found.setdefault(split, idents)
    if "train" in found and "val" in found:
        found["trainval"] = found["train"] + found["val"]
    for split, idents in found.items():
        path = folder / f"{split}.txt"
        if path.exists() and _nyud_ids(read_list(path)) == idents != read_list(path):
            _write(path, idents)  # the same ids in another form, such as img_5001
            derived.written.append(path)
        else:
            derived.write(path, idents)


def _nyud_ids(names: Iterable[str]) -> list[str]:
    """Return 5001 for each of img_5001, img_5001.png, 5001 and 1."""
    idents = []
    for name in names:
        digits = re.fullmatch(r"(?:img_)?(\d{1,4})(?:\.\w+)?", PurePosixPath(name).name)
        if digits:
            number = int(digits[1])
            idents.append(str(number if number > _NYUD_FIRST else number + _NYUD_FIRST))
    return idents


def _read_nyud_mat(path: Path) -> dict[str, list[str]]:
    """Return the splits in a MATLAB file: split_ids of train.mat and the like, or indices by their splits' names."""
    names = {"trn": "train", "train": "train", "val": "val", "tst": "test", "test": "test"}
    names |= {"trainNdxs": "trainval", "testNdxs": "test"}
    try:
        stored = scipy.io.loadmat(path, appendmat=False, variable_names=["split_ids", *names], squeeze_me=True)
    except Exception:  # Whatever scipy finds in it: it is no list then.
        return {}
    splits = {names[key]: values for key, values in stored.items() if key in names}
    if "split_ids" in stored and path.stem in _NYUD_SPLITS:
        splits[path.stem] = stored["split_ids"]
    lists = {split: _nyud_ids(map(str, np.atleast_1d(values).ravel())) for split, values in splits.items()}
    return {split: idents for split, idents in lists.items() if idents}


# SIFT Flow


def _derive_siftflow(folder: Path, derived: Derived) -> None:
    images = sorted(path.stem for path in (folder / "Images" / SIFTFLOW_FOLDER).glob("*.jpg"))
    lists = [p for p in sorted([*folder.glob("*.txt"), *folder.glob("*/*.txt")]) if p.name.lower() == "testset1.txt"]
    if not lists:
        # A made set has its lists and no TestSet1.txt.
        if not (folder / "test.txt").exists():
            derived.warnings.append(f"{folder} has no TestSet1.txt, which lists SIFT Flow's test images.")
        return
    # The archive's list has folders before the names, with Windows' separators, and .jpg after them.
    lines = lists[0].read_text(encoding="utf-8-sig", errors="replace").splitlines()
    tested = [re.sub(r"\.\w{3,4}$", "", re.split(r"[\\/]", line.strip())[-1]) for line in lines if line.strip()]
    missing = sorted(set(tested) - set(images))
    if missing:
        derived.warnings.append(
            f"{lists[0]} names {len(missing)} images that are not in {folder / 'Images'}, such as {missing[0]!r}."
        )
    here = set(images)
    derived.write(folder / "test.txt", [ident for ident in tested if ident in here])
    left_out = set(tested) | _NOT_ANNOTATED
    derived.write(folder / "trainval.txt", [ident for ident in images if ident not in left_out])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m datasets splits``."""
    add_data_argument(parser)


def run(arguments: argparse.Namespace) -> str:
    """Write what follows from the data; returns the table of all lists, with what is to be known of them."""
    data = arguments.data
    derived = derive(data)
    warnings = [*derived.warnings, *count_warnings(data, {split.source for split in SPLITS})]
    return "\n".join(
        [table(data), *(f"written: {path}" for path in derived.written), *(f"Note: {w}" for w in warnings)]
    )
