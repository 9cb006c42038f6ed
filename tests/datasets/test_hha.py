"""HHA images: of rooms whose camera, floor and walls are known, cast ray by ray; and the program that makes them."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from PIL import Image

from datasets import DatasetError, hha
from datasets.hha import NYUD, Camera, above_floor, encode, estimate_gravity, normals

CAMERA = Camera(fx=130.0, fy=128.0, cx=80.3, cy=61.1)
SIZE = (120, 160)
DOWN = np.array([0.0, 1.0, 0.0])  # the world's axes are those of a camera held level

FLOOR, CEILING, SIDE, BACK, TABLE, RAMP = range(6)
ABOVE_FLOOR = 1.5  # metres: the camera's height


def turned(pitch=0.0, roll=0.0, yaw=0.0):
    """Return the rotation, in degrees, that takes the camera's axes to the world's."""
    p, r, w = np.radians([pitch, roll, yaw])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])  # looks down by `pitch`
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(w), 0, np.sin(w)], [0, 1, 0], [-np.sin(w), 0, np.cos(w)]])
    return about_y @ about_x @ about_z


def room(rotation, camera=CAMERA, size=SIZE, ramp=30.0):
    """Cast a room: its depth in metres, and which of its surfaces each pixel sees.

    It is 4 m wide, 2.7 m high and closed 4 m ahead; the camera is ABOVE_FLOOR. A table's top is 0.75 m above the
    floor, and on the right a slope rises by `ramp` degrees.
    """
    rays = camera.rays(*size) @ rotation.T  # as long as the depth along the camera's axis is 1
    slope = np.radians(ramp)
    surfaces = [  # normal, distance along it, and what part of the plane there is
        (FLOOR, DOWN, ABOVE_FLOOR, None),
        (CEILING, -DOWN, 2.7 - ABOVE_FLOOR, None),
        (SIDE, np.array([-1.0, 0, 0]), 2.0, None),
        (SIDE, np.array([1.0, 0, 0]), 2.0, None),
        (BACK, np.array([0, 0, 1.0]), 4.0, None),
        (BACK, np.array([0, 0, -1.0]), 4.0, None),
        (TABLE, DOWN, ABOVE_FLOOR - 0.75, ((-1.6, -0.2), (1.4, 3.2))),
        (RAMP, np.array([0.0, np.cos(slope), np.sin(slope)]), 2.2, ((0.5, 1.9), (1.5, 3.9))),
    ]
    depth, seen = np.full(size, np.inf), np.zeros(size, int)
    for name, normal, distance, extent in surfaces:
        with np.errstate(divide="ignore"):
            t = distance / (rays @ normal)
        hit = (t > 0) & (t < depth)
        if extent is not None:
            for axis, (low, high) in zip((0, 2), extent, strict=True):
                place = t * rays[..., axis]
                hit &= (place > low) & (place < high)
        depth[hit], seen[hit] = t[hit], name
    return depth, seen


def inside(seen, surface, margin=4):
    """Where a pixel and all within `margin` of it see the one surface."""
    mask = seen == surface
    padded = np.pad(mask, margin, constant_values=True)
    height, width = mask.shape
    for dy in range(2 * margin + 1):
        for dx in range(2 * margin + 1):
            mask = mask & padded[dy : dy + height, dx : dx + width]
    return mask


def degrees_between(a, b):
    return np.degrees(np.arccos(np.clip(a @ b, -1, 1)))


POSES = [{}, {"pitch": 20}, {"pitch": 12, "roll": 8}, {"pitch": 30, "roll": -10, "yaw": 25}, {"pitch": -8, "roll": 3}]


@pytest.mark.parametrize("pose", POSES, ids=str)
def test_gravity_is_found_however_the_camera_is_held(pose):
    rotation = turned(**pose)
    depth, _ = room(rotation)
    gravity = estimate_gravity(normals(depth, CAMERA, hha.GRAVITY_RADIUS))
    assert np.linalg.norm(gravity) == pytest.approx(1)
    assert degrees_between(gravity, rotation.T @ DOWN) < 1


@pytest.mark.parametrize("pose", [{"pitch": 20}, {"pitch": 30, "roll": -10, "yaw": 25}], ids=str)
def test_each_channel_is_what_the_room_says(pose):
    rotation = turned(**pose)
    depth, seen = room(rotation)
    image = encode(depth, CAMERA)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    height = ABOVE_FLOOR - (CAMERA.rays(*SIZE) @ rotation.T * depth[..., None])[..., 1]

    np.testing.assert_array_equal(image[..., 0], np.clip(np.floor(31000 / (100 * depth).clip(100) + 0.5), 0, 255))
    # 1 degree of gravity is 7 cm at the room's far end.
    assert np.abs(image[..., 1] - (100 * height).clip(0, 255)).max() <= 7
    assert np.abs(image[..., 1] - (100 * height).clip(0, 255)).mean() <= 2
    for surface, angle in ((FLOOR, 0), (TABLE, 0), (SIDE, 90), (BACK, 90), (RAMP, 30), (CEILING, 180)):
        at = inside(seen, surface)
        if surface != CEILING or at.any():
            assert at.sum() > 30, surface
            assert np.abs(image[..., 2][at].astype(float) - (angle + 38)).max() <= 1.5, surface


def test_a_level_camera_gives_exact_heights():
    depth, seen = room(turned())
    height = above_floor(depth, CAMERA, DOWN)
    assert np.abs(height[seen == FLOOR]).max() < 1e-9
    assert height[seen == TABLE] == pytest.approx(0.75)
    assert height[seen == CEILING] == pytest.approx(2.7)


def test_normals_are_exact_on_planes_and_point_away_from_the_camera():
    rotation = turned(pitch=15, roll=5)
    depth, seen = room(rotation)
    found = normals(depth, CAMERA, 3)
    assert np.linalg.norm(found, axis=-1) == pytest.approx(1)
    assert (np.sum(found * CAMERA.rays(*SIZE), axis=-1) >= 0).all()
    for surface, normal in ((FLOOR, DOWN), (BACK, np.array([0, 0, 1.0]))):
        assert np.abs(found[inside(seen, surface)] - rotation.T @ normal).max() < 1e-9


def test_windows_reach_as_far_as_their_radius():
    depth = np.full((40, 40), 2.0)
    depth[:, 20:] = 3.0
    flat = np.abs(normals(depth, CAMERA, 3)[20, :, 2] - 1) < 1e-9
    assert flat.nonzero()[0].tolist() == [*range(17), *range(23, 40)]


def test_holes_change_no_normal_beside_them_and_take_the_nearest_depth():
    rotation = turned(pitch=20)
    depth, seen = room(rotation)
    whole = encode(depth, CAMERA)
    holes = np.random.default_rng(0).random(SIZE) < 0.2
    sparse = encode(np.where(holes, 0, depth), CAMERA)
    at = inside(seen, FLOOR) & ~holes
    assert np.abs(whole[at].astype(int) - sparse[at]).max() <= 2

    # A hole wider than any window: beyond a window's reach of its edge no plane can be laid. (One row within
    # reach lays none either.)
    hole = np.zeros(SIZE, bool)
    hole[50:71, 60:81] = True
    for missing in (0, np.nan, np.inf):
        image = encode(np.where(hole, missing, depth), CAMERA)
        assert (image[53:68, 63:78, 2] == 180 + 38).all()
        assert (image[50:52, 60:81, 2] != 180 + 38).all() and (image[50:71, 60:62, 2] != 180 + 38).all()
        assert image[60, 61, 0] == np.floor(31000 / max(100, 100 * depth[60, 59]) + 0.5)


def test_what_is_filled_in_counts_for_neither_normals_nor_gravity_nor_the_floor():
    rotation = turned(pitch=20)
    depth, _ = room(rotation)
    measured = np.ones(SIZE, bool)
    measured[90:] = False
    nonsense = np.where(measured, depth, 9.0)  # far under the floor
    image = encode(nonsense, CAMERA, measured)
    holed = encode(np.where(measured, depth, 0), CAMERA)
    np.testing.assert_array_equal(image[:90], holed[:90])
    np.testing.assert_array_equal(image[..., 2], holed[..., 2])
    assert (image[90:, :, 0] == 34).all()  # what was filled in is shown where it is
    assert (image[:80, :, 1] != encode(nonsense, CAMERA)[:80, :, 1]).any()


def test_noise_of_a_depth_camera_moves_gravity_and_heights_little():
    rotation = turned(pitch=18, roll=-6)
    depth, seen = room(rotation)
    noise = np.random.default_rng(1).normal(0, 0.0015, SIZE) * depth**2  # grows with the square, as a Kinect's
    noisy = depth + noise
    gravity = estimate_gravity(normals(noisy, CAMERA, hha.GRAVITY_RADIUS))
    assert degrees_between(gravity, rotation.T @ DOWN) < 1
    image = encode(noisy, CAMERA, floor_percentile=1)
    assert np.abs(image[..., 1][seen == TABLE] - 75.0).mean() < 5
    assert np.median(image[..., 2][inside(seen, BACK)]) == pytest.approx(128, abs=1)


def test_the_published_scale():
    # A wall ahead of a level camera, nothing below 90 cm under it: the floor is 130 cm under the camera.
    camera = Camera(500, 500, 50, 40)
    for metres, disparity in ((0.5, 255), (1.0, 255), (2.0, 155), (3.1, 100), (10.0, 31)):
        image = encode(np.full((80, 100), metres), camera)
        assert (image[..., 0] == disparity).all()
        np.testing.assert_array_equal(image[40, :, 1], 130)
        assert (image[..., 2] == 128).all()
    # uint8: 255 at most, from 2.55 m above the floor.
    tall = encode(np.full((80, 100), 3.0), Camera(50, 50, 50, 79), floor_percentile=0)
    assert tall[0, 0, 1] == 255 and tall[79, 0, 1] == 130


@pytest.mark.parametrize(("lowest", "floor"), [(0.89, 1.3), (0.91, 0.91), (2.0, 2.0)])
def test_the_floor_is_the_lowest_point_or_130_cm_down(lowest, floor):
    camera = Camera(10, 10, 0, 0)
    depth = np.full((11, 1), lowest)  # the last row looks down by 45 degrees: as far down as ahead
    assert above_floor(depth, camera, DOWN)[-1, 0] == pytest.approx(floor - lowest)


def test_a_stray_point_lowers_the_floor_unless_some_may_lie_under_it():
    depth, seen = room(turned(pitch=20))
    row, column = np.argwhere(seen == FLOOR)[-1]
    depth[row, column] += 1.0
    published = encode(depth, CAMERA)[..., 1][seen == TABLE].mean()
    robust = encode(depth, CAMERA, floor_percentile=0.1)[..., 1][seen == TABLE].mean()
    assert published > 85
    assert robust == pytest.approx(75, abs=3)


def test_units_that_scale_the_image_change_nothing():
    """Twice the resolution, or a mirrored camera, is the same scene."""
    rotation = turned(pitch=20)
    depth, seen = room(rotation)
    image = encode(depth, CAMERA)
    mirrored = encode(depth[:, ::-1], Camera(CAMERA.fx, CAMERA.fy, SIZE[1] - 1 - CAMERA.cx, CAMERA.cy))
    assert np.abs(image.astype(int) - mirrored[:, ::-1]).max() <= 1
    fine = Camera(2 * CAMERA.fx, 2 * CAMERA.fy, 2 * CAMERA.cx, 2 * CAMERA.cy)
    finer, _ = room(rotation, fine, (2 * SIZE[0], 2 * SIZE[1]))
    at = inside(seen, FLOOR)
    assert np.abs(image[at].astype(int) - encode(finer, fine)[::2, ::2][at]).max() <= 2


def test_a_crop_keeps_the_geometry():
    depth, _ = room(turned(pitch=20))
    cut = normals(depth[10:100, 20:150], CAMERA.cropped(10, 20), 3)
    np.testing.assert_allclose(cut[3:-3, 3:-3], normals(depth, CAMERA, 3)[13:97, 23:147], atol=1e-9)


def test_one_wall_alone_says_nothing_of_roll_and_the_first_estimate_stays():
    rotation = turned(pitch=25)
    rays = CAMERA.rays(*SIZE) @ rotation.T
    noise = np.random.default_rng(2).normal(0, 0.002, SIZE)
    depth = 2 / rays[..., 2] + noise
    gravity = estimate_gravity(normals(depth, CAMERA, hha.GRAVITY_RADIUS))
    assert degrees_between(gravity, rotation.T @ DOWN) < 1


def test_gravity_starts_from_the_estimate_given():
    rotation = turned(roll=80)
    depth, _ = room(rotation)
    found = normals(depth, CAMERA, hha.GRAVITY_RADIUS)
    assert degrees_between(estimate_gravity(found, rotation.T @ DOWN), rotation.T @ DOWN) < 1
    # A camera on its side takes walls for floors unless told how it is held.
    assert degrees_between(estimate_gravity(found), rotation.T @ DOWN) > 60


def test_images_too_small_for_a_plane_have_a_defined_encoding():
    for shape in ((1, 1), (1, 9), (2, 1)):
        image = encode(np.full(shape, 2.0), Camera(5, 5, 0, 0))
        assert (image[..., 2] == 218).all() and (image[..., 0] == 155).all()
    line = np.zeros((30, 30))
    line[np.arange(30), np.arange(30)] = 2.0  # measured along a diagonal: points, but no plane
    assert np.isnan(normals(line, CAMERA, 3)).all()
    np.testing.assert_array_equal(estimate_gravity(np.full((4, 3), np.nan)), DOWN)


@pytest.mark.parametrize(
    ("depth", "says"),
    [
        (np.zeros((4, 5)), "no depth at any pixel"),
        (np.full((4, 5), np.nan), "no depth at any pixel"),
        (np.full((4, 5), -1.0), "least is -1"),
        (np.full((4, 5), 2550.0), "another one"),
        (np.full((4, 5), 0.0025), "another one"),
        (np.ones((4, 5, 3)), "H x W"),
        (np.ones((0, 5)), "H x W"),
        (np.full((2, 2), "a"), "H x W"),
        (np.ones((2, 2), complex), "complex"),
    ],
    ids=["zeros", "nan", "negative", "millimetres", "kilometres", "colour", "empty", "text", "complex"],
)
def test_what_is_no_depth_in_metres_is_refused(depth, says):
    with pytest.raises(ValueError, match=says):
        encode(depth, CAMERA)


def test_wrong_settings_are_refused():
    depth = np.ones((4, 5))
    with pytest.raises(ValueError, match="is no camera"):
        Camera(0, 1, 2, 3)
    with pytest.raises(ValueError, match="is no camera"):
        Camera(1, 1, float("nan"), 3)
    with pytest.raises(ValueError, match="percentile"):
        encode(depth, CAMERA, floor_percentile=100)
    with pytest.raises(ValueError, match="radius"):
        normals(depth, CAMERA, 0)
    with pytest.raises(ValueError, match="measured"):
        encode(depth, CAMERA, np.ones((5, 4), bool))
    with pytest.raises(ValueError, match="direction"):
        estimate_gravity(np.ones((1, 3)), (0, 0, 0))


# The program


def program(*arguments):
    parser = argparse.ArgumentParser()
    hha.add_arguments(parser)
    return hha.run(parser.parse_args([str(a) for a in arguments]))


def save(path, depth_m, unit=1000.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(depth_m * unit).astype(np.uint16)).save(path)
    return path


PINHOLE = ("--fx", CAMERA.fx, "--fy", CAMERA.fy, "--cx", CAMERA.cx, "--cy", CAMERA.cy)


def test_the_program_writes_what_encode_gives(tmp_path):
    depth = np.round(room(turned(pitch=20))[0], 3)
    first = save(tmp_path / "a.png", depth)
    second = save(tmp_path / "b.png", depth + 0.5)
    said = program(first, second, *PINHOLE, "--out", tmp_path / "hha")
    assert said == f"2 HHA images in {tmp_path / 'hha'}"
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "hha" / "a.png")), encode(depth, CAMERA))
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "hha" / "b.png")), encode(depth + 0.5, CAMERA))
    assert [p.name for p in sorted((tmp_path / "hha").iterdir())] == ["a.png", "b.png"]


def test_the_program_scales_crops_and_knows_what_was_filled_in(tmp_path):
    depth = np.round(room(turned(pitch=20))[0], 3)
    raw = depth.copy()
    raw[30:60, 40:80] = 0
    path = save(tmp_path / "x.png", depth, 5000)
    save(tmp_path / "raw" / "x.png", raw, 5000)
    program(
        *(path, *PINHOLE, "--out", tmp_path / "out", "--scale", 0.2, "--raw", tmp_path / "raw"),
        *("--crop", 10, 20, 100, 130, "--floor-percentile", 1),
    )
    cut = np.s_[10:110, 20:150]
    wanted = encode(depth[cut], CAMERA.cropped(10, 20), raw[cut] > 0, floor_percentile=1)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "x.png")), wanted)


@pytest.mark.slow
def test_nyud_is_known_whole_and_cut(tmp_path):
    whole, cut = hha.nyud_camera(480, 640), hha.nyud_camera(425, 560)
    assert (whole.fx, whole.fy) == pytest.approx((518.858, 519.470), abs=1e-3)
    assert (whole.cx, whole.cy) == pytest.approx((324.582, 252.736), abs=1e-3)
    assert (cut.cx, cut.cy) == pytest.approx((284.582, 207.736), abs=1e-3) and cut.fx == NYUD.fx
    depth = np.round(room(turned(pitch=10), NYUD, (480, 640))[0], 3)
    program(save(tmp_path / "whole.png", depth), "--camera", "nyud", "--out", tmp_path, "--out", tmp_path / "out")
    image = np.array(Image.open(tmp_path / "out" / "whole.png"))
    assert image.shape == (480, 640, 3)
    # Of what indoor pictures show, about the published means: 132, 94, 118.
    assert np.abs(image.mean((0, 1)) - [132, 94, 118]).max() < 40
    with pytest.raises(DatasetError, match="640 x 480 pixels, or cut to 560 x 425, but this one is 160 x 120"):
        program(save(tmp_path / "small.png", np.ones(SIZE)), "--camera", "nyud", "--out", tmp_path / "out")


def test_what_the_program_cannot_do_is_said(tmp_path):
    good = save(tmp_path / "good.png", np.full(SIZE, 2.0))
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    (tmp_path / "damaged.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "text.png").write_text("<html>")
    again = save(tmp_path / "again" / "good.png", np.full(SIZE, 2.0))
    save(tmp_path / "raw" / "good.png", np.ones((3, 3)))
    out = ("--out", tmp_path / "out")
    for arguments, says in (
        ((good, *out), "Which camera"),
        ((good, *PINHOLE[:4], *out), "Which camera"),
        ((good, *PINHOLE, "--camera", "nyud", *out), "Which camera"),
        ((tmp_path / "none.png", *PINHOLE, *out), "There is no depth image .*none.png"),
        ((tmp_path / "colour.png", *PINHOLE, *out), "mode RGB"),
        ((tmp_path / "damaged.png", *PINHOLE, *out), "damaged.png cannot be read"),
        ((tmp_path / "text.png", *PINHOLE, *out), "text.png cannot be read"),
        ((good, again, *PINHOLE, *out), "would both be written"),
        ((good, *PINHOLE, "--out", tmp_path), "would be overwritten"),
        ((good, *PINHOLE, *out, "--scale", 0), "--scale is 0"),
        ((good, *PINHOLE, *out, "--scale", 1000), "good.png: Half of the depths are under 2000 m"),
        ((good, "--fx", -1, *PINHOLE[2:], *out), "is no camera"),
        ((good, *PINHOLE, *out, "--crop", 0, 0, 121, 10), "no part of an image of 120 rows"),
        ((good, *PINHOLE, *out, "--raw", tmp_path / "raw"), r"but .*good.png is \(3, 3\)"),
        ((good, *PINHOLE, *out, "--raw", tmp_path / "nowhere"), "There is no depth image"),
        ((good, *PINHOLE, "--out", good / "inside"), "cannot be written"),
    ):
        with pytest.raises(DatasetError, match=says):
            program(*arguments)
    assert not (tmp_path / "out").exists()
