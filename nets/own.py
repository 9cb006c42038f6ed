"""A dataset of one's own: FCN-32s, 16s and 8s on a folder of images and label PNGs, as `python -m nets new` sets up.

A folder NAME-fcn holds dataset.json, which says where the data is, how many classes it has and which trunk the nets
have, and the experiments 32s, 16s and 8s, which are written by `python -m nets NAME-fcn/8s` like all others. A trunk
without skips (AlexNet, GoogLeNet) has 32s alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import caffe
from caffe import layers as L
from nets import voc
from nets.bases import BASES, Base
from nets.definition import Experiment
from nets.recipes import heavy, lengths, light

DATASET = "dataset.json"

SPLITS = {"train.prototxt": "train", "val.prototxt": "val", "deploy.prototxt": voc.DEPLOY}

# Of each stride: what it starts from in the same folder (None: the trunk's classifier), and its rate next to 32s's.
STAGES: dict[str, tuple[str | None, float]] = {"32s": (None, 1.0), "16s": ("32s", 1e-2), "8s": ("16s", 1e-4)}

# The pixels of the VOC images that a base's rate is for: the loss is a sum over an image's pixels.
PIXELS = 180_000

# For thin nets from random weights, whose loss is a mean over the pixels: 32s's rate, and that of the other two.
THIN_RATES = {"32s": 0.01, "16s": 0.005, "8s": 0.005}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What dataset.json says."""

    data: str
    """The folder with images/, labels/ and the lists, relative to an experiment's, or absolute."""
    classes: int
    pixels: int
    """The median of an image's."""
    images: Mapping[str, int]
    """How many there are to train on and to score on: "train" and "val"."""
    trunk: str = "vgg16"
    """The base (nets/bases.py) of the nets."""
    thin: int = 1
    """What the trunk's channels are divided by. A thin net has weights of its own: training starts from random ones."""

    @property
    def base(self) -> Base:
        """The trunk's."""
        return BASES[self.trunk]

    @property
    def stages(self) -> list[str]:
        """The strides that the trunk has a head for, the coarsest first."""
        return [stage for stage in STAGES if stage in self.base.heads]


def find(name: str, root: Path) -> Experiment | None:
    """The experiment of that name, such as cells-fcn/8s, where its folder under ``root`` has a dataset.json; or None.

    Raises ValueError for a dataset.json that cannot be read.
    """
    folder, _, stage = name.rpartition("/")
    path = root / folder / DATASET
    if not folder or stage not in STAGES or not path.is_file():
        return None
    try:
        dataset = Dataset(**json.loads(path.read_text(encoding="utf-8")))
        return _experiment(folder, stage, dataset) if stage in dataset.stages else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error!r}): `python -m nets new` writes it.") from None


def _experiment(folder: str, stage: str, dataset: Dataset) -> Experiment:
    before, share = STAGES[stage]
    scored = dataset.images["val"]
    if dataset.thin > 1:
        solver = light(SPLITS, scored, THIN_RATES[stage])
    else:
        # More digits than two would say that the rule is exact.
        solver = heavy(SPLITS, scored, float(f"{dataset.base.rate * share * PIXELS / dataset.pixels:.1e}"))
    origin = f"{folder}/{before}" if before else dataset.trunk if dataset.thin == 1 else None
    return Experiment(
        net=partial(fcn, head=dataset.base.heads[stage], dataset=dataset),
        splits=SPLITS,
        starts_from=(origin,) if origin else (),
        solver=solver,
        **lengths(solver),
    )


def fcn(split: str, head: Callable[..., None], dataset: Dataset, thin: int = 1) -> Any:
    """FCN-32s, 16s or 8s, whichever ``head`` is, on the dataset's trunk, whose channels ``thin`` or its own divides."""
    n = caffe.NetSpec()
    if split == voc.DEPLOY:
        n.data = L.Input(name="input", shape={"dim": [1, 3, 500, 500]})
    else:
        settings = {"folder": dataset.data, "split": split, "classes": dataset.classes, "mean": voc.MEAN, "seed": 1337}
        n.data, n.label = L.Python(module="layers", layer="FolderSegDataLayer", param_str=str(settings), ntop=2)
    if dataset.thin > 1:
        # As in the demo's nets (nets/shapes.py): random weights want an input near unit scale, and few channels none
        # that drop out.
        n.scaled = L.Power(n.data, scale=1 / 64)
        filler = {"weight_filler": {"type": "msra"}}
        features = dataset.base.trunk(n, n.scaled, dropout=False, thin=max(thin, dataset.thin), **filler)
    else:
        features = dataset.base.trunk(n, n.data, dropout=split != voc.DEPLOY, thin=thin)
    head(n, features, dataset.classes)
    voc.loss(n, split, normalize=dataset.thin > 1)
    return n.to_proto()
