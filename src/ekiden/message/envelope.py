"""The envelope (RFC 5321 §2.3.1): who a message is from, who it is for, and how it came."""

from __future__ import annotations

import enum

from msgspec import Struct

from ekiden.message.address import NULL_SENDER, Address


class BodyType(enum.Enum):
    """BODY= of MAIL FROM (RFC 6152 §2)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


class Notify(enum.IntFlag):
    """When the sender wants a DSN for a recipient (RFC 3461 §4.1)."""

    NEVER = 0
    FAILURE = 1
    DELAY = 2
    SUCCESS = 4


class Recipient(Struct, frozen=True):
    """One recipient. ``original`` is the address as the sender gave it, before aliases (RFC 3461 §4.2 ORCPT)."""

    address: Address
    original: Address | None = None
    notify: Notify = Notify.FAILURE | Notify.DELAY


class Client(Struct, frozen=True):
    """Where a message came from, for Received:, log and policy."""

    name: str = "unknown"  # verified host name, or "unknown"
    address: str = "unknown"  # IP address as text; IPv6 without prefix
    helo: str = ""
    protocol: str = "ESMTP"  # the WITH of RFC 5321 §4.4: SMTP, ESMTP, ESMTPS ..., or "local"
    port: int = 0
    is_ipv6: bool = False
    shows_port: bool = False  # smtpd_client_port_logging

    def __str__(self) -> str:
        """``name[address]``, as the mail log writes it, or ``name[address]:port``."""
        if self.shows_port:
            return f"{self.name}[{self.address}]:{self.port}"
        return f"{self.name}[{self.address}]"


class Envelope(Struct, frozen=True):
    sender: Address = NULL_SENDER
    recipients: tuple[Recipient, ...] = ()
    body: BodyType = BodyType.SEVEN_BIT
    client: Client = Client()
