"""What the generated scenes are painted with: textures, surfaces, smooth outlines, and a canvas of labelled pieces.

Pictures are H x W x 3 RGB of floats, each channel 0..1, until `photograph` makes them uint8. An outline is given as
the signed distance from it at each pixel, in pixels, negative inside. All that is random comes from a generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

# (rng, rows, columns) -> H x W, about -1 to 1; rows and columns hold each pixel's place, H x W.
Texture = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
# How a kind of thing looks: its colour, to within JITTER in each channel, and its texture.
Look = tuple[tuple[float, float, float], Texture]

# Half the amplitude of a texture, and the standard deviation of the sensor's noise (each channel 0..1).
TEXTURE = 0.16
NOISE = 0.02
JITTER = 0.06


class Canvas:
    """A picture in the making, of pieces that cover one another; each is of a kind, which says how it looks.

    The first piece has to cover everything.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, looks: Mapping[str, Look]) -> None:
        self.rng = rng
        self.looks = looks
        self.rows, self.columns = np.mgrid[0:height, 0:width].astype(np.float64)
        self.pixels = np.zeros((height, width, 3))
        self.pieces = np.zeros((height, width), np.uint8)
        """Which piece is seen at a pixel, counted from 0 in the order of adding."""
        self.kinds: list[str] = []
        """The kind of each piece."""

    def add(self, kind: str, distance: np.ndarray) -> None:
        """Paint a piece over what is there. One that no pixel lies within is left out."""
        if not (distance < 0).any():
            return
        colour, texture = self.looks[kind]
        shade = np.array(colour) + self.rng.uniform(-JITTER, JITTER, 3)
        lay(self.rng, self.pixels, distance, shade, texture(self.rng, self.rows, self.columns))
        self.pieces[distance < 0] = len(self.kinds)
        self.kinds.append(kind)

    def labels(self, values: Mapping[str, int], dtype: type[np.generic] = np.uint8) -> np.ndarray:
        """Each pixel's value, H x W, by the kind of what is seen there."""
        return np.array([values[kind] for kind in self.kinds], dtype)[self.pieces]


def lay(
    rng: np.random.Generator, pixels: np.ndarray, distance: np.ndarray, colour: np.ndarray, field: np.ndarray
) -> None:
    """Paint a surface within an outline, lighter and darker with the field; something has to lie within."""
    window = _window(distance < 0.5)
    surface = paint(rng, colour, field[window])
    # How much of a pixel the surface covers: its outline is smooth, as in a photograph.
    cover = np.clip(0.5 - distance[window], 0.0, 1.0)[:, :, None]
    pixels[window] += cover * (surface - pixels[window])


def paint(rng: np.random.Generator, colour: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A surface of the colour, H x W x 3, lighter and darker with the field (H x W, about -1 to 1)."""
    tint = TEXTURE * rng.uniform(0.6, 1.4, 3)
    return colour + tint * field[:, :, None]


def photograph(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """The picture with the sensor's noise, H x W x 3 RGB, uint8."""
    noisy = pixels + rng.normal(0.0, NOISE, pixels.shape)
    return np.clip(np.rint(noisy * 255.0), 0, 255).astype(np.uint8)


def borders(pieces: np.ndarray) -> np.ndarray:
    """The pixels one of whose eight neighbours shows another piece, H x W, bool.

    That is a border two pixels wide, one on either side of every outline.
    """
    edge: np.ndarray = maximum_filter(pieces, 3) != minimum_filter(pieces, 3)
    return edge


def box(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    """Signed distance from an upright rectangle about the origin."""
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold every true pixel of the mask."""
    down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(down[0], down[-1] + 1), slice(across[0], across[-1] + 1)


# Textures


def blotches(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> np.ndarray:
    """Lighter and darker spots of the given shape H x W, about `width` pixels wide; from -1 to 1."""
    noise = gaussian_filter(rng.standard_normal(shape), width, mode="wrap")
    return np.clip(noise / (1.5 * noise.std()), -1.0, 1.0)


def even(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A slope from light to dark, in any direction."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return (np.cos(angle) * (columns / len(rows) - 0.5) + np.sin(angle) * (rows / len(rows) - 0.5)) * 2.0


def stripes(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Waves, 5 to 9 pixels long."""
    return np.sin(_wave(rng, rows, columns)[0])


def checks(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A chessboard."""
    along, across = _wave(rng, rows, columns)
    return np.tanh(4.0 * np.sin(along) * np.sin(across))


def grain(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Spots of about a pixel."""
    return blotches(rng, rows.shape, 0.8)


def clouds(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Spots of about three pixels."""
    return blotches(rng, rows.shape, 3.0)


def _wave(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phases of two waves at a right angle, of one period between 5 and 9 pixels, turned at random."""
    angle, period = rng.uniform(0.0, np.pi), rng.uniform(5.0, 9.0)
    along = 2.0 * np.pi / period * (np.cos(angle) * columns + np.sin(angle) * rows)
    across = 2.0 * np.pi / period * (np.cos(angle) * rows - np.sin(angle) * columns)
    return along, across
