"""Score a net's label maps: the papers' four metrics over a whole set of images.

As a library, on a solver's nets while they train:

    import score
    scores = score.seg_tests(solver, "predictions/{}", ids)     # or False: save no predictions

As a program, from the repository's root or an experiment's folder:

    python score.py --split seg11valid --net voc-fcn8s --weights voc-fcn8s/voc-fcn8s.caffemodel

which prints a table and writes a JSON result to results/EXPERIMENT/SPLIT_iter_N.json.

Metrics ("Fully Convolutional Networks for Semantic Segmentation", section 5), with n_ij the pixels of class i
predicted as j, and t_i = sum_j n_ij the pixels of class i:

    pixel accuracy   sum_i n_ii / sum_i t_i
    mean accuracy    mean over i of n_ii / t_i
    mean IU          mean over i of n_ii / (t_i + sum_j n_ji - n_ii)
    f.w. IU          sum_i t_i IU_i / sum_k t_k

Counts are summed over the whole set before anything is divided. Void pixels count nowhere. All means are over the
classes that the ground truth has (t_i > 0). The reference also averages in, as 0, a class that is predicted
somewhere but is nowhere in the truth, which lowers its SIFT Flow numbers.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import caffe
import vis
from experiment import (
    ROOT,
    add_options,
    evaluation_net,
    evaluation_prototxt,
    experiment_name,
    find_experiment,
    find_weights,
    iteration_of,
    unfilled_layers,
    use_device,
)
from layers import SegDataLayer


@dataclass(frozen=True, eq=False)
class Scores:
    """What a confusion matrix says. Shares are 0 to 1; NaN stands for a class or a set without any pixels.

    confusion: classes x classes, int64, row i column j the pixels of class i predicted as j. loss: the mean over
    the images, NaN where the net has none. images: their number.
    """

    confusion: np.ndarray
    loss: float = float("nan")
    images: int = 0

    @property
    def present(self) -> np.ndarray:
        """Which classes the ground truth has, as booleans."""
        return self.confusion.sum(1) > 0

    @property
    def pixel_accuracy(self) -> float:
        """The share of labelled pixels that are predicted right."""
        return _ratio(np.diag(self.confusion).sum(), self.confusion.sum())

    @property
    def class_accuracy(self) -> np.ndarray:
        """Each class's share of pixels predicted right; NaN for a class that the ground truth lacks."""
        return np.array([_ratio(n[i], n.sum()) for i, n in enumerate(self.confusion)])

    @property
    def class_iu(self) -> np.ndarray:
        """Each class's intersection over union; NaN for a class that the ground truth lacks."""
        n = self.confusion
        unions = n.sum(1) + n.sum(0) - np.diag(n)
        iu = [_ratio(n[i, i], unions[i]) for i in range(len(n))]
        return np.where(self.present, iu, np.nan)

    @property
    def mean_accuracy(self) -> float:
        """The mean of class_accuracy over the classes present."""
        return self.mean_over(self.class_accuracy)

    @property
    def mean_iu(self) -> float:
        """The mean of class_iu over the classes present."""
        return self.mean_over(self.class_iu)

    @property
    def fw_iu(self) -> float:
        """The frequency-weighted IU: the mean of class_iu weighted by the classes' pixels."""
        totals = self.confusion.sum(1)[self.present]
        return _ratio((totals * self.class_iu[self.present]).sum(), totals.sum())

    def mean_over(self, values: np.ndarray, classes: Iterable[int] | None = None) -> float:
        """Return the mean of class_iu or class_accuracy over some classes, those absent left out."""
        chosen = self.present.copy()
        if classes is not None:
            chosen &= np.isin(np.arange(len(chosen)), list(classes))
        return float(np.mean(values[chosen])) if chosen.any() else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; NaN becomes null."""
        return {
            "images": self.images,
            "loss": _or_null(self.loss),
            "pixel_accuracy": _or_null(self.pixel_accuracy),
            "mean_accuracy": _or_null(self.mean_accuracy),
            "mean_iu": _or_null(self.mean_iu),
            "fw_iu": _or_null(self.fw_iu),
            "class_iu": [_or_null(v) for v in self.class_iu],
            "class_accuracy": [_or_null(v) for v in self.class_accuracy],
            "confusion": self.confusion.tolist(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Scores:
        """Return the scores that `to_json` or a result file holds."""
        loss = stored["loss"]
        confusion = np.array(stored["confusion"], np.int64)
        return cls(confusion, float("nan") if loss is None else loss, stored["images"])

    def table(self, names: Sequence[str]) -> str:
        """Return the four metrics and each class's IU and accuracy as text, in per cent."""
        lines = [
            f"{'pixel accuracy':<16}{_percent(self.pixel_accuracy)}",
            f"{'mean accuracy':<16}{_percent(self.mean_accuracy)}",
            f"{'mean IU':<16}{_percent(self.mean_iu)}",
            f"{'f.w. IU':<16}{_percent(self.fw_iu)}",
            *([f"{'loss':<16}{self.loss:>7.5g}"] if np.isfinite(self.loss) else []),
            "",
            f"{'class':<16}{'IU':>7}{'acc.':>7}{'of all':>8}",
        ]
        shares = self.confusion.sum(1) / max(1, self.confusion.sum())
        columns = zip(names, self.class_iu, self.class_accuracy, shares, self.present, strict=True)
        for name, iu, accuracy, share, present in columns:
            if present:
                lines.append(f"{name:<16}{_percent(iu)}{_percent(accuracy)}{_percent(share):>8}")
        absent = [name for name, present in zip(names, self.present, strict=True) if not present]
        if absent:
            lines.append(f"not in the ground truth, and in no mean: {', '.join(absent)}")
        return "\n".join(lines)


def fast_hist(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """Return the confusion matrix of labels `a` (truth) and `b` (prediction): n x n, int64, rows the truth.

    a, b: flat, of the same length. Pixels whose truth is not one of the n classes (void) do not count. Raises
    ValueError where the lengths differ or a pixel that counts is predicted as none of the n classes.
    """
    a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
    if a.shape != b.shape:
        raise ValueError(f"There are {a.size} true labels, but {b.size} predicted ones.")
    counted = (a >= 0) & (a < n)
    truth, prediction = a[counted].astype(np.int64), b[counted].astype(np.int64)
    if prediction.size and not (prediction.min() >= 0 and prediction.max() < n):
        raise ValueError(
            f"The labels predicted run from {prediction.min()} to {prediction.max()}, but there are {n} classes: "
            f"0 to {n - 1}."
        )
    return np.bincount(n * truth + prediction, minlength=n * n).reshape(n, n)


def compute_hist(
    net: caffe.Net,
    save_dir: str | os.PathLike[str] | None,
    dataset: Iterable[str],
    layer: str = "score",
    gt: str = "label",
    on_image: Callable[[str], object] | None = None,
) -> tuple[np.ndarray, float]:
    """Run a net over a list of images; return the confusion matrix and the mean loss an image.

    net: a TEST net that reads the images itself, in the list's order, from its beginning (where our data layers
    stand elsewhere in it, they are wound on). save_dir: the folder for the predictions, ID.png with VOC's
    palette; None or False saves none. dataset: the images' ids. layer, gt: the blobs of scores, N x classes x
    H x W, and of labels, N x 1 x H x W. on_image is called with each image's id once it is counted.

    The loss is that of the blob `loss`, NaN where there is none. Raises ValueError where the net reads other
    images than `dataset` or its blobs do not fit each other.
    """
    ids = [str(image_id) for image_id in dataset]
    for name in (layer, gt):
        if name not in net.blobs:
            raise ValueError(f"The net has no blob '{name}' to score; it has {', '.join(net.blobs)}.")
    n_cl = tuple(net.blobs[layer].shape)[1]
    hist = np.zeros((n_cl, n_cl), np.int64)
    loss = 0.0
    done = 0
    start = _wind(net, ids)
    while done < len(ids):
        net.forward(start=start)
        start = None
        labels, scores = net.blobs[gt].data, net.blobs[layer].data
        if labels.size * n_cl != scores.size or labels.shape[-2:] != scores.shape[-2:]:
            raise ValueError(
                f"The scores '{layer}' are {scores.shape}, but the labels '{gt}' {labels.shape}: expected as many "
                "images, of the same height and width."
            )
        batch = ids[done : done + len(scores)]
        for i, image_id in enumerate(batch):
            prediction = scores[i].argmax(0)
            hist += fast_hist(labels[i], prediction, n_cl)
            if save_dir:
                vis.save_labels(Path(save_dir) / f"{image_id}.png", prediction)
            if on_image is not None:
                on_image(image_id)
        loss += len(batch) * (float(net.blobs["loss"].data.flat[0]) if "loss" in net.blobs else float("nan"))
        done += len(batch)
    return hist, loss / len(ids) if ids else float("nan")


def _wind(net: caffe.Net, ids: Sequence[str]) -> str | None:
    """Bring the net's data layer to the first of `ids` and run it; return the layer to go on from.

    A net that has scored part of its list before stands in the middle of it. Of a data layer that is not ours
    nothing is known: it is left where it is, and None means that the net is to be run from its first layer.
    """
    found = data_layer(net)
    if found is None or not ids:
        return None
    name, reader = found
    if reader.ids[: len(ids)] != list(ids):
        raise ValueError(
            f"The net reads the {len(reader.ids)} images of the split '{reader.split}' in their order, not the "
            f"{len(ids)} given, which begin with {ids[0]}: predictions would go by wrong names."
        )
    first = reader.load(ids[0])
    tops = net.top_names[name]
    names = list(net.top_names)
    for _ in range(len(reader.ids) + 1):
        net.forward(end=name)
        # What the layer gave is asked of its tops: the layer itself may be ahead of the net, on a thread.
        if all(_holds(net.blobs[tops[i]], values) for i, values in enumerate(first)):
            return names[names.index(name) + 1]
    raise ValueError(f"The net's data layer never gives {ids[0]}, the first image of its list: is it shuffled?")


def data_layer(net: caffe.Net) -> tuple[str, SegDataLayer] | None:
    """Return the name and the object of a net's data layer, or None if it has none of layers.py."""
    for i, name in enumerate(net.top_names):
        layer = net.layers[i]
        if isinstance(layer, SegDataLayer):
            return name, layer
    return None


def _holds(blob: Any, values: np.ndarray) -> bool:
    return tuple(blob.shape)[1:] == values.shape and np.array_equal(blob.data[0], values)


def do_seg_tests(
    net: caffe.Net,
    iter: int,
    save_format: str | bool | None,
    dataset: Iterable[str],
    layer: str = "score",
    gt: str = "label",
) -> Scores:
    """Score a net and print the metrics, in the reference's lines.

    iter: how many iterations the net has been trained for. save_format: the folder for the predictions, in which
    "{}" stands for iter; False saves none. dataset, layer, gt: as in `compute_hist`. Returns the scores (the
    reference, the confusion matrix, which is their `confusion`).
    """
    ids = list(dataset)
    save_dir = save_format.format(iter) if isinstance(save_format, str) else None
    hist, loss = compute_hist(net, save_dir, ids, layer, gt)
    scores = Scores(hist, loss, len(ids))
    for what, value in (
        ("loss", scores.loss),
        ("overall accuracy", scores.pixel_accuracy),
        ("mean accuracy", scores.mean_accuracy),
        ("mean IU", scores.mean_iu),
        ("fwavacc", scores.fw_iu),
    ):
        print(">>>", datetime.datetime.now(), "Iteration", iter, what, value)
    return scores


def seg_tests(
    solver: caffe.SGDSolver,
    save_format: str | bool | None,
    dataset: Iterable[str],
    layer: str = "score",
    gt: str = "label",
) -> Scores:
    """Score a solver's first test net with the weights that its net has now; see `do_seg_tests`."""
    print(">>>", datetime.datetime.now(), "Begin seg tests")
    solver.test_nets[0].share_with(solver.net)
    return do_seg_tests(solver.test_nets[0], solver.iter, save_format, dataset, layer, gt)


# Result files


def result(
    scores: Scores, names: Sequence[str], experiment: str, split: str, ids: Sequence[str], weights: Path
) -> dict[str, Any]:
    """Return what a result file holds: the scores, and what it takes to say what was scored.

    names: the classes'. ids: the images scored. weights: the file; its name tells the iteration, or null.
    """
    return {
        "schema": 1,
        "experiment": experiment,
        "split": split,
        "split_sha256": hashlib.sha256("".join(f"{i}\n" for i in ids).encode()).hexdigest(),
        "iteration": iteration_of(weights),
        "weights": {"path": str(weights), "sha256": _sha256(weights)},
        "code_version": code_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "classes": list(names),
        **scores.to_json(),
    }


def code_version() -> str:
    """Return the repository's commit, with "+changes" if files differ from it, or "unknown" without git."""
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+changes"]
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _or_null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _percent(value: float) -> str:
    return f"{100 * value:>7.2f}" if np.isfinite(value) else f"{'-':>7}"


# The program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status: 0, 1 with the reason on stderr, or 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="score.py", description="Score an experiment's label maps.")
    parser.add_argument("--split", required=True, help="the list of images, such as seg11valid")
    add_options(parser)
    parser.add_argument("--data", metavar="DIR", help="the folder of datasets (default: data/)")
    parser.add_argument("--out", metavar="DIR", help="where the result goes (default: results/EXPERIMENT)")
    parser.add_argument("--limit", type=int, metavar="N", help="score the first N images only")
    parser.add_argument("--save", action="store_true", help="save the predictions, as OUT/SPLIT/ID.png")
    options = parser.parse_args(argv)
    try:
        _run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"score.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("score.py: interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit is {options.limit}, expected 1 or more.")
    experiment = find_experiment(options.net)
    name = experiment_name(experiment)
    prototxt = evaluation_prototxt(experiment)
    weights = find_weights(experiment, options.weights)
    out = Path(options.out).resolve() if options.out else ROOT / "results" / name
    if options.data:
        os.environ["FCN_DATA"] = os.path.abspath(options.data)
    use_device(options.gpu)
    # The nets' paths are relative to the experiment's folder.
    os.chdir(experiment)
    net = evaluation_net(prototxt, options.split, weights)
    zero = unfilled_layers(net)
    if zero:
        print(f"Beware: the weights of {', '.join(zero)} are all zero in {weights}.", file=sys.stderr)
    found = data_layer(net)
    if found is None:
        raise ValueError(f"{prototxt} has no data layer of layers.py, so that its images are not known.")
    ids = found[1].ids[: options.limit]
    with _progress(len(ids)) as advance:
        hist, loss = compute_hist(net, out / options.split if options.save else None, ids, on_image=advance)
    scores = Scores(hist, loss, len(ids))
    names = vis.class_names(name, len(hist))
    of = result(scores, names, name, options.split, ids, weights)
    at = f"_iter_{of['iteration']}" if of["iteration"] is not None else ""
    some = f"_first_{len(ids)}" if options.limit else ""
    path = out / f"{options.split}{at}{some}.json"
    write_result(path, of)
    print(f"{name} on {options.split}: {len(ids)} images, weights {weights}\n\n{scores.table(names)}\n\n{path}")


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result file, whole or not at all, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], object] | None]:
    """Give what to call with each image's id: a progress bar where tqdm is installed, else nothing."""
    try:
        from tqdm import tqdm  # noqa: PLC0415  used where it is installed
    except ImportError:
        yield None
        return
    with tqdm(total=total, unit="image") as bar:
        yield lambda _: bar.update()


if __name__ == "__main__":
    sys.exit(main())
