"""Says what is there, what is not, what it is for, and how to get it."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from datasets import DatasetError, records
from datasets.catalogue import CATALOGUE, Source
from datasets.digests import sizes
from datasets.fetch import missing
from datasets.generated import LAYOUTS
from datasets.places import add_data_argument, files_below

_WIDTH = 120

# What is made of other things, and how: path, what of it is there when it is whole, what it is, experiments, command.
_MADE = (
    (
        "ilsvrc-nets/vgg16-fcn.caffemodel",
        (".",),
        "VGG16 with its classifier as convolutions",
        "all with a VGG16 trunk",
        "python -m nets convolutionalize vgg16",
    ),
    (
        "ilsvrc-nets/alexnet-fcn.caffemodel",
        (".",),
        "CaffeNet with its classifier as convolutions",
        "voc-fcn-alexnet",
        "python -m nets convolutionalize alexnet",
    ),
    (
        "shapes",
        tuple(layout.manifest for layout in LAYOUTS.values()),
        "the generated set, in all layouts",
        "shapes-fcn/*, rehearsals",
        "python -m datasets make shapes",
    ),
)


def status(data: Path) -> str:
    """Return a table of everything that can be fetched or made, as text."""
    rows = [("name", "there", "size", "what, and for which experiments", "")]
    for source in CATALOGUE.values():
        there = _there(source, data)
        size = _size(data / source.path) if there != "no" else ""
        # The authors' weights are scored without training.
        # Those of the CVPR recipe are trained on the same data as the others.
        trained = ", ".join(name for name in source.experiments if not name.startswith("cvpr-recipe/"))
        use = f"python score.py --net {source.name} --released" if source.released else trained
        command = "" if there == "yes" else f"python -m datasets fetch {source.name}"
        rows.append((source.name, there, size, f"{source.about}{f': {use}' if use else ''}", command))
    for path, parts, about, use, command in _MADE:
        found = [(data / path / part).exists() for part in parts]
        there = "yes" if all(found) else "partly" if any(found) else "no"
        size = _size(data / path) if there != "no" else ""
        rows.append((Path(path).stem, there, size, f"{about}: {use}", "" if there == "yes" else command))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"data: {data}"]
    for name, there, size, use, command in rows:
        start = f"{name:<{widths[0]}}  {there:<{widths[1]}}  {size:>{widths[2]}}  "
        lines += textwrap.wrap(
            use, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
        )
        if command:
            lines.append(f"{'':<{len(start)}}{command}")
    return "\n".join(lines)


def _there(source: Source, data: Path) -> str:
    """Return yes, no, partly for what was begun, or unclear where what is recorded of it cannot be read."""
    try:
        if not missing([source.name], data):
            return "yes"
    except DatasetError:
        return "unclear"
    if records.read(data, source.name) is not None and (data / source.path).exists():
        return "partly"
    part = data / records.DOWNLOADS / f"{source.download.name}.part"
    return "partly" if part.exists() and part.stat().st_size else "no"


def _size(path: Path) -> str:
    if path.is_file():
        return sizes(path.stat().st_size)
    # Another process may be at work there.
    return sizes(sum(file.stat().st_size for file in files_below(path) if file.exists()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m datasets status``."""
    add_data_argument(parser)


def run(arguments: argparse.Namespace) -> str:
    """Return the table to print."""
    return status(arguments.data)
