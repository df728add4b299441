"""postsuper(1): delete, hold, release, requeue and give up messages; look whether the queue is whole.

It works while the server runs and while it does not. Its report is Postfix's, line by line, on standard error; the
same lines stand in the mail log.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ekiden.cli.getopt import BadOption, getopt
from ekiden.cli.trouble import CommandTrouble, complain

_EX_FATAL = 1
_USAGE = (
    "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] [-f queue_id (expire and/or "
    "un-hold)] [-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] [-r queue_id (requeue)] "
    "[-s (structure check)] [-S (structure check)] [-v (verbose)] [queue...]"
)
_QUEUE_ID = re.compile(r"[0-9A-Za-z]{1,100}\Z")
_QUEUES = ("incoming", "active", "deferred", "hold", "corrupt")
# Where each change looks when no queue is named. Ours has no place of its own for what is released or requeued.
_DEFAULT_QUEUES = {
    "d": ("hold", "incoming", "active", "deferred"),
    "e": ("hold", "incoming", "active", "deferred"),
    "f": ("hold", "incoming", "active", "deferred"),
    "h": ("incoming", "active", "deferred"),
    "H": ("hold",),
    "r": ("hold", "incoming", "active", "deferred"),
}
_TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{32}\Z")
_TEMPORARY_AGE_S = 86400.0


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except BadOption as error:
        complain("postsuper", str(error))
        complain("postsuper", f"fatal: {_USAGE}")
        return _EX_FATAL
    except CommandTrouble as trouble:
        text = str(trouble)
        if trouble.code == os.EX_NOPERM:
            text = f"use of this command is reserved for the superuser and the mail_owner ({text})"
        complain("postsuper", f"fatal: {text}")
        return _EX_FATAL


def _run(arguments: Sequence[str]) -> int:
    options, queues = getopt(arguments, "c:d:e:f:h:H:pr:sSv")
    for name in queues:
        if name not in _QUEUES:
            raise CommandTrouble(_EX_FATAL, f"invalid directory name: {name}")
    chosen = dict(options)
    wanted: dict[str, list[str]] = {}
    for letter, value in options:
        if letter in _DEFAULT_QUEUES:
            wanted.setdefault(letter, []).extend(_queue_ids(value))
    if not wanted or chosen.keys() & {"p", "s", "S"}:
        _maintain(chosen.get("c"), purge=not wanted or "p" in chosen, check=not wanted or bool({"s", "S"} & {*chosen}))
    if wanted:
        _change(chosen.get("c"), wanted, queues)
    return os.EX_OK


def _queue_ids(value: str) -> list[str]:
    """The ids that an option names: itself, or ``-`` for a line of standard input each."""
    words = [line.split()[0] for line in sys.stdin if line.strip()] if value == "-" else [value]
    for word in words:
        if _QUEUE_ID.match(word) is None:
            complain("postsuper", f"warning: invalid mail queue id: {word}")
    return [word for word in words if _QUEUE_ID.match(word) is not None]


def _change(config: str | None, wanted: dict[str, list[str]], queues: Sequence[str]) -> None:
    from ekiden.cli import queue_access
    from ekiden.message.queued import QueueState
    from ekiden.queue.store import Change
    from ekiden.runtime.requests import ChangeMessages, Filter

    changes = {
        "d": (Change.DELETE,),
        "e": (Change.EXPIRE,),
        "f": (Change.EXPIRE, Change.RELEASE),
        "h": (Change.HOLD,),
        "H": (Change.RELEASE,),
        # What is on hold is tried again, too; in this order nothing is counted twice.
        "r": (Change.REQUEUE, Change.RELEASE),
    }
    requests: list[ChangeMessages] = []
    letters: list[str] = []
    for letter in (letter for letter in "defhHr" if letter in wanted):
        states = {QueueState(name) for name in queues or _DEFAULT_QUEUES[letter]}
        ids = wanted[letter]
        for change in changes[letter]:
            concerned = {QueueState.HOLD} if change is Change.RELEASE and "ALL" in ids else states
            if not ids or not concerned & states:
                continue
            names = () if "ALL" in ids else tuple(dict.fromkeys(ids))
            some = Filter(states=tuple(sorted(states & concerned, key=lambda state: state.value)))
            requests.append(ChangeMessages(change, names, some))
            letters.append(letter)
    done = queue_access.change(queue_access.configuration(config), requests)
    counts = dict.fromkeys(((letter, word) for letter in wanted for word in _REPORTS[letter]), 0)
    for request, letter, changed in zip(requests, letters, done, strict=True):
        counts[letter, _report(letter, request.change.value)] += changed.count
        for queue_id in changed.queue_ids:
            complain("postsuper", f"{queue_id}: {_WORDS[_report(letter, request.change.value)]}")
    for (_, word), count in counts.items():
        complain("postsuper", f"{word}: {count} message{'' if count == 1 else 's'}")


_REPORTS = {
    "d": ("Deleted",),
    "e": ("Force-expired",),
    "f": ("Force-expired", "Released from hold"),
    "h": ("Placed on hold",),
    "H": ("Released from hold",),
    "r": ("Requeued",),
}
_WORDS = {
    "Deleted": "removed",
    "Force-expired": "expired",
    "Placed on hold": "placed on hold",
    "Released from hold": "released from hold",
    "Requeued": "requeued",
}


def _report(letter: str, change: str) -> str:
    """The heading under which a change is counted."""
    return _REPORTS[letter][1] if letter == "f" and change == "release" else _REPORTS[letter][0]


def _maintain(config: str | None, *, purge: bool, check: bool) -> None:
    """Raises CommandTrouble, with what is broken."""
    from ekiden.cli import queue_access

    found = queue_access.configuration(config)
    queue_access.check_reach(found)
    spool = queue_access.queue_directory(found)
    if purge:
        _purge(spool / "maildrop")
    if check:
        from ekiden.queue.on_disk import check_structure
        from ekiden.queue.store import StoreTrouble

        try:
            troubles = check_structure(spool)
        except StoreTrouble as error:
            raise CommandTrouble(_EX_FATAL, str(error)) from error
        for text in troubles:
            complain("postsuper", f"warning: {text}")
        if troubles:
            raise CommandTrouble(_EX_FATAL, "the queue is damaged")


def _purge(maildrop: Path) -> None:
    """What a sendmail command that was killed has left; one that still writes is younger."""
    try:
        with os.scandir(maildrop) as entries:
            old = [
                entry.path
                for entry in entries
                if _TEMPORARY_NAME.match(entry.name)
                and entry.stat(follow_symlinks=False).st_mtime < time.time() - _TEMPORARY_AGE_S
            ]
        for path in old:
            os.unlink(path)
            complain("postsuper", f"purged {path}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise CommandTrouble(_EX_FATAL, f"{maildrop}: {error.strerror}") from error
