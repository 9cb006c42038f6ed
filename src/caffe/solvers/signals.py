"""Signals: Ctrl-C and SIGHUP as requests to a solver, which it meets between two iterations (signal_handler.cpp).

The handlers only note what was asked for. The solver looks after every iteration, so that weights, history and
iteration always belong together. A Ctrl-C while a stop is pending raises KeyboardInterrupt on the spot.
"""

from __future__ import annotations

import enum
import signal
import threading
from types import FrameType
from typing import Any

from ..errors import SolverError


class StopRequested(KeyboardInterrupt):
    """A signal asked to stop, and the iteration and its snapshot are done; any other KeyboardInterrupt cut them off."""


class Action(enum.IntEnum):
    """What a signal asks for; where several ask, the greatest is done."""

    NONE = 0
    SNAPSHOT = 1
    STOP = 2


_EFFECTS = {action.name.lower(): action for action in Action}


class Signals:
    """The signals that one solver heeds: none until `install`, and none again after `restore`.

    As a context manager it restores at the end of the block, and raises StopRequested for a stop that no
    iteration has met.
    """

    def __init__(self) -> None:
        self._pending = Action.NONE
        self._effects: dict[int, Action] = {}
        self._before: dict[int, Any] = {}  # the handlers that were there

    def install(self, sigint_effect: str = "stop", sighup_effect: str = "snapshot") -> None:
        """Take over SIGINT, and SIGHUP where the system has it; an effect is "stop", "snapshot" or "none".

        "none" ignores the signal. A second call changes the effects.
        Raises SolverError for another effect, and in any thread but the main one, which alone gets signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise SolverError("Signals can be handled in the main thread only; call handle_signals there.")
        for effect in (sigint_effect, sighup_effect):
            if effect not in _EFFECTS:
                raise SolverError(f"A signal's effect is one of {', '.join(map(repr, _EFFECTS))}, not {effect!r}.")
        self._effects = {signal.SIGINT: _EFFECTS[sigint_effect]}
        if hasattr(signal, "SIGHUP"):  # Windows has none
            self._effects[signal.SIGHUP] = _EFFECTS[sighup_effect]
        for number in self._effects:
            before = signal.signal(number, self._note)
            self._before.setdefault(number, before)

    def restore(self) -> None:
        """Give the signals back to the handlers that were there, unless others have taken over since."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def take(self) -> Action:
        """Return what was asked for since the last call."""
        action, self._pending = self._pending, Action.NONE
        return action

    @property
    def stop_pending(self) -> bool:
        """Whether a stop was asked for and not taken yet."""
        return self._pending is Action.STOP

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.stop_pending:
            self._pending = Action.NONE
            raise KeyboardInterrupt("A second Ctrl-C came before the iteration was finished.")
        self._pending = max(self._pending, self._effects[number])

    def __enter__(self) -> Signals:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.restore()
        if self.take() is Action.STOP and error is None:
            raise StopRequested("A signal asked to stop.")
