"""The envelope (RFC 5321 §2.3.1): who a message is from, who it is for, and how it came."""

from __future__ import annotations

import enum

from msgspec import Struct, structs

from ekiden.message.address import NULL_SENDER, Address
from ekiden.message.tls_facts import TlsFacts


class BodyType(enum.Enum):
    """BODY= of MAIL FROM (RFC 6152 §2, RFC 3030 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


class Notify(enum.IntFlag):
    """When the sender wants a DSN for a recipient (RFC 3461 §4.1).

    GIVEN: the sender said so with NOTIFY=, which goes on with the message; GIVEN alone is NOTIFY=NEVER. NEVER is what
    we decide ourselves (a blind copy).
    """

    NEVER = 0
    FAILURE = 1
    DELAY = 2
    SUCCESS = 4
    GIVEN = 8


class Recipient(Struct, frozen=True, omit_defaults=True):
    """One recipient. ``original`` is the address as the sender gave it, before aliases.

    ``orcpt`` is ORCPT= (RFC 3461 §4.2), with xtext decoded: ``rfc822;user@example.com``, ``utf-8;...``; "" without it.
    """

    address: Address
    original: Address | None = None
    notify: Notify = Notify.FAILURE | Notify.DELAY
    orcpt: str = ""

    def readdressed(self, address: Address) -> Recipient:
        """The same recipient where it goes on: under another address, whose mail is still the original's."""
        return structs.replace(self, address=address, original=self.original or self.address)


class Client(Struct, frozen=True, omit_defaults=True):
    """Where a message came from, for Received:, log and policy."""

    name: str = "unknown"  # verified host name, or "unknown"
    address: str = "unknown"  # IP address as text; IPv6 without prefix
    helo: str = ""
    protocol: str = "ESMTP"  # the WITH of RFC 5321 §4.4: SMTP, ESMTP, ESMTPS ..., or "local"
    port: int = 0
    is_ipv6: bool = False
    shows_port: bool = False  # smtpd_client_port_logging
    tls: TlsFacts | None = None
    login: str = ""  # the account that the client logged in to (SASL)
    login_method: str = ""  # the SASL mechanism
    name_failed: bool = False  # "unknown" because DNS could not be asked now

    def __str__(self) -> str:
        """``name[address]``, as the mail log writes it, or ``name[address]:port``."""
        if self.shows_port:
            return f"{self.name}[{self.address}]:{self.port}"
        return f"{self.name}[{self.address}]"


class Ret(enum.Enum):
    """How much of a message a DSN shall bring back (RFC 3461 §4.3)."""

    FULL = "FULL"
    HDRS = "HDRS"


class DeliverBy(Struct, frozen=True):
    """BY= of MAIL FROM (RFC 2852 §4), with the time made absolute."""

    until: float  # seconds since the epoch
    returns: bool  # mode R: give up then; mode N: tell the sender and go on
    traces: bool = False  # T: tell the sender when it is relayed


class Envelope(Struct, frozen=True, omit_defaults=True):
    sender: Address = NULL_SENDER
    recipients: tuple[Recipient, ...] = ()
    body: BodyType = BodyType.SEVEN_BIT
    client: Client = Client()
    smtputf8: bool = False  # the sender asked for SMTPUTF8 (RFC 6531 §3.4)
    ret: Ret | None = None
    envid: str = ""  # ENVID= with xtext decoded (RFC 3461 §4.4)
    deliver_by: DeliverBy | None = None
    priority: int = 0  # MT-PRIORITY= (RFC 6710 §4.1), -9 to 9
    require_tls: bool = False  # REQUIRETLS (RFC 8689 §4.2.1)
    held_until: float = 0.0  # FUTURERELEASE (RFC 4865): seconds since the epoch; 0: not held
    tls_optional: bool = False  # the header has TLS-Required: No (RFC 8689 §3)
