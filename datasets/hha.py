"""HHA images from depth images: horizontal disparity, height above ground, angle with gravity.

    python -m datasets hha data/nyud/data/depth/*.png --camera nyud --out data/nyud/data/hha
    python -m datasets hha mine.png --fx 525 --fy 525 --cx 319.5 --cy 239.5 --scale 0.2 --out hha

S. Gupta, R. Girshick, P. Arbelaez, J. Malik, "Learning Rich Features from RGB-D Images for Object Detection and
Segmentation" (ECCV 2014); gravity as in S. Gupta, P. Arbelaez, J. Malik, "Perceptual Organization and
Recognition of Indoor Scenes from RGB-D Images" (CVPR 2013). This is the input of the FCN-32s HHA nets,
three channels on the published scale, each rounded to 8 bits:

    0   31000 / z       z the depth in centimetres, 100 at least
    1   height          in centimetres above the floor: the lowest point seen, or 130 under the camera where that
                        lies less than 90 under it
    2   angle + 38      in degrees, between gravity and the surface's normal on its far side: 0 for a floor or the
                        top of a table, 90 for a wall, 180 for a ceiling. Of the two ways to count, this one fits the
                        mean of the published images, 80 degrees: of what is seen indoors, more faces up than down.

A camera's axes are x to the right, y down, z ahead. Depth is in metres along z, and 0, NaN and infinity say that it
is missing. The published images were made from depth without holes, filled in by another method, with the raw depth
beside it to say where something was measured. Here a hole's disparity and height are those of the nearest
measured depth; normals, gravity and the floor come from measured points only. Where no plane can be laid, in the
middle of large holes, the angle is 180, as in the published images.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import correlate1d, distance_transform_edt

from datasets import DatasetError
from files.writing import replaced
from terminal.progress_bar import ProgressBar

# The windows that planes are laid through, in pixels from the centre: small for the angle, large for gravity.
ANGLE_RADIUS = 3
GRAVITY_RADIUS = 10

# Gravity: how near to parallel or perpendicular a normal is to count, in degrees, and for how many rounds.
GRAVITY_ROUNDS = ((45.0, 5), (15.0, 5))
# How strongly each round holds to the estimate before it, as a share of the normals that count. Where floors or two
# walls fix the direction, it changes nothing; where one wall alone is seen, it keeps noise from choosing freely.
GRAVITY_INERTIA = 1e-3

# The published scale, in centimetres.
DISPARITY = 31000.0
NEAREST = 100.0
NO_FLOOR_ABOVE = 90.0
CAMERA_HEIGHT = 130.0
ANGLE_OFFSET = 128.0 - 90.0
NO_PLANE = 180.0

# Depths of a scene in metres, beyond which a depth image is in another unit.
PLAUSIBLE = (0.05, 100.0)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in pixels: focal lengths, and the principal point, where the first pixel's centre is 0, 0."""

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if not (all(map(math.isfinite, (self.fx, self.fy, self.cx, self.cy))) and self.fx > 0 and self.fy > 0):
            raise ValueError(f"{self} is no camera: focal lengths are greater than 0, in pixels, and all are finite.")

    def cropped(self, top: int, left: int) -> Camera:
        """Return the camera of what is left when `top` rows and `left` columns are cut off."""
        return replace(self, cx=self.cx - left, cy=self.cy - top)

    def rays(self, height: int, width: int) -> np.ndarray:
        """Return where each pixel looks: height x width x 3, (x/z, y/z, 1)."""
        x = (np.arange(width) - self.cx) / self.fx
        y = (np.arange(height) - self.cy) / self.fy
        return np.stack([*np.meshgrid(x, y), np.ones((height, width))], axis=-1)


# The colour camera of NYUDv2's Kinect, to which its depth is aligned; the data set's toolbox has these values. It
# counts pixels from 1, as the published encoding does. The images of the experiments are cut out of its frames.
NYUD = Camera(fx=518.85790117450188, fy=519.46961112127485, cx=325.58244941119034 - 1, cy=253.73616633400465 - 1)
NYUD_FRAME = (480, 640)
NYUD_CROP = (45, 40, 425, 560)  # top, left, height, width


def encode(
    depth: np.ndarray, camera: Camera, measured: np.ndarray | None = None, floor_percentile: float = 0.0
) -> np.ndarray:
    """Return the HHA image of a depth image: H x W x 3, uint8; the module says what the channels are.

    depth: H x W, metres. measured: H x W, True where the depth was measured and not filled in; all that is not
    missing by default. floor_percentile: the share of the measured points, in per cent, that may lie under the
    floor. It is 0 in the published images, so that a single stray point under the floor lifts every height; 0.1 or 1
    withstands strays.

    Raises ValueError for what is no depth image in metres.
    """
    filled, measured = _checked(depth, measured)
    if not 0 <= floor_percentile < 100:
        raise ValueError(f"The floor's percentile is {floor_percentile}: expected 0 or more, less than 100.")
    gravity = estimate_gravity(normals(filled, camera, GRAVITY_RADIUS, measured))
    heights = 100 * above_floor(filled, camera, gravity, measured, floor_percentile)
    cosine = normals(filled, camera, ANGLE_RADIUS, measured) @ gravity
    angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    channels = [
        DISPARITY / np.maximum(100 * filled, NEAREST),
        heights,
        np.where(np.isnan(angles), NO_PLANE, angles) + ANGLE_OFFSET,
    ]
    # Halves go up, as in the rounding of the published images.
    return np.clip(np.floor(np.stack(channels, axis=-1) + 0.5), 0, 255).astype(np.uint8)


def normals(depth: np.ndarray, camera: Camera, radius: int, measured: np.ndarray | None = None) -> np.ndarray:
    """Return the unit normals of the planes through each pixel's window: H x W x 3, pointing away from the camera.

    A plane n . p = 1 is linear in what a pixel sees, 1/z = n . (x/z, y/z, 1), so that it is fitted there by least
    squares, over the measured pixels of the (2 radius + 1)-wide window. That weighs near points more than far ones,
    as fits the noise of triangulated depth. Where a window has no three measured pixels off one line, NaN.

    depth, measured: as in `encode`. Raises ValueError as it does, and for a radius under 1.
    """
    if radius < 1:
        raise ValueError(f"A window's radius is {radius}, expected 1 pixel or more.")
    filled, measured = _checked(depth, measured)
    height, width = filled.shape
    weight = measured.astype(float)
    inverse = weight / filled

    # Sums over the windows of the powers of the pixels' places, counted from the window's centre: the places' own
    # are then whole numbers, and whether a window's pixels lie on one line is told without rounding.
    offset = np.arange(-radius, radius + 1, dtype=float)

    def window_sum(values: np.ndarray, power_x: int, power_y: int) -> np.ndarray:
        rows = correlate1d(values, offset**power_x, axis=1, mode="constant")
        return correlate1d(rows, offset**power_y, axis=0, mode="constant")

    n = window_sum(weight, 0, 0)
    x, y = window_sum(weight, 1, 0), window_sum(weight, 0, 1)
    xx = n * window_sum(weight, 2, 0) - x * x
    xy = n * window_sum(weight, 1, 1) - x * y
    yy = n * window_sum(weight, 0, 2) - y * y
    q = window_sum(inverse, 0, 0)
    qx = n * window_sum(inverse, 1, 0) - q * x
    qy = n * window_sum(inverse, 0, 1) - q * y

    # 1/z = slope_x * (places to the right) + slope_y * (places down) + centre, and n from its derivatives.
    determinant = xx * yy - xy * xy
    with np.errstate(divide="ignore", invalid="ignore"):
        slope_x = (yy * qx - xy * qy) / determinant
        slope_y = (xx * qy - xy * qx) / determinant
        centre = (q - slope_x * x - slope_y * y) / n
    rays = camera.rays(height, width)
    a, b = slope_x * camera.fx, slope_y * camera.fy
    plane = np.stack([a, b, centre - a * rays[..., 0] - b * rays[..., 1]], axis=-1)
    plane[determinant <= 0] = np.nan

    # n . p = 1 points away from the camera, but not from every pixel of a window that spans an edge.
    facing = np.where(np.sum(plane * rays, axis=-1) < 0, -1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return plane * (facing / np.linalg.norm(plane, axis=-1))[..., None]


def estimate_gravity(normal: np.ndarray, down: Sequence[float] = (0.0, 1.0, 0.0)) -> np.ndarray:
    """Return the direction of gravity as a unit vector in the camera's axes, fitted to normals.

    Floors and ceilings are perpendicular to it and walls parallel. Each round takes the normals near to parallel to
    the estimate for floors' and those near to perpendicular for walls', and then the direction along which floors'
    normals have the most and walls' the least: minimised is the sum of the walls' squared components along it less
    that of the floors'. With no normal to go by, the estimate stays as it is.

    normal: ... x 3, unit vectors of either sign, or NaN. down: the first estimate, which also tells down from up: a
    camera held upright sees it along y. Raises ValueError where it has no direction.
    """
    gravity = np.asarray(down, float)
    length = np.linalg.norm(gravity)
    if gravity.shape != (3,) or not np.isfinite(length) or length == 0:
        raise ValueError(f"The first estimate of gravity is {down}: expected three numbers that give a direction.")
    gravity = gravity / length
    known = np.asarray(normal, float).reshape(-1, 3)
    known = known[np.isfinite(known).all(axis=1)]
    for threshold, rounds in GRAVITY_ROUNDS:
        for _ in range(rounds):
            along = np.abs(known @ gravity)
            floors = known[along > math.cos(math.radians(threshold))]
            walls = known[along < math.sin(math.radians(threshold))]
            held = GRAVITY_INERTIA * max(1, len(floors) + len(walls))
            against = walls.T @ walls - floors.T @ floors - held * np.outer(gravity, gravity)
            fitted = np.linalg.eigh(against)[1][:, 0]
            gravity = -fitted if fitted @ gravity < 0 else fitted
    return gravity


def above_floor(
    depth: np.ndarray,
    camera: Camera,
    gravity: np.ndarray,
    measured: np.ndarray | None = None,
    floor_percentile: float = 0.0,
) -> np.ndarray:
    """Return each point's height above the floor: H x W, metres; negative for points under it.

    gravity: a unit vector, as `estimate_gravity` returns it. The rest is as in `encode`. The published images take
    the lowest of all points, filled-in ones too; here it is the lowest measured one, since where the depth of the
    picture's lower edge is missing, what fills it in may lie far under the floor.
    """
    filled, measured = _checked(depth, measured)
    # Over the camera: the third axis is the ray's own, so that a point is depth times ray.
    heights = -(camera.rays(*filled.shape) @ gravity) * filled
    floor = float(np.percentile(heights[measured], floor_percentile))
    return heights - (floor if floor <= -NO_FLOOR_ABOVE / 100 else -CAMERA_HEIGHT / 100)


def _checked(depth: np.ndarray, measured: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return a depth image without holes, in float64, and where it was measured; ValueError for what is none."""
    depth = np.asarray(depth)
    if depth.ndim != 2 or depth.size == 0 or not np.issubdtype(depth.dtype, np.number):
        raise ValueError(f"A depth image is H x W numbers, not {depth.shape} of {depth.dtype}.")
    if np.iscomplexobj(depth):
        raise ValueError("A depth image has real numbers, not complex ones.")
    depth = depth.astype(float)
    known = np.isfinite(depth) & (depth != 0)
    if (depth[known] < 0).any():
        raise ValueError(f"A depth image has no negative depths, but the least is {depth[known].min():g}.")
    if measured is None:
        measured = known
    elif np.shape(measured) != depth.shape:
        raise ValueError(f"The depth image is {depth.shape}, but which pixels are measured is {np.shape(measured)}.")
    else:
        measured = np.asarray(measured, bool) & known
    if not measured.any():
        raise ValueError("The depth image has no depth at any pixel: all of it is missing.")
    middle = float(np.median(depth[measured]))
    if not PLAUSIBLE[0] <= middle <= PLAUSIBLE[1]:
        raise ValueError(
            f"Half of the depths are under {middle:g} m, which no scene seen by a depth camera has: the unit is "
            "another one. Depth is in metres; of an image file, --scale says how many millimetres one unit is."
        )
    if not known.all():
        nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
        depth = depth[tuple(nearest)]
    return depth, measured


# Files


def read_depth(path: Path, scale: float = 1.0) -> np.ndarray:
    """Return the depth in an image file: H x W, metres, 0 where it is missing.

    scale: the millimetres that one unit is. Raises DatasetError for a file that is missing, damaged or has other
    than one channel of numbers.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if not (image.mode.startswith("I") or image.mode in ("L", "F")):
                raise DatasetError(
                    f"{path} is an image of mode {image.mode}: depth is one channel, best as a 16-bit PNG."
                )
            return np.asarray(image, float) * (scale / 1000)
    except FileNotFoundError:
        raise DatasetError(f"There is no depth image {path}.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path} cannot be read as an image: {error}") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``python -m datasets hha``."""
    parser.add_argument("depth", nargs="+", type=Path, metavar="DEPTH.png", help="depth images of one camera")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where NAME.png goes for each")
    parser.add_argument(
        "--camera", choices=["nyud"], help="a known camera: that of NYUDv2's images, whole or as cut to 560x425"
    )
    for name, what in (
        ("fx", "focal length across"),
        ("fy", "focal length down"),
        ("cx", "principal point across, the first pixel at 0"),
        ("cy", "principal point down"),
    ):
        parser.add_argument(f"--{name}", type=float, metavar="PIXELS", help=what)
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="MILLIMETRES", help="how much one unit is (default: 1)"
    )
    parser.add_argument(
        "--crop",
        nargs=4,
        type=int,
        metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
        help="cut this out of each image first; the camera is that of the whole image",
    )
    parser.add_argument(
        "--raw", type=Path, metavar="DIR", help="where depth is missing in DIR/NAME.png, it was filled in, not measured"
    )
    parser.add_argument(
        "--floor-percentile",
        type=float,
        default=0.0,
        metavar="PER_CENT",
        help="how many of the points may lie under the floor (default: 0, as published)",
    )


def run(arguments: argparse.Namespace) -> str:
    """Make an HHA image of each depth image; returns the sentence to print. Raises DatasetError."""
    given = [value for value in (arguments.fx, arguments.fy, arguments.cx, arguments.cy) if value is not None]
    if len(given) != (4 if arguments.camera is None else 0):
        raise DatasetError("Which camera took the depth? Give --fx, --fy, --cx and --cy, or else --camera nyud.")
    if not (math.isfinite(arguments.scale) and arguments.scale > 0):
        raise DatasetError(f"--scale is {arguments.scale}: expected the millimetres of one unit, more than 0.")
    names: dict[str, Path] = {}
    for path in arguments.depth:
        name = f"{path.stem}.png"
        if name in names:
            raise DatasetError(f"{names[name]} and {path} would both be written as {arguments.out / name}.")
        if (arguments.out / name).resolve() == path.resolve():
            raise DatasetError(f"{path} would be overwritten by its HHA image: choose another --out.")
        names[name] = path
    with ProgressBar("HHA", len(names), unit="image") as bar:
        for name, path in names.items():
            _write(arguments.out / name, _encoded(path, arguments, given))
            bar.add(1)
    return f"{len(names)} HHA image{'s' if len(names) > 1 else ''} in {arguments.out}"


def _encoded(path: Path, arguments: argparse.Namespace, given: Sequence[float]) -> np.ndarray:
    """Return the HHA image of a depth image as the options say; given: fx, fy, cx, cy, or nothing."""
    depth = read_depth(path, arguments.scale)
    raw = None if arguments.raw is None else read_depth(arguments.raw / path.name, arguments.scale)
    try:
        camera = Camera(*given) if given else nyud_camera(*depth.shape)
        measured = None if raw is None else np.isfinite(raw) & (raw > 0)
        if measured is not None and measured.shape != depth.shape:
            raise ValueError(f"it is {depth.shape}, but {arguments.raw / path.name} is {measured.shape}.")
        if arguments.crop is not None:
            depth, measured, camera = _cropped(depth, measured, camera, arguments.crop)
        return encode(depth, camera, measured, arguments.floor_percentile)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None


def nyud_camera(height: int, width: int) -> Camera:
    """Return the camera of NYUDv2's images of that size: the whole frames, or the experiments' cut of them."""
    top, left, *cut = NYUD_CROP
    if (height, width) == NYUD_FRAME:
        return NYUD
    if (height, width) == tuple(cut):
        return NYUD.cropped(top, left)
    raise ValueError(
        f"NYUDv2's depth images are 640 x 480 pixels, or cut to 560 x 425, but this one is {width} x {height}."
    )


def _cropped(
    depth: np.ndarray, measured: np.ndarray | None, camera: Camera, crop: Sequence[int]
) -> tuple[np.ndarray, np.ndarray | None, Camera]:
    top, left, height, width = crop
    if min(top, left) < 0 or min(height, width) < 1 or top + height > len(depth) or left + width > len(depth[0]):
        raise ValueError(
            f"--crop {top} {left} {height} {width} (top, left, height, width) is no part of an image of "
            f"{len(depth)} rows and {len(depth[0])} columns."
        )
    cut = (slice(top, top + height), slice(left, left + width))
    return depth[cut], None if measured is None else measured[cut], camera.cropped(top, left)


def _write(path: Path, image: np.ndarray) -> None:
    """Write an image as PNG, whole or not at all, making its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as partial:
            Image.fromarray(image).save(partial, format="PNG")
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error}") from None
