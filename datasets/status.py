"""Says what is there, what is not, what it is for, and how to get it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from datasets import records
from datasets.catalogue import CATALOGUE, Source
from datasets.digests import sizes
from datasets.fetch import missing
from datasets.places import add_data_argument

# What is made of other things, and how: path, what it is, experiments, command.
_MADE = (
    (
        "ilsvrc-nets/vgg16-fcn.caffemodel",
        "VGG16 with its classifier as convolutions",
        "all with a VGG16 trunk",
        "python -m nets convolutionalize vgg16",
    ),
    (
        "ilsvrc-nets/alexnet-fcn.caffemodel",
        "CaffeNet with its classifier as convolutions",
        "voc-fcn-alexnet",
        "python -m nets convolutionalize alexnet",
    ),
    ("shapes", "the generated set, in all layouts", "shapes-fcn/*, rehearsals", "python -m datasets make shapes"),
)


def status(data: Path) -> str:
    """Return a table of everything that can be fetched or made, as text."""
    rows = [("name", "there", "size", "what, and for which experiments", "how to get it")]
    for source in CATALOGUE.values():
        there = _there(source, data)
        size = _size(data / source.path) if there != "no" else ""
        # The authors' weights are scored without training.
        # Those of the CVPR recipe are trained on the same data as the others.
        trained = ", ".join(name for name in source.experiments if not name.startswith("cvpr-recipe/"))
        use = f"score.py --net {source.name} --released" if source.released else trained
        command = "" if there == "yes" else f"python -m datasets fetch {source.name}"
        rows.append((source.name, there, size, f"{source.about}{f': {use}' if use else ''}", command))
    for path, about, use, command in _MADE:
        there = "yes" if (data / path).exists() else "no"
        size = _size(data / path) if there == "yes" else ""
        rows.append((Path(path).stem, there, size, f"{about}: {use}", "" if there == "yes" else command))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"data: {data}"]
    for name, there, size, use, command in rows:
        start = f"{name:<{widths[0]}}  {there:<{widths[1]}}  {size:>{widths[2]}}  "
        lines.append(start + use)
        if command and name != "name":
            lines.append(f"{'':<{len(start)}}{command}")
    return "\n".join(lines)


def _there(source: Source, data: Path) -> str:
    """Return yes, no, or partly for what was begun."""
    if not missing([source.name], data):
        return "yes"
    if records.read(data, source.name) is not None and (data / source.path).exists():
        return "partly"
    part = data / records.DOWNLOADS / f"{source.download.name}.part"
    return "partly" if part.exists() and part.stat().st_size else "no"


def _size(path: Path) -> str:
    if path.is_file():
        return sizes(path.stat().st_size)
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
    return sizes(total)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m datasets status``."""
    add_data_argument(parser)


def run(arguments: argparse.Namespace) -> str:
    """Return the table to print."""
    return status(arguments.data)
