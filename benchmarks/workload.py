"""What the benchmarks compute: FCN-8s at two sizes, with the same numbers in every process that computes it.

Standard library and numpy only, since each engine is measured in a process that imports nothing of the other.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
VOID = 255  # the label that gives neither loss nor gradient

# VGG16's convolutions: the widths of each stage, at width 1.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# The bilinear deconvolutions, each with its kernel; the stride is half of it.
UPSAMPLING = {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16}


@dataclass(frozen=True)
class Workload:
    """One net on one image size. The experiment's folder holds the prototxts that the engine runs."""

    experiment: str
    height: int
    width: int
    classes: int
    narrow: int  # the trunk's widths are VGG16's divided by this
    fc: int  # the width of fc6 and fc7
    scale: float  # what the net multiplies the image by
    dropout: float
    mean_loss: bool  # the mean over valid pixels, or else their sum
    base_lr: float
    momentum: float
    weight_decay: float
    poly: tuple[float, int] | None  # power and max_iter of the poly policy, or None for a fixed rate

    def rate(self, iteration: int) -> float:
        """Return the learning rate of an iteration."""
        if self.poly is None:
            return self.base_lr
        power, last = self.poly
        return self.base_lr * (1 - iteration / last) ** power


FCN8S = Workload("voc-fcn8s", 375, 500, 21, 1, 4096, 1.0, 0.5, False, 1e-14, 0.99, 5e-4, None)
THIN = Workload("shapes-fcn/8s", 160, 160, 6, 16, 256, 1 / 64, 0.0, True, 5e-3, 0.9, 5e-4, (0.9, 1600))


def image(w: Workload) -> np.ndarray:
    """Return an image less its mean, 1 x 3 x H x W float32 in about -120 to 120."""
    return _random("image").uniform(-120, 120, (1, 3, w.height, w.width)).astype(np.float32)


def label(w: Workload) -> np.ndarray:
    """Return labels, 1 x 1 x H x W float32: rectangles of each class, with void borders."""
    random = _random("label")
    values = np.zeros((w.height, w.width), np.float32)
    for value in range(1, w.classes):
        top, left = int(random.integers(w.height)), int(random.integers(w.width))
        bottom, right = top + w.height // 4, left + w.width // 4
        values[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = VOID
        values[top:bottom, left:right] = value
    return values[None, None]


def fill(layer: str, index: int, values: np.ndarray) -> None:
    """Fill a parameter in place: 0 the weight, 1 the bias. The numbers follow from the layer's name alone.

    Convolutions keep their input's scale (uniform, variance 2 / fan-in), score layers make it small, and
    deconvolutions interpolate. Filled a row at a time, so that no second copy of fc6 shows in the peak memory.
    """
    if layer in UPSAMPLING:
        values[...] = 0
        channels = np.arange(values.shape[0])
        values[channels, channels] = _bilinear(values.shape[-1])
        return
    random = _random(f"{layer} {index}")
    limit = 0.1 if index == 1 else float(np.sqrt(6 / values[0].size))
    if layer.startswith("score"):
        limit *= 0.02
    for row in range(len(values)):
        values[row] = (random.random(values.shape[1:], np.float32) * 2 - 1) * np.float32(limit)


def sample(values: np.ndarray, count: int = 4096) -> np.ndarray:
    """Return a copy of about `count` values spread over an array, to compare large arrays by."""
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // count)].copy()


def _bilinear(kernel: int) -> np.ndarray:
    factor = (kernel + 1) // 2
    centre = factor - 1 if kernel % 2 else factor - 0.5
    line = 1 - np.abs(np.arange(kernel) - centre) / factor
    return np.outer(line, line).astype(np.float32)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))
