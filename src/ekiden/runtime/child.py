"""One child of the supervisor: forking it, and when to start it again after it died."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator

from ekiden.runtime import control
from ekiden.runtime.control import AnyMessage, Failed
from ekiden.runtime.privileges import (
    Owner,
    become,
    die_with_parent,
    forbid_new_privileges,
    raise_descriptor_limit,
    set_process_title,
)

# The first wait before a restart; each further one doubles it up to service_throttle_time.
_FIRST_RESTART_DELAY_S = 0.1


class Child:
    """A role and the process that plays it now. Times are monotonic seconds."""

    def __init__(self, role: str, *, index: int = -1, owner: Owner | None) -> None:
        self.role = role
        self.index = index  # of a worker; -1 for the others
        self.owner = owner  # the user it becomes; None keeps the supervisor's
        self.pid = 0  # 0: not running
        self.control: socket.socket | None = None
        self.ready = False
        self.failure = ""  # what it said with Failed
        self.restart_at: float | None = None
        self._started = 0.0
        self._restart_delay_s = 0.0

    @property
    def is_worker(self) -> bool:
        return self.index >= 0

    def started(self, pid: int, sock: socket.socket, now: float) -> None:
        self.pid, self.control, self._started = pid, sock, now
        self.ready, self.failure, self.restart_at = False, "", None

    def died(self, now: float, longest_delay_s: float) -> None:
        """Plan the restart: the sooner it dies again and again, the later (up to ``longest_delay_s``)."""
        self.pid, self.ready = 0, False
        if now - self._started >= longest_delay_s:
            self._restart_delay_s = 0.0
        self._restart_delay_s = min(max(self._restart_delay_s * 2, _FIRST_RESTART_DELAY_S), longest_delay_s)
        self.restart_at = now + self._restart_delay_s

    def tell(self, message: AnyMessage, fds: tuple[int, ...] = ()) -> bool:
        """Send a message; False when the child cannot take it (dead, or not reading for long)."""
        if self.control is None:
            return False
        try:
            control.send(self.control, message, fds)
        except OSError:
            return False
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the living process; it is ours and not yet waited for, so the number is not another's."""
        if self.pid:
            os.kill(self.pid, number)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """No handler runs inside: a child must not write to the supervisor's wake-up socket before it has let go of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork(
    child: Child,
    run: Callable[[socket.socket], int | None],
    *,
    close_foreign: Callable[[], None],
    title_area: tuple[int, int] | None,
    directory: str,
    now: float,
) -> None:
    """Start ``child``: it becomes its user, lets go of what is not its own, and runs ``run(its control socket)``.

    ``close_foreign`` closes the supervisor's sockets and files that are not the child's. Raises OSError.
    """
    here, there = control.pair()
    here.setblocking(False)
    sys.stdout.flush()
    sys.stderr.flush()
    supervisor = os.getpid()
    try:
        with signals_blocked():
            pid = os.fork()
            if pid == 0:
                _play(child, run, here, there, close_foreign, supervisor, title_area, directory)
    except OSError:
        here.close()
        there.close()
        raise
    there.close()
    child.started(pid, here, now)


def _play(
    child: Child,
    run: Callable[[socket.socket], int | None],
    here: socket.socket,
    there: socket.socket,
    close_foreign: Callable[[], None],
    supervisor: int,
    title_area: tuple[int, int] | None,
    directory: str,
) -> None:
    """The life of the forked process; never returns."""
    code = os.EX_SOFTWARE
    try:
        _let_go_of_signals()
        here.close()
        close_foreign()
        set_process_title(f"ekiden: {child.role.replace('-', ' ')}", title_area)
        raise_descriptor_limit()
        os.umask(0o077)
        os.chdir(directory)
        if child.owner is not None:
            become(child.owner)
            forbid_new_privileges()
        die_with_parent(supervisor)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        code = run(there) or os.EX_OK
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else (os.EX_SOFTWARE if stop.code else os.EX_OK)
    except BaseException as error:
        # A bug: the whole story on standard error, one line of it in the log.
        traceback.print_exc()
        with contextlib.suppress(OSError, ValueError):
            control.send(there, Failed(f"{type(error).__name__}: {error}"[:1000]))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit(): the stack below belongs to the supervisor, and so do its clean-ups.
        os._exit(code)


def _let_go_of_signals() -> None:
    signal.set_wakeup_fd(-1)
    # Ctrl-C reaches all processes of a terminal, and a hangup too; what to do then is the supervisor's decision.
    # A handler that does nothing, unlike SIG_IGN, is not handed on to the programs that a pipe delivery starts.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ignore)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _ignore(number: int, frame: object) -> None:
    pass
