"""The logs that a training run leaves: log.csv, for anything that reads tables, and TensorBoard's event files."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from files.writing import write_text


@dataclass(frozen=True)
class Row:
    """One row of log.csv.

    iteration counts the updates done, this one included. loss is the iteration's own: the weighted sum of the
    net's losses, as Caffe logs it (of the last pass only, where iter_size is more than 1). smoothed_loss is
    the mean over the last average_loss iterations, and loss_per_pixel the mean of the same losses per pixel of
    the label map. seconds counts training time, scoring left out, since the run's first iteration.
    """

    iteration: int
    loss: float
    smoothed_loss: float
    loss_per_pixel: float
    lr: float
    images_per_second: float
    seconds: float


COLUMNS = tuple(field.name for field in fields(Row))


def read_log(path: Path) -> list[Row]:
    """Return the rows of a log.csv, without a last one that a crash cut off; none if there is no such file.

    Raises ValueError for a file with other columns.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="ascii").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    table = list(csv.reader(whole))
    if table and tuple(table[0]) != COLUMNS:
        raise ValueError(f"{path} has the columns {', '.join(table[0])}; expected {', '.join(COLUMNS)}.")
    return [Row(int(line[0]), *map(float, line[1:])) for line in table[1:]]


class CsvLog:
    """Appends rows to a log.csv; each is on disk for a reader as soon as it is written."""

    def __init__(self, path: Path, iteration: int) -> None:
        """Open the log of a run that goes on from `iteration` (0: from its start).

        Rows beyond it tell of iterations that will be done again, and are dropped.
        """
        kept = [row for row in read_log(path) if row.iteration <= iteration]
        self.seconds = kept[-1].seconds if kept else 0.0
        # Never a moment without the old rows on disk: they are replaced in one step.
        renewed = io.StringIO()
        table = csv.writer(renewed, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(map(_cells, kept))
        write_text(path, renewed.getvalue(), encoding="ascii")
        self._file = path.open("a", encoding="ascii", newline="")
        self._table = csv.writer(self._file, lineterminator="\n")

    def add(self, row: Row) -> None:
        """Append one row."""
        self._table.writerow(_cells(row))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cells(row: Row) -> list[str]:
    return [str(row.iteration), *(f"{value:.8g}" for value in astuple(row)[1:])]


class EventLog:
    """Writes scalars to TensorBoard's event files; does nothing where tensorboard is not installed."""

    def __init__(self, folder: Path, iteration: int) -> None:
        """Begin an event file in `folder`; TensorBoard drops what older files say beyond `iteration`."""
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2  # noqa: PLC0415
            from tensorboard.summary.writer.event_file_writer import EventFileWriter  # noqa: PLC0415
        except ImportError:
            print("tensorboard is not installed: no event files. log.csv has the same numbers.")
            self._writer = None
            return
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer = EventFileWriter(str(folder), flush_secs=20)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(self._event(wall_time=time.time(), step=iteration, session_log=start))

    def add(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write scalars by their tags, such as train/loss."""
        if self._writer is None:
            return
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        summary = self._summary(value=values)
        self._writer.add_event(self._event(wall_time=time.time(), step=iteration, summary=summary))

    def close(self) -> None:
        """Write what is held back, and close the file."""
        if self._writer is not None:
            self._writer.close()


class Logs:
    """A run's log.csv and event files; a context, which closes them."""

    def __init__(self, out: Path, iteration: int) -> None:
        """Open the logs in a run's folder, from `iteration` on."""
        self.csv = CsvLog(out / "log.csv", iteration)
        self.events = EventLog(out / "events", iteration)

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *exception: object) -> None:
        self.csv.close()
        self.events.close()
