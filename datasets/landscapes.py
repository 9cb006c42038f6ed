"""Draws the outdoor scenes of the generated sets in SIFT Flow's and PASCAL-Context's layouts.

The ground lies under a horizon, and what stands on it is as large as perspective has it: a thing's height in metres,
over the camera's, is its height in pixels over how far its foot is below the horizon. Near things cover far ones.
The scenes are of SIFT Flow's eight categories, each with a ground and things of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

import vis
from datasets.painting import Canvas, Look, blotches, borders, box, checks, clouds, even, grain, photograph, stripes

LOOKS: dict[str, Look] = {
    "sky": ((0.58, 0.74, 0.94), clouds),
    "sun": ((0.98, 0.90, 0.45), even),
    "mountain": ((0.48, 0.44, 0.56), grain),
    "grass": ((0.30, 0.58, 0.18), grain),
    "field": ((0.74, 0.66, 0.26), stripes),
    "sea": ((0.12, 0.34, 0.56), stripes),
    "sand": ((0.86, 0.76, 0.56), grain),
    "road": ((0.34, 0.34, 0.36), even),
    "sidewalk": ((0.66, 0.64, 0.62), checks),
    "building": ((0.66, 0.42, 0.34), even),
    "window": ((0.16, 0.22, 0.32), even),
    "door": ((0.42, 0.24, 0.10), stripes),
    "sheet": ((0.94, 0.94, 0.92), clouds),
    "stall": ((0.90, 0.54, 0.10), stripes),
    "tree": ((0.10, 0.32, 0.12), clouds),
    "person": ((0.88, 0.64, 0.52), even),
    "body": ((0.60, 0.14, 0.50), clouds),
    "car": ((0.80, 0.12, 0.12), even),
    "boat": ((0.92, 0.92, 0.98), even),
    "cow": ((0.36, 0.18, 0.10), clouds),
    "fence": ((0.58, 0.44, 0.28), stripes),
}
SKY = ("sky", "sun")
GROUND = ("grass", "field", "sea", "sand", "road", "sidewalk")

# What a kind is called in SIFT Flow and among PASCAL-Context's 459 names, where that is something else.
SIFT_FLOW_NAMES = {"body": "person", "sheet": "balcony", "stall": "awning"}
CONTEXT_NAMES = {"body": "cloth", "sheet": "bedclothes", "stall": "table", "sea": "water"}

# Height of the camera above the ground, metres.
CAMERA = (1.6, 2.6)

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _tree(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(np.hypot(x, y - 0.68) - 0.32, box(x, y - 0.2, 0.05, 0.2))


def _head(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y - 0.88) - 0.12


def _body(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return box(x, y - 0.38, 0.15, 0.38)


def _car(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(box(x, y - 0.32, 1.3, 0.32), box(x, y - 0.75, 0.7, 0.25))


def _boat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    sail = np.maximum(2.0 * np.abs(x) + y - 1.0, 0.15 - y)
    return np.minimum(box(x, y - 0.12, 0.45, 0.12), sail)


def _cow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    legs = box(np.abs(x) - 0.5, y - 0.2, 0.1, 0.2)
    return np.minimum(np.minimum(box(x, y - 0.6, 0.7, 0.28), np.hypot(x - 0.75, y - 0.85) - 0.22), legs)


def _fence(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return box(x, y - 0.5, 4.0, 0.5)


def _stall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.minimum(box(x, y - 0.8, 0.7, 0.2), box(x, y - 0.25, 0.6, 0.25))


# Things that stand on the ground: their parts, each with its signed distance from the outline (negative inside) for a
# thing of height 1 whose foot is the origin, y upwards; and their height in metres, from and to.
THINGS: dict[str, tuple[tuple[tuple[str, Outline], ...], tuple[float, float]]] = {
    "tree": ((("tree", _tree),), (3.0, 5.0)),
    "person": ((("body", _body), ("person", _head)), (1.6, 1.9)),
    "car": ((("car", _car),), (1.4, 1.8)),
    "boat": ((("boat", _boat),), (2.0, 4.0)),
    "cow": ((("cow", _cow),), (1.4, 1.6)),
    "fence": ((("fence", _fence),), (1.0, 1.3)),
    "stall": ((("stall", _stall),), (2.2, 2.6)),
}


@dataclass(frozen=True)
class Category:
    """What is in the scenes of a category."""

    ground: str
    things: tuple[str, ...]
    near: str | None = None
    """A second ground, which lies before the first; a road runs to the horizon instead."""
    mountains: int = 0
    buildings: int = 0
    storeys: tuple[int, int] = (2, 4)
    sun: bool = False


CATEGORIES: dict[str, Category] = {
    "coast": Category("sea", ("boat", "boat", "person", "person"), near="sand", sun=True),
    "forest": Category("grass", ("tree",) * 6 + ("person",)),
    "highway": Category("field", ("tree", "tree", "car", "car"), near="road", mountains=1),
    "insidecity": Category("sidewalk", ("person", "person", "stall"), buildings=3),
    "mountain": Category("grass", ("tree", "tree", "cow"), mountains=2, sun=True),
    "opencountry": Category("grass", ("fence", "cow", "cow", "tree"), near="field", sun=True),
    "street": Category("sidewalk", ("car", "car", "person", "tree"), near="road", buildings=2),
    "tallbuilding": Category("grass", ("tree", "tree", "person"), buildings=2, storeys=(5, 8)),
}


@dataclass(frozen=True)
class Landscape:
    """One scene of H x W pixels."""

    image: np.ndarray
    """H x W x 3 RGB, uint8."""
    canvas: Canvas

    def semantic(self) -> np.ndarray:
        """SIFT Flow's class + 1, H x W, uint8; 0, not labelled, along the outlines and the image's edge."""
        names = vis.CLASSES["siftflow"]
        label = self.canvas.labels({kind: 1 + names.index(SIFT_FLOW_NAMES.get(kind, kind)) for kind in LOOKS})
        label[borders(self.canvas.pieces) | _edge(label.shape)] = 0
        return label

    def geometric(self) -> np.ndarray:
        """Sky 1, horizontal 2, vertical 3, H x W, int16; 0 along the outlines and -1 along the image's edge.

        The two stand for the same: not labelled.
        """
        classes = {kind: 1 if kind in SKY else 2 if kind in GROUND else 3 for kind in LOOKS}
        label = self.canvas.labels(classes, np.int16)
        label[borders(self.canvas.pieces)] = 0
        label[_edge(label.shape)] = -1
        return label

    def context(self, indices: Mapping[str, int]) -> np.ndarray:
        """The index of each pixel's name, H x W, uint16: every pixel has one."""
        return self.canvas.labels({kind: indices[CONTEXT_NAMES.get(kind, kind)] for kind in LOOKS}, np.uint16)


def draw(rng: np.random.Generator, height: int, width: int, category: str) -> Landscape:
    """Draw one scene of a category, of height x width pixels; all that is random comes from `rng`."""
    canvas = Canvas(rng, height, width, LOOKS)
    kind = CATEGORIES[category]
    horizon = height * rng.uniform(0.38, 0.55)
    below = canvas.rows - horizon
    canvas.add("sky", np.full((height, width), -1.0))
    if kind.sun and rng.random() < 0.7:
        x, y, radius = width * rng.uniform(0.1, 0.9), horizon * rng.uniform(0.2, 0.6), height * rng.uniform(0.05, 0.08)
        canvas.add("sun", np.hypot(canvas.columns - x, canvas.rows - y) - radius)
    for number in range(kind.mountains):
        ridge = blotches(rng, (1, width), width * 0.08) * height * 0.08
        canvas.add("mountain", horizon - height * (0.22 - 0.10 * number) - ridge - canvas.rows)
    canvas.add(kind.ground, -below)
    if kind.near == "road":
        # Its sides meet at the horizon.
        vanishing, slope = width * rng.uniform(0.35, 0.65), width / height * rng.uniform(0.5, 0.9)
        canvas.add("road", np.maximum(np.abs(canvas.columns - vanishing) - slope * below, -below))
    elif kind.near is not None:
        shore = blotches(rng, (1, width), width * 0.1) * height * 0.03
        canvas.add(kind.near, (height - horizon) * rng.uniform(0.45, 0.6) + shore - below)

    camera = rng.uniform(*CAMERA)
    for slot in range(kind.buildings):
        _build(canvas, horizon, width * (slot + rng.uniform(0.35, 0.65)) / kind.buildings, kind)
    # How far below the horizon the feet are, as a fraction of what is seen of the ground: the far ones first.
    feet = np.sort(rng.uniform(0.2, 0.8, len(kind.things)))
    for thing, foot in zip(rng.permutation(kind.things), feet, strict=True):
        on_water = str(thing) == "boat"
        depth = (height - horizon) * (0.5 * foot if on_water else foot)
        parts, metres = THINGS[str(thing)]
        tall = rng.uniform(*metres) * depth / camera
        x = (canvas.columns - width * rng.uniform(0.05, 0.95)) / tall
        y = (depth - below) / tall
        for part, outline in parts:
            canvas.add(part, tall * outline(x, y))
    return Landscape(photograph(rng, canvas.pixels), canvas)


def _build(canvas: Canvas, horizon: float, x: float, kind: Category) -> None:
    """Put up a building, its foot a little below the horizon, with a door, rows of windows and maybe a bed sheet."""
    rng = canvas.rng
    height, width = canvas.rows.shape
    half = width * rng.uniform(0.30, 0.46) / kind.buildings
    foot = horizon + 0.12 * (height - horizon)
    top = rng.uniform(0.0, 0.4) * horizon
    storeys = int(rng.integers(kind.storeys[0], kind.storeys[1], endpoint=True))
    storey = (foot - top) / storeys
    middle = (top + foot) / 2
    across, down = canvas.columns - x, canvas.rows - middle
    canvas.add("building", box(across, down, half, (foot - top) / 2))
    # Windows on every floor but the lowest: each in the middle of its cell.
    cell = 2 * half / max(2, round(2 * half / storey))
    in_cell = np.mod(across + half, cell) - cell / 2, np.mod(canvas.rows - top, storey) - storey / 2
    upper = box(across, canvas.rows - (top + foot - storey) / 2, half, (foot - storey - top) / 2)
    canvas.add("window", np.maximum(box(*in_cell, 0.30 * cell, 0.30 * storey), upper))
    canvas.add("door", box(across, canvas.rows - foot + 0.35 * storey, 0.3 * cell, 0.35 * storey))
    if rng.random() < 0.4:
        canvas.add("sheet", box(across - half / 2, down, 0.35 * cell, 0.45 * storey))


def _edge(shape: tuple[int, ...]) -> np.ndarray:
    """The pixels of the image's outermost rows and columns, H x W, bool."""
    edge = np.ones(shape, bool)
    edge[1:-1, 1:-1] = False
    return edge
