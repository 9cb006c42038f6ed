"""Keep freed memory in the process, where the C library can be told to (glibc).

A net frees and takes the same large blocks in every pass. glibc by default gives each one above 32 MB back to the
system at once, and gets it again page by page, zeroed: on VGG16's activations that costs as much time as all the
arithmetic (benchmarks/README.md has figures). Set CAFFE_MALLOC=system before `import caffe` to leave the allocator
alone, at that price, in a program that must give memory back.
"""

from __future__ import annotations

import ctypes
import os
import sys

# mallopt's parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Serve large blocks from the heap and keep the heap when they are freed; tell whether that took effect."""
    if os.environ.get("CAFFE_MALLOC") == "system" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
