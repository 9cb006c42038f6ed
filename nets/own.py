"""A dataset of one's own: FCN-32s, 16s and 8s on a folder of images and label PNGs, as `python -m nets new` sets up.

A folder NAME-fcn holds dataset.json, which says where the data is and how many classes it has, and the experiments 32s,
16s and 8s, which are written by `python -m nets NAME-fcn/8s` like all others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import caffe
from caffe import layers as L
from nets import heads, vgg16, voc
from nets.definition import Experiment
from nets.recipes import heavy, lengths

DATASET = "dataset.json"

SPLITS = {"train.prototxt": "train", "val.prototxt": "val", "deploy.prototxt": voc.DEPLOY}

# Of each stride: the head, what it starts from in the same folder (None: VGG16), and its rate next to FCN-32s's.
STAGES: dict[str, tuple[Callable[..., None], str | None, float]] = {
    "32s": (heads.fcn32s, None, 1.0),
    "16s": (heads.fcn16s, "32s", 1e-2),
    "8s": (heads.fcn8s, "16s", 1e-4),
}

# The reference's rate, and the pixels of the VOC images that it is for: the loss is a sum over an image's pixels.
RATE, PIXELS = 1e-10, 180_000


def find(name: str, root: Path) -> Experiment | None:
    """The experiment of that name, such as cells-fcn/8s, where its folder under ``root`` has a dataset.json; or None.

    Raises ValueError for a dataset.json that cannot be read.
    """
    folder, _, stage = name.rpartition("/")
    path = root / folder / DATASET
    if not folder or stage not in STAGES or not path.is_file():
        return None
    try:
        dataset = json.loads(path.read_text(encoding="utf-8"))
        return _experiment(folder, stage, dataset["data"], dataset["classes"], dataset["pixels"], dataset["images"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error!r}): `python -m nets new` writes it.") from None


def _experiment(folder: str, stage: str, data: str, classes: int, pixels: int, images: Mapping[str, int]) -> Experiment:
    head, before, share = STAGES[stage]
    # More digits than two would say that the rule is exact.
    rate = float(f"{RATE * share * PIXELS / pixels:.1e}")
    solver = heavy(SPLITS, images["val"], base_lr=rate)
    return Experiment(
        net=partial(fcn, head=head, data=data, classes=classes),
        splits=SPLITS,
        starts_from=(f"{folder}/{before}" if before else "vgg16",),
        solver=solver,
        **lengths(solver),
    )


def fcn(split: str, head: Callable[..., None], data: str, classes: int, thin: int = 1) -> Any:
    """FCN-32s, 16s or 8s, whichever ``head`` is, on VGG16.

    ``data`` is the folder with images/, labels/ and the lists, relative to the experiment's; ``classes`` their number.
    """
    n = caffe.NetSpec()
    if split == voc.DEPLOY:
        n.data = L.Input(name="input", shape={"dim": [1, 3, 500, 500]})
    else:
        settings = {"folder": data, "split": split, "classes": classes, "mean": voc.MEAN, "seed": 1337}
        n.data, n.label = L.Python(module="layers", layer="FolderSegDataLayer", param_str=str(settings), ntop=2)
    features = vgg16.trunk(n, n.data, dropout=split != voc.DEPLOY, thin=thin)
    head(n, features, classes)
    voc.loss(n, split, normalize=False)
    return n.to_proto()
