"""``ekiden queue ...``: look at the queue and change it."""

from __future__ import annotations

import argparse
import json
import os

from ekiden.cli import queue_access
from ekiden.cli.queue_listing import json_line, postfix_listing, print_lines
from ekiden.cli.trouble import CommandTrouble
from ekiden.message.queued import QueueState
from ekiden.queue.store import Change
from ekiden.runtime.requests import ChangeMessages, Filter

_DONE = {
    Change.HOLD: "put on hold",
    Change.RELEASE: "released",
    Change.REQUEUE: "requeued",
    Change.DELETE: "deleted",
    Change.EXPIRE: "given up",
}


def list_messages(options: argparse.Namespace) -> int:
    messages = queue_access.messages(queue_access.configuration(options.config), _filter(options))
    print_lines(map(json_line, messages) if options.json else postfix_listing(messages))
    return 0


def show(options: argparse.Namespace) -> int:
    shown = queue_access.show(queue_access.configuration(options.config), options.queue_id)
    if shown.message is None:
        raise CommandTrouble(os.EX_DATAERR, f"{options.queue_id}: no such message in the queue")
    head = shown.head.decode("utf-8", "replace")
    if options.json:
        facts = json.loads(json_line(shown.message))
        facts["content"] = head
        if shown.trouble:
            facts["trouble"] = shown.trouble
        print_lines([json.dumps(facts, ensure_ascii=False)])
        return 0
    print_lines([*postfix_listing([shown.message]), "", *map(_printable, head.splitlines())])
    if shown.trouble:
        queue_access.complain(shown.trouble)
    elif shown.message.size > len(shown.head):
        print_lines([f"[... {shown.message.size - len(shown.head)} more bytes]"])
    return 0


def _printable(line: str) -> str:
    """Content is a stranger's: it must not drive the terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in line)


def change(options: argparse.Namespace) -> int:
    wanted = _filter(options)
    names = list(dict.fromkeys(options.queue_ids))
    if "ALL" in names:
        if len(names) > 1 or wanted != Filter():
            raise CommandTrouble(os.EX_USAGE, "ALL stands alone, without queue ids and filters")
        names = []
    elif bool(names) == (wanted != Filter()):
        raise CommandTrouble(os.EX_USAGE, "name messages by their queue ids, or by a filter, or say ALL")
    found = queue_access.configuration(options.config)
    (changed,) = queue_access.change(found, [ChangeMessages(change_of(options), tuple(names), wanted)])
    missing = [name for name in names if name not in changed.queue_ids]
    if options.json:
        facts = {"change": options.change_name, "count": changed.count, "not_changed": missing}
        print_lines([json.dumps(facts)])
    else:
        messages = "message" if changed.count == 1 else "messages"
        print_lines([f"{changed.count} {messages} {_DONE[change_of(options)]}"])
    if missing:
        raise CommandTrouble(os.EX_DATAERR, f"not in the queue, or not in a state for this: {', '.join(missing)}")
    return 0


def flush(options: argparse.Namespace) -> int:
    with queue_access.connect(queue_access.configuration(options.config)) as server:
        count = queue_access.asked(server.flush)
    print_lines([json.dumps({"count": count})] if options.json else [f"{count} deferred messages are tried again now"])
    return 0


def _filter(options: argparse.Namespace) -> Filter:
    return Filter(
        sender=options.sender,
        recipient=options.recipient,
        domain=options.domain,
        states=tuple(QueueState(state) for state in options.state),
    )


def change_of(options: argparse.Namespace) -> Change:
    return Change(options.change_name)
