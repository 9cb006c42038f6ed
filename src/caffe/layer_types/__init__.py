"""The layer types, one file a family; importing this package registers them all.

data, database_data, image_data, hdf5_data, memory_data, window_data      where a net begins
convolution, im2col, inner_product, pooling, recurrent                    what learns and gathers
activation, eltwise, scale, normalization, softmax, dropout, reduction    what changes values
join, view, batch                                                         what puts blobs together or apart
loss, softmax, output, hdf5_output                                        where a net ends
labels                                                                    what layers that read labels share
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
