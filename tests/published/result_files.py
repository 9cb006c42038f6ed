"""Result files for tests, written as score.py writes them, with scores that are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scoring import results
from scoring.metrics import Scores


def put(
    repository: Path,
    experiment: str,
    correct: float,
    *,
    split: str = "seg11valid",
    images: int = 736,
    split_images: int = 736,
    iteration: int | None = 100_000,
    date: str = "2026-01-01T00:00:00+00:00",
    folder: str = "",
    **others: object,
) -> Path:
    """Write a result file of two classes, by the code that score.py writes it with; ``correct``: pixel accuracy."""
    weights = repository / "weights" / (f"train_iter_{iteration}.caffemodel" if iteration else "base.caffemodel")
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(f"{experiment} {iteration}".encode())
    right = round(10_000 * correct)
    confusion = np.array([[right, 10_000 - right], [10_000 - right, right]])
    ids = [str(i) for i in range(images)]
    of = results.Scored(experiment, split, ids, split_images, weights, **others)
    stored = {**results.result(Scores(confusion, images=images), ("background", "thing"), of), "date": date}
    place = repository / (folder or f"{experiment}/snapshot/results")
    path = place / of.file_name(asked_mask=of.mask)
    if path.exists():
        path = path.with_name(f"again_{path.name}")
    results.write_result(path, stored)
    return path
