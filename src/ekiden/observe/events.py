"""Everything that happens, as typed facts: one renderer makes Postfix's log lines of them, another JSON.

Times in events are durations in seconds; the observer stamps the wall clock when it takes an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from ekiden.message.delivery import DeliveryResult
from ekiden.message.envelope import Client


class Event(Struct, frozen=True):
    """A fact. The tag names it in JSON."""


class Connected(Event, frozen=True, tag="connect"):
    client: Client
    service: str = "smtpd"


class Disconnected(Event, frozen=True, tag="disconnect"):
    """``commands``: how often each verb came, as (accepted, all); ``received``: how many messages were accepted."""

    client: Client
    commands: Mapping[str, tuple[int, int]] = {}
    service: str = "smtpd"
    received: int = 0


class ConnectionLost(Event, frozen=True, tag="connection-lost"):
    """A session that ended without QUIT: ``problem`` is "lost connection", "timeout" or "too many errors"."""

    client: Client
    problem: str
    after: str  # the last command: "DATA", "RCPT", "CONNECT"
    service: str = "smtpd"


class TlsEstablished(Event, frozen=True, tag="tls"):
    """A handshake is done: ``client.tls`` says how."""

    client: Client
    service: str = "smtpd"


class TlsFailed(Event, frozen=True, tag="tls-failed"):
    """A handshake did not come about; ``reason`` is OpenSSL's, where it has one."""

    client: Client
    reason: str
    service: str = "smtpd"


class Accepting(Event, frozen=True, tag="accepting"):
    """A transaction got its queue id: the log's ``client=`` line.

    A content filter may have told (XFORWARD) who its own client was, and the message's queue id there.
    """

    queue_id: str
    client: Client
    original: Client | None = None
    original_id: str = ""
    service: str = "smtpd"
    submitter: str = ""  # AUTH= of MAIL (RFC 4954 §5), of a client that has logged in


class Rejected(Event, frozen=True, tag="reject"):
    """A command was refused. ``queue_id`` is "" (logged as NOQUEUE) before the transaction has one."""

    client: Client
    stage: str  # "CONNECT", "RCPT", "MAIL", "DATA", "END-OF-MESSAGE"
    reply: str  # the reply's text: code, status and words
    reason: str
    sender: str = ""
    recipient: str = ""
    detail: str = ""
    queue_id: str = ""
    is_warning: bool = False  # nothing was refused, but would have been without warn_if_reject
    service: str = "smtpd"


class LoginFailed(Event, frozen=True, tag="login-failed"):
    """Somebody did not become anybody. ``account`` is who it said it is; "" where it did not say."""

    client: Client
    mechanism: str
    reason: str
    account: str = ""
    is_aborted: bool = False  # the client took it back
    service: str = "smtpd"


class PickedUp(Event, frozen=True, tag="pickup"):
    """A message of the sendmail command came in: ``uid=... from=<...>``."""

    queue_id: str
    uid: int
    sender: str


class Authenticated(Event, frozen=True, tag="authentication"):
    """What the checks of sender authentication found: the resinfo part of Authentication-Results, without line ends."""

    queue_id: str
    results: str
    decision: str = ""  # what became of the message because of that, and why; "" when nothing did
    service: str = "smtpd"


class MessageId(Event, frozen=True, tag="message-id"):
    queue_id: str
    message_id: str


class Activated(Event, frozen=True, tag="active"):
    """The scheduler took a message up: ``from=<...>, size=..., nrcpt=... (queue active)``."""

    queue_id: str
    sender: str
    size: int
    recipients: int


class Attempted(Event, frozen=True, tag="attempt"):
    """One recipient's result. ``delays``: before the queue manager, in it, connection set-up, transmission."""

    queue_id: str
    transport: str
    recipient: str
    result: DeliveryResult
    delay_s: float
    delays_s: tuple[float, float, float, float]
    original: str = ""  # orig_to=


class Expired(Event, frozen=True, tag="expired"):
    """``from=<...>, status=expired, returned to sender``."""

    queue_id: str
    sender: str


class Notified(Event, frozen=True, tag="notification"):
    """A DSN was made. ``kind``: "non-delivery", "delay", "delivery status"."""

    queue_id: str
    kind: str
    notification_id: str
    to_postmaster: bool = False


class Removed(Event, frozen=True, tag="removed"):
    queue_id: str


class Administered(Event, frozen=True, tag="administered"):
    """An administrator held, released, requeued or deleted a message."""

    queue_id: str
    change: str


class Note(Event, frozen=True, tag="note"):
    """Anything else that a person should read. ``level``: info, warning, error, fatal."""

    service: str
    text: str
    level: str = "info"
    queue_id: str = ""


class Observer(Protocol):
    def emit(self, event: Event) -> None:
        """Take a fact; never blocks and never raises."""
