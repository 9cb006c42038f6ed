"""Result files: what was scored, with which weights, by which code, and the scores, as JSON.

    results/EXPERIMENT/SPLIT_iter_N.json                    score.py's
    EXPERIMENT/snapshot/results/SPLIT_iter_N.json           train.py's

One file a head: where a net has several, as SIFT Flow's have, the names carry it (test_sem_iter_N.json). What differs
from a plain scoring follows the iteration: SPLIT_iter_N_mask_foreground_stitch_8_first_20.json. The schema, 2:

    schema experiment split code_version date       date in UTC, ISO 8601
    iteration                                       that the weights' file name tells, or null
    weights             {path, sha256}              sha256 of the file
    split_sha256        of the ids scored, one a line
    images split_images                             how many were scored, and how many the split has
    head                the scored blob: score, score_sem, score_geo
    mask                null, foreground, background, both: what of the images the net did not see
    stitch              null, or the factor of shift-and-stitch
    rehearsal released  whether it was a rehearsal, whether the weights are the papers' authors'
    classes             their names, in the order of everything that is a list of them
    loss pixel_accuracy mean_accuracy mean_iu fw_iu class_iu class_accuracy confusion       see metrics.py
    mean_accuracy_without_background mean_iu_without_background     null where class 0 is not the background

Schema 1 had neither the lines from split_images to released nor the last one.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.writing import write_text
from nets.folders import ROOT, iteration_of
from scoring.metrics import BACKGROUND, Scores, or_null

SCHEMA = 2

# What a file of schema 1 is read with.
_BEFORE = {
    "head": "score",
    "mask": None,
    "stitch": None,
    "rehearsal": False,
    "released": False,
    "mean_accuracy_without_background": None,
    "mean_iu_without_background": None,
}


@dataclass(frozen=True)
class Scored:
    """What was scored, and how.

    ids: the images that were, split_images: how many the split has. weights: the file that the net was filled from,
    named_weights: how the result names it, where not by that path. head: the scored blob. The rest as in the file.
    """

    experiment: str
    split: str
    ids: Sequence[str]
    split_images: int
    weights: Path
    head: str = "score"
    mask: str | None = None
    stitch: int | None = None
    rehearsal: bool = False
    released: bool = False
    named_weights: Path | None = None

    def file_name(self, *, asked_mask: str | None = None) -> str:
        """Return the result file's name. asked_mask: the mask, where it is not the experiment's own."""
        iteration = iteration_of(self.weights)
        parts = [
            self.split,
            head_name(self.head),
            "released" if self.released else "" if iteration is None else f"iter_{iteration}",
            f"mask_{asked_mask}" if asked_mask else "",
            f"stitch_{self.stitch}" if self.stitch else "",
            f"first_{len(self.ids)}" if len(self.ids) < self.split_images else "",
        ]
        return "_".join(part for part in parts if part) + ".json"


def head_name(head: str) -> str:
    """Return what files and folders call a head: "sem" of the blob score_sem; "" where it is the only one, score."""
    return "" if head == "score" else head.removeprefix("score_")


def result(scores: Scores, names: Sequence[str], of: Scored) -> dict[str, Any]:
    """Return what a result file holds. names: the classes'. Raises OSError if the weights cannot be read."""
    accuracy, iu = scores.without_background if names[0] == BACKGROUND else (float("nan"),) * 2
    return {
        "schema": SCHEMA,
        "experiment": of.experiment,
        "split": of.split,
        "split_images": of.split_images,
        "split_sha256": hashlib.sha256("".join(f"{i}\n" for i in of.ids).encode()).hexdigest(),
        "head": of.head,
        "mask": of.mask,
        "stitch": of.stitch,
        "rehearsal": of.rehearsal,
        "released": of.released,
        "iteration": iteration_of(of.weights),
        "weights": {"path": str(of.named_weights or of.weights), "sha256": sha256(of.weights)},
        "code_version": code_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "classes": list(names),
        **scores.to_json(),
        "mean_accuracy_without_background": or_null(accuracy),
        "mean_iu_without_background": or_null(iu),
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result file, whole or not at all, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result, indent=1) + "\n")


def read_result(path: Path) -> dict[str, Any]:
    """Return what a result file holds, of schema 1 as of schema 2; ValueError for a file that is none."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["schema"] not in (1, SCHEMA):
            raise ValueError(f"schema {stored['schema']} is not known")
        if len(stored["classes"]) != len(stored["confusion"]):
            raise ValueError(f"{len(stored['classes'])} classes, but {len(stored['confusion'])} rows of confusion")
        return {**_BEFORE, "split_images": stored["images"], **stored}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result file of score.py: {error!r}.") from None


def code_version() -> str:
    """Return the repository's commit, with "+changes" if files differ from it, or "unknown" without git.

    A container has no repository; FCN_VERSION says there what it was built from.
    """
    if os.environ.get("FCN_VERSION"):
        return os.environ["FCN_VERSION"]
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+changes"]
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def sha256(path: Path) -> str:
    """Return a file's SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
