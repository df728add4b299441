"""postcat(1): what the queue holds of a message, as the records that Postfix's queue files have.

Only ``-q`` makes sense here: the queue is a database. Offsets in a file (``-o``, ``-r``, ``-s``) do not exist.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ekiden.cli.getopt import BadOption, getopt
from ekiden.cli.trouble import CommandTrouble, complain

if TYPE_CHECKING:
    from ekiden.queue.store import QueueEntry

_EX_FATAL = 1
_USAGE = (
    "usage: postcat -q [-b (body text)] [-c config_dir] [-d (decimal record type)] [-e (envelope records)] "
    "[-h (header text)] [-v] queue_id..."
)
# Record types of a queue file: their letters, which -d shows as numbers.
_SIZE, _TIME, _ATTRIBUTE, _FULL_NAME, _SENDER, _ORIGINAL, _RECIPIENT, _DONE, _FILTER = "CTAFSORDL"
_CONTENTS, _TEXT, _EXTRACTED, _END = "MNXE"
_FLAGS_OF_NEVER = 1


class _Shown:
    """Which parts of a message are printed, and how."""

    def __init__(self, letters: str) -> None:
        parts = set(letters) & set("beh") or set("beh")
        self.envelope, self.header, self.body = "e" in parts, "h" in parts, "b" in parts
        self.numbers = "d" in letters

    def line(self, record: str, text: str) -> str:
        return f"{ord(record):3d} {text}" if self.numbers else text


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except BadOption as error:
        complain("postcat", str(error))
        complain("postcat", f"fatal: {_USAGE}")
    except CommandTrouble as trouble:
        complain("postcat", f"fatal: {trouble}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK
    return _EX_FATAL


def _run(arguments: Sequence[str]) -> int:
    from ekiden.cli import queue_access

    options, names = getopt(arguments, "bc:dehoqrs:v")
    letters = "".join(letter for letter, _ in options)
    if "q" not in letters or not names:
        raise CommandTrouble(_EX_FATAL, f"the queue is a database: name messages with -q. {_USAGE}")
    for letter in set(letters) & set("ors"):
        complain("postcat", f"warning: -{letter} is ignored: a message in the queue has no file offsets")
    shown = _Shown(letters)
    found = queue_access.configuration(dict(options).get("c"))
    for name in names:
        entry = queue_access.entry_on_disk(found, name)
        if entry is None:
            raise CommandTrouble(_EX_FATAL, f"open queue file {name}: No such file or directory")
        content = queue_access.content_on_disk(entry) if shown.header or shown.body else b""
        for line in _message(entry, content, shown):
            sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.flush()
    return os.EX_OK


def _message(entry: QueueEntry, content: bytes, shown: _Shown) -> Iterator[str]:
    path = f"{entry.state.value}/{entry.message.queue_id}"
    if shown.envelope:
        yield f"*** ENVELOPE RECORDS {path} ***"
        yield from (shown.line(record, text) for record, text in _envelope(entry))
        yield shown.line(_CONTENTS, f"*** MESSAGE CONTENTS {path} ***")
    yield from (shown.line(_TEXT, text) for text in _content(content, shown))
    if shown.envelope:
        yield shown.line(_EXTRACTED, f"*** HEADER EXTRACTED {path} ***")
        yield shown.line(_END, f"*** MESSAGE FILE END {path} ***")


def _envelope(entry: QueueEntry) -> Iterator[tuple[str, str]]:
    from ekiden.message.envelope import Notify

    message, envelope = entry.message, entry.message.envelope
    size, arrived, client = message.size, time.asctime(time.localtime(message.arrived)), envelope.client
    # Content size, its offset, recipients, queue manager flags, content length, SMTPUTF8 flags.
    yield _SIZE, "message_size: " + " ".join(f"{n:15d}" for n in (size, 0, len(envelope.recipients), 0, size, 0))
    yield _TIME, f"message_arrival_time: {arrived}"
    yield _ATTRIBUTE, f"create_time: {arrived}"
    yield _ATTRIBUTE, f"named_attribute: log_ident={message.queue_id}"
    if message.content_filter:
        yield _FILTER, f"content_filter: {message.content_filter}"
    yield _SENDER, f"sender: {envelope.sender}"
    if client.protocol != "local":
        facts = (
            ("client_name", client.name),
            ("client_address", client.address),
            ("client_port", str(client.port)),
            ("helo_name", client.helo),
            ("protocol_name", client.protocol),
        )
        for name, value in facts:
            yield _ATTRIBUTE, f"named_attribute: log_{name}={value}"
        yield _ATTRIBUTE, f"named_attribute: log_message_origin={client}"
        for name, value in facts:
            yield _ATTRIBUTE, f"named_attribute: {name}={value}"
        yield _ATTRIBUTE, f"named_attribute: client_address_type={10 if client.is_ipv6 else 2}"
    else:
        yield _ATTRIBUTE, "named_attribute: log_message_origin=local"
    if envelope.body.value == "8BITMIME":
        yield _ATTRIBUTE, "named_attribute: encoding=8bit"
    numbers = {Notify.SUCCESS: 2, Notify.FAILURE: 4, Notify.DELAY: 8}
    waiting = {pending.recipient for pending in message.pending}
    # An alias's recipients are in the envelope, and what is still to be done stands in the queue.
    for recipient in dict.fromkeys((*envelope.recipients, *(pending.recipient for pending in message.pending))):
        original = recipient.original or recipient.address
        if recipient.notify != Notify.FAILURE | Notify.DELAY:
            flags = sum(number for flag, number in numbers.items() if flag in recipient.notify) or _FLAGS_OF_NEVER
            yield _ATTRIBUTE, f"named_attribute: notify_flags={flags}"
        yield _ATTRIBUTE, f"named_attribute: dsn_orig_rcpt=rfc822;{original}"
        yield _ORIGINAL, f"original_recipient: {original}"
        if recipient in waiting:
            yield _RECIPIENT, f"recipient: {recipient.address}"
        else:
            yield _DONE, f"done_recipient: {recipient.address}"


def _content(content: bytes, shown: _Shown) -> Iterator[str]:
    lines = content.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r").split("\n")
    in_header = True
    for at, line in enumerate(lines):
        line = line.removesuffix("\r")
        if in_header and not _is_header(line, at):
            in_header = False
        if shown.header if in_header else shown.body:
            yield line


def _is_header(line: str, at: int) -> bool:
    """RFC 5322 §2.2: a field or its continuation."""
    if line[:1] in (" ", "\t"):
        return at > 0
    name, colon, _ = line.partition(":")
    name = name.rstrip(" \t")
    return bool(colon and name) and all("!" <= char <= "~" for char in name)
