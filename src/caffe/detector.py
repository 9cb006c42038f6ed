"""Detector: a net that classifies windows of images, as in R-CNN (pycaffe's detector.py; arXiv 1311.2524)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import io
from .classifier import transformer_of
from .net import Net
from .proto import caffe_pb2

Window = Sequence[float]  # ymin, xmin, ymax, xmax in pixels


class Detector(Net):
    """A net in TEST phase that takes windows of images, each warped to the input's size.

    mean, input_scale, raw_scale and channel_swap are those of caffe.io.Transformer. With `context_pad` so many pixels
    along each side of the net's input show what is around the window, and the mean where the image ends. Raises
    NetError if the net's first input is no image N x K x H x W.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.transformer = transformer_of(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str, Iterable[Window]]]) -> list[dict[str, Any]]:
        """Run the net on windows (ymin, xmin, ymax, xmax) of images: (file name, windows) pairs.

        Returns for each window, in order, a dict of `window`, `prediction` (the net's first output) and `filename`.
        Raises ValueError for a window that holds no pixel.
        """
        name = self.inputs[0]
        found: list[dict[str, Any]] = []
        crops: list[np.ndarray] = []
        for filename, windows in images_windows:
            image = io.load_image(filename, color=self.blobs[name].channels != 1)
            for window in windows:
                try:
                    crop = self.crop(image, window)
                except ValueError as error:
                    raise ValueError(f"{filename}: {error}") from None
                crops.append(self.transformer.preprocess(name, crop))
                found.append({"window": window, "prediction": None, "filename": filename})
        if crops:
            caffe_in: dict[str, Any] = {name: np.stack(crops)}
            predictions = self.forward_all(**caffe_in)[self.outputs[0]]
            for detection, prediction in zip(found, predictions, strict=True):
                detection["prediction"] = prediction
        return found

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """Run the net on the windows that Selective Search proposes; returns what detect_windows does.

        Raises ImportError without the package selective_search_ijcv_with_python, which runs MATLAB.
        """
        try:
            import selective_search_ijcv_with_python as selective_search  # type: ignore[import-not-found]  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                "detect_selective_search needs selective_search_ijcv_with_python, which is no package of an index: "
                "clone github.com/sergeyk/selective_search_ijcv_with_python, follow its README (it runs MATLAB), and "
                "put its folder's parent on PYTHONPATH. Or give windows of your own to detect_windows."
            ) from error
        names = [os.path.abspath(name) for name in image_fnames]  # MATLAB runs in a folder of its own
        windows = selective_search.get_windows(names, cmd="selective_search_rcnn")
        return self.detect_windows(zip(names, windows, strict=True))

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the context around windows, and with it the image that fills what is beyond the border.

        Raises ValueError if the context leaves no room for the window.
        """
        name = self.inputs[0]
        inverse = np.argsort(self.transformer.transpose[name])
        self.crop_dims = np.array(self.blobs[name].dims[1:])[inverse]  # H, W, K
        self.context_pad = context_pad
        if not context_pad:
            return
        if not 0 < 2 * context_pad < self.blobs[name].width:
            raise ValueError(f"A context of {context_pad} leaves nothing of an input {self.blobs[name].width} wide.")
        self.crop_mean = np.zeros(self.crop_dims, dtype=np.float32)
        mean = self.transformer.mean.get(name)
        if mean is not None:  # in the terms of an image that was not preprocessed yet
            filling = mean.astype(np.float32).transpose(inverse)
            if name in self.transformer.channel_swap:
                filling = filling[:, :, np.argsort(self.transformer.channel_swap[name])]
            if name in self.transformer.raw_scale:
                filling = filling / np.float32(self.transformer.raw_scale[name])
            self.crop_mean += filling

    def crop(self, im: np.ndarray, window: Window) -> np.ndarray:
        """Cut a window (ymin, xmin, ymax, xmax) out of an image H x W x K.

        Without context it is as large as the window; with context it is as large as the net's input, which is taken
        to be square. Raises ValueError for a window that holds no pixel.
        """
        box = np.asarray(window, dtype=float)
        top, left, bottom, right = (max(0, int(edge)) for edge in box)
        crop = im[top:bottom, left:right]
        if not crop.size:
            raise ValueError(f"The window {list(window)} holds no pixel of an image of {im.shape[0]} x {im.shape[1]}.")
        return self._with_context(im, box) if self.context_pad else crop

    def _with_context(self, im: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Cut out a window and what is around it, warped to the input's size, over the mean."""
        assert self.context_pad
        crop_size = self.blobs[self.inputs[0]].width
        # The window about its centre, enlarged so that it fills the input but for the context.
        half = np.array([box[2] - box[0] + 1, box[3] - box[1] + 1]) / 2
        center = box[:2] + half
        half = half * (crop_size / (crop_size - 2 * self.context_pad))
        start, stop = np.round(center - half), np.round(center + half)
        scale = crop_size / (stop - start + 1)
        pad = np.round(np.maximum(0, -start) * scale).astype(int)  # what lies before the image

        bounds = np.array(im.shape[:2], dtype=float)
        start, stop = np.clip(start, 0, bounds), np.clip(stop, 0, bounds)
        size = np.minimum(np.round((stop - start + 1) * scale), crop_size - pad).astype(int)
        (top, left), (bottom, right) = start.astype(int), stop.astype(int)
        context = im[top:bottom, left:right]

        crop = self.crop_mean.copy()
        if context.size and (size > 0).all():
            crop[pad[0] : pad[0] + size[0], pad[1] : pad[1] + size[1]] = io.resize_image(context, size)
        return crop
