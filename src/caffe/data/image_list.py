"""Lists of images and labels: one `path label` a line, as ImageData and convert_imageset read them."""

from __future__ import annotations

import os

from ..errors import CaffeError, FileFormatError, why_not_opened

_LABELS = range(-(2**31), 2**31)  # a Datum's label is an int32


def read_list(path: str | os.PathLike[str]) -> list[tuple[str, int]]:
    """Read (path, label) pairs. A path may contain spaces: the label is the last word of the line.

    Empty lines are left out. Raises CaffeError if the file cannot be read, and FileFormatError, with the line's number,
    if a line has no path or no whole number at its end, or if there is none at all.
    """
    name = os.fspath(path)
    pairs = []
    try:
        with open(name, encoding="utf-8", errors="surrogateescape") as file:  # a path is bytes, of any encoding
            for number, line in enumerate(file, 1):
                words = line.rsplit(maxsplit=1)
                if not words:
                    continue
                if len(words) == 1 or not _is_label(words[1]):
                    raise FileFormatError(
                        f"{name}, line {number}: {line.rstrip()[:200]!r} is not 'path label' with a whole number as "
                        "label."
                    )
                pairs.append((words[0].lstrip(), int(words[1])))
    except (OSError, ValueError) as error:
        raise CaffeError(f"Could not open the image list {name}: {why_not_opened(error)}.") from None
    if not pairs:
        raise FileFormatError(f"The image list {name} is empty.")
    return pairs


def in_folder(root_folder: str, path: str) -> str:
    """Return the file that a list means: root_folder and path, one after the other as Caffe puts them.

    Raises CaffeError if there is no such file because root_folder lacks its closing slash.
    """
    joined = root_folder + path
    if root_folder and not root_folder.endswith("/") and not os.path.exists(joined):
        beside = os.path.join(root_folder, path)
        if os.path.exists(beside):
            raise CaffeError(f"Could not load {joined}; {beside} exists: end root_folder with a slash.")
    return joined


def _is_label(word: str) -> bool:
    try:
        return int(word) in _LABELS
    except ValueError:
        return False
