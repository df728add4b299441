"""The mail log: takes events, gathers them, renders them and writes their lines together.

emit() notes what happened and when; rendering and the system call are shared by all events of a few milliseconds, for
what a processor does again at once costs it a fraction. What waits is bounded: when the target takes nothing (a full
disk, a reader that stalls) further lines are lost, and the log says how many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from ekiden.config.snapshot import Parameters
from ekiden.observe.events import Event, Note
from ekiden.observe.jsonlog import json_line, line_head
from ekiden.observe.maillog import MailLogRenderer, printable
from ekiden.observe.target import FileTarget, StreamTarget, SyslogTarget, Target

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# RFC 3164 §4.1.1; the order of the numbers is the standard's.
_FACILITIES = {
    name: number
    for number, name in enumerate(
        ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv")
    )
} | {f"local{number}": 16 + number for number in range(8)}
_SEVERITIES = {"info": 6, "warning": 4, "error": 3, "fatal": 2}
# Events that may wait to be rendered; more are rendered before it is time to write them.
_EVENTS_LIMIT = 256
# A target that took nothing is asked again after this time; a busy daemon is back sooner than a full disk.
_RETRY_S = 0.5


class MailLog:
    """The Observer that writes the mail log.

    ``clock_time`` gives seconds since the epoch. ``programs`` maps a transport to the program name of its lines.
    Raises OSError when the log file cannot be opened.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        hostname: str,
        pid: int,
        clock_time: Callable[[], float],
        programs: Mapping[str, str] | None = None,
        target: Target | None = None,
    ) -> None:
        self._hostname, self._pid, self._clock_time = hostname, pid, clock_time
        self._syslog_name = parameters.syslog_name
        self._facility = _FACILITIES[parameters.syslog_facility]
        self._to_syslog = not parameters.maillog_file
        self._lines_of = self._json_lines if parameters.maillog_format == "json" else self._text_lines
        self._flush_s = parameters.maillog_flush_milliseconds / 1000
        self._buffer_limit = parameters.maillog_buffer_limit
        self._line_limit = parameters.maillog_line_limit
        self._renderers = MailLogRenderer(programs).by_type
        self._target = target if target is not None else open_target(parameters)
        self._events: list[tuple[float, Event]] = []  # that wait to be rendered, and when they came
        self._lines: list[bytes] = []  # that wait to be written
        self._size = 0
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self._second = -1
        self._stamp = ""
        self._prefixes: dict[str, str] = {}

    def emit(self, event: Event) -> None:
        """Take a fact; never blocks and never raises."""
        self._events.append((self._clock_time(), event))
        if self._timer is None or type(event) is Note or len(self._events) == _EVENTS_LIMIT:
            self._plan(event)

    def flush(self) -> None:
        """Write what waits, now."""
        self._cancel_timer()
        self._render()
        if not self._lines:
            return
        taken = self._target.write(self._lines)
        if taken == len(self._lines):
            self._lines, self._size = [], 0
        else:
            del self._lines[:taken]
            self._size = sum(map(len, self._lines))
            self._plan_after(_RETRY_S)
        if self._lost and self._size <= self._buffer_limit // 2:
            lost, self._lost = self._lost, 0
            self.emit(Note("log", f"{lost} lines of the mail log were lost: it could not be written", "warning"))

    def reopen(self) -> None:
        """Go on in a new file of the same name (log rotation)."""
        self.flush()
        self._target.reopen()

    def close(self) -> None:
        """Write what waits and let go of the target."""
        self.flush()
        self._cancel_timer()
        self._target.close()

    def _plan(self, event: Event) -> None:
        """See to it that what waits is written: soon where a loop runs; at once without one, or when it is urgent."""
        if self._size > self._buffer_limit:  # the target takes nothing, and is asked again when it is time
            self._render()
            return
        urgent = type(event) is Note and event.level != "info"
        if urgent or not self._plan_after(self._flush_s):
            self.flush()
        elif len(self._events) >= _EVENTS_LIMIT:
            self._render()

    def _plan_after(self, delay_s: float) -> bool:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if self._timer is None:
            self._timer = loop.call_later(delay_s, self._timer_came)
        return True

    def _timer_came(self) -> None:
        self._timer = None
        self.flush()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _render(self) -> None:
        """Makes lines of the events that wait, as many as there is room for."""
        events, self._events = self._events, []
        if not events:
            return
        if self._size > self._buffer_limit:
            self._lost += len(events)
            return
        lines = self._lines_of(events)
        self._lines += lines
        self._size += sum(map(len, lines))
        while self._size > self._buffer_limit + len(self._lines[-1]):  # there was no room when it came
            self._size -= len(self._lines.pop())
            self._lost += 1

    def _text_lines(self, events: Sequence[tuple[float, Event]]) -> list[bytes]:
        texts = []
        renderers = self._renderers
        for now, event in events:
            try:
                program, text = renderers[type(event)](event)
            except Exception as error:  # an event with a wrong field is a bug, which must not cost mail
                program, text = "log", f"error: a {type(event).__name__} event cannot be shown: {error!r}"
            if not 0 <= now - self._second < 1:
                self._turn(int(now))
            try:
                prefix = self._prefixes[program]
            except KeyError:
                prefix = self._prefixes[program] = self._prefix(program)
            if self._to_syslog:
                severity = _SEVERITIES.get(event.level, 6) if type(event) is Note else 6
                prefix = f"<{self._facility * 8 + severity}>{prefix}"
            if len(text) > self._line_limit:
                text = text[: self._line_limit] + "..."
            texts.append(prefix + text)
        # Nearly all can be printed as they are. Those that cannot are escaped, so that each is one line.
        if not "".join(texts).isprintable():
            texts = [printable(text) for text in texts]
        return "\n".join([*texts, ""]).encode().splitlines(keepends=True)

    def _json_lines(self, events: Sequence[tuple[float, Event]]) -> list[bytes]:
        return [self._json_line(event, now) for now, event in events]

    def _json_line(self, event: Event, now: float) -> bytes:
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        stamp = f"{self._stamp}.{int((now - second) * 1000):03d}Z"
        try:
            line = json_line(event, line_head(stamp, self._hostname, self._pid))
        except Exception as error:  # as in _text_lines
            note = Note("log", f"a {type(event).__name__} event cannot be shown: {error!r}", "error")
            line = json_line(note, line_head(stamp, self._hostname, self._pid))
        if self._to_syslog:
            severity = _SEVERITIES.get(event.level, 6) if type(event) is Note else 6
            line = f"<{self._facility * 8 + severity}>{self._syslog_name}[{self._pid}]: ".encode() + line
        return line + b"\n"

    def _turn(self, second: int) -> None:
        """A new second: the stamp and the prefixes made of it are made again."""
        self._second = second
        local = time.localtime(second)
        self._stamp = (
            f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
        )
        self._prefixes.clear()

    def _prefix(self, program: str) -> str:
        # A syslog daemon adds the host's name itself (what libc's syslog() sends has none).
        host = "" if self._to_syslog else f" {self._hostname}"
        return printable(f"{self._stamp}{host} {self._syslog_name}/{program}[{self._pid}]: ")


def open_target(parameters: Parameters) -> Target:
    """The target that ``maillog_file`` names. Raises OSError when a file cannot be opened."""
    path = parameters.maillog_file
    if not path:
        return SyslogTarget(parameters.syslog_socket)
    if path in ("/dev/stdout", "-"):
        return StreamTarget(1)
    return FileTarget(path, int(parameters.maillog_file_permissions, 8))
