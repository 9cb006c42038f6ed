"""What the generated set's scenes show: objects, rooms seen by a known camera, landscapes under a horizon."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import vis
from datasets import hha, landscapes, painting, rooms, scenes


def scene(seed: int, size: int = 160) -> scenes.Scene:
    return scenes.draw(np.random.default_rng(seed), size)


def room(seed: int, width: int = 160) -> rooms.Room:
    return rooms.draw(np.random.default_rng(seed), 3 * width // 4, width)


def landscape(seed: int, size: int = 128) -> landscapes.Landscape:
    return landscapes.draw(np.random.default_rng(seed), size, size, list(landscapes.CATEGORIES)[seed % 8])


# Objects


@pytest.mark.parametrize(
    ("seed", "size", "image", "label"),
    [
        (0, 160, "15b130fc949729f8", "363759b54b21009b"),
        (1, 64, "683c751e9ae2699e", "ae1766ac99ac2ac3"),
        (2, 160, "c8bf2817d22c6773", "3b7114ea11ce6955"),
    ],
)
def test_objects_are_those_that_published_figures_were_measured_on(
    seed: int, size: int, image: str, label: str
) -> None:
    drawn = scene(seed, size)
    assert hashlib.sha256(drawn.image.tobytes()).hexdigest().startswith(image)
    assert hashlib.sha256(drawn.label.tobytes()).hexdigest().startswith(label)


@pytest.mark.slow
def test_void_is_one_pixel_on_either_side_of_every_outline() -> None:
    for seed in range(5):
        drawn = scene(seed)
        label, objects = drawn.label, drawn.objects
        for row, column in np.ndindex(objects.shape):
            around = objects[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            on_outline = (around != objects[row, column]).any()
            expected = 255 if on_outline else drawn.classes[objects[row, column]]
            assert label[row, column] == expected, (seed, row, column)


def test_a_straight_outline_has_two_void_pixels_across_it() -> None:
    objects = np.zeros((8, 8), np.uint8)
    objects[:, 4:] = 1
    drawn = scenes.Scene(np.zeros((8, 8, 3), np.uint8), objects, np.array([0, 2], np.uint8))
    np.testing.assert_array_equal(drawn.label, np.tile([0, 0, 0, 255, 255, 2, 2, 2], (8, 1)))


def test_two_objects_of_one_class_are_parted_by_void() -> None:
    objects = np.ones((4, 8), np.uint8)
    objects[:, 4:] = 2
    drawn = scenes.Scene(np.zeros((4, 8, 3), np.uint8), objects, np.array([0, 3, 3], np.uint8))
    np.testing.assert_array_equal(drawn.label, np.tile([3, 3, 3, 255, 255, 3, 3, 3], (4, 1)))


@pytest.mark.slow
def test_every_class_occurs_and_nothing_else() -> None:
    labels = np.concatenate([scene(seed).label.ravel() for seed in range(30)])
    share = np.bincount(labels, minlength=256) / labels.size
    assert set(np.flatnonzero(share)) == {0, 1, 2, 3, 4, 5, 255}
    assert 0.4 < share[0] < 0.8
    assert (share[1:6] > 0.02).all()


@pytest.mark.slow
def test_scenes_hold_four_to_six_objects_of_many_sizes() -> None:
    drawn = [scene(seed) for seed in range(40)]
    assert {len(one.classes) - 1 for one in drawn} == {4, 5, 6}
    whole = [np.bincount(one.objects.ravel(), minlength=len(one.classes))[1:] for one in drawn]
    seen = np.concatenate(whole)
    assert (seen > 0).mean() > 0.98
    assert np.quantile(seen, 0.9) > 3 * np.quantile(seen, 0.1)


def test_objects_cover_one_another() -> None:
    touching = 0
    for seed in range(20):
        objects = scene(seed).objects
        left, right = objects[:, :-1], objects[:, 1:]
        touching += bool(((left != right) & (left > 0) & (right > 0)).any())
    assert touching >= 10


@pytest.mark.slow
def test_colour_does_not_tell_the_class() -> None:
    colours: dict[int, list[np.ndarray]] = {kind: [] for kind in range(1, 6)}
    for seed in range(120):
        drawn = scene(seed, 64)
        for number, kind in enumerate(drawn.classes[1:], 1):
            pixels = drawn.image[drawn.objects == number]
            if len(pixels):
                colours[int(kind)].append(pixels.mean(0))
    means = np.stack([np.mean(colours[kind], 0) for kind in colours])
    spread = np.std(np.concatenate(list(colours.values())), 0).mean()
    # About 120 objects a class: the mean of a class strays from the mean of all by some spread / 11.
    assert np.abs(means - means.mean(0)).max() < 0.4 * spread


@pytest.mark.parametrize("kind", range(1, 6))
def test_an_outline_fits_its_diameter(kind: int) -> None:
    y, x = np.mgrid[-1:1:201j, -1:1:201j]
    inside = scenes.OUTLINES[kind - 1](x, y) < 0
    reach = np.hypot(x, y)[inside].max()
    assert 0.49 < reach < 0.65
    assert 0.3 < inside.mean() * 4 < 0.9


@pytest.mark.parametrize(("kind", "hole"), [(1, False), (2, False), (3, False), (4, True), (5, False)])
def test_only_the_ring_has_a_hole(kind: int, hole: bool) -> None:
    centre = scenes.OUTLINES[kind - 1](np.zeros(1), np.zeros(1))
    assert (centre[0] > 0) == hole


# Canvas


def test_a_later_piece_covers_an_earlier_one_and_one_outside_is_left_out() -> None:
    canvas = painting.Canvas(np.random.default_rng(0), 4, 6, landscapes.LOOKS)
    canvas.add("sky", np.full((4, 6), -1.0))
    canvas.add("tree", np.full((4, 6), 9.0))
    canvas.add("grass", 1.5 - canvas.rows)
    assert canvas.kinds == ["sky", "grass"]
    np.testing.assert_array_equal(canvas.labels({"sky": 7, "grass": 9}), [[7] * 6, [7] * 6, [9] * 6, [9] * 6])
    assert np.abs(canvas.pixels[0].mean(0) - canvas.pixels[3].mean(0)).max() > 0.1


# Rooms


@pytest.mark.slow
def test_a_room_s_depth_is_of_a_pinhole_camera() -> None:
    measured = 0
    for seed in range(16):
        drawn = room(seed)
        height, width = drawn.depth.shape
        rows, columns = np.mgrid[0:height, 0:width]
        depth, focal = drawn.depth / 10.0, rooms.FOCAL * width
        points = np.stack([(columns - (width - 1) / 2) * depth, (rows - (height - 1) / 2) * depth], 2) / focal
        points = np.dstack([points, depth])
        floor = drawn.label == 1 + vis.CLASSES["nyud"].index("floor")
        if floor.sum() < 600:
            continue
        measured += 1
        centre = points[floor].mean(0)
        up = np.linalg.svd(points[floor] - centre, full_matrices=False)[2][2]
        up *= -np.sign(up[1])  # Image rows go down.
        assert np.abs((points[floor] - centre) @ up).max() < 0.2, "the floor is a plane, to within the millimetres"
        # Height above it, everywhere: the channel stops at 255, and is rounded.
        heights = np.minimum((points - centre) @ up, 255)
        np.testing.assert_allclose(drawn.hha[:, :, 1], heights, atol=1.0)
    assert measured >= 4


@pytest.mark.slow
def test_hha_of_a_room_is_on_the_published_scale() -> None:
    angles: set[int] = set()
    for seed in range(20):
        drawn = room(seed)
        disparity = np.minimum(31000 / np.maximum(drawn.depth / 10, 100), 255)
        np.testing.assert_allclose(drawn.hha[:, :, 0], disparity, atol=0.6)
        for name, angle in (("floor", 38), ("wall", 128), ("ceiling", 218)):
            seen = drawn.label == 1 + vis.CLASSES["nyud"].index(name)
            assert (drawn.hha[seen][:, 2] == angle).all()
        angles |= set(np.unique(drawn.hha[:, :, 2]))
    assert angles == {38, 128, 218}


def test_hha_of_a_room_is_what_is_estimated_from_its_depth() -> None:
    drawn = room(0, 320)
    height, width = drawn.depth.shape
    camera = hha.Camera(rooms.FOCAL * width, rooms.FOCAL * width, (width - 1) / 2, (height - 1) / 2)
    estimated = hha.encode(drawn.depth / 1000.0, camera).astype(int)
    agree = (np.abs(estimated - drawn.hha) <= 3).mean((0, 1))
    assert agree[0] > 0.99
    assert agree[1] > 0.95
    # Planes laid across an edge between two surfaces lean.
    assert agree[2] > 0.85


def test_rooms_are_about_as_deep_as_the_layer_expects() -> None:
    drawn = [room(seed, 64) for seed in range(20)]
    assert abs(np.mean([np.log(one.depth).mean() for one in drawn]) - 7.844) < 0.3
    means = np.mean([one.hha.mean((0, 1)) for one in drawn], 0)
    np.testing.assert_allclose(means, [132.4, 94.1, 118.5], atol=35)


@pytest.mark.slow
def test_every_kind_of_thing_is_in_some_room_and_void_is_along_outlines() -> None:
    labels = [room(seed, 96).label for seed in range(40)]
    names = {"void", *vis.CLASSES["nyud"]}
    seen = {("void", *vis.CLASSES["nyud"])[label] for one in labels for label in np.unique(one)}
    assert seen == {"void", *rooms.LOOKS} <= names
    assert 0.02 < np.mean([(one == 0).mean() for one in labels]) < 0.3


# Landscapes


def test_every_kind_of_thing_is_in_some_landscape() -> None:
    kinds = {kind for seed in range(40) for kind in landscape(seed, 96).canvas.kinds}
    assert kinds == set(landscapes.LOOKS)


def test_semantic_and_geometric_labels_tell_of_one_scene() -> None:
    names = ("not labelled", *vis.CLASSES["siftflow"])
    of_class: dict[str, set[int]] = {}
    for seed in range(24):
        drawn = landscape(seed)
        semantic, geometric = drawn.semantic(), drawn.geometric()
        for label in np.unique(semantic):
            of_class.setdefault(names[label], set()).update(np.unique(geometric[semantic == label]))
    assert of_class.pop("not labelled") == {-1, 0}
    assert of_class["sky"] == of_class["sun"] == {1}
    assert of_class["grass"] == of_class["sea"] == of_class["road"] == {2}
    assert of_class["building"] == of_class["tree"] == of_class["car"] == of_class["person"] == {3}
    assert all(len(classes) == 1 for classes in of_class.values())


def test_minus_one_is_along_the_edge_and_zero_along_the_outlines() -> None:
    drawn = landscape(3)
    geometric = drawn.geometric()
    edge = np.pad(np.zeros((126, 126), bool), 1, constant_values=True)
    np.testing.assert_array_equal(geometric == -1, edge)
    np.testing.assert_array_equal(geometric == 0, painting.borders(drawn.canvas.pieces) & ~edge)


def test_sky_is_above_the_ground() -> None:
    for seed in range(16):
        geometric = landscape(seed).geometric()
        rows = np.arange(len(geometric))[:, None] * np.ones_like(geometric)
        assert rows[geometric == 1].max() < rows[geometric == 2].min() + 3


@pytest.mark.slow
def test_things_nearer_to_the_camera_are_larger() -> None:
    # A fence is as high everywhere; its foot is the lower, the nearer it is.
    feet, heights = [], []
    for seed in range(60):
        drawn = landscapes.draw(np.random.default_rng(seed), 160, 160, "opencountry")
        fence = np.flatnonzero((drawn.semantic() == 1 + vis.CLASSES["siftflow"].index("fence")).any(1))
        if len(fence):
            feet.append(fence[-1])
            heights.append(len(fence))
    assert len(feet) > 40
    assert np.corrcoef(feet, heights)[0, 1] > 0.7


def test_every_pixel_has_one_of_the_names() -> None:
    names = {landscapes.CONTEXT_NAMES.get(kind, kind): number for number, kind in enumerate(landscapes.LOOKS, 300)}
    labels = [landscape(seed).context(names) for seed in range(24)]
    assert {int(label) for one in labels for label in np.unique(one)} == set(names.values())


# Learning


def test_colour_tells_much_of_rooms_and_landscapes() -> None:
    """The nearest of the classes' mean colours is right far more often than the most frequent class."""
    for draw, least in ((room_pixels, 0.25), (landscape_pixels, 0.35)):
        pixels, labels = (np.concatenate(parts) for parts in zip(*(draw(seed) for seed in range(8)), strict=True))
        tested, truth = (np.concatenate(parts) for parts in zip(*(draw(seed) for seed in range(50, 54)), strict=True))
        classes = np.unique(labels)
        means = np.stack([pixels[labels == one].mean(0) for one in classes])
        nearest = classes[((tested[:, None] - means) ** 2).sum(2).argmin(1)]
        assert mean_iu(nearest, truth) > least
        assert mean_iu(np.full_like(truth, np.bincount(labels).argmax()), truth) < 0.1


def room_pixels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = room(seed, 64)
    return drawn.image[drawn.label > 0].astype(float), drawn.label[drawn.label > 0]


def landscape_pixels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = landscape(seed, 64)
    label = drawn.semantic()
    return drawn.image[label > 0].astype(float), label[label > 0]


def mean_iu(predicted: np.ndarray, truth: np.ndarray) -> float:
    pairs = [(predicted == one, truth == one) for one in np.unique(truth)]
    return float(np.mean([(p & t).sum() / (p | t).sum() for p, t in pairs]))
