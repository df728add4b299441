"""The supervisor: opens the listening sockets, starts the other processes, restarts one that dies, reloads and stops.

    SIGTERM, SIGINT   stop: what is in flight has stop_timeout to finish; a second one hurries
    SIGHUP            reload: a configuration with errors is refused, and the server goes on as it was

It is the only process that stays root (with the deliverer), so it never touches a message, never reads the network,
and believes nothing of its children but Ready and Failed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec.structs import replace

from ekiden.config.load import Configuration, load
from ekiden.config.registry import Reload as ReloadKind
from ekiden.config.snapshot import Parameters
from ekiden.observe.events import Note, Observer
from ekiden.runtime import control
from ekiden.runtime.child import Child, fork
from ekiden.runtime.control import (
    AddListeners,
    AddPeer,
    ControlTrouble,
    Failed,
    KeysChanged,
    ListenerKey,
    Ready,
    Reload,
    RemoveListeners,
)
from ekiden.runtime.key_vault import KeyVault, take_keys
from ekiden.runtime.listeners import ListenTrouble, WantedListener, open_listeners, wanted_listeners
from ekiden.runtime.pidfile import PidFile
from ekiden.runtime.privileges import Owner, argument_area, set_process_title
from ekiden.runtime.shared_counts import SharedCounts
from ekiden.runtime.shared_logins import SharedLogins
from ekiden.runtime.shared_pace import SharedPace
from ekiden.runtime.shared_rates import SharedRates
from ekiden.runtime.stopping import Stopping
from ekiden.runtime.wakeup import SignalWakeup
from ekiden.runtime.worker_context import Listener, WorkerContext
from ekiden.tls.tickets import TicketKeys

WorkerMain = Callable[[WorkerContext], int | None]
DelivererMain = Callable[[Configuration, socket.socket], int | None]

_MAIN_SERVICE = "master"  # the program name of our lines in the log; log tools know it
_PROBLEMS_SHOWN = 20


class Programs:
    """What the children run."""

    def __init__(self, worker: WorkerMain, deliverer: DelivererMain) -> None:
        self.worker, self.deliverer = worker, deliverer


class Supervisor:
    """Runs one server from start to stop. All it needs from outside has been checked and is passed in."""

    def __init__(
        self,
        configuration: Configuration,
        owner: Owner,
        programs: Programs,
        observer: Observer,
        pid_file: PidFile,
        *,
        close_log: Callable[[], None],
        reload_log: Callable[[Parameters], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._configuration = configuration
        self._programs = programs
        self._observer = observer
        self._pid_file = pid_file
        self._close_log, self._reload_log = close_log, reload_log
        self._monotonic = monotonic
        self._as_root = os.geteuid() == 0
        self._title_area = argument_area()
        set_process_title("ekiden: supervisor", self._title_area)
        self._selector = selectors.DefaultSelector()
        self._wakeup = SignalWakeup([signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD])
        self._selector.register(self._wakeup.socket, selectors.EVENT_READ, self._signalled)
        self._listeners: dict[ListenerKey, tuple[WantedListener, list[socket.socket]]] = {}
        self._workers = [
            Child(f"worker-{index}", index=index, owner=owner)
            for index in range(worker_count(configuration.parameters))
        ]
        self._services = [Child("deliverer", owner=None)]
        self._counts = SharedCounts(len(self._workers))
        self._rates = SharedRates(len(self._workers))
        # A table of its own: what shares a slot there has the same unit of time, and makes a count no lower.
        self._login_failures = SharedRates(len(self._workers))
        self._mailbox_logins = SharedLogins(len(self._workers))
        self._pace = SharedPace(Path(configuration.parameters.queue_directory) / "run" / "pace.lock")
        self._vault = KeyVault(configuration)
        self._tickets = TicketKeys(self._monotonic())
        self._look_at_keys = self._monotonic() + self._parameters.tls_certificate_check_interval
        self._stopping: Stopping | None = None
        self._serving = False
        self._exit_code = os.EX_OK
        self.trouble = ""  # why it gave up, if it did

    @property
    def _parameters(self) -> Parameters:
        return self._configuration.parameters

    @property
    def _children(self) -> list[Child]:
        return self._services + self._workers

    def open_listeners(self) -> None:
        """Raises ListenTrouble; a server that listens nowhere (only sends mail of this host) is fine."""
        for wanted in wanted_listeners(self._configuration.services, self._parameters):
            sockets = self._open(wanted, probe=True)
            if sockets:
                self._listeners[wanted.key] = (wanted, sockets)

    def run(self, on_ready: Callable[[], None]) -> int:
        """Start everything and serve until told to stop; the exit code. ``on_ready`` is called once, when it serves."""
        # Values made so far live until the end: without them in the collector's lists children share their pages.
        gc.collect()
        gc.freeze()
        start_deadline = self._monotonic() + self._parameters.process_start_timeout
        for child in self._children:
            self._start(child)
        while True:
            now = self._monotonic()
            if self._stopping is not None:
                if self._stopping.advance(now):
                    return self._exit_code
            elif not self._serving:
                if all(child.ready for child in self._children):
                    self._serving = True
                    self._say_listening()
                    on_ready()
                elif now >= start_deadline:
                    late = ", ".join(child.role for child in self._children if not child.ready)
                    self._give_up(f"not ready within process_start_timeout: {late}")
                    continue
            self._restart_due(now)
            self._watch_keys(now)
            for key, _ in self._selector.select(self._sleep_s(start_deadline)):
                key.data()

    def close(self) -> None:
        for _, sockets in self._listeners.values():
            for sock in sockets:
                sock.close()
        self._listeners.clear()
        self._vault.close()
        self._selector.close()
        self._wakeup.close()

    # -- children ---------------------------------------------------------------------------------------------------

    def _start(self, child: Child) -> None:
        self._tickets.advance(self._monotonic())
        try:
            fork(
                child,
                lambda sock: self._run_child(child, sock),
                close_foreign=lambda: self._close_foreign(child),
                title_area=self._title_area,
                directory=str(self._parameters.queue_directory),
                now=self._monotonic(),
            )
        except OSError as error:
            self._note(f"cannot start {child.role}: {error.strerror}", "error")
            child.died(self._monotonic(), self._parameters.service_throttle_time)
            return
        sock = child.control
        assert sock is not None
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._heard(child, sock))
        self._introduce(child)

    def _run_child(self, child: Child, sock: socket.socket) -> int | None:
        """In the child."""
        if child.is_worker:
            listeners = [
                Listener(wanted.service, sockets[child.index], key)
                for key, (wanted, sockets) in self._listeners.items()
            ]
            return self._programs.worker(
                WorkerContext(
                    index=child.index,
                    workers=len(self._workers),
                    directory=self._configuration.directory,
                    configuration=self._configuration,
                    listeners=listeners,
                    control=sock,
                    started_as_root=self._as_root,
                    counts=self._counts.of_worker(child.index),
                    rates=self._rates.of_worker(child.index),
                    login_failures=self._login_failures.of_worker(child.index),
                    mailbox_logins=self._mailbox_logins.of_process(child.index),
                    pace=self._pace,
                    key_files=take_keys(self._vault.descriptor),
                    tickets=self._tickets,
                )
            )
        return self._programs.deliverer(self._configuration, sock)

    def _close_foreign(self, child: Child) -> None:
        """In the child: close, through their owners, the descriptors that are the supervisor's or other children's."""
        self._selector.close()
        self._wakeup.close_copy()
        self._pid_file.close_copy()
        self._close_log()
        if not child.is_worker:
            self._vault.close()
        for other in self._children:
            if other.control is not None:
                other.control.close()
        for _, sockets in self._listeners.values():
            for index, sock in enumerate(sockets):
                if index != child.index:
                    sock.close()

    def _introduce(self, child: Child) -> None:
        """Connect a child that just started with those that it works with: workers with services."""
        for other in self._services if child.is_worker else self._workers:
            if other.control is None:
                continue
            worker, service = (child, other) if child.is_worker else (other, child)
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with here, there:
                told = worker.tell(AddPeer(service.role), (here.fileno(),))
                told = service.tell(AddPeer(worker.role), (there.fileno(),)) and told
            if not told:
                self._note(f"{worker.role} and {service.role} could not be connected", "error")

    def _heard(self, child: Child, sock: socket.socket) -> bool:
        """Take one message; False when there is none."""
        if child.control is not sock:
            return False  # it died, which was handled earlier among the events of this moment
        try:
            received = control.receive(sock)
        except BlockingIOError:
            return False
        except (ControlTrouble, OSError) as error:
            self._note(f"{child.role}: {error}: killing it", "error")
            child.signal(signal.SIGKILL)
            received = None
        if received is None:
            self._forget_control(child)  # it is dying: SIGCHLD follows
            return False
        message, fds = received
        control.close_all(fds)
        if isinstance(message, Ready):
            child.ready = True
        elif isinstance(message, Failed):
            child.failure = message.text
        return True

    def _forget_control(self, child: Child) -> None:
        if child.control is not None:
            self._selector.unregister(child.control)
            child.control.close()
            child.control = None

    def _collect_dead(self) -> None:
        for child in self._children:
            if child.pid:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    self._died(child, status)

    def _died(self, child: Child, status: int) -> None:
        child.pid = 0
        # Its last words may still lie in the socket.
        while child.control is not None and self._heard(child, child.control):
            pass
        self._forget_control(child)
        if child.is_worker:
            self._counts.forget_worker(child.index)
        cause = child.failure or _cause_of_death(status)
        was_ready = child.ready
        child.died(self._monotonic(), self._parameters.service_throttle_time)
        if self._stopping is not None:
            if status != 0:
                self._note(f"{child.role} ended: {cause}", "warning")
        elif not (self._serving or was_ready):
            self._give_up(f"{child.role} did not start: {cause}")
        else:
            self._note(f"{child.role} died: {cause}; it is started again", "error")

    def _restart_due(self, now: float) -> None:
        if self._stopping is not None:
            return
        for child in self._children:
            if child.restart_at is not None and now >= child.restart_at:
                self._start(child)

    def _sleep_s(self, start_deadline: float) -> float | None:
        times: list[float] = []
        if self._stopping is not None:
            if self._stopping.deadline is not None:
                times.append(self._stopping.deadline)
        else:
            times += [child.restart_at for child in self._children if child.restart_at is not None]
            if not self._serving:
                times.append(start_deadline)
            if self._vault.watches:
                times.append(self._look_at_keys)
        return max(0.0, min(times) - self._monotonic()) if times else None

    # -- keys -------------------------------------------------------------------------------------------------------

    def _watch_keys(self, now: float) -> None:
        """Certificates are renewed every few weeks; nobody shall have to think of a reload then."""
        if now < self._look_at_keys or self._stopping is not None:
            return
        self._look_at_keys = now + self._parameters.tls_certificate_check_interval
        try:
            changed = self._vault.look()
        except OSError as error:  # no memory, no descriptor: workers go on with what they have
            self._note(f"changed keys could not be read: {error.strerror}", "error")
            return
        if changed:
            self._tell_keys(reloading=False)

    def _tell_keys(self, *, reloading: bool) -> None:
        for worker in self._workers:
            if worker.control is not None and not worker.tell(KeysChanged(reloading), (self._vault.descriptor,)):
                self._note(f"{worker.role} does not take new keys: killing it", "error")
                worker.signal(signal.SIGKILL)

    # -- stop and reload --------------------------------------------------------------------------------------------

    def _signalled(self) -> None:
        for number in self._wakeup.take():
            if number == signal.SIGHUP:
                if self._serving and self._stopping is None:
                    self._reload()
            elif number in (signal.SIGTERM, signal.SIGINT):
                if self._stopping is not None:
                    self._stopping.hurry(self._monotonic())
                else:
                    self._note("stopping")
                    self._stop()
        # SIGCHLD, which may have been merged with another of its kind or lost to a full wake-up socket.
        self._collect_dead()

    def _stop(self) -> None:
        # Our copies of the listening sockets go first, so that a worker that closes its own refuses connections.
        for _, sockets in self._listeners.values():
            for sock in sockets:
                sock.close()
        self._stopping = Stopping(
            [self._workers, self._services],
            self._parameters.stop_timeout,
            self._parameters.process_kill_delay,
            lambda text: self._note(text, "warning"),
        )

    def _give_up(self, text: str) -> None:
        self._note(text, "fatal")
        self._exit_code, self.trouble = os.EX_UNAVAILABLE, text
        if self._stopping is None:
            self._stop()

    def _reload(self) -> None:
        fresh = load(self._configuration.directory)
        if fresh.errors:
            for problem in fresh.errors[:_PROBLEMS_SHOWN]:
                self._note(f"reload refused: {problem}", "error")
            return
        kept, changed = keep_restart_parameters(self._parameters, fresh.parameters)
        opened: dict[ListenerKey, tuple[WantedListener, list[socket.socket]]] = {}
        try:
            wanted = {listener.key: listener for listener in wanted_listeners(fresh.services, kept)}
            # A port that we hold on another address would make the probe fail: it is ours.
            ports = {key.port for key in self._listeners}
            for key, listener in wanted.items():
                if key not in self._listeners and (sockets := self._open(listener, probe=key.port not in ports)):
                    opened[key] = (listener, sockets)
        except ListenTrouble as error:
            _close_all(opened.values())
            self._note(f"reload refused: {error}", "error")
            return
        for name in changed:
            self._note(f"{name} has changed: this takes effect at the next restart", "warning")
        gone = {key: self._listeners.pop(key) for key in list(self._listeners) if key not in wanted}
        for key in self._listeners:
            self._listeners[key] = (wanted[key], self._listeners[key][1])
        self._listeners.update(opened)
        self._configuration = replace(fresh, parameters=kept)
        self._reload_log(kept)
        try:
            self._vault.configure(self._configuration)
        except OSError as error:
            self._note(f"keys could not be read: {error.strerror}; the old ones stay", "error")
        self._tell_keys(reloading=True)
        self._tell_reload(opened, list(gone))
        _close_all(gone.values())
        self._note("configuration reloaded")
        if opened or gone:
            self._say_listening()

    def _tell_reload(
        self, opened: dict[ListenerKey, tuple[WantedListener, list[socket.socket]]], gone: list[ListenerKey]
    ) -> None:
        for child in self._children:
            if child.control is None:
                continue
            told = child.tell(Reload())
            if child.is_worker:
                if gone:
                    told = child.tell(RemoveListeners(tuple(gone))) and told
                keys = list(opened)
                for at in range(0, len(keys), control.MESSAGE_FDS):
                    some = tuple(keys[at : at + control.MESSAGE_FDS])
                    told = (
                        child.tell(AddListeners(some), tuple(opened[key][1][child.index].fileno() for key in some))
                        and told
                    )
            if not told:
                # It does not read: a restart gives it the new configuration.
                self._note(f"{child.role} does not take the reload: killing it", "error")
                child.signal(signal.SIGKILL)

    # -- sockets and log --------------------------------------------------------------------------------------------

    def _open(self, wanted: WantedListener, *, probe: bool) -> list[socket.socket]:
        sockets = open_listeners(wanted, len(self._workers), self._parameters.smtpd_listen_backlog, probe=probe)
        if not sockets:
            self._note(f"not listening on {wanted.key}: this host does not have such an address")
        return sockets

    def _say_listening(self) -> None:
        addresses = ", ".join(str(key) for key in self._listeners) or "no address"
        self._note(f"serving on {addresses} with {len(self._workers)} workers")

    def _note(self, text: str, level: str = "info") -> None:
        self._observer.emit(Note(_MAIN_SERVICE, text, level))


def worker_count(parameters: Parameters) -> int:
    """``worker_processes``, or one for each CPU that this process may use."""
    return parameters.worker_processes or len(os.sched_getaffinity(0))


def keep_restart_parameters(old: Parameters, new: Parameters) -> tuple[Parameters, list[str]]:
    """``new``, but with the old values of what a reload cannot change, and the names of those that would change."""
    changed = [
        name
        for name, parameter in Parameters.declared().items()
        if parameter.reload is ReloadKind.RESTART and getattr(old, name) != getattr(new, name)
    ]
    kept = {name: old.settings.get(name, Parameters.declared()[name].default) for name in changed}
    return new.with_overrides(kept), changed


def _cause_of_death(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"
    return f"exit code {code}"


def _close_all(listeners: Iterable[tuple[WantedListener, list[socket.socket]]]) -> None:
    for _, sockets in listeners:
        for sock in sockets:
            sock.close()
