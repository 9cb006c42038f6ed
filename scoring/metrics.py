"""The papers' four metrics, from a confusion matrix.

("Fully Convolutional Networks for Semantic Segmentation", section 5), with n_ij the pixels of class i predicted as j,
and t_i = sum_j n_ij the pixels of class i:

    pixel accuracy   sum_i n_ii / sum_i t_i
    mean accuracy    mean over i of n_ii / t_i
    mean IU          mean over i of n_ii / (t_i + sum_j n_ji - n_ii)
    f.w. IU          sum_i t_i IU_i / sum_k t_k

Counts are summed over the whole set before anything is divided. Void pixels count nowhere. All means are over the
classes that the ground truth has (t_i > 0). The reference also averages in, as 0, a class that is predicted
somewhere but is nowhere in the truth, which lowers its SIFT Flow numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# The four by the names of Scores, and what people call them, in the papers' order.
METRICS = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iu": "mean IU",
    "fw_iu": "f.w. IU",
}

# What a first class is called that stands for everything that is no class.
BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class Scores:
    """What a confusion matrix says. Shares are 0 to 1; NaN stands for a class or a set without any pixels.

    confusion: classes x classes, int64, row i column j the pixels of class i predicted as j. loss: the mean over
    the images, NaN where the net has none. images: their number.
    """

    confusion: np.ndarray
    loss: float = float("nan")
    images: int = 0

    @property
    def present(self) -> np.ndarray:
        """Which classes the ground truth has, as booleans."""
        return self.confusion.sum(1) > 0

    @property
    def pixel_accuracy(self) -> float:
        """The share of labelled pixels that are predicted right."""
        return _ratio(np.diag(self.confusion).sum(), self.confusion.sum())

    @property
    def class_accuracy(self) -> np.ndarray:
        """Each class's share of pixels predicted right; NaN for a class that the ground truth lacks."""
        return np.array([_ratio(n[i], n.sum()) for i, n in enumerate(self.confusion)])

    @property
    def class_iu(self) -> np.ndarray:
        """Each class's intersection over union; NaN for a class that the ground truth lacks."""
        n = self.confusion
        unions = n.sum(1) + n.sum(0) - np.diag(n)
        iu = [_ratio(n[i, i], unions[i]) for i in range(len(n))]
        return np.where(self.present, iu, np.nan)

    @property
    def mean_accuracy(self) -> float:
        """The mean of class_accuracy over the classes present."""
        return self.mean_over(self.class_accuracy)

    @property
    def mean_iu(self) -> float:
        """The mean of class_iu over the classes present."""
        return self.mean_over(self.class_iu)

    @property
    def fw_iu(self) -> float:
        """The frequency-weighted IU: the mean of class_iu weighted by the classes' pixels."""
        totals = self.confusion.sum(1)[self.present]
        return _ratio((totals * self.class_iu[self.present]).sum(), totals.sum())

    @property
    def metrics(self) -> dict[str, float]:
        """The four metrics, by their names in METRICS."""
        return {metric: float(getattr(self, metric)) for metric in METRICS}

    @property
    def without_background(self) -> tuple[float, float]:
        """The mean accuracy and the mean IU over all classes but the first, which has to be the background."""
        others = range(1, len(self.confusion))
        return self.mean_over(self.class_accuracy, others), self.mean_over(self.class_iu, others)

    def mean_over(self, values: np.ndarray, classes: Iterable[int] | None = None) -> float:
        """Return the mean of class_iu or class_accuracy over some classes, those absent left out."""
        chosen = self.present.copy()
        if classes is not None:
            chosen &= np.isin(np.arange(len(chosen)), list(classes))
        return float(np.mean(values[chosen])) if chosen.any() else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; NaN becomes null."""
        return {
            "images": self.images,
            "loss": or_null(self.loss),
            **{metric: or_null(value) for metric, value in self.metrics.items()},
            "class_iu": [or_null(v) for v in self.class_iu],
            "class_accuracy": [or_null(v) for v in self.class_accuracy],
            "confusion": self.confusion.tolist(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Scores:
        """Return the scores that `to_json` or a result file holds."""
        loss = stored["loss"]
        confusion = np.array(stored["confusion"], np.int64)
        return cls(confusion, float("nan") if loss is None else loss, stored["images"])

    def table(self, names: Sequence[str]) -> str:
        """Return the four metrics and each class's IU and accuracy as text, in per cent.

        names: the classes'. Where the first is "background", the two means are told without it too.
        """
        apart = {}
        if names[0] == BACKGROUND:
            apart = dict(zip(("mean_accuracy", "mean_iu"), self.without_background, strict=True))
        beside = {metric: f"   without background {_percent(value)}" for metric, value in apart.items()}
        lines = [
            *(f"{METRICS[m]:<16}{_percent(value)}{beside.get(m, '')}" for m, value in self.metrics.items()),
            *([f"{'loss':<16}{self.loss:>7.5g}"] if np.isfinite(self.loss) else []),
            "",
            f"{'class':<16}{'IU':>7}{'acc.':>7}{'of all':>8}",
        ]
        shares = self.confusion.sum(1) / max(1, self.confusion.sum())
        columns = zip(names, self.class_iu, self.class_accuracy, shares, self.present, strict=True)
        for name, iu, accuracy, share, present in columns:
            if present:
                lines.append(f"{name:<16}{_percent(iu)}{_percent(accuracy)}{_percent(share):>8}")
        absent = [name for name, present in zip(names, self.present, strict=True) if not present]
        if absent:
            lines.append(f"not in the ground truth, and in no mean: {', '.join(absent)}")
        return "\n".join(lines)


def fast_hist(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """Return the confusion matrix of labels `a` (truth) and `b` (prediction): n x n, int64, rows the truth.

    a, b: flat, of the same length. Pixels whose truth is not one of the n classes (void) do not count. Raises
    ValueError where the lengths differ or a pixel that counts is predicted as none of the n classes.
    """
    a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
    if a.shape != b.shape:
        raise ValueError(f"There are {a.size} true labels, but {b.size} predicted ones.")
    counted = (a >= 0) & (a < n)
    truth, prediction = a[counted].astype(np.int64), b[counted].astype(np.int64)
    if prediction.size and not (prediction.min() >= 0 and prediction.max() < n):
        raise ValueError(
            f"The labels predicted run from {prediction.min()} to {prediction.max()}, but there are {n} classes: "
            f"0 to {n - 1}."
        )
    return np.bincount(n * truth + prediction, minlength=n * n).reshape(n, n)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def or_null(value: float) -> float | None:
    """Return a number as JSON can hold it: NaN becomes null."""
    return float(value) if np.isfinite(value) else None


def _percent(value: float) -> str:
    return f"{100 * value:>7.2f}" if np.isfinite(value) else f"{'-':>7}"
