"""The data tool (``python -m datasets``): fetches, checks, converts and generates what the experiments read.

catalogue, splits            what there is: sources and their addresses, lists of images and their counts
fetch                        gets it, by download, unpack, formats and digests; records says what was got
status, verify               what is there, and whether it is whole; places says where that is
shapes                       the generated set: generated says what it holds in each layout, layouts writes it,
                             scenes, landscapes and rooms draw it, by painting
hha                          depth images as the three channels of HHA
"""

from __future__ import annotations


class DatasetError(Exception):
    """A dataset cannot be made, read or replaced; the message says what was found and what to do."""
