"""Keep some freed memory in the process, where the C library can be told to (glibc).

A net takes and frees the same blocks in every pass. glibc gives back to the system what it can, and getting it again,
page by page and zeroed, costs as much time as computing does. Layers with large results reuse their blobs' memory
(Blob.writing_data) and cut their temporary copies small; here glibc is told to keep what those copies need. Set
CAFFE_MALLOC=system before `import caffe` to leave the allocator alone.
"""

from __future__ import annotations

import ctypes
import os
import sys

# mallopt's parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

FROM_THE_HEAP = 16 << 20  # blocks up to this size come from the heap
KEPT = 64 << 20  # bytes free at the heap's end from which on it shrinks
LARGE = 64 << 20  # a block for which it is worth giving back what is free first


def keep_freed_memory() -> bool:
    """Tell glibc what to keep; tell whether that took effect."""
    if os.environ.get("CAFFE_MALLOC") == "system" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, FROM_THE_HEAP) and mallopt(_M_TRIM_THRESHOLD, KEPT))


def make_room(size: int) -> None:
    """Give free memory back to the system before a block of `size` bytes is taken, if that is a large one.

    What lies free in the heap cannot serve such a block, and would add to the peak.
    """
    if in_effect and size >= LARGE:
        ctypes.CDLL(None).malloc_trim(0)


in_effect = keep_freed_memory()
