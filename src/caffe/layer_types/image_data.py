"""ImageData: batches of images from files that a list names (image_data_layer.cpp)."""

from __future__ import annotations

import numpy as np

from ..data import image
from ..data.base_data_layer import SHUFFLE, BatchDataLayer
from ..data.image_list import in_folder, read_list
from ..layer import register
from ..tensor_layer import Shape


@register("ImageData")
class ImageData(BatchDataLayer):
    """Images in the list's order, or with `shuffle` in another order every time round, and their labels."""

    tops = (2, 2)

    def configure(self, shapes: list[Shape]) -> None:
        """Read the list."""
        param = self.layer_param.image_data_param
        self.batch_size = self.checked_batch_size(param.batch_size)
        self.rand_skip = param.rand_skip
        if bool(param.new_height) != bool(param.new_width):
            raise self.fail(
                f"new_height is {param.new_height} and new_width {param.new_width}; give both, or neither to keep the "
                "size."
            )
        if not param.source:
            raise self.fail("image_data_param needs a source, a list with 'path label' in each line.")
        self.transformer = self.make_transformer(param)
        self.lines = read_list(param.source)
        self._shuffled: tuple[tuple[int, int], np.ndarray] | None = None

    def read(self, number: int) -> tuple[np.ndarray, int, str]:
        """Return the image, label and path of a line."""
        param = self.layer_param.image_data_param
        epoch, place = divmod(number, len(self.lines))
        path, label = self.lines[self._order(epoch)[place] if param.shuffle else place]
        where = in_folder(param.root_folder, path)
        pixels = image.read(where, param.is_color)
        if param.new_height:
            pixels = image.resize(pixels, param.new_height, param.new_width)
        return image.planes(pixels), label, where

    def _order(self, epoch: int) -> np.ndarray:
        """Return the order of the lines in one time round."""
        wanted = (self._seed, epoch)
        if self._shuffled is None or self._shuffled[0] != wanted:
            self._shuffled = wanted, self.generator(SHUFFLE, epoch).permutation(len(self.lines))
        return self._shuffled[1]
