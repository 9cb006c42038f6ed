"""Mirror, jitter and masks: what they do to image and labels, and that a resumed run or another rank draws the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

import caffe
import layers
import vis
from reading import augmentation
from reading.augmentation import Change

MEAN = (100.0, 110.0, 120.0)
HEIGHT, WIDTH = 12, 16


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def labels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 1, 20, 255], np.uint8), (HEIGHT, WIDTH))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    (root / "images").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(picture(i)).save(root / "images" / f"{i}.png")
        vis.save_labels(root / "labels" / f"{i}.png", labels(i))
    (root / "train.txt").write_text("0\n1\n2\n")
    return root


def net_text(own: Path, **settings: object) -> str:
    param_str = str({"folder": str(own), "split": "train", "mean": MEAN, "classes": 21, "seed": 1337, **settings})
    return (
        'layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "layers" '
        f'layer: "FolderSegDataLayer" param_str: {json.dumps(param_str)} }} }}\n'
    )


def net_of(tmp_path: Path, own: Path, phase: int = caffe.TRAIN, **settings: object) -> caffe.Net:
    path = tmp_path / "net.prototxt"
    path.write_text(net_text(own, **settings))
    return caffe.Net(str(path), phase)


Pair = tuple[np.ndarray, np.ndarray]


def passes(net: caffe.Net, count: int) -> list[Pair]:
    given = []
    for _ in range(count):
        net.forward()
        given.append((net.blobs["data"].data[0].copy(), net.blobs["label"].data[0].copy()))
    return given


def same(some: list[Pair], others: list[Pair]) -> bool:
    pairs = zip(some, others, strict=True)
    return all(np.array_equal(a, c) and np.array_equal(b, d) for (a, b), (c, d) in pairs)


# What a change does


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (0, -3), (-1, 1), (5, -7), (99, 0), (0, -99)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_change_mirrors_then_moves_each_pixel(mirrored, down, right):
    values = np.arange(1, 1 + 2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7)
    found = augmentation.changed(values, Change(mirrored, down, right), 0)
    expected = np.zeros_like(values)
    for y in range(5):
        for x in range(7):
            new_y, new_x = y + down, (6 - x if mirrored else x) + right
            if 0 <= new_y < 5 and 0 <= new_x < 7:
                expected[:, new_y, new_x] = values[:, y, x]
    assert np.array_equal(found, expected)


def test_changes_are_drawn_evenly_and_by_number_alone():
    drawn = [augmentation.draw_change(1337, number, True, 2) for number in range(2000)]
    assert drawn == [augmentation.draw_change(1337, number, True, 2) for number in range(2000)]
    assert 0.46 < np.mean([change.mirrored for change in drawn]) < 0.54
    for moves in ([change.down for change in drawn], [change.right for change in drawn]):
        counts = np.bincount(np.array(moves) + 2)
        assert len(counts) == 5 and np.abs(counts - 400).max() < 60
    assert drawn[:50] != [augmentation.draw_change(1338, number, True, 2) for number in range(50)]
    still = augmentation.draw_change(1337, 7, False, 0)
    assert still == Change(False, 0, 0)
    # What jitter draws does not depend on whether there is mirroring, nor the other way round.
    assert [c.down for c in drawn[:50]] == [augmentation.draw_change(1337, n, False, 2).down for n in range(50)]


# What a net is given


def test_mirror_flips_image_and_labels_together_about_every_other_time(tmp_path, own):
    plain, mirrored = (passes(net_of(tmp_path, own, mirror=m), 60) for m in (False, True))
    flips = 0
    for (data, label), (given_data, given_label) in zip(plain, mirrored, strict=True):
        flipped = not np.array_equal(data, given_data)
        flips += flipped
        step = -1 if flipped else 1
        assert np.array_equal(given_data, data[:, :, ::step])
        assert np.array_equal(given_label, label[:, :, ::step])
    assert 15 < flips < 45


def test_jitter_moves_image_and_labels_together_over_mean_and_void(tmp_path, own):
    plain, moved = (passes(net_of(tmp_path, own, jitter=j), 30) for j in (0, 4))
    moves = set()
    for (data, label), (given_data, given_label) in zip(plain, moved, strict=True):
        fits = [
            (down, right)
            for down in range(-4, 5)
            for right in range(-4, 5)
            if np.array_equal(given_data, augmentation.changed(data, Change(False, down, right), 0))
            and np.array_equal(given_label, augmentation.changed(label, Change(False, down, right), 255))
        ]
        assert len(fits) == 1
        moves.add(fits[0])
    assert len(moves) > 15


@pytest.mark.parametrize("settings", [{"mirror": True}, {"jitter": 4}])
def test_nothing_is_augmented_in_the_test_phase(tmp_path, own, settings):
    assert same(passes(net_of(tmp_path, own, caffe.TEST, **settings), 8), passes(net_of(tmp_path, own, caffe.TEST), 8))


def test_the_order_of_images_is_the_same_with_augmentation(own):
    layers_of = by_hand(own, mirror=False, jitter=0), by_hand(own)
    ids: list[list[str | None]] = [[], []]
    for _ in range(20):
        for layer, given in zip(layers_of, ids, strict=True):
            given_by(layer, 1)
            given.append(layer.current_id)
    assert ids[0] == ids[1]


def test_two_label_tops_move_as_their_image_does(tmp_path):
    spatial = "spatial_envelope_256x256_static_8outdoorcategories"
    for folder in ("Images", "SemanticLabels", "GeoLabels"):
        (tmp_path / folder / spatial).mkdir(parents=True)
    rows = np.arange(HEIGHT)[:, np.newaxis] * np.ones((1, WIDTH), int)
    Image.fromarray((rows * 10).astype(np.uint8)).save(tmp_path / "Images" / spatial / "a.jpg", quality=100)
    scipy.io.savemat(tmp_path / "SemanticLabels" / spatial / "a.mat", {"S": rows + 1})
    scipy.io.savemat(tmp_path / "GeoLabels" / spatial / "a.mat", {"S": rows % 3 + 1})
    (tmp_path / "trainval.txt").write_text("a\n")
    settings = {"siftflow_dir": str(tmp_path), "split": "trainval", "mean": (0, 0, 0), "jitter": 5, "seed": 1}
    layer = layers.SIFTFlowSegDataLayer(caffe.proto.caffe_pb2.LayerParameter())
    layer.phase = caffe.TRAIN
    layer.param_str = str(settings)
    layer.setup([], [None, None, None])
    for _ in range(5):
        tops = [Top(), Top(), Top()]
        layer.reshape([], tops)
        layer.forward([], tops)
        data, sem, geo = (top.data[0, 0] for top in tops)
        inside = sem != 255
        assert 0 < inside.sum() < inside.size
        assert np.array_equal(geo != 255, inside)
        assert np.array_equal(geo[inside], sem[inside] % 3)
        assert np.abs(data[inside] - 10 * sem[inside]).max() < 4
        assert not data[~inside].any()


class Top:
    """A blob as far as a data layer goes."""

    def reshape(self, *shape: int) -> None:
        self.data = np.zeros(shape, np.float32)


# Who draws what


def by_hand(own: Path, **settings: object) -> layers.FolderSegDataLayer:
    """Return a layer that no net runs ahead."""
    layer = layers.FolderSegDataLayer(caffe.proto.caffe_pb2.LayerParameter())
    layer.phase = caffe.TRAIN
    given = {"folder": str(own), "split": "train", "mean": MEAN, "classes": 21, "mirror": True, "jitter": 3}
    layer.param_str = str({**given, "seed": 1337, **settings})
    layer.setup([], [None, None])
    return layer


def given_by(layer: layers.SegDataLayer, count: int) -> list[Pair]:
    given = []
    for _ in range(count):
        tops = [Top(), Top()]
        layer.reshape([], tops)
        layer.forward([], tops)
        given.append((tops[0].data[0], tops[1].data[0]))
    return given


def test_a_layer_that_runs_ahead_gives_what_one_in_place_does(tmp_path, own):
    assert same(passes(net_of(tmp_path, own, mirror=True, jitter=3), 12), given_by(by_hand(own), 12))


@pytest.mark.parametrize("settings", [{}, {"seed": None}, {"randomize": False}, {"randomize": False, "seed": None}])
def test_a_resumed_layer_augments_as_one_that_never_stopped(own, settings):
    layer = by_hand(own, **settings)
    given_by(layer, 7)
    state = json.loads(json.dumps(layer.state()))
    after = given_by(layer, 9)
    resumed = by_hand(own, **settings)
    resumed.set_state(state)
    assert same(given_by(resumed, 9), after)
    assert len({data.tobytes() for data, _ in after}) > 3  # of three images: they were augmented


def test_an_image_that_comes_again_is_augmented_anew(own):
    (own / "train.txt").write_text("0\n")
    assert len({data.tobytes() for data, _ in given_by(by_hand(own), 30)}) > 20


@pytest.mark.parametrize("settings", [{}, {"randomize": False}])
def test_solvers_that_train_together_share_out_the_augmented_images_too(own, monkeypatch, settings):
    alone = given_by(by_hand(own, **settings), 12)
    monkeypatch.setattr(caffe, "solver_count", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(caffe, "solver_rank", lambda rank=rank: rank)
        assert same(given_by(by_hand(own, **settings), 4), alone[rank::3])


def test_a_solver_that_is_resumed_trains_on_the_same_augmented_images(tmp_path, own):
    """The whole way: with mirror, jitter and loss sampling a solver that was stopped ends with the same weights."""
    net = net_text(own, mirror=True, jitter=3, scale=0.01) + (
        'layer { name: "sampled" type: "Python" bottom: "label" top: "sampled" python_param { module: "layers" '
        "layer: \"LossSamplingLayer\" param_str: \"{'keep': 0.5, 'cell': 4, 'seed': 7}\" } }\n"
        'layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 21 '
        'kernel_size: 1 weight_filler { type: "xavier" } } }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "sampled" top: "loss" '
        "loss_param { ignore_label: 255 } }\n"
    )
    (tmp_path / "train.prototxt").write_text(net)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/train.prototxt" base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" random_seed: 3 '
        f'snapshot_prefix: "{tmp_path}/train" display: 0\n'
    )

    def weights(solver: caffe.SGDSolver) -> np.ndarray:
        return solver.net.params["score"][0].data.copy()

    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    solver.step(5)
    solver.snapshot()
    solver.step(6)
    unbroken = weights(solver)
    assert solver.net.layers[1].passes == 11

    resumed = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    resumed.restore(str(tmp_path / "train_iter_5.solverstate"))
    assert resumed.net.layers[1].passes == 5
    resumed.step(6)
    assert np.array_equal(weights(resumed), unbroken)

    anew = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    anew.restore(str(tmp_path / "train_iter_5.solverstate"))
    anew.net.layers[1].passes = 0  # other draws do matter
    anew.step(6)
    assert not np.array_equal(weights(anew), unbroken)


# Masks


def masked(tmp_path: Path, own: Path, mask: str | None, **settings: object) -> Pair:
    (pair,) = passes(net_of(tmp_path, own, caffe.TEST, mask=mask, randomize=False, **settings), 1)
    return pair


@pytest.mark.parametrize(("mask", "hidden"), [("foreground", [1, 20, 255]), ("background", [0, 255])])
def test_a_mask_hides_pixels_behind_the_mean_and_leaves_the_labels(tmp_path, own, mask, hidden):
    plain, label = masked(tmp_path, own, None)
    data, same_label = masked(tmp_path, own, mask)
    hides = np.isin(label[0], hidden)
    assert 0 < hides.sum() < hides.size
    assert not data[:, hides].any()
    assert np.array_equal(data[:, ~hides], plain[:, ~hides])
    assert np.array_equal(label, same_label) and np.array_equal(label[0], labels(0))


def test_masking_both_leaves_the_shapes_white_on_black(tmp_path, own):
    data, label = masked(tmp_path, own, "both", scale=0.5)
    shape = np.isin(label[0], [1, 20])
    for channel, mean in enumerate(MEAN):
        assert np.array_equal(data[channel], np.where(shape, (255 - mean) / 2, (0 - mean) / 2))


def test_a_masked_image_is_augmented_like_any_other(tmp_path, own):
    settings = {"mask": "background", "mirror": True, "jitter": 3}
    for data, label in passes(net_of(tmp_path, own, **settings), 10):
        assert not data[:, np.isin(label[0], [0, 255])].any()
