"""A report's pictures: images beside their truth and predictions, the legend of their labels, and the figure."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import vis
from reporting.runs import Run, by_head, load


def panel_rows(runs: Sequence[Run]) -> list[list[tuple[str, str]]]:
    """Return a row of (caption, data URI) for each image that all the runs have: image, predictions, truth."""
    rows = []
    for image_id in _common_panels(runs):
        first = runs[0].panels[image_id]
        photo = ("image", _data_uri(Image.fromarray(first.image), "JPEG", quality=80))
        predictions = [
            (run.name if len(runs) > 1 else "prediction", _label_uri(run.panels[image_id].prediction)) for run in runs
        ]
        rows.append([photo, *predictions, ("truth", _label_uri(first.truth))])
    return rows


def _common_panels(runs: Sequence[Run]) -> list[str]:
    return [image_id for image_id in runs[0].panels if all(image_id in run.panels for run in runs)]


def legend(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return (class name, colour) for each label that the panels show."""
    shown = {
        int(label)
        for image_id in _common_panels(runs)
        for run in runs
        for labels in (run.panels[image_id].truth, run.panels[image_id].prediction)
        for label in np.unique(labels)
    }
    names = {**dict(enumerate(runs[0].result["classes"])), vis.VOID: "void"}
    palette = vis.make_palette(256)
    return [(names.get(label, f"class {label}"), _hex(palette[label])) for label in sorted(shown)]


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in color)


def _label_uri(labels: np.ndarray) -> str:
    return _data_uri(vis.label_image(labels), "PNG", optimize=True)


def _data_uri(image: Image.Image, format: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def figure(results: Sequence[Path], rows: int = 3) -> Image.Image:
    """Return the paper's figure 4 of these runs: image, each run's prediction, and truth, under their captions.

    Of runs of several heads, those of the first result's. Of the panels, the `rows` whose truth shows the most classes.
    Raises ValueError if the runs share no panels.
    """
    runs = by_head([load(path) for path in results])[0]
    chosen = sorted(_common_panels(runs), key=lambda image_id: -len(np.unique(runs[0].panels[image_id].truth)))[:rows]
    if not chosen:
        raise ValueError("These runs have no panels in common, so there is nothing to show side by side.")
    palette = vis.make_palette(256)
    captions = ["Image", *(run.name for run in runs), "Ground truth"]
    pictures = [
        [
            Image.fromarray(runs[0].panels[image_id].image),
            *(Image.fromarray(vis.color_seg(run.panels[image_id].prediction, palette)) for run in runs),
            Image.fromarray(vis.color_seg(runs[0].panels[image_id].truth, palette)),
        ]
        for image_id in chosen
    ]
    gap, head = 8, 30
    widths = [max(row[i].width for row in pictures) for i in range(len(captions))]
    heights = [row[0].height for row in pictures]
    size = (sum(widths) + gap * (len(widths) + 1), head + sum(heights) + gap * len(heights))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    x = gap
    for i, caption in enumerate(captions):
        pen.text((x + widths[i] / 2, head / 2), caption, fill="black", font=font, anchor="mm")
        y = head
        for row, height in zip(pictures, heights, strict=True):
            sheet.paste(row[i], (x, y))
            y += height + gap
        x += widths[i] + gap
    return sheet.quantize(256, dither=Image.Dither.NONE)
