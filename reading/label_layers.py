"""Layers between the labels and a loss: targets for the sigmoid cross-entropy, and loss sampling."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

import caffe
from reading.param_str import Setting, is_count, is_flag, is_number, is_seed, parse
from reading.seg_data_layer import Blobs
from vis import VOID


class _LabelLayer(caffe.Layer):
    """A layer whose bottom is labels, N x 1 x H x W, and into which no gradient passes."""

    SETTINGS: ClassVar[Mapping[str, Setting]]

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        """Read the settings."""
        if len(bottom) != 1 or len(top) != 1:
            raise ValueError(
                f"{type(self).__name__} takes one bottom, labels, and gives one top; the prototxt gives it "
                f"{len(bottom)} and {len(top)}."
            )
        self.configure(parse(self.param_str, self.SETTINGS))

    def configure(self, params: Mapping[str, Any]) -> None:
        """Take the settings, checked."""
        raise NotImplementedError

    def label_shape(self, bottom: Blobs) -> tuple[int, int, int]:
        """Return N, H and W of the labels; raise ValueError for another shape."""
        shape = tuple(bottom[0].shape)
        if len(shape) != 4 or shape[1] != 1:
            raise ValueError(f"{type(self).__name__}'s bottom is {shape}, expected labels, N x 1 x H x W.")
        return shape[0], shape[2], shape[3]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """Pass no gradient: labels have none, but force_backward may ask for it."""
        if propagate_down[0]:
            bottom[0].diff[...] = 0


class ClassTargetsLayer(_LabelLayer):
    """Labels, N x 1 x H x W, as what SigmoidCrossEntropyLoss takes: N x K x H x W, 1 in the class's channel, else 0.

    Where the label is void, all channels are 255: give the loss ignore_label 255. The keys of param_str: classes;
    background (True), without which class 0 has no channel, so that K is classes - 1 and background is 0 in all
    of them (the null background of PAMI 6.1). A label of classes or more is a ValueError.
    """

    SETTINGS: ClassVar[Mapping[str, Setting]] = {
        "classes": Setting(lambda value: is_count(value) and 1 < value < 256, "the number of classes, 2 to 255"),
        "background": Setting(is_flag, "True or False", True),
    }

    def configure(self, params: Mapping[str, Any]) -> None:
        """Take the classes that have a channel."""
        self.classes = params["classes"]
        self._channels = np.arange(0 if params["background"] else 1, self.classes)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Give the top a channel for every class."""
        number, height, width = self.label_shape(bottom)
        top[0].reshape(number, len(self._channels), height, width)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Write the targets."""
        label = bottom[0].data
        void = label == VOID
        wrong = label[~void & ~((label >= 0) & (label < self.classes))]
        if wrong.size:
            raise ValueError(
                f"ClassTargetsLayer met the label {wrong[0]:g}: expected 0 to {self.classes - 1}, and 255 for void."
            )
        targets = top[0].data
        targets[...] = label == self._channels[:, np.newaxis, np.newaxis]
        np.copyto(targets, VOID, where=void)


class LossSamplingLayer(_LabelLayer):
    """Labels, N x 1 x H x W, of which some cells are made void by chance (papers: patch sampling, figure 5).

    In TRAIN each cell, a square aligned to the upper left corner, keeps its labels with the probability keep, drawn
    anew each pass; in TEST all do. The keys of param_str: keep; cell (32), the side in pixels, by default what a cell
    of the coarsest scores covers; seed (None: one is taken from the system).

    What is drawn depends on the seed and on how many passes there were, which the state holds, so that a resumed
    run draws what one that was never stopped does. Solvers that train together draw each their own.
    """

    SETTINGS: ClassVar[Mapping[str, Setting]] = {
        "keep": Setting(lambda value: is_number(value) and 0 < value <= 1, "a probability, above 0 and up to 1"),
        "cell": Setting(lambda value: is_count(value) and value > 0, "a whole number of pixels, 1 or more", 32),
        "seed": Setting(is_seed, "a whole number or None", None),
    }

    def configure(self, params: Mapping[str, Any]) -> None:
        """Take the settings, and begin with the first pass."""
        self.keep, self.cell = params["keep"], params["cell"]
        self.seed = random.SystemRandom().getrandbits(32) if params["seed"] is None else params["seed"]
        self.rank = caffe.solver_rank() if self.phase == caffe.TRAIN else 0
        self.passes = 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Give the top the labels' shape."""
        number, height, width = self.label_shape(bottom)
        top[0].reshape(number, 1, height, width)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Copy the labels of the cells that are kept."""
        sampled = top[0].data
        sampled[...] = bottom[0].data
        if self.phase != caffe.TRAIN:
            return
        number, height, width = self.label_shape(bottom)
        rows, columns = -(-height // self.cell), -(-width // self.cell)
        # Negative seeds are legal in Python's generators, but not here.
        entropy = [int(self.seed < 0), abs(self.seed), self.rank, self.passes]
        dropped = np.random.default_rng(entropy).random((number, 1, rows, columns)) >= self.keep
        pixels = dropped.repeat(self.cell, 2)[:, :, :height].repeat(self.cell, 3)[:, :, :, :width]
        np.copyto(sampled, VOID, where=pixels)
        self.passes += 1

    def state(self) -> dict[str, int]:
        """Return what it takes to go on after the last pass, as JSON can hold it."""
        return {"seed": self.seed, "passes": self.passes}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state` returned; raise ValueError for what is none."""
        if not all(type(state.get(key)) is int for key in ("seed", "passes")) or state["passes"] < 0:
            raise ValueError(f"The saved position of LossSamplingLayer is {dict(state)}: expected seed and passes.")
        self.seed, self.passes = state["seed"], state["passes"]
