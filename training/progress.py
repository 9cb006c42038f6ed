"""What a training run shows and writes while it goes: the progress line, log.csv, TensorBoard's events.

`Watch` follows a solver through the callbacks that it calls in every iteration, so that the solver can be driven
in long strides: `solver.step(1)` in a loop would start Caffe's average_loss anew each time.
"""

from __future__ import annotations

import csv
import math
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import caffe

# A row of log.csv, and fresh words on the progress line, in so many iterations.
LOG_EVERY = 20

# Without a terminal, one line of progress in so many seconds.
PLAIN_INTERVAL = 10.0

# How many iterations the smoothed loss is a mean over where the solver sets no average_loss.
SMOOTHING = 20


class Interrupted(Exception):
    """The user asked the run to stop (Ctrl-C or SIGTERM), and the iteration at hand is finished."""


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
        renewed = path.with_name(path.name + ".new")
        with renewed.open("w", encoding="ascii", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(map(_cells, kept))
        os.replace(renewed, path)
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


class Loss:
    """Reads the loss of a net's last pass: a scalar or two, so that doing it every iteration costs nothing."""

    def __init__(self, net: caffe.Net, layers: Any) -> None:
        """Find the net's losses; `layers` are the layers of its prototxt (LayerParameter messages)."""
        made_by = {top: layer for layer in layers for top in layer.top}
        self._terms: list[tuple[Any, float, Any]] = []  # loss blob, weight, label blob or None
        for name, weight in net.blob_loss_weights.items():
            if weight:
                label = _summed_over(made_by.get(name))
                self._terms.append((net.blobs[name], weight, net.blobs.get(label) if label else None))
        self.summed = any(label is not None for _, _, label in self._terms)

    def read(self) -> tuple[float, float]:
        """Return the weighted sum of the losses, as Caffe logs it, and the same with each loss per pixel.

        A loss that Caffe has already divided by its pixels (normalize: true, the default) is the same in both;
        one that is a sum over the image (normalize: false) is divided by the label map's height x width.
        """
        total = per_pixel = 0.0
        for blob, weight, label in self._terms:
            value = weight * float(blob.data.sum())
            total += value
            per_pixel += value / (label.height * label.width) if label is not None else value
        return total, per_pixel


def _summed_over(layer: Any) -> str | None:
    """Return the label blob of a loss that is a sum over the pixels of one; None for any other layer.

    Which normalization a loss has is softmax_loss_layer.cpp's and sigmoid_cross_entropy_loss_layer.cpp's word.
    """
    if layer is None or layer.type not in ("SoftmaxWithLoss", "SigmoidCrossEntropyLoss"):
        return None
    settings = layer.loss_param
    if settings.HasField("normalization"):
        summed = settings.normalization == settings.BATCH_SIZE
    elif settings.HasField("normalize"):
        summed = not settings.normalize
    else:
        summed = layer.type == "SigmoidCrossEntropyLoss"
    return str(layer.bottom[1]) if summed else None


class Watch:
    """Follows a solver: shows how far it is, logs its loss, and stops it between two iterations when asked."""

    def __init__(
        self,
        solver: caffe.SGDSolver,
        loss: Loss,
        total: int,
        logs: Logs,
        screen: Screen,
        average_loss: int,
        iter_size: int,
    ) -> None:
        """Watch `solver` on its way to iteration `total`.

        The logs are open from its present iteration on. average_loss, iter_size: the solver's settings.
        """
        self._solver, self._loss, self._total = solver, loss, total
        self._logs, self._screen = logs, screen
        batch = int(next(iter(solver.net.blobs.values())).num)
        self._images = batch * iter_size
        self._losses: deque[tuple[float, float]] = deque(maxlen=average_loss if average_loss > 1 else SMOOTHING)
        self._seconds = logs.csv.seconds
        self._begun = self._marked = 0.0
        self._iterations = self._since_mark = 0
        self._stop = False
        solver.add_callback(self._on_start, self._on_gradients_ready)
        screen.begin(total, solver.iter)

    def step(self, iterations: int) -> None:
        """Run `iterations` of the solver.

        Raises Interrupted, between two iterations, if a stop was asked for; SystemExit where the loss is no
        longer finite.
        """
        with _stop_signals(self._ask_to_stop):
            self._begun = self._marked = time.monotonic()
            self._since_mark = 0
            try:
                self._solver.step(iterations)
            finally:
                self._seconds += time.monotonic() - self._begun
        self._screen.pause()
        if self._stop:
            raise Interrupted

    def log_scores(self, scalars: Mapping[str, float]) -> None:
        """Log the scores of the present iteration, by their tags in TensorBoard."""
        self._logs.events.add(self._solver.iter, scalars)

    def _ask_to_stop(self) -> None:
        self._stop = True
        self._screen.say("Stopping after this iteration. (Once more: at once, without a snapshot.)")

    def _on_start(self) -> None:
        # Here the last iteration's update is done and nothing of the next: the one place to leave from.
        if self._stop:
            raise Interrupted

    def _on_gradients_ready(self) -> None:
        done = self._solver.iter + 1
        loss, per_pixel = self._loss.read()
        if not math.isfinite(loss):
            raise SystemExit(
                f"The loss is {loss} at iteration {done}. The weights of the last snapshot are still sound: a "
                "smaller base_lr in solver.prototxt, or other weights to start from, is what usually helps."
            )
        self._losses.append((loss, per_pixel))
        self._iterations += 1
        self._since_mark += 1
        if done % LOG_EVERY == 0 or done == self._total:
            self._write(done)
        self._screen.iteration(done)

    def _write(self, done: int) -> None:
        """Log the iteration, and renew what the screen says."""
        now = time.monotonic()
        count = len(self._losses)
        seconds = self._seconds + now - self._begun
        row = Row(
            iteration=done,
            loss=self._losses[-1][0],
            smoothed_loss=sum(loss for loss, _ in self._losses) / count,
            loss_per_pixel=sum(per_pixel for _, per_pixel in self._losses) / count,
            lr=float(self._solver.lr),
            images_per_second=self._images * self._since_mark / max(now - self._marked, 1e-9),
            seconds=seconds,
        )
        self._marked, self._since_mark = now, 0
        self._logs.csv.add(row)
        self._logs.events.add(
            done,
            {
                "train/loss": row.loss,
                "train/smoothed_loss": row.smoothed_loss,
                "train/loss_per_pixel": row.loss_per_pixel,
                "train/lr": row.lr,
                "train/images_per_second": row.images_per_second,
            },
        )
        left = (seconds - self._logs.csv.seconds) / self._iterations * (self._total - done)
        name = "loss/pixel" if self._loss.summed else "loss"
        self._screen.progress(
            done,
            f"{name} {row.loss_per_pixel:.4f}, {row.images_per_second:.3g} images/s, {duration(left)} left",
        )


@contextmanager
def _stop_signals(ask_to_stop: Callable[[], None]) -> Iterator[None]:
    """Call `ask_to_stop` at the first Ctrl-C or SIGTERM; the second does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals.
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(number: int, frame: object) -> None:
        restore()
        ask_to_stop()

    for number in former:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


class Screen:
    """The terminal during a run: one progress line that renews itself, or plain lines where there is none.

    On a terminal, what Caffe logs (stderr) goes to a file, and only its warnings and errors to the screen: its
    information would tear the progress line. Without a terminal, stderr is left as it is, for log parsers.
    """

    def __init__(self, caffe_log: Path) -> None:
        """Take the screen over; caffe_log: the file for Caffe's own words."""
        self._total = 0
        self._bar: Any = None
        self._terminal: TextIO | None = None
        self._spoken = 0.0
        if not sys.stderr.isatty():
            return
        try:
            from tqdm import tqdm  # noqa: PLC0415
        except ImportError:
            print("tqdm is not installed: plain lines instead of a progress bar.")
            return
        self._tqdm = tqdm
        print(f"Caffe's own log goes to {caffe_log}.", flush=True)
        sys.stderr.flush()
        self._terminal = os.fdopen(os.dup(2), "w")
        with caffe_log.open("ab") as file:
            self._caffe_log = caffe_log
            self._seen = file.seek(0, os.SEEK_END)
            self._quiet = True
            os.dup2(file.fileno(), 2)

    def begin(self, total: int, done: int) -> None:
        """Show the progress of `total` iterations, `done` of which are done."""
        self._total = total
        if self._terminal is not None and done < total:
            self._show_warnings()
            # Some terminals (a container's) say that they are 0 columns wide, and tqdm would show nothing.
            wide = os.get_terminal_size(self._terminal.fileno()).columns > 0
            self._bar = self._tqdm(
                total=total,
                initial=done,
                file=self._terminal,
                dynamic_ncols=wide,
                ncols=None if wide else 80,
                bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}",
            )

    def iteration(self, done: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def progress(self, done: int, text: str) -> None:
        """Renew the line's words."""
        if self._bar is not None:
            self._show_warnings()
            self._bar.set_postfix_str(text, refresh=False)
        elif done == self._total or time.monotonic() - self._spoken >= PLAIN_INTERVAL:
            self._spoken = time.monotonic()
            print(f"iteration {done} of {self._total}: {text}", flush=True)

    @contextmanager
    def images(self, total: int) -> Iterator[Callable[[str], object]]:
        """Show the progress of scoring `total` images, below the training's; gives what to call with each one's id."""
        if self._terminal is not None:
            with self._tqdm(total=total, unit="image", file=self._terminal, position=0, leave=False) as bar:
                yield lambda _: bar.update()
            return
        done, spoken = 0, time.monotonic()

        def advance(image_id: str) -> None:
            nonlocal done, spoken
            done += 1
            if time.monotonic() - spoken >= PLAIN_INTERVAL:
                spoken = time.monotonic()
                print(f"scored {done} of {total} images", flush=True)

        yield advance

    def say(self, text: str) -> None:
        """Print a line of its own."""
        if self._bar is not None:
            self._bar.write(text, file=self._terminal)
        else:
            print(text, file=self._terminal, flush=True)

    def pause(self) -> None:
        """Leave the progress line as it is, and go on below it: others are about to print."""
        if self._bar is not None:
            self._show_warnings()
            self._bar.refresh()
            print(file=self._terminal, flush=True)

    def close(self) -> None:
        """Give the screen back; nothing happens the second time."""
        if self._terminal is None:
            return
        sys.stderr.flush()
        self._show_warnings()
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        os.dup2(self._terminal.fileno(), 2)
        self._terminal.close()
        self._terminal = None

    def _show_warnings(self) -> None:
        """Show what Caffe has logged since the last time, save for information (glog's lines that begin I1231).

        A line that is not in glog's form goes on with the message before it.
        """
        with self._caffe_log.open("rb") as file:
            file.seek(self._seen)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self._seen += len(new)
        for line in new.decode(errors="replace").splitlines():
            severity = re.match(r"([IWEF])\d{4} ", line)
            if severity:
                self._quiet = severity[1] == "I"
            if not self._quiet:
                self.say(line)


@contextmanager
def image_bar(total: int) -> Iterator[Callable[[str], object] | None]:
    """Give what to call with each image's id: a progress bar on stderr where tqdm is installed, else nothing."""
    try:
        from tqdm import tqdm  # noqa: PLC0415  used where it is installed
    except ImportError:
        yield None
        return
    with tqdm(total=total, unit="image") as bar:
        yield lambda _: bar.update()


def duration(seconds: float) -> str:
    """Return a time as a person says it: 40 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
