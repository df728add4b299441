"""The queue as commands reach it: through the running server, or on disk when none runs.

Errors: CommandTrouble, with what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ekiden.cli import trouble as trouble_of
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.directory import find_directory
from ekiden.config.load import Configuration, load
from ekiden.message.content import InlineContent
from ekiden.queue.store import QueueEntry
from ekiden.runtime.control_client import NotAllowed, NotRunning, RunningServer, ServerTrouble
from ekiden.runtime.pidfile import running_pid
from ekiden.runtime.requests import Changed, ChangeMessages, Filter, MessageLine, Shown, message_line

A = TypeVar("A")
_ON_DISK = "the server does not run: reading the queue from disk"


def complain(text: str) -> None:
    trouble_of.complain("ekiden", text)


def configuration(option: str | None) -> Configuration:
    """The configuration of ``-c DIR``; wrong values elsewhere do not keep a command from its work."""
    return load(find_directory(option, os.environ))


def queue_directory(found: Configuration) -> Path:
    return Path(found.parameters.queue_directory)


def connect(found: Configuration, complain: Callable[[str], None] = complain) -> RunningServer:
    """Raises CommandTrouble, EX_UNAVAILABLE when no server runs."""
    try:
        server = RunningServer(queue_directory(found), found.parameters)
    except NotRunning:
        raise CommandTrouble(os.EX_UNAVAILABLE, _why_not(queue_directory(found))) from None
    except ServerTrouble as error:
        raise _trouble(error) from error
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


def messages(
    found: Configuration, wanted: Filter, complain: Callable[[str], None] = complain, on_disk: str = _ON_DISK
) -> Iterator[MessageLine]:
    """What matches, oldest first; ``on_disk`` is the warning when no server runs. Raises CommandTrouble."""
    server = _server_if_any(found, complain, on_disk)
    if server is None:
        for entry in _entries_on_disk(found, complain):
            if wanted.matches(entry.state, entry.message):
                yield message_line(entry)
        return
    with server:
        try:
            yield from server.messages(wanted)
        except ServerTrouble as error:
            raise _trouble(error) from error


def show(found: Configuration, queue_id: str) -> Shown:
    """Raises CommandTrouble."""
    server = _server_if_any(found, complain, _ON_DISK)
    if server is not None:
        with server:
            return asked(lambda: server.show(queue_id))
    entry = entry_on_disk(found, queue_id)
    if entry is None:
        return Shown()
    try:
        return Shown(message_line(entry), content_on_disk(entry)[: found.parameters.control_head_limit])
    except CommandTrouble as trouble:
        return Shown(message_line(entry), trouble=str(trouble))


def change(found: Configuration, requests: Sequence[ChangeMessages]) -> list[Changed]:
    """Apply changes through the server that runs, or to the queue on disk. Raises CommandTrouble."""
    try:
        server = connect(found)
    except CommandTrouble as trouble:
        if trouble.code != os.EX_UNAVAILABLE or not queue_directory(found).exists():
            raise
        return _change_on_disk(found, requests)
    with server:
        return asked(lambda: [server.change(each.change, each.queue_ids, each.filter) for each in requests])


def _change_on_disk(found: Configuration, requests: Sequence[ChangeMessages]) -> list[Changed]:
    from ekiden.queue.sqlite_store import ShardInUse
    from ekiden.queue.store import StoreTrouble
    from ekiden.runtime.offline_changes import change_offline
    from ekiden.runtime.privileges import PrivilegeTrouble

    check_reach(found)
    try:
        return change_offline(found.parameters, requests)
    except ShardInUse as error:
        raise CommandTrouble(os.EX_TEMPFAIL, f"a server is starting: {error}") from error
    except (StoreTrouble, OSError) as error:
        raise CommandTrouble(os.EX_IOERR, str(error)) from error
    except PrivilegeTrouble as error:
        raise CommandTrouble(os.EX_NOUSER, str(error)) from error


def asked(ask: Callable[[], A]) -> A:
    """What the server answers. Raises CommandTrouble."""
    try:
        return ask()
    except ServerTrouble as error:
        raise _trouble(error) from error


def _trouble(error: ServerTrouble) -> CommandTrouble:
    return CommandTrouble(os.EX_NOPERM if isinstance(error, NotAllowed) else os.EX_TEMPFAIL, str(error))


def _server_if_any(found: Configuration, complain: Callable[[str], None], on_disk: str) -> RunningServer | None:
    """None, after saying so, when the queue must be read from disk."""
    try:
        return connect(found, complain)
    except CommandTrouble as trouble:
        if trouble.code != os.EX_UNAVAILABLE or not queue_directory(found).exists():
            raise
    complain(on_disk)
    return None


def check_reach(found: Configuration) -> None:
    """Raises CommandTrouble when the queue on disk is not for this user."""
    shards = queue_directory(found) / "shards"
    if shards.is_dir() and not os.access(shards, os.R_OK | os.X_OK):
        raise CommandTrouble(os.EX_NOPERM, f"{shards}: Permission denied: only root and the mail_owner may")


def _entries_on_disk(found: Configuration, complain: Callable[[str], None]) -> list[QueueEntry]:
    from ekiden.queue.on_disk import read_shards

    check_reach(found)
    return read_shards(queue_directory(found), on_trouble=lambda trouble: complain(f"warning: {trouble}"))


def entry_on_disk(found: Configuration, queue_id: str) -> QueueEntry | None:
    """One message as the disk has it, whether a server runs or not. Raises CommandTrouble."""
    from ekiden.queue.on_disk import find_entry
    from ekiden.queue.store import StoreTrouble

    check_reach(found)
    try:
        return find_entry(queue_directory(found), queue_id)
    except StoreTrouble as error:
        raise CommandTrouble(os.EX_IOERR, str(error)) from error


def content_on_disk(entry: QueueEntry) -> bytes:
    """The whole content. Raises CommandTrouble."""
    content = entry.message.content
    if isinstance(content, InlineContent):
        return content.data
    if not content.path:
        raise CommandTrouble(os.EX_DATAERR, f"{entry.message.queue_id}: the content cannot be read")
    try:
        with open(content.path, "rb") as file:
            file.seek(content.start)
            return file.read()
    except OSError as error:
        raise CommandTrouble(os.EX_IOERR, f"{content.path}: {error.strerror}") from error
