"""The best mean IU that a net of each output stride could have: ground truth, resampled, against itself (PAMI 6.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

import vis
from scoring.metrics import Scores, fast_hist

# PAMI 6.3 (appendix A of the CVPR paper): mean IU in per cent on seg11valid.
UPPER_BOUNDS = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}
INTERPOLATIONS = ("bilinear", "nearest")


def resampled(label: np.ndarray, factor: int, classes: int, interpolation: str = "bilinear") -> np.ndarray:
    """Return a label map down-sampled by a factor and up-sampled again: H x W; void comes out as `classes`.

    label: H x W, uint8, of 0 .. classes - 1 and void. One cell stands for factor x factor pixels, at the picture's
    lower and right edges for fewer.

    interpolation: the papers name none. "bilinear" takes each class's mask down with a triangle as wide as the
    factor asks for and up bilinearly, and of the masks the greatest (the lowest class where two are equal); void is a
    class like the others here, so that its borders hide no mistakes. "nearest" takes the middle pixel of each cell and
    repeats it.
    """
    height, width = label.shape
    cells = (-(-width // factor), -(-height // factor))
    if interpolation == "nearest":
        small = Image.fromarray(label).resize(cells, Image.Resampling.NEAREST)
        values = np.array(small.resize((width, height), Image.Resampling.NEAREST))
    elif interpolation == "bilinear":
        present = np.unique(label)
        values = np.full(label.shape, present[0], np.uint8)
        greatest = np.full(label.shape, -1, np.float32)
        for value in present:
            mask = Image.fromarray((label == value).astype(np.float32)).resize(cells, Image.Resampling.BILINEAR)
            share = np.array(mask.resize((width, height), Image.Resampling.BILINEAR))
            values[share > greatest] = value
            np.maximum(greatest, share, out=greatest)
    else:
        raise ValueError(f"The interpolation is {interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}.")
    return np.where(values == vis.VOID, classes, values)


def upper_bounds(
    labels: Iterable[np.ndarray],
    classes: int,
    factors: Sequence[int] = tuple(UPPER_BOUNDS),
    interpolation: str = "bilinear",
) -> dict[int, Scores]:
    """Score label maps, resampled by each factor, against themselves: the best that a net of that stride could do.

    labels: each H x W, uint8. Returns the scores over the whole set, by factor. Their confusion matrices are
    (classes + 1) x (classes + 1): the last column are pixels that came out void, which count as missed. Raises
    ValueError for a label that is none of the classes and not void.
    """
    if not factors or min(factors) < 1:
        raise ValueError(f"The factors are {list(factors)}: expected whole numbers of pixels, 1 or more.")
    confusion = {factor: np.zeros((classes + 1, classes + 1), np.int64) for factor in factors}
    images = 0
    for label in labels:
        strange = np.setdiff1d(label, [*range(classes), vis.VOID])
        if strange.size:
            raise ValueError(f"Label map {images + 1} has the label {strange[0]}: expected 0 to {classes - 1} or void.")
        for factor in factors:
            prediction = resampled(label, factor, classes, interpolation)
            confusion[factor] += fast_hist(label, prediction, classes + 1)
        images += 1
    return {factor: Scores(counts, images=images) for factor, counts in confusion.items()}
