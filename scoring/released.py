"""The weights that the papers' authors released: where they are, and what scoring them has to give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.catalogue import CATALOGUE
from nets.folders import data_folder
from scoring.metrics import METRICS

# Pixel accuracy, mean accuracy, mean IU and f.w. IU on seg11valid, in per cent, as others measured them with code of
# their own (wkentaro/fcn). The papers' figures are the same, rounded.
EVALUATION = ("seg11valid", 736)
EXPECTED = {
    "voc-fcn32s": (90.4810, 76.4824, 63.6261, 83.4580),
    "voc-fcn16s": (90.9971, 78.0710, 65.0050, 84.2614),
    "voc-fcn8s": (91.2212, 77.6146, 65.5126, 84.5445),
    "voc-fcn8s-atonce": (91.1288, 78.4979, 65.3998, 84.4326),
}

# How far from that a scoring may be, in per cent: images are decoded and scaled a little otherwise everywhere.
TOLERANCE = 0.05


def weights(experiment: str, data: Path | None = None) -> Path:
    """Return the file of an experiment's released weights; data: the folder of data, by default what FCN_DATA says.

    Raises ValueError where none were released, FileNotFoundError with how to get them where they are not there.
    """
    source = CATALOGUE.get(experiment)
    if source is None or not source.released:
        there = ", ".join(name for name, source in CATALOGUE.items() if source.released)
        raise ValueError(f"The authors released no weights for {experiment}, only for {there}.")
    path = data_folder(data).resolve() / source.path
    if not path.is_file():
        raise FileNotFoundError(
            f"The released weights are missing: there is no {path}. To get them: run `python -m datasets fetch "
            f"{experiment}` in the repository. If the data is elsewhere, name its folder with --data (or FCN_DATA)."
        )
    return path


def verdict(result: Mapping[str, Any]) -> str:
    """Return in words whether a result file's scores of released weights are what they have to be."""
    experiment = result["experiment"]
    expected = EXPECTED.get(experiment)
    if expected is None:
        return f"No re-evaluation of {experiment}'s released weights is known to compare this with."
    of_all = result["images"] == result["split_images"]
    if (result["split"], result["images"]) != EVALUATION or not of_all or result["mask"] or result["stitch"]:
        return f"What to expect of these weights is known for all {EVALUATION[1]} images of {EVALUATION[0]}, unmasked."
    lines = []
    alike = True
    for (metric, name), wanted in zip(METRICS.items(), expected, strict=True):
        measured = 100 * result[metric]
        alike &= abs(measured - wanted) <= TOLERANCE
        lines.append(f"{name:<16}{measured:7.2f}, expected {wanted:.2f}")
    if alike:
        lines.append(f"All four are within {TOLERANCE} of the independent re-evaluation of these weights.")
    else:
        lines.append(
            f"NOT AS EXPECTED: more than {TOLERANCE} from the independent re-evaluation of these weights. Are images "
            "and labels VOC 2011's own, and is the weights' digest right (`python -m datasets verify`)?"
        )
    return "\n".join(lines)
