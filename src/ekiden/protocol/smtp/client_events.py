"""What the client core tells its caller: each event is the caller's turn to act."""

from __future__ import annotations

from msgspec import Struct

from ekiden.message.reply import Reply
from ekiden.protocol.smtp.client_transaction import Stage


class Event(Struct, frozen=True):
    """The caller's turn."""


class Ready(Event, frozen=True):
    pass


class SendContent(Event, frozen=True):
    pass


class Finished(Event, frozen=True):
    pass


class Closed(Event, frozen=True):
    pass


class Refused(Event, frozen=True):
    stage: Stage  # GREETING, EHLO, HELO, LHLO
    reply: Reply


class SpokeToSelf(Event, frozen=True):
    stage: Stage
    name: str


class Trouble(Event, frozen=True):
    stage: Stage
    text: str


class StartTls(Event, frozen=True):
    """The server waits for a TLS handshake."""


class TlsDeclined(Event, frozen=True):
    """It offered STARTTLS and does not want it now; the session goes on."""

    reply: Reply


class LoggedIn(Event, frozen=True):
    mechanism: str


class LoginRefused(Event, frozen=True):
    """The server's answer to a login that it did not accept; the session goes on."""

    mechanism: str
    reply: Reply


class LoginFailed(Event, frozen=True):
    """Our side of the mechanism gave up: the server did not say what it must, or is not who it should be."""

    mechanism: str
    text: str


READY, SEND_CONTENT, FINISHED, CLOSED, START_TLS = Ready(), SendContent(), Finished(), Closed(), StartTls()
