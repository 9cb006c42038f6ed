"""The measured numbers beside the published ones: which result file speaks for a row of the papers, and what it says.

Looked through are the files that score.py and training write (scoring/results.py says where), those of results/ that
were put there by hand, and measured/, which holds the ones that the repository itself was published with.

What counts as measured is a scoring of the whole split, by the published count of its images, of weights that a
training here left (or the authors', where the row says so), masked as the row is. Of several, the one furthest in
training counts; of several at that iteration, the newest. A scoring of a part of the split is told apart, with its
count. Rehearsals, shift-and-stitch and weights of no known iteration do not count.

A file that cannot be read, or is not what its name promises, is passed over with a line on stderr.
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

import numpy as np

import published
from nets.folders import ROOT, results_folder, run_folder
from nets.structure import deploy_net, structure
from published import Column, Row, Table
from scoring.metrics import METRICS, Scores
from scoring.results import read_result, write_result
from training.logs import read_log
from training.momentum import equivalent_momentum

# Where the repository keeps the result files that it is published with.
COMMITTED = "measured"

# Where numbers that no program here can measure are kept, in results/ and in measured/.
RECORDED = "recorded.json"

# The sources of columns (published.Column) whose numbers a person puts in.
BY_HAND = ("server", "clock")

# What is asked of a result file here, and the types that it may have.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("experiment", "split", "head", "date"), str),
    **dict.fromkeys(("images", "split_images"), int),
    **dict.fromkeys(("iteration", "stitch"), (int, type(None))),
    **dict.fromkeys(("released", "rehearsal"), bool),
    **dict.fromkeys((*METRICS, "mean_iu_without_background"), (int, float, type(None))),
    "mask": (str, type(None)),
    "weights": dict,
}

Result = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A scoring of a part of a row's images: no measured number, but worth knowing where there is nothing else."""

    result: Path
    images: int
    iteration: int | None
    classes: int
    """How many of the classes the images have: the means are over these."""
    of_classes: int
    values: dict[str, float]
    """By the table's columns, as Measured's."""


@dataclass
class Measured:
    """What was measured for a row: values by the table's columns, in the published ones' units."""

    values: dict[str, float] = field(default_factory=dict)
    result: Path | None = None
    """The file that the scores are from."""
    iteration: int | None = None
    part: Part | None = None
    """What a part of the images gave, where all of them were not scored."""


class Measurements:
    """All that was measured, as files found once."""

    def __init__(self, root: Path = ROOT, committed_only: bool = False) -> None:
        """Look through the repository at ``root``, or only through its measured/."""
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
            measured.part = self._part(table, row, *part)
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
            and (weights is None or result["weights"].get("sha256") == weights)
        ]
        return max(found, key=lambda one: (one[1]["iteration"] or 0, one[1]["date"]), default=None)

    def _part(self, table: Table, row: Row, path: Path, result: Result) -> Part:
        """Return what a scoring of a part of a row's images says."""
        scored = {column.key: self._score(row, column, result, whole=False) for column in table.columns}
        values = {key: value for key, value in scored.items() if value is not None}
        present = Scores(np.array(result["confusion"])).present
        return Part(path, result["images"], result["iteration"], int(present.sum()), len(present), values)

    def _score(self, row: Row, column: Column, result: Result, whole: bool) -> float | None:
        """Return what a result file gives for a column, or for that of another head the one of the same weights."""
        if column.source != "score":
            return None
        if column.head:
            other = self._furthest(row, whole, column.head, result["weights"].get("sha256"))
            if other is None:
                return None
            result = other[1]
        value = result[column.metric or column.key]
        return None if value is None else 100 * value

    def _value(self, row: Row, column: Column, best: tuple[Path, Result] | None) -> float | None:
        """Return a row's measured number, None if there is none."""
        if column.source == "score":
            return None if best is None else self._score(row, column, best[1], whole=True)
        if column.source in ("gain", "share"):
            return self._compared(row, column, best)
        if column.source == "structure":
            number = _structure(row.structure_of)[column.key]
            return number / 1e6 if column.key == "parameters" else number
        if column.source == "momentum":
            return equivalent_momentum(0.9, batch=20, to=1)
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
                try:
                    bounds = json.loads(path.read_text(encoding="utf-8"))
                    if bounds["images"] == row.split.images:
                        return 100 * float(bounds["bilinear"][row.name]["mean_iu"])
                except (OSError, ValueError, KeyError, TypeError) as error:
                    _pass_over(path, f"not what analyze.py upper-bounds writes: {error!r}")
        return None

    def _compared(self, row: Row, column: Column, best: tuple[Path, Result] | None) -> float | None:
        """Return the row's mean IU beside that of the row which it is set against."""
        other = self.best(published.find(row.against)[0][1]) if row.against else None
        if best is None or other is None:
            return None
        here, there = best[1]["mean_iu"], other[1]["mean_iu"]
        if here is None or there is None:
            return None
        if column.source == "gain":
            return 100 * (here - there)
        return 100 * here / there if there else None

    def _loss(self, experiment: str, iteration: int) -> float | None:
        """Return the smoothed loss a pixel of a run at the last row of its log at or before an iteration."""
        folders = [self._root / COMMITTED / experiment]
        if not self._committed:
            folders.append(run_folder(experiment, self._root))
        for folder in reversed(folders):
            try:
                log = read_log(folder / "log.csv")
            except (OSError, ValueError, TypeError) as error:
                _pass_over(folder / "log.csv", error)
                continue
            before = [line.loss_per_pixel for line in log if line.iteration <= iteration]
            if before and log[-1].iteration >= iteration:
                return before[-1]
        return None


@cache
def _structure(net: str) -> dict[str, float]:
    """Return what a net is like, as analyze.py nets says it."""
    return asdict(structure(deploy_net(net)))


def record(name: str, values: Mapping[str, float], root: Path = ROOT, note: str = "") -> Path:
    """Note numbers that no program here can measure, and return the file that holds them.

    name: the row, as TABLE/ROW. values: by the table's columns. Raises ValueError for a row or a column that there is
    not, for one that score.py measures, and for a number that cannot be one.
    """
    rows = published.find(name)
    if "/" not in name:
        raise ValueError(f"{name} is a table: name one of its rows, such as {name}/{rows[-1][1].name}.")
    table, row = rows[0]
    if row.quoted:
        raise ValueError(f"{name} is quoted: nothing here measures it.")
    columns = {column.key: column for column in table.columns if column.source in BY_HAND}
    for key, value in values.items():
        if key not in columns:
            takes = f"it takes {', '.join(columns)}" if columns else "all of its numbers come from files"
            raise ValueError(f"{name} takes no '{key}' by hand: {takes}.")
        at_most = 100 if columns[key].source == "server" else sys.float_info.max
        if not 0 <= value <= at_most:
            expected = "0 to 100, in per cent" if at_most == 100 else f"0 or more, in {columns[key].unit}"
            raise ValueError(f"{key} is {value:g}: expected {expected}.")
    path = results_folder(root) / RECORDED
    recorded = _read_recorded(path)
    former = recorded.get(name, {"values": {}})
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    recorded[name] = {"values": {**former["values"], **values}, "date": now, "note": note}
    write_result(path, recorded)
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


def _read(path: Path) -> Result | None:
    """Return a result file's scores; None for JSON of another kind, and for what cannot be read."""
    if path.name.startswith("."):
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or "confusion" not in stored:
            return None
        result = read_result(path)
        for name, kind in _FIELDS.items():
            if not isinstance(result.get(name), kind):
                raise ValueError(f"its '{name}' is {result.get(name, 'missing')!r}")
        if np.array(result["confusion"], np.int64).ndim != 2:
            raise ValueError("its 'confusion' is no matrix")
        return result
    except (OSError, ValueError, TypeError, RecursionError) as error:
        _pass_over(path, error)
        return None


def _pass_over(path: Path, why: object) -> None:
    print(f"Passed over: {path}: {why}", file=sys.stderr)


def _read_recorded(path: Path) -> dict[str, Any]:
    """Return the numbers put in by hand; ValueError where the file is damaged, since it can be written nowhere else."""
    if not path.is_file():
        return {}
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(value, (int, float)) for one in recorded.values() for value in one["values"].values()):
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
