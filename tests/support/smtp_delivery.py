"""Deliveries by the smtp agent to peers of a test: requests, an agent for given peers, results in short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from ekiden.config.snapshot import Parameters
from ekiden.deliver.smtp import SmtpAgent
from ekiden.message.address import Address
from ekiden.message.content import Content, InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.envelope import BodyType, Envelope, Recipient
from ekiden.message.host import Host
from ekiden.observe.events import Event, Note
from ekiden.runtime.system_clock import SystemClock
from support.fake_peer import FakePeer

SENDER = Address("s", "s.example")
CONTENT = InlineContent(b"Subject: x\r\n\r\n.hidden dot\r\n")
DEADLINE_S = 20.0


class Notes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def emit(self, event: Event) -> None:
        assert isinstance(event, Note)
        self.texts.append(event.text)


def request(
    *names: str, content: Content = CONTENT, sender: Address = SENDER, body: BodyType = BodyType.SEVEN_BIT
) -> DeliveryRequest:
    recipients = tuple(Recipient(Address(name, "d.example")) for name in names)
    return DeliveryRequest("Q1", "smtp", "d.example", Envelope(sender, body=body), recipients, content, 0.0)


def agent_for(
    *peers: FakePeer | Host,
    settings: dict[str, str] | None = None,
    notes: Notes | None = None,
    lookups: list[str] | None = None,
) -> SmtpAgent:
    async def hosts_for(next_hop: str) -> Sequence[Host]:
        if lookups is not None:
            lookups.append(next_hop)
        return [peer.host if isinstance(peer, FakePeer) else peer for peer in peers]

    return SmtpAgent(
        Parameters({"myhostname": "me.example", **(settings or {})}),
        hosts_for=hosts_for,
        clock=SystemClock(),
        observer=notes or Notes(),
    )


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await work

    asyncio.run(bounded())


def brief(results: Sequence[DeliveryResult]) -> list[tuple[str, str]]:
    return [(result.action.value, str(result.status)) for result in results]
