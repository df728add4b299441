"""A limit on the time that one piece of work may take on the processor, for work that cannot count its own steps.

Some regular expressions need a time that doubles with each character of the key, and who sends mail chooses the key.
Python looks for signals while it matches, so that a timer ends such a match.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class BudgetSpent(Exception):
    """The work was ended."""


class _Alarm:
    """The handler of SIGVTALRM, installed when it is first needed. One piece of work at a time."""

    def __init__(self) -> None:
        self.armed = False
        self._installed = False

    def install(self) -> None:
        if not self._installed:
            signal.signal(signal.SIGVTALRM, self._ring)
            self._installed = True

    def _ring(self, _signal: int, _frame: FrameType | None) -> None:
        if self.armed:  # a signal that comes late, when the work is done, is nobody's
            self.armed = False
            raise BudgetSpent


_alarm = _Alarm()


def within(seconds: float, work: Callable[[], T]) -> T:
    """What ``work`` gives. Raises BudgetSpent when it takes more processor time; 0 is no limit.

    Signals reach the main thread only: in another one, and inside other limited work, there is no limit.
    """
    if not seconds or _alarm.armed or threading.current_thread() is not threading.main_thread():
        return work()
    _alarm.install()
    _alarm.armed = True
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        return work()
    finally:
        _alarm.armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
