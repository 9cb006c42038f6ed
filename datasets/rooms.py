"""Draws the rooms of the generated set in NYUDv2's layout: colour, depth and HHA of furniture seen by a known camera.

A room is a box, its furniture boxes in it, its doors and pictures rectangles on its walls. A ray goes through the
middle of each pixel, so depth, height above the floor and the angle with gravity are exact. Lengths are centimetres;
x is to the right, y up from the floor, z along the room.

What a thing is made of tells a wall from a bed; where it is tells a pillow from a book. So colour alone goes some way,
and depth some way further.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import vis
from datasets.painting import Canvas, Look, borders, checks, clouds, even, grain, photograph, stripes

LOOKS: dict[str, Look] = {
    "wall": ((0.80, 0.78, 0.66), even),
    "floor": ((0.52, 0.36, 0.22), stripes),
    "ceiling": ((0.92, 0.92, 0.94), even),
    "door": ((0.62, 0.40, 0.36), even),
    "window": ((0.62, 0.84, 0.98), clouds),
    "picture": ((0.78, 0.30, 0.62), checks),
    "curtain": ((0.86, 0.62, 0.36), stripes),
    "bed": ((0.28, 0.38, 0.80), clouds),
    "sofa": ((0.20, 0.52, 0.34), grain),
    "table": ((0.72, 0.56, 0.30), even),
    "cabinet": ((0.34, 0.20, 0.12), grain),
    "chair": ((0.80, 0.22, 0.16), clouds),
    "pillow": ((0.84, 0.84, 0.84), grain),
    "books": ((0.18, 0.62, 0.70), stripes),
    "box": ((0.66, 0.50, 0.36), checks),
}

# Width, height and depth, from and to.
FURNITURE = {
    "bed": ((140, 160), (45, 60), (180, 200)),
    "sofa": ((140, 190), (70, 85), (80, 90)),
    "table": ((90, 150), (68, 78), (60, 90)),
    "cabinet": ((60, 110), (90, 150), (45, 60)),
    "chair": ((42, 50), (80, 95), (42, 50)),
    "box": ((30, 50), (25, 45), (30, 50)),
}
# What may lie on it, as far as there is something.
ON_TOP = {"bed": "pillow", "sofa": "pillow", "table": "books", "cabinet": "box"}
# Width, and from what height to what height.
FIXTURES = {
    "door": ((80, 95), (0, 200)),
    "window": ((80, 130), (90, 200)),
    "picture": ((50, 80), (115, 175)),
    "curtain": ((50, 90), (20, 220)),
}
PIECES_OF_FURNITURE = (3, 5)
PLACES_TRIED = 20

# The focal length as a fraction of the image's width (NYUDv2's camera: 519 of 560 pixels).
FOCAL = 0.93
# Nothing stands nearer to the camera than this, along z.
NEAREST = 110.0

# HHA's scale: 31000 over the depth, which counts as 100 at least; the height; the angle in degrees + 38.
DISPARITY = 31000.0
LEAST_DEPTH = 100.0
ANGLE_OFFSET = 38.0


@dataclass(frozen=True)
class Room:
    """One room, seen as H x W pixels."""

    image: np.ndarray
    """H x W x 3 RGB, uint8."""
    depth: np.ndarray
    """H x W, uint16: how far along the camera's axis, in millimetres."""
    hha: np.ndarray
    """H x W x 3, uint8: horizontal disparity, height above the floor, angle with gravity (0 for the floor)."""
    label: np.ndarray
    """H x W, uint8: NYUDv2's class + 1; 0, void, along the outlines."""


@dataclass
class _Seen:
    """What the rays meet first, so far; H x W each but for the first two."""

    eye: np.ndarray
    rays: np.ndarray
    """H x W x 3: as far as each ray goes while the depth grows by 1."""
    depth: np.ndarray
    axis: np.ndarray
    """The axis that the surface met is at a right angle to."""
    piece: np.ndarray
    """Which of `kinds` it is."""
    kinds: list[str]

    @property
    def points(self) -> np.ndarray:
        return self.eye + self.depth[:, :, None] * self.rays

    def name(self, kind: str, where: np.ndarray) -> None:
        """Make what is seen there a piece of this kind."""
        self.piece[where] = len(self.kinds)
        self.kinds.append(kind)


def draw(rng: np.random.Generator, height: int, width: int) -> Room:
    """Draw one room, of height x width pixels; all that is random comes from `rng`."""
    low = np.array([-rng.uniform(140, 220), 0.0, -60.0])
    high = np.array([rng.uniform(140, 220), rng.uniform(240, 280), rng.uniform(330, 430)])
    seen = _empty_room(rng, height, width, low, high)
    _hang(rng, seen, low, high)
    _furnish(rng, seen, low, high)

    canvas = Canvas(rng, height, width, LOOKS)
    canvas.add("wall", np.full((height, width), -1.0))
    for piece in range(1, len(seen.kinds)):
        canvas.add(seen.kinds[piece], np.where(seen.piece == piece, -1.0, 1.0))
    # Lit from above and the front; what is far is darker.
    light = np.array([0.84, 1.06, 1.0])[seen.axis] / (1.0 + (seen.depth / 1200.0) ** 2)
    canvas.pixels *= light[:, :, None]

    names = vis.CLASSES["nyud"]
    label = canvas.labels({kind: 1 + names.index(kind) for kind in LOOKS})
    label[borders(canvas.pieces)] = 0
    depth = np.rint(10.0 * seen.depth).astype(np.uint16)
    return Room(photograph(rng, canvas.pixels), depth, _hha(seen), label)


def _empty_room(rng: np.random.Generator, height: int, width: int, low: np.ndarray, high: np.ndarray) -> _Seen:
    """Place the camera in a room between two corners, and see its walls, floor and ceiling."""
    eye = np.array([rng.uniform(-40, 40), rng.uniform(115, 155), 0.0])
    turned, down = np.radians(rng.uniform(-25, 25)), np.radians(rng.uniform(0, 18))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    focal = FOCAL * width
    right = (columns - (width - 1) / 2) / focal
    up = ((height - 1) / 2 - rows) / focal
    # Of the camera's axes, the one ahead is turned down, then all about the room's y.
    climb = up * np.cos(down) - np.sin(down)
    ahead = up * np.sin(down) + np.cos(down)
    rays = np.stack(
        [right * np.cos(turned) + ahead * np.sin(turned), climb, ahead * np.cos(turned) - right * np.sin(turned)], 2
    )
    with np.errstate(divide="ignore"):
        exits = (np.where(rays > 0, high, low) - eye) / rays
    axis = exits.argmin(2)
    seen = _Seen(eye, rays, exits.min(2), axis, np.zeros((height, width), np.uint8), ["wall"])
    seen.name("floor", (axis == 1) & (climb < 0))
    seen.name("ceiling", (axis == 1) & (climb > 0))
    return seen


def _hang(rng: np.random.Generator, seen: _Seen, low: np.ndarray, high: np.ndarray) -> None:
    """Put doors, windows and pictures on the far wall (one on each half) and on those beside."""
    middle = (low[0] + high[0]) / 2
    walls = ((2, 1, 0, low[0], middle), (2, 1, 0, middle, high[0]), (0, -1, 2, 180, high[2]), (0, 1, 2, 180, high[2]))
    kinds = rng.permutation(list(FIXTURES))
    points = seen.points
    for kind, (axis, side, along, start, end) in zip(kinds, walls, strict=True):
        (narrow, wide), (bottom, top) = FIXTURES[kind]
        half = rng.uniform(narrow, wide) / 2
        centre = rng.uniform(start + half, end - half)
        on_wall = (seen.axis == axis) & (np.sign(seen.rays[:, :, axis]) == side)
        within = (np.abs(points[:, :, along] - centre) < half) & (
            np.abs(2 * points[:, :, 1] - bottom - top) < top - bottom
        )
        seen.name(str(kind), on_wall & within)


def _furnish(rng: np.random.Generator, seen: _Seen, low: np.ndarray, high: np.ndarray) -> None:
    """Put furniture on the floor, nothing through another, and some things on it."""
    taken: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(rng.integers(PIECES_OF_FURNITURE[0], PIECES_OF_FURNITURE[1], endpoint=True)):
        kind = str(rng.choice(list(FURNITURE)))
        size = np.array([rng.uniform(*limits) for limits in FURNITURE[kind]])
        if rng.random() < 0.5:
            size = size[[2, 1, 0]]
        for _ in range(PLACES_TRIED):
            x = rng.uniform(low[0], high[0] - size[0])
            z = rng.uniform(NEAREST, high[2] - size[2])
            corner = np.array([x, 0.0, z])
            if all((corner > end).any() or (corner + size < start).any() for start, end in taken):
                break
        else:
            continue
        taken.append((corner, corner + size))
        _see(seen, kind, corner, corner + size)
        if kind in ON_TOP and rng.random() < 0.6:
            small = np.array([min(40.0, 0.6 * size[0]), rng.uniform(12, 25), min(30.0, 0.6 * size[2])])
            shift = np.array([rng.uniform(0, size[0] - small[0]), size[1], rng.uniform(0, size[2] - small[2])])
            _see(seen, ON_TOP[kind], corner + shift, corner + shift + small)


def _see(seen: _Seen, kind: str, low: np.ndarray, high: np.ndarray) -> None:
    """See a box between two corners, where nothing is before it."""
    with np.errstate(divide="ignore"):
        one, other = (low - seen.eye) / seen.rays, (high - seen.eye) / seen.rays
    enters, leaves = np.minimum(one, other), np.maximum(one, other).min(2)
    depth = enters.max(2)
    met = (depth > 0) & (depth < leaves) & (depth < seen.depth)
    seen.depth[met] = depth[met]
    seen.axis[met] = enters.argmax(2)[met]
    seen.name(kind, met)


def _hha(seen: _Seen) -> np.ndarray:
    """Horizontal disparity, height and angle on their published scale, rounded and held within uint8."""
    level = np.where(seen.rays[:, :, 1] < 0, 0.0, 180.0)
    angle = np.where(seen.axis == 1, level, 90.0)
    channels = [DISPARITY / np.maximum(seen.depth, LEAST_DEPTH), seen.points[:, :, 1], angle + ANGLE_OFFSET]
    return np.clip(np.rint(np.stack(channels, 2)), 0, 255).astype(np.uint8)
