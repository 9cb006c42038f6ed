"""Where data lies: the folder `data` beside the code, or the one that FCN_DATA or --data names."""

from __future__ import annotations

import argparse
import os
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
