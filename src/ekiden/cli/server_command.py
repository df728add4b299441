"""``ekiden serve``, ``start``, ``stop``, ``reload``, ``status``: the server as a whole."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

from ekiden.cli import queue_access
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.directory import find_directory
from ekiden.config.load import Configuration
from ekiden.runtime.pidfile import running_pid

# How much longer than it promises a stop may take before the command says so: SIGTERM, SIGKILL, and the others' turn.
_STOP_GRACE_S = 15.0


def serve(options: argparse.Namespace) -> int:
    """In the foreground."""
    from ekiden.runtime.serve import serve as run

    directory = find_directory(options.config, os.environ)
    _close_inherited(keep=())
    return run(directory)


def start(options: argparse.Namespace) -> int:
    """Start the server in the background, and wait until it serves or has failed."""
    from ekiden.runtime.serve import serve as run

    directory = find_directory(options.config, os.environ)
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(writer)
        return _wait_for_start(reader)
    os.setsid()
    if os.fork():
        # The middle process ends, so that the server can never get a terminal (and has init as its parent).
        os._exit(os.EX_OK)
    os.close(reader)
    errors = os.dup(2)
    _close_inherited(keep=(writer, errors))
    # The server has no terminal, and neither it nor its processes keep the pipes of who started it open.
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    private = [writer, errors]

    def let_go() -> None:
        while private:
            os.close(private.pop())

    def ready() -> None:
        os.write(writer, b"\0")
        let_go()

    def complain(line: str) -> None:
        if private:
            os.write(errors, f"ekiden: {line}\n".encode())

    os.register_at_fork(after_in_child=let_go)
    code = os.EX_SOFTWARE
    try:
        code = run(directory, on_ready=ready, complain=complain)
    except BaseException as error:
        # A bug. It must not unwind into the command that was forked.
        complain(f"{type(error).__name__}: {error}")
    os._exit(code)


def _wait_for_start(reader: int) -> int:
    # End of file without the byte: the server ended, and has said why. Its own time limit bounds this wait.
    told = os.read(reader, 1)
    os.close(reader)
    if not told:
        raise CommandTrouble(os.EX_UNAVAILABLE, "the server has not started")
    return os.EX_OK


def _close_inherited(keep: tuple[int, ...]) -> None:
    """Close what the shell or cron had open by accident: a server lives for months and would keep it in use."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:  # the one that listdir() used
                pass


def stop(options: argparse.Namespace) -> int:
    found = queue_access.configuration(options.config)
    pid = _running(found)
    with _Process(pid) as process:
        process.signal(signal.SIGTERM)
        limit_s = found.parameters.stop_timeout + 4 * found.parameters.process_kill_delay + _STOP_GRACE_S
        if not process.wait(limit_s):
            raise CommandTrouble(os.EX_TEMPFAIL, f"the server (process {pid}) still runs after {limit_s:g} seconds")
    return os.EX_OK


def abort(options: argparse.Namespace, step_s: float) -> int:
    """Stop it whatever it is doing: asked, hurried, killed, with ``step_s`` seconds between."""
    with _Process(_running(queue_access.configuration(options.config))) as process:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            process.signal(number)
            if process.wait(step_s):
                return os.EX_OK
        if not process.wait(_STOP_GRACE_S):
            raise CommandTrouble(os.EX_TEMPFAIL, "the server does not end, not even killed")
    return os.EX_OK


def reload(options: argparse.Namespace) -> int:
    found = queue_access.configuration(options.config)
    if found.errors:
        for problem in found.errors:
            print(problem, file=sys.stderr)
        raise CommandTrouble(os.EX_CONFIG, "the configuration has errors: not reloaded")
    with _Process(_running(found)) as process:
        process.signal(signal.SIGHUP)
    return os.EX_OK


def status(options: argparse.Namespace) -> int:
    found = queue_access.configuration(options.config)
    pid = _running(found)
    with queue_access.connect(found) as server:
        workers = queue_access.asked(server.status)
    if options.json:
        import msgspec

        facts = {"pid": pid, "workers": [msgspec.to_builtins(worker) for worker in workers]}
        print(json.dumps(facts))
        return os.EX_OK
    for worker in workers:
        counts = ", ".join(f"{count} {state}" for state, count in worker.counts.items() if count) or "empty"
        print(
            f"worker {worker.worker}: process {worker.pid}, up {_duration(worker.uptime_s)}, "
            f"{worker.sessions} sessions, {worker.deliveries} deliveries under way, "
            f"{worker.active} messages active; queue: {counts}"
        )
        if worker.reload_trouble:
            print(f"worker {worker.worker}: the last reload failed: {worker.reload_trouble}")
    versions = ", ".join(sorted({worker.version for worker in workers}))
    configured = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(max(worker.configured for worker in workers)))
    print(f"Ekiden {versions} runs as process {pid}; configuration of {configured} in {found.directory}")
    return os.EX_OK


def _duration(seconds: float) -> str:
    """The two largest units: ``3d 4h``, ``12m 5s``."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _running(found: Configuration) -> int:
    """The supervisor's process. Raises CommandTrouble."""
    spool = Path(found.parameters.queue_directory)
    try:
        pid = running_pid(spool)
    except OSError as error:
        raise CommandTrouble(os.EX_NOPERM, f"{error.filename}: {error.strerror}") from error
    if pid is None:
        raise CommandTrouble(os.EX_UNAVAILABLE, "the server does not run")
    return pid


class _Process:
    """A process by a descriptor, so that a number that is given to another process meanwhile hurts nobody."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise CommandTrouble(os.EX_UNAVAILABLE, "the server does not run") from None

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def signal(self, number: int) -> None:
        """Raises CommandTrouble."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except PermissionError:
            raise CommandTrouble(os.EX_NOPERM, f"process {self._pid} belongs to another user") from None
        except ProcessLookupError:
            raise CommandTrouble(os.EX_UNAVAILABLE, "the server does not run") from None

    def wait(self, limit_s: float) -> bool:
        """Until it has ended; False when it has not within ``limit_s`` seconds."""
        return bool(select.select([self._fd], [], [], limit_s)[0])
