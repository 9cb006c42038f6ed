"""Where data lies: the folder `data` beside the code, or the one that FCN_DATA or --data names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

DEFAULT_DATA = Path(__file__).resolve().parent.parent / "data"


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Declare --data, which every command of the tool that reads or writes the folder of data has."""
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("FCN_DATA") or DEFAULT_DATA),
        metavar="DIR",
        help="the folder of data (FCN_DATA if that is set, or data beside the code)",
    )


def files_below(folder: Path) -> Iterator[Path]:
    """Give the files below a folder, those of folders that links lead to too, but for links that lead in circles."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        above = Path(parent)
        if any(os.path.samefile(parent, above := above.parent) for _ in Path(parent).relative_to(folder).parts):
            folders.clear()
            continue
        yield from (Path(parent, name) for name in files)
