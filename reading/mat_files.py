"""Label maps in MATLAB files (up to version 7.2, which is what scipy reads).

Every reader raises FileNotFoundError for a file that is missing, and ValueError, with the path, for one that is
damaged or holds something else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io


def read_sbd_label(path: Path) -> np.ndarray:
    """Return GTcls.Segmentation of an SBD .mat file: H x W, uint8."""
    stored = _load(path, "GTcls")
    try:
        labels = np.asarray(stored["GTcls"][0]["Segmentation"][0])
    except (KeyError, IndexError, ValueError, TypeError):
        raise ValueError(f"{path} has no GTcls.Segmentation: expected a label file of SBD's folder cls.") from None
    return _checked(path, "GTcls.Segmentation", labels, 0, 255).astype(np.uint8)


def read_mat_labels(path: Path, variable: str, least: int, most: int) -> np.ndarray:
    """Return a variable of a .mat file that holds whole numbers from `least` to `most`: H x W, int64."""
    stored = _load(path, variable)
    if variable not in stored:
        raise ValueError(f"{path} has no variable {variable}: it is not the label file that it should be.")
    return _checked(path, variable, np.asarray(stored[variable]), least, most).astype(np.int64)


def _load(path: Path, variable: str) -> dict[str, Any]:
    try:
        # Opened here, since scipy does not say of a path that it is missing.
        with open(path, "rb") as file:
            return scipy.io.loadmat(file, variable_names=[variable])
    except FileNotFoundError:
        raise
    except Exception as error:  # A damaged file shows as nearly any exception in scipy's reader.
        raise ValueError(f"{path} cannot be read as a MATLAB file: {error}. Fetch it again.") from None


def _checked(path: Path, what: str, labels: np.ndarray, least: int, most: int) -> np.ndarray:
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "uif":
        raise ValueError(f"{path}: {what} is {labels.shape} {labels.dtype}, expected H x W labels.")
    # Written so that NaN, which is neither more nor less than anything, is refused too.
    if not (labels.min() >= least and labels.max() <= most) or (labels.dtype.kind == "f" and np.any(labels % 1)):
        raise ValueError(
            f"{path} has labels from {labels.min()} to {labels.max()}: expected whole numbers from {least} to {most}."
        )
    return labels
