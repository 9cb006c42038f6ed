"""The terminal during a training run: one progress line, and of what Caffe logs only what a person has to see."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from terminal.progress_bar import ProgressBar, image_bar, is_installed

# What the progress line holds, in tqdm's words.
FORM = "{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}"

# Without a terminal, one line of progress in so many seconds.
PLAIN_INTERVAL = 10.0


class Screen:
    """The terminal during a run: one progress line that renews itself, or plain lines where there is none.

    On a terminal, what Caffe logs (stderr) goes to a file, and only its warnings and errors to the screen: its
    information would tear the progress line. Without a terminal, stderr is left as it is, for log parsers.
    """

    def __init__(self, caffe_log: Path) -> None:
        """Take the screen over; caffe_log: the file for Caffe's own words."""
        self._total = 0
        self._bar: ProgressBar | None = None
        self._terminal: TextIO | None = None
        self._spoken = 0.0
        if not sys.stderr.isatty():
            return
        if not is_installed():
            print("tqdm is not installed: plain lines instead of a progress bar.")
            return
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
            self._bar = ProgressBar(None, total, done, unit="it", stays=True, terminal=self._terminal, form=FORM)

    def iteration(self, done: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.reach(done)

    def progress(self, done: int, text: str) -> None:
        """Renew the line's words."""
        if self._bar is not None:
            self._show_warnings()
            self._bar.describe(text)
        elif done == self._total or time.monotonic() - self._spoken >= PLAIN_INTERVAL:
            self._spoken = time.monotonic()
            print(f"iteration {done} of {self._total}: {text}", flush=True)

    @contextmanager
    def images(self, total: int) -> Iterator[Callable[[str], object]]:
        """Show the progress of scoring `total` images, below the training's; gives what to call with each one's id."""
        if self._terminal is not None:
            with image_bar(total, self._terminal) as advance:
                yield advance
            return
        done, spoken = 0, time.monotonic()

        def say_now_and_then(image_id: str) -> None:
            nonlocal done, spoken
            done += 1
            if time.monotonic() - spoken >= PLAIN_INTERVAL:
                spoken = time.monotonic()
                print(f"scored {done} of {total} images", flush=True)

        yield say_now_and_then

    def say(self, text: str) -> None:
        """Print a line of its own."""
        if self._bar is not None:
            self._bar.write(text)
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
