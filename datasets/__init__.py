"""The data tool (``python -m datasets``): makes the generated sets that the demo and the tests train on."""

from __future__ import annotations


class DatasetError(Exception):
    """A dataset cannot be made, read or replaced; the message says what was found and what to do."""
