"""What commands ask of a running worker over its control socket, and what it answers.

On the wire a message is its length (4 bytes, big endian) and its msgpack; one connection carries any number of
requests, each answered before the next is read. Nothing here needs a loop or a socket: the commands import it too.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from ekiden.message.date import header_date
from ekiden.message.delivery import Action
from ekiden.message.queued import QueuedMessage, QueueState
from ekiden.queue.store import Change, QueueEntry

LENGTH_BYTES = 4


class Filter(Struct, frozen=True, omit_defaults=True):
    """Which messages: those for which everything holds that is set. Addresses and domains in any case.

    ``domain`` is that of a recipient that still waits.
    """

    sender: str = ""
    recipient: str = ""
    domain: str = ""
    states: tuple[QueueState, ...] = ()

    def matches(self, state: QueueState, message: QueuedMessage) -> bool:
        if self.states and state not in self.states:
            return False
        if self.sender and str(message.envelope.sender).lower() != _bare(self.sender):
            return False
        addresses = [pending.recipient.address for pending in message.pending]
        if self.recipient and _bare(self.recipient) not in (str(address).lower() for address in addresses):
            return False
        return not self.domain or self.domain.lower() in (address.domain.lower() for address in addresses)


def _bare(address: str) -> str:
    """``<a@b>`` as ``a@b``; the null sender is ``<>`` in a filter, where "" asks for nothing."""
    return address.lower().removeprefix("<").removesuffix(">")


class RecipientLine(Struct, frozen=True):
    """A recipient that still waits; ``reason`` is the text of its last attempt."""

    address: str
    reason: str = ""
    original: str = ""  # the address that its mail came for, where that is another


class MessageLine(Struct, frozen=True):
    """A message in a listing. Times are seconds since the epoch; ``reason`` says why it is on hold or corrupt."""

    queue_id: str
    state: QueueState
    sender: str
    size: int
    arrived: float
    recipients: tuple[RecipientLine, ...] = ()
    due: float = 0.0
    attempts: int = 0
    message_id: str = ""
    shard: str = ""
    reason: str = ""
    content_filter: str = ""  # where all recipients go first
    expired: bool = False  # an administrator has given it up: its sender is told at the next attempt


def is_force_expired(message: QueuedMessage) -> bool:
    """Change.EXPIRE has ended it for all who wait, and the notification is not written yet."""
    return bool(message.pending) and all(
        pending.last is not None and pending.last.is_final and pending.last.action is Action.FAILED
        for pending in message.pending
    )


def _held(entry: QueueEntry) -> str:
    """Until when its sender wants a message held (RFC 4865)."""
    message = entry.message
    until = message.envelope.held_until
    if entry.state is not QueueState.INCOMING or not until or message.due < until or message.attempts:
        return ""
    return f"held until {header_date(until)}, as its sender wants"


def message_line(entry: QueueEntry) -> MessageLine:
    message = entry.message
    return MessageLine(
        queue_id=message.queue_id,
        state=entry.state,
        sender=str(message.envelope.sender),
        size=message.size,
        arrived=message.arrived,
        recipients=tuple(
            RecipientLine(
                str(pending.recipient.address),
                pending.last.text if pending.last else "",
                "" if pending.recipient.original is None else str(pending.recipient.original),
            )
            for pending in message.pending
        ),
        due=message.due,
        attempts=message.attempts,
        message_id=message.message_id,
        shard=entry.shard,
        reason=entry.reason or _held(entry),
        content_filter=message.content_filter,
        expired=is_force_expired(message),
    )


class ListQueue(Struct, frozen=True, tag="list"):
    """Messages after the id ``after``, in the order of their ids; the worker decides how many it gives at once."""

    filter: Filter = Filter()
    after: str = ""


class ShowMessage(Struct, frozen=True, tag="show"):
    queue_id: str


class ChangeMessages(Struct, frozen=True, tag="change"):
    """``queue_ids`` names messages, of which ``filter`` may leave some out.

    Without names all are meant that ``filter`` matches, and an empty filter matches all.
    """

    change: Change
    queue_ids: tuple[str, ...] = ()
    filter: Filter = Filter()


class FlushQueue(Struct, frozen=True, tag="flush"):
    """Try everything that is deferred now."""


class AskStatus(Struct, frozen=True, tag="status"):
    pass


ReportSubject = Literal["tls", "dmarc"]


class SendReports(Struct, frozen=True, tag="tlsrpt"):
    """Send the reports that are due: on TLS (RFC 8460), or aggregate reports of DMARC (RFC 9990)."""

    subject: ReportSubject = "tls"


Request = ListQueue | ShowMessage | ChangeMessages | FlushQueue | AskStatus | SendReports


class Listed(Struct, frozen=True, tag="listed"):
    """One page. ``after`` is what to ask for next; "" at the end."""

    messages: tuple[MessageLine, ...]
    after: str = ""


class Shown(Struct, frozen=True, tag="shown"):
    """``message`` is None when the worker does not have it. ``head``: the beginning of the content."""

    message: MessageLine | None = None
    head: bytes = b""
    trouble: str = ""  # why there is no head


class Changed(Struct, frozen=True, tag="changed"):
    """How many messages it applied to, and which (``queue_ids`` is empty where all were asked for)."""

    count: int
    queue_ids: tuple[str, ...] = ()


class WorkerStatus(Struct, frozen=True, tag="worker-status"):
    """``counts`` are the queue's by state; ``deliveries`` those under way."""

    worker: int
    pid: int
    version: str
    uptime_s: float
    sessions: int
    deliveries: int
    active: int
    counts: dict[str, int]
    configured: float = 0.0  # when the configuration in use was read, seconds since the epoch
    reload_trouble: str = ""  # why the last reload failed


class Refused(Struct, frozen=True, tag="refused"):
    """The request could not be done; ``text`` says why. ``denied``: it is not for this user to ask."""

    text: str
    denied: bool = False


Answer = Listed | Shown | Changed | WorkerStatus | Refused

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class BadMessage(ValueError):
    """Bytes that are not a request or an answer."""


def frame(message: Request | Answer) -> bytes:
    data = _encoder.encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def decode_request(data: bytes) -> Request:
    """Raises BadMessage."""
    try:
        return _request_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise BadMessage(f"not a request: {error}") from error


def decode_answer(data: bytes) -> Answer:
    """Raises BadMessage."""
    try:
        return _answer_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise BadMessage(f"not an answer: {error}") from error
