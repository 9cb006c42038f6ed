"""What a training run left for its report: a result file, and beside it the curves' numbers and the panels' pictures.

    RUN/results/SPLIT_iter_N.json    this and the run's earlier scorings
    RUN/log.csv                      the loss
    RUN/panels/ID.jpg ID.truth.png ID.prediction.png        of several heads, a folder each: panels/sem, panels/geo

Where one is missing, as for a result of score.py's own, the run has none of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vis
from files.writing import replaced
from scoring.metrics import Scores
from scoring.results import head_name, read_result
from training.logs import Row, read_log

# The widest a panel's picture gets, pixels: three make a phone's width, and a dozen rows stay under a megabyte.
PANEL_WIDTH = 320

# What the scorings of one curve have in common.
SERIES = ("experiment", "split", "split_sha256", "head", "mask", "stitch", "rehearsal", "released")


@dataclass(frozen=True)
class Panel:
    """An image, H x W x 3 RGB, with its truth and prediction, H x W label maps; all uint8, of one size."""

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


@dataclass(frozen=True)
class Run:
    """What a result file and the files beside it tell of an experiment.

    result: the file's contents. history: the scores by iteration, up to the result's. log: the rows of log.csv up to
    there. panels: by image id.
    """

    result: dict[str, Any]
    scores: Scores
    history: dict[int, Scores]
    log: list[Row]
    panels: dict[str, Panel]

    @property
    def name(self) -> str:
        """The experiment's name in the paper's words where it tells its stride: FCN-8s; else its folder."""
        folder = self.result["experiment"]
        stride = re.search(r"(?:^|[/-]|fcn-?)(\d+s(?:-atonce)?)$", folder)
        return f"FCN-{stride[1]}" if stride else folder

    @property
    def head(self) -> str:
        """What of the net was scored: "sem" or "geo", or "" where there is one head only."""
        return head_name(self.result["head"])


def load(path: Path) -> Run:
    """Read a result file and what is beside it.

    Raises FileNotFoundError, and ValueError for a file that is no result of score.py's.
    """
    result = read_result(path)
    iteration = result["iteration"]
    last = iteration if iteration is not None else 0
    folder = path.parent.parent
    history = {}
    series = [result.get(key) for key in SERIES]
    for other in path.parent.glob(f"{result['split']}_*.json"):
        earlier = read_result(other)
        if [earlier.get(key) for key in SERIES] == series and (earlier["iteration"] or 0) <= last:
            history[earlier["iteration"] or 0] = Scores.from_json(earlier)
    log = [row for row in read_log(folder / "log.csv") if row.iteration <= last]
    shown = folder / "panels" / head_name(result["head"])
    panels = {p.relative_to(shown).with_suffix("").as_posix(): _load_panel(p) for p in sorted(shown.rglob("*.jpg"))}
    return Run(result, Scores.from_json(result), dict(sorted(history.items())), log, panels)


def save_panel(folder: Path, image_id: str, image: Image.Image, truth: np.ndarray, predictions: Path) -> None:
    """Save an image and its labels, as small as the report shows them, into a run's folder of panels.

    image: RGB. truth: H x W, uint8. predictions: the folder that holds the prediction as ID.png.
    """
    # The id of an image may name a folder: a/1.
    (folder / image_id).parent.mkdir(parents=True, exist_ok=True)
    scale = min(1.0, PANEL_WIDTH / image.width)
    size = (round(image.width * scale), max(1, round(image.height * scale)))
    with replaced(folder / f"{image_id}.jpg") as partial:
        image.resize(size, Image.Resampling.LANCZOS).save(partial, quality=85)
    with replaced(folder / f"{image_id}.truth.png") as partial:
        vis.label_image(truth).resize(size, Image.Resampling.NEAREST).save(partial)
    with Image.open(predictions / f"{image_id}.png") as stored:
        prediction = stored.resize(size, Image.Resampling.NEAREST)
    with replaced(folder / f"{image_id}.prediction.png") as partial:
        prediction.save(partial)


def _load_panel(image: Path) -> Panel:
    labels = (image.with_name(f"{image.stem}.{kind}.png") for kind in ("truth", "prediction"))
    return Panel(np.asarray(Image.open(image).convert("RGB")), *(np.asarray(Image.open(path)) for path in labels))


def by_head(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs of each head, in the heads' order."""
    return [[run for run in runs if run.head == head] for head in dict.fromkeys(run.head for run in runs)]
