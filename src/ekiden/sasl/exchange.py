"""The server's side of a SASL exchange (RFC 4422 §3): one interface for our own mechanisms and for a relay of them.

A mechanism gets the client's data with base64 taken off, and gives challenges the same way; the profile (RFC 4954 for
SMTP) does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from msgspec import Struct


class Facts(Struct, frozen=True):
    """What an exchange may depend on. An address is "" where it is not known."""

    service: str = "smtp"  # the service name of RFC 4422: "smtp", "lmtp"
    local_address: str = ""
    local_port: int = 0
    remote_address: str = ""
    remote_port: int = 0
    tls: bool = False
    server_name: str = ""  # the name that we go by: myhostname, or what SNI said
    certificate_verified: bool = False  # the client showed a certificate that holds
    certificate_name: str = ""  # ... and this is its name
    channel_bindings: Mapping[str, bytes] = {}  # the data of each kind (RFC 5056): "tls-exporter", "tls-unique", ...
    offered: frozenset[str] = frozenset()  # the mechanisms that the client was offered


class Challenge(Struct, frozen=True, tag="challenge"):
    """Send ``data`` (it may be empty), and give the client's answer to ``respond``."""

    data: bytes = b""


class Success(Struct, frozen=True, tag="success"):
    """``account`` is who the client is now: the authorization identity, checked.

    ``final`` is the server's last word of mechanisms that have one (RFC 4422 §3.6), None of those without.
    """

    account: str
    final: bytes | None = None


class Failure(Struct, frozen=True, tag="failure"):
    """``reason`` is for the log only: a client is not told why. ``temporary``: nobody could say; it may try again."""

    reason: str
    temporary: bool = False
    account: str = ""  # whose failure it counts as; "" where no name was given
    malformed: bool = False  # the client's data were no message of the mechanism (RFC 4954 §4: 501)


Step: TypeAlias = Challenge | Success | Failure


class MechanismServer(Protocol):
    """One exchange: ``start`` once, then ``respond`` while the last step was a Challenge."""

    async def start(self, mechanism: str, initial: bytes | None, facts: Facts) -> Step:
        """``initial`` is the initial response, None where the client sent none (b"" where it sent an empty one)."""

    async def respond(self, data: bytes) -> Step: ...

    def abandon(self) -> None:
        """The client cancelled, or is gone: nothing more comes of this exchange."""


class MechanismTraits(Struct, frozen=True):
    """A mechanism that is offered, and what smtpd_sasl_security_options look at."""

    name: str  # in upper case
    plaintext: bool = False  # the password passes as it is
    anonymous: bool = False  # it admits anybody
    dictionary: bool = False  # who hears it may try passwords at leisure
    active: bool = False  # who sits between may abuse it
    forward_secrecy: bool = False
    mutual: bool = False  # the client is shown that the server knows the password


class Mechanisms(Protocol):
    """A place that has mechanisms: our own over Accounts, or another server's (Dovecot's auth socket)."""

    async def mechanisms(self) -> tuple[MechanismTraits, ...]:
        """What may be offered now, in the order in which it is offered; empty where the server cannot be asked."""

    def exchange(self) -> MechanismServer:
        """A new exchange."""

    async def aclose(self) -> None: ...
