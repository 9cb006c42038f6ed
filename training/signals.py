"""Ctrl-C and SIGTERM during training: the first asks the run to stop, the second does what it always did."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """The user asked the run to stop (Ctrl-C or SIGTERM), and the iteration at hand is finished."""


@contextmanager
def stop_signals(ask_to_stop: Callable[[], None]) -> Iterator[None]:
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
