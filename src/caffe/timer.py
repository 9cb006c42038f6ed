"""Timer: caffe.Timer, a stop watch for what the CPU or a GPU does (benchmark.cpp)."""

from __future__ import annotations

import time

import torch

from . import device, glog


class Timer:
    """A stop watch: CUDA events in GPU mode, so that it measures what the GPU does, and the wall clock otherwise.

    start() on a running timer, and stop() on one that stands still, do nothing, as in Caffe.
    """

    def __init__(self) -> None:
        self._running = False
        self._has_run = False
        self._begin = self._end = 0.0  # seconds of a clock of its own
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None  # instead, if it runs in GPU mode

    def start(self) -> None:
        """Start anew; the mode of now is the one that is timed."""
        if self._running:
            return
        self._running = self._has_run = True
        if device.current().type == "cuda":
            self._events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self._events[0].record()
        else:
            self._events = None
            self._begin = time.perf_counter()

    def stop(self) -> None:
        """Stop. In GPU mode this is noted in the GPU's queue of work, which goes on; reading `ms` waits for it."""
        if not self._running:
            return
        self._running = False
        if self._events:
            self._events[1].record()
        else:
            self._end = time.perf_counter()

    @property
    def ms(self) -> float:
        """The milliseconds from start to stop; a timer that runs is stopped, one that never ran warns and is 0."""
        if not self._has_run:
            glog.warning("Timer has never been run before reading time.", "benchmark.cpp:60")
            return 0.0
        self.stop()
        if self._events is None:
            return (self._end - self._begin) * 1e3
        begin, end = self._events
        end.synchronize()
        return float(begin.elapsed_time(end))
