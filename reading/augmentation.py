"""Random changes of training images (mirror and jitter), and the masks of the cue analysis (PAMI, table 8).

All work on an image as a net takes it, C x H x W, float32, the mean subtracted, and on its labels, 1 x H x W,
uint8, in which 0 is the background where there is one and 255 is void.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from vis import VOID

# What a mask may hide. BOTH leaves nothing but the shapes, white on black.
FOREGROUND, BACKGROUND, BOTH = "foreground", "background", "both"


@dataclass(frozen=True)
class Change:
    """How one image is changed: mirrored left to right or not, then moved down and right by so many pixels."""

    mirrored: bool
    down: int
    right: int


def draw_change(seed: int, number: int, mirror: bool, jitter: int) -> Change:
    """Return the change that image `number` of a run undergoes: it depends on nothing but the arguments.

    mirror: whether every other image, by chance, is mirrored. jitter: the most pixels that it moves, either way on
    each axis.
    """
    # Seeded by text, of which Python takes a SHA-512: neighbouring numbers draw nothing alike.
    draws = random.Random(f"augmentation of image {number}, seed {seed}")
    mirrored = draws.random() < 0.5
    return Change(mirror and mirrored, draws.randint(-jitter, jitter), draws.randint(-jitter, jitter))


def changed(values: np.ndarray, change: Change, fill: float) -> np.ndarray:
    """Return C x H x W values, changed; what the moved image leaves uncovered is `fill`."""
    if change.mirrored:
        values = values[:, :, ::-1]
    if not change.down and not change.right:
        return values
    moved = np.full_like(values, fill)
    to_rows, from_rows = _overlap(values.shape[1], change.down)
    to_columns, from_columns = _overlap(values.shape[2], change.right)
    moved[:, to_rows, to_columns] = values[:, from_rows, from_columns]
    return moved


def _overlap(size: int, by: int) -> tuple[slice, slice]:
    """Return where, on an axis of that size, a move by so many pixels puts what stays in, and where it was."""
    by = max(-size, min(size, by))
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))


def hidden(label: np.ndarray, hide: str) -> np.ndarray:
    """Return which pixels a mask hides, for labels H x W: H x W, bool.

    hide: FOREGROUND or BACKGROUND. Void pixels are hidden by either, since nobody says whose they are.
    """
    return (label != 0) if hide == FOREGROUND else (label == 0) | (label == VOID)


def shape_picture(label: np.ndarray) -> np.ndarray:
    """Return the shapes alone: H x W x 3, uint8, white in the foreground, black in background and void."""
    shape = np.where((label != 0) & (label != VOID), 255, 0).astype(np.uint8)
    return np.repeat(shape[:, :, np.newaxis], 3, 2)
