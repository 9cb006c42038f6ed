"""PASCAL-Context in 33 classes and background (CVPR paper's arXiv version 2, appendix), by the TPAMI recipe.

Which 33 of the 59 classes they are is in a list that does not come with the dataset: 33_labels.txt, which the user
puts into its folder. The nets are written when they are asked for, into pascalcontext-fcn-33/NAME.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from nets.definition import Experiment
from nets.recipes import Variant, heavy, lengths

FOLDER = "pascalcontext-fcn-33"
CLASSES = 34
IMAGES = 5105  # of val
CLASSES_FILE = "33_labels.txt"

# As on VOC and on the 59 classes: each stage at a hundredth of the rate of the one before.
RATES = {"32s": 1e-10, "16s": 1e-12, "8s": 1e-14}
PUBLISHED = {"32s": 50.4, "16s": 53.4, "8s": 53.5}


def variants(experiments: Mapping[str, Experiment]) -> dict[str, Variant]:
    """The variants, by their names, of ``experiments``, which have the 59-class nets."""
    return {f"{FOLDER}/{stage}": _variant(stage, experiments[f"pascalcontext-fcn/{stage}"]) for stage in RATES}


def _variant(stage: str, experiment: Experiment) -> Variant:
    # As long as the reference trains the 59 classes for.
    length = {"max_iter": experiment.iterations, "snapshot": experiment.score_every}
    solver = heavy(experiment.splits, IMAGES, RATES[stage], **length)
    return Variant(
        net=partial(experiment.net, classes=CLASSES, classes_file=CLASSES_FILE),
        splits=experiment.splits,
        starts_from=tuple(source.replace("pascalcontext-fcn/", f"{FOLDER}/") for source in experiment.starts_from),
        **lengths(solver),
        solver=solver,
        of=f"pascalcontext-fcn/{stage}",
        about=f"33 classes; published {PUBLISHED[stage]}, by the CVPR recipe (cvpr-recipe has that too)",
    )
