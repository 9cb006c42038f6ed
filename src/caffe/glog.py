"""Caffe's log: one line a message on stderr, in the form of Google's glog, which BVLC Caffe logs through.

    I1121 02:03:04.567890 12345 solver.cpp:239] Iteration 100, loss = 0.5

That is: the severity's letter, month and day, local time, thread id, a place, and the text. The place is the line of
Caffe's source that logs this text, where one does (tests hold it to the facts), and else the line here. Log parsers
(Caffe's own parse_log.py, DIGITS) grep these lines, so their texts are kept.

The environment variable GLOG_minloglevel (0 INFO, 1 WARNING, 2 ERROR, 3 FATAL) hides what is below it. The lines go
through Python's logger "caffe", to which a program may add handlers of its own; it does not pass them on to the
root logger, whose handler would print them a second time.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

from .checked import integer
from .world import root_solver

_VARIABLE = "GLOG_minloglevel"
_SEVERITY = {logging.INFO: 0, logging.WARNING: 1, logging.ERROR: 2}
_ERROR = 2

logger = logging.getLogger("caffe")


class _Level:
    """The least severity that is logged: what the environment says, or init_log if it spoke last."""

    def __init__(self) -> None:
        self.chosen: int | None = None
        self.environment: str | None = None

    def choose(self, level: int) -> None:
        self.chosen = level
        self.environment = os.environ.get(_VARIABLE)

    def current(self) -> int:
        environment = os.environ.get(_VARIABLE)
        if self.chosen is not None and environment == self.environment:
            return self.chosen
        try:
            return int(environment or 0)
        except ValueError:
            return 0


_level = _Level()


class _Stderr(logging.Handler):
    """Writes to whatever sys.stderr is now, so that redirection works; below ERROR only when `everything`."""

    everything = True

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None or not (self.everything or _SEVERITY[record.levelno] >= _ERROR):
            return
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # a closed pipe must not end a training run
            self.handleError(record)


class _GlogFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        micros = int(record.created % 1 * 1e6)
        thread = threading.get_native_id()
        source = getattr(record, "source", None) or f"{record.filename}:{record.lineno}"
        return f"{record.levelname[0]}{when}.{micros:06d} {thread:5d} {source}] {record.getMessage()}"


_handler = _Stderr()
_handler.setFormatter(_GlogFormatter())
if not logger.handlers:
    logger.addHandler(_handler)
logger.setLevel(logging.INFO)
logger.propagate = False


def info(text: str, source: str | None = None) -> None:
    """Log progress. `source` is the file and line where Caffe logs this text, None for a text of our own."""
    _write(logging.INFO, text, source)


def info_at_root(text: str, source: str | None = None) -> None:
    """Log progress once where several solvers train together: if this process is their root."""
    if root_solver():
        _write(logging.INFO, text, source)


def warning(text: str, source: str | None = None) -> None:
    """Log something that a user should look at, while the program goes on."""
    _write(logging.WARNING, text, source)


def error(text: str, source: str | None = None) -> None:
    """Log a failure that the program survives; what ends it is an exception instead."""
    _write(logging.ERROR, text, source)


def log(s: str) -> None:
    """Write one INFO line of the program's own: pycaffe's `caffe.log`."""
    _write(logging.INFO, s, "_caffe.cpp:68")


def init_log(level: int | None = None, stderr: bool = True) -> None:
    """Choose what is logged, as pycaffe's `caffe.init_log` does.

    `level` is the least severity logged, 0 INFO to 3 FATAL; left out, it stays as it is. With `stderr` false only
    errors go to stderr (BVLC Caffe writes the rest to files under /tmp; here it reaches only the handlers that
    the program added to the logger "caffe").
    """
    if level is not None:
        _level.choose(integer(level, "init_log's level"))
    _handler.everything = bool(stderr)


def number(value: float) -> str:
    """Spell a number as a C++ stream does: six significant digits."""
    return f"{value:g}"


def _write(level: int, text: str, source: str | None) -> None:
    """Log a text unless it is hidden; without a source its place is that of the caller's caller."""
    if _SEVERITY[level] >= _level.current():
        logger.log(level, "%s", text, extra={"source": source}, stacklevel=3)
