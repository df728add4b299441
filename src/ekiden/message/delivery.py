"""What is asked of a delivery agent and what it answers, one result a recipient."""

from __future__ import annotations

import enum

from msgspec import Struct

from ekiden.message.address import Address
from ekiden.message.content import Content
from ekiden.message.envelope import Envelope, Recipient
from ekiden.message.status import Status


class Action(enum.StrEnum):
    """RFC 3464 §2.3.3."""

    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    DELAYED = "delayed"
    FAILED = "failed"


class DeliveryResult(Struct, frozen=True):
    """How an attempt for one recipient ended. The functions below build it and keep action and class in step."""

    action: Action
    status: Status
    text: str  # for people and the log: "250 2.0.0 Ok: queued as 4F..."
    relay: str = "none"  # the log's relay=: host[address]:port, "local", "virtual", "none"
    diagnostic: str = ""  # RFC 3464 Diagnostic-Code: "smtp; 550 5.1.1 ..."
    remote_mta: str = ""  # RFC 3464 Remote-MTA: "dns; mx.example"
    connect_s: float = 0.0  # the log's delays c: connection set-up
    transmit_s: float = 0.0  # the log's delays d: transmission
    dsn_passed: bool = False  # the next system reports success to the sender, if it is asked to (RFC 3461 §5.2.1)
    by_passed: bool = False  # the next system knows the time that is left (RFC 2852)
    tls: str = ""  # of the session: "verified TLSv1.3 TLS_AES_256_GCM_SHA384"; "" without

    @property
    def is_final(self) -> bool:
        """No further attempt is needed for this recipient."""
        return self.action is not Action.DELAYED


class Route(Struct, frozen=True):
    """Where a recipient goes: a transport of master.cf and the next hop it shall use."""

    transport: str  # "smtp", "lmtp", "local", "virtual", "error", "discard", or a name of master.cf
    next_hop: str  # smtp: "example.com", "[relay.example]:587"; lmtp: "unix:/path"; error: the text
    address: Address  # the recipient as the agent shall name it


class DeliveryRequest(Struct, frozen=True):
    """One job: one message to all its recipients of one transport and next hop."""

    queue_id: str
    transport: str
    next_hop: str
    envelope: Envelope  # for sender, body type, client; its recipients are not this job's
    recipients: tuple[Recipient, ...]
    content: Content
    arrived: float


def delivered(status: Status, text: str, *, relay: str = "none", **facts: str | float) -> DeliveryResult:
    return _result(Action.DELIVERED, status, 2, text, relay, facts)


def relayed(status: Status, text: str, *, relay: str = "none", **facts: str | float) -> DeliveryResult:
    return _result(Action.RELAYED, status, 2, text, relay, facts)


def expanded(status: Status, text: str, *, relay: str = "none", **facts: str | float) -> DeliveryResult:
    return _result(Action.EXPANDED, status, 2, text, relay, facts)


def deferred(status: Status, text: str, *, relay: str = "none", **facts: str | float) -> DeliveryResult:
    return _result(Action.DELAYED, status, 4, text, relay, facts)


def failed(status: Status, text: str, *, relay: str = "none", **facts: str | float) -> DeliveryResult:
    return _result(Action.FAILED, status, 5, text, relay, facts)


def _result(
    action: Action, status: Status, klass: int, text: str, relay: str, facts: dict[str, str | float]
) -> DeliveryResult:
    # A peer that sends "550 2.0.0" must not turn a bounce into a success (RFC 3463 §3.1 other/undefined).
    if status.klass != klass:
        status = Status(klass, 0, 0)
    return DeliveryResult(action, status, text, relay, **facts)  # type: ignore[arg-type]
