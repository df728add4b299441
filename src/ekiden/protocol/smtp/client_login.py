"""The AUTH command as the client says it (RFC 4954 §4): a mechanism's bytes, in base64, line by line."""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

from msgspec import Struct

from ekiden.message.reply import Reply

_COMMAND_BYTES = 12_288  # RFC 4954 §4: an initial response that needs more comes after an empty challenge


class LoginProblem(Struct, frozen=True):
    """Why our side of an exchange does not go on. ``text`` holds no secret."""

    text: str
    mechanism: str = ""


class Exchange(Protocol):
    """The client's side of one SASL exchange (RFC 4422 §3); a new one for each attempt."""

    @property
    def mechanism(self) -> str:
        """The registered name: ``PLAIN``."""

    @property
    def initial(self) -> bytes | None:
        """The initial response; None for a mechanism in which the server speaks first (RFC 4422 §5)."""

    @property
    def complete(self) -> bool:
        """Nothing is missing if the server says now that all is well."""

    def respond(self, challenge: bytes) -> bytes | LoginProblem: ...


class _Delayed:
    """An exchange whose initial response waits for the server's empty challenge (RFC 4422 §3, RFC 4954 §4)."""

    def __init__(self, exchange: Exchange, initial: bytes) -> None:
        self._exchange = exchange
        self._waiting: bytes | None = initial
        self.mechanism = exchange.mechanism
        self.initial = None

    @property
    def complete(self) -> bool:
        return self._waiting is None and self._exchange.complete

    def respond(self, challenge: bytes) -> bytes | LoginProblem:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return self._exchange.respond(challenge)
        return waiting if not challenge else LoginProblem("the server speaks out of turn")


def authenticate(exchange: Exchange) -> tuple[bytes, Exchange]:
    """The AUTH command, with the initial response if there is one and it fits; and the exchange as it goes on."""
    name = exchange.mechanism.encode("ascii")
    initial = exchange.initial
    if initial is not None:
        # RFC 4954 §4: a response of no bytes is written "=", so that it is not taken for none.
        command = b"AUTH " + name + b" " + (base64.b64encode(initial) or b"=") + b"\r\n"
        if len(command) <= _COMMAND_BYTES:
            return command, exchange
        exchange = _Delayed(exchange, initial)
    return b"AUTH " + name + b"\r\n", exchange


def challenge_of(reply: Reply) -> bytes | LoginProblem:
    """What the server says in a 334 reply."""
    text = reply.lines[-1].strip()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return LoginProblem("the server's challenge is not base64")


def response_line(answer: bytes) -> bytes:
    return base64.b64encode(answer) + b"\r\n"
