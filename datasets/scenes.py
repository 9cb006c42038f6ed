"""Draws the scenes of the generated set `shapes`: textured objects that cover one another, and their labels.

An object's class is its outline. Its colour says nothing of the class, only that it is no background; its
texture is a hint that is right about half the time, so that a thin net has something to begin with. To do
better a net has to see corners, holes and arms, which are finer than 32 pixels: so a finer stride shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import vis
from datasets.painting import blotches, borders, box, checks, clouds, even, grain, lay, paint, photograph, stripes

CLASSES = vis.CLASSES["shapes"]

# Objects an image, both ends included.
OBJECTS = (4, 6)
# An object's diameter as a fraction of the image's side: 32 to 74 pixels of 160.
DIAMETER = (0.20, 0.46)
# No object hides more than this fraction of what is seen of another, where a place can be found.
HIDDEN = 0.25
PLACES_TRIED = 30
# How often an object has its class's own texture; otherwise any of them, that one included.
OWN_TEXTURE = 0.4
# The background is grey but for this much in each channel, and an object's colour differs from it by at
# least CONTRAST (length in RGB; each channel 0..1).
MUTED = 0.12
CONTRAST = 0.5


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.50


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return box(x, y, 0.43, 0.43)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Equilateral, its centroid at the origin; the inner radius is half the outer one.
    slanted = np.sqrt(0.75) * np.abs(x) + 0.5 * y
    return np.maximum(slanted, -y) - 0.31


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - 0.405) - 0.125


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(box(x, y, 0.55, 0.17), box(x, y, 0.17, 0.55))


# Signed distance from the outline (negative inside) of an object of diameter 1 at the origin, in the order
# of CLASSES after the background. The sizes give the classes areas of the same order.
OUTLINES: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    _disc,
    _square,
    _triangle,
    _ring,
    _cross,
)


@dataclass(frozen=True)
class Scene:
    """One drawn scene of H x W pixels."""

    image: np.ndarray
    """H x W x 3 RGB, uint8."""
    objects: np.ndarray
    """H x W, uint8: which object is seen at a pixel, counted from 1 in the order of drawing; 0 is none."""
    classes: np.ndarray
    """The class of each object, uint8; entry 0 is the background's."""

    @property
    def label(self) -> np.ndarray:
        """The label map, H x W, uint8: each pixel's class, vis.VOID along the outlines.

        A pixel is void if one of its eight neighbours shows another object, or the background where it shows
        an object: a border two pixels wide, one on either side of the outline, also between two objects of
        one class (as VOC marks its objects).
        """
        return np.where(borders(self.objects), np.uint8(vis.VOID), self.classes[self.objects])


def draw(rng: np.random.Generator, size: int) -> Scene:
    """Draw one scene of size x size pixels; all that is random comes from `rng`."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float64)
    backdrop = rng.uniform(0.25, 0.75) + rng.uniform(-MUTED, MUTED, 3)
    image = paint(rng, backdrop, blotches(rng, rows.shape, size * rng.uniform(0.03, 0.10)))
    objects = np.zeros((size, size), np.uint8)
    classes = [0]

    for number in range(1, rng.integers(OBJECTS[0], OBJECTS[1], endpoint=True) + 1):
        kind = int(rng.integers(1, len(CLASSES)))
        distance = _place(rng, OUTLINES[kind - 1], rows, columns, objects)
        own = rng.random() < OWN_TEXTURE
        texture = TEXTURES[kind - 1 if own else rng.integers(len(TEXTURES))]
        colour = _colour_unlike(rng, backdrop)
        lay(rng, image, distance, colour, texture(rng, rows, columns))
        objects[distance < 0] = number
        classes.append(kind)

    return Scene(photograph(rng, image), objects, np.array(classes, np.uint8))


def _place(
    rng: np.random.Generator,
    outline: Callable[[np.ndarray, np.ndarray], np.ndarray],
    rows: np.ndarray,
    columns: np.ndarray,
    objects: np.ndarray,
) -> np.ndarray:
    """Find the object a size, an angle and a place; returns its signed distance at each pixel, in pixels."""
    size = len(rows)
    areas = np.maximum(np.bincount(objects.ravel()), 1)
    least, best = np.inf, None
    diameter = size * rng.uniform(*DIAMETER)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    cosine, sine = np.cos(angle) / diameter, np.sin(angle) / diameter
    for _ in range(PLACES_TRIED):
        x, y = columns - rng.uniform(0.1, 0.9) * size, rows - rng.uniform(0.1, 0.9) * size
        distance = diameter * outline(cosine * x + sine * y, cosine * y - sine * x)
        covered = np.bincount(objects[distance < 0], minlength=len(areas))
        hidden = float((covered / areas)[1:].max(initial=0.0))
        if hidden < least:
            least, best = hidden, distance
        if hidden <= HIDDEN:
            break
    assert best is not None
    return best


def _colour_unlike(rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    while True:
        colour = rng.uniform(0.0, 1.0, 3)
        if np.linalg.norm(colour - other) >= CONTRAST:
            return colour


# In the order of CLASSES after the background: each is its class's own texture, and every class may have any.
TEXTURES = (even, stripes, checks, grain, clouds)
