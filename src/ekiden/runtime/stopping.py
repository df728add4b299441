"""An orderly stop as a small machine: groups of processes one after the other, each asked, then told, then killed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from ekiden.runtime.child import Child
from ekiden.runtime.control import Stop


class Stopping:
    """First the workers (their deliveries need the others), then the rest. Times are monotonic seconds.

    Each group gets Stop and ``timeout_s`` to end what it does, and ``kill_delay_s`` more to tidy up; what then lives
    gets SIGTERM, and ``kill_delay_s`` later SIGKILL.
    """

    def __init__(
        self, groups: Sequence[Sequence[Child]], timeout_s: float, kill_delay_s: float, note: Callable[[str], None]
    ) -> None:
        self._groups = [list(group) for group in groups]
        self._timeout_s, self._kill_delay_s = timeout_s, kill_delay_s
        self._note = note
        self._asked = False
        self._steps = 0
        self.deadline: float | None = None
        self.forced = False  # something had to be killed

    def advance(self, now: float) -> bool:
        """Do what is due; True when all processes have ended."""
        while self._groups:
            living = [child for child in self._groups[0] if child.pid]
            if not living:
                self._groups.pop(0)
                self._asked, self._steps = False, 0
                continue
            if not self._asked:
                self._asked = True
                for child in living:
                    child.tell(Stop(self._timeout_s))
                self.deadline = now + self._timeout_s + self._kill_delay_s
            if self.deadline is not None and now >= self.deadline:
                self._push(living, now)
            return False
        self.deadline = None
        return True

    def hurry(self, now: float) -> None:
        """A second request to stop: the next step is due now."""
        self.deadline = now

    def _push(self, living: Sequence[Child], now: float) -> None:
        number = signal.SIGKILL if self._steps else signal.SIGTERM
        self._note(f"{', '.join(child.role for child in living)}: still running: sending {number.name}")
        for child in living:
            child.signal(number)
        self.forced = True
        self.deadline = None if self._steps else now + self._kill_delay_s
        self._steps += 1
