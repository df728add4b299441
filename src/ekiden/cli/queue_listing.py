"""What a queue looks like to people and programs: the formats of postqueue(1) -p and -j."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator

import msgspec

from ekiden.message.queued import QueueState
from ekiden.runtime.requests import MessageLine

# The columns that Postfix has with long queue ids, which ours are.
_HEADING = "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------"
_INDENT = " " * 47
_REASON_ENDS_AT = 78
_MARKS = {QueueState.ACTIVE: "*", QueueState.HOLD: "!"}
_EXPIRED = "#"
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def postfix_listing(messages: Iterable[MessageLine]) -> Iterator[str]:
    """The lines of ``mailq``, made as the messages come."""
    count = total = 0
    for message in messages:
        yield _HEADING if count == 0 else ""
        yield from _message(message)
        count += 1
        total += message.size
    if count == 0:
        yield "Mail queue is empty"
        return
    yield ""
    yield f"-- {total // 1024} Kbytes in {count} Request{'' if count == 1 else 's'}."


def _message(message: MessageLine) -> Iterator[str]:
    name = message.queue_id + _MARKS.get(message.state, _EXPIRED if message.expired else "")
    yield f"{name:<17} {message.size:8d} {_time(message.arrived):<19} {_clean(message.sender) or 'MAILER-DAEMON'}"
    shown = ""
    if message.reason:
        yield _reason(message.reason)
    for recipient in message.recipients:
        # The reason stands above the recipients that share it.
        if recipient.reason and recipient.reason != shown:
            yield _reason(recipient.reason)
        shown = recipient.reason
        yield _INDENT + _clean(recipient.address)


def _reason(text: str) -> str:
    text = f"({_clean(text)})"
    return text.rjust(_REASON_ENDS_AT)


def _time(seconds: float) -> str:
    """``Sun Nov 22 18:54:42``, in English whatever the locale, as programs that read it expect."""
    at = time.localtime(seconds)
    clock = f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    return f"{_WEEKDAYS[at.tm_wday]} {_MONTHS[at.tm_mon - 1]} {at.tm_mday:2d} {clock}"


def _clean(text: str) -> str:
    """What came from a peer or a sender must not drive the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def json_line(message: MessageLine) -> str:
    """One JSON object: the members of postqueue -j, and some more."""
    line = msgspec.json.encode(
        {
            "queue_name": message.state.value,
            "queue_id": message.queue_id,
            "arrival_time": int(message.arrived),
            "message_size": message.size,
            "forced_expire": message.expired,
            "sender": message.sender or "MAILER-DAEMON",
            "recipients": [
                {"address": recipient.address, **({"delay_reason": recipient.reason} if recipient.reason else {})}
                for recipient in message.recipients
            ],
            "due_time": int(message.due),
            "attempts": message.attempts,
            "message_id": message.message_id,
            "shard": message.shard,
            **({"state_reason": message.reason} if message.reason else {}),
        }
    )
    # With the blanks that Postfix puts in: people grep for '"queue_name": "hold"'.
    return msgspec.json.format(line, indent=0).decode()


def print_lines(lines: Iterable[str]) -> None:
    """To standard output; a reader that has seen enough (``| head``) is no error."""
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What the interpreter would flush at its exit has nowhere to go either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
