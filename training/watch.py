"""Follows a solver while it trains: its progress to the screen, its loss to the logs, and a stop when one is asked for.

That is done in the callbacks that a solver calls in every iteration, so that it can be driven in long strides:
`solver.step(1)` in a loop would start Caffe's average_loss anew each time.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping

import caffe
from terminal.progress_bar import duration
from training.logs import Logs, Row
from training.loss import Loss
from training.screen import Screen
from training.signals import Interrupted, stop_signals

# A row of log.csv, and fresh words on the progress line, in so many iterations.
LOG_EVERY = 20

# How many iterations the smoothed loss is a mean over where the solver sets no average_loss.
SMOOTHING = 20


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
        with stop_signals(self._ask_to_stop):
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
