"""A report's curves, as SVG that takes its width and text colour from the page around it; none without matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reporting.runs import Run
from scoring.metrics import METRICS

# The most points that a curve is drawn with.
CURVE_POINTS = 300

# One colour an experiment (Paul Tol's "bright" scheme: told apart by the colour-blind, on white and on black).
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")

# Matplotlib writes colours as numbers; this one becomes the page's own text colour, light or dark.
_INK = "#010203"


def charts(runs: Sequence[Run], loss: bool) -> list[tuple[str, str]]:
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
