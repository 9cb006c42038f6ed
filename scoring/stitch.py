"""Shift-and-stitch (papers section 3.2): finer scores from a net as it is, by running it on shifted images.

A net of output stride s, run on its image shifted by 0, s/n, 2s/n, ... pixels down and right, n x n times in all, gives
n x n grids of scores that together are one of stride s/n. nets.dilated.rarefy gives the same scores in one pass.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

import caffe
import surgery


def shift_and_stitch(
    net: caffe.Net, image: np.ndarray, *, stride: int, factor: int, scores: str, data: str = "data"
) -> np.ndarray:
    """Return the scores of a net at stride / factor: classes x rows x columns, float32.

    image: C x H x W, put into the blob `data`. scores: the blob of coarse scores, whose cells are `stride` pixels
    apart. The layers from below `data` to `scores` are run factor x factor times; what they leave is the last run's.

    Shifted images are framed by zeros above and to the left, so that nothing of the image is lost. The first factor -
    1 rows and columns are of windows that begin in these zeros: cell [factor - 1, factor - 1] is the coarse net's
    first. From there on the cells are those that the net rarefied to stride / factor has:

    - of a net without padding, all of them, exactly: pooling windows that reach past the far edge (Caffe rounds sizes
      up) make more cells here, never fewer or others;
    - of a padded net those whose window touches none of its padding. A run's zeros are a part of its image, which the
      padding of every layer comes outside of, and a convolution makes of them what it makes of an image of zeros.

    Raises ValueError where factor does not divide stride.
    """
    if factor < 1 or stride % factor:
        raise ValueError(f"A stride of {stride} pixels cannot be made {factor} times finer: name a factor of it.")
    step = stride // factor
    start, end = _layer_after(net, data), _layer_of(net, scores)
    channels, height, width = image.shape
    runs = {}
    for down, right in product(range(factor), repeat=2):
        blob = net.blobs[data]
        blob.reshape(1, channels, height + down * step, width + right * step)
        blob.data[...] = 0
        blob.data[0, :, down * step :, right * step :] = image
        net.forward(start=start, end=end)
        runs[down, right] = net.blobs[scores].data[0].copy()
    # Cell i of a run that is shifted by d steps lies d steps before cell i of the one that is not. Larger images may
    # have more cells: what is returned ends where the first of the interlaced grids does.
    rows = min(factor * (run.shape[1] + 1) - 1 - down for (down, _), run in runs.items())
    columns = min(factor * (run.shape[2] + 1) - 1 - right for (_, right), run in runs.items())
    stitched = np.empty((len(runs[0, 0]), rows, columns), np.float32)
    for (down, right), run in runs.items():
        part = stitched[:, factor - 1 - down :: factor, factor - 1 - right :: factor]
        part[...] = run[:, : part.shape[1], : part.shape[2]]
    return stitched


class Stitch:
    """Scores of an image's size, from a net whose last layers are a bilinear deconvolution and a crop.

        stitch = Stitch(net_parameter, factor=4)
        net.forward()
        scores = stitch.scores(net)         in the place of net.blobs["score"].data

    With a factor of 1 these are the net's own scores.
    """

    def __init__(self, param: Any, factor: int, head: str = "score") -> None:
        """Read the net's last layers. param: its NetParameter; head: the blob that is the crop's top.

        Raises ValueError for a net that ends otherwise or has several images, and for a factor that does not divide
        the deconvolution's stride.
        """
        made_by = {top: layer for layer in param.layer for top in layer.top}
        crop = made_by.get(head)
        up = made_by.get(crop.bottom[0]) if crop is not None and crop.type == "Crop" else None
        if crop is None or up is None or up.type != "Deconvolution":
            raise ValueError(
                f"The net cannot be stitched: its '{head}' is not a deconvolution's top, cropped (Crop), to be "
                "interpolated more finely."
            )
        self.data, self.coarse, self.up = crop.bottom[1], up.bottom[0], up.name
        given = {top for layer in param.layer if not layer.bottom for top in layer.top}
        images = sorted(given & {layer.bottom[0] for layer in param.layer if layer.type == "Convolution"})
        if images not in ([], [self.data]):
            raise ValueError(f"The net cannot be stitched: it takes several images, {', '.join(images)}.")
        window = up.convolution_param
        self.stride, self.factor = (list(window.stride) or [1])[0], factor
        if factor < 1 or self.stride % factor:
            raise ValueError(f"{up.name}'s stride of {self.stride} pixels cannot be made {factor} times finer.")
        offset, pad = (list(crop.crop_param.offset) or [0])[0], (list(window.pad) or [0])[0]
        # Which pixel of the image the first coarse cell is interpolated around.
        self.origin = (window.kernel_size[0] - 1) / 2 - pad - offset

    def scores(self, net: caffe.Net) -> np.ndarray:
        """Return scores for the image that the net has run on: 1 x classes x H x W, float32.

        The image stays in the blob that it is in; the blobs after it are those of its last shift. Raises ValueError
        where the deconvolution's weights are not bilinear interpolation.
        """
        weights = net.params[self.up][0].data
        every = np.arange(len(weights))
        kernels = weights[every, every % weights.shape[1]]
        if not np.allclose(kernels, surgery.upsample_filt(weights.shape[-1]), atol=1e-3):
            raise ValueError(f"The net cannot be stitched: {self.up} does not interpolate bilinearly.")
        data = net.blobs[self.data].data.copy()
        coarse = shift_and_stitch(
            net, data[0], stride=self.stride, factor=self.factor, scores=self.coarse, data=self.data
        )
        net.blobs[self.data].reshape(*data.shape)
        net.blobs[self.data].data[...] = data
        height, width = data.shape[2:]
        across = coarse @ self._interpolation(width, coarse.shape[2]).T
        return np.matmul(self._interpolation(height, coarse.shape[1]), across)[np.newaxis]

    def _interpolation(self, pixels: int, cells: int) -> np.ndarray:
        """Return the weights of `cells` in each of an axis's pixels: pixels x cells, as a deconvolution has them."""
        step = self.stride // self.factor
        centres = self.origin + step * (np.arange(cells) - (self.factor - 1))
        distances = np.abs(np.arange(pixels)[:, np.newaxis] - centres) / step
        return np.maximum(0, 1 - distances).astype(np.float32)


def _layer_of(net: caffe.Net, blob: str) -> str:
    """Return the last of a net's layers that makes a blob: it may be changed in place."""
    made_by = [name for name, tops in net.top_names.items() if blob in tops]
    if not made_by:
        raise ValueError(f"The net has no blob '{blob}'; it has {', '.join(net.blobs)}.")
    return str(made_by[-1])


def _layer_after(net: caffe.Net, blob: str) -> str:
    names = list(net.top_names)
    return str(names[names.index(_layer_of(net, blob)) + 1])
