"""What nets are fed: images and records from disk, made into a batch.

Read in this order:

* `image` decodes and resizes as OpenCV does; `image_list` and `window_file` are the lists that name images.
* `database` reads and writes LMDB and LevelDB, after `lmdb_pages` has checked that the pages can be trusted; `datum`
  is one record of them.
* `data_transformer` is transform_param: crop, mirror, mean, scale. `caffe.io.Transformer` is pycaffe's, and another.
* `base_data_layer` is what Data, ImageData and WindowData share; the types are in layer_types/. `ahead` runs a data
  layer one item ahead of its net, on a thread.
"""
