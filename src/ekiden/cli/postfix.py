"""postfix(1): start, stop, reload, check and so on, by the words that scripts and fingers know."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ekiden.cli.getopt import BadOption, getopt
from ekiden.cli.trouble import CommandTrouble, complain

if TYPE_CHECKING:
    from ekiden.config.load import Configuration

_EX_FATAL = 1
_USAGE = "usage: postfix [-c config_dir] [-v] command"
_SCRIPT = "postfix/postfix-script"
_NOT_RUNNING = "the Postfix mail system is not running"
# How long the workers may take to go on in a new log file before the old one is compressed.
_REOPEN_S = 10.0
_ABORT_STEP_S = 0.3


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when it was done, 1 when not (69 for a flush without a server), as postfix(1)."""
    try:
        options, words = getopt(sys.argv[1:] if arguments is None else arguments, "c:Dv")
        chosen = dict(options)
        if not words:
            raise CommandTrouble(_EX_FATAL, _USAGE)
        if "D" in chosen:
            raise CommandTrouble(_EX_FATAL, "-D is not there: no process is started under a debugger")
        command = _COMMANDS.get(words[0])
        if command is None:
            names = " ".join(sorted(_COMMANDS))
            raise CommandTrouble(_EX_FATAL, f"unknown command: '{words[0]}'. Usage: postfix {names}")
        return command(chosen.get("c"))
    except BadOption as error:
        complain("postfix", str(error))
        complain("postfix", f"fatal: {_USAGE}")
        return _EX_FATAL
    except CommandTrouble as trouble:
        complain(_SCRIPT, f"fatal: {trouble}")
        return _EX_FATAL


def _options(config: str | None) -> argparse.Namespace:
    return argparse.Namespace(config=config, json=False, all=False)


def _pid(config: str | None) -> int | None:
    from ekiden.cli import queue_access
    from ekiden.runtime.pidfile import running_pid

    return running_pid(queue_access.queue_directory(queue_access.configuration(config)))


def start_unless_running(config: str | None) -> int:
    """``sendmail -bd``, of scripts that know no other way to start a mail server."""
    return os.EX_OK if _pid(config) is not None else main([*(["-c", config] if config else []), "start"])


def _start(config: str | None) -> int:
    from ekiden.cli.server_command import start

    _must_not_run(config)
    complain(_SCRIPT, "starting the Postfix mail system")
    return start(_options(config))


def _start_fg(config: str | None) -> int:
    from ekiden.cli.server_command import serve

    _must_not_run(config)
    return _EX_FATAL if serve(_options(config)) else os.EX_OK


def _must_not_run(config: str | None) -> None:
    if _pid(config) is not None:
        raise CommandTrouble(_EX_FATAL, "the Postfix mail system is already running")


def _must_run(config: str | None) -> None:
    if _pid(config) is None:
        raise CommandTrouble(_EX_FATAL, _NOT_RUNNING)


def _stop(config: str | None) -> int:
    from ekiden.cli.server_command import stop

    _must_run(config)
    complain(_SCRIPT, "stopping the Postfix mail system")
    return stop(_options(config))


def _abort(config: str | None) -> int:
    from ekiden.cli.server_command import abort

    _must_run(config)
    complain(_SCRIPT, "aborting the Postfix mail system")
    return abort(_options(config), _ABORT_STEP_S)


def _reload(config: str | None) -> int:
    from ekiden.cli.server_command import reload

    _must_run(config)
    complain(_SCRIPT, "refreshing the Postfix mail system")
    return reload(_options(config))


def _flush(config: str | None) -> int:
    from ekiden.cli.postqueue import flush_queue

    try:
        return flush_queue(config)
    except CommandTrouble as trouble:
        complain("postqueue", f"fatal: {trouble}")
        return trouble.code


def _check(config: str | None) -> int:
    from ekiden.cli.check_command import run

    return _EX_FATAL if run(_options(config)) else os.EX_OK


def _status(config: str | None) -> int:
    pid = _pid(config)
    if pid is None:
        complain(_SCRIPT, _NOT_RUNNING)
        return _EX_FATAL
    complain(_SCRIPT, f"the Postfix mail system is running: PID: {pid}")
    return os.EX_OK


def _logrotate(config: str | None) -> int:
    from ekiden.cli import queue_access

    found = queue_access.configuration(config)
    parameters = found.parameters
    if found.errors:
        raise CommandTrouble(_EX_FATAL, f"{found.errors[0]}: not rotated")
    path = parameters.maillog_file
    if not path or path.startswith("/dev/"):
        raise CommandTrouble(_EX_FATAL, f"maillog_file = {path}: there is no file to rotate")
    old = Path(f"{path}.{time.strftime(parameters.maillog_file_rotate_suffix)}")
    if old.exists():
        raise CommandTrouble(_EX_FATAL, f"{old}: is there already")
    try:
        Path(path).rename(old)
    except OSError as error:
        raise CommandTrouble(_EX_FATAL, f"{path}: {error.strerror}") from error
    _go_on_in_new_file(found)
    if parameters.maillog_file_compressor:
        try:
            subprocess.run([*parameters.maillog_file_compressor.split(), str(old)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CommandTrouble(_EX_FATAL, f"maillog_file_compressor: {error}") from error
    return os.EX_OK


def _go_on_in_new_file(found: Configuration) -> None:
    """Returns when no worker writes to the old file any more."""
    from ekiden.cli import queue_access
    from ekiden.cli.server_command import reload

    if _pid(str(found.directory)) is None:
        return
    before, end = time.time(), time.monotonic() + _REOPEN_S
    reload(_options(str(found.directory)))
    with queue_access.connect(found) as server:
        while min(worker.configured for worker in queue_access.asked(server.status)) < before:
            if time.monotonic() > end:
                raise CommandTrouble(_EX_FATAL, "the server has not opened a new log file")
            time.sleep(0.02)


_COMMANDS: dict[str, Callable[[str | None], int]] = {
    "abort": _abort,
    "check": _check,
    "flush": _flush,
    "logrotate": _logrotate,
    "reload": _reload,
    "start": _start,
    "start-fg": _start_fg,
    "status": _status,
    "stop": _stop,
}
