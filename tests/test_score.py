"""score.py: the metrics, scoring a net over a set, saved predictions, result files and the program."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import caffe
import score
import vis
from nets import folders
from scoring import released

IDS = ["2007_c", "2007_a", "2007_b"]
SIZES = [(6, 8), (5, 5), (9, 7)]
CLASSES = 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images in the VOC layout, with void borders; class 3 is in no label."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data" / "VOC2011"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for image_id, size in zip(IDS, SIZES, strict=True):
        rgb = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(root / "JPEGImages" / f"{image_id}.jpg")
        labels = rng.integers(0, 3, size)
        labels[0] = 255
        vis.save_labels(root / "SegmentationClass" / f"{image_id}.png", labels)
    (root / "ImageSets/Segmentation/seg11valid.txt").write_text("\n".join(IDS))
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(reversed(IDS)))
    return root.parent


@pytest.fixture
def folder(tmp_path: Path, data: Path) -> Path:
    """An experiment: a 1x1 convolution, with weights, that reads ../data/VOC2011."""
    folder = tmp_path / "tiny-fcn"
    folder.mkdir()
    settings = {"voc_dir": "../data/VOC2011", "split": "seg11valid", "mean": (100, 110, 120), "seed": 1337}
    (folder / "val.prototxt").write_text(
        'layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "layers" '
        f'layer: "VOCSegDataLayer" param_str: {json.dumps(str(settings))} }} }}\n'
        'layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param '
        f'{{ num_output: {CLASSES} kernel_size: 1 weight_filler {{ type: "gaussian" std: 1 }} }} }}\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" '
        "loss_param { ignore_label: 255 normalize: true } }\n"
    )
    return folder


@pytest.fixture
def net(folder: Path, monkeypatch: pytest.MonkeyPatch) -> caffe.Net:
    monkeypatch.chdir(folder)
    caffe.set_random_seed(3)
    made = caffe.Net("val.prototxt", caffe.TEST)
    (folder / "snapshot").mkdir()
    made.save("snapshot/train_iter_20.caffemodel")
    return made


def one_by_one(folder: Path) -> tuple[np.ndarray, list[float], list[np.ndarray]]:
    """Return confusion matrix, losses and predictions, counted pixel by pixel on a net of its own."""
    other = caffe.Net(str(folder / "val.prototxt"), str(folder / "snapshot/train_iter_20.caffemodel"), caffe.TEST)
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    losses, predictions = [], []
    for _ in IDS:
        losses.append(float(other.forward()["loss"]))
        truth = other.blobs["label"].data[0, 0]
        prediction = np.argmax(other.blobs["score"].data[0], axis=0)
        for t, p in zip(truth.flat, prediction.flat, strict=True):
            if t != 255:
                confusion[int(t), int(p)] += 1
        predictions.append(prediction)
    return confusion, losses, predictions


# The metrics


def test_means_without_the_background_leave_out_the_first_class():
    scores = score.Scores(np.array([[6, 2, 0], [1, 3, 0], [2, 0, 2]]))
    assert scores.without_background == pytest.approx(((3 / 4 + 2 / 4) / 2, (3 / 6 + 2 / 4) / 2))
    assert "without background   50.00" in scores.table(["background", "cat", "dog"])
    assert "without background" not in scores.table(["sky", "cat", "dog"])


def test_fast_hist_counts_each_labelled_pixel_once():
    truth = np.array([0, 0, 1, 255, 2, -1])
    prediction = np.array([0, 2, 1, 1, 2, 0])
    assert score.fast_hist(truth, prediction, 3).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]


def test_fast_hist_takes_no_prediction_that_is_no_class():
    with pytest.raises(ValueError, match="from 0 to 255, but there are 3 classes"):
        score.fast_hist(np.array([0, 1]), np.array([0, 255]), 3)
    assert score.fast_hist(np.array([0, 255]), np.array([0, 255]), 3).sum() == 1
    with pytest.raises(ValueError, match="2 true labels, but 3"):
        score.fast_hist(np.zeros(2), np.zeros(3), 3)


def test_metrics_are_the_papers():
    scores = score.Scores(np.array([[6, 2, 0], [1, 3, 0], [2, 0, 2]]))
    ious = [6 / 11, 3 / 6, 2 / 4]
    assert scores.pixel_accuracy == pytest.approx(11 / 16)
    assert scores.mean_accuracy == pytest.approx((6 / 8 + 3 / 4 + 2 / 4) / 3)
    assert scores.class_iu == pytest.approx(ious)
    assert scores.mean_iu == pytest.approx(sum(ious) / 3)
    assert scores.fw_iu == pytest.approx((8 * ious[0] + 4 * ious[1] + 4 * ious[2]) / 16)
    assert scores.mean_over(scores.class_iu, [0, 2]) == pytest.approx((ious[0] + ious[2]) / 2)


def test_a_class_that_the_truth_lacks_is_in_no_mean_even_if_it_is_predicted():
    scores = score.Scores(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 4]]))
    assert scores.class_iu == pytest.approx([3 / 4, np.nan, 1], nan_ok=True)
    assert scores.mean_iu == pytest.approx((3 / 4 + 1) / 2)
    assert scores.mean_accuracy == pytest.approx((3 / 4 + 1) / 2)
    assert scores.fw_iu == pytest.approx((4 * 3 / 4 + 4) / 8)
    assert scores.mean_over(scores.class_iu, [1, 2]) == 1
    table = scores.table(["ground", "ghost", "cross"])
    assert "not in the ground truth, and in no mean: ghost" in table
    assert "87.50" in table


def test_without_labelled_pixels_nothing_is_known():
    scores = score.Scores(np.zeros((2, 2), np.int64))
    assert all(np.isnan(v) for v in (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iu, scores.fw_iu))
    assert json.dumps(scores.to_json(), allow_nan=False)


def test_scores_survive_json():
    scores = score.Scores(np.array([[3, 1], [0, 0]]), 0.25, 7)
    back = score.Scores.from_json(json.loads(json.dumps(scores.to_json(), allow_nan=False)))
    assert np.array_equal(back.confusion, scores.confusion)
    assert (back.loss, back.images, back.mean_iu) == (0.25, 7, scores.mean_iu)
    assert np.isnan(score.Scores.from_json(score.Scores(scores.confusion).to_json()).loss)


# Over a set


def test_a_set_is_counted_as_a_whole(net, folder, tmp_path):
    confusion, losses, predictions = one_by_one(folder)
    hist, loss = score.compute_hist(net, tmp_path / "saved", IDS)
    assert np.array_equal(hist, confusion)
    assert loss == pytest.approx(np.mean(losses))
    for image_id, prediction in zip(IDS, predictions, strict=True):
        image = Image.open(tmp_path / "saved" / f"{image_id}.png")
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), prediction)


def test_scoring_again_in_the_same_folder_gives_the_same(net, tmp_path):
    first = score.compute_hist(net, tmp_path, IDS)
    second = score.compute_hist(net, tmp_path, IDS)
    assert np.array_equal(first[0], second[0]) and first[1] == second[1]


def test_a_net_that_stands_in_the_middle_of_its_list_is_wound_on(net, folder):
    confusion, _, _ = one_by_one(folder)
    first_two = score.compute_hist(net, None, IDS[:2])[0]
    assert np.array_equal(score.compute_hist(net, None, IDS[:2])[0], first_two)
    net.forward()
    assert np.array_equal(score.compute_hist(net, None, IDS)[0], confusion)


def test_other_images_than_the_nets_are_refused(net):
    with pytest.raises(ValueError, match="reads the 3 images of the split 'seg11valid'"):
        score.compute_hist(net, None, sorted(IDS))
    with pytest.raises(ValueError, match="no blob 'scores'"):
        score.compute_hist(net, None, IDS, layer="scores")


def batch_net(tmp_path: Path, labels: np.ndarray, scores: np.ndarray) -> caffe.Net:
    """Return a net that gives the same batch at each pass."""
    return input_net(tmp_path, {"score": scores, "label": labels, "loss": np.array([5.0])})


def input_net(tmp_path: Path, inputs: dict[str, np.ndarray]) -> caffe.Net:
    """Return a net whose blobs are these, at each pass."""
    (tmp_path / "batch.prototxt").write_text(
        "".join(
            f'layer {{ name: "{name}" type: "Input" top: "{name}" '
            f"input_param {{ shape {{ {' '.join(f'dim: {n}' for n in values.shape)} }} }} }}\n"
            for name, values in inputs.items()
        )
    )
    made = caffe.Net(str(tmp_path / "batch.prototxt"), caffe.TEST)
    for name, values in inputs.items():
        made.blobs[name].data[...] = values
    return made


def test_a_batch_of_any_size_is_counted_up_to_the_last_image(tmp_path):
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, (3, 1, 4, 5)), rng.normal(size=(3, 2, 4, 5))
    net = batch_net(tmp_path, labels, scores)
    hists = [score.fast_hist(labels[i], scores[i].argmax(0), 2) for i in range(3)]
    seen: list[str] = []
    hist, loss = score.compute_hist(net, None, list("abcde"), on_image=seen.append)
    assert np.array_equal(hist, 2 * hists[0] + 2 * hists[1] + hists[2])
    assert seen == list("abcde")
    assert loss == 5


def test_scores_and_labels_of_different_sizes_are_refused(tmp_path):
    net = batch_net(tmp_path, np.zeros((1, 1, 4, 5)), np.zeros((1, 2, 5, 4)))
    with pytest.raises(ValueError, match=r"\(1, 2, 5, 4\), but the labels 'label' \(1, 1, 4, 5\)"):
        score.compute_hist(net, None, ["a"])


def test_a_solvers_test_net_is_scored_with_the_weights_that_train(net, folder, tmp_path, capsys):
    confusion, losses, _ = one_by_one(folder)
    test_net = caffe.Net(str(folder / "val.prototxt"), caffe.TEST)
    solver = SimpleNamespace(net=net, test_nets=[test_net], iter=20)
    scores = score.seg_tests(solver, str(tmp_path / "saved" / "{}"), np.array(IDS))
    assert np.array_equal(scores.confusion, confusion)
    assert (scores.images, scores.loss) == (3, pytest.approx(np.mean(losses)))
    assert sorted(p.name for p in (tmp_path / "saved" / "20").iterdir()) == [f"{i}.png" for i in sorted(IDS)]
    printed = capsys.readouterr().out
    assert "Begin seg tests" in printed
    for line in ("loss", "overall accuracy", "mean accuracy", "mean IU", "fwavacc"):
        assert f"Iteration 20 {line} " in printed


def test_the_heads_are_known_by_what_the_net_reads(net, tmp_path):
    assert score.heads(net) == [("score", "label")]
    shape = "input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } }"
    (tmp_path / "two.prototxt").write_text(
        f'layer {{ name: "in" type: "Input" top: "data" top: "sem" top: "geo" {shape} }}\n'
        + "".join(
            f'layer {{ name: "{top}" type: "Power" bottom: "data" top: "{top}" }}\n'
            for top in ("pool4", "score_pool4", "score_geo", "score_sem")
        )
    )
    assert score.heads(caffe.Net(str(tmp_path / "two.prototxt"), caffe.TEST)) == [
        ("score_sem", "sem"),
        ("score_geo", "geo"),
    ]
    (tmp_path / "none.prototxt").write_text(f'layer {{ name: "in" type: "Input" top: "data" {shape} }}\n')
    with pytest.raises(ValueError, match=r"nothing to score: .* it reads data and has data"):
        score.heads(caffe.Net(str(tmp_path / "none.prototxt"), caffe.TEST))


def test_heads_are_scored_in_one_pass_each_with_its_own_loss(tmp_path):
    rng = np.random.default_rng(1)
    inputs = {
        "sem": rng.integers(0, 3, (1, 1, 4, 5)),
        "geo": rng.integers(0, 2, (1, 1, 4, 5)),
        "score_sem": rng.normal(size=(1, 3, 4, 5)),
        "score_geo": rng.normal(size=(1, 2, 4, 5)),
        "loss": np.array([5.0]),
        "loss_geo": np.array([7.0]),
    }
    net = input_net(tmp_path, inputs)
    passes = []
    forward = net.forward
    net.forward = lambda **options: passes.append(options) or forward(**options)
    scores = score.score_heads(net, ["a", "b"], score.heads(net), tmp_path / "saved")
    assert len(passes) == 2
    for head in ("sem", "geo"):
        labels, prediction = inputs[head][0], inputs[f"score_{head}"][0].argmax(0)
        classes = inputs[f"score_{head}"].shape[1]
        found = scores[f"score_{head}"]
        assert np.array_equal(found.confusion, 2 * score.fast_hist(labels, prediction, classes))
        with Image.open(tmp_path / "saved" / head / "b.png") as image:
            assert np.array_equal(np.asarray(image), prediction)
    assert (scores["score_sem"].loss, scores["score_geo"].loss) == (5, 7)


# The program


@pytest.fixture
def run(net: caffe.Net, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run score.py in the experiment's folder; return its exit status."""
    monkeypatch.setenv("FCN_DATA", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lambda *options: score.main(["--out", str(tmp_path / "out"), *options])


def test_the_program_scores_the_experiment_it_runs_in(run, folder, tmp_path, capsys):
    assert run("--split", "seg11valid", "--save") == 0
    confusion, losses, _ = one_by_one(folder)
    stored = json.loads((tmp_path / "out" / "seg11valid_iter_20.json").read_text())
    assert stored["confusion"] == confusion.tolist()
    assert stored["loss"] == pytest.approx(np.mean(losses))
    assert (stored["experiment"], stored["split"], stored["iteration"]) == ("tiny-fcn", "seg11valid", 20)
    assert stored["mean_iu"] == pytest.approx(score.Scores(confusion).mean_iu)
    assert stored["class_iu"][3] is None
    assert len(stored["weights"]["sha256"]) == len(stored["split_sha256"]) == 64
    assert stored["date"].endswith("+00:00")
    assert (stored["schema"], stored["head"], stored["split_images"], stored["images"]) == (2, "score", 3, 3)
    assert (stored["mask"], stored["stitch"], stored["rehearsal"], stored["released"]) == (None, None, False, False)
    assert stored["mean_iu_without_background"] is None  # These classes have no names.
    assert (tmp_path / "out" / "seg11valid" / "2007_a.png").is_file()
    printed = capsys.readouterr().out
    assert "3 of 3 images" in printed and "mean IU" in printed and "class 2" in printed


def test_the_program_scores_another_split_elsewhere(run, data, folder, tmp_path, monkeypatch):
    elsewhere = data.rename(tmp_path / "disk")
    monkeypatch.chdir(tmp_path)
    weights = folder / "snapshot" / "train_iter_20.caffemodel"
    options = ("--net", "tiny-fcn", "--weights", str(weights.relative_to(tmp_path)), "--data", str(elsewhere))
    assert run("--split", "train", "--limit", "2", *options) == 0
    stored = json.loads((tmp_path / "out" / "train_iter_20_first_2.json").read_text())
    pixels = sum((h - 1) * w for h, w in (SIZES[2], SIZES[1]))  # train.txt is the list reversed
    assert (stored["images"], stored["split_images"]) == (2, 3)
    assert np.sum(stored["confusion"]) == pixels


def test_weights_of_another_net_are_named(run, folder, tmp_path, capsys):
    text = (folder / "val.prototxt").read_text()
    (folder / "val.prototxt").write_text(text.replace(f"num_output: {CLASSES}", f"num_output: {CLASSES + 1}"))
    assert run("--split", "seg11valid") == 1
    assert "train_iter_20.caffemodel are not for this net (val.prototxt): " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_how_to_train_a_variant_is_told(folder):
    (folder.parent / "solve.py").touch()
    with pytest.raises(FileNotFoundError, match=rf"cd {folder.parent} && python solve.py tiny-fcn`"):
        folders.find_weights(folder, None)
    (folder / "solve.py").touch()
    with pytest.raises(FileNotFoundError, match=rf"cd {folder} && python solve.py`"):
        folders.find_weights(folder, None)


def test_the_furthest_snapshot_is_taken_before_the_experiments_own_file(folder):
    (folder / "tiny-fcn.caffemodel").touch()
    assert folders.find_weights(folder, None).name == "tiny-fcn.caffemodel"
    (folder / "snapshot").mkdir()
    for name in ("a_iter_9.caffemodel", "a_iter_100.caffemodel.h5", "a_iter_20.caffemodel", "a_iter_200.solverstate"):
        (folder / "snapshot" / name).touch()
    assert folders.find_weights(folder, None).name == "a_iter_100.caffemodel.h5"


def test_what_is_missing_is_said_with_what_to_do(run, folder, data, tmp_path, capsys, monkeypatch):
    def said(*options: str) -> str:
        assert run("--split", "seg11valid", *options) == 1
        return capsys.readouterr().err

    assert "There are no weights nowhere.caffemodel" in said("--weights", "nowhere.caffemodel")
    assert "--limit is 0" in said("--limit", "0")
    (data / "VOC2011" / "ImageSets/Segmentation/seg11valid.txt").unlink()
    assert "seg11valid.txt" in said()
    (folder / "snapshot/train_iter_20.caffemodel").unlink()
    assert "python solve.py" in said()
    (folder / "val.prototxt").write_text("layer {")
    (folder / "deploy.prototxt").touch()
    (folder / "tiny-fcn.caffemodel").touch()
    assert "val.prototxt is no prototxt of a net" in said()
    (folder / "val.prototxt").unlink()
    assert "python -m nets" in said()
    monkeypatch.chdir(tmp_path)
    assert "this folder is none" in said()
    assert "there is none in 'voc-fcn64s'" in said("--net", "voc-fcn64s")


def test_weights_that_are_all_zero_are_warned_about(run, net, capsys):
    net.params["score"][0].data[...] = 0
    net.params["score"][1].data[...] = 0
    net.save("snapshot/train_iter_40.caffemodel")
    assert run("--split", "seg11valid") == 0
    assert "the weights of score are all zero" in capsys.readouterr().err


def test_a_mask_hides_what_it_names_and_is_told_in_the_file(run, folder, tmp_path, capsys):
    assert run("--split", "seg11valid", "--mask", "both") == 0
    masked = json.loads((tmp_path / "out" / "seg11valid_iter_20_mask_both.json").read_text())
    assert masked["mask"] == "both"
    # The shapes alone: all pixels of an image are black or white, so the net tells no more than two colours apart.
    assert sum(any(column) for column in zip(*masked["confusion"], strict=True)) <= 2
    assert np.sum(masked["confusion"]) == sum((h - 1) * w for h, w in SIZES)
    # A net that is masked by itself is so without being asked, and can be scored without.
    prototxt = folder / "val.prototxt"
    prototxt.write_text(prototxt.read_text().replace("'seed': 1337", "'seed': 1337, 'mask': 'both'"))
    assert run("--split", "seg11valid") == 0
    own = json.loads((tmp_path / "out" / "seg11valid_iter_20.json").read_text())
    assert (own["mask"], own["confusion"]) == ("both", masked["confusion"])
    assert run("--split", "seg11valid", "--mask", "none") == 0
    bare = json.loads((tmp_path / "out" / "seg11valid_iter_20_mask_none.json").read_text())
    assert bare["mask"] is None
    assert bare["confusion"] == one_by_one_unmasked(folder).tolist()


def one_by_one_unmasked(folder: Path) -> np.ndarray:
    prototxt = folder / "val.prototxt"
    prototxt.write_text(prototxt.read_text().replace(", 'mask': 'both'", ""))
    return one_by_one(folder)[0]


def test_stitched_scores_are_told_from_the_net_s_own(folder, tmp_path, monkeypatch, capsys):
    # A coarse net, so that there is something to make finer.
    (folder / "val.prototxt").write_text(
        (folder / "val.prototxt").read_text().split('layer { name: "score"')[0]
        + 'layer { name: "score_fr" type: "Convolution" bottom: "data" top: "score_fr" convolution_param '
        f'{{ num_output: {CLASSES} kernel_size: 2 stride: 2 weight_filler {{ type: "gaussian" std: 1 }} }} }}\n'
        'layer { name: "upscore" type: "Deconvolution" bottom: "score_fr" top: "upscore" convolution_param '
        f"{{ num_output: {CLASSES} group: {CLASSES} kernel_size: 4 stride: 2 bias_term: false "
        'weight_filler { type: "bilinear" } } }\n'
        'layer { name: "score" type: "Crop" bottom: "upscore" bottom: "data" top: "score" '
        "crop_param { axis: 2 offset: 1 } }\n"
    )
    for file in (folder / "../data/VOC2011/ImageSets/Segmentation").glob("*.txt"):
        file.write_text("2007_c")  # Of even height and width, so that the crop fits.
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FCN_DATA", "")
    caffe.set_random_seed(3)
    (folder / "snapshot").mkdir()
    caffe.Net("val.prototxt", caffe.TEST).save("snapshot/train_iter_20.caffemodel")
    for options in ((), ("--stitch", "1"), ("--stitch", "2")):
        assert score.main(["--split", "seg11valid", "--out", str(tmp_path / "out"), *options]) == 0
    plain, one, two = (
        json.loads((tmp_path / "out" / f"seg11valid_iter_20{suffix}.json").read_text())
        for suffix in ("", "_stitch_1", "_stitch_2")
    )
    assert (plain["stitch"], one["stitch"], two["stitch"]) == (None, 1, 2)
    assert plain["confusion"] == one["confusion"] != two["confusion"]
    assert score.main(["--split", "seg11valid", "--stitch", "3"]) == 1
    assert "cannot be made 3 times finer" in capsys.readouterr().err


def test_without_a_split_it_is_the_one_that_the_experiment_is_scored_on(run, tmp_path, capsys):
    assert run() == 0
    assert json.loads((tmp_path / "out" / "seg11valid_iter_20.json").read_text())["split"] == "seg11valid"
    assert run("--submit") == 1
    assert "--submit needs the list of images: --split seg11test or seg12test" in capsys.readouterr().err


def test_options_that_contradict_each_other_are_refused(run, capsys):
    for options in (["--released", "--weights", "a"], ["--submit", "--limit", "3"], ["--submit", "--mask", "both"]):
        assert run("--split", "seg11valid", *options) == 1
        assert "leave out" in capsys.readouterr().err


def test_a_variant_s_folder_is_written_when_it_is_named(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(folders, "ROOT", tmp_path)
    monkeypatch.setattr(folders.experiments, "VARIANTS", {"some-fcn/variant": None})
    monkeypatch.setattr(folders.experiments, "write", written.append)
    assert folders.find_experiment("some-fcn/variant") == tmp_path / "some-fcn/variant"
    (tmp_path / "some-fcn").mkdir()
    monkeypatch.chdir(tmp_path / "some-fcn")
    assert folders.find_experiment("variant") == tmp_path / "some-fcn/variant"
    assert written == 2 * ["some-fcn/variant"]
    # One that is there stays as it is.
    (tmp_path / "some-fcn/variant").mkdir()
    (tmp_path / "some-fcn/variant/val.prototxt").touch()
    assert folders.find_experiment("some-fcn/variant") == tmp_path / "some-fcn/variant"
    assert len(written) == 2


# Released weights


def test_released_weights_are_taken_from_the_catalogue_s_place(run, data, net, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(score, "experiment_name", lambda folder: "voc-fcn8s")
    assert run("--split", "seg11valid", "--released", "--data", str(data)) == 1
    told = capsys.readouterr().err
    assert str(data / "fcn-models/fcn8s-heavy-pascal.caffemodel") in told
    assert "python -m datasets fetch voc-fcn8s" in told
    (data / "fcn-models").mkdir()
    net.save(str(data / "fcn-models/fcn8s-heavy-pascal.caffemodel"))
    assert run("--split", "seg11valid", "--released", "--data", str(data)) == 0
    stored = json.loads((tmp_path / "out" / "seg11valid_released.json").read_text())
    assert (stored["released"], stored["iteration"]) == (True, None)
    assert stored["weights"]["path"].endswith("fcn8s-heavy-pascal.caffemodel")
    assert "is known for all 736 images" in capsys.readouterr().out
    monkeypatch.setattr(score, "experiment_name", lambda folder: "voc-fcn-googlenet")
    assert run("--split", "seg11valid", "--released") == 1
    assert "released no weights for voc-fcn-googlenet, only for voc-fcn32s" in capsys.readouterr().err


def test_released_weights_are_held_to_what_others_measured():
    def verdict(mean_iu: float, **changes: object) -> str:
        measured = dict(zip(released.METRICS, (0.9122, 0.7761, mean_iu, 0.8454), strict=True))
        of = {"experiment": "voc-fcn8s", "split": "seg11valid", "images": 736, "split_images": 736}
        return released.verdict({**of, "mask": None, "stitch": None, **measured, **changes})

    assert "All four are within 0.05" in verdict(0.6551)
    assert "mean IU           65.51, expected 65.51" in verdict(0.6551)
    assert "NOT AS EXPECTED" in verdict(0.6545)
    assert "NOT AS EXPECTED" in verdict(0.6557)
    assert "is known for all 736 images" in verdict(0.6551, images=20)
    assert "is known for all 736 images" in verdict(0.6551, mask="both")
    assert "No re-evaluation of siftflow-fcn/8s" in verdict(0.5, experiment="siftflow-fcn/8s")
