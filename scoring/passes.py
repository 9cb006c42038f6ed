"""Runs a net over a list of images and counts what it predicts: the passes behind every score.

`score_heads` is what all of it comes to. `compute_hist`, `do_seg_tests` and `seg_tests` are the reference's own
functions, for its scripts.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import caffe
import vis
from layers import SegDataLayer
from scoring.metrics import Scores, fast_hist
from scoring.results import head_name

# A blob of scores, N x classes x H x W, and the blob of the labels that it is measured by, N x 1 x H x W.
Head = tuple[str, str]


def heads(net: caffe.Net) -> list[Head]:
    """Return what a net that reads its images itself is scored on: its blobs of scores, each with that of its labels.

    ("score", "label"), or for several heads one each, such as ("score_sem", "sem") and ("score_geo", "geo"). Raises
    ValueError for a net that has none.
    """
    read = [top for layer, tops in net.top_names.items() if not net.bottom_names[layer] for top in tops]
    if "score" in net.blobs and "label" in read:
        return [("score", "label")]
    found = [(f"score_{top}", top) for top in read if f"score_{top}" in net.blobs]
    if not found:
        raise ValueError(
            f"The net has nothing to score: neither 'score' with 'label' nor 'score_X' with a label X; it reads "
            f"{', '.join(read) or 'nothing'} and has {', '.join(net.blobs)}."
        )
    return found


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

    The loss is that of the blob `loss` (`loss_GT` where there is one), NaN where there is none. Raises ValueError where
    the net reads other images than `dataset` or its blobs do not fit each other.
    """
    found = score_heads(net, dataset, [(layer, gt)], save_dir, on_image)[layer]
    return found.confusion, found.loss


def score_heads(
    net: caffe.Net,
    dataset: Iterable[str],
    scored: Sequence[Head],
    save_dir: str | os.PathLike[str] | bool | None = None,
    on_image: Callable[[str], object] | None = None,
    instead: Mapping[str, Callable[[caffe.Net], np.ndarray]] | None = None,
) -> dict[str, Scores]:
    """Run a net over a list of images once; return the scores of each of the heads `scored`, by its blob of scores.

    As compute_hist; the predictions of several heads go to a folder each, such as save_dir/sem. instead: by the blob of
    scores, what gives the scores in its place, called once the net has run; it has no loss then.
    """
    instead = instead or {}
    ids = [str(image_id) for image_id in dataset]
    for name in (name for head in scored for name in head):
        if name not in net.blobs:
            raise ValueError(f"The net has no blob '{name}' to score; it has {', '.join(net.blobs)}.")
    hists = [np.zeros((tuple(net.blobs[layer].shape)[1],) * 2, np.int64) for layer, _ in scored]
    # The reference tells the loss of the semantic head only, by the name of both.
    losses = [f"loss_{gt}" if f"loss_{gt}" in net.blobs else "loss" for _, gt in scored]
    totals = np.zeros(len(scored))
    folders = [Path(str(save_dir), head_name(layer) if len(scored) > 1 else "") for layer, _ in scored]
    done = 0
    start = _wind(net, ids)
    while done < len(ids):
        net.forward(start=start)
        start = None
        batch = ids[done : done + net.blobs[scored[0][0]].shape[0]]
        for k, (layer, gt) in enumerate(scored):
            labels = net.blobs[gt].data
            scores = instead[layer](net) if layer in instead else net.blobs[layer].data
            n_cl = len(hists[k])
            if labels.size * n_cl != scores.size or labels.shape[-2:] != scores.shape[-2:]:
                raise ValueError(
                    f"The scores '{layer}' are {scores.shape}, but the labels '{gt}' {labels.shape}: expected as many "
                    "images, of the same height and width."
                )
            for i, image_id in enumerate(batch):
                prediction = scores[i].argmax(0)
                hists[k] += fast_hist(labels[i], prediction, n_cl)
                if save_dir:
                    vis.save_labels(folders[k] / f"{image_id}.png", prediction)
            known = losses[k] in net.blobs and layer not in instead
            loss = float(net.blobs[losses[k]].data.flat[0]) if known else float("nan")
            totals[k] += len(batch) * loss
        if on_image is not None:
            for image_id in batch:
                on_image(image_id)
        done += len(batch)
    mean = totals / len(ids) if ids else totals * np.nan
    return {layer: Scores(hists[k], float(mean[k]), len(ids)) for k, (layer, _) in enumerate(scored)}


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


def class_names(experiment: str, reader: SegDataLayer, count: int) -> tuple[str, ...]:
    """Return the names of a net's classes: what its data layer reads them as (PASCAL-Context), else vis's."""
    read = tuple(getattr(reader, "class_names", ()))
    return read if len(read) == count else vis.class_names(experiment, count)


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
    print_scores(iter, scores)
    return scores


def print_scores(iter: int, scores: Scores) -> None:
    """Print the metrics after `iter` iterations, in the reference's lines."""
    for what, value in (
        ("loss", scores.loss),
        ("overall accuracy", scores.pixel_accuracy),
        ("mean accuracy", scores.mean_accuracy),
        ("mean IU", scores.mean_iu),
        ("fwavacc", scores.fw_iu),
    ):
        print(">>>", datetime.datetime.now(), "Iteration", iter, what, value)


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
