"""The pages of an LMDB, checked before the library reads them: it trusts its file, and a damaged one ends the process.

What is checked is what would lead a reader out of the file or in circles: page numbers, and places in a page. The
layout is that of lmdb's mdb.c, data version 1, on machines of 64 bits.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import numpy as np

from ..errors import FileFormatError

_HEADER = struct.Struct("<QHHHH")  # a page's number, padding, flags, and where its free space begins and ends
_META = struct.Struct("<4xHH32xQ")  # of the main table: flags, depth, the root's page
_META_TABLE, _META_TRANSACTION = 88, 144  # where that and the transaction's number stand in the first two pages
_NODE = 8  # bytes before a node's key
_BRANCH, _LEAF = 1, 2
_OVERFLOW = 1  # a leaf node's flag: the value stands in pages of its own
_NO_ROOT = 2**64 - 1
_PLAIN_FLAGS = 0b1010  # reversed or integer keys; the others make tables in tables, which Caffe has none of
_MAX_DEPTH = 32


def leaves(path: str, page_size: int, pages: int, transaction: int) -> Iterator[int]:
    """Yield the number of records in each leaf page of a data.mdb, in the order of keys, once that page is found sound.

    `page_size` (bytes), `pages` and `transaction` are what the library says of the file. Raises FileFormatError.
    """
    with open(path, "rb") as file:
        walk = _Walk(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), page_size, pages)
    yield from walk.leaves(walk.root(transaction), _MAX_DEPTH)


class _Walk:
    def __init__(self, path: str, content: mmap.mmap, page_size: int, pages: int) -> None:
        self._path = path
        self._content = content
        self._page_size = page_size
        self._pages = pages

    def root(self, transaction: int) -> int | None:
        """Return the page that the main table begins with, as of a transaction; None if it has no records."""
        for start in (0, self._page_size):
            if struct.unpack_from("<Q", self._content, start + _META_TRANSACTION)[0] == transaction:
                flags, _, root = _META.unpack_from(self._content, start + _META_TABLE)
                if flags & ~_PLAIN_FLAGS:
                    raise self._damage(f"its main table has the flags {flags:#x}")
                return None if root == _NO_ROOT else int(root)
        raise self._damage("none of its two heads is of its last transaction")

    def leaves(self, number: int | None, depth: int) -> Iterator[int]:
        """Yield the number of records in each leaf below a page."""
        if number is None:
            return
        if not 2 <= number < self._pages:
            raise self._damage(f"page {number} is asked for, and it has {self._pages}")
        start = number * self._page_size
        page = np.frombuffer(self._content, np.uint8, self._page_size, start)
        found, _, flags, lower, upper = _HEADER.unpack_from(self._content, start)
        kind, count = flags & (_BRANCH | _LEAF), (lower - _HEADER.size) // 2
        if found != number or kind not in (_BRANCH, _LEAF) or not lower <= upper <= self._page_size:
            raise self._damage(f"page {number} has no sound head")
        if count < kind % 2 + 1 or depth == 0:  # a branch page has two nodes or more
            raise self._damage(f"page {number} holds {max(0, count)} nodes, at depth {_MAX_DEPTH - depth}")
        nodes = page[_HEADER.size : _HEADER.size + 2 * count].view("<u2").astype(np.int64)
        if nodes.min() < upper or nodes.max() > self._page_size - _NODE:
            raise self._damage(f"page {number} has a node outside of it")
        low, high, node_flags, key_size = (_shorts(page, nodes + at) for at in (0, 2, 4, 6))
        size = low | high << 16
        ends = nodes + _NODE + key_size
        large = (node_flags & _OVERFLOW).astype(bool) if kind == _LEAF else np.zeros(count, bool)
        if kind == _LEAF and (node_flags & ~_OVERFLOW).any():
            raise self._damage(f"page {number} has a node of another kind than a record")
        if kind == _LEAF:
            ends = ends + np.where(large, 8, size)
        if ends.max() > self._page_size:
            raise self._damage(f"page {number} has a node that reaches out of it")
        if kind == _BRANCH:
            for child in (size | node_flags << 32).tolist():
                yield from self.leaves(child, depth - 1)
            return
        for end, length in zip(ends[large].tolist(), size[large].tolist(), strict=True):
            first = struct.unpack_from("<Q", self._content, start + end - 8)[0]
            last = first + (_HEADER.size + length - 1) // self._page_size
            if first < 2 or last >= self._pages:
                raise self._damage(f"page {number} has a record in the pages {first} to {last} of {self._pages}")
        yield count

    def _damage(self, what: str) -> FileFormatError:
        return FileFormatError(f"The database {os.path.dirname(self._path)} is damaged: {what}.")


def _shorts(page: np.ndarray, at: np.ndarray) -> np.ndarray:
    shorts: np.ndarray = page[at].astype(np.int64) | page[at + 1].astype(np.int64) << 8
    return shorts
