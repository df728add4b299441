"""``ekiden serve``: from a configuration directory to a running server, or one clear line for what prevents it."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ekiden.config.check import check
from ekiden.config.load import Configuration, load
from ekiden.config.problem import Level
from ekiden.config.snapshot import Parameters
from ekiden.observe.events import Note
from ekiden.observe.log import MailLog
from ekiden.runtime import queue_directory
from ekiden.runtime.access_check import check_access
from ekiden.runtime.listeners import ListenTrouble
from ekiden.runtime.pidfile import AlreadyRunning, PidFile
from ekiden.runtime.privileges import Owner, PrivilegeTrouble, find_owner, raise_descriptor_limit
from ekiden.runtime.queue_directory import DirectoryTrouble
from ekiden.runtime.supervisor import Programs, Supervisor
from ekiden.tables.check import check_tables


class StartTrouble(Exception):
    """Why the server does not start: lines for the administrator, and the exit code (sysexits.h)."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.code, self.lines = code, lines


def serve(
    directory: Path,
    *,
    programs: Programs | None = None,
    on_ready: Callable[[], None] = lambda: None,
    complain: Callable[[str], None] = lambda line: print(f"ekiden: {line}", file=sys.stderr),  # noqa: T201
) -> int:
    """Serve with the configuration in ``directory`` until SIGTERM or SIGINT; the exit code (sysexits.h).

    ``on_ready`` is called when all processes serve; ``complain`` gets each line of an error, which by default goes to
    standard error. Must be called in the main thread of a process without other threads: it forks.
    """
    try:
        return _serve(directory, programs, on_ready)
    except StartTrouble as trouble:
        for line in trouble.lines:
            complain(line)
        return trouble.code


def _serve(directory: Path, programs: Programs | None, on_ready: Callable[[], None]) -> int:
    os.umask(0o022)
    configuration = load(directory)
    problems = (
        []
        if configuration.errors
        else [*check(configuration), *check_tables(configuration), *check_access(configuration)]
    )
    errors = [*configuration.errors, *(problem for problem in problems if problem.level is Level.ERROR)]
    if errors:
        raise StartTrouble(os.EX_CONFIG, *map(str, errors))
    parameters = configuration.parameters
    spool = Path(parameters.queue_directory)
    try:
        owner = find_owner(parameters)
        queue_directory.prepare(spool, owner)
    except PrivilegeTrouble as error:
        raise StartTrouble(os.EX_NOUSER, str(error)) from error
    except DirectoryTrouble as error:
        raise StartTrouble(os.EX_CANTCREAT, str(error)) from error
    try:
        pid_file = PidFile(spool)
    except AlreadyRunning as error:
        raise StartTrouble(os.EX_TEMPFAIL, str(error)) from error
    except OSError as error:
        raise StartTrouble(os.EX_CANTCREAT, f"{error.filename}: {error.strerror}") from error
    with pid_file:
        log = _open_log(parameters, owner)
        for problem in problems if parameters.helpful_warnings else ():
            if problem.level is Level.WARNING:
                log.emit(Note("master", str(problem), "warning"))
        try:
            return _supervise(configuration, owner, programs or _own_programs(), log, pid_file, on_ready)
        finally:
            log.close()


def _supervise(
    configuration: Configuration,
    owner: Owner,
    programs: Programs,
    log: MailLog,
    pid_file: PidFile,
    on_ready: Callable[[], None],
) -> int:
    raise_descriptor_limit()

    def reload_log(parameters: Parameters) -> None:
        _hand_over_log_file(parameters, owner)
        log.reopen()

    supervisor = Supervisor(configuration, owner, programs, log, pid_file, close_log=log.close, reload_log=reload_log)
    try:
        supervisor.open_listeners()
        code = supervisor.run(on_ready)
    except ListenTrouble as error:
        log.emit(Note("master", str(error), "fatal"))
        raise StartTrouble(os.EX_UNAVAILABLE, str(error)) from error
    finally:
        supervisor.close()
    if supervisor.trouble:
        raise StartTrouble(code, supervisor.trouble)
    return code


def _own_programs() -> Programs:
    """All that the children need is imported here, once, before they are forked."""
    # Codecs are imported at their first use, which for a child that has given up root may be too late: the files of
    # a Python below /root are out of its reach.
    import encodings.ascii
    import encodings.idna
    import encodings.latin_1  # noqa: F401

    from ekiden.runtime.deliverer import deliverer_main
    from ekiden.runtime.worker import worker_main

    return Programs(worker_main, deliverer_main)


def _open_log(parameters: Parameters, owner: Owner) -> MailLog:
    try:
        _hand_over_log_file(parameters, owner)
        host = parameters.myhostname.partition(".")[0]
        return MailLog(parameters, hostname=host, pid=os.getpid(), clock_time=time.time)
    except OSError as error:
        raise StartTrouble(os.EX_CANTCREAT, f"maillog_file = {parameters.maillog_file}: {error.strerror}") from error


def _hand_over_log_file(parameters: Parameters, owner: Owner) -> None:
    """The log file exists and belongs to those who write it: workers may not create files in /var/log."""
    path = parameters.maillog_file
    if os.geteuid() != 0 or not path or not path.startswith("/") or path.startswith("/dev/"):
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags, int(parameters.maillog_file_permissions, 8))
    try:
        status = os.fstat(fd)
        # A second name of the file could be /etc/shadow's.
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid != owner.uid:
            os.fchown(fd, owner.uid, -1)
    finally:
        os.close(fd)
