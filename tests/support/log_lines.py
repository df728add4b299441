"""A mail log whose lines a test can read."""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.config.snapshot import Parameters
from ekiden.observe.events import Event
from ekiden.observe.log import MailLog


class ListTarget:
    """Keeps what it is given; takes at most ``room`` lines, if there is such a limit."""

    def __init__(self, room: int | None = None) -> None:
        self.lines: list[bytes] = []
        self.writes = 0
        self.reopened = 0
        self.closed = False
        self.room = room

    def write(self, lines: Sequence[bytes]) -> int:
        self.writes += 1
        taken = list(lines) if self.room is None else list(lines)[: self.room]
        if self.room is not None:
            self.room -= len(taken)
        self.lines += taken
        return len(taken)

    def reopen(self) -> None:
        self.reopened += 1

    def close(self) -> None:
        self.closed = True


# 2026-11-05 06:07:08 UTC
MOMENT = 1_793_858_828.25


def mail_log(target: ListTarget, **settings: str) -> MailLog:
    """A mail log of host mx, process 123, at a time that stands still. To a file unless the settings say else."""
    parameters = Parameters({"maillog_file": "/nowhere", **settings})
    return MailLog(parameters, hostname="mx", pid=123, clock_time=lambda: MOMENT, target=target)


def rendered(*events: Event, **settings: str) -> list[str]:
    """The lines of some events, without time and host."""
    target = ListTarget()
    log = mail_log(target, **settings)
    for event in events:
        log.emit(event)
    log.close()
    return [line.decode().removesuffix("\n").split(" mx ", 1)[1] for line in target.lines]
