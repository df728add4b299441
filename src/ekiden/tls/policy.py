"""What a delivery asks of TLS with one server: the policy, who decides it, and how it went.

A TlsPolicySource is asked before each connection, with the next hop and the host that is to be connected to; it is told
the outcome, for reports (RFC 8460). The configured policy (smtp_tls_security_level, smtp_tls_policy_maps) is the one of
``tls.configured_policy``; DANE (RFC 7672) and MTA-STS (RFC 8461) stand in front of it with the same interface.
"""

from __future__ import annotations

import enum
from typing import Literal, Protocol

from msgspec import Struct

from ekiden.dns.resolver import Tlsa
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.message.tls_facts import TlsFacts


class Level(enum.IntEnum):
    """Postfix's security levels (smtp_tls_security_level), in the order of what they ask."""

    NONE = 0  # no TLS
    MAY = 1  # TLS if the server offers it; else, and when the handshake fails, plain text
    ENCRYPT = 2  # TLS, whoever the server is
    DANE = 3  # as DNS says: the level of a policy whose TLSA records are to be met; without records it is MAY
    DANE_ONLY = 4  # the same, and mail waits where there are no records
    FINGERPRINT = 5  # a certificate, or key, that is known by its digest
    VERIFY = 6  # a certificate of a trusted authority with the right name
    SECURE = 7  # the same, with names that DNS has no part in

    @property
    def word(self) -> str:
        """As main.cf writes it."""
        return self.name.lower().replace("_", "-")

    @property
    def is_mandatory(self) -> bool:
        return self >= Level.ENCRYPT

    @property
    def authenticates(self) -> bool:
        """The server must show who it is."""
        return self >= Level.DANE


LEVELS = {level.word: level for level in Level}

Source = Literal["config", "dane", "sts"]


class TlsPolicy(Struct, frozen=True):
    """The effective policy of one server. Connections are used again only under an equal one.

    ``match`` holds what the server's certificate may be called, for VERIFY and SECURE: ``hostname`` (of the server),
    ``nexthop``, ``dot-nexthop`` (any name below it), or names; ``.example.com`` is any name below example.com.
    """

    level: Level
    source: Source = "config"
    match: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()  # for FINGERPRINT: of a certificate or its public key, upper case with colons
    tlsa: tuple[Tlsa, ...] = ()  # for DANE and DANE_ONLY: usages 2 and 3, never empty
    tlsa_base: str = ""  # the name that the records were found at: the first reference identifier (RFC 7672 §3.2.2)
    protocols: str = ""  # Postfix's list of protocols: "" is that of the parameters for the level
    ciphers: str = ""  # a grade: "high", "medium" ...; "": that of the parameters for the level
    exclude: tuple[str, ...] = ()  # ciphers, besides those that the parameters exclude
    server_name: str = ""  # the SNI; "hostname" and "nexthop" stand for those; "": none (DANE: tlsa_base)
    trust_anchors: tuple[str, ...] = ()  # files of certificates or keys that are trusted in place of all authorities
    public_authorities: bool = False  # the system's authorities are trusted besides smtp_tls_CAfile (MTA-STS)
    reuse: bool = True  # connections may be kept for the next message (connection_reuse)
    testing: bool = False  # MTA-STS in testing mode: what it finds is reported, and stops no mail


class NoDelivery(Struct, frozen=True):
    """The policy leaves no way to deliver to this server: the next one is tried, else the mail waits or goes back."""

    status: Status  # 4.7.5 and the like; 5.7.30 where there is no sense in waiting
    text: str


class Problem(enum.Enum):
    """Why TLS was not as the policy wants it, in the words of reports (RFC 8460 §4.3)."""

    NOT_OFFERED = "starttls-not-supported"
    WRONG_NAME = "certificate-host-mismatch"
    EXPIRED = "certificate-expired"
    NOT_TRUSTED = "certificate-not-trusted"
    FAILED = "validation-failure"  # any other failure, the handshake's too
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


class TlsOutcome(Struct, frozen=True):
    """How one session went: ``problem`` is None when the policy was met."""

    problem: Problem | None = None
    detail: str = ""  # for people: what OpenSSL said, which name the certificate has
    facts: TlsFacts | None = None  # of the handshake, if it was completed
    helo: str = ""  # as the server calls itself
    local_address: str = ""


class TlsPolicySource(Protocol):
    """Decides the policy of each server, and hears what came of it."""

    def constant_for(self, next_hop: str) -> TlsPolicy | None:
        """The policy of every server of a next hop, at any time; None where that is to be found out."""

    async def policy_for(
        self, next_hop: str, host: Host, *, require_tls: bool = False, tls_optional: bool = False
    ) -> TlsPolicy | NoDelivery:
        """``next_hop`` is the destination as routes write it: ``example.com``, ``[relay.example]:587``.

        ``require_tls``: the message asks for it (RFC 8689 §4.2.1): the server must be authenticated.
        ``tls_optional``: it has ``TLS-Required: No`` (RFC 8689 §3): what domains ask for does not count.
        """

    def tell(self, next_hop: str, host: Host, policy: TlsPolicy, outcome: TlsOutcome) -> None:
        """What became of TLS in a session that was begun under ``policy``; never blocks and never raises."""
