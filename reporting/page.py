"""The page of a report: one HTML file with everything inside, made of runs by the template beside this file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from files.writing import write_text
from reporting.curves import COLORS, charts
from reporting.pictures import legend, panel_rows
from reporting.runs import Run, by_head, load
from scoring.metrics import METRICS

TEMPLATE = Path(__file__).resolve().parent / "report.html.j2"

# From so many classes on, the confusion matrix's cells are too small for numbers.
DENSE = 26

# How many of the largest confusions are listed.
CONFUSED = 12


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
        sections=[_section(of_head, first=not i) for i, of_head in enumerate(by_head(runs))],
    )
    write_text(out, page)


def _section(runs: Sequence[Run], first: bool) -> dict[str, Any]:
    """Return what the template shows of the runs of one head; the first one's curves have the loss, which all share."""
    return {
        "runs": runs,
        "head": runs[0].head,
        "colors": list(itertools.islice(itertools.cycle(COLORS), len(runs))),
        "metric_rows": _metric_rows(runs),
        "charts": charts(runs, first),
        "classes": _class_rows(runs),
        "confusions": [_confusion(run) for run in runs],
        "panels": panel_rows(runs),
        "legend": legend(runs),
    }


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
