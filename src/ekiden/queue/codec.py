"""A queued message as a row of the database, and back.

What is searched or changed has a column of its own; the rest is packed as MessagePack. Content that lies in a file is
named by the queue id alone, so that a queue may be moved to another directory.

Errors: Unreadable for a row that is not what this module wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from ekiden.message.address import Address
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.envelope import Envelope
from ekiden.message.queued import Pending, QueuedMessage, QueueState
from ekiden.queue.store import QueueEntry

COLUMNS = (
    "queue_id", "state", "due", "arrived", "size", "sender", "attempts", "delay_warned", "reason",
    "envelope", "pending", "content",
)  # fmt: skip

Row = tuple[Any, ...]
"""The values of COLUMNS, as sqlite3 takes and gives them."""


class Unreadable(Exception):
    """A row that cannot be read; the text says why."""


class _Kept(Struct, frozen=True, array_like=True):
    """The part of a message that never changes."""

    envelope: Envelope
    message_id: str
    content_filter: str = ""  # older rows end with message_id
    content_start: int = 0  # of content in a file


_encoder = msgspec.msgpack.Encoder()
_kept_decoder = msgspec.msgpack.Decoder(_Kept)
_pending_decoder = msgspec.msgpack.Decoder(tuple[Pending, ...])


def pack(value: object) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        # Bytes of a peer that are no UTF-8 travel as lone surrogates, which MessagePack cannot hold and JSON's
        # escapes can. JSON starts with "[", which no packed value of ours does.
        return json.dumps(msgspec.to_builtins(value)).encode("ascii")


def pack_pending(pending: tuple[Pending, ...]) -> bytes:
    return pack(pending)


def row_of(message: QueuedMessage, state: QueueState) -> Row:
    """The values of COLUMNS for a message."""
    envelope, content = message.envelope, message.content
    data, start = (content.data, 0) if isinstance(content, InlineContent) else (None, content.start)
    sender = str(envelope.sender)
    if not sender.isascii():
        sender = sender.encode("utf-8", "backslashreplace").decode("utf-8")
    return (
        message.queue_id, str(state), message.due, message.arrived, content.size if data is None else len(data),
        sender, message.attempts, int(message.delay_warned), message.hold,
        pack(_Kept(envelope, message.message_id, message.content_filter, start)),
        None if _is_untried(message) else pack(message.pending),
        data,
    )  # fmt: skip


def _is_untried(message: QueuedMessage) -> bool:
    """All recipients wait and none has been tried: the commonest case, in which the envelope says it all."""
    recipients = message.envelope.recipients
    if len(message.pending) != len(recipients):
        return False
    for waits, recipient in zip(message.pending, recipients, strict=True):
        if waits.last is not None or not (waits.recipient is recipient or waits.recipient == recipient):
            return False
    return True


def message_of(row: Row, content_directory: Path) -> QueuedMessage:
    """The message of a row. Raises Unreadable."""
    data: bytes | None = row[11]
    content: Content
    if data is None:
        content = FileContent(str(content_directory / row[0]), row[4])
    elif len(data) == row[4]:
        content = InlineContent(data)
    else:
        raise Unreadable(f"the content has {len(data)} bytes instead of {row[4]}")
    return _message(row, content)


def entry_of(row: Row, content_directory: Path, shard: str) -> QueueEntry:
    """A row as a listing shows it; one that cannot be read is shown as corrupt, with what its columns tell.

    The row's last value is 1 for content in a file and 0 for content in the database, which is then not in the entry:
    a FileContent without a path stands for its size.
    """
    content = FileContent(str(content_directory / row[0]) if row[11] else "", row[4])
    try:
        return QueueEntry(QueueState(row[1]), _message(row, content), shard, row[8])
    except Unreadable as error:
        local, _, domain = row[5].rpartition("@")
        sender = Address(local, domain) if local else Address(domain)
        message = QueuedMessage(row[0], Envelope(sender), content, row[3], (), "", row[2], row[6], bool(row[7]))
        return QueueEntry(QueueState.CORRUPT, message, shard, row[8] or str(error))


def _message(row: Row, content: Content) -> QueuedMessage:
    try:
        kept = _unpack(row[9], _kept_decoder)
        if row[10] is None:
            pending = tuple([Pending(recipient) for recipient in kept.envelope.recipients])
        else:
            pending = _unpack(row[10], _pending_decoder)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise Unreadable(f"the envelope cannot be read: {error}") from error
    if kept.content_start and isinstance(content, FileContent):
        content = structs.replace(content, start=kept.content_start)
    return QueuedMessage(
        row[0], kept.envelope, content, row[3], pending, kept.message_id, row[2], row[6], bool(row[7]),
        content_filter=kept.content_filter,
    )  # fmt: skip


def _unpack(data: bytes, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    if data[:1] == b"[":
        return msgspec.convert(json.loads(data), decoder.type)
    return decoder.decode(data)
