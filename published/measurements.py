"""The measured numbers beside the published ones: which result file speaks for a row of the papers, and what it says.

Looked through are the files that score.py and training write (scoring/results.py says where), those of results/ that
were put there by hand, and measured/, which holds the ones that the repository itself was published with.

What counts as measured is a scoring of the whole split, by the published count of its images, of weights that a
training here left (or the authors', where the row says so), masked as the row is. Of several, the one furthest in
training counts; of several at that iteration, the newest. A scoring of a part of the split is told apart, with its
count. Rehearsals, shift-and-stitch and weights of no known iteration do not count.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import analyze
import published
from experiment import ROOT, results_folder, run_folder
from nets.structure import structure
from published import Column, Row, Table
from scoring.results import read_result
from training.progress import read_log

# Where the repository keeps the result files that it is published with.
COMMITTED = "measured"

# Where numbers that no program here can measure are kept, in results/ and in measured/.
RECORDED = "recorded.json"

# The sources of columns (published.Column) whose numbers a person puts in.
BY_HAND = ("server", "clock")

Result = dict[str, Any]


@dataclass
class Measured:
    """What was measured for a row: values by the table's columns, in the published ones' units."""

    values: dict[str, float] = field(default_factory=dict)
    result: Path | None = None
    """The file that the scores are from."""
    iteration: int | None = None
    remarks: list[str] = field(default_factory=list)
    """What has to be known of them: a scoring of a part of the split, for one."""


class Measurements:
    """All that was measured, as files found once."""

    def __init__(self, root: Path = ROOT, committed_only: bool = False) -> None:
        """Look through the repository at ``root``, or only through its measured/.

        A file of scores that cannot be read is passed over, with a line on stderr.
        """
        self._root = root
        self._committed = committed_only
        self._folders = [root / COMMITTED] if committed_only else [results_folder(root), root / COMMITTED]
        files = [path for folder in self._folders for path in sorted(folder.rglob("*.json"))]
        if not committed_only:
            for pattern in ("*/snapshot/results/*.json", "*/*/snapshot/results/*.json"):
                files += sorted(root.glob(pattern))
        self._results = [(path, result) for path in files if (result := _read(path)) is not None]
        self._recorded: dict[str, dict[str, float]] = {}
        for folder in reversed(self._folders):
            self._recorded.update({row: one["values"] for row, one in _read_recorded(folder / RECORDED).items()})

    def of(self, table: Table, row: Row) -> Measured:
        """Return what was measured for a row; nothing, for one that is quoted."""
        measured = Measured()
        if row.quoted:
            return measured
        best = self.best(row)
        if best is not None:
            measured.result, measured.iteration = best[0], best[1]["iteration"]
        elif (part := self._furthest(row, whole=False)) is not None:
            measured.remarks.append(_partly(row, part[1]))
        recorded = self._recorded.get(f"{table.name}/{row.name}", {})
        for column in table.columns:
            value = recorded.get(column.key) if column.source in BY_HAND else self._value(row, column, best)
            if value is not None:
                measured.values[column.key] = value
        return measured

    def best(self, row: Row, head: str = "", weights: str | None = None) -> tuple[Path, Result] | None:
        """Return the result file that counts for a row, and its path; None if there is none.

        head: the scored blob, "" for the semantic one. weights: only a scoring of the weights with this SHA-256.
        """
        return self._furthest(row, whole=True, head=head, weights=weights)

    def _furthest(
        self, row: Row, whole: bool, head: str = "", weights: str | None = None
    ) -> tuple[Path, Result] | None:
        found = [
            (path, result)
            for path, result in self._results
            if _is_of(row, head, result)
            and _is_whole(row, result) == whole
            and (weights is None or result["weights"]["sha256"] == weights)
        ]
        return max(found, key=lambda one: (one[1]["iteration"] or 0, one[1]["date"]), default=None)

    def _value(self, row: Row, column: Column, best: tuple[Path, Result] | None) -> float | None:
        """Return a row's measured number, None if there is none."""
        if column.source == "score":
            if best is not None and column.head:
                best = self.best(row, column.head, best[1]["weights"]["sha256"])
            value = best[1].get(column.metric or column.key) if best is not None else None
            return None if value is None else 100 * value
        if column.source in ("gain", "share"):
            return self._compared(row, column, best)
        if column.source == "structure":
            number = _structure(row.structure_of)[column.key]
            return number / 1e6 if column.key == "parameters" else number
        if column.source == "momentum":
            return analyze.equivalent_momentum(0.9, batch=20, to=1)
        if column.source == "upper-bounds":
            return self._upper_bound(row)
        at = int(column.metric) // (row.images_an_iteration if column.source == "log_images" else 1)
        return self._loss(row.experiment, at)

    def _upper_bound(self, row: Row) -> float | None:
        """Return the mean IU that an output stride allows, where analyze.py has found it over the whole split."""
        assert row.split is not None
        for folder in self._folders:
            path = folder / "upper-bounds" / f"{row.split.name}.json"
            if path.is_file():
                bounds = json.loads(path.read_text(encoding="utf-8"))
                if bounds["images"] == row.split.images:
                    return 100 * float(bounds["bilinear"][row.name]["mean_iu"])
        return None

    def _compared(self, row: Row, column: Column, best: tuple[Path, Result] | None) -> float | None:
        """Return the row's mean IU beside that of the row which it is set against."""
        other = self.best(published.find(row.against)[0][1]) if row.against else None
        if best is None or other is None:
            return None
        here, there = best[1]["mean_iu"], other[1]["mean_iu"]
        if column.source == "gain":
            return 100 * (here - there)
        return 100 * here / there if there else None

    def _loss(self, experiment: str, iteration: int) -> float | None:
        """Return the smoothed loss a pixel of a run at the last row of its log at or before an iteration."""
        folders = [self._root / COMMITTED / experiment]
        if not self._committed:
            folders.append(run_folder(experiment, self._root))
        for folder in reversed(folders):
            log = read_log(folder / "log.csv")
            if log and log[-1].iteration >= iteration:
                return [line.loss_per_pixel for line in log if line.iteration <= iteration][-1]
        return None


@cache
def _structure(net: str) -> dict[str, float]:
    """Return what a net is like, as analyze.py nets says it."""
    return asdict(structure(analyze.deploy_net(net)))


def record(name: str, values: Mapping[str, float], root: Path = ROOT, note: str = "") -> Path:
    """Note numbers that no program here can measure, and return the file that holds them.

    name: the row, as TABLE/ROW. values: by the table's columns. Raises ValueError for a row or a column that there is
    not, and for one that score.py measures.
    """
    rows = published.find(name)
    if "/" not in name:
        raise ValueError(f"{name} is a table: name one of its rows, such as {name}/{rows[-1][1].name}.")
    table, row = rows[0]
    if row.quoted:
        raise ValueError(f"{name} is quoted: nothing here measures it.")
    columns = {column.key: column for column in table.columns if column.source in BY_HAND}
    for key in values:
        if key not in columns:
            takes = f"it takes {', '.join(columns)}" if columns else "all of its numbers come from files"
            raise ValueError(f"{name} takes no '{key}' by hand: {takes}.")
    path = root / "results" / RECORDED
    recorded = _read_recorded(path)
    former = recorded.get(name, {"values": {}})
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    recorded[name] = {"values": {**former["values"], **values}, "date": now, "note": note}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    return path


def _is_of(row: Row, head: str, result: Result) -> bool:
    """Whether a result is of a row: its experiment, split, mask and head, and weights of a known origin."""
    heads = (head,) if head else ("score", "score_sem")
    return (
        row.split is not None
        and (result["experiment"], result["split"], result["mask"]) == (row.experiment, row.split.name, row.mask)
        and result["head"] in heads
        and result["released"] == row.released
        and bool(result["iteration"] or result["released"])
        and result["stitch"] is None
        and not result["rehearsal"]
    )


def _is_whole(row: Row, result: Result) -> bool:
    return row.split is not None and result["images"] == result["split_images"] == row.split.images


def _partly(row: Row, result: Result) -> str:
    """Say in a line what was measured on a part of the split."""
    assert row.split is not None
    trained = f" at iteration {result['iteration']:,}" if result["iteration"] else ""
    metrics = {"pixel acc.": "pixel_accuracy", "mean acc.": "mean_accuracy", "mean IU": "mean_iu", "f.w. IU": "fw_iu"}
    values = [f"{name} {100 * result[key]:.1f}" for name, key in metrics.items() if result[key] is not None]
    return f"on {result['images']:,} of the {row.split.images:,} images only{trained}: {', '.join(values)}"


def _read(path: Path) -> Result | None:
    """Return a result file's scores; None for JSON of another kind, and for what cannot be read."""
    if path.name.startswith("."):
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or "confusion" not in stored:
            return None
        return read_result(path)
    except (OSError, ValueError) as error:
        print(f"Passed over: {path}: {error}", file=sys.stderr)
        return None


def _read_recorded(path: Path) -> dict[str, Any]:
    """Return the numbers put in by hand; ValueError where the file is damaged, since it can be written nowhere else."""
    if not path.is_file():
        return {}
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(one["values"], dict) for one in recorded.values()):
            return dict(recorded)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} does not hold what `python paper.py record` writes: mend or remove it.")


def rows_of(names: Iterable[str]) -> list[tuple[Table, list[Row]]]:
    """Return tables, each with those of its rows that the names (pami3, pami3/8s) ask for; all of them for no name."""
    chosen: dict[str, list[Row]] = {}
    for name in names or published.TABLES:
        for table, row in published.find(name):
            if row not in (rows := chosen.setdefault(table.name, [])):
                rows.append(row)
    return [(published.TABLES[name], rows) for name, rows in chosen.items()]
