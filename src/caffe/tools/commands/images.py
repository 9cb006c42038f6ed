"""`caffe convert` and `caffe mean`: a database of images from a list, and a database's mean."""

from __future__ import annotations

import os

from ..flags import Flags


def convert(flags: Flags, folder: str, list_file: str, database: str) -> None:
    """Write the images that a list names, with their labels, to a new database (convert_imageset.cpp).

    What stands in the list is put behind `folder`, which Caffe wants with its slash; a folder may come without.
    """
    from ..imageset import convert_imageset  # noqa: PLC0415

    convert_imageset(
        os.path.join(folder, "") if os.path.isdir(folder) else folder,
        list_file,
        database,
        gray=flags.gray,
        shuffle=flags.shuffle,
        backend=flags.backend,
        resize_width=flags.resize_width,
        resize_height=flags.resize_height,
        check_size=flags.check_size,
        encoded=flags.encoded,
        encode_type=flags.encode_type,
        seed=None if flags.seed < 0 else flags.seed,
    )


def mean(flags: Flags, database: str, mean_file: str | None = None) -> None:
    """Log the mean of a database's images, and write it if a file is named (compute_image_mean.cpp)."""
    from ..imageset import compute_image_mean  # noqa: PLC0415

    compute_image_mean(database, mean_file, backend=flags.backend)
