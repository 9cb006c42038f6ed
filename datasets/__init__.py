"""The data tool (``python -m datasets``): fetches, checks, converts and generates what the experiments read."""

from __future__ import annotations


class DatasetError(Exception):
    """A dataset cannot be made, read or replaced; the message says what was found and what to do."""
