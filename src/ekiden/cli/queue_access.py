"""The queue as commands reach it: through the running server, or, for looking only, from disk when none runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ekiden.cli.trouble import CommandTrouble
from ekiden.config.directory import find_directory
from ekiden.config.load import Configuration, load
from ekiden.message.content import InlineContent
from ekiden.queue.store import QueueEntry
from ekiden.runtime.control_client import NotRunning, RunningServer, ServerTrouble
from ekiden.runtime.pidfile import running_pid
from ekiden.runtime.requests import Filter, MessageLine, Shown, message_line

A = TypeVar("A")


def configuration(option: str | None) -> Configuration:
    """The configuration of ``-c DIR``; wrong values elsewhere do not keep a command from its work."""
    return load(find_directory(option, os.environ))


def queue_directory(found: Configuration) -> Path:
    return Path(found.parameters.queue_directory)


def connect(found: Configuration) -> RunningServer:
    """Raises CommandTrouble, EX_UNAVAILABLE when no server runs."""
    try:
        server = RunningServer(queue_directory(found), found.parameters)
    except NotRunning:
        raise CommandTrouble(os.EX_UNAVAILABLE, _why_not(queue_directory(found))) from None
    except ServerTrouble as error:
        raise CommandTrouble(os.EX_NOPERM, str(error)) from error
    if server.absent and running_pid(queue_directory(found)) is not None:
        absent = [name for name in server.absent if _is_current(name, found)]
        if absent:
            complain(f"warning: no answer from {', '.join(absent)}: its messages are left out")
    return server


def _is_current(name: str, found: Configuration) -> bool:
    """A socket of a worker beyond worker_processes was left by an earlier server with more of them."""
    workers = found.parameters.worker_processes or len(os.sched_getaffinity(0))
    number = name.removeprefix("worker-").partition(" ")[0]
    return not number.isdigit() or int(number) < workers


def _why_not(spool: Path) -> str:
    if not spool.exists():
        return f"{spool}: there is no queue; start the server with: ekiden start"
    return "the server does not run; start it with: ekiden start"


def messages(found: Configuration, wanted: Filter) -> Iterator[MessageLine]:
    """What matches, oldest first. Raises CommandTrouble, also while it runs."""
    server = _server_if_any(found)
    if server is None:
        for entry in _entries_on_disk(found):
            if wanted.matches(entry.state, entry.message):
                yield message_line(entry)
        return
    with server:
        try:
            yield from server.messages(wanted)
        except ServerTrouble as error:
            raise CommandTrouble(os.EX_TEMPFAIL, str(error)) from error


def show(found: Configuration, queue_id: str) -> Shown:
    """Raises CommandTrouble."""
    server = _server_if_any(found)
    if server is None:
        return _show_from_disk(found, queue_id)
    with server:
        return asked(lambda: server.show(queue_id))


def asked(ask: Callable[[], A]) -> A:
    """What the server answers. Raises CommandTrouble."""
    try:
        return ask()
    except ServerTrouble as error:
        raise CommandTrouble(os.EX_TEMPFAIL, str(error)) from error


def _server_if_any(found: Configuration) -> RunningServer | None:
    """None, after saying so, when the queue must be read from disk."""
    try:
        return connect(found)
    except CommandTrouble as trouble:
        if trouble.code != os.EX_UNAVAILABLE or not queue_directory(found).exists():
            raise
    complain("the server does not run: reading the queue from disk")
    return None


def _entries_on_disk(found: Configuration) -> list[QueueEntry]:
    from ekiden.queue.shards import read_shards

    spool = queue_directory(found)
    if (spool / "shards").is_dir() and not os.access(spool / "shards", os.R_OK | os.X_OK):
        raise CommandTrouble(os.EX_NOPERM, f"{spool / 'shards'}: Permission denied: only root and the mail_owner may")
    return read_shards(spool, on_trouble=lambda trouble: complain(f"warning: {trouble}"))


def _show_from_disk(found: Configuration, queue_id: str) -> Shown:
    for entry in _entries_on_disk(found):
        if entry.message.queue_id == queue_id:
            return Shown(message_line(entry), *_head(entry, found.parameters.control_head_limit))
    return Shown()


def _head(entry: QueueEntry, limit: int) -> tuple[bytes, str]:
    """The beginning of the content, or why it cannot be read."""
    content = entry.message.content
    if isinstance(content, InlineContent):
        # A listing leaves content out that lies in the store itself.
        return content.data[:limit], "" if content.data else "the content is shown while the server runs"
    try:
        with open(content.path, "rb") as file:
            return file.read(limit), ""
    except OSError as error:
        return b"", f"{content.path}: {error.strerror}"


def complain(text: str) -> None:
    print(f"ekiden: {text}", file=sys.stderr)
