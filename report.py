"""One HTML file that shows how a training run went, light enough to mail; several runs side by side in one.

    python report.py snapshot/results/seg11valid_iter_100000.json --out report.html
    python report.py 32s/results/*_4800.json 16s/results/*_2000.json 8s/results/*_1600.json --out report.html

Curves of the loss and the scores, the four metrics, each class's IU, the confusion matrix, and images beside their
truth and prediction; a net's second head follows the first. Everything is inside the file: it loads nothing from
anywhere.

A result is a JSON file of score.py's form. Beside it train.py leaves what the curves and pictures are made of:

    RUN/results/SPLIT_iter_N.json    this and the run's earlier scorings
    RUN/log.csv                      the loss
    RUN/panels/ID.jpg ID.truth.png ID.prediction.png        of several heads, a folder each: panels/sem, panels/geo

Where that is missing, as it is for a result of score.py's own, the report leaves it out.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import vis
from scoring.metrics import Scores
from scoring.results import head_name, read_result
from training import progress

TEMPLATE = Path(__file__).resolve().parent / "report.html.j2"

# The widest a panel's picture gets, pixels: three make a phone's width, and a dozen rows stay under a megabyte.
PANEL_WIDTH = 320

# The most points that a curve is drawn with.
CURVE_POINTS = 300

# One colour an experiment (Paul Tol's "bright" scheme: told apart by the colour-blind, on white and on black).
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")

METRICS = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iu": "mean IU",
    "fw_iu": "f.w. IU",
}

# What the scorings of one curve have in common.
SERIES = ("experiment", "split", "split_sha256", "head", "mask", "stitch", "rehearsal", "released")

# From so many classes on, the confusion matrix's cells are too small for numbers.
DENSE = 26

# How many of the largest confusions are listed.
CONFUSED = 12

# Matplotlib writes colours as numbers; this one becomes the page's own text colour, light or dark.
_INK = "#010203"


@dataclass(frozen=True)
class Panel:
    """An image, H x W x 3 RGB, with its truth and prediction, H x W label maps; all uint8, of one size."""

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


@dataclass(frozen=True)
class Run:
    """What a result file and the files beside it tell of an experiment.

    result: the file's contents. history: the scores by iteration, up to the result's. log: the rows of log.csv up to
    there. panels: by image id.
    """

    result: dict[str, Any]
    scores: Scores
    history: dict[int, Scores]
    log: list[progress.Row]
    panels: dict[str, Panel]

    @property
    def name(self) -> str:
        """The experiment's name in the paper's words where it tells its stride: FCN-8s; else its folder."""
        folder = self.result["experiment"]
        stride = re.search(r"(?:^|[/-]|fcn-?)(\d+s(?:-atonce)?)$", folder)
        return f"FCN-{stride[1]}" if stride else folder

    @property
    def head(self) -> str:
        """What of the net was scored: "sem" or "geo", or "" where there is one head only."""
        return head_name(self.result["head"])


def load(path: Path) -> Run:
    """Read a result file and what is beside it.

    Raises FileNotFoundError, and ValueError for a file that is no result of score.py's.
    """
    result = read_result(path)
    iteration = result["iteration"]
    last = iteration if iteration is not None else 0
    folder = path.parent.parent
    history = {}
    series = [result.get(key) for key in SERIES]
    for other in path.parent.glob(f"{result['split']}_*.json"):
        earlier = read_result(other)
        if [earlier.get(key) for key in SERIES] == series and (earlier["iteration"] or 0) <= last:
            history[earlier["iteration"] or 0] = Scores.from_json(earlier)
    log = [row for row in progress.read_log(folder / "log.csv") if row.iteration <= last]
    shown = folder / "panels" / head_name(result["head"])
    panels = {p.relative_to(shown).with_suffix("").as_posix(): _load_panel(p) for p in sorted(shown.rglob("*.jpg"))}
    return Run(result, Scores.from_json(result), dict(sorted(history.items())), log, panels)


def save_panel(folder: Path, image_id: str, image: Image.Image, truth: np.ndarray, predictions: Path) -> None:
    """Save an image and its labels, as small as the report shows them, into a run's folder of panels.

    image: RGB. truth: H x W, uint8. predictions: the folder that holds the prediction as ID.png.
    """
    # The id of an image may name a folder: a/1.
    (folder / image_id).parent.mkdir(parents=True, exist_ok=True)
    scale = min(1.0, PANEL_WIDTH / image.width)
    size = (round(image.width * scale), max(1, round(image.height * scale)))
    image.resize(size, Image.Resampling.LANCZOS).save(folder / f"{image_id}.jpg", quality=85)
    vis.label_image(truth).resize(size, Image.Resampling.NEAREST).save(folder / f"{image_id}.truth.png")
    with Image.open(predictions / f"{image_id}.png") as prediction:
        prediction.resize(size, Image.Resampling.NEAREST).save(folder / f"{image_id}.prediction.png")


def _load_panel(image: Path) -> Panel:
    labels = (image.with_name(f"{image.stem}.{kind}.png") for kind in ("truth", "prediction"))
    return Panel(np.asarray(Image.open(image).convert("RGB")), *(np.asarray(Image.open(path)) for path in labels))


def write(results: Sequence[Path], out: Path, title: str | None = None) -> None:
    """Write the report of one result file or more to `out`, in their order.

    Raises ImportError where jinja2 is not installed; without matplotlib, the report has no curves.
    """
    import jinja2  # noqa: PLC0415  used where it is installed

    runs = [load(path) for path in results]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        title=title or ", ".join(dict.fromkeys(run.result["experiment"] for run in runs)),
        metrics=METRICS,
        sections=[_section(of_head, first=not i) for i, of_head in enumerate(_by_head(runs))],
    )
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, out)


def _by_head(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs of each head, in the heads' order."""
    return [[run for run in runs if run.head == head] for head in dict.fromkeys(run.head for run in runs)]


def _section(runs: Sequence[Run], first: bool) -> dict[str, Any]:
    """Return what the template shows of the runs of one head; the first one's curves have the loss, which all share."""
    return {
        "runs": runs,
        "head": runs[0].head,
        "colors": list(itertools.islice(itertools.cycle(COLORS), len(runs))),
        "metric_rows": _metric_rows(runs),
        "charts": _charts(runs, first),
        "classes": _class_rows(runs),
        "confusions": [_confusion(run) for run in runs],
        "panels": _panel_rows(runs),
        "legend": _legend(runs),
    }


# Numbers


def _metric_rows(runs: Sequence[Run]) -> list[list[tuple[float, bool]]]:
    """Return each run's four metrics in per cent, each with whether it is the best of several."""
    table = np.array([[100 * getattr(run.scores, metric) for metric in METRICS] for run in runs])
    best = np.nanmax(table, axis=0, initial=0.0)
    return [[(float(v), len(runs) > 1 and v == best[i]) for i, v in enumerate(row)] for row in table]


def _class_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a row a class, in the order of the first run's classes: name, and IU in per cent for each run."""
    rows: dict[str, list[float | None]] = {}
    for i, run in enumerate(runs):
        for name, iu in zip(run.result["classes"], run.scores.class_iu, strict=True):
            rows.setdefault(name, [None] * len(runs))[i] = 100 * float(iu) if np.isfinite(iu) else None
    return [{"name": name, "ius": ius} for name, ius in rows.items()]


def _confusion(run: Run) -> dict[str, Any]:
    """Return a run's confusion matrix as the template lays it out: each row's shares of the true class's pixels."""
    counts = run.scores.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = run.result["classes"]
    present = [i for i in range(len(counts)) if counts[i].sum()]
    wrong = shares * (1 - np.eye(len(shares)))
    largest = [divmod(int(flat), len(names)) for flat in np.argsort(-wrong, axis=None)[:CONFUSED]]
    return {
        "name": run.name,
        "columns": names,
        "dense": len(names) >= DENSE,
        "rows": [{"name": names[i], "shares": shares[i].round(4).tolist()} for i in present],
        "largest": [(names[i], names[j], float(wrong[i, j])) for i, j in largest if wrong[i, j] > 0],
    }


# Curves


def _charts(runs: Sequence[Run], loss: bool) -> list[tuple[str, str]]:
    """Return (heading, SVG) for each chart that there is something to draw in; loss: the training loss too."""
    try:
        drawn = (_loss_chart(runs) if loss else None, _score_chart(runs))
        return [chart for chart in drawn if chart is not None]
    except ImportError as error:
        print(f"{error.name} is not installed: no curves in the report.")
        return []


def _loss_chart(runs: Sequence[Run]) -> tuple[str, str] | None:
    logged = [(i, run) for i, run in enumerate(runs) if len(run.log) > 1]
    if not logged:
        return None

    def draw(axes: Any) -> None:
        for i, run in logged:
            points = _thinned(np.array([(row.iteration, row.loss_per_pixel) for row in run.log]))
            axes.plot(points[:, 0], points[:, 1], color=COLORS[i % len(COLORS)], label=run.name)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("iteration")
        if len(logged) > 1:
            axes.legend()

    return "Training loss per pixel", _svg(draw)


def _score_chart(runs: Sequence[Run]) -> tuple[str, str] | None:
    scored = [(i, run) for i, run in enumerate(runs) if len(run.history) > 1]
    if not scored:
        return None

    def draw(axes: Any) -> None:
        if len(runs) > 1:
            for i, run in scored:
                _plot_metric(axes, run, "mean_iu", COLORS[i % len(COLORS)], run.name)
        else:
            for color, (metric, label) in zip(COLORS, METRICS.items(), strict=False):
                _plot_metric(axes, runs[0], metric, color, label)
        axes.set_xlabel("iteration")
        axes.set_ylim(0, 100)
        axes.legend()

    return ("Mean IU, per cent" if len(runs) > 1 else "Scores, per cent"), _svg(draw)


def _plot_metric(axes: Any, run: Run, metric: str, color: str, label: str) -> None:
    values = [100 * getattr(scores, metric) for scores in run.history.values()]
    axes.plot(list(run.history), values, color=color, label=label, marker="o", markersize=3)


def _thinned(points: np.ndarray) -> np.ndarray:
    """Return a curve, N x 2, as at most CURVE_POINTS points, each the mean of as many neighbours."""
    step = -(-len(points) // CURVE_POINTS)
    return np.array([points[i : i + step].mean(0) for i in range(0, len(points), step)])


def _svg(draw: Callable[[Any], None]) -> str:
    """Return what `draw` plots on its axes as SVG that takes its width and text colour from the page around it."""
    import matplotlib  # noqa: PLC0415  used where it is installed
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.size": 9,
        "lines.linewidth": 1.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.15,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "grid.color"), _INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
    }
    file = io.StringIO()
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        draw(axes)
        none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=none)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", text, count=5)
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", text)
    return text.replace(_INK, "currentColor")


# Pictures


def _panel_rows(runs: Sequence[Run]) -> list[list[tuple[str, str]]]:
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


def _legend(runs: Sequence[Run]) -> list[tuple[str, str]]:
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
    runs = _by_head([load(path) for path in results])[0]
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


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report that the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(%(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="the panels as one small PNG, too")
    parser.add_argument("--title", help="the page's title (default: the experiments' names)")
    options = parser.parse_args(argv)
    try:
        write(options.results, options.out, options.title)
        if options.picture:
            figure(options.results).save(options.picture, optimize=True)
    except (OSError, ValueError, ImportError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
