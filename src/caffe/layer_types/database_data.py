"""Data: batches of images and labels from an LMDB or LevelDB database (data_layer.cpp)."""

from __future__ import annotations

import numpy as np

from .. import glog
from ..data import datum
from ..data.base_data_layer import BatchDataLayer
from ..data.database import open_database
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Shape

_BACKENDS = {caffe_pb2.DataParameter.LMDB: "lmdb", caffe_pb2.DataParameter.LEVELDB: "leveldb"}


@register("Data")
class Data(BatchDataLayer):
    """Records of Datum in the order of their keys, and round again; the second top, if there is one, has the labels."""

    tops = (1, 2)

    def configure(self, shapes: list[Shape]) -> None:
        """Open the database."""
        param = self.layer_param.data_param
        self.batch_size = self.checked_batch_size(param.batch_size)
        self.rand_skip = param.rand_skip
        if not param.source:
            raise self.fail("data_param needs a source, the folder of a database.")
        self.transformer = self.make_transformer(param)
        if param.force_encoded_color:
            self.transformer.color = True
        self.database = open_database(param.source, _BACKENDS[param.backend])

    def read(self, number: int) -> tuple[np.ndarray, int, str]:
        """Return the image, label and name of a record."""
        key, value = self.database.record(number)
        count = self.database.count
        if count is not None and number >= count and number % count < self.ranks:
            glog.info_at_root("Restarting data prefetching from start.", "data_layer.cpp:73")
        where = f"{self.database.source}, record '{key.decode(errors='backslashreplace')}'"
        record = datum.parse(value, where)
        return datum.pixels(record, where, self.transformer.color), record.label, where
